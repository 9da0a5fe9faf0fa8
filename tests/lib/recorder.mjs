// A fetch that judges every response and every streamed frame it sees against the SDK's own types and the
// rules that hold for all routes, and notes which routes were exercised. What is wrong collects in
// `problems`; the harness fails the test for them.
import { appendFileSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { schemas } from './schemas.mjs';
import { isExtension } from './extensions.mjs';
import { SseParser } from './sse.mjs';

// Route -> what a success answers: a schema's name, or null where the body is not JSON of the SDK's types.
export const ROUTES = {
    'POST /v1/agents': 'Agent',
    'GET /v1/agents': 'AgentPage',
    'GET /v1/agents/{id}': 'Agent',
    'POST /v1/agents/{id}': 'Agent',
    'POST /v1/agents/{id}/archive': 'Agent',
    'GET /v1/agents/{id}/versions': 'AgentPage',
    'POST /v1/environments': 'Environment',
    'GET /v1/environments': 'EnvironmentPage',
    'GET /v1/environments/{id}': 'Environment',
    'POST /v1/environments/{id}': 'Environment',
    'DELETE /v1/environments/{id}': 'EnvironmentDeleted',
    'POST /v1/environments/{id}/archive': 'Environment',
    'GET /v1/environments/{id}/work/poll': 'WorkOrNull',
    'GET /v1/environments/{id}/work/stats': 'WorkStats',
    'GET /v1/environments/{id}/work': 'WorkPage',
    'GET /v1/environments/{id}/work/{id}': 'Work',
    'POST /v1/environments/{id}/work/{id}': 'Work',
    'POST /v1/environments/{id}/work/{id}/ack': 'Work',
    'POST /v1/environments/{id}/work/{id}/heartbeat': 'WorkHeartbeat',
    'POST /v1/environments/{id}/work/{id}/stop': 'Work',
    'POST /v1/environments/{id}/keys': null,
    'GET /v1/environments/{id}/keys': null,
    'DELETE /v1/environments/{id}/keys/{id}': null,
    'POST /v1/sessions': 'Session',
    'GET /v1/sessions': 'SessionPage',
    'GET /v1/sessions/{id}': 'Session',
    'POST /v1/sessions/{id}': 'Session',
    'DELETE /v1/sessions/{id}': 'SessionDeleted',
    'POST /v1/sessions/{id}/archive': 'Session',
    'POST /v1/sessions/{id}/events': 'SentEvents',
    'GET /v1/sessions/{id}/events': 'EventPage',
    'GET /v1/sessions/{id}/events/stream': 'StreamEvent',
    'GET /v1/sessions/{id}/threads': 'ThreadPage',
    'GET /v1/sessions/{id}/threads/{id}': 'Thread',
    'POST /v1/sessions/{id}/resources': 'Resource',
    'GET /v1/sessions/{id}/resources': 'ResourcePage',
    'GET /v1/sessions/{id}/resources/{id}': 'Resource',
    'POST /v1/sessions/{id}/resources/{id}': 'Resource',
    'DELETE /v1/sessions/{id}/resources/{id}': 'ResourceDeleted',
    'POST /v1/files': 'File',
    'GET /v1/files': 'FilePage',
    'GET /v1/files/{id}': 'File',
    'DELETE /v1/files/{id}': 'FileDeleted',
    'GET /v1/files/{id}/content': null,
    'POST /v1/skills': 'Skill',
    'GET /v1/skills': 'SkillPage',
    'GET /v1/skills/{id}': 'Skill',
    'DELETE /v1/skills/{id}': 'SkillDeleted',
    'POST /v1/skills/{id}/versions': 'SkillVersion',
    'GET /v1/skills/{id}/versions': 'SkillVersionPage',
    'GET /v1/skills/{id}/versions/{id}': 'SkillVersion',
    'DELETE /v1/skills/{id}/versions/{id}': 'SkillVersionDeleted',
    'GET /v1/skills/{id}/versions/{id}/content': null,
    'GET /v1/models': 'ModelPage',
    'GET /v1/models/{id}': 'Model',
    'PUT /v1/sessions/{id}/workspace': null,
    'GET /v1/sessions/{id}/workspace': null,
    'GET /v1/sessions/{id}/workspace.tar': null,
    'GET /v1/sessions/{id}/workspace.patch': null,
    'GET /v1/sessions/{id}/outputs.tar': null,
    'POST /v1/sessions/{id}/fork': 'Session',
    'GET /v1/sessions/{id}/checkpoints': null,
    'GET /v1/sessions/{id}/egress': null,
    'GET /healthz': null,
    'GET /metrics': null,
};

const ITEMS = { AgentPage: 'Agent', EnvironmentPage: 'Environment', SessionPage: 'Session', EventPage: 'Event', ThreadPage: 'Thread', SentEvents: 'Event', FilePage: 'File', ResourcePage: 'Resource', ModelPage: 'Model', SkillPage: 'Skill', SkillVersionPage: 'SkillVersion', WorkPage: 'Work' };
const ID_PREFIX = { agent: 'agent_', environment: 'env_', session: 'sesn_', session_thread: 'sthr_', environment_deleted: 'env_', session_deleted: 'sesn_', file: 'file_', file_deleted: 'file_', session_resource_deleted: 'sesrsc_', skill: 'skill_', skill_deleted: 'skill_', skill_version: 'skillver_', work: 'work_' };
const ERROR_TYPES = {
    400: ['invalid_request_error'], 401: ['authentication_error'], 402: ['billing_error'], 403: ['permission_error'],
    404: ['not_found_error'], 405: ['invalid_request_error'], 408: ['timeout_error'], 409: ['conflict_error'], 412: ['invalid_request_error'],
    413: ['request_too_large'], 429: ['rate_limit_error'], 431: ['request_too_large'], 500: ['api_error'], 501: ['invalid_request_error'],
    503: ['api_error', 'overloaded_error'], 504: ['timeout_error'], 507: ['api_error'], 529: ['overloaded_error'],
};
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/;

// Parameter names differ between tables; what is compared has "{}" for each.
export const routeKey = (route) => route.replace(/\{[^}]*\}/g, '{}');

