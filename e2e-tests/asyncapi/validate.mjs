// Validates an AsyncAPI document with the project's own parser: node validate.mjs <document>
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
// 0 is an error, 1 a warning; what is left is advice.
const serious = diagnostics.filter(({ severity }) => severity <= 1);
for (const { severity, message, path } of serious) {
  console.error(`${severity === 0 ? "error" : "warning"} at ${path.join("/")}: ${message}`);
}
if (document) {
  const { length: channels } = document.channels().all();
  const { length: operations } = document.operations().all();
  console.log(`${channels} channels, ${operations} operations`);
}
process.exit(!document || serious.length > 0 ? 1 : 0);
