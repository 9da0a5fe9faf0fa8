// Runs after all others: a route of the server's own table that nothing exercised, or that the recorder does
// not judge, fails.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { readExtensions } from '../../lib/extensions.mjs';
import { routeKey, ROUTES } from '../../lib/recorder.mjs';
import { binary } from '../../lib/server.mjs';

const printed = spawnSync(binary, ['routes'], { encoding: 'utf8' });
const table = printed.stdout.trim().split('\n').map((line) => line.trim().split(/\s+/).slice(0, 2).join(' '));

test('the server prints its route table', () => {
    assert.equal(printed.status, 0, printed.stderr);
    assert.ok(table.length > 20, printed.stdout);
    for (const route of table) assert.match(route, /^(GET|POST|PUT|DELETE|PATCH) \//);
});

test('every route is judged by the recorder, and the recorder judges no other', () => {
    const judged = Object.keys(ROUTES).map(routeKey);
    assert.deepEqual(table.map(routeKey).filter((r) => !judged.includes(r)), []);
    assert.deepEqual(judged.filter((r) => !table.map(routeKey).includes(r)), []);
});

test('every route was exercised with success by some test', { skip: !process.env.OSTLER_TEST_STATE && 'run by make test' }, () => {
    const dir = path.join(process.env.OSTLER_TEST_STATE, 'routes');
    const seen = new Set(existsSync(dir) ? readdirSync(dir).flatMap((f) => readFileSync(path.join(dir, f), 'utf8').trim().split('\n')) : []);
    assert.deepEqual(table.map(routeKey).filter((r) => !seen.has(r)), []);
});

test('every route that is ours is in docs/extensions.md', () => {
    const { routes } = readExtensions();
    const documented = [...routes].map(routeKey);
    const ours = table.map(routeKey).filter((r) => /\/workspace|\/outputs|\/healthz|\/metrics/.test(r));
    assert.deepEqual(ours.filter((r) => !documented.includes(r)), []);
    assert.deepEqual(documented.filter((r) => !table.map(routeKey).includes(r)), []);
});
