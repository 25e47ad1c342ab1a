// Which markers become citations, and which passage each one opens.
import { describe, expect, it } from "vitest";
import { markCitations, pageLabel, restoreMarkers, splitMarkers } from "../src/citations";
import { parseMarkdown } from "../src/markdown";
import type { Citation } from "../src/wire";

function citation(number: number, index: number, start = 0): Citation {
  return { type: "file_citation", file_id: "file-1", filename: "a.pdf", index, number, page_first: 1, page_last: 1, start, end: start + 5, quote: "" };
}

describe("markCitations", () => {
  it("gives each marker its citation and leaves the others without one", () => {
    const { markers } = markCitations("Rent is due [1][3]. See [2].", [citation(1, 12), citation(3, 15)]);
    expect(markers.map(({ number, citation }) => [number, citation?.number ?? null])).toEqual([[1, 1], [3, 3], [2, null]]);
  });

  it("tells two citations of one number apart by their place, counted in characters", () => {
    const answer = "🔥🔥🔥🔥🔥🔥🔥🔥 a [1] and b [1].";
    const [first, second] = [...answer.matchAll(/\[1\]/g)].map(({ index }) => [...answer.slice(0, index)].length);
    const { markers } = markCitations(answer, [citation(1, second!, 500), citation(1, first!, 100)]);
    expect(markers.map(({ citation }) => citation?.start)).toEqual([100, 500]);
  });

  it("is not fooled by the characters it uses itself", () => {
    const { text, markers } = markCitations("a \uE0000\uE001 b [1]", [citation(1, 7)]);
    expect(splitMarkers(text)).toEqual(["a 0 b ", 0]);
    expect(markers).toHaveLength(1);
  });

  it("keeps a marker before a bracket from becoming a link", () => {
    const { text } = markCitations("due [1](https://evil.example) now", [citation(1, 4)]);
    expect(parseMarkdown(text)[0]!.block).toEqual({
      kind: "paragraph",
      children: [{ kind: "text", text: "due \uE0000\uE001(https://evil.example) now" }],
    });
  });

  it("puts markers back as written inside code", () => {
    const { text, markers } = markCitations("x[1] = y[2]", [citation(1, 1)]);
    expect(restoreMarkers(text, markers)).toBe("x[1] = y[2]");
  });
});

describe("pageLabel", () => {
  it("names pages only where the document has them", () => {
    expect(pageLabel({ filename: "a.PDF", page_first: 1, page_last: 1 })).toBe("page 1");
    expect(pageLabel({ filename: "a.pdf", page_first: 3, page_last: 4 })).toBe("pages 3–4");
    expect(pageLabel({ filename: "notes.md", page_first: 1, page_last: 1 })).toBe("");
  });
});
