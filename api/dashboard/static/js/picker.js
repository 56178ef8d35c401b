// Jobs to choose from for a comparison.
import { request } from "./api.js";
import { byId, fill, h } from "./dom.js";
import { count, date, number, protocolName } from "./format.js";
import { empty, failed, loading } from "./states.js";

const FEWEST = 2;
const MOST = 8;
const PAGE = 50;
const FIELDS = "id,name,status,family,best,created_at";
const TYPED_MS = 250;

/** Let choose jobs in a form that has `text`, `jobs`, `go` and `chosen`; those of `ids` are chosen already. */
export function showPicker(form, ids) {
  const chosen = new Set(ids);
  const place = byId("jobs");
  let typing;
  let turn = 0;

  async function list() {
    const mine = ++turn;
    loading(place, "Loading jobs…");
    const text = byId("text").value.trim();
    try {
      const page = await request("GET", `/v1/jobs?${new URLSearchParams({ fields: FIELDS, limit: PAGE, ...(text && { text }) })}`);
      if (mine !== turn) return;
      place.removeAttribute("aria-busy");
      if (!page.items.length) return empty(place, text ? "No job has such a name." : "No jobs yet.");
      fill(place, h("ul", { class: "plain low pick" }, page.items.map(item)),
        page.next_cursor ? h("p", { class: "muted small" }, `The newest ${count(PAGE)}; search for older ones.`) : null);
    } catch (error) {
      if (mine === turn) failed(place, error, list);
    }
    tell();
  }

  function item(job) {
    const box = h("input", { type: "checkbox", value: job.id, checked: chosen.has(job.id), onchange: () => {
      if (box.checked) chosen.add(job.id);
      else chosen.delete(job.id);
      tell();
    } });
    const best = job.best ? `FID ${number(job.best.fid)} (${protocolName(job.best.protocol)})` : "no metrics yet";
    return h("li", {}, h("label", { class: "row" }, box, h("span", { class: "wrap" }, job.name || job.id),
      h("span", { class: "badge", "data-state": job.status }, job.status),
      h("span", { class: "muted small" }, `${job.family}, ${best}, ${date(job.created_at)}`)));
  }

  function tell() {
    const isFit = chosen.size >= FEWEST && chosen.size <= MOST;
    byId("go").disabled = !isFit;
    fill(byId("chosen"), `${chosen.size} chosen; ${FEWEST} to ${MOST} can be compared.`);
  }

  byId("text").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(list, TYPED_MS);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!byId("go").disabled) location.assign(`/compare?${new URLSearchParams([...chosen].map((id) => ["job", id]))}`);
  });
  list();
}
