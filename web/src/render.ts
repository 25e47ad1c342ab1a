// Markdown trees as elements. Builds nodes one by one; makes no link and loads no image.
import { markCitations, pageLabel, restoreMarkers, splitMarkers, type Marker } from "./citations";
import { el } from "./dom";
import { parseMarkdown, type Block, type Inline, type List } from "./markdown";
import type { Citation } from "./wire";

export type OpenCitation = (citation: Citation, opener: HTMLElement) => void;

/** An answer's text on the page. Blocks that did not change keep their elements, and with them focus and selection. */
export class AnswerText {
  readonly element = el("div", { class: "prose" });
  #keys: string[] = [];
  readonly #open: OpenCitation;
  readonly #isPlain: boolean;

  /** A plain text is shown letter for letter; any other is read as Markdown. */
  constructor(open: OpenCitation, isPlain: boolean) {
    this.#open = open;
    this.#isPlain = isPlain;
  }

  update(text: string, citations: readonly Citation[]): void {
    const marked = markCitations(text, citations);
    const blocks = this.#isPlain ? plainBlocks(marked.text) : parseMarkdown(marked.text);
    const keys = blocks.map(({ source }) => source + citedSpans(source, marked.markers));
    for (const [at, { block }] of blocks.entries()) {
      if (this.#keys[at] === keys[at]) continue;
      const rendered = renderBlock(block, { markers: marked.markers, open: this.#open });
      const old = this.element.children[at];
      if (old) old.replaceWith(rendered);
      else this.element.append(rendered);
    }
    while (this.element.children.length > blocks.length) this.element.lastElementChild!.remove();
    this.#keys = keys;
  }
}

function plainBlocks(text: string): ReturnType<typeof parseMarkdown> {
  return text === "" ? [] : [{ source: text, block: { kind: "paragraph", children: [{ kind: "text", text }] } }];
}

interface Context {
  markers: readonly Marker[];
  open: OpenCitation;
}

function citedSpans(source: string, markers: readonly Marker[]): string {
  return splitMarkers(source)
    .filter((piece) => typeof piece === "number")
    .map((index) => {
      const citation = markers[index]?.citation;
      return citation ? `|${citation.file_id}:${citation.start}-${citation.end}` : "|";
    })
    .join("");
}

function renderBlock(block: Block, context: Context): HTMLElement {
  switch (block.kind) {
    case "paragraph":
      return el("p", {}, ...renderInlines(block.children, context));
    case "heading":
      // Models start at any level; on the page all of them stand right below the question, so that none is skipped.
      return el("h3", { "data-level": String(block.level) }, ...renderInlines(block.children, context));
    case "code":
      return el("pre", { tabindex: "0" }, el("code", {}, restoreMarkers(block.text, context.markers)));
    case "quote":
      return el("blockquote", {}, ...block.blocks.map((inner) => renderBlock(inner, context)));
    case "rule":
      return el("hr");
    case "list":
      return renderList(block, context);
  }
}

function renderList(list: List, context: Context): HTMLElement {
  const items = list.items.map((item) =>
    el(
      "li",
      {},
      ...renderInlines(item.children, context),
      ...item.lists.map((nested) => renderList(nested, context)),
    ),
  );
  if (list.start === null) return el("ul", {}, ...items);
  return el("ol", { start: String(list.start) }, ...items);
}

function renderInlines(nodes: Inline[], context: Context): Node[] {
  return nodes.flatMap((node): Node[] => {
    switch (node.kind) {
      case "text":
        return splitMarkers(node.text).map((piece) =>
          typeof piece === "string" ? document.createTextNode(piece) : renderMarker(context.markers[piece], context.open),
        );
      case "break":
        return [el("br")];
      case "code":
        return [el("code", {}, restoreMarkers(node.text, context.markers))];
      case "strong":
        return [el("strong", {}, ...renderInlines(node.children, context))];
      case "emphasis":
        return [el("em", {}, ...renderInlines(node.children, context))];
    }
  });
}

function renderMarker(marker: Marker | undefined, open: OpenCitation): Node {
  if (!marker) return document.createTextNode("");
  const { number, citation } = marker;
  if (!citation) return document.createTextNode(`[${number}]`);
  const place = [citation.filename, pageLabel(citation)].filter(Boolean).join(", ");
  return el(
    "button",
    {
      type: "button",
      class: "citation",
      title: place,
      "aria-label": `[${number}] Source: ${place}`,
      onclick: (event) => open(citation, event.currentTarget as HTMLElement),
    },
    `[${number}]`,
  );
}
