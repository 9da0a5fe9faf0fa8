// The published reference traces, driven by the official SDKs: the types of a session's whole log, in order.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { message, SDKS, texts, types, useServer } from '../lib/harness.mjs';

const world = useServer({ config: `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\n` });
const TOOLSET = { type: 'agent_toolset_20260401' };
const ASKING = { ...TOOLSET, default_config: { permission_policy: { type: 'always_ask' } } };
const LOOKUP = { type: 'custom', name: 'lookup', description: 'Looks a thing up.', input_schema: { type: 'object' } };
const INTERRUPTED = 'Tool execution was interrupted before completion. Please retry.';

const RUN = ['session.status_running', 'session.thread_status_running'];
const IDLE = ['session.thread_status_idle', 'session.usage', 'session.status_idle'];
const START = 'span.model_request_start';
const END = 'span.model_request_end';
const RETRY = ['session.error', 'session.thread_status_rescheduled', 'session.status_rescheduled', ...RUN];
const interrupt = { type: 'user.interrupt' };
const result = (use, text = 'found') => ({ type: 'user.custom_tool_result', custom_tool_use_id: use.id, content: [{ type: 'text', text }] });
const confirm = (use, verdict) => ({ type: 'user.tool_confirmation', tool_use_id: use.id, result: verdict });
const usesOf = (events) => events.filter((e) => /tool_use$/.test(e.type));

// The older SDK drops what it does not know by name.
const DROPPED = { '1.11.0': [], '0.120.0': ['session.usage'] };

// A session looked at through an SDK: what its stream brings, and that the log says the same.
class Watched {
    static async of(sdk, agent, query) {
        const session = await world.session({ agent });
        const { events } = world.client(sdk).beta.sessions;
        const watched = new Watched();
        Object.assign(watched, { id: session.id, api: events, seen: [], dropped: DROPPED[sdk] });
        watched.stream = await events.stream(session.id, query);
        watched.source = watched.stream[Symbol.asyncIterator]();
        return watched;
    }

    async send(...list) {
        return (await this.api.send(this.id, { events: list.map((e) => (typeof e === 'string' ? message(e) : e)) })).data;
    }

    // What comes up to and with the `nth` event of the type.
    async until(type, nth = 1) {
        const out = [];
        for (let n = 0; n < nth;) {
            const { value, done } = await this.source.next();
            assert.ok(!done, `the stream ended after ${types(this.seen).join(', ')}`);
            out.push(value);
            this.seen.push(value);
            n += value.type === type;
        }
        return out;
    }

    async log() {
        return types(await world.events(this.id));
    }

    // The whole log has these types, one after the other, and the stream brought the same events.
    async expect(...wanted) {
        this.stream.controller.abort();
        const log = await world.events(this.id);
        assert.deepEqual(types(log), wanted.flat());
        const streamed = this.seen.filter((e) => !['event_start', 'event_delta'].includes(e.type));
        assert.deepEqual(log.filter((e) => !this.dropped.includes(e.type)).slice(0, streamed.length), streamed);
        for (const e of log.filter((each) => /status_idle$/.test(each.type))) assert.equal(e.stop_details, null);
        return log;
    }
}

const idles = (log) => log.filter((e) => e.type === 'session.status_idle').map((e) => e.stop_reason);

