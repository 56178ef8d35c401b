// Asking again and again while somebody looks, and saying on the page whether that works.
import { byId, setText } from "./dom.js";

const SLOWEST_MS = 30_000;

/**
 * Call `look` every so often, never twice at a time; a hidden tab rests, and asks at once when it is shown again.
 *
 * @param {() => Promise<void>} look
 * @param {number} everyMs
 * @param {(state: string, title?: string) => void} [onState] hears how it went.
 * @returns {() => void} looks now.
 */
export function poll(look, everyMs, onState = showState) {
  let timer, isBusy = false, failures = 0;
  async function turn() {
    clearTimeout(timer);
    if (isBusy || document.hidden) return;
    isBusy = true;
    try {
      await look();
      failures = 0;
      onState("live");
    } catch (error) {
      failures += 1;
      onState("offline", error.message);
    }
    isBusy = false;
    timer = setTimeout(turn, Math.min(everyMs * 2 ** failures, SLOWEST_MS));
  }
  document.addEventListener("visibilitychange", turn);
  addEventListener("online", turn);
  turn();
  return turn;
}

/** Say in the page's badge how fresh it is: connecting, live, reconnecting, offline, over. */
export function showState(state, title = "", badge = byId("live")) {
  badge.dataset.state = state;
  badge.title = title;
  setText(badge, state);
}
