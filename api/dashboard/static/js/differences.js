// What differs between jobs: a row a field, a column a job.
import { h } from "./dom.js";

/** @param {string[]} titles of the jobs. @param {{field: string, values: any[]}[]} rows */
export function differencesTable(titles, rows, caption) {
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, h("table", { class: "differences" },
    h("caption", { class: "unseen" }, caption),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Option"), titles.map((title) => h("th", { scope: "col", class: "wrap" }, title)))),
    h("tbody", {}, rows.map(({ field, values }) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, field)),
      values.map((value) => h("td", { class: "wrap" }, value === undefined ? "–" : typeof value === "string" ? value : JSON.stringify(value))))))));
}
