// Builds of environments: once for each content, shared by sessions; failures with their text; setup and
// variables; a server that is killed while it builds. What needs a package source of this host is skipped
// by name where that source does not answer, or the manager is not installed.
import { after, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { eventually } from '../lib/e2e.mjs';
import { useServer } from '../lib/harness.mjs';

const TOOLSET = [{ type: 'agent_toolset_20260401' }];
const PATIENCE = { timeout: 300000 };

const has = (name) => ['/usr/bin', '/bin', '/usr/local/bin'].some((dir) => existsSync(path.join(dir, name)));
const run = (command, ...args) => spawnSync(command, args, { encoding: 'utf8', timeout: 30000 });

// A reason, or false: its source answers the host's own client.
async function aptMissing() {
    if (!has('apt-get') || !has('dpkg-deb')) return 'apt is not installed here';
    const uri = run('apt-get', 'download', '--print-uris', 'hello').stdout?.match(/'([^']+)'/)?.[1];
    if (!uri) return 'apt knows no package "hello" here';
    const answer = await fetch(uri, { method: 'HEAD', signal: AbortSignal.timeout(20000) }).catch(() => null);
    return answer?.ok ? false : "the host's apt source does not answer";
}

function npmMissing() {
    if (!has('npm')) return 'npm is not installed here';
    return run('npm', 'view', 'semver', 'version').status === 0 ? false : "the host's npm source does not answer";
}

const noApt = await aptMissing();
const noNpm = npmMissing();
const noPip = has('pip3') ? false : 'pip is not installed here';

const world = useServer();

const cloud = (config) => world.client().beta.environments.create({ name: 'built', config: { type: 'cloud', ...config } });
const look = (environment) => world.client().beta.environments.retrieve(environment.id);
const over = (environment) =>
    eventually('the end of the build', async () => {
        const now = await look(environment);
        return ['ready', 'failed'].includes(now.build?.state) && now;
    });
const builds = () => world.server.log.split('\n').filter((line) => line.includes('building an environment')).length;

// What a command says in a new session of the environment.
async function shell(environment, command) {
    const agent = await world.agent({ model: 'script/tool', tools: TOOLSET });
    const session = await world.client().beta.sessions.create({ agent: agent.id, environment_id: environment.id });
    const events = await world.turn(session.id, `run: ${command}`);
    const result = events.find((e) => e.type === 'agent.tool_result');
    return { ...result, text: result.content.map((c) => c.text).join('').trim() };
}

test('an environment without contents has no build, and its tier', PATIENCE, async () => {
    const environment = await look(await cloud({}));
    assert.equal(environment.build, null);
    assert.match(environment.config.tier, /^(bwrap-|none|probing)/);
});

