// The official OpenAI client for Node does its work by a change of its base URL alone.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI, { toFile } from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { baseUrl, Book, LIGHTHOUSE, SAID, SHOWN, WEATHER } from "./servers.mjs";

const client = (model) => new OpenAI({ baseURL: baseUrl(model), apiKey: "none", maxRetries: 0 });
const question = [{ role: "user", content: "Who is the keeper of the lighthouse?" }];

test("models are listed", async () => {
  const ids = [];
  for await (const model of client("scripted").models.list()) ids.push(model.id);
  assert.equal(ids[0], "scripted");
});

test("chat, whole and streamed", async () => {
  const answer = await client("scripted").chat.completions.create({ model: "scripted", messages: question });
  assert.equal(answer.choices[0].message.content, SAID);
  const stream = client("scripted").chat.completions.stream({
    model: "scripted",
    messages: question,
    stream_options: { include_usage: true },
  });
  assert.equal(await stream.finalContent(), SAID);
  assert.ok((await stream.totalUsage()).completion_tokens > 0);
});

test("tools are called by the runner, streamed", async () => {
  const asked = [];
  const runner = client("calling").chat.completions.runTools(
    {
      model: "calling",
      stream: true,
      messages: [{ role: "user", content: "How is the weather in Oslo?" }],
      tools: [
        {
          type: "function",
          function: { ...WEATHER, parse: JSON.parse, function: (args) => (asked.push(args), "It rains.") },
        },
      ],
    },
    { maxChatCompletions: 2 },
  );
  await runner.done();
  assert.deepEqual(asked[0], { city: "Oslo", days: 2 });
});

test("an answer is parsed into its schema", async () => {
  const answer = await client("babbling").chat.completions.parse({
    model: "babbling",
    messages: question,
    max_tokens: 2000,
    response_format: zodResponseFormat(Book, "book"),
  });
  assert.equal(typeof answer.choices[0].message.parsed.title, "string");
});

test("embeddings", async () => {
  const answer = await client("scripted").embeddings.create({ model: "tiny-bert", input: ["one", "two"] });
  assert.equal(answer.data.length, 2);
  assert.ok(Math.abs(Math.hypot(...answer.data[1].embedding) - 1) < 1e-3);
});

test("files, vector stores and a question about documents, streamed", async () => {
  const api = client("scripted");
  const store = await api.vectorStores.create({ name: "node" });
  const file = await toFile(Buffer.from(LIGHTHOUSE), "lighthouse.md");
  const attached = await api.vectorStores.files.uploadAndPoll(store.id, file);
  assert.equal(attached.status, "completed");
  const stream = api.responses.stream({
    model: "scripted",
    input: question[0].content,
    tools: [{ type: "file_search", vector_store_ids: [store.id] }],
  });
  const response = await stream.finalResponse();
  assert.equal(response.output_text, SHOWN);
  const [annotation] = response.output.at(-1).content[0].annotations;
  assert.equal(annotation.filename, "lighthouse.md");
  await api.vectorStores.delete(store.id);
});

test("an error has the class and the message that the client expects", async () => {
  const wrong = client("scripted").chat.completions.create({ model: "nobody", messages: question });
  await assert.rejects(wrong, (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
});
