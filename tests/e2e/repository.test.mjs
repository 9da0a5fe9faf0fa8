// Repositories of a session: cloned before its first call, without a credential left anywhere.
import { after, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { toFile } from '@anthropic-ai/sdk';
import { texts, useServer } from '../lib/harness.mjs';
import { GitServer } from '../lib/git-server.mjs';

const TOKEN = 'secret-token-8d1f0c52';
const TOOLSET = [{ type: 'agent_toolset_20260401' }];
const scripts = path.resolve(import.meta.dirname, '../contract/scripts');
const git = await new GitServer().start();
after(() => git.stop());
const world = useServer({ config: `script_dir: ${scripts}\nrepositories: {allow_http: true, allow_addresses: [127.0.0.0/8]}\n` });

git.add('open', { 'README.md': 'open\n', '.claude/skills/triage/SKILL.md': '---\nname: triage\ndescription: d\n---\n', '.gitattributes': '*.md filter=evil\n' });
git.add('closed', { 'README.md': 'closed\n' }, { token: TOKEN });
git.add('denied', { 'README.md': 'denied\n' });
git.forbidden.add('denied');

const url = (name) => `${git.url}/${name}.git`;
const repository = (name, extra = {}) => ({ type: 'github_repository', url: url(name), ...extra });
const session = (resources, extra = {}) => world.session({ agent: { model: 'script/shell', tools: TOOLSET }, resources, ...extra });
const errors = (events) => events.filter((e) => e.type === 'session.error').map((e) => e.error);

// The result of one command, and the errors that came on the way.
async function run(s, command) {
    const events = await world.turn(s.id, `run: ${command}`);
    return { text: texts(events).at(-1), errors: errors(events) };
}

describe('a repository that can be had', () => {
    test('is there with its history, its public origin and nothing else', async () => {
        const s = await session([repository('open')]);
        const first = await run(s, 'cd open && cat README.md && git log --format=%s && git remote -v && git status --short && git branch --show-current && cat .git/config');
        assert.deepEqual(first.errors, []);
        assert.match(first.text, /open\nstart\norigin\s.*open\.git \(fetch\)[\s\S]*\nmain\n/);
        assert.ok(!/credential|extraheader|hooksPath/i.test(first.text), first.text);
        // What it brings for the agent is told once, before the first result.
        assert.match(first.text, /triage: \/workspace\/open\/\.claude\/skills\/triage\/SKILL\.md/);
        assert.ok(!/triage/.test((await run(s, 'echo again')).text));
        assert.equal((await run(s, 'cd /workspace/open && echo x > new && git add new && git -c user.name=a -c user.email=a@b commit -qm mine && git log --format=%s -1')).text, 'mine');
    });

    test('by a branch, by a commit, and at a place of the client\'s', async () => {
        const work = path.join(git.dir, 'open.work');
        const before = git.git(work, 'rev-parse', 'HEAD');
        git.git(work, 'checkout', '-q', '-b', 'feature/x');
        writeFileSync(path.join(work, 'README.md'), 'feature\n');
        git.commit('open', 'on the branch');
        const s = await session([
            repository('open', { checkout: { type: 'branch', name: 'feature/x' }, mount_path: '/workspace/a/branch' }),
            repository('open', { checkout: { type: 'commit', sha: before }, mount_path: '/workspace/commit' }),
        ]);
        const { text, errors: none } = await run(s, 'cat a/branch/README.md commit/README.md; git -C a/branch branch --show-current; git -C commit rev-parse HEAD');
        assert.deepEqual(none, []);
        assert.ok(text.endsWith(`feature\nopen\nfeature/x\n${before}`), text);
    });

    test('comes back with the session\'s files, and is not cloned over them', async () => {
        git.add('fleeting', { 'README.md': 'fleeting\n' });
        const s = await session([repository('fleeting')]);
        await run(s, 'cd fleeting && echo x > new && git add new && git -c user.name=a -c user.email=a@b commit -qm mine');
        await world.server.stop(); // with the files kept
        rmSync(path.join(world.server.data, 'sandboxes', s.id), { recursive: true });
        git.forbidden.add('fleeting');
        await world.server.start();
        const { text, errors: none } = await run(s, 'git -C /workspace/fleeting log --format=%s && git -C /workspace/fleeting status --short');
        assert.deepEqual(none, []);
        assert.match(text, /are gone\. Look before you rely on any of it\.\nmine\nstart$/);
    });

    test('a second session gets the objects from here', async () => {
        const packs = () => git.requests.filter((r) => r.method === 'POST' && r.url.includes('git-upload-pack')).length;
        await run(await session([repository('open')]), 'true');
        const mark = packs();
        const { text } = await run(await session([repository('open')]), 'cat open/README.md');
        assert.match(text, /open/);
        // References are asked for (with this session's own right to them), objects are not.
        const asked = git.requests.slice(-20).filter((r) => r.method === 'POST');
        assert.ok(packs() - mark <= 3, `${packs() - mark} requests: ${JSON.stringify(asked)}`);
    });

    test('what a fetch that was killed left does not keep the next one from it', async () => {
        git.add('killed', { 'README.md': 'before\n' });
        await run(await session([repository('killed')]), 'true');
        const mirrors = path.join(world.server.data, 'repositories');
        const bare = () => readdirSync(mirrors).filter((name) => name.endsWith('.git'));
        for (const mirror of bare()) {
            for (const name of ['packed-refs.lock', 'refs/heads/main.lock', 'objects/pack/tmp_pack_abc']) writeFileSync(path.join(mirrors, mirror, name), '');
        }
        writeFileSync(path.join(git.dir, 'killed.work', 'README.md'), 'after\n');
        git.commit('killed', 'later');
        const { text, errors: none } = await run(await session([repository('killed')]), 'cat killed/README.md');
        assert.deepEqual(none, []);
        assert.match(text, /after/);
        const swept = bare().filter((mirror) => !readdirSync(path.join(mirrors, mirror, 'objects/pack')).includes('tmp_pack_abc'));
        assert.equal(swept.length, 1, 'only the one that was fetched into');
    });

    test('uses a token that is left nowhere', async () => {
        const seen = [];
        git.onRequest = (name) => name === 'closed' && seen.push(...processes(TOKEN));
        const s = await session([repository('closed', { authorization_token: TOKEN })]);
        const { text, errors: none } = await run(s, 'cat closed/README.md; env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr "\\0" "\\n"; grep -rs . closed/.git/config /home/agent /tmp || true');
        assert.deepEqual(none, []);
        git.onRequest = undefined;
        assert.deepEqual(seen, [], 'in no command line and no environment while git ran');
        assert.match(text, /closed/);
        assert.ok(git.requests.some((r) => r.authorization && Buffer.from(r.authorization.split(' ')[1], 'base64').toString().endsWith(`:${TOKEN}`)));
        assert.ok(!text.includes(TOKEN));
        assert.ok(!JSON.stringify(await world.events(s.id)).includes(TOKEN));
        assert.ok(!world.server.log.includes(TOKEN));
        await world.server.stop(); // nothing comes and goes while it looks, the session's files are kept
        assert.deepEqual(holding(world.server.dir, [TOKEN, Buffer.from(`x-access-token:${TOKEN}`).toString('base64'), Buffer.from(TOKEN).toString('base64')]), []);
        const key = statSync(path.join(world.server.data, 'secret-key'));
        assert.equal(key.mode & 0o777, 0o600);
        assert.equal(key.size, 32);
        await world.server.start();
    });
});

// Processes of this host that were started with a text.
function processes(needle) {
    return readdirSync('/proc').filter((pid) => /^\d+$/.test(pid)).flatMap((pid) => ['cmdline', 'environ'].map((name) => `/proc/${pid}/${name}`)).filter((file) => {
        try {
            return readFileSync(file).includes(needle);
        } catch {
            return false;
        }
    });
}

// Files below a directory that hold any of the texts.
function holding(dir, needles) {
    const found = [];
    for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile()) continue;
        const file = path.join(entry.parentPath, entry.name);
        const bytes = readFileSync(file);
        if (needles.some((n) => bytes.includes(n))) found.push(file);
    }
    return found;
}

