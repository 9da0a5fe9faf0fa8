// `ostler run` and the commands around it, as a user types them.
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { FakeMessages } from '../lib/fake-messages.mjs';
import { texts } from '../lib/harness.mjs';
import { atGate, eventually, gated, git, MODEL, remove, repository, run, scratch, useProvider, workspaceFile } from '../lib/e2e.mjs';

const provider = new FakeMessages();
const world = await useProvider(provider, { config: `script_dir: ${path.resolve(import.meta.dirname, '../contract/scripts')}\n` });
const dir = scratch();
const repo = path.join(dir, 'repo');
const FILES = { 'a.txt': 'one\ntwo\nthree\n', 'src/deep/b.txt': 'b\n', 'gone.txt': 'x\n', '.gitignore': 'ignored\n', 'name with blank': 'x\n' };

before(() => {
    repository(repo, FILES);
    writeFileSync(path.join(repo, 'ignored'), 'not for the agent\n');
    writeFileSync(path.join(repo, 'untracked'), 'new\n');
});
after(() => remove(dir));

const CHANGE = "sed -i s/two/2/ a.txt && echo new > c.txt && rm gone.txt && chmod +x src/deep/b.txt && printf 'report\\n' > /mnt/session/outputs/report.txt && mkdir -p /mnt/session/outputs/sub && echo deep > /mnt/session/outputs/sub/more.txt && ls -a";
const unchanged = () => assert.equal(git(repo, 'status', '--porcelain').trim(), '?? untracked', 'the directory itself is not touched');

