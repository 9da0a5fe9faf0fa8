// What operators use besides the API: config, completion, the manual page, the version, the log.
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { apiError, FakeMessages } from '../lib/fake-messages.mjs';
import { useServer } from '../lib/harness.mjs';
import { binary, KEY, root } from '../lib/server.mjs';
import { eventually, MODEL, remove, scratch, TOOLSET, useProvider } from '../lib/e2e.mjs';

let dir;
before(() => (dir = scratch()));
after(() => remove(dir));

function ostler(args, { env = {}, input } = {}) {
    const sanitizers = Object.fromEntries(['ASAN_OPTIONS', 'UBSAN_OPTIONS'].filter((n) => process.env[n]).map((n) => [n, process.env[n]]));
    return spawnSync(binary, args, { encoding: 'utf8', env: { PATH: process.env.PATH, HOME: dir, ...sanitizers, ...env }, cwd: dir, timeout: 60000, input });
}

function printed(args, options) {
    const { status, stdout, stderr } = ostler(args, options);
    assert.equal(status, 0, stderr);
    assert.equal(stderr, '');
    return stdout;
}

// What --help says there is: {command: [option, ...]}
function commands() {
    const names = [...printed(['--help']).matchAll(/^ {2}([a-z]+) {2,}\S/gm)].map((m) => m[1]);
    assert.ok(names.includes('serve') && names.includes('doctor') && names.length >= 10);
    return Object.fromEntries(names.map((name) => [name, [...printed([name, '--help']).matchAll(/^ {2}(?:-\w, |    )(--[a-z-]+)/gm)].map((m) => m[1])]));
}

