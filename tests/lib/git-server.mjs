// git over HTTP for tests: `git http-backend` behind a small server with a token.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { repository } from './e2e.mjs';

const BACKEND = path.join(execFileSync('git', ['--exec-path'], { encoding: 'utf8' }).trim(), 'git-http-backend');

export class GitServer {
    requests = []; // {method, url, authorization}
    tokens = {}; // repository -> the token it wants
    forbidden = new Set();

    async start() {
        this.dir = mkdtempSync(path.join(tmpdir(), 'ostler-git-'));
        this.server = createServer((req, res) => this.#serve(req, res));
        this.server.listen(0, '127.0.0.1');
        await once(this.server, 'listening');
        this.url = `http://127.0.0.1:${this.server.address().port}`;
        return this;
    }

    stop() {
        this.server.closeAllConnections();
        this.server.close();
        rmSync(this.dir, { recursive: true, force: true });
    }

    // A repository with these files on its branch main; resolves to its working directory.
    add(name, files, { token } = {}) {
        const work = path.join(this.dir, `${name}.work`);
        mkdirSync(work, { recursive: true });
        repository(work, files);
        this.git(work, 'branch', '-M', 'main');
        this.git(this.dir, 'clone', '-q', '--bare', work, path.join(this.dir, `${name}.git`));
        this.git(path.join(this.dir, `${name}.git`), 'config', 'uploadpack.allowReachableSHA1InWant', 'true');
        if (token) this.tokens[name] = token;
        return work;
    }

    git(cwd, ...args) {
        return execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.org', ...args], { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
    }

    commit(name, message) {
        const work = path.join(this.dir, `${name}.work`);
        this.git(work, 'add', '-A');
        this.git(work, 'commit', '-q', '-m', message);
        this.git(work, 'push', '-q', path.join(this.dir, `${name}.git`), 'HEAD');
        return this.git(work, 'rev-parse', 'HEAD');
    }

    #serve(req, res) {
        const url = new URL(req.url, this.url);
        const name = url.pathname.split('/')[1].replace(/\.git$/, '');
        this.requests.push({ method: req.method, url: req.url, authorization: req.headers.authorization });
        this.onRequest?.(name);
        const refuse = (status, headers = {}) => {
            req.resume();
            res.writeHead(status, headers).end();
        };
        if (this.forbidden.has(name)) return refuse(403);
        const want = this.tokens[name];
        const [, password] = Buffer.from((req.headers.authorization ?? '').split(' ')[1] ?? '', 'base64').toString().split(':');
        if (want && password !== want) return refuse(401, { 'www-authenticate': 'Basic realm="git"' });
        const env = {
            PATH: process.env.PATH, GIT_PROJECT_ROOT: this.dir, GIT_HTTP_EXPORT_ALL: '1', PATH_INFO: url.pathname, QUERY_STRING: url.search.slice(1), REQUEST_METHOD: req.method,
            CONTENT_TYPE: req.headers['content-type'] ?? '', HTTP_CONTENT_ENCODING: req.headers['content-encoding'] ?? '', GIT_PROTOCOL: req.headers['git-protocol'] ?? '', REMOTE_ADDR: '127.0.0.1', HOME: this.dir,
            GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'safe.directory', GIT_CONFIG_VALUE_0: '*',
        };
        const child = spawn(BACKEND, [], { env, stdio: ['pipe', 'pipe', 'ignore'] });
        req.pipe(child.stdin);
        child.stdin.on('error', () => {});
        let head = Buffer.alloc(0);
        child.stdout.on('data', (chunk) => {
            if (head === null) return res.write(chunk);
            head = Buffer.concat([head, chunk]);
            const end = head.indexOf('\r\n\r\n');
            if (end < 0) return undefined;
            const lines = head.subarray(0, end).toString().split('\r\n').map((line) => line.split(/:\s*/, 2));
            const status = lines.find(([key]) => key === 'Status');
            for (const [key, value] of lines) if (key !== 'Status') res.setHeader(key, value);
            res.writeHead(status ? Number(status[1].split(' ')[0]) : 200);
            res.write(head.subarray(end + 4));
            head = null;
            return undefined;
        });
        child.stdout.on('end', () => res.end());
        return undefined;
    }
}
