// Every state of the page against a scripted server: what a real server cannot be made to do on demand.
// Waits only for what the page shows; a wait that never ends is a failure after ten seconds.
import { equal, holds, launch, screenshot, watch, Checks } from "./checks.mjs";
import { answerSteps, ScriptedServer } from "./scripted_server.mjs";

const HANDBOOK = [
  "# House handbook\n\nThis handbook is for everyone who lives or works in the house at Mill Lane. It is read by new tenants on the day they move in and by the caretaker whenever something breaks.\n",
  "## Rent\n\nRent is paid in advance. The rent for each month is due on the third working day, by bank transfer to the account named in your contract. A late payment is reminded once without a fee.\n",
  "## Heating\n\nThe boiler in the cellar – a 1987 Viessmann – is serviced every October. Radiators are bled by the caretaker, not by tenants. In winter the hall is kept at 16 °C.\n",
  "## Keys\n\nEach flat has three keys. A lost key must be reported on the same day, and a replacement costs 40 euros. Keys are never copied without the caretaker's consent.\n",
].join("\n");
const RENT = "The rent for each month is due on the third working day";
const KEY = "a replacement costs 40 euros";

const server = await new ScriptedServer().listen();
const checks = new Checks();
const { context, page, close } = await launch();
page.setDefaultTimeout(10_000);
const seen = watch(page, server.url);
const open = () => page.goto(server.url).then(() => page.waitForSelector("body[data-ready]"));
const ask = async (question) => {
  await page.fill("#question", question);
  await page.press("#question", "Enter");
};
const lastTurn = () => page.locator(".turn").last();
const finished = (phase) => page.waitForSelector(`.turn:last-child[data-phase="${phase}"]`);
const upload = (name, text) => page.setInputFiles("#file-input", { name, mimeType: "text/plain", buffer: Buffer.from(text) });
/** Console errors that a refused request leaves by itself. */
const forget = (pattern) => (seen.errors = seen.errors.filter((text) => !pattern.test(text)));

function gate() {
  let release;
  const hold = new Promise((resolve) => (release = resolve));
  return { hold, release };
}

function rentAnswer(file, extra = {}) {
  const whole = { ...server.span(file, HANDBOOK.slice(HANDBOOK.indexOf("## Rent"), HANDBOOK.indexOf("## Heating")).trim(), 1), score: 0.8213 };
  const keys = { ...server.span(file, HANDBOOK.slice(HANDBOOK.indexOf("## Keys")).trim(), 2), score: 0.4471 };
  const results = [keys, whole].map((span) => ({ ...span, attributes: {}, text: Buffer.from(file.text).subarray(span.start, span.end).toString() }));
  return answerSteps({
    results,
    pieces: [
      "Rent is due on the **third working day** of each month",
      " [1], by bank transfer.",
      ...(extra.steps ?? []),
      "\n\n- A lost key costs *40 euros* [2].\n- Nothing is said about pets [7].\n",
    ],
    citations: [server.span(file, RENT, 1), server.span(file, KEY, 2)],
    metadata: extra.metadata ?? {},
  });
}

await checks.that("an empty house invites the first file", async () => {
  server.status.notices = ["The demonstration model is loaded: answers show how Inglenook works, not how well. Pull a larger model for real use."];
  await open();
  equal(await page.textContent("#welcome-title"), "Drop a file to begin.", "title");
  holds(await page.isVisible("#notices"), "the notice is hidden");
  await screenshot(page, "empty-light");
});

await checks.that("a starter fills the question box and does not send", async () => {
  await page.locator("#starters button").first().click();
  equal(await page.inputValue("#question"), "What are the main points?", "question");
  equal(await page.locator(".turn").count(), 0, "turns");
  await page.fill("#question", "");
});

