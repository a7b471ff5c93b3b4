// Prints the size of the client as pages get it, and fails above the budget.
import { brotliCompressSync, gzipSync } from "node:zlib";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { transformSync } from "esbuild";

/** Bytes of the minified client after gzip: growing past this is a decision, not an accident. */
export const BUDGET = 4700;

export function sizes() {
  const raw = readFileSync(new URL("../parley.js", import.meta.url));
  const minified = Buffer.from(transformSync(raw, { minify: true, format: "esm" }).code);
  const gzip = (data) => gzipSync(data, { level: 9 }).length;
  return {
    raw: raw.length,
    "raw, gzip": gzip(raw),
    minified: minified.length,
    "minified, gzip": gzip(minified),
    "minified, brotli": brotliCompressSync(minified).length,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const all = sizes();
  for (const [name, bytes] of Object.entries(all)) console.log(`${name}: ${bytes} bytes`);
  if (all["minified, gzip"] > BUDGET) {
    console.error(`over the budget of ${BUDGET} bytes`);
    process.exitCode = 1;
  }
}
