// The documents of the default store and what is happening to each. Knows the API, never the page.
import { ApiError, describe, type Api } from "./api";
import { sentence } from "./answer";
import { limit } from "./limit";
import type { StoreFile } from "./wire";

export type DocumentPhase = "queued" | "uploading" | "reading" | "ready" | "failed";

export interface StoredDocument {
  /** Names the row from the first moment on, before the server has given an id. */
  key: string;
  fileId: string | null;
  name: string;
  bytes: number;
  phase: DocumentPhase;
  /** How much of the upload is sent, 0 to 1. */
  sent: number;
  store: StoreFile | null;
  problem: string | null;
  isChosen: boolean;
  /** What to upload again after a failure; null when it came from the server. */
  source: File | null;
  upload: AbortController | null;
}

/** Which documents a question goes to. */
export type Scope = { kind: "all" } | { kind: "some"; fileIds: string[] } | { kind: "none" };

const MAX_UPLOADS = 2;
const MAX_POLLS = 2;
const MAX_RETRY_MS = 15_000;

export class Documents {
  list: StoredDocument[] = [];
  readonly #api: Api;
  readonly #storeId: string;
  readonly #changed: (document: StoredDocument | null) => void;
  readonly #alreadyThere: (name: string) => void;
  readonly #uploads = limit(MAX_UPLOADS);
  readonly #polls = limit(MAX_POLLS);
  #numAdded = 0;

  /**
   * `changed` is told which document is different, or null when the list is; `alreadyThere`, which name was added again
   * without any change.
   */
  constructor(
    api: Api,
    storeId: string,
    changed: (document: StoredDocument | null) => void,
    alreadyThere: (name: string) => void,
  ) {
    this.#api = api;
    this.#storeId = storeId;
    this.#changed = changed;
    this.#alreadyThere = alreadyThere;
  }

  /** Takes over what the server has: what is new to this page is added, and what is gone leaves it. */
  async load(): Promise<void> {
    const [stored, files] = await Promise.all([this.#api.storeFiles(this.#storeId), this.#api.files()]);
    const isStored = new Set(stored.map(({ id }) => id));
    const isKnown = new Set(this.list.map(({ fileId }) => fileId));
    const isStaying = ({ fileId, upload }: StoredDocument) => fileId === null || upload !== null || isStored.has(fileId);
    this.list = this.list.filter(isStaying);
    const news = stored.filter(({ id }) => !isKnown.has(id));
    const loaded = news.map((store): StoredDocument => {
      const file = files.get(store.id);
      return {
        ...this.#newDocument(file?.filename ?? store.id, file?.bytes ?? 0),
        fileId: store.id,
        ...outcome(store),
      };
    });
    this.list = [...this.list, ...loaded];
    this.#changed(null);
    for (const document of loaded) if (document.phase === "reading") void this.#follow(document);
  }

  add(files: Iterable<File>): void {
    const added = [...files].map((file) => ({ ...this.#newDocument(file.name, file.size), source: file }));
    this.list = [...added, ...this.list];
    this.#changed(null);
    for (const document of added) void this.#send(document);
  }

  /** Uploads again what could not be uploaded. */
  retry(document: StoredDocument): void {
    if (!document.source || document.fileId !== null) return;
    Object.assign(document, { phase: "queued", problem: null, sent: 0 });
    this.#changed(document);
    void this.#send(document);
  }

  async remove(document: StoredDocument): Promise<void> {
    document.upload?.abort();
    if (document.fileId !== null) {
      try {
        await this.#api.deleteDocument(this.#storeId, document.fileId);
      } catch (error) {
        document.problem = `Could not be removed: ${describe(error)}`;
        this.#changed(document);
        return;
      }
    }
    this.#forget(document);
  }

  setChosen(document: StoredDocument, isChosen: boolean): void {
    document.isChosen = isChosen;
    this.#changed(document);
  }

  get ready(): StoredDocument[] {
    return this.list.filter(({ phase }) => phase === "ready");
  }

  /** All documents unless a strict subset is chosen: what is added later is then part of "all". */
  scope(): Scope {
    const ready = this.ready;
    const chosen = ready.filter(({ isChosen }) => isChosen);
    if (chosen.length === ready.length) return { kind: "all" };
    if (chosen.length === 0) return { kind: "none" };
    return { kind: "some", fileIds: chosen.map(({ fileId }) => fileId!) };
  }

  async #send(document: StoredDocument): Promise<void> {
    const upload = new AbortController();
    document.upload = upload;
    try {
      await this.#uploads(async () => {
        // It may have been removed while it waited for its turn.
        if (upload.signal.aborted) return;
        document.phase = "uploading";
        this.#changed(document);
        const file = await this.#api.upload(document.source!, upload.signal, (fraction) => {
          document.sent = fraction;
          this.#changed(document);
        });
        document.fileId = file.id;
        const added = await this.#api.addToStore(this.#storeId, file.id);
        if (added.id !== file.id) await this.#forgetCopy(document, file.id);
        else Object.assign(document, outcome(added));
      });
    } catch (error) {
      const reason = describe(error);
      if (reason !== null) this.#fail(document, reason);
      return;
    }
    if (upload.signal.aborted || !this.list.includes(document)) return;
    document.upload = null;
    this.#changed(document);
    if (document.phase === "reading") await this.#follow(document);
    // What it replaces is gone from now on.
    const isOlder = (other: StoredDocument) => other !== document && other.name === document.name;
    if (document.phase === "ready" && this.list.some(isOlder)) await this.load();
  }

