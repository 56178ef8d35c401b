// A generator to play with: pictures by seed, a way between seeds, mixed styles.
import { all, request } from "./api.js";
import { byId, fill, h, say } from "./dom.js";
import { count, number } from "./format.js";
import { addressOf, callOff, generated } from "./generation.js";
import { Gallery } from "./gallery.js";
import { empty, failed, loading } from "./states.js";

const jobId = location.pathname.split("/")[2];
const form = byId("wish");
const STATES = { queued: "Waiting for a worker that generates…", running: "At work…" };
let gallery, aborting, current;

async function begin() {
  const place = byId("loading");
  loading(place, "Loading generators…");
  try {
    const job = await request("GET", `/v1/jobs/${encodeURIComponent(jobId)}`);
    const generators = await all(`/v1/jobs/${job.id}/checkpoints?kind=generator`);
    place.removeAttribute("aria-busy");
    const back = h("a", { href: `/jobs/${job.id}` }, job.name || `job ${job.id.slice(0, 8)}`);
    fill(byId("title"), "Playground: ", back);
    if (!generators.length) return empty(place, "This job has no generator yet: the first snapshot brings one.");
    fill(place);
    form.hidden = false;
    gallery = new Gallery(byId("result"), job);
    showGenerators(job, generators);
    await showClasses(job);
  } catch (error) {
    failed(place, error, begin);
  }
  showKind();
}

function showGenerators({ best, latest }, generators) {
  const bestId = best?.checkpoint_id;
  const told = (id) => [id === bestId ? "best" : null, id === latest?.checkpoint_id ? "latest" : null].filter(Boolean).join(", ");
  fill(byId("generator"), generators.toReversed().map(({ id, images_seen: seen }) =>
    h("option", { value: id, selected: id === bestId }, `after ${count(seen)} pictures${told(id) ? ` (${told(id)})` : ""}`)));
}

async function showClasses(job) {
  if (!job.config.conditional) return;
  const { classes } = await request("GET", `/v1/datasets/${job.dataset_id}`);
  byId("classes").hidden = !classes;
  fill(byId("class"), h("option", { value: "" }, "as the seed draws it"), (classes ?? []).map(({ name }) => h("option", { value: name }, name)));
}

/** Seeds from text such as "1, 2 3". */
function seedsOf(id) {
  const texts = byId(id).value.split(/[\s,;]+/).filter(Boolean);
  if (!texts.length || !texts.every((text) => /^\d{1,15}$/.test(text))) {
    throw new Error(`${byId(id).labels[0].textContent}: write whole numbers with commas between, not “${byId(id).value}”.`);
  }
  return texts.map(Number);
}

function wishOf(kind) {
  const common = { kind, checkpoint_id: byId("generator").value, truncation: Number(byId("truncation").value) };
  const name = byId("class").value;
  const oneClass = name ? { class_name: name } : {};
  switch (kind) {
    case "pictures":
      return { ...common, seed: byId("seed").valueAsNumber, count: byId("count").valueAsNumber, ...(name && { classes: [name] }) };
    case "interpolation":
      return { ...common, seeds: seedsOf("seeds"), frames: byId("frames").valueAsNumber, form: byId("form").value, ...oneClass };
    default: {
      const side = byId("from_side").value;
      return { ...common, rows: seedsOf("rows"), columns: seedsOf("columns"), ...(side && { from_side: Number(side) }), ...oneClass };
    }
  }
}

async function make() {
  fill(byId("refusal"));
  aborting?.abort();
  aborting = new AbortController();
  const { signal } = aborting;
  current = null;
  byId("stop").hidden = false;
  fill(byId("state"), "Asking…");
  try {
    const kind = form.elements.kind.value;
    const made = await generated(jobId, wishOf(kind), { signal, onState: (generation) => {
      current = generation;
      fill(byId("state"), STATES[generation.status]);
    } });
    show(made);
  } catch (error) {
    if (signal.aborted) return;
    fill(byId("refusal"), error.message);
  }
  current = null;
  byId("stop").hidden = true;
  fill(byId("state"));
}

function show(made) {
  byId("result").hidden = false;
  say("It is done");
  if (made.kind === "pictures") return gallery.show(made);
  const [main] = made.files;
  const isShown = main.media_type.startsWith("image/");
  const alt = made.kind === "interpolation" ? `A way between the seeds ${made.request.seeds.join(", ")}` : "Layout by rows, style by columns";
  return fill(byId("result"),
    h("div", { class: "spread" }, h("p", { class: "muted small" }, toldOf(made)),
      h("a", { class: "button", href: addressOf(main), download: main.name }, `Download ${main.name}`)),
    isShown ? h("img", { class: "film", src: addressOf(main), alt }) : h("p", {}, "Films in MP4 are for download; WebP and GIF play here."));
}

function toldOf({ kind, facts }) {
  if (kind === "style_mix") return `Each row keeps its layout, each column its style, from ${facts.from_side ?? "the smallest"} pixels on.`;
  return facts.frames ? `${count(facts.frames)} frames, ${number(facts.seconds)} s` : "";
}

function showKind() {
  const kind = form.elements.kind.value;
  for (const part of form.querySelectorAll("[data-of]")) part.hidden = part.dataset.of !== kind;
}

function showTruncation() {
  fill(byId("truncation-told"), number(Number(byId("truncation").value), 2));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  make();
});
byId("truncation").addEventListener("input", showTruncation);
for (const radio of form.elements.kind) radio.addEventListener("change", showKind);
byId("stop").addEventListener("click", async () => {
  aborting.abort();
  byId("stop").hidden = true;
  fill(byId("state"), "Called off.");
  try {
    if (current) await callOff(current);
  } catch (error) {
    fill(byId("refusal"), error.message);
  }
});
showTruncation();
begin();
