// Prints what the AsyncAPI project's own parser says of a document, as JSON.
// node check.mjs <package.json of the installation> <document>
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [installation, source] = process.argv.slice(2);
const { Parser } = createRequire(installation)("@asyncapi/parser");
const { document, diagnostics } = await new Parser().parse(readFileSync(source, "utf8"), { source });
const channels = document ? document.channels().all() : [];
const payloads = channels.flatMap((channel) => channel.messages().all()).map((message) => message.payload()?.id());
console.log(JSON.stringify({ valid: document !== undefined, payloads, diagnostics }));
