// Sessions: create in all its forms, lists in both directions, filters, update, archive, delete.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { message, refused, SDKS, texts, types, useServer } from '../lib/harness.mjs';

const world = useServer({ config: `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\n` });

// Without the one number that grows by itself.
function still(object) {
    const { duration_seconds: ignored, ...stats } = object.stats;
    assert.ok(ignored >= 0);
    return { ...object, stats };
}

for (const sdk of Object.keys(SDKS)) {
    describe(`sessions with SDK ${sdk}`, () => {
        const sessions = () => world.client(sdk).beta.sessions;

        test('a session without events begins idle, with the agent resolved into it', async () => {
            const [agent, environment] = [await world.agent({ system: 'be brief' }), await world.environment()];
            const session = await sessions().create({
                agent: agent.id, environment_id: environment.id, title: 'T', metadata: { k: 'v' },
            });
            assert.equal(session.status, 'idle');
            assert.equal(session.environment_id, environment.id);
            assert.equal(session.title, 'T');
            assert.deepEqual(session.metadata, { k: 'v' });
            assert.equal(session.agent.id, agent.id);
            assert.equal(session.agent.version, 1);
            assert.equal(session.agent.system, 'be brief');
            assert.deepEqual(session.resources, []);
            assert.deepEqual(session.vault_ids, []);
            assert.deepEqual(session.outcome_evaluations, []);
            assert.equal(session.budget, null);
            assert.equal(session.archived_at, null);
            assert.deepEqual(still(await sessions().retrieve(session.id)), still(session));
            assert.deepEqual(await world.events(session.id), []);
        });

        test('the agent is pinned: a later version does not reach a running session', async () => {
            const agent = await world.agent({ system: 'one' });
            const environment = await world.environment();
            const client = world.client(sdk);
            await client.beta.agents.update(agent.id, { version: 1, system: 'two' });
            const latest = await sessions().create({ agent: agent.id, environment_id: environment.id });
            assert.equal(latest.agent.version, 2);
            const pinned = await sessions().create({ agent: { type: 'agent', id: agent.id, version: 1 }, environment_id: environment.id });
            assert.equal(pinned.agent.version, 1);
            assert.equal(pinned.agent.system, 'one');
        });

        test('initial events start it running, and it ends by itself', async () => {
            const [agent, environment] = [await world.agent(), await world.environment()];
            const session = await sessions().create({ agent: agent.id, environment_id: environment.id, initial_events: [message('first')] });
            assert.equal(session.status, 'running');
            await world.idle(session.id);
            assert.deepEqual(texts(await world.events(session.id)), ['first']);
        });

        test('title and metadata change, and say so in the log only when they do', async () => {
            const session = await world.session({ title: 'old', metadata: { a: '1', b: '2' } });
            const next = await sessions().update(session.id, { title: 'new', metadata: { a: null, c: '3' } });
            assert.equal(next.title, 'new');
            assert.deepEqual(next.metadata, { b: '2', c: '3' });
            const [updated] = await world.events(session.id, { types: ['session.updated'] });
            assert.equal(updated.title, 'new');
            assert.deepEqual(updated.metadata, { b: '2', c: '3' });
            assert.ok(!('budget' in updated) && !('agent' in updated));
            const same = await sessions().update(session.id, { title: 'new' });
            assert.equal(same.title, 'new');
            assert.equal((await world.events(session.id, { types: ['session.updated'] })).length, 1);
            const cleared = await sessions().update(session.id, { title: null });
            assert.equal(cleared.title, null);
        });

        test('vault ids and a budget cannot be added later', async () => {
            const session = await world.session();
            await refused(sessions().update(session.id, { vault_ids: [] }), 400, /vault_ids/);
            await refused(sessions().update(session.id, { budget: { type: 'limit', max_list_cost: { amount: '100', currency: 'USD' } } }), 400, /budget/, 'budget_create_only');
        });

        test('archive ends it for good, keeps its history, and can be repeated', async () => {
            const session = await world.session();
            await world.turn(session.id, 'hi');
            const archived = await sessions().archive(session.id);
            assert.equal(archived.status, 'terminated');
            assert.ok(archived.archived_at);
            assert.deepEqual(await sessions().archive(session.id), archived);
            const log = types(await world.events(session.id));
            assert.deepEqual(log.slice(-2), ['session.thread_status_terminated', 'session.status_terminated']);
            await refused(world.send(session.id, 'more'), 400, /archived|terminated/i);
        });

        test('delete removes it and ends its streams with session.deleted', async () => {
            const session = await world.session();
            const stream = await world.stream(session.id);
            assert.deepEqual(await sessions().delete(session.id), { id: session.id, type: 'session_deleted' });
            const last = (await stream.until('session.deleted')).at(-1);
            assert.equal(last.type, 'session.deleted');
            assert.equal(await stream.next(), undefined);
            await refused(sessions().retrieve(session.id), 404);
            await refused(sessions().delete(session.id), 404);
            await refused(world.client(sdk).beta.sessions.events.list(session.id), 404);
        });

        test('a running session refuses archive and delete until it is interrupted', async () => {
            const session = await world.session({ agent: { model: 'script/slow' } });
            const stream = await world.stream(session.id);
            await world.send(session.id, 'slow');
            await stream.until('span.model_request_start');
            assert.equal((await sessions().retrieve(session.id)).status, 'running');
            await refused(sessions().archive(session.id), 400, /running/i);
            await refused(sessions().delete(session.id), 400, /running/i);
            await world.send(session.id, { type: 'user.interrupt' });
            await stream.until('session.status_idle');
            stream.close();
            assert.equal((await sessions().archive(session.id)).status, 'terminated');
        });

        test('overrides replace what they name, for this session only', async () => {
            const agent = await world.agent({ system: 'base', tools: [{ type: 'agent_toolset_20260401' }] });
            const environment = await world.environment();
            const session = await sessions().create({
                agent: { type: 'agent_with_overrides', id: agent.id, system: 'mine', tools: [] }, environment_id: environment.id,
            });
            assert.equal(session.agent.system, 'mine');
            assert.deepEqual(session.agent.tools, []);
            assert.equal(session.agent.id, agent.id);
            assert.equal((await world.client(sdk).beta.agents.retrieve(agent.id)).system, 'base');
        });
    });
}

