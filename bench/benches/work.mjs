// The queue of a self-hosted environment: 1,000 sessions wait, 50 workers poll until nothing is left. Nobody
// may get what another one got.
import { Agent } from 'node:http';
import { rounds } from '../lib/report.mjs';
import { call, Server } from '../lib/server.mjs';
import { remove, temporary } from '../lib/programs.mjs';

const ITEMS = 1000, WORKERS = 50;
const beta = { 'anthropic-version': '2023-06-01', 'anthropic-beta': 'managed-agents-2026-04-01' };

// Resolves to the milliseconds that the workers took.
async function drain(server, environment, key) {
    const agent = new Agent({ keepAlive: true, maxSockets: WORKERS });
    const headers = { ...beta, authorization: `Bearer ${key}` };
    const seen = new Set();
    const poll = () => call({ port: server.port, method: 'GET', path: `/v1/environments/${environment}/work/poll?reclaim_older_than_ms=600000`, headers, agent });
    const worker = async () => {
        for (let item = await poll(); item !== null; item = await poll()) {
            if (seen.has(item.id)) throw new Error(`${item.id} was given out twice`);
            seen.add(item.id);
        }
    };
    const from = performance.now();
    await Promise.all(Array.from({ length: WORKERS }, worker));
    const took = performance.now() - from;
    agent.destroy();
    if (seen.size !== ITEMS) throw new Error(`${seen.size} of ${ITEMS} items were given out`);
    return took;
}

export async function work({ build, model, quick, add }) {
    const server = new Server(build, model), dir = temporary();
    await server.start();
    await server.prepare();
    const got = await rounds(quick ? 2 : 5, [
        async () => {
            const floor = await build.run('store', [dir, 1, 'claims', WORKERS]);
            return { floor: floor.rows_per_s };
        },
        async () => {
            const environment = await server.http('POST', '/v1/environments', { name: 'work', config: { type: 'self_hosted' } });
            const { key } = await server.http('POST', `/v1/environments/${environment.id}/keys`, { name: 'bench' });
            server.create.environment_id = environment.id;
            await server.sessions(ITEMS);
            return { rate: (ITEMS / (await drain(server, environment.id, key))) * 1000 };
        },
    ]);
    await server.dispose();
    remove(dir);
    add({
        name: `${ITEMS} work items polled by ${WORKERS} workers, none twice`, group: 'work', unit: '/s', value: got.rate, floor: got.floor, floorName: `raw SQLite claims, ${WORKERS} to a commit`, spread: got.spread('rate'),
    });
}
