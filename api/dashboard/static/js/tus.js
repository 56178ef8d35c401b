// Large files in parts (tus 1.0): what has arrived stays, and a break costs one part at most.
import { request, send } from "./api.js";

const TUS = { "Tus-Resumable": "1.0.0" };
const PART_BYTES = 4 * 1024 * 1024;
const PAUSES_MS = [500, 1_000, 2_000, 4_000, 8_000, 15_000, 30_000, 60_000];
const MOST_NAME = 200;
// No answer; another offset; another writer; too many requests; bytes that changed on their way.
const PASSING = new Set([0, 409, 423, 429, 460, 500, 502, 503, 504]);

/** Begin an upload of so many bytes; its address, to which they go. */
export async function begin({ name, size }) {
  const filename = base64(new TextEncoder().encode(name.slice(0, MOST_NAME)));
  const headers = { ...TUS, "Upload-Length": String(size), "Upload-Metadata": `filename ${filename}` };
  return (await send("POST", "/v1/uploads", { headers })).headers.get("Location");
}

/** How far it is: `received_bytes`, `length_bytes`, `status`, `expires_at`. Throws a Problem of status 404 once it is gone. */
export const look = (address, options) => request("GET", address, options);

/** Give it up; one that is gone already is given up, too. */
export async function giveUp(address) {
  try {
    await send("DELETE", address, { headers: TUS });
  } catch (error) {
    if (error.status !== 404) throw error;
  }
}

/**
 * Send what is missing, until all is there or the signal aborts; a lost network is waited for.
 *
 * @param {string} address
 * @param {Blob} blob the whole of it.
 * @param {{onProgress: (received: number) => void, onTrouble: (text: string) => void, signal: AbortSignal}} options
 */
export async function sendRest(address, blob, { onProgress, onTrouble, signal }) {
  let failures = 0;
  for (;;) {
    try {
      let { received_bytes: offset } = await look(address, { signal });
      onProgress(offset);
      while (offset < blob.size) {
        offset = await sendPart(address, blob, { offset, signal });
        failures = 0;
        onProgress(offset);
      }
      return;
    } catch (error) {
      if (!PASSING.has(error.status) || failures === PAUSES_MS.length) throw error;
      onTrouble(error.message);
      await rested(PAUSES_MS[failures], signal);
      failures += 1;
    }
  }
}

async function sendPart(address, blob, { offset, signal }) {
  // Read first: a file that is gone or was changed fails here, with a reason, and not as a lost network.
  const bytes = await blob.slice(offset, offset + PART_BYTES).arrayBuffer();
  const headers = {
    ...TUS, "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream", ...(await checksum(bytes)),
  };
  const answer = await send("PATCH", address, { body: new Blob([bytes]), headers, signal });
  return Number(answer.headers.get("Upload-Offset"));
}

/** Pages that came over plain HTTP from another machine have no crypto.subtle; TCP's checksums must do there. */
async function checksum(bytes) {
  if (!crypto.subtle) return {};
  return { "Upload-Checksum": `sha256 ${base64(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)))}` };
}

const base64 = (bytes) => btoa(String.fromCharCode(...bytes));

/** Wait, at most until the network is back; a signal ends it with its reason. */
function rested(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    addEventListener("online", resolve, { once: true });
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
