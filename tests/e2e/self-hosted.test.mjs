// Our server and our worker: sessions of a self-hosted environment end to end, across the deaths of either.
import { afterEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { FakeMessages } from '../lib/fake-messages.mjs';
import { Worker, letThrough } from '../lib/worker.mjs';
import { MODEL, TOOLSET, eventually, gated, resultText, useProvider } from '../lib/e2e.mjs';
import { texts } from '../lib/harness.mjs';

const provider = new FakeMessages();
const world = await useProvider(provider);
const workers = [];
afterEach(async () => {
    for (const worker of workers.splice(0)) {
        if (worker.child) worker.child.kill('SIGCONT');
        await worker.dispose();
    }
});

async function setup() {
    const environment = await world.client().beta.environments.create({ name: 'hands of our own', config: { type: 'self_hosted' } });
    const { json } = await world.http('POST', `/v1/environments/${environment.id}/keys`, { body: { name: 'of a test' }, beta: null });
    const agent = await world.client().beta.agents.create({ name: 'remote', model: MODEL, tools: TOOLSET });
    const session = await world.client().beta.sessions.create({ agent: agent.id, environment_id: environment.id });
    return { environment, key: json.key, session };
}

function hire({ environment, key }, ...args) {
    const worker = new Worker({ url: world.server.url, environment: environment.id, key, args: ['--lease-seconds', '5', ...args] });
    workers.push(worker);
    return worker.start();
}

const result = async (session, at = 0) => (await world.events(session.id)).filter((e) => e.type === 'user.tool_result')[at];
const ended = (session, said) => eventually('the end of the turn', async () => {
    const log = await world.events(session.id);
    return texts(log).includes(said) && log.at(-1).type === 'session.status_idle' && log;
});

describe('our worker serves our server', () => {
    test('calls of one answer run in its sandbox and come back, turn after turn, also after the session was given back', async () => {
        const s = await setup();
        const w = await hire(s, '--idle-seconds', '1');
        provider.expect([{ bash: 'echo one > one; pwd' }, { bash: 'echo two' }]);
        provider.expect(['first']);
        await world.send(s.session.id, 'work');
        await ended(s.session, 'first');
        assert.match(resultText(await result(s.session)), /\/workspace/);
        await w.says('gave a session back');
        provider.expect([{ bash: 'cat one' }]);
        provider.expect(['second']);
        await world.send(s.session.id, 'more');
        const log = await ended(s.session, 'second');
        assert.equal(resultText(await result(s.session, 2)).trim(), 'one');
        assert.equal(log.filter((e) => e.type === 'session.error').length, 0);
    });

    test('the server is killed while a call runs: its result is sent to the next one', async () => {
        const s = await setup();
        const w = await hire(s);
        provider.expect([{ bash: gated('runs', 'gate') }]);
        await world.send(s.session.id, 'work');
        const gate = await w.atGate(s.session);
        await world.server.kill();
        await letThrough(gate);
        await w.says('a result could not be sent');
        provider.expect(['done']);
        await world.server.start();
        await ended(s.session, 'done');
        assert.match(resultText(await result(s.session)), /finished after now/);
        assert.equal(w.read(s.session, 'runs'), 'begun\nended\n');
    });

    test('the worker is killed while a call runs: started again, it has the result and runs nothing twice', async () => {
        const s = await setup();
        const w = await hire(s);
        provider.expect([{ bash: gated('runs', 'gate') }]);
        await world.send(s.session.id, 'work');
        const gate = await w.atGate(s.session);
        await w.kill();
        await w.start();
        provider.expect(['done']);
        await letThrough(gate);
        await ended(s.session, 'done');
        assert.match(resultText(await result(s.session)), /finished after now/);
        assert.equal(w.read(s.session, 'runs'), 'begun\nended\n');
    });

    test('a worker that stands still loses the session to another one, and sends nothing when it wakes', async () => {
        const s = await setup();
        const one = await hire(s);
        provider.expect([{ bash: gated('runs', 'gate') }]);
        await world.send(s.session.id, 'work');
        const gate = await one.atGate(s.session);
        one.child.kill('SIGSTOP');
        const two = await hire(s);
        const other = await two.atGate(s.session);
        await letThrough(gate);
        one.child.kill('SIGCONT');
        await one.says('lease lost');
        provider.expect(['done']);
        await letThrough(other);
        const log = await ended(s.session, 'done');
        assert.equal(log.filter((e) => e.type === 'user.tool_result').length, 1);
        assert.equal(two.read(s.session, 'runs'), 'begun\nended\n');
    });

    test('SIGTERM: the running call ends and is answered, the next worker goes on', async () => {
        const s = await setup();
        const one = await hire(s);
        provider.expect([{ bash: gated('runs', 'gate') }]);
        const next = provider.expect([{ bash: 'echo from the second' }]);
        provider.expect(['done']);
        await world.send(s.session.id, 'work');
        const gate = await one.atGate(s.session);
        one.child.kill('SIGTERM');
        await one.says('no more work is taken');
        await letThrough(gate);
        assert.equal((await one.exited).code, 0);
        one.child = null;
        await next.arrived;
        await hire(s);
        await ended(s.session, 'done');
        assert.match(resultText(await result(s.session, 0)), /finished after now/);
        assert.match(resultText(await result(s.session, 1)), /from the second/);
    });

    test('an interrupt ends what runs, and the next turn works', async () => {
        const s = await setup();
        const w = await hire(s);
        provider.expect([{ bash: gated('runs', 'gate') }]);
        await world.send(s.session.id, 'work');
        const gate = await w.atGate(s.session);
        await world.send(s.session.id, { type: 'user.interrupt' });
        await eventually('the session to rest', async () => (await world.client().beta.sessions.retrieve(s.session.id)).status === 'idle');
        provider.expect([{ bash: 'cat runs' }]);
        provider.expect(['done']);
        await world.send(s.session.id, 'again');
        await ended(s.session, 'done');
        await gate.close(); // nobody waits at it any more
        assert.equal(w.read(s.session, 'runs'), 'begun\n');
    });

    test('a deleted session takes its files along, a wrong key ends the worker', async () => {
        const s = await setup();
        const w = await hire(s);
        provider.expect([{ bash: 'echo here > file' }]);
        provider.expect(['done']);
        await world.send(s.session.id, 'work');
        await ended(s.session, 'done');
        await world.client().beta.sessions.delete(s.session.id);
        await eventually('the files to go', () => !existsSync(path.dirname(w.file(s.session, ''))));
        const stranger = new Worker({ url: world.server.url, environment: s.environment.id, key: 'sk-ant-oat01-wrong' });
        workers.push(stranger);
        await stranger.start({ ready: false });
        assert.equal((await stranger.exited).code, 1);
        stranger.child = null;
        assert.match(stranger.log, /check the environment key/);
    });
});
