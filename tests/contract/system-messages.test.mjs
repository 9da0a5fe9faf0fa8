// system.message: where it is taken, what the model sees of it, and that it stays for the turns that follow.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { message, refused, texts, types, useServer } from '../lib/harness.mjs';

const world = useServer({ config: `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\n` });
const LOOKUP = { type: 'custom', name: 'lookup', description: 'Looks a thing up.', input_schema: { type: 'object' } };
const ASKING = { type: 'agent_toolset_20260401', default_config: { permission_policy: { type: 'always_ask' } } };
const system = (text) => ({ type: 'system.message', content: [{ type: 'text', text }] });
const seeing = (tools = []) => world.session({ agent: { model: 'script/seen', tools } });
// What the model was sent, one line for each message.
const lines = (events) => texts(events).at(-1).split('\n');

describe('system.message', () => {
    test('it goes with the message before it, in the same turn, as a message of its own role', async () => {
        const session = await seeing();
        const stream = await world.stream(session.id);
        const sent = await world.send(session.id, 'hello', system('be brief'));
        assert.deepEqual(types(sent.data), ['user.message', 'system.message']);
        assert.deepEqual(sent.data.map((e) => e.processed_at), [null, null]);
        assert.deepEqual(sent.data[1].content, [{ type: 'text', text: 'be brief' }]);
        const seen = await stream.until('session.status_idle');
        stream.close();
        assert.deepEqual(types(seen).slice(0, 5), ['session.status_running', 'session.thread_status_running', 'user.message', 'system.message', 'span.model_request_start']);
        assert.equal(seen[3].id, sent.data[1].id);
        assert.ok(seen[3].processed_at);
        assert.deepEqual(lines(seen).slice(0, 2), ['user: text(hello)', 'system: text(be brief)']);
        assert.deepEqual(await world.events(session.id, { types: ['system.message'] }), [seen[3]]);
    });

    test('it stays for the turns that follow, across a restart', async () => {
        const session = await seeing();
        await world.turn(session.id, 'one', system('rule 1'));
        await world.server.restart();
        const seen = await world.turn(session.id, 'two', system('rule 2'));
        const roles = lines(seen).filter((l) => /^(user|system):/.test(l));
        assert.deepEqual(roles, ['user: text(one)', 'system: text(rule 1)', 'user: text(two)', 'system: text(rule 2)']);
    });

    test('it goes with a tool result that the session waits for', async () => {
        const session = await seeing([LOOKUP]);
        const use = (await world.turn(session.id, 'call lookup')).find((e) => e.type === 'agent.custom_tool_use');
        const seen = await world.turn(session.id, { type: 'user.custom_tool_result', custom_tool_use_id: use.id, content: [{ type: 'text', text: 'found' }] }, system('mind it'));
        assert.ok(types(seen).indexOf('user.custom_tool_result') < types(seen).indexOf('system.message'));
        assert.ok(types(seen).indexOf('system.message') < types(seen).indexOf('span.model_request_start'));
        const [result, rule] = lines(seen).slice(-3);
        assert.equal(result, 'user: result(text(found))');
        assert.equal(rule, 'system: text(mind it)');
    });

    test('with one of two results it waits for the other', async () => {
        const session = await world.session({ agent: { model: 'script/pair', tools: [LOOKUP] } });
        const uses = (await world.turn(session.id, 'go')).filter((e) => e.type === 'agent.custom_tool_use');
        const result = (use) => ({ type: 'user.custom_tool_result', custom_tool_use_id: use.id, content: [{ type: 'text', text: 'x' }] });
        await world.turn(session.id, result(uses[0]), system('mind it'));
        const seen = await world.turn(session.id, result(uses[1]));
        assert.equal(seen.at(-1).stop_reason.type, 'end_turn');
        const log = types(await world.events(session.id));
        assert.equal(log.filter((t) => t === 'system.message').length, 1);
        assert.ok(log.indexOf('system.message') < log.lastIndexOf('span.model_request_start'));
    });

    test('alone it is taken when the turn has ended, and holds from the next message on', async () => {
        const session = await seeing();
        await world.turn(session.id, 'one');
        const stream = await world.stream(session.id);
        const sent = await world.send(session.id, system('from now on'));
        const [event] = (await stream.until('system.message')).slice(-1);
        assert.equal(event.id, sent.data[0].id);
        stream.close();
        assert.equal((await world.client().beta.sessions.retrieve(session.id)).status, 'idle');
        const seen = await world.turn(session.id, 'two');
        const all = lines(seen).filter((l) => /^(user|system):/.test(l));
        assert.ok(all.indexOf('system: text(from now on)') > all.indexOf('user: text(one)'), all.join('; '));
        assert.ok(all.indexOf('user: text(two)') > all.indexOf('system: text(from now on)'), all.join('; '));
        const log = types(await world.events(session.id));
        assert.equal(log.filter((t) => t === 'span.model_request_start').length, 2, 'alone it starts no turn');
    });

    test('alone it is taken before the first message as well', async () => {
        const session = await seeing();
        await world.send(session.id, system('first of all'));
        const seen = await world.turn(session.id, 'hello');
        assert.ok(lines(seen).includes('system: text(first of all)'), lines(seen).join('; '));
    });

    test('alone it is refused where the last turn did not end by itself', async () => {
        const failed = await world.session({ agent: { model: 'script/fail' } });
        await world.turn(failed.id, 'request');
        await refused(world.send(failed.id, system('x')), 400, /end_turn.*retries_exhausted/);
        await world.send(failed.id, 'ok', system('x'));
        const asking = await seeing([ASKING]);
        await world.turn(asking.id, 'call bash');
        await refused(world.send(asking.id, system('x')), 400, /requires_action/);
    });

    test('with a message it is taken while a turn runs, and queued with it', async () => {
        const session = await world.session({ agent: { model: 'script/slow' } });
        const stream = await world.stream(session.id);
        await world.send(session.id, 'slow');
        await stream.until('span.model_request_start');
        const sent = await world.send(session.id, 'next', system('rule'));
        assert.deepEqual((await world.events(session.id)).slice(-2), sent.data);
        await refused(world.send(session.id, system('alone')), 400, /running/);
        await world.send(session.id, { type: 'user.interrupt' });
        await stream.until('agent.message');
        stream.close();
        await world.idle(session.id);
        const log = await world.events(session.id);
        const at = log.findIndex((e) => e.id === sent.data[0].id);
        assert.equal(log[at + 1].id, sent.data[1].id);
    });

    test('every model that the table says so of takes it, and no other', async () => {
        for (const [model, takes] of [['claude-opus-4-8', true], ['claude-opus-5', true], ['claude-sonnet-5', false], ['script/echo', true]]) {
            const session = await world.session({ agent: { model } });
            const answer = await world.http('POST', `/v1/sessions/${session.id}/events`, { body: { events: [message('x'), system('y')] } });
            assert.equal(answer.status, takes ? 200 : 400, `${model}: ${answer.text}`);
            if (!takes) assert.equal(answer.json.error.details.error_code, 'model_does_not_support_mid_conversation_system');
        }
    });
});
