// That what a browser has stored is read as it was meant, and nothing else is.
import { describe, expect, it } from "vitest";
import { balanceText, DEFAULTS, readPreferences } from "../src/preferences";

describe("readPreferences", () => {
  it("reads what was stored", () => {
    const stored = { alpha: 0.25, topK: 9, reader: "I am a tenant." };
    expect(readPreferences(JSON.stringify(stored))).toEqual(stored);
  });

  it("falls back where there is nothing of use", () => {
    for (const stored of [null, "", "null", "[1]", "{", JSON.stringify({ alpha: 7, topK: 2.5, reader: 3 }), JSON.stringify({ topK: 0 })]) {
      expect(readPreferences(stored)).toEqual(DEFAULTS);
    }
  });
});

describe("balanceText", () => {
  it("names the ends and the middle", () => {
    expect([0, 0.5, 1, 0.3].map(balanceText)).toEqual([
      "Only the question's words count.",
      "Words and meaning count the same.",
      "Only its meaning counts.",
      "Meaning counts 30 %, words 70 %.",
    ]);
  });
});