describe('ostler run', () => {
    test('brings a repository in and a patch and the outputs out', async () => {
        const [patch, outputs] = [path.join(dir, 'one.patch'), path.join(dir, 'one.out')];
        const { code, stdout, stderr } = await run(world, ['run', `run: ${CHANGE}`, '--dir', repo, '--model', 'script/tool', '--out', patch, '--outputs', outputs]);
        assert.equal(code, 0, stdout + stderr);
        unchanged();
        assert.match(stdout, /bash/);
        assert.match(stdout, /untracked/, 'what git would add is there');
        assert.doesNotMatch(stdout, /^\s*ignored$/m);
        git(repo, 'apply', '--check', patch);
        const copy = path.join(dir, 'copy');
        git(dir, 'clone', '-q', repo, copy);
        git(copy, 'apply', '--index', patch);
        assert.equal(readFileSync(path.join(copy, 'a.txt'), 'utf8'), 'one\n2\nthree\n');
        assert.equal(readFileSync(path.join(copy, 'c.txt'), 'utf8'), 'new\n');
        assert.ok(!existsSync(path.join(copy, 'gone.txt')));
        assert.match(git(copy, 'diff', '--cached', '--summary'), /mode change 100644 => 100755 src\/deep\/b\.txt/);
        assert.equal(readFileSync(path.join(outputs, 'report.txt'), 'utf8'), 'report\n');
        assert.equal(readFileSync(path.join(outputs, 'sub/more.txt'), 'utf8'), 'deep\n');
        assert.match(stdout, /one\.patch/);
    });

    test('a job that changes nothing leaves no patch and is done', async () => {
        const patch = path.join(dir, 'none.patch');
        const { code, stdout, stderr } = await run(world, ['run', 'run: true', '--dir', repo, '--model', 'script/tool', '--out', patch]);
        assert.equal(code, 0, stdout + stderr);
        assert.ok(!existsSync(patch));
    });

    test('--json prints events and the result as lines', async () => {
        const { code, stdout, stderr } = await run(world, ['run', 'run: echo hi > hi.txt', '--dir', repo, '--model', 'script/tool', '--json', '--out', path.join(dir, 'json.patch')]);
        assert.equal(code, 0, stderr);
        const lines = stdout.trimEnd().split('\n').map((line) => JSON.parse(line));
        assert.ok(lines.some((line) => line.type === 'agent.tool_result'));
        assert.equal(new Set(lines.filter((l) => l.id).map((l) => l.id)).size, lines.filter((l) => l.id).length, 'each once');
        assert.ok(JSON.stringify(lines.at(-1)).includes('json.patch'), JSON.stringify(lines.at(-1)));
    });

    test('a directory without git is brought in, too', async () => {
        const plain = path.join(dir, 'plain');
        const patch = path.join(dir, 'plain.patch');
        repository(plain, { 'x.txt': 'old\n' });
        remove(path.join(plain, '.git'));
        const { code, stdout, stderr } = await run(world, ['run', 'run: echo new > x.txt', '--dir', plain, '--model', 'script/tool', '--out', patch]);
        assert.equal(code, 0, stdout + stderr);
        assert.match(readFileSync(patch, 'utf8'), /-old\n\+new/);
        assert.ok(!existsSync(path.join(plain, '.git')));
    });

    test('without a running server it starts one of its own and takes it down again', async () => {
        const data = path.join(dir, 'own');
        const patch = path.join(dir, 'own.patch');
        const { code, stdout, stderr } = await run(world, ['run', 'run: echo own > own.txt', '--dir', repo, '--data', data, '--model', 'script/tool', '--out', patch], { env: { OSTLER_API_KEY: '', OSTLER_DATA: '' } });
        assert.equal(code, 0, stdout + stderr);
        assert.match(readFileSync(patch, 'utf8'), /\+own/);
        const again = await run(world, ['sessions', '--data', data], { env: { OSTLER_API_KEY: '' } });
        assert.equal(again.code, 3, 'its server is gone');
        for (const name of readdirSync('/proc').filter((n) => /^\d+$/.test(n))) {
            let command = '';
            try {
                command = readFileSync(`/proc/${name}/cmdline`, 'utf8');
            } catch {
                continue;
            }
            assert.ok(!(command.includes('serve') && command.includes(data)), 'its server is gone');
        }
    });

    test('it goes on when the server is killed under it and comes back', async () => {
        const patch = path.join(dir, 'kill.patch');
        provider.expect([{ bash: gated('runs', 'run-gate') }]);
        provider.expect(['That was close.']);
        const job = run(world, ['run', 'survive', '--dir', repo, '--model', MODEL, '--out', patch]);
        const letThrough = await atGate(world, 'run-gate');
        await world.server.kill();
        await letThrough('the kill');
        await world.server.start();
        const { code, stdout, stderr } = await job;
        assert.equal(code, 0, stdout + stderr);
        assert.equal(stdout.split('That was close.').length, 2, 'said once');
        assert.match(stdout, /finished after the kill/);
        assert.match(readFileSync(patch, 'utf8'), /\+begun\n\+ended\n/);
    });

    for (const [what, args, code, pattern] of [
        ['without a directory', ['x'], 2, /--dir/],
        ['with a directory that is not there', ['x', '--dir', '/nonexistent'], 2, /\/nonexistent/],
        ['without a task', ['--dir', '.'], 2, /TASK/],
        ['with an unknown option', ['x', '--dir', '.', '--modell', 'y'], 2, /--modell/],
        ['with a model that no provider takes', ['x', '--dir', '.', '--model', 'gpt-9'], [1, 2], /gpt-9/],
        ['with a server that is not there', ['x', '--dir', '.', '--server', 'http://127.0.0.1:9'], 3, /127\.0\.0\.1:9/],
        ['under a budget that pays for nothing', ['x', '--dir', '.', '--model', 'script/priced', '--budget', '1'], 1, /budget_reached/],
        ['under a budget that cannot be kept', ['x', '--dir', '.', '--model', 'claude-nobody-knows-9', '--budget', '100'], [1, 2], /model_not_budgetable/],
        ['under a budget in dollars', ['x', '--dir', '.', '--model', 'script/priced', '--budget', '1.50'], 2, /budget/],
        ['with a model that refuses', ['x', '--dir', '.', '--model', 'script/refuse'], 1, /refus/i],
        ['with a model that fails', ['request', '--dir', '.', '--model', 'script/fail'], 1, /told to fail/],
    ]) {
        test(`${what} it ends with ${code} and says why`, async () => {
            const end = await run(world, ['run', ...args], { cwd: repo });
            assert.ok([code].flat().includes(end.code), `${end.code}: ${end.stdout}${end.stderr}`);
            assert.match(end.stdout + end.stderr, pattern);
        });
    }

    test('Ctrl-C interrupts the agent, and the job counts as failed', async () => {
        const held = provider.expect({ blocks: ['on and on and on'], hold: 5 });
        const job = run(world, ['run', 'talk', '--dir', repo, '--model', MODEL]);
        await held.paused;
        job.child.kill('SIGINT');
        const { code, stdout, stderr } = await job;
        assert.equal(code, 1, stdout + stderr);
        assert.equal(await held.closed, false, 'the model was stopped');
        assert.match(stdout + stderr, /[Ii]nterrupted/);
    });
});

