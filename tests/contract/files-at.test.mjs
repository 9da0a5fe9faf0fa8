// The files of a session over time: `at` and `from` on the workspace routes, checkpoints, `ostler files`.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { useServer } from '../lib/harness.mjs';
import { binary } from '../lib/server.mjs';

const world = useServer({ config: `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\n` });
const TOOLSET = [{ type: 'agent_toolset_20260401' }];
const NOBODY = 'sevt_011111111111111111111111';

const session = () => world.session({ agent: { model: 'script/shell', tools: TOOLSET } });
const get = (s, rest) => world.http('GET', `/v1/sessions/${s.id}/${rest}`, { beta: null });
const log = async (s) => (await world.http('GET', `/v1/sessions/${s.id}/events?limit=1000`)).json.data;
const sandboxes = () => path.join(world.server.data, 'sandboxes');

// Runs a command in the session; resolves to the id of the event that ended the turn.
async function step(s, command) {
    await world.turn(s.id, `run: ${command}`);
    return (await log(s)).findLast((e) => e.type === 'session.status_idle').id;
}

async function bytes(s, rest) {
    const response = await world.recorder().fetch(`${world.server.url}/v1/sessions/${s.id}/${rest}`, { headers: { 'x-api-key': world.server.key } });
    assert.equal(response.status, 200, rest);
    return { body: Buffer.from(await response.arrayBuffer()), as_of: response.headers.get('ostler-files-as-of') };
}

function refused(response, status, type) {
    assert.equal(response.status, status, response.text);
    assert.equal(response.json.error.type, type);
}

function temporary(fn) {
    const dir = mkdtempSync(path.join(tmpdir(), 'ostler-at-'));
    try {
        return fn(dir);
    } finally {
        rmSync(dir, { recursive: true, force: true });
    }
}

const ostler = async (...args) =>
    promisify(execFile)(binary, args, { env: { ...process.env, OSTLER_BASE_URL: world.server.url, OSTLER_API_KEY: world.server.key }, encoding: 'utf8' });

