// The event log: sending, listing, filters, cursors, idle rules, interrupts, errors of the model.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { refused, texts, types, useServer } from '../lib/harness.mjs';

const world = useServer({ config: `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\n` });
const TOOLSET = [{ type: 'agent_toolset_20260401' }];

describe('listing', () => {
    test('ascending by default, descending on request, times strictly growing', async () => {
        const session = await world.session();
        await world.turn(session.id, 'one');
        await world.turn(session.id, 'two');
        const log = await world.events(session.id);
        const times = log.map((e) => e.processed_at);
        for (let i = 1; i < times.length; i++) assert.ok(times[i - 1] < times[i], `${times[i - 1]} then ${times[i]}`);
        assert.equal(new Set(log.map((e) => e.id)).size, log.length);
        assert.deepEqual(await world.events(session.id, { order: 'desc' }), log.toReversed());
    });

    test('cursors walk the log without gap or repeat in both orders', async () => {
        const session = await world.session();
        await world.turn(session.id, 'walk');
        const log = await world.events(session.id);
        for (const order of ['asc', 'desc']) {
            for (const limit of [1, 2, 5]) {
                const expected = order === 'asc' ? log : log.toReversed();
                assert.deepEqual(await world.events(session.id, { order, limit }), expected, `${order} by ${limit}`);
            }
        }
    });

    test('only the types asked for', async () => {
        const session = await world.session();
        await world.turn(session.id, 'filter');
        const some = await world.events(session.id, { types: ['user.message', 'agent.message'] });
        assert.deepEqual(types(some), ['user.message', 'agent.message']);
        assert.deepEqual(await world.events(session.id, { types: ['agent.tool_use'] }), []);
        const paged = await world.events(session.id, { types: ['user.message', 'agent.message'], limit: 1 });
        assert.deepEqual(paged, some);
    });

    test('created_at compares processed_at, with and without equality', async () => {
        const session = await world.session();
        await world.turn(session.id, 'time');
        const log = await world.events(session.id);
        const at = log[3].processed_at;
        assert.deepEqual(await world.events(session.id, { 'created_at[gt]': at }), log.slice(4));
        assert.deepEqual(await world.events(session.id, { 'created_at[gte]': at }), log.slice(3));
        assert.deepEqual(await world.events(session.id, { 'created_at[lt]': at }), log.slice(0, 3));
        assert.deepEqual(await world.events(session.id, { 'created_at[lte]': at }), log.slice(0, 4));
        const withOffset = at.replace('Z', '+00:00');
        assert.deepEqual(await world.events(session.id, { 'created_at[gt]': withOffset }), log.slice(4));
    });

    test('a cursor of another order is refused', async () => {
        const session = await world.session();
        await world.turn(session.id, 'x');
        const page = (await world.http('GET', `/v1/sessions/${session.id}/events?limit=2`)).json;
        const other = await world.http('GET', `/v1/sessions/${session.id}/events?limit=2&order=desc&page=${page.next_page}`);
        assert.equal(other.status, 400);
        const foreign = await world.http('GET', `/v1/sessions?page=${page.next_page}`);
        assert.equal(foreign.status, 400);
    });

    test('queued events are listed last, with no time', async () => {
        const session = await world.session({ agent: { model: 'script/slow' } });
        const stream = await world.stream(session.id);
        await world.send(session.id, 'slow');
        await stream.until('span.model_request_start');
        const sent = await world.send(session.id, 'queued one', 'queued two');
        assert.deepEqual(sent.data.map((e) => e.processed_at), [null, null]);
        const log = await world.events(session.id);
        assert.deepEqual(log.slice(-2), sent.data);
        assert.deepEqual(await world.events(session.id, { limit: 1 }), log);
        await world.send(session.id, { type: 'user.interrupt' });
        await stream.until((e) => e.type === 'agent.message');
        await stream.until('session.status_idle');
        stream.close();
        assert.ok((await world.events(session.id)).every((e) => e.processed_at !== null));
    });
});

