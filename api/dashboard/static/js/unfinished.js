// Uploads that were begun in this browser and are not over: after a reload they go on where they were.

const KEY = "uploads";

/** All of them: [{address, fingerprint, filename, size, name, labels, versionOf}]. */
export function unfinished() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter((entry) => /^\/v1\/uploads\/[0-9a-f-]{36}$/.test(entry?.address)) : [];
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return []; // Somebody else wrote there.
  }
}

export function keep(entry) {
  write([...unfinished().filter(({ address }) => address !== entry.address), entry]);
}

export function forget(entry) {
  write(unfinished().filter(({ address }) => address !== entry.address));
}

const write = (entries) => localStorage.setItem(KEY, JSON.stringify(entries));
