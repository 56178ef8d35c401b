// The form of one family's configuration: fields in groups, the values that are its own, the defaults of all others.
import { control } from "./control.js";
import { fill, h, setText } from "./dom.js";
import { fieldsOf, words } from "./fields.js";
import { GROUPS, groupOf } from "./presets.js";

export class ConfigForm {
  /**
   * @param {HTMLElement} place
   * @param {{family: string, config_schema: object, defaults: object}} model
   * @param {{onChange: () => void, values?: object}} options values by key, such as {"evaluation.generated": 64}.
   */
  constructor(place, model, { onChange, values = {} }) {
    this.model = model;
    this.onChange = onChange;
    this.settled = model.defaults;
    this.fields = fieldsOf(model.config_schema);
    this.keys = new Set(this.fields.map(({ key }) => key));
    this.controls = new Map(this.fields.map((field) => [field.key, control(field, (value) => this.set(field.key, value))]));
    this.own = new Map(Object.entries(values).filter(([key]) => this.keys.has(key)));
    this.summaries = [];
    this.general = h("div", { role: "alert", class: "error" });
    fill(place, this.general, GROUPS.map((group) => this.group(group)));
    this.show();
  }

  group({ name, title, isOpen = false, keys = [] }) {
    const order = (field) => (keys.includes(field.key) ? keys.indexOf(field.key) : keys.length);
    const mine = this.fields.filter((field) => groupOf(field) === name).sort((one, other) => order(one) - order(other));
    if (!mine.length) return null;
    const text = this.model.config_schema.properties[name]?.description;
    const told = h("span", { class: "muted small" });
    this.summaries.push({ told, keys: mine.map(({ key }) => key) });
    return h("details", { class: "panel group", open: isOpen }, h("summary", {}, h("h2", {}, title), told),
      text ? h("p", { class: "muted small" }, `${text}.`) : null,
      h("div", { class: "fields" }, mine.map(({ key }) => this.controls.get(key).element)));
  }

  /** Set a field; undefined gives it back to its default. */
  set(key, value) {
    if (value === undefined) this.own.delete(key);
    else this.own.set(key, value);
    this.show();
    this.onChange();
  }

  /** Begin anew with these values. */
  preset(values) {
    this.own = new Map(Object.entries(values).filter(([key]) => this.keys.has(key)));
    this.refuse([]);
    this.show();
    this.onChange();
  }

  /** Take over the values that follow from those that were set. */
  settle(config) {
    this.settled = config;
    this.refuse([]);
    this.show();
  }

  show() {
    for (const { key, path } of this.fields) {
      const isOwn = this.own.has(key);
      const value = isOwn ? this.own.get(key) : path.reduce((part, name) => part?.[name], this.settled);
      this.controls.get(key).show(value, isOwn);
    }
    for (const { told, keys } of this.summaries) {
      const set = keys.filter((key) => this.own.has(key)).length;
      setText(told, `${keys.length} ${keys.length === 1 ? "option" : "options"}${set ? `, ${set} set` : ""}`);
    }
  }

  /** Put each error at its field, and what is about several at the top. */
  refuse(errors) {
    const byKey = new Map();
    const general = [];
    for (const { where, what } of errors) {
      const inside = where.match(/^body\.config(?:\.(.*))?$/);
      if (!inside) continue;
      const parts = (inside[1] ?? "").split(".");
      // Of a field's own parts, such as the third of some choices, the field tells.
      const key = parts.map((_, i) => parts.slice(0, parts.length - i).join(".")).find((name) => this.keys.has(name));
      if (key) byKey.set(key, what);
      else general.push(inside[1] ? `${words(inside[1])}: ${what}` : what);
    }
    fill(this.general, general.map((text) => h("p", {}, text)));
    for (const [key, made] of this.controls) {
      const text = byKey.get(key) ?? "";
      made.refuse(text);
      if (text) made.element.closest("details").open = true;
    }
  }

  /** What is sent: the family, and what is set. */
  value() {
    const config = { family: this.model.family };
    for (const { key, path } of this.fields) {
      if (!this.own.has(key)) continue;
      const parent = path.slice(0, -1).reduce((part, name) => (part[name] ??= {}), config);
      parent[path.at(-1)] = this.own.get(key);
    }
    return config;
  }
}
