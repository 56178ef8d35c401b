// What a place shows while there is nothing to show: it loads, it is empty, or it failed.
import { fill, h } from "./dom.js";

/** Where content will be. */
export function loading(place, text = "Loading…") {
  place.setAttribute("aria-busy", "true");
  return fill(place, h("p", { class: "state" }, h("span", { class: "spinner", "aria-hidden": "true" }), text));
}

/** Nothing there, and what to do about it. */
export function empty(place, text, ...actions) {
  place.removeAttribute("aria-busy");
  return fill(place, h("div", { class: "state" }, h("p", {}, text), actions));
}

/** What went wrong, and another try. */
export function failed(place, error, retry) {
  place.removeAttribute("aria-busy");
  const again = retry ? h("button", { type: "button", onclick: retry }, "Try again") : null;
  return fill(place, h("div", { class: "state error", role: "alert" }, h("p", {}, error.message), again));
}

/** The content itself. */
export function shown(place, ...children) {
  place.removeAttribute("aria-busy");
  return fill(place, ...children);
}

/** Load a place's content and show it, whatever comes: `load` returns its children, or null to leave it as it is. */
export async function show(place, load) {
  loading(place);
  try {
    const children = await load();
    if (children !== null) shown(place, children);
  } catch (error) {
    failed(place, error, () => show(place, load));
  }
}
