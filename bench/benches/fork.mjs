// A copy of a session with a long log, beside a raw copy of its rows.
import path from 'node:path';
import { rounds } from '../lib/report.mjs';
import { Server } from '../lib/server.mjs';
import { remove, temporary } from '../lib/programs.mjs';

const EVENTS = 1000;

export async function fork({ build, model, quick, add }) {
    const server = new Server(build, model), dir = temporary();
    await server.start();
    await server.prepare();
    const [id] = await server.sessions(1), n = quick ? 20 : 50;
    let events = 0;
    while (events < EVENTS) {
        await server.turns(1, 20, 'hello', [id]);
        events = (await build.run('fork', [dir, path.join(server.data, 'ostler.db'), id, 1])).events;
    }
    const got = await rounds(quick ? 3 : 5, [
        async () => {
            const floor = await build.run('fork', [dir, path.join(server.data, 'ostler.db'), id, n]);
            return { floor: floor.copy.p50 };
        },
        async () => {
            const made = await server.load(['rate', server.port, 1, 0, 'POST', '{}'], `/v1/sessions/${id}/fork\n`.repeat(n));
            return { fork: made.latency.p50, fork99: made.latency.p99 };
        },
    ]);
    await server.dispose();
    remove(dir);
    add({
        name: `fork of a session with ${events} events`, group: 'fork', unit: 'µs', value: got.fork, p99: got.fork99, floor: got.floor, floorName: 'raw SQLite copy of its rows', spread: got.spread('fork'),
        target: { text: 'at most 50 ms', limit: 50000, of: got.fork },
    });
}
