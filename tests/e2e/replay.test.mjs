// ostler replay: every request of a session that went through much comes out of its log as it was sent; what was
// changed behind the server's back is told; another agent or model is asked without any side effect.
import { after, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { json } from 'node:stream/consumers';
import { apiError, FakeMessages } from '../lib/fake-messages.mjs';
import { message, texts } from '../lib/harness.mjs';
import { binary } from '../lib/server.mjs';
import { count, rest, TOOLSET, useProvider, worker } from '../lib/e2e.mjs';

process.removeAllListeners('warning'); // that node's SQLite is new
const { DatabaseSync } = await import('node:sqlite');

const scripts = mkdtempSync(path.join(tmpdir(), 'ostler-s-'));
const script = (name, body) => writeFileSync(path.join(scripts, `${name}.lua`), `return function(request)\n${body}\nend\n`);
const twoCalls = (second) => `
    local n = #request.results
    if request.text:match("again") then return "heard" end
    if n == 0 then return { tools = { { name = "bash", input = { command = "echo one", timeout_ms = 60000 } } } } end
    if request.results[n].content:match("one") then return { tools = { { name = "bash", input = { command = "${second}" } } } } end
    return "both  done\\n"`;
script('old', twoCalls('echo two'));
script('new', twoCalls('touch /workspace/made; echo two'));
script('same', twoCalls('echo two').replace('both  done\\n', 'both done'));
script('silent', 'return { fail = "overloaded" }');

const provider = new FakeMessages();
const world = await useProvider(provider, { config: `script_dir: ${scripts}\n` });
after(() => rmSync(scripts, { recursive: true }));

const command = (session, ...args) => ['replay', session.id, '--config', path.join(world.server.dir, 'ostler.yaml'), '--data', world.server.data, ...args];
const replay = (session, ...args) => world.server.command(command(session, ...args));

function asJson(session, ...args) {
    const done = replay(session, '--json', ...args);
    assert.doesNotMatch(done.stderr, /Sanitizer|runtime error/);
    return { code: done.status, stderr: done.stderr, ...(done.stdout && JSON.parse(done.stdout)) };
}

function database(run) {
    const db = new DatabaseSync(path.join(world.server.data, 'ostler.db'));
    try {
        return run(db);
    } finally {
        db.close();
    }
}

// One number for everything that is stored, table by table.
function checksum() {
    return database((db) => {
        const hash = createHash('sha256');
        const tables = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").all();
        for (const { name } of tables) hash.update(`${name}:${JSON.stringify(db.prepare(`SELECT * FROM "${name}"`).all())}\n`);
        return hash.digest('hex');
    });
}

function assertAllEqual(session, requests) {
    const said = asJson(session);
    assert.equal(said.code, 0, JSON.stringify(said, null, 1));
    assert.deepEqual(said.requests.map((r) => r.state), Array(requests).fill('equal'));
    assert.deepEqual([said.summary.requests, said.summary.equal, said.summary.differ, said.summary.not_recorded], [requests, requests, 0, 0]);
    return said;
}

describe('requests built again', () => {
    test('tools, parallel calls, thinking: all are equal, and what is dumped is what was sent', async () => {
        const mark = provider.requests.length;
        provider.expect([{ type: 'thinking', thinking: 'hm', signature: 'sig' }, 'I look.', { bash: 'echo a' }, { bash: 'echo "b\\u0001"; false' }]);
        provider.expect([{ type: 'tool_use', name: 'write', input: { file_path: '/workspace/x', content: 'ä "x" \u2028' } }]);
        provider.expect(['done']);
        const session = await worker(world, { system: 'Be brief.' });
        await world.turn(session.id, message('wörk'), message('twice'));
        const { requests } = assertAllEqual(session, 3);
        assert.ok(requests.every((r) => r.bytes > 100 && r.output_tokens > 0 && r.answered && r.purpose === 'turn'));
        const sent = provider.requests.slice(mark);
        for (let n = 1; n <= 3; n++) {
            const file = path.join(world.server.dir, `request-${n}`);
            assert.equal(replay(session, '--request', String(n), '--dump', file).status, 0);
            const dumped = JSON.parse(readFileSync(file, 'utf8'));
            assert.deepEqual(JSON.parse(replay(session, '--request', String(n), '--dump', '-').stdout), dumped, 'and nothing else');
            assert.equal(dumped.model, sent[n - 1].json.model);
            assert.deepEqual(dumped.system, sent[n - 1].json.system);
            const bare = (messages) => JSON.parse(JSON.stringify(messages, (key, value) => (key === 'cache_control' ? undefined : value)));
            assert.deepEqual(bare(dumped.messages), bare(sent[n - 1].json.messages));
        }
        const plain = replay(session);
        assert.match(plain.stdout, /3 requests: 3 equal, 0 different; it cost/);
        assert.equal(plain.stdout.split('\n').filter((line) => / equal$/.test(line)).length, 3);
    });

    test('a retry, an interrupt, a changed agent and a crash change nothing', async () => {
        const session = await worker(world);
        provider.expect({ ...apiError(529, 'overloaded_error', 'later'), headers: { 'retry-after': '0' } });
        provider.expect(['after the retry']);
        await world.turn(session.id, 'one');

        const held = provider.expect({ blocks: ['never'], hold: 4 });
        const stream = await world.stream(session.id);
        await world.send(session.id, 'two');
        await held.paused;
        await world.send(session.id, { type: 'user.interrupt' });
        await stream.until('session.status_idle');
        stream.close();

        const ask = { type: 'custom', name: 'ask', description: 'Asks.', input_schema: { type: 'object', properties: {} } };
        await world.client().beta.sessions.update(session.id, { agent: { tools: [...TOOLSET, ask] } });
        provider.expect([{ type: 'tool_use', name: 'ask', input: {} }]);
        const asked = await world.turn(session.id, 'three');
        provider.expect([{ bash: 'echo x' }]);
        const dying = provider.expect({ blocks: ['never'], hold: 4 });
        const call = asked.find((e) => e.type === 'agent.custom_tool_use');
        await world.send(session.id, { type: 'user.custom_tool_result', custom_tool_use_id: call.id, content: [{ type: 'text', text: 'red' }] });
        await dying.paused;
        assert.equal(replay(session).status, 0, 'while it runs');
        await world.server.kill();
        assert.equal(replay(session).status, 0, 'without a server');
        const again = provider.expect(['survived']);
        await world.server.start();
        await again.arrived;
        await rest(world, session, asked.at(-1));
        await world.client().beta.sessions.update(session.id, { agent: { tools: [] } });
        provider.expect(['no tools left']);
        await world.turn(session.id, 'four');
        const log = await world.events(session.id);
        const said = assertAllEqual(session, count(log, 'span.model_request_start'));
        assert.ok(said.requests.filter((r) => !r.answered).length >= 2);
        assert.deepEqual(texts(log), ['after the retry', 'survived', 'no tools left']);
    });

    test('a compaction and what follows it are equal', async () => {
        const session = await worker(world, { model: 'claude-sonnet-4-5' });
        const long = 'A sentence that says little. '.repeat(400);
        for (let i = 0; i < 4; i++) {
            provider.expect({ blocks: [long], usage: i < 3 ? {} : { input_tokens: 990000 } });
            await world.turn(session.id, `${i}: ${long}`);
        }
        provider.expect(['The user says little.']);
        provider.expect(['and on']);
        await world.turn(session.id, 'go on');
        const log = await world.events(session.id);
        assert.equal(count(log, 'agent.thread_context_compacted'), 1);
        const { requests } = assertAllEqual(session, 6);
        assert.deepEqual(requests.map((r) => r.purpose), ['turn', 'turn', 'turn', 'turn', 'compaction', 'turn']);
    });

    test('a body that was changed in the database is told at the first request that has it', async () => {
        const session = await world.session({ agent: { model: 'script/old', tools: TOOLSET } });
        const seen = await world.turn(session.id, 'go');
        await world.turn(session.id, 'again');
        assertAllEqual(session, 4);
        const second = seen.filter((e) => e.type === 'agent.tool_result')[1];
        const stored = (from, to) => database((db) => db.prepare('UPDATE event SET body = replace(body, ?, ?) WHERE id = ?').run(from, to, second.id));
        assert.equal(stored('two', 'tow').changes, 1);
        const said = asJson(session);
        assert.equal(said.code, 1);
        assert.deepEqual(said.requests.map((r) => r.state), ['equal', 'equal', 'differs', 'differs']);
        assert.deepEqual(said.requests.slice(2).map((r) => r.part), ['messages', 'messages']);
        const log = await world.events(session.id);
        assert.equal(log[said.requests[2].equal_up_to_seq - 1].id, said.requests[1].event_id);
        const plain = replay(session);
        assert.equal(plain.status, 1);
        assert.match(plain.stdout, /DIFFERS: messages, in the events \d+ to \d+\n/);
        assert.match(plain.stdout, /4 requests: 2 equal, 2 different/);

        stored('tow', 'two');
        database((db) => db.prepare("UPDATE session_config SET agent = replace(agent, 'script/old', 'script/new')").run());
        assert.deepEqual(asJson(session).requests.map((r) => r.part), Array(4).fill('model'));
        database((db) => db.prepare("UPDATE session_config SET agent = replace(agent, 'script/new', 'script/old')").run());
        assertAllEqual(session, 4);

        stored('{', '[');
        const broken = replay(session);
        assert.equal(broken.status, 3);
        assert.match(broken.stderr, new RegExp(`event ${second.id}`));
    });

    test('requests without a digest are told to be not recorded', async () => {
        const session = await world.session();
        await world.turn(session.id, 'x');
        database((db) => db.prepare('DELETE FROM transcript WHERE session = (SELECT key FROM session WHERE id = ?)').run(session.id));
        const said = asJson(session);
        assert.deepEqual([said.code, said.requests[0].state, said.summary.not_recorded], [0, 'not_recorded', 1]);
        assert.match(replay(session).stdout, /not recorded/);
    });
});

describe('another agent or model', () => {
    let session;

    async function recorded() {
        if (session) return session;
        session = await world.session({ agent: { model: 'script/old', tools: TOOLSET } });
        await world.turn(session.id, 'go');
        await world.turn(session.id, 'again');
        return session;
    }

    test('that says the same but for blanks is found to agree', async () => {
        const said = asJson(await recorded(), '--model', 'script/same');
        assert.equal(said.code, 0, JSON.stringify(said));
        assert.deepEqual(said.comparisons.map((c) => c.same), [true, true, true, true]);
        assert.deepEqual([said.summary.asked, said.summary.same, said.summary.diverged], [4, 4, 0]);
    });

    test('shows its first divergence and ends there, unless told to go on', async () => {
        const said = asJson(await recorded(), '--model', 'script/new');
        assert.equal(said.code, 1);
        assert.deepEqual(said.comparisons.map((c) => c.same), [true, false]);
        const { recorded: was, other } = said.comparisons[1];
        assert.deepEqual(was, [{ type: 'tool_use', name: 'bash', input: { command: 'echo two' } }]);
        assert.deepEqual(other, [{ type: 'tool_use', name: 'bash', input: { command: 'touch /workspace/made; echo two' } }]);
        const plain = replay(session, '--model', 'script/new');
        assert.match(plain.stdout, /DIVERGES\n\s+recorded\n\s+- calls bash\n\s+\{"command":"echo two"\}\n\s+now\n\s+- calls bash\n\s+\{"command":"touch/);
        assert.match(plain.stdout, /asked 2: 1 the same, 1 different; spent/);
        const all = asJson(session, '--model', 'script/new', '--all');
        assert.deepEqual(all.comparisons.map((c) => c.same), [true, false, true, true]);
        assert.equal(all.code, 1);
    });

    test('asks no more often than allowed', async () => {
        const said = asJson(await recorded(), '--model', 'script/same', '--max-requests', '2');
        assert.deepEqual([said.summary.asked, said.summary.out_of_requests, said.code], [2, true, 0]);
        const one = asJson(session, '--model', 'script/new', '--request', '3');
        assert.deepEqual(one.comparisons.map((c) => [c.number, c.same]), [[3, true]]);
    });

    test('may be another version of the agent, with its own prompt and tools', async () => {
        const { agent } = await recorded();
        provider.expect(({ json }) => [`${json.system.at(-1).text} ${json.tools?.length ?? 0} tools`]);
        await world.client().beta.agents.update(agent.id, { version: 1, model: 'claude-sonnet-4-5', system: 'Be odd.', tools: [] });
        // Not spawnSync: the provider is of this process.
        const child = spawn(binary, command(session, '--json', '--agent', '2'), { env: world.server.env, stdio: ['ignore', 'pipe', 'inherit'] });
        const [said, [code]] = await Promise.all([json(child.stdout), once(child, 'exit')]);
        assert.equal(code, 1);
        assert.equal(said.agent_version, 2);
        assert.deepEqual(said.comparisons.map((c) => c.other), [[{ type: 'text', text: 'Be odd. 0 tools' }]]);
        assert.ok(said.summary.input_tokens > 0 && said.summary.cost_microusd > 0, JSON.stringify(said.summary));
        assert.equal(replay(session, '--agent', '1').status, 0);
        const none = replay(session, '--agent', '3');
        assert.equal(none.status, 3);
        assert.match(none.stderr, /has no version 3/);
    });

    test('has no side effects: nothing is stored, nothing is run', async () => {
        await recorded();
        const before = checksum();
        for (const args of [[], ['--model', 'script/new', '--all'], ['--agent', '1'], ['--request', '1', '--dump', '-']]) {
            assert.ok(replay(session, ...args).status <= 1, args.join(' '));
            assert.equal(checksum(), before, args.join(' '));
        }
        const { status } = await world.http('GET', `/v1/sessions/${session.id}/workspace?path=made`, { beta: null });
        assert.equal(status, 404);
    });

    test('that cannot be asked, or does not exist, is said', async () => {
        const failed = replay(await recorded(), '--model', 'script/silent');
        assert.equal(failed.status, 3);
        assert.match(failed.stderr, /script\/silent could not be asked/);
        const unknown = replay(session, '--model', 'no-such-model');
        assert.equal(unknown.status, 2);
        assert.match(unknown.stderr, /no-such-model/);
    });
});

test('what it cannot do is refused with a reason', async () => {
    const session = await world.session();
    for (const [args, status, why] of [
        [[], 0, null],
        [['--dump', 'x'], 2, /--dump needs --request/],
        [['--request', '1', '--dump', 'x', '--model', 'script/old'], 2, /leave out/],
        [['--all'], 2, /--all goes with/],
        [['--request', '1'], 2, /no request 1/],
        [['--request', '0'], 2, /request/],
    ]) {
        const done = replay(session, ...args);
        assert.equal(done.status, status, `${args}: ${done.stderr}`);
        if (why) assert.match(done.stderr, why);
    }
    assert.equal(replay({ id: 'nonsense' }).status, 2);
    const unknown = replay({ id: 'sesn_01AAAAAAAAAAAAAAAAAAAAAA' });
    assert.equal(unknown.status, 3);
    assert.match(unknown.stderr, /there is no session/);
    const nowhere = world.server.command(['replay', session.id, '--data', path.join(world.server.dir, 'nowhere')]);
    assert.equal(nowhere.status, 3);
    assert.match(nowhere.stderr, /no database/);
});
