// SIGTERM: the server ends within five seconds, whatever is going on, and the next one goes on with it.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { once } from 'node:events';
import { FakeMessages } from '../lib/fake-messages.mjs';
import { texts } from '../lib/harness.mjs';
import { assertSound, atGate, gated, onDisk, rest, useProvider, worker, workspaceFile } from '../lib/e2e.mjs';

const provider = new FakeMessages();
const world = await useProvider(provider);
const LIMIT_MS = 5000 + 1000; // the promise, and a slow machine

async function terminate(signal = 'SIGTERM') {
    const begun = Date.now();
    assert.deepEqual(await world.server.kill(signal), { code: 0, signal: null }, world.server.tail());
    const took = Date.now() - begun;
    assert.ok(took < LIMIT_MS, `${took} ms`);
    assert.doesNotMatch(world.server.startedLog, /too long/);
}

describe('SIGTERM', () => {
    for (const signal of ['SIGTERM', 'SIGINT']) {
        test(`${signal} in the middle of an answer: the turn goes on at the next start`, async () => {
            const held = provider.expect({ blocks: ['half'], hold: 4 });
            const session = await worker(world);
            const { data: accepted } = await world.send(session.id, 'x');
            await held.paused;
            await terminate(signal);
            const again = provider.expect(['whole']);
            await world.server.start();
            await again.arrived;
            assert.equal(again.request.raw, held.request.raw);
            assert.deepEqual(texts(await rest(world, session)), ['whole']);
            assertSound(await world.events(session.id), { accepted });
        });
    }

    test('in the middle of a tool: the hand lives, its one result is used', async () => {
        provider.expect([{ bash: gated('runs', 'term-gate') }]);
        const session = await worker(world);
        const { data: accepted } = await world.send(session.id, 'x');
        const letThrough = await atGate(world, 'term-gate');
        await terminate();
        await letThrough('the end');
        await onDisk(world, 'runs', 'begun\nended\n');
        const next = provider.expect(['done']);
        await world.server.start();
        await next.arrived;
        assert.match(next.request.json.messages.at(-1).content[0].content[0].text, /^finished after the end/);
        await rest(world, session);
        assertSound(await world.events(session.id), { accepted });
        assert.equal(await workspaceFile(world, session, 'runs'), 'begun\nended\n');
    });

    test('with open streams, idle connections and a half-sent request it does not wait for them', async () => {
        const session = await worker(world);
        const streams = await Promise.all([1, 2, 3].map(() => world.stream(session.id)));
        const socket = connect(world.server.port, '127.0.0.1');
        await once(socket, 'connect');
        socket.write('POST /v1/agents HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{"name"');
        socket.on('error', () => {});
        await terminate();
        for (const stream of streams) assert.equal(await stream.next().catch(() => undefined), undefined, 'the stream ended');
        socket.destroy();
        await world.server.start();
    });

    test('what was acknowledged in the same moment is answered after the next start', async () => {
        provider.fallback = () => ['yes'];
        const session = await worker(world);
        const { data: accepted } = await world.send(session.id, 'x');
        await terminate();
        await world.server.start();
        assert.deepEqual(texts(await rest(world, session)), ['yes']);
        assertSound(await world.events(session.id), { accepted });
    });
});
