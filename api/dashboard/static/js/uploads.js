// Uploads on the page: a card each, with its progress, pause, resume and cancel, and in the end the dataset.
import { request } from "./api.js";
import { fill, h, say } from "./dom.js";
import { bytes, count, percent } from "./format.js";
import { archive } from "./tar.js";
import { archivesOf, fingerprintOf, haveFolders, sizeOf } from "./picked.js";
import { rejections } from "./rejections.js";
import { begin, giveUp, look, sendRest } from "./tus.js";
import { forget, keep } from "./unfinished.js";

// Loose pictures up to here go in one form; beyond, and folders and archives, in parts that outlive a break.
const FORM_BYTES = 4 * 1024 * 1024;

const button = (text, onclick, kind = "") => h("button", { type: "button", class: kind, onclick }, text);

class Card {
  constructor(title, { onMade }) {
    this.onMade = onMade;
    this.bar = h("progress", { max: 1, value: 0, "aria-label": `Upload of ${title}` });
    this.text = h("span", { class: "muted small" });
    this.actions = h("div", { class: "row" });
    this.more = h("div", {});
    this.element = h("li", { class: "upload stack" },
      h("div", { class: "spread" }, h("strong", { class: "wrap" }, title), this.actions), this.bar, this.text, this.more);
  }

  show(text, ...actions) {
    fill(this.text, text);
    this.text.classList.remove("error");
    fill(this.actions, actions);
  }

  fail(error, ...actions) {
    this.show(error.message, ...actions, button("Dismiss", () => this.element.remove()));
    this.text.classList.add("error");
    say(`The upload failed: ${error.message}`);
  }

  made(dataset) {
    this.bar.remove();
    this.show(`${count(dataset.image_count)} pictures.`,
      h("a", { class: "button", href: `/datasets/${dataset.id}` }, "Look at it"),
      h("a", { class: "button primary", href: `/new?dataset=${dataset.id}` }, "Train on this"));
    fill(this.more, rejections(dataset.rejected, { open: true }));
    say(`The dataset ${dataset.name} is there: ${dataset.image_count} pictures.`);
    this.onMade(dataset);
  }
}

/** A small upload: one form, one request. */
class FormUpload extends Card {
  constructor(files, wish, options) {
    super(wish.name || `${count(files.length)} pictures`, options);
    Object.assign(this, { files, wish });
  }

  async run() {
    this.bar.removeAttribute("value");
    this.aborting = new AbortController();
    this.show(`Sending ${bytes(sizeOf(this.files))}, then looking at every picture…`, button("Cancel", () => this.aborting.abort()));
    const form = new FormData();
    for (const { file } of this.files) form.append("files", file);
    if (this.wish.name) form.append("name", this.wish.name);
    form.append("labels", this.wish.labels);
    try {
      this.made(await request("POST", "/v1/datasets", { body: form, signal: this.aborting.signal }));
    } catch (error) {
      if (this.aborting.signal.aborted) return this.element.remove();
      this.bar.value = 0;
      this.fail(error, button("Try again", () => this.run()));
    }
  }
}

/** A large one, in parts; its entry is remembered until it is over. */
export class PartsUpload extends Card {
  constructor(entry, blob, options) {
    super(entry.name || entry.filename, options);
    Object.assign(this, { entry, blob });
  }

  /** Go on after a reload, as soon as the same files are picked again; what is whole already needs none. */
  async recall() {
    try {
      const upload = await look(this.entry.address);
      this.progress(upload.received_bytes);
      if (upload.status !== "receiving") return await this.finish();
      this.show(`${percent(upload.received_bytes / this.entry.size)} have arrived. Choose the same files again to go on.`,
        button("Cancel", () => this.cancel()));
    } catch (error) {
      if (error.status !== 404) return this.fail(error, button("Try again", () => this.recall()));
      forget(this.entry); // It has expired, or is another tenant's.
      this.element.remove();
    }
  }

  async run() {
    this.aborting = new AbortController();
    const { signal } = this.aborting;
    this.show("Starting…");
    try {
      if (!this.entry.address) {
        this.entry.address = await begin({ name: this.entry.filename, size: this.entry.size });
        keep(this.entry);
      }
      const onTrouble = (text) => fill(this.text, `Waiting to go on: ${text}`);
      this.show("Sending…", button("Pause", () => this.aborting.abort()), button("Cancel", () => this.cancel()));
      await sendRest(this.entry.address, this.blob, { signal, onTrouble, onProgress: (at) => this.progress(at) });
    } catch (error) {
      if (this.isCancelled) return;
      if (signal.aborted) return this.show(`Paused at ${percent(this.bar.value)}.`,
        button("Go on", () => this.run(), "primary"), button("Cancel", () => this.cancel()));
      return this.fail(error, button("Try again", () => this.run()), button("Cancel", () => this.cancel()));
    }
    await this.finish();
  }

  progress(received) {
    this.bar.value = this.entry.size ? received / this.entry.size : 1;
    fill(this.text, `${bytes(received)} of ${bytes(this.entry.size)} (${percent(this.bar.value)})`);
  }

  async finish() {
    this.bar.removeAttribute("value");
    this.show("All bytes are there. Looking at every picture…");
    const { address, name, labels, versionOf } = this.entry;
    const body = { ...(name && { name }), labels, ...(versionOf && { version_of: versionOf }) };
    try {
      const dataset = await request("POST", `${address}/dataset`, { body });
      forget(this.entry);
      this.made(dataset);
    } catch (error) {
      this.bar.value = 1;
      this.fail(error, button("Try again", () => this.finish()), button("Give it up", () => this.cancel()));
    }
  }

  async cancel() {
    this.isCancelled = true;
    this.aborting?.abort();
    try {
      if (this.entry.address) await giveUp(this.entry.address);
      forget(this.entry);
      this.element.remove();
    } catch (error) {
      this.fail(error, button("Cancel", () => this.cancel()));
    }
  }
}

/**
 * A card for picked files, on their way; not yet on the page.
 *
 * @param {{path: string, file: File}[]} files
 * @param {{name: string, labels: string, versionOf: string|null}} wish
 * @param {{onMade: (dataset: object) => void}} options
 */
export function uploadOf(files, wish, options) {
  const archives = archivesOf(files).length;
  const isSmall = !archives && !haveFolders(files) && sizeOf(files) <= FORM_BYTES;
  // Archives in an archive would not be unpacked: beside other files they go in a form, whatever their size.
  const isMixed = archives > 0 && files.length > 1;
  if ((isSmall || isMixed) && !wish.versionOf) return new FormUpload(files, wish, options);
  const blob = wholeOf(files);
  const filename = archives ? files[0].file.name : `${wish.name || "pictures"}.tar`;
  const entry = { ...wish, filename, size: blob.size, fingerprint: fingerprintOf(files) };
  return new PartsUpload(entry, blob, options);
}

/** The bytes that an upload in parts of these files sends. */
export const wholeOf = (files) => (archivesOf(files).length ? files[0].file : archive(files));
