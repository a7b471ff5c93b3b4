// What is published: types that hold, an API that is the one of the types, a size that stays small.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { connect } from "../parley.js";
import * as all from "../parley.js";
import { FakeSocket } from "./harness.js";
import { BUDGET, sizes } from "./size.js";

const path = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url));
const read = (name) => readFileSync(path(name), "utf8");

test("a page compiles against parley.d.ts", () => {
  try {
    execFileSync(process.execPath, [path("node_modules/typescript/bin/tsc"), "-p", path("test/types")], { encoding: "utf8" });
  } catch (e) {
    assert.fail(e.stdout || e.message);
  }
});

test("the types name what there is", () => {
  assert.deepEqual(Object.keys(all), ["connect"]);
  const types = read("parley.d.ts");
  const client = connect("ws://a.test", { WebSocket: FakeSocket });
  const room = client.join("r");
  for (const [name, object] of [["Client", client], ["Room", room]]) {
    const body = types.match(new RegExp(`export interface ${name}\\b[^{]*\\{([\\s\\S]*?)\\n\\}`))[1];
    const declared = [...body.matchAll(/^ {2}(?:readonly )?(\w+)[(:<]/gm)].map((m) => m[1]).sort();
    const optional = name === "Client" ? ["closeCode", "username"] : []; // not there yet
    const there = [...Object.getOwnPropertyNames(object), ...optional];
    assert.deepEqual(declared, there.sort(), name);
  }
  client.close();
});

test("the module needs nothing and hides nothing", () => {
  const code = read("parley.js");
  assert.doesNotMatch(code, /^import\b|\bimport\(|\brequire\(|\beval\b|new Function|innerHTML|document\.write/m);
  const pkg = JSON.parse(read("package.json"));
  assert.equal(pkg.dependencies, undefined);
  for (const [name, version] of Object.entries(pkg.devDependencies)) assert.match(version, /^\d+\.\d+\.\d+$/, name);
  for (const file of [...pkg.files, pkg.exports["."].types, pkg.exports["."].default]) read(file);
});

test("the lock names no registry", () => {
  const lock = JSON.parse(read("package-lock.json"));
  for (const [name, p] of Object.entries(lock.packages)) assert.equal(p.resolved, undefined, name);
});

test(`at most ${BUDGET} bytes, minified and gzipped`, () => {
  const all = sizes();
  assert.ok(all["minified, gzip"] <= BUDGET, JSON.stringify(all));
});
