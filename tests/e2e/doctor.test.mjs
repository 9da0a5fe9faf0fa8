// ostler doctor: as root and as an ordinary user, on hosts where things are missing, beside a server; and whether
// the server's own word about sandboxes agrees with it.
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { once } from 'node:events';
import path from 'node:path';
import { binary, build, freePort, root } from '../lib/server.mjs';
import { useServer } from '../lib/harness.mjs';
import { eventually, remove, scratch } from '../lib/e2e.mjs';

const isRoot = process.getuid() === 0;
const USER = 54321;
const SECRET = 'sk-ant-never-to-be-shown';

// The command and environment of ostler as a user; the hands' sockets go where they are removed again.
function as(uid, command, env) {
    const run = path.join(dir, `run-${uid ?? 0}`);
    if (!existsSync(run)) {
        mkdirSync(run, { mode: 0o700 });
        if (uid) chownSync(run, uid, uid);
    }
    const keep = ['PATH', 'ASAN_OPTIONS', 'UBSAN_OPTIONS', 'LSAN_OPTIONS'];
    const base = Object.fromEntries(keep.filter((name) => process.env[name]).map((name) => [name, process.env[name]]));
    return {
        command: uid ? ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--', ...command] : command,
        env: { ...base, HOME: dir, TMPDIR: path.join(dir, 'tmp'), XDG_RUNTIME_DIR: run, OSTLER_LISTEN: `127.0.0.1:${port}`, ...env },
    };
}

const complains = (text) => /Sanitizer|runtime error/.test(text);

// What came of it: {status, stdout, stderr, json, check(name)}
function report(out, json = true) {
    assert.ok(!complains(out.stderr), out.stderr);
    const value = json && out.status < 2 ? JSON.parse(out.stdout) : undefined;
    return { ...out, json: value, check: (name) => value.checks.find((c) => c.name === name) };
}

function doctor(args = [], { env = {}, program = binary, uid, json = true } = {}) {
    const how = as(uid, [program, 'doctor', ...(json ? ['--json'] : []), ...args], env);
    return report(spawnSync(how.command[0], how.command.slice(1), { encoding: 'utf8', env: how.env, timeout: 120000 }), json);
}

// The same while this process goes on: for providers of its own.
async function doctorBeside(args, env) {
    const how = as(undefined, [binary, 'doctor', '--json', ...args], env);
    const child = spawn(how.command[0], how.command.slice(1), { env: how.env, stdio: ['ignore', 'pipe', 'pipe'] });
    const out = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr']) child[name].setEncoding('utf8').on('data', (chunk) => (out[name] += chunk));
    const [status] = await once(child, 'close');
    return report({ ...out, status });
}

let dir, port;
before(async () => {
    dir = scratch();
    chmodSync(dir, 0o755);
    mkdirSync(path.join(dir, 'tmp'), { mode: 0o1777 });
    chmodSync(path.join(dir, 'tmp'), 0o1777);
    port = await freePort();
});
after(() => remove(dir));

// ostler and its hand where any user can reach them; `change` may alter the hand's bytes.
function copy(name, change) {
    const to = path.join(dir, name);
    mkdirSync(to, { recursive: true });
    for (const file of ['ostler', 'hand']) {
        copyFileSync(path.join(build, file), path.join(to, file));
        chmodSync(path.join(to, file), 0o755);
    }
    if (change) writeFileSync(path.join(to, 'hand'), change(readFileSync(path.join(to, 'hand'))), { mode: 0o755 });
    return path.join(to, 'ostler');
}

// A hand that does not know this option: its name is overwritten, wherever it stands.
function without(option) {
    return (bytes) => {
        const name = Buffer.from(`${option}\0`);
        let found = 0;
        for (let at = bytes.indexOf(name); at >= 0; at = bytes.indexOf(name, at + 1)) {
            bytes[at + 3] ^= 1;
            found++;
        }
        assert.ok(found > 0, `the hand does not have ${option}`);
        return bytes;
    };
}

