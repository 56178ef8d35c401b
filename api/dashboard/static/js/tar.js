// Many files as one: a tar archive (POSIX ustar, with pax headers where a name needs one) that copies none of them.

const BLOCK = 512;
const MOST_NAME_BYTES = 100;
const encoder = new TextEncoder();

/**
 * An archive of files, in their order. The Blob refers to the files: a gigabyte of pictures takes no memory, and the
 * same files give the same bytes again.
 *
 * @param {{path: string, file: File}[]} files
 * @returns {Blob}
 */
export function archive(files) {
  const parts = [];
  for (const { path, file } of files) {
    const name = encoder.encode(path);
    // Beyond ASCII and a hundred bytes a name goes into a header of its own, as every tar reads it.
    if (name.length > MOST_NAME_BYTES || name.length !== path.length) {
      const record = paxRecord("path", path);
      parts.push(header({ name: encoder.encode("pax"), size: record.length, type: "x" }), record, padding(record.length));
    }
    const seconds = Math.max(0, Math.floor(file.lastModified / 1000));
    parts.push(header({ name: name.slice(0, MOST_NAME_BYTES), size: file.size, seconds }), file, padding(file.size));
  }
  parts.push(new Uint8Array(2 * BLOCK));
  return new Blob(parts, { type: "application/x-tar" });
}

function header({ name, size, seconds = 0, type = "0" }) {
  const block = new Uint8Array(BLOCK);
  const put = (text, at) => block.set(encoder.encode(text), at);
  const octal = (value, digits) => value.toString(8).padStart(digits, "0");
  block.set(name, 0);
  put("0000644\0", 100);
  put("0000000\0", 108);
  put("0000000\0", 116);
  put(`${octal(size, 11)}\0`, 124);
  put(`${octal(seconds, 11)}\0`, 136);
  put("        ", 148); // The checksum counts its own field as blanks.
  put(type, 156);
  put("ustar\0" + "00", 257);
  put(`${octal(block.reduce((sum, byte) => sum + byte, 0), 6)}\0 `, 148);
  return block;
}

/** `<length> <key>=<value>\n`, where the length counts itself. */
function paxRecord(key, value) {
  const rest = encoder.encode(` ${key}=${value}\n`).length;
  let length = rest + String(rest).length;
  length = rest + String(length).length;
  return encoder.encode(`${length} ${key}=${value}\n`);
}

const padding = (size) => new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);
