// A server that speaks the worker protocol of self-hosted environments and does what a test tells it: items
// with leases, sessions with logs and streams. It keeps every request.
import { FakeServer } from './fake-server.mjs';

export const ENV = 'env_ofthetests';
export const ENV_KEY = 'sk-ant-oat01-of-the-tests';

let serial = 0;
const id = (prefix) => `${prefix}_${String(++serial).padStart(8, '0')}`;
const error = (status, type, message, details) => ({ status, json: { type: 'error', error: { type, message, ...(details && { details }) } } });

class Session {
    log = [];
    results = []; // posted
    streams = new Set();
    status = 'idle';
    skills = [];
    resources = [];

    constructor(server) {
        this.server = server;
        this.id = id('sesn');
        this.token = id('sk-ant-req');
    }

    emit(event) {
        const whole = { id: id('sevt'), processed_at: new Date().toISOString(), ...event };
        this.log.push(whole);
        for (const res of this.streams) res.write(`event: ${whole.type}\ndata: ${JSON.stringify(whole)}\n\n`);
        this.server.changed();
        return whole;
    }

    // Calls of one response, and the idle that waits for them. Resolves to the events of the calls.
    calls(...inputs) {
        const calls = inputs.map(({ name = 'bash', permission, input, type = 'agent.tool_use', ...rest }) =>
            this.emit({ type, name, input: input ?? rest, ...(permission && { evaluated_permission: permission }) }));
        this.emit({ type: 'session.status_idle', stop_reason: { type: 'requires_action', event_ids: calls.map((c) => c.id) } });
        return calls;
    }

    rest() {
        return this.emit({ type: 'session.status_idle', stop_reason: { type: 'end_turn' } });
    }

    dropStreams() {
        for (const res of this.streams) res.destroy();
    }

    result(call) {
        return this.server.until(`the result of ${call.name}`, () => this.results.find((r) => r.tool_use_id === call.id));
    }
}

export class FakeWork extends FakeServer {
    requests = []; // {verb, method, path, query, headers, body}
    problems = [];
    ttl = 60; // seconds
    holdPolls = true;
    // verb -> function(request) that may answer instead: {status, json}, 'destroy', or undefined
    answers = {};
    #sessions = new Map();
    #items = [];
    #waiting = new Set();

    session() {
        const session = new Session(this);
        this.#sessions.set(session.id, session);
        return session;
    }

    // Puts a session into the queue; `more` overwrites what a poll gives.
    queue(session, more = {}) {
        const item = { id: id('work'), type: 'work', state: 'queued', environment_id: ENV, data: { type: 'session', id: session?.id }, metadata: {}, latest_heartbeat_at: null, ...more };
        Object.defineProperty(item, 'session', { value: session, enumerable: false });
        this.#items.push(item);
        this.changed();
        return item;
    }

    // What was said, oldest first.
    of(verb, more = () => true) {
        return this.requests.filter((r) => r.verb === verb && more(r));
    }

    changed() {
        for (const wake of this.#waiting) wake();
    }

    async until(what, ask, ms = process.env.ASAN_OPTIONS ? 120000 : 30000) {
        const deadline = Date.now() + ms;
        for (;;) {
            const answer = ask();
            if (answer) return answer;
            const left = deadline - Date.now();
            if (left <= 0) throw new Error(`waited in vain for ${what}; there was ${this.requests.slice(-12).map((r) => `${r.verb}:${r.status}`).join(' ')}`);
            let wake;
            let timer;
            await new Promise((resolve) => {
                wake = resolve;
                this.#waiting.add(wake);
                timer = setTimeout(resolve, Math.min(left, 1000));
            });
            clearTimeout(timer);
            this.#waiting.delete(wake);
        }
    }

    request(verb, more = () => true) {
        return this.until(`a request to ${verb}`, () => this.of(verb, more)[0]);
    }

    // As after a lease that ran out: the item is in the queue again, and its old owner knows nothing.
    requeue(item) {
        item.state = 'queued';
        item.offered = undefined;
        this.changed();
    }

    async serve(req, res, text) {
        const url = new URL(req.url, this.url);
        const request = { method: req.method, path: url.pathname, query: Object.fromEntries(url.searchParams), headers: req.headers, body: text ? JSON.parse(text) : undefined, at: Date.now() };
        const [answer, verb] = this.#route(request, res);
        request.verb = verb;
        this.requests.push(request);
        let reply = this.answers[verb]?.(request) ?? answer;
        if (typeof reply === 'function') reply = await reply();
        if (reply === 'destroy') {
            request.status = 'destroyed';
            res.destroy();
        } else if (reply) {
            request.status = reply.status ?? 200;
            if (!res.destroyed) {
                res.writeHead(request.status, { 'content-type': 'application/json' });
                res.end(reply.bytes ?? JSON.stringify(reply.json));
            }
        }
        this.changed();
    }

    #bearer(request, ...tokens) {
        if (!tokens.includes(request.headers.authorization?.replace(/^Bearer /, ''))) this.problems.push(`${request.method} ${request.path} came with ${request.headers.authorization}`);
    }

