// The network of sandboxes, through the whole server: what the environment allows works, everything else ends at the
// egress proxy, with a record. A canary stands on an address that nothing may reach, and on a port beside the site.
// (The proxy by itself, with a resolver that lies: egress.test.mjs. Ways around it: tests/sandbox.)
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { useServer } from '../lib/harness.mjs';
import { binary, freePort } from '../lib/server.mjs';
import { TOOLSET } from '../lib/e2e.mjs';

const dir = mkdtempSync(path.join(tmpdir(), 'ostler-network-'));
const [plain, tls, beside] = [await freePort(), await freePort(), await freePort()];
const seen = [], canaries = [];
let touched = [];

// A certificate authority of the test's own.
const openssl = (...args) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });
openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=test authority', '-keyout', 'ca.key', '-out', 'ca.pem');
openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=ok.test', '-keyout', 'site.key', '-out', 'site.csr');
writeFileSync(path.join(dir, 'ext'), 'subjectAltName=DNS:ok.test,DNS:other.test\n');
openssl('x509', '-req', '-in', 'site.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-extfile', 'ext', '-out', 'site.pem');
const file = (name) => readFileSync(path.join(dir, name), 'utf8');

function serveSite(request, response) {
    seen.push(`${request.headers.host} ${request.url}`);
    const away = { '/away': `http://canary.test:${plain}/`, '/away-address': `http://127.0.0.2:${plain}/`, '/away-port': `http://ok.test:${beside}/` }[request.url];
    if (away) response.writeHead(302, { location: away }).end();
    else response.end(`site says ${request.headers.host}\n`);
}
const site = http.createServer(serveSite), secure = https.createServer({ key: file('site.key'), cert: file('site.pem') }, serveSite);

const config = `script_dir: ${path.resolve(import.meta.dirname, '../contract/scripts')}
egress:
  allow_addresses: [127.0.0.1/32]
  hosts: {ok.test: 127.0.0.1, other.test: 127.0.0.1, off.test: 127.0.0.1, canary.test: 127.0.0.2, npm.test: 127.0.0.1, apt.test: 127.0.0.1}
  ports: [${plain}, ${tls}]
  package_hosts: {npm: [npm.test], apt: [apt.test]}
`;
const world = useServer({ config });

before(async () => {
    const listen = (server, port, host) => new Promise((resolve, reject) => server.once('error', reject).listen(port, host, resolve));
    await listen(site, plain, '127.0.0.1');
    await listen(secure, tls, '127.0.0.1');
    for (const [port, host] of [[plain, '127.0.0.2'], [tls, '127.0.0.2'], [beside, '127.0.0.1']]) {
        const canary = createServer((socket) => {
            touched.push(`${host}:${port}`);
            socket.end('HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\ncanary');
        });
        canaries.push(canary);
        await listen(canary, port, host);
    }
});
after(() => {
    for (const server of [site, secure, ...canaries]) server.close();
    secure.closeAllConnections();
    site.closeAllConnections();
    rmSync(dir, { recursive: true, force: true });
});

const open = (networking) => world.session({ agent: { model: 'script/shell', tools: TOOLSET }, environment: { config: { type: 'cloud', networking } } });
const limited = (...allowed_hosts) => open({ type: 'limited', allowed_hosts });

// One bash call: {text, error, reason, id}.
async function run(session, command) {
    const events = await world.turn(session.id, `run: ${command}`);
    const result = events.map((e) => e.value ?? e).findLast((e) => e.type === 'agent.tool_result');
    return { text: result.content.map((c) => c.text ?? '').join(''), error: result.is_error === true, reason: result.failure?.reason, id: result.tool_use_id };
}

const records = async (session, query = '') => (await world.http('GET', `/v1/sessions/${session.id}/egress${query}`, { beta: null })).json;

