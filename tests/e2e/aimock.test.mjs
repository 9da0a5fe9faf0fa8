// aimock as the model: whole turns over the wire format of the Messages API, and its errors.
import { beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { Aimock } from '../lib/aimock.mjs';
import { texts, types } from '../lib/harness.mjs';
import { assertGrows, assertSound, count, MODEL, resultText, TOOLSET, useProvider, worker } from '../lib/e2e.mjs';

const provider = new Aimock();
const world = await useProvider(provider);
let first = 0; // index of the test's first request
const mine = () => provider.requests.slice(first);
const bash = (command, id) => ({ name: 'bash', arguments: JSON.stringify({ command }), id });

beforeEach(() => {
    provider.mock.reset();
    first = provider.requests.length;
});

// One answer for the request with the message, another for the one with the results.
function play(pattern, before, after) {
    provider.mock.on({ userMessage: pattern, hasToolResult: false }, before);
    provider.mock.on({ userMessage: pattern, hasToolResult: true }, after);
}

describe('turns', () => {
    test('a text turn streams in pieces that add up to the stored message', async () => {
        provider.mock.onMessage('greet', { content: 'Good evening, traveller.', usage: { input_tokens: 12, output_tokens: 5 } });
        const session = await worker(world);
        const stream = await world.stream(session.id, { query: '?event_deltas[]=agent.message' });
        const { data: accepted } = await world.send(session.id, 'greet me');
        const seen = await stream.until('session.status_idle');
        stream.close();
        const deltas = seen.filter((e) => e.type === 'event_delta');
        assert.ok(deltas.length >= 3, `${deltas.length} deltas`);
        assert.equal(deltas.map((d) => d.delta.content.text).join(''), 'Good evening, traveller.');
        const log = await world.events(session.id);
        assert.deepEqual(texts(log), ['Good evening, traveller.']);
        assertSound(log, { accepted });
        const end = log.find((e) => e.type === 'span.model_request_end');
        assert.equal(end.model_usage.input_tokens, 12);
        assert.equal(end.model_usage.output_tokens, 5);
        assert.equal(mine().length, 1);
        assert.equal(mine()[0].url, '/v1/messages');
        assert.equal(mine()[0].headers['x-api-key'], 'sk-ant-of-the-tests');
        assert.equal(mine()[0].headers['anthropic-version'], '2023-06-01');
        assert.equal(mine()[0].json.model, MODEL);
    });

    test('a tool call runs in the sandbox and its result goes back', async () => {
        play('count', { toolCalls: [bash('echo $((6 * 7)) && pwd')] }, { content: 'It is 42.' });
        const session = await worker(world);
        await world.turn(session.id, 'count');
        const log = await world.events(session.id);
        assertSound(log, { accepted: log.filter((e) => e.type === 'user.message') });
        assert.deepEqual(texts(log), ['It is 42.']);
        const result = log.find((e) => e.type === 'agent.tool_result');
        assert.match(resultText(result), /^42\n\/workspace/);
        const back = mine()[1].json.messages.at(-1).content.find((b) => b.type === 'tool_result');
        assert.match(back.content[0].text, /^42\n\/workspace/);
        assertGrows(mine());
    });

    test('parallel tool calls are all answered, in one message, before the model goes on', async () => {
        play('three', { content: 'At once.', toolCalls: [bash('echo one'), bash('echo two; exit 3'), bash('echo three')] }, { content: 'All three.' });
        const session = await worker(world);
        await world.turn(session.id, 'three');
        const log = await world.events(session.id);
        assertSound(log, { accepted: log.filter((e) => e.type === 'user.message') });
        assert.equal(count(log, 'agent.tool_use'), 3);
        assert.deepEqual(texts(log), ['At once.', 'All three.']);
        assert.equal(mine().length, 2);
        const results = mine()[1].json.messages.at(-1).content;
        assert.deepEqual(results.map((b) => b.content[0].text.split('\n')[0]).toSorted(), ['one', 'three', 'two']);
        assertGrows(mine());
    });

    test('a thinking model gets its thinking back, signature and all, with the tool results', async () => {
        const reasoning = { reasoning: 'Six times seven, I think.\n"Or" \u00e4 more \u2026', reasoningSignature: 'c2lnbmF0dXJl+/==' };
        play('think', { toolCalls: [bash('echo 42')], ...reasoning, redactedThinking: ['b3BhcXVl'] }, { content: '42', ...reasoning });
        const session = await worker(world);
        await world.turn(session.id, 'think');
        await world.turn(session.id, 'think again');
        const log = await world.events(session.id);
        assertSound(log, { accepted: log.filter((e) => e.type === 'user.message') });
        assert.ok(count(log, 'agent.thinking') >= 2);
        assert.ok(log.every((e) => e.type !== 'agent.thinking' || e.content === undefined), 'thinking is never shown');
        const [before, after] = mine();
        assert.equal(before.json.thinking.type, 'enabled');
        const assistant = after.json.messages[1].content;
        assert.deepEqual(assistant[0], { type: 'redacted_thinking', data: 'b3BhcXVl' });
        assert.deepEqual(assistant[1], { type: 'thinking', thinking: reasoning.reasoning, signature: reasoning.reasoningSignature });
        assert.equal(assistant[2].type, 'tool_use');
        assertGrows(mine());
    });
});

describe('errors', () => {
    async function turnAfter(error, opts) {
        provider.mock.on({ userMessage: 'please', sequenceIndex: 0 }, error, opts);
        provider.mock.on({ userMessage: 'please', sequenceIndex: 1 }, { content: 'There.' });
        const session = await worker(world);
        const seen = await world.turn(session.id, 'please');
        const log = await world.events(session.id);
        assertSound(log, { accepted: log.filter((e) => e.type === 'user.message') });
        return { seen, log };
    }

    function assertRetried(log, type) {
        assert.deepEqual(texts(log), ['There.']);
        const shape = types(log).filter((t) => /error|status|span/.test(t) && !t.includes('thread'));
        assert.deepEqual(shape, [
            'session.status_running', 'span.model_request_start', 'span.model_request_end', 'session.error', 'session.status_rescheduled',
            'session.status_running', 'span.model_request_start', 'span.model_request_end', 'session.status_idle',
        ]);
        const { error } = log.find((e) => e.type === 'session.error');
        assert.equal(error.type, type);
        assert.deepEqual(error.retry_status, { type: 'retrying' });
        assert.deepEqual(log.at(-1).stop_reason, { type: 'end_turn' });
        assert.deepEqual(mine().map((r) => r.raw)[1], mine()[0].raw, 'the same request again');
    }

    test('429 is tried again, not before its retry-after', async () => {
        const { log } = await turnAfter({ error: { message: 'slow down', type: 'rate_limit_error' }, status: 429, retryAfter: 1 });
        assertRetried(log, 'model_rate_limited_error');
        assert.ok(mine()[1].at - mine()[0].at >= 990, `${mine()[1].at - mine()[0].at} ms`);
    });

    test('529 is tried again', async () => {
        const { log } = await turnAfter({ error: { message: 'too many travellers', type: 'overloaded_error' }, status: 529 });
        assertRetried(log, 'model_overloaded_error');
    });

    test('500 is tried again', async () => {
        const { log } = await turnAfter({ error: { message: 'oops', type: 'api_error' }, status: 500 });
        assertRetried(log, 'model_request_failed_error');
    });

    test('a stream cut in the middle is tried again, and nothing of it stays', async () => {
        const { log } = await turnAfter({ content: 'This half will never be finished.' }, { truncateAfterChunks: 4, latency: 5 });
        assertRetried(log, 'model_request_failed_error');
    });

    test('malformed JSON for an answer is tried again', async () => {
        const { log } = await turnAfter({ content: 'x' }, { chaos: { malformedRate: 1 } });
        assertRetried(log, 'model_request_failed_error');
    });

    test('a connection dropped before the answer is tried again', async () => {
        const { log } = await turnAfter({ content: 'x' }, { chaos: { disconnectRate: 1 } });
        assertRetried(log, 'model_request_failed_error');
    });

    test('400 is not tried again: the turn ends, the session stays usable', async () => {
        provider.mock.on({ userMessage: 'bad one', sequenceIndex: 0 }, { error: { message: 'max_tokens: too large', type: 'invalid_request_error' }, status: 400 });
        provider.mock.on({ userMessage: 'good one', sequenceIndex: 0 }, { content: 'Fine.' });
        const session = await world.session({ agent: { model: MODEL, tools: TOOLSET } });
        const seen = await world.turn(session.id, 'bad one');
        assert.deepEqual(seen.at(-1).stop_reason, { type: 'retries_exhausted' });
        const { error } = seen.find((e) => e.type === 'session.error');
        assert.match(error.message, /400.*max_tokens: too large/);
        assert.deepEqual(error.retry_status, { type: 'exhausted' });
        assert.equal(mine().length, 1);
        assert.deepEqual(texts(await world.turn(session.id, 'good one')), ['Fine.']);
    });
});
