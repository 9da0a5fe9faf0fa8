// The example flow of the official SDKs, and the exact order of events that it must see.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { message, SDKS, texts, types, useServer } from '../lib/harness.mjs';

const world = useServer();

const TOOLSET = [{ type: 'agent_toolset_20260401', default_config: { enabled: true } }];

// Create agent, environment and session, open the stream, send, receive until the session is idle.
async function exampleFlow(sdk, { model, tools, text, system }) {
    const client = world.client(sdk);
    const agent = await client.beta.agents.create({ name: 'Example', model, tools, system });
    const environment = await client.beta.environments.create({
        name: `example ${sdk} ${model}`,
        config: { type: 'cloud', networking: { type: 'limited' } },
    });
    const session = await client.beta.sessions.create({ agent: agent.id, environment_id: environment.id, title: 'Example' });
    assert.equal(session.status, 'idle');
    const stream = await client.beta.sessions.events.stream(session.id);
    const sent = await client.beta.sessions.events.send(session.id, { events: [message(text)] });
    const seen = [];
    for await (const event of stream) {
        seen.push(event);
        if (event.type === 'session.status_idle') break;
    }
    return { client, agent, environment, session, sent, seen };
}

// Release 0.120 knew fewer event names and drops the others from a stream.
const DROPPED = { '1.11.0': [], '0.120.0': ['session.usage'] };

for (const sdk of Object.keys(SDKS)) {
    const kept = (list) => list.filter((event) => !DROPPED[sdk].includes(event.type ?? event));

    describe(`SDK ${sdk}`, () => {
        test('a plain turn has the order of trace A and ends idle', async () => {
            const { client, session, sent, seen } = await exampleFlow(sdk, { model: 'script/echo', text: 'hello there' });
            assert.deepEqual(types(seen), kept([
                'session.status_running',
                'session.thread_status_running',
                'user.message',
                'span.model_request_start',
                'agent.message',
                'span.model_request_end',
                'session.thread_status_idle',
                'session.usage',
                'session.status_idle',
            ]));
            assert.deepEqual(texts(seen), ['hello there']);
            assert.equal(sent.data.length, 1);
            assert.equal(sent.data[0].processed_at, null);
            const echo = seen.find((e) => e.type === 'user.message');
            assert.equal(echo.id, sent.data[0].id);
            assert.ok(echo.processed_at);
            const [start, end] = [3, 5].map((i) => seen[i]);
            assert.equal(end.model_request_start_id, start.id);
            assert.equal(end.is_error, false);
            assert.deepEqual(seen.at(-1).stop_reason, { type: 'end_turn' });
            assert.equal(seen.at(-1).stop_details, null);
            assert.deepEqual(seen.find((e) => e.type === 'session.thread_status_idle').stop_reason, { type: 'end_turn' });
            const after = await client.beta.sessions.retrieve(session.id);
            assert.equal(after.status, 'idle');
            assert.ok(after.usage.output_tokens > 0);
            assert.deepEqual(after.stop_reason, { type: 'end_turn' });
        });

        test('a turn with a built-in tool has the order of trace B', async () => {
            const { seen } = await exampleFlow(sdk, { model: 'script/tool', tools: TOOLSET, text: 'run: echo from the sandbox' });
            assert.deepEqual(types(seen), kept([
                'session.status_running',
                'session.thread_status_running',
                'user.message',
                'span.model_request_start',
                'agent.tool_use',
                'span.model_request_end',
                'agent.tool_result',
                'span.model_request_start',
                'agent.message',
                'span.model_request_end',
                'session.thread_status_idle',
                'session.usage',
                'session.status_idle',
            ]));
            const use = seen.find((e) => e.type === 'agent.tool_use');
            const result = seen.find((e) => e.type === 'agent.tool_result');
            assert.equal(use.name, 'bash');
            assert.deepEqual(use.input, { command: 'echo from the sandbox' });
            assert.equal(use.evaluated_permission, 'allow');
            assert.deepEqual(use.evaluation, { type: 'always_allow' });
            assert.equal(result.tool_use_id, use.id);
            assert.equal(result.is_error, false, JSON.stringify(result));
            assert.equal(result.content[0].text.trimEnd(), 'from the sandbox');
            assert.match(texts(seen)[0], /from the sandbox/);
        });

        test('the history is what the stream showed, with the same ids and times', async () => {
            const { client, session, seen } = await exampleFlow(sdk, { model: 'script/echo', text: 'again' });
            const listed = [];
            for await (const event of client.beta.sessions.events.list(session.id)) listed.push(event);
            assert.deepEqual(kept(listed), seen);
        });

        test('a second turn goes on in the same session', async () => {
            const { client, session } = await exampleFlow(sdk, { model: 'script/echo', text: 'one' });
            const stream = await client.beta.sessions.events.stream(session.id);
            await client.beta.sessions.events.send(session.id, { events: [message('two')] });
            const seen = [];
            for await (const event of stream) {
                seen.push(event);
                if (event.type === 'session.status_idle') break;
            }
            assert.deepEqual(texts(seen), ['two']);
            assert.equal(types(seen)[0], 'session.status_running');
        });
    });
}
