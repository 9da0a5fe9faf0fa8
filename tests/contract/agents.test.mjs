// Agents: create, versions, no-op updates, optimistic concurrency, merge rules, archive, lists.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { refused, SDKS, useServer } from '../lib/harness.mjs';

const world = useServer();

async function all(page) {
    const out = [];
    for await (const item of page) out.push(item);
    return out;
}

for (const sdk of Object.keys(SDKS)) {
    describe(`agents with SDK ${sdk}`, () => {
        const agents = () => world.client(sdk).beta.agents;

        test('an agent comes back with every default filled in', async () => {
            const agent = await agents().create({
                name: 'Coder',
                model: 'script/echo',
                tools: [{ type: 'agent_toolset_20260401' }],
            });
            assert.equal(agent.version, 1);
            assert.equal(agent.model.id, 'script/echo');
            assert.equal(agent.model.speed, 'standard');
            assert.equal(agent.description, null);
            assert.equal(agent.system, null);
            assert.deepEqual(agent.skills, []);
            assert.deepEqual(agent.mcp_servers, []);
            assert.deepEqual(agent.metadata, {});
            assert.equal(agent.multiagent, null);
            assert.equal(agent.archived_at, null);
            assert.equal(agent.created_at, agent.updated_at);
            assert.equal(agent.tools[0].default_config.enabled, true);
            assert.deepEqual(agent.tools[0].default_config.permission_policy, { type: 'always_allow' });
            assert.deepEqual(await agents().retrieve(agent.id), agent);
        });

        test('a model may be an object with effort, echoed with its speed', async () => {
            const agent = await agents().create({ name: 'm', model: { id: 'script/echo', effort: 'low' } });
            assert.equal(agent.model.id, 'script/echo');
            assert.deepEqual(agent.model.effort, { type: 'low' });
        });

        test('every change makes a version, and old versions stay as they were', async () => {
            const first = await agents().create({ name: 'v', model: 'script/echo', system: 'one' });
            const second = await agents().update(first.id, { version: 1, system: 'two' });
            assert.equal(second.version, 2);
            assert.equal(second.system, 'two');
            assert.equal(second.created_at, first.created_at);
            const third = await agents().update(first.id, { version: 2, name: 'w' });
            assert.equal(third.version, 3);
            assert.equal(third.system, 'two');
            assert.deepEqual(await agents().retrieve(first.id, { version: 1 }), first);
            assert.deepEqual(await agents().retrieve(first.id, { version: 2 }), second);
            assert.deepEqual(await agents().retrieve(first.id), third);
            const versions = await all(agents().versions.list(first.id));
            assert.deepEqual(versions.map((v) => v.version).sort(), [1, 2, 3]);
            await refused(agents().retrieve(first.id, { version: 4 }), 404);
        });

        test('an update that changes nothing makes no version', async () => {
            const agent = await agents().create({ name: 'same', model: 'script/echo', metadata: { a: '1' } });
            const again = await agents().update(agent.id, { version: 1, name: 'same', metadata: { a: '1' } });
            assert.deepEqual(again, agent);
        });

        test('a stale version is a 409 that is not retried, even for a no-op', async () => {
            const agent = await agents().create({ name: 'race', model: 'script/echo' });
            await agents().update(agent.id, { version: 1, name: 'raced' });
            const error = await refused(agents().update(agent.id, { version: 1, name: 'raced' }), 409, /version/);
            assert.equal(error.error.error.type, 'conflict_error');
        });

        test('without a version the last write wins', async () => {
            const agent = await agents().create({ name: 'last', model: 'script/echo' });
            const { json } = await world.http('POST', `/v1/agents/${agent.id}`, { body: { name: 'mine' } });
            assert.equal(json.name, 'mine');
            assert.equal(json.version, 2);
        });

        test('omitted keeps, null clears, arrays replace, metadata merges', async () => {
            const agent = await agents().create({
                name: 'rules', model: 'script/echo', system: 's', description: 'd',
                tools: [{ type: 'agent_toolset_20260401' }], metadata: { keep: '1', drop: '2' },
            });
            const next = await agents().update(agent.id, { version: 1, system: null, metadata: { drop: null, add: '3' } });
            assert.equal(next.system, null);
            assert.equal(next.description, 'd');
            assert.equal(next.tools.length, 1);
            assert.deepEqual(next.metadata, { keep: '1', add: '3' });
            const last = await agents().update(agent.id, { version: 2, tools: [], description: '' });
            assert.deepEqual(last.tools, []);
            assert.ok(last.description === null || last.description === '');
        });

        test('archive is final and can be repeated', async () => {
            const agent = await agents().create({ name: 'old', model: 'script/echo' });
            const archived = await agents().archive(agent.id);
            assert.ok(archived.archived_at);
            assert.deepEqual(await agents().archive(agent.id), archived);
            await refused(agents().update(agent.id, { version: 1, name: 'new' }), 400, /archived/i);
            const environment = await world.environment();
            await refused(world.client(sdk).beta.sessions.create({ agent: agent.id, environment_id: environment.id }), 400, /archived/i);
        });

        test('a custom tool keeps its schema', async () => {
            const tool = {
                type: 'custom', name: 'get_weather', description: 'Says the weather.',
                input_schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
            };
            const agent = await agents().create({ name: 'custom', model: 'script/echo', tools: [tool] });
            assert.deepEqual(agent.tools[0].input_schema, tool.input_schema);
        });
    });
}