describe('a repository that cannot be had is told, and the session goes on', () => {
    for (const [what, resource, type] of [
        ['without a token', () => repository('closed'), 'repository_authentication_error'],
        ['with a wrong token', () => repository('closed', { authorization_token: 'wrong' }), 'repository_authentication_error'],
        ['that is forbidden', () => repository('denied', { authorization_token: 'any' }), 'repository_forbidden_error'],
        ['that is not there', () => repository('nowhere'), 'repository_not_found_error'],
        ['without that branch', () => repository('open', { checkout: { type: 'branch', name: 'no-such' } }), 'repository_checkout_error'],
        ['without that commit', () => repository('open', { checkout: { type: 'commit', sha: 'f'.repeat(40) } }), 'repository_checkout_error'],
        ['on a host that nobody knows', () => ({ type: 'github_repository', url: 'https://no-such-host.invalid/o/r' }), 'repository_clone_error'],
        ['at an address that is not public', () => ({ type: 'github_repository', url: 'https://10.0.0.1/o/r' }), 'repository_clone_error'],
    ]) {
        test(what, async () => {
            const resourceParams = resource();
            const s = await session([resourceParams]);
            const { text, errors: told } = await run(s, 'ls -A /workspace; echo went on');
            assert.equal(told.length, 1, JSON.stringify(told));
            assert.equal(told[0].type, type, told[0].message);
            assert.equal(told[0].repository_url, resourceParams.url);
            assert.deepEqual(told[0].retry_status, { type: 'retrying' });
            assert.equal(text, 'went on');
            assert.deepEqual((await run(s, 'true')).errors, [], 'it is not tried again before each call');
        });
    }

    test('and comes when its token is replaced', async () => {
        const s = await session([repository('closed', { authorization_token: 'old' })]);
        assert.equal((await run(s, 'true')).errors[0].type, 'repository_authentication_error');
        await world.client().beta.sessions.resources.update(s.resources[0].id, { session_id: s.id, authorization_token: TOKEN });
        const { text, errors: none } = await run(s, 'cat closed/README.md');
        assert.deepEqual(none, []);
        assert.match(text, /closed/);
    });
});

