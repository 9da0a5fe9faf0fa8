// The egress proxy of the real binary, in a network of the test's own: a resolver that lies, and a canary that
// nothing may reach. (Units are in tests/unit/test_egress*.c.)
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createSocket } from 'node:dgram';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { binary } from '../lib/server.mjs';

// Everything below runs inside unshare: loopback of its own, /etc/resolv.conf that leads to our resolver.
const INSIDE = process.env.OSTLER_EGRESS_INSIDE;
const namespaces = ['--user', '--map-root-user', '--net', '--mount'];
const possible = INSIDE || spawnSync('unshare', [...namespaces, 'ip', 'link', 'set', 'lo', 'up']).status === 0;

function rerun() {
    const dir = mkdtempSync(path.join(tmpdir(), 'egress-'));
    writeFileSync(path.join(dir, 'resolv.conf'), 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\nsearch evil.test\n');
    const script = 'ip link set lo up && ip addr add 203.0.113.7/32 dev lo && mount --bind "$1" /etc/resolv.conf && shift && exec "$@"';
    const env = { ...process.env, OSTLER_EGRESS_INSIDE: dir };
    delete env.NODE_TEST_CONTEXT;
    const run = spawnSync('unshare', [...namespaces, 'sh', '-ec', script, 'sh', path.join(dir, 'resolv.conf'), process.execPath, '--test-reporter=tap', import.meta.filename], { env, encoding: 'utf8', timeout: 60000 });
    rmSync(dir, { recursive: true, force: true });
    return run;
}

if (!INSIDE) {
    test('nothing passes by name, redirect, rebinding or relay', { skip: !possible && 'this host lets nobody make user and network namespaces' }, () => {
        const run = rerun();
        assert.equal(run.status, 0, `${run.stdout}\n${run.stderr}`);
        assert.match(run.stdout, /# pass 7\b/);
    });
} else {
    inside();
}

function inside() {
    const PUBLIC = '203.0.113.7', queries = [], socket = path.join(INSIDE, 's');
    let dns, site, canary, proxy, touched = 0, records = [], waiting = [];

    // Answers from a script: each name has a list of answers, the last of which stays.
    const zone = {
        'ok.test': [[PUBLIC]],
        'rebind.test': [[PUBLIC], ['127.0.0.1']],
        'inside.test': [['127.0.0.1']],
        'mixed.test': [[PUBLIC, '127.0.0.1']],
        'localhost': [['127.0.0.1']],
    };

    function answer(query) {
        const labels = [];
        let at = 12;
        for (; query[at]; at += query[at] + 1) labels.push(query.toString('latin1', at + 1, at + 1 + query[at]));
        const name = labels.join('.').toLowerCase(), type = query.readUInt16BE(at + 1), question = query.subarray(12, at + 5);
        if (type === 1) queries.push(name);
        const answers = zone[name], found = answers && type === 1 ? (answers.length > 1 ? answers.shift() : answers[0]) : [];
        const head = Buffer.from([query[0], query[1], 0x81, answers ? 0x80 : 0x83, 0, 1, 0, found.length, 0, 0, 0, 0]);
        return Buffer.concat([head, question, ...found.map((a) => Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ...a.split('.').map(Number)]))]);
    }

    const decision = () => (records.length ? Promise.resolve(records.shift()) : new Promise((resolve) => waiting.push(resolve)));

    // One request through the proxy: its status and text.
    const get = (url) => new Promise((resolve, reject) => {
        const request = http.request({ socketPath: socket, path: url, headers: { host: new URL(url).host }, agent: false }, (response) => {
            let text = '';
            response.on('data', (chunk) => (text += chunk));
            response.on('end', () => resolve({ status: response.statusCode, location: response.headers.location, text }));
        });
        request.on('error', reject);
        request.end();
    });

    const connect = (authority) => new Promise((resolve, reject) => {
        const request = http.request({ socketPath: socket, method: 'CONNECT', path: authority, headers: { host: authority }, agent: false });
        request.on('connect', (response, stream) => resolve({ status: response.statusCode, stream }));
        request.on('error', reject);
        request.end();
    });

    before(async () => {
        dns = createSocket('udp4', (query, from) => dns.send(answer(query), from.port, from.address));
        await new Promise((resolve) => dns.bind(53, '127.0.0.1', resolve));
        site = http.createServer((request, response) => {
            if (request.url === '/away') response.writeHead(302, { location: 'http://off.test/' }).end();
            else response.end(`site ${request.headers.host}`);
        });
        await new Promise((resolve) => site.listen(80, PUBLIC, resolve));
        canary = net.createServer((stream) => {
            touched++;
            stream.destroy();
        });
        await new Promise((resolve) => canary.listen(80, '127.0.0.1', resolve));
        proxy = spawn(binary, ['egress', '--listen', socket, '--allow', 'ok.test,rebind.test,inside.test,mixed.test,gone.test,localhost'], { stdio: ['ignore', 'pipe', 'inherit'] });
        const lines = createInterface({ input: proxy.stdout });
        await new Promise((resolve) => lines.once('line', resolve));
        lines.on('line', (line) => (waiting.shift() ?? ((d) => records.push(d)))(JSON.parse(line)));
    });
    after(async () => {
        const ended = new Promise((resolve) => proxy.once('close', resolve));
        proxy.kill('SIGTERM');
        assert.equal(await ended, 0);
        site.closeAllConnections();
        for (const server of [site, canary, dns]) server.close();
        assert.equal(touched, 0, 'the canary was reached');
    });

    test('a listed name is looked up once and reached', async () => {
        assert.deepEqual(await get('http://ok.test/'), { status: 200, location: undefined, text: 'site ok.test' });
        assert.deepEqual(queries.splice(0), ['ok.test']);
        const d = await decision();
        assert.deepEqual([d.reason, d.host, d.address, d.bytes_down], ['allowed', 'ok.test', PUBLIC, 12]);
    });

    test('a host off the list is not even looked up', async () => {
        const refused = await get('http://secret-data.off.test/');
        assert.equal(refused.status, 403);
        assert.match(refused.text, /secret-data\.off\.test.*networking\.allowed_hosts/);
        assert.equal((await connect('off.test:80')).status, 403);
        assert.equal((await decision()).reason, 'host_not_allowed');
        assert.equal((await decision()).reason, 'host_not_allowed');
        assert.deepEqual(queries.splice(0), []);
    });

    test('the target of a redirect is checked like any other', async () => {
        const first = await get('http://ok.test/away');
        assert.deepEqual([first.status, first.location], [302, 'http://off.test/']);
        assert.equal((await get(first.location)).status, 403);
        assert.deepEqual([(await decision()).reason, (await decision()).reason], ['allowed', 'host_not_allowed']);
        queries.length = 0;
    });

    test('a name that turns to the inside is refused when it does', async () => {
        assert.equal((await get('http://rebind.test/')).text, 'site rebind.test');
        assert.equal((await get('http://rebind.test/')).status, 403);
        assert.deepEqual([(await decision()).reason, (await decision()).reason], ['allowed', 'address_not_allowed']);
        assert.deepEqual(queries.splice(0), ['rebind.test', 'rebind.test']);
    });

    test('a name that leads inside, or there too, is refused', async () => {
        for (const name of ['inside.test', 'mixed.test', 'localhost']) {
            assert.equal((await connect(`${name}:80`)).status, 403, name);
            const d = await decision();
            assert.deepEqual([d.reason, d.address], ['address_not_allowed', '127.0.0.1']);
        }
        queries.length = 0;
    });

    test("the host's search domains are left out", async () => {
        zone['gone.test.evil.test'] = [[PUBLIC]];
        assert.equal((await get('http://gone.test/')).status, 502);
        assert.equal((await decision()).reason, 'name_not_found');
        assert.deepEqual(queries.splice(0), ['gone.test']);
    });

    test('a CONNECT relayed inside a tunnel ends it', async () => {
        const { status, stream } = await connect('ok.test:80');
        assert.equal(status, 200);
        stream.on('error', () => {});
        stream.write('CONNECT off.test:80 HTTP/1.1\r\nHost: off.test\r\n\r\n');
        await new Promise((resolve) => stream.resume().once('close', resolve));
        assert.equal((await decision()).reason, 'sni_mismatch');
    });
}
