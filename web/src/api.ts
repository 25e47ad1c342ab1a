// Requests to the server that served this page, and to no other. The API key stays in this tab and is never put in a URL.
import { readEvents } from "./sse";
import type { Mode } from "./answerer";
import type { ErrorBody, FileObject, Import, Page, Passage, ResponseEvent, Status, StoreFile } from "./wire";

export class ApiError extends Error {
  readonly status: number;
  readonly code: string | null;
  readonly retryAfterSeconds: number | null;

  constructor(status: number, message: string, retryAfterSeconds: number | null = null, code: string | null = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** Asks the reader for a key; null when they would rather not. */
export type AskForKey = (wasRefused: boolean) => Promise<string | null>;

export interface Question {
  model: string;
  /** The stored response that `input` continues; null when `input` is the whole conversation. */
  previousId: string | null;
  input: Message[];
  /** Where to search; null asks the model without any document. */
  search: Search | null;
  mode: Mode;
  /** The only source of the answer, in place of what a search finds. */
  selection: Selection | null;
  /** Who asks, in their own words. */
  reader: string | null;
}

/** Words of a document that a reader has marked. */
export interface Selection {
  fileId: string;
  filename: string;
  text: string;
}

export interface Message {
  role: "user" | "assistant";
  content: string;
}

export interface Search {
  storeId: string;
  /** Only these documents; null means all of them. */
  fileIds: string[] | null;
  /** Passages that are read for the question. */
  topK: number;
  /** From 0, only words, to 1, only meaning; null leaves it to the server. */
  alpha: number | null;
}

/** What can be fetched from the web. */
export type ImportRequest = { url: string } | { site: string; max_pages: number } | { arxiv: string };

const KEY = "inglenook-api-key";
const UNREACHABLE = "The server could not be reached. Is Inglenook still running?";
const DEFAULT_POLL_MS = 500;

export class Api {
  readonly #askForKey: AskForKey;
  #asking: Promise<string | null> | null = null;

  constructor(askForKey: AskForKey) {
    this.#askForKey = askForKey;
  }

  get hasKey(): boolean {
    return this.#key !== null;
  }

  status(): Promise<Status> {
    return this.#json("/api/status");
  }

  /** Every uploaded file's name and size, by id. */
  async files(): Promise<Map<string, FileObject>> {
    const files = await this.#all<FileObject>("/v1/files?limit=10000");
    return new Map(files.map((file) => [file.id, file]));
  }

  storeFiles(storeId: string): Promise<StoreFile[]> {
    return this.#all(`/v1/vector_stores/${storeId}/files?limit=100`);
  }

  /** Adds a document in place of an older one of the same name, which goes once this one is read. */
  addToStore(storeId: string, fileId: string): Promise<StoreFile> {
    const body = { file_id: fileId, if_exists: "replace" };
    return this.#json(`/v1/vector_stores/${storeId}/files`, post(body));
  }

  /** How far a document has come, and when the server wants to be asked again. */
  async pollStoreFile(storeId: string, fileId: string): Promise<{ file: StoreFile; pollAfterMs: number }> {
    const response = await this.#send(`/v1/vector_stores/${storeId}/files/${fileId}`);
    const asked = Number(response.headers.get("openai-poll-after-ms"));
    return { file: (await response.json()) as StoreFile, pollAfterMs: asked > 0 ? asked : DEFAULT_POLL_MS };
  }

  /** Removes a document from the store and then the file itself; what is already gone counts as removed. */
  async deleteDocument(storeId: string, fileId: string): Promise<void> {
    await this.#delete(`/v1/vector_stores/${storeId}/files/${fileId}`);
    await this.deleteFile(fileId);
  }

  deleteFile(fileId: string): Promise<void> {
    return this.#delete(`/v1/files/${fileId}`);
  }

  passage(fileId: string, start: number, end: number, signal: AbortSignal): Promise<Passage> {
    return this.#json(`/api/files/${fileId}/passage?start=${start}&end=${end}&context=600`, { signal });
  }

  contentUrl(fileId: string): string {
    return `/v1/files/${fileId}/content`;
  }

  async content(fileId: string): Promise<Blob> {
    return (await this.#send(this.contentUrl(fileId))).blob();
  }

  /** The events of a streamed answer. Aborting the signal ends the generation on the server too. */
  async *ask(question: Question, signal: AbortSignal): AsyncGenerator<ResponseEvent> {
    const tools = question.search ? [fileSearch(question.search)] : [];
    const body = {
      model: question.model,
      input: question.input,
      previous_response_id: question.previousId,
      stream: true,
      include: ["file_search_call.results"],
      tools,
      ...extension(question),
    };
    const response = await this.#send("/v1/responses", { ...post(body), signal });
    if (!response.body) throw new ApiError(response.status, "The server sent an empty answer.");
    for await (const { data } of readEvents(response.body)) {
      if (data === "[DONE]") return;
      yield JSON.parse(data) as ResponseEvent;
    }
  }

  import(storeId: string, request: ImportRequest): Promise<Import> {
    return this.#json("/api/imports", post({ ...request, vector_store_id: storeId }));
  }

  /** An import with its first pages. */
  importWithPages(id: string): Promise<Import> {
    return this.#json(`/api/imports/${id}`);
  }

  cancelImport(id: string): Promise<void> {
    return this.#delete(`/api/imports/${id}`);
  }

  /** Uploads with XMLHttpRequest, because fetch cannot tell how much has been sent. */
  async upload(file: File, signal: AbortSignal, sent: (fraction: number) => void): Promise<FileObject> {
    for (;;) {
      const key = this.#key;
      const { status, body, retryAfter } = await this.#uploadOnce(file, signal, sent);
      if (status === 401) await this.#renewKey(key);
      else if (status >= 200 && status < 300) return JSON.parse(body) as FileObject;
      else throw errorFrom(status, body, retryAfter);
    }
  }

  #uploadOnce(file: File, signal: AbortSignal, sent: (fraction: number) => void) {
    const form = new FormData();
    form.append("purpose", "assistants");
    form.append("file", file, file.name);
    return new Promise<{ status: number; body: string; retryAfter: string | null }>((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", "/v1/files");
      for (const [name, value] of Object.entries(this.#authorization())) request.setRequestHeader(name, value);
      request.upload.onprogress = (event) => {
        if (event.lengthComputable && event.total > 0) sent(event.loaded / event.total);
      };
      request.onload = () =>
        resolve({
          status: request.status,
          body: request.responseText,
          retryAfter: request.getResponseHeader("retry-after"),
        });
      request.onerror = () => reject(new ApiError(0, UNREACHABLE));
      request.onabort = () => reject(new DOMException("The upload was stopped.", "AbortError"));
      signal.addEventListener("abort", () => request.abort(), { once: true });
      if (signal.aborted) request.onabort(new ProgressEvent("abort"));
      else request.send(form);
    });
  }

  async #all<T extends { id: string }>(path: string): Promise<T[]> {
    const all: T[] = [];
    let after = "";
    for (;;) {
      const page = await this.#json<Page<T>>(path + after);
      all.push(...page.data);
      const last = page.last_id || page.data.at(-1)?.id;
      if (!page.has_more || !last) return all;
      after = `&after=${encodeURIComponent(last)}`;
    }
  }

  async #delete(path: string): Promise<void> {
    try {
      await this.#send(path, { method: "DELETE" });
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) throw error;
    }
  }

  async #json<T>(path: string, init: RequestInit = {}): Promise<T> {
    return (await this.#send(path, init)).json() as Promise<T>;
  }

  /** Sends, asks for a key as often as the server refuses, and turns every other failure into an ApiError. */
  async #send(path: string, init: RequestInit = {}): Promise<Response> {
    for (;;) {
      const key = this.#key;
      const response = await this.#fetch(path, init);
      if (response.ok) return response;
      if (response.status !== 401) {
        throw errorFrom(response.status, await response.text(), response.headers.get("retry-after"));
      }
      await this.#renewKey(key);
    }
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    try {
      return await fetch(path, { ...init, headers: { ...init.headers, ...this.#authorization() } });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new ApiError(0, UNREACHABLE);
    }
  }

  /** Many requests may be refused at once; the reader is asked once for all of them. */
  async #renewKey(refused: string | null): Promise<void> {
    if (this.#key !== refused) return;
    this.#asking ??= this.#askForKey(refused !== null).finally(() => (this.#asking = null));
    const key = await this.#asking;
    if (key === null) throw new ApiError(401, "This server needs an API key.");
    sessionStorage.setItem(KEY, key);
  }

  #authorization(): Record<string, string> {
    const key = this.#key;
    return key === null ? {} : { Authorization: `Bearer ${key}` };
  }

  get #key(): string | null {
    return sessionStorage.getItem(KEY);
  }
}

/** What went wrong in words for a reader; null when the reader stopped it. */
export function describe(error: unknown): string | null {
  if (error instanceof DOMException && error.name === "AbortError") return null;
  if (error instanceof ApiError) {
    const wait = error.retryAfterSeconds;
    return error.status === 429 && wait !== null
      ? `${error.message} Try again in ${wait} ${wait === 1 ? "second" : "seconds"}.`
      : error.message;
  }
  return error instanceof TypeError ? "The connection to the server was lost." : String(error);
}

function fileSearch({ storeId, fileIds, topK, alpha }: Search): object {
  return {
    type: "file_search",
    vector_store_ids: [storeId],
    max_num_results: topK,
    ...(fileIds && { file_ids: fileIds }),
    ...(alpha !== null && { ranking_options: { alpha } }),
  };
}

/** What goes beyond OpenAI's API; nothing where nothing was asked for. */
function extension({ mode, selection, reader }: Question): { inglenook?: object } {
  const wishes = {
    ...(mode && { mode }),
    ...(selection && { selected_text: selection.text, selected_file_id: selection.fileId }),
    ...(reader && { reader }),
  };
  return Object.keys(wishes).length > 0 ? { inglenook: wishes } : {};
}

function post(body: unknown): RequestInit & { headers: Record<string, string> } {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

function errorFrom(status: number, body: string, retryAfter: string | null): ApiError {
  let message = `The server answered with status ${status}.`;
  let code: string | null = null;
  try {
    const { error } = JSON.parse(body) as ErrorBody;
    message = error?.message ?? message;
    code = error?.code ?? null;
  } catch {
    // A proxy's error page is not JSON; the status says enough.
  }
  const seconds = retryAfter === null ? NaN : Number(retryAfter);
  return new ApiError(status, message, Number.isFinite(seconds) ? seconds : null, code);
}