  /** Nothing was added, as the same document is there already: the copy that was sent is not kept. */
  async #forgetCopy(document: StoredDocument, fileId: string): Promise<void> {
    await this.#api.deleteFile(fileId);
    this.#forget(document);
    this.#alreadyThere(document.name);
  }

  /** Polls until the document is read or has failed; an unreachable server is asked again, less and less often. */
  async #follow(document: StoredDocument): Promise<void> {
    const fileId = document.fileId!;
    let retryMs = 1000;
    let waitMs = 0;
    while (document.phase === "reading") {
      await sleep(waitMs);
      if (!this.list.includes(document)) return;
      try {
        const { file, pollAfterMs } = await this.#polls(() => this.#api.pollStoreFile(this.#storeId, fileId));
        Object.assign(document, outcome(file));
        waitMs = pollAfterMs;
        retryMs = 1000;
      } catch (error) {
        if (error instanceof ApiError && error.status === 404) return this.#forget(document);
        if (!isPassing(error)) return this.#fail(document, describe(error) ?? "");
        document.problem = describe(error);
        waitMs = retryMs;
        retryMs = Math.min(retryMs * 2, MAX_RETRY_MS);
      }
      if (this.list.includes(document)) this.#changed(document);
    }
  }

  #fail(document: StoredDocument, reason: string): void {
    Object.assign(document, { phase: "failed", problem: sentence(reason), upload: null });
    this.#changed(document);
  }

  #forget(document: StoredDocument): void {
    this.list = this.list.filter((other) => other !== document);
    this.#changed(null);
  }

  #newDocument(name: string, bytes: number): StoredDocument {
    this.#numAdded += 1;
    return {
      key: `document-${this.#numAdded}`,
      fileId: null,
      name,
      bytes,
      phase: "queued",
      sent: 0,
      store: null,
      problem: null,
      isChosen: true,
      source: null,
      upload: null,
    };
  }
}

function outcome(store: StoreFile): Pick<StoredDocument, "store" | "phase" | "problem"> {
  switch (store.status) {
    case "in_progress":
      return { store, phase: "reading", problem: null };
    case "completed":
      return { store, phase: "ready", problem: null };
    case "failed":
      return { store, phase: "failed", problem: sentence(store.last_error?.message ?? "it could not be read") };
    case "cancelled":
      return { store, phase: "failed", problem: "Reading was cancelled." };
  }
}

function isPassing(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 0 || error.status === 429 || error.status >= 500);
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
