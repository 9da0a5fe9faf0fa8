// One `ostler serve` with a data directory of its own, and what the benchmarks ask of it.
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import path from 'node:path';
import { adopt, remove, temporary } from './programs.mjs';

const KEY = 'sk-ostler-bench-key-of-the-default-workspace';
export const keyEnv = { OSTLER_API_KEY: KEY };
const now = () => Number(process.hrtime.bigint()) / 1e6;

export class Server {
    #agent = new Agent({ keepAlive: true, maxSockets: 8 });

    // `config`: lines of the configuration file.
    constructor(build, model, config) {
        this.build = build;
        this.config = config;
        this.model = model;
        this.dir = temporary();
        mkdirSync(path.join(this.dir, 'run'), { mode: 0o700 });
        this.data = path.join(this.dir, 'data');
    }

    // Resolves to the milliseconds from the start of the process to its being ready.
    async start() {
        const env = {
            PATH: process.env.PATH, HOME: this.dir, XDG_RUNTIME_DIR: path.join(this.dir, 'run'), ...keyEnv,
            ANTHROPIC_API_KEY: 'bench', ANTHROPIC_BASE_URL: `http://127.0.0.1:${this.model.port}`,
        };
        const args = ['serve', '--data', this.data, '--listen', '127.0.0.1:0', '--log-level', 'error', '--ready-fd', '3'];
        if (this.config) {
            const file = path.join(this.dir, 'ostler.yaml');
            writeFileSync(file, this.config);
            args.push('--config', file);
        }
        this.log = '';
        const from = now();
        this.child = adopt(spawn(this.build.ostler, args, { env, cwd: this.dir, stdio: ['ignore', 'ignore', 'pipe', 'pipe'] }));
        this.child.stderr.on('data', (chunk) => (this.log = (this.log + chunk).slice(-8192)));
        this.exited = new Promise((resolve) => this.child.once('exit', (code, signal) => resolve(code ?? signal)));
        const line = await Promise.race([
            new Promise((resolve) => this.child.stdio[3].once('data', (chunk) => resolve(String(chunk)))),
            this.exited.then((how) => Promise.reject(new Error(`the server ended at once (${how}): ${this.log}`))),
        ]);
        this.port = Number(line);
        return now() - from;
    }

    async stop(signal = 'SIGTERM') {
        if (!this.child) return;
        this.#agent.destroy();
        this.#agent = new Agent({ keepAlive: true, maxSockets: 8 });
        this.child.kill(signal);
        await this.exited;
        this.child = null;
    }

    async dispose() {
        await this.stop();
        remove(this.dir);
    }

    rssKb() {
        return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.child.pid}/status`, 'utf8'))[1]);
    }

    // The memory that is the process's own, without what it shares with files.
    anonKb() {
        return Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${this.child.pid}/status`, 'utf8'))[1]);
    }

    // What the kernel holds for clients of this server that have not taken it.
    queuedKb() {
        const local = `:${this.port.toString(16).toUpperCase().padStart(4, '0')}`;
        const lines = readFileSync('/proc/net/tcp', 'utf8').split('\n').map((line) => line.trim().split(/\s+/));
        return lines.filter((f) => f[1]?.endsWith(local)).reduce((sum, f) => sum + parseInt(f[4].split(':')[0], 16), 0) / 1024;
    }

    http(method, target, body) {
        const headers = { 'x-api-key': KEY, 'anthropic-version': '2023-06-01', 'anthropic-beta': 'managed-agents-2026-04-01' };
        if (body) headers['content-type'] = 'application/json';
        return call({ port: this.port, method, path: target, headers, agent: this.#agent }, body);
    }

    async metric(name) {
        const text = await this.http('GET', '/metrics');
        return Number(new RegExp(`^ostler_${name} (\\S+)$`, 'm').exec(text)[1]);
    }

    // The body of POST /v1/sessions for an agent with the built-in tools on the fake model.
    async prepare() {
        const agent = await this.http('POST', '/v1/agents', {
            name: 'bench', model: 'claude-bench', system: 'You are measured.', tools: [{ type: 'agent_toolset_20260401' }],
        });
        const environment = await this.http('POST', '/v1/environments', {
            name: 'bench', config: { type: 'cloud', networking: { type: 'limited', allowed_hosts: [] } },
        });
        this.create = { agent: agent.id, environment_id: environment.id };
        return this;
    }

    // `n` new sessions; resolves to their ids. `text`: what each is told at once.
    async sessions(n, text) {
        const body = JSON.stringify({ ...this.create, ...(text && { initial_events: [message(text)] }) });
        const before = new Set(n < 64 ? [] : await this.ids());
        if (n < 64) {
            const made = [];
            for (let i = 0; i < n; i++) made.push((await this.http('POST', '/v1/sessions', body)).id);
            return made;
        }
        await this.load(['rate', this.port, 32, 0, 'POST', body], '/v1/sessions\n'.repeat(n));
        return (await this.ids()).filter((id) => !before.has(id));
    }

    async ids() {
        const ids = [];
        let page = '';
        do {
            const list = await this.http('GET', `/v1/sessions?limit=100${page}`);
            for (const session of list.data) ids.push(session.id);
            page = list.next_page ? `&page=${encodeURIComponent(list.next_page)}` : null;
        } while (page !== null);
        return ids;
    }

    load(args, lines = '') {
        return this.build.run('load', args, { input: Array.isArray(lines) ? `${lines.join('\n')}\n` : lines, env: keyEnv });
    }

    rate(connections, ms, target, { method = 'GET', body } = {}) {
        const paths = Array.isArray(target) ? target : [target];
        return this.load(['rate', this.port, connections, ms, method, ...(body ? [body] : [])], paths);
    }

    turns(concurrent, rounds, text, ids) {
        return this.load(['turns', this.port, concurrent, rounds, text], ids);
    }

    async remove(ids) {
        for (const id of ids) await this.http('DELETE', `/v1/sessions/${id}`);
    }
}

export const message = (text) => ({ type: 'user.message', content: [{ type: 'text', text }] });
export const events = (text) => JSON.stringify({ events: [message(text)] });

export function call(options, body) {
    return new Promise((resolve, reject) => {
        const payload = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
        const headers = { ...options.headers, ...(payload && { 'content-length': Buffer.byteLength(payload) }) };
        const req = request({ host: '127.0.0.1', ...options, headers }, (res) => {
            const chunks = [];
            res.on('data', (chunk) => chunks.push(chunk));
            res.on('end', () => {
                const text = Buffer.concat(chunks).toString();
                if (res.statusCode >= 300) reject(new Error(`${options.method} ${options.path}: ${res.statusCode} ${text}`));
                else resolve(/json/.test(res.headers['content-type'] ?? '') ? JSON.parse(text) : text);
            });
        });
        req.on('error', reject);
        req.end(payload);
    });
}

// The fake model's counters.
export const modelStats = (model) => call({ port: model.port, method: 'GET', path: '/stats' });
export const releaseModel = (model) => call({ port: model.port, method: 'POST', path: '/release' });
