// What waits for the client: custom tools and calls that ask first (trace C of the published behaviour).
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { message, refused, texts, types, useServer } from '../lib/harness.mjs';

const world = useServer({ config: `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\n` });
const LOOKUP = { type: 'custom', name: 'lookup', description: 'Looks a thing up.', input_schema: { type: 'object', properties: { q: { type: 'string' } } } };
const ASKING = { type: 'agent_toolset_20260401', default_config: { permission_policy: { type: 'always_ask' } } };
const IDLE = ['session.thread_status_idle', 'session.usage', 'session.status_idle'];
const RUN = ['session.status_running', 'session.thread_status_running'];

const result = (id, text) => ({ type: 'user.custom_tool_result', custom_tool_use_id: id, content: text === undefined ? [] : [{ type: 'text', text }] });
const confirm = (id, verdict, extra = {}) => ({ type: 'user.tool_confirmation', tool_use_id: id, result: verdict, ...extra });

async function waiting(agent, text) {
    const session = await world.session({ agent: { model: 'script/call', ...agent } });
    const seen = await world.turn(session.id, text);
    const use = seen.find((e) => e.type === 'agent.custom_tool_use' || e.type === 'agent.tool_use');
    return { session, seen, use };
}

describe('custom tools', () => {
    test('a call waits for its result and the turn goes on with it', async () => {
        const { session, seen, use } = await waiting({ tools: [LOOKUP] }, 'lookup {"q": "x"}');
        assert.deepEqual(types(seen), [...RUN, 'user.message', 'span.model_request_start', 'agent.custom_tool_use', 'span.model_request_end', ...IDLE]);
        assert.deepEqual(seen.at(-1).stop_reason, { type: 'requires_action', event_ids: [use.id] });
        assert.deepEqual(use.input, { q: 'x' });
        const rest = await world.turn(session.id, result(use.id, 'found'));
        assert.deepEqual(types(rest), ['user.custom_tool_result', ...RUN, 'span.model_request_start', 'agent.message', 'span.model_request_end', ...IDLE]);
        assert.deepEqual(texts(rest), ['ok: found']);
    });

    test('an empty result is fine, and a repeated one changes nothing', async () => {
        const { session, use } = await waiting({ tools: [LOOKUP] }, 'lookup {}');
        assert.deepEqual(texts(await world.turn(session.id, result(use.id))), ['ok: ']);
        await world.send(session.id, result(use.id, 'again'));
        await world.turn(session.id, 'lookup {}');
        const log = types(await world.events(session.id));
        assert.equal(log.filter((t) => t === 'user.custom_tool_result').length, 2);
        assert.equal(log.filter((t) => t === 'span.model_request_start').length, 3, 'the repeated answer starts nothing');
    });

    test('a message sent while a call waits is processed after its answer', async () => {
        const { session, use } = await waiting({ tools: [LOOKUP] }, 'lookup {}');
        await world.send(session.id, 'are you there?');
        assert.equal((await world.client().beta.sessions.retrieve(session.id)).status, 'idle');
        const rest = await world.turn(session.id, result(use.id, 'x'));
        assert.deepEqual(types(rest).slice(0, 5), ['user.custom_tool_result', ...RUN, 'user.message', 'span.model_request_start']);
    });

    test('behind a full inbox the answer is still heard, and nothing else', async () => {
        const { session, use } = await waiting({ tools: [LOOKUP] }, 'lookup {}');
        const many = Array.from({ length: 1000 }, (_, i) => message(`${i}`));
        for (let i = 0; i < 4; i++) await world.send(session.id, ...many);
        const full = await world.http('POST', `/v1/sessions/${session.id}/events`, { body: { events: [message('one more')] } });
        assert.equal(full.status, 400);
        assert.equal(full.json.error.type, 'invalid_request_error');
        assert.equal(full.json.error.details.error_code, 'session_inbox_full');
        assert.equal(full.json.error.details.pointer, '/events');
        assert.match(full.json.error.message, /4000 events waiting/);
        assert.equal(full.headers.get('x-should-retry'), 'false');
        const mixed = await world.http('POST', `/v1/sessions/${session.id}/events`, { body: { events: [result(use.id, 'x'), message('with it')] } });
        assert.equal(mixed.status, 400, 'a request is taken whole or not at all');
        const rest = await world.turn(session.id, result(use.id, 'x'));
        assert.equal(rest[0].type, 'user.custom_tool_result');
        assert.equal(rest.filter((e) => e.type === 'user.message').length, 4000);
        await world.turn(session.id, 'there is room again');
    });

    test('an interrupt closes the call', async () => {
        const { session, use } = await waiting({ tools: [LOOKUP] }, 'lookup {}');
        const rest = await world.turn(session.id, { type: 'user.interrupt' });
        assert.deepEqual(types(rest), ['agent.tool_result', 'user.interrupt', ...IDLE]);
        assert.equal(rest[0].tool_use_id, use.id);
        assert.deepEqual(rest.at(-1).stop_reason, { type: 'end_turn' });
    });

    test('answers that belong to no call are refused and name the field', async () => {
        const { session, use, seen } = await waiting({ tools: [LOOKUP] }, 'lookup {}');
        const other = seen.find((e) => e.type === 'user.message');
        await refused(world.send(session.id, result('sevt_unknown', 'x')), 400, /custom_tool_use_id/);
        await refused(world.send(session.id, result(other.id, 'x')), 400, /custom_tool_use_id/);
        await refused(world.send(session.id, confirm(use.id, 'allow')), 400, /tool_use_id/);
        await refused(world.send(session.id, message('fine'), result('sevt_unknown', 'x')), 400, /events\.1/);
        assert.equal((await world.events(session.id)).filter((e) => e.type === 'user.message').length, 1);
    });
});

