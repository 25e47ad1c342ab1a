// Server-sent events from text that arrives in arbitrary pieces. Must never hand on an event whose end has not been seen.

export interface SseEvent {
  type: string;
  data: string;
}

/** Holds the unfinished line and event between two pieces. */
export class SseParser {
  #line = "";
  #type = "";
  #data: string[] = [];
  #endedWithReturn = false;
  #isFirstPiece = true;

  push(piece: string): SseEvent[] {
    if (piece === "") return [];
    if (this.#isFirstPiece) {
      this.#isFirstPiece = false;
      if (piece.startsWith("\uFEFF")) piece = piece.slice(1);
    }
    // A line may end in CR LF with the two in different pieces.
    if (this.#endedWithReturn && piece.startsWith("\n")) piece = piece.slice(1);
    this.#endedWithReturn = piece === "" ? false : piece.endsWith("\r");

    const lines = (this.#line + piece).split(/\r\n|\r|\n/);
    this.#line = lines.pop() ?? "";
    const events: SseEvent[] = [];
    for (const line of lines) {
      const event = this.#take(line);
      if (event) events.push(event);
    }
    return events;
  }

  #take(line: string): SseEvent | null {
    if (line === "") {
      const event = this.#data.length > 0 ? { type: this.#type || "message", data: this.#data.join("\n") } : null;
      this.#type = "";
      this.#data = [];
      return event;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#type = value;
    if (field === "data") this.#data.push(value);
    return null;
  }
}

/** The events of a response body, until it ends. */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<SseEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new SseParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    // A reader that stops early must free the connection: the server cancels the generation when it closes.
    reader.cancel().catch(() => undefined);
  }
}
