// Two server processes on one data directory: takeover, news, forwarding, stale writers, random kills.
import { after, afterEach, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import path from 'node:path';
import { FakeMessages } from '../lib/fake-messages.mjs';
import { message, texts, World } from '../lib/harness.mjs';
import { assertSound, atGate, eventually, gated, resultText, TOOLSET, MODEL, wellFormed, workspaceFile } from '../lib/e2e.mjs';
import { Server } from '../lib/server.mjs';

// A second server on the data of another.
class Beside extends Server {
    constructor(other) {
        super(other.options);
        rmSync(this.dir, { recursive: true, force: true });
        Object.assign(this, { dir: other.dir, data: other.data });
    }

    abandon() {
        if (this.child) this.child.kill('SIGKILL');
    }
}

const provider = new FakeMessages();
const [a, b] = [new World(), new World()];

before(async () => {
    await provider.start();
    a.server = new Server({ env: { ANTHROPIC_API_KEY: 'sk-ant-of-the-tests', ANTHROPIC_BASE_URL: provider.url } });
    b.server = new Beside(a.server);
    await Promise.all([a.server.start(), b.server.start()]);
    await known();
});
afterEach(async () => {
    for (const world of [a, b]) {
        if (!world.server.child) await world.server.start();
        const problems = world.recorders().flatMap((r) => r.problems.splice(0));
        assert.deepEqual(problems, []);
    }
    await known();
    assert.deepEqual([...provider.settle(), ...provider.requests.splice(0).flatMap((r) => wellFormed(r.json))], []);
});
after(async () => {
    await b.server.dispose();
    await a.server.dispose();
    await provider.stop();
});

// Each has said that it knows the other, since its start.
const known = () => eventually('both to know each other', () => [a, b].every((w) => /another server process works on this data directory/.test(w.server.startedLog)) || undefined);
const worker = (world) => world.session({ agent: { model: MODEL, tools: TOOLSET } });
const lines = async (world, session, name) => ((await workspaceFile(world, session, name)) ?? '').split('\n').filter(Boolean);

async function idle(world, session) {
    await world.idle(session.id);
    return world.events(session.id);
}

function sql(text, ...args) {
    const db = new DatabaseSync(path.join(a.server.data, 'ostler.db'), { timeout: 5000 });
    try {
        return db.prepare(text).all(...args);
    } finally {
        db.close();
    }
}

describe('a process that dies', () => {
    test('is followed at once: its turn ends elsewhere without a client, its tool call runs once', async () => {
        provider.expect([{ bash: gated('runs', 'gate') }]);
        provider.expect(['done']);
        const session = await worker(a);
        const { data: accepted } = await a.send(session.id, 'work');
        const open = await atGate(a, 'gate');
        const from = b.server.log.length;
        await a.server.kill();
        const t0 = performance.now();
        const [line] = await eventually('the takeover', () => b.server.log.slice(from).match(/taking up a session again.*/) ?? undefined);
        const took = performance.now() - t0;
        assert.match(line, new RegExp(session.id));
        assert.ok(took < (process.env.ASAN_OPTIONS ? 3000 : 300), `${took} ms`);
        await open('it');
        const log = await idle(b, session);
        assertSound(log, { accepted });
        assert.match(resultText(log.find((e) => e.type === 'agent.tool_result')), /finished after it/);
        assert.deepEqual(await lines(b, session, 'runs'), ['begun', 'ended']);
        assert.deepEqual(texts(log), ['done']);
    });

    test('leaves its resting sessions to whoever is asked for them next', async () => {
        provider.expect(['one']);
        const session = await worker(a);
        const first = await a.send(session.id, 'hello');
        await idle(a, session);
        await a.server.kill();
        provider.expect(['two']);
        const second = await b.send(session.id, 'again');
        const log = await idle(b, session);
        assertSound(log, { accepted: [...first.data, ...second.data] });
        assert.deepEqual(texts(log), ['one', 'two']);
    });

    test('politely, leaves its running turn to the other', async () => {
        const held = provider.expect({ blocks: ['never'], hold: 4 });
        provider.expect(['at last']);
        const session = await worker(a);
        const { data: accepted } = await a.send(session.id, 'work');
        await held.paused;
        await a.server.stop();
        const log = await idle(b, session);
        assertSound(log, { accepted });
        assert.deepEqual(texts(log), ['at last']);
    });
});

describe('a session of the other process', () => {
    test('takes messages, once and in order, and streams each event once', async () => {
        const held = provider.expect({ blocks: ['first'], hold: 4 });
        const session = await worker(a);
        const stream = await b.stream(session.id);
        const one = await a.send(session.id, 'one');
        await held.paused;
        const two = await b.send(session.id, 'two');
        const three = await b.send(session.id, 'three');
        provider.fallback = () => ['more'];
        held.release();
        const seen = [];
        await eventually('three turns\' worth of messages', async () => {
            seen.push(...(await stream.until('session.status_idle')));
            return seen.filter((e) => e.type === 'user.message').length === 3 || undefined;
        });
        const log = await idle(b, session);
        assertSound(log, { accepted: [...one.data, ...two.data, ...three.data] });
        assert.deepEqual(seen, log, 'the stream is the log');
        stream.close();
        assert.deepEqual(sql('SELECT count(DISTINCT owner) AS owners FROM session WHERE id = ?', session.id).map((r) => r.owners), [1]);
    });

    test('is woken there when it rests', async () => {
        const session = await worker(a);
        const stream = await a.stream(session.id);
        provider.expect(['heard']);
        const { data: accepted } = await b.send(session.id, 'psst');
        await stream.until('session.status_idle');
        stream.close();
        const log = await idle(b, session);
        assertSound(log, { accepted });
    });

    test('is updated, read, archived and deleted through any', async () => {
        provider.expect([{ bash: 'echo hello > file' }]);
        provider.expect(['done']);
        const session = await worker(a);
        const stream = await b.stream(session.id);
        await a.send(session.id, 'work');
        await idle(a, session);
        const { sessions } = b.client().beta;
        assert.equal((await sessions.update(session.id, { title: 'through b' })).title, 'through b');
        assert.equal((await a.client().beta.sessions.retrieve(session.id)).title, 'through b');
        assert.deepEqual(await lines(b, session, 'file'), ['hello']);
        const tar = await b.http('GET', `/v1/sessions/${session.id}/workspace.tar`, { beta: null });
        assert.equal(tar.status, 200);
        assert.match(tar.text, /ustar/);
        const put = await b.http('PUT', `/v1/sessions/${session.id}/workspace`, { body: Buffer.alloc(1024), headers: { 'content-type': 'application/x-tar' }, beta: null });
        assert.equal(put.status, 200, put.text);
        const wrong = await b.http('POST', `/v1/sessions/${session.id}`, { body: { title: 7 } });
        assert.equal(wrong.status, 400);
        assert.equal(wrong.json.error.type, 'invalid_request_error');
        assert.ok((await sessions.archive(session.id)).archived_at);
        await sessions.delete(session.id);
        const seen = await stream.until('session.deleted');
        assert.ok(seen.some((e) => e.type === 'session.status_terminated'));
        await assert.rejects(sessions.retrieve(session.id), { status: 404 });
        await assert.rejects(sessions.update(session.id, { title: 'x' }), { status: 404 });
    });

    test('gets a resource once, however often it is asked for through another under one idempotency key', async () => {
        const session = await worker(a);
        const file = await b.client().beta.files.upload({ file: new File(['x'], 'x.txt', { type: 'text/plain' }) });
        const add = () => b.http('POST', `/v1/sessions/${session.id}/resources`, {
            body: { type: 'file', file_id: file.id, mount_path: '/x.txt' }, headers: { 'idempotency-key': `once-${session.id}` },
        });
        const answers = [await add(), await add()];
        assert.deepEqual(answers.map((r) => r.status), [200, 200], answers[1].text);
        assert.equal(answers[1].text, answers[0].text);
    });

    test('is not there for another workspace\'s key', async () => {
        const session = await worker(a);
        const made = b.server.command(['keys', 'create', '--workspace', 'elsewhere']);
        const key = made.stdout.trim().split('\n').at(-1);
        const { status } = await b.http('POST', `/v1/sessions/${session.id}`, { body: { title: 'x' }, key });
        assert.equal(status, 404);
    });

    test('stays with its owner while that one is stopped, and goes on with it', async () => {
        const held = provider.expect({ blocks: ['slow'], hold: 4 });
        const session = await worker(a);
        const { data: accepted } = await a.send(session.id, 'work');
        await held.paused;
        const from = b.server.log.length;
        a.server.child.kill('SIGSTOP');
        // Two of the other's rounds, as its answers to writes tell.
        const other = await b.agent();
        for (let t0 = performance.now(); performance.now() - t0 < 2500;) await b.client().beta.agents.retrieve(other.id);
        a.server.child.kill('SIGCONT');
        held.release();
        const log = await idle(a, session);
        assertSound(log, { accepted });
        assert.deepEqual(texts(log), ['slow']);
        assert.doesNotMatch(b.server.log.slice(from), /taking up/);
    });
});

test('a writer with an old epoch is refused and loads the session anew', async () => {
    const held = provider.expect({ blocks: ['stale'], hold: 4 });
    const session = await worker(a);
    const { data: accepted } = await a.send(session.id, 'work');
    await held.paused;
    sql('UPDATE session SET epoch = epoch + 1 WHERE id = ?', session.id);
    provider.expect(['fresh']);
    held.release();
    const log = await idle(a, session);
    assertSound(log, { accepted });
    assert.deepEqual(texts(log), ['fresh']);
    assert.match(a.server.log, /this writer holds epoch/);
});

test('fifty sessions on two processes that are killed at random all end their turns', async () => {
    const SESSIONS = 50, KILLS = 8;
    provider.fallback = ({ json }) => (json.messages.some((m) => m.content.some((c) => c.type === 'tool_result')) ? ['done'] : [{ bash: 'echo run >> runs' }]);
    const agent = await a.agent({ model: MODEL, tools: TOOLSET });
    const environment = await a.environment();
    const all = [];
    let seed = 4711, kills = 0;
    const pick = (n) => (seed = (seed * 1103515245 + 12345) % 2 ** 31) % n;
    // Whoever is there answers; a request that was cut by a kill may have been accepted.
    const ask = (what) => eventually('an answer', () => what([a, b][pick(2)]).catch(() => undefined));
    const feeding = (async () => {
        for (let i = 0; i < SESSIONS; i++) {
            const session = await ask((w) => w.client().beta.sessions.create({ agent: agent.id, environment_id: environment.id }));
            const sent = await ask((w) => w.send(session.id, message(`go ${i}`)));
            all.push({ session, sent });
        }
    })();
    for (; kills < KILLS; kills++) {
        const victim = [a, b][pick(2)];
        await eventually('some work', () => all.length >= Math.min(SESSIONS, (kills + 1) * 5) || undefined);
        await victim.server.kill();
        await victim.server.start();
    }
    await feeding;
    for (const { session, sent } of all) {
        const log = await eventually(`the end of ${session.id}`, async () => {
            const events = await a.events(session.id);
            return events.at(-1)?.type === 'session.status_idle' && events.some((e) => e.id === sent.data[0].id) ? events : undefined;
        });
        const users = log.filter((e) => e.type === 'user.message');
        assertSound(log, { accepted: users });
        const [{ n, last }] = sql('SELECT count(*) AS n, max(seq) AS last FROM event JOIN session ON session.key = event.session WHERE session.id = ?', session.id);
        assert.equal(n, last, 'numbered without a gap');
        const runs = await lines(a, session, 'runs');
        const calls = log.filter((e) => e.type === 'agent.tool_use').length;
        assert.ok(runs.length <= calls, `${runs.length} runs of ${calls} calls`);
    }
    assert.deepEqual(sql('SELECT id FROM session WHERE status IN (1, 2) OR inbox > 0'), []);
});
