// The documents panel: adding files by button, drop or paste, and a row for each document. Decides nothing about them.
import { confirmRemoval } from "./dialogs";
import { announce, el, find, setText } from "./dom";
import type { Documents, StoredDocument } from "./documents";
import { contentsText, count, progressView, sizeText } from "./progress";

export class DocumentsPanel {
  readonly #documents: Documents;
  readonly #rows = new Map<string, Row>();
  readonly #list = find("document-list");

  constructor(documents: Documents) {
    this.#documents = documents;
    const input = find<HTMLInputElement>("file-input");
    for (const button of document.querySelectorAll("[data-choose-files]")) {
      button.addEventListener("click", () => input.click());
    }
    input.addEventListener("change", () => {
      this.#add(input.files ?? []);
      input.value = "";
    });
    acceptDrops((files) => this.#add(files));
    document.addEventListener("paste", (event) => {
      const files = event.clipboardData?.files;
      if (!files?.length) return;
      event.preventDefault();
      this.#add(files);
    });
  }

  #add(files: Iterable<File>): void {
    find("documents-said").hidden = true;
    this.#documents.add(files);
  }

  update(changed: StoredDocument | null): void {
    if (changed) this.#rows.get(changed.key)?.update();
    else this.#updateRows();
    const { list, ready } = this.#documents;
    find("documents-hint").hidden = list.length > 0;
    const numFailed = list.filter(({ phase }) => phase === "failed").length;
    const numBusy = list.length - ready.length - numFailed;
    const summary = [ready.length > 0 && `${ready.length} ready`, numBusy > 0 && `${numBusy} in progress`, numFailed > 0 && `${numFailed} failed`];
    setText(find("documents-summary"), summary.filter(Boolean).join(" · "));
    setText(find("documents-toggle-count"), list.length > 0 ? String(list.length) : "");
  }

  /** Says something about the documents that no row can say. */
  say(text: string): void {
    const hint = find("documents-said");
    hint.hidden = false;
    setText(hint, text);
    announce(text);
  }

  #updateRows(): void {
    const wanted = new Set(this.#documents.list.map(({ key }) => key));
    for (const [key, row] of this.#rows) {
      if (wanted.has(key)) continue;
      // Focus must not fall off the page with the row that held it.
      const hadFocus = row.element.contains(document.activeElement);
      row.element.remove();
      this.#rows.delete(key);
      if (hadFocus) find("documents-title").focus();
    }
    for (const [at, stored] of this.#documents.list.entries()) {
      let row = this.#rows.get(stored.key);
      if (!row) {
        row = new Row(stored, this.#documents);
        this.#rows.set(stored.key, row);
      }
      if (this.#list.children[at] !== row.element) this.#list.insertBefore(row.element, this.#list.children[at] ?? null);
      row.update();
    }
  }
}

class Row {
  readonly element: HTMLLIElement;
  readonly #stored: StoredDocument;
  #announced: string;
  readonly #choose: HTMLInputElement;
  readonly #state = el("p", { class: "state" });
  readonly #bar: HTMLProgressElement;
  readonly #problem = el("p", { class: "problem" });
  readonly #warnings = el("details", { class: "warnings" });
  readonly #retry: HTMLButtonElement;

  constructor(stored: StoredDocument, documents: Documents) {
    this.#stored = stored;
    this.#announced = stored.phase;
    this.#choose = el("input", {
      type: "checkbox",
      id: stored.key,
      "aria-label": `Ask ${stored.name}`,
      onchange: () => documents.setChosen(stored, this.#choose.checked),
    });
    this.#bar = el("progress", { max: "1", "aria-label": `Progress of ${stored.name}` });
    this.#retry = el("button", { type: "button", class: "quiet", onclick: () => documents.retry(stored) }, "Try again");
    const remove = el(
      "button",
      { type: "button", class: "icon", title: "Remove", "aria-label": `Remove ${stored.name}`, onclick: () => void this.#remove(documents) },
      "×",
    );
    this.element = el(
      "li",
      { class: "document" },
      this.#choose,
      el(
        "div",
        { class: "about" },
        el("label", { class: "name", for: stored.key, title: stored.name }, stored.name),
        this.#state,
        this.#bar,
        this.#problem,
        this.#warnings,
        this.#retry,
      ),
      remove,
    );
  }

  update(): void {
    const { phase, name, sent, store, problem, isChosen, bytes, source, fileId } = this.#stored;
    this.element.dataset["phase"] = phase;
    this.#choose.disabled = phase !== "ready";
    this.#choose.checked = phase === "ready" && isChosen;

    const { text, fraction } = stateView(phase, sent, store, bytes);
    setText(this.#state, text);
    this.#bar.hidden = phase === "ready" || phase === "failed";
    if (fraction === null) this.#bar.removeAttribute("value");
    else this.#bar.value = fraction;

    setText(this.#problem, problem ?? "");
    this.#problem.hidden = problem === null;
    this.#retry.hidden = !(phase === "failed" && source !== null && fileId === null);
    this.#updateWarnings();

    if (this.#announced !== phase) {
      this.#announced = phase;
      if (phase === "ready") announce(`${name} is ready. ${text}`);
      if (phase === "failed") announce(`${name} failed. ${problem ?? ""}`);
    }
  }

  #updateWarnings(): void {
    const warnings = this.#stored.store?.warnings ?? [];
    this.#warnings.hidden = warnings.length === 0;
    if (this.#warnings.querySelectorAll("li").length === warnings.length) return;
    this.#warnings.replaceChildren(
      el("summary", {}, count(warnings.length, "page warning")),
      el("ul", {}, ...warnings.map(({ page, message }) => el("li", {}, `Page ${page}: ${message}`))),
    );
  }

  async #remove(documents: Documents): Promise<void> {
    const isOnServer = this.#stored.fileId !== null;
    if (!isOnServer || (await confirmRemoval(this.#stored.name))) await documents.remove(this.#stored);
  }
}

function stateView(phase: StoredDocument["phase"], sent: number, store: StoredDocument["store"], bytes: number) {
  switch (phase) {
    case "queued":
      return { text: "waiting to be sent", fraction: null };
    case "uploading":
      // Sent in full is not yet taken: the server still has to answer.
      return { text: `sending ${Math.floor(sent * 100)}%`, fraction: sent < 1 ? sent : null };
    case "reading":
      return progressView(store?.progress);
    case "ready":
      return { text: [sizeText(bytes), contentsText(store ?? {})].filter(Boolean).join(" · "), fraction: 1 };
    case "failed":
      return { text: sizeText(bytes), fraction: null };
  }
}

/** The whole page takes files; the drop zone shows that it does. */
function acceptDrops(add: (files: FileList) => void): void {
  let depth = 0;
  const show = (isOver: boolean) => document.body.toggleAttribute("data-dropping", isOver);
  const carriesFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    depth += 1;
    show(true);
  });
  addEventListener("dragleave", (event) => {
    if (!carriesFiles(event)) return;
    depth -= 1;
    if (depth <= 0) show(false);
  });
  addEventListener("dragover", (event) => {
    if (carriesFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = 0;
    show(false);
    add(event.dataTransfer!.files);
  });
}