describe('the files of a session', () => {
    test('are those of the end of each turn when that event is named', async () => {
        const s = await session();
        const one = await step(s, 'mkdir -p d && echo one > d/a.txt && echo keep > k.txt');
        const two = await step(s, 'echo two > d/a.txt && rm k.txt && echo out > /mnt/session/outputs/o.txt');
        await step(s, 'rm -r d');
        const list = await get(s, `workspace?at=${one}`);
        assert.equal(list.status, 200, list.text);
        assert.deepEqual(list.json.data.filter((e) => e.path !== 'skills').map((e) => [e.path, e.type]), [['d', 'directory'], ['k.txt', 'file']]);
        assert.equal(list.json.files_as_of, one);
        assert.equal(list.json.exact, true);
        assert.deepEqual((await get(s, `workspace?path=d&at=${two}`)).json.data.map((e) => [e.path, e.size_bytes]), [['d/a.txt', 4]]);
        for (const [at, text] of [[one, 'one\n'], [two, 'two\n']]) {
            const file = await bytes(s, `workspace?path=d/a.txt&at=${at}`);
            assert.equal(file.body.toString(), text);
            assert.equal(file.as_of, at);
        }
        assert.equal((await get(s, `workspace?path=d/a.txt`)).status, 404, 'without `at` they are as they are now');
        assert.equal((await get(s, `workspace?path=k.txt&at=${two}`)).status, 404);
        const tar = await bytes(s, `workspace.tar?at=${one}`);
        assert.equal(tar.as_of, one);
        assert.match(execFileSync('tar', ['-tf', '-'], { input: tar.body, encoding: 'utf8' }), /^\.\/d\/a\.txt$/m);
        const outputs = await bytes(s, `outputs.tar?at=${two}`);
        assert.equal(execFileSync('tar', ['-xOf', '-', './o.txt'], { input: outputs.body, encoding: 'utf8' }), 'out\n');
        assert.doesNotMatch(execFileSync('tar', ['-tf', '-'], { input: (await bytes(s, `outputs.tar?at=${one}`)).body, encoding: 'utf8' }), /o\.txt/);
    });

    test('between two moments differ by a patch that applies', async () => {
        const s = await session();
        const one = await step(s, "printf 'a\\nb\\nc\\n' > t.txt && printf '*.log\\n' > .gitignore && echo x > x.log && echo gone > g.txt");
        const two = await step(s, "sed -i s/b/B/ t.txt && echo y > x.log && rm g.txt && printf '\\000\\001' > bin");
        await step(s, 'echo later > later.txt');
        const patch = await bytes(s, `workspace.patch?from=${one}&at=${two}`);
        assert.equal(patch.as_of, two);
        const text = patch.body.toString('latin1');
        assert.doesNotMatch(text, /later\.txt|x\.log/);
        const before = await bytes(s, `workspace.tar?at=${one}`);
        temporary((dir) => {
            execFileSync('tar', ['-xf', '-', '-C', dir], { input: before.body });
            execFileSync('git', ['init', '-q'], { cwd: dir });
            execFileSync('git', ['apply', '-'], { cwd: dir, input: patch.body });
            assert.equal(readFileSync(path.join(dir, 't.txt'), 'utf8'), 'a\nB\nc\n');
            assert.deepEqual([...readFileSync(path.join(dir, 'bin'))], [0, 1]);
            assert.equal(existsSync(path.join(dir, 'g.txt')), false);
        });
        assert.match((await bytes(s, `workspace.patch?from=${two}`)).body.toString(), /\+later/);
        assert.match((await bytes(s, `workspace.patch?at=${one}`)).body.toString(), /\+gone/);
        assert.equal((await bytes(s, `workspace.patch?from=${two}&at=${two}`)).body.length, 0);
        assert.deepEqual(readdirSync(sandboxes()).filter((name) => name.startsWith('.at-')), [], 'nothing is left of what was restored for it');
    });

    test('come from the newest checkpoint when the directory was lost', async () => {
        const s = await session();
        const one = await step(s, 'echo here > a.txt');
        const kept = await get(s, `workspace?at=${one}`);
        assert.equal(kept.status, 200, kept.text);
        const dir = path.join(sandboxes(), s.id), away = path.join(world.server.data, 'away');
        renameSync(dir, away);
        const list = await get(s, 'workspace');
        assert.equal(list.status, 200, list.text);
        assert.equal(list.json.files_as_of, one);
        const file = await bytes(s, 'workspace?path=a.txt');
        assert.equal(file.body.toString(), 'here\n');
        assert.equal(file.as_of, one);
        assert.match(execFileSync('tar', ['-tf', '-'], { input: (await bytes(s, 'workspace.tar')).body, encoding: 'utf8' }), /a\.txt/);
        assert.match((await bytes(s, 'workspace.patch')).body.toString(), /\+here/);
        rmSync(away, { recursive: true, force: true });
    });

    test('are not exact at an event in the middle of a turn, and not there before the first checkpoint', async () => {
        const s = await session();
        const one = await step(s, 'echo one > a.txt');
        await step(s, 'echo two > a.txt');
        const events = await log(s);
        const from = events.findIndex((e) => e.id === one);
        const result = events.slice(from).find((e) => e.type === 'agent.tool_result');
        const list = (await get(s, `workspace?at=${result.id}`)).json;
        assert.equal(list.files_as_of, one);
        assert.equal(list.exact, false);
        const next = (await get(s, `workspace?at=${events[from + 1].id}`)).json;
        assert.equal(next.files_as_of, one);
        assert.equal(next.exact, true, 'nothing happened to the files yet');
        refused(await get(s, `workspace?at=${events[0].id}`), 404, 'not_found_error');
        refused(await get(s, `workspace.patch?from=${events[0].id}`), 404, 'not_found_error');
        for (const at of [NOBODY, 'x', one.replace('sevt_', 'sesn_')]) {
            for (const what of ['workspace', 'workspace.tar', 'workspace.patch', 'outputs.tar']) {
                const r = await get(s, `${what}?at=${at}`);
                refused(r, 400, 'invalid_request_error');
                assert.equal(r.json.error.details.pointer, 'at');
            }
        }
        assert.equal((await get(s, `workspace.patch?from=${NOBODY}&at=${one}`)).json.error.details.pointer, 'from');
        refused(await get(s, `workspace?path=nope&at=${one}`), 404, 'not_found_error');
        refused(await get(s, `workspace?path=../../etc/passwd&at=${one}`), 400, 'invalid_request_error');
    });

    test('leave nothing behind that a killed server restored for a patch', async () => {
        mkdirSync(path.join(sandboxes(), '.at-left01', 'at', 'workspace'), { recursive: true });
        await world.server.restart();
        const s = await session();
        await step(s, 'true'); // what is looked at when a server starts was looked at
        assert.equal(existsSync(path.join(sandboxes(), '.at-left01')), false);
    });

    test('have a list of checkpoints in pages', async () => {
        const s = await session();
        assert.deepEqual((await get(s, 'checkpoints')).json, { data: [], next_page: null });
        const ids = [await step(s, 'echo 1 > a'), await step(s, 'echo 2 > a'), await step(s, 'echo 3 > a')];
        await get(s, `workspace?at=${ids[2]}`); // it waits for the last one
        const all = (await get(s, 'checkpoints')).json;
        assert.deepEqual(all.data.filter((c) => c.turn_end).map((c) => c.event_id), ids.toReversed());
        const [c] = all.data;
        assert.deepEqual(Object.keys(c), ['type', 'event_id', 'turn_end', 'at', 'files', 'size_bytes', 'stored_bytes']);
        assert.ok(c.files >= 1 && c.size_bytes >= 2 && c.stored_bytes > 0);
        const first = (await get(s, 'checkpoints?limit=2')).json;
        const second = (await get(s, `checkpoints?limit=2&page=${first.next_page}`)).json;
        assert.deepEqual([...first.data, ...second.data].slice(0, all.data.length), all.data.slice(0, 4));
        refused(await get(s, 'checkpoints?limit=0'), 400, 'invalid_request_error');
        refused(await get(s, 'checkpoints?page=x'), 400, 'invalid_request_error');
        refused(await get({ id: 'sesn_011111111111111111111111' }, 'checkpoints'), 404, 'not_found_error');
    });
});

