// A key, sent once in a header, becomes a cookie that no script can read.
import { send } from "./api.js";
import { byId } from "./dom.js";

const field = byId("key");
const problem = byId("key-error");

/** Where the reader wanted to go: a page of this service, and nowhere else. */
function destination() {
  const wanted = new URLSearchParams(location.search).get("to") ?? "/";
  const url = new URL(wanted, location.origin);
  return url.origin === location.origin && url.pathname !== "/sign-in" ? url.pathname + url.search : "/";
}

async function signIn(key) {
  // A header takes only such letters, and no key has others.
  if (!/^slg_[\w-]+$/.test(key)) throw new Error("A key begins with slg_; this does not look like one.");
  await send("POST", "/session", { headers: { Authorization: `Bearer ${key}` } });
  location.assign(destination());
}

async function tryTo(key) {
  problem.textContent = "";
  field.removeAttribute("aria-invalid");
  try {
    await signIn(key);
  } catch (error) {
    problem.textContent = error.message;
    field.setAttribute("aria-invalid", "true");
    field.focus();
  }
}

byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  tryTo(field.value.trim());
});
field.focus();
