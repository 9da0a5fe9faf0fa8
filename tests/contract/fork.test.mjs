// POST /v1/sessions/{id}/fork: a session with the conversation of another one as of any event of its log.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { toFile } from '@anthropic-ai/sdk';
import { message, refused, texts, types, useServer } from '../lib/harness.mjs';

const world = useServer({ config: `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\n` });
const TOOLSET = { type: 'agent_toolset_20260401' };
const LOOKUP = { type: 'custom', name: 'lookup', description: 'Looks a thing up.', input_schema: { type: 'object' } };
const NOBODY = 'sevt_011111111111111111111111';
const CLOSED = ['session.thread_status_idle', 'session.usage', 'session.status_idle'];

const api = () => world.client().beta.sessions;
const fork = (s, body = {}, options = {}) => world.client().post(`/v1/sessions/${s.id}/fork`, { body, ...options });
const session = (extra = {}) => world.session({ agent: { model: 'script/branch', tools: [TOOLSET, LOOKUP] }, ...extra });
const thread = async (s) => (await api().threads.list(s.id)).data[0].id;
const last = (log, type) => log.findLast((e) => e.type === type);

// The log of a session, with its own thread's id in the place of `as`'s.
async function logOf(s, as) {
    const log = await world.http('GET', `/v1/sessions/${s.id}/events?limit=1000`);
    const text = JSON.stringify(log.json.data);
    return JSON.parse(as ? text.replaceAll(await thread(s), await thread(as)) : text);
}

async function asOf(s, event) {
    const log = await logOf(s);
    return log.slice(0, log.findIndex((e) => e.id === event.id) + 1);
}

