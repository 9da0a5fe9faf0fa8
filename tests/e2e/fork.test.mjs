// Forks as the provider, a crash and the command line see them.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { FakeMessages } from '../lib/fake-messages.mjs';
import { texts, types } from '../lib/harness.mjs';
import { assertGrows, assertSound, eventually, run, useProvider, worker, workspaceFile } from '../lib/e2e.mjs';

const provider = new FakeMessages();
const world = await useProvider(provider);
const THINKING = { type: 'thinking', thinking: 'quote " slash \\ line\n nul \u0000 end', signature: 'c2ln/+==' };
const ODD_INPUT = '{"command":"echo \\u00e4 \\/ ","timeout_ms":1.0e4,"b":[1.10,-0,12345678901234567890],"":" "}';

const fork = (s, body = {}, options = {}) => world.client().post(`/v1/sessions/${s.id}/fork`, { body, ...options });
const get = (id) => world.client().beta.sessions.retrieve(id);
const listed = async () => (await world.client().beta.sessions.list({ limit: 100, include_archived: true })).data.map((s) => s.id);

// A session with two turns, the first one with thoughts and a call.
async function twoTurns(extra) {
    provider.expect([THINKING, 'I shall look.', { type: 'tool_use', name: 'bash', json: ODD_INPUT }]);
    provider.expect([THINKING, 'Seen.']);
    provider.expect(['Second.']);
    const session = await worker(world, extra);
    const first = await world.turn(session.id, 'look \u2028 at "this"');
    await world.turn(session.id, 'and then?');
    return { session, first };
}

describe('the requests of a fork', () => {
    test('have the same bytes as the original\'s would have', async () => {
        const mark = provider.requests.length;
        const { session, first } = await twoTurns({ system: 'You are "careful".' });
        const f = await fork(session);
        const early = await fork(session, { event_id: first.at(-1).id });
        for (const id of [session.id, f.id, early.id]) {
            provider.expect(['Third.']);
            await world.turn(id, id === early.id ? 'and then?' : 'go on');
        }
        const [one, two, three, own, copied, again] = provider.requests.slice(mark);
        assert.equal(copied.raw, own.raw, 'the next request at the end');
        assert.equal(again.raw, three.raw, 'and at an earlier turn');
        assertGrows([one, two, three, copied]);
    });

    test('in the middle of a turn begin with the same bytes, and what was open is closed', async () => {
        const mark = provider.requests.length;
        const { session, first } = await twoTurns();
        const use = first.find((e) => e.type === 'agent.tool_use');
        const f = await fork(session, { event_id: use.id });
        provider.expect(['Then not.']);
        assert.deepEqual(texts(await world.turn(f.id, 'leave it')), ['Then not.']);
        const requests = provider.requests.slice(mark);
        const forked = requests.at(-1);
        assertGrows([requests[0], forked]);
        const result = forked.json.messages.flatMap((m) => m.content).find((b) => b.type === 'tool_result');
        assert.equal(result.tool_use_id, use.id);
        assert.equal(result.is_error, true);
        const log = await world.events(f.id);
        assertSound(log, { accepted: log.filter((e) => e.type === 'user.message') });
    });
});

describe('a crash', () => {
    test('around a fork leaves a whole one or none', async () => {
        const { session } = await twoTurns();
        const want = await world.events(session.id);
        for (const delay of [0, 1, 2, 4, 8]) {
            const before = new Set(await listed());
            const key = { headers: { 'idempotency-key': `kill-${delay}` } };
            const lost = fork(session, {}, key).then((f) => f.id, () => undefined);
            await new Promise((resolve) => setTimeout(resolve, delay));
            await world.server.kill();
            const known = await lost;
            await world.server.start();
            const made = (await listed()).filter((id) => !before.has(id));
            assert.ok(made.length <= 1);
            if (known) assert.deepEqual(made, [known], 'what was acknowledged is there');
            const f = await fork(session, {}, key);
            assert.deepEqual((await listed()).filter((id) => !before.has(id)), [f.id], 'asked again, there is one');
            if (made.length) assert.equal(f.id, made[0]);
            assert.deepEqual(types(await world.events(f.id)), types(want));
        }
        assert.deepEqual(await world.events(session.id), want);
    });
});

