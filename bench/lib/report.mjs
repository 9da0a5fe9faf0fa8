// Rows of results: their table, their file, and what changed since another one.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export const median = (values) => {
    const sorted = [...values].sort((a, b) => a - b);
    const mid = sorted.length >> 1;
    return sorted.length % 2 ? sorted[mid] : (sorted[mid - 1] + sorted[mid]) / 2;
};

// Runs the parts in turn, `n` times over; resolves to the median of each number, with spread(name) over the
// rounds, and paired(fn): the median of what `fn` makes of one round's numbers. What is compared is paired, so
// that a noisy moment of the machine is on both sides or in one round only.
export async function rounds(n, parts) {
    const seen = {};
    for (let i = 0; i < n; i++) {
        for (const part of parts) {
            for (const [name, value] of Object.entries(await part(i))) (seen[name] ??= []).push(value);
        }
    }
    const result = {};
    for (const [name, values] of Object.entries(seen)) result[name] = median(values);
    result.paired = (fn) => median(Array.from({ length: n }, (_, i) => fn(Object.fromEntries(Object.entries(seen).map(([name, values]) => [name, values[i]])))));
    result.least = (name) => Math.min(...seen[name]);
    result.spread = (name) => {
        const values = seen[name];
        return values.length > 1 ? (Math.max(...values) - Math.min(...values)) / (median(values) || 1) : 0;
    };
    return result;
}

function significant(value) {
    if (value === undefined || value === null || Number.isNaN(value)) return '';
    const size = Math.abs(value);
    return size >= 1000 ? Math.round(value).toLocaleString('en') : size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(2);
}

// row: {name, unit, value, p99?, floor?, floorName?, ratio?, target?, met?, spread?}
// target: {text, limit, of} with `of` the number that is compared (the value if absent); `atLeast` turns it round.
export function judge(row) {
    if (row.floor && row.ratio === undefined) row.ratio = row.value / row.floor;
    if (row.target) {
        const of = row.target.of ?? row.value;
        row.met = row.target.atLeast ? of >= row.target.limit : of <= row.target.limit;
        row.target = { ...row.target, of };
    }
    return row;
}

const columns = [
    ['benchmark', (r) => r.name],
    ['value', (r) => significant(r.value), true],
    ['p99', (r) => significant(r.p99), true],
    ['unit', (r) => r.unit],
    ['floor', (r) => significant(r.floor), true],
    ['ratio', (r) => (r.ratio === undefined ? '' : r.ratio.toFixed(2)), true],
    ['target', (r) => (r.target ? `${r.target.text} (is ${significant(r.target.of)})` : '')],
    ['', (r) => (r.met === undefined ? '' : r.met ? 'met' : 'MISSED')],
    ['±', (r) => (r.spread ? `${Math.round(r.spread * 50)}%` : ''), true],
    ['before', (r) => r.before ?? '', true],
];

export function table(rows) {
    const cells = [columns.map(([title]) => title), ...rows.map((row) => columns.map(([, of]) => of(row)))];
    const widths = columns.map((_, i) => Math.max(...cells.map((line) => line[i].length)));
    const text = (line) => line.map((cell, i) => (columns[i][2] ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join('  ').trimEnd();
    return [text(cells[0]), widths.map((w) => '-'.repeat(w)).join('  '), ...cells.slice(1).map(text)].join('\n');
}

// The newest result in the directory, else the baseline, else null.
export function previous(dir) {
    const files = readdirSync(dir).filter((name) => /^\d.*\.json$/.test(name)).sort();
    const name = files.at(-1) ?? (readdirSync(dir).includes('baseline.json') ? 'baseline.json' : null);
    return name && { name, ...JSON.parse(readFileSync(path.join(dir, name), 'utf8')) };
}

export function compare(rows, old) {
    for (const row of rows) {
        const was = old?.rows.find((r) => r.name === row.name && r.unit === row.unit);
        if (was?.value > 0) row.before = `${row.value >= was.value ? '+' : ''}${Math.round((row.value / was.value - 1) * 100)}%`;
    }
}

export function save(file, result) {
    writeFileSync(file, `${JSON.stringify(result, (key, value) => (typeof value === 'number' ? Math.round(value * 1000) / 1000 : value), 1)}\n`);
}