describe('one apt and one npm package', { skip: noApt || noNpm || false }, () => {
    let environment;

    test('are built once and seen by two sessions', PATIENCE, async () => {
        const before = builds();
        environment = await cloud({
            packages: { apt: ['hello'], npm: ['semver@7.6.3'] },
            setup: ['hello > /opt/env/said; echo "alias x=y" > ~/.kept', 'printf "#!/bin/sh\\necho $FLAVOUR\\n" > /opt/env/bin/taste; chmod +x /opt/env/bin/taste'],
            variables: { FLAVOUR: "it's $HOME \"plain\"" },
        });
        assert.equal(environment.build.state, 'pending');
        const [one, two] = await Promise.all(['hello; semver 1.2.3; cat /opt/env/said ~/.kept', 'semver 4.5.6; echo "$FLAVOUR"; hello -v | head -1'].map((c) => shell(environment, c)));
        assert.equal(one.text, 'Hello, world!\n1.2.3\nHello, world!\nalias x=y', one.text);
        assert.match(two.text, /^4\.5\.6\nit's \$HOME "plain"\nhello/);
        const { build } = await look(environment);
        assert.equal(build.state, 'ready');
        assert.ok(Date.parse(build.built_at));
        assert.match(build.log_tail, /== setup: hello/);
        assert.equal(builds() - before, 1);
    });

    test('the same contents elsewhere are the same layer', PATIENCE, async () => {
        const before = builds();
        const { id, config } = await look(environment);
        const { tier, ...same } = config;
        assert.ok(tier);
        const twin = await over(await cloud(same));
        assert.notEqual(twin.id, id);
        assert.equal(twin.build.state, 'ready');
        assert.equal(builds(), before);
        assert.equal(readdirSync(path.join(world.server.data, 'environments')).filter((name) => /^[0-9a-f]{64}$/.test(name)).length, 1);
    });

    test('nothing of it can be changed from inside', PATIENCE, async () => {
        const { text } = await shell(environment, 'for f in /opt/env/x /opt/env/npm/x /usr/x /usr/bin/hello; do : 2>/dev/null > $f || echo no; done');
        assert.equal(text.match(/no/g)?.length, 4, text);
    });

    test('it is there after a restart without another build', PATIENCE, async () => {
        await world.server.restart();
        assert.equal((await look(environment)).build.state, 'ready');
        assert.equal((await shell(environment, 'semver 7.8.9')).text, '7.8.9');
        assert.doesNotMatch(world.server.startedLog, /building an environment/);
    });
});

test('an unknown package fails with its text, and calls say so', { ...PATIENCE, skip: noApt }, async () => {
    const environment = await cloud({ packages: { apt: ['no-such-package-of-ostler'] } });
    const result = await shell(environment, 'echo never');
    assert.equal(result.is_error, true);
    assert.equal(result.failure.reason, 'sandbox_unavailable');
    assert.match(result.text, /Unable to locate package no-such-package-of-ostler/);
    const { build } = await look(environment);
    assert.equal(build.state, 'failed');
    assert.match(build.log_tail, /Unable to locate package no-such-package-of-ostler/);
    assert.match(world.server.log, /could not be built/);
});

test('setup alone needs no package source; a command that fails is named and tried again when saved', PATIENCE, async () => {
    const environment = await over(await cloud({ setup: ['echo one', 'echo two; exit 7', 'echo three'] }));
    assert.equal(environment.build.state, 'failed');
    assert.match(environment.build.log_tail, /two\n== setup command 1 ended with exit 7/);
    assert.doesNotMatch(environment.build.log_tail, /three/);
    const before = builds();
    await world.client().beta.environments.update(environment.id, { config: environment.config });
    await eventually('another try', () => builds() > before);
    const repaired = await world.client().beta.environments.update(environment.id, { config: { type: 'cloud', setup: ['echo fine > ~/fine', 'mkfifo /opt/env/pipe; chmod 600 ~/fine'] } });
    assert.equal((await over(repaired)).build.state, 'ready');
    assert.equal((await shell(environment, 'cat ~/fine; ls /opt/env/pipe 2>&1 | grep -c "No such"')).text, 'fine\n1');
});

test('setup has no way to the host: no files of it, no loopback, no credentials', PATIENCE, async () => {
    const { build } = await over(
        await cloud({
            setup: [
                `for f in /root ${world.server.data} /etc/shadow /etc/apt/auth.conf; do test -e $f && echo "sees $f"; done; true`,
                `(echo > /dev/tcp/127.0.0.1/${world.server.port}) 2>/dev/null && echo 'reaches the server'; true`,
                'id -u; touch /usr/x /etc/x 2>/dev/null && echo writes; true',
            ],
        }),
    );
    assert.equal(build.state, 'ready', build.log_tail);
    assert.doesNotMatch(build.log_tail.replace(/^== .*$/gm, ''), /sees|reaches|writes/);
});

test('a build that its server died in is begun again', PATIENCE, async () => {
    const environment = await cloud({ setup: ['echo began; for i in $(seq 600); do test -e /tmp/never && break; read -t 1 < /dev/zero || true; [ $SECONDS -gt 3 ] && break; done; echo ended > /opt/env/mark'] });
    await eventually('the build', async () => (await look(environment)).build.log_tail.includes('began'));
    await world.server.restart();
    assert.equal((await shell(environment, 'cat /opt/env/mark')).text, 'ended');
    assert.equal((await look(environment)).build.state, 'ready');
    const left = readdirSync(path.join(world.server.data, 'environments')).filter((name) => name.startsWith('.build-'));
    assert.deepEqual(left, []);
});

test('what no environment needs any more is removed; what one needs stays, however old', PATIENCE, async () => {
    const layers = () => readdirSync(path.join(world.server.data, 'environments')).filter((name) => /^[0-9a-f]{64}$/.test(name));
    await over(await cloud({ setup: ['true'] }));
    const before = layers();
    const goes = await over(await cloud({ setup: ['echo goes > /opt/env/x'] }));
    const [gone] = layers().filter((name) => !before.includes(name));
    const stays = await over(await cloud({ setup: ['echo stays > /opt/env/x'] }));
    const [kept] = layers().filter((name) => !before.includes(name) && name !== gone);
    await world.client().beta.environments.delete(goes.id);
    for (const name of [gone, kept]) utimesSync(path.join(world.server.data, 'environments', name), 1, 1);
    await world.server.restart();
    await eventually('the sweep', () => !layers().includes(gone));
    assert.ok(layers().includes(kept));
    assert.equal((await look(stays)).build.state, 'ready');
});

test('pip gets no further than the host lets it: what no index has is an error with its name', { ...PATIENCE, skip: noPip }, async () => {
    const environment = await over(await cloud({ packages: { pip: ['ostler-has-no-such-package'] } }));
    assert.equal(environment.build.state, 'failed');
    assert.match(environment.build.log_tail, /No matching distribution found for ostler-has-no-such-package/);
});

test('a manager that is not there is named with its Debian package', { ...PATIENCE, skip: has('gem') ? 'gem is installed here' : false }, async () => {
    const environment = await over(await cloud({ packages: { gem: ['rake'] } }));
    assert.equal(environment.build.state, 'failed');
    assert.match(environment.build.log_tail, /gem is not installed on this host: apt-get install ruby/);
});

describe('where the kernel merges no directories', { skip: noApt }, () => {
    // The trial needs a directory of this name.
    const other = useServer({}, async (w) => {
        mkdirSync(path.join(w.server.data, 'environments'), { recursive: true });
        writeFileSync(path.join(w.server.data, 'environments/.try'), '');
    });

    test('apt packages are beside, on the paths', PATIENCE, async () => {
        const agent = await other.agent({ model: 'script/tool', tools: TOOLSET });
        const environment = await other.environment({ config: { type: 'cloud', packages: { apt: ['hello'] }, setup: ['hello'] } });
        const session = await other.client().beta.sessions.create({ agent: agent.id, environment_id: environment.id });
        const events = await other.turn(session.id, 'run: hello; command -v hello; ls /usr/bin/hello 2>/dev/null; echo $LD_LIBRARY_PATH');
        const result = events.find((e) => e.type === 'agent.tool_result');
        assert.match(result.content.map((c) => c.text).join(''), /^Hello, world!\n\/opt\/env\/apt\/usr\/bin\/hello\n\/opt\/env\/apt\/usr\/lib/);
    });
});

// A wheel with one module and one program, made by the standard library alone.
const WHEEL = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as z:
    info = 'tiny_ostler-1.0.dist-info'
    z.writestr('tiny_ostler.py', 'def main():\\n    print("from the wheel")\\n')
    z.writestr(info + '/METADATA', 'Metadata-Version: 2.1\\nName: tiny-ostler\\nVersion: 1.0\\n')
    z.writestr(info + '/WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    z.writestr(info + '/entry_points.txt', '[console_scripts]\\ntiny-ostler = tiny_ostler:main\\n')
    z.writestr(info + '/RECORD', '')
`;

describe("pip with the host's own index", { skip: noPip }, () => {
    const files = mkdtempSync(path.join(tmpdir(), 'ostler-index-'));
    const wheel = 'tiny_ostler-1.0-py3-none-any.whl';
    const asked = [];
    const index = createServer((request, response) => {
        asked.push({ url: request.url, credentials: request.headers.authorization });
        const page = `<a href="/${wheel}">${wheel}</a>`;
        response.writeHead(200, { 'content-type': request.url.endsWith('.whl') ? 'application/zip' : 'text/html' });
        response.end(request.url.endsWith('.whl') ? readFileSync(path.join(files, wheel)) : page);
    });
    const other = useServer({ config: 'egress: {hosts: {index.test: 127.0.0.1}, allow_addresses: [127.0.0.0/8]}\n' }, async (w) => {
        await new Promise((resolve) => index.listen(0, '127.0.0.1', resolve));
        mkdirSync(path.join(w.server.dir, '.config/pip'), { recursive: true });
        const url = `http://somebody:secret@index.test:${index.address().port}/simple`;
        writeFileSync(path.join(w.server.dir, '.config/pip/pip.conf'), `[global]\nindex-url = ${url}\ntrusted-host = index.test\n`);
    });
    after(() => {
        index.close();
        rmSync(files, { recursive: true, force: true });
    });

    test('installs from it under limited networking, without its credentials', PATIENCE, async () => {
        assert.equal(run('python3', '-c', WHEEL, path.join(files, wheel)).status, 0);
        const agent = await other.agent({ model: 'script/tool', tools: TOOLSET });
        const environment = await other.environment({
            config: { type: 'cloud', packages: { pip: ['tiny-ostler==1.0'] }, networking: { type: 'limited', allow_package_managers: true } },
        });
        const session = await other.client().beta.sessions.create({ agent: agent.id, environment_id: environment.id });
        const events = await other.turn(session.id, 'run: tiny-ostler; python3 -c "import tiny_ostler; tiny_ostler.main()"');
        const result = events.find((e) => e.type === 'agent.tool_result');
        assert.equal(result.content.map((c) => c.text).join('').trim(), 'from the wheel\nfrom the wheel');
        assert.ok(asked.some((r) => r.url.endsWith('.whl')));
        assert.deepEqual(asked.filter((r) => r.credentials), []);
        const { build } = await other.client().beta.environments.retrieve(environment.id);
        assert.doesNotMatch(build.log_tail + other.server.log, /secret/);
    });
});

