// Several server processes on one queue, and the keys of workers from the command line.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { useServer } from '../lib/harness.mjs';
import { binary } from '../lib/server.mjs';

const world = useServer({ args: ['--workers', '3'] });
const cli = (...args) => spawnSync(binary, ['environments', 'keys', ...args, '--server', world.server.url], { encoding: 'utf8', env: { PATH: process.env.PATH, HOME: process.env.HOME, OSTLER_API_KEY: world.server.key } });

async function place() {
    const { id } = await world.environment({ name: 'own', config: { type: 'self_hosted' } });
    return { id, key: cli('create', id, '--name', 'rack').stdout.trim() };
}

test('no item is given out twice, whichever process is asked', async () => {
    const env = await place();
    const agent = await world.agent();
    const made = await Promise.all(Array.from({ length: 60 }, () => world.client().beta.sessions.create({ agent: agent.id, environment_id: env.id })));
    const got = [];
    const worker = async () => {
        for (;;) {
            // A connection of its own each time: another process may answer.
            const client = world.client('1.11.0', { apiKey: null, authToken: env.key, defaultHeaders: { connection: 'close' } });
            const item = await client.beta.environments.work.poll(env.id, { reclaim_older_than_ms: 600000 });
            if (!item) return;
            got.push(item.data.id);
        }
    };
    await Promise.all(Array.from({ length: 12 }, worker));
    assert.deepEqual(got.toSorted(), made.map((s) => s.id).toSorted());
});

test('a poll finds what another process queued by the end of its block', async () => {
    const env = await place();
    const agent = await world.agent();
    const client = () => world.client('1.11.0', { apiKey: null, authToken: env.key, defaultHeaders: { connection: 'close' } });
    const polls = Array.from({ length: 6 }, () => client().beta.environments.work.poll(env.id, { block_ms: 999 }));
    const { id } = await world.client().beta.sessions.create({ agent: agent.id, environment_id: env.id });
    assert.deepEqual((await Promise.all(polls)).filter(Boolean).map((i) => i.data.id), [id]);
});

test('keys are made, listed and removed by a command', async () => {
    const env = await place();
    assert.match(env.key, /^sk-ant-oat01-/);
    const [id, , name] = cli('ls', env.id).stdout.trim().split(/\s+/);
    assert.equal(name, 'rack');
    assert.equal(cli('rm', env.id, id).stdout, `removed ${id}\n`);
    assert.equal(cli('ls', env.id).stdout, 'no keys\n');
    assert.deepEqual([cli('rm', env.id, id).status, cli('rm', env.id, 'x').status, cli('frob', env.id).status], [1, 2, 2]);
});