let handbook;
await checks.that("a document is followed from upload through reading and embedding to ready", async () => {
  server.firstState = () => ({ status: "in_progress", progress: { pages_read: 3, pages_total: 12, chunks_done: 0, chunks_total: null } });
  await upload("handbook.md", HANDBOOK);
  await page.waitForSelector("text=page 3 of 12");
  handbook = [...server.files.values()][0];
  equal(handbook.text, HANDBOOK, "uploaded text");
  handbook.store.progress = { pages_read: 12, pages_total: 12, chunks_done: 40, chunks_total: 120 };
  await page.waitForSelector("text=embedding 40 of 120 passages");
  equal(await page.textContent("#documents-summary"), "1 in progress", "summary");
  await screenshot(page, "ingesting");
  handbook.store = { status: "completed", progress: { pages_read: 12, pages_total: 12, chunks_done: 120, chunks_total: 120 }, warnings: [{ page: 4, message: "no text on this page: it may be a scan" }] };
  await page.waitForSelector(".document[data-phase=ready]");
  equal(await page.textContent(".warnings summary"), "1 page warning", "warnings");
  equal(await page.textContent("#announcer"), `handbook.md is ready. ${handbook.bytes} bytes · 12 pages · 120 passages`, "announcement");
});

await checks.that("an empty file and an unreadable file say why they failed", async () => {
  server.firstState = () => ({ status: "failed", last_error: { code: "invalid_file", message: "the PDF is encrypted; remove its password and add it again" } });
  await upload("empty.txt", "");
  await page.waitForSelector("text=The file is empty.");
  await upload("locked.pdf", "%PDF");
  await page.waitForSelector("text=The PDF is encrypted; remove its password and add it again.");
  forget(/400 \(Bad Request\)/);
  holds(await page.locator(".document", { hasText: "empty.txt" }).getByRole("button", { name: "Try again" }).isVisible(), "no retry");
  holds(await page.locator(".document", { hasText: "locked.pdf" }).getByRole("button", { name: "Try again" }).isHidden(), "a retry that cannot help");
  await screenshot(page, "failed-documents");
  await page.getByRole("button", { name: "Remove empty.txt" }).click();
  await page.getByRole("button", { name: "Remove locked.pdf" }).click();
  await page.getByRole("button", { name: "Cancel" }).click();
  equal(server.files.size, 2, "files after cancelling");
  await page.getByRole("button", { name: "Remove locked.pdf" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await page.waitForFunction(() => document.querySelectorAll(".document").length === 1);
  equal([...server.files.keys()], [handbook.id], "files left");
  server.firstState = () => ({ status: "completed" });
});

await checks.that("an answer streams, with a way to stop it", async () => {
  const { hold, release } = gate();
  server.answers.push(rentAnswer(handbook, { steps: [{ hold }] }));
  await ask("When is the rent due?");
  await page.waitForSelector("text=by bank transfer.");
  holds(await page.isVisible("#stop"), "no stop button");
  holds(await page.isHidden("#send"), "the ask button is still there");
  equal(await lastTurn().getAttribute("aria-busy"), "true", "aria-busy");
  await screenshot(page, "streaming");
  release();
  await finished("completed");
  equal(server.asked.at(-1).tools[0].file_ids, undefined, "file_ids when all are chosen");
});

await checks.that("a marker with a citation is a button and one without is text", async () => {
  equal(await lastTurn().locator(".citation").allTextContents(), ["[1]", "[2]"], "citations");
  holds((await lastTurn().locator(".prose").textContent()).includes("pets [7]."), "the unknown marker is gone");
  equal(await lastTurn().locator(".sources .number").allTextContents(), ["1", "2"], "sources");
  equal(await lastTurn().locator("strong").textContent(), "third working day", "strong");
  await screenshot(page, "answer-light");
});

await checks.that("a citation opens exactly its sentence, and Escape gives the focus back", async () => {
  const citation = lastTurn().getByRole("button", { name: "[1] Source: handbook.md" });
  await citation.click();
  await page.waitForSelector(".passage mark");
  equal(await page.textContent(".passage mark"), RENT, "mark");
  const shown = await page.textContent(".passage-text");
  holds(HANDBOOK.includes(shown.replace(/^…/, "")), "the surroundings are not the document's");
  await screenshot(page, "passage-light");
  await page.keyboard.press("Escape");
  await page.waitForSelector("#passage", { state: "hidden" });
  await page.waitForFunction(() => document.activeElement.textContent === "[1]");
});

await checks.that("a byte span after other than ASCII text is still the right one", async () => {
  await lastTurn().getByRole("button", { name: "[2] Source" }).click();
  await page.waitForSelector(".passage mark");
  equal(await page.textContent(".passage mark"), KEY, "mark");
});

await checks.that("the viewer turns modal when the window gets narrow, and stays open", async () => {
  await page.setViewportSize({ width: 900, height: 860 });
  await page.waitForSelector("#passage:modal");
  equal(await page.textContent(".passage mark"), KEY, "mark");
  await screenshot(page, "passage-modal");
  await page.setViewportSize({ width: 1280, height: 860 });
  await page.waitForSelector("#passage[open]:not(:modal)");
  await page.click("#passage-close");
});

await checks.that("the original can be downloaded", async () => {
  await lastTurn().locator(".sources button").first().click();
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("text=Download the original")]);
  equal(download.suggestedFilename(), "handbook.md", "name");
  await page.keyboard.press("Escape");
});

