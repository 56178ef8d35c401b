// A job's events and its log, as they happen.
import { request } from "./api.js";
import { byId, h, say } from "./dom.js";
import { brief, compact, time } from "./format.js";
import { showState } from "./poll.js";
import { follow } from "./sse.js";

const EVENTS_SHOWN = 300;
const LINES_SHOWN = 1_000;
const ID = /^[0-9a-f-]{36}$/;
const LOUD = new Set(["alarm", "warning", "failed"]);

/** Show events, newest first, and tell of each; `isOver` once the job has said its last. */
export function followEvents(path, onEvent) {
  const controller = new AbortController();
  const stream = { isOver: false, signal: controller.signal, stop: () => controller.abort() };
  const list = byId("events");
  list.replaceChildren();
  follow(`${path}/events/stream`, {
    signal: controller.signal,
    onEvent({ data }) {
      list.prepend(eventLine(data));
      if (list.children.length > EVENTS_SHOWN) list.lastElementChild.remove();
      if (LOUD.has(data.type)) say(`${data.type}: ${data.payload.message ?? ""}`);
      onEvent();
    },
    onState(state, problem) {
      stream.isOver = state === "over" || state === "refused";
      showState(state, problem?.message);
    },
  });
  return stream;
}

function eventLine({ seq, type, at, payload }) {
  const { message, images_seen: seen, ...rest } = payload;
  const facts = Object.entries(rest).filter(([, value]) => value !== null && typeof value !== "object")
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${ID.test(value) ? brief(value) : value}`);
  return h("li", { class: LOUD.has(type) ? "loud" : null, title: `event ${seq}` },
    h("time", { datetime: at }, time(at)), " ", h("strong", {}, type),
    seen === undefined ? null : ` at ${compact(seen)} images`, message ? `: ${message}` : facts.length ? `: ${facts.join(", ")}` : "");
}

/** Show the end of the log, and what is printed from now on. */
export async function followLog(path, signal) {
  const place = byId("log");
  const badge = byId("log-live");
  place.replaceChildren();
  let last = 0;
  try {
    const { items } = await request("GET", `${path}/logs?tail=${LINES_SHOWN}&limit=${LINES_SHOWN}`, { signal });
    append(place, items);
    last = items.at(-1)?.seq ?? 0;
  } catch (error) {
    if (signal.aborted) return;
    place.textContent = error.message; // The stream below tries from the beginning.
  }
  await follow(`${path}/logs/stream`, {
    signal, after: last, onEvent: ({ data }) => append(place, [data]),
    onState: (state, problem) => showState(state, problem?.message, badge),
  });
}

/** Whoever reads further up is left there. */
function append(place, lines) {
  const atEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 40;
  place.append(...lines.map(({ line }) => h("span", {}, `${line}\n`)));
  while (place.children.length > LINES_SHOWN) place.firstElementChild.remove();
  if (atEnd) place.scrollTop = place.scrollHeight;
}
