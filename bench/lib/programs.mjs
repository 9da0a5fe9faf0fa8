// The programs of a build: found, run for their one line of JSON, or kept running as a server.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const children = new Set();
const dirs = new Set();

function first(...candidates) {
    const found = candidates.find((file) => existsSync(file));
    if (!found) throw new Error(`none of these exists, is the build complete? ${candidates.join(', ')}`);
    return found;
}

export class Build {
    constructor(dir) {
        this.dir = path.resolve(dir);
        this.ostler = first(path.join(this.dir, 'ostler'), path.join(this.dir, 'src/cli/ostler'));
    }

    program(name) {
        return first(path.join(this.dir, `obj/bench/bench_${name}`), path.join(this.dir, `bench/bench_${name}`));
    }

    // Runs to the end; resolves to what it printed.
    run(name, args, { input = '', env = {} } = {}) {
        return run(this.program(name), args, { input, env });
    }

    // Runs until stop(); resolves when it has printed its line.
    async start(name, args = [], { input, env = {} } = {}) {
        const child = adopt(spawn(this.program(name), args.map(String), { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, ...env } }));
        if (input !== undefined) child.stdin.end(input);
        const line = await new Promise((resolve, reject) => {
            let text = '';
            child.stdout.on('data', (chunk) => {
                text += chunk;
                if (text.includes('\n')) resolve(JSON.parse(text));
            });
            child.once('close', () => reject(new Error(`${name} ended before it was ready`)));
        });
        const stop = async () => {
            const closed = new Promise((resolve) => child.once('close', resolve));
            child.kill('SIGKILL');
            await closed;
        };
        return { ...line, pid: child.pid, stop };
    }
}

export function adopt(child) {
    children.add(child);
    child.once('close', () => children.delete(child));
    return child;
}

export function run(file, args, { input = '', env = {}, json = true } = {}) {
    return new Promise((resolve, reject) => {
        const child = adopt(spawn(file, args.map(String), { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env } }));
        let out = '', err = '';
        child.stdout.on('data', (chunk) => (out += chunk));
        child.stderr.on('data', (chunk) => (err += chunk));
        child.stdin.on('error', () => {});
        child.once('error', reject);
        child.once('close', (code, signal) => {
            const what = `${path.basename(file)} ${args.slice(0, 4).join(' ')}`;
            if (code !== 0) return reject(new Error(`${what}: ${err.trim() || signal || code}`));
            try {
                resolve(json ? JSON.parse(out) : out);
            } catch {
                reject(new Error(`${what} printed no JSON: ${out.slice(0, 200)}`));
            }
        });
        child.stdin.end(input);
    });
}

export function temporary() {
    const dir = mkdtempSync(path.join(tmpdir(), 'ostler-bench-'));
    dirs.add(dir);
    return dir;
}

const text = (file) => {
    try {
        return readFileSync(file, 'utf8');
    } catch {
        return '';
    }
};

// What a server leaves alive on purpose (hands and their sandboxes) carries its directory in its command
// line or its mounts; their children go with them.
function leftovers(dir) {
    const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number);
    const found = new Set(pids.filter((pid) => pid !== process.pid && `${text(`/proc/${pid}/cmdline`)}${text(`/proc/${pid}/mountinfo`)}`.includes(dir)));
    for (const pid of found) {
        for (const child of text(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean)) found.add(Number(child));
    }
    return found;
}

export function remove(dir) {
    for (const pid of leftovers(dir)) {
        try {
            process.kill(pid, 'SIGKILL');
        } catch {
            // gone already
        }
    }
    rmSync(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
    dirs.delete(dir);
}

// However it ends, nothing of ours stays behind.
process.on('exit', () => {
    for (const child of children) child.kill('SIGKILL');
    for (const dir of dirs) remove(dir);
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));
