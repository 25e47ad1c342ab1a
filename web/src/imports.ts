// Documents from the web, where the owner allows them: asks what to fetch, and shows how far it is.
import { describe, type Api, type ImportRequest } from "./api";
import { sentence } from "./answer";
import { announce, el, find, setText } from "./dom";
import { count } from "./progress";
import type { Import } from "./wire";

type Kind = "url" | "site" | "arxiv";

const KINDS: Record<Kind, { label: string; field: string; example: string }> = {
  url: { label: "One page or file", field: "Address", example: "https://example.org/handbook.pdf" },
  site: { label: "A site, page after page", field: "Address of its first page", example: "https://example.org/docs/" },
  arxiv: { label: "A paper on arXiv", field: "Its id", example: "1706.03762" },
};
const MAX_PAGES = 500;
const POLL_MS = 500;

export class Imports {
  readonly #api: Api;
  readonly #storeId: string;
  readonly #arrived: () => Promise<void>;
  readonly #list = find("import-list");

  /** `arrived` is called whenever there may be new documents. */
  constructor(api: Api, storeId: string, arrived: () => Promise<void>) {
    this.#api = api;
    this.#storeId = storeId;
    this.#arrived = arrived;
    const button = find("add-from-web");
    button.hidden = false;
    button.addEventListener("click", () => this.#ask());
  }

  #ask(): void {
    const source = el("input", { id: "import-source", type: "text", required: true, spellcheck: "false", autocomplete: "off" });
    const label = el("label", { for: "import-source" });
    const max = el("input", { id: "import-max", type: "number", min: "1", max: "50000", required: true });
    max.value = String(MAX_PAGES);
    const limit = el("div", { class: "limit" }, el("label", { for: "import-max" }, "Pages at most"), max);
    let kind: Kind = "url";
    const choose = (chosen: Kind) => {
      kind = chosen;
      label.textContent = KINDS[kind].field;
      source.placeholder = KINDS[kind].example;
      limit.hidden = kind !== "site";
      max.disabled = kind !== "site";
    };
    const choices = (Object.keys(KINDS) as Kind[]).map((each) => {
      const radio = el("input", { type: "radio", name: "import-kind", id: `import-${each}`, checked: each === kind, onchange: () => choose(each) });
      return el("label", { class: "choice" }, radio, ` ${KINDS[each].label}`);
    });
    choose(kind);
    const dialog = el("dialog", { class: "question", "aria-labelledby": "import-title" });
    dialog.append(
      el(
        "form",
        { method: "dialog" },
        el("h2", { id: "import-title" }, "Add from the web"),
        el("fieldset", {}, el("legend", { class: "unseen" }, "What to add"), ...choices),
        label,
        source,
        limit,
        el("p", { class: "muted" }, "The server fetches it and keeps its own copy."),
        el(
          "div",
          { class: "actions" },
          el("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Cancel"),
          el("button", { class: "primary", value: "agreed" }, "Add"),
        ),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      find("add-from-web").focus();
      if (dialog.returnValue === "agreed") void this.#run(request(kind, source.value.trim(), Number(max.value)));
    });
    document.body.append(dialog);
    dialog.showModal();
    source.focus();
  }

  async #run(wanted: ImportRequest): Promise<void> {
    const row = new Row(Object.values(wanted)[0] as string);
    this.#list.prepend(row.element);
    try {
      let running = await this.#api.import(this.#storeId, wanted);
      row.stop = () => void this.#api.cancelImport(running.id);
      let numArrived = 0;
      while (running.status === "running") {
        row.update(running);
        const { imported } = running.counts;
        if (imported > numArrived) {
          numArrived = imported;
          await this.#arrived();
        }
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        running = await this.#api.importWithPages(running.id);
      }
      row.update(running);
      await this.#arrived();
      announce(`${row.source}: ${countsText(running)}`);
    } catch (error) {
      row.fail(describe(error) ?? "");
    }
  }
}

function request(kind: Kind, source: string, maxPages: number): ImportRequest {
  if (kind === "site") return { site: source, max_pages: maxPages };
  return kind === "arxiv" ? { arxiv: source } : { url: source };
}

class Row {
  readonly source: string;
  readonly element: HTMLLIElement;
  stop: (() => void) | null = null;
  readonly #state = el("p", { class: "state" }, "asking for it");
  readonly #bar = el("progress", { max: "1", "aria-label": "Progress of the import" });
  readonly #problems = el("details", { class: "warnings", hidden: true });
  readonly #problem = el("p", { class: "problem", role: "alert", hidden: true });
  #isRunning = true;

  constructor(source: string) {
    this.source = source;
    this.element = el(
      "li",
      { class: "document import" },
      el("div", { class: "about" }, el("p", { class: "name", title: source }, source), this.#state, this.#bar, this.#problem, this.#problems),
      el("button", { type: "button", class: "icon", title: "Stop or hide", "aria-label": `Stop or hide the import of ${source}`, onclick: () => this.#end() }, "×"),
    );
  }

  update(running: Import): void {
    setText(this.#state, countsText(running));
    const { queued, ...visited } = running.counts;
    const numVisited = Object.values(visited).reduce((sum, part) => sum + part, 0);
    if (running.kind === "site") this.#bar.value = numVisited / Math.max(1, numVisited + queued);
    if (running.status !== "running") this.#finish();
    if (running.error) this.fail(running.error);
    this.#showProblems(running);
  }

  fail(reason: string): void {
    this.#finish();
    this.#problem.hidden = false;
    setText(this.#problem, sentence(reason));
  }

  #finish(): void {
    this.#isRunning = false;
    this.#bar.hidden = true;
  }

  /** Pages that brought no document, and why. */
  #showProblems({ pages = [] }: Import): void {
    const lost = pages.filter(({ outcome, message }) => message !== null && (outcome === "failed" || outcome === "skipped"));
    this.#problems.hidden = lost.length === 0;
    if (this.#problems.querySelectorAll("li").length === lost.length) return;
    this.#problems.replaceChildren(
      el("summary", {}, `${count(lost.length, "page")} left out`),
      el("ul", {}, ...lost.map(({ url, message }) => el("li", {}, `${url}: ${message}`))),
    );
  }

  #end(): void {
    if (this.#isRunning) this.stop?.();
    this.element.remove();
    find("add-from-web").focus();
  }
}

/** "12 added · 3 unchanged · 40 to go". */
export function countsText({ counts, status }: Pick<Import, "counts" | "status">): string {
  const { queued, imported, unchanged, skipped, failed, gone, removed } = counts;
  const parts = [
    imported > 0 && `${imported} added`,
    unchanged > 0 && `${unchanged} unchanged`,
    skipped > 0 && `${skipped} left out`,
    failed > 0 && `${failed} failed`,
    gone > 0 && `${gone} gone`,
    removed > 0 && `${removed} removed`,
    queued > 0 && (status === "running" ? `${queued} to go` : `${queued} not visited`),
  ].filter(Boolean);
  return parts.length > 0 ? parts.join(" · ") : status === "running" ? "fetching" : "nothing was found";
}
