// Bad input: each row is one request that must be refused in the API's shape, naming the field, with the
// server unharmed and nothing changed.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { once } from 'node:events';
import { BETA, useServer } from '../lib/harness.mjs';

const ids = {};
const world = useServer({}, async (w) => {
    const session = await w.session();
    Object.assign(ids, { agent: session.agent.id, environment: session.environment_id, session: session.id });
});

const TYPE = { 400: 'invalid_request_error', 401: 'authentication_error', 404: 'not_found_error', 405: 'invalid_request_error', 409: 'conflict_error', 413: 'request_too_large' };
const long = (n) => 'x'.repeat(n);
const agent = (extra) => ({ name: 'a', model: 'script/echo', ...extra });
const custom = (extra) => agent({ tools: [{ type: 'custom', name: 't', description: 'd', input_schema: { type: 'object' }, ...extra }] });
const environment = (extra) => ({ name: 'e', ...extra });
const session = (extra) => ({ agent: ids.agent, environment_id: ids.environment, ...extra });
const events = (...list) => ({ events: list });
const say = (content) => events({ type: 'user.message', content });
const pairs = (n) => Object.fromEntries(Array.from({ length: n }, (_, i) => [`k${i}`, 'v']));

const A = 'POST /v1/agents';
const E = 'POST /v1/environments';
const S = 'POST /v1/sessions';
const V = 'POST /v1/sessions/{session}/events';

