// kill -9 at each kind of moment. After the restart nobody is attached: what the provider is asked shows
// that the turn went on by itself; only then the log is read.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { FakeMessages } from '../lib/fake-messages.mjs';
import { message, texts } from '../lib/harness.mjs';
import { assertGrows, assertSound, atGate, count, gated, killHands, MODEL, onDisk, rest, resultText, TOOLSET, useProvider, worker, workspaceFile } from '../lib/e2e.mjs';

const provider = new FakeMessages();
const world = await useProvider(provider);
let serial = 0;

async function crash() {
    await world.server.kill();
    await world.server.start();
}

// The session's log when it is idle, checked, and the session's own view of it.
async function ended(session, accepted) {
    await rest(world, session);
    const log = await world.events(session.id);
    assertSound(log, { accepted });
    assert.equal((await world.client().beta.sessions.retrieve(session.id)).status, 'idle');
    return log;
}

describe('while the model is asked', () => {
    for (const [moment, hold] of [['before the first byte', 'head'], ['after the headers', 0], ['before the first text', 3], ['in the middle of the text', 5], ['before the last frame', 7]]) {
        test(`killed ${moment}: the request goes out again, once, and the turn ends`, async () => {
            const held = provider.expect({ blocks: ['half of it is said'], hold });
            const session = await worker(world);
            const { data: accepted } = await world.send(session.id, 'speak');
            await held.paused;
            await world.server.kill();
            assert.equal(await held.closed, false, 'the provider saw the connection go');
            const again = provider.expect(['all of it is said']);
            await world.server.start();
            await again.arrived;
            assert.equal(again.request.raw, held.request.raw);
            const log = await ended(session, accepted);
            assert.deepEqual(texts(log), ['all of it is said']);
            assert.deepEqual(log.filter((e) => e.type === 'span.model_request_end').map((e) => e.is_error), [true, false]);
        });
    }

    test('killed three times in the same answer, it still ends', async () => {
        const session = await worker(world);
        let held = provider.expect({ blocks: ['never'], hold: 4 });
        const { data: accepted } = await world.send(session.id, 'speak');
        for (let i = 0; i < 3; i++) {
            await held.paused;
            await world.server.kill();
            held = provider.expect({ blocks: ['at last'], hold: 4 });
            await world.server.start();
        }
        await held.paused;
        held.release();
        assert.deepEqual(texts(await ended(session, accepted)), ['at last']);
    });

    test('killed while it waits to try again, it tries again', async () => {
        provider.expect({ status: 529, headers: { 'retry-after': '30' }, json: { type: 'error', error: { type: 'overloaded_error', message: 'later' } } });
        const session = await worker(world);
        const stream = await world.stream(session.id);
        const { data: accepted } = await world.send(session.id, 'speak');
        await stream.until('session.status_rescheduled');
        const again = provider.expect(['now']);
        await crash();
        await again.arrived;
        assert.deepEqual(texts(await ended(session, accepted)), ['now']);
    });

    test('an interrupt that was acknowledged just before holds after the restart', async () => {
        const held = provider.expect({ blocks: ['you will not hear this'], hold: 4 });
        const session = await worker(world);
        const { data: one } = await world.send(session.id, 'speak');
        await held.paused;
        const sent = world.send(session.id, { type: 'user.interrupt' });
        const { data: two } = await sent;
        await crash();
        const log = await ended(session, [...one, ...two]);
        assert.deepEqual(log.at(-1).stop_reason, { type: 'end_turn' });
        assert.deepEqual(texts(log), []);
    });
});

