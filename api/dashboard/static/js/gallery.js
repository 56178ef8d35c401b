// Generated pictures: looked at closely, held against the training pictures, chosen and saved.
import { send } from "./api.js";
import { fill, h, say } from "./dom.js";
import { count, number } from "./format.js";
import { addressOf, generated } from "./generation.js";
import { zip } from "./zip.js";

export class Gallery {
  /** @param {HTMLElement} place @param {{id: string, dataset_id: string, config: object}} job */
  constructor(place, job) {
    Object.assign(this, { place, job, chosen: new Map() });
    this.save = h("button", { type: "button", disabled: true, onclick: () => this.saveChosen() });
    this.tell();
  }

  /** Show the pictures of a generation; those that were chosen before stay chosen. */
  show(generation) {
    this.generation = generation;
    const pictures = generation.files.filter(({ role }) => role === "picture");
    const main = generation.files.find(({ role }) => role === "main");
    fill(this.place,
      h("div", { class: "spread" }, h("p", { class: "muted small" }, `${count(pictures.length)} pictures. Click one for the training pictures nearest to it.`),
        h("div", { class: "row" }, this.save, h("a", { class: "button", href: addressOf(main), download: main.name }, "Download all"))),
      h("ul", { class: "plain thumbnails gallery" }, pictures.map((file) => this.picture(file))));
  }

  picture(file) {
    const seed = seedOf(file);
    const key = addressOf(file);
    const box = h("input", { type: "checkbox", "aria-label": `Choose seed ${seed}`, checked: this.chosen.has(key), onchange: () => {
      if (box.checked) this.chosen.set(key, file);
      else this.chosen.delete(key);
      this.tell();
    } });
    return h("li", {}, h("button", { type: "button", class: "picture", onclick: () => this.lookAt(file) },
      h("img", { src: key, alt: `Generated picture of seed ${seed}` })),
    h("span", { class: "row small" }, box, `seed ${seed}`));
  }

  tell() {
    this.save.disabled = !this.chosen.size;
    fill(this.save, this.chosen.size ? `Save ${count(this.chosen.size)} as zip` : "Save chosen as zip");
  }

  async saveChosen() {
    this.save.disabled = true;
    try {
      const files = await Promise.all([...this.chosen].map(async ([address, file], i) => ({
        // Two generators may have made a picture of the same seed.
        name: `${String(i + 1).padStart(3, "0")}-${file.name}`,
        bytes: new Uint8Array(await (await send("GET", address)).arrayBuffer()),
      })));
      const url = URL.createObjectURL(zip(files));
      h("a", { href: url, download: "selection.zip" }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      say(`${files.length} pictures are saved`);
    } catch (error) {
      this.place.prepend(h("p", { class: "error", role: "alert" }, error.message));
    }
    this.tell();
  }

  /** A picture by itself, beside its nearest training pictures. */
  lookAt(file) {
    const seed = seedOf(file);
    const aborting = new AbortController();
    const near = h("div", { "aria-live": "polite" }, "Looking for the nearest training pictures…");
    const dialog = h("dialog", { class: "wide", "aria-labelledby": "seed-title" },
      h("div", { class: "spread" }, h("h2", { id: "seed-title" }, `Seed ${seed}`), h("button", { type: "button", onclick: () => dialog.close() }, "Close")),
      h("div", { class: "sidebyside" }, h("figure", {}, h("figcaption", {}, "generated"), h("img", { src: addressOf(file), alt: `Generated picture of seed ${seed}` })), near));
    dialog.addEventListener("close", () => (aborting.abort(), dialog.remove()));
    document.body.append(dialog);
    dialog.showModal();
    this.showNearest(near, { seed, name: file.name, signal: aborting.signal });
  }

  async showNearest(place, { seed, name, signal }) {
    const { request: asked, checkpoint_id: checkpoint } = this.generation;
    const wish = { ...asked, checkpoint_id: checkpoint, seed, count: 1, nearest: true, form: "grid" };
    // Whose turn it is among the classes goes by the seed, so one picture alone is the same one.
    try {
      const told = await generated(this.job.id, wish, { signal, onState: ({ status }) => fill(place, `Looking for the nearest training pictures: ${status}…`) });
      fill(place, (told.facts.nearest?.[name] ?? []).map((found) => this.neighbour(found)));
    } catch (error) {
      if (!signal.aborted) fill(place, h("p", { class: "error", role: "alert" }, error.message));
    }
  }

  neighbour({ position, lpips }) {
    const told = `Training picture ${position}, LPIPS ${number(lpips)}`;
    const src = `/v1/datasets/${this.job.dataset_id}/images/${position}/file?redirect=false`;
    return h("figure", {}, h("img", { src, alt: `Training picture ${position}` }), h("figcaption", { class: "small" }, told));
  }
}

/** `seed-6.png` is of seed 6. */
const seedOf = ({ name }) => Number(name.match(/\d+/)[0]);