// A log of two turns with one event queued behind: what each query finds of it.
describe('one log, many questions', () => {
    let log, queued, session;
    const ask = async (query) => (await world.http('GET', `/v1/sessions/${session.id}/events?${query}`)).json;
    const ids = (list) => list.map((e) => e.id);

    test('(the log is made)', async () => {
        session = await world.session({ agent: { model: 'script/slow' } });
        await world.turn(session.id, 'one');
        const stream = await world.stream(session.id);
        await world.send(session.id, 'slow');
        await stream.until('span.model_request_start');
        stream.close();
        queued = (await world.send(session.id, 'queued')).data;
        log = (await world.events(session.id)).filter((e) => e.processed_at);
        assert.deepEqual(ids((await ask('')).data), ids([...log, ...queued]));
    });

    const at = (i) => encodeURIComponent(log.at(i).processed_at);
    const messages = (list) => list.filter((e) => e.type === 'user.message');
    for (const [what, query, expected] of [
        ['descending: the queued ones stay last', () => 'order=desc', () => [...log.toReversed(), ...queued]],
        ['one type', () => 'types[]=user.message', () => [...messages(log), ...queued]],
        ['one type without brackets', () => 'types=user.message', () => [...messages(log), ...queued]],
        ['one type, percent-encoded', () => 'types%5B%5D=user.message', () => [...messages(log), ...queued]],
        ['a type that is not there', () => 'types[]=agent.mcp_tool_use', () => []],
        ['two types, descending', () => 'types[]=agent.message&types[]=session.status_idle&order=desc', () => log.filter((e) => ['agent.message', 'session.status_idle'].includes(e.type)).toReversed()],
        ['a range has no queued ones', () => `created_at[gte]=${at(0)}`, () => log],
        ['a range from both sides', () => `created_at[gt]=${at(1)}&created_at[lt]=${at(5)}`, () => log.slice(2, 5)],
        ['a closed range, descending', () => `created_at[gte]=${at(1)}&created_at[lte]=${at(5)}&order=desc`, () => log.slice(1, 6).toReversed()],
        ['a range and a type', () => `created_at[gt]=${at(3)}&types[]=user.message`, () => messages(log.slice(4))],
        ['an empty range', () => `created_at[gt]=${at(3)}&created_at[lt]=${at(3)}`, () => []],
        ['a time before all time', () => 'created_at[lt]=1970-01-01T00:00:00Z', () => []],
        ['?beta=true', () => 'beta=true&limit=1000', () => [...log, ...queued]],
    ]) {
        test(`${what}`, async () => {
            const wanted = expected();
            const whole = await ask(query());
            assert.deepEqual(ids(whole.data), ids(wanted));
            assert.equal(whole.next_page, null);
            // The same in pages, whose size changes on the way; the last page says that it is the last.
            const found = [];
            let page = '';
            for (let n = 1; page !== null; n++) {
                const { data, next_page: next } = await ask(`${query()}&limit=${(n % 3) + 1}${page && `&page=${page}`}`);
                assert.ok(data.length > 0 || next === null, 'no empty page but the last');
                assert.notEqual(next, page, 'a cursor that repeats would loop for ever');
                found.push(...data);
                page = next;
            }
            assert.deepEqual(ids(found), ids(wanted));
        });
    }

    test('types and ranges may change between pages', async () => {
        const { next_page: page } = await ask('limit=3');
        const rest = await ask(`types[]=session.status_idle&created_at[gte]=${at(0)}&page=${page}`);
        assert.deepEqual(ids(rest.data), ids(log.slice(3).filter((e) => e.type === 'session.status_idle')));
    });
});

describe('sending', () => {
    test('the answer is one event for each input, in order, with fresh ids', async () => {
        const session = await world.session();
        const sent = await world.send(session.id, 'a', 'b', 'c');
        assert.deepEqual(sent.data.map((e) => e.content[0].text), ['a', 'b', 'c']);
        assert.equal(new Set(sent.data.map((e) => e.id)).size, 3);
        await world.idle(session.id);
        const log = await world.events(session.id, { types: ['user.message'] });
        assert.deepEqual(log.map((e) => e.id), sent.data.map((e) => e.id));
    });

    test('several queued messages become one turn', async () => {
        const session = await world.session();
        const seen = await world.turn(session.id, 'first', 'second');
        assert.equal(seen.filter((e) => e.type === 'span.model_request_start').length, 1);
        assert.equal(seen.filter((e) => e.type === 'user.message').length, 2);
        assert.match(texts(seen)[0], /second/);
    });

    test('all or nothing: one bad event refuses the whole send', async () => {
        const session = await world.session();
        await refused(world.send(session.id, 'good', { type: 'user.message', content: [] }), 400, /events.1.content/);
        assert.deepEqual(await world.events(session.id), []);
        assert.equal((await world.client().beta.sessions.retrieve(session.id)).status, 'idle');
    });

    test('text survives byte for byte', async () => {
        const session = await world.session();
        const odd = 'tab\t nul-free \u0001 "quotes" \\ / \u2028 emoji 🐎 é ' + 'x'.repeat(5000);
        const seen = await world.turn(session.id, odd);
        assert.equal(seen.find((e) => e.type === 'user.message').content[0].text, odd);
        assert.deepEqual(texts(seen), [odd]);
    });

    test('text before tool calls comes first', async () => {
        const session = await world.session({ agent: { model: 'script/two', tools: TOOLSET } });
        const seen = await world.turn(session.id, 'go');
        assert.deepEqual(texts(seen), ['two at once', 'done: 2']);
        const order = types(seen);
        assert.ok(order.indexOf('agent.message') < order.indexOf('agent.tool_use'));
    });
});

