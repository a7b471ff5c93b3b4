// Prints the size of the modules as pages get them, and fails above the budget.
import { brotliCompressSync, gzipSync } from "node:zlib";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { transformSync } from "esbuild";

/** Bytes after minification and gzip, without what a module imports: growing past this is a decision, not an accident. */
export const BUDGETS = { "parley.js": 5100, "inbox.js": 1536, "react.js": 1024, "react-inbox.js": 560 };

export function sizes(name) {
  const raw = readFileSync(new URL(`../${name}`, import.meta.url));
  const minified = Buffer.from(transformSync(raw, { minify: true, format: "esm" }).code);
  const gzip = (data) => gzipSync(data, { level: 9 }).length;
  return {
    "minified, gzip": gzip(minified),
    "minified, brotli": brotliCompressSync(minified).length,
    minified: minified.length,
    "as served, gzip": gzip(raw),
    "as served": raw.length,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, budget] of Object.entries(BUDGETS)) {
    const all = sizes(name);
    console.log(`${name}: ${Object.entries(all).map(([what, bytes]) => `${what} ${bytes}`).join("; ")} bytes`);
    if (all["minified, gzip"] > budget) {
      console.error(`${name} is over its budget of ${budget} bytes`);
      process.exitCode = 1;
    }
  }
}
