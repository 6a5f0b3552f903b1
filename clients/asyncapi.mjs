// Has AsyncAPI's own parser read the document that the server gives at /asyncapi.json. Fails on errors and warnings.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { DiagnosticSeverity, Parser } from '@asyncapi/parser';

const root = new URL('..', import.meta.url).pathname;
const python = existsSync(`${root}.venv/bin/python`) ? `${root}.venv/bin/python` : 'python3';
const program = 'import json; from ngos.protocol.asyncapi import document; print(json.dumps(document()))';
const text = execFileSync(python, ['-c', program], { cwd: root, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });

const { document, diagnostics } = await new Parser().parse(text, { source: 'asyncapi.json' });
const faults = diagnostics.filter(({ severity }) => severity <= DiagnosticSeverity.Warning);
for (const { code, severity, path, message } of faults) {
  console.error(`asyncapi: ${DiagnosticSeverity[severity]}: ${path.join('.')}: ${message} (${code})`);
}
if (document === undefined || faults.length > 0) process.exit(1);
console.log(`asyncapi: ${document.operations().length} operations, ${document.allMessages().length} messages, valid`);
