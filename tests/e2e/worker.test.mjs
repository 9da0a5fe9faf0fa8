// `ostler worker` against a server that speaks the protocol and does what the test says.
import { afterEach, beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { constants, existsSync, mkdirSync, readFileSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { ENV, ENV_KEY, FakeWork } from '../lib/fake-work.mjs';
import { Worker, letThrough } from '../lib/worker.mjs';
import { eventually, remove, scratch } from '../lib/e2e.mjs';

const { O_NONBLOCK, O_WRONLY } = constants;
let server;
let workers;
beforeEach(async () => {
    server = new FakeWork();
    workers = [];
    await server.start();
});
afterEach(async () => {
    try {
        for (const worker of workers) {
            if (worker.child) worker.child.kill('SIGCONT');
            assert.ok(!worker.log.includes(ENV_KEY) && !worker.log.includes('sk-ant-req'), 'no credential in the log');
            await worker.dispose();
        }
        assert.deepEqual(server.problems, []);
    } finally {
        for (const worker of workers) worker.abandon();
        await server.stop();
    }
});

function make(...args) {
    const worker = new Worker({ url: server.url, args });
    workers.push(worker);
    return worker;
}
const worker = (...args) => make(...args).start();
const text = (result) => result.content.map((c) => c.text).join('');

// A command that notes its run and waits at a FIFO until the test lets it through.
const gated = 'echo begun >> runs; mkfifo gate; read -r line < gate; echo ended >> runs; echo through $line';

// A worker in the middle of a call of the only session, which is `item` of the queue.
async function busy() {
    const w = await worker();
    const session = server.session();
    const [call] = session.calls({ command: gated });
    const item = server.queue(session);
    return { w, session, call, item, gate: await w.atGate(session) };
}

describe('ostler worker', () => {
    test('runs the calls of a session in its sandbox, answers each once and gives the session back when it rests', async () => {
        const w = await worker('--idle-seconds', '1', '--name', 'worker-of-the-test');
        const session = server.session();
        const [a, b, c] = session.calls({ command: 'echo one; pwd' }, { name: 'write', file_path: '/workspace/two.txt', content: 'two\n' }, { command: 'exit 3' });
        server.queue(session);
        assert.match(text(await session.result(a)), /one\n\/workspace/);
        assert.equal((await session.result(b)).is_error, false);
        assert.equal((await session.result(c)).tool_use_id, c.id);
        assert.equal(w.read(session, 'two.txt'), 'two\n');
        const [d] = session.calls({ name: 'read', file_path: 'two.txt' });
        assert.match(text(await session.result(d)), /two/);
        session.rest();
        const stop = await server.request('stop');
        assert.deepEqual(stop.body, { force: true });
        assert.equal(session.results.length, 4);
        const verbs = server.requests.map((r) => r.verb);
        assert.ok(verbs.indexOf('heartbeat') < verbs.indexOf('session'), 'heartbeats begin before the session is read');
        assert.ok(verbs.indexOf('stream') < verbs.indexOf('list'), 'the stream stands before the history is read');
        assert.equal(server.of('heartbeat')[0].query.expected_last_heartbeat, 'NO_HEARTBEAT');
        assert.equal(server.of('poll')[0].headers['anthropic-worker-id'], 'worker-of-the-test');
        assert.ok(server.of('poll').every((r) => r.query.block_ms === '999'));
    });

    test('renews its lease by naming the heartbeat before, at half of its time', async () => {
        server.ttl = 2;
        await worker();
        const session = server.session();
        server.queue(session);
        await server.until('four heartbeats', () => server.of('heartbeat').length >= 4);
        const beats = server.of('heartbeat');
        assert.ok(beats.every((r) => r.status === 200));
        assert.equal(new Set(beats.map((r) => r.query.expected_last_heartbeat)).size, beats.length);
        assert.ok(beats.at(-1).at - beats[0].at >= 2500);
    });

    test('runs an asked call when it is allowed, never a denied one, and leaves the tools of others alone', async () => {
        await worker();
        const session = server.session();
        const [asked, refused, strange, denied, custom, web] = session.calls(
            { command: 'echo allowed', permission: 'ask' }, { command: 'echo refused > refused', permission: 'ask' }, { command: 'echo strange', permission: 'who_knows' },
            { command: 'echo denied', permission: 'deny' }, { name: 'bash', type: 'agent.custom_tool_use', command: 'echo custom' }, { name: 'web_fetch', url: 'http://example.com/' });
        server.queue(session);
        await server.request('list');
        session.emit({ type: 'user.tool_confirmation', tool_use_id: refused.id, result: 'deny' });
        session.emit({ type: 'user.tool_confirmation', tool_use_id: asked.id, result: 'allow' });
        assert.match(text(await session.result(asked)), /allowed/);
        session.emit({ type: 'user.tool_confirmation', tool_use_id: strange.id, result: 'allow' });
        assert.match(text(await session.result(strange)), /strange/);
        assert.deepEqual(session.results.map((r) => r.tool_use_id), [asked.id, strange.id]);
        assert.ok(denied && custom && web);
    });

    test('a call that came while the history was read, or while the stream was broken, runs once', async () => {
        const w = await worker();
        const session = server.session();
        session.emit({ type: 'user.message', content: [] });
        let late;
        server.answers.list = () => {
            late ??= session.calls({ command: 'echo once >> runs' })[0];
        };
        server.queue(session);
        await session.result(await server.until('the late call', () => late));
        session.dropStreams();
        server.answers = {};
        const [gap] = session.calls({ command: 'echo gap >> runs' });
        await session.result(gap);
        assert.equal(w.read(session, 'runs'), 'once\ngap\n');
    });

    test('an answered call of the history is not run again', async () => {
        const w = await worker();
        const session = server.session();
        const [old] = session.calls({ command: 'echo old >> runs' });
        session.emit({ type: 'user.tool_result', tool_use_id: old.id, content: [{ type: 'text', text: 'old' }] });
        const [fresh] = session.calls({ command: 'echo fresh >> runs' });
        server.queue(session);
        await session.result(fresh);
        assert.equal(w.read(session, 'runs'), 'fresh\n');
    });

    test('an interrupt ends a running call, whose result says so; one before the worker came keeps a call from starting', async () => {
        const w = await worker();
        const session = server.session();
        session.calls({ command: 'echo never >> runs' });
        session.emit({ type: 'user.interrupt' });
        const [call] = session.calls({ command: gated });
        server.queue(session);
        const gate = await w.atGate(session);
        session.emit({ type: 'user.interrupt' });
        const result = await session.result(call);
        await gate.close();
        assert.equal(result.is_error, true);
        assert.equal(w.read(session, 'runs'), 'begun\n');
    });

    test('a call that somebody else answers is stopped, and nothing is sent for it', async () => {
        const { session, call, gate } = await busy();
        session.emit({ type: 'user.tool_result', tool_use_id: call.id, content: [] });
        const [next] = session.calls({ command: 'cat runs' });
        assert.equal(text(await session.result(next)).trim(), 'begun');
        await gate.close();
        assert.deepEqual(session.results.map((r) => r.tool_use_id), [next.id]);
    });

    test('a result is sent again when the connection breaks, and a refused one is left', async () => {
        await worker();
        const session = server.session();
        let broken = 0;
        server.answers.send = (request) => {
            if (request.body.events[0].tool_use_id === refused?.id) return { status: 400, json: { type: 'error', error: { type: 'invalid_request_error', message: 'answered already' } } };
            return broken++ ? undefined : 'destroy';
        };
        let refused;
        const [call] = session.calls({ command: 'echo again' });
        server.queue(session);
        await session.result(call);
        assert.equal(broken, 2);
        assert.equal(new Set(server.of('send').map((r) => r.headers['idempotency-key'])).size, 1, 'the same request');
        refused = session.calls({ command: 'echo refused' })[0];
        await server.request('send', (r) => r.status === 400);
        server.answers = {};
        const [last] = session.calls({ command: 'echo last' });
        await session.result(last);
        assert.equal(server.of('send', (r) => r.body.events[0].tool_use_id === refused.id).length, 1);
    });

    test('a result whose token is over waits in the sandbox: the call is not run again when the session comes back', async () => {
        const w = await worker();
        const session = server.session();
        server.answers.send = () => ({ status: 401, json: { type: 'error', error: { type: 'authentication_error', message: 'the work item of this token is over' } } });
        const [call] = session.calls({ command: 'echo ran >> runs; echo once' });
        const item = server.queue(session);
        await w.says('the session is not ours any more');
        server.answers = {};
        item.latest_heartbeat_at = null;
        server.requeue(item);
        assert.match(text(await session.result(call)), /once/);
        assert.equal(w.read(session, 'runs'), 'ran\n');
        assert.equal(server.of('stop').length, 0, 'it was not ours to stop');
    });

    test('a heartbeat that was answered late holds the lease from when it was sent', async () => {
        server.ttl = 8;
        const w = await worker();
        const session = server.session();
        session.calls({ command: gated });
        let first;
        const answer = { type: 'work_heartbeat', last_heartbeat: 'the first', lease_extended: true, state: 'active', ttl_seconds: server.ttl };
        server.answers.heartbeat = (request) => {
            if (first) return 'destroy';
            first = request.at;
            return () => server.until('six seconds', () => Date.now() - first >= 6000).then(() => ({ json: answer }));
        };
        server.queue(session);
        const gate = await w.atGate(session);
        await w.says('lease lost');
        assert.ok(Date.now() - first < 12000, `lost after ${Date.now() - first} ms`);
        await gate.close();
        assert.deepEqual(session.results, []);
    });

    test('a lease that another worker has is lost: the call ends, nothing is sent or stopped', async () => {
        server.ttl = 2;
        const { w, session, item, gate } = await busy();
        item.latest_heartbeat_at = 'of another worker';
        await w.says('lease lost');
        await eventually('the end of the command', async () => {
            try {
                await (await open(w.file(session, 'gate'), 'r+')).close();
                return !w.log.includes('a call ran') && gate;
            } catch {
                return false;
            }
        });
        await gate.close();
        const polls = server.of('poll').length;
        await server.until('another poll', () => server.of('poll').length > polls);
        assert.deepEqual(session.results, []);
        assert.equal(server.of('stop').length, 0);
        assert.equal(w.read(session, 'runs'), 'begun\n');
    });

    test('a server that says nothing for the time of the lease has lost it to others', async () => {
        server.ttl = 2;
        const { w, session, gate } = await busy();
        server.answers.heartbeat = () => 'destroy';
        await w.says('lease lost');
        server.answers = {};
        await gate.close();
        assert.deepEqual(session.results, []);
    });

    test('an item that the server wants to end is stopped', async () => {
        server.ttl = 2;
        const { session, item, gate } = await busy();
        item.state = 'stopping';
        await server.request('stop');
        await gate.close();
        assert.deepEqual(session.results, []);
    });

    test('the item of a terminated session is stopped and nothing is run', async () => {
        const w = await worker();
        const session = server.session();
        session.calls({ command: 'echo never > runs' });
        session.status = 'terminated';
        server.queue(session);
        await server.request('stop');
        assert.equal(server.of('stream').length, 0);
        assert.equal(w.read(session, 'runs'), undefined);
    });

    test('a session that terminates while it is served ends, one that is deleted takes its files along', async () => {
        const w = await worker();
        const session = server.session();
        const [call] = session.calls({ command: 'echo here > file' });
        server.queue(session);
        await session.result(call);
        session.emit({ type: 'session.deleted' });
        await server.request('stop');
        await eventually('its files to go', () => !existsSync(path.join(w.work, 'sandboxes', session.id)) && !existsSync(path.join(w.work, 'seen', session.id)));
    });

    test('items that cannot be served are stopped, and none of them makes a hot loop', async () => {
        await worker();
        server.holdPolls = false;
        let n = 0;
        server.answers.poll = () => (n++ < 2 ? { json: { id: 'work_x', data: 'nonsense' } } : n < 4 ? { bytes: '{"id":' } : undefined);
        const health = server.queue(undefined, { data: { type: 'healthcheck', id: 'health_1' } });
        const session = server.session();
        const [call] = session.calls({ command: 'echo served' });
        server.queue(session);
        await session.result(call);
        await server.until('the end of the health check', () => health.state === 'stopped');
        const polls = server.of('poll');
        assert.ok(polls[3].at - polls[0].at > 1500, 'bad answers in a row are asked for ever less often');
    });

    test('an acknowledgement that fails leaves the item to the next poll', async () => {
        await worker();
        let refused = false;
        server.answers.ack = () => (refused ? undefined : ((refused = true), { status: 500, json: {} }));
        const session = server.session();
        const [call] = session.calls({ command: 'echo served' });
        const item = server.queue(session);
        await server.request('ack');
        server.requeue(item);
        await session.result(call);
        assert.equal(server.of('ack').length, 2);
    });

    for (const [status, hint] of [[401, 'check the environment key'], [404, 'check --environment']]) {
        test(`a server that answers ${status} ends the worker with a reason`, async () => {
            server.answers.poll = () => ({ status, json: { type: 'error', error: { type: 'x', message: 'says the server' } } });
            const w = await make().start({ ready: false });
            assert.equal((await w.exited).code, 1);
            w.child = null;
            assert.ok(w.log.includes('says the server') && w.log.includes(hint), w.log);
            assert.equal(server.of('poll').length, 1);
        });
    }

    test('a server that is away for a while is asked less and less often, and served when it is back', async () => {
        const w = await worker();
        await server.stop();
        await w.says('cannot get work');
        await server.start();
        const session = server.session();
        const [call] = session.calls({ command: 'echo back' });
        server.queue(session);
        assert.match(text(await session.result(call)), /back/);
    });

    test('SIGTERM lets the running call end, sends its result, gives the session back and exits with 0', async () => {
        const { w, session, call, gate } = await busy();
        w.child.kill('SIGTERM');
        await w.says('no more work is taken');
        const polls = server.of('poll').length;
        const [never] = session.calls({ command: 'echo never >> runs' });
        await letThrough(gate);
        assert.match(text(await session.result(call)), /through now/);
        assert.equal((await w.exited).code, 0);
        w.child = null;
        assert.equal(server.of('stop').length, 1);
        assert.equal(server.of('poll').length, polls);
        assert.ok(!session.results.some((r) => r.tool_use_id === never.id));
    });

    test('a second SIGTERM does not wait: the call goes on and the next worker here has its result', async () => {
        const { w, session, call, item, gate } = await busy();
        w.child.kill('SIGTERM');
        await w.says('no more work is taken');
        w.child.kill('SIGTERM');
        assert.equal((await w.exited).code, 0);
        assert.equal(server.of('stop').length, 0);
        await letThrough(gate);
        item.latest_heartbeat_at = null;
        server.requeue(item);
        await w.start();
        assert.match(text(await session.result(call)), /through now/);
        assert.equal(w.read(session, 'runs'), 'begun\nended\n');
    });

    test('a killed worker asks for the result of what it had begun instead of running it again', async () => {
        const { w, session, call, item, gate } = await busy();
        await w.kill();
        item.latest_heartbeat_at = null;
        server.requeue(item);
        await w.start();
        await server.until('the second reading of the session', () => server.of('list').length >= 2 && server.of('ack').length === 2);
        await letThrough(gate);
        assert.match(text(await session.result(call)), /through now/);
        assert.equal(w.read(session, 'runs'), 'begun\nended\n');
    });

    test('a sandbox that died with its worker is told as an unknown outcome; what was not begun runs', async () => {
        const { w, session, call, item, gate } = await busy();
        await w.kill();
        const { pid } = JSON.parse(readFileSync(path.join(w.work, 'sandboxes', session.id, 'sandbox.json')));
        process.kill(pid, 'SIGKILL');
        await eventually('the end of the command', () => open(w.file(session, 'gate'), O_WRONLY | O_NONBLOCK).then((again) => again.close(), () => true));
        await gate.close();
        const [next] = session.calls({ command: 'cat runs' });
        item.latest_heartbeat_at = null;
        server.requeue(item);
        await w.start();
        const result = await session.result(call);
        assert.equal(result.is_error, true);
        assert.match(text(result), /unknown.*\[failure: sandbox_lost\]/s);
        assert.equal(text(await session.result(next)).trim(), 'begun');
    });

    test('of two workers the one that was stopped finds its lease taken and sends nothing', async () => {
        server.ttl = 2;
        const { w: one, session, call, item, gate } = await busy();
        one.child.kill('SIGSTOP');
        item.latest_heartbeat_at = null;
        server.requeue(item);
        const two = await worker();
        const other = await two.atGate(session);
        await letThrough(gate); // its result waits in the socket of the one that stands
        await eventually('the end of the call', () => one.read(session, 'runs') === 'begun\nended\n');
        await server.until('time to pass', () => Date.now() - item.offered > 2500);
        one.child.kill('SIGCONT');
        await one.says('lease lost');
        await letThrough(other);
        await session.result(call);
        assert.equal(server.of('send').length, 1);
    });

    test('sessions that wait for people take no place', async () => {
        await worker('--sessions', '1');
        const waiting = server.session();
        waiting.calls({ command: 'echo later', permission: 'ask' });
        server.queue(waiting);
        await server.request('list', (r) => r.path.includes(waiting.id));
        const session = server.session();
        const [call] = session.calls({ command: 'echo now' });
        server.queue(session);
        assert.match(text(await session.result(call)), /now/);
    });

    test('no more sessions than asked for are served at the same time', async () => {
        const w = await worker('--sessions', '1');
        const [one, two] = [server.session(), server.session()];
        const [a] = one.calls({ command: gated });
        const [b] = two.calls({ command: 'echo second' });
        server.queue(one);
        server.queue(two);
        const gate = await w.atGate(one);
        assert.equal(server.of('ack').length, 1);
        await letThrough(gate);
        await one.result(a);
        one.rest();
        await two.result(b);
    });

    test("the skills of the session's agent are in its workspace, each version fetched once", async () => {
        const w = await worker();
        const dir = scratch();
        mkdirSync(path.join(dir, 'my-skill'));
        writeFileSync(path.join(dir, 'my-skill', 'SKILL.md'), '---\nname: my-skill\ndescription: shows skills\n---\nDo it well.\n');
        const content = execFileSync('tar', ['-c', '-C', dir, 'my-skill']);
        remove(dir);
        server.skills = { skill_1: { version: 'skillver_7', name: 'my-skill', content } };
        for (let i = 0; i < 2; i++) {
            const session = server.session();
            session.skills = [{ type: 'custom', skill_id: 'skill_1', version: 'latest' }, { type: 'custom', skill_id: 'skill_gone', version: '2' }];
            const [call] = session.calls({ command: 'cat skills/my-skill/SKILL.md' });
            server.queue(session);
            assert.match(text(await session.result(call)), /Do it well/);
        }
        assert.equal(server.of('content').length, 1);
        assert.ok(w.log.includes('skill_gone'));
    });

    test('a sandbox reaches only what the worker was told to allow', async () => {
        await worker('--allow-hosts', 'allowed.invalid');
        const session = server.session();
        const [denied, allowed] = session.calls({ command: `curl -sS -m 5 http://example.com/ 2>&1; curl -s -m 5 -o /dev/null -w '%{http_code}' ${server.url}/ 2>&1` }, { command: 'curl -s -m 9 -o /dev/null -w "%{http_code}" http://allowed.invalid/' });
        server.queue(session);
        assert.match(text(await session.result(denied)), /not allowed|403|denied|000/);
        assert.notEqual(text(await session.result(allowed)).trim(), '403');
    });

    test('--once ends when the queue is empty and what was taken is done', async () => {
        const session = server.session();
        const [call] = session.calls({ command: 'echo once' });
        session.rest();
        server.queue(session);
        const w = await make('--once', '--idle-seconds', '1').start();
        await session.result(call);
        session.rest();
        assert.equal((await w.exited).code, 0);
        w.child = null;
        assert.equal(server.of('stop').length, 1);
    });

    test('the files of sessions that were not seen for days are removed at a start', async () => {
        const w = await worker('--idle-seconds', '1');
        const [old, young] = [server.session(), server.session()];
        for (const session of [old, young]) {
            const [call] = session.calls({ command: 'echo kept > file' });
            server.queue(session);
            await session.result(call);
            session.rest();
        }
        await server.until('both to be given back', () => server.of('stop').length === 2);
        await w.stop();
        const long = new Date(Date.now() - 8 * 24 * 3600 * 1000);
        utimesSync(path.join(w.work, 'seen', old.id), long, long);
        await w.start();
        await eventually('the old files to go', () => !existsSync(path.join(w.work, 'sandboxes', old.id)));
        assert.equal(w.read(young, 'file'), 'kept\n');
        assert.deepEqual(readdirSync(path.join(w.work, 'seen')), [young.id]);
    });

    test('a second worker in the same directory is refused', async () => {
        const w = await worker();
        const other = make();
        other.work = w.work;
        await other.start({ ready: false });
        assert.equal((await other.exited).code, 3);
        other.child = null;
        assert.match(other.log, /another worker runs in .*--dir/);
    });

    test('where no sandbox works nothing is taken, and the reason is said', async () => {
        const w = make();
        w.options.env = { PATH: '/nonexistent' };
        await w.start({ ready: false });
        assert.equal((await w.exited).code, 3);
        w.child = null;
        assert.match(w.log, /no sandbox works here.*ostler doctor/s);
        assert.equal(server.of('poll').length, 0);
    });

    test('what is missing or wrong on the command line is said', async () => {
        const w = make();
        const cases = [[['worker'], /--environment/], [['worker', '--environment', ENV, '--network', 'some'], /limited or unrestricted/], [['worker', '--environment', '../x'], /not an environment's id/],
            [['worker', '--environment', ENV, '--allow-hosts', 'a b'], /--allow-hosts/], [['worker', '--environment', ENV, '--url', 'ftp://x'], /not a server's URL/]];
        for (const [args, message] of cases) {
            const got = w.command(args);
            assert.equal(got.status, 2, got.stderr);
            assert.match(got.stderr, message);
        }
        const without = w.command(['worker', '--environment', ENV], { env: { OSTLER_ENVIRONMENT_KEY: '' } });
        assert.match(without.stderr, /OSTLER_ENVIRONMENT_KEY/);
        assert.match(w.command(['worker', '--help']).stdout, /Usage: ostler worker/);
    });
});
