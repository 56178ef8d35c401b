// Files that somebody chose or dropped, folders included, and how to know them again.

const encoder = new TextEncoder();
const HIDDEN = /(^|\/)(\.|__MACOSX\/|Thumbs\.db$|desktop\.ini$)/;
const ARCHIVE = /\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz))$/i;

/** Of an `input type=file`, with or without folders: [{path, file}]. */
export const ofInput = (input) =>
  ordered(Array.from(input.files, (file) => ({ path: file.webkitRelativePath || file.name, file })));

/** Of what was dropped: [{path, file}]; the entries must be asked for before the event is over. */
export async function ofDrop(transfer) {
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry?.()).filter(Boolean);
  return ordered((await Promise.all(entries.map(walked))).flat());
}

async function walked(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ path: entry.fullPath.replace(/^\//, ""), file }];
  }
  const found = [];
  const reader = entry.createReader();
  for (;;) {
    // A reader tells a hundred entries at a time, and an empty list at the end.
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return found;
    found.push(...(await Promise.all(entries.map(walked))).flat());
  }
}

/** Without what systems hide in folders, and always in the same order. */
function ordered(files) {
  const kept = files.filter(({ path }) => !HIDDEN.test(path));
  return kept.sort((one, other) => (one.path < other.path ? -1 : Number(one.path > other.path)));
}

/** Those that are archives by their names; the service looks at their bytes. */
export const archivesOf = (files) => files.filter(({ path }) => ARCHIVE.test(path));

/** Whether any lies in a folder, which may be its class. */
export const haveFolders = (files) => files.some(({ path }) => path.includes("/"));

export const sizeOf = (files) => files.reduce((sum, { file }) => sum + file.size, 0);

/** What a dataset of these would be called: the folder that all are in, or the first file without its suffix. */
export function titleOf(files) {
  const first = files[0].path;
  const folder = first.includes("/") ? first.slice(0, first.indexOf("/") + 1) : "";
  if (folder && files.every(({ path }) => path.startsWith(folder))) return folder.slice(0, -1);
  return files.length === 1 ? first.replace(/^.*\//, "").replace(/(\.tar)?\.\w+$/, "") : "";
}

/** The same for the same files, picked again: a hash (FNV-1a, 64 bits) of their paths, sizes and times. */
export function fingerprintOf(files) {
  const told = files.map(({ path, file }) => `${path}\0${file.size}\0${file.lastModified}`).join("\n");
  let hash = 0xcbf29ce484222325n;
  for (const byte of encoder.encode(told)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return `${files.length}-${sizeOf(files)}-${hash.toString(16)}`;
}
