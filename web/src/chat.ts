// The conversation: asks, streams, stops, retries. It lives in this tab's memory and nowhere else.
import type { Answerer, Mode } from "./answerer";
import { advance, fail, finish, isRunning, newAnswer, type Answer } from "./answer";
import { ApiError, describe, type Api, type Message, type Question, type Search, type Selection } from "./api";
import { announce, el, find, setText } from "./dom";
import type { Documents } from "./documents";
import type { PreferencesDialog } from "./preferences";
import { count } from "./progress";
import { SelectionNote } from "./selection";
import { TurnView } from "./turn";
import type { PassageSpan } from "./wire";

interface Turn {
  question: string;
  mode: Mode;
  selection: Selection | null;
  answer: Answer;
  view: TurnView;
}

export interface ChatSetting {
  api: Api;
  documents: Documents;
  answerer: Answerer;
  preferences: PreferencesDialog;
  storeId: string;
  openPassage: (span: PassageSpan, opener: HTMLElement) => void;
}

const STARTERS_BEFORE = ["What are the main points?", "Which deadlines are mentioned?", "Who is responsible for what?"];
const STARTERS_AFTER = ["What are these documents about?", "What are the main points?", "Which dates and deadlines are mentioned?"];
/** A single sentence can answer these. */
const STARTERS_QUOTE = ["Who is responsible?", "When is the deadline?", "How much does it cost?"];
/** Closer to the end than this, in pixels, the page follows the answer. */
const FOLLOW_DISTANCE = 80;

export class Chat {
  readonly #setting: ChatSetting;
  readonly #thread = find("thread");
  readonly #turns = find("turns");
  readonly #question = find<HTMLTextAreaElement>("question");
  readonly #send = find<HTMLButtonElement>("send");
  readonly #stop = find<HTMLButtonElement>("stop");
  readonly #summarize = find<HTMLButtonElement>("summarize");
  readonly #selection = new SelectionNote(() => this.updateControls());
  #history: Turn[] = [];
  #running: AbortController | null = null;

  constructor(setting: ChatSetting) {
    this.#setting = setting;
    find("ask-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#question.addEventListener("keydown", (event) => {
      // Enter also ends the input of a character; that one is not for us.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    });
    this.#question.addEventListener("input", () => this.updateControls());
    this.#stop.addEventListener("click", () => {
      this.#running?.abort();
      this.#question.focus();
    });
    find("new-conversation").addEventListener("click", () => this.#startOver());
    this.#summarize.addEventListener("click", () => this.#askForSummary());
    this.updateControls();
  }

  /** Brings buttons and hints in line with the documents and the running answer. */
  updateControls(): void {
    const way = this.#setting.answerer.way;
    this.#send.hidden = this.#running !== null;
    this.#stop.hidden = this.#running === null;
    this.#send.disabled = this.#isBlocked || this.#question.value.trim() === "";
    this.#summarize.hidden = this.#setting.documents.ready.length === 0;
    this.#summarize.disabled = this.#running !== null || !this.#canSummarize;
    this.#question.disabled = way === null;
    setText(find("scope"), this.#scopeText());
    find("new-conversation").hidden = this.#history.length === 0;
    find("welcome").hidden = this.#history.length > 0;
    this.#updateWelcome();
  }

  /** The next question is about these words alone. */
  askAbout(selection: Selection): void {
    this.#selection.set(selection);
    this.#question.focus();
  }

  get #canSummarize(): boolean {
    const { documents, answerer } = this.#setting;
    return (answerer.way?.usesDocuments ?? false) && documents.scope().kind !== "none";
  }

  /** Whether nothing can be asked as things stand. */
  get #isBlocked(): boolean {
    const { documents, answerer } = this.#setting;
    if (this.#selection.current !== null && answerer.way?.usesDocuments) return false;
    return answerer.way === null || (answerer.way.usesDocuments && documents.scope().kind === "none");
  }

  #scopeText(): string {
    const { documents, answerer } = this.#setting;
    if (answerer.way === null) return "No model is loaded: nothing can be asked.";
    if (!answerer.way.usesDocuments) return "Asking without documents";
    if (this.#selection.current !== null) return "Asking the marked words alone";
    const scope = documents.scope();
    const numReady = documents.ready.length;
    if (scope.kind === "none") return "No document is chosen: tick at least one to ask.";
    if (scope.kind === "some") return `Asking ${scope.fileIds.length} of ${count(numReady, "document")}`;
    if (numReady === 0) return documents.list.length > 0 ? "No document is ready yet" : "No documents yet";
    return numReady === 1 ? "Asking your document" : `Asking all ${numReady} documents`;
  }

  #updateWelcome(): void {
    const { documents, answerer } = this.#setting;
    const hasDocuments = documents.ready.length > 0;
    const isReading = !hasDocuments && documents.list.some(({ phase }) => phase !== "failed");
    const title = hasDocuments ? "Ask your documents." : isReading ? "Reading your documents…" : "Drop a file to begin.";
    setText(find("welcome-title"), answerer.way === null ? "No model is loaded." : title);
    find("examples").hidden = answerer.way === null;
    find("welcome-files").hidden = hasDocuments || isReading;
    setText(find("starters-title"), hasDocuments ? "For example" : "Then ask, for example");
    const list = find("starters");
    const written = hasDocuments ? STARTERS_AFTER : STARTERS_BEFORE;
    const starters = answerer.way?.isQuote ? STARTERS_QUOTE : written;
    if (list.dataset["shown"] === starters.join()) return;
    list.dataset["shown"] = starters.join();
    list.replaceChildren(
      ...starters.map((text) =>
        el("li", {}, el("button", { type: "button", onclick: () => this.#propose(text) }, text)),
      ),
    );
  }

  /** Puts a question in the box for the reader to change or send. */
  #propose(text: string): void {
    this.#question.value = text;
    this.#question.focus();
    this.updateControls();
  }

  #submit(): void {
    const question = this.#question.value.trim();
    if (question === "" || this.#running || this.#send.disabled) return;
    this.#question.value = "";
    const selection = this.#setting.answerer.way?.usesDocuments ? this.#selection.current : null;
    void this.#ask(question, null, selection);
  }

  #askForSummary(): void {
    const scope = this.#setting.documents.scope();
    const num = scope.kind === "some" ? scope.fileIds.length : this.#setting.documents.ready.length;
    void this.#ask(`Summarize ${num === 1 ? "the document" : `the ${num} documents`}.`, "summary", null);
  }

