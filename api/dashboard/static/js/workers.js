// Who works, and what waits.
import { request } from "./api.js";
import { byId, fill, h } from "./dom.js";
import { ago, brief, count, date } from "./format.js";
import { poll } from "./poll.js";
import { empty, failed, loading } from "./states.js";

const EVERY_MS = 3_000;
const MOST = 200;
const WAITING = ["queued", "running", "evaluating", "paused"];
const place = byId("workers");
const HEADINGS = ["State", "Kind", "Device", "Current job", "Last heartbeat", "Since", "Worker"];

async function look() {
  try {
    const lists = WAITING.map((status) => request("GET", `/v1/jobs?status=${status}&fields=id&limit=${MOST}`));
    const [workers, ...jobs] = await Promise.all([request("GET", "/v1/workers"), ...lists]);
    showQueue(jobs);
    showWorkers(workers.items);
  } catch (error) {
    if (place.hasAttribute("aria-busy")) failed(place, error, look);
    throw error; // The badge says so, and what was shown stays.
  }
}

function showQueue(jobs) {
  const figure = ({ items, next_cursor: next }) => (next ? `more than ${count(MOST)}` : count(items.length));
  fill(byId("queue"), WAITING.map((status, i) => h("div", {}, h("dt", {}, `${status}, of yours`),
    h("dd", {}, h("a", { href: `/?status=${status}` }, figure(jobs[i]))))));
}

function showWorkers(workers) {
  place.removeAttribute("aria-busy");
  if (!workers.length) {
    empty(place, "No worker has reported. Start one with slaegan up, or see the deployment guide: jobs wait until then.");
    return;
  }
  fill(place, h("div", { class: "scroll" }, h("table", { class: "cards" }, h("caption", { class: "unseen" }, "Workers"),
    h("thead", {}, h("tr", {}, HEADINGS.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, workers.map(workerRow)))));
}

function workerRow(worker) {
  const [state, text] = stateOf(worker);
  const job = worker.current_job_id;
  return h("tr", {},
    h("td", {}, h("span", { class: "badge", "data-state": state }, text)), h("td", {}, worker.kind),
    h("td", {}, worker.device), h("td", {}, job ? h("a", { href: `/jobs/${job}`, title: job }, brief(job)) : "–"),
    h("td", { title: date(worker.last_heartbeat_at), "data-label": "heartbeat" }, ago(worker.last_heartbeat_at)),
    h("td", { title: date(worker.started_at), "data-label": "since" }, ago(worker.started_at)),
    h("td", { class: "whole" }, h("code", {}, worker.name), ` ${worker.host}, process ${worker.pid}`));
}

function stateOf({ alive, drain, current_job_id: job }) {
  if (!alive) return ["failed", "lost"];
  if (drain) return ["paused", "draining"];
  return job ? ["running", "working"] : ["live", "idle"];
}

loading(place, "Asking for workers…");
poll(look, EVERY_MS);
