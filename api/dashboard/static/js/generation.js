// Something made with a generator: asked for, waited for, called off.
import { request } from "./api.js";

const FIRST_PAUSE_MS = 150;
const LONGEST_PAUSE_MS = 2_000;
const OVER = new Set(["done", "failed", "cancelled"]);

/**
 * Ask a job's generator, and wait until it is done. Asking for the same again finds what is there.
 *
 * @param {string} jobId
 * @param {object} wish as POST /v1/jobs/{id}/generations takes it.
 * @param {{signal: AbortSignal, onState: (generation: object) => void}} options
 * @returns {Promise<object>} the generation with its files; throws an Error that says why there is none.
 */
export async function generated(jobId, wish, { signal, onState }) {
  let generation = await request("POST", `/v1/jobs/${jobId}/generations`, { body: wish, signal });
  let pauseMs = FIRST_PAUSE_MS;
  while (!OVER.has(generation.status)) {
    onState(generation);
    await rested(pauseMs, signal);
    pauseMs = Math.min(1.5 * pauseMs, LONGEST_PAUSE_MS);
    generation = await request("GET", `/v1/generations/${generation.id}`, { signal });
  }
  if (generation.status === "failed") throw new Error([generation.error.message, generation.error.advice].filter(Boolean).join(" "));
  if (generation.status === "cancelled") throw new Error("It was called off.");
  return generation;
}

/** No one waits for it any more: it makes room for others. */
export const callOff = (generation) => request("DELETE", `/v1/generations/${generation.id}`);

/** Where a file of it is, for an element of the page: never at another host. */
export const addressOf = ({ url }) => `${url}?redirect=false`;

function rested(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