// [what, route, body (a function when it needs ids), status, what the message must name]
const BODIES = [
    ['malformed JSON', A, '{"name": "a", "model": }', 400, /JSON|line|position|offset|column/i],
    ['an empty body', A, '', 400, /body/i],
    ['a cut body', A, '{"name": "a"', 400, /JSON|end/i],
    ['two values', A, '{} {}', 400, /JSON|after|trailing|end/i],
    ['an array', A, '[]', 400, /object/i],
    ['a string', A, '"x"', 400, /object/i],
    ['null', A, 'null', 400, /object/i],
    ['invalid UTF-8', A, Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 400, /UTF-8/i],
    ['a lone surrogate', A, '{"name": "\\ud800", "model": "script/echo"}', 400, /surrogate|UTF|unicode|name/i],
    ['a duplicate key', A, '{"name": "a", "model": "script/echo", "name": "b"}', 400, /name/],
    ['a nested duplicate key', A, '{"name": "a", "model": {"id": "script/echo", "id": "script/tool"}}', 400, /model|id/],
    ['an absurd depth', A, '['.repeat(100000), 400, /deep|depth|nest/i],
    ['a depth inside a field', A, `{"name": "a", "model": "script/echo", "metadata": ${'{"a":'.repeat(500)}1${'}'.repeat(500)}}`, 400, /deep|depth|nest/i],
    ['NaN', A, '{"name": NaN, "model": "script/echo"}', 400, /JSON|name|unexpected|value/i],
    ['a trailing comma', A, '{"name": "a", "model": "script/echo",}', 400, /JSON|unexpected|key|name/i],

    ['no name', A, { model: 'script/echo' }, 400, /name/],
    ['no model', A, { name: 'a' }, 400, /model/],
    ['an empty name', A, agent({ name: '' }), 400, /name/],
    ['a name that is too long', A, agent({ name: long(257) }), 400, /name.*256|256.*name/],
    ['a name of the wrong type', A, agent({ name: 5 }), 400, /name/],
    ['a null name', A, agent({ name: null }), 400, /name/],
    ['a model of the wrong type', A, agent({ model: 5 }), 400, /model/],
    ['an empty model', A, agent({ model: '' }), 400, /model/],
    ['a model without id', A, agent({ model: { effort: 'low' } }), 400, /model.*id/],
    ['a model no provider takes', A, agent({ model: 'nonesuch-9' }), 400, /nonesuch-9/],
    ['a script that is not there', A, agent({ model: 'script/none-such' }), 400, /none-such/],
    ['a script outside its directory', A, agent({ model: 'script/../../etc/passwd' }), 400, /model|script/],
    ['an unknown effort', A, agent({ model: { id: 'script/echo', effort: 'heroic' } }), 400, /effort/],
    ['an unknown speed', A, agent({ model: { id: 'script/echo', speed: 'warp' } }), 400, /speed/],
    ['a description that is too long', A, agent({ description: long(2049) }), 400, /description.*2048|2048/],
    ['a system prompt that is too long', A, agent({ system: long(100001) }), 400, /system.*100000|100,000|100000/],
    ['tools that are no array', A, agent({ tools: {} }), 400, /tools/],
    ['a tool that is no object', A, agent({ tools: ['bash'] }), 400, /tools.0/],
    ['a tool without type', A, agent({ tools: [{ name: 'x' }] }), 400, /tools.0.*type/],
    ['a tool of unknown type', A, agent({ tools: [{ type: 'agent_toolset_19990101' }] }), 400, /tools.0.*type|agent_toolset_19990101/],
    ['an unknown built-in tool', A, agent({ tools: [{ type: 'agent_toolset_20260401', configs: [{ name: 'fly' }] }] }), 400, /configs.0.*name|fly/],
    ['an unknown permission policy', A, agent({ tools: [{ type: 'agent_toolset_20260401', default_config: { permission_policy: { type: 'maybe' } } }] }), 400, /permission_policy/],
    ['a custom tool without description', A, custom({ description: '' }), 400, /description/],
    ['a custom tool with a bad name', A, custom({ name: 'a b' }), 400, /name/],
    ['a custom tool named like a built-in', A, custom({ name: 'bash' }), 400, /bash|name/],
    ['a custom tool in the mcp namespace', A, custom({ name: 'mcp__x' }), 400, /mcp__|name/],
    ['a custom tool whose schema is no object', A, custom({ input_schema: { type: 'array' } }), 400, /input_schema/],
    ['a custom tool with a $ref', A, custom({ input_schema: { type: 'object', properties: { a: { $ref: '#/x' } } } }), 400, /\$ref|input_schema/],
    ['two custom tools of one name', A, agent({ tools: [...custom().tools, ...custom().tools] }), 400, /tools|name/],
    ['an MCP server without its toolset', A, agent({ mcp_servers: [{ type: 'url', name: 'm', url: 'https://example.com/mcp' }] }), 400, /mcp/],
    ['a toolset without its MCP server', A, agent({ tools: [{ type: 'mcp_toolset', mcp_server_name: 'm' }] }), 400, /mcp/],
    ['too much metadata', A, agent({ metadata: pairs(17) }), 400, /metadata.*16|16/],
    ['a metadata key that is too long', A, agent({ metadata: { [long(65)]: 'v' } }), 400, /metadata/],
    ['a metadata value that is too long', A, agent({ metadata: { k: long(513) } }), 400, /metadata/],
    ['a metadata value that is no string', A, agent({ metadata: { k: 1 } }), 400, /metadata/],
    ['a version of the wrong type', 'POST /v1/agents/{agent}', { version: 'one' }, 400, /version/],
    ['version 0', 'POST /v1/agents/{agent}', { version: 0 }, 400, /version/],
    ['clearing the name', 'POST /v1/agents/{agent}', { version: 1, name: null }, 400, /name/],
    ['clearing the model', 'POST /v1/agents/{agent}', { version: 1, model: null }, 400, /model/],

    ['an environment without name', E, {}, 400, /name/],
    ['an unknown environment type', E, environment({ config: { type: 'moon' } }), 400, /config.*type|moon/],
    ['unknown networking', E, environment({ config: { type: 'cloud', networking: { type: 'wifi' } } }), 400, /networking/],
    ['a host with a scheme', E, environment({ config: { type: 'cloud', networking: { type: 'limited', allowed_hosts: ['https://x.com'] } } }), 400, /allowed_hosts/],
    ['packages that are no list', E, environment({ config: { type: 'cloud', packages: { npm: 'left-pad' } } }), 400, /packages.*npm|npm/],
    ['environment metadata that is no object', E, environment({ metadata: [] }), 400, /metadata/],

    ['a session without agent', S, () => ({ environment_id: ids.environment }), 400, /agent/],
    ['a session without environment', S, () => ({ agent: ids.agent }), 400, /environment_id/],
    ['an unknown agent', S, () => session({ agent: 'agent_011111111111111111111111' }), 404, /agent/],
    ['an unknown version', S, () => session({ agent: { type: 'agent', id: ids.agent, version: 99 } }), 404, /version|agent/],
    ['an agent reference of unknown type', S, () => session({ agent: { type: 'robot', id: ids.agent } }), 400, /agent.*type|robot/],
    ['an environment id of another kind', S, () => session({ environment_id: ids.agent }), 404, /environment/],
    ['an unknown environment', S, () => session({ environment_id: 'env_011111111111111111111111' }), 404, /environment/],
    ['a title of the wrong type', S, () => session({ title: 7 }), 400, /title/],
    ['initial events that are no array', S, () => session({ initial_events: {} }), 400, /initial_events/],
    ['too many initial events', S, () => session({ initial_events: Array(51).fill({ type: 'user.message', content: [{ type: 'text', text: 'x' }] }) }), 400, /initial_events.*50|50/],
    ['an interrupt as initial event', S, () => session({ initial_events: [{ type: 'user.interrupt' }] }), 400, /initial_events.0/],
    ['a budget in dollars', S, () => session({ budget: { type: 'limit', max_list_cost: { amount: '25.00', currency: 'USD' } } }), 400, /amount|budget/],
    ['model null in the overrides', S, () => session({ agent: { type: 'agent_with_overrides', id: ids.agent, model: null } }), 400, /model/],
    ['resources that are not there', S, () => session({ resources: [{ type: 'file', file_id: 'file_011111111111111111111111' }] }), 404, /resources.*not found/],

    ['no events', V, {}, 400, /events/],
    ['an empty list of events', V, events(), 400, /events/],
    ['events that are no array', V, { events: {} }, 400, /events/],
    ['an event without type', V, events({ content: [] }), 400, /events.0.*type/],
    ['an event of unknown type', V, events({ type: 'user.shout' }), 400, /events.0.*type|user\.shout/],
    ['an event that only the server makes', V, events({ type: 'agent.message', content: [] }), 400, /events.0.*type|agent\.message/],
    ['a message without content', V, events({ type: 'user.message' }), 400, /events.0.content/],
    ['a message with no blocks', V, say([]), 400, /events.0.content/],
    ['content that is a string', V, say('hi'), 400, /events.0.content/],
    ['a block of unknown type', V, say([{ type: 'smell' }]), 400, /events.0.content.0.*type|smell/],
    ['a text block without text', V, say([{ type: 'text' }]), 400, /events.0.content.0.text/],
    ['a text that is a number', V, say([{ type: 'text', text: 5 }]), 400, /events.0.content.0.text/],
    ['a redacted block', V, say([{ type: 'redacted' }]), 400, /redacted|events.0.content.0/],
    ['an image without source', V, say([{ type: 'image' }]), 400, /events.0.content.0.source/],
    ['an image that is no base64', V, say([{ type: 'image', source: { type: 'base64', media_type: 'image/png', data: '***' } }]), 400, /events.0.content.0.source.*data/],
    ['a confirmation of nothing', V, events({ type: 'user.tool_confirmation', tool_use_id: 'sevt_011111111111111111111111', result: 'allow' }), 400, /tool_use_id|events.0/],
    ['a result of nothing', V, events({ type: 'user.custom_tool_result', custom_tool_use_id: 'sevt_011111111111111111111111', content: [] }), 400, /custom_tool_use_id|events.0/],
];

