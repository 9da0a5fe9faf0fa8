// A host that does not play along: full and read-only disks, taken ports, wrong command lines.
import { after, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, closeSync, mkdirSync, openSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { FakeMessages } from '../lib/fake-messages.mjs';
import { texts, useServer, World } from '../lib/harness.mjs';
import { binary, Server } from '../lib/server.mjs';
import { assertSound, eventually, MODEL, remove, rest, scratch, TOOLSET } from '../lib/e2e.mjs';

const world = useServer();
const isRoot = process.getuid() === 0;
const mounts = new Set();

function unmount(dir) {
    if (mounts.delete(dir)) spawnSync('umount', ['-l', dir]);
}
process.on('exit', () => mounts.forEach(unmount));

// Mounts a small file system of the test's own; a reason to skip when this host does not let us.
function tmpfs(dir, options) {
    mkdirSync(dir, { recursive: true });
    const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', dir], { encoding: 'utf8' });
    if (status !== 0) return stderr.trim() || 'mount failed';
    mounts.add(dir);
    return null;
}

// Takes all the room that is left.
function fill(dir) {
    const fd = openSync(path.join(dir, 'filler'), 'w');
    try {
        for (let size = 1 << 20; size >= 1; size >>= 1) {
            try {
                for (;;) writeSync(fd, Buffer.alloc(size, 'x'));
            } catch (error) {
                assert.equal(error.code, 'ENOSPC');
            }
        }
    } finally {
        closeSync(fd);
    }
}
const free = (dir) => rmSync(path.join(dir, 'filler'));

describe('a full disk', () => {
    test('writes are refused with the reason, reads go on, a turn waits, and with room all is well again', async (t) => {
        if (!isRoot) return t.skip('mounting a small file system needs root');
        const provider = new FakeMessages();
        await provider.start();
        const small = new World();
        const server = new Server({ env: { ANTHROPIC_API_KEY: 'k', ANTHROPIC_BASE_URL: provider.url } });
        small.server = server;
        try {
            const reason = tmpfs(server.data, 'size=8m,mode=700');
            if (reason) return t.skip(`no tmpfs here: ${reason}`);
            await server.start();
            const held = provider.expect({ blocks: ['kept through the trouble'], hold: 4 });
            const session = await small.session({ agent: { model: MODEL } });
            const { data: accepted } = await small.send(session.id, 'speak');
            await held.paused;
            fill(server.data);
            const refusals = [];
            for (let i = 0; i < 200 && refusals.length < 3; i++) {
                const answer = await small.http('POST', `/v1/sessions/${session.id}/events`, { body: { events: [{ type: 'user.message', content: [{ type: 'text', text: `${i} ${'x'.repeat(8000)}` }] }] } });
                if (answer.status === 200) accepted.push(...answer.json.data);
                else refusals.push(answer);
            }
            assert.equal(refusals.length, 3, 'a full disk refuses sooner or later');
            for (const { status, json } of refusals) {
                assert.equal(status, 507);
                assert.equal(json.error.type, 'api_error');
                assert.match(json.error.message, /full|space|room/i);
            }
            held.release();
            assert.equal((await small.http('GET', '/healthz')).status, 200);
            assert.equal((await small.http('GET', `/v1/sessions/${session.id}`)).status, 200);
            assert.equal((await small.http('GET', `/v1/sessions/${session.id}/events`)).status, 200);
            provider.fallback = () => ['and the rest'];
            free(server.data);
            await rest(small, session);
            const log = await small.events(session.id);
            assert.equal(texts(log)[0], 'kept through the trouble');
            assertSound(log, { accepted });
            assert.equal(provider.requests.filter((r) => r.json.messages.length === 1).length, 1, 'the first answer was not bought twice');
            await server.stop();
            fill(server.data);
            const full = spawnSync(binary, ['serve', '--data', server.data, '--listen', '127.0.0.1:0'], { encoding: 'utf8', env: server.env, timeout: 30000 });
            if (full.status !== null) {
                assert.equal(full.status, 3, full.stderr);
                assert.match(full.stderr, /--data/);
            }
            free(server.data);
            await server.start();
            assert.deepEqual(await small.events(session.id), log, 'nothing acknowledged was lost');
        } finally {
            await server.stop();
            unmount(server.data);
            await server.dispose();
            await provider.stop();
        }
    });

    test('an ordinary user and root alike are told that a data directory cannot be written', (t) => {
        const dir = scratch();
        t.after(() => {
            unmount(dir);
            remove(dir);
        });
        if (isRoot) {
            const reason = tmpfs(dir, 'ro,size=1m');
            if (reason) return t.skip(`no tmpfs here: ${reason}`);
        } else {
            chmodSync(dir, 0o500);
        }
        for (const data of [dir, path.join(dir, 'below')]) {
            const { status, stderr } = serve(['--data', data]);
            assert.equal(status, 3, stderr);
            assert.match(stderr, /read-only|cannot write|permission/i);
            assert.ok(stderr.includes(data), stderr);
            assert.match(stderr, /--data/);
        }
    });
});

function serve(args, options = {}) {
    return spawnSync(binary, ['serve', '--listen', '127.0.0.1:0', ...args], { encoding: 'utf8', env: { PATH: process.env.PATH, HOME: world.server.dir }, timeout: 30000, ...options });
}

function lines(text) {
    return text.trimEnd().split('\n').filter((line) => !/^\d{4}-\d\d-\d\dT/.test(line));
}

describe('a start that cannot be', () => {
    const dir = scratch();
    after(() => remove(dir));

    test('a port in use ends it with 3 and names the port and the way out', () => {
        const { status, stderr } = spawnSync(binary, ['serve', '--data', path.join(dir, 'port'), '--listen', `127.0.0.1:${world.server.port}`], { encoding: 'utf8', timeout: 30000 });
        assert.equal(status, 3, stderr);
        assert.ok(stderr.includes(String(world.server.port)), stderr);
        assert.match(stderr, /in use/);
        assert.match(stderr, /--listen/);
    });

    test('a data directory that is a file ends it with 3', () => {
        const file = path.join(dir, 'file');
        writeFileSync(file, 'x');
        for (const data of [file, path.join(file, 'below')]) {
            const { status, stderr } = serve(['--data', data]);
            assert.equal(status, 3, stderr);
            assert.ok(stderr.includes(file), stderr);
        }
    });

    test('a database that is none ends it with 3 and leaves it alone', () => {
        const data = path.join(dir, 'broken');
        mkdirSync(data);
        writeFileSync(path.join(data, 'ostler.db'), 'this is no database, whatever its name says\n'.repeat(300));
        const { status, stderr } = serve(['--data', data]);
        assert.equal(status, 3, stderr);
        assert.ok(stderr.includes('ostler.db') || stderr.includes(data), stderr);
        assert.equal(statSync(path.join(data, 'ostler.db')).size, 44 * 300);
    });

    for (const [args, pattern] of [
        [['--no-such-option'], /--no-such-option/],
        [['--data'], /--data needs a value/],
        [['--listen', 'nonsense'], /nonsense/],
        [['--listen', '127.0.0.1:99999'], /99999/],
        [['--listen', '127.0.0.1:http'], /http/],
        [['--log-level', 'loud'], /loud/],
        [['--config', '/nonexistent/ostler.yaml'], /\/nonexistent\/ostler\.yaml/],
        [['surplus'], /surplus/],
    ]) {
        test(`"${args.join(' ')}" ends it with 2 and one line that says what is wrong`, () => {
            const { status, stderr } = serve(['--data', path.join(dir, 'never'), ...args]);
            assert.equal(status, 2, stderr);
            assert.match(stderr, pattern);
            assert.equal(lines(stderr).length, 1, stderr);
        });
    }

    for (const [what, yaml, pattern] of [
        ['an unknown key', 'listen: 127.0.0.1:0\nsandbox: {pidz: 3}\n', /:2: pidz.*pids/],
        ['a wrong type', 'sandbox: {pids: many}\n', /:1: pids/],
        ['no YAML', 'a: [1, 2\nb: }', /\.yaml:\d/],
        ['a key of the provider in the file', 'providers: {anthropic: {api_key: sk-ant-x}}\n', /api_key.*api_key_file/],
        ['a table of models that is not there', 'models: /nonexistent/models.yaml\n', /\/nonexistent\/models\.yaml/],
    ]) {
        test(`a configuration with ${what} ends it with its line`, () => {
            const file = path.join(dir, 'ostler.yaml');
            writeFileSync(file, yaml);
            const { status, stderr } = serve(['--data', path.join(dir, 'config'), '--config', file]);
            assert.ok(status === 2 || status === 3, `${status}: ${stderr}`);
            assert.match(stderr, pattern);
        });
    }
});

describe('models', () => {
    for (const model of ['gpt-9', 'script/none-such', 'Claude-Opus', '']) {
        test(`the id "${model}", that no provider takes, is refused by name`, async () => {
            const { status, json, text } = await world.http('POST', '/v1/agents', { body: { name: 'x', model } });
            assert.equal(status, 400, text);
            assert.equal(json.error.type, 'invalid_request_error');
            assert.match(json.error.message, /model/);
            assert.ok(json.error.message.includes(model));
        });
    }

    test('without a key of the provider a turn ends at once and says which variable to set', async () => {
        const session = await world.session({ agent: { model: MODEL } });
        const seen = await world.turn(session.id, 'x');
        assert.match(seen.find((e) => e.type === 'session.error').error.message, /ANTHROPIC_API_KEY/);
        assert.deepEqual(seen.at(-1).stop_reason, { type: 'retries_exhausted' });
    });
});

describe('keys', () => {
    test('a key made beside the running server works at once, sees only its workspace, and ends when it is revoked', async () => {
        const made = world.server.command(['keys', 'create', '--workspace', 'team-b', '--name', 'ci']);
        assert.equal(made.status, 0, made.stderr);
        const key = made.stdout.trim();
        assert.match(key, /^sk-\S{20,}$/);
        const mine = await world.agent({ tools: TOOLSET });
        const list = () => world.http('GET', '/v1/agents', { key });
        assert.equal((await list()).status, 200);
        assert.deepEqual((await list()).json.data, []);
        assert.equal((await world.http('GET', `/v1/agents/${mine.id}`, { key })).status, 404);
        await world.server.restart();
        assert.deepEqual((await list()).json.data, []);
        const listed = world.server.command(['keys', 'ls', '--workspace', 'team-b']);
        const id = listed.stdout.match(/apikey_\S+/)[0];
        assert.ok(!listed.stdout.includes(key), 'the key is shown once only');
        assert.equal(world.server.command(['keys', 'revoke', id]).status, 0);
        await eventually('the revocation', async () => (await list()).status === 401);
        assert.equal((await world.http('GET', '/v1/agents')).status, 200);
    });

    for (const [args, status, pattern] of [
        [['keys'], 2, /create, ls or revoke/],
        [['keys', 'destroy'], 2, /destroy/],
        [['keys', 'revoke'], 2, /apikey_/],
        [['keys', 'revoke', 'apikey_01none'], 1, /apikey_01none/],
        [['keys', 'create', '--workspace', ''], 2, /--workspace/],
    ]) {
        test(`"ostler ${args.join(' ')}" is refused with ${status}`, () => {
            const answer = world.server.command(args);
            assert.equal(answer.status, status, answer.stderr);
            assert.match(answer.stderr, pattern);
        });
    }
});
