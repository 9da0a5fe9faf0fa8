// What the model is sent: the same bytes, whatever happened in between (promise P9).
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { FakeMessages } from '../lib/fake-messages.mjs';
import { message, texts } from '../lib/harness.mjs';
import { assertGrows, assertSound, rest, useProvider, worker } from '../lib/e2e.mjs';

const provider = new FakeMessages();
const world = await useProvider(provider);

// Whatever a JSON writer could be tempted to change: escapes, numbers, order of keys, blanks.
const ODD_INPUT = '{"command":"printf \'%s\' \\"\\u00e4 \\/ \\ud83d\\ude00 \\u0007\\" ","timeout_ms":1.0e4,"b":[1.10,-0,1E400,12345678901234567890],"a":{"z":null,"y":{}},"":" "}';
const THINKING = { type: 'thinking', thinking: 'quote " slash \\ line\n nul \u0000 \u{1F600} end', signature: 'c2ln/+==' };

const since = (mark) => provider.requests.slice(mark);

describe('the prefix of a request', () => {
    test('it only grows: over turns, tools, thinking, several messages at once and errors', async () => {
        const mark = provider.requests.length;
        provider.expect([THINKING, 'I shall look.', { type: 'tool_use', name: 'bash', json: ODD_INPUT }]);
        provider.expect({ status: 529, json: { type: 'error', error: { type: 'overloaded_error', message: 'later' } } });
        provider.expect([{ type: 'redacted_thinking', data: 'b3BhcXVl' }, 'Seen.']);
        provider.expect(['First and second.']);
        provider.expect([THINKING, 'Third.']);
        const session = await worker(world, { system: 'You \u00e4re "careful".' });
        await world.turn(session.id, 'look \u2028 at "this" \u0001');
        await world.turn(session.id, 'first', 'second');
        await world.turn(session.id, { type: 'user.message', content: [{ type: 'text', text: 'third' }, { type: 'text', text: 'and more' }] });
        assert.equal(since(mark).length, 5);
        assertGrows(since(mark));
        assert.ok(since(mark).at(-1).raw.includes('1.10,-0,1E400,12345678901234567890'), 'numbers as the model wrote them');
        const blocks = since(mark).at(-1).json.messages.flatMap((m) => m.content);
        assert.deepEqual(blocks.filter((b) => b.type === 'thinking'), [THINKING]);
        assert.deepEqual(blocks.filter((b) => b.type === 'redacted_thinking'), [{ type: 'redacted_thinking', data: 'b3BhcXVl' }]);
    });

    test('a kill and a restart do not change a byte of it', async () => {
        const mark = provider.requests.length;
        provider.expect([THINKING, { type: 'tool_use', name: 'bash', json: ODD_INPUT }, { bash: 'echo two' }]);
        const held = provider.expect({ blocks: ['never finished'], hold: 4 });
        const session = await worker(world, { system: 'Remember.' });
        await world.send(session.id, 'begin');
        await held.paused;
        await world.server.kill();
        const again = provider.expect(['Finished.']);
        await world.server.start();
        await again.arrived;
        const seen = await rest(world, session);
        assert.deepEqual(texts(seen), ['Finished.']);
        const [, before, after] = since(mark);
        assert.equal(after.raw, before.raw, 'the request that was in flight goes out again as it was');
        await world.server.restart();
        provider.expect(['And on.']);
        await world.turn(session.id, 'go on');
        assertGrows(since(mark));
        assert.equal(since(mark).length, 4);
        const log = await world.events(session.id);
        assertSound(log, { accepted: log.filter((e) => e.type === 'user.message') });
    });

    test('messages that came while the server was in the middle of a turn are added behind it', async () => {
        const mark = provider.requests.length;
        const held = provider.expect({ blocks: ['One.'], hold: 4 });
        provider.expect(['Two.']);
        const session = await worker(world);
        const stream = await world.stream(session.id);
        const { data: one } = await world.send(session.id, 'one');
        await held.paused;
        const { data: two } = await world.send(session.id, message('two'), message('three'));
        held.release();
        const seen = await stream.until('session.status_idle');
        stream.close();
        assert.deepEqual(texts(seen), ['One.', 'Two.']);
        assertGrows(since(mark));
        assert.deepEqual(since(mark)[1].json.messages.at(-1).content.map((b) => b.text), ['two', 'three']);
        assertSound(await world.events(session.id), { accepted: [...one, ...two] });
    });
});

describe('its head', () => {
    test('tools, system prompt and limits are what the agent says', async () => {
        const mark = provider.requests.length;
        provider.expect(['ok']);
        const session = await worker(world, { system: 'Be brief.' });
        await world.turn(session.id, 'hello');
        const [{ json, headers }] = since(mark);
        assert.equal(headers['x-api-key'], 'sk-ant-of-the-tests');
        assert.equal(json.stream, true);
        assert.ok(json.max_tokens > 0);
        assert.equal(json.system.at(-1).text, 'Be brief.');
        assert.deepEqual(json.tools.map((t) => t.name).filter((n) => !n.startsWith('web_')).toSorted(), ['bash', 'edit', 'glob', 'grep', 'read', 'write']);
        for (const tool of json.tools) assert.equal(tool.input_schema.type, 'object', tool.name);
        assert.equal(Object.keys(json).at(-1), 'messages', 'what changes comes last');
    });

    test('a call of a tool that does not exist, or with a broken input, is answered and the turn goes on', async () => {
        provider.expect([{ type: 'tool_use', name: 'teleport', input: {} }, { type: 'tool_use', name: 'bash', json: '{"command": "echo' }]);
        const second = provider.expect(['I see.']);
        const session = await worker(world);
        const seen = await world.turn(session.id, 'go');
        assert.deepEqual(texts(seen), ['I see.']);
        const results = second.request.json.messages.at(-1).content;
        assert.equal(results.length, 2);
        assert.ok(results.every((r) => r.is_error), JSON.stringify(results));
        assertSound(await world.events(session.id), { accepted: seen.filter((e) => e.type === 'user.message') });
    });
});
