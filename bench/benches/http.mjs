// Rates of reading, beside a server that does nothing but answer.
import { rounds } from '../lib/report.mjs';
import { Server } from '../lib/server.mjs';

export async function http({ build, model, quick, add }) {
    const server = new Server(build, model), ms = quick ? 300 : 700, connections = 64;
    const hello = await build.start('hello');
    await server.start();
    await server.prepare();
    const ids = await server.sessions(200);
    await server.turns(8, 2, 'hello', ids);
    const rate = async (target) => (await server.rate(connections, ms, target)).rate;
    const got = await rounds(quick ? 3 : 5, [
        async () => ({ hello: (await build.run('load', ['rate', hello.port, connections, ms, 'GET'], { input: '/healthz\n' })).rate }),
        async () => ({ health: await rate('/healthz') }),
        async () => ({ get: await rate(ids.map((id) => `/v1/sessions/${id}`)) }),
        async () => ({ list: await rate('/v1/sessions?limit=20') }),
        async () => ({ events: await rate(ids.map((id) => `/v1/sessions/${id}/events?limit=100`)) }),
    ]);
    await hello.stop();
    await server.dispose();
    const floorName = 'bare llhttp+libuv loop', ratio = got.paired((r) => r.health / r.hello);
    add({
        name: 'GET /healthz, 64 connections', group: 'http', unit: '/s', value: got.health, floor: got.hello, floorName, ratio, spread: got.spread('health'),
        target: { text: 'at least 0.60 × floor', limit: 0.6, of: ratio, atLeast: true },
    });
    add({
        name: 'GET /v1/sessions/{id}', group: 'http', unit: '/s', value: got.get, floor: got.hello, floorName, spread: got.spread('get'),
        target: { text: 'at least 15,000/s', limit: 15000, atLeast: true },
    });
    add({ name: 'GET /v1/sessions?limit=20', group: 'http', unit: '/s', value: got.list, floor: got.hello, floorName, spread: got.spread('list') });
    add({ name: 'GET .../events (14 events)', group: 'http', unit: '/s', value: got.events, floor: got.hello, floorName, spread: got.spread('events') });
}
