// Every refusal that the published behaviour names for agents, sessions, events and their lists: one table of
// requests, what each is answered, and that it changed nothing.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { toFile } from '@anthropic-ai/sdk';
import { BETA, useServer } from '../lib/harness.mjs';

const ids = {};
const LOOKUP = { type: 'custom', name: 'lookup', description: 'Looks a thing up.', input_schema: { type: 'object' } };
const TOOLSET = { type: 'agent_toolset_20260401' };
const ASKING = { ...TOOLSET, default_config: { permission_policy: { type: 'always_ask' } } };
const NOBODY = { agent: 'agent_011111111111111111111111', env: 'env_011111111111111111111111', sesn: 'sesn_011111111111111111111111', sevt: 'sevt_011111111111111111111111', sthr: 'sthr_011111111111111111111111', file: 'file_011111111111111111111111' };
const MB = 1024 * 1024;

const world = useServer({ config: `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\n` }, async (w) => {
    const { beta } = w.client();
    const upload = async (name, bytes, type) => (await beta.files.upload({ file: await toFile(Buffer.from(bytes), name, { type }) })).id;
    const [session, environment, agent] = [await w.session(), await w.environment(), await w.agent({ metadata: { k: 'v' } })];
    const create = (model, tools) => w.session({ agent: { model, ...(tools && { tools }) } });
    const [ended, waiting, asking, denied, running, archived, plain] = [
        await create('script/echo'), await create('script/call', [LOOKUP]), await create('script/call', [ASKING]),
        await create('script/call', [{ ...TOOLSET, default_config: { enabled: false } }]), await create('script/slow'), await create('script/echo'), await create('claude-sonnet-5'),
    ];
    const useOf = (seen) => seen.find((e) => /tool_use$/.test(e.type)).id;
    await w.turn(ended.id, 'hi');
    Object.assign(ids, { waitingUse: useOf(await w.turn(waiting.id, 'lookup {}')), askingUse: useOf(await w.turn(asking.id, 'bash {"command": "true"}')), deniedUse: useOf(await w.turn(denied.id, 'bash {"command": "true"}')) });
    const stream = await w.stream(running.id);
    await w.send(running.id, 'slow');
    await stream.until('span.model_request_start');
    stream.close();
    const working = await w.session({ agent: { model: 'script/slow' }, initial_events: [outcome(), say({ type: 'text', text: 'slow' })] });
    const hosted = (await w.environment({ config: { type: 'self_hosted' } })).id;
    const away = await w.session({ agent: { model: 'script/echo' }, environment: { config: { type: 'self_hosted' } } });
    Object.assign(ids, { working: working.id, hosted, away: away.id });
    await beta.sessions.archive(archived.id);
    const [oldAgent, oldEnvironment] = [await w.agent(), await w.environment()];
    await beta.agents.archive(oldAgent.id);
    await beta.environments.archive(oldEnvironment.id);
    const [pageAsc, pageTimes] = [await w.http('GET', `/v1/sessions/${ended.id}/events?limit=2`), await w.http('GET', `/v1/sessions?limit=1`)];
    const log = await w.events(ended.id);
    Object.assign(ids, {
        session: session.id, thread: (await w.http('GET', `/v1/sessions/${session.id}/threads`)).json.data[0].id, environment: environment.id, agent: agent.id,
        ended: ended.id, endedMessage: log.find((e) => e.type === 'user.message').id, waiting: waiting.id, asking: asking.id, denied: denied.id, running: running.id, archived: archived.id, plain: plain.id,
        used: session.environment_id, oldAgent: oldAgent.id, oldEnvironment: oldEnvironment.id,
        png: await upload('a.png', 'png', 'image/png'), text: await upload('a.txt', 'text', 'text/plain'), zip: await upload('a.zip', 'zip', 'application/zip'),
        badText: await upload('b.txt', [0xff, 0xfe], 'text/plain'), empty: await upload('e.txt', '', 'text/plain'), longText: await upload('l.txt', long(262145), 'text/plain'), big: await upload('big.pdf', Buffer.alloc(11 * MB, 1), 'application/pdf'),
        page: pageAsc.json.next_page, sessionsPage: pageTimes.json.next_page, late: log.at(-1).processed_at, first: log[0].processed_at,
    });
});

const long = (n) => 'x'.repeat(n);
const agent = (extra) => ({ name: 'a', model: 'script/echo', ...extra });
const toolset = (extra) => agent({ tools: [{ ...TOOLSET, ...extra }] });
const config = (extra) => toolset({ configs: [extra] });
const custom = (extra) => agent({ tools: [{ ...LOOKUP, ...extra }] });
const create = (extra) => () => ({ agent: ids.agent, environment_id: ids.environment, ...extra });
const override = (extra) => () => ({ agent: { type: 'agent_with_overrides', id: ids.agent, ...extra }, environment_id: ids.environment });
const send = (...list) => ({ events: list });
const text = { type: 'text', text: 'x' };
const say = (...content) => ({ type: 'user.message', content });
const hello = say(text);
const system = (...content) => ({ type: 'system.message', content: content.length ? content : [text] });
const fileBlock = (type, name) => ({ type, source: { type: 'file', file_id: ids[name] ?? name } });
const result = (id, ...content) => ({ type: 'user.custom_tool_result', custom_tool_use_id: id, content });
const confirm = (id, verdict, extra) => ({ type: 'user.tool_confirmation', tool_use_id: id, result: verdict, ...extra });
const interrupt = { type: 'user.interrupt' };
const outcome = (rubric = { type: 'text', content: '- it is there' }, extra) => ({ type: 'user.define_outcome', description: 'Do it', rubric, ...extra });
const checked = (...checks) => outcome({ type: 'text', content: 'r', checks: checks.map((c) => ({ name: 'n', run: 'true', ...c })) });
const rubricFile = (name) => () => send(outcome({ type: 'file', file_id: ids[name] ?? name }));
const R = '/events/0/rubric';
const pairs = (n) => Object.fromEntries(Array.from({ length: n }, (_, i) => [`k${i}`, 'v']));
const budget = { type: 'limit', max_list_cost: { amount: '100', currency: 'USD' } };