const left = (where) => readdirSync(where).filter((name) => name.startsWith('.ostler-doctor'));

function assertWorks(found, tier) {
    assert.equal(found.status, 0, found.stdout);
    assert.notEqual(found.json.status, 'fail');
    assert.equal(found.check('sandbox.tier').facts.tier, tier);
    assert.match(found.check('sandbox.limits').facts.kind, /^(cgroup-v[12]|rlimits)$/);
    assert.equal(found.check('sandbox.call').status, 'ok');
    assert.ok(found.check('sandbox.call').facts.cold_us > found.check('sandbox.call').facts.warm_us);
    assert.match(found.check('sandbox.programs').facts.has, /\bbash\b/);
    assert.deepEqual(found.check('sandbox.network').facts, { modes: 'limited unrestricted', answered: true });
    assert.ok(found.check('disk.fsync').facts.fsync_us > 0);
    assert.ok(found.check('disk.space').facts.free_bytes > 0);
}

describe('a host that works', () => {
    test('is found to, a sandbox was really started, and nothing is left behind', (t) => {
        const data = path.join(dir, 'new', 'data');
        const found = doctor(['--data', data]);
        if (found.check('sandbox.tier').status === 'fail') return t.skip(found.check('sandbox.tier').found);
        assertWorks(found, isRoot ? 'bwrap-root' : 'bwrap-rootless');
        assert.ok(!existsSync(path.join(dir, 'new')), 'asking makes no data directory');
        assert.deepEqual(left(dir), []);
    });

    test('is found to by an ordinary user', (t) => {
        if (!isRoot) return t.skip('another user can be had as root only');
        const home = path.join(dir, 'home');
        mkdirSync(home);
        chownSync(home, USER, USER);
        const found = doctor([], { program: copy('bin'), uid: USER, env: { HOME: home } });
        if (found.check('sandbox.tier').status === 'fail') return t.skip(found.check('sandbox.tier').found);
        assertWorks(found, 'bwrap-rootless');
        assert.deepEqual(readdirSync(home), []);
    });

    test('as text: a line a check, its remedies, a verdict, no colours in a pipe', () => {
        const { stdout } = doctor(['--data', path.join(dir, 'text')], { json: false });
        const names = doctor(['--data', path.join(dir, 'text')]).json.checks.map((c) => c.name);
        for (const name of names) assert.match(stdout, new RegExp(`^(ok  |warn|FAIL)  ${name.replaceAll('.', '\\.')} `, 'm'));
        assert.match(stdout, /\n\d+ ok, \d+ warn, \d+ FAIL\. /);
        assert.ok(!stdout.includes('\x1b'));
    });

    test('checks and facts are those of docs/operations.md', () => {
        const guide = readFileSync(path.join(root, 'docs/operations.md'), 'utf8');
        const rows = new Map();
        for (const [, names, facts] of guide.matchAll(/^\| (`[a-z`., A-Z]+`) \| .* \| ((?:`\w+`(?:, )?)+) \|$/gm)) {
            for (const [, name] of names.matchAll(/`([^`]+)`/g)) rows.set(name, [...facts.matchAll(/`(\w+)`/g)].map((m) => m[1]));
        }
        for (const c of doctor(['--data', path.join(dir, 'documented')]).json.checks) {
            const facts = rows.get(c.name.replace(/^provider\..*/, 'provider.NAME'));
            assert.ok(facts, `${c.name} is not documented`);
            for (const key of Object.keys(c.facts)) assert.ok(facts.includes(key), `${c.name}: ${key} is not documented`);
        }
    });

    test('every check that is not ok says what to do', () => {
        const { json } = doctor(['--data', path.join(dir, 'remedies')], { env: { PATH: path.join(dir, 'empty') } });
        for (const c of json.checks) if (c.status !== 'ok') assert.ok(c.remedy, `${c.name}: ${c.found}`);
        assert.equal(json.format, 1);
        assert.equal(json.status, json.checks.some((c) => c.status === 'fail') ? 'fail' : json.checks.some((c) => c.status === 'warn') ? 'warn' : 'ok');
    });
});

describe('a host that lacks something', () => {
    test('no bwrap on PATH: exit 1, the package is named', () => {
        const bin = path.join(dir, 'nobwrap');
        mkdirSync(bin);
        for (const name of ['git', 'bash']) symlinkSync(`/usr/bin/${name}`, path.join(bin, name));
        const found = doctor(['--data', path.join(dir, 'nb')], { env: { PATH: bin } });
        assert.equal(found.status, 1);
        for (const name of ['program.bwrap', 'sandbox.tier']) {
            assert.equal(found.check(name).status, 'fail');
            assert.match(`${found.check(name).found} ${found.check(name).remedy}`, /apt-get install bubblewrap/);
        }
        assert.equal(found.check('program.git').status, 'ok');
    });

    test('a bwrap that fails: its own words come out', () => {
        const bin = path.join(dir, 'badbwrap');
        mkdirSync(bin);
        writeFileSync(path.join(bin, 'bwrap'), '#!/bin/sh\n[ "$1" = --version ] && echo "bubblewrap 9" && exit 0\necho "bwrap: No permissions to create new namespace" >&2\nexit 1\n', { mode: 0o755 });
        const found = doctor(['--data', path.join(dir, 'bb')], { env: { PATH: `${bin}:${process.env.PATH}` } });
        assert.equal(found.status, 1);
        assert.match(found.check('sandbox.tier').found, /No permissions to create new namespace/);
        assert.match(found.check('sandbox.tier').remedy, /user namespaces/);
    });

    test('no hand: exit 1 and where it is looked for', () => {
        const program = copy('nohand');
        rmSync(path.join(dir, 'nohand', 'hand'));
        const found = doctor(['--data', path.join(dir, 'nh')], { program });
        assert.equal(found.status, 1);
        assert.match(found.check('sandbox.tier').found, /hand/);
    });

    test('a data directory that cannot be written: exit 1, and the sandbox is tried elsewhere', (t) => {
        const data = path.join(dir, 'readonly');
        mkdirSync(data);
        if (isRoot) {
            const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'ro,size=1m', 'tmpfs', data], { encoding: 'utf8' });
            if (status !== 0) return t.skip(`no tmpfs here: ${stderr.trim()}`);
            t.after(() => spawnSync('umount', ['-l', data]));
        } else {
            chmodSync(data, 0o500);
        }
        for (const place of [data, path.join(data, 'below')]) {
            const found = doctor(['--data', place]);
            assert.equal(found.status, 1);
            assert.equal(found.check('data').status, 'fail');
            assert.match(found.check('data').found, /[Rr]ead-only|[Pp]ermission/);
            assert.match(found.check('data').remedy, /--data/);
            assert.ok(found.check('sandbox.tier'), 'the rest is looked at all the same');
        }
        assert.deepEqual(left(path.join(dir, 'tmp')), []);
    });

    test('a data directory of somebody else is told', (t) => {
        if (!isRoot) return t.skip('needs root');
        const data = path.join(dir, 'theirs');
        mkdirSync(data, { mode: 0o700 });
        chownSync(data, USER, USER);
        const check = doctor(['--data', data]).check('user');
        assert.equal(check.status, 'warn');
        assert.equal(check.facts.owner_uid, USER);
    });

    test('a file where the data directory should be', () => {
        const file = path.join(dir, 'file');
        writeFileSync(file, 'x');
        for (const data of [file, path.join(file, 'below')]) {
            const found = doctor(['--data', data]);
            assert.equal(found.status, 1);
            assert.match(found.check('data').found, /not a directory/i);
        }
    });

    test('a port in use', async () => {
        const other = createServer();
        other.listen(0, '127.0.0.1');
        await once(other, 'listening');
        const found = doctor(['--data', path.join(dir, 'port')], { env: { OSTLER_LISTEN: `127.0.0.1:${other.address().port}` } });
        other.close();
        assert.equal(found.status, 1);
        assert.match(found.check('listen').found, /in use/);
        assert.match(found.check('listen').remedy, /--listen/);
    });

    test('a configuration with a mistake is one finding, the rest is looked at', () => {
        const file = path.join(dir, 'bad.yaml');
        writeFileSync(file, 'sandbox: {pidz: 3}\n');
        const found = doctor(['--config', file, '--data', path.join(dir, 'cfg')]);
        assert.equal(found.status, 1);
        assert.match(found.check('config').found, /bad\.yaml:1: pidz/);
        assert.ok(found.check('sandbox.tier'));
    });

    test('few file descriptors are a warning', () => {
        const how = as(undefined, ['bash', '-c', 'ulimit -n 256; exec "$0" doctor --json --data "$1"', binary, path.join(dir, 'few')]);
        const found = report(spawnSync(how.command[0], how.command.slice(1), { encoding: 'utf8', env: how.env }));
        const check = found.check('limits.files');
        assert.equal(check.status, 'warn');
        assert.equal(check.facts.hard, 256);
        assert.match(check.remedy, /LimitNOFILE/);
    });

    for (const args of [['--nonsense'], ['surplus'], ['--data']]) {
        test(`"doctor ${args.join(' ')}" ends with 2`, () => {
            assert.equal(doctor(args).status, 2);
        });
    }
});

