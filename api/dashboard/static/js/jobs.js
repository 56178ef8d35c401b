// The list of jobs: filtered by the API, kept fresh by asking for what can have changed.
import { request } from "./api.js";
import { byId, fill, h, say } from "./dom.js";
import { FIELDS, HEADINGS, makeRow, patchRow } from "./job_row.js";
import { poll } from "./poll.js";
import { sparkline } from "./sparkline.js";
import { empty, failed, loading } from "./states.js";

const EVERY_MS = 2_000;
const STALE_MS = 10_000;
const FIRST_PAGE = 50;
const NEXT_PAGES = 200;
const OVER = new Set(["succeeded", "failed", "cancelled"]);
const AT_WORK = new Set(["running", "evaluating"]);

const list = byId("list");
const form = byId("filter");
const more = byId("more");
const rows = new Map();
const body = h("tbody");
let filter = {}; // What the form says, without what is empty.
let cursor = null;
let turn = 0; // Counts filters: an answer to an earlier one is dropped.

const address = (params) => `/v1/jobs?${new URLSearchParams({ ...filter, fields: FIELDS, ...params })}`;

const matches = (job) => (!filter.status || job.status === filter.status)
  && job.name.toLocaleLowerCase().includes((filter.text ?? "").toLocaleLowerCase());

/** Put a job where it belongs: newest first. */
function place(job) {
  let row = rows.get(job.id);
  if (row && !matches(job)) return remove(row);
  if (row) {
    const before = row.job.status;
    patchRow(row, job);
    if (before !== job.status) say(`${job.name || "A job"} is ${job.status}`);
  } else if (matches(job)) {
    row = makeRow(job);
    rows.set(job.id, row);
    body.insertBefore(row.element, placeOf(job));
    seen.observe(row.element);
  }
  if (row) row.toldAt = performance.now();
}

/** The row above which a job stands; mostly it is older than all that are shown, or newer. */
function placeOf(job) {
  const isOlder = (element) => rows.get(element.dataset.id).job.created_at < job.created_at;
  if (!body.lastElementChild || !isOlder(body.lastElementChild)) return null;
  let next = body.firstElementChild;
  while (!isOlder(next)) next = next.nextElementSibling;
  return next;
}

function remove(row) {
  seen.unobserve(row.element);
  row.element.remove();
  rows.delete(row.job.id);
}

/** The first page of a filter, in place of what is shown. */
async function begin() {
  const mine = ++turn;
  rows.clear();
  seen.disconnect();
  remember();
  loading(list, "Loading jobs…");
  try {
    const page = await request("GET", address({ limit: FIRST_PAGE }));
    if (mine !== turn) return;
    fill(body);
    list.removeAttribute("aria-busy");
    fill(list, h("div", { class: "scroll" }, h("table", { class: "cards jobs" }, h("caption", { class: "unseen" }, "Jobs, the newest first"),
      h("thead", {}, h("tr", {}, HEADINGS.map(([text, isNumber]) => h("th", { scope: "col", class: isNumber ? "number" : null }, text)))), body)));
    extend(page);
  } catch (error) {
    if (mine === turn) failed(list, error, begin);
  }
}

function extend(page) {
  for (const job of page.items) place(job);
  cursor = page.next_cursor;
  more.hidden = !cursor;
  summarise();
}

function summarise() {
  byId("shown").textContent = rows.size ? `${rows.size} shown` : "";
  const loud = [...rows.values()].filter((row) => row.job.alarms.length);
  fill(byId("alarms"), loud.slice(0, 3).map(({ job }) => h("div", { class: "alarm" },
    h("strong", {}, h("a", { href: `/jobs/${job.id}` }, job.name || job.id)), job.alarms[0].message)));
  if (rows.size || list.hasAttribute("aria-busy")) return;
  if (filter.status || filter.text) empty(list, "No job passes this filter.");
  else empty(list, "There is no job yet. Submit one: slaegan train, or POST /v1/jobs.");
}

/** What can have changed: the newest jobs, those at work, those that were, and those in view that nobody told of. */
async function look() {
  const mine = turn;
  if (list.hasAttribute("aria-busy") || list.querySelector("[role=alert]")) return;
  const hadNone = rows.size === 0;
  const [newest, working] = await Promise.all([
    request("GET", address({ limit: FIRST_PAGE })),
    request("GET", `/v1/jobs?status=running&status=evaluating&limit=200&fields=${FIELDS}`),
  ]);
  if (mine !== turn) return;
  if (hadNone) return newest.items.length ? begin() : undefined;
  const told = new Set([...newest.items, ...working.items].map((job) => job.id));
  for (const job of newest.items) place(job);
  for (const job of working.items) if (rows.has(job.id)) place(job);
  const now = performance.now();
  const missed = [...rows.values()].filter(({ job, toldAt, isSeen }) => !told.has(job.id) && !OVER.has(job.status)
    && (AT_WORK.has(job.status) || (isSeen && now - toldAt > STALE_MS)));
  for (const job of await Promise.all(missed.slice(0, FIRST_PAGE).map(({ job }) => request("GET", `/v1/jobs/${job.id}?fields=${FIELDS}`)))) {
    if (mine === turn) place(job);
  }
  for (const row of rows.values()) if (row.isSeen) drawCurve(row);
  summarise();
}

/** A row's curve, asked for when the row comes into view, and again when there is a newer point. */
async function drawCurve(row) {
  const newest = row.job.latest?.evaluation_id ?? null;
  if (row.curveOf === newest) return;
  row.curveOf = newest;
  const { items } = await request("GET", `/v1/jobs/${row.job.id}/metrics`);
  const same = items.filter((point) => point.fid !== null && point.protocol_hash === row.job.latest.protocol_hash);
  sparkline(row.parts.curve, same.map((point) => point.fid));
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const row = rows.get(entry.target.dataset.id);
    if (!row) continue;
    row.isSeen = entry.isIntersecting;
    // What fails here is tried again at the next look, which says so.
    if (row.isSeen) drawCurve(row).catch(() => { row.curveOf = undefined; });
  }
});

/** Keep the filter in the address, so that going back and sharing it work. */
function remember() {
  filter = Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
  const query = new URLSearchParams(filter).toString();
  history.replaceState(null, "", query ? `/?${query}` : "/");
}

function recall() {
  const query = new URLSearchParams(location.search);
  form.elements.text.value = query.get("text") ?? "";
  const chosen = form.querySelector(`input[name=status][value="${CSS.escape(query.get("status") ?? "")}"]`);
  if (chosen) chosen.checked = true;
}

let typing;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", begin);
form.elements.text.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(begin, 250);
});
more.addEventListener("click", async () => {
  more.disabled = true;
  try {
    extend(await request("GET", address({ limit: NEXT_PAGES, cursor })));
  } catch (error) {
    say(error.message);
    byId("shown").textContent = error.message;
  }
  more.disabled = false;
});

recall();
begin().then(() => poll(look, EVERY_MS));
