// A plain HTTP client for the soak: cheap, and honest about what became of a request. `lost` means that nobody
// knows whether the server took it.
import http from 'node:http';
import net from 'node:net';
import { SseParser } from '../lib/sse.mjs';

const HEAD = { 'anthropic-version': '2023-06-01', 'anthropic-beta': 'managed-agents-2026-04-01' };

export class Client {
    constructor(server) {
        this.server = server;
        this.agent = new http.Agent({ keepAlive: true, maxSockets: 32 });
    }

    headers(extra = {}) {
        return { ...HEAD, 'x-api-key': this.server.key, ...extra };
    }

    // {status, json} or {lost: why}. `vanish`: hangs up so many milliseconds after sending.
    call(method, path, body, { vanish } = {}) {
        return new Promise((resolve) => {
            const text = body === undefined ? undefined : JSON.stringify(body);
            const headers = this.headers(text === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
            const lost = (error) => resolve({ lost: error.code ?? error.message });
            const request = http.request(`${this.server.url}${path}`, { method, headers, agent: vanish === undefined ? this.agent : undefined }, (response) => {
                const chunks = [];
                response.on('data', (chunk) => chunks.push(chunk));
                response.on('error', lost);
                response.on('close', () => lost(new Error('cut')));
                response.on('end', () => {
                    const answer = Buffer.concat(chunks).toString('utf8');
                    try {
                        resolve({ status: response.statusCode, json: answer ? JSON.parse(answer) : null, text: answer });
                    } catch {
                        resolve({ status: response.statusCode, text: answer });
                    }
                });
            });
            request.on('error', lost);
            request.setTimeout(60000, () => request.destroy(new Error('silence of a minute')));
            request.end(text);
            if (vanish !== undefined) setTimeout(() => request.destroy(new Error('vanished')), vanish);
        });
    }

    // Reads a stream until it ends or breaks. onEvent(value, id); resolves to the status or 'lost'.
    stream(session, { after, onEvent, signal }) {
        return new Promise((resolve) => {
            const headers = this.headers(after ? { 'last-event-id': after } : {});
            const request = http.get(`${this.server.url}/v1/sessions/${session}/events/stream`, { headers, signal, agent: false }, (response) => {
                const parser = new SseParser();
                response.on('data', (chunk) => {
                    if (response.statusCode !== 200) return;
                    for (const frame of parser.push(chunk)) if (frame.data !== null && frame.event !== 'ping') onEvent(JSON.parse(frame.data), frame.id);
                });
                response.on('error', () => resolve('lost'));
                response.on('close', () => resolve(response.statusCode));
            });
            request.on('error', () => resolve('lost'));
        });
    }

    // Opens a stream and never reads a byte of it; the caller ends the socket.
    stall(session, after) {
        const socket = net.connect({ port: this.server.port, host: '127.0.0.1', onread: undefined });
        socket.on('error', () => {});
        socket.pause();
        const lines = Object.entries(this.headers({ host: '127.0.0.1', ...(after && { 'last-event-id': after }) })).map(([k, v]) => `${k}: ${v}`);
        socket.write(`GET /v1/sessions/${session}/events/stream HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
        return socket;
    }

    // The whole log, oldest first, or undefined when the server could not be asked.
    async events(session) {
        const all = [];
        let page = '';
        for (;;) {
            const { status, json } = await this.call('GET', `/v1/sessions/${session}/events?limit=1000&order=asc${page && `&page=${encodeURIComponent(page)}`}`);
            if (status !== 200) return undefined;
            all.push(...json.data);
            page = json.next_page;
            if (!page) return all;
        }
    }
}