const PATTERNS = Object.entries(ROUTES).map(([route, schema]) => {
    const [method, template] = route.split(' ');
    const source = template.replace(/[.]/g, '\\.').replace(/\{[^}]*\}/g, '[^/]+');
    return { route, schema, method, regexp: new RegExp(`^${source}$`) };
});

export function matchRoute(method, pathname) {
    return PATTERNS.find((p) => p.method === method && p.regexp.test(pathname));
}

function badTimes(value, at = '') {
    if (value === null || typeof value !== 'object') return [];
    return Object.entries(value).flatMap(([key, inner]) => {
        const here = `${at}/${key}`;
        if (/_at$/.test(key) && typeof inner === 'string' && !TIME.test(inner)) return [`${here} is no UTC time: ${inner}`];
        return key === 'input' || key === 'metadata' ? [] : badTimes(inner, here);
    });
}

export class Recorder {
    constructor(sdkPackage = '@anthropic-ai/sdk') {
        this.sdk = sdkPackage;
        this.problems = [];
        this.exchanges = 0;
        this.fetch = this.fetch.bind(this);
    }

    #problem(where, what) {
        const line = `${where}: ${what}`;
        if (!this.problems.includes(line)) this.problems.push(line);
    }

    #exercised(route) {
        const dir = process.env.OSTLER_TEST_STATE;
        if (!dir) return;
        mkdirSync(path.join(dir, 'routes'), { recursive: true });
        appendFileSync(path.join(dir, 'routes', `${process.pid}`), `${routeKey(route)}\n`);
    }

    // One value of the SDK's type `name`: shape, unknown fields, times, ids.
    check(where, name, value) {
        // Skills have two published shapes, each known to one release only.
        const old = value?.type === 'skill' ? 'latest_version' in value : value?.type === 'skill_version' && 'version' in value;
        const sdk = /^Skill/.test(name) && !/Deleted$/.test(name) ? (old ? 'sdk-0120' : '@anthropic-ai/sdk') : this.sdk;
        for (const error of schemas(sdk).errors(name, value)) this.#problem(where, `${value?.type ?? name}: ${error}`);
        for (const at of schemas(old ? sdk : undefined).unknown(name, value)) {
            if (!isExtension(value.type, at)) this.#problem(where, `field ${value.type}.${at} is neither the SDK's nor in docs/extensions.md`);
        }
        for (const bad of badTimes(value)) this.#problem(where, bad);
        const prefix = name === 'Resource' ? 'sesrsc_' : ID_PREFIX[value?.type] ?? (name === 'Event' || (name === 'StreamEvent' && value?.id) ? 'sevt_' : '');
        if (prefix && !String(value.id).startsWith(prefix)) this.#problem(where, `id ${value.id} does not begin with ${prefix}`);
    }

    #checkBody(where, schema, body) {
        if (!ITEMS[schema]) return this.check(where, schema, body);
        if (!Array.isArray(body?.data)) return this.#problem(where, 'data is not an array');
        const byId = schema === 'ModelPage' || (schema === 'FilePage' && !('next_page' in body));
        const cursors = schema === 'SentEvents' ? [] : byId ? ['first_id', 'last_id'] : ['next_page', ...(schema === 'SessionPage' ? ['prev_page'] : [])];
        const allowed = ['data', ...cursors, ...(byId ? ['has_more'] : [])];
        for (const key of Object.keys(body)) if (!allowed.includes(key)) this.#problem(where, `a page has no field ${key}`);
        for (const key of cursors) {
            if (body[key] !== null && (typeof body[key] !== 'string' || body[key] === '')) this.#problem(where, `${key} is neither a cursor nor null`);
        }
        if (byId) this.#checkIds(where, body);
        for (const item of body.data) this.check(where, ITEMS[schema], item);
    }

    // The page of a list that is walked by ids.
    #checkIds(where, body) {
        if (typeof body.has_more !== 'boolean') this.#problem(where, 'has_more is no boolean');
        if (body.first_id !== (body.data[0]?.id ?? null)) this.#problem(where, 'first_id is not the id of the first');
        if (body.last_id !== (body.data.at(-1)?.id ?? null)) this.#problem(where, 'last_id is not the id of the last');
    }

    #checkError(where, response, body) {
        if (body?.type !== 'error' || typeof body.error?.message !== 'string' || body.error.message === '') {
            return this.#problem(where, `not the error shape: ${JSON.stringify(body)}`);
        }
        const types = ERROR_TYPES[response.status] ?? [];
        if (!types.includes(body.error.type)) this.#problem(where, `status ${response.status} with error type ${body.error.type}`);
        if (body.request_id !== response.headers.get('request-id')) this.#problem(where, 'request_id is not the request-id header');
        for (const key of Object.keys(body)) if (!['type', 'error', 'request_id'].includes(key)) this.#problem(where, `error body field ${key}`);
        for (const key of Object.keys(body.error)) {
            if (!['type', 'message', 'details'].includes(key)) this.#problem(where, `error field ${key}`);
        }
        if (response.status === 409 && response.headers.get('x-should-retry') !== 'false') {
            this.#problem(where, 'a 409 without x-should-retry: false is retried by every client');
        }
    }

    // A response from anywhere: of fetch, or one put together by a raw client ({status, headers, text}).
    judge(method, pathname, response, text) {
        this.exchanges++;
        const match = matchRoute(method, pathname);
        const where = `${method} ${match ? match.route.split(' ')[1] : pathname} ${response.status}`;
        if (match && response.status < 300) this.#exercised(match.route);
        if (pathname.startsWith('/v1/')) {
            if (!/^req_/.test(response.headers.get('request-id') ?? '')) this.#problem(where, 'no request-id header');
            if (response.ok && !/^wrkspc_/.test(response.headers.get('anthropic-workspace-id') ?? '')) {
                this.#problem(where, 'no anthropic-workspace-id header');
            }
        }
        if (response.status >= 300 || match?.schema) {
            if (!/^application\/json(;|$)/.test(response.headers.get('content-type') ?? '')) {
                return this.#problem(where, `content-type ${response.headers.get('content-type')}`);
            }
            let body;
            try {
                body = JSON.parse(text);
            } catch {
                return this.#problem(where, `body is not JSON: ${text.slice(0, 200)}`);
            }
            if (response.status >= 300) this.#checkError(where, response, body);
            else this.#checkBody(where, match.schema, body);
        }
        return undefined;
    }

    checkFrame(where, frame) {
        if (frame.comment !== undefined && frame.data === null) return;
        if (!frame.event) return this.#problem(where, `a frame without an event line: ${frame.data}`);
        if (frame.event === 'ping') return undefined;
        let value;
        try {
            value = JSON.parse(frame.data);
        } catch {
            return this.#problem(where, `frame data is not JSON: ${frame.data}`);
        }
        if (value.type !== frame.event) this.#problem(where, `event line ${frame.event} but type ${value.type}`);
        if (value.id && frame.id !== value.id) this.#problem(where, `${value.type}: the frame's id is ${frame.id}, the event's ${value.id}`);
        return this.check(where, 'StreamEvent', value);
    }

    #streamed(where, response) {
        const parser = new SseParser();
        const judge = new TransformStream({
            transform: (chunk, controller) => {
                for (const frame of parser.push(chunk)) this.checkFrame(where, frame);
                controller.enqueue(chunk);
            },
        });
        return new Response(response.body.pipeThrough(judge), { status: response.status, headers: response.headers });
    }

    async fetch(input, init = {}) {
        const url = new URL(typeof input === 'object' && 'url' in input ? input.url : input);
        const method = (init.method ?? 'GET').toUpperCase();
        const response = await fetch(input, init);
        const type = response.headers.get('content-type') ?? '';
        const match = matchRoute(method, url.pathname);
        if (/^text\/event-stream/.test(type)) {
            this.exchanges++;
            if (match) this.#exercised(match.route);
            return this.#streamed(`${method} ${match?.route.split(' ')[1] ?? url.pathname} frame`, response);
        }
        const bytes = await response.arrayBuffer();
        this.judge(method, url.pathname, response, new TextDecoder().decode(bytes));
        return new Response(bytes.byteLength > 0 ? bytes : null, { status: response.status, statusText: response.statusText, headers: response.headers });
    }
}
