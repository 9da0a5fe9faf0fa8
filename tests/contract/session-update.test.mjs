// Changing what a session's agent may use: tools and MCP servers, replaced as a whole, for this session only.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { refused, SDKS, texts, types, useServer } from '../lib/harness.mjs';

const world = useServer({ config: `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\n` });
const custom = (name) => ({ type: 'custom', name, description: `The tool ${name}.`, input_schema: { type: 'object' } });
const TOOLSET = { type: 'agent_toolset_20260401' };
const updates = (session) => world.events(session.id, { types: ['session.updated'] });
const offered = async (session) => texts(await world.turn(session.id, 'what have you got')).at(-1).match(/^tools: (.*)$/m)[1];

for (const sdk of Object.keys(SDKS)) {
    describe(`a session's agent, with SDK ${sdk}`, () => {
        const sessions = () => world.client(sdk).beta.sessions;

        test('tools are replaced as a whole, from the next turn on', async () => {
            const session = await world.session({ agent: { model: 'script/seen', system: 's', tools: [custom('one')] } });
            assert.equal(await offered(session), 'one');
            const changed = await sessions().update(session.id, { agent: { tools: [custom('two'), custom('three')] } });
            assert.deepEqual(changed.agent.tools.map((t) => t.name), ['two', 'three']);
            assert.deepEqual({ ...changed.agent, tools: null }, { ...session.agent, tools: null });
            const [updated] = await updates(session);
            assert.deepEqual(updated.agent, changed.agent);
            assert.deepEqual(Object.keys(updated).toSorted(), ['agent', 'id', 'processed_at', 'type']);
            assert.equal(await offered(session), 'two,three');
            assert.deepEqual((await sessions().retrieve(session.id)).agent, changed.agent);
        });
    });
}

test('defaults are filled in as for an agent', async () => {
    const session = await world.session({ agent: { model: 'script/seen' } });
    const { agent } = await world.client().beta.sessions.update(session.id, { agent: { tools: [{ ...TOOLSET, configs: [{ name: 'bash', enabled: false }] }] } });
    assert.deepEqual(agent.tools, (await world.agent({ tools: [{ ...TOOLSET, configs: [{ name: 'bash', enabled: false }] }] })).tools);
    assert.equal(await offered(session), 'read,write,edit,glob,grep,web_fetch,web_search');
});

for (const none of [null, []]) {
    test(`${JSON.stringify(none)} clears`, async () => {
        const session = await world.session({ agent: { model: 'script/seen', tools: [custom('one')] } });
        const changed = await world.client().beta.sessions.update(session.id, { agent: { tools: none, mcp_servers: none } });
        assert.deepEqual([changed.agent.tools, changed.agent.mcp_servers], [[], []]);
        assert.equal(await offered(session), '');
    });
}

test('what is left out stays; what says the same changes nothing', async () => {
    const session = await world.session({ agent: { model: 'script/seen', tools: [custom('one')] } });
    for (const agent of [{}, { mcp_servers: [] }, { tools: [custom('one')] }]) {
        assert.deepEqual((await world.client().beta.sessions.update(session.id, { agent })).agent, session.agent);
    }
    assert.deepEqual(await updates(session), []);
});

test('one change of several things is one event that holds them all', async () => {
    const session = await world.session({ agent: { model: 'script/seen' }, metadata: { a: '1' } });
    await world.client().beta.sessions.update(session.id, { title: 'T', metadata: { b: '2' }, agent: { tools: [custom('one')] } });
    const log = await updates(session);
    assert.equal(log.length, 1);
    assert.equal(log[0].title, 'T');
    assert.deepEqual(log[0].metadata, { a: '1', b: '2' });
    assert.deepEqual(log[0].agent.tools.map((t) => t.name), ['one']);
});

test('the agent itself and its other sessions keep what they have, also behind a restart', async () => {
    const { beta } = world.client();
    const [agent, environment] = [await world.agent({ model: 'script/seen', tools: [custom('one')] }), await world.environment()];
    const [mine, other] = [await beta.sessions.create({ agent: agent.id, environment_id: environment.id }), await beta.sessions.create({ agent: agent.id, environment_id: environment.id })];
    const changed = await beta.sessions.update(mine.id, { agent: { tools: [custom('two')] } });
    assert.deepEqual([changed.agent.id, changed.agent.version], [agent.id, 1]);
    await world.server.restart();
    assert.deepEqual(await beta.agents.retrieve(agent.id), agent);
    assert.deepEqual([await offered(mine), await offered(other)], ['two', 'one']);
});

test('a running session refuses, whole, and takes it once it is idle', async () => {
    const session = await world.session({ agent: { model: 'script/slow' } });
    const stream = await world.stream(session.id);
    await world.send(session.id, 'slow');
    await stream.until('span.model_request_start');
    await refused(world.client().beta.sessions.update(session.id, { title: 'T', agent: { tools: [] } }), 400, /running/);
    assert.equal((await world.client().beta.sessions.retrieve(session.id)).title, null);
    await world.client().beta.sessions.update(session.id, { title: 'U' });
    await world.client().beta.sessions.update(session.id, { agent: {} });
    await world.send(session.id, { type: 'user.interrupt' });
    await stream.until('session.status_idle');
    stream.close();
    const changed = await world.client().beta.sessions.update(session.id, { agent: { tools: [custom('one')] } });
    assert.equal(changed.agent.tools.length, 1);
});

test('a call that waits is answered as before', async () => {
    const session = await world.session({ agent: { model: 'script/call', tools: [custom('lookup')] } });
    const use = (await world.turn(session.id, 'lookup {}')).find((e) => e.type === 'agent.custom_tool_use');
    await world.client().beta.sessions.update(session.id, { agent: { tools: [] } });
    const seen = await world.turn(session.id, { type: 'user.custom_tool_result', custom_tool_use_id: use.id, content: [{ type: 'text', text: 'x' }] });
    assert.deepEqual(texts(seen), ['ok: x']);
    assert.ok(!types(seen).includes('session.error'));
});