// bash, a few programs and what they are linked with: enough for a root.
function makeRoot(root) {
    for (const dir of ['usr/bin', 'usr/lib', 'usr/lib64', 'etc']) mkdirSync(path.join(root, dir), { recursive: true });
    for (const dir of ['bin', 'lib', 'lib64']) symlinkSync(`usr/${dir}`, path.join(root, dir));
    for (const name of ['bash', 'cat', 'ls', 'mkdir']) {
        copyFileSync(`/bin/${name}`, path.join(root, 'usr/bin', name));
        for (const [library] of run('ldd', `/bin/${name}`).stdout.matchAll(/\/lib\S+/g)) {
            const to = path.join(root, 'usr', library.replace(/^\/usr/, ''));
            mkdirSync(path.dirname(to), { recursive: true });
            copyFileSync(library, to);
        }
    }
    writeFileSync(path.join(root, 'usr/marker'), 'an image of the tests\n');
}

describe('an image', () => {
    const images = mkdtempSync(path.join(tmpdir(), 'ostler-images-'));
    const other = useServer({ config: `sandbox: {images: ${images}}\n` });
    after(() => rmSync(images, { recursive: true, force: true }));

    test('is the root of its sandboxes instead of the host, with setup on top', PATIENCE, async () => {
        makeRoot(path.join(images, 'mini'));
        chmodSync(images, 0o755);
        const agent = await other.agent({ model: 'script/tool', tools: TOOLSET });
        const environment = await other.environment({
            config: { type: 'cloud', image: { type: 'rootfs', path: path.join(images, 'mini') }, setup: ['mkdir -p /opt/env/bin; echo "echo from setup" > /opt/env/bin/hi'] },
        });
        const session = await other.client().beta.sessions.create({ agent: agent.id, environment_id: environment.id });
        const events = await other.turn(session.id, 'run: cat /usr/marker; ls /usr/share 2>/dev/null; bash /opt/env/bin/hi');
        const result = events.find((e) => e.type === 'agent.tool_result');
        assert.equal(result.content.map((c) => c.text).join('').trim(), 'an image of the tests\nfrom setup');
        const elsewhere = { name: 'x', config: { type: 'cloud', image: { type: 'rootfs', path: '/usr/lib' } } };
        await assert.rejects(other.client().beta.environments.create(elsewhere), (e) => e.status === 400 && /below/.test(e.message));
    });
});
