// Vercel's AI SDK, by its provider for servers like OpenAI's and by its own OpenAI provider (which speaks responses).

import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, Output, stepCountIs, streamText, tool } from "ai";
import OpenAI, { toFile } from "openai";
import { z } from "zod";
import { baseUrl, Book, LIGHTHOUSE, SAID, SHOWN } from "./servers.mjs";

const compatible = (model) =>
  createOpenAICompatible({ name: "inglenook", baseURL: baseUrl(model), supportsStructuredOutputs: true, includeUsage: true });
const own = (model) => createOpenAI({ baseURL: baseUrl(model), apiKey: "none" });
const prompt = "Who is the keeper of the lighthouse?";
const weather = (asked) =>
  tool({
    description: "The weather of a place",
    inputSchema: z.object({ city: z.string(), days: z.number().int() }),
    execute: (input) => (asked.push(input), "It rains."),
  });

test("text, whole and streamed", async () => {
  const model = compatible("scripted")("scripted");
  assert.equal((await generateText({ model, prompt })).text, SAID);
  const stream = streamText({ model, prompt });
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  assert.equal(text, SAID);
  assert.ok((await stream.usage).outputTokens > 0);
  assert.equal(await stream.finishReason, "stop");
});

test("tools are called, whole and streamed", async () => {
  const model = compatible("calling")("calling");
  for (const run of [generateText, streamText]) {
    const asked = [];
    const result = run({ model, prompt, tools: { weather: weather(asked) }, stopWhen: stepCountIs(1) });
    const calls = await (await result).toolCalls;
    assert.deepEqual(calls[0].input, { city: "Oslo", days: 2 });
    assert.deepEqual(asked, [{ city: "Oslo", days: 2 }]);
  }
});

test("an object of a schema", async () => {
  const model = compatible("babbling")("babbling");
  const { output } = await generateText({ model, prompt, output: Output.object({ schema: Book }), maxOutputTokens: 2000 });
  assert.equal(typeof output.title, "string");
});

test("thoughts are apart from the answer", async () => {
  const result = await generateText({
    model: compatible("thinking")("thinking"),
    prompt,
    providerOptions: { inglenook: { reasoningEffort: "high" } },
  });
  assert.deepEqual([result.reasoningText.trim(), result.text], ["It is so.", "Yes, indeed."]);
});

test("embeddings", async () => {
  const model = compatible("scripted").textEmbeddingModel("tiny-bert");
  const { embeddings } = await embedMany({ model, values: ["one", "two"] });
  assert.equal(embeddings.length, 2);
});

test("responses with documents, streamed", async () => {
  const api = new OpenAI({ baseURL: baseUrl("scripted"), apiKey: "none" });
  const store = await api.vectorStores.create({ name: "ai-sdk" });
  await api.vectorStores.files.uploadAndPoll(store.id, await toFile(Buffer.from(LIGHTHOUSE), "lighthouse.md"));
  const provider = own("scripted");
  const stream = streamText({
    model: provider("scripted"),
    prompt,
    tools: { file_search: provider.tools.fileSearch({ vectorStoreIds: [store.id] }) },
  });
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  assert.equal(text, SHOWN);
  const sources = await stream.sources;
  assert.equal(sources[0].filename, "lighthouse.md");
});
