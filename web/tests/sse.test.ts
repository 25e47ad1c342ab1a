// The event parser against the framing rules of the HTML standard.
import { describe, expect, it } from "vitest";
import { readEvents, SseParser } from "../src/sse";

const STREAM =
  ': keep-alive\n\nevent: response.created\ndata: {"a":1}\n\nevent: x\r\ndata: one\r\ndata: two\r\n\r\ndata:no space\rid: 7\r\rdata: [DONE]\n\n';
const EVENTS = [
  { type: "response.created", data: '{"a":1}' },
  { type: "x", data: "one\ntwo" },
  { type: "message", data: "no space" },
  { type: "message", data: "[DONE]" },
];

function streamOf(...pieces: Uint8Array[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(piece);
      controller.close();
    },
  });
}

describe("SseParser", () => {
  it("reads the same events however the stream is cut in two", () => {
    for (let cut = 0; cut <= STREAM.length; cut += 1) {
      const parser = new SseParser();
      const events = [...parser.push(STREAM.slice(0, cut)), ...parser.push(STREAM.slice(cut))];
      expect(events, `cut at ${cut}`).toEqual(EVENTS);
    }
  });

  it("reads the same events one character at a time", () => {
    const parser = new SseParser();
    expect([...STREAM].flatMap((char) => parser.push(char))).toEqual(EVENTS);
  });

  it("drops an event whose end never came", () => {
    expect(new SseParser().push('data: {"half":\n')).toEqual([]);
  });

  it("ignores a byte order mark, comments and unknown fields", () => {
    expect(new SseParser().push("\uFEFFretry: 5\n: hello\ndata\ndata: b\n\n")).toEqual([{ type: "message", data: "\nb" }]);
  });
});

describe("readEvents", () => {
  it("joins a character whose bytes arrive apart", async () => {
    const bytes = new TextEncoder().encode("data: Küche 🔥\n\n");
    const seen = [];
    for await (const { data } of readEvents(streamOf(bytes.slice(0, 8), bytes.slice(8, 15), bytes.slice(15)))) seen.push(data);
    expect(seen).toEqual(["Küche 🔥"]);
  });

  it("cancels the body when its reader stops early", async () => {
    let wasCancelled = false;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new TextEncoder().encode("data: 1\n\ndata: 2\n\n")),
      cancel: () => void (wasCancelled = true),
    });
    for await (const _ of readEvents(body)) break;
    expect(wasCancelled).toBe(true);
  });
});
