// Clients of the gateway that run.py started, and the models they call.
import OpenAI from "openai";

const environment = process.env;

export const MODELS = {
  groq: { chat: "groq/llama-3.1-8b-instant", schema: "groq/openai/gpt-oss-120b", embedding: "groq/some-embedding-model" },
  mistral: { chat: "mistral/mistral-small-latest", schema: "mistral/mistral-small-latest", embedding: "mistral/mistral-embed" },
  gemini: { chat: "gemini/gemini-2.5-flash", schema: "gemini/gemini-2.5-flash", embedding: "gemini/gemini-embedding-001" },
  openrouter: {
    chat: "openrouter/meta-llama/llama-3.3-70b-instruct:free",
    schema: "openrouter/openai/gpt-oss-120b",
    embedding: "openrouter/openai/text-embedding-3-small",
  },
  ollama: { chat: "ollama/llama3.2", schema: "ollama/llama3.2", embedding: "ollama/nomic-embed-text" },
};

const make = (name, options = {}) =>
  new OpenAI({
    baseURL: environment[`BLACKBOX_${name}_URL`],
    apiKey: environment[`BLACKBOX_${name}_KEY`],
    maxRetries: 0,
    timeout: 30_000,
    ...options,
  });

// Providers played by aimock; providers played by a script in each vendor's own words; a key that nobody made.
export const client = make("AIMOCK");
export const scripted = make("SCRIPTED");
export const stranger = make("AIMOCK", { apiKey: "mk_live_nobody_made_this_key" });

// The same provider, another model: a cooldown of one test must not reach the next.
export const named = (provider, suffix) => `${provider}/${suffix}`;
