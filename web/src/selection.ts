// Words that the reader has marked in a document: the next question is asked about them alone.
import type { Selection } from "./api";
import { el, find } from "./dom";

const SHOWN = 120;

/** The exact text between both ends of what is selected inside `element`; empty where that is nothing of it. */
export function selectedText(element: Element, selection: globalThis.Selection | null): string {
  if (!selection || selection.isCollapsed || selection.rangeCount === 0) return "";
  const range = selection.getRangeAt(0).cloneRange();
  if (!element.contains(range.commonAncestorContainer) && !range.intersectsNode(element)) return "";
  const all = document.createRange();
  all.selectNodeContents(element);
  if (range.compareBoundaryPoints(Range.START_TO_START, all) < 0) range.setStart(all.startContainer, all.startOffset);
  if (range.compareBoundaryPoints(Range.END_TO_END, all) > 0) range.setEnd(all.endContainer, all.endOffset);
  // Not toString of the selection: that shows text as it is laid out, and the server looks for it as it is stored.
  return range.toString().trim();
}

/** What stands over the question box while a question is about marked words. */
export class SelectionNote {
  current: Selection | null = null;
  readonly #note = find("selection");
  readonly #changed: () => void;

  constructor(changed: () => void) {
    this.#changed = changed;
  }

  set(selection: Selection | null): void {
    this.current = selection;
    this.#note.hidden = selection === null;
    this.#note.replaceChildren();
    if (selection !== null) {
      const text = selection.text.replace(/\s+/g, " ");
      const shown = text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
      const label = "Ask all documents again";
      this.#note.append(
        el("p", {}, el("b", {}, `About the marked words in ${selection.filename}: `), `“${shown}”`),
        el("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick: () => this.#clear() }, "×"),
      );
    }
    this.#changed();
  }

  #clear(): void {
    this.set(null);
    find("question").focus();
  }
}
