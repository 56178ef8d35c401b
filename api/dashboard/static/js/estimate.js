// How long a training would take, as the service has measured it.
import { h } from "./dom.js";
import { bytes, count, duration, number } from "./format.js";

const BASIS = { same: "jobs that cost the same", alike: "jobs with the same networks and batch" };

/** An estimate in words; what is not known is said, and never guessed. */
export function estimateView({ basis, devices }) {
  if (!basis) {
    return h("p", { class: "muted" }, "Not known yet: none of your jobs has trained these networks. Once this one runs, it tells its own.");
  }
  return [
    h("ul", { class: "plain stack tight" }, devices.map(deviceView)),
    h("p", { class: "muted small" }, `Measured in your earlier ${BASIS[basis]}; without evaluations and waiting.`),
  ];
}

function deviceView({ device, jobs, images_per_s: speed, training_s: seconds, fastest_s: fastest, slowest_s: slowest,
  memory_bytes: memory }) {
  const range = jobs > 1 && duration(fastest) !== duration(slowest) ? ` (${duration(fastest)} to ${duration(slowest)})` : "";
  return h("li", {}, h("strong", { class: "figure" }, duration(seconds)), range, h("span", { class: "muted small block" },
    `${device}: ${number(speed)} images/s, of ${count(jobs)} ${jobs === 1 ? "job" : "jobs"}`,
    h("span", { class: "block" }, memory === null ? "Their memory was not recorded." : `They took at most ${bytes(memory)} of memory.`)));
}