    #route(request, res) {
        const parts = request.path.split('/').filter(Boolean); // v1 ...
        if (parts[1] === 'environments' && parts[3] === 'work') return this.#work(request, parts);
        if (parts[1] === 'sessions') return this.#session(request, parts, res);
        if (parts[1] === 'skills') {
            const skill = this.skills?.[parts[2]];
            if (!skill) return [error(404, 'not_found_error', 'no such skill'), 'skill'];
            if (parts[5] === 'content') return [{ bytes: skill.content }, 'content'];
            return [{ json: { id: skill.version, version: skill.version, name: skill.name } }, 'skill'];
        }
        return [error(404, 'not_found_error', request.path), 'unknown'];
    }

    #work(request, parts) {
        if (parts[4] === 'poll') {
            this.#bearer(request, ENV_KEY);
            return [() => this.#poll(), 'poll'];
        }
        const item = this.#items.find((i) => i.id === parts[4]);
        const verb = parts[5];
        if (!item) return [error(404, 'not_found_error', 'no such item'), verb];
        if (verb === 'ack') {
            this.#bearer(request, ENV_KEY);
            return [() => ((item.state = 'starting'), { json: item }), verb];
        }
        if (item.session && this.secrets !== false) this.#bearer(request, item.session.token);
        if (verb === 'heartbeat') return [() => this.#heartbeat(item, request.query), verb];
        if (verb === 'stop') {
            return [() => {
                if (item.state === 'stopped') return error(409, 'conflict_error', 'stopped already');
                item.state = 'stopped';
                return { json: item };
            }, verb];
        }
        return [error(404, 'not_found_error', request.path), 'unknown'];
    }

    async #poll() {
        const find = () => this.#items.find((i) => i.state === 'queued' && !(Date.now() - i.offered < 5000));
        const deadline = Date.now() + (this.holdPolls ? 300 : 0);
        let item = find();
        while (!item && Date.now() < deadline) {
            await this.until('', () => find() || Date.now() >= deadline, 300).catch(() => {});
            item = find();
        }
        if (!item) return { json: null };
        item.offered = Date.now();
        const secret = item.session && this.secrets !== false ? Buffer.from(JSON.stringify({ sessions_token: item.session.token })).toString('base64url') : null;
        return { json: { secret, ...item } };
    }

    #heartbeat(item, query) {
        const state = { state: item.state, last_heartbeat: item.latest_heartbeat_at, ttl_seconds: this.ttl, lease_extended: false };
        if (item.state !== 'stopping' && item.state !== 'stopped' && query.expected_last_heartbeat !== (item.latest_heartbeat_at ?? 'NO_HEARTBEAT'))
            return error(412, 'invalid_request_error', 'not the last heartbeat', { error_code: 'heartbeat_precondition_failed', current_state: state });
        if (item.state === 'starting') item.state = 'active';
        item.latest_heartbeat_at = new Date(Date.now() + ++serial).toISOString();
        return { json: { type: 'work_heartbeat', last_heartbeat: item.latest_heartbeat_at, lease_extended: item.state === 'active', state: item.state, ttl_seconds: this.ttl } };
    }

    #session(request, parts, res) {
        const session = this.#sessions.get(parts[2]);
        if (!session) return [error(404, 'not_found_error', 'no such session'), 'session'];
        if (this.secrets !== false) this.#bearer(request, session.token);
        if (!parts[3]) return [{ json: { id: session.id, type: 'session', status: session.status, agent: { skills: session.skills }, resources: session.resources } }, 'session'];
        if (parts[4] === 'stream') {
            return [() => {
                res.writeHead(200, { 'content-type': 'text/event-stream' });
                res.flushHeaders();
                session.streams.add(res);
                res.on('close', () => session.streams.delete(res));
            }, 'stream'];
        }
        if (request.method === 'GET') return [() => this.#list(session, request.query), 'list'];
        return [() => {
            for (const event of request.body.events) {
                if (event.type !== 'user.tool_result') this.problems.push(`posted: ${JSON.stringify(event)}`);
                if (session.results.some((r) => r.tool_use_id === event.tool_use_id)) return error(400, 'invalid_request_error', 'answered already');
                session.results.push(event);
                session.emit({ ...event });
            }
            return { json: { data: request.body.events } };
        }, 'send'];
    }

    // Two to a page, so that there are several.
    #list(session, { page = '0', limit }) {
        if (limit !== '1000') this.problems.push(`listed with limit ${limit}`);
        const at = Number(page);
        return { json: { data: session.log.slice(at, at + 2), next_page: at + 2 < session.log.length ? String(at + 2) : null } };
    }
}
