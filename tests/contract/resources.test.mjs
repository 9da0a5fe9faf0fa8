// /v1/sessions/{id}/resources: files and repositories of a session, and what a session leaves in its outputs.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { toFile } from '@anthropic-ai/sdk';
import { refused, SDKS, texts, useServer } from '../lib/harness.mjs';
import { eventually } from '../lib/e2e.mjs';

const world = useServer({ config: `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\n` });
const TOOLSET = [{ type: 'agent_toolset_20260401' }];
const UNKNOWN = 'sesrsc_011111111111111111111111';
const REPOSITORY = 'https://git.example.com/team/project.git';

const upload = async (text, name = 'data.csv') => world.client().beta.files.upload({ file: await toFile(Buffer.from(text), name) });
const session = (resources, extra = {}) => world.session({ agent: { model: 'script/shell', tools: TOOLSET }, resources, ...extra });
const run = async (s, command) => texts(await world.turn(s.id, `run: ${command}`)).at(-1);

// The outputs of a session, when there are `n` of them, by name.
const outputs = (s, accept) => eventually('the outputs', async () => {
    const files = (await world.client().beta.files.list({ scope_id: s.id, limit: 1000, betas: ['managed-agents-2026-04-01'] })).data.filter((f) => f.downloadable);
    return accept(files) ? files : undefined;
});
const content = async (file) => (await world.client().beta.files.download(file.id)).text();

for (const sdk of Object.keys(SDKS)) {
    describe(`SDK ${sdk}`, () => {
        const api = () => world.client(sdk).beta.sessions.resources;

        test('a file is attached as a copy of its own and read-only', async () => {
            const file = await upload('a,b\n1,2\n');
            const s = await session([{ type: 'file', file_id: file.id }, { type: 'file', file_id: file.id, mount_path: '/in/data.csv' }]);
            assert.equal(s.resources.length, 2);
            const [plain, named] = s.resources;
            assert.notEqual(plain.file_id, file.id);
            assert.equal(plain.mount_path, `/mnt/session/uploads/${plain.file_id}`);
            assert.equal(named.mount_path, '/in/data.csv');
            const copy = await world.client(sdk).beta.files.retrieveMetadata(plain.file_id, { betas: ['managed-agents-2026-04-01'] });
            assert.deepEqual(copy.scope, { type: 'session', id: s.id });
            assert.equal(copy.filename, 'data.csv');
            assert.equal(copy.downloadable, false);
            assert.equal(await run(s, `cat ${plain.mount_path} /mnt/session/uploads/in/data.csv`), 'a,b\n1,2\na,b\n1,2');
            assert.match(await run(s, 'cd /mnt/session/uploads; (echo x > in/data.csv; rm in/data.csv; chmod 777 in/data.csv; touch new; mv in out) 2>&1; cat in/data.csv'), /Read-only[\s\S]*a,b\n1,2/);
            await world.client(sdk).beta.sessions.delete(s.id);
            await refused(world.client(sdk).beta.files.retrieveMetadata(plain.file_id), 404);
            assert.equal((await world.client(sdk).beta.files.retrieveMetadata(file.id)).id, file.id);
        });

        test('it can be listed, read, added and taken away', async () => {
            const file = await upload('one');
            const s = await session([{ type: 'file', file_id: file.id, mount_path: '/one' }, { type: 'github_repository', url: REPOSITORY, authorization_token: 'tok' }]);
            const added = await api().add(s.id, { type: 'file', file_id: (await upload('two')).id, mount_path: '/two' });
            assert.equal(added.mount_path, '/two');
            assert.deepEqual(await api().retrieve(added.id, { session_id: s.id }), added);
            const listed = [];
            for await (const r of api().list(s.id, { limit: 2 })) listed.push(r);
            assert.deepEqual(listed.map((r) => r.mount_path), ['/one', '/workspace/project', '/two']);
            assert.deepEqual((await world.client(sdk).beta.sessions.retrieve(s.id)).resources, listed);
            assert.deepEqual((await world.client(sdk).beta.sessions.list({ agent_id: s.agent.id })).data[0].resources, listed);
            assert.deepEqual(await api().delete(added.id, { session_id: s.id }), { id: added.id, type: 'session_resource_deleted' });
            await refused(api().retrieve(added.id, { session_id: s.id }), 404, /not found/);
            await refused(world.client(sdk).beta.files.retrieveMetadata(added.file_id), 404);
            assert.equal((await world.client(sdk).beta.sessions.retrieve(s.id)).resources.length, 2);
        });

        test('a repository shows its URL and never its token', async () => {
            const s = await session([{ type: 'github_repository', url: REPOSITORY, authorization_token: 'tok-of-the-test', mount_path: '/workspace/p', checkout: { type: 'branch', name: 'feature/x' } }]);
            const [r] = s.resources;
            assert.deepEqual([r.type, r.url, r.mount_path, r.checkout], ['github_repository', REPOSITORY, '/workspace/p', { type: 'branch', name: 'feature/x' }]);
            assert.ok(!('authorization_token' in r));
            const rotated = await api().update(r.id, { session_id: s.id, authorization_token: 'another-token' });
            assert.ok(rotated.updated_at > r.updated_at);
            assert.deepEqual({ ...rotated, updated_at: r.updated_at }, r);
            assert.deepEqual((await world.client(sdk).beta.sessions.retrieve(s.id)).resources, [rotated]);
            await refused(api().delete(r.id, { session_id: s.id }), 400, /repository/);
            await refused(api().update(r.id, { session_id: s.id, authorization_token: '' }), 400, /authorization_token/);
        });
    });
}

