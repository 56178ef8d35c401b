// Sample grids of several jobs under one slider: each shows the newest grid that it had at that moment.
import { fill, h } from "./dom.js";
import { count } from "./format.js";

/**
 * @param {HTMLElement} place of the slider.
 * @param {{title: string, mark: Node, samples: {id: string, images_seen: number}[]}[]} jobs
 * @returns {Node[]} a figure for each job.
 */
export function showGrids(place, jobs) {
  const moments = [...new Set(jobs.flatMap(({ samples }) => samples.map((sample) => sample.images_seen)))].sort((a, b) => a - b);
  if (!moments.length) {
    fill(place);
    return [h("p", { class: "muted" }, "There are none yet.")];
  }
  const figures = jobs.map(figure);
  const told = h("output", { for: "moment" });
  const slider = h("input", { type: "range", id: "moment", min: 0, max: moments.length - 1, step: 1, value: moments.length - 1 });
  const move = () => {
    const moment = moments[slider.value];
    const text = `after ${count(moment)} pictures`;
    slider.setAttribute("aria-valuetext", text);
    fill(told, text);
    for (const one of figures) one.show(moment);
  };
  slider.addEventListener("input", move);
  fill(place, h("div", { class: "moment" }, h("label", { for: "moment" }, "Time of training"), slider, told));
  move();
  return figures.map(({ element }) => element);
}

function figure({ title, mark, samples }) {
  const picture = h("img", { alt: "" });
  const caption = h("span", { class: "muted small" });
  const element = h("figure", {}, h("figcaption", {}, mark, h("strong", { class: "wrap" }, title), " ", caption), picture);
  const address = ({ id }) => `/v1/samples/${id}/file?redirect=false`;
  function show(moment) {
    const place = samples.findLastIndex((sample) => sample.images_seen <= moment);
    const sample = samples[place];
    picture.hidden = !sample;
    fill(caption, sample ? `${count(sample.images_seen)} pictures` : "nothing so early");
    if (!sample) return;
    if (picture.getAttribute("src") !== address(sample)) picture.src = address(sample);
    picture.alt = `Grid of ${title} after ${count(sample.images_seen)} pictures`;
    // The next ones are fetched before anybody asks for them.
    for (const near of [samples[place - 1], samples[place + 1]]) if (near) new Image().src = address(near);
  }
  return { element, show };
}