// [what, request line, status, what the message must name]
const TARGETS = [
    ['an unknown agent', 'GET /v1/agents/agent_011111111111111111111111', 404, /agent/],
    ['an id of another kind', () => `GET /v1/agents/${ids.session}`, 404, /agent|sesn_/],
    ['an id that is none', 'GET /v1/sessions/%2e%2e%2fagents', 404, /session|not found/i],
    ['an id with a NUL', 'GET /v1/sessions/sesn_%00', 404, /session|not found/i],
    ['an endless id', `GET /v1/sessions/sesn_${long(4000)}`, 404, /session|not found/i],
    ['an unknown session', 'GET /v1/sessions/sesn_011111111111111111111111', 404, /sesn_|session/],
    ['the events of an unknown session', 'GET /v1/sessions/sesn_011111111111111111111111/events', 404, /sesn_|session/],
    ['the stream of an unknown session', 'GET /v1/sessions/sesn_011111111111111111111111/events/stream', 404, /sesn_|session/],
    ['deleting an unknown environment', 'DELETE /v1/environments/env_011111111111111111111111', 404, /env_|environment/],
    ['archiving an unknown session', 'POST /v1/sessions/sesn_011111111111111111111111/archive', 404, /sesn_|session/],
    ['a page cursor that is none', 'GET /v1/agents?page=rubbish', 400, /page/],
    ['a page cursor of nothing but dots', 'GET /v1/sessions?page=....', 400, /page/],
    ['a page cursor with binary', () => `GET /v1/sessions/${ids.session}/events?page=%ff%fe`, 400, /page/],
    ['limit 0', 'GET /v1/agents?limit=0', 400, /limit/],
    ['a negative limit', 'GET /v1/agents?limit=-1', 400, /limit/],
    ['a limit over the maximum', 'GET /v1/agents?limit=101', 400, /limit.*100/],
    ['a limit that is no number', 'GET /v1/sessions?limit=many', 400, /limit/],
    ['a limit beyond 64 bits', 'GET /v1/sessions?limit=99999999999999999999999', 400, /limit/],
    ['too many events at once', () => `GET /v1/sessions/${ids.session}/events?limit=1001`, 400, /limit/],
    ['an unknown order', 'GET /v1/sessions?order=sideways', 400, /order/],
    ['an unknown status', 'GET /v1/sessions?statuses[]=asleep', 400, /statuses/],
    ['an unknown event type', () => `GET /v1/sessions/${ids.session}/events?types[]=user.shout`, 400, /types/],
    ['a time that is none', 'GET /v1/sessions?created_at[gte]=yesterday', 400, /created_at/],
    ['the 30th of February', 'GET /v1/sessions?created_at[gte]=2026-02-30T00:00:00Z', 400, /created_at/],
    ['a boolean that is none', 'GET /v1/sessions?include_archived=perhaps', 400, /include_archived/],
    ['an unknown preview', () => `GET /v1/sessions/${ids.session}/events/stream?event_deltas[]=agent.tool_use`, 400, /event_deltas/],
    ['a version that is no number', () => `GET /v1/agents/${ids.agent}?version=one`, 400, /version/],
    ['a version that is not there', () => `GET /v1/agents/${ids.agent}?version=99`, 404, /version|agent/],
    ['an unknown path', 'GET /v1/horses', 404, /horses|not found/i],
    ['an unknown path below a known one', () => `GET /v1/sessions/${ids.session}/saddle`, 404, /not found|saddle/i],
    ['a path outside the API', 'GET /favicon.ico', 404, /not found|favicon/i],
];