describe('a hand of another version', () => {
    // As root the cgroup counts and the option is not given; as an ordinary user it is.
    for (const [who, uid, option] of [['root', undefined, '--grace-ms'], ['an ordinary user', USER, '--memory-mb']]) {
        test(`is found by doctor and by the server as ${who}`, async (t) => {
            if (!isRoot) return t.skip('needs root');
            const program = copy(`old-${uid ?? 0}`, without(option));
            const data = path.join(dir, `old-data-${uid ?? 0}`);
            mkdirSync(data, { mode: 0o700 });
            if (uid) chownSync(data, uid, uid);
            const found = doctor(['--data', data], { program, uid, env: { HOME: data } });
            const kind = found.check('sandbox.tier');
            if (/namespace/.test(kind.found)) return t.skip(kind.found);
            assert.equal(found.status, 1, found.stdout);
            assert.ok(kind.found.includes(`bad argument '${option}'`), kind.found);
            assert.match(kind.remedy, /different versions/);

            const health = await healthOf(program, data, uid);
            assert.equal(health.sandbox.ok, false, 'the server must not claim what does not work');
            assert.match(health.sandbox.reason, /bad argument/);
        });
    }

    test('the right one: the server says so, too, as an ordinary user', async (t) => {
        if (!isRoot) return t.skip('needs root');
        const data = path.join(dir, 'right');
        mkdirSync(data, { mode: 0o700 });
        chownSync(data, USER, USER);
        const program = copy('right-bin');
        if (doctor(['--data', data], { program, uid: USER, env: { HOME: data } }).check('sandbox.tier').status === 'fail') return t.skip('no rootless sandboxes here');
        const health = await healthOf(program, data, USER);
        assert.equal(health.sandbox.ok, true, health.sandbox.reason);
        assert.equal(health.sandbox.tier, 'bwrap-rootless');
    });

    // Starts a server as that user and waits for the end of its probe.
    async function healthOf(program, data, uid) {
        const how = as(uid, [program, 'serve', '--data', data, '--listen', `127.0.0.1:${port}`], { HOME: data });
        const child = spawn(how.command[0], how.command.slice(1), { env: how.env, stdio: 'ignore' });
        const ended = once(child, 'close');
        try {
            return await eventually('the probe', async () => {
                const answer = await fetch(`http://127.0.0.1:${port}/healthz`).then((r) => r.json(), () => undefined);
                return answer && answer.sandbox.tier !== 'probing' && answer;
            });
        } finally {
            child.kill('SIGTERM');
            await ended;
        }
    }
});