test('lists page without gap or repeat, newest first, archived only on request', async () => {
    const agents = world.client().beta.agents;
    const before = new Set((await all(agents.list({ include_archived: true }))).map((a) => a.id));
    const made = [];
    for (let i = 0; i < 5; i++) made.push((await agents.create({ name: `page ${i}`, model: 'script/echo' })).id);
    await agents.archive(made[2]);
    const visible = (await all(agents.list({ limit: 2 }))).map((a) => a.id).filter((id) => !before.has(id));
    assert.deepEqual(visible, [made[4], made[3], made[1], made[0]]);
    const everything = (await all(agents.list({ limit: 2, include_archived: true }))).map((a) => a.id).filter((id) => !before.has(id));
    assert.deepEqual(everything, made.toReversed());
});

test('a list can be cut by creation time', async () => {
    const agents = world.client().beta.agents;
    const a = await agents.create({ name: 'early', model: 'script/echo' });
    const b = await agents.create({ name: 'late', model: 'script/echo' });
    const after = await all(agents.list({ 'created_at[gte]': b.created_at }));
    assert.ok(after.some((x) => x.id === b.id));
    if (a.created_at < b.created_at) assert.ok(!after.some((x) => x.id === a.id));
    const until = await all(agents.list({ 'created_at[lte]': a.created_at }));
    assert.ok(until.some((x) => x.id === a.id));
});

test('version pages follow their cursor', async () => {
    const agents = world.client().beta.agents;
    const agent = await agents.create({ name: '1', model: 'script/echo' });
    for (let v = 1; v < 5; v++) await agents.update(agent.id, { version: v, name: String(v + 1) });
    const versions = await all(agents.versions.list(agent.id, { limit: 2 }));
    assert.equal(versions.length, 5);
    assert.deepEqual(new Set(versions.map((v) => v.name)), new Set(['1', '2', '3', '4', '5']));
});

test('effort: kept with the same model, reset by another, each model with its default', async () => {
    const { agents } = world.client().beta;
    const defaults = async (model) => (await agents.create({ name: 'd', model })).model.effort.type;
    const [one, other] = ['script/echo', 'script/instant'];
    const usual = await defaults(one);
    const unusual = usual === 'low' ? 'max' : 'low';
    const agent = await agents.create({ name: 'e', model: { id: one, effort: { type: unusual } } });
    const steps = [
        [{ model: one }, unusual], [{ model: { id: one } }, unusual], [{ model: { id: one, effort: null } }, unusual], [{ name: 'f' }, unusual],
        [{ model: { id: one, effort: 'medium' } }, 'medium'], [{ model: other }, await defaults(other)], [{ model: one }, usual],
    ];
    for (const [change, expected] of steps) assert.equal((await agents.update(agent.id, change)).model.effort.type, expected, JSON.stringify(change));
});

// What a field becomes: [what is sent, what is read back].
for (const [field, start, rows] of [
    ['system', 'be brief', [[null, null], ['', null], ['new', 'new']]],
    ['description', 'first', [[null, null], ['', null], ['new', 'new']]],
    ['tools', [{ type: 'custom', name: 't', description: 'd', input_schema: { type: 'object' } }], [[null, []], [[], []]]],
    ['mcp_servers', [], [[null, []], [[], []]]],
    ['skills', [], [[null, []], [[], []]]],
    ['multiagent', null, [[null, null]]],
    ['metadata', { a: '1', b: '2' }, [[{ a: null }, { b: '2' }], [{ a: '3' }, { a: '3', b: '2' }], [{}, { a: '1', b: '2' }], [null, { a: '1', b: '2' }]]],
]) {
    for (const [sent, expected] of rows) {
        test(`${field}: ${JSON.stringify(sent)} over ${JSON.stringify(start)}`, async () => {
            const { agents } = world.client().beta;
            const agent = await agents.create({ name: 'u', model: 'script/echo', [field]: start });
            const next = await agents.update(agent.id, { [field]: sent });
            assert.deepEqual(next[field], expected);
            assert.equal(next.version, JSON.stringify(expected) === JSON.stringify(agent[field]) ? 1 : 2);
            const { [field]: ignored, version, updated_at: later, ...rest } = next;
            for (const [name, value] of Object.entries(rest)) assert.deepEqual(value, agent[name], name);
        });
    }
}

test('a running session goes on when its agent is archived', async () => {
    const session = await world.session();
    await world.turn(session.id, 'one');
    await world.client().beta.agents.archive(session.agent.id);
    assert.equal((await world.turn(session.id, 'two')).at(-1).stop_reason.type, 'end_turn');
});

test('what the next page keeps: other filters and limits may change under way', async () => {
    const made = [];
    for (let i = 0; i < 4; i++) made.push((await world.agent()).id);
    const first = (await world.http('GET', '/v1/agents?limit=2')).json;
    const second = (await world.http('GET', `/v1/agents?limit=1&include_archived=true&page=${first.next_page}`)).json;
    assert.deepEqual([...first.data, ...second.data].map((a) => a.id), made.toReversed().slice(0, 3));
});
