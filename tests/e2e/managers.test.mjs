// Packages by cargo, gem and go from small indexes of the test's own, the way a host with a mirror is set up:
// a file of the host or a variable of the server names the index, the build reaches it through the egress
// proxy, the program works in a session, and the index's password stays on the host. A manager that is not
// installed is skipped by name. (apt, npm and pip: build.test.mjs.)
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { GitServer } from '../lib/git-server.mjs';
import { useServer } from '../lib/harness.mjs';

const TOOLSET = [{ type: 'agent_toolset_20260401' }];
const BUILD_MS = 240000;
const PATIENCE = { timeout: 300000 };
const HOST = 'index.test';

// Where a sandbox finds programs, which is not everywhere that whoever runs the tests does.
const program = (name) => ['/usr/local/bin', '/usr/bin', '/bin'].map((dir) => path.join(dir, name)).find(existsSync);
const missing = (...names) => {
    const name = names.find((n) => !program(n));
    return name ? `${name} is not installed here` : false;
};
const noCargo = missing('cargo', 'cc', 'git');
const noGem = missing('gem', 'ruby');
const noGo = missing('go', 'python3');

const files = mkdtempSync(path.join(tmpdir(), 'ostler-indexes-'));
after(() => rmSync(files, { recursive: true, force: true }));

// Writes {name: text} below a directory of the test and returns that directory.
function write(name, contents) {
    const dir = path.join(files, name);
    for (const [file, text] of Object.entries(contents)) {
        mkdirSync(path.dirname(path.join(dir, file)), { recursive: true });
        writeFileSync(path.join(dir, file), text);
    }
    return dir;
}

// Files by their path over HTTP, on loopback.
class FileServer {
    files = {};
    asked = []; // {url, credentials}

    async start() {
        this.server = createServer((request, response) => {
            this.asked.push({ url: request.url, credentials: request.headers.authorization });
            const found = this.files[new URL(request.url, 'http://x').pathname];
            response.writeHead(found === undefined ? 404 : 200, { 'content-type': 'application/octet-stream' });
            response.end(request.method === 'HEAD' ? undefined : found);
        });
        await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    }

    // As the host's configuration has it: by a name, with a password.
    url(name) {
        return `http://somebody:secret@${HOST}:${this.server.address().port}/${name}`;
    }

    stop() {
        this.server?.closeAllConnections();
        this.server?.close();
    }
}

// A server on a host that is set up by `setUp(world, index)`; egress may go to loopback by HOST alone. Nothing
// is started for tests that are all skipped; each of them says so, because a skipped suite is not counted.
function useIndex(skip, setUp) {
    const index = new FileServer();
    if (skip) return { index };
    before(() => index.start());
    const options = { config: `egress: {hosts: {${HOST}: 127.0.0.1}, allow_addresses: [127.0.0.0/8]}\n`, env: {} };
    const world = useServer(options, async (w) => {
        if ((await setUp(w, index, options)) === 'restart') await w.server.restart();
    });
    after(() => index.stop());
    return { world, index };
}