describe('right after the acknowledgement', () => {
    test('a message that was acknowledged is answered, every time', async () => {
        for (let i = 0; i < 5; i++) {
            provider.fallback = () => ['yes'];
            const session = await worker(world);
            const { data: accepted } = await world.send(session.id, message(`are you there, ${i}`), message('really'));
            await crash();
            assert.deepEqual(texts(await ended(session, accepted)), ['yes']);
        }
    });

    test('initial events of a session that was acknowledged are answered', async () => {
        provider.fallback = () => ['yes'];
        const session = await worker(world, {});
        const begun = await world.client().beta.sessions.create({ agent: session.agent.id, environment_id: session.environment_id, initial_events: [message('at once')] });
        await crash();
        await rest(world, begun);
        const log = await world.events(begun.id);
        assert.deepEqual(texts(log), ['yes']);
        assertSound(log, { accepted: log.filter((e) => e.type === 'user.message') });
    });

    test('messages that wait behind a running turn are kept in order', async () => {
        const held = provider.expect({ blocks: ['one'], hold: 4 });
        const session = await worker(world);
        const { data: first } = await world.send(session.id, 'first');
        await held.paused;
        const accepted = [...first];
        for (const text of ['second', 'third', 'fourth']) accepted.push(...(await world.send(session.id, text)).data);
        await world.server.kill();
        provider.fallback = () => ['all heard'];
        await world.server.start();
        const log = await ended(session, accepted);
        assert.equal(texts(log).at(-1), 'all heard');
    });
});

describe('while a tool runs', () => {
    function expectRun() {
        const [runs, gate] = [`runs-${++serial}`, `gate-${serial}`];
        provider.expect([{ bash: gated(runs, gate) }]);
        return { runs, gate };
    }

    test('the hand finishes it without a server, and the one result is used', async () => {
        const mark = provider.requests.length;
        const { runs, gate } = expectRun();
        const session = await worker(world);
        const { data: accepted } = await world.send(session.id, 'work');
        const letThrough = await atGate(world, gate);
        await world.server.kill();
        await letThrough('the crash');
        await onDisk(world, runs, 'begun\nended\n');
        const next = provider.expect(['done']);
        await world.server.start();
        await next.arrived;
        assert.match(next.request.json.messages.at(-1).content[0].content[0].text, /^finished after the crash/);
        const log = await ended(session, accepted);
        assert.deepEqual(texts(log), ['done']);
        assert.equal(await workspaceFile(world, session, runs), 'begun\nended\n', 'it ran once');
        assert.notEqual(log.find((e) => e.type === 'agent.tool_result').is_error, true);
        assertGrows(provider.requests.slice(mark));
    });

    test('the new server waits for it when it is still running', async () => {
        const { runs, gate } = expectRun();
        const session = await worker(world);
        const { data: accepted } = await world.send(session.id, 'work');
        const letThrough = await atGate(world, gate);
        await crash();
        await crash();
        const next = provider.expect(['done']);
        await letThrough('two crashes');
        await next.arrived;
        const log = await ended(session, accepted);
        assert.match(resultText(log.find((e) => e.type === 'agent.tool_result')), /^finished after two crashes/);
        assert.equal(await workspaceFile(world, session, runs), 'begun\nended\n', 'it ran once');
    });

    test('parallel calls are each run once', async () => {
        const [a, b] = [`par-${++serial}`, `par-${++serial}`];
        provider.expect([{ bash: gated(a, `${a}-gate`) }, { bash: `echo once >> ${b}` }, { type: 'tool_use', name: 'write', input: { file_path: '/workspace/written', content: 'w' } }]);
        const session = await worker(world);
        const { data: accepted } = await world.send(session.id, 'work');
        const letThrough = await atGate(world, `${a}-gate`);
        await world.server.kill();
        await letThrough('all');
        const next = provider.expect(['done']);
        await world.server.start();
        await next.arrived;
        const log = await ended(session, accepted);
        assert.equal(count(log, 'agent.tool_result'), 3);
        assert.equal(await workspaceFile(world, session, a), 'begun\nended\n');
        assert.equal(await workspaceFile(world, session, b), 'once\n');
        assert.equal(await workspaceFile(world, session, 'written'), 'w');
    });

    test('when the hand dies with the server the outcome is unknown, said so, and nothing is run again', async () => {
        const { runs, gate } = expectRun();
        const session = await worker(world);
        const { data: accepted } = await world.send(session.id, 'work');
        const waiting = await atGate(world, gate);
        await world.server.kill();
        assert.ok((await killHands(world)) > 0, 'there was a hand to kill');
        await waiting.close();
        const next = provider.expect([{ bash: `cat ${runs}` }]);
        const last = provider.expect(['I looked.']);
        await world.server.start();
        await next.arrived;
        const [result] = next.request.json.messages.at(-1).content;
        assert.equal(result.is_error, true);
        assert.match(result.content[0].text, /unknown/i);
        await last.arrived;
        const log = await ended(session, accepted);
        const [lost, looked] = log.filter((e) => e.type === 'agent.tool_result');
        assert.deepEqual(lost.failure, { reason: 'sandbox_lost' });
        assert.equal(resultText(looked).trim(), 'begun', 'the files are still there, and it ran once');
    });

    test('when only the hand dies the turn goes on at once', async () => {
        const { runs, gate } = expectRun();
        const session = await worker(world);
        const { data: accepted } = await world.send(session.id, 'work');
        const waiting = await atGate(world, gate);
        const next = provider.expect([{ bash: `cat ${runs}` }]);
        provider.expect(['I looked.']);
        await killHands(world);
        await waiting.close();
        await next.arrived;
        const log = await ended(session, accepted);
        const [lost, looked] = log.filter((e) => e.type === 'agent.tool_result');
        assert.equal(lost.is_error, true);
        assert.ok(lost.failure?.reason, JSON.stringify(lost));
        assert.equal(resultText(looked).trim(), 'begun');
    });
});

