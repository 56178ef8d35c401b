// What a job is: its head, its configuration, its files.
import { byId, fill, h, setText } from "./dom.js";
import { ago, bytes, compact, count, date, duration, number, percent, protocolName } from "./format.js";
import { empty } from "./states.js";

/** Name, state, alarms, error and figures. */
export function showHead(job) {
  const name = job.name || `Job ${job.id.slice(0, 8)}`;
  document.title = `${name} · SLAE-GAN`;
  setText(byId("name"), name);
  setText(byId("family"), job.family);
  const badge = byId("status");
  badge.dataset.state = job.status;
  const wish = job.cancel_requested ? ", to be cancelled" : job.pause_requested ? ", to be paused" : "";
  setText(badge, job.status + (["running", "evaluating"].includes(job.status) ? wish : ""));
  showAlarms(job.alarms);
  fill(byId("error"), job.error ? h("div", { class: "alarm" }, h("strong", {}, job.error.title), h("p", {}, job.error.message),
    job.error.details?.advice ? h("p", {}, job.error.details.advice) : null) : null);
  const bar = byId("bar");
  bar.style.setProperty("--share", job.progress);
  bar.setAttribute("aria-valuenow", Math.round(100 * job.progress));
  fill(byId("figures"), figures(job));
  setText(byId("best-reason"), [job.best_reason, job.stop_reason].filter(Boolean).join(" "));
}

let alarmsShown = "";

/** Only what is new is written, so that a screen reader says it once. */
function showAlarms(alarms) {
  const told = JSON.stringify(alarms);
  if (told === alarmsShown) return;
  alarmsShown = told;
  fill(byId("alarms"), alarms.map((alarm) => h("div", { class: "alarm" },
    h("strong", {}, `Alarm: ${alarm.kind.replaceAll("_", " ")}, at ${count(alarm.images_seen)} images`), alarm.message)));
}

function figures(job) {
  const figure = (name, value, more) => h("div", {}, h("dt", {}, name), h("dd", {}, value, more ? h("small", {}, more) : null));
  const fid = (name, point) => figure(name, number(point?.fid),
    point ? `${protocolName(point.protocol)}; at ${compact(point.images_seen)}` : null);
  return [
    figure("Progress", percent(job.progress), `${count(job.images_seen)} of ${count(job.total_images)} images`),
    figure("Speed", job.images_per_s ? `${number(job.images_per_s)}/s` : "–", "images"),
    figure("Left", duration(job.status === "running" ? job.eta_s : null)),
    fid("FID, latest", job.latest), fid("FID, best", job.best),
    figure("KID, latest", number(job.latest?.kid), job.latest ? `± ${number(job.latest.kid_sd, 2)}` : null),
    figure("Copies", percent(job.latest?.copy_rate)),
    figure("Run, attempt", `${job.run}, ${job.attempt}`, job.worker ? `on ${job.worker}` : null),
    figure("Begun", job.started_at ? ago(job.started_at) : "–", job.finished_at ? `over ${ago(job.finished_at)}` : date(job.started_at)),
  ];
}

let configOf = "";

/** The configuration and what is needed to reproduce the run, a fact a line. */
export function showConfig(job) {
  const told = JSON.stringify([job.config, job.facts, job.init_from]);
  if (told === configOf) return;
  configOf = told;
  fill(byId("config"), factLines(job.config));
  fill(byId("facts"), factLines({
    job: job.id, dataset: job.dataset_id, dataset_version: job.dataset_version, init_from: job.init_from, submitted: job.created_at, ...job.facts,
  }));
}

function factLines(facts, before = "") {
  return Object.entries(facts).flatMap(([name, value]) => {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) return factLines(value, `${before}${name}.`);
    return [h("dt", {}, before + name), h("dd", {}, h("code", {}, Array.isArray(value) ? JSON.stringify(value) : String(value ?? "–")))];
  });
}

const HEADINGS = [["Kind"], ["Images seen", true], ["Size", true], ["Written"], ["sha256"], ["", true]];

/** A job's files, the newest first. */
export function showCheckpoints(place, checkpoints, job) {
  if (!checkpoints.length) {
    empty(place, "No checkpoint yet.");
    return;
  }
  const rows = checkpoints.toReversed().map((made) => h("tr", {},
    h("td", {}, made.kind, " ", made.id === job.best?.checkpoint_id ? h("span", { class: "badge", "data-state": "live" }, "best") : null,
      made.pinned ? h("span", { class: "badge" }, "pinned") : null),
    h("td", { class: "number", "data-label": "images" }, count(made.images_seen)), h("td", { class: "number" }, bytes(made.size_bytes)),
    h("td", {}, date(made.created_at)), h("td", { class: "whole" }, h("code", { class: "hash" }, made.sha256)),
    h("td", { class: "number whole" }, h("a", { href: `/v1/checkpoints/${made.id}/file`, download: "", "aria-label": `Download the ${made.kind} at ${count(made.images_seen)} images` }, "Download"),
      made.kind === "generator" ? [" · ", h("a", { href: `/new?init_from=${made.id}&dataset=${job.dataset_id}`, "aria-label": `Fine-tune the generator at ${count(made.images_seen)} images` }, "Fine-tune")] : null)));
  fill(place, h("div", { class: "scroll short", tabindex: 0, role: "region", "aria-label": "Checkpoints" }, h("table", { class: "cards" },
    h("thead", {}, h("tr", {}, HEADINGS.map(([text, isNumber]) => h("th", { scope: "col", class: isNumber ? "number" : null }, text || h("span", { class: "unseen" }, "Use"))))),
    h("tbody", {}, rows))));
}