await checks.that("a follow-up continues the stored answer before it", async () => {
  server.answers.push(answerSteps({ pieces: ["Nothing in your documents answers this."], metadata: { inglenook_outcome: "not_found" } }));
  await ask("And may I keep a dog?");
  await finished("completed");
  equal(server.asked.at(-1).input.map(({ role }) => role), ["user"], "roles");
  equal(server.asked.at(-1).previous_response_id, "resp_1", "previous response");
  holds(await lastTurn().getByText("Not found in your documents").isVisible(), "not marked as not found");
  await screenshot(page, "not-found");
});

await checks.that("a follow-up to an answer that the server has forgotten sends the turns before it", async () => {
  const refuse = { status: 400, message: "no such response", code: "previous_response_not_found" };
  const num = server.asked.length;
  server.answers.push({ refuse }, answerSteps({ pieces: ["You may keep a cat."] }));
  await ask("And a cat?");
  await finished("completed");
  forget(/400 \(Bad Request\)/);
  equal(server.asked.length, num + 2, "requests");
  equal(server.asked.at(-1).previous_response_id, null, "previous response");
  equal(server.asked.at(-1).input.map(({ role }) => role), ["user", "assistant", "user", "assistant", "user"], "roles");
});

await checks.that("what was left out of the prompt is said", async () => {
  server.answers.push(answerSteps({ pieces: ["Yes."], metadata: { inglenook_dropped: "2 passages and 3 old turns did not fit" } }));
  await ask("Is that all?");
  await finished("completed");
  await lastTurn().getByText("2 passages and 3 old turns did not fit").waitFor();
});

await checks.that("a failed answer says why, and trying again asks the same", async () => {
  server.answers.push([
    { type: "response.output_text.delta", delta: "The caretaker" },
    { type: "response.failed", response: { id: "resp_9", error: { code: "server_error", message: "generation took longer than 120 seconds" } } },
  ]);
  await ask("Who bleeds the radiators?");
  await finished("failed");
  await lastTurn().getByText("Generation took longer than 120 seconds.").waitFor();
  await screenshot(page, "error");
  server.answers.push(answerSteps({ pieces: ["The caretaker does."] }));
  await lastTurn().getByRole("button", { name: "Try again" }).click();
  await finished("completed");
  equal(server.asked.at(-1).input.at(-1).content, "Who bleeds the radiators?", "question");
  equal(await page.locator(".turn").count(), 5, "turns");
});

await checks.that("a connection that breaks off is not taken for an answer", async () => {
  server.answers.push([{ type: "response.output_text.delta", delta: "The boiler" }, { close: true }]);
  await ask("How old is the boiler?");
  await finished("failed");
  await lastTurn().getByText("The connection closed before the answer was complete.").waitFor();
});

await checks.that("a busy server says when to come back", async () => {
  server.answers.push({ refuse: { status: 429, message: "The server is busy: 16 requests are waiting.", headers: { "retry-after": "7" } } });
  await ask("How old is it?");
  await finished("failed");
  await lastTurn().getByText("The server is busy: 16 requests are waiting. Try again in 7 seconds.").waitFor();
  forget(/429/);
});