const A = 'POST /v1/agents';
const AU = 'POST /v1/agents/{agent}';
const S = 'POST /v1/sessions';
const U = 'POST /v1/sessions/{session}';
const V = 'POST /v1/sessions/{session}/events';
const events = (name) => `POST /v1/sessions/{${name}}/events`;
const I = '/initial_events';
const F = 'POST /v1/sessions/{ended}/fork';
const C = '/events/0/content/0';

// [what, request line, body (a function where it needs ids), status, pointer or {code} or null, fragment of the message]
const ROWS = [
    // agents
    ['an agent without name', A, { model: 'script/echo' }, 400, '/name', 'Field required'],
    ['a name over 256', A, agent({ name: long(257) }), 400, '/name', '256'],
    ['an agent without model', A, { name: 'a' }, 400, '/model', 'Field required'],
    ['an unknown field', A, agent({ colour: 'red' }), 400, '/colour', 'Extra inputs'],
    ['a description over 2048', A, agent({ description: long(2049) }), 400, '/description', '2048'],
    ['a system prompt over 100,000', A, agent({ system: long(100001) }), 400, '/system', '100000'],
    ['more than 256 tools', A, agent({ tools: Array.from({ length: 257 }, (_, i) => ({ ...LOOKUP, name: `t${i}` })) }), 400, '/tools', '256'],
    ['more than 16 pairs of metadata', A, agent({ metadata: pairs(17) }), 400, { code: 'invalid_metadata' }, '16'],
    ['a metadata key over 64', A, agent({ metadata: { [long(65)]: 'v' } }), 400, { code: 'invalid_metadata' }, '64'],
    ['a metadata value over 512', A, agent({ metadata: { k: long(513) } }), 400, { code: 'invalid_metadata' }, '512'],
    ['a null in new metadata', A, agent({ metadata: { k: null } }), 400, { code: 'invalid_metadata' }, 'metadata'],
    ['an unknown effort', A, agent({ model: { id: 'script/echo', effort: 'heroic' } }), 400, '/model/effort', 'xhigh'],
    ['an unknown speed', A, agent({ model: { id: 'script/echo', speed: 'warp' } }), 400, '/model/speed', 'fast'],
    ['a custom tool named like a built-in', A, custom({ name: 'web_fetch' }), 400, '/tools/0/name', 'built-in'],
    ['a custom tool with the prefix mcp__', A, custom({ name: 'mcp__a' }), 400, '/tools/0/name', 'mcp__'],
    ['a custom tool with the prefix ant__', A, custom({ name: 'ant__a' }), 400, '/tools/0/name', 'ant__'],
    ['a custom tool name over 128', A, custom({ name: long(129) }), 400, '/tools/0/name', '128'],
    ['a custom tool name with a dot', A, custom({ name: 'a.b' }), 400, '/tools/0/name', 'letters'],
    ['a custom tool twice', A, agent({ tools: [LOOKUP, LOOKUP] }), 400, '/tools/1/name', 'twice'],
    ['a custom tool without description', A, custom({ description: '' }), 400, '/tools/0/description', ''],
    ['a schema that is no object', A, custom({ input_schema: { type: 'string' } }), 400, '/tools/0/input_schema/type', 'object'],
    ['a schema with $ref deep inside', A, custom({ input_schema: { type: 'object', properties: { a: { type: 'array', items: { $ref: '#/x' } } } } }), 400, '/tools/0/input_schema', '$ref'],
    ['a schema with oneOf at the top', A, custom({ input_schema: { type: 'object', oneOf: [] } }), 400, '/tools/0/input_schema/oneOf', 'top'],
    ['a schema with anyOf at the top', A, custom({ input_schema: { type: 'object', anyOf: [] } }), 400, '/tools/0/input_schema/anyOf', 'top'],
    ['a schema with allOf at the top', A, custom({ input_schema: { type: 'object', allOf: [] } }), 400, '/tools/0/input_schema/allOf', 'top'],
    ['a property name with a blank', A, custom({ input_schema: { type: 'object', properties: { 'a b': {} } } }), 400, '/tools/0/input_schema/properties/a b', '64'],
    ['a property name over 64', A, custom({ input_schema: { type: 'object', properties: { [long(65)]: {} } } }), 400, null, '64'],
    ['two built-in toolsets', A, agent({ tools: [TOOLSET, TOOLSET] }), 400, '/tools/1/type', 'once'],
    ['an unknown built-in tool', A, config({ name: 'fly' }), 400, '/tools/0/configs/0/name', 'web_search'],
    ['a built-in tool configured twice', A, toolset({ configs: [{ name: 'bash' }, { name: 'bash' }] }), 400, '/tools/0/configs/1/name', 'twice'],
    ['a type that is not the name', A, config({ name: 'bash', type: 'read' }), 400, '/tools/0/configs/0/type', 'bash'],
    ['an unknown policy of a toolset', A, toolset({ default_config: { permission_policy: { type: 'maybe' } } }), 400, '/tools/0/default_config/permission_policy/type', 'always_ask'],
    ['an unknown policy of a tool', A, config({ name: 'bash', permission_policy: { type: 'maybe' } }), 400, '/tools/0/configs/0/permission_policy/type', 'auto'],
    ['an MCP toolset', A, agent({ tools: [{ type: 'mcp_toolset', mcp_server_name: 'm' }] }), 400, '/tools/0/type', 'mcp_toolset'],
    ['an MCP server', A, agent({ mcp_servers: [{ type: 'url', name: 'm', url: 'https://example.com' }] }), 400, '/mcp_servers', 'Not supported'],
    ['skills', A, agent({ skills: [{ type: 'anthropic', skill_id: 'xlsx' }] }), 400, '/skills/0/type', 'POST /v1/skills'],
    ['a roster', A, agent({ multiagent: { type: 'coordinator', agents: [] } }), 400, '/multiagent', 'Not supported'],
    ['an update to a null model', AU, { model: null }, 400, '/model', ''],
    ['an update to a null name', AU, { name: null }, 400, '/name', ''],
    ['an update with version 0', AU, { version: 0, name: 'b' }, 400, '/version', '1'],
    ['an update of an older version', AU, { version: 7, name: 'b' }, 409, '/version', 'version'],
    ['an update of an older version that changes nothing', AU, { version: 7 }, 409, '/version', 'version'],
    ['an update of an archived agent', 'POST /v1/agents/{oldAgent}', { name: 'b' }, 400, null, 'archived'],
    ['an update of nobody', `POST /v1/agents/${NOBODY.agent}`, { name: 'b' }, 404, null, 'not found'],
    ['archiving nobody', `POST /v1/agents/${NOBODY.agent}/archive`, undefined, 404, null, 'not found'],
    ['the versions of nobody', `GET /v1/agents/${NOBODY.agent}/versions`, undefined, 404, null, 'not found'],
    ['a version that is not there', 'GET /v1/agents/{agent}?version=9', undefined, 404, 'version', 'version 9'],
    ['deleting an agent', 'DELETE /v1/agents/{agent}', undefined, 405, 'allow', 'not allowed'],

    // environments, where sessions meet them
    ['an update of an archived environment', 'POST /v1/environments/{oldEnvironment}', { name: 'b' }, 400, { code: 'environment_archived' }, 'archived'],
    ['another type of environment', 'POST /v1/environments/{environment}', { config: { type: 'self_hosted' } }, 400, { code: 'invalid_config_type_change' }, 'type'],
    ['deleting an environment that sessions use', 'DELETE /v1/environments/{used}', undefined, 409, null, 'session'],

    // creating sessions
    ['a session without agent', S, () => ({ environment_id: ids.environment }), 400, '/agent', 'Field required'],
    ['a session without environment', S, () => ({ agent: ids.agent }), 400, '/environment_id', 'Field required'],
    ['a session of nobody', S, create({ agent: NOBODY.agent }), 404, '/agent', 'not found'],
    ['a session of an archived agent', S, () => ({ ...create()(), agent: ids.oldAgent }), 400, '/agent', 'archived'],
    ['a session of a version that is not there', S, () => ({ ...create()(), agent: { type: 'agent', id: ids.agent, version: 9 } }), 404, '/agent', '9'],
    ['version 0 of an agent', S, () => ({ ...create()(), agent: { type: 'agent', id: ids.agent, version: 0 } }), 400, '/agent/version', '1'],
    ['an agent reference of another type', S, () => ({ ...create()(), agent: { type: 'robot', id: ids.agent } }), 400, '/agent/type', 'agent_with_overrides'],
    ['overrides in a plain reference', S, () => ({ ...create()(), agent: { type: 'agent', id: ids.agent, system: 'x' } }), 400, '/agent/system', 'Extra inputs'],
    ['a session in an unknown environment', S, create({ environment_id: NOBODY.env }), 404, '/environment_id', 'not found'],
    ['a session in an archived environment', S, () => ({ ...create()(), environment_id: ids.oldEnvironment }), 400, { code: 'environment_archived' }, 'archived'],
    ['a title that is a number', S, create({ title: 7 }), 400, '/title', 'string'],
    ['17 pairs on a session', S, create({ metadata: pairs(17) }), 400, { code: 'invalid_metadata' }, '16'],
    ['model null', S, override({ model: null }), 400, { code: 'agent_model_required' }, 'agent_model_required'],
    ['a name as override', S, override({ name: 'b' }), 400, '/agent/name', 'Extra inputs'],
    ['an override of a model that nobody takes', S, override({ model: 'nonesuch-9' }), 400, '/agent/model', 'nonesuch-9'],
    ['an override with a bad tool', S, override({ tools: [{ ...LOOKUP, name: 'bash' }] }), 400, '/agent/tools/0/name', 'built-in'],
    ['an override with a toolset without its server', S, override({ mcp_servers: [], tools: [{ type: 'mcp_toolset', mcp_server_name: 'm' }] }), 400, '/agent/tools/0/type', 'mcp_toolset'],
    ['overrides of nobody', S, () => ({ ...create()(), agent: { type: 'agent_with_overrides', id: NOBODY.agent } }), 404, '/agent', 'not found'],
    ['51 initial events', S, create({ initial_events: Array(51).fill(hello) }), 400, I, '50'],
    ['an interrupt at the start', S, create({ initial_events: [hello, interrupt] }), 400, `${I}/1/type`, 'user.message'],
    ['a system message at the start', S, create({ initial_events: [hello, system()] }), 400, `${I}/1/type`, 'user.message'],
    ['a result at the start', S, create({ initial_events: [result('sevt_1')] }), 400, `${I}/0/type`, 'user.message'],
    ['a confirmation at the start', S, create({ initial_events: [confirm('sevt_1', 'allow')] }), 400, `${I}/0/type`, 'user.message'],
    ['an outcome without a rubric at the start', S, create({ initial_events: [{ type: 'user.define_outcome', description: 'd' }] }), 400, `${I}/0/rubric`, 'required'],
    ['two outcomes at the start', S, create({ initial_events: [outcome(), hello, outcome()] }), 400, `${I}/2/type`, 'At most one'],
    ['a rubric that is no file here, at the start', S, create({ initial_events: [outcome({ type: 'file', file_id: NOBODY.file })] }), 404, `${I}/0/rubric/file_id`, 'not found'],
    ['an outcome of a self-hosted session', S, () => ({ ...create({ initial_events: [outcome()] })(), environment_id: ids.hosted }), 400, `${I}/0/type`, 'self-hosted'],
    ['one bad event among good ones', S, create({ initial_events: [hello, say(), hello] }), 400, `${I}/1/content`, ''],
    ['a redacted block at the start', S, create({ initial_events: [say({ type: 'redacted' })] }), 400, `${I}/0/content/0/type`, 'redacted'],
    ['an unknown file at the start', S, () => create({ initial_events: [say(fileBlock('document', NOBODY.file))] })(), 404, `${I}/0/content/0/source/file_id`, 'not found'],
    ['a file of another type at the start', S, () => create({ initial_events: [say(fileBlock('image', 'text'))] })(), 400, `${I}/0/content/0/source/file_id`, 'PNG'],
    ['101 documents from files at the start', S, () => create({ initial_events: [say(...Array(101).fill(fileBlock('document', 'text')))] })(), 400, I, '100'],
    ['a memory store', S, create({ resources: [{ type: 'memory_store', memory_store_id: 'memstore_1' }] }), 400, '/resources/0/type', 'not supported'],
    ['a resource of no kind', S, create({ resources: [{ type: 'volume' }] }), 400, '/resources/0/type', "'file' or 'github_repository'"],
    ['a resource that is no file here', S, create({ resources: [{ type: 'file', file_id: NOBODY.file }] }), 404, '/resources/0/file_id', 'not found'],
    ['501 resources', S, () => create({ resources: Array(501).fill({ type: 'file', file_id: ids.text }) })(), 400, '/resources', '500'],
    ['the way out of the uploads', S, () => create({ resources: [{ type: 'file', file_id: ids.text, mount_path: '/a/../../b' }] })(), 400, '/resources/0/mount_path', '..'],
    ['a relative mount path', S, () => create({ resources: [{ type: 'file', file_id: ids.text, mount_path: 'a' }] })(), 400, '/resources/0/mount_path', 'absolute'],
    ['two files in one place', S, () => create({ resources: ['/a', '/mnt/session/uploads/a'].map((mount_path) => ({ type: 'file', file_id: ids.text, mount_path })) })(), 400, '/resources/1/mount_path', 'same'],
    ['a file below another', S, () => create({ resources: ['/a/b', '/a'].map((mount_path) => ({ type: 'file', file_id: ids.text, mount_path })) })(), 400, '/resources/1/mount_path', 'the other'],
    ['a repository by http', S, create({ resources: [{ type: 'github_repository', url: 'http://example.com/o/r' }] }), 400, '/resources/0/url', 'https'],
    ['a repository with credentials', S, create({ resources: [{ type: 'github_repository', url: 'https://u:p@example.com/o/r' }] }), 400, '/resources/0/url', 'authorization_token'],
    ['a repository without a path', S, create({ resources: [{ type: 'github_repository', url: 'https://example.com/' }] }), 400, '/resources/0/url', 'repository'],
    ['a repository outside of the workspace', S, create({ resources: [{ type: 'github_repository', url: 'https://example.com/o/r', mount_path: '/etc/r' }] }), 400, '/resources/0/mount_path', '/workspace'],
    ['a repository where skills are', S, create({ resources: [{ type: 'github_repository', url: 'https://example.com/o/skills' }] }), 400, '/resources/0/mount_path', 'skills'],
    ['a branch that is an option', S, create({ resources: [{ type: 'github_repository', url: 'https://example.com/o/r', checkout: { type: 'branch', name: '--upload-pack=x' } }] }), 400, '/resources/0/checkout/name', 'branch'],
    ['half a commit', S, create({ resources: [{ type: 'github_repository', url: 'https://example.com/o/r', checkout: { type: 'commit', sha: 'abc' } }] }), 400, '/resources/0/checkout/sha', '40'],
    ['a token of two lines', S, create({ resources: [{ type: 'github_repository', url: 'https://example.com/o/r', authorization_token: 'a\nb' }] }), 400, '/resources/0/authorization_token', 'control'],
    ['a vault', S, create({ vault_ids: ['vlt_1'] }), 400, '/vault_ids', ''],

    // outcomes
    ['an outcome without a description', V, send({ type: 'user.define_outcome', rubric: { type: 'text', content: 'r' } }), 400, '/events/0/description', 'required'],
    ['an outcome of nothing', V, send(outcome(undefined, { description: ' ' })), 400, '/events/0/description', 'blanks'],
    ['a description beyond all reason', V, send(outcome(undefined, { description: long(65537) })), 400, '/events/0/description', '65536'],
    ['an outcome without a rubric', V, send({ type: 'user.define_outcome', description: 'd' }), 400, R, 'required'],
    ['a rubric of no kind', V, send(outcome({ content: 'r' })), 400, `${R}/type`, 'required'],
    ['a rubric of another kind', V, send(outcome({ type: 'url', url: 'x' })), 400, `${R}/type`, "'text' or 'file'"],
    ['an empty rubric', V, send(outcome({ type: 'text', content: '' })), 400, `${R}/content`, '1 character'],
    ['a rubric that is too long', V, send(outcome({ type: 'text', content: long(262145) })), 400, `${R}/content`, '262144'],
    ['a rubric that is no file here', V, rubricFile(NOBODY.file), 404, `${R}/file_id`, 'not found'],
    ['a rubric that is no text', V, rubricFile('badText'), 400, `${R}/file_id`, 'UTF-8'],
    ['a rubric that is an empty file', V, rubricFile('empty'), 400, `${R}/file_id`, 'blanks'],
    ['a rubric that is a large file', V, rubricFile('big'), 400, `${R}/file_id`, 'large'],
    ['a rubric that is a long text', V, rubricFile('longText'), 400, `${R}/file_id`, '262144'],
    ['no iterations', V, send(outcome(undefined, { max_iterations: 0 })), 400, '/events/0/max_iterations', '1 to 20'],
    ['21 iterations', V, send(outcome(undefined, { max_iterations: 21 })), 400, '/events/0/max_iterations', '1 to 20'],
    ['half an iteration', V, send(outcome(undefined, { max_iterations: 1.5 })), 400, '/events/0/max_iterations', 'whole'],
    ['an outcome of a thread', V, send(outcome(undefined, { session_thread_id: NOBODY.sthr })), 400, '/events/0/session_thread_id', 'Extra inputs'],
    ['51 checks', V, send(checked(...Array.from({ length: 51 }, (_, i) => ({ name: `c${i}` })))), 400, `${R}/checks`, '50'],
    ['a check without a command', V, send(checked({ run: undefined })), 400, `${R}/checks/0/run`, 'required'],
    ['two checks of one name', V, send(checked({}, {})), 400, `${R}/checks/1/name`, 'name'],
    ['a check with a broken pattern', V, send(checked({ expect_stdout_matches: '(' })), 400, `${R}/checks/0/expect_stdout_matches`, 'regular expression'],
    ['a check that takes all day', V, send(checked({ timeout_seconds: 601 })), 400, `${R}/checks/0/timeout_seconds`, '1 to 600'],
    ['an exit code that is none', V, send(checked({ expect_exit: -1 })), 400, `${R}/checks/0/expect_exit`, '0 to 255'],
    ['a check with more to say', V, send(checked({ cwd: '/' })), 400, `${R}/checks/0/cwd`, 'Extra inputs'],
    ['two outcomes at once', V, send(outcome(), outcome()), 400, '/events/1/type', 'At most one'],
    ['an outcome before the end of another', events('working'), send(outcome()), 400, '/events/0/type', 'one at a time'],
    ['an outcome before the end of another, with its interrupt', events('working'), send(interrupt, outcome()), 400, '/events/1/type', 'one at a time'],
    ['an outcome of a session with workers', events('away'), send(outcome()), 400, '/events/0/type', 'self-hosted'],
    ['an outcome of an archived session', events('archived'), send(outcome()), 400, null, 'archived'],

    // changing, archiving and deleting sessions
    ['vault ids', U, { vault_ids: ['vlt_1'] }, 400, '/vault_ids', 'reserved for future use'],
    ['no vault ids', U, { vault_ids: [] }, 400, '/vault_ids', 'reserved for future use'],
    ['a budget that was not there', U, { budget }, 400, { code: 'budget_create_only' }, 'budget'],
    ['17 pairs in all', U, { metadata: pairs(17) }, 400, { code: 'invalid_metadata' }, '16'],
    ['a new agent', U, { agent: 'agent_1' }, 400, '/agent', 'object'],
    ['no agent', U, { agent: null }, 400, '/agent', 'object'],
    ['another model', U, { agent: { model: 'script/echo' } }, 400, '/agent/model', 'Extra inputs'],
    ['another system prompt', U, { agent: { system: 'x' } }, 400, '/agent/system', 'Extra inputs'],
    ['tools that are no list', U, { agent: { tools: {} } }, 400, '/agent/tools', 'array'],
    ['a bad tool beside a good title', U, { title: 'new', agent: { tools: [LOOKUP, { ...LOOKUP, name: 'bash' }] } }, 400, '/agent/tools/1/name', 'built-in'],
    ['an MCP server later', U, { agent: { mcp_servers: [{ type: 'url', name: 'm', url: 'https://example.com' }] } }, 400, '/agent/mcp_servers', 'Not supported'],
    ['tools of a running session', 'POST /v1/sessions/{running}', { title: 'new', agent: { tools: [] } }, 400, '/agent', 'running'],
    ['changing an archived session', 'POST /v1/sessions/{archived}', { title: 'new' }, 400, null, 'archived'],
    ['changing nobody', `POST /v1/sessions/${NOBODY.sesn}`, { title: 'new' }, 404, null, 'not found'],
    ['archiving a running session', 'POST /v1/sessions/{running}/archive', undefined, 400, null, 'user.interrupt'],
    ['deleting a running session', 'DELETE /v1/sessions/{running}', undefined, 400, null, 'user.interrupt'],
    ['archiving no session', `POST /v1/sessions/${NOBODY.sesn}/archive`, undefined, 404, null, 'not found'],
    ['deleting no session', `DELETE /v1/sessions/${NOBODY.sesn}`, undefined, 404, null, 'not found'],
    ['reading no session', `GET /v1/sessions/${NOBODY.sesn}`, undefined, 404, null, 'not found'],

    // events: shapes
    ['no list of events', V, {}, 400, '/events', 'Field required'],
    ['an empty list', V, send(), 400, '/events', ''],
    ['1001 events', V, send(...Array(1001).fill(interrupt)), 400, '/events', '1000'],
    ['an unknown type', V, send({ type: 'user.shout' }), 400, '/events/0/type', 'user.message'],
    ['an event of the agent', V, send({ type: 'agent.message', content: [text] }), 400, '/events/0/type', 'user.message'],
    ['an event of the session', V, send({ type: 'session.status_idle' }), 400, '/events/0/type', 'user.message'],
    ['a tool result where the server runs the tools', V, send({ type: 'user.tool_result', tool_use_id: 'sevt_1' }), 400, '/events/0/type', 'self-hosted'],
    ['a message without content', V, send({ type: 'user.message' }), 400, '/events/0/content', 'Field required'],
    ['a message without blocks', V, send(say()), 400, '/events/0/content', ''],
    ['a message with 1001 blocks', V, send(say(...Array(1001).fill(text))), 400, '/events/0/content', '1000'],
    ['a second event that is wrong', V, send(hello, say()), 400, '/events/1/content', ''],
    ['an unknown block', V, send(say({ type: 'smell' })), 400, `${C}/type`, 'document'],
    ['an empty text', V, send(say({ type: 'text', text: '' })), 400, `${C}/text`, ''],
    ['a redacted block', V, send(say({ type: 'redacted' })), 400, `${C}/type`, 'redacted'],
    ['a search result in a message', V, send(say({ type: 'search_result', source: 's', title: 't', content: [], citations: { enabled: false } })), 400, `${C}/type`, 'document'],
    ['an image without source', V, send(say({ type: 'image' })), 400, `${C}/source`, 'Field required'],
    ['an image source of unknown type', V, send(say({ type: 'image', source: { type: 'text', media_type: 'text/plain', data: 'x' } })), 400, `${C}/source/type`, 'file'],
    ['an image of another type', V, send(say({ type: 'image', source: { type: 'base64', media_type: 'image/bmp', data: 'aGk=' } })), 400, `${C}/source/media_type`, 'image/webp'],
    ['an image that is no base64', V, send(say({ type: 'image', source: { type: 'base64', media_type: 'image/png', data: '*' } })), 400, `${C}/source/data`, 'base64'],
    ['an image at no URL', V, send(say({ type: 'image', source: { type: 'url', url: 'ftp://x' } })), 400, `${C}/source/url`, 'http'],
    ['a document of another type', V, send(say({ type: 'document', source: { type: 'base64', media_type: 'text/plain', data: 'aGk=' } })), 400, `${C}/source/media_type`, 'application/pdf'],
    ['a text document that is no text', V, send(say({ type: 'document', source: { type: 'text', media_type: 'text/html', data: 'x' } })), 400, `${C}/source/media_type`, 'text/plain'],
    ['a title that is no string', V, send(say({ type: 'document', title: 5, source: { type: 'url', url: 'https://x' } })), 400, `${C}/title`, 'string'],

    // events: files as sources
    ['a file source without id', V, send(say({ type: 'image', source: { type: 'file' } })), 400, `${C}/source/file_id`, 'Field required'],
    ['an unknown file', V, () => send(say(fileBlock('image', NOBODY.file))), 404, `${C}/source/file_id`, 'not found'],
    ['an id of something else', V, () => send(say(fileBlock('image', ids.agent))), 404, `${C}/source/file_id`, 'not found'],
    ['a text as image', V, () => send(say(text, fileBlock('image', 'text'))), 400, '/events/0/content/1/source/file_id', 'PNG'],
    ['an image as document', V, () => send(say(fileBlock('document', 'png'))), 400, `${C}/source/file_id`, 'PDF'],
    ['an archive as document', V, () => send(say(fileBlock('document', 'zip'))), 400, `${C}/source/file_id`, 'application/zip'],
    ['a text file that is no UTF-8', V, () => send(say(fileBlock('document', 'badText'))), 400, `${C}/source/file_id`, 'UTF-8'],
    ['an empty file', V, () => send(say(fileBlock('document', 'empty'))), 400, `${C}/source/file_id`, 'empty'],
    ['files of more than 20 MB in one message', V, () => send(say(fileBlock('document', 'big'), fileBlock('document', 'big'))), 413, '/events/0/content/1/source/file_id', 'file_'],
    ['101 documents from files', V, () => send(...Array(101).fill(say(fileBlock('document', 'text')))), 400, '/events', '100'],
    ['an unknown file in a result', events('waiting'), () => send(result(ids.waitingUse, fileBlock('image', NOBODY.file))), 404, `${C}/source/file_id`, 'not found'],

    // events: system messages
    ['a system message without content', V, send({ type: 'system.message' }), 400, '/events/0/content', 'Field required'],
    ['a system message without blocks', V, send({ type: 'system.message', content: [] }), 400, '/events/0/content', ''],
    ['a system message of 1001 blocks', V, send(system(...Array(1001).fill(text))), 400, '/events/0/content', '1000'],
    ['a system message with an image', V, send(system({ type: 'image', source: { type: 'url', url: 'https://x' } })), 400, `${C}/type`, 'text'],
    ['a system message with an empty text', V, send(system({ type: 'text', text: '' })), 400, `${C}/text`, ''],
    ['a system message for a thread', V, send({ ...system(), session_thread_id: 'sthr_1' }), 400, '/events/0/session_thread_id', 'Extra inputs'],
    ['two system messages', V, send(hello, system(), system()), 400, '/events/1', 'last'],
    ['a system message that is not the last', V, send(system(), hello), 400, '/events/0', 'last'],
    ['a system message behind an interrupt', V, send(hello, interrupt, system()), 400, '/events/2', 'directly follows'],
    ['a system message behind a confirmation', events('asking'), () => send(confirm(ids.askingUse, 'allow'), system()), 400, '/events/1', 'directly follows'],
    ['a system message alone while a call waits', events('waiting'), send(system()), 400, '/events/0', 'requires_action'],
    ['a system message with a message while a call waits', events('waiting'), send(hello, system()), 400, '/events/1', 'requires_action'],
    ['a system message alone while it runs', events('running'), send(system()), 400, '/events/0', 'running'],
    ['a model that takes none', events('plain'), send(hello, system()), 400, { code: 'model_does_not_support_mid_conversation_system' }, 'claude-sonnet-5'],

    // events: answers
    ['a result of nothing', V, send(result(NOBODY.sevt, text)), 400, '/events/0/custom_tool_use_id', 'No agent.custom_tool_use'],
    ['a result of a message', events('ended'), () => send(result(ids.endedMessage, text)), 400, '/events/0/custom_tool_use_id', 'No agent.custom_tool_use'],
    ['a result of another session', V, () => send(result(ids.waitingUse, text)), 400, '/events/0/custom_tool_use_id', 'No agent.custom_tool_use'],
    ['a result of a built-in call', events('asking'), () => send(result(ids.askingUse, text)), 400, '/events/0/custom_tool_use_id', 'No agent.custom_tool_use'],
    ['a result without id', events('waiting'), send({ type: 'user.custom_tool_result', content: [] }), 400, '/events/0/custom_tool_use_id', 'Field required'],
    ['a result that is a string', events('waiting'), () => send({ ...result(ids.waitingUse), content: 'x' }), 400, '/events/0/content', 'array'],
    ['a result with a redacted block', events('waiting'), () => send(result(ids.waitingUse, { type: 'redacted' })), 400, `${C}/type`, 'redacted'],
    ['a result whose error is a string', events('waiting'), () => send({ ...result(ids.waitingUse), is_error: 'no' }), 400, '/events/0/is_error', 'boolean'],
    ['a good result beside a wrong one', events('waiting'), () => send(result(ids.waitingUse, text), result(NOBODY.sevt)), 400, '/events/1/custom_tool_use_id', 'No agent.custom_tool_use'],
    ['a search result with an image', events('waiting'), () => send(result(ids.waitingUse, { type: 'search_result', source: 's', title: 't', citations: { enabled: false }, content: [{ type: 'image', text: 'x' }] })), 400, `${C}/content/0/type`, 'text'],
    ['a result for an unknown thread', events('waiting'), () => send({ ...result(ids.waitingUse), session_thread_id: NOBODY.sthr }), 404, '/events/0/session_thread_id', 'No thread'],
    ['a confirmation of nothing', V, send(confirm(NOBODY.sevt, 'allow')), 400, '/events/0/tool_use_id', 'No agent.tool_use'],
    ['a confirmation of a custom call', events('waiting'), () => send(confirm(ids.waitingUse, 'allow')), 400, '/events/0/tool_use_id', 'No agent.tool_use'],
    ['a confirmation of another session', V, () => send(confirm(ids.askingUse, 'allow')), 400, '/events/0/tool_use_id', 'No agent.tool_use'],
    ['a confirmation of a call that does not ask', events('denied'), () => send(confirm(ids.deniedUse, 'allow')), 400, '/events/0/tool_use_id', 'does not ask'],
    ['a verdict that is none', events('asking'), () => send(confirm(ids.askingUse, 'maybe')), 400, '/events/0/result', 'deny'],
    ['no verdict', events('asking'), () => send({ type: 'user.tool_confirmation', tool_use_id: ids.askingUse }), 400, '/events/0/result', 'Field required'],
    ['a reason to allow', events('asking'), () => send(confirm(ids.askingUse, 'allow', { deny_message: 'x' })), 400, '/events/0/deny_message', 'denial'],
    ['a confirmation for an unknown thread', events('asking'), () => send(confirm(ids.askingUse, 'allow', { session_thread_id: NOBODY.sthr })), 404, '/events/0/session_thread_id', 'No thread'],
    ['an interrupt of an unknown thread', V, send({ ...interrupt, session_thread_id: NOBODY.sthr }), 404, '/events/0/session_thread_id', 'No thread'],
    ['an interrupt with content', V, send({ ...interrupt, content: [text] }), 400, '/events/0/content', 'Extra inputs'],
    ['a message to an archived session', events('archived'), send(hello), 400, null, 'archived'],
    ['an interrupt of an archived session', events('archived'), send(interrupt), 400, null, 'archived'],
    ['a message to nobody', `POST /v1/sessions/${NOBODY.sesn}/events`, send(hello), 404, null, 'not found'],
    ['a message with a file to nobody', `POST /v1/sessions/${NOBODY.sesn}/events`, () => send(say(fileBlock('document', 'text'))), 404, null, 'Session'],
    ['a system message to nobody', `POST /v1/sessions/${NOBODY.sesn}/events`, send(system()), 404, null, 'Session'],

    // lists
    ...[['agents', 101], ['sessions', 101]].flatMap(([name, over]) => [
        [`${name}: limit 0`, `GET /v1/${name}?limit=0`, undefined, 400, 'limit', '1'],
        [`${name}: a limit over the most`, `GET /v1/${name}?limit=${over}`, undefined, 400, 'limit', String(over - 1)],
        [`${name}: a limit that is none`, `GET /v1/${name}?limit=ten`, undefined, 400, 'limit', 'integer'],
        [`${name}: a cursor that is none`, `GET /v1/${name}?page=rubbish`, undefined, 400, 'page', 'cursor'],
        [`${name}: the cursor of another list`, `GET /v1/${name}?page={page}`, undefined, 400, 'page', 'cursor'],
        [`${name}: a time that is none`, `GET /v1/${name}?created_at[gte]=today`, undefined, 400, 'created_at[gte]', 'RFC 3339'],
        [`${name}: archived, perhaps`, `GET /v1/${name}?include_archived=perhaps`, undefined, 400, 'include_archived', 'true'],
    ]),
    ['versions: a limit over the most', 'GET /v1/agents/{agent}/versions?limit=101', undefined, 400, 'limit', '100'],
    ['versions: a cursor that is none', 'GET /v1/agents/{agent}/versions?page=x', undefined, 400, 'page', 'cursor'],
    ['sessions: an unknown order', 'GET /v1/sessions?order=up', undefined, 400, 'order', 'desc'],
    ['sessions: the cursor of the other order', 'GET /v1/sessions?order=asc&page={sessionsPage}', undefined, 400, 'page', 'order=desc'],
    ['sessions: a range without the cursor', 'GET /v1/sessions?created_at[lt]=2020-01-01T00:00:00Z&page={sessionsPage}', undefined, 400, 'page', 'created_at'],
    ['sessions: an unknown status', 'GET /v1/sessions?statuses[]=idle&statuses[]=asleep', undefined, 400, 'statuses', 'rescheduling'],
    ['sessions: version 0', 'GET /v1/sessions?agent_id={agent}&agent_version=0', undefined, 400, 'agent_version', '1'],
    ['events: limit 0', 'GET /v1/sessions/{ended}/events?limit=0', undefined, 400, 'limit', '1'],
    ['events: limit 1001', 'GET /v1/sessions/{ended}/events?limit=1001', undefined, 400, 'limit', '1000'],
    ['events: an unknown order', 'GET /v1/sessions/{ended}/events?order=up', undefined, 400, 'order', 'asc'],
    ['events: an unknown type', 'GET /v1/sessions/{ended}/events?types[]=user.message&types[]=user.shout', undefined, 400, 'types[]', 'user.shout'],
    ['events: a time that is none', 'GET /v1/sessions/{ended}/events?created_at[lt]=2026-02-30T00:00:00Z', undefined, 400, 'created_at[lt]', 'RFC 3339'],
    ['events: the cursor of the other order', 'GET /v1/sessions/{ended}/events?order=desc&page={page}', undefined, 400, 'page', 'order=asc'],
    ['events: a range that begins behind the cursor', 'GET /v1/sessions/{ended}/events?created_at[gt]={late}&page={page}', undefined, 400, 'page', 'created_at'],
    ['events: a range that ends before the cursor', 'GET /v1/sessions/{ended}/events?created_at[lte]={first}&page={page}', undefined, 400, 'page', 'created_at'],
    ['events: the cursor of sessions', 'GET /v1/sessions/{ended}/events?page={sessionsPage}', undefined, 400, 'page', 'cursor'],
    ['events of nobody', `GET /v1/sessions/${NOBODY.sesn}/events`, undefined, 404, null, 'not found'],
    ['threads: limit 0', 'GET /v1/sessions/{session}/threads?limit=0', undefined, 400, 'limit', '1'],
    ['threads: limit 1001', 'GET /v1/sessions/{session}/threads?limit=1001', undefined, 400, 'limit', '1000'],
    ['threads: a cursor that is none', 'GET /v1/sessions/{session}/threads?page=x', undefined, 400, 'page', 'cursor'],
    ['threads: an unknown status', 'GET /v1/sessions/{session}/threads?statuses[]=asleep', undefined, 400, 'statuses', 'idle'],
    ['threads of nobody', `GET /v1/sessions/${NOBODY.sesn}/threads`, undefined, 404, null, 'not found'],
    ['an unknown thread', `GET /v1/sessions/{session}/threads/${NOBODY.sthr}`, undefined, 404, null, 'Thread'],
    ['the thread of another session', 'GET /v1/sessions/{ended}/threads/{thread}', undefined, 404, null, 'Thread'],

    // self-hosted environments
    ['a self-hosted environment with contents', 'POST /v1/environments', { name: 'b', config: { type: 'self_hosted', packages: {} } }, 400, '/config/packages', 'Extra inputs'],
    ['a key for workers of an environment of ours', 'POST /v1/environments/{environment}/keys', { name: 'w' }, 400, null, 'not self-hosted'],
    ['a key for workers without a name', 'POST /v1/environments/{environment}/keys', {}, 400, '/name', 'Field required'],
    ['work of nobody\'s environment', `GET /v1/environments/${NOBODY.env}/work/stats`, undefined, 404, null, 'not found'],
    ['an item that is not there', 'POST /v1/environments/{environment}/work/work_011111111111111111111111/stop', {}, 404, null, 'not found'],
    ['a result of a tool that the server runs', events('asking'), () => send({ type: 'user.tool_result', tool_use_id: ids.askingUse }), 400, '/events/0/type', 'self-hosted'],
    // streams
    ['a stream of nobody', `GET /v1/sessions/${NOBODY.sesn}/events/stream`, undefined, 404, null, 'not found'],
    ['previews of something else', 'GET /v1/sessions/{session}/events/stream?event_deltas[]=agent.message&event_deltas[]=agent.tool_use', undefined, 400, 'event_deltas', 'agent.thinking'],
    ['101 previews', `GET /v1/sessions/{session}/events/stream?${Array(101).fill('event_deltas[]=agent.message').join('&')}`, undefined, 400, 'event_deltas[]', '100'],
    ['a stream from nowhere', `GET /v1/sessions/{session}/events/stream?from=${NOBODY.sevt}`, undefined, 400, 'from', NOBODY.sevt],
    // forks
    ['a fork of nobody\'s session', `POST /v1/sessions/${NOBODY.sesn}/fork`, {}, 404, null, 'not found'],
    ['a fork at an unknown event', F, { event_id: NOBODY.sevt }, 400, '/event_id', 'No event'],
    ['a fork at another session\'s event', 'POST /v1/sessions/{plain}/fork', () => ({ event_id: ids.endedMessage }), 400, '/event_id', 'No event'],
    ['a fork at no event', F, { event_id: '' }, 400, '/event_id', 'at least 1'],
    ['a fork with a title that is a number', F, { title: 7 }, 400, '/title', 'string'],
    ['a fork with an archived agent', F, () => ({ agent: ids.oldAgent }), 400, '/agent', 'archived'],
    ['a fork with an agent of nobody', F, { agent: NOBODY.agent }, 404, '/agent', 'not found'],
    ['a fork with an override of a field that there is not', F, () => ({ agent: { type: 'agent_with_overrides', id: ids.agent, nope: 1 } }), 400, '/agent/nope', 'Extra inputs'],
    ['a fork into another environment', F, () => ({ environment_id: ids.environment }), 400, '/environment_id', 'Extra inputs'],
    ['there is no such stream of a thread', 'GET /v1/sessions/{session}/threads/{thread}/events/stream', undefined, 404, null, 'Not found'],
];

