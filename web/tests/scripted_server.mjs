// A server that says exactly what a test tells it to, with the wire format and security headers of the real one.
// It answers no question by itself and is never part of a build.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const STORE = "vs_0123456789abcdef01234567";

export class ScriptedServer {
  status = {
    version: "0.1.0",
    chat_model: { id: "qwen2.5-1.5b-instruct-q4_k_m" },
    embedding_model: { id: "bge-base-en-v1.5" },
    answer_models: ["qwen2.5-1.5b-instruct-q4_k_m", "inglenook-quote"],
    device: "CPU, 8 threads",
    default_vector_store_id: STORE,
    notices: [],
  };
  requiredKey = null;
  /** id -> {id, filename, text, store}; a test changes `store` to move ingestion on. */
  files = new Map();
  /** How a freshly added file stands, by name. */
  firstState = () => ({ status: "completed", progress: { pages_read: 1, pages_total: 1, chunks_done: 4, chunks_total: 4 } });
  /** The steps of the next answers, one array each: events, {hold: promise}, or {close: true}. A function gets the request. */
  answers = [];
  /** How the next imports from the web go: what is shown each time that one is asked after. A function gets the request. */
  imports = [];
  /** Bodies of POST /api/imports so far, and the ids that were cancelled. */
  imported = [];
  cancelled = [];
  /** What adding a file answers instead, by name. */
  addedInstead = () => null;
  /** Bodies of POST /v1/responses so far. */
  asked = [];
  numAborted = 0;
  #numFiles = 0;

  async listen() {
    this.http = createServer((request, response) => {
      this.#route(request, response).catch((error) => {
        console.error(error);
        response.destroy();
      });
    });
    await new Promise((resolve) => this.http.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${this.http.address().port}`;
    return this;
  }

  close() {
    this.http.closeAllConnections();
    return new Promise((resolve) => this.http.close(resolve));
  }

  addFile(filename, text, store = this.firstState(filename)) {
    const id = `file-${String(++this.#numFiles).padStart(24, "0")}`;
    const file = { id, filename, text, bytes: Buffer.byteLength(text), store };
    this.files.set(id, file);
    return file;
  }

  /** A span of a file's text as the wire gives it. */
  span(file, quote, number, page = 1) {
    const at = file.text.indexOf(quote);
    if (at < 0) throw new Error(`the sample has no ${quote}`);
    const start = Buffer.byteLength(file.text.slice(0, at));
    const end = start + Buffer.byteLength(quote);
    return { file_id: file.id, filename: file.filename, number, page_first: page, page_last: page, start, end };
  }

  async #route(request, response) {
    const url = new URL(request.url, this.url);
    const path = decodeURIComponent(url.pathname);
    const body = await bodyOf(request);
    if (!path.startsWith("/api/") && !path.startsWith("/v1/")) return this.#asset(path, response);
    if (this.requiredKey && request.headers.authorization !== `Bearer ${this.requiredKey}`) {
      return fail(response, 401, "a valid api key is needed", "invalid_api_key");
    }
    if (path === "/api/status") return json(response, this.status);
    if (path === "/v1/responses") return this.#answer(JSON.parse(body), response);

    if (path === "/api/imports") {
      this.imported.push(JSON.parse(body));
      return json(response, this.imports[0].shift());
    }
    const underWay = /^\/api\/imports\/([^/]+)$/.exec(path);
    if (underWay) {
      if (request.method === "DELETE") this.cancelled.push(underWay[1]);
      const [steps] = this.imports;
      return json(response, steps.length > 1 ? steps.shift() : steps[0]);
    }

    const passage = /^\/api\/files\/([^/]+)\/passage$/.exec(path);
    if (passage) return this.#passage(passage[1], url.searchParams, response);

    const stored = [...this.files.values()].filter(({ store }) => store);
    if (path === "/v1/files" && request.method === "GET") return json(response, page([...this.files.values()].map(fileObject)));
    if (path === "/v1/files") {
      const [, filename] = /filename="([^"]*)"/.exec(body.toString("utf8")) ?? [];
      if (filename === "empty.txt") return fail(response, 400, "the file is empty");
      const text = /\r\n\r\n([^]*?)\r\n--/.exec(body.toString("utf8").split('name="file"')[1])[1];
      return json(response, fileObject(this.addFile(filename, text, null)));
    }
    const storeFile = new RegExp(`^/v1/vector_stores/${STORE}/files(?:/(.+))?$`).exec(path);
    if (storeFile) {
      if (request.method === "POST") {
        const file = this.files.get(JSON.parse(body).file_id);
        const other = this.addedInstead(file);
        if (other) return json(response, { ...storeObject(other), is_unchanged: true });
        file.store = this.firstState(file.filename);
        return json(response, storeObject(file));
      }
      if (!storeFile[1]) return json(response, onePage(stored.map(storeObject), url.searchParams));
      const file = this.files.get(storeFile[1]);
      if (!file?.store) return fail(response, 404, "no such file");
      if (request.method === "DELETE") file.store = null;
      return json(response, storeObject(file), { "openai-poll-after-ms": "20" });
    }
    const file = /^\/v1\/files\/([^/]+)(\/content)?$/.exec(path);
    if (file && this.files.has(file[1])) {
      if (file[2]) {
        response.writeHead(200, { "content-type": "application/octet-stream" });
        return response.end(this.files.get(file[1]).text);
      }
      this.files.delete(file[1]);
      return json(response, { id: file[1], object: "file", deleted: true });
    }
    return fail(response, 404, `no route for ${request.method} ${path}`);
  }

  async #asset(path, response) {
    const name = path === "/" ? "index.html" : normalize(path).replace(/^[/\\.]+/, "");
    const content = await readFile(join(DIST, name)).catch(() => null);
    if (!content) return fail(response, 404, "no such page");
    response.writeHead(200, {
      "content-type": TYPES[extname(name)] ?? "application/octet-stream",
      "content-security-policy": "default-src 'self'",
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
    });
    response.end(content);
  }

  #passage(id, query, response) {
    const file = this.files.get(id);
    if (!file) return fail(response, 404, "this document no longer exists");
    const bytes = Buffer.from(file.text);
    const [start, end, context] = ["start", "end", "context"].map((name) => Number(query.get(name)));
    json(response, {
      file_id: id,
      filename: file.filename,
      title: null,
      page_first: file.page ?? 1,
      page_last: file.page ?? 1,
      before: bytes.subarray(Math.max(0, start - context), start).toString(),
      text: bytes.subarray(start, end).toString(),
      after: bytes.subarray(end, end + context).toString(),
      start,
      end,
    });
  }

  async #answer(body, response) {
    this.asked.push(body);
    const script = this.answers.shift();
    const steps = typeof script === "function" ? script(body) : script;
    if (steps.refuse) {
      const { status, message, code = null, headers } = steps.refuse;
      return fail(response, status, message, code, headers);
    }
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
    let isOpen = true;
    response.on("close", () => {
      if (!response.writableFinished) this.numAborted += 1;
      isOpen = false;
    });
    for (const step of steps) {
      if (!isOpen) return;
      if (step.hold) await step.hold;
      else if (step.close) return response.end();
      else if (step.comment) response.write(`: ${step.comment}\n\n`);
      else response.write(`event: ${step.type}\ndata: ${JSON.stringify(step)}\n\n`);
    }
    response.end("data: [DONE]\n\n");
  }
}

