// A Messages API server that does what a test tells it, request by request: answer, think, call tools, hold
// its breath in the middle of an answer, hang up, talk rubbish, or not be there at all. It keeps what it was
// sent, byte for byte.
import { FakeServer } from './fake-server.mjs';

let serial = 0;
const frame = (event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;

// A short way of saying a block: a string is text, {bash: COMMAND} a call of that tool.
function block(short) {
    if (typeof short === 'string') return { type: 'text', text: short };
    if (short.bash !== undefined) return { type: 'tool_use', name: 'bash', input: { command: short.bash } };
    return short;
}

function pieces(text, n = 3) {
    const size = Math.max(1, Math.ceil(text.length / n));
    return Array.from({ length: Math.ceil(text.length / size) }, (_, i) => text.slice(i * size, (i + 1) * size));
}

const DELTAS = {
    text: (b) => pieces(b.text, b.chunks).map((text) => ({ type: 'text_delta', text })),
    thinking: (b) => [...pieces(b.thinking).map((thinking) => ({ type: 'thinking_delta', thinking })), { type: 'signature_delta', signature: b.signature }],
    redacted_thinking: () => [],
    tool_use: (b) => pieces(b.json ?? JSON.stringify(b.input)).map((partial_json) => ({ type: 'input_json_delta', partial_json })),
};
const STARTS = {
    text: () => ({ type: 'text', text: '' }),
    thinking: () => ({ type: 'thinking', thinking: '', signature: '' }),
    redacted_thinking: (b) => b,
    tool_use: (b) => ({ type: 'tool_use', id: b.id ?? `toolu_fake${++serial}`, name: b.name, input: {} }),
};

// The frames of one streamed answer of these blocks.
export function stream(blocks, { usage = {}, stop } = {}) {
    const all = blocks.map(block);
    const frames = [
        { type: 'message_start', message: { id: `msg_fake${++serial}`, type: 'message', role: 'assistant', model: 'fake', content: [], stop_reason: null, stop_sequence: null, usage: { input_tokens: 10, output_tokens: 1, ...usage } } },
        { type: 'ping' },
    ];
    all.forEach((b, index) => {
        frames.push({ type: 'content_block_start', index, content_block: STARTS[b.type](b) });
        for (const delta of DELTAS[b.type](b)) frames.push({ type: 'content_block_delta', index, delta });
        frames.push({ type: 'content_block_stop', index });
    });
    const stop_reason = stop ?? (all.some((b) => b.type === 'tool_use') ? 'tool_use' : 'end_turn');
    frames.push({ type: 'message_delta', delta: { stop_reason, stop_sequence: null }, usage: { output_tokens: 7, ...usage } }, { type: 'message_stop' });
    return frames.map(frame);
}

export const apiError = (status, type, message, headers = {}) => ({ status, headers, json: { type: 'error', error: { type, message } } });

// One request that the test expects, and the hand it has on the answer.
class Exchange {
    constructor(reply) {
        this.reply = reply;
        for (const name of ['arrived', 'paused', 'closed', 'gate']) this[name] = new Promise((resolve) => (this[`_${name}`] = resolve));
    }

    // Lets an answer that holds go on.
    release() {
        this._gate();
    }
}

export class FakeMessages extends FakeServer {
    requests = []; // {raw, json, headers, url, at}
    counts = []; // the requests to count tokens, in the same form
    tokens = null; // (request) => how many it has; null: this server cannot count
    problems = [];
    fallback = null; // (request) => reply, for what nobody has spoken for: where kills make repeats
    #queue = [];

    // Says how the next request that nobody has spoken for is answered. `reply` is an array of blocks, or
    //   {blocks, usage, stop}   streamed; with
    //     hold: N               pauses after N frames until release(); `paused` resolves then; 0 is after
    //                           the headers, 'head' before them
    //     cut: N                destroys the connection after N frames;  end: N  ends it cleanly there
    //   {status, headers, json | body | bytes}   as it stands; bytes: one by one
    //   (request) => any of these
    expect(reply) {
        const exchange = new Exchange(reply);
        this.#queue.push(exchange);
        return exchange;
    }

    // Nothing was left unasked and nothing came that was not expected.
    settle() {
        const problems = this.problems.splice(0);
        if (this.#queue.length > 0) problems.push(`${this.#queue.length} expected requests never came`);
        this.#queue = [];
        this.fallback = null;
        return problems;
    }

    async serve(req, res, raw) {
        const request = { raw, headers: req.headers, url: req.url, at: Date.now(), json: JSON.parse(raw) };
        if (request.url.startsWith('/v1/messages/count_tokens')) return this.#count(res, request);
        this.requests.push(request);
        const exchange = this.#queue.shift() ?? (this.fallback && new Exchange(this.fallback));
        if (!exchange) {
            this.problems.push(`an unexpected request: ${raw.slice(-300)}`);
            return this.#send(res, apiError(400, 'invalid_request_error', 'nobody expected this request'));
        }
        // A client may silently send again on a connection that it used before: each gets its own.
        res.setHeader('connection', 'close');
        res.on('close', () => exchange._closed(res.writableFinished));
        exchange.request = request;
        exchange._arrived(request);
        const { reply } = exchange;
        await this.#answer(exchange, res, typeof reply === 'function' ? reply(request) : reply);
    }

    async #count(res, request) {
        this.counts.push(request);
        res.setHeader('connection', 'close');
        return this.#send(res, this.tokens ? { json: { input_tokens: this.tokens(request) } } : apiError(404, 'not_found_error', 'this server does not count'));
    }

    async #answer(exchange, res, reply) {
        if (Array.isArray(reply)) return this.#answer(exchange, res, { blocks: reply });
        if (!reply.blocks) return this.#send(res, reply);
        if (reply.hold === 'head') await this.#hold(exchange);
        res.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
        res.flushHeaders();
        let n = 0;
        for (const text of stream(reply.blocks, reply)) {
            if (n === reply.hold) await this.#hold(exchange);
            if (n === reply.cut) return res.destroy();
            if (n === reply.end) return res.end();
            await new Promise((resolve) => res.write(text, resolve));
            n++;
        }
        res.end();
    }

    async #hold(exchange) {
        exchange._paused();
        await exchange.gate;
    }

    async #send(res, { status = 200, headers = {}, json, body, bytes }) {
        res.writeHead(status, { 'content-type': json === undefined ? 'text/plain' : 'application/json', ...headers });
        for (const byte of Buffer.from(bytes ?? '')) await new Promise((resolve) => res.write(Buffer.from([byte]), resolve));
        res.end(json === undefined ? (body ?? '') : JSON.stringify(json));
    }
}