test('a session that waits for its client is still waiting after a kill', async () => {
    provider.expect([{ type: 'tool_use', name: 'ask', input: { q: 'colour?' } }]);
    const tools = [...TOOLSET, { type: 'custom', name: 'ask', description: 'Asks the user.', input_schema: { type: 'object', properties: { q: { type: 'string' } } } }];
    const session = await world.session({ agent: { model: MODEL, tools } });
    const asked = await world.turn(session.id, 'ask me');
    const call = asked.find((e) => e.type === 'agent.custom_tool_use');
    const reason = { type: 'requires_action', event_ids: [call.id] };
    assert.deepEqual(asked.at(-1).stop_reason, reason);
    await crash();
    const view = await world.client().beta.sessions.retrieve(session.id);
    assert.equal(view.status, 'idle');
    assert.deepEqual(view.stop_reason, reason);
    assert.deepEqual(await world.events(session.id), asked, 'nothing happened meanwhile');
    await world.send(session.id, { type: 'user.interrupt' });
    const seen = await rest(world, session, asked.at(-1));
    assert.deepEqual(seen.at(-1).stop_reason, { type: 'end_turn' });
    provider.expect(['Never mind.']);
    assert.deepEqual(texts(await world.turn(session.id, 'never mind')), ['Never mind.']);
});

test('of many sessions in all states every one ends', async () => {
    let crashed = false;
    provider.fallback = ({ json }) => {
        const text = json.messages[0].content[0].text;
        if (!crashed && /hold/.test(text)) return { blocks: ['never'], hold: 4 };
        const done = json.messages.length > 1;
        if (/tool/.test(text) && !done) return [{ bash: `echo ${text} >> all-runs; seq 3` }];
        return ['fin'];
    };
    const sessions = [];
    for (let i = 0; i < 6; i++) {
        const session = await worker(world);
        const { data } = await world.send(session.id, `${['plain', 'hold', 'tool'][i % 3]}-${i}`);
        sessions.push({ session, data });
    }
    await world.server.kill();
    crashed = true;
    await world.server.start();
    for (const { session, data } of sessions) {
        const log = await ended(session, data);
        assert.deepEqual(texts(log), ['fin']);
        const result = log.find((e) => e.type === 'agent.tool_result');
        if (!result) continue;
        const runs = (await workspaceFile(world, session, 'all-runs')) ?? '';
        // Killed while the sandbox was being started, the outcome is unknown, and the model is told so.
        if (result.is_error) assert.deepEqual(result.failure, { reason: 'sandbox_lost' }, JSON.stringify(result));
        assert.match(runs, result.is_error ? /^([^\n]+\n)?$/ : /^[^\n]+\n$/);
    }
});
