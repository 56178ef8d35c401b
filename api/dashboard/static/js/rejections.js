// What of an upload was left out, and why.
import { h } from "./dom.js";
import { count } from "./format.js";

/** A folded table of rejections; null where there are none. Rows that cost a label alone are told apart. */
export function rejections(rejected, { open = false } = {}) {
  if (!rejected.length) return null;
  const labels = rejected.filter(({ code }) => code.startsWith("label_")).length;
  const files = rejected.length - labels;
  const parts = [
    files ? `${count(files)} ${files === 1 ? "file was" : "files were"} left out` : null,
    labels ? `${count(labels)} ${labels === 1 ? "label was" : "labels were"} not taken` : null,
  ];
  return h("details", { class: "rejections", open },
    h("summary", {}, parts.filter(Boolean).join("; ")),
    h("div", { class: "scroll low", tabindex: 0, role: "region", "aria-label": "What was left out" }, h("table", {},
      h("thead", {}, h("tr", {}, ["File", "Why"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rejected.map(({ name, reason }) => h("tr", {}, h("td", { class: "wrap" }, name), h("td", {}, reason)))))));
}
