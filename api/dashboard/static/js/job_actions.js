// What can be done with a job in its state, each after a question.
import { request } from "./api.js";
import { ask } from "./dialog.js";
import { fill, h, say } from "./dom.js";
import { count } from "./format.js";

const LIVE = ["queued", "running", "evaluating", "paused"];
let shown = "";

/** Buttons and links, written anew only when they differ: a focus on them stays. */
export function showActions(place, job, { path, onDone }) {
  const told = [job.status, job.run, job.cancel_requested, job.pause_requested, job.best?.checkpoint_id, job.latest?.checkpoint_id].join();
  if (told === shown) return;
  shown = told;
  const act = async (question) => {
    if (await ask(question)) {
      say(`${question.action}: done`);
      await onDone();
    }
  };
  const button = (text, question, style = null) => h("button", { type: "button", class: style, onclick: () => act(question()) }, text);
  const generator = job.best?.checkpoint_id ?? job.latest?.checkpoint_id;
  fill(place,
    offers.pause(job) ? button("Pause", () => pause(path)) : null,
    offers.resume(job) ? button("Resume", () => resume(path), "primary") : null,
    offers.retry(job) ? button("Retry", () => retry(path), "primary") : null,
    offers.extend(job) ? button("Extend", () => extend(path, job)) : null,
    generator ? h("a", { class: "button", href: `/new?init_from=${generator}&dataset=${job.dataset_id}` }, "Fine-tune") : null,
    generator ? h("a", { class: "button", href: `/playground/${job.id}` }, "Playground") : null,
    h("a", { class: "button", href: `/compare?job=${job.id}` }, "Compare"),
    offers.cancel(job) ? button("Cancel", () => cancel(path, job), "danger") : null);
}

const offers = {
  cancel: (job) => LIVE.includes(job.status) && !job.cancel_requested,
  pause: (job) => ["queued", "running"].includes(job.status) && !job.pause_requested && !job.cancel_requested,
  resume: (job) => job.status === "paused" || (job.status === "running" && job.pause_requested),
  retry: (job) => ["failed", "cancelled"].includes(job.status),
  extend: (job) => job.status === "succeeded",
};

const cancel = (path, job) => ({
  title: "Cancel this job?", action: "Cancel the job", dangerous: true,
  content: [h("p", {}, job.status === "running" ? "The training saves its state and ends. " : "It will not be trained. ",
    "What it has made stays, and a retry can go on from there.")],
  act: () => request("POST", `${path}/cancel`),
});

const pause = (path) => ({
  title: "Pause this job?", action: "Pause the job",
  content: [h("p", {}, "Its state is saved, and its device goes to the next job. Resumed, it waits at the end of the queue.")],
  act: () => request("POST", `${path}/pause`),
});

const resume = (path) => ({
  title: "Resume this job?", action: "Resume the job",
  content: [h("p", {}, "It goes on from its last state when a device is free.")],
  act: () => request("POST", `${path}/resume`),
});

function retry(path) {
  const fresh = h("input", { type: "checkbox", id: "fresh" });
  return {
    title: "Retry this job?", action: "Retry the job",
    content: [h("p", {}, "A new run goes on from the last saved state."),
      h("p", {}, fresh, " ", h("label", { for: "fresh" }, "From zero instead"))],
    act: () => request("POST", `${path}/retry`, { body: { fresh: fresh.checked } }),
  };
}

function extend(path, job) {
  const total = h("input", { type: "number", id: "total", min: job.images_seen + 1, step: 1, required: true, value: 2 * job.total_images });
  return {
    title: "Extend this job?", action: "Extend the job",
    content: [h("p", {}, `It has seen ${count(job.images_seen)} images, and trains on from there.`), h("label", { for: "total" }, "New total of images"), total],
    act: () => request("POST", `${path}/extend`, { body: { total_images: Number(total.value) } }),
  };
}
