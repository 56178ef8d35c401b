// Numbers, times and sizes in the reader's own way of writing them.

const locale = navigator.languages;
/** What stands for a value that is not there. */
export const MISSING = "–";
const plain = new Intl.NumberFormat(locale);
const short = new Intl.NumberFormat(locale, { notation: "compact", maximumFractionDigits: 1 });
const share = new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 1 });
const moment = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "short" });
const fixed = new Map();

const isMissing = (value) => value === null || value === undefined || Number.isNaN(value);

/** A count, with the thousands apart. */
export const count = (value) => (isMissing(value) ? MISSING : plain.format(value));

/** A large count in few letters: 1.2M. */
export const compact = (value) => (isMissing(value) ? MISSING : short.format(value));

/** A number of about so many significant digits. */
export function number(value, digits = 3) {
  if (isMissing(value)) return MISSING;
  if (!fixed.has(digits)) fixed.set(digits, new Intl.NumberFormat(locale, { maximumSignificantDigits: digits }));
  return fixed.get(digits).format(value);
}

/** A share between 0 and 1. */
export const percent = (value) => (isMissing(value) ? MISSING : share.format(value));

/** Seconds as 45 s, 12 min, 3 h 05 min or 2 d 4 h. */
export function duration(seconds) {
  if (isMissing(seconds)) return MISSING;
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s < 600 ? `${String(s % 60).padStart(2, "0")} s` : ""}`.trim();
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** Bytes in binary units. */
export function bytes(value) {
  if (isMissing(value)) return MISSING;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, value)) / 10));
  return `${number(value / 1024 ** power, 3)} ${units[power]}`;
}

/** An ISO time as a date and a time. */
export const date = (iso) => (iso ? moment.format(new Date(iso)) : MISSING);

/** An ISO time as a time of the day. */
export const time = (iso) => (iso ? clock.format(new Date(iso)) : MISSING);

/** An ISO time as seen from now: 5 min ago. */
export function ago(iso) {
  if (!iso) return MISSING;
  const s = (new Date(iso) - Date.now()) / 1000;
  for (const [unit, length] of [["day", 86_400], ["hour", 3600], ["minute", 60]]) {
    if (Math.abs(s) >= length) return relative.format(Math.round(s / length), unit);
  }
  return relative.format(Math.round(s), "second");
}

/** The beginning of an id or a hash; the whole of it belongs into a title. */
export const brief = (id) => id.slice(0, 8);

/** What numbers were computed under, in few words: FID of one protocol says nothing about that of another. */
export function protocolName(protocol) {
  if (!protocol) return MISSING;
  const parts = [protocol.extractor, protocol.generated ? `${plain.format(protocol.generated)} pictures` : null];
  return parts.filter(Boolean).join(", ");
}
