// What a document's row says, and that uploads wait their turn.
import { describe, expect, it } from "vitest";
import { limit } from "../src/limit";
import { contentsText, progressView, sizeText } from "../src/progress";

describe("progressView", () => {
  it("speaks of pages, then of passages", () => {
    expect(progressView({ pages_read: 3, pages_total: 12, chunks_done: 0, chunks_total: null })).toEqual({ text: "page 3 of 12", fraction: 0.05 });
    const embedding = progressView({ pages_read: 12, pages_total: 12, chunks_done: 40, chunks_total: 120 });
    expect(embedding.text).toBe("embedding 40 of 120 passages");
    expect(embedding.fraction).toBeCloseTo(0.2 + 0.8 / 3);
  });

  it("says how long it takes, roughly, where that is known", () => {
    const left = (seconds_left: number | null) => progressView({ pages_read: 1, pages_total: 1, chunks_done: 1, chunks_total: 2, seconds_left }).text;
    const told = [null, 3, 31, 60, 61, 7300].map(left).map((text) => text.replace("embedding 1 of 2 passages", ""));
    expect(told).toEqual(["", ", a few seconds left", ", 40 seconds left", ", 1 minute left", ", 2 minutes left", ", 2 hours left"]);
  });

  it("claims no fraction while nothing is known", () => {
    expect(progressView(null)).toEqual({ text: "waiting to be read", fraction: null });
    expect(progressView({ pages_read: 2, pages_total: null, chunks_done: 0, chunks_total: null })).toEqual({ text: "2 pages read", fraction: null });
  });
});

describe("figures", () => {
  it("are short and in the right number", () => {
    expect([1, 999, 1000, 9949, 12_345, 999_499, 999_600, 5e9].map(sizeText)).toEqual(["1 byte", "999 bytes", "1.0 kB", "9.9 kB", "12 kB", "999 kB", "1.0 MB", "5.0 GB"]);
    expect(contentsText({ progress: { pages_read: 1, pages_total: 1, chunks_done: 1, chunks_total: 1 } })).toBe("1 passage");
  });
});

describe("limit", () => {
  it("never runs more at once than it may, runs all, and survives failures", async () => {
    let running = 0;
    let most = 0;
    const two = limit(2);
    const work = (at: number) =>
      two(async () => {
        most = Math.max(most, ++running);
        await Promise.resolve();
        running -= 1;
        if (at === 3) throw new Error("third");
        return at;
      });
    const results = await Promise.allSettled([...Array(9).keys()].map(work));
    expect(results.map(({ status }) => status === "fulfilled")).toEqual([true, true, true, false, true, true, true, true, true]);
    expect([most, running]).toEqual([2, 0]);
  });
});
