// Builds the page: node tools/web/build.mjs PACKAGE PAGE, with the command line in OFFSHOOT. The page's network is the shipped one for glyphs
// with a classifier head that has learned the ten symbols from the calibration samples, and room for more classes.

import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { readNpy, writeNpy } from "./site/npy.js";

/** Classes that the page may add. */
const ROOM = 6;
const PLAN = `layers = []
head = { kind = "lda", features = "last", new_classes = ${ROOM} }
`;

const [packageFolder, page] = process.argv.slice(2).map((path) => resolve(path));
if (page === undefined) throw new Error("usage: node tools/web/build.mjs PACKAGE PAGE");
const here = fileURLToPath(new URL(".", import.meta.url));
const glyphs = join(here, "../../models/glyphs");
const work = mkdtempSync(join(tmpdir(), "offshoot-page-"));
const offshoot = (...args) => execFileSync(process.env.OFFSHOOT ?? "offshoot", [...args, "--json"], { cwd: work, stdio: ["ignore", "pipe", "inherit"] });

try {
  rmSync(page, { recursive: true, force: true });
  mkdirSync(join(page, "data"), { recursive: true });
  cpSync(join(here, "site"), page, { recursive: true });
  for (const name of ["offshoot.js", "network.js", "module.js", "offshoot-files.wasm"]) cpSync(join(packageFolder, name), join(page, "runtime", name));

  writeFileSync(join(work, "plan.toml"), PLAN);
  const samples = join(glyphs, "calibration_x.npy");
  const classes = classNames(readFileSync(join(glyphs, "card.toml"), "utf8"));
  // Sample i of the generator has class i modulo their number (tools/data/src/synth.rs).
  const count = readNpy(new Uint8Array(readFileSync(samples))).shape[0];
  writeFileSync(join(work, "y.npy"), writeNpy(Uint8Array.from({ length: count }, (_, i) => i % classes.length), [count]));
  const test = ["test_x.npy", "test_y.npy"].map((name) => join(glyphs, name));
  const compile = (name, ...options) => {
    const report = offshoot("compile", join(glyphs, "model.onnx"), "-o", `${name}.off`, "--calib", samples, ...options);
    return { name: `glyphs ${name}`, report: JSON.parse(report) };
  };
  compile("learning", "--learn", "plan.toml");
  offshoot("learn", "learning.off", "--train", samples, "y.npy", "--test", ...test, "-o", join(page, "data/glyphs.off"));
  test.forEach((path) => cpSync(path, join(page, "data", path.split("/").at(-1))));
  const examples = ["balanced", "speed", "flash"].map((prefer) => compile(`for ${prefer}`, "--prefer", prefer));
  writeFileSync(join(page, "data/examples.json"), JSON.stringify(examples));
  writeFileSync(join(page, "data/glyphs.json"), JSON.stringify({ classes, room: ROOM, paper: 182, ink: 86 }));
  writeWorker();
} finally {
  rmSync(work, { recursive: true });
}

/** The names of the classes on the model's card. */
function classNames(card) {
  const list = /^classes = (\[.*\])$/m.exec(card)?.[1];
  if (list === undefined) throw new Error("the model's card has no classes");
  return JSON.parse(list);
}

/** The service worker, with the names of all files and a version that changes with their bytes. */
function writeWorker() {
  const files = readdirSync(page, { recursive: true }).filter((name) => statSync(join(page, name)).isFile() && name !== "sw.js");
  files.sort();
  const hash = createHash("sha256");
  files.forEach((name) => hash.update(name).update(readFileSync(join(page, name))));
  const worker = readFileSync(join(page, "sw.js"), "utf8")
    .replace('"VERSION"', JSON.stringify(hash.digest("hex").slice(0, 16)))
    .replace('["FILES"]', JSON.stringify(["./", ...files]));
  writeFileSync(join(page, "sw.js"), worker);
  const bytes = files.reduce((sum, name) => sum + statSync(join(page, name)).size, 0);
  console.log(`web: ${relative(process.cwd(), page)}: ${files.length} files, ${bytes} bytes`);
}
