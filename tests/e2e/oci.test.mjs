// The OCI driver: an image from a layout that is made here by hand, a root that keeps what was installed,
// the limits and the closed network as elsewhere. Skipped by name where it cannot run.
import { after, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { eventually } from '../lib/e2e.mjs';
import { useServer } from '../lib/harness.mjs';

const TOOLSET = [{ type: 'agent_toolset_20260401' }];
const PATIENCE = { timeout: 300000 };
const PROGRAMS = ['bash', 'sh', 'ls', 'cat', 'head', 'mkdir', 'rm', 'chmod', 'chown', 'stat', 'touch', 'sleep', 'id', 'dpkg', 'dpkg-deb', 'dpkg-split', 'dpkg-query', 'dpkg-trigger', 'tar', 'diff', 'find', 'sed', 'env'];

const run = (command, ...args) => {
    const done = spawnSync(command, args, { encoding: 'utf8', timeout: 60000, maxBuffer: 64 << 20 });
    assert.equal(done.status, 0, `${command} ${args.join(' ')}: ${done.stderr}`);
    return done.stdout;
};
const where = (name) => ['/usr/bin', '/bin', '/usr/sbin', '/sbin'].map((dir) => path.join(dir, name)).find(existsSync);

const missing =
    process.getuid() !== 0 ? 'not started as root' : !where('runc') ? 'runc is not installed' : !where('dpkg-deb') ? 'dpkg is not installed' : false;

// A reason, or false: apt's source answers the host's own client.
async function aptMissing() {
    const uri = spawnSync('apt-get', ['download', '--print-uris', 'hello'], { encoding: 'utf8', timeout: 30000 }).stdout?.match(/'([^']+)'/)?.[1];
    if (!uri) return 'apt knows no package "hello" here';
    const answer = await fetch(uri, { method: 'HEAD', signal: AbortSignal.timeout(20000) }).catch(() => null);
    return answer?.ok ? false : "the host's apt source does not answer";
}
const noApt = missing || (await aptMissing());

const images = missing ? tmpdir() : mkdtempSync(path.join(tmpdir(), 'ostler-images-'));
after(() => missing || rmSync(images, { recursive: true, force: true }));

