// What every signed-in page has: whose key it is, the theme, the way out.
import { leave, request } from "./api.js";

const THEMES = { system: "Theme: system", dark: "Theme: dark", light: "Theme: light" };
const root = document.documentElement;
const otherTabs = new BroadcastChannel("session");

function showTheme() {
  const button = document.getElementById("theme");
  const theme = root.dataset.theme ?? "system";
  button.textContent = { system: "◐", dark: "●", light: "○" }[theme];
  button.title = THEMES[theme];
  button.setAttribute("aria-label", THEMES[theme]);
}

function nextTheme() {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(root.dataset.theme ?? "system") + 1) % names.length];
  if (next === "system") {
    delete root.dataset.theme;
    localStorage.removeItem("theme");
  } else {
    root.dataset.theme = next;
    localStorage.setItem("theme", next);
  }
  showTheme();
  document.dispatchEvent(new Event("themechange"));
}

async function signOut() {
  await request("DELETE", "/session");
  otherTabs.postMessage("signed out");
  location.assign("/sign-in");
}

async function showWhose() {
  const key = await request("GET", "/v1/keys/current");
  const place = document.getElementById("whose");
  place.textContent = `${key.tenant} · ${key.name}`;
  place.title = `Tenant ${key.tenant}, key ${key.name}, which may: ${key.scopes.join(", ")}`;
}

function markPage() {
  const first = location.pathname.split("/")[1];
  const area = first === "jobs" ? "/" : `/${first}`;
  for (const link of document.querySelectorAll("header nav a")) {
    if (link.pathname === area) link.setAttribute("aria-current", "page");
  }
}

markPage();
showTheme();
document.getElementById("theme").addEventListener("click", nextTheme);
document.getElementById("sign-out").addEventListener("click", signOut);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  document.dispatchEvent(new Event("themechange")));
// Another tab was signed out: this one has no session any more, and shows nothing of it.
otherTabs.addEventListener("message", leave);
showWhose().catch((error) => {
  document.getElementById("whose").textContent = error.message;
});
