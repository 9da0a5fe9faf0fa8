// @copilotkit/aimock behind a plain forwarder that keeps what was sent, byte for byte: aimock's own journal
// holds requests in another provider's shape.
import { createServer, request as httpRequest } from 'node:http';
import { once } from 'node:events';
import { LLMock } from '@copilotkit/aimock';

export class Aimock {
    requests = []; // {raw, json, headers, url, at, status}
    problems = [];
    #sockets = new Set();

    get url() {
        return `http://127.0.0.1:${this.port}`;
    }

    async start() {
        this.mock = new LLMock({ port: 0, host: '127.0.0.1', chunkSize: 5, logLevel: 'silent' });
        this.upstream = new URL(await this.mock.start());
        this.server = createServer((req, res) => this.#forward(req, res));
        this.server.on('connection', (socket) => {
            this.#sockets.add(socket);
            socket.on('close', () => this.#sockets.delete(socket));
        });
        this.server.listen(0, '127.0.0.1');
        await once(this.server, 'listening');
        this.port = this.server.address().port;
    }

    async stop() {
        for (const socket of this.#sockets) socket.destroy();
        this.server.close();
        await this.mock.stop();
    }

    settle() {
        return this.problems.splice(0);
    }

    async #forward(req, res) {
        const chunks = [];
        try {
            for await (const chunk of req) chunks.push(chunk);
        } catch {
            return;
        }
        const raw = Buffer.concat(chunks);
        const entry = { raw: raw.toString('utf8'), headers: req.headers, url: req.url, at: Date.now(), json: JSON.parse(raw) };
        this.requests.push(entry);
        const headers = { ...req.headers, host: this.upstream.host };
        const up = httpRequest({ host: this.upstream.hostname, port: this.upstream.port, method: req.method, path: req.url, headers }, (answer) => {
            entry.status = answer.statusCode;
            // A client may silently send again on a connection that it used before: each gets its own.
            res.writeHead(answer.statusCode, { ...answer.headers, connection: 'close' });
            answer.on('data', (chunk) => res.write(chunk));
            answer.on('end', () => res.end());
            answer.on('error', () => res.destroy());
            answer.on('aborted', () => res.destroy());
        });
        up.on('error', () => res.destroy());
        res.on('close', () => up.destroy());
        up.end(raw);
    }
}
