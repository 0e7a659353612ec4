// Typed errors over every provider.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import OpenAI from "openai";
import { client, MODELS, named, scripted, stranger } from "./clients.mjs";

const ask = (who, model, content, more = {}) =>
  who.chat.completions.create({ model, messages: [{ role: "user", content }], ...more });

// What the provider answers → what the caller gets. A provider's 401 is the operator's fault.
const statuses = [
  [400, OpenAI.BadRequestError],
  [404, OpenAI.NotFoundError],
  [401, OpenAI.InternalServerError],
  [429, OpenAI.RateLimitError],
  [500, OpenAI.InternalServerError],
];

for (const [provider, models] of Object.entries(MODELS)) {
  describe(provider, () => {
    test("a wrong key", async () => {
      await assert.rejects(ask(stranger, models.chat, "say hello"), (error) => {
        assert.ok(error instanceof OpenAI.AuthenticationError);
        assert.equal(error.code, "invalid_api_key");
        return true;
      });
    });

    for (const [status, kind] of statuses) {
      for (const stream of [false, true]) {
        test(`the provider answers ${status}, ${stream ? "stream" : "whole"}`, async () => {
          const model = named(provider, `node-${status}-${stream}`);

          await assert.rejects(ask(scripted, model, `status ${status}`, { stream }), (error) => {
            assert.ok(error instanceof kind, `${error.constructor.name} ${error.status}: ${error.message}`);
            assert.ok(!JSON.stringify(error.error ?? {}).includes("nobody-may-see"));
            return true;
          });
        });
      }
    }
  });
}

test("an unknown model", async () => {
  await assert.rejects(ask(client, "no-provider-has-this-model", "say hello"), OpenAI.NotFoundError);
});