// Records come behind the result: until there are so many.
async function recorded(session, n, query = '') {
    for (;;) {
        const { data } = await records(session, query);
        if (data.length >= n) return data;
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

const curl = 'curl -sS --max-time 10';
const trust = () => `cat > /tmp/ca.pem <<'E'\n${file('ca.pem')}E\n`;

function proxyPid() {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
        try {
            if (Number(readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ')[1]) !== world.server.pid) continue;
            if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')[1] === 'egress') return Number(pid);
        } catch {
            // gone meanwhile
        }
    }
    return null;
}

describe('limited networking', () => {
    let session;
    before(async () => {
        session = await limited('ok.test', 'canary.test');
    });

    test('a host on the list is reached by HTTP and through a tunnel with its own certificate', async () => {
        const one = await run(session, `${curl} http://ok.test:${plain}/one`);
        assert.equal(one.text, `site says ok.test:${plain}`);
        const two = await run(session, `${trust()}${curl} --cacert /tmp/ca.pem https://ok.test:${tls}/two`);
        assert.equal(two.text, `site says ok.test:${tls}`);
        const data = await recorded(session, 2);
        assert.deepEqual(data.map((d) => [d.type, d.decision, d.reason, d.protocol, d.host, d.port, d.address, d.tool_use_id]), [
            ['egress', 'allowed', null, 'http', 'ok.test', plain, '127.0.0.1', one.id],
            ['egress', 'allowed', null, 'connect', 'ok.test', tls, '127.0.0.1', two.id],
        ]);
        assert.ok(data[1].bytes_down > 500 && data[1].bytes_up > 200, 'the tunnel\'s bytes are counted');
    });

    test('a refused host is named with the remedy in the result, in the log and in the record', async () => {
        const { text, error, reason, id } = await run(session, `${curl} -f http://off.test:${plain}/`);
        assert.ok(error);
        assert.equal(reason, 'egress_denied');
        assert.match(text, /off\.test/);
        assert.match(text, /networking\.allowed_hosts/);
        const data = await recorded(session, 1, '?decision=denied');
        assert.deepEqual(data.map((d) => [d.host, d.port, d.reason, d.address, d.tool_use_id]), [['off.test', plain, 'host_not_allowed', null, id]]);
        assert.match(world.server.log, /refused a connection.*off\.test/);
    });

    test('a call that copes with a refusal has not failed', async () => {
        const { text, error, reason } = await run(session, `${curl} -o /dev/null -w '%{http_code}' http://off.test:${plain}/ || true`);
        assert.deepEqual([text, error, reason], ['403', false, undefined]);
    });

    test('a call that fails without a refusal has no such reason', async () => {
        const { error, reason } = await run(session, 'false');
        assert.deepEqual([error, reason], [true, undefined]);
    });

    const ways = {
        'a connection by address': `${curl} --noproxy '*' http://127.0.0.2:${plain}/`,
        'a public address': `${curl} --noproxy '*' http://203.0.113.9/`,
        'a name, without the proxy': `${curl} --noproxy '*' http://canary.test:${plain}/`,
        'the resolver': 'getent hosts canary.test',
        'the address, asked of the proxy': `${curl} -f http://127.0.0.2:${plain}/`,
        'a tunnel to the address': `${curl} -p http://127.0.0.2:${plain}/`,
        'the address as a number': `${curl} -f --path-as-is -x http://127.0.0.1:3128 http://2130706434:${plain}/`,
        'the address in hexadecimal': `${curl} -f http://0x7f000002:${plain}/`,
        'the address as IPv6': `${curl} -f -g 'http://[::ffff:127.0.0.2]:${plain}/'`,
        'an allowed name that leads to a forbidden address': `${curl} -f http://canary.test:${plain}/`,
        'a tunnel to an allowed name that leads there': `${curl} -kp https://canary.test:${tls}/`,
        'a name that is not on the list': `${curl} -f http://off.test:${plain}/`,
        'a redirect to a name': `${curl} -fL http://ok.test:${plain}/away`,
        'a redirect to an address': `${curl} -fL http://ok.test:${plain}/away-address`,
        'a redirect to a port': `${curl} -fL http://ok.test:${plain}/away-port`,
        'another Host than the URL\'s': `${curl} -f -H 'Host: canary.test:${plain}' http://ok.test:${plain}/`,
        'another name in the hello': `openssl s_client -proxy 127.0.0.1:3128 -connect ok.test:${tls} -servername canary.test < /dev/null`,
        'a hello without a name': `openssl s_client -proxy 127.0.0.1:3128 -connect ok.test:${tls} -noservername < /dev/null`,
        'a tunnel that is no TLS': `${curl} -f -p http://ok.test:${plain}/`,
        'a tunnel to a port beside the site': `${curl} -fk https://ok.test:${beside}/`,
        'a request to that port': `${curl} -f http://ok.test:${beside}/`,
        'a second host on a kept connection': `${curl} -f http://ok.test:${plain}/ --next -sS -f http://off.test:${plain}/`,
        'a request behind the end of a body': `python3 -c 'import socket,sys\ns=socket.create_connection(("127.0.0.1",3128))\ng="GET http://off.test:${plain}/ HTTP/1.1\\r\\nHost: off.test:${plain}\\r\\nConnection: close\\r\\n\\r\\n"\ns.sendall(("POST http://ok.test:${plain}/ HTTP/1.1\\r\\nHost: ok.test:${plain}\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n"+g).encode())\nb=b""\nfor x in iter(lambda:s.recv(9999),b""): b+=x\nprint(b.decode())\nsys.exit(b.count(b" 403 "))'`,
        'SOCKS': `${curl} --socks5-hostname 127.0.0.1:3128 http://canary.test:${plain}/`,
        'the user information trick': `${curl} -f 'http://ok.test:80@canary.test:${plain}/'`,
        'a name with a dot at its end': `${curl} -f http://canary.test.:${plain}/`,
        'a UDP query': `python3 -c 'import socket\ns=socket.socket(2,2)\ns.sendto(b"q",("127.0.0.2",${plain}))\ns.settimeout(1)\ns.recv(1)'`,
    };
    for (const [name, command] of Object.entries(ways)) {
        test(`no way out: ${name}`, async () => {
            touched = [];
            const { text, error } = await run(session, command);
            assert.deepEqual(touched, []);
            assert.ok(error, text);
            assert.doesNotMatch(text, /canary$/);
        });
    }

    test('two sessions do not share what they may', async () => {
        const other = await limited('other.test');
        const [mine, theirs] = [await run(session, `${curl} -f http://other.test:${plain}/`), await run(other, `${curl} -f http://ok.test:${plain}/`)];
        assert.deepEqual([mine.reason, theirs.reason], ['egress_denied', 'egress_denied']);
        assert.match((await run(other, `${curl} -f http://other.test:${plain}/`)).text, /site says other/);
        assert.ok((await records(other)).data.every((d) => d.host !== 'canary.test'), 'records are the session\'s own');
    });

    test('changes of an environment leave its sessions alone', async () => {
        await world.client().beta.environments.update(session.environment_id, { config: { type: 'cloud', networking: { type: 'limited', allowed_hosts: ['ok.test', 'off.test'] } } });
        assert.equal((await run(session, `${curl} -f http://off.test:${plain}/`)).reason, 'egress_denied');
    });

    test('pages of records follow each other and are all of them', async () => {
        const all = (await records(session, '?limit=1000')).data, paged = [];
        for (let page = ''; ;) {
            const { data, next_page: next } = await records(session, `?limit=7${page}`);
            paged.push(...data);
            if (!next) break;
            page = `&page=${encodeURIComponent(next)}`;
        }
        assert.ok(all.length > 14);
        assert.deepEqual(paged, all);
        assert.equal((await world.http('GET', `/v1/sessions/${session.id}/egress?decision=maybe`)).status, 400);
    });

    test('decisions are counted', async () => {
        const { text } = await world.http('GET', '/metrics');
        const count = (reason) => Number(text.match(new RegExp(`^ostler_egress_connections_total\\{reason="${reason}"\\} (\\d+)$`, 'm'))[1]);
        for (const reason of ['allowed', 'host_not_allowed', 'address_not_allowed', 'port_not_allowed', 'sni_mismatch']) assert.ok(count(reason) > 0, reason);
    });
});

test('a list that is empty lets nothing out, package managers only theirs', async () => {
    const none = await limited(), managers = await open({ type: 'limited', allowed_hosts: [], allow_package_managers: true });
    assert.equal((await run(none, `${curl} -f http://npm.test:${plain}/`)).reason, 'egress_denied');
    assert.equal((await run(managers, `${curl} -f http://ok.test:${plain}/`)).reason, 'egress_denied');
    seen.length = 0;
    await run(managers, `npm view thing --registry http://npm.test:${plain} --fetch-retries 0 2>&1 | tail -1; ${curl} -f http://npm.test:${plain}/direct`);
    assert.ok(seen.some((s) => s === `npm.test:${plain} /direct`));
    const apt = 'mkdir -p /tmp/apt/lists /tmp/apt/cache && echo "deb [trusted=yes] http://apt.test:PORT/ ./" > /tmp/apt/list && apt-get -o Dir::Etc::SourceList=/tmp/apt/list -o Dir::Etc::SourceParts=/none -o Dir::State::Lists=/tmp/apt/lists -o Dir::Cache=/tmp/apt/cache -o APT::Sandbox::User= -o Acquire::Retries=0 update';
    await run(managers, apt.replace('PORT', plain));
    if (spawnSync('apt-get', ['--version']).status === 0) assert.ok(seen.some((s) => s.startsWith(`apt.test:${plain} `)), seen.join());
    assert.equal((await run(managers, apt.replace('PORT', plain).replace('apt.test', 'off.test'))).error, true);
    assert.ok(!seen.some((s) => s.startsWith('off.test')));
});

test('unrestricted networking reaches any port and name, and no private address', async () => {
    touched = [];
    const session = await open({ type: 'unrestricted' });
    assert.match((await run(session, `${curl} -f http://off.test:${plain}/`)).text, /site says off/);
    assert.match((await run(session, `${curl} -f http://127.0.0.1:${plain}/ -x http://127.0.0.1:3128 --noproxy ''`)).text, /site says/, 'an address that is allowed');
    for (const target of [`127.0.0.2:${plain}`, '10.0.0.1', '192.168.1.1', '172.16.0.1', '169.254.169.254', '100.64.0.1', `canary.test:${plain}`]) {
        const { reason, text } = await run(session, `${curl} -f http://${target}/`);
        assert.equal(reason, 'egress_denied', `${target}: ${text}`);
    }
    assert.deepEqual(touched, []);
});

describe('when processes die', () => {
    test('a killed proxy comes back, and the sandbox goes on', async () => {
        const session = await limited('ok.test');
        await run(session, `export KEPT=yes; ${curl} -f http://ok.test:${plain}/`);
        const pid = proxyPid();
        process.kill(pid, 'SIGKILL');
        const { text } = await run(session, `${curl} -f http://ok.test:${plain}/again; echo $KEPT`);
        assert.equal(text, `site says ok.test:${plain}\nyes`);
        assert.notEqual(proxyPid(), pid);
    });

    test('a hand that outlives its server has its network back, with what waited meanwhile', async () => {
        const session = await limited('ok.test');
        await run(session, `export KEPT=yes; ${curl} -f http://ok.test:${plain}/before`);
        seen.length = 0;
        await run(session, `(while ! [ -e /tmp/go ]; do read -t 0.05 < /dev/zero || true; done; curl -s --max-time 60 http://ok.test:${plain}/waited > /tmp/waited) > /dev/null 2>&1 & echo started`);
        await world.server.kill();
        await world.server.start();
        const { text } = await run(session, `touch /tmp/go; ${curl} -f http://ok.test:${plain}/after; wait; cat /tmp/waited; echo $KEPT`);
        assert.equal(text, `site says ok.test:${plain}\nsite says ok.test:${plain}\nyes`);
        assert.equal((await run(session, `${curl} -f http://off.test:${plain}/`)).reason, 'egress_denied');
    });

    test('the proxy ends with its server', async () => {
        const pid = proxyPid();
        assert.ok(pid);
        await world.server.stop();
        assert.throws(() => process.kill(pid, 0));
        await world.server.start();
    });
});

test('ostler run in a limited environment shows a refused host by name, and reaches one that is allowed', async () => {
    const project = path.join(dir, 'project'), env = { ...world.server.env, OSTLER_BASE_URL: world.server.url, OSTLER_API_KEY: world.server.key };
    mkdirSync(project, { recursive: true });
    const go = async (command, ...more) => (await promisify(execFile)(binary, ['run', `run: ${command}`, '--dir', project, '--model', 'script/shell', ...more], { cwd: dir, env })).stdout;
    const refused = await go(`seq 40; ${curl} -f http://off.test:${plain}/`);
    assert.match(refused, /\[egress denied: off\.test:\d+\. .*networking\.allowed_hosts/);
    assert.match(refused, /refused {3}off\.test:\d+ \(host_not_allowed\).*--allow/);
    const allowed = await go(`${curl} -f http://off.test:${plain}/ | tr a-z A-Z`, '--allow', 'ok.test, off.test');
    assert.match(allowed, /SITE SAYS OFF\.TEST/);
    assert.doesNotMatch(allowed, /refused/);
});

test('the canary sings when it is reached', async () => {
    touched = [];
    for (const [host, port] of [['127.0.0.2', plain], ['127.0.0.2', tls], ['127.0.0.1', beside]]) await fetch(`http://${host}:${port}/`);
    assert.equal(touched.length, 3);
});
