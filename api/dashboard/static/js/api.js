// Requests to the API of this service; the browser adds the session's cookie.

/** A refusal, or that no answer came: `status` is 0 then. */
export class Problem extends Error {
  constructor({ status = 0, code = "offline", title = "No answer", detail = "", errors = [], details = {} }) {
    const wrong = errors.map((entry) => `${entry.where}: ${entry.what}`);
    super([detail || title, ...wrong].join(" "));
    Object.assign(this, { status, code, title, detail, errors, details });
  }
}

/** Go to the sign-in page, which comes back here. */
export function leave() {
  const here = location.pathname + location.search;
  location.assign(`/sign-in?to=${encodeURIComponent(here)}`);
}

/** A key for `Idempotency-Key`. crypto.randomUUID is missing on pages that come over plain HTTP. */
export function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The raw answer to a request; anything but success is thrown as a Problem. A 401 leads to the sign-in page. */
export async function send(method, path, { body, headers = {}, signal } = {}) {
  const all = { ...headers };
  if (method === "POST") all["Idempotency-Key"] ??= randomKey();
  let content = body;
  if (body !== undefined && !(body instanceof FormData) && !(body instanceof Blob)) {
    all["Content-Type"] = "application/json";
    content = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, { method, headers: all, body: content, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ detail: "The service does not answer. Is it running, and is the network there?" });
  }
  if (answer.status === 401 && !("Authorization" in all)) {
    leave();
    await new Promise(() => {}); // The page is being left: nothing is to be shown any more.
  }
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

/** The JSON of an answer; null where it has no body. */
export async function request(method, path, options = {}) {
  const answer = await send(method, path, options);
  return answer.status === 204 ? null : answer.json();
}

/** The pages of a list, one after the other: each with `items`. */
export async function* pages(path, options = {}) {
  const address = new URL(path, location.origin);
  for (;;) {
    const page = await request("GET", address.pathname + address.search, options);
    yield page;
    if (!page.next_cursor) return;
    address.searchParams.set("cursor", page.next_cursor);
  }
}

/** All items of a list; for lists that are short. */
export async function all(path, options = {}) {
  const items = [];
  for await (const page of pages(path, options)) items.push(...page.items);
  return items;
}

async function problemOf(answer) {
  const isProblem = answer.headers.get("content-type")?.startsWith("application/problem+json");
  if (isProblem) return new Problem(await answer.json());
  return new Problem({ status: answer.status, code: "http", title: `${answer.status} ${answer.statusText}` });
}
