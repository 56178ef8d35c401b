// What a submission says beside its configuration: its place in the queue, what it begins from, whom to tell.
import { control } from "./control.js";
import { fill, h } from "./dom.js";

const YEAR_S = 366 * 86_400;
const plain = { isNullable: false, isAboveLow: false, isBelowHigh: false };
const FIELDS = [
  { key: "init_from", kind: "text", description: "A checkpoint to begin from, by its id, with networks of the same shape. It stays until this job is over" },
  { key: "priority", kind: "integer", low: -100, high: 100, description: "Of your waiting jobs the highest goes first" },
  { key: "max_run_s", kind: "integer", low: 1, high: YEAR_S, description: "Seconds on a device after which the training ends, as if it were finished; empty: to the end" },
  { key: "max_queue_s", kind: "integer", low: 1, high: YEAR_S, description: "Seconds in the queue after which the job fails; empty: it waits" },
  { key: "webhook", kind: "text", description: "A URL that hears when the job succeeds, fails, is cancelled or paused, or raises an alarm" },
].map((field) => ({ ...plain, ...field, path: [field.key] }));

export class QueueForm {
  /** @param {{initFrom: string|null, note: string, onChange: () => void}} options */
  constructor(place, { initFrom, note, onChange }) {
    this.own = new Map(initFrom ? [["init_from", initFrom]] : []);
    this.controls = new Map(FIELDS.map((field) => [field.key, control(field, (value) => {
      if (value === undefined) this.own.delete(field.key);
      else this.own.set(field.key, value);
      this.show();
      onChange();
    })]));
    fill(place, note ? h("p", { class: "notice all" }, note) : null, FIELDS.map(({ key }) => this.controls.get(key).element));
    this.show();
    if (initFrom) place.closest("details").open = true;
  }

  show() {
    for (const [key, made] of this.controls) made.show(this.own.get(key) ?? "", this.own.has(key));
  }

  refuse(errors) {
    for (const [key, made] of this.controls) {
      const wrong = errors.find(({ where }) => where === `body.${key}` || where.startsWith(`body.${key}.`));
      made.refuse(wrong?.what ?? "");
      if (wrong) made.element.closest("details").open = true;
    }
  }

  value() {
    const { webhook, ...rest } = Object.fromEntries(this.own);
    return { ...rest, ...(webhook && { webhook: { url: webhook } }) };
  }
}
