// One version of a dataset: what it holds, what its lint found, what was trained on it.
import { request } from "./api.js";
import { ask } from "./dialog.js";
import { byId, fill, h } from "./dom.js";
import { bytes, count, date, percent } from "./format.js";
import { findings } from "./findings.js";
import { rejections } from "./rejections.js";
import { empty, failed, show } from "./states.js";

const id = location.pathname.split("/")[2];
const path = `/v1/datasets/${id}`;
const MOST_CLASSES = 12;
const JOB_FIELDS = "id,name,status,family,progress,created_at";
let cursor = null;
let shownPictures = 0;

const fact = (name, value) => [h("dt", {}, name), h("dd", {}, value)];

async function begin() {
  try {
    const dataset = await request("GET", path);
    document.title = `${dataset.name} · SLAE-GAN`;
    fill(byId("name"), dataset.name || "Dataset");
    showActions(dataset);
    showFacts(dataset, await versionsOf(dataset));
    showSheet();
    show(byId("findings"), async () => findings(await request("GET", `${path}/lint`)));
    show(byId("jobs"), jobs);
  } catch (error) {
    failed(byId("facts"), error, begin);
    fill(byId("actions"));
  }
}

async function versionsOf(dataset) {
  const page = await request("GET", `/v1/datasets?${new URLSearchParams({ series_id: dataset.series_id, limit: 200 })}`);
  const newest = page.items[0];
  if (newest && newest.version > dataset.version) {
    byId("newer").hidden = false;
    fill(byId("newer"), "There is a newer version: ", h("a", { href: `/datasets/${newest.id}` }, `version ${newest.version}`), ".");
  }
  return page.items;
}

function showActions(dataset) {
  fill(byId("actions"),
    h("a", { class: "button primary", href: `/new?dataset=${id}` }, "Train on this"),
    h("a", { class: "button", href: `/datasets?version_of=${id}` }, "Add pictures"),
    h("button", { type: "button", class: "danger", onclick: () => remove(dataset) }, "Delete"));
}

async function remove(dataset) {
  const done = await ask({
    title: "Delete this version?",
    content: [h("p", { class: "wrap" }, `${dataset.name}, version ${dataset.version}, with ${count(dataset.image_count)} pictures. `,
      "Jobs that were trained on it keep their curves, pictures and generators, but cannot be extended or tried again.")],
    action: "Delete", dangerous: true,
    act: () => request("DELETE", path),
  });
  if (done) location.assign("/datasets");
}

function showFacts(dataset, versions) {
  byId("facts").removeAttribute("aria-busy");
  fill(byId("facts"), h("dl", { class: "facts" },
    fact("Pictures", count(dataset.image_count)), fact("Size", bytes(dataset.size_bytes)),
    fact("Made", date(dataset.created_at)), fact("Version", versionLinks(dataset, versions)),
    dataset.parent_id ? fact("Against the one before", `${count(dataset.added_count)} added, ${count(dataset.removed_count)} removed`) : null,
    fact("Content hash", h("code", { class: "wrap" }, dataset.content_hash)), fact("Id", h("code", {}, dataset.id))),
  classes(dataset), rejections(dataset.rejected));
}

function versionLinks(dataset, versions) {
  if (versions.length < 2) return String(dataset.version);
  return h("span", { class: "row" }, versions.map(({ id: other, version }) =>
    other === id ? h("strong", {}, String(version)) : h("a", { href: `/datasets/${other}` }, String(version))));
}

function classes({ classes: found, image_count: whole }) {
  if (!found) return null;
  const rows = found.map(({ name, images }) => {
    const bar = h("span", { class: "progress" });
    bar.style.setProperty("--share", images / whole);
    return h("li", {}, h("span", { class: "wrap" }, name), bar, h("span", { class: "number" }, `${count(images)} (${percent(images / whole)})`));
  });
  const rest = rows.splice(MOST_CLASSES);
  return h("div", { class: "stack classes" }, h("h3", {}, `${count(found.length)} classes`), h("ul", { class: "plain bars" }, rows),
    rest.length ? h("details", {}, h("summary", {}, `${count(rest.length)} more`), h("ul", { class: "plain bars" }, rest)) : null);
}

function showSheet() {
  const picture = h("img", { class: "sheet", src: `${path}/preview?redirect=false`, alt: "The first 64 pictures side by side" });
  picture.addEventListener("error", () => failed(byId("sheet"), new Error("The contact sheet cannot be shown."), showSheet));
  fill(byId("sheet"), picture);
}

async function jobs() {
  const page = await request("GET", `/v1/jobs?${new URLSearchParams({ dataset_id: id, fields: JOB_FIELDS, limit: 20 })}`);
  if (!page.items.length) {
    empty(byId("jobs"), "None yet.", h("a", { class: "button primary", href: `/new?dataset=${id}` }, "Train on this"));
    return null;
  }
  return h("ul", { class: "plain stack tight" }, page.items.map((job) => h("li", { class: "row" },
    h("span", { class: "badge", "data-state": job.status }, job.status),
    h("a", { class: "wrap", href: `/jobs/${job.id}` }, job.name || `job ${job.id.slice(0, 8)}`),
    h("span", { class: "muted small" }, `${job.family}, ${percent(job.progress)}, ${date(job.created_at)}`))),
  page.next_cursor ? h("li", { class: "muted small" }, "and older ones") : null);
}

const more = byId("more");
more.addEventListener("click", async () => {
  more.disabled = true;
  try {
    const query = new URLSearchParams({ limit: 100, ...(cursor && { cursor }) });
    const page = await request("GET", `${path}/images?${query}`);
    byId("pictures").append(...page.items.map(picture));
    shownPictures += page.items.length;
    cursor = page.next_cursor;
    more.hidden = !cursor;
    fill(more, "Show more");
    fill(byId("shown"), `${count(shownPictures)} shown`);
  } catch (error) {
    fill(byId("shown"), error.message);
  }
  more.disabled = false;
});

function picture({ position, name, width, height, label }) {
  const told = [name, `${width} × ${height}`, label ? `class ${label}` : null].filter(Boolean).join(", ");
  return h("li", {}, h("a", { href: `${path}/images/${position}/file?redirect=false`, title: told },
    h("img", { src: `${path}/images/${position}/thumbnail`, alt: told, loading: "lazy", width: 128, height: 128 })));
}

begin();