test('ostler files lists, shows, compares and exports them', async () => {
    const s = await session();
    const one = await step(s, 'mkdir d && echo one > d/a.txt');
    const two = await step(s, 'echo two > d/a.txt');
    const list = await ostler('files', s.id, 'd', '--at', one);
    assert.match(list.stdout, /^-rw-r--r--\s+4 {2}a\.txt$/m);
    assert.match(list.stderr, new RegExp(`files as of ${one}`));
    assert.match((await ostler('files', s.id)).stdout, /^drwxr-xr-x.* d\/$/m);
    assert.equal((await ostler('files', s.id, 'd/a.txt', '--at', one)).stdout, 'one\n');
    assert.equal((await ostler('files', s.id, 'd/a.txt')).stdout, 'two\n');
    assert.match((await ostler('files', s.id, '--diff', `${one}..${two}`)).stdout, /^-one\n\+two$/m);
    assert.match((await ostler('files', s.id, '--diff', `..${one}`)).stdout, /^\+one$/m);
    assert.match((await ostler('files', s.id, '--checkpoints')).stdout, new RegExp(`^${two} .* turn end`, 'm'));
    const dir = mkdtempSync(path.join(tmpdir(), 'ostler-at-'));
    await ostler('files', s.id, '--at', one, '--tar', path.join(dir, 'x.tar'));
    assert.equal(execFileSync('tar', ['-xOf', path.join(dir, 'x.tar'), './d/a.txt'], { encoding: 'utf8' }), 'one\n');
    rmSync(dir, { recursive: true, force: true });
    await assert.rejects(ostler('files', s.id, 'd', '--tar', 'x'), { code: 2 });
    await assert.rejects(ostler('files', s.id, 'nope'), { code: 1, stderr: /404/ });
});
