// The passage viewer: the very span of the document that an answer rests on, in its surroundings. Shows text only.
import { describe, type Api, type Selection } from "./api";
import { pageLabel } from "./citations";
import { announce, el, find } from "./dom";
import { selectedText } from "./selection";
import type { Passage, PassageSpan } from "./wire";

/** From this width on, answer and passage stand side by side and the viewer is not modal. */
const SIDE_BY_SIDE = matchMedia("(min-width: 75rem)");

export class PassageViewer {
  readonly #api: Api;
  readonly #dialog = find<HTMLDialogElement>("passage");
  readonly #title = find("passage-title");
  readonly #place = find("passage-place");
  readonly #body = find("passage-body");
  readonly #download = find("passage-download");
  readonly #askAbout = find<HTMLButtonElement>("passage-ask");
  #shown: PassageSpan | null = null;
  #opener: HTMLElement | null = null;
  #loading: AbortController | null = null;

  /** `ask` is called when the reader wants to ask about words that they have marked. */
  constructor(api: Api, ask: (selection: Selection) => void) {
    this.#api = api;
    document.addEventListener("selectionchange", () => (this.#askAbout.disabled = this.#marked() === ""));
    // Pressing it must not take the marking away.
    this.#askAbout.addEventListener("pointerdown", (event) => event.preventDefault());
    this.#askAbout.addEventListener("click", () => {
      const text = this.#marked();
      const shown = this.#shown;
      if (text === "" || shown === null) return;
      this.close();
      ask({ fileId: shown.file_id, filename: shown.filename, text });
    });
    find("passage-close").addEventListener("click", () => this.close());
    // What Escape does to a modal dialog; beside the answer, where it is not modal, Escape is up to us.
    this.#dialog.addEventListener("cancel", () => this.close());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !document.querySelector("dialog:modal")) this.close();
    });
    SIDE_BY_SIDE.addEventListener("change", () => {
      if (this.#dialog.open) this.#show();
    });
  }

  async open(span: PassageSpan, opener: HTMLElement): Promise<void> {
    this.#opener?.removeAttribute("data-open");
    this.#opener = opener;
    opener.setAttribute("data-open", "");
    find("passage-number").textContent = String(span.number);
    this.#shown = span;
    this.#title.textContent = span.filename;
    this.#place.textContent = pageLabel(span);
    this.#body.replaceChildren(el("p", { class: "muted" }, "Opening the passage…"));
    this.#download.replaceChildren(this.#downloadControl(span));
    this.#show();
    this.#title.focus();

    this.#loading?.abort();
    const loading = new AbortController();
    this.#loading = loading;
    try {
      const passage = await this.#api.passage(span.file_id, span.start, span.end, loading.signal);
      if (!loading.signal.aborted) this.#fill(passage);
    } catch (error) {
      const reason = describe(error);
      if (reason === null || loading.signal.aborted) return;
      this.#body.replaceChildren(
        el("p", { class: "problem", role: "alert" }, reason),
        el("button", { type: "button", class: "quiet", onclick: () => void this.open(span, opener) }, "Try again"),
      );
    }
  }

  /** Gives the focus back at once: the dialog's own close event comes too late for someone who types on. */
  close(): void {
    if (!this.#dialog.open) return;
    this.#dialog.close();
    this.#loading?.abort();
    document.body.toggleAttribute("data-passage", false);
    const opener = this.#opener;
    this.#opener = null;
    opener?.removeAttribute("data-open");
    // The answer may have been rendered anew since; the question box is then the nearest place to be.
    if (opener?.isConnected) opener.focus();
    else find("question").focus();
  }

  #show(): void {
    // A dialog cannot change between modal and not while it is open.
    const isModal = this.#dialog.matches(":modal");
    if (this.#dialog.open && isModal === !SIDE_BY_SIDE.matches) return;
    this.#dialog.close();
    if (SIDE_BY_SIDE.matches) this.#dialog.show();
    else this.#dialog.showModal();
    document.body.toggleAttribute("data-passage", true);
  }

  #fill(passage: Passage): void {
    const title = passage.title && passage.title !== passage.filename ? passage.title : null;
    const page = pageLabel(passage);
    this.#place.textContent = [title, page].filter(Boolean).join(" · ");
    const hasMoreBefore = passage.start > new TextEncoder().encode(passage.before).length;
    const mark = el("mark", {}, passage.text);
    // The dots are no text: marked words are the document's own.
    const text = el("div", { class: "passage-text", "data-continued": hasMoreBefore }, passage.before, mark, passage.after);
    this.#body.replaceChildren(text);
    // The span's start in the upper third, with what leads up to it still in view.
    this.#body.scrollTop = mark.offsetTop - this.#body.clientHeight / 4;
    announce(`${page ? `${page}. ` : ""}Cited passage: ${passage.text}`);
  }

  #marked(): string {
    const text = this.#body.querySelector(".passage-text");
    return this.#dialog.open && text ? selectedText(text, getSelection()) : "";
  }

  #downloadControl(span: PassageSpan): HTMLElement {
    const label = "Download the original";
    if (!this.#api.hasKey) return el("a", { href: this.#api.contentUrl(span.file_id), download: span.filename }, label);
    // A link cannot carry the key.
    const button = el("button", { type: "button", class: "link" }, label);
    button.addEventListener("click", () => void this.#downloadWithKey(span, button));
    return button;
  }

  async #downloadWithKey(span: PassageSpan, button: HTMLButtonElement): Promise<void> {
    // Disabling the button would throw the focus out of the viewer.
    if (button.ariaBusy === "true") return;
    button.ariaBusy = "true";
    try {
      const url = URL.createObjectURL(await this.#api.content(span.file_id));
      el("a", { href: url, download: span.filename }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      this.#download.append(el("p", { class: "problem", role: "alert" }, describe(error) ?? ""));
    }
    button.ariaBusy = "false";
  }
}
