// Self-hosted environments end to end: the official SDK's own EnvironmentWorker, in processes that are
// frozen and killed, runs the tools of sessions on this server.
import { after, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { FakeMessages } from '../lib/fake-messages.mjs';
import { SDKS, texts } from '../lib/harness.mjs';
import { eventually, MODEL, TOOLSET, useProvider } from '../lib/e2e.mjs';
import { SdkWorker } from '../lib/sdk-worker.mjs';

const LEASE_S = 4;
const provider = new FakeMessages();
const world = await useProvider(provider, { config: `work: {lease_seconds: ${LEASE_S}}\n` });
const root = mkdtempSync(path.join(tmpdir(), 'ostler-t-'));
const workers = [];
let serial = 0;

after(async () => {
    await Promise.all(workers.map((w) => w.end()));
    rmSync(root, { recursive: true, force: true });
});

async function place() {
    const { id } = await world.environment({ name: 'own', config: { type: 'self_hosted' } });
    const { json } = await world.http('POST', `/v1/environments/${id}/keys`, { body: { name: 'test' }, beta: null });
    return { id, key: json.key };
}

function hire(env, { sdk = '1.11.0', maxIdleMs = 300 } = {}) {
    const workdir = mkdtempSync(path.join(root, 'w'));
    const worker = new SdkWorker({ sdk: SDKS[sdk].packageName, url: world.server.url, environmentId: env.id, environmentKey: env.key, workdir, maxIdleMs, workerId: `w${++serial}` });
    worker.dir = workdir;
    workers.push(worker);
    return worker.start();
}

async function session(env, extra = {}) {
    const agent = await world.agent({ model: MODEL, tools: TOOLSET, ...extra });
    return world.client().beta.sessions.create({ agent: agent.id, environment_id: env.id });
}

const use = (name, input) => ({ type: 'tool_use', name, input });
const results = ({ request }) => request.json.messages.at(-1).content.filter((b) => b.type === 'tool_result').map((b) => ({ error: b.is_error === true, text: [b.content].flat().map((c) => c.text ?? c).join('') }));
const ended = (e) => e.type === 'session.status_idle' && e.stop_reason.type === 'end_turn';
const waits = (e) => e.type === 'session.status_idle' && e.stop_reason.type === 'requires_action';

// Sends, and resolves to what came until the turn ended.
async function turn(id, text, until = ended) {
    const stream = await world.stream(id);
    try {
        await world.send(id, text);
        return await stream.until(until);
    } finally {
        stream.close();
    }
}

for (const sdk of Object.keys(SDKS)) {
    describe(`the worker of SDK ${sdk}`, () => {
        test('runs every tool of a session, one turn after the other', async () => {
            const env = await place();
            const { id } = await session(env);
            const worker = await hire(env, { sdk });
            provider.expect([use('write', { file_path: 'a/b.txt', content: 'one\ntwo\n' })]);
            provider.expect([use('read', { file_path: 'a/b.txt' }), use('edit', { file_path: 'a/b.txt', old_string: 'two', new_string: 'three' })]);
            provider.expect([use('glob', { pattern: '**/*.txt' }), use('grep', { pattern: 'three' }), use('bash', { command: 'cat a/b.txt; (exit 3)' })]);
            const last = provider.expect(['all done']);
            const log = await turn(id, 'go');
            assert.deepEqual(texts(log), ['all done']);
            const [glob, grep, bash] = results(last);
            assert.match(glob.text, /a\/b\.txt/);
            assert.match(grep.text, /three/);
            assert.ok(bash.error && /three/.test(bash.text), bash.text);
            assert.equal(readFileSync(path.join(worker.dir, 'a/b.txt'), 'utf8'), 'one\nthree\n');
            // It has gone by then, and is called again by the next message.
            await worker.said(/session idle after/);
            provider.expect([use('bash', { command: 'echo again' })]);
            const next = provider.expect(['twice']);
            assert.deepEqual(texts(await turn(id, 'more')), ['twice']);
            assert.match(results(next)[0].text, /again/);
            await worker.end('SIGTERM');
        });

        test('asks before it runs what asks, leaves custom tools to another, and has the skills', async () => {
            const env = await place();
            const skill = await world.client().beta.skills.create({ files: [new File(['---\nname: knots\ndescription: Ties knots.\n---\nOver, under.\n'], 'knots/SKILL.md')] });
            const lookup = { type: 'custom', name: 'lookup', description: 'Looks up.', input_schema: { type: 'object' } };
            const toolset = { ...TOOLSET[0], configs: [{ name: 'bash', permission_policy: { type: 'always_ask' } }] };
            const { id } = await session(env, { tools: [toolset, lookup], skills: [{ type: 'custom', skill_id: skill.id }] });
            const worker = await hire(env, { sdk });
            provider.expect([use('bash', { command: 'echo allowed' }), use('lookup', {}), use('read', { file_path: 'skills/knots/SKILL.md' })]);
            const stream = await world.stream(id);
            await world.send(id, 'go');
            const seen = await stream.until((e) => e.type === 'user.tool_result');
            const [asks, custom] = ['bash', 'lookup'].map((name) => seen.find((e) => e.name === name).id);
            const last = provider.expect(['so be it']);
            await world.send(id, { type: 'user.tool_confirmation', tool_use_id: asks, result: 'allow' });
            await world.send(id, { type: 'user.custom_tool_result', custom_tool_use_id: custom, content: [{ type: 'text', text: 'found' }] });
            await stream.until(ended);
            stream.close();
            const said = results(last).map((r) => r.text).sort();
            assert.match(said[0], /Over, under/, worker.log);
            assert.deepEqual(said.slice(1).map((t) => t.trim()), ['allowed', 'found'], worker.log);
            await worker.end('SIGTERM');
        });
    });
}

test('the worker survives the server: killed and started again, the turn goes on', async () => {
    const env = await place();
    const { id } = await session(env);
    const worker = await hire(env);
    const gate = path.join(worker.dir, 'gate');
    provider.expect([use('bash', { command: `echo ran >> runs; touch started; while [ ! -e ${gate} ]; do sleep 0.05; done; echo out` })]);
    const last = provider.expect(['after all']);
    const idle = turn(id, 'go', waits);
    await idle;
    await eventually('the call to run', () => existsSync(path.join(worker.dir, 'started')));
    await world.server.kill();
    writeFileSync(gate, '');
    await world.server.start();
    await last.arrived;
    await world.idle(id);
    assert.match(results(last)[0].text, /out/);
    assert.equal(readFileSync(path.join(worker.dir, 'runs'), 'utf8'), 'ran\n');
    await worker.end('SIGTERM');
});

test('a worker that is frozen loses its lease to another, and knows it when it wakes', async () => {
    const env = await place();
    const { id } = await session(env);
    const one = await hire(env);
    provider.expect([use('bash', { command: 'touch started; [ -e go ] || sleep 60; echo mine' })]);
    const stream = await world.stream(id);
    await world.send(id, 'go');
    await eventually('the call to run', () => existsSync(path.join(one.dir, 'started')));
    one.signal('SIGSTOP');
    const error = (await stream.until('session.error')).at(-1).error;
    assert.match(error.message, /lease ran out/);
    assert.equal(error.retry_status.type, 'retrying');
    const last = provider.expect(['taken over']);
    const two = new SdkWorker({ ...one.options, workdir: mkdtempSync(path.join(root, 'w')), workerId: 'two' });
    workers.push(two);
    writeFileSync(path.join(two.options.workdir, 'go'), '');
    await two.start();
    await two.said(/claimed work/);
    one.signal('SIGCONT');
    await one.said(/lease lost/);
    await one.said(/released without stopping/);
    const log = await stream.until(ended);
    stream.close();
    assert.deepEqual(texts(log), ['taken over']);
    assert.match(results(last)[0].text, /mine/);
    assert.equal(log.filter((e) => e.type === 'user.tool_result').length, 1, 'one answer counts');
    await Promise.all([one.end('SIGTERM'), two.end('SIGTERM')]);
});

test('a worker that is killed is missed, and the next one finishes the turn', async () => {
    const env = await place();
    const { id } = await session(env);
    const one = await hire(env);
    provider.expect([use('bash', { command: 'touch started; [ -e go ] || sleep 60; echo fine' })]);
    const stream = await world.stream(id);
    await world.send(id, 'go');
    await eventually('the call to run', () => existsSync(path.join(one.dir, 'started')));
    await one.end('SIGKILL');
    assert.match((await stream.until('session.error')).at(-1).error.message, /lease ran out/);
    const last = provider.expect(['finished']);
    const two = new SdkWorker({ ...one.options, workdir: mkdtempSync(path.join(root, 'w')), workerId: 'two' });
    writeFileSync(path.join(two.options.workdir, 'go'), '');
    workers.push(two);
    await two.start();
    assert.deepEqual(texts(await stream.until(ended)), ['finished']);
    stream.close();
    assert.match(results(last)[0].text, /fine/);
    await two.end('SIGTERM');
});

test('an interrupt calls for a worker again where all have given up', async () => {
    const env = await place();
    const { id } = await session(env);
    const client = world.client('1.11.0', { apiKey: null, authToken: env.key });
    provider.expect([use('bash', { command: 'echo x' })]);
    const stream = await world.stream(id);
    await world.send(id, 'go');
    await stream.until(waits);
    for (let i = 0; i < 3; i++) {
        const item = await client.beta.environments.work.poll(env.id, { block_ms: 999 });
        await client.beta.environments.work.ack(item.id, { environment_id: env.id });
        await client.beta.environments.work.stop(item.id, { environment_id: env.id, force: true });
        await stream.until('session.error');
    }
    const worker = await hire(env);
    await world.send(id, { type: 'user.interrupt' });
    await stream.until('session.status_idle');
    await worker.said(/claimed work/);
    provider.expect([use('bash', { command: 'echo y' })]);
    provider.expect(['with hands again']);
    await world.send(id, 'go on');
    assert.deepEqual(texts(await stream.until(ended)), ['with hands again']);
    stream.close();
    await worker.end('SIGTERM');
});
