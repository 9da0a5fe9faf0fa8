// What the end-to-end tests share: a server with a provider of the test's own behind it, a stream that
// survives restarts, and the rules that every session's log and every provider's request must keep.
import { after, afterEach } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { useServer } from './harness.mjs';
import { binary } from './server.mjs';

export const TOOLSET = [{ type: 'agent_toolset_20260401' }];
export const MODEL = 'claude-sonnet-4-5';

// A server whose anthropic provider is `provider` (FakeMessages or Aimock). After each test the provider must
// have been asked exactly what the test said, and nothing that breaks the rules of its API.
export async function useProvider(provider, options = {}) {
    await provider.start();
    const world = useServer({ ...options, env: { ANTHROPIC_API_KEY: 'sk-ant-of-the-tests', ANTHROPIC_BASE_URL: provider.url, ...options.env } });
    let mark = 0;
    afterEach(() => {
        const seen = provider.requests.slice(mark);
        mark = provider.requests.length;
        const problems = [...provider.settle(), ...seen.flatMap((r) => wellFormed(r.json))];
        assert.deepEqual(problems, []);
    });
    after(async () => {
        await provider.stop();
    });
    world.provider = provider;
    return world;
}

export const worker = (world, extra = {}) => world.session({ agent: { model: MODEL, tools: TOOLSET, ...extra } });

// What is wrong with a request to the Messages API: roles alternate, every call is answered in the next
// message, once, and nothing is answered that was not asked.
export function wellFormed(request) {
    const problems = [];
    const { messages } = request;
    messages.forEach((m, i) => {
        if (m.role !== (i % 2 === 0 ? 'user' : 'assistant')) problems.push(`message ${i} is from ${m.role}`);
        if (!Array.isArray(m.content) || m.content.length === 0) problems.push(`message ${i} is empty`);
        const asked = i > 0 ? messages[i - 1].content.filter((b) => b.type === 'tool_use').map((b) => b.id) : [];
        const answered = m.content.filter((b) => b.type === 'tool_result').map((b) => b.tool_use_id);
        if (m.role === 'user' && asked.toSorted().join() !== answered.toSorted().join()) problems.push(`message ${i} answers [${answered}], asked were [${asked}]`);
    });
    if (messages.at(-1)?.role !== 'user') problems.push('the last message is not the user\'s');
    return problems;
}

// Promise P9: everything of a request but the brackets that close it opens the next one, byte for byte.
export function assertGrows(requests) {
    for (let i = 1; i < requests.length; i++) {
        const [one, two] = [requests[i - 1].raw, requests[i].raw];
        const body = one.replace(/\]\}\]\}$/, '');
        assert.notEqual(body, one, 'messages is the last key of a request');
        if (two.startsWith(body)) continue;
        let at = 0;
        while (body[at] === two[at]) at++;
        assert.fail(`request ${i} is not request ${i - 1} continued; they part at byte ${at}: ...${body.slice(at - 40, at + 80)}... and ...${two.slice(at - 40, at + 80)}...`);
    }
}

// The rules of a log at rest: no id twice, times strictly increasing, every call answered once and after it,
// every span closed, messages in the order they were accepted, idle at the end.
export function assertSound(events, { accepted = [] } = {}) {
    assert.equal(new Set(events.map((e) => e.id)).size, events.length, 'an id came twice');
    for (let i = 1; i < events.length; i++) {
        assert.ok(events[i].processed_at, `${events[i].type} has no time`);
        assert.ok(micros(events[i]) > micros(events[i - 1]), `times do not increase at ${events[i].type}`);
    }
    const position = new Map(events.map((e, i) => [e.id, i]));
    const answers = events.filter((e) => e.type === 'agent.tool_result').map((e) => e.tool_use_id);
    const calls = events.filter((e) => e.type === 'agent.tool_use').map((e) => e.id);
    assert.deepEqual(answers.toSorted(), calls.toSorted(), 'calls and results belong together one by one');
    for (const e of events) if (e.type === 'agent.tool_result') assert.ok(position.get(e.tool_use_id) < position.get(e.id), 'a result before its call');
    const starts = events.filter((e) => e.type === 'span.model_request_start').map((e) => e.id);
    assert.deepEqual(events.filter((e) => e.type === 'span.model_request_end').map((e) => e.model_request_start_id), starts, 'every span is closed, in order');
    assert.deepEqual(events.filter((e) => e.type.startsWith('user.')).map((e) => e.id), accepted.map((e) => e.id), 'what was acknowledged is there, in order, once');
    assert.equal(events.at(-1).type, 'session.status_idle');
}

// Microseconds as a number that sorts: Date would cut them to milliseconds.
function micros({ processed_at: at }) {
    const [, whole, fraction = ''] = at.match(/^(.*?)(?:\.(\d+))?Z$/);
    return BigInt(Date.parse(`${whole}Z`)) * 1000n + BigInt(fraction.padEnd(6, '0'));
}

// A log has no cursor before its beginning: whoever saw nothing of it begins with its first event.
export const firstEvent = (world, session) =>
    eventually('the first event', async () => (await world.client().beta.sessions.events.list(session.id, { limit: 1 })).data.find((e) => e.processed_at));

