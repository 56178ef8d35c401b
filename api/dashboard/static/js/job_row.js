// A row of the list of jobs: made once, then patched where something is new.
import { h, setText } from "./dom.js";
import { ago, count, date, duration, MISSING, number, percent, protocolName } from "./format.js";

/** What a row needs of a job. */
export const FIELDS = [
  "id", "name", "family", "status", "progress", "images_seen", "total_images", "images_per_s", "eta_s", "latest", "best",
  "alarms", "error", "cancel_requested", "pause_requested", "created_at",
].join(",");

/** Headings of the columns, and whether they hold numbers. */
export const HEADINGS = [
  ["State"], ["Job"], ["Family"], ["Progress"], ["Images/s", true], ["Left", true], ["FID", true], ["Best FID", true], ["FID curve"],
  ["Submitted", true],
];

/** A row's elements by what they show. */
export function makeRow(job) {
  const parts = {
    badge: h("span", { class: "badge" }), alarm: h("span", { class: "badge", "data-state": "alarm" }),
    name: h("a", { href: `/jobs/${job.id}` }), family: h("td", { "data-label": "" }),
    bar: h("span", { class: "progress" }), share: h("span", { class: "small muted" }),
    rate: h("td", { class: "number", "data-label": "images/s" }), left: h("td", { class: "number", "data-label": "left" }),
    latest: h("td", { class: "number", "data-label": "FID" }), best: h("td", { class: "number", "data-label": "best FID" }),
    curve: h("td", { class: "curve" }), since: h("td", { class: "number", "data-label": "" }),
  };
  const element = h("tr", { dataset: { id: job.id } },
    h("td", {}, h("span", { class: "row tight" }, parts.badge, parts.alarm)), h("td", { class: "name" }, parts.name), parts.family,
    h("td", { class: "whole" }, parts.bar, parts.share), parts.rate, parts.left, parts.latest, parts.best, parts.curve, parts.since);
  const row = { element, parts, job: null };
  patchRow(row, job);
  return row;
}

/** Show a newer state of the row's job. */
export function patchRow(row, job) {
  const { parts } = row;
  parts.badge.dataset.state = job.status;
  setText(parts.badge, wish(job) ?? job.status);
  parts.badge.title = job.error?.message ?? "";
  parts.alarm.hidden = job.alarms.length === 0;
  setText(parts.alarm, job.alarms.length ? "alarm" : "");
  parts.alarm.title = job.alarms.map((alarm) => alarm.message).join("\n");
  setText(parts.name, job.name || `job ${job.id.slice(0, 8)}`);
  setText(parts.family, job.family);
  parts.bar.style.setProperty("--share", job.progress);
  setText(parts.share, `${percent(job.progress)} of ${count(job.total_images)}`);
  const trains = job.status === "running";
  showValue(parts.rate, trains ? number(job.images_per_s) : MISSING);
  showValue(parts.left, trains ? duration(job.eta_s) : MISSING);
  showFid(parts.latest, job.latest);
  showFid(parts.best, job.best);
  setText(parts.since, ago(job.created_at));
  parts.since.title = date(job.created_at);
  row.job = job;
}

/** A card of a narrow screen leaves out what is missing. */
function showValue(cell, text) {
  setText(cell, text);
  cell.classList.toggle("none", text === MISSING);
}

/** A FID says nothing without what it was computed under. */
function showFid(cell, point) {
  showValue(cell, number(point?.fid));
  cell.title = point ? `${protocolName(point.protocol)} at ${count(point.images_seen)} images` : "";
  if (point) cell.dataset.protocol = point.protocol.extractor ?? "";
  else delete cell.dataset.protocol;
}

function wish(job) {
  if (job.cancel_requested && job.status === "running") return "cancelling";
  if (job.pause_requested && job.status === "running") return "pausing";
  return null;
}
