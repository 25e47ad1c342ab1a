// One reader's visit to a running Inglenook: add documents, ask, open the passage, remove what was added.
// Changes nothing on the server that it did not add itself. BASE_URL says where the server is.
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { equal, holds, launch, screenshot, watch, Checks } from "./checks.mjs";

const base = new URL(process.env.BASE_URL ?? "http://127.0.0.1:8080");
const patience = 1000 * Number(process.env.TIMEOUT_S ?? 180);

// Names are new in every run, so that two runs against one server do not meet.
const run = Date.now().toString(36);
const LIGHTHOUSE = `lighthouse-${run}.md`;
const SAMPLES = {
  [LIGHTHOUSE]: [
    "# Grauholm lighthouse\n\nThe lighthouse on Grauholm was built in 1874 from granite that came by barge. Its tower is 41 metres high and has 212 steps.\n",
    "## The keeper\n\nThe keeper of the lighthouse is called Maren Tolvsen. She winds the clockwork every evening at a quarter past six and writes the weather in a blue book – even when the fog is thick.\n",
    "## Visitors\n\nVisitors are welcome on the first Sunday of every month between May and September. The ferry leaves from the old fish hall at nine o'clock and costs 14 crowns.\n",
  ].join("\n"),
  [`bees-${run}.txt`]: "The hives behind the orchard are numbered from one to nine.\nHive seven swarmed on the second of June.\n",
  [`tram-${run}.html`]: "<!doctype html><title>Tram</title><main><h1>Tram line 5</h1><p>The tram on line 5 runs every twelve minutes and ends at the botanical garden.</p></main>",
};
const QUESTION = "What is the name of the keeper of the lighthouse?";

const isOwnFolder = !process.env.SAMPLE_DIR;
const folder = process.env.SAMPLE_DIR ?? (await mkdtemp(join(tmpdir(), "inglenook-samples-")));
await mkdir(folder, { recursive: true });
for (const [name, text] of Object.entries(SAMPLES)) await writeFile(join(folder, name), text);

const checks = new Checks();
const { page, close } = await launch();
page.setDefaultTimeout(30_000);
const seen = watch(page, base.origin);
const row = (name) => page.locator(".document", { hasText: name });
const turn = () => page.locator(".turn").last();

/** A server that wants a key refuses first; the browser notes that on the console, and it is no fault of the page. */
const key = process.env.INGLENOOK_API_KEY ?? null;

async function open() {
  await page.goto(base.href);
  const shown = await page.waitForSelector("body[data-ready], #api-key, #failure:not([hidden])", { state: "attached" });
  if ((await shown.getAttribute("id")) === "api-key") {
    holds(key !== null, "the server wants a key: set INGLENOOK_API_KEY");
    await page.fill("#api-key", key);
    await page.keyboard.press("Enter");
    await page.waitForSelector("body[data-ready]");
  }
  holds(await page.isHidden("#failure"), await page.textContent("#failure"));
}

await checks.that("the page is served with a strict content security policy", async () => {
  const served = await fetch(base, { headers: { accept: "text/html" } });
  const policy = served.headers.get("content-security-policy") ?? "";
  holds(/default-src 'self'/.test(policy), `the policy is "${policy}"`);
  holds(!/unsafe-|https?:|\*/.test(policy), `the policy allows too much: "${policy}"`);
});

await checks.that("the page opens and names its models", async () => {
  await open();
  holds((await page.textContent("#status")).includes("chat"), "no status line");
  await screenshot(page, "1-open");
});

await checks.that("Markdown, text and HTML are uploaded and read", async () => {
  await page.setInputFiles("#file-input", Object.keys(SAMPLES).map((name) => join(folder, name)));
  for (const name of Object.keys(SAMPLES)) {
    await row(name).locator("xpath=self::*[@data-phase='ready' or @data-phase='failed']").waitFor({ timeout: patience });
    equal(await row(name).getAttribute("data-phase"), "ready", `${name} (${await row(name).locator(".problem").textContent()})`);
  }
  await screenshot(page, "2-ready");
});

await checks.that("the documents are still there after a reload", async () => {
  await open();
  for (const name of Object.keys(SAMPLES)) await row(name).waitFor();
});

await checks.that("a question to one document gets a streamed answer", async () => {
  for (const box of await page.locator(".document[data-phase=ready] > input").all()) await box.uncheck();
  await page.check(`[aria-label="Ask ${LIGHTHOUSE}"]`);
  holds((await page.textContent("#scope")).startsWith("Asking "), "nothing is chosen");
  const answered = page.waitForResponse((response) => response.url().endsWith("/v1/responses"));
  await page.fill("#question", QUESTION);
  await page.press("#question", "Enter");
  holds(/^text\/event-stream/.test((await answered).headers()["content-type"]), "the answer is no event stream");
  await page.waitForSelector('.turn:last-child[aria-busy="false"]', { timeout: patience });
  const phase = await turn().getAttribute("data-phase");
  holds(["completed", "incomplete"].includes(phase), `the answer ${phase}: ${await turn().locator(".note").textContent()}`);
  holds((await turn().locator(".prose").textContent()).trim() !== "", "the answer is empty");
  await screenshot(page, "3-answer");
});

await checks.that("every source is the document that was asked", async () => {
  const names = await turn().locator(".sources .name").allTextContents();
  holds(names.length > 0, "the answer has no sources");
  equal([...new Set(names)], [LIGHTHOUSE], "sources");
});