test('what cannot be added is refused by name', async () => {
    const api = world.client().beta.sessions.resources;
    const file = await upload('x');
    const s = await session([{ type: 'file', file_id: file.id, mount_path: '/a/b' }]);
    await refused(api.add(s.id, { type: 'file', file_id: file.id, mount_path: '/a/b' }), 400, /mount_path/);
    await refused(api.add(s.id, { type: 'file', file_id: file.id, mount_path: '/a' }), 400, /mount_path/);
    await refused(api.add(s.id, { type: 'file', file_id: 'file_011111111111111111111111' }), 404, /file_id.*not found/);
    await refused(api.add(s.id, { type: 'github_repository', url: REPOSITORY }), 400, /created/);
    await refused(api.update(s.resources[0].id, { session_id: s.id, authorization_token: 't' }), 400, /token/);
    await refused(api.retrieve(UNKNOWN, { session_id: s.id }), 404);
    await refused(api.list('sesn_011111111111111111111111'), 404);
    await world.client().beta.sessions.archive(s.id);
    await refused(api.add(s.id, { type: 'file', file_id: file.id }), 400, /archived/);
    await refused(api.delete(s.resources[0].id, { session_id: s.id }), 400, /archived/);
    assert.equal((await api.list(s.id)).data.length, 1);
});

test('the same key attaches a file once', async () => {
    const s = await session([]);
    const body = { type: 'file', file_id: (await upload('x')).id };
    const [one, two] = [await world.http('POST', `/v1/sessions/${s.id}/resources`, { body, headers: { 'idempotency-key': 'k1' } }), await world.http('POST', `/v1/sessions/${s.id}/resources`, { body, headers: { 'idempotency-key': 'k1' } })];
    assert.equal(one.status, 200);
    assert.deepEqual(one.json, two.json);
    assert.equal((await world.client().beta.sessions.resources.list(s.id)).data.length, 1);
});

test('a file that comes or goes while the sandbox runs is seen by the next call', async () => {
    const api = world.client().beta.sessions.resources;
    const s = await session([]);
    assert.equal(await run(s, 'ls -A /mnt/session/uploads | wc -l'), '0');
    const added = await api.add(s.id, { type: 'file', file_id: (await upload('later')).id, mount_path: '/deep/er/later.txt' });
    assert.equal(await run(s, 'cat /mnt/session/uploads/deep/er/later.txt'), 'later');
    await api.delete(added.id, { session_id: s.id });
    assert.equal(await run(s, 'ls -A /mnt/session/uploads | wc -l'), '0');
    await api.add(s.id, { type: 'file', file_id: (await upload('other')).id, mount_path: '/deep' });
    assert.equal(await run(s, 'cat /mnt/session/uploads/deep'), 'other');
});

test('a file stays for the agent when the client deletes what it was attached from', async () => {
    const file = await upload('kept');
    const s = await session([{ type: 'file', file_id: file.id, mount_path: '/kept' }]);
    await world.client().beta.files.delete(file.id);
    await world.client().beta.files.delete(s.resources[0].file_id);
    assert.equal(await run(s, 'cat /mnt/session/uploads/kept'), 'kept');
});

test('the content of a file that was taken away goes, unless another resource has it', async () => {
    const api = world.client().beta.sessions.resources;
    const text = 'only-here-9b1f2c';
    const blobs = path.join(world.server.data, 'blobs');
    const kept = () => readdirSync(blobs, { recursive: true, withFileTypes: true }).some((e) => e.isFile() && holds(path.join(e.parentPath, e.name)));
    const holds = (file) => {
        try {
            return readFileSync(file, 'utf8').includes(text);
        } catch {
            return false;
        }
    };
    const file = await upload(text);
    const s = await session([{ type: 'file', file_id: file.id, mount_path: '/one' }, { type: 'file', file_id: file.id, mount_path: '/two' }]);
    await world.client().beta.files.delete(file.id);
    await api.delete(s.resources[0].id, { session_id: s.id });
    assert.equal(await run(s, 'cat /mnt/session/uploads/two; ls /mnt/session/uploads'), `${text}two`);
    assert.ok(kept());
    await api.delete(s.resources[1].id, { session_id: s.id });
    assert.equal(await run(s, 'ls -A /mnt/session/uploads | wc -l'), '0');
    await eventually('the content to go', () => !kept());
});

