// What both browser scripts share: Chromium, a line per check, and a record of everything the page should not have done.
import { mkdtemp, mkdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export class Checks {
  #numPassed = 0;
  #numFailed = 0;

  /** Runs one check; a failure is printed and counted, and the next check goes on. */
  async that(name, check) {
    try {
      await check();
      this.#numPassed += 1;
      console.log(`ok      ${name}`);
    } catch (error) {
      this.#numFailed += 1;
      console.log(`FAILED  ${name}\n        ${String(error.message ?? error).split("\n").slice(0, 12).join("\n        ")}`);
    }
  }

  /** Prints the sum and gives the exit status. */
  finish() {
    console.log(`${this.#numPassed} passed, ${this.#numFailed} failed`);
    return this.#numFailed === 0 ? 0 : 1;
  }
}

/** A browser with a profile of its own, which goes away with it. */
export async function launch(options = {}) {
  const profile = await mkdtemp(join(tmpdir(), "inglenook-browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: FLAGS,
    viewport: { width: 1280, height: 860 },
    colorScheme: "light",
    acceptDownloads: true,
    ...options,
  });
  const page = context.pages()[0] ?? (await context.newPage());
  const close = async () => {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  };
  return { context, page, close };
}

/** Console errors, uncaught exceptions and requests to other origins, as they happen. */
export function watch(page, origin) {
  const seen = { errors: [], foreign: [] };
  page.on("console", (message) => {
    if (message.type() === "error") seen.errors.push(`${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (["http:", "https:", "ws:", "wss:"].includes(url.protocol) && url.origin !== origin) seen.foreign.push(request.url());
  });
  return seen;
}

/** Saves a screenshot when SCREENSHOT_DIR is set. */
export async function screenshot(page, name) {
  const folder = process.env.SCREENSHOT_DIR;
  if (!folder) return;
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`) });
}

export function equal(actual, expected, what) {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: expected ${b}, got ${a}`);
}

export function holds(condition, what) {
  if (!condition) throw new Error(what);
}
