// The judge is judged: the recorder must accept what the SDK's types allow and name what they do not.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { isExtension, readExtensions } from '../lib/extensions.mjs';
import { matchRoute, Recorder } from '../lib/recorder.mjs';
import { SseParser } from '../lib/sse.mjs';

const at = '2026-11-01T10:00:00.000001Z';
const agent = {
    id: 'agent_01abc', type: 'agent', name: 'a', version: 1, model: { id: 'script/echo', effort: { type: 'high' }, speed: 'standard' },
    system: null, description: null, tools: [], skills: [], mcp_servers: [], multiagent: null, metadata: {},
    execution_identity: { type: 'service_account' }, created_at: at, updated_at: at, archived_at: null,
};
const headers = (extra) => new Headers({ 'content-type': 'application/json', 'request-id': 'req_1', 'anthropic-workspace-id': 'wrkspc_1', ...extra });

function judge(method, path, status, body, extra) {
    const recorder = new Recorder();
    recorder.judge(method, path, { status, ok: status < 300, headers: headers(extra) }, typeof body === 'string' ? body : JSON.stringify(body));
    return recorder.problems;
}

const problem = (body, pattern) => {
    const problems = judge('GET', '/v1/agents/agent_01abc', 200, body);
    assert.ok(problems.some((p) => pattern.test(p)), `${pattern} not in: ${problems.join('; ')}`);
};

test('a right agent passes', () => assert.deepEqual(judge('GET', '/v1/agents/agent_01abc', 200, agent), []));
test('a missing field is found', () => problem({ ...agent, version: undefined }, /required property 'version'/));
test('a wrong type is found', () => problem({ ...agent, version: '1' }, /\/version must be number/));
test('a null where none is declared is found', () => problem({ ...agent, name: null }, /\/name must be string/));
test('an unknown field is found', () => problem({ ...agent, colour: 'red' }, /agent\.colour is neither/));
test('an unknown field deep inside is found', () => problem({ ...agent, model: { ...agent.model, colour: 1 } }, /agent\.model\.colour/));
test('a time without Z is found', () => problem({ ...agent, created_at: '2026-11-01 10:00' }, /created_at is no UTC time/));
test('a wrong id prefix is found', () => problem({ ...agent, id: 'agt_1' }, /does not begin with agent_/));
test('a body that is no JSON is found', () => assert.match(judge('GET', '/v1/agents/x', 200, '<html>').join(), /not JSON/));

test('metadata keys are not fields', () => assert.deepEqual(judge('GET', '/v1/agents/x', 200, { ...agent, metadata: { colour: 'red' } }), []));

test('a tool config of a union is compared with its own member', () => {
    const tools = [{
        type: 'agent_toolset_20260401', default_config: { enabled: true, permission_policy: { type: 'always_allow' } },
        configs: [{ name: 'bash', type: 'bash', enabled: true, permission_policy: { type: 'always_allow' }, colour: 1 }],
    }];
    problem({ ...agent, tools }, /agent\.tools\.configs\.colour/);
});

test('pages are checked item by item and for their cursors', () => {
    assert.deepEqual(judge('GET', '/v1/agents', 200, { data: [agent], next_page: null }), []);
    assert.match(judge('GET', '/v1/agents', 200, { data: [agent] }).join(), /next_page/);
    assert.match(judge('GET', '/v1/agents', 200, { data: [agent], next_page: '' }).join(), /next_page/);
    assert.match(judge('GET', '/v1/agents', 200, { data: [agent], next_page: null, has_more: false }).join(), /has_more/);
    assert.match(judge('GET', '/v1/agents', 200, { data: [{ ...agent, name: 1 }], next_page: null }).join(), /name must be string/);
});

const failure = (type, message = 'm') => ({ type: 'error', error: { type, message }, request_id: 'req_1' });
test('errors are checked for shape, status and headers', () => {
    assert.deepEqual(judge('GET', '/v1/agents/x', 404, failure('not_found_error')), []);
    assert.match(judge('GET', '/v1/agents/x', 404, failure('api_error')).join(), /error type api_error/);
    assert.match(judge('GET', '/v1/agents/x', 404, failure('not_found_error', '')).join(), /not the error shape/);
    assert.match(judge('GET', '/v1/agents/x', 404, { ...failure('not_found_error'), request_id: 'req_2' }).join(), /request_id/);
    assert.match(judge('POST', '/v1/agents/x', 409, failure('conflict_error')).join(), /x-should-retry/);
    assert.deepEqual(judge('POST', '/v1/agents/x', 409, failure('conflict_error'), { 'x-should-retry': 'false' }), []);
});

test('frames are checked for name, id and type', () => {
    const event = { id: 'sevt_1', type: 'session.status_running', processed_at: at };
    const frame = (extra) => {
        const recorder = new Recorder();
        recorder.checkFrame('f', { event: event.type, id: event.id, data: JSON.stringify(event), ...extra });
        return recorder.problems.join();
    };
    assert.equal(frame({}), '');
    assert.equal(frame({ event: 'ping', id: null, data: '{}' }), '');
    assert.match(frame({ event: null }), /without an event line/);
    assert.match(frame({ event: 'session.status_idle' }), /but type/);
    assert.match(frame({ id: 'sevt_2' }), /frame's id/);
    assert.match(frame({ data: JSON.stringify({ ...event, processed_at: 5 }) }), /processed_at must be string/);
    assert.match(frame({ event: 'session.shout', data: JSON.stringify({ ...event, type: 'session.shout' }) }), /session\.shout/);
});

test('routes match whole paths', () => {
    assert.equal(matchRoute('GET', '/v1/sessions/s/workspace.tar').route, 'GET /v1/sessions/{id}/workspace.tar');
    assert.equal(matchRoute('GET', '/v1/sessions/s/workspaceXtar'), undefined);
    assert.equal(matchRoute('PUT', '/v1/agents'), undefined);
});

test('the extension list is read from the first cells of the tables', () => {
    const { fields, routes } = readExtensions('x `no.field` y\n| `session.a`, `session.b.c` | `not.this` |\n|---|\n| `GET /v1/x/{id}` | x |\n');
    assert.deepEqual([...fields], ['session.a', 'session.b.c']);
    assert.deepEqual([...routes], ['GET /v1/x/{id}']);
    assert.ok(isExtension('session', 'stop_reason.type'));
    assert.ok(!isExtension('session', 'stop_reasonx'));
});

test('frames are put together across chunks, even inside a character', () => {
    const bytes = new TextEncoder().encode('event: a\nid: 1\ndata: {"é":1}\n\n: note\n\nevent: b\ndata: 1\ndata: 2\n\n');
    const parser = new SseParser();
    const frames = [...bytes].flatMap((byte) => parser.push(Uint8Array.of(byte)));
    assert.deepEqual(frames.map((f) => [f.event, f.id, f.data]), [['a', '1', '{"é":1}'], [null, null, null], ['b', null, '1\n2']]);
});
