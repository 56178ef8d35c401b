// The list of datasets, and the way of pictures into a new one.
import { request } from "./api.js";
import { byId, fill, h } from "./dom.js";
import { ago, bytes, count, date } from "./format.js";
import { archivesOf, fingerprintOf, ofDrop, ofInput, sizeOf, titleOf } from "./picked.js";
import { empty, failed, loading } from "./states.js";
import { PartsUpload, uploadOf, wholeOf } from "./uploads.js";
import { unfinished } from "./unfinished.js";

const PAGE = 48;
const list = byId("list");
const more = byId("more");
const form = byId("upload");
const drop = byId("drop");
const uploads = byId("uploads");
const recalled = new Map(); // Uploads from before a reload, by the fingerprint of their files.
const versionOf = new URLSearchParams(location.search).get("version_of");
let picked = [];
let cursor = null;

// --- the list

async function begin() {
  loading(list, "Loading datasets…");
  try {
    const page = await request("GET", `/v1/datasets?limit=${PAGE}`);
    list.removeAttribute("aria-busy");
    if (!page.items.length) empty(list, "No dataset yet: upload pictures above.");
    else fill(list, h("ul", { class: "plain cards" }, page.items.map(card)));
    proceed(page);
  } catch (error) {
    failed(list, error, begin);
  }
}

function proceed(page) {
  cursor = page.next_cursor;
  more.hidden = !cursor;
}

more.addEventListener("click", async () => {
  more.disabled = true;
  try {
    const page = await request("GET", `/v1/datasets?${new URLSearchParams({ limit: PAGE, cursor })}`);
    list.querySelector("ul").append(...page.items.map(card));
    proceed(page);
  } catch (error) {
    more.after(h("p", { class: "error", role: "alert" }, error.message));
  }
  more.disabled = false;
});

function card(dataset) {
  const found = Object.values(dataset.lint ?? {}).reduce((sum, n) => sum + n, 0);
  return h("li", { class: "panel flush card" },
    h("img", { class: "cover", src: `/v1/datasets/${dataset.id}/preview?redirect=false`, alt: "", loading: "lazy" }),
    h("div", { class: "body" },
      h("h2", { class: "wrap" }, h("a", { href: `/datasets/${dataset.id}` }, dataset.name || "without a name")),
      h("p", { class: "row" }, h("span", {}, `${count(dataset.image_count)} pictures`),
        h("span", { class: "muted" }, bytes(dataset.size_bytes)),
        dataset.version > 1 ? h("span", { class: "badge" }, `version ${dataset.version}`) : null,
        dataset.classes ? h("span", { class: "badge" }, `${count(dataset.classes.length)} classes`) : null,
        found ? h("a", { class: "badge", "data-state": "paused", href: `/datasets/${dataset.id}#lint` },
          `${count(found)} to look at`) : null),
      h("p", { class: "muted small", title: date(dataset.created_at) }, ago(dataset.created_at))));
}

// --- what is uploaded

function pick(files) {
  byId("refusal").textContent = "";
  picked = files;
  byId("send").disabled = !files.length;
  if (!files.length) {
    byId("picked").textContent = "Nothing there that could be uploaded.";
    return;
  }
  const waiting = recalled.get(fingerprintOf(files));
  if (waiting && goOn(waiting, files)) return;
  byId("picked").textContent = `${count(files.length)} ${files.length === 1 ? "file" : "files"}, ${bytes(sizeOf(files))}`;
  form.elements.name.placeholder = titleOf(files) || "that of the file or folder";
}

/** The same files again after a reload: the upload goes on where it was. */
function goOn(waiting, files) {
  const blob = wholeOf(files);
  if (blob.size !== waiting.entry.size) return false;
  recalled.delete(waiting.entry.fingerprint);
  waiting.blob = blob;
  byId("picked").textContent = "These are on their way already: the upload goes on.";
  clear();
  waiting.run();
  return true;
}

function clear() {
  picked = [];
  byId("send").disabled = true;
  byId("files").value = byId("folder").value = "";
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (versionOf && picked.length > 1 && archivesOf(picked).length) {
    byId("refusal").textContent = "For a new version choose pictures, or one archive: not both.";
    return;
  }
  const title = versionOf ? "" : titleOf(picked);
  const wish = { name: form.elements.name.value.trim() || title, labels: form.elements.labels.value, versionOf };
  const upload = uploadOf(picked, wish, { onMade: begin });
  uploads.prepend(upload.element);
  clear();
  byId("picked").textContent = "";
  form.elements.name.value = "";
  upload.run();
});
for (const id of ["files", "folder"]) byId(id).addEventListener("change", ({ target }) => pick(ofInput(target)));

for (const type of ["dragenter", "dragover"]) {
  drop.addEventListener(type, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  try {
    pick(await ofDrop(event.dataTransfer));
  } catch (error) {
    byId("refusal").textContent = `What was dropped cannot be read: ${error.message}`;
  }
});

async function showVersion() {
  const place = byId("version-of");
  place.hidden = false;
  try {
    const before = await request("GET", `/v1/datasets/${encodeURIComponent(versionOf)}`);
    fill(place, `The pictures become version ${before.version + 1} of `,
      h("a", { href: `/datasets/${before.id}` }, before.name), `, beside the ${count(before.image_count)} that it has.`);
  } catch (error) {
    fill(place, error.message);
  }
}

for (const entry of unfinished()) {
  const waiting = new PartsUpload(entry, null, { onMade: begin });
  recalled.set(entry.fingerprint, waiting);
  uploads.append(waiting.element);
  waiting.recall();
}
if (versionOf) showVersion();
begin();