describe('config check', () => {
    const write = (name, text) => {
        const file = path.join(dir, name);
        writeFileSync(file, text);
        return file;
    };

    test('shows what is in force, and of keys only whether they are set', () => {
        const key = write('key', 'sk-in-a-file\n');
        const file = write('good.yaml', `listen: 127.0.0.1:9999\nsandbox: {pids: 7}\nproviders:\n  lab: {type: openai, base_url: "http://u:sk-in-a-url@h:1", api_key_file: ${key}, max_concurrent: 3}\nmodels: {routes: [{match: "x*", provider: lab}]}\n`);
        const text = printed(['config', 'check', file], { env: { ANTHROPIC_API_KEY: 'sk-in-the-environment', OSTLER_DATA: '/d' } });
        assert.match(text, /^listen: "127.0.0.1:9999"$/m);
        assert.match(text, /^data: "\/d"$/m);
        assert.match(text, /^sandbox: \{pids: 7, memory_mb: 4096, /m);
        assert.match(text, /match: "x\*", provider: lab/);
        assert.match(text, / {2}lab:\n {4}type: openai\n {4}url: "http:\/\/h:1\/v1\/chat\/completions"\n {4}api_key: set\n[^]* {4}max_concurrent: 3/);
        assert.match(text, / {2}anthropic:\n[^]*api_key: set/);
        assert.match(text, /good\.yaml: no mistakes\n$/);
        assert.ok(!text.includes('sk-in'), text);
        assert.match(printed(['config', 'check'], { env: { OSTLER_CONFIG: file } }), /good\.yaml: no mistakes/);
        assert.match(printed(['config', 'check']), /anthropic:\n[^]*api_key: not set/);
    });

    for (const [what, yaml, ...patterns] of [
        ['several mistakes', 'listen: x\nsandbox: {pidz: 1}\nlog: {level: loud}\n', /:1: listen: .*HOST:PORT/, /:2: pidz: .*did you mean pids\?/, /:3: level: .*debug, info, warn, error/],
        ['no YAML', 'a: [1, 2\nb: }', /yaml:\d/],
        ['a route to nowhere', 'models: {routes: [{match: a, provider: nobody}]}\n', /nobody/],
        ['a table that is not there', 'models: /nonexistent.yaml\n', /\/nonexistent\.yaml/],
        ['a directory of scripts that is not there', 'script_dir: /nonexistent\n', /script_dir: \/nonexistent/],
        ['a key in the file', 'providers: {anthropic: {api_key: sk-in-the-file}}\n', /:1: api_key: unknown key; did you mean api_key_/],
    ]) {
        test(`${what}: exit code 2, a line for each, no value that may be a secret`, () => {
            const { status, stdout, stderr } = ostler(['config', 'check', write('bad.yaml', yaml)]);
            assert.equal(status, 2);
            assert.equal(stdout, '');
            const lines = stderr.trimEnd().split('\n');
            assert.equal(lines.length, patterns.length, stderr);
            patterns.forEach((pattern, i) => assert.match(lines[i], pattern));
            assert.ok(!stderr.includes('sk-in'));
        });
    }

    test('a file that is not there, and a wrong command line, end with 2', () => {
        for (const args of [['check', '/nonexistent.yaml'], ['look'], [], ['check', 'a', 'b'], ['print-default', 'x']]) assert.equal(ostler(['config', ...args]).status, 2, args.join(' '));
    });

    test('the commented example has no mistakes', () => {
        const file = write('example.yaml', printed(['config', 'print-default']));
        assert.match(printed(['config', 'check', file]), /no mistakes/);
    });

    test('the example of docs/operations.md has no mistakes but the files of its host', () => {
        const doc = readFileSync(path.join(root, 'docs/operations.md'), 'utf8').match(/A complete `ostler\.yaml`:\n\n```yaml\n([^]*?)```/)[1];
        const { stderr } = ostler(['config', 'check', write('doc.yaml', doc)]);
        for (const line of stderr.trimEnd().split('\n')) assert.match(line, /\/etc\/ostler\/.*No such file/);
    });
});

describe('completion', () => {
    let script, all;
    before(() => {
        script = path.join(dir, 'completion');
        writeFileSync(script, printed(['completion', 'bash']));
        all = commands();
        mkdirSync(path.join(dir, 'a folder'));
        writeFileSync(path.join(dir, 'file.yaml'), '');
    });

    // What bash would offer behind these words.
    function offered(...words) {
        const code = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ostler 2>/dev/null; printf "%s\\n" "${COMPREPLY[@]}"';
        const { status, stdout, stderr } = spawnSync('bash', ['--norc', '-c', code, 'bash', script, ...words], { encoding: 'utf8', cwd: dir });
        assert.equal(status, 0, stderr);
        return stdout.trim().split('\n').filter(Boolean);
    }

    test('offers every command and every option that --help lists', () => {
        assert.deepEqual(offered('ostler', '').toSorted(), [...Object.keys(all), 'help', '--help', '--version'].toSorted());
        for (const [name, options] of Object.entries(all)) assert.deepEqual(offered('ostler', name, '--').toSorted(), options.toSorted(), name);
        assert.deepEqual(offered('ostler', 'help', 'do').toSorted(), ['doctor']);
    });

    test('offers what may stand there: directories, files, levels, first words, or nothing', () => {
        assert.deepEqual(offered('ostler', 'serve', '--data', 'a'), ['a folder']);
        assert.deepEqual(offered('ostler', 'serve', '--data', '=', 'a'), ['a folder']);
        assert.ok(offered('ostler', 'serve', '--config', 'fi').includes('file.yaml'));
        assert.deepEqual(offered('ostler', 'serve', '--log-level', 'w'), ['warn']);
        assert.deepEqual(offered('ostler', 'keys', ''), ['create', 'ls', 'revoke']);
        assert.deepEqual(offered('ostler', 'config', 'check', 'file'), ['file.yaml']);
        assert.deepEqual(offered('ostler', 'completion', ''), ['bash']);
        assert.deepEqual(offered('ostler', 'run', '--model', ''), []);
        assert.deepEqual(offered('ostler', 'nonsense', ''), []);
    });

    test('other shells are refused by name', () => {
        const { status, stderr } = ostler(['completion', 'fish']);
        assert.equal(status, 2);
        assert.match(stderr, /fish/);
    });
});

describe('the manual page', () => {
    // The page as a reader sees it, where this host can show it; else its source with the marks taken out.
    function page(source) {
        const groff = spawnSync('groff', ['-man', '-Tascii', '-ww', '-P-cbou'], { encoding: 'utf8', input: source });
        if (groff.status === 0) {
            assert.equal(groff.stderr, '', 'groff has nothing to complain about');
            return groff.stdout;
        }
        return source.replace(/^\.\w+ ?/gm, '').replaceAll('\\-', '-').replace(/\\f[A-Z]|\\&/g, '');
    }

    test('names exactly the commands and options that --help lists', () => {
        const source = printed(['help', '--man']);
        const all = commands();
        assert.deepEqual([...source.matchAll(/^\.SS (.+)$/gm)].map((m) => m[1]), Object.keys(all));
        for (const section of source.split(/^\.SS /m).slice(1)) {
            const name = section.split('\n')[0];
            const body = section.split(/^\.SH /m)[0];
            const options = [...body.matchAll(/^\.B (?:\\-\w, )?((?:\\-\\-)\S+)/gm)].map((m) => m[1].replaceAll('\\-', '-'));
            assert.deepEqual([...options, '--help'].toSorted(), all[name].toSorted(), name);
        }
        const text = page(source);
        for (const options of Object.values(all)) for (const option of options) assert.ok(text.includes(option), option);
        for (const section of ['NAME', 'SYNOPSIS', 'DESCRIPTION', 'COMMANDS', 'ENVIRONMENT', 'FILES', 'EXIT STATUS']) assert.match(text, new RegExp(`^${section}$`, 'm'));
    });

    test('names every variable that the operations guide documents as a setting', () => {
        const guide = readFileSync(path.join(root, 'docs/operations.md'), 'utf8');
        const source = printed(['help', '--man']);
        for (const [, name] of guide.matchAll(/^\|[^|]*\| `((?:OSTLER|ANTHROPIC|OPENAI)_\w+)` \|/gm)) assert.ok(source.includes(`.B ${name}`), name);
    });
});

test('--version, -V and version say the same', () => {
    const said = ['--version', '-V', 'version'].map((arg) => printed([arg]));
    assert.match(said[0], /^ostler \d+\.\d+\.\d+\n$/);
    assert.equal(new Set(said).size, 1);
});

describe('the log', async () => {
    const SECRETS = [KEY, 'sk-ant-of-the-tests', 'sk-wrong-wrong-wrong', 'secret-in-the-query', 'the message nobody should find in a log'];
    const provider = new FakeMessages();
    const world = await useProvider(provider, { args: ['--log-json', '--log-level', 'debug'] });
    const lines = () => world.server.log.split('\n').slice(0, -1).map((line) => {
        try {
            return JSON.parse(line);
        } catch {
            return assert.fail(`not JSON: ${line}`);
        }
    });
    const of = (msg) => lines().filter((l) => l.msg === msg);

    test('is JSON from its first line on, with time, level and message', () => {
        for (const line of lines()) {
            assert.match(line.at, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
            assert.ok(['debug', 'info', 'warn', 'error'].includes(line.level));
            assert.ok(line.msg);
        }
        assert.equal(of('listening')[0].url, world.server.url);
    });

    test('has one line for each request, with the id that the client got, also for those refused', async () => {
        const answers = [
            await world.http('GET', '/v1/agents?limit=1&x=secret-in-the-query'),
            await world.http('GET', '/v1/agents', { key: 'sk-wrong-wrong-wrong' }),
            await world.http('GET', '/nowhere/%00/%ff'),
            await world.http('POST', '/v1/agents', { body: '{"no json' }),
        ];
        for (const { status, headers } of answers) {
            const mine = () => of('request').filter((l) => l.request_id === headers.get('request-id'));
            const found = await eventually('the line of a request', () => mine().length > 0 && mine());
            assert.equal(found.length, 1);
            assert.equal(Number(found[0].status), status);
            assert.ok(found[0].method && found[0].path && Number(found[0].ms) >= 0);
        }
    });

    test('says once with the session what a model refused', async () => {
        provider.expect(apiError(400, 'invalid_request_error', 'no such thing'));
        const session = await world.session({ agent: { model: MODEL, tools: TOOLSET } });
        await world.turn(session.id, 'the message nobody should find in a log');
        const mine = () => of('model request failed').filter((l) => l.session === session.id);
        const found = await eventually('the line of the failure', () => mine().length > 0 && mine());
        assert.equal(found.length, 1);
        assert.equal(found[0].level, 'warn');
        assert.ok(found[0].error);
    });

    test('holds no secret and nothing that was said', async () => {
        await world.server.stop();
        for (const secret of SECRETS) assert.ok(!world.server.log.includes(secret), secret);
    });
});

describe('the log of a host without sandboxes', () => {
    const world = useServer({ env: { PATH: '/nonexistent' }, args: ['--log-json'] });

    test('says so at start, and once for each call that could not run, with its session', async () => {
        const session = await world.session({ agent: { model: 'script/tool', tools: TOOLSET } });
        await world.turn(session.id, 'run: true');
        const text = await eventually('the line of the call', () => world.server.log.includes('"sandbox_unavailable"}\n') && world.server.log);
        const lines = text.split('\n').filter(Boolean).map((l) => JSON.parse(l));
        const start = lines.filter((l) => l.msg.startsWith('no sandbox works here'));
        assert.equal(start.length, 1);
        assert.equal(start[0].level, 'warn');
        assert.match(start[0].reason, /bubblewrap/);
        const failed = lines.filter((l) => l.msg === 'tool call failed in its sandbox');
        assert.deepEqual(failed.map((l) => [l.level, l.session, l.reason]), [['warn', session.id, 'sandbox_unavailable']]);
        assert.ok(!lines.some((l) => l.level === 'debug'), 'info is the least without --log-level');
        const health = (await world.http('GET', '/healthz', { key: null, beta: null })).json;
        assert.equal(health.sandbox.ok, false);
        assert.match(health.sandbox.reason, /bubblewrap/);
    });
});

test('the man page and the completion are installed where they are looked for', (t) => {
    const obj = path.join(process.env.OSTLER_BUILD ?? path.join(root, 'build'), 'obj');
    if (!existsSync(path.join(obj, 'build.ninja'))) return t.skip('no build directory of meson here');
    const { stdout } = spawnSync('meson', ['introspect', obj, '--installed'], { encoding: 'utf8' });
    const targets = Object.values(JSON.parse(stdout));
    assert.ok(targets.some((to) => to.endsWith('/man/man1/ostler.1')), targets.join('\n'));
    assert.ok(targets.some((to) => to.endsWith('/bash-completion/completions/ostler.bash')));
});
