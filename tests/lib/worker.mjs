// `ostler worker` as a process of the test's own, with a directory of its own, ended by its own pid.
import { existsSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { eventually } from './e2e.mjs';
import { ENV, ENV_KEY } from './fake-work.mjs';
import { Server } from './server.mjs';

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
        this.launch(all);
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
    // A file of a session's workspace.
    file(session, name) {
        return path.join(this.work, 'sandboxes', session.id, 'workspace', name);
    }

    // What is in it; undefined when it is not there.
    read(session, name) {
        const at = this.file(session, name);
        return existsSync(at) ? readFileSync(at, 'utf8') : undefined;
    }

    // Waits until a command of the session has made the FIFO `gate` and reads from it. letThrough() or close()
    // what this resolves to.
    async atGate(session) {
        await eventually('the gate', () => existsSync(this.file(session, 'gate')));
        return open(this.file(session, 'gate'), 'w');
    }
}

export async function letThrough(gate) {
    await gate.writeFile('now\n');
    await gate.close();
}