const fill = (route) => route.replace(/\{(\w+)\}/g, (_, name) => ids[name]);

async function alive() {
    const response = await fetch(`${world.server.url}/healthz`);
    await response.arrayBuffer();
    assert.equal(response.status, 200);
}

function expectError(answer, status, names) {
    assert.equal(answer.status, status, answer.text);
    assert.equal(answer.json.error.type, TYPE[status]);
    assert.match(answer.json.error.message, names);
}

describe('bodies', () => {
    for (const [what, route, body, status, names] of BODIES) {
        test(`${route}: ${what}`, async () => {
            const [method, target] = fill(route).split(' ');
            const count = (await world.events(ids.session)).length;
            const answer = await world.http(method, target, { body: typeof body === 'function' ? body() : body, headers: { 'content-type': 'application/json' } });
            expectError(answer, status, names);
            assert.equal((await world.events(ids.session)).length, count, 'nothing was stored');
            await alive();
        });
    }
});

describe('targets', () => {
    for (const [what, line, status, names] of TARGETS) {
        test(`${what}`, async () => {
            const [method, target] = (typeof line === 'function' ? line() : line).split(' ');
            expectError(await world.http(method, target), status, names);
            await alive();
        });
    }

    test('a method that the path does not have', async () => {
        const answer = await world.http('PATCH', '/v1/agents');
        assert.ok([404, 405].includes(answer.status), answer.text);
    });
});

describe('headers', () => {
    const kinds = [
        ['GET', () => '/v1/agents'], ['POST', () => '/v1/agents'], ['GET', () => `/v1/agents/${ids.agent}`], ['GET', () => '/v1/environments'],
        ['POST', () => '/v1/environments'], ['GET', () => '/v1/sessions'], ['GET', () => `/v1/sessions/${ids.session}`],
        ['GET', () => `/v1/sessions/${ids.session}/events`], ['POST', () => `/v1/sessions/${ids.session}/events`],
        ['GET', () => `/v1/sessions/${ids.session}/events/stream`],
    ];
    for (const [method, target] of kinds) {
        test(`${method} ${target().replace('undefined', '{id}')} without the beta header`, async () => {
            const body = method === 'POST' ? {} : undefined;
            expectError(await world.http(method, target(), { beta: null, body }), 400, /anthropic-beta.*managed-agents-2026-04-01|managed-agents-2026-04-01.*anthropic-beta/);
        });
    }

    test('threads without the beta header do not exist', async () => {
        expectError(await world.http('GET', `/v1/sessions/${ids.session}/threads`, { beta: null }), 404, /not found/i);
    });

    test('other betas beside ours do not matter', async () => {
        const answer = await world.http('GET', '/v1/agents', { beta: `files-api-2025-04-14, ${BETA},something-else-2030-01-01` });
        assert.equal(answer.status, 200);
    });

    test('no credential, a wrong one, an empty one', async () => {
        for (const key of [null, 'sk-wrong', ' ', 'x'.repeat(9000)]) {
            const answer = await world.http('GET', '/v1/agents', { key });
            expectError(answer, 401, /key|credential/i);
        }
        const bearer = await world.http('GET', '/v1/agents', { key: null, headers: { authorization: 'Basic eDp5' } });
        assert.equal(bearer.status, 401);
    });

    test('both ways to send the key work, with any anthropic-version or none', async () => {
        const { key } = world.server;
        for (const headers of [{ 'x-api-key': key }, { authorization: `Bearer ${key}` }]) {
            for (const version of ['2023-06-01', '2026-10-21', undefined]) {
                const all = { ...headers, 'anthropic-beta': BETA, ...(version && { 'anthropic-version': version }) };
                const response = await world.recorder().fetch(`${world.server.url}/v1/agents?beta=true`, { headers: all });
                assert.equal(response.status, 200);
                await response.arrayBuffer();
            }
        }
    });

    test('a body that is no JSON by its own word', async () => {
        const answer = await world.http('POST', '/v1/agents', { body: 'name=a', headers: { 'content-type': 'application/x-www-form-urlencoded' } });
        expectError(answer, 400, /content-type|JSON/i);
    });
});

