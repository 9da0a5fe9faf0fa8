// A tool call through a warm hand, and a sandbox that has to be made first.
import { setTimeout as pause } from 'node:timers/promises';
import { rounds } from '../lib/report.mjs';
import { Server } from '../lib/server.mjs';
import { remove, temporary } from '../lib/programs.mjs';

export async function sandbox({ build, model, quick, add }) {
    const server = new Server(build, model), dir = temporary();
    await server.start();
    await server.prepare();
    const warmUp = await server.sessions(1);
    await server.turns(1, 3, 'run:true', warmUp);
    const kept = new Server(build, model, `sandbox: {warm: ${quick ? 3 : 5}}\n`);
    await kept.start();
    await kept.prepare();
    const spawn = (n, ...args) => build.run('spawn', [n, ...args]).then((r) => r.spawn.p50);
    const n = quick ? 3 : 5;
    let ids = warmUp, adopted = [];
    const ready = async () => {
        while ((await kept.metric('sandbox_spares')) < n) await pause(20);
    };
    const got = await rounds(quick ? 3 : 6, [
        async () => ({ exec: await spawn(40, '/bin/true'), bash: await spawn(20, 'bash', '-c', 'true') }),
        async () => ({ bwrap: await spawn(10, 'bwrap', '--unshare-all', '--ro-bind', '/', '/', '/bin/true') }),
        async () => ({ commit: (await build.run('store', [dir, 150, 'batch', 1])).commit.p50 }),
        async () => {
            await server.remove(ids);
            ids = await server.sessions(n);
            const r = await server.turns(1, 12, 'run:true', ids);
            return { cold: r.first_tool.p50, cold99: r.first_tool.p99, warm: r.tool.p50, warm99: r.tool.p99, turn: r.turn.p50 };
        },
        async () => {
            await kept.remove(adopted);
            adopted = await kept.sessions(n);
            await ready();
            const r = await kept.turns(1, 12, 'run:true', adopted);
            return { pooled: r.first_tool.p50, pooled99: r.first_tool.p99, pooledWarm: r.tool.p50 };
        },
    ]);
    const starts = await kept.metric('sandbox_starts_total');
    await server.remove(ids);
    await server.dispose();
    await kept.remove(adopted);
    await kept.dispose();
    remove(dir);
    // On the stream a call begins and ends with its events: the commit of the result is part of it.
    const ratio = got.paired((r) => r.cold / r.bwrap);
    add({ name: 'fork+exec+wait of true', group: 'tool', unit: 'µs', value: got.exec, spread: got.spread('exec') });
    add({ name: 'fork+exec+wait of bash -c true', group: 'tool', unit: 'µs', value: got.bash, spread: got.spread('bash') });
    add({
        name: 'bash true through a warm hand', group: 'tool', unit: 'µs', value: got.warm, p99: got.warm99, floor: got.exec, floorName: 'fork+exec+wait of true', spread: got.spread('warm'),
        target: { text: 'at most 3,000 µs over floor', limit: 3000, of: got.paired((r) => r.warm - r.exec) },
    });
    add({ name: 'turn with that call', group: 'tool', unit: 'µs', value: got.turn, floor: 5 * got.commit, floorName: '5 raw commits', spread: got.spread('turn') });
    add({
        name: 'bash true in a cold sandbox', group: 'tool', unit: 'µs', value: got.cold, p99: got.cold99, floor: got.bwrap, floorName: 'bwrap --unshare-all /bin/true', ratio, spread: got.spread('cold'),
        target: { text: 'at most 2.50 × floor', limit: 2.5, of: ratio },
    });
    add({
        name: 'first bash true with warm sandboxes', group: 'tool', unit: 'µs', value: got.pooled, p99: got.pooled99, floor: got.pooledWarm, floorName: 'bash true through that hand', spread: got.spread('pooled'),
        target: { text: 'at most 2,000 µs over floor', limit: 2000, of: got.paired((r) => r.pooled - r.pooledWarm) },
        ...(starts > 0 && { note: `${starts} sessions found none and started their own` }),
    });
}