test('pages go forth and back over the same sessions', async () => {
    const agent = await world.agent();
    const environment = await world.environment();
    const { sessions } = world.client().beta;
    const made = [];
    for (let i = 0; i < 7; i++) made.push((await sessions.create({ agent: agent.id, environment_id: environment.id })).id);
    const query = (extra) => `/v1/sessions?agent_id=${agent.id}&limit=3${extra}`;
    const get = async (extra) => (await world.http('GET', query(extra))).json;
    const ids = (page) => page.data.map((s) => s.id);
    const newest = made.toReversed();

    const first = await get('');
    assert.deepEqual(ids(first), newest.slice(0, 3));
    assert.equal(first.prev_page, null);
    const second = await get(`&page=${encodeURIComponent(first.next_page)}`);
    assert.deepEqual(ids(second), newest.slice(3, 6));
    const third = await get(`&page=${encodeURIComponent(second.next_page)}`);
    assert.deepEqual(ids(third), newest.slice(6));
    assert.equal(third.next_page, null);
    const back = await get(`&page=${encodeURIComponent(third.prev_page)}`);
    assert.deepEqual(ids(back), newest.slice(3, 6));
    const backAgain = await get(`&page=${encodeURIComponent(back.prev_page)}`);
    assert.deepEqual(ids(backAgain), newest.slice(0, 3));
    assert.equal(backAgain.prev_page, null);

    const ascending = await get('&order=asc');
    assert.deepEqual(ids(ascending), made.slice(0, 3));
    const mixed = await world.http('GET', query(`&order=desc&page=${encodeURIComponent(ascending.next_page)}`));
    assert.equal(mixed.status, 400);
    assert.match(mixed.json.error.message, /page|order/);
});

