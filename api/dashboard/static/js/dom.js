// Elements from data. Text is always text, since names come from strangers: nothing here reads HTML.

const SVG = "http://www.w3.org/2000/svg";
const LINKS = new Set(["href", "src"]);

/**
 * An element: h("a", {href: "/", class: "quiet", onclick: f, dataset: {id: 1}}, "text", another, [more]).
 * Attributes that are null, undefined or false are left out; null children, too.
 */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same, of SVG. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (LINKS.has(name)) element.setAttribute(name, checked(value));
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** Addresses of this service and of its own data only: no javascript:, whatever a row says. */
function checked(address) {
  const url = new URL(address, location.origin);
  if (url.origin === location.origin || url.protocol === "blob:") return address;
  throw new Error(`${address} is not an address of this service`);
}

/** Put children into an element in place of what it holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set an element's text only if it is another: a table of a thousand rows is patched in place. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The element of an id; a page's template has it. */
export function byId(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no element ${id}`);
  return element;
}

/** Tell who listens rather than looks. */
export function say(text) {
  setText(byId("said"), text);
}