await checks.that("stopping closes the connection and keeps what was written", async () => {
  server.answers.push([{ type: "response.output_text.delta", delta: "It was built in" }, { hold: new Promise(() => undefined) }]);
  await ask("Tell me everything.");
  await page.waitForSelector("text=It was built in");
  await page.click("#stop");
  await finished("stopped");
  // The page does not wait for the server to notice.
  for (let wait = 0; wait < 50 && server.numAborted === 0; wait++) await page.waitForTimeout(20);
  equal(server.numAborted, 1, "connections closed early");
  equal(await page.evaluate(() => document.activeElement.id), "question", "focus");
});

await checks.that("hostile text in an answer, a question, a passage and a file name stays text", async () => {
  const hostile = '<img src="http://evil.example/a.png" onerror="document.title=1"> ![x](http://evil.example/b.png) [click](javascript:document.title=2)\n\n<script>document.title=3</script>\n\n    [1](http://evil.example)';
  const trap = server.addFile('<img src="x" onerror="document.title=4">.md', hostile);
  const found = { ...server.span(trap, hostile, 2), score: 0.1, text: hostile };
  server.answers.push(answerSteps({ results: [found], pieces: [hostile], citations: [server.span(handbook, RENT, 1)] }));
  await ask('<img src="x" onerror="document.title=5">');
  await finished("completed");
  await lastTurn().locator(".sources button").click();
  await page.waitForSelector(".passage mark");
  equal(await page.locator(".turn :is(img, script, a, iframe), .passage :is(img, script, iframe)").count(), 0, "elements from text");
  equal(await page.textContent(".passage mark"), hostile, "mark");
  await page.keyboard.press("Escape");
  server.files.delete(trap.id);
  equal(await page.title(), "Inglenook", "title");
});

await checks.that("a citation keeps the focus while the answer grows below it", async () => {
  const { hold, release } = gate();
  const annotation = { type: "file_citation", index: 9, quote: RENT, ...server.span(handbook, RENT, 1) };
  server.answers.push([
    { type: "response.output_text.delta", delta: "Rent due [1].\n\n" },
    { type: "response.output_text.annotation.added", annotation },
    { hold },
    { type: "response.output_text.delta", delta: "And so on." },
    { type: "response.completed", response: { id: "resp_8" } },
  ]);
  await ask("When?");
  await lastTurn().locator(".citation").focus();
  release();
  await finished("completed");
  equal(await page.evaluate(() => document.activeElement.className), "citation", "focus");
});

