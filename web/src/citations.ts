// Markers like [2] in an answer and the passages behind them. A marker without a citation from the server stays plain text.
import type { Citation, PassageSpan } from "./wire";

const OPEN = "\uE000";
const CLOSE = "\uE001";
const MARKER = /\[(\d{1,4})\]|[\uE000\uE001]/g;

export interface Marker {
  number: number;
  citation: Citation | null;
}

export interface MarkedText {
  /** The text with each marker replaced by a token that Markdown does not touch. */
  text: string;
  markers: Marker[];
}

/** Takes the markers out of the text before Markdown is read, so that `[1]` is never mistaken for a link. */
export function markCitations(text: string, citations: readonly Citation[]): MarkedText {
  const markers: Marker[] = [];
  let counted = 0;
  let characters = 0;
  const marked = text.replace(MARKER, (_: string, digits: string | undefined, offset: number) => {
    if (digits === undefined) return "";
    characters += [...text.slice(counted, offset)].length;
    counted = offset;
    const number = Number(digits);
    markers.push({ number, citation: nearest(citations, number, characters) });
    return `${OPEN}${markers.length - 1}${CLOSE}`;
  });
  return { text: marked, markers };
}

const TOKEN = /\uE000(\d+)\uE001/g;

/** Splits text into plain pieces and indexes of markers, in order. */
export function splitMarkers(text: string): (string | number)[] {
  // With one capture group, split alternates between text and the group.
  return text
    .split(TOKEN)
    .map((piece, at) => (at % 2 === 1 ? Number(piece) : piece))
    .filter((piece) => piece !== "");
}

/** Puts the markers back as they were written, for code. */
export function restoreMarkers(text: string, markers: readonly Marker[]): string {
  return text.replace(TOKEN, (_, index: string) => `[${markers[Number(index)]?.number ?? ""}]`);
}

/** "page 3", "pages 3–4", or nothing for a document that has no pages. */
export function pageLabel(span: Pick<PassageSpan, "filename" | "page_first" | "page_last">): string {
  if (span.page_first !== span.page_last) return `pages ${span.page_first}–${span.page_last}`;
  const isPaged = span.page_first > 1 || /\.pdf$/i.test(span.filename);
  return isPaged ? `page ${span.page_first}` : "";
}

/** One number may be cited for several sentences; the citation belongs to the marker it sits closest to. */
function nearest(citations: readonly Citation[], number: number, position: number): Citation | null {
  let best: Citation | null = null;
  for (const citation of citations) {
    if (citation.number !== number) continue;
    if (best === null || Math.abs(citation.index - position) < Math.abs(best.index - position)) best = citation;
  }
  return best;
}
