// The demo proves itself: it checks the log it left behind. Here it only has to succeed.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { useServer } from '../lib/harness.mjs';
import { run } from '../lib/e2e.mjs';

const world = useServer();

test('ostler demo --fast shows a turn that survives a kill -9, and cleans up', async () => {
    const { code, stdout, stderr } = await run(world, ['demo', '--fast'], { env: { OSTLER_DATA: '', OSTLER_API_KEY: '' } });
    assert.equal(code, 0, `${stdout}\n${stderr}`);
    assert.match(stdout, /script\/demo/);
    assert.match(stdout, /kill -9 \d+/);
    assert.match(stdout, /each ran exactly once/);
    assert.match(stdout, /ANTHROPIC_API_KEY=/);
    assert.deepEqual(readdirSync(world.server.dir).filter((name) => name.startsWith('ostler-demo')), [], 'nothing is left behind');
});
