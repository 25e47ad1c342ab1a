// What the Markdown reader makes of what models write, and of what hostile documents make models write.
import { describe, expect, it } from "vitest";
import { parseInline, parseMarkdown, type Block } from "../src/markdown";

const blocks = (text: string): Block[] => parseMarkdown(text).map(({ block }) => block);
const text = (value: string) => ({ kind: "text", text: value });

describe("blocks", () => {
  it("parts paragraphs at blank lines and keeps line breaks inside them", () => {
    expect(blocks("one\ntwo\n\n\nthree")).toEqual([
      { kind: "paragraph", children: [text("one"), { kind: "break" }, text("two")] },
      { kind: "paragraph", children: [text("three")] },
    ]);
  });

  it("reads headings, rules and quotes", () => {
    expect(blocks("## Rent ##\n---\n> a\n> b")).toEqual([
      { kind: "heading", level: 2, children: [text("Rent")] },
      { kind: "rule" },
      { kind: "quote", blocks: [{ kind: "paragraph", children: [text("a"), { kind: "break" }, text("b")] }] },
    ]);
  });

  it("reads lists with nested lists, and a list right after a paragraph", () => {
    expect(blocks("Steps:\n3. three\n   - inner\n\n4. four")).toEqual([
      { kind: "paragraph", children: [text("Steps:")] },
      {
        kind: "list",
        start: 3,
        items: [
          { children: [text("three")], lists: [{ kind: "list", start: null, items: [{ children: [text("inner")], lists: [] }] }] },
          { children: [text("four")], lists: [] },
        ],
      },
    ]);
  });

  it("keeps code as it is, also while its fence is still open", () => {
    expect(blocks("```sh\na  *b*\n\n# c\n```\nend")).toEqual([
      { kind: "code", text: "a  *b*\n\n# c" },
      { kind: "paragraph", children: [text("end")] },
    ]);
    expect(blocks("```\nstill writing")).toEqual([{ kind: "code", text: "still writing" }]);
  });

  it("gives every block the lines it was read from", () => {
    expect(parseMarkdown("# a\n\n- b\n- c\n\nd").map(({ source }) => source)).toEqual(["# a", "- b\n- c", "d"]);
  });
});

describe("inline", () => {
  it("reads strong, emphasis and code", () => {
    expect(parseInline("a **b *c*** `d*` _e_")).toEqual([
      text("a "),
      { kind: "strong", children: [text("b "), { kind: "emphasis", children: [text("c")] }] },
      text(" "),
      { kind: "code", text: "d*" },
      text(" "),
      { kind: "emphasis", children: [text("e")] },
    ]);
  });

  it("leaves lone delimiters, products and snake_case alone", () => {
    for (const plain of ["2 * 3 * 4", "max_num_results", "**open", "a ` b", "5*"]) expect(parseInline(plain)).toEqual([text(plain)]);
  });

  it("turns links and images into text that cannot be followed", () => {
    expect(parseInline("[here](javascript:alert(1)) ![p](http://evil.example/x.png) [u](https://e.example \"t\")")).toEqual([
      text("[here](javascript:alert(1)) p (http://evil.example/x.png) u (https://e.example)"),
    ]);
  });

  it("treats HTML as text", () => {
    expect(parseInline("<img src=x onerror=alert(1)>")).toEqual([text("<img src=x onerror=alert(1)>")]);
  });

  it("reads a hundred thousand hostile characters in under a second", () => {
    for (const hostile of ["*", "_a ", "**a ", "`", "[", "![](", "> ", "- ", "*a _b "]) {
      const long = hostile.repeat(100_000 / hostile.length);
      const started = performance.now();
      parseMarkdown(long);
      expect(performance.now() - started, hostile).toBeLessThan(1000);
    }
  });
});
