// One aimock server per provider, all with the same fixtures. Prints their addresses as one line of JSON.
import { LLMock } from "@copilotkit/aimock";
import { readFileSync } from "node:fs";

const fixtures = readFileSync(new URL("fixtures.json", import.meta.url), "utf8");
const addresses = {};
for (const provider of process.argv.slice(2)) {
  const mock = new LLMock({ port: 0, strict: true, chunkSize: 6 });
  mock.addFixturesFromJSON(JSON.parse(fixtures).fixtures);
  await mock.start();
  addresses[provider] = mock.url;
}
console.log(JSON.stringify(addresses));
