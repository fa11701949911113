// The command line, whose bytes are what a page must give.

import { execFileSync } from "node:child_process";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readNpy, writeNpy } from "../site/npy.js";

/** The repository. */
export const root = fileURLToPath(new URL("../../../", import.meta.url));

/** The folder of the public data sets. */
export const publicData = process.env.OFFSHOOT_DATA ?? join(root, "../shared/data");

/** Says that a test cannot run here, where test.sh counts it. */
export function skip(test, reason) {
  if (process.env.OFFSHOOT_SKIPPED) appendFileSync(process.env.OFFSHOOT_SKIPPED, `scripts/web.sh: ${reason}\n`);
  test.skip(reason);
}

/** Bytes of a file of the repository. */
export const file = (path) => new Uint8Array(readFileSync(join(root, path)));

/** A folder that is removed when the process ends. */
export const folder = mkdtempSync(join(tmpdir(), "offshoot-web-"));
process.on("exit", () => rmSync(folder, { recursive: true }));

/** Writes a file to the folder and returns its path. */
export function put(name, bytes) {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** Samples as the command line reads them. */
export const putArray = (name, data, shape) => put(name, writeNpy(data, shape));

/** A file that the command line wrote. */
export const got = (name) => new Uint8Array(readFileSync(join(folder, name)));

/** An array that the command line wrote. */
export const gotArray = (name) => readNpy(got(name));

/** Runs the command line in the folder; returns its report. */
export function offshoot(...args) {
  const program = process.env.OFFSHOOT ?? join(root, "target/debug/offshoot");
  return JSON.parse(execFileSync(program, [...args, "--json"], { cwd: folder, stdio: ["ignore", "pipe", "pipe"] }));
}
