// What a form needs to know of a configuration, read from its JSON Schema.
import { count } from "./format.js";

/**
 * The fields of a schema, those of nested objects among them; what can have one value only is left out.
 *
 * @returns {{key: string, path: string[], kind: "switch"|"choice"|"choices"|"integer"|"number"|"text"|"object",
 *   description: string, choices?: any[], isNullable: boolean, low?: number, high?: number, isAboveLow: boolean,
 *   isBelowHigh: boolean, step?: number, pattern?: string}[]}
 */
export function fieldsOf(schema, path = [], definitions = schema.$defs ?? {}) {
  return Object.entries(schema.properties).flatMap(([name, given]) => {
    const here = [...path, name];
    const told = resolved(given, definitions);
    if ("const" in told) return [];
    if (told.properties) return fieldsOf(told, here, definitions);
    return [field(here, told)];
  });
}

function resolved(given, definitions) {
  if (!given.$ref) return given;
  const { $ref, ...own } = given;
  return { ...definitions[$ref.split("/").at(-1)], ...own };
}

function field(path, told) {
  const isNullable = told.anyOf?.some(({ type }) => type === "null") ?? false;
  const type = { ...told, ...told.anyOf?.find((choice) => choice.type !== "null") };
  return {
    key: path.join("."), path, isNullable, kind: kindOf(type), description: told.description ?? "",
    choices: type.enum ?? type.items?.enum,
    low: type.minimum ?? type.exclusiveMinimum, isAboveLow: "exclusiveMinimum" in type,
    high: type.maximum ?? type.exclusiveMaximum, isBelowHigh: "exclusiveMaximum" in type,
    step: type.multipleOf, pattern: type.pattern,
  };
}

function kindOf({ type, enum: choices, items }) {
  if (choices) return "choice";
  if (type === "array") return items?.enum ? "choices" : "object";
  return { boolean: "switch", integer: "integer", number: "number", string: "text" }[type] ?? "object";
}

/** What is wrong with a value by its field's range, in words; empty where nothing is. */
export function wrongOf(field, value) {
  if (value === null) return field.isNullable ? "" : "a value is needed";
  if (field.kind === "text" && field.pattern && !new RegExp(field.pattern).test(value)) return `this must match ${field.pattern}`;
  if (field.kind !== "integer" && field.kind !== "number") return "";
  if (typeof value !== "number" || !Number.isFinite(value)) return "this must be a number";
  if (field.kind === "integer" && !Number.isInteger(value)) return "this must be a whole number";
  if (field.step && value % field.step) return `this must be a multiple of ${field.step}`;
  const isLow = field.low !== undefined && (field.isAboveLow ? value <= field.low : value < field.low);
  const isHigh = field.high !== undefined && (field.isBelowHigh ? value >= field.high : value > field.high);
  return isLow || isHigh ? `this must be ${rangeOf(field)}` : "";
}

/** `2 to 256`, `above 0, at most 1`; empty where there is no range. */
export function rangeOf({ low, high, isAboveLow, isBelowHigh }) {
  if (low !== undefined && high !== undefined && !isAboveLow && !isBelowHigh) return `${shown(low)} to ${shown(high)}`;
  const parts = [
    low === undefined ? null : `${isAboveLow ? "above" : "at least"} ${shown(low)}`,
    high === undefined ? null : `${isBelowHigh ? "below" : "at most"} ${shown(high)}`,
  ];
  return parts.filter(Boolean).join(", ");
}

const shown = (bound) => (Number.isInteger(bound) ? count(bound) : String(bound));

const NAMES = { ada: "ADA", apa: "APA", ema: "EMA", insgen: "InsGen", kid: "KID", lecam: "LeCam", lpips: "LPIPS", r1: "R1", sha256: "SHA-256" };

/** `total_images` as people write it, with the names of methods as their papers have them. */
export function words(name) {
  const text = name.split("_").map((word) => NAMES[word] ?? word).join(" ");
  return text[0].toUpperCase() + text.slice(1);
}