describe('sizes', () => {
    test('a body over 32 MB is refused with 413', async () => {
        const answer = await world.http('POST', '/v1/agents', { body: `{"name": "${long(33 * 1024 * 1024)}"}` }).catch((e) => e);
        // The server may answer and hang up while the client still writes; a client that loses the answer to
        // that is asked again below with the length alone.
        if (!(answer instanceof Error)) expectError(answer, 413, /33554432|32 ?M|too large|over/i);
        await alive();
    });

    test('the announced length alone is enough to refuse', async () => {
        const socket = connect(world.server.port, '127.0.0.1');
        await once(socket, 'connect');
        socket.write(`POST /v1/agents HTTP/1.1\r\nHost: x\r\nx-api-key: ${world.server.key}\r\nanthropic-beta: ${BETA}\r\ncontent-type: application/json\r\ncontent-length: 40000000\r\n\r\n`);
        let text = '';
        socket.setEncoding('utf8');
        for await (const chunk of socket) {
            text += chunk;
            if (text.includes('request_too_large')) break;
        }
        socket.destroy();
        assert.match(text, /^HTTP\/1\.1 413 /);
        await alive();
    });

    test('a large body within the limit is accepted', async () => {
        const made = await world.session();
        const answer = await world.http('POST', `/v1/sessions/${made.id}/events`, { body: say([{ type: 'text', text: long(8 * 1024 * 1024) }]) });
        assert.equal(answer.status, 200);
    });

    test('the limits themselves are within', async () => {
        const answer = await world.http('POST', '/v1/agents', {
            body: agent({ name: long(256), description: long(2048), system: long(100000), metadata: Object.fromEntries(Object.keys(pairs(16)).map((k) => [k.padEnd(64, 'k'), long(512)])) }),
        });
        assert.equal(answer.status, 200, answer.text.slice(0, 300));
        const wide = await world.http('POST', '/v1/agents', { body: agent({ name: '🐎'.repeat(256) }) });
        assert.equal(wide.status, 200, 'characters are counted, not bytes');
    });
});

describe('raw HTTP', () => {
    const BAD = [
        ['no Host', 'GET /healthz HTTP/1.1\r\n\r\n', 400],
        ['two Hosts', 'GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', 400],
        ['a space before the colon', 'GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n', 400],
        ['a folded header', 'GET /healthz HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n', 400],
        ['length and chunks at once', 'POST /v1/agents HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 400],
        ['two lengths', 'POST /v1/agents HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc', 400],
        ['a negative length', 'POST /v1/agents HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n', 400],
        ['garbage', '\x16\x03\x01\x02\x00\x01\x00\r\n\r\n', 400],
        ['an endless header', `GET /healthz HTTP/1.1\r\nHost: a\r\nX: ${long(64 * 1024)}\r\n\r\n`, 431],
    ];
    for (const [what, bytes, status] of BAD) {
        test(`${what} is refused with ${status}`, async () => {
            const socket = connect(world.server.port, '127.0.0.1');
            await once(socket, 'connect');
            socket.write(bytes, 'latin1');
            let text = '';
            socket.setEncoding('utf8');
            try {
                for await (const chunk of socket) text += chunk;
            } catch (error) {
                if (error.code !== 'ECONNRESET') throw error;
            }
            assert.match(text, new RegExp(`^HTTP/1\\.1 ${status} `));
            assert.equal((text.match(/^HTTP\/1\.1 /gm) ?? []).length, 1, 'one answer, then the end');
            await alive();
        });
    }
});
