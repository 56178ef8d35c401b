// Pictures of one training by its age, with a slider through them.
import { fill, h } from "./dom.js";
import { count } from "./format.js";
import { empty } from "./states.js";

const FRAME_MS = 350;

/** One picture at a time out of many; the newest is shown until somebody chooses another. */
export class Filmstrip {
  constructor(place, { label, none }) {
    this.place = place;
    this.none = none;
    this.frames = [];
    this.picture = h("img", { alt: "", class: "sheet", decoding: "async" });
    this.caption = h("output", { class: "muted small" });
    this.slider = h("input", { type: "range", min: 0, max: 0, value: 0, step: 1, "aria-label": `${label} by images seen`, oninput: () => this.#choose() });
    this.player = h("button", { type: "button", class: "quiet", onclick: () => this.#play() }, "▶ Play");
    this.label = label;
    this.problem = h("p", { class: "error" });
    this.picture.addEventListener("error", () => fill(this.problem, "This picture cannot be loaded; it may have been deleted."));
    this.picture.addEventListener("load", () => fill(this.problem));
  }

  /** @param {{seen: number, address: string}[]} frames by age. */
  show(frames) {
    if (!frames.length) {
      this.frames = [];
      empty(this.place, this.none);
      return;
    }
    const wasNewest = Number(this.slider.value) === this.frames.length - 1 || !this.frames.length;
    const isSame = frames.length === this.frames.length && frames.at(-1).address === this.frames.at(-1)?.address;
    if (isSame) return;
    if (!this.picture.isConnected) {
      fill(this.place, h("figure", {}, this.picture, this.problem, h("figcaption", { class: "row" }, this.player, this.slider, this.caption)));
    }
    this.frames = frames;
    this.slider.max = frames.length - 1;
    if (wasNewest || Number(this.slider.value) >= frames.length) this.slider.value = frames.length - 1;
    this.player.hidden = frames.length < 2;
    this.#draw();
  }

  #choose() {
    this.#stop();
    this.#draw();
  }

  #draw() {
    const at = Number(this.slider.value);
    const { seen, address } = this.frames[at];
    this.picture.src = address;
    this.picture.alt = `${this.label} at ${count(seen)} images`;
    this.caption.textContent = `${count(seen)} images`;
    this.slider.setAttribute("aria-valuetext", this.caption.textContent);
    for (const neighbour of [this.frames[at - 1], this.frames[at + 1]]) {
      if (neighbour) new Image().src = neighbour.address;
    }
  }

  #play() {
    if (this.timer) return this.#stop();
    this.player.textContent = "❚❚ Pause";
    if (Number(this.slider.value) === this.frames.length - 1) this.slider.value = 0;
    this.#draw();
    this.timer = setInterval(() => {
      if (!this.picture.complete) return; // A slow network shows fewer pictures a second, and leaves none out.
      if (Number(this.slider.value) === this.frames.length - 1) return this.#stop();
      this.slider.value = Number(this.slider.value) + 1;
      this.#draw();
    }, FRAME_MS);
  }

  #stop() {
    clearInterval(this.timer);
    this.timer = undefined;
    this.player.textContent = "▶ Play";
  }
}
