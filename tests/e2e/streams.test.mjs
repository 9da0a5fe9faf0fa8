// Streams over time: an idle one stays open with pings, a reader that does not read costs a bound and is dropped.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { message, useServer } from '../lib/harness.mjs';
import { frames } from '../lib/sse.mjs';
import { eventually } from '../lib/e2e.mjs';

const world = useServer();

const headers = () => ({ 'x-api-key': world.server.key, 'anthropic-version': '2023-06-01', 'anthropic-beta': 'managed-agents-2026-04-01' });
const residentKb = () => Number(readFileSync(`/proc/${world.server.pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1]);
const descriptors = () => readdirSync(`/proc/${world.server.pid}/fd`).length;

// Opens a stream and reads nothing of it but the head.
async function stalled(session) {
    const socket = connect(world.server.port, '127.0.0.1');
    await once(socket, 'connect');
    const lines = Object.entries(headers()).map(([name, value]) => `${name}: ${value}\r\n`).join('');
    socket.write(`GET /v1/sessions/${session.id}/events/stream HTTP/1.1\r\nhost: x\r\n${lines}\r\n`);
    await once(socket, 'readable');
    socket.on('error', () => {});
    return socket;
}

describe('a stream', { concurrency: true }, () => {
    test('that is idle stays open, is pinged, and then still delivers', async () => {
        const session = await world.session();
        const control = new AbortController();
        const response = await fetch(`${world.server.url}/v1/sessions/${session.id}/events/stream`, { headers: headers(), signal: control.signal });
        const source = frames(response);
        for (let pings = 0; pings < 1; ) {
            const { value, done } = await source.next();
            assert.ok(!done, 'the stream was closed');
            if (value.event === 'ping') pings++;
            else assert.equal(value.data, null, 'nothing but pings and comments');
        }
        await world.send(session.id, 'still there?');
        for (;;) {
            const { value, done } = await source.next();
            assert.ok(!done, 'the stream was closed');
            if (value.event === 'session.status_idle') break;
        }
        control.abort();
    });

    test('that nobody reads is cut off, costs little until then, and its reader can go on where it was', async () => {
        const load = Array.from({ length: 24 }, (_, i) => `${i} ${'x'.repeat(500_000)}`);
        const [warm, session] = [await world.session(), await world.session()];
        await world.turn(warm.id, ...load.map(message)); // what the turn itself takes
        const before = { kb: residentKb(), fds: descriptors() };
        const sockets = [];
        for (let i = 0; i < 24; i++) sockets.push(await stalled(session));
        assert.ok(descriptors() >= before.fds + 16, 'the readers are connected (some older connection may have ended)');
        const seen = await world.turn(session.id, ...load.map(message));
        const grown = residentKb() - before.kb;
        // 24 readers times 24 MB would be 576 MB; what is allowed is noise of the allocator and 24 queues.
        assert.ok(grown < 64 * 1024, `${grown} kB more`);
        await eventually('the readers to be dropped', () => descriptors() <= before.fds + 4);
        for (const socket of sockets) socket.destroy();
        const log = await world.events(session.id);
        assert.deepEqual(seen, log, 'the reader that read got everything');
        const again = await world.stream(session.id, { headers: { 'last-event-id': log[0].id } });
        assert.deepEqual(await again.until('session.status_idle'), log.slice(1));
        again.close();
    });
});