const TYPE = { 400: 'invalid_request_error', 404: 'not_found_error', 405: 'invalid_request_error', 409: 'conflict_error', 413: 'request_too_large' };
const fill = (line) => line.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(ids[name]));

// What a request could have changed: without the numbers that grow by themselves.
async function state(target) {
    const [, kind, id] = target.match(/^\/v1\/(\w+)(?:\/([^/?]+))?/);
    const paths = id ? [`/v1/${kind}/${id}`] : [`/v1/${kind}?include_archived=true&limit=100`];
    if (kind === 'sessions' && id) paths.push(`/v1/sessions/${id}/events`);
    const answers = [];
    for (const each of paths) {
        const { status, json } = await world.http('GET', each);
        answers.push({ status, json: JSON.stringify(json, (key, value) => (['stats', 'active_seconds', 'request_id'].includes(key) ? undefined : value)) });
    }
    return answers;
}

describe('what is refused', () => {
    for (const [what, line, body, status, where, fragment] of ROWS) {
        test(`${line.split('?')[0]}: ${what}`, async () => {
            const [method, target] = [line.split(' ')[0], fill(line.slice(line.indexOf(' ') + 1))];
            const before = method === 'GET' ? null : await state(target);
            const answer = await world.http(method, target, { body: typeof body === 'function' ? body() : body });
            assert.equal(answer.status, status, answer.text.slice(0, 500));
            assert.equal(answer.json.error.type, TYPE[status]);
            assert.ok(answer.json.error.message.includes(fragment), `'${answer.json.error.message}' does not say '${fragment}'`);
            if (typeof where === 'string') assert.equal(answer.json.error.details?.pointer, where);
            if (where?.code) assert.equal(answer.json.error.details?.error_code, where.code);
            if (status === 409) assert.equal(answer.headers.get('x-should-retry'), 'false');
            if (before) assert.deepEqual(await state(target), before, 'nothing changed');
        });
    }
});

