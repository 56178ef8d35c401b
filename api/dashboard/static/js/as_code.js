// A submission as people would type it.

const INDENT = 2;

/** For a shell. The JSON is in a quoted here-document, so that nothing in it means anything to the shell. */
export function asCurl(body) {
  return [
    `curl -sS --fail-with-body ${location.origin}/v1/jobs \\`,
    `  -H "Authorization: Bearer $SLAEGAN_API_KEY" \\`,
    `  -H 'Content-Type: application/json' --data-binary @- <<'JSON'`,
    JSON.stringify(body, null, INDENT),
    "JSON",
  ].join("\n");
}

/** For the Python client. */
export function asPython(body) {
  return [
    "import os",
    "",
    "from client import SlaeGan",
    "from core.schemas.jobs import JobIn",
    "",
    `with SlaeGan(${JSON.stringify(location.origin)}, os.environ["SLAEGAN_API_KEY"]) as slaegan:`,
    `    job = slaegan.create_job(JobIn.model_validate(${literal(body, 1)}))`,
    `    print(job.id)`,
  ].join("\n");
}

function literal(value, depth) {
  const pad = "    ".repeat(depth + 1);
  const close = "    ".repeat(depth);
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map((item) => literal(item, depth)).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const lines = Object.entries(value).map(([key, item]) => `${pad}${JSON.stringify(key)}: ${literal(item, depth + 1)},`);
  return lines.length ? `{\n${lines.join("\n")}\n${close}}` : "{}";
}
