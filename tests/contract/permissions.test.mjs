// The permission policy auto: rules first, then the judge, which sees no tool output and never allows by
// accident. script/judge plays the judge.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { texts, types, useServer } from '../lib/harness.mjs';

const world = useServer({ config: `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\njudge: {model: script/judge}\n` });
const AUTO = { type: 'agent_toolset_20260401', default_config: { permission_policy: { type: 'auto' } } };
const confirm = (id, verdict) => ({ type: 'user.tool_confirmation', tool_use_id: id, result: verdict });
const cost = async (session) => (await world.client().beta.sessions.retrieve(session.id)).usage.list_cost.amount;

const judgement = (type, reason) => ({ type: 'auto', evaluated_permission: { type, ...(reason && { reason_code: reason }) } });

async function session(model, extra = {}) {
    return world.session({ agent: { model, tools: [AUTO], ...extra.agent }, ...extra.session });
}

// Says it, and expects one call with this verdict. Resolves to what was streamed.
async function evaluated(session, text, type, reason) {
    const seen = await world.turn(session.id, text);
    const uses = seen.filter((e) => e.type === 'agent.tool_use');
    assert.equal(uses.length, 1);
    assert.equal(uses[0].evaluated_permission, type, text);
    assert.deepEqual(uses[0].evaluation, judgement(type, reason), text);
    const results = seen.filter((e) => e.type === 'agent.tool_result');
    assert.equal(results.length, type === 'ask' ? 0 : 1);
    if (type === 'deny') assert.equal(results[0].is_error, true);
    const stop = type === 'ask' ? { type: 'requires_action', event_ids: [uses[0].id] } : { type: 'end_turn' };
    assert.deepEqual(seen.at(-1).stop_reason, stop);
    return { seen, use: uses[0], result: results[0] };
}

// The older SDK release does not know the policy yet.
test('what is plainly harmless runs, what is plainly dangerous does not, and nobody is asked', async () => {
    const s = await session('script/shell');
    assert.deepEqual(s.agent.tools[0].default_config.permission_policy, { type: 'auto' });
    const { result } = await evaluated(s, 'run: pwd', 'allow');
    assert.match(result.content[0].text, /^\/workspace/);
    await evaluated(s, 'run: rm -rf /', 'deny', 'high_risk');
    assert.equal(await cost(s), '0');
});

test('a denial is told to the model, and the turn goes on', async () => {
    const s = await session('script/call');
    const { seen, result } = await evaluated(s, 'write {"file_path": "/etc/motd", "content": "x"}', 'deny', 'high_risk');
    assert.match(texts(seen).at(-1), /^error: /);
    assert.equal(types(seen).filter((t) => t === 'span.model_request_start').length, 2);
    assert.ok(result.content[0].text.length > 0);
});

test('files are written at home and read anywhere', async () => {
    const s = await session('script/call');
    await evaluated(s, 'write {"file_path": "notes/a.txt", "content": "x"}', 'allow');
    await evaluated(s, 'read {"file_path": "/workspace/notes/a.txt"}', 'allow');
    await evaluated(s, 'write {"file_path": "/workspace/../etc/x", "content": "x"}', 'deny', 'high_risk');
});

test('what no rule decides, the judge does, and that is paid for', async () => {
    const s = await session('script/shell');
    const { result } = await evaluated(s, 'run: uname; pwd', 'allow');
    assert.match(result.content[0].text, /^Linux\n/);
    assert.equal(await cost(s), '10');
    await evaluated(s, 'run: uname; true danger', 'deny', 'high_risk');
    assert.equal(await cost(s), '20');
    const { use } = await evaluated(s, 'run: uname; true doubt', 'ask', 'indeterminate');
    assert.equal(await cost(s), '30');
    const rest = await world.turn(s.id, confirm(use.id, 'allow'));
    assert.match(rest.find((e) => e.type === 'agent.tool_result').content[0].text, /^Linux/);
});

for (const how of ['broken', 'garbled']) {
    test(`a judge that is ${how} leaves the question to the client`, async () => {
        const s = await session('script/shell');
        const { use } = await evaluated(s, `run: uname; true ${how}`, 'ask', 'indeterminate');
        const rest = await world.turn(s.id, confirm(use.id, 'deny'));
        assert.equal(rest.find((e) => e.type === 'agent.tool_result').is_error, true);
    });
}

test('the judge sees what the user says, and never what a tool said', async () => {
    const s = await session('script/shell');
    const { result } = await evaluated(s, "run: echo POI''SON", 'allow');
    assert.match(result.content[0].text, /POISON/);
    await evaluated(s, 'run: uname; pwd', 'allow');
    await evaluated(s, 'run: uname; true POISON', 'deny', 'high_risk');
    await evaluated(s, 'run: uname; pwd', 'deny', 'high_risk');
});

test('one answer with several calls is one question; what needs none is not part of it', async () => {
    const s = await session('script/several');
    const seen = await world.turn(s.id, 'go');
    const uses = seen.filter((e) => e.type === 'agent.tool_use');
    assert.deepEqual(uses.map((e) => e.evaluation), [judgement('allow'), judgement('allow'), judgement('deny', 'high_risk'), judgement('ask', 'indeterminate'), judgement('deny', 'high_risk')]);
    assert.deepEqual(seen.at(-1).stop_reason, { type: 'requires_action', event_ids: [uses[3].id] });
    assert.equal(await cost(s), '10');
});

test('other policies are not judged', async () => {
    const tools = [{ ...AUTO, default_config: {}, configs: [{ name: 'bash', permission_policy: { type: 'always_ask' } }] }];
    const s = await session('script/shell', { agent: { tools } });
    const seen = await world.turn(s.id, 'run: pwd');
    assert.deepEqual(seen.find((e) => e.type === 'agent.tool_use').evaluation, { type: 'always_ask' });
    assert.equal(await cost(s), '0');
});

test('where a budget has no room for the judge, the call is denied without one', async () => {
    const budget = { type: 'limit', max_list_cost: { amount: '1', currency: 'USD' } };
    const s = await session('script/shell', { session: { budget } });
    await evaluated(s, 'run: pwd', 'allow');
    await evaluated(s, 'run: uname; pwd', 'deny', 'indeterminate');
    assert.equal(await cost(s), '0');
});