test('a repository, a file and a skill in one session', async () => {
    const client = world.client();
    const skill = await client.beta.skills.create({ files: [await toFile(Buffer.from('---\nname: sums\ndescription: Adds numbers.\n---\nAdd them.\n'), 'sums/SKILL.md'), await toFile(Buffer.from('#!/bin/sh\necho $(($1 + $2))\n'), 'sums/add.sh'), await toFile(Buffer.from('plain\n'), 'sums/größe é.txt')] });
    const file = await client.beta.files.upload({ file: await toFile(Buffer.from('3 4\n'), 'numbers') });
    const s = await session([repository('open'), { type: 'file', file_id: file.id, mount_path: '/numbers' }], { agent: { model: 'script/shell', tools: TOOLSET, skills: [{ type: 'custom', skill_id: skill.id }] } });
    const { text } = await run(s, 'cat open/README.md; head -n 2 skills/sums/SKILL.md; sh skills/sums/add.sh $(cat /mnt/session/uploads/numbers); cat "skills/sums/größe é.txt"; touch skills/sums/x skills/y 2>&1 | head -n 2; rm -rf skills 2>/dev/null; ls skills/sums');
    assert.match(text, /open\n---\nname: sums\n7\nplain\n.*Read-only[\s\S]*SKILL\.md/);
});

test('a session that is deleted takes its clone with it', async () => {
    const s = await session([repository('open')]);
    await run(s, 'test -d open');
    await world.client().beta.sessions.delete(s.id);
    const gone = () => !readdirSync(path.join(world.server.data, 'sandboxes')).includes(s.id);
    for (let i = 0; i < 200 && !gone(); i++) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.ok(gone());
    assert.equal(execFileSync('sh', ['-c', `ls ${path.join(world.server.data, 'repositories')} | wc -l`], { encoding: 'utf8' }).trim() > 0, true);
});
