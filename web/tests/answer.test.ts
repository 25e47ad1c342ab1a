// How an answer grows from events, and that it never claims to be complete when it is not.
import { describe, expect, it } from "vitest";
import { advance, finish, newAnswer, sentence } from "../src/answer";
import type { Citation, ResponseEvent, SearchResult } from "../src/wire";

const span = { file_id: "file-1", filename: "a.md", page_first: 1, page_last: 1, start: 0, end: 4 };
const cited: Citation = { ...span, type: "file_citation", index: 4, number: 2, quote: "Rent" };
const found = (number: number): SearchResult => ({ ...span, number, score: 0.5, text: "Rent" });
const after = (...events: ResponseEvent[]) => events.reduce(advance, newAnswer());

describe("an answer", () => {
  it("grows by deltas and keeps citations and sources in order of their number", () => {
    const answer = after(
      { type: "response.created" },
      { type: "response.output_item.done", item: { type: "file_search_call", results: [found(2), found(1)] } },
      { type: "response.output_text.delta", delta: "Rent" },
      { type: "response.output_text.delta", delta: " [2]" },
      { type: "response.output_text.annotation.added", annotation: cited },
      { type: "response.of_a_later_version" },
    );
    expect(answer).toMatchObject({ phase: "writing", text: "Rent [2]", citations: [cited] });
    expect(answer.sources.map(({ number }) => number)).toEqual([1, 2]);
  });

  it("takes the final response over what the deltas added up to", () => {
    const content = [{ type: "output_text", text: "Rent [2]", annotations: [cited] }];
    const answer = after(
      { type: "response.output_text.delta", delta: "Ren" },
      { type: "response.completed", response: { id: "resp_1", output: [{ type: "message", content }], metadata: { inglenook_outcome: "not_found", inglenook_dropped: "2 old turns" } } },
    );
    expect(answer).toMatchObject({ phase: "completed", text: "Rent [2]", citations: [cited], isNotFound: true, dropped: "2 old turns" });
  });

  it("fails when the stream ends without saying that it is complete", () => {
    const answer = finish(after({ type: "response.output_text.delta", delta: "Rent is" }));
    expect(answer).toMatchObject({ phase: "failed", text: "Rent is", problem: "The connection closed before the answer was complete." });
  });

  it("says why when the server says why", () => {
    expect(after({ type: "error", code: "server_error", message: "out of memory" }).problem).toBe("Out of memory.");
    expect(after({ type: "response.failed", response: { id: "r", error: { code: "server_error", message: "timed out" } } }).problem).toBe("Timed out.");
    expect(after({ type: "response.incomplete", response: { id: "r", incomplete_details: { reason: "max_output_tokens" } } })).toMatchObject({
      phase: "incomplete",
      problem: "The answer reached its length limit and ends here.",
    });
  });
});

describe("sentence", () => {
  it("makes a sentence of a bare message once", () => {
    expect(sentence("no space left")).toBe("No space left.");
    expect(sentence("Why not?")).toBe("Why not?");
  });
});
