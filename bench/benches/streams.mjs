// One event to one and to a thousand streams; what a reader that does not read costs.
import { rounds } from '../lib/report.mjs';
import { Server, events, keyEnv } from '../lib/server.mjs';

export async function fan({ build, model, quick, add }) {
    const server = new Server(build, model), hello = await build.start('hello');
    await server.start();
    await server.prepare();
    const many = 1000, each = quick ? 10 : 20;
    const ours = async (streams, n) => {
        const [id] = await server.sessions(1);
        const base = `/v1/sessions/${id}/events`;
        return server.load(['fan', server.port, streams, n, `${base}/stream`, base, events('hello'), 'session.status_idle']);
    };
    const floor = (streams, n) => build.run('load', ['fan', hello.port, streams, n, '/stream', '/', '{}', 'session.status_idle']);
    await ours(1, 20);
    const got = await rounds(quick ? 2 : 4, [
        async () => ({ one: (await ours(1, 50)).last.p50 }),
        async () => {
            const r = await floor(many, each);
            return { floor50: r.spread.p50, floorLast: r.last.p50 };
        },
        async () => {
            const r = await ours(many, each);
            return { spread50: r.spread.p50, spread99: r.spread.p99, last50: r.last.p50, last99: r.last.p99 };
        },
    ]);
    await hello.stop();
    await server.dispose();
    add({ name: '1 stream: POST to the turn\'s last event', group: 'stream', unit: 'µs', value: got.one, spread: got.spread('one') });
    add({
        name: '1,000 streams: from the first to the last', group: 'stream', unit: 'µs', value: got.spread50, p99: got.spread99, floor: got.floor50, floorName: 'bare llhttp+libuv loop', spread: got.spread('spread50'),
        target: { text: 'last byte at most 10,000 µs p99', limit: 10000, of: got.spread99 },
    });
    add({ name: '1,000 streams: POST to the last', group: 'stream', unit: 'µs', value: got.last50, p99: got.last99, floor: got.floorLast, floorName: 'bare llhttp+libuv loop', spread: got.spread('last50') });
}

// Each stalled reader has a session of its own, so that nothing they wait for is shared. The same is sent
// to as many sessions that have no reader, and the difference is what the readers cost. What is sent are
// updates of the metadata, 8 KB each, while the turns wait for the model: nothing else allocates.
export async function stall({ build, model, quick, add }) {
    const readers = quick ? 16 : 32, updates = 450;
    const update = (letter) => JSON.stringify({ metadata: Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`key${i}`, letter.repeat(512)])) });
    const bodies = [update('a'), update('b')];
    const grown = async (stalled) => {
        const server = new Server(build, model);
        await server.start();
        await server.prepare();
        const ids = await server.sessions(readers, 'hold');
        const reader = stalled ? await build.start('load', ['stall', server.port, 1], { input: `${ids.join('\n')}\n`, env: keyEnv }) : null;
        const lines = Array.from({ length: updates }, (_, i) => ids.map((id) => `/v1/sessions/${id}\t${bodies[i % 2]}`)).flat();
        const before = server.anonKb();
        await server.load(['rate', server.port, 8, 0, 'POST'], lines);
        const kb = server.anonKb() - before;
        const open = await server.metric('streams_open'), queued = server.queuedKb();
        if (reader) await reader.stop();
        await server.stop('SIGKILL');
        await server.dispose();
        return { kb, open, queued };
    };
    const without = await grown(false), stalled = await grown(true);
    add({
        name: 'stalled reader', group: 'stream', unit: 'KB', value: (stalled.kb - without.kb) / readers,
        target: { text: 'at most 64 KB', limit: 64 },
        note: `${readers} readers, ${Math.round(updates * 8.5)} KB sent to each; ${stalled.open} still connected; the server grew by ${without.kb} KB without and by ${stalled.kb} KB with them`,
    });
    add({ name: 'stalled reader: waiting in the kernel', group: 'stream', unit: 'KB', value: stalled.queued / readers });
}