describe('tools', () => {
    test('two calls of one answer run and both results come before the next request', async () => {
        const session = await world.session({ agent: { model: 'script/two', tools: TOOLSET } });
        const seen = await world.turn(session.id, 'go');
        const uses = seen.filter((e) => e.type === 'agent.tool_use');
        const results = seen.filter((e) => e.type === 'agent.tool_result');
        assert.deepEqual(new Set(results.map((e) => e.tool_use_id)), new Set(uses.map((e) => e.id)));
        const second = seen.findLastIndex((e) => e.type === 'span.model_request_start');
        assert.ok(results.every((r) => seen.indexOf(r) < second));
        const failing = results.find((e) => e.tool_use_id === uses[1].id);
        assert.equal(failing.is_error, true);
    });

    test('an empty output does not wedge the session', async () => {
        const session = await world.session({ agent: { model: 'script/shell', tools: TOOLSET } });
        const seen = await world.turn(session.id, 'run: true');
        assert.equal(seen.find((e) => e.type === 'agent.tool_result').is_error, false);
        assert.equal(seen.at(-1).stop_reason.type, 'end_turn');
        assert.ok(texts(await world.turn(session.id, 'run: echo next')).some((t) => t.includes('next')));
    });

    test('a tool that is not enabled is denied, and the turn goes on', async () => {
        const session = await world.session({ agent: { model: 'script/tool', tools: [] } });
        const seen = await world.turn(session.id, 'run: echo never');
        const use = seen.find((e) => e.type === 'agent.tool_use');
        assert.equal(use.evaluated_permission, 'deny');
        assert.equal(seen.find((e) => e.type === 'agent.tool_result').is_error, true);
        assert.equal(seen.at(-1).stop_reason.type, 'end_turn');
    });

    test('an input that is no JSON object is answered as an error, not dropped', async () => {
        const session = await world.session({ agent: { model: 'script/call', tools: TOOLSET } });
        const seen = await world.turn(session.id, 'bash {"command": "echo x"');
        assert.match(texts(seen).at(-1), /^error: /);
        assert.equal(seen.at(-1).stop_reason.type, 'end_turn');
    });

    test('numbers in a tool input keep their text', async () => {
        const session = await world.session({ agent: { model: 'script/call', tools: TOOLSET } });
        await world.turn(session.id, 'bash {"command": "echo x", "timeout_ms": 20000, "extra": 0.10, "big": 12345678901234567890}');
        const { text } = await world.http('GET', `/v1/sessions/${session.id}/events?types[]=agent.tool_use`);
        assert.match(text, /"extra": ?0\.10\b/);
        assert.match(text, /"big": ?12345678901234567890\b/);
    });

    for (const [name, input, expected] of [
        ['write', { file_path: '/workspace/a.txt', content: 'one\ntwo\n' }, /^ok: wrote 8 bytes/],
        ['read', { file_path: '/etc/hostname-that-is-not-there' }, /^error: /],
        ['glob', { pattern: '*.nothing' }, /^ok: no matches/],
        ['grep', { pattern: 'nothing-like-this' }, /^ok: no matches/],
        ['edit', { file_path: '/workspace/none', old_string: 'a', new_string: 'b' }, /^error: /],
    ]) {
        test(`the built-in ${name} answers`, async () => {
            const session = await world.session({ agent: { model: 'script/call', tools: TOOLSET } });
            const seen = await world.turn(session.id, `${name} ${JSON.stringify(input)}`);
            assert.match(texts(seen).at(-1), expected);
        });
    }
});

