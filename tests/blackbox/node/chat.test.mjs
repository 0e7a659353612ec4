// Chats, tools, schemas, embeddings and models over every provider.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { client, MODELS, scripted } from "./clients.mjs";

const messages = [{ role: "user", content: "say hello" }];
const greeting = "Hello from the other side.";
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "Current weather of a city",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];
const person = {
  type: "object",
  properties: { name: { type: "string" }, born: { type: "integer" } },
  required: ["name", "born"],
  additionalProperties: false,
};
const cities = (calls) => calls.map((call) => JSON.parse(call.function.arguments).city);

for (const [provider, models] of Object.entries(MODELS)) {
  describe(provider, () => {
    test("answers", async () => {
      const { data, response } = await client.chat.completions.create({ model: models.chat, messages }).withResponse();

      assert.equal(data.choices[0].message.content, greeting);
      assert.equal(data.choices[0].finish_reason, "stop");
      assert.equal(response.headers.get("x-manifold-provider"), provider);
    });

    test("streams in pieces", async () => {
      const stream = await client.chat.completions.create({ model: models.chat, messages, stream: true });

      const pieces = [];
      let reason = null;
      for await (const chunk of stream) {
        if (chunk.choices[0]?.delta?.content) pieces.push(chunk.choices[0].delta.content);
        reason = chunk.choices[0]?.finish_reason ?? reason;
      }
      assert.equal(pieces.join(""), greeting);
      assert.ok(pieces.length > 1);
      assert.equal(reason, "stop");
    });

    test("calls a tool and takes its result", async () => {
      const question = [{ role: "user", content: "What is the weather in Oslo?" }];

      const first = await client.chat.completions.create({ model: models.chat, messages: question, tools });
      const message = first.choices[0].message;
      const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: '{"celsius": 4}' };
      const second = await client.chat.completions.create({
        model: models.chat,
        messages: [...question, message, result],
        tools,
      });

      assert.equal(first.choices[0].finish_reason, "tool_calls");
      assert.deepEqual(cities(message.tool_calls), ["Oslo"]);
      assert.equal(second.choices[0].message.content, "It is 4 degrees in Oslo.");
    });

    test("streams two tool calls", async () => {
      const question = [{ role: "user", content: "What is the weather in Oslo and Rome?" }];

      const stream = client.chat.completions.stream({ model: models.chat, messages: question, tools });
      const completion = await stream.finalChatCompletion();

      assert.deepEqual(cities(completion.choices[0].message.tool_calls), ["Oslo", "Rome"]);
    });

    test("answers in a JSON schema", async () => {
      const completion = await scripted.chat.completions.create({
        model: models.schema,
        messages: [{ role: "user", content: "who wrote the first program?" }],
        response_format: { type: "json_schema", json_schema: { name: "person", strict: true, schema: person } },
      });

      assert.deepEqual(JSON.parse(completion.choices[0].message.content), { name: "Ada", born: 1815 });
    });

    test("embeds", async () => {
      const embedder = ["gemini", "ollama"].includes(provider) ? scripted : client;

      const answer = await embedder.embeddings.create({ model: models.embedding, input: "a text to embed" });

      assert.deepEqual(Array.from(answer.data[0].embedding), [0.25, -0.5, 0.75]);
    });
  });
}

test("lists models", async () => {
  const listed = [];
  for await (const model of client.models.list()) listed.push(model.id);

  assert.ok(listed.includes("manifold/echo"));
  assert.ok(listed.includes(MODELS.groq.chat));
  assert.equal((await client.models.retrieve(MODELS.groq.chat)).id, MODELS.groq.chat);
});