describe('a fork', () => {
    test('of a session at rest has its conversation and goes its own way', async () => {
        const s = await session({ title: 'first', metadata: { k: 'v' } });
        await world.turn(s.id, 'hello');
        const before = await logOf(s);
        const f = await fork(s);
        assert.equal(f.type, 'session');
        assert.equal(f.status, 'idle');
        assert.notEqual(f.id, s.id);
        assert.deepEqual(f.forked_from, { session_id: s.id, event_id: before.at(-1).id, files_as_of: null });
        assert.equal(f.title, 'first');
        assert.deepEqual(f.metadata, { k: 'v' });
        assert.deepEqual(f.stop_reason, { type: 'end_turn' });
        assert.deepEqual(f.usage, (await api().retrieve(s.id)).usage);
        assert.deepEqual(await logOf(f, s), before);
        assert.notEqual(await thread(f), await thread(s));
        assert.deepEqual(texts(await world.turn(f.id, 'and you')), ['uau']);
        assert.deepEqual(await logOf(s), before, 'the original is as it was');
        assert.equal((await api().retrieve(s.id)).forked_from, undefined);
        assert.deepEqual((await api().retrieve(f.id)).forked_from, f.forked_from);
        assert.deepEqual((await api().list({ limit: 1 })).data[0].forked_from, f.forked_from);
        await api().delete(s.id);
        assert.deepEqual(texts(await world.turn(f.id, 'still there')), ['uauau'], 'it does not need the original');
    });

    test('after each event of a turn with three calls is idle there and goes on', async () => {
        const s = await session();
        await world.turn(s.id, 'three');
        const log = await logOf(s);
        assert.equal(log.filter((e) => e.type === 'agent.tool_result').length, 3);
        const open = (list) => list.filter((e) => e.type === 'agent.tool_use' && !list.some((r) => r.tool_use_id === e.id));
        for (const [i, event] of log.entries()) {
            const f = await fork(s, { event_id: event.id });
            assert.equal(f.forked_from.event_id, event.id);
            assert.equal(f.status, 'idle');
            const prefix = log.slice(0, i + 1), copy = await logOf(f, s);
            assert.deepEqual(copy.slice(0, i + 1), prefix, `the events up to ${event.type}`);
            const start = last(prefix, 'span.model_request_start');
            const span = start && !prefix.some((e) => e.model_request_start_id === start.id);
            const closing = i === log.length - 1 ? [] : [...(span ? ['span.model_request_end'] : []), ...open(prefix).map(() => 'agent.tool_result'), ...CLOSED];
            const added = copy.slice(i + 1);
            assert.deepEqual(types(added), closing, `what closes a turn at ${event.type}`);
            if (span) assert.deepEqual([added[0].is_error, added[0].model_usage.input_tokens], [true, 0]);
            for (const r of added.filter((e) => e.type === 'agent.tool_result')) assert.match(r.content[0].text, /interrupted/);
            assert.deepEqual(f.stop_reason, { type: 'end_turn' });
            const seen = await world.turn(f.id, 'go on');
            assert.match(texts(seen).at(-1), /^u(au)*$/);
        }
        assert.deepEqual(await logOf(s), log, 'the original is as it was');
    });

    test('where a client is waited for waits for it as well', async () => {
        const s = await session();
        const seen = await world.turn(s.id, 'lookup');
        const use = last(seen, 'agent.custom_tool_use');
        const answer = (content) => ({ type: 'user.custom_tool_result', custom_tool_use_id: use.id, content: [{ type: 'text', text: content }] });
        const f = await fork(s, { event_id: seen.at(-1).id });
        assert.deepEqual(f.stop_reason, { type: 'requires_action', event_ids: [use.id] });
        assert.deepEqual(texts(await world.turn(s.id, answer('one'))), ['uau']);
        assert.deepEqual(texts(await world.turn(f.id, answer('two'))), ['uau']);
        assert.deepEqual(last(await logOf(f), 'user.custom_tool_result').content[0].text, 'two');
        const stale = await fork(s, { event_id: last(await logOf(s), 'user.custom_tool_result').id });
        assert.deepEqual(stale.stop_reason, { type: 'end_turn' }, 'nobody would go on with what came after the answer');
    });

    test('of a session whose tools run elsewhere has work of its own', async () => {
        const s = await session({ environment: { config: { type: 'self_hosted' } } });
        const seen = await world.turn(s.id, 'three');
        const uses = seen.filter((e) => e.type === 'agent.tool_use').map((e) => e.id);
        const answers = (content) => uses.map((id) => ({ type: 'user.tool_result', tool_use_id: id, content: [{ type: 'text', text: content }] }));
        const f = await fork(s);
        assert.deepEqual(f.stop_reason, { type: 'requires_action', event_ids: uses });
        assert.deepEqual(texts(await world.turn(f.id, ...answers('mine'))), ['uau']);
        assert.deepEqual(texts(await world.turn(s.id, ...answers('yours'))), ['uau']);
        assert.deepEqual((await logOf(f)).filter((e) => e.type === 'user.tool_result').map((e) => e.content[0].text), ['mine', 'mine', 'mine']);
    });

    test('of a running session leaves it running, and takes nothing that is queued', async () => {
        const s = await world.session({ agent: { model: 'script/slow' } });
        const stream = await world.stream(s.id);
        await world.send(s.id, 'slow');
        await stream.until('span.model_request_start');
        stream.close();
        await world.send(s.id, 'queued');
        const f = await fork(s);
        assert.deepEqual(types(await logOf(f)).slice(-4), ['span.model_request_end', ...CLOSED]);
        assert.equal((await api().retrieve(s.id)).status, 'running');
        assert.deepEqual((await logOf(f)).filter((e) => e.type === 'user.message').length, 1);
        assert.deepEqual(texts(await world.turn(f.id, 'quick')), ['fast']);
        await world.turn(s.id, { type: 'user.interrupt' });
    });

    test('of one without events, and of an archived one', async () => {
        const s = await session();
        const empty = await fork(s);
        assert.deepEqual(empty.forked_from, { session_id: s.id, event_id: null, files_as_of: null });
        assert.equal(empty.stop_reason, null);
        assert.deepEqual(texts(await world.turn(empty.id, 'x')), ['u']);
        await world.turn(s.id, 'hello');
        await api().archive(s.id);
        const log = await logOf(s);
        for (const event of [undefined, log.at(-1), log.at(-2)]) {
            const f = await fork(s, event ? { event_id: event.id } : {});
            assert.equal(f.status, 'idle');
            assert.equal(f.archived_at, null);
            assert.deepEqual(await logOf(f, s), log.slice(0, -2), 'all but its end');
            assert.deepEqual(texts(await world.turn(f.id, 'on')), ['uau']);
        }
    });

    test('behind a compaction, and before it', async () => {
        const s = await session();
        for (const word of ['one', 'two', 'fill', 'again']) await world.turn(s.id, `${'much '.repeat(6000)}${word}`);
        await world.turn(s.id, 'third');
        const log = await logOf(s);
        const at = log.findIndex((e) => e.type === 'agent.thread_context_compacted');
        assert.ok(at > 0);
        for (const i of [at - 1, at, log.length - 1]) {
            const f = await fork(s, { event_id: log[i].id });
            assert.deepEqual((await logOf(f, s)).slice(0, i + 1), log.slice(0, i + 1));
            const seen = await world.turn(f.id, 'on');
            assert.deepEqual(last(seen, 'session.status_idle').stop_reason, { type: 'end_turn' });
        }
        const f = await fork(s);
        assert.deepEqual(texts(await world.turn(f.id, 'on')), texts(await world.turn(s.id, 'on')), 'both have the same conversation');
    });

    test('has what was left of the budget and the limits', async () => {
        const budget = (amount) => ({ type: 'limit', max_list_cost: { amount, currency: 'USD' } });
        const s = await session({ budget: budget('25'), limits: { max_turns: 4 } });
        const first = await world.turn(s.id, 'one');
        await world.turn(s.id, 'two');
        await api().update(s.id, { limits: { max_turns: 9 } });
        await api().update(s.id, { budget: budget('99') });
        const cost = async (x) => (await api().retrieve(x.id)).usage.list_cost;
        const f = await fork(s);
        assert.deepEqual([f.budget, f.limits], [budget('99'), { max_turns: 9 }]);
        assert.deepEqual(await cost(f), await cost(s));
        const early = await fork(s, { event_id: first.at(-1).id });
        assert.equal(early.usage.list_cost.amount, '10');
        assert.deepEqual(early.budget, budget('99'), 'the log says nothing of the first one');
        const log = await logOf(s);
        const half = await fork(s, { event_id: log.find((e) => e.limits).id });
        assert.deepEqual([half.limits, half.budget], [{ max_turns: 9 }, budget('99')]);
        await api().update(s.id, { limits: { max_turns: 20 } });
        const again = await fork(s, { event_id: log.at(-1).id });
        assert.deepEqual(again.limits, { max_turns: 9 }, 'as of the point');
        assert.deepEqual((await api().retrieve(again.id)).limits, { max_turns: 9 });
    });

    test('has the agent as it was there, or the one that is asked for', async () => {
        const s = await session();
        const first = await world.turn(s.id, 'one');
        await api().update(s.id, { agent: { tools: [LOOKUP] } });
        const before = await fork(s, { event_id: first.at(-1).id });
        assert.deepEqual(before.agent.tools, s.agent.tools);
        assert.deepEqual((await fork(s)).agent.tools.map((t) => t.type), ['custom']);

        const other = await world.agent({ name: 'other', model: 'script/seen' });
        const named = await fork(s, { agent: other.id, title: 'renamed' });
        assert.deepEqual([named.agent.id, named.agent.version, named.title], [other.id, 1, 'renamed']);
        assert.match(texts(await world.turn(named.id, 'look'))[0], /^user: text\(one\)\nassistant: text\nuser: text\(look\)/);
        assert.equal((await fork(s, { agent: { type: 'agent', id: other.id, version: 1 }, title: null })).title, null);
        const changed = await fork(s, { agent: { type: 'agent_with_overrides', id: other.id, system: 'Be brief.' } });
        assert.equal(changed.agent.system, 'Be brief.');
    });

    test('has the same files and repositories under ids of its own', async () => {
        const file = await world.client().beta.files.upload({ file: await toFile(Buffer.from('a,b\n'), 'data.csv') });
        const s = await session({ resources: [{ type: 'file', file_id: file.id }, { type: 'file', file_id: file.id, mount_path: '/in/x.csv' }, { type: 'github_repository', url: 'https://git.example.com/team/project.git', authorization_token: 'tok' }] });
        const f = await fork(s);
        assert.equal(f.resources.length, 3);
        for (const [i, r] of f.resources.entries()) {
            assert.notEqual(r.id, s.resources[i].id);
            assert.equal(r.mount_path, s.resources[i].mount_path);
            assert.deepEqual(await api().resources.retrieve(r.id, { session_id: f.id }), r);
        }
        assert.notEqual(f.resources[0].file_id, s.resources[0].file_id);
        assert.deepEqual((await world.client().beta.files.retrieveMetadata(f.resources[0].file_id, { betas: ['managed-agents-2026-04-01'] })).scope, { type: 'session', id: f.id });
        await api().resources.update(f.resources[2].id, { session_id: f.id, authorization_token: 'other' });
        await api().delete(s.id);
        await api().resources.delete(f.resources[1].id, { session_id: f.id });
        const again = await fork(f);
        assert.deepEqual(again.resources.map((r) => r.mount_path), [s.resources[0].mount_path, s.resources[2].mount_path]);
    });

    test('is made once for one Idempotency-Key', async () => {
        const s = await session();
        await world.turn(s.id, 'hello');
        const options = { headers: { 'idempotency-key': `fork-${s.id}` } };
        const one = await fork(s, { title: 'x' }, options);
        await world.turn(s.id, 'more');
        assert.deepEqual(await fork(s, { title: 'x' }, options), one);
        await refused(fork(s, { title: 'y' }, options), 409);
        await api().delete(s.id);
        assert.deepEqual(await fork(s, { title: 'x' }, options), one, 'also when there is nothing to fork any more');
    });

    test('of a fork', async () => {
        const s = await session();
        await world.turn(s.id, 'one');
        const f = await fork(s);
        await world.turn(f.id, 'two');
        const g = await fork(f);
        assert.equal(g.forked_from.session_id, f.id);
        assert.deepEqual(await logOf(g, f), await logOf(f));
        assert.deepEqual(texts(await world.turn(g.id, 'three more')), ['uauau']);
    });
});

