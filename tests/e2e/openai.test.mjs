// Whole turns over chat completions: aimock as the provider `openai`, and a bare server that keeps none of the
// protocol's optional parts as a provider of another name.
import { after, beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Aimock } from '../lib/aimock.mjs';
import { texts, useServer } from '../lib/harness.mjs';
import { assertSound, count, resultText, TOOLSET } from '../lib/e2e.mjs';

const KEY = 'sk-proj-of-the-tests';
const provider = new Aimock();
await provider.start();

// Answers with one JSON document, no usage, arguments as an object, a call without id.
const bare = { requests: [] };
bare.server = createServer(async (req, res) => {
    const chunks = [];
    for await (const chunk of req) chunks.push(chunk);
    const json = JSON.parse(Buffer.concat(chunks));
    bare.requests.push({ json, headers: req.headers, url: req.url });
    const asked = json.messages.at(-1).role !== 'tool';
    const call = { function: { name: 'bash', arguments: { command: 'echo bare' } } };
    const message = asked ? { content: '', reasoning_content: 'hm', tool_calls: [call] } : { content: 'done' };
    res.setHeader('content-type', 'application/json');
    res.end(JSON.stringify({ choices: [{ message, finish_reason: asked ? 'function_call' : '' }] }));
}).listen(0, '127.0.0.1');
await once(bare.server, 'listening');

const dir = mkdtempSync(path.join(tmpdir(), 'ostler-openai-'));
const config = path.join(dir, 'ostler.yaml');
writeFileSync(config, `models: {routes: [{match: "local/*", provider: lab, strip_prefix: true}]}
providers:
  lab: {type: openai, base_url: "http://127.0.0.1:${bare.server.address().port}", max_concurrent: 1}
`);
const world = useServer({ env: { OPENAI_BASE_URL: provider.url, OPENAI_API_KEY: KEY, OSTLER_CONFIG: config } });
after(async () => {
    await provider.stop();
    bare.server.closeAllConnections();
    bare.server.close();
    rmSync(dir, { recursive: true });
});

let first = 0;
const mine = () => provider.requests.slice(first);
const bash = (command, id) => ({ name: 'bash', arguments: JSON.stringify({ command }), id });
const worker = (model = 'gpt-e2e') => world.session({ agent: { model, system: 'Be brief.', tools: TOOLSET } });

beforeEach(() => {
    provider.mock.reset();
    first = provider.requests.length;
});

// Promise P9, on this wire.
function assertGrows(requests) {
    for (let i = 1; i < requests.length; i++) {
        const body = requests[i - 1].raw.replace(/\]\}$/, '');
        assert.ok(requests[i].raw.startsWith(body), `request ${i} is not request ${i - 1} continued`);
    }
}

describe('turns', () => {
    test('a text turn streams in pieces that add up to the stored message', async () => {
        provider.mock.onMessage('greet', { content: 'Good evening, traveller.', usage: { prompt_tokens: 12, completion_tokens: 5, total_tokens: 17 } });
        const session = await worker();
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
        assert.equal(mine().length, 1);
        const [request] = mine();
        assert.equal(request.url, '/v1/chat/completions');
        assert.equal(request.headers.authorization, `Bearer ${KEY}`);
        assert.equal(request.json.model, 'gpt-e2e');
        assert.deepEqual(request.json.stream_options, { include_usage: true });
        assert.equal(request.json.messages[0].role, 'system');
        assert.equal(request.json.messages.at(-1).content, 'greet me');
        assert.ok(!JSON.stringify(log).includes(KEY), 'the key is in the log');
    });

    test('parallel calls run, and their results go back, each in a message of its own', async () => {
        const calls = [bash('echo $((6 * 7))', 'call_a'), bash('echo two; exit 3', 'call_b')];
        provider.mock.on({ userMessage: 'count', hasToolResult: false }, { content: 'At once.', toolCalls: calls });
        provider.mock.on({ userMessage: 'count', hasToolResult: true }, { content: 'Both.' });
        const session = await worker();
        await world.turn(session.id, 'count');
        const log = await world.events(session.id);
        assertSound(log, { accepted: log.filter((e) => e.type === 'user.message') });
        assert.deepEqual(texts(log), ['At once.', 'Both.']);
        assert.equal(count(log, 'agent.tool_use'), 2);
        const [one, two, three] = mine()[1].json.messages.slice(-3);
        assert.deepEqual(one.tool_calls.map((c) => JSON.parse(c.function.arguments).command), ['echo $((6 * 7))', 'echo two; exit 3']);
        assert.deepEqual([two.role, three.role], ['tool', 'tool']);
        assert.deepEqual([two, three].map((m) => m.tool_call_id).toSorted(), one.tool_calls.map((c) => c.id).toSorted());
        const results = [two, three].map((m) => m.content).toSorted();
        assert.match(results[0], /^42/);
        assert.match(results[1], /^The tool call failed\.\n\ntwo/);
        assertGrows(mine());
    });

    test('an error that passes is waited out, one that stays ends the turn', async () => {
        provider.mock.nextRequestError(503, { message: 'busy', type: 'server_error' });
        provider.mock.onMessage('again', { content: 'Now.' });
        const session = await worker();
        await world.turn(session.id, 'again');
        assert.deepEqual(texts(await world.events(session.id)), ['Now.']);
        assert.equal(mine().length, 2);
        provider.mock.nextRequestError(401, { message: `Incorrect API key provided: ${KEY}`, type: 'invalid_request_error', code: 'invalid_api_key' });
        await world.turn(session.id, 'again');
        const error = (await world.events(session.id)).find((e) => e.type === 'session.error' && /401/.test(e.error.message));
        assert.match(error.error.message, /Incorrect API key provided: \*+.*OPENAI_API_KEY/);
        assert.ok(!JSON.stringify(await world.events(session.id)).includes(KEY), 'the key is in the log');
    });
});

test('a server that leaves out what it can is understood, and its tokens are guesses', async () => {
    const session = await worker('local/tiny');
    await world.turn(session.id, 'go');
    const log = await world.events(session.id);
    assertSound(log, { accepted: log.filter((e) => e.type === 'user.message') });
    assert.deepEqual(texts(log), ['done']);
    assert.equal(count(log, 'agent.thinking'), 1);
    assert.match(resultText(log.find((e) => e.type === 'agent.tool_result')), /^bare/);
    const usage = log.filter((e) => e.type === 'span.model_request_end').map((e) => e.model_usage);
    assert.ok(usage.every((u) => u.estimated && u.input_tokens > 0));
    assert.equal(bare.requests[0].json.model, 'tiny');
    assert.equal(bare.requests[0].url, '/v1/chat/completions');
    assert.equal(bare.requests[0].headers.authorization, undefined);
    assert.ok(!JSON.stringify(bare.requests[1].json).includes('hm'), 'thoughts were sent back');
});