/** The events of a whole answer; `pieces` are its deltas, and a step among them is sent as it is. */
export function answerSteps({ results = [], pieces, citations = [], metadata = {}, inglenook = null }) {
  const text = pieces.filter((piece) => typeof piece === "string").join("");
  const annotations = citations.map((span) => ({
    type: "file_citation",
    index: [...text.slice(0, text.indexOf(`[${span.number}]`))].length,
    quote: "",
    ...span,
  }));
  const search = { type: "file_search_call", id: "fs_1", status: "completed", queries: ["q"], results };
  const message = { type: "message", id: "msg_1", role: "assistant", content: [{ type: "output_text", text, annotations }] };
  return [
    { type: "response.created", response: { id: "resp_1" } },
    { type: "response.in_progress", response: { id: "resp_1" } },
    { comment: "keep-alive" },
    { type: "response.output_item.added", item: { ...search, results: null } },
    { type: "response.file_search_call.searching" },
    { type: "response.file_search_call.completed" },
    { type: "response.output_item.done", item: search },
    ...pieces.map((piece) => (typeof piece === "string" ? { type: "response.output_text.delta", delta: piece } : piece)),
    ...annotations.map((annotation) => ({ type: "response.output_text.annotation.added", annotation })),
    { type: "response.output_text.done", text },
    { type: "response.output_item.done", item: message },
    { type: "response.completed", response: { id: "resp_1", output: [search, message], metadata, inglenook } },
  ];
}

function storeObject({ id, store }) {
  return { id, object: "vector_store.file", last_error: null, warnings: [], progress: null, ...store };
}

function fileObject({ id, filename, bytes }) {
  return { id, object: "file", filename, bytes, purpose: "assistants", status: "processed" };
}

function page(data, hasMore = false) {
  return { object: "list", data, first_id: data[0]?.id ?? "", last_id: data.at(-1)?.id ?? "", has_more: hasMore };
}

/** Two to a page, whatever was asked, so that paging is always exercised. */
function onePage(all, query) {
  const from = all.findIndex(({ id }) => id === query.get("after")) + 1;
  return page(all.slice(from, from + 2), from + 2 < all.length);
}

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function json(response, value, headers = {}) {
  response.writeHead(200, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(value));
}

function fail(response, status, message, code = null, headers = {}) {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify({ error: { message, type: "invalid_request_error", param: null, code } }));
}
