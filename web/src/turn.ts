// One question and its answer on the page. Shows what it is given; asks nothing itself.
import { isRunning, type Answer } from "./answer";
import { pageLabel } from "./citations";
import { el, setText } from "./dom";
import { count } from "./progress";
import { AnswerText } from "./render";
import type { AboutAnswer, PassageSpan, SearchResult } from "./wire";

export interface TurnActions {
  openPassage(span: PassageSpan, opener: HTMLElement): void;
  retry(): void;
}

export class TurnView {
  readonly element: HTMLElement;
  readonly #actions: TurnActions;
  readonly #phase = el("p", { class: "phase" });
  readonly #text: AnswerText;
  readonly #note = el("div", { class: "note" });
  readonly #sources = el("div", { class: "sources" });
  #shownSources: readonly SearchResult[] = [];
  #shownCited = "";
  #shownNote = "";

  constructor(question: string, isQuote: boolean, actions: TurnActions) {
    this.#actions = actions;
    this.#text = new AnswerText((citation, opener) => actions.openPassage(citation, opener), isQuote);
    this.element = el(
      "article",
      { class: "turn" },
      el("h2", { class: "asked" }, question),
      el("div", { class: "answer" }, this.#phase, this.#text.element, this.#note, this.#sources),
    );
  }

  update(answer: Answer): void {
    this.element.dataset["phase"] = answer.phase;
    this.element.toggleAttribute("data-not-found", answer.isNotFound);
    this.element.setAttribute("aria-busy", String(isRunning(answer)));
    const phase = answer.isNotFound ? notFoundText(answer) : phaseText(answer);
    setText(this.#phase, phase);
    this.#phase.hidden = phase === "";
    this.#text.update(answer.text, answer.citations);
    this.#updateNote(answer);
    // Sources jump about less when they come with the end of the answer.
    if (!isRunning(answer)) this.#updateSources(answer);
  }

  #updateNote(answer: Answer): void {
    const shown = JSON.stringify([answer.phase, answer.problem, answer.dropped, answer.about]);
    if (this.#shownNote === shown) return;
    this.#shownNote = shown;
    const canRetry = answer.phase === "failed" || answer.phase === "stopped";
    const retry = el("button", { type: "button", class: "quiet", onclick: () => this.#actions.retry() }, "Try again");
    this.#note.replaceChildren(
      ...[
        answer.problem && el("p", answer.phase === "failed" ? { class: "problem", role: "alert" } : { class: "muted" }, answer.problem),
        answer.phase === "stopped" ? el("p", { class: "muted" }, "Stopped.") : null,
        answer.dropped && el("p", { class: "muted" }, el("b", {}, "Left out: "), answer.dropped),
        isRunning(answer) ? null : aboutView(answer.about),
        canRetry ? retry : null,
      ].filter((part) => part instanceof HTMLElement),
    );
  }

  #updateSources(answer: Answer): void {
    const cited = new Set(answer.citations.map(({ number }) => number));
    const shownCited = [...cited].join();
    if (this.#shownSources === answer.sources && this.#shownCited === shownCited) return;
    this.#shownSources = answer.sources;
    this.#shownCited = shownCited;
    if (answer.sources.length === 0) return this.#sources.replaceChildren();
    const heading = answer.isNotFound ? "Closest passages" : "Sources";
    this.#sources.replaceChildren(
      el("h3", {}, heading, el("span", { class: "muted" }, sourcesSummary(answer, cited))),
      el("ul", {}, ...answer.sources.map((source) => this.#source(source, cited.has(source.number)))),
    );
  }

  #source(source: SearchResult, isCited: boolean): HTMLLIElement {
    const page = pageLabel(source);
    const score = source.score === null ? "" : source.score.toFixed(2);
    return el(
      "li",
      { class: isCited ? "is-cited" : undefined },
      el(
        "button",
        {
          type: "button",
          "aria-label": [`Open source ${source.number}: ${source.filename}`, page, score && `score ${score}`, isCited && "cited"]
            .filter(Boolean)
            .join(", "),
          onclick: (event) => this.#actions.openPassage(source, event.currentTarget as HTMLElement),
        },
        el("span", { class: "number" }, String(source.number)),
        el("span", { class: "name" }, source.filename),
        el("span", { class: "page" }, page),
        el("span", { class: "score", title: scoreTitle(source) }, score),
        el("span", { class: "excerpt" }, source.text.replace(/\s+/g, " ").slice(0, 240)),
      ),
    );
  }
}

function notFoundText({ about }: Answer): string {
  return about?.outcome === "declined" ? "Not sure enough to answer" : "Not found in your documents";
}

/** What there is to say of an answer besides its words, in one line; null when there is nothing. */
function aboutView(about: AboutAnswer | null): HTMLElement | null {
  if (about === null) return null;
  const { confidence, cached, outcome, search_query, summary } = about;
  const parts: (HTMLElement | string)[] = [];
  if (outcome === "uncited") {
    parts.push(el("span", { title: "The model has cited no document, so nothing here was checked" }, "Nothing cited"));
  }
  if (typeof confidence === "number") {
    const percent = Math.round(confidence * 100);
    const title = "How sure it is that what was found answers the question";
    parts.push(el("span", { title }, `Confidence ${percent} %`));
  }
  if (summary) {
    const made = summary.method === "written" ? "Summary of" : "Central sentences of";
    parts.push(`${made} ${count(summary.passages, "passage")} in ${count(summary.documents, "document")}`);
  }
  if (search_query) parts.push(`Searched for “${search_query}”`);
  if (cached) parts.push(el("span", { title: "The same question was asked before, and nothing has changed since" }, "Given before"));
  if (parts.length === 0) return null;
  return el("p", { class: "about-answer muted" }, ...parts.flatMap((part, at) => (at === 0 ? [part] : [" · ", part])));
}

function scoreTitle({ similarity, heading_path }: SearchResult): string {
  const likeness = typeof similarity === "number" ? `Similarity ${similarity.toFixed(2)}` : "Found by its words";
  const place = heading_path?.length ? `, under ${heading_path.join(" › ")}` : "";
  return `How well the passage matches the question. ${likeness}${place}`;
}

function sourcesSummary(answer: Answer, cited: ReadonlySet<number>): string {
  if (answer.isNotFound) return "";
  return cited.size === 0
    ? `${count(answer.sources.length, "passage")} read, none cited`
    : `${cited.size} cited of ${count(answer.sources.length, "passage")} read`;
}

function phaseText(answer: Answer): string {
  switch (answer.phase) {
    case "waiting":
      return "Waiting for the model…";
    case "searching":
      return "Searching your documents…";
    case "reading":
      if (answer.progress !== null) return `Summarizing, part ${answer.progress}…`;
      return answer.sources.length > 0 ? `Reading ${count(answer.sources.length, "passage")}…` : "Reading…";
    default:
      return "";
  }
}
