// A form made of the families' own schemas; what it would send, and how long that would take, are shown all the time.
import { all, Problem, request, send } from "./api.js";
import { asCurl, asPython } from "./as_code.js";
import { byId, fill, h, say } from "./dom.js";
import { estimateView } from "./estimate.js";
import { count } from "./format.js";
import { words } from "./fields.js";
import { ConfigForm } from "./config_form.js";
import { beginning } from "./beginning.js";
import { failed, loading } from "./states.js";
import { QueueForm } from "./queue_form.js";
import { PRESETS } from "./presets.js";

const SETTLED_MS = 250;
const query = new URLSearchParams(location.search);
const page = byId("job");
const errors = { dataset_id: byId("dataset-error"), name: byId("name-error") };
let models, datasets, config, queue, asking, timer, lastTry;

async function begin() {
  loading(byId("loading"), "Loading families…");
  try {
    [models, datasets] = await Promise.all([all("/v1/models"), chosenFrom(request("GET", "/v1/datasets?limit=200"))]);
    const from = await beginning(query.get("init_from"), models);
    fill(byId("loading"));
    byId("loading").removeAttribute("aria-busy");
    page.hidden = false;
    showDatasets(query.get("dataset") ?? from.datasetId);
    showFamilies(from.family);
    showPresets();
    queue = new QueueForm(byId("queue"), { initFrom: from.checkpointId, note: from.note, onChange: changed });
    showFamily(from.values);
  } catch (error) {
    failed(byId("loading"), error, begin);
  }
}

/** The newest versions, and the one that the address names, which may be older. */
async function chosenFrom(listed) {
  const { items } = await listed;
  const wanted = query.get("dataset");
  if (!wanted || items.some(({ id }) => id === wanted)) return items;
  return [await request("GET", `/v1/datasets/${encodeURIComponent(wanted)}`), ...items];
}

function showDatasets(wanted) {
  const options = datasets.map(({ id, name, version, image_count: images }) =>
    h("option", { value: id }, `${name}${version > 1 ? `, version ${version}` : ""} (${count(images)} pictures)`));
  fill(byId("dataset"), options);
  if (wanted && datasets.some(({ id }) => id === wanted)) byId("dataset").value = wanted;
  if (!datasets.length) fill(byId("dataset-help"), "There is none yet: ", h("a", { href: "/datasets" }, "upload pictures"), " first.");
}

function showFamilies(wanted) {
  fill(byId("family"), models.map(({ family, title }) => h("option", { value: family }, title)));
  byId("family").value = wanted ?? models[0].family;
}

function showPresets() {
  fill(byId("presets"), Object.entries(PRESETS).map(([name, { title, text }]) =>
    h("label", { class: "preset" }, h("input", { type: "radio", name: "preset", value: name, checked: name === "balanced" }),
      h("strong", {}, title), h("span", { class: "muted small" }, text))));
}

const model = () => models.find(({ family }) => family === byId("family").value);

/** The form of the chosen family, with these values in place of defaults. */
function showFamily(values = {}) {
  const { description, source, labels } = model();
  const paper = `${source.authors} ${source.year}`;
  fill(byId("family-help"), `${description} `, h("span", { title: source.title }, `${paper}. `),
    labels === "ignored" ? "Classes of a dataset are ignored." : "Can learn by class, where the dataset has classes.");
  config = new ConfigForm(byId("groups"), model(), { onChange: changed, values });
  changed();
}

function body() {
  const name = byId("name").value.trim();
  return { dataset_id: byId("dataset").value, ...(name && { name }), config: config.value(), ...queue.value() };
}

function showCode() {
  const shown = page.elements.language.value === "python" ? asPython : asCurl;
  fill(byId("code"), shown(body()));
}

function changed() {
  showCode();
  fill(byId("refusal"));
  clearTimeout(timer);
  timer = setTimeout(estimate, SETTLED_MS);
}

async function estimate() {
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  const asked = config;
  try {
    const told = await request("POST", "/v1/jobs/estimate", { body: { config: asked.value() }, signal });
    if (asked !== config) return;
    asked.settle(told.config);
    fill(byId("estimate"), estimateView(told));
  } catch (error) {
    if (signal.aborted || asked !== config) return;
    fill(byId("estimate"), h("p", { class: "muted" }, "No estimate: a value is wrong."));
    if (error.status === 422) asked.refuse(error.errors);
    else fill(byId("estimate"), h("p", { class: "error" }, error.message));
  }
}

/** Put each error at its field, and all of them where the button is. */
function refuse(error) {
  const own = error.errors ?? [];
  config.refuse(own);
  queue.refuse(own);
  for (const { where, what } of own) {
    const place = errors[where.replace(/^body\./, "")];
    if (place) fill(place, what);
  }
  const lines = own.map(({ where, what }) => h("li", {}, `${words(where.replace(/^body\.(config\.)?/, ""))}: ${what}`));
  fill(byId("refusal"), h("div", { class: "alarm" }, h("strong", {}, lines.length ? error.title : "Not submitted"),
    lines.length ? h("ul", {}, lines) : error.message));
  (page.querySelector("[aria-invalid]") ?? byId("submit")).focus();
}

async function submit() {
  for (const place of Object.values(errors)) fill(place);
  const wish = body();
  const text = JSON.stringify(wish);
  // The same wish again, after an answer that was lost, makes no second job.
  if (lastTry?.text !== text) lastTry = { text, key: crypto.getRandomValues(new Uint32Array(4)).join("-") };
  byId("submit").disabled = true;
  try {
    if (!wish.dataset_id) throw new Problem({ title: "A dataset is missing", errors: [{ where: "body.dataset_id", what: "Choose one" }] });
    const answer = await send("POST", "/v1/jobs", { body: wish, headers: { "Idempotency-Key": lastTry.key } });
    const job = await answer.json();
    say("Submitted");
    location.assign(`/jobs/${job.id}`);
  } catch (error) {
    refuse(error);
    byId("submit").disabled = false;
  }
}

page.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
byId("family").addEventListener("change", () => {
  page.elements.preset.value = "balanced";
  showFamily();
});
byId("presets").addEventListener("change", ({ target }) => config.preset(PRESETS[target.value].values));
for (const id of ["dataset", "name"]) byId(id).addEventListener("input", changed);
for (const radio of page.elements.language) radio.addEventListener("change", showCode);
byId("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(byId("code").textContent);
    say("Copied");
  } catch (error) {
    getSelection().selectAllChildren(byId("code")); // Plain HTTP has no clipboard: it is marked, to be copied by hand.
  }
});
begin();
