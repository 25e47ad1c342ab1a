// How the reader wants to search and be answered. Kept in this browser, sent with each question, known to no one else.
import { el, find } from "./dom";

export interface Preferences {
  /** From 0, only words, to 1, only meaning; null leaves it to the server. */
  alpha: number | null;
  /** Passages that are read for a question. */
  topK: number;
  /** Who asks, in their own words. */
  reader: string;
}

export const DEFAULTS: Preferences = { alpha: null, topK: 6, reader: "" };
const MAX_TOP_K = 20;
const MAX_READER = 2000;
const KEY = "inglenook-preferences";

/** What was stored, as far as it makes sense; an older page may have stored something else. */
export function readPreferences(stored: string | null): Preferences {
  let given: Partial<Record<keyof Preferences, unknown>> = {};
  try {
    given = (JSON.parse(stored ?? "{}") as typeof given | null) ?? {};
  } catch {
    // Nothing of use.
  }
  const { alpha, topK, reader } = given;
  return {
    alpha: typeof alpha === "number" && alpha >= 0 && alpha <= 1 ? alpha : DEFAULTS.alpha,
    topK: Number.isInteger(topK) && Number(topK) >= 1 && Number(topK) <= MAX_TOP_K ? Number(topK) : DEFAULTS.topK,
    reader: typeof reader === "string" ? reader.slice(0, MAX_READER) : DEFAULTS.reader,
  };
}

/** The dialog behind the button beside the question. */
export class PreferencesDialog {
  current = readPreferences(localStorage.getItem(KEY));
  readonly #button = find("preferences");

  constructor() {
    this.#button.addEventListener("click", () => this.#open());
    this.#mark();
  }

  #open(): void {
    const { alpha, topK, reader } = this.current;
    const balance = el("input", { id: "alpha", type: "range", min: "0", max: "1", step: "0.05", "aria-describedby": "alpha-says" });
    balance.value = String(alpha ?? 0.5);
    const says = el("span", { id: "alpha-says", class: "muted" });
    const describe = () => (says.textContent = balanceText(Number(balance.value)));
    balance.addEventListener("input", describe);
    describe();
    const passages = el("input", { id: "top-k", type: "number", min: "1", max: String(MAX_TOP_K), required: true, "aria-describedby": "top-k-says" });
    passages.value = String(topK);
    const about = el("textarea", { id: "reader", rows: "3", maxlength: String(MAX_READER), "aria-describedby": "reader-says" });
    about.value = reader;
    const dialog = el("dialog", { class: "question", "aria-labelledby": "preferences-title" });
    const reset = () => {
      this.#keep(DEFAULTS);
      dialog.close();
    };
    dialog.append(
      el(
        "form",
        { method: "dialog" },
        el("h2", { id: "preferences-title" }, "How to search and answer"),
        el("label", { for: "alpha" }, "What counts in a search"),
        el("div", { class: "balance" }, el("span", {}, "Words"), balance, el("span", {}, "Meaning")),
        says,
        el("label", { for: "top-k" }, "Passages read for a question"),
        passages,
        el("p", { id: "top-k-says", class: "muted" }, "More find what is spread over many places, and take longer to read."),
        el("label", { for: "reader" }, "About you"),
        about,
        el("p", { id: "reader-says", class: "muted" }, "What an answer may assume that you know, such as your work or your field. Written answers suit it; quotes stay as they are."),
        el(
          "div",
          { class: "actions" },
          el("button", { type: "button", class: "quiet", onclick: reset }, "Reset"),
          el("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Cancel"),
          el("button", { class: "primary", value: "agreed" }, "Keep"),
        ),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (dialog.returnValue === "agreed") {
        const chosen = Number(balance.value);
        this.#keep({ alpha: chosen === 0.5 ? null : chosen, topK: Number(passages.value), reader: about.value.trim() });
      }
      this.#button.focus();
    });
    document.body.append(dialog);
    dialog.showModal();
  }

  #keep(preferences: Preferences): void {
    this.current = preferences;
    localStorage.setItem(KEY, JSON.stringify(preferences));
    this.#mark();
  }

  /** Settings that were changed are not forgotten about. */
  #mark(): void {
    const { alpha, topK, reader } = this.current;
    const isChanged = alpha !== DEFAULTS.alpha || topK !== DEFAULTS.topK || reader !== DEFAULTS.reader;
    this.#button.toggleAttribute("data-changed", isChanged);
    this.#button.setAttribute("aria-label", isChanged ? "Settings of search and answers, changed" : "Settings of search and answers");
  }
}

export function balanceText(alpha: number): string {
  if (alpha === 0) return "Only the question's words count.";
  if (alpha === 1) return "Only its meaning counts.";
  if (alpha === 0.5) return "Words and meaning count the same.";
  const percent = Math.round(alpha * 100);
  return `Meaning counts ${percent} %, words ${100 - percent} %.`;
}