await checks.that("files can be dropped and pasted anywhere on the page", async () => {
  for (const [type, name] of [["drop", "dropped.txt"], ["paste", "pasted.txt"]]) {
    await page.evaluate(([type, name]) => {
      const data = new DataTransfer();
      data.items.add(new File(["Some text."], name, { type: "text/plain" }));
      const event = type === "drop" ? new DragEvent(type, { dataTransfer: data }) : new ClipboardEvent(type, { clipboardData: data, bubbles: true });
      (type === "drop" ? window : document.body).dispatchEvent(event);
    }, [type, name]);
    await page.locator(".document[data-phase=ready]", { hasText: name }).waitFor();
    await page.getByRole("button", { name: `Remove ${name}` }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
    await page.locator(".document", { hasText: name }).waitFor({ state: "detached" });
  }
});

await checks.that("a strict subset of the documents limits the question to them", async () => {
  server.addFile("minutes of the spring meeting of the tenants' association.txt", "The fence will be painted.");
  server.addFile("inventory.html", "Two ladders.");
  await open();
  equal(await page.locator(".document[data-phase=ready]").count(), 3, "documents after a reload, over two pages of the list");
  await page.uncheck('[aria-label="Ask inventory.html"]');
  equal(await page.textContent("#scope"), "Asking 2 of 3 documents", "scope");
  server.answers.push(rentAnswer(handbook));
  await ask("When is the rent due?");
  await finished("completed");
  equal(server.asked.at(-1).tools[0].file_ids.length, 2, "file_ids");
  await page.uncheck('[aria-label="Ask handbook.md"]');
  await page.uncheck('[aria-label^="Ask minutes"]');
  await page.fill("#question", "Anything?");
  holds(await page.isDisabled("#send"), "a question to no document can be sent");
  await page.check('[aria-label="Ask handbook.md"]');
});

await checks.that("a new conversation starts empty and sends no earlier turn", async () => {
  await page.click("#new-conversation");
  equal(await page.locator(".turn").count(), 0, "turns");
  server.answers.push(rentAnswer(handbook));
  await ask("When is the rent due?");
  await finished("completed");
  equal(server.asked.at(-1).input.length, 1, "input items");
});

await checks.that("a document that was deleted meanwhile is said to be gone", async () => {
  server.files.delete(handbook.id);
  await lastTurn().locator(".citation").first().click();
  await page.waitForSelector("text=this document no longer exists");
  server.files.set(handbook.id, handbook);
  await page.locator("#passage").getByRole("button", { name: "Try again" }).click();
  await page.waitForSelector(".passage mark");
  await page.keyboard.press("Escape");
  forget(/404/);
});

await checks.that("dark, and 360 pixels wide, nothing is cut off", async () => {
  await page.emulateMedia({ colorScheme: "dark" });
  await lastTurn().locator(".citation").first().click();
  await page.waitForSelector(".passage mark");
  await screenshot(page, "passage-dark");
  await page.keyboard.press("Escape");
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width: 360, height: 740 });
    equal(await page.evaluate(() => document.documentElement.scrollWidth), 360, "width of the page");
    await screenshot(page, `narrow-answer-${scheme}`);
    await page.click("#documents-toggle");
    holds(await page.isVisible("#document-list"), "the documents do not open");
    await screenshot(page, `narrow-documents-${scheme}`);
    await page.click("#documents-toggle");
    await lastTurn().locator(".citation").first().click();
    await page.waitForSelector(".passage mark");
    await screenshot(page, `narrow-passage-${scheme}`);
    await page.keyboard.press("Escape");
    await page.setViewportSize({ width: 1280, height: 860 });
  }
  await page.emulateMedia({ colorScheme: "light" });
});

await checks.that("a document added again replaces the one of its name, and the same one is not kept twice", async () => {
  server.firstState = () => ({ status: "completed" });
  await upload("inventory.html", "Three ladders.");
  const older = [...server.files.values()].find(({ text }) => text === "Two ladders.");
  const newer = () => [...server.files.values()].find(({ text }) => text === "Three ladders.");
  // The server takes the older one out when the newer one is read.
  older.store = null;
  await page.waitForFunction(() => document.querySelectorAll(".document").length === 3);
  server.addedInstead = () => newer();
  await upload("inventory.html", "Three ladders.");
  await page.waitForSelector("text=inventory.html is there already, and has not changed.");
  server.addedInstead = () => null;
  equal([...server.files.values()].filter(({ text }) => text === "Three ladders.").length, 1, "copies kept");
  equal(await page.locator(".document", { hasText: "inventory.html" }).count(), 1, "rows");
});

await checks.that("all chosen documents are summarized at a click", async () => {
  server.answers.push([
    { type: "response.inglenook.progress", stage: "passages", done: 3, total: 40 },
    ...answerSteps({
      pieces: ["Rent is due early [1]."],
      citations: [server.span(handbook, RENT, 1)],
      inglenook: { mode: "summary", summary: { method: "extractive", documents: 2, passages: 40 }, cached: true },
    }),
  ]);
  await page.click("#summarize");
  await finished("completed");
  equal(server.asked.at(-1).inglenook, { mode: "summary" }, "extension");
  equal(server.asked.at(-1).tools[0].file_ids.length, 2, "file_ids");
  equal(await lastTurn().locator(".asked").textContent(), "Summarize the 2 documents.", "question");
  await lastTurn().getByText("Central sentences of 40 passages in 2 documents · Given before").waitFor();
  await screenshot(page, "summary");
});