describe('outputs', () => {
    test('what a session leaves is listed when it rests, and replaced when it changes', async () => {
        const s = await session([]);
        await run(s, 'mkdir -p /mnt/session/outputs/sub; cd /mnt/session/outputs; printf one > report.md; printf two > sub/report.md; printf three > "q?:\\"x"; ln -s /etc/passwd link; mkfifo pipe');
        const first = await outputs(s, (files) => files.length === 3);
        assert.deepEqual(first.map((f) => f.filename).sort(), ['q___x', 'report.md', 'sub_report.md']);
        const report = first.find((f) => f.filename === 'report.md');
        assert.deepEqual(report.scope, { type: 'session', id: s.id });
        assert.equal(report.mime_type, 'text/markdown');
        assert.equal(await content(report), 'one');
        assert.equal(await content(first.find((f) => f.filename === 'sub_report.md')), 'two');
        await run(s, 'printf changed > /mnt/session/outputs/report.md');
        const second = await outputs(s, (files) => files.some((f) => f.size_bytes === 7));
        const changed = second.find((f) => f.filename === 'report.md');
        assert.notEqual(changed.id, report.id);
        assert.equal(await content(changed), 'changed');
        assert.equal(second.length, 3);
        await refused(world.client().beta.files.retrieveMetadata(report.id), 404);
        const unchanged = (files) => files.filter((f) => f.filename !== 'report.md').map((f) => f.id).sort();
        assert.deepEqual(unchanged(second), unchanged(first));
        await world.client().beta.sessions.delete(s.id);
        await refused(world.client().beta.files.retrieveMetadata(changed.id), 404);
    });

    test('of very many files as many as are listed keep their names and ids', async () => {
        const s = await session([]);
        await run(s, 'cd /mnt/session/outputs && mkdir a && seq -w 5000 | sed "s/^/f/" | xargs touch && seq -w 5000 | sed "s/^/a\\/f/" | xargs touch');
        const names = (files) => files.map((f) => `${f.filename} ${f.id}`).sort();
        const first = await outputs(s, (files) => files.length === 1000);
        assert.equal(new Set(first.map((f) => f.filename)).size, 1000);
        await run(s, 'printf more > /mnt/session/outputs/a/f0001');
        const second = await outputs(s, (files) => files.some((f) => f.size_bytes === 4));
        assert.deepEqual(names(second.filter((f) => !f.size_bytes)), names(first.filter((f) => f.filename !== 'a_f0001')));
    });

    test('a file whose path makes a name that another has leaves that one alone', async () => {
        const s = await session([]);
        await run(s, 'printf old > /mnt/session/outputs/a_b');
        const [old] = await outputs(s, (files) => files.length === 1);
        await run(s, 'mkdir /mnt/session/outputs/a; printf new > /mnt/session/outputs/a/b');
        const files = await outputs(s, (all) => all.length === 2);
        assert.equal(files.find((f) => f.filename === 'a_b').id, old.id);
        assert.equal(await content(old), 'old');
        assert.equal(await content(files.find((f) => f.filename === 'a_b_2')), 'new');
    });

    test('a client may delete one, and it stays away until it changes', async () => {
        const s = await session([]);
        await run(s, 'printf a > /mnt/session/outputs/a; printf b > /mnt/session/outputs/b');
        const files = await outputs(s, (all) => all.length === 2);
        await world.client().beta.files.delete(files.find((f) => f.filename === 'a').id);
        await run(s, 'printf c > /mnt/session/outputs/c');
        assert.deepEqual((await outputs(s, (all) => all.some((f) => f.filename === 'c'))).map((f) => f.filename).sort(), ['b', 'c']);
    });

    test('a server that died before it listed them does so when it is back', async () => {
        const s = await session([]);
        await run(s, 'printf a > /mnt/session/outputs/a');
        await outputs(s, (all) => all.length === 1);
        await world.server.kill();
        const { writeFileSync } = await import('node:fs');
        writeFileSync(path.join(world.server.data, 'sandboxes', s.id, 'outputs', 'late.txt'), 'late');
        await world.server.start();
        const files = await outputs(s, (all) => all.length === 2);
        assert.equal(await content(files.find((f) => f.filename === 'late.txt')), 'late');
    });
});
