// `ostler worker` as a process of the test's own, with a directory of its own, ended by its own pid.
import { spawn } from 'node:child_process';
import path from 'node:path';
import { ENV, ENV_KEY } from './fake-work.mjs';
import { Server, binary } from './server.mjs';

export class Worker extends Server {
    // options: url, environment, key, args, env
    constructor(options) {
        super(options);
        this.work = path.join(this.dir, 'work');
    }

    get env() {
        const env = super.env;
        delete env.OSTLER_API_KEY;
        return { ...env, OSTLER_ENVIRONMENT_KEY: this.options.key ?? ENV_KEY };
    }

    // Resolves once it takes work; `ready: false`: at once.
    async start({ args = [], ready = true } = {}) {
        const { url, environment = ENV } = this.options;
        const all = ['worker', '--environment', environment, '--url', url, '--dir', this.work, ...(this.options.args ?? []), ...args];
        this.child = spawn(binary, all, { env: this.env, stdio: ['ignore', 'pipe', 'pipe'], cwd: this.dir });
        const { child } = this;
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
        if (ready) await this.says('worker started');
        return this;
    }

    // Resolves when its log holds the text (since the last start).
    says(text) {
        const { child } = this;
        return new Promise((resolve, reject) => {
            const look = () => {
                if (!this.startedLog.includes(text)) return;
                child.off('said', look);
                resolve();
            };
            child.on('said', look);
            this.exited.then(() => reject(new Error(`the worker ended before it said '${text}':\n${this.tail()}`)));
            look();
        });
    }
}
