// Two tenants on one server: neither sees, names or changes what is the other's.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { message, useServer } from '../lib/harness.mjs';

const mine = {};
let foreign;

const world = useServer({}, async (w) => {
    const session = await w.session();
    const form = new FormData();
    form.append('file', new Blob(['mine']), 'mine.txt');
    const upload = await fetch(`${w.server.url}/v1/files`, { method: 'POST', headers: { 'x-api-key': w.server.key }, body: form });
    assert.equal(upload.status, 200);
    Object.assign(mine, { agent: session.agent.id, environment: session.environment_id, session: session.id, file: (await upload.json()).id });
    mine.thread = (await w.http('GET', `/v1/sessions/${session.id}/threads`)).json.data[0].id;
    const made = w.server.command(['keys', 'create', '--workspace', 'neighbour']);
    assert.equal(made.status, 0, made.stderr);
    foreign = (made.stdout.match(/sk-[A-Za-z0-9_-]{20,}/) ?? [])[0];
    assert.ok(foreign, `no key in: ${made.stdout}`);
});

const asForeigner = (line, body) => {
    const [method, target] = line.replace(/\{(\w+)\}/g, (_, name) => mine[name]).split(' ');
    return world.http(method, target, { key: foreign, body });
};

describe('ids of another workspace are unknown', () => {
    for (const [line, body] of [
        ['GET /v1/agents/{agent}'], ['POST /v1/agents/{agent}', { version: 1, name: 'x' }], ['POST /v1/agents/{agent}/archive', {}], ['GET /v1/agents/{agent}/versions'],
        ['GET /v1/environments/{environment}'], ['POST /v1/environments/{environment}', { name: 'x' }], ['DELETE /v1/environments/{environment}'],
        ['POST /v1/environments/{environment}/archive', {}], ['GET /v1/sessions/{session}'], ['POST /v1/sessions/{session}', { title: 'x' }],
        ['DELETE /v1/sessions/{session}'], ['POST /v1/sessions/{session}/archive', {}], ['POST /v1/sessions/{session}/events', { events: [message('x')] }],
        ['GET /v1/sessions/{session}/events'], ['GET /v1/sessions/{session}/events/stream'], ['GET /v1/sessions/{session}/threads'],
        ['GET /v1/sessions/{session}/workspace'], ['GET /v1/sessions/{session}/workspace.tar'], ['GET /v1/sessions/{session}/workspace.patch'],
        ['GET /v1/sessions/{session}/outputs.tar'], ['PUT /v1/sessions/{session}/workspace'], ['GET /v1/sessions/{session}/threads/{thread}'],
        ['GET /v1/files/{file}'], ['GET /v1/files/{file}/content'], ['DELETE /v1/files/{file}'],
    ]) {
        test(line, async () => {
            const answer = await asForeigner(line, body);
            assert.equal(answer.status, 404, answer.text);
            assert.equal(answer.json.error.type, 'not_found_error');
        });
    }

    test('a session cannot be made from them', async () => {
        const own = await world.http('POST', '/v1/environments', { key: foreign, body: { name: 'own' } });
        assert.equal(own.status, 200);
        const withAgent = await world.http('POST', '/v1/sessions', { key: foreign, body: { agent: mine.agent, environment_id: own.json.id } });
        assert.equal(withAgent.status, 404);
        const agent = await world.http('POST', '/v1/agents', { key: foreign, body: { name: 'own', model: 'script/echo' } });
        const withEnvironment = await world.http('POST', '/v1/sessions', { key: foreign, body: { agent: agent.json.id, environment_id: mine.environment } });
        assert.equal(withEnvironment.status, 404);
    });

    test('nothing of it happened to the owner', async () => {
        const client = world.client();
        assert.equal((await client.beta.agents.retrieve(mine.agent)).version, 1);
        assert.equal((await client.beta.environments.retrieve(mine.environment)).archived_at, null);
        assert.equal((await client.beta.sessions.retrieve(mine.session)).status, 'idle');
    });
});

test('lists hold only what is one\'s own', async () => {
    for (const list of ['agents', 'environments', 'sessions', 'files']) {
        const { json } = await world.http('GET', `/v1/${list}?limit=100`, { key: foreign });
        assert.ok(!json.data.some((item) => Object.values(mine).includes(item.id)), list);
    }
    for (const query of [`ids=${mine.file}`, `scope_id=${mine.session}`]) {
        assert.deepEqual((await world.http('GET', `/v1/files?${query}`, { key: foreign })).json.data, []);
    }
});

test('the two have different workspace ids, and asking for the other one is refused', async () => {
    const a = (await world.http('GET', '/v1/agents')).headers.get('anthropic-workspace-id');
    const b = (await world.http('GET', '/v1/agents', { key: foreign })).headers.get('anthropic-workspace-id');
    assert.notEqual(a, b);
    const crossed = await world.http('GET', '/v1/agents', { key: foreign, headers: { 'anthropic-workspace-id': a } });
    assert.equal(crossed.status, 403);
    const right = await world.http('GET', '/v1/agents', { key: foreign, headers: { 'anthropic-workspace-id': b } });
    assert.equal(right.status, 200);
});