describe('the command line', () => {
    test('ostler fork prints the new session', async () => {
        const { session, first } = await twoTurns();
        const plain = await run(world, ['fork', session.id]);
        assert.equal(plain.code, 0, plain.stderr);
        assert.match(plain.stdout, /^sesn_\w+\n$/);
        assert.equal((await get(plain.stdout.trim())).forked_from.session_id, session.id);
        const other = await world.agent();
        const named = await run(world, ['fork', session.id, first.at(-1).id, '--title', 'a "b"', '--agent', other.id, '--json']);
        const made = JSON.parse(named.stdout);
        assert.deepEqual([made.title, made.agent.id, made.forked_from.event_id], ['a "b"', other.id, first.at(-1).id]);
        assert.equal((await get(session.id)).archived_at, null);
        const none = await run(world, ['fork', session.id, 'sevt_011111111111111111111111']);
        assert.equal(none.code, 1);
        assert.match(none.stderr, /No event/);
        assert.equal((await run(world, ['fork'])).code, 2);
        assert.equal((await run(world, ['fork', '../x'])).code, 2);
    });

    test('ostler rewind archives the old session, but not when the new one could not be made', async () => {
        const { session, first } = await twoTurns();
        const none = await run(world, ['rewind', session.id, 'sevt_011111111111111111111111']);
        assert.equal(none.code, 1);
        assert.match(none.stderr, /nothing was done to sesn_/);
        assert.equal(none.stdout, '');
        assert.equal((await get(session.id)).archived_at, null);
        assert.equal((await run(world, ['rewind', session.id])).code, 2);
        const done = await run(world, ['rewind', session.id, first.at(-1).id]);
        assert.equal(done.code, 0, done.stderr);
        assert.match(done.stderr, /was archived/);
        assert.equal((await get(done.stdout.trim())).forked_from.event_id, first.at(-1).id);
        assert.notEqual((await get(session.id)).archived_at, null);
    });

    test('ostler rewind interrupts a session that is running', async () => {
        const { session, first } = await twoTurns();
        const held = provider.expect({ blocks: ['never finished'], hold: 4 });
        await world.send(session.id, 'think');
        await held.paused;
        const done = await run(world, ['rewind', session.id, first.at(-1).id]);
        assert.equal(done.code, 0, done.stderr);
        assert.match(done.stderr, /was interrupted and archived/);
        await eventually('the request to end', async () => (await get(session.id)).status === 'terminated');
        assert.deepEqual((await get(done.stdout.trim())).status, 'idle');
    });
});

describe('the files of a fork', () => {
    // Names, modes, times to the nanosecond, links and contents; times of access and change are each copy's own.
    const tar = async (id) => {
        const answer = await fetch(`${world.server.url}/v1/sessions/${id}/workspace.tar`, { headers: { 'x-api-key': world.server.key } });
        assert.equal(answer.status, 200);
        const input = Buffer.from(await answer.arrayBuffer());
        const read = (...args) => execFileSync('tar', [...args, '-f', '-'], { input });
        return createHash('sha256').update(read('-tv', '--full-time')).update(read('-xO')).digest('hex');
    };
    const turn = async (id, command) => {
        provider.expect([{ bash: command }]);
        provider.expect(['Done.']);
        return (await world.turn(id, command)).at(-1);
    };

    test('are those of the end of the turn it branches off from', async () => {
        const session = await worker(world), ends = [], hashes = [];
        for (const command of ['mkdir -p d && echo one > d/a && ln -s a d/l && chmod 750 d', 'echo two >> d/a && echo new > b', 'rm -r d']) {
            ends.push(await turn(session.id, command));
            hashes.push(await tar(session.id));
        }
        assert.equal(new Set(hashes).size, 3);
        for (const [i, end] of ends.entries()) {
            const f = await fork(session, { event_id: end.id });
            assert.equal(f.forked_from.files_as_of, end.id);
            await turn(f.id, 'true');
            assert.equal(await tar(f.id), hashes[i], `after turn ${i + 1}`);
        }
        assert.equal(await tar(session.id), hashes[2], 'and those of the original as they were');
    });

    test('are named where the point is in the middle of a turn', async () => {
        const session = await worker(world);
        const end = await turn(session.id, 'echo one > a');
        provider.expect([{ bash: 'echo two > a' }]);
        provider.expect(['Done.']);
        const seen = await world.turn(session.id, 'again');
        const f = await fork(session, { event_id: seen.find((e) => e.type === 'agent.tool_use').id });
        assert.equal(f.forked_from.files_as_of, end.id);
        await turn(f.id, 'true');
        assert.equal(await workspaceFile(world, f, 'a'), 'one\n');
    });
});