/** Opens a passage and holds it against the file that was uploaded. */
async function checkPassage(opener, name) {
  await opener.click();
  await page.waitForSelector(".passage mark");
  const mark = await page.textContent(".passage mark");
  holds(mark.trim() !== "", "the highlighted span is empty");
  holds(SAMPLES[LIGHTHOUSE].includes(mark), `the highlighted span is not in the uploaded file: ${JSON.stringify(mark)}`);
  equal(await page.textContent("#passage-title"), LIGHTHOUSE, "document");
  await screenshot(page, name);
}

await checks.that("a source opens its passage, highlighted as it stands in the file", async () => {
  await checkPassage(turn().locator(".sources button").first(), "4-source");
});

await checks.that("the original comes back byte for byte", async () => {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("text=Download the original")]);
  const chunks = [];
  for await (const chunk of await download.createReadStream()) chunks.push(chunk);
  equal(Buffer.concat(chunks).toString(), SAMPLES[LIGHTHOUSE], "content");
});

await checks.that("Escape closes the passage and gives the focus back", async () => {
  await page.keyboard.press("Escape");
  await page.waitForSelector("#passage", { state: "hidden" });
  await page.waitForFunction(() => document.activeElement.closest(".sources") !== null);
});

// A small model does not always cite; when it does, the citation must hold.
const numCitations = await turn().locator(".citation").count();
for (let at = 0; at < numCitations; at += 1) {
  await checks.that(`citation ${at + 1} of ${numCitations} opens its very words in the file`, async () => {
    await checkPassage(turn().locator(".citation").nth(at), `5-citation-${at + 1}`);
    await page.keyboard.press("Escape");
  });
}

await checks.that("the chosen document is summarized in its own sentences", async () => {
  await page.selectOption("#answerer", { label: "Quote the documents" });
  await page.click("#summarize");
  await page.waitForSelector('.turn:nth-child(2)[aria-busy="false"]', { timeout: patience });
  equal(await turn().getAttribute("data-phase"), "completed", `phase (${await turn().locator(".note").textContent()})`);
  holds(/Central sentences of \d+ passages? in 1 document/.test(await turn().locator(".note").textContent()), "what it is made of is not said");
  holds((await turn().locator(".citation").count()) > 0, "the summary cites nothing");
  await screenshot(page, "5-summary");
  await checkPassage(turn().locator(".citation").first(), "5-summary-passage");
});

await checks.that("marked words alone are asked", async () => {
  const marked = await page.textContent(".passage mark");
  await page.evaluate(() => getSelection().selectAllChildren(document.querySelector(".passage mark")));
  await page.click("#passage-ask");
  equal(await page.textContent("#scope"), "Asking the marked words alone", "scope");
  await page.fill("#question", marked);
  await page.press("#question", "Enter");
  await page.waitForSelector('.turn:nth-child(3)[aria-busy="false"]', { timeout: patience });
  equal(await turn().getAttribute("data-phase"), "completed", `phase (${await turn().locator(".note").textContent()})`);
  await screenshot(page, "5-marked");
  await page.getByRole("button", { name: "Ask all documents again" }).click();
});

await checks.that("the same file again is not kept twice, and another of its name takes its place", async () => {
  const numFiles = async () => (await (await fetch(new URL("v1/files", base), { headers: key ? { authorization: `Bearer ${key}` } : {} })).json()).data.length;
  const before = await numFiles();
  await page.setInputFiles("#file-input", join(folder, LIGHTHOUSE));
  await page.waitForSelector(`text=${LIGHTHOUSE} is there already, and has not changed.`);
  equal(await numFiles(), before, "files on the server");
  const changed = SAMPLES[LIGHTHOUSE].replace("Maren Tolvsen", "Ilse Brandt");
  await page.setInputFiles("#file-input", { name: LIGHTHOUSE, mimeType: "text/markdown", buffer: Buffer.from(changed) });
  await page.waitForFunction((name) => document.querySelectorAll(`.document [title="${name}"]`).length === 1, LIGHTHOUSE, { timeout: patience });
  equal(await row(LIGHTHOUSE).count(), 1, "rows");
  SAMPLES[LIGHTHOUSE] = changed;
});

await checks.that("at 360 pixels the page does not scroll sideways", async () => {
  await page.setViewportSize({ width: 360, height: 740 });
  equal(await page.evaluate(() => document.documentElement.scrollWidth), 360, "width");
  await screenshot(page, "6-narrow");
  await page.setViewportSize({ width: 1280, height: 860 });
});

await checks.that("a removed document is gone from the list and from the server", async () => {
  for (const name of Object.keys(SAMPLES)) {
    await page.getByRole("button", { name: `Remove ${name}` }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
    await row(name).waitFor({ state: "detached" });
  }
  await open();
  equal(await row(run).count(), 0, "documents left after a reload");
});

await checks.that("the pages of the API show every operation", async () => {
  const { paths } = await (await fetch(new URL("openapi.json", base))).json();
  const numOperations = Object.values(paths).flatMap((item) => Object.keys(item)).length;
  await page.goto(new URL("docs", base).href);
  await page.locator(".opblock").first().waitFor();
  equal(await page.locator(".opblock").count(), numOperations, "operations");
  await screenshot(page, "7-docs");
  await page.locator(".opblock-summary-control", { hasText: "/v1/chat/completions" }).first().click();
  await page.locator(".opblock.is-open .opblock-description-wrapper, .opblock.is-open .responses-wrapper").first().waitFor();
  await screenshot(page, "8-docs-operation");
});

await checks.that("nothing was asked of another host, and the console is clean", async () => {
  equal(seen.foreign, [], "requests to other hosts");
  equal(seen.errors.filter((text) => !(key !== null && /status of 401/.test(text))), [], "console errors");
});

await close();
if (isOwnFolder) await rm(folder, { recursive: true, force: true });
process.exitCode = checks.finish();
