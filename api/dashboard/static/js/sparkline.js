// A curve as small as a word.
import { fill, s } from "./dom.js";

const WIDTH = 96;
const HEIGHT = 24;

/** Draw numbers into an element: the last one has a dot. Fewer than two make no curve. */
export function sparkline(place, values) {
  if (values.length < 2) return fill(place);
  const low = Math.min(...values);
  const range = Math.max(...values) - low || 1;
  const points = values.map((value, i) => [
    2 + (i / (values.length - 1)) * (WIDTH - 6), 3 + (1 - (value - low) / range) * (HEIGHT - 6),
  ]);
  const [x, y] = points.at(-1);
  return fill(place, s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, "aria-hidden": "true" },
    s("polyline", { points: points.map((point) => point.map((v) => v.toFixed(1)).join(",")).join(" "),
      fill: "none", stroke: "var(--accent)", "stroke-width": 1.5, "stroke-linejoin": "round" }),
    s("circle", { cx: x, cy: y, r: 2, fill: "var(--accent)" })));
}
