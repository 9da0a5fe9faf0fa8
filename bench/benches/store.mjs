// How long until an event is acknowledged, and how many writers share a commit.
import { rounds } from '../lib/report.mjs';
import { Server, events } from '../lib/server.mjs';
import { remove, temporary } from '../lib/programs.mjs';

const half = 0.5;

// POST events to an idle session, beside a raw commit and a round trip that does nothing.
export async function ack({ build, model, quick, add }) {
    const server = new Server(build, model), dir = temporary();
    await server.start();
    await server.prepare();
    const ids = await server.sessions(8);
    await server.turns(1, 4, 'hello', ids);
    const got = await rounds(quick ? 3 : 7, [
        async () => {
            const floor = await build.run('store', [dir, quick ? 200 : 400, 'batch', 1]);
            return { commit: floor.commit.p50, commit99: floor.commit.p99 };
        },
        async () => {
            const health = await server.rate(1, 200, '/healthz');
            return { health: health.latency.p50 };
        },
        async () => {
            const fresh = await server.sessions(quick ? 8 : 16);
            const turns = await server.turns(1, 6, 'hello', fresh);
            return { ack: turns.ack.p50, ack99: turns.ack.p99, turn: turns.turn.p50, turn99: turns.turn.p99 };
        },
    ]);
    const counted = await server.sessions(4);
    const made = await server.metric('store_commits_total');
    await server.turns(1, 25, 'hello', counted);
    const each = ((await server.metric('store_commits_total')) - made) / 100;
    await server.dispose();
    remove(dir);

    const floor = got.commit + got.health, ratio = got.paired((r) => r.ack / (r.commit + r.health));
    add({ name: 'raw SQLite commit (FULL)', group: 'ack', unit: 'µs', value: got.commit, p99: got.commit99, spread: got.spread('commit') });
    add({ name: 'GET /healthz, one connection', group: 'ack', unit: 'µs', value: got.health, spread: got.spread('health') });
    add({
        name: 'ack: POST events', group: 'ack', unit: 'µs', value: got.ack, p99: got.ack99, floor, floorName: 'raw commit + GET /healthz', ratio, spread: got.spread('ack'),
        target: { text: 'at most 1.5 × floor', limit: 1.5, of: ratio },
    });
    const beyond = got.turn - 3 * got.least('commit');
    add({
        name: 'text turn, instant model', group: 'turn', unit: 'µs', value: got.turn, p99: got.turn99, floor: 3 * got.least('commit'), floorName: '3 raw commits of the best round', spread: got.spread('turn'),
        target: { text: 'at most 1,500 µs beyond floor', limit: 1500, of: beyond },
    });
    add({ name: 'commits of a text turn', group: 'turn', unit: '', value: each, target: { text: 'at most 3', limit: 3 } });
}

// 64 writers, each of which waits for its answer, beside 64 threads on raw SQLite. Their sessions wait for
// the model, so that a POST is one write and starts no turn.
export async function group({ build, model, quick, add }) {
    const server = new Server(build, model), dir = temporary();
    const ms = quick ? 400 : 700;
    await server.start();
    await server.prepare();
    const got = await rounds(quick ? 3 : 5, [
        async () => {
            const floor = await build.run('store', [dir, ms, 'clients', 64]);
            return { floor: floor.rows_per_s };
        },
        async () => {
            const bound = await build.run('store', [dir, ms * half, 'batch', 64]);
            return { bound: bound.rows_per_s };
        },
        async () => {
            const ids = await server.sessions(256, 'hold');
            const posts = await server.rate(64, ms, ids.map((id) => `/v1/sessions/${id}/events`), { method: 'POST', body: events('hello') });
            return { rate: posts.rate, p50: posts.latency.p50, p99: posts.latency.p99 };
        },
        async () => {
            const agents = await server.rate(64, ms * half, '/v1/agents', { method: 'POST', body: JSON.stringify({ name: 'one more', model: 'claude-bench' }) });
            return { agents: agents.rate };
        },
    ]);
    await server.stop('SIGKILL');
    await server.dispose();
    remove(dir);
    const ratio = got.paired((r) => r.rate / r.floor);
    add({
        name: '64 writers: POST events', group: 'store', unit: '/s', value: got.rate, floor: got.floor, floorName: '64 threads on raw SQLite', ratio, spread: got.spread('rate'),
        target: { text: 'at least 0.60 × floor', limit: 0.6, of: ratio, atLeast: true },
    });
    add({ name: '64 writers: latency', group: 'store', unit: 'µs', value: got.p50, p99: got.p99 });
    add({ name: '64 writers: POST agents', group: 'store', unit: '/s', value: got.agents, floor: got.floor, floorName: '64 threads on raw SQLite', spread: got.spread('agents') });
    add({ name: '64 rows a transaction, raw', group: 'store', unit: '/s', value: got.bound, spread: got.spread('bound') });
}