describe('what is too large', () => {
    for (const target of ['/v1/agents', '/v1/sessions', () => `/v1/sessions/${ids.session}/events`]) {
        test(`a body over 32 MB for ${typeof target === 'function' ? 'events' : target}`, async () => {
            const to = typeof target === 'function' ? target() : target;
            const before = await state(to);
            // The server may hang up while the client still writes: then its answer is lost, and only the state tells.
            const answer = await world.http('POST', to, { body: `{"x": "${long(33 * MB)}"}` }).catch(() => undefined);
            if (answer) assert.deepEqual([answer.status, answer.json.error.type], [413, 'request_too_large']);
            assert.deepEqual(await state(to), before);
        });
    }
});

test('without the beta header threads are not there, and the rest says what is missing', async () => {
    const { thread, session } = ids;
    for (const target of [`/v1/sessions/${session}/threads`, `/v1/sessions/${session}/threads/${thread}`]) {
        assert.equal((await world.http('GET', target, { beta: null })).status, 404);
    }
    for (const target of [`/v1/sessions/${session}`, `/v1/sessions/${session}/events`, '/v1/sessions', '/v1/agents']) {
        const answer = await world.http('GET', target, { beta: null });
        assert.equal(answer.status, 400);
        assert.ok(answer.json.error.message.includes(BETA));
    }
});