await checks.that("a question is asked about marked words alone", async () => {
  await lastTurn().locator(".citation").click();
  await page.waitForSelector(".passage mark");
  holds(await page.isDisabled("#passage-ask"), "something can be asked about nothing");
  await page.evaluate(() => getSelection().selectAllChildren(document.querySelector(".passage mark")));
  await page.waitForSelector("#passage-ask:not([disabled])");
  await screenshot(page, "marked");
  await page.click("#passage-ask");
  await page.waitForSelector(`#selection >> text=${RENT}`);
  equal(await page.textContent("#scope"), "Asking the marked words alone", "scope");
  server.answers.push(answerSteps({ pieces: ["Early."] }));
  await ask("So when?");
  await finished("completed");
  const asked = server.asked.at(-1);
  equal(asked.inglenook, { selected_text: RENT, selected_file_id: handbook.id }, "extension");
  equal(asked.tools, [], "a search");
  await page.getByRole("button", { name: "Ask all documents again" }).click();
  holds(await page.isHidden("#selection"), "the marked words are still there");
});

await checks.that("settings of search and reader are sent, kept, and can be taken back", async () => {
  await page.click("#preferences");
  await page.fill("#alpha", "0.25");
  await page.waitForSelector("text=Meaning counts 25 %, words 75 %.");
  await page.fill("#top-k", "9");
  await page.fill("#reader", "I am a tenant.");
  await screenshot(page, "preferences");
  await page.getByRole("button", { name: "Keep" }).click();
  await open();
  server.answers.push(answerSteps({ pieces: ["On the third day."], inglenook: { mode: "answer", outcome: "answered", confidence: 0.824, search_query: "rent due day" } }));
  await ask("When is the rent due?");
  await finished("completed");
  const asked = server.asked.at(-1);
  equal([asked.tools[0].max_num_results, asked.tools[0].ranking_options.alpha, asked.inglenook.reader], [9, 0.25, "I am a tenant."], "what was sent");
  await lastTurn().getByText("Confidence 82 % · Searched for “rent due day”").waitFor();
  await screenshot(page, "confidence");
  await page.click("#preferences");
  await page.getByRole("button", { name: "Reset" }).click();
  server.answers.push(answerSteps({ pieces: ["I am not sure."], metadata: { inglenook_outcome: "not_found" }, inglenook: { mode: "answer", outcome: "declined", confidence: 0.2 } }));
  await ask("And the deposit?");
  await finished("completed");
  equal([server.asked.at(-1).tools[0].ranking_options, server.asked.at(-1).inglenook], [undefined, undefined], "what was sent after a reset");
  await lastTurn().getByText("Not sure enough to answer").waitFor();
});

await checks.that("documents come from the web where the owner allows it", async () => {
  holds(await page.isHidden("#add-from-web"), "the web is offered though it is not allowed");
  server.status.web_import = true;
  await open();
  const going = (status, counts, extra = {}) => ({
    id: "import_1",
    kind: "site",
    source: "http://wiki.example/",
    status,
    error: null,
    counts: { queued: 0, imported: 0, unchanged: 0, skipped: 0, failed: 0, gone: 0, removed: 0, ...counts },
    ...extra,
  });
  const pages = [
    { url: "http://wiki.example/", outcome: "imported", message: null },
    { url: "http://wiki.example/private", outcome: "skipped", message: "robots.txt does not allow it" },
  ];
  server.imports.unshift([going("running", { queued: 1 }), going("running", { imported: 1, queued: 1 }), going("completed", { imported: 1, skipped: 1 }, { pages })]);
  const wiki = server.addFile("wiki.html", "All about the house.");
  await page.click("#add-from-web");
  await page.getByLabel("A site, page after page").check();
  await page.getByLabel("Address of its first page").fill("http://wiki.example/");
  await page.getByLabel("Pages at most").fill("20");
  await screenshot(page, "import-dialog");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await page.waitForSelector("text=1 added · 1 left out");
  const { vector_store_id, ...sent } = server.imported.at(-1);
  equal(sent, { site: "http://wiki.example/", max_pages: 20 }, "request");
  await page.locator(".document[data-phase=ready]", { hasText: "wiki.html" }).waitFor();
  await page.click(".import .warnings summary");
  await page.waitForSelector("text=http://wiki.example/private: robots.txt does not allow it");
  await screenshot(page, "import");
  server.imports.unshift([going("running", { queued: 3 })]);
  await page.click("#add-from-web");
  await page.getByLabel("Address", { exact: true }).fill("http://wiki.example/other");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await page.waitForSelector("text=3 to go");
  await page.getByRole("button", { name: /Stop or hide the import of http:\/\/wiki.example\/other/ }).click();
  for (let wait = 0; wait < 50 && server.cancelled.length === 0; wait++) await page.waitForTimeout(20);
  equal(server.cancelled, ["import_1"], "cancelled");
  server.imports[0][0] = going("cancelled", {});
  server.files.delete(wiki.id);
  server.status.web_import = false;
  await open();
});