test('filters: agent, version, status, time, archived', async () => {
    const client = world.client();
    const agent = await world.agent();
    const environment = await world.environment();
    const one = await client.beta.sessions.create({ agent: agent.id, environment_id: environment.id });
    await client.beta.agents.update(agent.id, { version: 1, name: 'second' });
    const two = await client.beta.sessions.create({ agent: agent.id, environment_id: environment.id });
    const list = async (query) => {
        const out = [];
        for await (const s of client.beta.sessions.list({ agent_id: agent.id, ...query })) out.push(s.id);
        return out;
    };
    assert.deepEqual(await list({}), [two.id, one.id]);
    assert.deepEqual(await list({ agent_version: 2 }), [two.id]);
    assert.deepEqual(await list({ statuses: ['running'] }), []);
    assert.deepEqual(await list({ statuses: ['running', 'idle'] }), [two.id, one.id]);
    assert.deepEqual(await list({ 'created_at[gt]': one.created_at }), one.created_at < two.created_at ? [two.id] : []);
    assert.deepEqual(await list({ 'created_at[lte]': one.created_at, order: 'asc' }), [one.id]);
    await client.beta.sessions.archive(one.id);
    assert.deepEqual(await list({}), [two.id]);
    assert.deepEqual(await list({ include_archived: true }), [two.id, one.id]);
    assert.deepEqual(await list({ include_archived: true, statuses: ['terminated'] }), [one.id]);
    assert.deepEqual(await list({ deployment_id: 'depl_01aaaaaaaaaaaaaaaaaaaa' }), []);
});

test('the primary thread can be looked at', async () => {
    const session = await world.session();
    await world.turn(session.id, 'hi');
    const list = await world.http('GET', `/v1/sessions/${session.id}/threads`);
    assert.equal(list.status, 200);
    assert.equal(list.json.data.length, 1);
    const [thread] = list.json.data;
    assert.equal(thread.parent_thread_id, null);
    assert.equal(thread.session_id, session.id);
    assert.equal(thread.status, 'idle');
    const one = await world.http('GET', `/v1/sessions/${session.id}/threads/${thread.id}`);
    assert.deepEqual(still(one.json), still(thread));
});

test('a session survives a restart of the server as it was', async () => {
    const session = await world.session({ title: 'kept' });
    await world.turn(session.id, 'remember');
    const [before, log] = [await world.client().beta.sessions.retrieve(session.id), await world.events(session.id)];
    await world.server.restart();
    assert.deepEqual(still(await world.client().beta.sessions.retrieve(session.id)), still(before));
    assert.deepEqual(await world.events(session.id), log);
    assert.deepEqual(texts(await world.turn(session.id, 'and again')), ['and again']);
});

// An agent with everything set, and what overrides make of it in one session.
describe('overrides', () => {
    const tool = (name) => ({ type: 'custom', name, description: 'd', input_schema: { type: 'object' } });
    for (const [what, given, expected] of [
        ['nothing', {}, {}],
        ['a system prompt', { system: 'mine' }, { system: 'mine' }],
        ['no system prompt', { system: null }, { system: null }],
        ['an empty system prompt', { system: '' }, { system: null }],
        ['tools', { tools: [tool('two')] }, { tools: [tool('two')] }],
        ['no tools', { tools: [] }, { tools: [] }],
        ['null tools', { tools: null }, { tools: [] }],
        ['no MCP servers', { mcp_servers: null }, { mcp_servers: [] }],
        ['no skills', { skills: [] }, { skills: [] }],
    ]) {
        test(`${what}: the rest is the agent's, and the agent stays as it is`, async () => {
            const { beta } = world.client();
            const [agent, environment] = [await world.agent({ system: 'base', description: 'D', tools: [tool('one')] }), await world.environment()];
            const session = await beta.sessions.create({ agent: { type: 'agent_with_overrides', id: agent.id, ...given }, environment_id: environment.id });
            for (const field of ['id', 'version', 'name', 'description', 'model', 'system', 'tools', 'mcp_servers', 'skills', 'multiagent']) {
                assert.deepEqual(session.agent[field], field in expected ? expected[field] : agent[field], field);
            }
            assert.deepEqual((await beta.sessions.retrieve(session.id)).agent, session.agent);
            assert.deepEqual(await beta.agents.retrieve(agent.id), agent);
        });
    }

    test('a model override drops every effort, its own and the agent\'s', async () => {
        const { beta } = world.client();
        const usual = (await world.agent()).model.effort.type;
        const unusual = usual === 'low' ? 'max' : 'low';
        const [agent, environment] = [await world.agent({ model: { id: 'script/instant', effort: unusual } }), await world.environment()];
        for (const model of ['script/echo', { id: 'script/echo' }, { id: 'script/echo', effort: unusual }]) {
            const session = await beta.sessions.create({ agent: { type: 'agent_with_overrides', id: agent.id, model }, environment_id: environment.id });
            assert.deepEqual([session.agent.model.id, session.agent.model.effort.type], ['script/echo', usual]);
        }
        const same = await beta.sessions.create({ agent: { type: 'agent_with_overrides', id: agent.id }, environment_id: environment.id });
        assert.equal(same.agent.model.effort.type, unusual);
    });

    test('of an older version', async () => {
        const { beta } = world.client();
        const [agent, environment] = [await world.agent({ system: 'one' }), await world.environment()];
        await beta.agents.update(agent.id, { system: 'two' });
        const session = await beta.sessions.create({ agent: { type: 'agent_with_overrides', id: agent.id, version: 1, tools: [tool('t')] }, environment_id: environment.id });
        assert.deepEqual([session.agent.version, session.agent.system, session.agent.tools.length], [1, 'one', 1]);
    });

    test('what it was overridden with is what it works with', async () => {
        const { beta } = world.client();
        const [agent, environment] = [await world.agent({ tools: [tool('one')] }), await world.environment()];
        const session = await beta.sessions.create({ agent: { type: 'agent_with_overrides', id: agent.id, model: 'script/seen', tools: [tool('two')] }, environment_id: environment.id });
        assert.match(texts(await world.turn(session.id, 'x')).at(-1), /^tools: two$/m);
    });
});

