// Server-sent events over fetch: unlike EventSource it tells a refusal from a lost network, and where it goes on.
import { leave, Problem } from "./api.js";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;

/**
 * Follow a stream until it is over or the signal aborts; after a loss go on behind the last event.
 *
 * @param {string} path of the stream.
 * @param {object} options
 * @param {(event: {id: string, type: string, data: any}) => void} options.onEvent
 * @param {(state: "connecting"|"live"|"reconnecting"|"offline"|"over"|"refused", problem?: Problem) => void}
 *   options.onState
 * @param {number} [options.after] number of the last event that the page has.
 * @param {AbortSignal} [options.signal]
 */
export async function follow(path, { onEvent, onState, after = 0, signal }) {
  let last = String(after);
  let pauseMs = FIRST_PAUSE_MS;
  onState("connecting");
  while (!signal?.aborted) {
    try {
      const headers = { Accept: "text/event-stream", "Last-Event-ID": last };
      const answer = await fetch(path, { headers, signal, cache: "no-store" });
      if (answer.status === 401) return leave();
      if (answer.status === 204) return onState("over");
      if (!answer.ok && answer.status < 500 && answer.status !== 429) {
        return onState("refused", new Problem(await answer.json()));
      }
      if (answer.ok) {
        onState("live");
        pauseMs = FIRST_PAUSE_MS;
        for await (const event of eventsOf(answer.body)) {
          last = event.id || last;
          onEvent({ ...event, data: JSON.parse(event.data) });
        }
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (!(error instanceof TypeError)) throw error; // fetch and its reader say so of a lost network.
    }
    onState(navigator.onLine ? "reconnecting" : "offline");
    await rested(pauseMs, signal);
    pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
  }
}

/** Wait, but not longer than until the network is back. */
function rested(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    addEventListener("online", resolve, { once: true });
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (text + value).split(/\r?\n\r?\n/);
    text = blocks.pop();
    for (const block of blocks) {
      const event = parsed(block);
      if (event.data) yield event;
    }
  }
}

function parsed(block) {
  const event = { id: "", type: "message", data: "" };
  for (const line of block.split(/\r?\n/)) {
    const [, name, value] = line.match(/^(\w*): ?(.*)$/) ?? [];
    if (name === "data") event.data += event.data ? `\n${value}` : value;
    else if (name === "id") event.id = value;
    else if (name === "event") event.type = value;
  }
  return event;
}
