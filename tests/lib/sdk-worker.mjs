// The official SDK's own worker in a process of its own, so that it can be stopped, frozen and killed.
// Run by itself it is that process; what it needs is in WORKER (JSON).
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { patiently } from './harness.mjs';

const FILE = import.meta.filename;

export class SdkWorker {
    log = '';
    #waiters = [];

    constructor(options) {
        this.options = options;
    }

    async start() {
        this.child = spawn(process.execPath, [FILE], { env: { PATH: process.env.PATH, HOME: process.env.HOME, WORKER: JSON.stringify(this.options) }, stdio: ['ignore', 'pipe', 'pipe'] });
        for (const stream of [this.child.stdout, this.child.stderr]) {
            stream.on('data', (chunk) => {
                this.log += chunk;
                for (const wait of this.#waiters.splice(0)) wait();
            });
        }
        this.exited = once(this.child, 'exit');
        await this.said(/poller starting/);
        return this;
    }

    // Waits until its log says so, counted from the beginning.
    async said(pattern) {
        while (!pattern.test(this.log)) {
            await patiently(new Promise((resolve) => this.#waiters.push(resolve)), () => `the worker never said ${pattern}; it said:\n${this.log}`);
        }
    }

    signal(name) {
        this.child.kill(name);
    }

    async end(name = 'SIGKILL') {
        if (this.child.exitCode !== null || this.child.signalCode !== null) return;
        this.child.kill('SIGCONT');
        this.child.kill(name);
        await patiently(this.exited, () => `the worker did not end:\n${this.log}`);
    }
}

async function work() {
    const { sdk, url, environmentId, environmentKey, workdir, maxIdleMs, workerId } = JSON.parse(process.env.WORKER);
    delete process.env.WORKER;
    const { default: Client } = await import(sdk);
    const say = (level) => (...words) => console.log(level, ...words.map((w) => (typeof w === 'string' ? w : JSON.stringify(w))));
    const logger = { error: say('error'), warn: say('warn'), info: say('info'), debug: () => {} };
    const client = new Client({ baseURL: url, apiKey: null, authToken: environmentKey, logger, logLevel: 'info' });
    const ending = new AbortController();
    process.on('SIGTERM', () => ending.abort());
    await client.beta.environments.work.worker({ environmentId, environmentKey, workdir, maxIdleMs, workerId }).run(ending.signal);
}

if (process.argv[1] === FILE) {
    await work().catch((error) => {
        if (error?.name !== 'AbortError' && !/abort/i.test(String(error))) throw error;
    });
    process.exit(0);
}
