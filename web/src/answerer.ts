// Who answers: the documents themselves, the chat model from the documents, or the chat model alone. Asks nothing itself.
import { el, find } from "./dom";
import type { Status } from "./wire";

export interface Way {
  model: string;
  usesDocuments: boolean;
  /** Answers are sentences of the documents, word for word. */
  isQuote: boolean;
  label: string;
}

/** What an answer from documents is, where that is not what the model does anyway. */
export type Mode = "summary" | null;

const QUOTE_MODEL = "inglenook-quote";

/** Every way to answer that this server has, the default first; none when it has no model at all. */
export function waysToAnswer(status: Pick<Status, "chat_model" | "answer_models">): Way[] {
  const ways: Way[] = status.answer_models.map((model) => {
    const isQuote = model === QUOTE_MODEL;
    return { model, usesDocuments: true, isQuote, label: isQuote ? "Quote the documents" : `Written by ${model}` };
  });
  const chat = status.chat_model?.id;
  if (chat) ways.push({ model: chat, usesDocuments: false, isQuote: false, label: `Chat with ${chat}, without documents` });
  return ways;
}

/** The choice beside the question; hidden where there is nothing to choose. */
export class Answerer {
  readonly #ways: Way[];
  readonly #choice = find<HTMLSelectElement>("answerer");

  constructor(status: Status, changed: () => void) {
    this.#ways = waysToAnswer(status);
    this.#choice.replaceChildren(...this.#ways.map(({ label }, at) => el("option", { value: String(at) }, label)));
    this.#choice.hidden = this.#ways.length < 2;
    this.#choice.addEventListener("change", changed);
  }

  get way(): Way | null {
    return this.#ways[Number(this.#choice.value)] ?? null;
  }
}
