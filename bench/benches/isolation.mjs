// What sandboxes cost while they do nothing, and what one that misbehaves costs the session beside it.
import { readFileSync, readdirSync } from 'node:fs';
import { Server } from '../lib/server.mjs';
import { rounds } from '../lib/report.mjs';

const memoryKb = () => {
    const info = readFileSync('/proc/meminfo', 'utf8');
    return Number(/MemAvailable:\s+(\d+)/.exec(info)[1]);
};

// Proportional memory of every hand, of the bubblewrap above it and of the shell below.
function sandboxesKb() {
    let sum = 0, hands = 0;
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
        try {
            const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
            if (!/\/run\/hand\0/.test(args) && args !== '/bin/bash\0--noprofile\0--norc\0') continue;
            if (args.startsWith('/run/hand')) hands++;
            sum += Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]);
        } catch {
            // it ended, or is not ours to look at
        }
    }
    return { sum, hands };
}

async function idleOnes({ build, model, quick, add }) {
    const server = new Server(build, model), n = quick ? 100 : 500;
    await server.start();
    await server.prepare();
    const ids = await server.sessions(n);
    const before = memoryKb(), others = sandboxesKb();
    await server.turns(4, 1, 'run:true', ids);
    const now = sandboxesKb(), lost = before - memoryKb();
    if (now.hands - others.hands < n) throw new Error(`${now.hands - others.hands} of ${n} sandboxes are there`);
    await server.remove(ids);
    await server.dispose();
    add({
        name: `${n} idle sandboxes`, group: 'memory', unit: 'MB', value: lost / 1024, target: { text: `at most ${(1024 * n) / 500} MB`, limit: (1024 * n) / 500 },
        note: `what the machine has less; their processes' own memory is ${Math.round((now.sum - others.sum) / 1024)} MB, the rest the kernel's for namespaces, mounts and cgroups`,
    });
}

const bomb = 'run:b() { b | b & }; b; sleep 30';

// A session's calls while another one's fork bomb is on, beside the same without.
async function beside({ build, model, quick, add }) {
    const server = new Server(build, model);
    await server.start();
    await server.prepare();
    const [calm, wild] = await server.sessions(2);
    const calls = () => server.turns(1, quick ? 20 : 40, 'run:true', [calm]);
    await server.turns(1, 3, 'run:true', [calm]);
    await server.turns(1, 1, 'run:true', [wild]);
    const got = await rounds(quick ? 2 : 4, [
        async () => {
            const r = await calls();
            return { quiet: r.tool.p50, quiet99: r.tool.p99 };
        },
        async () => {
            let on = true;
            const bombs = (async () => {
                while (on) await server.turns(1, 1, bomb, [wild]);
            })();
            const r = await calls();
            on = false;
            await bombs;
            return { loud: r.tool.p50, loud99: r.tool.p99 };
        },
    ]);
    await server.remove([calm, wild]);
    await server.dispose();
    add({
        name: 'bash true beside a fork bomb', group: 'tool', unit: 'µs', value: got.loud, p99: got.loud99, floor: got.quiet, floorName: 'the same without one',
        ratio: got.paired((r) => r.loud / r.quiet), spread: got.spread('loud'),
    });
}

export async function isolation(context) {
    await beside(context);
    await idleOnes(context);
}