describe('providers', () => {
    let provider, asked, address;
    before(async () => {
        provider = createServer((req, res) => {
            asked.push(req);
            res.writeHead(405).end();
        });
        provider.listen(0, '127.0.0.1');
        await once(provider, 'listening');
        address = `127.0.0.1:${provider.address().port}`;
    });
    after(() => provider.close());
    const env = () => ({ ANTHROPIC_API_KEY: SECRET, ANTHROPIC_BASE_URL: `http://user:${SECRET}@${address}`, OPENAI_API_KEY: SECRET });
    const where = () => ['--data', path.join(dir, 'providers')];

    test('without --probe nobody is asked, and no key is shown', async () => {
        asked = [];
        const found = await doctorBeside(where(), env());
        assert.deepEqual(asked, []);
        assert.ok(!found.stdout.includes(SECRET) && !found.stderr.includes(SECRET));
        for (const name of ['provider.anthropic', 'provider.openai']) {
            assert.equal(found.check(name).facts.key, true);
            assert.equal(found.check(name).facts.reached, null);
        }
    });

    test('with --probe an address that answers is reached, whatever it says, and gets no key', async () => {
        asked = [];
        const found = await doctorBeside(['--probe', ...where()], { ...env(), OPENAI_BASE_URL: `http://${address}/v1` });
        assert.equal(asked.length, 2);
        for (const { headers } of asked) assert.equal(headers['x-api-key'], undefined);
        for (const name of ['provider.anthropic', 'provider.openai']) {
            assert.equal(found.check(name).facts.reached, true);
            assert.equal(found.check(name).facts.http_status, 405);
        }
        assert.equal(found.check('model').status, 'ok');
        assert.ok(!found.stdout.includes(SECRET));
    });

    test('with --probe an address that nobody listens on fails', () => {
        const found = doctor(['--probe', ...where()], { env: { ANTHROPIC_API_KEY: SECRET, ANTHROPIC_BASE_URL: `http://127.0.0.1:${port}` } });
        assert.equal(found.status, 1);
        assert.equal(found.check('provider.anthropic').facts.reached, false);
        assert.equal(found.check('model').status, 'fail');
    });
});