// The session's events after `last` (without it: after the first one) up to where it is idle: by replay and live.
export async function rest(world, session, last) {
    const { sessions } = world.client().beta;
    const from = last ?? (await firstEvent(world, session));
    const stream = await world.stream(session.id, { headers: { 'last-event-id': from.id } });
    try {
        const seen = await stream.until('session.status_idle');
        while ((await sessions.retrieve(session.id)).status !== 'idle') seen.push(...(await stream.until('session.status_idle')));
        return last ? seen : [from, ...seen];
    } finally {
        stream.close();
    }
}

// What is read until a stream breaks.
export async function drain(stream) {
    try {
        while (await stream.next());
    } catch {
        // the server was killed
    }
    return stream.seen.map((item) => item.value);
}

export async function workspaceFile(world, session, name) {
    const { status, text } = await world.http('GET', `/v1/sessions/${session.id}/workspace?path=${encodeURIComponent(name)}`, { beta: null });
    return status === 200 ? text : undefined;
}

// A file of this name below a directory: where the server keeps a workspace on disk is its own affair.
// Directories may vanish while it looks (the server's probe has some of its own): then there is no answer yet.
function find(dir, name) {
    try {
        return readdirSync(dir, { recursive: true, withFileTypes: true })
            .filter((entry) => entry.name === name)
            .map((entry) => path.join(entry.parentPath, name))[0];
    } catch (error) {
        if (error.code !== 'ENOENT') throw error;
        return undefined;
    }
}

// Asks until there is an answer; gives up after half a minute. For what happens outside the server, where no
// event tells it.
export async function eventually(what, ask) {
    const deadline = Date.now() + 30000;
    for (;;) {
        const answer = await ask();
        if (answer !== undefined && answer !== false) return answer;
        assert.ok(Date.now() < deadline, `waited half a minute for ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

// What a file in a session's workspace holds, read beside the server, which may be down.
export const onDisk = (world, name, text) =>
    eventually(`${name} on disk`, () => {
        const file = find(world.server.data, name);
        return file && readFileSync(file, 'utf8') === text ? true : undefined;
    });

// A command that counts its runs in the file `runs`, then waits at a FIFO until the test lets it through.
export const gated = (runs, gate) => `echo begun >> ${runs}; mkfifo ${gate}; read -r line < ${gate}; echo ended >> ${runs}; echo finished after $line`;

// Resolves when the command waits; the result lets it go on with a word, or gives it up with close().
export async function atGate(world, gate) {
    const file = await eventually(`the FIFO ${gate}`, () => find(world.server.data, gate));
    const handle = await open(file, 'w'); // succeeds when the other side reads
    const close = () => handle.close();
    return Object.assign(async (word) => {
        await handle.writeFile(`${word}\n`);
        await close();
    }, { close });
}

// Hands and what runs in their sandboxes, while the server itself is down: whoever has its directory in the
// command line or among the mounts.
export function handsOf(world) {
    const text = (file) => {
        try {
            return readFileSync(file, 'utf8');
        } catch {
            return '';
        }
    };
    const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number);
    // By the directory's own name, which is unique: a mount shows its path within its file system only.
    const name = path.basename(world.server.dir);
    return pids.filter((pid) => pid !== process.pid && pid !== world.server.pid && `${text(`/proc/${pid}/cmdline`)}${text(`/proc/${pid}/mountinfo`)}`.includes(name));
}

export async function killHands(world) {
    const pids = handsOf(world);
    for (const pid of pids) {
        try {
            process.kill(pid, 'SIGKILL');
        } catch {
            // went with another
        }
    }
    // Of these: a server that runs may start the next hand before this looks again.
    await eventually('the end of the hands', () => !handsOf(world).some((pid) => pids.includes(pid)));
    return pids.length;
}

export const count = (events, type) => events.filter((e) => e.type === type).length;
export const resultText = (event) => event.content.map((c) => c.text).join('');

export function scratch() {
    return mkdtempSync(path.join(tmpdir(), 'ostler-e2e-'));
}

export const remove = (dir) => rmSync(dir, { recursive: true, force: true });

// A git repository with one commit of these files.
export function repository(dir, files) {
    for (const [name, text] of Object.entries(files)) {
        mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
        writeFileSync(path.join(dir, name), text);
    }
    git(dir, 'init', '-q');
    git(dir, 'add', '-A');
    git(dir, '-c', 'user.name=t', '-c', 'user.email=t@example.org', 'commit', '-q', '-m', 'start');
}

export const git = (dir, ...args) => execFileSync('git', args, { cwd: dir, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

// A command of ostler that runs beside the test: resolves to {code, signal, stdout, stderr} at its end.
// `options.on(line)` sees its lines as they come.
export function run(world, args, { cwd = world.server.dir, env = {}, on } = {}) {
    const child = spawn(binary, args, { cwd, env: { ...world.server.env, OSTLER_DATA: world.server.data, TMPDIR: world.server.dir, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    const out = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr']) {
        let partial = '';
        child[name].setEncoding('utf8').on('data', (chunk) => {
            out[name] += chunk;
            const lines = (partial + chunk).split('\n');
            partial = lines.pop();
            if (on) lines.forEach((line) => on(line, child));
        });
    }
    const end = new Promise((resolve) => child.once('close', (code, signal) => resolve({ code, signal, ...out })));
    return Object.assign(end, { child });
}
