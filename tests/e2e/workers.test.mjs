// ostler serve --workers N: several processes behind one address, and the one that keeps them running.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { FakeMessages } from '../lib/fake-messages.mjs';
import { assertSound, eventually, useProvider, worker } from '../lib/e2e.mjs';
import { texts } from '../lib/harness.mjs';

const WORKERS = 3;
const provider = new FakeMessages();
const world = await useProvider(provider, { args: ['--workers', String(WORKERS)] });

const workers = () => readFileSync(`/proc/${world.server.pid}/task/${world.server.pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
const all = () => eventually('all workers', () => (workers().length === WORKERS ? workers() : undefined));

describe('workers', () => {
    test('that are killed are started again, and every turn ends', async () => {
        provider.fallback = () => ['done'];
        const sessions = [];
        for (const victim of await all()) {
            for (let i = 0; i < 5; i++) {
                const session = await eventually('a session', () => worker(world).catch(() => undefined));
                await eventually('an answer', () => world.send(session.id, 'work').catch(() => undefined));
                sessions.push(session);
            }
            process.kill(victim, 'SIGKILL');
            await eventually('the end of a worker', () => !workers().includes(victim) || undefined);
        }
        assert.equal((await all()).length, WORKERS);
        for (const session of sessions) {
            const log = await eventually(`the end of ${session.id}`, async () => {
                const events = await world.events(session.id).catch(() => []);
                return events.at(-1)?.type === 'session.status_idle' ? events : undefined;
            });
            // A request that a kill cut off may have been accepted all the same, and was then sent twice.
            assertSound(log, { accepted: log.filter((e) => e.type === 'user.message') });
            assert.ok(texts(log).length >= 1);
        }
    });

    test('end with the one that keeps them, politely', async () => {
        const pids = await all();
        await world.server.stop(); // exit code 0
        for (const pid of pids) assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
        await world.server.start();
    });

    test('end when it is killed', async () => {
        const pids = await all();
        await world.server.kill();
        await eventually('the end of the workers', () => pids.every((pid) => !existsSync(`/proc/${pid}`)) || undefined);
        await eventually('the address', () => world.server.start().then(() => true, () => undefined));
    });
});