describe('beside a server', () => {
    const world = useServer();

    test('it is found, its port is its own, its database is whole, and it goes on', async () => {
        const session = await world.session();
        const found = world.server.command(['doctor', '--json', '--deep'], { env: { OSTLER_LISTEN: `127.0.0.1:${world.server.port}` } });
        assert.equal(found.stderr, '');
        const json = JSON.parse(found.stdout);
        const check = (name) => json.checks.find((c) => c.name === name);
        assert.equal(check('server').facts.pid, world.server.pid);
        assert.equal(check('listen').status, 'ok');
        assert.equal(check('database').status, 'ok', check('database').found);
        assert.equal(check('database').facts.sessions, 1);
        assert.equal(check('database').facts.checked, true);
        assert.deepEqual(left(world.server.data), []);
        assert.equal((await world.http('GET', `/v1/sessions/${session.id}`)).status, 200);
        assert.ok(!found.stdout.includes(world.server.key));
    });

    test('a database that is none fails', () => {
        const data = path.join(dir, 'damaged');
        mkdirSync(data);
        writeFileSync(path.join(data, 'ostler.db'), 'this is no database\n'.repeat(500));
        const found = doctor(['--data', data]);
        assert.equal(found.status, 1);
        assert.equal(found.check('database').status, 'fail');
        assert.match(found.check('database').remedy, /backup/);
    });
});