test('initial events: none leave it idle, fifty are one turn, in order, and the answer does not repeat them', async () => {
    const { beta } = world.client();
    const [agent, environment] = [await world.agent(), await world.environment()];
    for (const none of [undefined, null, []]) {
        const idle = await beta.sessions.create({ agent: agent.id, environment_id: environment.id, initial_events: none });
        assert.equal(idle.status, 'idle');
        assert.deepEqual(await world.events(idle.id), []);
    }
    const said = Array.from({ length: 50 }, (_, i) => `n${i}`);
    const session = await beta.sessions.create({ agent: agent.id, environment_id: environment.id, initial_events: said.map(message) });
    assert.equal(session.status, 'running');
    assert.ok(!('initial_events' in session));
    const log = await world.events(session.id); // what was accepted is there, processed or not
    assert.deepEqual(log.filter((e) => e.type === 'user.message').map((e) => e.content[0].text), said);
    await world.idle(session.id);
    assert.equal((await world.events(session.id, { types: ['span.model_request_start'] })).length, 1);
});

test('a refused creation leaves no session', async () => {
    const [agent, environment] = [await world.agent(), await world.environment()];
    await refused(world.client().beta.sessions.create({ agent: agent.id, environment_id: environment.id, initial_events: [message('good'), { type: 'user.message', content: [] }] }), 400, /initial_events.1/);
    const made = await world.http('GET', `/v1/sessions?agent_id=${agent.id}&include_archived=true`);
    assert.deepEqual(made.json.data, []);
});

test('what the next page keeps: other filters and limits may change under way', async () => {
    const { beta } = world.client();
    const [agent, environment] = [await world.agent(), await world.environment()];
    const made = [];
    for (let i = 0; i < 4; i++) made.push((await beta.sessions.create({ agent: agent.id, environment_id: environment.id })).id);
    const get = async (query) => (await world.http('GET', `/v1/sessions?${query}`)).json;
    const first = await get(`agent_id=${agent.id}&limit=1`);
    const second = await get(`agent_id=${agent.id}&statuses[]=idle&limit=2&page=${first.next_page}`);
    assert.deepEqual([...first.data, ...second.data].map((s) => s.id), made.toReversed().slice(0, 3));
    assert.ok(second.prev_page);
    const within = await get(`agent_id=${agent.id}&limit=3&created_at[gte]=${first.data[0].created_at.slice(0, 4)}-01-01T00:00:00Z&page=${first.next_page}`);
    assert.deepEqual(within.data.map((s) => s.id), made.toReversed().slice(1));
    assert.equal(within.next_page, null);
});

test('threads: filters and limits of the list', async () => {
    const session = await world.session();
    const list = async (query) => (await world.http('GET', `/v1/sessions/${session.id}/threads?${query}`)).json;
    for (const [query, n] of [['', 1], ['limit=1', 1], ['limit=1000', 1], ['statuses[]=idle', 1], ['statuses[]=running', 0], ['statuses[]=running&statuses[]=idle', 1], ['statuses=terminated', 0]]) {
        const page = await list(query);
        assert.equal(page.data.length, n, query);
        assert.equal(page.next_page, null);
    }
});
