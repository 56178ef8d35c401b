// The curves of a job.
import { draw } from "./charts.js";
import { byId } from "./dom.js";
import { protocolName } from "./format.js";
import { empty } from "./states.js";

const TIME = "images seen";

/** Curves of evaluated snapshots. Numbers of different protocols never share a line. */
export function showCurves(points, job) {
  const done = points.filter((point) => point.status === "done");
  const newest = done.at(-1);
  byId("protocol").textContent = newest ? protocolName(newest.protocol) : "";
  const marks = job.best ? [{ x: job.best.images_seen, name: "best" }] : [];
  const floors = (pairs) => pairs.flatMap(([name, y]) => (y === null || y === undefined ? [] : [{ name, y }]));
  chart("fid", linesOf(done, [["FID", "fid"], ["FID, held out", "fid_held_out"]]), {
    y: "FID", marks, floors: floors([["floor: halves of the real", newest?.floor_fid_halves], ["floor: mirrored real", newest?.floor_fid_mirror]]),
  });
  chart("kid", linesOf(done, [["KID", "kid", "kid_sd"], ["KID, held out", "kid_held_out", "kid_sd_held_out"]]), {
    y: "KID", marks, floors: floors([["floor: halves", newest?.floor_kid_halves], ["floor: mirrored", newest?.floor_kid_mirror]]),
  });
  chart("coverage", linesOf(done, [["precision", "precision"], ["recall", "recall"]]), { y: "share", marks, floors: [] });
  chart("copies", linesOf(done, [["copy rate", "copy_rate"]]), {
    y: "share of generated pictures", marks, floors: floors([["alarm", job.config.alarms?.copy_rate]]),
  });
}

/** Lines of the metrics that there are, one of each protocol. */
function linesOf(points, metrics) {
  const protocols = [...new Set(points.map((point) => point.protocol_hash))];
  return protocols.flatMap((hash, p) => metrics.flatMap(([name, key, spread], m) => {
    const there = points.filter((point) => point.protocol_hash === hash && point[key] !== null);
    if (!there.length) return [];
    const of = protocols.length > 1 ? `${name} (${protocolName(there[0].protocol)})` : name;
    return [{
      name: of, palette: (p * metrics.length + m) % 8, x: there.map((point) => point.images_seen), y: there.map((point) => point[key]),
      spread: spread ? there.map((point) => point[spread] ?? 0) : undefined,
    }];
  }));
}

/** Losses: the means of stretches. */
export function showLosses(stretches) {
  const names = [...new Set(stretches.flatMap(({ losses }) => Object.keys(losses)))];
  const lines = names.map((name, i) => ({
    name, palette: i % 8, points: false, x: stretches.map(({ images_seen: seen }) => seen), y: stretches.map(({ losses }) => losses[name] ?? null),
  }));
  chart("losses", lines, { y: "loss", floors: [], marks: [] }, "No loss was told yet.");
}

function chart(id, lines, options, none = "No snapshot is evaluated yet.") {
  const place = byId(id);
  if (!lines.length) {
    if (!place.classList.contains("js-plotly-plot")) empty(place, none);
    return;
  }
  if (!place.classList.contains("js-plotly-plot")) place.replaceChildren();
  const newest = lines.map(({ name, y }) => `${name} ${y.at(-1)?.toPrecision(3)}`).join(", ");
  draw(place, { lines, x: TIME, label: `${options.y} over ${TIME}; newest: ${newest}`, ...options });
}
