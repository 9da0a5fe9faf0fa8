// What docs/extensions.md lists: fields ("session.stop_reason") and routes that are ours.
import { readFileSync } from 'node:fs';
import path from 'node:path';

const file = path.resolve(import.meta.dirname, '../../docs/extensions.md');

// In the tables of the document the first cell names one or more fields or routes in backquotes.
export function readExtensions(text = readFileSync(file, 'utf8')) {
    const fields = new Set();
    const routes = new Set();
    for (const line of text.split('\n')) {
        if (!line.startsWith('|')) continue;
        const cell = line.split('|')[1];
        for (const [, name] of cell.matchAll(/`([^`]+)`/g)) {
            if (/^[A-Z]+ \//.test(name)) routes.add(name);
            else fields.add(name);
        }
    }
    return { fields, routes };
}

const known = readExtensions();

// `type` is the value's own type ("session", "agent.tool_result"), `at` the path of the unknown field.
export function isExtension(type, at) {
    for (let here = `${type}.${at}`; here.length > type.length; here = here.slice(0, here.lastIndexOf('.'))) {
        if (known.fields.has(here)) return true;
        if (!here.slice(type.length).includes('.')) break;
    }
    return false;
}
