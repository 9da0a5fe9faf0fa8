// A server of the test's own: build/ostler serve on a free port with a data directory of its own, ended by
// its own pid. It can be killed and started again on the same data and port.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import path from 'node:path';

export const root = path.resolve(import.meta.dirname, '../..');
export const build = process.env.OSTLER_BUILD ?? path.join(root, 'build');
export const binary = path.join(build, 'ostler');
export const KEY = 'sk-ostler-test-key-of-the-default-workspace';

const live = new Set();
process.on('exit', () => {
    for (const server of live) server.abandon();
});

export async function freePort() {
    const probe = createServer();
    probe.listen(0, '127.0.0.1');
    await once(probe, 'listening');
    const { port } = probe.address();
    probe.close();
    await once(probe, 'close');
    return port;
}

const text = (file) => {
    try {
        return readFileSync(file, 'utf8');
    } catch {
        return '';
    }
};

// Processes that a server started and left behind on purpose (hands, their sandboxes) carry its data
// directory in their command line or mounts (there by its own name only, where its file system is not the
// root's); their children go with them.
function leftovers(dir) {
    const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number);
    const found = new Set(pids.filter((pid) => pid !== process.pid && `${text(`/proc/${pid}/cmdline`)}${text(`/proc/${pid}/mountinfo`)}`.includes(path.basename(dir))));
    for (const pid of found) {
        for (const child of text(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean)) found.add(Number(child));
    }
    return [...found];
}

export class Server {
    // options: env (added), args (added), config (text of ostler.yaml), command (instead of ostler serve)
    constructor(options = {}) {
        this.options = options;
        this.dir = mkdtempSync(path.join(tmpdir(), 'ostler-t-'));
        this.data = path.join(this.dir, 'data');
        this.key = options.key ?? KEY;
        this.log = '';
        this.child = null;
        mkdirSync(path.join(this.dir, 'run'), { mode: 0o700 });
        if (options.config) writeFileSync(path.join(this.dir, 'ostler.yaml'), options.config);
        live.add(this);
    }

    get url() {
        return `http://127.0.0.1:${this.port}`;
    }

    get env() {
        const keep = ['PATH', 'LANG', 'ASAN_OPTIONS', 'UBSAN_OPTIONS', 'LSAN_OPTIONS', 'TSAN_OPTIONS', 'USER'];
        const env = Object.fromEntries(keep.filter((name) => process.env[name]).map((name) => [name, process.env[name]]));
        return { ...env, HOME: this.dir, XDG_RUNTIME_DIR: path.join(this.dir, 'run'), OSTLER_API_KEY: this.key, ...this.options.env };
    }

    #args() {
        const args = ['serve', '--data', this.data, '--listen', `127.0.0.1:${this.port}`];
        if (this.options.config) args.push('--config', path.join(this.dir, 'ostler.yaml'));
        return [...args, ...(this.options.args ?? [])];
    }

    // Starts the program and keeps what it says; the child emits 'said' with each piece.
    launch(args) {
        if (!existsSync(binary)) throw new Error(`${binary} is not there; build it with make`);
        const child = spawn(binary, args, { env: this.env, stdio: ['ignore', 'pipe', 'pipe'], cwd: this.dir });
        this.child = child;
        this.exited = new Promise((resolve) => child.once('close', (code, signal) => resolve({ code, signal })));
        this.startedLog = '';
        for (const stream of [child.stdout, child.stderr]) {
            stream.setEncoding('utf8');
            stream.on('data', (chunk) => {
                this.log += chunk;
                this.startedLog += chunk;
                child.emit('said');
            });
        }
    }

    async start() {
        this.port ??= await freePort();
        this.launch(this.#args());
        await this.#ready();
        return this;
    }

    // Answers to /healthz decide. Between tries it waits for output of the server or a turn of the clock,
    // whichever comes first, and gives up when the process ends.
    async #ready() {
        const deadline = Date.now() + 60000;
        let ended = null;
        this.exited.then((how) => (ended = how));
        for (;;) {
            if (ended) throw new Error(`the server ended at once (${ended.signal ?? ended.code}):\n${this.startedLog}`);
            try {
                const response = await fetch(`${this.url}/healthz`, { signal: AbortSignal.timeout(5000) });
                await response.arrayBuffer();
                if (response.ok) return;
            } catch {
                // not listening yet
            }
            if (Date.now() > deadline) throw new Error(`the server did not get ready:\n${this.startedLog}`);
            const retry = new AbortController();
            await Promise.race([this.exited, once(this.child.stderr, 'data', { signal: retry.signal }).catch(() => {}), new Promise((resolve) => setTimeout(resolve, 25))]);
            retry.abort();
        }
    }

    get pid() {
        return this.child?.pid;
    }

    // SIGKILL by default: what a crash looks like. Resolves when the process is gone.
    async kill(signal = 'SIGKILL') {
        this.child.kill(signal);
        const how = await this.exited;
        this.child = null;
        return how;
    }

    async restart() {
        if (this.child) await this.kill();
        return this.start();
    }

    // The polite end; throws when the server did not exit with 0 or a sanitizer had something to say.
    async stop() {
        if (!this.child) return;
        const how = await this.kill('SIGTERM');
        if (how.code !== 0) throw new Error(`the server ended with ${how.signal ?? how.code}:\n${this.tail()}`);
    }

    complaints() {
        return this.log.split('\n').filter((line) => /ERROR: \w+Sanitizer|runtime error:|WARNING: ThreadSanitizer|Assertion .* failed/.test(line));
    }

    tail(lines = 40) {
        return this.log.split('\n').slice(-lines).join('\n');
    }

    // Runs another ostler command against the same data directory and key.
    command(args, { input, env } = {}) {
        return spawnSync(binary, args, { env: { ...this.env, OSTLER_DATA: this.data, ...env }, input, encoding: 'utf8', cwd: this.dir, timeout: 60000 });
    }

    abandon() {
        live.delete(this);
        if (this.child) {
            try {
                process.kill(this.child.pid, 'SIGKILL');
            } catch {
                // gone already
            }
        }
        for (const pid of leftovers(this.dir)) {
            try {
                process.kill(pid, 'SIGKILL');
            } catch {
                // gone already
            }
        }
        rmSync(this.dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
    }

    async dispose() {
        try {
            await this.stop();
            const complaints = this.complaints();
            if (complaints.length > 0) throw new Error(`sanitizer reports:\n${complaints.join('\n')}\n${this.tail(120)}`);
        } finally {
            this.abandon();
        }
    }
}

export const startServer = (options) => new Server(options).start();