await checks.that("a server that wants a key is given one, once, and refuses a wrong one", async () => {
  server.requiredKey = "ink-secret";
  await page.reload();
  await page.fill("#api-key", "wrong");
  await page.getByRole("button", { name: "Continue" }).click();
  await page.waitForSelector("text=did not accept that key");
  await screenshot(page, "key");
  await page.fill("#api-key", "ink-secret");
  await page.keyboard.press("Enter");
  await page.waitForSelector("body[data-ready]");
  equal(await page.locator("dialog.question").count(), 0, "dialogs left");
  server.answers.push(rentAnswer(handbook));
  await ask("When is the rent due?");
  await finished("completed");
  await lastTurn().locator(".citation").first().click();
  await page.waitForSelector(".passage mark");
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("text=Download the original")]);
  equal(download.suggestedFilename(), "handbook.md", "name");
  await page.keyboard.press("Escape");
  await upload("with key.txt", "A note.");
  await page.waitForSelector(".document[data-phase=ready] >> text=with key.txt");
  forget(/401/);
});

await checks.that("the reader chooses who answers", async () => {
  server.requiredKey = null;
  await open();
  const ways = await page.locator("#answerer option").allTextContents();
  const chat = "qwen2.5-1.5b-instruct-q4_k_m";
  equal(ways, [`Written by ${chat}`, "Quote the documents", `Chat with ${chat}, without documents`], "ways");
  server.answers.push(rentAnswer(handbook));
  await page.selectOption("#answerer", { label: "Quote the documents" });
  await screenshot(page, "answerer");
  await ask("When is the rent due?");
  await finished("completed");
  equal(server.asked.at(-1).model, "inglenook-quote", "model");
  equal(server.asked.at(-1).tools.length, 1, "tools when quoting");
  holds((await lastTurn().locator(".prose").textContent()).includes("**third working day**"), "a quote is not letter for letter");
  equal(await lastTurn().locator(".citation").count(), 2, "citations in a quote");
  server.answers.push(answerSteps({ results: [], pieces: ["Hello!"], citations: [] }));
  await page.selectOption("#answerer", { label: ways[2] });
  await page.waitForSelector("text=Asking without documents");
  await ask("Hello");
  await finished("completed");
  equal(server.asked.at(-1).model, chat, "model");
  equal(server.asked.at(-1).tools, [], "tools without documents");
});

await checks.that("without a chat model documents are quoted, and there is nothing to choose", async () => {
  server.status.chat_model = null;
  server.status.embedding_model = { id: "inglenook-demo-embedder", is_demonstration: true };
  server.status.answer_models = ["inglenook-quote"];
  await open();
  holds(await page.isHidden("#answerer"), "a choice of one");
  holds((await page.textContent("#status")).includes("inglenook-demo-embedder (demonstration)"), "status");
  server.answers.push(rentAnswer(handbook));
  await ask("When is the rent due?");
  await finished("completed");
  equal(server.asked.at(-1).model, "inglenook-quote", "model");
  await screenshot(page, "quote-only");
});

await checks.that("without any model the question box is closed", async () => {
  server.status.embedding_model = null;
  server.status.answer_models = [];
  await open();
  holds(await page.isDisabled("#question"), "the question box is open");
  await page.waitForSelector("text=No model is loaded");
  await screenshot(page, "no-model");
});

await checks.that("the page did nothing behind the reader's back", async () => {
  equal(seen.foreign, [], "requests to other hosts");
  equal(seen.errors, [], "console errors");
});

await checks.that("a server that is gone is reported on the page", async () => {
  await context.route("**/api/status", (route) => route.abort());
  await page.goto(server.url);
  await page.waitForSelector("text=The server could not be reached.");
  await screenshot(page, "unreachable");
});

await close();
await server.close();
process.exitCode = checks.finish();
