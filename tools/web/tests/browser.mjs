// Chromium, and a server for the page's folder.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".json": "application/json", ".wasm": "application/wasm" };

/** Serves folders by their prefixes; returns the address, what was asked for, and how to stop. */
export async function serve(folders) {
  const asked = [];
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
    asked.push(path);
    const prefix = Object.keys(folders).find((each) => path.startsWith(each));
    const name = path.endsWith("/") ? `${path}index.html` : path;
    try {
      const body = await readFile(join(folders[prefix], name.slice(prefix.length)));
      response.writeHead(200, { "content-type": TYPES[extname(name)] ?? "application/octet-stream" }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, asked, stop: () => new Promise((resolve) => server.close(resolve)) };
}

/** Starts Chromium without a window. OFFSHOOT_NPM holds playwright-core, OFFSHOOT_CHROMIUM names the program. */
export async function chromium() {
  const { chromium } = createRequire(`${process.env.OFFSHOOT_NPM}/`)("playwright-core");
  return chromium.launch({ executablePath: process.env.OFFSHOOT_CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
}
