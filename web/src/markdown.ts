// The small part of Markdown that models write, as a tree. HTML is text here, and links and images are never followed.

export type Inline =
  | { kind: "text"; text: string }
  | { kind: "break" }
  | { kind: "code"; text: string }
  | { kind: "strong" | "emphasis"; children: Inline[] };

export interface ListItem {
  children: Inline[];
  lists: List[];
}

export interface List {
  kind: "list";
  start: number | null;
  items: ListItem[];
}

export type Block =
  | { kind: "paragraph"; children: Inline[] }
  | { kind: "heading"; level: number; children: Inline[] }
  | { kind: "code"; text: string }
  | { kind: "quote"; blocks: Block[] }
  | { kind: "rule" }
  | List;

/** A top-level block with the lines it was read from, so that a stream re-renders only what changed. */
export interface SourceBlock {
  source: string;
  block: Block;
}

const MAX_DEPTH = 8;
const FENCE = /^ {0,3}(`{3,}|~{3,})/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const RULE = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^([ \t]*)(?:[-*+]|(\d{1,9})[.)])[ \t]+(.*)$/;

export function parseMarkdown(text: string): SourceBlock[] {
  return parseBlocks(text.replace(/\r\n?/g, "\n").split("\n"), 0);
}

function parseBlocks(lines: string[], depth: number): SourceBlock[] {
  const blocks: SourceBlock[] = [];
  let at = 0;
  while (at < lines.length) {
    if (isBlank(lines[at]!)) {
      at += 1;
      continue;
    }
    const { block, end } = parseBlock(lines, at, depth);
    blocks.push({ source: lines.slice(at, end).join("\n"), block });
    at = end;
  }
  return blocks;
}

interface Parsed<T> {
  block: T;
  end: number;
}

function parseBlock(lines: string[], at: number, depth: number): Parsed<Block> {
  const line = lines[at]!;
  const fence = FENCE.exec(line);
  if (fence) return parseCode(lines, at, fence[1]!);
  const heading = HEADING.exec(line);
  if (heading) {
    const title = heading[2]!.replace(/[ \t]+#+[ \t]*$/, "");
    return { block: { kind: "heading", level: heading[1]!.length, children: parseInline(title) }, end: at + 1 };
  }
  if (RULE.test(line)) return { block: { kind: "rule" }, end: at + 1 };
  if (depth < MAX_DEPTH) {
    if (QUOTE.test(line)) return parseQuote(lines, at, depth);
    if (ITEM.test(line)) return parseList(lines, at, depth);
  }
  return parseParagraph(lines, at, depth);
}

/** A fence that is still open at the end of the text holds the rest: that is what a stream looks like. */
function parseCode(lines: string[], at: number, fence: string): Parsed<Block> {
  let end = at + 1;
  while (end < lines.length) {
    const closing = lines[end]!.trim();
    if (closing.startsWith(fence) && closing.replaceAll(fence[0]!, "") === "") break;
    end += 1;
  }
  const text = lines.slice(at + 1, end).join("\n");
  return { block: { kind: "code", text: inOrder(text) }, end: Math.min(end + 1, lines.length) };
}

function parseQuote(lines: string[], at: number, depth: number): Parsed<Block> {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end]!)) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return { block: { kind: "quote", blocks: parseBlocks(inner, depth + 1).map(({ block }) => block) }, end };
}

function parseList(lines: string[], at: number, depth: number): Parsed<List> {
  const first = ITEM.exec(lines[at]!)!;
  const indent = width(first[1]!);
  const list: List = { kind: "list", start: first[2] === undefined ? null : Number(first[2]), items: [] };
  let end = at;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]!);
    if (!item || RULE.test(lines[end]!)) break;
    const isOrdered = item[2] !== undefined;
    if (width(item[1]!) < indent || isOrdered !== (list.start !== null)) break;
    const parsed = parseItem(lines, end, item[3]!, indent, depth);
    list.items.push(parsed.block);
    end = parsed.end;
    // A blank line between two items does not end the list.
    const next = skipBlank(lines, end);
    if (next < lines.length && ITEM.test(lines[next]!)) end = next;
  }
  return { block: list, end };
}

function parseItem(lines: string[], at: number, firstLine: string, indent: number, depth: number): Parsed<ListItem> {
  const text = [firstLine];
  const lists: List[] = [];
  let end = at + 1;
  while (end < lines.length) {
    const line = lines[end]!;
    const nested = ITEM.exec(line);
    if (nested) {
      if (width(nested[1]!) < indent + 2 || depth + 1 >= MAX_DEPTH) break;
      const parsed = parseList(lines, end, depth + 1);
      lists.push(parsed.block);
      end = parsed.end;
    } else if (isBlank(line) || FENCE.test(line) || HEADING.test(line) || lists.length > 0) {
      break;
    } else {
      text.push(line.trim());
      end += 1;
    }
  }
  return { block: { children: parseInline(text.join("\n")), lists }, end };
}

function parseParagraph(lines: string[], at: number, depth: number): Parsed<Block> {
  let end = at + 1;
  while (end < lines.length && !isBlank(lines[end]!) && !startsBlock(lines[end]!, depth)) end += 1;
  const text = lines.slice(at, end).map((line) => line.trim()).join("\n");
  return { block: { kind: "paragraph", children: parseInline(text) }, end };
}

function startsBlock(line: string, depth: number): boolean {
  if (FENCE.test(line) || HEADING.test(line) || RULE.test(line)) return true;
  return depth < MAX_DEPTH && (QUOTE.test(line) || ITEM.test(line));
}

function isBlank(line: string): boolean {
  return line.trim() === "";
}

function skipBlank(lines: string[], at: number): number {
  while (at < lines.length && isBlank(lines[at]!)) at += 1;
  return at;
}

function width(indent: string): number {
  return indent.replaceAll("\t", "    ").length;
}

const PUNCTUATION = /[!-/:-@[-`{-~]/;
const LINK = /^!?\[([^[\]\n]*)\]\(<?([^\s()<>]*)>?(?:[ \t]+"[^"\n]*")?\)/;
const WORD = /[\p{L}\p{N}]/u;

/** Emphasis, code and line breaks. A link becomes its text with the address beside it, as text. */
export function parseInline(text: string, depth = 0): Inline[] {
  const nodes: Inline[] = [];
  let plain = "";
  // A delimiter once known to have no partner is not searched for again: hostile text must stay linear.
  const unpaired = new Set<string>();
  const flush = () => {
    if (plain !== "") nodes.push({ kind: "text", text: inOrder(plain) });
    plain = "";
  };

  let at = 0;
  while (at < text.length) {
    const char = text[at]!;
    if (char === "\\" && PUNCTUATION.test(text[at + 1] ?? "")) {
      plain += text[at + 1];
      at += 2;
    } else if (char === "\n") {
      flush();
      nodes.push({ kind: "break" });
      at += 1;
    } else if (char === "`") {
      const fence = run(text, at, "`");
      const close = unpaired.has(fence) ? -1 : findFence(text, at + fence.length, fence);
      if (close < 0) {
        unpaired.add(fence);
        plain += fence;
        at += fence.length;
      } else {
        flush();
        const code = text.slice(at + fence.length, close).replace(/^ (.*\S.*) $/s, "$1");
        nodes.push({ kind: "code", text: inOrder(code) });
        at = close + fence.length;
      }
    } else if (char === "*" || char === "_") {
      const delimiter = run(text, at, char).slice(0, 3);
      const close = depth < MAX_DEPTH && !unpaired.has(delimiter) ? findClose(text, at, delimiter) : null;
      if (close === null) {
        plain += delimiter;
        at += delimiter.length;
      } else if (close < 0) {
        unpaired.add(delimiter);
        plain += delimiter;
        at += delimiter.length;
      } else {
        flush();
        const children = parseInline(text.slice(at + delimiter.length, close), depth + 1);
        nodes.push(emphasise(delimiter.length, children));
        at = close + delimiter.length;
      }
    } else {
      const link = char === "[" || (char === "!" && text[at + 1] === "[") ? LINK.exec(text.slice(at, at + 2000)) : null;
      if (link) {
        const label = link[1]!;
        plain += label === "" || label === link[2] ? link[2] : `${label} (${link[2]})`;
        at += link[0].length;
      } else {
        plain += char;
        at += 1;
      }
    }
  }
  flush();
  return nodes;
}

const REORDERING = /[\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069]/g;

/** Text without the characters that show what follows in another order: a document could make an answer read otherwise. */
function inOrder(text: string): string {
  return text.replace(REORDERING, "");
}

function emphasise(numDelimiters: number, children: Inline[]): Inline {
  if (numDelimiters === 1) return { kind: "emphasis", children };
  if (numDelimiters === 2) return { kind: "strong", children };
  return { kind: "strong", children: [{ kind: "emphasis", children }] };
}

function run(text: string, at: number, char: string): string {
  let end = at;
  while (text[end] === char) end += 1;
  return text.slice(at, end);
}

function findFence(text: string, from: number, fence: string): number {
  let at = text.indexOf(fence, from);
  while (at >= 0) {
    const length = run(text, at, "`").length;
    if (length === fence.length) return at;
    at = text.indexOf(fence, at + length);
  }
  return -1;
}

/** The matching delimiter; null when this one cannot open, -1 when the rest of the text has no partner for it. */
function findClose(text: string, at: number, delimiter: string): number | null {
  const size = delimiter.length;
  if (/^\s?$/.test(text[at + size] ?? "")) return null;
  // snake_case_names are not emphasis.
  if (delimiter[0] === "_" && WORD.test(text[at - 1] ?? "")) return null;
  let close = text.indexOf(delimiter, at + size);
  while (close >= 0) {
    const length = run(text, close, delimiter[0]!).length;
    const isTight = !/\s/.test(text[close - 1]!);
    const isWordEnd = delimiter[0] !== "_" || !WORD.test(text[close + length] ?? "");
    const isLongEnough = length === size || (size > 1 && length > size);
    // In `**a *b***` the inner emphasis takes the first of the three.
    if (isLongEnough && isTight && isWordEnd) return length === size + 1 ? close + 1 : close;
    close = text.indexOf(delimiter, close + length);
  }
  return -1;
}
