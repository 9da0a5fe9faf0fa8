// Starting, starting again after kill -9, and what sessions cost in memory.
import { setTimeout as pause } from 'node:timers/promises';
import { median } from '../lib/report.mjs';
import { Server, events, modelStats, releaseModel } from '../lib/server.mjs';
import { run } from '../lib/programs.mjs';

const now = () => Number(process.hrtime.bigint());

async function boots(server, n) {
    const took = [], rss = [];
    for (let i = 0; i < n; i++) {
        took.push(await server.start());
        await server.http('GET', '/healthz');
        rss.push(server.rssKb());
        await server.stop();
    }
    return { ms: median(took), max: Math.max(...took), kb: median(rss) };
}

// Seconds of polling at most; what is waited for is an outside process's counter.
async function until(what, seconds, check) {
    for (const end = Date.now() + seconds * 1000; Date.now() < end; await pause(20)) {
        if (await check()) return;
    }
    throw new Error(`waited ${seconds} s in vain for ${what}`);
}

export async function boot({ build, model, quick, add }) {
    const server = new Server(build, model), n = quick ? 5 : 9, many = 100000;
    const fresh = await server.start();
    await server.prepare();
    const ids = await server.sessions(1);
    await server.turns(1, 1, 'hello', ids);
    await server.stop();
    const exec = (await build.run('spawn', [20, build.ostler, '--version'])).spawn.p50 / 1000;
    const empty = await boots(server, n);
    const seeding = Date.now();
    await run(build.program('seed'), [server.data, ids[0], many], { json: false });
    const seeded = (Date.now() - seeding) / 1000;
    const full = await boots(server, n);
    await server.start();
    if ((await server.metric('sessions{status="idle"}')) !== many + 1) throw new Error('the seed is not complete');
    await server.dispose();
    const target = { text: 'at most 50 ms', limit: 50 }, floorName = 'ostler --version';
    add({ name: 'first start, new data directory', group: 'boot', unit: 'ms', value: fresh, floor: exec, floorName });
    add({ name: 'boot, 1 session', group: 'boot', unit: 'ms', value: empty.ms, p99: empty.max, floor: exec, floorName, target });
    add({ name: 'boot, 100,000 sessions', group: 'boot', unit: 'ms', value: full.ms, p99: full.max, floor: exec, floorName, target: { ...target }, note: `seeded in ${seeded} s` });
    add({ name: 'RSS idle', group: 'memory', unit: 'MB', value: empty.kb / 1024, target: { text: 'at most 15 MB', limit: 15 } });
    add({ name: 'RSS idle, 100,000 sessions stored', group: 'memory', unit: 'MB', value: full.kb / 1024, floor: empty.kb / 1024, floorName: 'RSS idle' });
}

// A turn waits for the model; the server is killed and started at once.
export async function kill({ build, model, quick, add }) {
    const server = new Server(build, model), took = [], boot = [];
    await server.start();
    await server.prepare();
    const [id] = await server.sessions(1);
    await server.turns(1, 2, 'hello', [id]);
    await server.http('POST', `/v1/sessions/${id}/events`, events('hold'));
    for (let i = 0; i < (quick ? 4 : 8); i++) {
        await until('the turn to wait', 5, async () => (await modelStats(model)).waiting === 1);
        const { requests } = await modelStats(model), from = now();
        await server.stop('SIGKILL');
        boot.push(await server.start());
        let stats;
        await until('the next model request', 10, async () => (stats = await modelStats(model)).requests > requests);
        took.push((stats.last_ns - from) / 1e6);
    }
    await server.stop('SIGKILL');
    await server.dispose();
    add({
        name: 'kill -9 to the next model request', group: 'boot', unit: 'ms', value: median(took), p99: Math.max(...took), floor: median(boot), floorName: 'a boot',
        target: { text: 'at most 300 ms', limit: 300 },
    });
}

// 10,000 sessions made over HTTP, each idle.
export async function idle({ build, model, quick, add }) {
    const server = new Server(build, model), n = 10000;
    await server.start();
    await server.prepare();
    const body = JSON.stringify(server.create);
    const post = (count) => server.load(['rate', server.port, 16, 0, 'POST', body], '/v1/sessions\n'.repeat(count));
    await post(quick ? 1000 : 2000); // the caches of SQLite and of malloc are full after these
    await server.rate(16, 200, '/v1/sessions?limit=20');
    const before = server.rssKb();
    const made = await post(n);
    const after = server.rssKb();
    await server.dispose();
    add({ name: '10,000 idle sessions', group: 'memory', unit: 'KB', value: after - before, target: { text: 'less than 1,024 KB', limit: 1023 } });
    add({ name: 'POST /v1/sessions, 16 connections', group: 'http', unit: '/s', value: made.rate });
}

// 5,000 turns that wait for a slow model.
export async function slow({ build, model, quick, add }) {
    const server = new Server(build, model), n = quick ? 1000 : 5000;
    await server.start();
    await server.prepare();
    const ids = await server.sessions(n);
    await server.turns(32, 1, 'hello', ids.slice(0, 200));
    const before = server.rssKb(), from = Date.now();
    await server.load(['rate', server.port, 32, 0, 'POST', events('hold')], ids.map((id) => `/v1/sessions/${id}/events`));
    await until('all turns to wait', 60, async () => (await modelStats(model)).waiting === n);
    const started = Date.now() - from, after = server.rssKb();
    const health = await server.rate(1, 200, '/healthz');
    const ended = Date.now();
    await releaseModel(model);
    await until('all turns to end', 60, async () => (await server.metric('sessions{status="idle"}')) === n);
    const drained = Date.now() - ended;
    await server.dispose();
    const name = n.toLocaleString('en');
    add({
        name: `${name} waiting turns: each`, group: 'memory', unit: 'KB', value: (after - before) / n,
        target: { text: 'at most 64 KB', limit: 64 },
    });
    add({ name: `${name} turns: until all wait`, group: 'turn', unit: 'ms', value: started });
    add({ name: `${name} turns: from the answers to idle`, group: 'turn', unit: 'ms', value: drained });
    add({ name: `GET /healthz beside ${name} waiting turns`, group: 'http', unit: 'µs', value: health.latency.p50, p99: health.latency.p99 });
}
