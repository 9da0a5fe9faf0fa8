// New sessions, and many turns at a time.
import { rounds } from '../lib/report.mjs';
import { Server } from '../lib/server.mjs';
import { remove, temporary } from '../lib/programs.mjs';

// POST /v1/sessions, GET .../stream, POST .../events, until session.status_idle is on the stream.
export async function first({ build, model, quick, add }) {
    const server = new Server(build, model), dir = temporary();
    await server.start();
    await server.prepare();
    const body = `${JSON.stringify(server.create)}\n`;
    await server.load(['first', server.port, 10, 'hello'], body);
    const got = await rounds(quick ? 2 : 5, [
        async () => ({ commit: (await build.run('store', [dir, 200, 'batch', 1])).commit.p50 }),
        async () => {
            const r = await server.load(['first', server.port, 40, 'hello'], body);
            return { whole: r.whole.p50, whole99: r.whole.p99 };
        },
    ]);
    await server.dispose();
    remove(dir);
    add({
        name: 'new session + first turn', group: 'turn', unit: 'µs', value: got.whole, p99: got.whole99, floor: 4 * got.commit, floorName: '4 raw commits', spread: got.spread('whole'),
        target: { text: 'at most 10,000 µs', limit: 10000 },
    });
}

export async function concurrent({ build, model, quick, add }) {
    const server = new Server(build, model), dir = temporary();
    await server.start();
    await server.prepare();
    const ids = await server.sessions(500);
    await server.turns(64, 1, 'hello', ids);
    const got = await rounds(quick ? 1 : 3, [
        async () => ({ floor: (await build.run('store', [dir, 300, 'clients', 64])).rows_per_s }),
        async () => {
            const r = await server.turns(64, quick ? 4 : 8, 'hello', ids.slice(0, 64));
            return { rate64: r.rate, p50of64: r.turn.p50, p99of64: r.turn.p99 };
        },
        async () => {
            const r = await server.turns(500, quick ? 2 : 3, 'hello', ids);
            return { rate500: r.rate, p50of500: r.turn.p50, p99of500: r.turn.p99 };
        },
    ]);
    await server.dispose();
    remove(dir);
    for (const n of [64, 500]) {
        add({ name: `${n} concurrent turns`, group: 'turn', unit: 'turns/s', value: got[`rate${n}`], floor: got.floor / 3, floorName: '64 threads on raw SQLite, 3 rows a turn', spread: got.spread(`rate${n}`) });
        add({ name: `${n} concurrent turns: latency`, group: 'turn', unit: 'µs', value: got[`p50of${n}`], p99: got[`p99of${n}`] });
    }
}
