// Lines over training time, drawn by plotly (a script of the page: {{ asset('plotly.min.js') }}) in the page's colours.

const drawn = new Map();
const FLOOR_DASHES = ["dot", "dashdot", "longdash"];

const probe = document.body.appendChild(document.createElement("span"));
probe.hidden = true;

/** A colour of the style sheet in the present theme, as rgb(): plotly knows no light-dark(). */
function colour(name) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

/**
 * Draw lines, or draw them anew.
 *
 * @param {HTMLElement} place
 * @param {object} chart
 * @param {{name: string, x: number[], y: (number|null)[], palette?: number, dash?: string, spread?: number[],
 *   points?: boolean, text?: string[]}[]} chart.lines `palette` is a place among the eight colours, from 0.
 * @param {{name: string, y: number}[]} [chart.floors] values that lines are measured against.
 * @param {{x: number, name: string}[]} [chart.marks] moments to point out.
 * @param {string} chart.x title of the axis of time; @param {string} chart.y title of the other one.
 * @param {boolean} [chart.logarithmic]
 * @param {string} chart.label what a screen reader says of it.
 */
export function draw(place, chart) {
  drawn.set(place, chart);
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", chart.label);
  const options = { displaylogo: false, responsive: true, displayModeBar: false, doubleClick: "reset" };
  return Plotly.react(place, traces(chart), layout(chart), options);
}

/** Forget a chart whose place goes. */
export function erase(place) {
  drawn.delete(place);
  Plotly.purge(place);
}

function traces({ lines, floors = [] }) {
  const ages = lines.flatMap((line) => line.x);
  const span = [0, Math.max(...ages)];
  return [...lines.map(lineTrace), ...floors.map(({ name, y }, i) => ({
    type: "scatter", mode: "lines", name: escaped(name), x: span, y: [y, y], hoverinfo: "skip",
    line: { color: colour("--text-soft"), width: 1.5, dash: FLOOR_DASHES[i % FLOOR_DASHES.length] },
  }))];
}

function lineTrace({ name, x, y, palette = 0, dash = "solid", spread, points = x.length < 60, text }) {
  return {
    type: "scatter", mode: points ? "lines+markers" : "lines", name: escaped(name), x, y, connectgaps: true,
    line: { color: colour(`--series-${palette + 1}`), width: 2, dash }, marker: { size: 6 },
    error_y: spread ? { type: "data", array: spread, thickness: 1, width: 3 } : undefined,
    text: text?.map(escaped), hovertemplate: `%{y:.4~g}${text ? " %{text}" : ""}`,
  };
}

function layout({ floors = [], marks = [], x, y, logarithmic = false, lines }) {
  const text = colour("--text-soft");
  const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), linecolor: colour("--line"), automargin: true };
  return {
    paper_bgcolor: "transparent", plot_bgcolor: "transparent",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: text },
    margin: { t: 16, r: 16, b: 40, l: 48 }, hovermode: "x unified", uirevision: "kept",
    hoverlabel: { bgcolor: colour("--panel"), bordercolor: colour("--line"), font: { color: colour("--text") } },
    showlegend: lines.length + floors.length > 1, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    xaxis: { ...axis, title: { text: escaped(x) }, rangemode: "tozero", tickformat: "~s" },
    yaxis: { ...axis, title: { text: escaped(y) }, type: logarithmic ? "log" : "linear", rangemode: logarithmic ? "normal" : "tozero" },
    shapes: marks.map(markLine), annotations: marks.map(markName),
  };
}

const markLine = ({ x }) => ({
  type: "line", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line: { color: colour("--accent"), width: 1, dash: "dash" },
});
const markName = ({ name, x }) => ({
  x, yref: "paper", y: 1, yanchor: "top", xanchor: "left", text: escaped(name), showarrow: false,
  font: { size: 11, color: colour("--accent") },
});

/** Plotly reads a few tags in its texts; names from strangers are to have none. */
function escaped(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

document.addEventListener("themechange", () => {
  for (const [place, chart] of drawn) draw(place, chart);
});