// A small Debian-like root: some of the host's programs with the libraries that they name.
function makeRoot(dir) {
    for (const sub of ['usr/bin', 'usr/sbin', 'usr/lib', 'usr/lib64', 'etc', 'var/lib/dpkg/info', 'var/lib/dpkg/updates', 'var/lib/dpkg/triggers', 'tmp', 'root', 'run']) mkdirSync(path.join(dir, sub), { recursive: true });
    for (const link of ['bin', 'sbin', 'lib', 'lib64']) symlinkSync(`usr/${link}`, path.join(dir, link));
    const files = new Set(PROGRAMS.map(where).filter(Boolean));
    for (const name of ['ldconfig', 'start-stop-daemon']) writeFileSync(path.join(dir, 'usr/sbin', name), '#!/bin/sh\n', { mode: 0o755 });
    for (const program of [...files]) {
        const said = spawnSync('ldd', [program], { encoding: 'utf8' }).stdout ?? '';
        for (const [, library] of said.matchAll(/(\/[^\s()]+)/g)) files.add(library);
    }
    for (const file of files) {
        const to = path.join(dir, file.startsWith('/usr/') ? file : `/usr${file}`);
        mkdirSync(path.dirname(to), { recursive: true });
        copyFileSync(file, to);
        chmodSync(to, 0o755);
    }
    writeFileSync(path.join(dir, 'var/lib/dpkg/status'), '');
    writeFileSync(path.join(dir, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/bash\n');
    writeFileSync(path.join(dir, 'etc/group'), 'root:x:0:\n');
    writeFileSync(path.join(dir, 'etc/lower'), 'lower\n');
    writeFileSync(path.join(dir, 'etc/gone'), 'gone\n');
    mkdirSync(path.join(dir, 'srv/old'), { recursive: true });
    writeFileSync(path.join(dir, 'srv/old/file'), 'old\n');
}

// layers: [{bytes, type}]. Returns the layout's path.
function makeLayout(name, layers, config = {}) {
    const dir = path.join(images, name);
    mkdirSync(path.join(dir, 'blobs/sha256'), { recursive: true });
    const blob = (bytes, mediaType) => {
        const hex = createHash('sha256').update(bytes).digest('hex');
        writeFileSync(path.join(dir, 'blobs/sha256', hex), bytes);
        return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
    };
    const json = (value, type) => blob(Buffer.from(JSON.stringify(value)), `application/vnd.oci.image.${type}.v1+json`);
    const described = layers.map(({ bytes, type }) => blob(bytes, `application/vnd.oci.image.layer.v1.${type}`));
    const manifest = json({ schemaVersion: 2, config: json({ os: 'linux', architecture: 'any', config }, 'config'), layers: described }, 'manifest');
    writeFileSync(path.join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    writeFileSync(path.join(dir, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [manifest] }));
    return dir;
}

const tar = (dir) => spawnSync('tar', ['-C', dir, '--owner=0', '--group=0', '-c', '.'], { maxBuffer: 512 << 20 }).stdout;

function build() {
    const work = mkdtempSync(path.join(tmpdir(), 'ostler-layers-'));
    try {
        makeRoot(path.join(work, 'base'));
        const second = path.join(work, 'second');
        mkdirSync(path.join(second, 'etc'), { recursive: true });
        mkdirSync(path.join(second, 'srv/old'), { recursive: true });
        writeFileSync(path.join(second, 'etc/.wh.gone'), '');
        writeFileSync(path.join(second, 'etc/upper'), 'upper\n');
        writeFileSync(path.join(second, 'srv/old/.wh..wh..opq'), '');
        writeFileSync(path.join(second, 'srv/old/new'), 'new\n');
        const base = gzipSync(tar(path.join(work, 'base')), { level: 1 });
        const zstd = spawnSync('zstd', ['-q', '-c'], { input: tar(second), maxBuffer: 64 << 20 });
        const top = zstd.status === 0 ? { bytes: zstd.stdout, type: 'tar+zstd' } : { bytes: tar(second), type: 'tar' };
        const layout = makeLayout('small', [{ bytes: base, type: 'tar+gzip' }, top], { Env: ['FLAVOUR=from-image', 'HOME=/nowhere'] });
        const bad = makeLayout('bad', [{ bytes: base, type: 'tar+gzip' }]);
        const [largest] = readdirSync(path.join(bad, 'blobs/sha256')).map((name) => path.join(bad, 'blobs/sha256', name)).sort((a, b) => readFileSync(b).length - readFileSync(a).length);
        const bytes = readFileSync(largest);
        bytes[bytes.length >> 1] ^= 1;
        writeFileSync(largest, bytes);
        return { layout, bad };
    } finally {
        rmSync(work, { recursive: true, force: true });
    }
}

describe('the OCI driver', { skip: missing }, () => {
    const world = useServer({
        config: `sandbox: {driver: oci, images: ${images}, disk_mb: 96, memory_mb: 256, pids: 64}\negress: {allow_addresses: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10]}\n`,
    });
    const made = missing ? {} : build();
    const opened = [];
    const cloud = (config) => world.client().beta.environments.create({ name: 'oci', config: { type: 'cloud', ...config } });
    const open = async (environment) => {
        const agent = await world.agent({ model: 'script/tool', tools: TOOLSET });
        const made = await world.client().beta.sessions.create({ agent: agent.id, environment_id: environment.id });
        opened.push(made.id);
        return made;
    };
    const say = async (session, command) => {
        const events = await world.turn(session.id, `run: ${command}`);
        const result = events.filter((e) => e.type === 'agent.tool_result').at(-1);
        assert.ok(result, JSON.stringify(events.slice(-6)));
        return { ...result, text: (result.content ?? []).map((c) => c.text).join('').trim() };
    };
    const pidFile = (session) => path.join(world.server.data, 'sandboxes', session.id, 'oci/pid');
    const pid = (session) => Number(readFileSync(pidFile(session), 'utf8'));
    let environment, session;

    test('a layout is unpacked once, its layers in order, with whiteouts and variables', PATIENCE, async () => {
        environment = await cloud({ image: { type: 'oci_layout', path: made.layout } });
        assert.equal(environment.config.image.type, 'oci_layout');
        session = await open(environment);
        const { text } = await say(session, 'cat /etc/lower /etc/upper; ls /etc/gone /srv/old 2>&1; echo $FLAVOUR $HOME; id -u; ls /usr/bin/python3 /boot 2>/dev/null; true');
        assert.equal(text, "lower\nupper\nls: cannot access '/etc/gone': No such file or directory\n/srv/old:\nnew\nfrom-image /home/agent\n0");
        const now = await world.client().beta.environments.retrieve(environment.id);
        assert.equal(now.build.state, 'ready');
        assert.equal(now.config.tier, 'oci-runc');
        const health = await world.http('GET', '/healthz');
        assert.equal(health.json.sandbox.tier, 'oci-runc');
        const twin = await open(await cloud({ image: { type: 'oci_layout', path: made.layout }, variables: { A: 'b' } }));
        assert.equal((await say(twin, 'cat /etc/upper; echo $A')).text, 'upper\nb');
        assert.equal(readdirSync(path.join(world.server.data, 'environments/.images')).length, 1);
    });

    test('a package is installed into the root and found in the next turn, after a restart, and in a new sandbox', PATIENCE, async () => {
        const control = 'Package: greet\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@example.com>\\nDescription: x\\n';
        const make = `mkdir -p p/DEBIAN p/usr/bin; printf '${control}' > p/DEBIAN/control; printf '#!/bin/sh\\necho ran > /etc/greeted; chown 100:100 /etc/greeted\\n' > p/DEBIAN/postinst; printf '#!/bin/sh\\necho hello from a package\\n' > p/usr/bin/greet; chmod 755 p/DEBIAN/postinst p/usr/bin/greet; dpkg-deb --root-owner-group -b p g.deb && dpkg -i g.deb`;
        const installed = await say(session, make);
        assert.ok(!installed.is_error, installed.text);
        const look = 'greet; cat /etc/greeted; stat -c %u /etc/greeted';
        assert.equal((await say(session, look)).text, 'hello from a package\nran\n100');
        const before = pid(session);
        await world.server.restart();
        assert.equal((await say(session, look)).text, 'hello from a package\nran\n100');
        assert.equal(pid(session), before, 'the hand outlived the server');
        process.kill(before, 'SIGKILL');
        await eventually('the end of the sandbox', () => !existsSync(`/proc/${before}`));
        const again = await eventually('a new sandbox', async () => {
            const said = await say(session, look);
            return said.failure ? false : said;
        });
        assert.equal(again.text, 'hello from a package\nran\n100');
        const now = await eventually('its pid', () => existsSync(pidFile(session)) && pid(session));
        assert.notEqual(now, before);
        const other = await open(environment);
        assert.match((await say(other, 'greet')).text, /not found/, 'the root belongs to one session');
    });

    for (const [reason, command] of [
        ['disk', 'for i in 1 2 3 4 5 6 7 8 9; do head -c 20000000 /dev/zero > /usr/hog$i; done; sleep 60'],
        ['out_of_memory', 'sed -n p /dev/zero'],
        ['pids', 'for i in {1..200}; do sleep 30 & done; wait'],
    ]) {
        test(`a limit ends a call with its reason: ${reason}`, PATIENCE, async () => {
            const own = await open(environment);
            const result = await say(own, command);
            assert.equal(result.failure?.reason, reason, result.text);
            assert.equal((await say(own, 'rm -f /usr/hog*; echo fresh')).text, 'fresh');
        });
    }

    test('under limited networking a refused host is named', PATIENCE, async () => {
        const closed = await cloud({ networking: { type: 'limited', allowed_hosts: ['example.com'] } });
        const own = await open(closed);
        const { text, failure } = await say(own, 'curl -sS --max-time 10 https://refused.example.org/; exit 3');
        assert.equal(failure?.reason, 'egress_denied', text);
        assert.match(text, /refused\.example\.org/);
        assert.match((await say(own, 'cat /etc/resolv.conf; curl -sS --max-time 5 --noproxy "*" http://192.0.2.1/ 2>&1; true')).text, /no network|unreachable|Couldn't connect|Failed to connect/i);
    });

    test('without an image the programs are the host\'s, and what is written is not', PATIENCE, async () => {
        const own = await open(await cloud({}));
        const { text } = await say(own, 'touch /usr/bin/of-this-session /etc/of-this-session && ls /usr/bin/of-this-session; dpkg-query -W -f "\\${Status}\\n" dpkg');
        assert.match(text, /^\/usr\/bin\/of-this-session\ninstall ok installed$/);
        assert.ok(!existsSync('/usr/bin/of-this-session'));
    });

    test('apt installs from the host\'s sources, with scripts', { ...PATIENCE, skip: noApt }, async () => {
        const own = await open(await cloud({ networking: { type: 'unrestricted' }, limits: { disk_mb: 1024, memory_mb: 1024 } }));
        const { text, is_error } = await say(own, 'apt-get update >log 2>&1 && apt-get install -y hello >>log 2>&1 || tail -5 log; hello; dpkg-query -W -f "\\${Status}\\n" hello');
        assert.ok(!is_error, text);
        assert.equal(text, 'Hello, world!\ninstall ok installed');
    });

    test('a layout with a byte changed is refused with its digest', PATIENCE, async () => {
        const own = await open(await cloud({ image: { type: 'oci_layout', path: made.bad } }));
        const { text, failure } = await say(own, 'echo never');
        assert.equal(failure?.reason, 'sandbox_unavailable');
        assert.match(text, /another digest: sha256:/);
    });

    test('nothing of a deleted session is left', PATIENCE, async () => {
        const own = await open(environment);
        await say(own, 'echo > /etc/x; echo up');
        const left = await eventually('its pid', () => existsSync(pidFile(own)) && pid(own));
        for (const id of opened) await world.client().beta.sessions.delete(id);
        await eventually('their end', () => !opened.some((id) => existsSync(path.join(world.server.data, 'sandboxes', id))));
        await eventually('the end of the hand', () => !existsSync(`/proc/${left}`));
        assert.ok(!run('cat', '/proc/self/mountinfo').includes(own.id));
        const groups = readdirSync('/sys/fs/cgroup', { withFileTypes: true }).filter((e) => e.isDirectory() && existsSync(`/sys/fs/cgroup/${e.name}/ostler`));
        const found = groups.flatMap((e) => readdirSync(`/sys/fs/cgroup/${e.name}/ostler`)).filter((name) => opened.some((id) => name.startsWith(id)));
        assert.deepEqual(found, []);
    });
});