for (const sdk of Object.keys(SDKS)) {
    const watch = (agent, query) => Watched.of(sdk, agent, query);

    describe(`with SDK ${sdk}`, () => {
        test('A: a plain turn', async () => {
            const s = await watch({ model: 'script/think' }, { event_deltas: ['agent.message', 'agent.thinking'] });
            const [sent] = await s.send('hello');
            assert.equal(sent.processed_at, null);
            await s.until('session.status_idle');
            const streamed = types(s.seen).filter((t, i, all) => t !== all[i - 1]);
            const wanted = [...RUN, 'user.message', START, 'event_start', 'event_delta', 'agent.thinking', 'agent.message', END, ...IDLE];
            assert.deepEqual(streamed, wanted.filter((t) => !s.dropped.includes(t)));
            const log = await s.expect(RUN, 'user.message', START, 'agent.thinking', 'agent.message', END, IDLE);
            assert.equal(log[2].id, sent.id);
            assert.deepEqual(idles(log), [{ type: 'end_turn' }]);
            assert.equal(log.find((e) => e.type === END).model_request_start_id, log.find((e) => e.type === START).id);
            assert.deepEqual(Object.keys(log.find((e) => e.type === 'agent.thinking')).toSorted(), ['id', 'processed_at', 'type']);
        });

        test('A: two turns', async () => {
            const s = await watch({ model: 'script/echo' });
            const turn = [RUN, 'user.message', START, 'agent.message', END, IDLE].flat();
            await s.send('one');
            await s.until('session.status_idle');
            await s.send('two');
            await s.until('session.status_idle');
            await s.expect(turn, turn);
        });

        test('A: messages sent together are one turn', async () => {
            const s = await watch({ model: 'script/echo' });
            await s.send('one', 'two');
            await s.until('session.status_idle');
            await s.expect(RUN, 'user.message', 'user.message', START, 'agent.message', END, IDLE);
        });

        test('B: a built-in tool', async () => {
            const s = await watch({ model: 'script/call', tools: [TOOLSET] });
            await s.send('bash {"command": "echo ran"}');
            await s.until('session.status_idle');
            const log = await s.expect(RUN, 'user.message', START, 'agent.tool_use', END, 'agent.tool_result', START, 'agent.message', END, IDLE);
            const [use] = usesOf(log);
            assert.deepEqual([use.evaluated_permission, use.evaluation], ['allow', { type: 'always_allow' }]);
            assert.equal(log[6].tool_use_id, use.id);
            assert.deepEqual(texts(log), ['ok: ran']);
        });

        test('B: a tool that is not enabled is denied, and the turn goes on', async () => {
            const s = await watch({ model: 'script/call', tools: [{ ...TOOLSET, default_config: { enabled: false } }] });
            await s.send('bash {"command": "echo ran"}');
            await s.until('session.status_idle');
            const log = await s.expect(RUN, 'user.message', START, 'agent.tool_use', END, 'agent.tool_result', START, 'agent.message', END, IDLE);
            assert.equal(usesOf(log)[0].evaluated_permission, 'deny');
            assert.ok(!usesOf(log)[0].evaluation);
            assert.equal(log[6].is_error, true);
        });

        test('C: a custom tool', async () => {
            const s = await watch({ model: 'script/call', tools: [LOOKUP] });
            await s.send('lookup {}');
            const [use] = usesOf(await s.until('session.status_idle'));
            const [echo] = await s.send(result(use));
            assert.ok(echo.processed_at, 'a result is processed on its receipt');
            await s.until('session.status_idle');
            const log = await s.expect(RUN, 'user.message', START, 'agent.custom_tool_use', END, IDLE, 'user.custom_tool_result', RUN, START, 'agent.message', END, IDLE);
            assert.deepEqual(idles(log), [{ type: 'requires_action', event_ids: [use.id] }, { type: 'end_turn' }]);
            assert.deepEqual(log.filter((e) => e.type === 'session.thread_status_idle').map((e) => e.stop_reason), idles(log));
        });

        test('C: of two calls, one answered, then the other, then both again', async () => {
            const s = await watch({ model: 'script/pair', tools: [LOOKUP] });
            await s.send('go');
            const uses = usesOf(await s.until('session.status_idle'));
            await s.send(result(uses[1]));
            await s.until('session.status_idle');
            await s.send(result(uses[0]));
            await s.until('session.status_idle');
            for (const use of uses) assert.equal((await s.send(result(use, 'again'))).length, 1);
            await s.until('user.custom_tool_result', 2);
            const log = await s.expect(RUN, 'user.message', START, 'agent.custom_tool_use', 'agent.custom_tool_use', END, IDLE, 'user.custom_tool_result', IDLE, 'user.custom_tool_result', RUN, START, 'agent.message', END, IDLE, 'user.custom_tool_result', 'user.custom_tool_result');
            assert.deepEqual(idles(log), [{ type: 'requires_action', event_ids: uses.map((u) => u.id) }, { type: 'requires_action', event_ids: [uses[0].id] }, { type: 'end_turn' }]);
            assert.deepEqual(texts(log), ['done: 2']);
        });

        test('C: two clients answer at once, each also what the other answers', async () => {
            const s = await watch({ model: 'script/pair', tools: [LOOKUP] });
            await s.send('go');
            const uses = usesOf(await s.until('session.status_idle'));
            await Promise.all([s.send(result(uses[0], 'a'), result(uses[1], 'a')), s.send(result(uses[1], 'b'), result(uses[0], 'b'), result(uses[0], 'b'))]);
            for (;;) {
                const seen = await s.until('session.status_idle');
                if (seen.at(-1).stop_reason.type === 'end_turn') break;
            }
            s.stream.controller.abort();
            const log = await world.events(s.id);
            assert.equal(log.filter((e) => e.type === START).length, 2);
            assert.deepEqual(texts(log), ['done: 2']);
            assert.equal((await world.client(sdk).beta.sessions.retrieve(s.id)).status, 'idle');
        });

        test('C: a call that asks, allowed and denied, each repeated', async () => {
            for (const [verdict, said] of [['allow', /^ok: ran/], ['deny', /^error: /]]) {
                const s = await watch({ model: 'script/call', tools: [ASKING] });
                await s.send('bash {"command": "echo ran"}');
                const [use] = usesOf(await s.until('session.status_idle'));
                assert.equal(use.evaluated_permission, 'ask');
                await s.send(confirm(use, verdict));
                await s.until('session.status_idle');
                await s.send(confirm(use, verdict));
                await s.until('user.tool_confirmation');
                // The result of a denied call is there at once, that of an allowed one when it ran.
                const answered = verdict === 'allow' ? [RUN, 'agent.tool_result'] : ['agent.tool_result', RUN];
                const log = await s.expect(RUN, 'user.message', START, 'agent.tool_use', END, IDLE, 'user.tool_confirmation', ...answered, START, 'agent.message', END, IDLE, 'user.tool_confirmation');
                assert.match(texts(log)[0], said);
            }
        });

        test('C: both kinds wait in one list', async () => {
            const s = await watch({ model: 'script/mixed', tools: [ASKING, LOOKUP] });
            await s.send('go');
            const uses = usesOf(await s.until('session.status_idle'));
            assert.deepEqual(s.seen.at(-1).stop_reason.event_ids, uses.map((u) => u.id));
            await s.send(confirm(uses[0], 'deny'), result(uses[1]));
            const rest = types(await s.until('session.status_idle'));
            s.stream.controller.abort();
            assert.deepEqual(rest.filter((t) => t !== 'agent.tool_result'), ['user.tool_confirmation', 'user.custom_tool_result', ...RUN, START, 'agent.message', END, ...IDLE].filter((t) => !s.dropped.includes(t)));
        });

        test('C: an answer that comes before the session asks for it', async () => {
            const s = await watch({ model: 'script/mixed', tools: [TOOLSET, LOOKUP] });
            await s.send('go');
            const use = (await s.until('agent.custom_tool_use')).at(-1);
            await s.send(result(use));
            for (;;) {
                const seen = await s.until('session.status_idle');
                if (seen.at(-1).stop_reason.type === 'end_turn') break;
            }
            s.stream.controller.abort();
            const log = await world.events(s.id);
            assert.deepEqual(texts(log), ['ok: found; ok: ran']);
            assert.equal(log.filter((e) => e.type === 'user.custom_tool_result').length, 1);
            assert.equal(log.filter((e) => e.type === 'agent.tool_result').length, 1);
        });

        test('D: an interrupt while the model answers, with and without a message behind it', async () => {
            for (const behind of [[], ['go']]) {
                const s = await watch({ model: 'script/trickle' }, { event_deltas: ['agent.message'] });
                await s.send('begin');
                await s.until('event_delta');
                const sent = await s.send(interrupt, ...behind);
                assert.ok(sent.every((e) => e.processed_at === null));
                await s.until('session.status_idle', 1 + behind.length);
                const next = behind.length ? [RUN, 'user.message', START, 'agent.message', END, IDLE] : [];
                const log = await s.expect(RUN, 'user.message', START, END, 'user.interrupt', IDLE, ...next);
                assert.ok(idles(log).every((r) => r.type === 'end_turn'));
                const { event } = s.seen.find((e) => e.type === 'event_start');
                assert.ok(!log.some((e) => e.id === event.id), 'the event of the preview never comes');
            }
        });

        test('D: an interrupt jumps the queue', async () => {
            const s = await watch({ model: 'script/slow' });
            await s.send('slow');
            await s.until(START);
            await s.send('queued');
            await s.send(interrupt);
            await s.until('session.status_idle', 2);
            await s.expect(RUN, 'user.message', START, END, 'user.interrupt', IDLE, RUN, 'user.message', START, 'agent.message', END, IDLE);
        });

        test('D: an interrupt while a tool runs', async () => {
            for (const behind of [[], ['run: echo next']]) {
                const s = await watch({ model: 'script/shell', tools: [TOOLSET] });
                await s.send('run: sleep 1000');
                await s.until(END);
                await s.send(interrupt, ...behind);
                await s.until('session.status_idle', 1 + behind.length);
                const next = behind.length ? [RUN, 'user.message', START, 'agent.tool_use', END, 'agent.tool_result', START, 'agent.message', END, IDLE] : [];
                const log = await s.expect(RUN, 'user.message', START, 'agent.tool_use', END, 'agent.tool_result', 'user.interrupt', IDLE, ...next);
                const closed = log.find((e) => e.type === 'agent.tool_result');
                assert.deepEqual([closed.is_error, closed.content[0].text], [true, INTERRUPTED]);
            }
        });

        for (const [what, model, tools, text] of [['a result', 'script/pair', [LOOKUP], 'go'], ['a confirmation', 'script/call', [ASKING], 'bash {"command": "echo ran"}'], ['both', 'script/mixed', [ASKING, LOOKUP], 'go']]) {
            test(`D: an interrupt while the session waits for ${what}`, async () => {
                const s = await watch({ model, tools });
                await s.send(text);
                const seen = await s.until('session.status_idle');
                const [uses, before] = [usesOf(seen), await s.log()];
                assert.equal(seen.at(-1).stop_reason.type, 'requires_action');
                await s.send(interrupt);
                await s.until('session.status_idle');
                const log = await s.expect(before, uses.map(() => 'agent.tool_result'), 'user.interrupt', IDLE);
                const closed = log.filter((e) => e.type === 'agent.tool_result');
                assert.deepEqual(closed.map((e) => e.tool_use_id), uses.map((u) => u.id));
                assert.ok(closed.every((e) => e.is_error && e.content[0].text === INTERRUPTED));
                assert.equal(idles(log).at(-1).type, 'end_turn');
            });
        }

        test('D: an interrupt while the session waits, with a message queued before it', async () => {
            const s = await watch({ model: 'script/call', tools: [LOOKUP] });
            await s.send('lookup {}');
            await s.until('session.status_idle');
            const before = await s.log();
            const [queued] = await s.send('never mind');
            await s.send(interrupt);
            await s.until('session.status_idle', 2);
            const log = await s.expect(before, 'agent.tool_result', 'user.interrupt', IDLE, RUN, 'user.message', START, 'agent.message', END, IDLE);
            assert.equal(log.filter((e) => e.type === 'user.message').at(-1).id, queued.id);
            assert.deepEqual(idles(log).map((r) => r.type), ['requires_action', 'end_turn', 'end_turn']);
        });

        test('D: an interrupt beside the answer to a call', async () => {
            const s = await watch({ model: 'script/call', tools: [LOOKUP] });
            await s.send('lookup {}');
            const [use] = usesOf(await s.until('session.status_idle'));
            const before = await s.log();
            await s.send(result(use), interrupt);
            await s.until('session.status_idle');
            const log = await world.events(s.id);
            const after = types(log).slice(before.length).filter((t) => t !== 'user.custom_tool_result' && t !== 'agent.tool_result');
            s.stream.controller.abort();
            assert.deepEqual(after, ['user.interrupt', ...IDLE]);
            assert.deepEqual(idles(log).at(-1), { type: 'end_turn' });
        });

        test('D: an answer that comes after the interrupt changes nothing', async () => {
            const s = await watch({ model: 'script/call', tools: [LOOKUP] });
            await s.send('lookup {}');
            const [use] = usesOf(await s.until('session.status_idle'));
            const before = await s.log();
            await s.send(interrupt);
            await s.until('session.status_idle');
            await s.send(result(use));
            await s.until('user.custom_tool_result');
            await s.expect(before, 'agent.tool_result', 'user.interrupt', IDLE, 'user.custom_tool_result');
            assert.equal((await world.client(sdk).beta.sessions.retrieve(s.id)).status, 'idle');
        });

        test('D: an interrupt while the next attempt is waited for', async () => {
            for (const behind of [[], ['ok']]) {
                const s = await watch({ model: 'script/fail' });
                await s.send('overloaded');
                await s.until('session.status_rescheduled');
                await s.send(interrupt, ...behind);
                await s.until('session.status_idle', 1 + behind.length);
                const log = types(await world.events(s.id));
                const retries = log.filter((t) => t === 'session.error').length;
                // However many attempts there were until it arrived: it ends the wait behind the last one.
                const attempts = Array.from({ length: retries - 1 }, () => [START, END, ...RETRY]).flat();
                const next = behind.length ? [RUN, 'user.message', START, 'agent.message', END, IDLE] : [];
                await s.expect(RUN, 'user.message', attempts, START, END, RETRY.slice(0, 3), 'user.interrupt', IDLE, ...next);
            }
        });

        test('D: an interrupt of an idle session', async () => {
            const s = await watch({ model: 'script/echo' });
            await s.send('one');
            await s.until('session.status_idle');
            const before = await s.log();
            await s.send(interrupt);
            await s.until('user.interrupt');
            await s.send('two');
            await s.until('session.status_idle');
            await s.expect(before, 'user.interrupt', before);
        });

        test('D: an interrupt of a session that never ran, and of its thread by name', async () => {
            const s = await watch({ model: 'script/slow' });
            await s.send(interrupt);
            await s.until('user.interrupt');
            await s.send('slow');
            await s.until(START);
            const thread = (await world.http('GET', `/v1/sessions/${s.id}/threads`)).json.data[0].id;
            await s.send({ ...interrupt, session_thread_id: thread });
            await s.until('session.status_idle');
            const log = await s.expect('user.interrupt', RUN, 'user.message', START, END, 'user.interrupt', IDLE);
            assert.equal(log[6].session_thread_id, thread);
        });

        test('J: a model that fails and comes back', async () => {
            const s = await watch({ model: 'script/fail' });
            await s.send('overloaded');
            await s.until('session.status_rescheduled');
            await s.send('ok');
            await s.until('session.status_idle');
            const log = await world.events(s.id);
            const errors = log.filter((e) => e.type === 'session.error');
            assert.ok(errors.every((e) => e.error.retry_status.type === 'retrying' && e.error.type === 'model_overloaded_error'));
            await s.expect(RUN, 'user.message', errors.flatMap(() => [START, END, ...RETRY]), 'user.message', START, 'agent.message', END, IDLE);
            assert.deepEqual(texts(log), ['fine']);
        });

        test('J: a model that does not come back; the next message begins a new turn', async () => {
            const s = await watch({ model: 'script/fail' });
            await s.send('overloaded');
            await s.until('session.status_idle');
            await s.send('ok');
            await s.until('session.status_idle');
            const tries = Array.from({ length: 4 }, () => [START, END, ...RETRY]).flat();
            const log = await s.expect(RUN, 'user.message', tries, START, END, 'session.error', IDLE, RUN, 'user.message', START, 'agent.message', END, IDLE);
            const errors = log.filter((e) => e.type === 'session.error').map((e) => e.error.retry_status.type);
            assert.deepEqual(errors, ['retrying', 'retrying', 'retrying', 'retrying', 'exhausted']);
            assert.ok(log.filter((e) => e.type === END).slice(0, 5).every((e) => e.is_error));
            assert.deepEqual(idles(log), [{ type: 'retries_exhausted' }, { type: 'end_turn' }]);
        });

        for (const [kind, type, retried] of [
            ['rate_limited', 'model_rate_limited_error', true], ['failed', 'model_request_failed_error', true], ['overloaded', 'model_overloaded_error', true],
            ['request', 'model_request_failed_error', false], ['auth', 'model_request_failed_error', false], ['billing', 'billing_error', false],
        ]) {
            test(`J: ${kind} is a ${type}, ${retried ? 'tried five times' : 'not tried again'}`, async () => {
                const s = await watch({ model: 'script/fail' });
                await s.send(kind);
                await s.until('session.status_idle');
                const errors = (await world.events(s.id)).filter((e) => e.type === 'session.error');
                assert.deepEqual([...new Set(errors.map((e) => e.error.type))], [type]);
                assert.equal(errors.length, retried ? 5 : 1);
                assert.equal(errors.at(-1).error.retry_status.type, 'exhausted');
                const tries = Array.from({ length: errors.length - 1 }, () => [START, END, ...RETRY]).flat();
                const log = await s.expect(RUN, 'user.message', tries, START, END, 'session.error', IDLE);
                assert.deepEqual(idles(log), [{ type: 'retries_exhausted' }]);
            });
        }

        test('J: what was queued behind a turn that dies goes with it', async () => {
            const s = await watch({ model: 'script/stop' });
            await s.send('wait');
            await s.until(START);
            await s.send('queued');
            const seen = await s.until('session.status_idle');
            assert.equal(seen.at(-1).stop_reason.type, 'retries_exhausted');
            await s.expect(RUN, 'user.message', START, END, 'session.error', 'user.message', IDLE);
            assert.equal((await world.client(sdk).beta.sessions.retrieve(s.id)).status, 'idle');
        });

        test('K: archive', async () => {
            const s = await watch({ model: 'script/echo' });
            await s.send('one');
            await s.until('session.status_idle');
            const before = await s.log();
            await world.client(sdk).beta.sessions.archive(s.id);
            await s.until('session.status_terminated');
            await s.expect(before, 'session.thread_status_terminated', 'session.status_terminated');
        });

        test('K: archive of a session that waits for an answer', async () => {
            const s = await watch({ model: 'script/call', tools: [LOOKUP] });
            await s.send('lookup {}');
            await s.until('session.status_idle');
            const before = await s.log();
            const archived = await world.client(sdk).beta.sessions.archive(s.id);
            assert.equal(archived.status, 'terminated');
            await s.until('session.status_terminated');
            await s.expect(before, 'session.thread_status_terminated', 'session.status_terminated');
        });

        test('K: delete ends the stream', async () => {
            const s = await watch({ model: 'script/echo' });
            await s.send('one');
            await s.until('session.status_idle');
            await world.client(sdk).beta.sessions.delete(s.id);
            assert.deepEqual(types(await s.until('session.deleted')), ['session.deleted']);
            assert.equal((await s.source.next()).done, true);
        });
    });
}
