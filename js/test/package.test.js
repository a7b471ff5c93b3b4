// What is published: these files and no others, types that hold, an API that is the one of the types, a size that stays
// small. That the hub serves the same file is checked by TestClientJSIsThePublishedFile (clientjs_test.go).
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import * as core from "@parley-go/client";
import * as inbox from "@parley-go/client/inbox";
import * as react from "@parley-go/client/react";
import * as reactInbox from "@parley-go/client/react-inbox";
import { FakeSocket } from "./harness.js";
import { BUDGETS, sizes } from "./size.js";

const path = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url));
const read = (name) => readFileSync(path(name), "utf8");
const pkg = JSON.parse(read("package.json"));

/** Runs a command of a development dependency, or of npm; what it prints is the message of the failure. */
function run(command, ...args) {
  const bin = command === "npm" ? command : path(`node_modules/.bin/${command}`);
  try {
    return execFileSync(bin, args, { encoding: "utf8", cwd: path("."), stdio: ["ignore", "pipe", "pipe"] });
  } catch (e) {
    assert.fail(`${command}: ${e.stdout}${e.stderr || e.message}`);
  }
}

const FILES = [
  "LICENSE", "README.md", "inbox.d.ts", "inbox.js", "package.json", "parley.d.ts", "parley.js", "react-inbox.d.ts", "react-inbox.js",
  "react.d.ts", "react.js",
];

describe("the package", () => {
  test("holds these files, as they are here", () => {
    const folder = mkdtempSync(join(tmpdir(), "parley-pack-"));
    try {
      const [{ filename, files, name, version }] = JSON.parse(run("npm", "pack", "--json", "--pack-destination", folder));
      assert.deepEqual(files.map((f) => f.path).sort(), FILES);
      assert.deepEqual([name, version], [pkg.name, pkg.version]);
      execFileSync("tar", ["-xzf", join(folder, filename), "-C", folder]);
      for (const file of FILES) {
        assert.equal(readFileSync(join(folder, "package", file), "utf8"), read(file), file);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("says what is in it: entry points with their types first, no dependency, nothing to run at installation", () => {
    for (const [entry, target] of Object.entries(pkg.exports)) {
      if (entry === "./package.json") continue;
      assert.deepEqual(Object.keys(target), ["types", "default"], entry);
      for (const file of Object.values(target)) assert.ok(FILES.includes(file.slice(2)), file);
    }
    assert.equal(pkg.type, "module");
    assert.equal(pkg.sideEffects, false);
    assert.equal(pkg.dependencies, undefined);
    assert.deepEqual(Object.keys(pkg.peerDependencies), Object.keys(pkg.peerDependenciesMeta));
    assert.ok(Object.values(pkg.peerDependenciesMeta).every((p) => p.optional));
    assert.deepEqual(pkg.publishConfig, { access: "public", provenance: true });
    for (const hook of ["preinstall", "install", "postinstall", "prepare", "prepack"]) assert.equal(pkg.scripts[hook], undefined);
    for (const [name, version] of Object.entries(pkg.devDependencies)) assert.match(version, /^\d+\.\d+\.\d+$/, name);
    assert.equal(read("LICENSE"), readFileSync(path("../LICENSE"), "utf8"));
  });

  test("the lock names no registry", () => {
    const lock = JSON.parse(read("package-lock.json"));
    for (const [name, p] of Object.entries(lock.packages)) assert.equal(p.resolved, undefined, name);
  });

  test("passes the checks of those who look at packages", () => {
    run("publint", "--strict");
    run("attw", "--pack", ".", "--profile", "esm-only");
  });
});

describe("the modules", () => {
  test("need nothing but what they say, and hide nothing", () => {
    for (const [file, imports] of [["parley.js", []], ["inbox.js", []], ["react.js", ["react"]], ["react-inbox.js", ["react", "./inbox.js"]]]) {
      const code = read(file);
      assert.deepEqual([...code.matchAll(/^import .* from "([^"]+)"/gm)].map((m) => m[1]), imports);
      assert.doesNotMatch(code, /\bimport\(|\brequire\(|\beval\b|new Function|innerHTML|document\.write/);
    }
  });

  for (const [name, budget] of Object.entries(BUDGETS)) {
    test(`${name}: at most ${budget} bytes, minified and gzipped`, () => {
      const all = sizes(name);
      assert.ok(all["minified, gzip"] <= budget, JSON.stringify(all));
    });
  }
});

describe("the types", () => {
  test("let a page be compiled, by each way of finding modules", () => {
    run("tsc", "-p", "test/types");
    run("tsc", "-p", "test/types/tsconfig.bundler.json");
  });

  test("name what there is", () => {
    assert.deepEqual(Object.keys(core), ["connect"]);
    for (const [file, module] of [["inbox.d.ts", inbox], ["react.d.ts", react], ["react-inbox.d.ts", reactInbox]]) {
      const exported = [...read(file).matchAll(/^export function (\w+)/gm)].map((m) => m[1]);
      assert.deepEqual(Object.keys(module).sort(), [...new Set(exported)].sort());
    }
    const types = read("parley.d.ts") + read("inbox.d.ts");
    const client = core.connect("ws://a.test", { WebSocket: FakeSocket });
    const room = client.join("r");
    client.close();
    const box = inbox.openInbox(client);
    const later = { Client: ["closeCode", "username"], Room: [], Inbox: [] }; // they are set when they are known
    for (const [name, object] of [["Client", client], ["Room", room], ["Inbox", box]]) {
      const body = types.match(new RegExp(`export interface ${name}\\b[^{]*\\{([\\s\\S]*?)\\n\\}`))[1];
      const declared = [...body.matchAll(/^ {2}(?:readonly )?(\w+)[(:<]/gm)].map((m) => m[1]);
      assert.deepEqual([...new Set(declared)].sort(), [...new Set([...Object.getOwnPropertyNames(object), ...later[name]])].sort(), name);
    }
  });

  test("name every event that is told", () => {
    const code = read("parley.js");
    const table = code.slice(code.indexOf("const types = {"), code.indexOf("/** The known and well-typed"));
    const told = new Set([...code.matchAll(/\bemit\("(\w+)"/g)].map((m) => m[1]));
    for (const [, type] of table.matchAll(/^ {4}(\w+): \[(?:live|personal|deliver|broadcast|history),/gm)) told.add(type);
    for (const type of ["bye", "left"]) told.add(type);
    const types = read("parley.d.ts");
    const declared = ["ClientEvents", "RoomEvents"].flatMap((name) => {
      const body = types.match(new RegExp(`export interface ${name}\\b[^{]*\\{([\\s\\S]*?)\\n\\}`))[1];
      return [...body.matchAll(/^ {2}(\w+):/gm)].map((m) => m[1]);
    });
    assert.deepEqual([...new Set(declared)].sort(), [...told].sort());
  });
});
