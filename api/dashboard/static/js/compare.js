// Two to eight jobs side by side: curves under one protocol, pictures of the same moment, what their configurations differ in.
import { all, request } from "./api.js";
import { draw } from "./charts.js";
import { byId, fill, h } from "./dom.js";
import { brief, count, number, percent, protocolName } from "./format.js";
import { differencesTable } from "./differences.js";
import { showGrids } from "./grids.js";
import { showPicker } from "./picker.js";
import { failed, loading, show } from "./states.js";

const METRICS = {
  fid: "FID", kid: "KID", precision: "precision", recall: "recall", lpips: "LPIPS diversity", lpips_intra: "LPIPS within clusters",
  copy_rate: "rate of copies", nearest_lpips: "distance of nearest picture", inception_score: "inception score",
};
const LOWER = new Set(["fid", "kid", "copy_rate"]);
const ids = [...new Set(new URLSearchParams(location.search).getAll("job"))];
const titleOf = ({ id, name }) => (name ? `${name} (${brief(id)})` : brief(id));

async function begin() {
  showPicker(byId("picker"), ids);
  byId("choose").open = ids.length < 2;
  if (ids.length < 2) return;
  const place = byId("refused");
  loading(place, "Loading jobs…");
  try {
    const jobs = await Promise.all(ids.map((id) => request("GET", `/v1/jobs/${encodeURIComponent(id)}`)));
    fill(place);
    place.removeAttribute("aria-busy");
    document.title = `${jobs.map(({ name, id }) => name || brief(id)).join(" · ")} · SLAE-GAN`;
    compareCurves(jobs);
    compareConfigurations(jobs);
    await compareGrids(jobs);
  } catch (error) {
    failed(place, error, begin);
  }
}

async function compareCurves(jobs) {
  try {
    const query = new URLSearchParams(ids.map((id) => ["job", id]));
    const comparison = await request("GET", `/v1/comparison?${query}`);
    byId("curves").hidden = false;
    showCurves(comparison);
  } catch (error) {
    fill(byId("refused"), refusal(error, jobs));
  }
}

/** Numbers that must not stand on one axis, and why. */
function refusal(error, jobs) {
  const { differing } = error.details ?? {};
  if (!differing) return h("div", { class: "notice", role: "alert" }, error.message);
  const names = Object.fromEntries(jobs.map((job) => [job.id, job]));
  const rows = Object.entries(differing).map(([field, values]) => ({ field: `protocol: ${field}`, values: jobs.map(({ id }) => values[id]) }));
  return h("div", { class: "notice", role: "alert" },
    h("p", {}, h("strong", {}, "These jobs' numbers do not compare."), " They were measured in different ways or on other pictures; below they "
      + "stand without a common axis."),
    differencesTable(Object.keys(names).map((id) => titleOf(names[id])), rows, "How the protocols differ"));
}

function showCurves({ protocol, jobs }) {
  const present = Object.keys(METRICS).filter((name) => jobs.some(({ points }) => points.some((point) => point[name] !== null)));
  fill(byId("metric"), present.map((name) => h("option", { value: name }, METRICS[name])));
  fill(byId("protocol"), `All under one protocol: ${protocolName(protocol)}. A best snapshot is selected on the training set, so it looks `
    + "better than it is.");
  const redraw = () => {
    const metric = byId("metric").value;
    draw(byId("chart"), {
      lines: jobs.map((job, i) => ({
        name: titleOf(job), palette: i, x: job.points.map((point) => point.images_seen), y: job.points.map((point) => point[metric]),
        spread: metric === "kid" ? job.points.map((point) => point.kid_sd) : undefined,
      })),
      x: "images seen", y: METRICS[metric], logarithmic: byId("logarithmic").checked,
      label: `${METRICS[metric]} of ${jobs.length} jobs over the images seen; the table below has the numbers`,
    });
  };
  byId("metric").addEventListener("change", redraw);
  byId("logarithmic").addEventListener("change", redraw);
  redraw();
  fill(byId("numbers"), numbers(jobs));
}

function numbers(jobs) {
  const columns = ["fid", "kid", "precision", "recall", "copy_rate"];
  const lowest = Object.fromEntries(columns.map((name) => [name, ranked(jobs.map(({ best }) => best?.[name]), name)]));
  const cell = (point, name, isBest) => {
    const text = name === "copy_rate" ? percent(point?.[name]) : number(point?.[name], name === "kid" ? 2 : 3);
    return h("td", { class: "number" }, isBest ? h("strong", {}, text) : text);
  };
  const row = (job, i, point, what) => h("tr", {},
    h("th", { scope: "row" }, swatch(i), h("a", { href: `/jobs/${job.id}` }, titleOf(job))),
    h("td", {}, what), h("td", { class: "number" }, count(point?.images_seen)),
    columns.map((name) => cell(point, name, what === "best" && point?.[name] === lowest[name])));
  return h("table", {}, h("thead", {}, h("tr", {}, ["Job", "Snapshot", "Images seen", ...columns.map((name) => METRICS[name])]
    .map((text, i) => h("th", { scope: "col", class: i > 1 ? "number" : null }, text)))),
  h("tbody", {}, jobs.flatMap((job, i) => [row(job, i, job.best, "best"), row(job, i, job.latest, "latest")])));
}

function ranked(values, name) {
  const there = values.filter((value) => value !== null && value !== undefined);
  return LOWER.has(name) ? Math.min(...there) : Math.max(...there);
}

/** The colour of a job's line; a class has it, since a strict policy takes no style attribute. */
const swatch = (i) => h("span", { class: `swatch series-${i + 1}`, "aria-hidden": "true" });

function compareConfigurations(jobs) {
  const flat = jobs.map(({ config }) => flattened(config));
  const fields = [...new Set(flat.flatMap((config) => Object.keys(config)))];
  const rows = fields.map((field) => ({ field, values: flat.map((config) => config[field]) }))
    .filter(({ values }) => new Set(values.map((value) => JSON.stringify(value))).size > 1);
  byId("differences").hidden = false;
  fill(byId("differing"), rows.length ? differencesTable(jobs.map(titleOf), rows, "Options that differ")
    : h("p", { class: "muted" }, "They are the same in every option."));
}

function flattened(config, before = "") {
  return Object.fromEntries(Object.entries(config).flatMap(([name, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value)
      ? Object.entries(flattened(value, `${before}${name}.`)) : [[`${before}${name}`, value]]));
}

async function compareGrids(jobs) {
  byId("grids").hidden = false;
  await show(byId("pictures"), async () => {
    const samples = await Promise.all(jobs.map(({ id }) => all(`/v1/jobs/${id}/samples?kind=grid`)));
    return showGrids(byId("slider"), jobs.map((job, i) => ({ title: titleOf(job), mark: swatch(i), samples: samples[i] })));
  });
}

begin();