describe('calls that ask first', () => {
    test('an allowed call runs', async () => {
        const { session, seen, use } = await waiting({ tools: [ASKING] }, 'bash {"command": "echo ran"}');
        assert.equal(use.evaluated_permission, 'ask');
        assert.deepEqual(use.evaluation, { type: 'always_ask' });
        assert.deepEqual(seen.at(-1).stop_reason, { type: 'requires_action', event_ids: [use.id] });
        const rest = await world.turn(session.id, confirm(use.id, 'allow'));
        assert.deepEqual(types(rest).slice(0, 5), ['user.tool_confirmation', ...RUN, 'agent.tool_result', 'span.model_request_start']);
        assert.deepEqual(texts(rest), ['ok: ran']);
    });

    test('a denied call is answered with the reason and does not run', async () => {
        const { session, use } = await waiting({ tools: [ASKING] }, 'bash {"command": "echo ran"}');
        const rest = await world.turn(session.id, confirm(use.id, 'deny', { deny_message: 'not today' }));
        assert.match(texts(rest)[0], /^error: .*denied.*not today/);
    });

    test('a policy of one tool wins over the default', async () => {
        const tools = [{ ...ASKING, configs: [{ name: 'bash', permission_policy: { type: 'always_allow' } }] }];
        const { seen, session } = await waiting({ tools }, 'bash {"command": "echo ran"}');
        assert.deepEqual(texts(seen), ['ok: ran']);
        const use = seen.find((e) => e.type === 'agent.tool_use');
        await refused(world.send(session.id, confirm(use.id, 'allow')), 400, /tool_use_id/);
    });

    test('auto without a judge asks', async () => {
        const tools = [{ type: 'agent_toolset_20260401', default_config: { permission_policy: { type: 'auto' } } }];
        const { use } = await waiting({ tools }, 'bash {"command": "true; true"}');
        assert.equal(use.evaluated_permission, 'ask');
        assert.deepEqual(use.evaluation, { type: 'auto', evaluated_permission: { type: 'ask', reason_code: 'indeterminate' } });
    });

    test('a message may only go with a denial', async () => {
        const { session, use } = await waiting({ tools: [ASKING] }, 'bash {"command": "true"}');
        await refused(world.send(session.id, confirm(use.id, 'allow', { deny_message: 'x' })), 400, /deny_message/);
        await refused(world.send(session.id, confirm(use.id, 'maybe')), 400, /result/);
    });
});
