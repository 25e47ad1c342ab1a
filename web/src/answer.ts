// An answer as it grows from the events of one response. Pure: no network, no page.
import type { AboutAnswer, Citation, OutputItem, ResponseEvent, ResponseObject, SearchResult } from "./wire";

export type Phase = "waiting" | "searching" | "reading" | "writing" | "completed" | "incomplete" | "failed" | "stopped";

export interface Answer {
  phase: Phase;
  text: string;
  citations: Citation[];
  sources: SearchResult[];
  /** Why the answer ended early, for a reader; null when it did not. */
  problem: string | null;
  isNotFound: boolean;
  /** What was left out of the prompt, in the server's words. */
  dropped: string | null;
  /** Names the stored response that a next question can continue. */
  responseId: string | null;
  about: AboutAnswer | null;
  /** How far the work on a summary is, for a reader; null before it and for other answers. */
  progress: string | null;
}

export function newAnswer(): Answer {
  return {
    phase: "waiting",
    text: "",
    citations: [],
    sources: [],
    problem: null,
    isNotFound: false,
    dropped: null,
    responseId: null,
    about: null,
    progress: null,
  };
}

export function isRunning(answer: Answer): boolean {
  return ["waiting", "searching", "reading", "writing"].includes(answer.phase);
}

/** The answer after one more event. Events it does not know change nothing. */
export function advance(answer: Answer, event: ResponseEvent): Answer {
  switch (event.type) {
    case "response.file_search_call.in_progress":
    case "response.file_search_call.searching":
      return { ...answer, phase: "searching" };
    case "response.file_search_call.completed":
      return { ...answer, phase: "reading" };
    case "response.inglenook.progress":
      return { ...answer, phase: "reading", progress: `${event.done ?? 0} of ${event.total ?? 0}` };
    case "response.output_text.delta":
      return { ...answer, phase: "writing", text: answer.text + (event.delta ?? "") };
    case "response.output_text.done":
      return { ...answer, text: event.text ?? answer.text };
    case "response.output_text.annotation.added":
      return event.annotation ? { ...answer, citations: [...answer.citations, event.annotation] } : answer;
    case "response.output_item.done":
      return event.item ? takeItem(answer, event.item) : answer;
    case "response.completed":
      return { ...takeResponse(answer, event.response), phase: "completed", responseId: event.response?.id ?? null };
    case "response.incomplete":
      return {
        ...takeResponse(answer, event.response),
        phase: "incomplete",
        responseId: event.response?.id ?? null,
        problem:
          event.response?.incomplete_details?.reason === "max_output_tokens"
            ? "The answer reached its length limit and ends here."
            : "The answer ended early.",
      };
    case "response.failed":
      return fail(takeResponse(answer, event.response), event.response?.error?.message);
    case "error":
      return fail(answer, event.message);
    default:
      return answer;
  }
}

/** The answer when the stream has ended, whether or not the server said so. */
export function finish(answer: Answer): Answer {
  return isRunning(answer) ? fail(answer, "The connection closed before the answer was complete.") : answer;
}

export function fail(answer: Answer, message: string | undefined): Answer {
  return { ...answer, phase: "failed", problem: sentence(message ?? "The answer failed without saying why.") };
}

/** Server messages are lower case without a full stop; a page wants a sentence. */
export function sentence(message: string): string {
  const trimmed = message.trim();
  const capital = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?…]$/.test(capital) ? capital : `${capital}.`;
}

function takeResponse(answer: Answer, response: ResponseObject | undefined): Answer {
  if (!response) return answer;
  const taken = (response.output ?? []).reduce(takeItem, answer);
  return {
    ...taken,
    isNotFound: response.metadata?.["inglenook_outcome"] === "not_found",
    dropped: response.metadata?.["inglenook_dropped"] || null,
    about: response.inglenook ?? null,
  };
}

/** A finished item is the truth about its part, whatever the deltas added up to. */
function takeItem(answer: Answer, item: OutputItem): Answer {
  if (item.type === "file_search_call" && item.results) {
    return { ...answer, sources: [...item.results].sort((a, b) => a.number - b.number) };
  }
  if (item.type === "message" && item.content) {
    const texts = item.content.filter((part) => part.type === "output_text");
    if (texts.length === 0) return answer;
    return {
      ...answer,
      text: texts.map((part) => part.text ?? "").join(""),
      citations: texts.flatMap((part) => part.annotations ?? []).filter(({ type }) => type === "file_citation"),
    };
  }
  return answer;
}
