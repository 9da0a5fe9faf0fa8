// A connection through the egress proxy, beside a direct one.
import { rounds } from '../lib/report.mjs';

export async function egress({ build, quick, add }) {
    const n = quick ? 200 : 600;
    const got = await rounds(quick ? 3 : 6, [
        async () => {
            const r = await build.run('egress', [build.ostler, n]);
            return { direct: r.direct.p50, direct99: r.direct.p99, tunnel: r.tunnel.p50, tunnel99: r.tunnel.p99 };
        },
    ]);
    add({
        name: 'CONNECT through the egress proxy', group: 'egress', unit: 'µs', value: got.tunnel, p99: got.tunnel99, floor: got.direct, floorName: 'a direct connection', spread: got.spread('tunnel'),
        target: { text: 'at most 1,000 µs over floor', limit: 1000, of: got.paired((r) => r.tunnel - r.direct) },
    });
}
