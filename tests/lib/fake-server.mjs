// What the servers that a test drives have in common: a port of their own, kept over stop() and start(), and
// requests with their bodies. serve(req, res, body) answers.
import { createServer } from 'node:http';
import { once } from 'node:events';

export class FakeServer {
    #sockets = new Set();

    get url() {
        return `http://127.0.0.1:${this.port}`;
    }

    // Listens again on the port it had, so that it can be away for a while.
    async start() {
        this.server = createServer((req, res) => this.#read(req, res));
        this.server.on('connection', (socket) => {
            this.#sockets.add(socket);
            socket.on('close', () => this.#sockets.delete(socket));
        });
        this.server.listen(this.port ?? 0, '127.0.0.1');
        await once(this.server, 'listening');
        this.port = this.server.address().port;
    }

    async stop() {
        for (const socket of this.#sockets) socket.destroy();
        this.server.close();
        await once(this.server, 'close');
    }

    async #read(req, res) {
        const chunks = [];
        try {
            for await (const chunk of req) chunks.push(chunk);
        } catch {
            return; // who asks was killed while it sent
        }
        await this.serve(req, res, Buffer.concat(chunks).toString('utf8'));
    }
}