describe('refusals', () => {
    const rows = [
        ['an event that there is not', { event_id: NOBODY }, 400, '/event_id', /No event/],
        ['an event of another kind', { event_id: 'x' }, 400, '/event_id', /No event/],
        ['an event that is no text', { event_id: 5 }, 400, '/event_id', /string/],
        ['a title that is too long', { title: 'x'.repeat(1025) }, 400, '/title', /1024/],
        ['an agent that there is not', { agent: 'agent_011111111111111111111111' }, 404, '/agent', /not found/],
        ['an agent of another shape', { agent: 5 }, 400, '/agent', /id or an object/],
        ['a version that there is not', () => ({ agent: { type: 'agent', id: ids.agent, version: 7 } }), 404, '/agent', /version 7/],
        ['an archived agent', () => ({ agent: ids.archived }), 400, '/agent', /archived/],
        ['a field that there is not', { files: true }, 400, '/files', /Extra inputs/],
    ];
    const ids = {};
    for (const [what, body, status, pointer, says] of rows) {
        test(what, async () => {
            if (!ids.session) {
                const [s, old] = [await session(), await world.agent()];
                await world.turn(s.id, 'x');
                await world.client().beta.agents.archive(old.id);
                Object.assign(ids, { session: s, agent: s.agent.id, archived: old.id });
            }
            const error = await refused(fork(ids.session, typeof body === 'function' ? body() : body), status, says);
            assert.equal(error.error.error.details?.pointer, pointer);
        });
    }

    test('a session that there is not, or is another workspace\'s', async () => {
        await refused(fork({ id: 'sesn_011111111111111111111111' }), 404, /not found/);
        await refused(fork({ id: 'x' }), 404, /not found/);
    });

    test('an event that is still queued', async () => {
        const s = await session();
        await world.turn(s.id, 'lookup');
        const { data } = await world.send(s.id, message('wait'));
        await refused(fork(s, { event_id: data[0].id }), 400, /queued/);
    });

    test('an agent without a price where money is capped', async () => {
        const s = await session({ budget: { type: 'limit', max_list_cost: { amount: '25', currency: 'USD' } } });
        const other = await world.agent({ model: 'claude-nobody-knows-9' });
        const error = await refused(fork(s, { agent: other.id }), 400, /no list price/);
        assert.equal(error.error.error.details.pointer, '/agent');
    });

    test('an empty body asks for nothing special', async () => {
        const s = await session();
        const f = await world.http('POST', `/v1/sessions/${s.id}/fork`, { beta: null });
        assert.equal(f.status, 200);
        assert.equal(f.json.forked_from.session_id, s.id);
    });
});
