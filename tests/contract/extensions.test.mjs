// What is ours: health, metrics, the workspace of a session, idempotency keys.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { readExtensions } from '../lib/extensions.mjs';
import { useServer } from '../lib/harness.mjs';

const world = useServer();
const TOOLSET = [{ type: 'agent_toolset_20260401' }];

test('health and metrics need no key', async () => {
    const health = await world.http('GET', '/healthz', { key: null, beta: null });
    assert.equal(health.status, 200);
    const metrics = await world.http('GET', '/metrics', { key: null, beta: null });
    assert.equal(metrics.status, 200);
    assert.match(metrics.headers.get('content-type'), /^text\/plain/);
    for (const line of metrics.text.trimEnd().split('\n')) {
        assert.match(line, /^(# (HELP|TYPE) \w+ .+|\w+(\{[^}]*\})? -?[0-9.e+]+)$/);
    }
});

function tarOf(files) {
    const dir = mkdtempSync(path.join(tmpdir(), 'ostler-tar-'));
    try {
        for (const [name, text] of Object.entries(files)) {
            mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
            writeFileSync(path.join(dir, name), text);
        }
        return execFileSync('tar', ['-C', dir, '-cf', '-', '.']);
    } finally {
        rmSync(dir, { recursive: true, force: true });
    }
}

async function bytes(target) {
    const response = await world.recorder().fetch(`${world.server.url}${target}`, { headers: { 'x-api-key': world.server.key } });
    assert.equal(response.status, 200, target);
    return Buffer.from(await response.arrayBuffer());
}

async function put(session, tar) {
    return world.http('PUT', `/v1/sessions/${session}/workspace`, { body: tar, beta: null, headers: { 'content-type': 'application/x-tar' } });
}

describe('the workspace', () => {
    test('a tree goes in, an agent changes it, the difference comes out as a patch that applies', async () => {
        const session = await world.session({ agent: { model: 'script/tool', tools: TOOLSET } });
        const files = { 'a.txt': 'one\ntwo\n', 'src/b.txt': 'b\n' };
        const imported = await put(session.id, tarOf(files));
        assert.ok(imported.status < 300, imported.text);
        const list = await world.http('GET', `/v1/sessions/${session.id}/workspace?path=.`, { beta: null });
        assert.equal(list.status, 200, list.text);
        assert.deepEqual(list.json.data.map((e) => e.path).filter((p) => !p.includes('.git')).sort(), ['a.txt', 'src']);
        await world.turn(session.id, 'run: sed -i s/two/2/ a.txt && echo new > c.txt && rm src/b.txt');
        assert.equal((await bytes(`/v1/sessions/${session.id}/workspace?path=a.txt`)).toString(), 'one\n2\n');
        const patch = await bytes(`/v1/sessions/${session.id}/workspace.patch`);
        const dir = mkdtempSync(path.join(tmpdir(), 'ostler-apply-'));
        try {
            for (const [name, text] of Object.entries(files)) {
                mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
                writeFileSync(path.join(dir, name), text);
            }
            execFileSync('git', ['init', '-q'], { cwd: dir });
            execFileSync('git', ['apply', '--check', '-'], { cwd: dir, input: patch });
            execFileSync('git', ['apply', '-'], { cwd: dir, input: patch });
            assert.equal(execFileSync('cat', ['a.txt', 'c.txt'], { cwd: dir, encoding: 'utf8' }), 'one\n2\nnew\n');
            assert.throws(() => execFileSync('cat', ['src/b.txt'], { cwd: dir, stdio: 'pipe' }));
        } finally {
            rmSync(dir, { recursive: true, force: true });
        }
        const tar = await bytes(`/v1/sessions/${session.id}/workspace.tar`);
        const names = execFileSync('tar', ['-tf', '-'], { input: tar, encoding: 'utf8' });
        assert.match(names, /c\.txt/);
        assert.doesNotMatch(names, /b\.txt/);
    });

    test('without a change the patch is empty', async () => {
        const session = await world.session();
        await put(session.id, tarOf({ a: 'x\n' }));
        assert.equal((await bytes(`/v1/sessions/${session.id}/workspace.patch`)).length, 0);
    });

    test('what an agent leaves in outputs can be fetched', async () => {
        const session = await world.session({ agent: { model: 'script/tool', tools: TOOLSET } });
        await world.turn(session.id, 'run: echo report > /mnt/session/outputs/report.txt');
        const tar = await bytes(`/v1/sessions/${session.id}/outputs.tar`);
        assert.match(execFileSync('tar', ['-xOf', '-'], { input: tar, encoding: 'utf8' }), /report/);
    });

    test('paths do not leave it', async () => {
        const session = await world.session();
        await put(session.id, tarOf({ a: 'x\n' }));
        for (const bad of ['../../etc/passwd', '/etc/passwd', 'a/../../x', '%00']) {
            const answer = await world.http('GET', `/v1/sessions/${session.id}/workspace?path=${encodeURIComponent(bad)}`, { beta: null });
            assert.ok([400, 404].includes(answer.status), `${bad}: ${answer.status}`);
        }
        const missing = await world.http('GET', `/v1/sessions/${session.id}/workspace?path=none`, { beta: null });
        assert.equal(missing.status, 404);
    });

    test('an archive that is none, or that climbs out, is refused', async () => {
        const session = await world.session();
        const rubbish = await put(session.id, Buffer.from('this is no tar at all, whatever it says'.repeat(40)));
        assert.equal(rubbish.status, 400, rubbish.text);
        const dir = mkdtempSync(path.join(tmpdir(), 'ostler-evil-'));
        try {
            writeFileSync(path.join(dir, 'x'), 'evil');
            const evil = execFileSync('tar', ['-C', dir, '-cPf', '-', '--transform', 's,^x,../../../evil,', 'x']);
            const climbing = await put(session.id, evil);
            assert.equal(climbing.status, 400, climbing.text);
        } finally {
            rmSync(dir, { recursive: true, force: true });
        }
    });
});

describe('Idempotency-Key', () => {
    const create = (key, body) => world.http('POST', '/v1/agents', { body, headers: { 'idempotency-key': key } });

    test('the same request twice makes one object', async () => {
        const body = { name: 'once', model: 'script/echo' };
        const [first, second] = [await create('k-1', body), await create('k-1', body)];
        assert.equal(first.status, 200);
        assert.deepEqual(second.json, first.json);
    });

    test('another body under the same key is a conflict', async () => {
        await create('k-2', { name: 'a', model: 'script/echo' });
        const other = await create('k-2', { name: 'b', model: 'script/echo' });
        assert.equal(other.status, 409, other.text);
    });
});

test('the documented extensions are readable', () => {
    const { fields, routes } = readExtensions();
    assert.ok(fields.has('session.stop_reason'));
    assert.ok(routes.has('GET /v1/sessions/{id}/workspace.patch'));
});