// Resolves to the environment when its build is over.
async function built(world, packages, more = {}) {
    const config = { type: 'cloud', packages, ...more, networking: { type: 'limited', allow_package_managers: true } };
    const { id } = await world.environment({ config });
    const deadline = Date.now() + BUILD_MS;
    for (;;) {
        const now = await world.client().beta.environments.retrieve(id);
        if (['ready', 'failed'].includes(now.build.state)) return now;
        assert.ok(Date.now() < deadline, `the build takes too long:\n${now.build.log_tail}`);
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
}

// What a command says in a new session of the environment.
async function shell(world, environment, command) {
    const agent = await world.agent({ model: 'script/tool', tools: TOOLSET });
    const session = await world.client().beta.sessions.create({ agent: agent.id, environment_id: environment.id });
    const events = await world.turn(session.id, `run: ${command}`);
    return events.find((e) => e.type === 'agent.tool_result').content.map((c) => c.text).join('').trim();
}

function assertKept(environment, world, index) {
    assert.deepEqual(index.asked.filter((r) => r.credentials), []);
    assert.doesNotMatch(environment.build.log_tail + world.server.log, /secret/);
}

// ---- cargo: an index in git, crates as files ----

const CRATES = {
    'ostler-word': { 'src/lib.rs': 'pub fn word() -> &\'static str {\n    "from the crate"\n}\n' },
    'ostler-tiny': { 'src/main.rs': 'fn main() {\n    println!("{}", ostler_word::word());\n}\n' },
};
const MANIFEST = (name, dependencies) => `[package]\nname = "${name}"\nversion = "1.0.0"\nedition = "2018"\n\n[dependencies]\n${dependencies.map((d) => `${d} = "1"\n`).join('')}`;

// The crate as the index serves it, and its line in the index.
function crate(name, dependencies) {
    const dir = `${name}-1.0.0`;
    write(`crates/${dir}`, { 'Cargo.toml': MANIFEST(name, dependencies), ...CRATES[name] });
    const bytes = execFileSync('tar', ['-cz', '-C', path.join(files, 'crates'), dir]);
    const deps = dependencies.map((d) => ({ name: d, req: '^1', features: [], optional: false, default_features: true, target: null, kind: 'normal' }));
    const line = { name, vers: '1.0.0', deps, cksum: createHash('sha256').update(bytes).digest('hex'), features: {}, yanked: false };
    return { bytes, line: `${JSON.stringify(line)}\n` };
}

describe('cargo', () => {
    const repositories = new GitServer();
    const { world, index } = useIndex(noCargo, async (w, { files: served }) => {
        await repositories.start();
        const made = { 'ostler-word': crate('ostler-word', []), 'ostler-tiny': crate('ostler-tiny', ['ostler-word']) };
        const lines = Object.entries(made).map(([name, { line }]) => [`os/tl/${name}`, line]);
        for (const [name, { bytes }] of Object.entries(made)) served[`/crates/${name}/1.0.0/download`] = bytes;
        const port = new URL(repositories.url).port;
        const dl = index.url('crates').replace('somebody:secret@', '');
        repositories.add('index', { 'config.json': JSON.stringify({ dl }), ...Object.fromEntries(lines) });
        mkdirSync(path.join(w.server.dir, '.cargo'));
        // Crates come from another port than the index: a build may go to what this file names.
        const config = `[source.crates-io]\nreplace-with = "here"\n\n[source.here]\nregistry = "http://somebody:secret@${HOST}:${port}/index.git"\n\n[registries.other]\nindex = "${index.url('other')}"\ntoken = "secret"\n`;
        writeFileSync(path.join(w.server.dir, '.cargo/config.toml'), config);
    });
    after(() => repositories.server && repositories.stop());

    test('compiles a program and the crate it needs', { ...PATIENCE, skip: noCargo }, async () => {
        const environment = await built(world, { cargo: ['ostler-tiny'] });
        assert.equal(environment.build.state, 'ready', environment.build.log_tail);
        assert.equal(await shell(world, environment, 'ostler-tiny; command -v ostler-tiny'), 'from the crate\n/opt/env/cargo/bin/ostler-tiny');
        assert.deepEqual(index.asked.map((r) => r.url).toSorted(), ['/crates/ostler-tiny/1.0.0/download', '/crates/ostler-word/1.0.0/download']);
        assert.deepEqual(repositories.requests.filter((r) => r.authorization), []);
        assertKept(environment, world, index);
    });

    test('names a crate that the index lacks', { ...PATIENCE, skip: noCargo }, async () => {
        const { build } = await built(world, { cargo: ['ostler-none'] });
        assert.equal(build.state, 'failed');
        assert.match(build.log_tail, /could not find `ostler-none`/);
    });
});

// ---- gem: the index of specifications ----

const GEMSPEC = `
Gem::Specification.new do |s|
  s.name, s.version, s.summary, s.authors = "NAME", "1.0", "A gem of the tests.", ["tests"]
  s.files, s.homepage, s.licenses = Dir["lib/*.rb"] + Dir["bin/*"], "http://${HOST}/", ["MIT"]
  MORE
end
`;
// Builds the gems of the directories named and writes what an index of them has to serve.
const GEM_INDEX = `
require "rubygems"
require "rubygems/package"
require "zlib"
Gem::DefaultUserInteraction.ui = Gem::SilentUI.new
out = ARGV.shift
specs = ARGV.map do |dir|
  Dir.chdir(dir) do
    spec = Gem::Specification.load(Dir["*.gemspec"].first)
    built = Gem::Package.build(spec)
    File.binwrite(File.join(out, built), File.binread(built))
    File.binwrite(File.join(out, spec.full_name + ".gemspec.rz"), Zlib::Deflate.deflate(Marshal.dump(spec)))
    [spec.name, spec.version, "ruby"]
  end
end
File.binwrite(File.join(out, "specs.gz"), Zlib.gzip(Marshal.dump(specs)))
File.binwrite(File.join(out, "none.gz"), Zlib.gzip(Marshal.dump([])))
`;

function gems() {
    const out = path.join(files, 'gems');
    mkdirSync(out);
    const word = write('gem-word', { 'lib/ostler_word.rb': 'OSTLER_WORD = "from the gem"\n', 'ostler-word.gemspec': GEMSPEC.replace('NAME', 'ostler-word').replace('MORE', '') });
    const more = 's.add_dependency "ostler-word", "~> 1.0"\n  s.bindir, s.executables = "bin", ["ostler-tiny"]';
    const tiny = write('gem-tiny', {
        'bin/ostler-tiny': '#!/usr/bin/env ruby\nrequire "ostler_word"\nputs OSTLER_WORD\n',
        'ostler-tiny.gemspec': GEMSPEC.replace('NAME', 'ostler-tiny').replace('MORE', more),
    });
    execFileSync(program('ruby'), ['-e', GEM_INDEX, out, word, tiny], { stdio: ['ignore', 'ignore', 'inherit'] });
    const read = (name) => readFileSync(path.join(out, name));
    const served = { '/gems/specs.4.8.gz': read('specs.gz'), '/gems/latest_specs.4.8.gz': read('specs.gz'), '/gems/prerelease_specs.4.8.gz': read('none.gz') };
    for (const name of ['ostler-word-1.0', 'ostler-tiny-1.0']) {
        served[`/gems/gems/${name}.gem`] = read(`${name}.gem`);
        served[`/gems/quick/Marshal.4.8/${name}.gemspec.rz`] = read(`${name}.gemspec.rz`);
    }
    return served;
}

describe('gem', () => {
    const { world, index } = useIndex(noGem, async (w, { files: served }) => {
        Object.assign(served, gems());
        writeFileSync(path.join(w.server.dir, '.gemrc'), `---\n:sources:\n- ${index.url('gems/')}\n:rubygems_api_key: secret\n`);
    });

    test('installs a program and the gem it needs', { ...PATIENCE, skip: noGem }, async () => {
        const environment = await built(world, { gem: ['ostler-tiny:1.0'] });
        assert.equal(environment.build.state, 'ready', environment.build.log_tail);
        const said = await shell(world, environment, 'ostler-tiny; command -v ostler-tiny; ruby -e \'gem "ostler-word"; require "ostler_word"; puts OSTLER_WORD.length\'');
        assert.equal(said, 'from the gem\n/opt/env/gem/bin/ostler-tiny\n12');
        assert.deepEqual(index.asked.filter((r) => r.url.endsWith('.gem')).map((r) => r.url).toSorted(), ['/gems/gems/ostler-tiny-1.0.gem', '/gems/gems/ostler-word-1.0.gem']);
        assertKept(environment, world, index);
    });

    test('names a gem that the index lacks', { ...PATIENCE, skip: noGem }, async () => {
        const { build } = await built(world, { gem: ['ostler-none'] });
        assert.equal(build.state, 'failed');
        assert.match(build.log_tail, /Could not find a valid gem 'ostler-none'/);
    });
});

// ---- go: a proxy is a tree of files ----

// A zip whose names begin with MODULE@VERSION/, and the files beside it.
const ZIP = `
import os, sys, zipfile
out, prefix, root = sys.argv[1:]
with zipfile.ZipFile(out, 'w') as z:
    for where, _, names in os.walk(root):
        for name in names:
            file = os.path.join(where, name)
            z.write(file, prefix + '/' + os.path.relpath(file, root))
`;

function goModule(served, module, contents) {
    const name = module.replaceAll('/', '-');
    const root = write(`go-${name}`, contents);
    const zip = path.join(files, `${name}.zip`);
    execFileSync(program('python3'), ['-c', ZIP, zip, `${module}@v1.0.0`, root]);
    const info = JSON.stringify({ Version: 'v1.0.0', Time: '2024-01-01T00:00:00Z' });
    const base = `/go/${module}/@v`;
    Object.assign(served, { [`${base}/list`]: 'v1.0.0\n', [`${base}/v1.0.0.info`]: info, [`${base}/v1.0.0.mod`]: contents['go.mod'], [`${base}/v1.0.0.zip`]: readFileSync(zip), [`/go/${module}/@latest`]: info });
}

describe('go', () => {
    const { world, index } = useIndex(noGo, async (w, { files: served }, options) => {
        goModule(served, `${HOST}/word`, { 'go.mod': `module ${HOST}/word\n\ngo 1.16\n`, 'word.go': 'package word\n\nfunc Word() string { return "from the module" }\n' });
        goModule(served, `${HOST}/tiny`, {
            'go.mod': `module ${HOST}/tiny\n\ngo 1.16\n\nrequire ${HOST}/word v1.0.0\n`,
            'cmd/ostler-tiny/main.go': `package main\n\nimport "${HOST}/word"\n\nfunc main() { println(word.Word()) }\n`,
        });
        // The first knows nothing of it: go asks the next.
        Object.assign(options.env, { GOPROXY: `${index.url('').slice(0, -1)}|${index.url('go')}`, GONOSUMDB: '*', GOFLAGS: '-mod=mod' });
        return 'restart';
    });

    test('compiles a program and the module it needs', { ...PATIENCE, skip: noGo }, async () => {
        const environment = await built(world, { go: [`${HOST}/tiny/cmd/ostler-tiny`] });
        assert.equal(environment.build.state, 'ready', environment.build.log_tail);
        assert.equal(await shell(world, environment, 'ostler-tiny 2>&1; command -v ostler-tiny'), 'from the module\n/opt/env/go/bin/ostler-tiny');
        assert.deepEqual(index.asked.filter((r) => /^\/go\/.*\.zip$/.test(r.url)).map((r) => r.url).toSorted(), [`/go/${HOST}/tiny/@v/v1.0.0.zip`, `/go/${HOST}/word/@v/v1.0.0.zip`]);
        assertKept(environment, world, index);
    });

    test('names a module that the index lacks', { ...PATIENCE, skip: noGo }, async () => {
        const { build } = await built(world, { go: [`${HOST}/none@v1.0.0`] });
        assert.equal(build.state, 'failed');
        assert.match(build.log_tail, /index\.test\/none@v1\.0\.0/);
    });
});

// ---- none of them ----

describe('on a root without managers', () => {
    const root = path.join(files, 'images/bare');
    const world = useServer({ config: `sandbox: {images: ${path.dirname(root)}}\n` });

    // bash, and what it is linked with.
    before(() => {
        for (const dir of ['usr/bin', 'usr/lib', 'usr/lib64', 'etc']) mkdirSync(path.join(root, dir), { recursive: true });
        for (const dir of ['bin', 'lib', 'lib64']) symlinkSync(`usr/${dir}`, path.join(root, dir));
        copyFileSync('/bin/bash', path.join(root, 'usr/bin/bash'));
        for (const [library] of execFileSync('ldd', ['/bin/bash'], { encoding: 'utf8' }).matchAll(/\/lib\S+/g)) {
            const to = path.join(root, 'usr', library.replace(/^\/usr/, ''));
            mkdirSync(path.dirname(to), { recursive: true });
            copyFileSync(library, to);
        }
        chmodSync(files, 0o755);
    });

    for (const [manager, debian] of [['cargo', 'cargo'], ['gem', 'ruby'], ['go', 'golang-go']])
        test(`${manager} is named with its Debian package`, PATIENCE, async () => {
            const { build } = await built(world, { [manager]: ['any'] }, { image: { type: 'rootfs', path: root } });
            assert.equal(build.state, 'failed');
            assert.match(build.log_tail, new RegExp(`^${manager} is not installed on this host: apt-get install ${debian},`, 'm'));
        });
});
