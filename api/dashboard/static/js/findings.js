// A dataset's lint: each finding with its advice and the pictures that it is about.
import { h } from "./dom.js";
import { count } from "./format.js";

const FIRST = 16;
const ORDER = ["problem", "warning", "note"];
const STATES = { problem: "failed", warning: "paused", note: "live" };

/** Findings, the gravest first. */
export function findings({ findings: found }) {
  if (!found.length) return h("p", { class: "muted" }, "Nothing: no picture is broken, tiny, doubled or odd.");
  const sorted = [...found].sort((one, other) => ORDER.indexOf(one.severity) - ORDER.indexOf(other.severity));
  return h("ul", { class: "plain stack" }, sorted.map(finding));
}

function finding({ code, kind, severity, advice, count: number, pictures }) {
  const seen = pictures.filter((picture) => picture.thumbnail);
  const unseen = pictures.filter((picture) => !picture.thumbnail);
  return h("li", { class: "finding" },
    h("h3", { class: "row" }, h("span", { class: "badge", "data-state": STATES[severity] }, severity),
      `${words(code)}: ${words(kind)}`, h("span", { class: "muted small" }, `${count(number)} ${number === 1 ? "picture" : "pictures"}`)),
    h("p", {}, advice),
    thumbnails(seen),
    unseen.length ? folded(`${count(unseen.length)} by name`, h("ul", { class: "small" }, unseen.map(({ name }) => h("li", { class: "wrap" }, name)))) : null,
    pictures.length && number > pictures.length ? h("p", { class: "muted small" }, `The first ${count(pictures.length)} are listed.`) : null);
}

function thumbnails(pictures) {
  if (!pictures.length) return null;
  const rest = pictures.slice(FIRST);
  return [
    h("ul", { class: "plain thumbnails small" }, pictures.slice(0, FIRST).map(thumbnail)),
    rest.length ? folded(`${count(rest.length)} more`, h("ul", { class: "plain thumbnails small" }, rest.map(thumbnail))) : null,
  ];
}

function thumbnail({ name, position, thumbnail: src }) {
  return h("li", {}, h("a", { href: src.replace(/thumbnail$/, "file?redirect=false"), title: `${name}, number ${position}` },
    h("img", { src, alt: name, loading: "lazy", width: 96, height: 96 })));
}

const folded = (text, content) => h("details", {}, h("summary", {}, text), content);
const words = (code) => code.replaceAll("_", " ");
