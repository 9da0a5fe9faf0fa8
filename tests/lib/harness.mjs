// What a test file of contract/ or e2e/ starts with: one server for the file, clients of both SDK releases,
// and the check at the end of each test that nothing it saw broke the contract.
import { after, afterEach, before } from 'node:test';
import assert from 'node:assert/strict';
import Anthropic1110 from '@anthropic-ai/sdk';
import Anthropic0120 from 'sdk-0120';
import { Recorder } from './recorder.mjs';
import { startServer } from './server.mjs';
import { frames } from './sse.mjs';

export const SDKS = {
    '1.11.0': { packageName: '@anthropic-ai/sdk', Client: Anthropic1110 },
    '0.120.0': { packageName: 'sdk-0120', Client: Anthropic0120 },
};
export const BETA = 'managed-agents-2026-04-01';

// How long anything that must come is waited for; sanitized builds are slower.
export const PATIENCE_MS = process.env.ASAN_OPTIONS ? 120000 : 30000;

// Starts a server for the file and judges what every test saw. The result fills in before the first test;
// `setup(world)` runs once after it.
export function useServer(options = {}, setup = async () => {}) {
    const world = new World();
    before(async () => {
        world.server = await startServer(options);
        await setup(world);
    });
    afterEach(() => {
        const problems = world.recorders().flatMap((r) => r.problems.splice(0));
        assert.deepEqual(problems, [], `responses that break the contract:\n  ${problems.join('\n  ')}`);
    });
    after(async () => {
        await world.server?.dispose();
    });
    return world;
}

export class World {
    #recorders = new Map();

    recorders() {
        return [...this.#recorders.values()];
    }

    recorder(sdk = '1.11.0') {
        if (!this.#recorders.has(sdk)) this.#recorders.set(sdk, new Recorder(SDKS[sdk].packageName));
        return this.#recorders.get(sdk);
    }

    // An official client; without retries, so that what the server says is what the test sees.
    client(sdk = '1.11.0', options = {}) {
        const { Client } = SDKS[sdk];
        return new Client({
            baseURL: this.server.url, apiKey: this.server.key, authToken: null, fetch: this.recorder(sdk).fetch, maxRetries: 0, timeout: PATIENCE_MS, logLevel: 'off', ...options,
        });
    }

    // One request by hand. body: an object (sent as JSON), a string or bytes (sent as they are).
    // Resolves to {status, headers, json, text}.
    async http(method, target, { body, headers = {}, key = this.server.key, beta = BETA } = {}) {
        const all = { 'anthropic-version': '2023-06-01', ...(key && { 'x-api-key': key }), ...(beta && { 'anthropic-beta': beta }), ...headers };
        const init = { method, headers: all };
        if (body !== undefined) {
            const raw = typeof body === 'string' || body instanceof Uint8Array;
            init.body = raw ? body : JSON.stringify(body);
            all['content-type'] ??= 'application/json';
        }
        const response = await this.recorder().fetch(`${this.server.url}${target}`, init);
        const text = await response.text();
        let json;
        try {
            json = JSON.parse(text);
        } catch {
            json = undefined;
        }
        return { status: response.status, headers: response.headers, text, json };
    }

    // A raw stream with frame ids: {next(), until(), close()}. Frames are {event, id, value}.
    async stream(sessionId, { query = '', headers = {}, key = this.server.key } = {}) {
        const control = new AbortController();
        const all = { 'x-api-key': key, 'anthropic-version': '2023-06-01', 'anthropic-beta': BETA, ...headers };
        const response = await this.recorder().fetch(`${this.server.url}/v1/sessions/${sessionId}/events/stream${query}`, { headers: all, signal: control.signal });
        if (response.status !== 200) throw Object.assign(new Error(`stream: ${response.status} ${await response.text()}`), { status: response.status });
        return new Stream(response, control);
    }

    async agent(extra = {}) {
        return this.client().beta.agents.create({ name: 'tester', model: 'script/echo', ...extra });
    }

    async environment(extra = {}) {
        return this.client().beta.environments.create({ name: 'plain', config: { type: 'cloud' }, ...extra });
    }

    // A session with an agent and environment of its own.
    async session({ agent = {}, environment = {}, ...extra } = {}) {
        const [a, e] = [await this.agent(agent), await this.environment(environment)];
        return this.client().beta.sessions.create({ agent: a.id, environment_id: e.id, ...extra });
    }

    // The whole log, oldest first.
    async events(sessionId, query = {}) {
        const all = [];
        for await (const event of this.client().beta.sessions.events.list(sessionId, query)) all.push(event);
        return all;
    }

    async send(sessionId, ...events) {
        return this.client().beta.sessions.events.send(sessionId, { events: events.map((e) => (typeof e === 'string' ? message(e) : e)) });
    }

    // Waits until the log's last word is that the session is idle, however far it is already.
    async idle(sessionId) {
        const stream = await this.stream(sessionId);
        try {
            const log = await this.events(sessionId);
            if (log.at(-1)?.type !== 'session.status_idle') await stream.until('session.status_idle');
        } finally {
            stream.close();
        }
    }

    // Sends, and waits on a stream opened before until the session is idle. Resolves to what was streamed.
    async turn(sessionId, ...events) {
        const stream = await this.stream(sessionId);
        try {
            await this.send(sessionId, ...events);
            return await stream.until('session.status_idle');
        } finally {
            stream.close();
        }
    }
}

// A promise, or an error that says what was waited for in vain.
export async function patiently(promise, what) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(what())), PATIENCE_MS);
    });
    try {
        return await Promise.race([promise, late]);
    } finally {
        clearTimeout(timer);
    }
}

class Stream {
    constructor(response, control) {
        this.response = response;
        this.control = control;
        this.source = frames(response);
        this.seen = [];
    }

    // The next frame that is not a ping; undefined at the end.
    async next() {
        return patiently(this.#next(), () => `nothing more came on the stream after: ${types(this.seen.map((s) => s.value)).join(', ')}`);
    }

    async #next() {
        for (;;) {
            const { value: frame, done } = await this.source.next();
            if (done) return undefined;
            if (frame.data === null || frame.event === 'ping') continue;
            const item = { event: frame.event, id: frame.id, value: JSON.parse(frame.data) };
            this.seen.push(item);
            return item;
        }
    }

    // Values up to and with the first for which `stop` (a type or a predicate) holds.
    async until(stop) {
        const holds = typeof stop === 'string' ? (value) => value.type === stop : stop;
        const values = [];
        for (;;) {
            const item = await this.next();
            if (!item) throw new Error(`the stream ended before ${stop}; seen: ${values.map((v) => v.type).join(', ')}`);
            values.push(item.value);
            if (holds(item.value)) return values;
        }
    }

    close() {
        this.control.abort();
    }
}

export const message = (text) => ({ type: 'user.message', content: [{ type: 'text', text }] });
export const types = (events) => events.map((event) => event.type);
export const texts = (events) => events.filter((e) => e.type === 'agent.message').map((e) => e.content.map((c) => c.text).join(''));

// Asserts that a promise of an SDK call is refused as expected; resolves to the error.
export async function refused(promise, status, messagePattern, code) {
    let error;
    try {
        await promise;
    } catch (caught) {
        error = caught;
    }
    assert.ok(error, `expected status ${status}, but it was accepted`);
    assert.equal(error.status, status, error.message);
    if (messagePattern) assert.match(error.error?.error?.message ?? error.message, messagePattern);
    if (code) assert.equal(error.error?.error?.details?.error_code, code);
    return error;
}
