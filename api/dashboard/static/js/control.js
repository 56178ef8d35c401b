// One field of a configuration as something to see and to change.
import { fill, h, setText } from "./dom.js";
import { rangeOf, words, wrongOf } from "./fields.js";

/**
 * A control of a field: its label, its help, its error.
 *
 * @param {object} field as fieldsOf tells it.
 * @param {(value: any) => void} onChange with undefined for the default.
 * @returns {{element: HTMLElement, show: (value: any, isOwn: boolean) => void, refuse: (text: string) => void,
 *   focus: () => void}}
 */
export function control(field, onChange) {
  const id = `field-${field.key.replaceAll(".", "-")}`;
  const error = h("p", { class: "error small", id: `${id}-error` });
  const help = h("p", { class: "muted small", id: `${id}-help` }, sentence(field));
  const reset = h("button", { type: "button", class: "quiet small", hidden: true, title: "Back to the default",
    "aria-label": `${words(field.path.at(-1))}: back to the default`, onclick: back }, "default");
  const input = { switch: toggle, choice, choices: checks, integer: figure, number: figure, text: line, object: json }[field.kind];
  const change = (value) => {
    refuse(value === undefined ? "" : wrongOf(field, value));
    onChange(value);
  };
  const made = input(field, { id, change, described: `${id}-help ${id}-error` });
  const isGroup = field.kind === "choices";
  const title = isGroup ? h("span", { class: "label", id: `${id}-label` }, words(field.path.at(-1)))
    : h("label", { for: id }, words(field.path.at(-1)));
  const element = h("div", { class: "field", "data-field": field.key, role: isGroup ? "group" : null,
    "aria-labelledby": isGroup ? `${id}-label` : null }, h("div", { class: "spread" }, title, reset), made.element, error, help);

  let last;
  // While somebody types nothing else is written into the box: an empty one is the default only when it is left.
  element.addEventListener("focusout", () => made.show(last));

  function back() {
    refuse("");
    onChange(undefined);
    made.focusable.focus();
  }
  function refuse(text) {
    setText(error, text);
    if (text) made.focusable.setAttribute("aria-invalid", "true");
    else made.focusable.removeAttribute("aria-invalid");
  }
  function show(value, isOwn) {
    reset.hidden = !isOwn;
    element.classList.toggle("own", isOwn);
    last = value;
    if (!element.contains(document.activeElement) || document.activeElement === reset) made.show(value);
  }
  return { element, show, refuse, focus: () => made.focusable.focus() };
}

function sentence(field) {
  const range = rangeOf(field);
  const end = /[.:]$/.test(field.description) || !field.description ? "" : ".";
  return [field.description + end, range && `${range[0].toUpperCase()}${range.slice(1)}.`].filter(Boolean).join(" ");
}

function toggle(_field, { id, change, described }) {
  const box = h("input", { type: "checkbox", id, "aria-describedby": described, onchange: () => change(box.checked) });
  return { element: box, focusable: box, show: (value) => { box.checked = value === true; } };
}

function choice(field, { id, change, described }) {
  const options = field.choices.map((value, i) => h("option", { value: i }, String(value)));
  const select = h("select", { id, "aria-describedby": described, onchange: () => change(field.choices[select.value]) }, options);
  return { element: select, focusable: select, show: (value) => { select.value = field.choices.indexOf(value); } };
}

function checks(field, { id, change, described }) {
  const boxes = field.choices.map((value) => h("input", { type: "checkbox", id: `${id}-${value}`, "aria-describedby": described,
    onchange: () => change(field.choices.filter((_, i) => boxes[i].checked)) }));
  const element = h("div", { class: "row" }, boxes.map((box, i) => h("label", { class: "check" }, box, String(field.choices[i]))));
  const show = (value) => boxes.forEach((box, i) => { box.checked = value?.includes(field.choices[i]) ?? false; });
  return { element, focusable: boxes[0], show };
}

function figure(field, { id, change, described }) {
  const read = () => {
    if (box.value !== "") return change(Number(box.value));
    // A browser gives an empty text for what is no number at all.
    return change(box.validity.badInput ? Number.NaN : nothing(field));
  };
  const box = h("input", { type: "number", id, min: field.low, max: field.high, step: field.step ?? (field.kind === "integer" ? 1 : "any"),
    inputmode: field.kind === "integer" ? "numeric" : "decimal", autocomplete: "off", "aria-describedby": described,
    placeholder: field.isNullable ? "none" : null, oninput: read });
  const show = (value) => {
    if (!Number.isNaN(value)) box.value = value ?? ""; // What is no number stays as it was typed.
  };
  return { element: box, focusable: box, show };
}

function line(field, { id, change, described }) {
  const box = h("input", { type: "text", id, autocomplete: "off", spellcheck: "false", "aria-describedby": described,
    placeholder: field.isNullable ? "none" : null, oninput: () => change(box.value || nothing(field)) });
  return { element: box, focusable: box, show: (value) => { box.value = value ?? ""; } };
}

/** What an empty box says: null where that is a value, else the default. */
const nothing = (field) => (field.isNullable ? null : undefined);

function json(_field, { id, change, described }) {
  const read = () => {
    if (!box.value.trim()) return change(undefined);
    try {
      return change(JSON.parse(box.value));
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      return change(box.value); // The service says what is wrong with it.
    }
  };
  const box = h("textarea", { id, rows: 3, spellcheck: "false", class: "mono", "aria-describedby": described, oninput: read });
  const show = (value) => { box.value = typeof value === "string" ? value : JSON.stringify(value, null, 1); };
  return { element: box, focusable: box, show };
}