describe('interrupt', () => {
    test('it ends the turn at once with end_turn and its own echo', async () => {
        const session = await world.session({ agent: { model: 'script/slow' } });
        const stream = await world.stream(session.id);
        await world.send(session.id, 'slow');
        await stream.until('span.model_request_start');
        const sent = await world.send(session.id, { type: 'user.interrupt' });
        assert.equal(sent.data[0].processed_at, null);
        const seen = await stream.until('session.status_idle');
        stream.close();
        assert.deepEqual(types(seen), [
            'span.model_request_end', 'user.interrupt', 'session.thread_status_idle', 'session.usage', 'session.status_idle',
        ]);
        assert.equal(seen.at(-1).stop_reason.type, 'end_turn');
        assert.ok(!types(await world.events(session.id)).includes('agent.message'));
    });

    test('a message sent with it starts the next turn', async () => {
        const session = await world.session({ agent: { model: 'script/slow' } });
        const stream = await world.stream(session.id);
        await world.send(session.id, 'slow');
        await stream.until('span.model_request_start');
        await world.send(session.id, { type: 'user.interrupt' }, 'now');
        const seen = [...(await stream.until('session.status_idle')), ...(await stream.until('session.status_idle'))];
        stream.close();
        assert.deepEqual(texts(seen), ['fast']);
    });

    test('on an idle session it does nothing', async () => {
        const session = await world.session();
        await world.turn(session.id, 'hi');
        await world.send(session.id, { type: 'user.interrupt' });
        const next = await world.turn(session.id, 'still there');
        assert.deepEqual(texts(next), ['still there']);
    });

    test('it ends a tool call that is running', async () => {
        const session = await world.session({ agent: { model: 'script/shell', tools: TOOLSET } });
        const stream = await world.stream(session.id);
        await world.send(session.id, 'run: echo started; sleep 100');
        await stream.until('span.model_request_end');
        await world.send(session.id, { type: 'user.interrupt' });
        const seen = await stream.until('session.status_idle');
        stream.close();
        assert.equal(seen.at(-1).stop_reason.type, 'end_turn');
        assert.ok(types(seen).includes('user.interrupt'));
        assert.equal(seen.find((e) => e.type === 'agent.tool_result')?.is_error ?? true, true);
        assert.ok(texts(await world.turn(session.id, 'run: echo after')).some((t) => t.includes('after')));
    });
});

describe('a model in trouble', () => {
    test('a refusal ends the turn and says why', async () => {
        const session = await world.session({ agent: { model: 'script/refuse' } });
        const seen = await world.turn(session.id, 'x');
        assert.equal(seen.at(-1).stop_reason.type, 'refusal');
        assert.equal(seen.at(-1).stop_details.category, 'cyber');
        assert.equal(seen.at(-1).stop_details.explanation, 'not this');
    });

    test('an overloaded provider is retried as in trace J, then given up; the next message works', async () => {
        const session = await world.session({ agent: { model: 'script/fail' } });
        const seen = await world.turn(session.id, 'overloaded');
        const errors = seen.filter((e) => e.type === 'session.error');
        assert.equal(errors.length, 5);
        assert.ok(errors.every((e) => e.error.type === 'model_overloaded_error'));
        assert.deepEqual(errors.map((e) => e.error.retry_status.type), ['retrying', 'retrying', 'retrying', 'retrying', 'exhausted']);
        const between = types(seen.slice(seen.indexOf(errors[0]) + 1, seen.indexOf(errors[1])));
        assert.ok(between.indexOf('session.status_rescheduled') >= 0, between.join());
        assert.ok(between.indexOf('session.status_rescheduled') < between.indexOf('session.status_running'), between.join());
        assert.ok(between.indexOf('session.status_running') < between.indexOf('span.model_request_start'), between.join());
        assert.equal(seen.at(-1).stop_reason.type, 'retries_exhausted');
        assert.deepEqual(texts(await world.turn(session.id, 'ok')), ['fine']);
    });

    test('a request that cannot succeed ends the turn at once; the next message works', async () => {
        const session = await world.session({ agent: { model: 'script/fail' } });
        const seen = await world.turn(session.id, 'request');
        const error = seen.find((e) => e.type === 'session.error');
        assert.equal(error.error.retry_status.type, 'exhausted');
        assert.match(error.error.message, /told to fail/);
        assert.equal(seen.at(-1).stop_reason.type, 'retries_exhausted');
        assert.equal(seen.findLast((e) => e.type === 'span.model_request_end').is_error, true);
        assert.deepEqual(texts(await world.turn(session.id, 'ok')), ['fine']);
    });
});

test('an unknown session takes no events', async () => {
    await refused(world.send('sesn_011111111111111111111111', 'x'), 404, /sesn_|session/i);
});