  async #ask(question: string, mode: Mode, selection: Selection | null): Promise<void> {
    const { documents, answerer, preferences, storeId } = this.#setting;
    const way = answerer.way!;
    const { alpha, topK, reader } = preferences.current;
    const turn: Turn = {
      question,
      mode,
      selection,
      answer: newAnswer(),
      view: new TurnView(question, way.isQuote, {
        openPassage: (span, opener) => this.#setting.openPassage(span, opener),
        retry: () => this.#retry(turn),
      }),
    };
    const earlier = this.#history;
    const scope = documents.scope();
    const running = new AbortController();
    this.#running = running;
    this.#history = [...earlier, turn];
    this.#turns.append(turn.view.element);
    this.updateControls();
    const painter = new Painter(() => this.#paint(turn));
    painter.now();
    this.#thread.scrollTop = this.#thread.scrollHeight;
    announce(way.usesDocuments && selection === null ? "Searching your documents." : "Asking the model.");

    try {
      const fileIds = scope.kind === "some" ? scope.fileIds : null;
      const search: Search | null = way.usesDocuments && selection === null ? { storeId, fileIds, topK, alpha } : null;
      const isWritten = way.usesDocuments && !way.isQuote;
      const asked = { model: way.model, search, mode, selection, reader: isWritten && reader !== "" ? reader : null };
      for await (const event of this.#events(question, earlier, asked, running.signal)) {
        turn.answer = advance(turn.answer, event);
        painter.soon();
      }
      turn.answer = finish(turn.answer);
    } catch (error) {
      const reason = describe(error);
      turn.answer = reason === null ? { ...turn.answer, phase: "stopped" } : fail(turn.answer, reason);
    }
    painter.now();
    if (this.#running === running) this.#running = null;
    this.updateControls();
    if (this.#history.includes(turn)) announceAnswer(turn);
  }

  /** The answer's events. Continues the last stored answer, so that the server need not read its sources again. */
  async *#events(question: string, earlier: Turn[], asked: Omit<Question, "previousId" | "input">, signal: AbortSignal) {
    const { api } = this.#setting;
    const last = earlier.findLastIndex(({ answer }) => answer.responseId !== null);
    const previousId = earlier[last]?.answer.responseId ?? null;
    try {
      const input = messages(earlier.slice(last + 1), question);
      yield* api.ask({ ...asked, previousId, input }, signal);
    } catch (error) {
      const isGone = error instanceof ApiError && error.code === "previous_response_not_found";
      if (!isGone) throw error;
      yield* api.ask({ ...asked, previousId: null, input: messages(earlier, question) }, signal);
    }
  }

  #retry(turn: Turn): void {
    if (this.#running || this.#isBlocked) return;
    this.#history = this.#history.filter((other) => other !== turn);
    turn.view.element.remove();
    this.#question.focus();
    void this.#ask(turn.question, turn.mode, turn.selection);
  }

  #startOver(): void {
    this.#running?.abort();
    this.#running = null;
    this.#history = [];
    this.#selection.set(null);
    this.#turns.replaceChildren();
    this.updateControls();
    this.#question.focus();
    announce("New conversation.");
  }

  #paint(turn: Turn): void {
    const { scrollTop, scrollHeight, clientHeight } = this.#thread;
    const isAtEnd = scrollHeight - scrollTop - clientHeight < FOLLOW_DISTANCE;
    turn.view.update(turn.answer);
    if (isAtEnd) this.#thread.scrollTop = this.#thread.scrollHeight;
  }
}

/** Turns that have an answer, then the question. */
function messages(turns: Turn[], question: string): Message[] {
  const answered = turns.filter(({ answer }) => answer.text !== "" && answer.phase !== "failed");
  const earlier = answered.flatMap((turn): Message[] => [
    { role: "user", content: turn.question },
    { role: "assistant", content: turn.answer.text },
  ]);
  return [...earlier, { role: "user", content: question }];
}

/** Tokens may come faster than frames; the page is touched once a frame. */
class Painter {
  readonly #paint: () => void;
  #frame = 0;

  constructor(paint: () => void) {
    this.#paint = paint;
  }

  soon(): void {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => this.now());
  }

  now(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#paint();
  }
}

/** A screen reader hears the answer once, when it is whole. */
function announceAnswer({ answer, view }: Turn): void {
  if (isRunning(answer) || answer.phase === "failed") return;
  const text = view.element.querySelector(".prose")?.textContent ?? "";
  const verdict = answer.isNotFound ? "Not found in your documents. " : answer.phase === "stopped" ? "Stopped. " : "";
  announce(`${verdict}${text} ${answer.sources.length > 0 ? count(answer.sources.length, "source") : ""}`);
}