describe('ostler sessions and events', () => {
    test('list what there is', async () => {
        const session = await world.session({ title: 'A title of its own' });
        await world.turn(session.id, 'hello there');
        const sessions = await run(world, ['sessions']);
        assert.equal(sessions.code, 0, sessions.stderr);
        assert.match(sessions.stdout, new RegExp(`${session.id}.*idle.*A title of its own`));
        const json = await run(world, ['sessions', '--json', '--limit', '1']);
        assert.equal(JSON.parse(json.stdout).id, session.id);
        const events = await run(world, ['events', session.id]);
        assert.equal(events.code, 0, events.stderr);
        assert.match(events.stdout, /hello there/);
        const lines = (await run(world, ['events', session.id, '--json'])).stdout.trimEnd().split('\n').map((line) => JSON.parse(line));
        assert.deepEqual(lines, await world.events(session.id));
    });

    test('events --follow shows what comes, once each, through a kill of the server', async () => {
        const session = await world.session();
        await world.turn(session.id, 'before');
        const shown = [];
        const follower = run(world, ['events', session.id, '--follow', '--json'], { on: (line) => shown.push(JSON.parse(line)) });
        const count = (n) => eventually(`${n} idle events`, () => shown.filter((e) => e.type === 'session.status_idle').length === n);
        await count(1);
        await world.server.restart();
        await world.turn(session.id, 'after');
        await count(2);
        follower.child.kill('SIGINT');
        const { code, stderr } = await follower;
        assert.equal(code, 0, stderr);
        assert.deepEqual(shown, await world.events(session.id));
        assert.deepEqual(texts(shown), ['before', 'after']);
    });

    for (const [args, code, pattern] of [
        [['events'], 2, /ID/],
        [['events', 'nonsense'], 2, /nonsense.*sesn_/],
        [['events', 'sesn_011111111111111111111111'], 1, /sesn_011111111111111111111111/],
        [['sessions', '--limit', 'many'], 2, /--limit/],
        [['sessions', '--server', 'http://127.0.0.1:9'], 3, /127\.0\.0\.1:9/],
        [['sesions'], 2, /sessions/],
        [[], 2, /Usage/],
    ]) {
        test(`"ostler ${args.join(' ')}" ends with ${code} and says why`, async () => {
            const end = await run(world, args);
            assert.equal(end.code, code, end.stdout + end.stderr);
            assert.match(end.stderr, pattern);
        });
    }

    test('a wrong key is told as one', async () => {
        const end = await run(world, ['sessions'], { env: { OSTLER_API_KEY: 'sk-ostler-wrong' } });
        assert.equal(end.code, 1, end.stderr);
        assert.match(end.stderr, /key/i);
        assert.ok(!end.stderr.includes('sk-ostler-wrong'));
    });
});

test('--help of every command answers', async () => {
    const { code, stdout } = await run(world, ['--help']);
    assert.equal(code, 0);
    const commands = [...stdout.split('Commands:')[1].split('\n\n')[0].matchAll(/^ {2}(\S+)/gm)].map((m) => m[1]);
    for (const name of ['serve', 'run', 'demo', 'sessions', 'events', 'keys']) assert.ok(commands.includes(name), name);
    for (const name of commands) {
        for (const args of [[name, '--help'], ['help', name]]) {
            const help = await run(world, args);
            assert.equal(help.code, 0, `${args}: ${help.stderr}`);
            assert.match(help.stdout, new RegExp(`^Usage: ostler ${name}`));
            assert.equal(help.stderr, '');
        }
    }
});

test('what the agent sees is the repository, and the session says what it costs nothing', async () => {
    provider.expect([{ bash: 'git log --oneline | wc -l; git status --porcelain; cat "name with blank"' }]);
    provider.expect(['ok']);
    const end = await run(world, ['run', 'look', '--dir', repo, '--model', MODEL, '--keep']);
    assert.equal(end.code, 0, end.stdout + end.stderr);
    assert.match(end.stdout, /^\s*\W*1$/m, 'the history is there');
    const [session] = (await world.client().beta.sessions.list({ limit: 1 })).data;
    assert.equal(session.status, 'idle');
    assert.equal(await workspaceFile(world, session, 'untracked'), 'new\n');
    assert.equal(await workspaceFile(world, session, 'ignored'), undefined);
});
