// Where the servers are that the tests talk to, and what their models say. node.py starts them.

import { z } from "zod";

const urls = JSON.parse(process.env.INGLENOOK_TEST_URLS);

/** The API of the server with this chat model. */
export function baseUrl(model) {
  return `${urls[model]}/v1`;
}

export const SAID = "The keeper of the lighthouse is Maren Holt [1]. An invented source [99] is not shown.";
export const SHOWN = "The keeper of the lighthouse is Maren Holt [1]. An invented source is not shown.";
export const LIGHTHOUSE = "# The lighthouse\n\nThe keeper of the lighthouse is Maren Holt, who came in 1998.\n";

export const WEATHER = {
  name: "weather",
  description: "The weather of a place",
  parameters: {
    type: "object",
    properties: { city: { type: "string" }, days: { type: "integer" } },
    required: ["city", "days"],
    additionalProperties: false,
  },
};

export const Book = z.object({ title: z.string().max(20), year: z.number().int() });
