// A terse reporter: a line for each file as it ends, and everything there is to know of a failure.
import path from 'node:path';
import { inspect } from 'node:util';

function reason(error) {
    const cause = error?.cause ?? error;
    if (!cause) return 'failed';
    const text = cause.stack ?? inspect(cause, { depth: 6 });
    return String(text)
        .split('\n')
        .filter((line) => !/node:internal|node_modules\/node-linux/.test(line))
        .join('\n');
}

const indent = (text) => text.replace(/^/gm, '      ');

export default async function* report(source) {
    const files = new Map();
    for await (const { type, data } of source) {
        if (type === 'test:stderr') yield data.message;
        if (type !== 'test:pass' && type !== 'test:fail') continue;
        const file = path.relative(process.cwd(), data.file ?? '');
        const row = files.get(file) ?? { passed: 0, failed: 0, ms: 0 };
        files.set(file, row);
        const suite = data.details?.type === 'suite';
        if (data.nesting === 0) row.ms += data.details?.duration_ms ?? 0;
        if (type === 'test:pass') {
            if (!suite) row.passed++;
            if (data.skip) yield `  skip  ${data.name}: ${data.skip}\n`;
            if (data.nesting === 0) yield `  ok    ${file}: ${data.name} (${Math.round(data.details.duration_ms)} ms)\n`;
            continue;
        }
        if (data.details?.error?.failureType === 'subtestsFailed') continue;
        if (!suite) row.failed++;
        yield `  FAIL  ${file}: ${data.name}\n${indent(reason(data.details?.error))}\n`;
    }
    for (const [file, row] of files) {
        yield `  ${row.failed ? 'FAIL' : 'ok  '}  ${file}: ${row.passed} passed, ${row.failed} failed\n`;
    }
}
