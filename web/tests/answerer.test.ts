import { describe, expect, it } from "vitest";
import { waysToAnswer } from "../src/answerer";

describe("waysToAnswer", () => {
  it("quotes when there is no chat model", () => {
    const ways = waysToAnswer({ chat_model: null, answer_models: ["inglenook-quote"] });
    expect(ways.map(({ label }) => label)).toEqual(["Quote the documents"]);
  });

  it("starts with the server's default, and chats without documents last", () => {
    const ways = waysToAnswer({ chat_model: { id: "qwen3" }, answer_models: ["inglenook-quote", "qwen3"] });
    expect(ways.map(({ model, usesDocuments }) => [model, usesDocuments])).toEqual([
      ["inglenook-quote", true],
      ["qwen3", true],
      ["qwen3", false],
    ]);
  });

  it("has nothing to offer without models", () => {
    expect(waysToAnswer({ chat_model: null, answer_models: [] })).toEqual([]);
  });
});
