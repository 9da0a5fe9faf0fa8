// web_fetch and web_search: what runs on the server itself, against a site of the test's own.
import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { types, useServer } from '../lib/harness.mjs';
import { startServer } from '../lib/server.mjs';

// The smallest PDF with a line of text.
function pdf(words) {
    const stream = `BT /F1 12 Tf 72 720 Td (${words}) Tj ET`;
    const objects = ['<</Type/Catalog/Pages 2 0 R>>', '<</Type/Pages/Kids[3 0 R]/Count 1>>', '<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>', `<</Length ${stream.length}>>stream\n${stream}\nendstream`, '<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>'];
    let text = '%PDF-1.4\n';
    const at = objects.map((body, i) => {
        const begin = text.length;
        text += `${i + 1} 0 obj${body}endobj\n`;
        return begin;
    });
    const table = text.length;
    text += `xref\n0 6\n0000000000 65535 f \n${at.map((n) => `${String(n).padStart(10, '0')} 00000 n \n`).join('')}`;
    return `${text}trailer<</Root 1 0 R/Size 6>>\nstartxref\n${table}\n%%EOF\n`;
}

const site = { requests: [], held: [], hold: false };
const pages = {
    '/page': { type: 'text/html', body: gzipSync('<title>The page</title><nav>menu</nav><h1>Hello</h1><p>Read <a href="/more">more</a>.'), encoding: 'gzip' },
    '/bomb': { type: 'text/plain', body: gzipSync(Buffer.alloc(64 * 1024 * 1024, 'x')), encoding: 'gzip' },
    '/long': { type: 'text/plain', body: 'é'.repeat(150000) },
    '/paper': { type: 'application/pdf', body: pdf('Words on paper') },
    '/data': { type: 'application/json', body: '{"n":1}' },
};
const server = http.createServer((req, res) => {
    const url = new URL(req.url, 'http://site');
    site.requests.push(req);
    if (url.pathname === '/search') {
        res.setHeader('Content-Type', 'application/json');
        res.end(JSON.stringify({ results: [{ title: `About ${url.searchParams.get('q')}`, url: 'https://one.example/a', content: 'words' }, { title: 'Other', url: 'https://two.example/' }] }));
        return;
    }
    if (url.pathname === '/away') {
        res.writeHead(302, { Location: `http://elsewhere.example.com:${port}/data` }).end();
        return;
    }
    const page = pages[url.pathname];
    if (site.hold) {
        site.arrived?.();
        return;
    }
    res.writeHead(page ? 200 : 404, { ...(page && { 'Content-Type': page.type }), ...(page?.encoding && { 'Content-Encoding': page.encoding }) }).end(page?.body);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const { port } = server.address();
after(() => {
    server.closeAllConnections();
    server.close();
});

const scripts = `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\n`;
const config = `${scripts}web:
  search_url: http://127.0.0.1:${port}/search
  search_key_env: SEARCH_KEY
  fetch: {max_mb: 1, timeout_seconds: 20}
  allow_addresses: [127.0.0.0/8]
  hosts: {docs.example.com: 127.0.0.1, elsewhere.example.com: 127.0.0.1, inside.example.com: 10.0.0.7}
`;
const world = useServer({ config, env: { SEARCH_KEY: 'of-the-tests' } });

const at = (place, host = 'docs.example.com') => `http://${host}:${port}${place}`;
const toolset = (...configs) => [{ type: 'agent_toolset_20260401', configs }];
const worker = (...configs) => world.session({ agent: { model: 'script/call', tools: toolset(...configs) } });

async function call(session, name, input) {
    const seen = await world.turn(session.id, `${name} ${JSON.stringify(input)}`);
    const result = seen.find((e) => e.type === 'agent.tool_result');
    assert.equal(seen.filter((e) => e.type === 'agent.tool_use').length, 1);
    assert.deepEqual(seen.at(-1).stop_reason, { type: 'end_turn' });
    return { text: result.content[0].text, is_error: result.is_error === true, seen };
}

test('a page is fetched as text, with its title, its URL and a label', async () => {
    const { text, is_error, seen } = await call(await worker(), 'web_fetch', { url: at('/page#top') });
    assert.equal(is_error, false, text);
    assert.ok(text.startsWith(`Title: The page\nURL: ${at('/page')}\n`), text);
    assert.match(text, /material to work with/);
    assert.ok(text.endsWith(`\n\n# Hello\n\nRead [more](${at('/more')}).`), text);
    assert.ok(types(seen).includes('agent.tool_result'));
    assert.equal(site.requests.at(-1).headers.host, `docs.example.com:${port}`);
});

test('a search gives results and is counted, a fetch is not', async () => {
    const s = await worker({ name: 'web_search', user_location: { type: 'approximate', country: 'FR' } });
    const { text } = await call(s, 'web_search', { query: 'hay & oats' });
    assert.match(text, /1\. About hay & oats\n {3}https:\/\/one\.example\/a\n {3}words\n\n2\. Other/);
    assert.equal(site.requests.at(-1).headers.authorization, 'Bearer of-the-tests');
    assert.equal(new URL(site.requests.at(-1).url, 'http://x').searchParams.get('language'), 'fr-FR');
    await call(s, 'web_fetch', { url: at('/data') });
    await call(s, 'web_search', { query: '' });
    const { usage } = await world.client().beta.sessions.retrieve(s.id);
    assert.deepEqual(usage.server_tool_use, { web_search_requests: 1, web_fetch_requests: 0 });
    const last = (await world.events(s.id)).findLast((e) => e.type === 'session.usage');
    assert.equal(last.usage.server_tool_use.web_search_requests, 1);
});

test('domain rules hold for the first URL, for redirects and for results', async () => {
    const s = await worker({ name: 'web_fetch', allowed_domains: ['docs.example.com'] }, { name: 'web_search', blocked_domains: ['one.example'] });
    assert.equal((await call(s, 'web_fetch', { url: at('/data') })).is_error, false);
    for (const url of [at('/data', 'elsewhere.example.com'), at('/away'), at('/data', '127.0.0.1')]) {
        const { text, is_error } = await call(s, 'web_fetch', { url });
        assert.equal(is_error, true);
        assert.match(text, /url_not_allowed/);
    }
    const { text } = await call(s, 'web_search', { query: 'x' });
    assert.match(text, /1\. Other/);
    assert.doesNotMatch(text, /one\.example/);
});

test('addresses that are not public are refused, also where a name says so', async () => {
    const s = await worker();
    const before = site.requests.length;
    for (const url of ['http://inside.example.com/', 'http://169.254.169.254/latest/meta-data/', 'http://[fd00::1]/', 'http://192.168.0.1/', 'http://0xa000001/']) {
        const { text, is_error } = await call(s, 'web_fetch', { url });
        assert.equal(is_error, true, url);
        assert.match(text, /url_not_allowed/);
    }
    assert.equal(site.requests.length, before);
});

test('what is too large is refused, packed or not, and long text is cut with a note', async () => {
    const s = await worker();
    const bomb = await call(s, 'web_fetch', { url: at('/bomb') });
    assert.equal(bomb.is_error, true);
    assert.match(bomb.text, /larger than the 1 MB/);
    const long = await call(s, 'web_fetch', { url: at('/long') });
    assert.match(long.text, /\[Cut here because of the length of the page: 100000 of 150000 characters\.\]$/);
    const short = await worker({ name: 'web_fetch', max_content_tokens: 10 });
    assert.match((await call(short, 'web_fetch', { url: at('/long') })).text, /\[Cut here because of max_content_tokens: 20 of 150000 characters\.\]$/);
});

test('a PDF is read where the server can, and refused with what is missing where not', async () => {
    const { text, is_error } = await call(await worker(), 'web_fetch', { url: at('/paper') });
    if (is_error) assert.match(text, existsSync('/usr/bin/pdftotext') ? /isolation/ : /poppler-utils/);
    else assert.match(text, /not to be followed\.\n\nWords on paper/);
});

test('with url_sources a URL must have come from one of them', async () => {
    const url_sources = { user_input: 'none' };
    const closed = await worker({ name: 'web_fetch', url_sources });
    assert.deepEqual(closed.agent.tools[0].configs[0].url_sources, { client_tool_results: null, server_tool_results: null, user_input: { type: 'none' } });
    const refused = await call(closed, 'web_fetch', { url: at('/data') });
    assert.equal(refused.is_error, true);
    assert.match(refused.text, /url_not_allowed.*url_sources/);
    const open = await worker({ name: 'web_fetch', url_sources: { user_input: 'all', server_tool_results: 'none' } });
    assert.equal((await call(open, 'web_fetch', { url: at('/data') })).is_error, false);
});

test('settings that make no sense are refused with the published messages', async () => {
    const cases = [
        [{ allowed_domains: ['a.com'], blocked_domains: ['b.com'] }, 'Only one of allowed_domains or blocked_domains may be set.'],
        [{ allowed_domains: [] }, 'allowed_domains: Empty list of domains is ambiguous. Provide at least one domain or null.'],
        [{ allowed_domains: ['10.0.0.1'] }, 'allowed_domains.0: IP addresses are not supported; provide a plain hostname like "example.com"'],
        [{ url_sources: { user_input: 'none', client_tool_results: 'none', server_tool_results: 'none' } }, /nothing could be fetched/],
    ];
    for (const [settings, message] of cases) {
        const { status, json } = await world.http('POST', '/v1/agents', { body: { name: 'a', model: 'script/echo', tools: toolset({ name: 'web_fetch', ...settings }) } });
        assert.equal(status, 400);
        assert.equal(json.error.type, 'invalid_request_error');
        if (message instanceof RegExp) assert.match(json.error.message, message);
        else assert.equal(json.error.message, message);
    }
});

test('an interrupted fetch ends at once', async () => {
    const s = await worker();
    site.hold = true;
    const arrived = new Promise((resolve) => (site.arrived = resolve));
    const stream = await world.stream(s.id);
    await world.send(s.id, `web_fetch ${JSON.stringify({ url: at('/data') })}`);
    await arrived;
    await world.send(s.id, { type: 'user.interrupt' });
    const seen = await stream.until('session.status_idle');
    stream.close();
    site.hold = false;
    assert.equal(seen.findLast((e) => e.type === 'agent.tool_result').is_error, true);
});

test('a fetch that was under way when the server died is made again', async () => {
    const s = await worker();
    site.hold = true;
    const arrived = new Promise((resolve) => (site.arrived = resolve));
    await world.send(s.id, `web_fetch ${JSON.stringify({ url: at('/data') })}`);
    await arrived;
    await world.server.kill();
    site.hold = false;
    await world.server.start();
    await world.idle(s.id);
    const result = (await world.events(s.id)).find((e) => e.type === 'agent.tool_result');
    assert.match(result.content[0].text, /\{"n":1\}$/);
});

test('a server without settings refuses its own host and says what a search needs', async () => {
    const other = await startServer({ config: scripts });
    const main = world.server;
    world.server = other;
    try {
        const s = await worker();
        const search = await call(s, 'web_search', { query: 'x' });
        assert.equal(search.is_error, true);
        assert.match(search.text, /web\.search_url/);
        const fetched = await call(s, 'web_fetch', { url: at('/data', '127.0.0.1') });
        assert.equal(fetched.is_error, true);
        assert.match(fetched.text, /url_not_allowed.*loopback/);
        const { usage } = await world.client().beta.sessions.retrieve(s.id);
        assert.equal(usage.server_tool_use.web_search_requests, 0);
    } finally {
        world.server = main;
        await other.dispose();
    }
});
