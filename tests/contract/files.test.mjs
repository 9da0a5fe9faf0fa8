// /v1/files in both published shapes: uploads, lists, metadata, content, deletion, expiry.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, watch } from 'node:fs';
import { connect } from 'node:net';
import { once } from 'node:events';
import { request } from 'node:http';
import { DatabaseSync } from 'node:sqlite';
import path from 'node:path';
import { toFile } from '@anthropic-ai/sdk';
import { toFile as toFile0120 } from 'sdk-0120';
import { BETA, PATIENCE_MS, refused, SDKS, useServer } from '../lib/harness.mjs';

const OLD = 'files-api-2025-04-14';
const UNKNOWN = 'file_011111111111111111111111';
const world = useServer();
const make = { '1.11.0': toFile, '0.120.0': toFile0120 };

const upload = async (sdk, text, name, options, extra = {}) => world.client(sdk).beta.files.upload({ file: await make[sdk](Buffer.from(text), name, options), ...extra });

// A form by hand: [head, body] pairs.
function form(parts, { boundary = 'b0', end = `--${boundary}--\r\n` } = {}) {
    const pieces = parts.map(([head, body]) => `--${boundary}\r\n${head}\r\n\r\n${body}\r\n`);
    return Buffer.from(pieces.join('') + end);
}
const CD = 'Content-Disposition: form-data; ';
const filePart = (params = 'filename="a.txt"', body = 'data') => [`${CD}name="file"; ${params}`, body];
const post = (body, { type = 'multipart/form-data; boundary=b0', beta = null, ...rest } = {}) => world.http('POST', '/v1/files', { body, beta, ...rest, headers: { 'content-type': type, ...rest.headers } });

const blobPath = (text) => {
    const name = createHash('sha256').update(text).digest('hex');
    return path.join(world.server.data, 'blobs', name.slice(0, 2), name.slice(2));
};

// The data directory's database, beside the running server: for what the API cannot do to a file.
function sql(text, ...values) {
    const db = new DatabaseSync(path.join(world.server.data, 'ostler.db'));
    try {
        db.exec('PRAGMA busy_timeout = 10000; PRAGMA foreign_keys = ON');
        return db.prepare(text).run(...values);
    } finally {
        db.close();
    }
}

// Waits until a file is gone: for changes of its directory, with a turn of the clock as the net.
async function gone(file) {
    const deadline = Date.now() + PATIENCE_MS;
    const watcher = watch(path.dirname(file));
    try {
        while (existsSync(file)) {
            assert.ok(Date.now() < deadline, `${file} is still there`);
            const net = new AbortController();
            await Promise.race([once(watcher, 'change', { signal: net.signal }).catch(() => {}), new Promise((resolve) => setTimeout(resolve, 100))]);
            net.abort();
        }
    } finally {
        watcher.close();
    }
}

for (const sdk of Object.keys(SDKS)) {
    describe(`SDK ${sdk}`, () => {
        test('a file is uploaded, looked at, listed and deleted', async () => {
            const client = world.client(sdk);
            const made = await upload(sdk, 'some text', 'notes.txt', { type: 'text/plain' });
            assert.equal(made.type, 'file');
            assert.equal(made.filename, 'notes.txt');
            assert.equal(made.mime_type, 'text/plain');
            assert.equal(made.size_bytes, 9);
            assert.equal(made.downloadable, false);
            assert.equal('expires_at' in made, sdk === '1.11.0', 'the older shape does not know expires_at');
            assert.deepEqual(await client.beta.files.retrieveMetadata(made.id), made);
            const listed = [];
            for await (const file of client.beta.files.list()) listed.push(file);
            assert.deepEqual(listed.find((file) => file.id === made.id), made);
            assert.deepEqual(await client.beta.files.delete(made.id), { id: made.id, type: 'file_deleted' });
            await refused(client.beta.files.retrieveMetadata(made.id), 404, new RegExp(made.id));
            await refused(client.beta.files.delete(made.id), 404);
        });

        test('an uploaded file cannot be downloaded', async () => {
            const made = await upload(sdk, 'secret', 'x.bin');
            await refused(world.client(sdk).beta.files.download(made.id), 400, /cannot be downloaded/, 'file_not_downloadable');
        });

        test('a list is walked page by page, newest first', async () => {
            const client = world.client(sdk);
            const ids = [];
            for (let i = 0; i < 5; i++) ids.unshift((await upload(sdk, `page ${i}`, `page-${i}.txt`)).id);
            const seen = [];
            for await (const file of client.beta.files.list({ limit: 2 })) seen.push(file.id);
            assert.deepEqual(seen.slice(0, 5), ids);
            assert.equal(new Set(seen).size, seen.length);
        });

        test('a list can be emptied while it is walked', async () => {
            const client = world.client(sdk);
            for (let i = 0; i < 5; i++) await upload(sdk, `empty ${i}`, `empty-${i}.txt`);
            for await (const file of client.beta.files.list({ limit: 2 })) await client.beta.files.delete(file.id);
            assert.equal((await client.beta.files.list()).data.length, 0);
        });

        test('names come through as they are', async () => {
            for (const name of ['höhe 🐎.txt', "a'b & c;d=e,f.txt", '100%.txt', 'a b.tar.gz']) {
                const made = await upload(sdk, 'x', name);
                assert.equal(made.filename, name);
            }
        });
    });
}

describe('the GA shape', () => {
    test('the plain resource works without any beta header', async () => {
        const client = world.client('1.11.0');
        const made = await client.files.upload({ file: await toFile(Buffer.from('plain'), 'plain.md'), expires_in_seconds: 3600 });
        assert.equal(made.mime_type, 'text/markdown');
        assert.equal(Date.parse(made.expires_at) - Date.parse(made.created_at), 3600 * 1000);
        assert.equal('scope' in made, false);
        assert.deepEqual(await client.files.retrieveMetadata(made.id), made);
        await client.files.delete(made.id);
    });

    test('ids select files, in one page', async () => {
        const client = world.client('1.11.0');
        const files = [];
        for (const text of ['one', 'two', 'three']) files.unshift(await client.files.upload({ file: await toFile(Buffer.from(text), `${text}.txt`) }));
        const [three, , one] = files;
        const page = await client.files.list({ ids: [one.id, UNKNOWN, three.id, one.id, 'rubbish'] });
        assert.deepEqual(page.data.map((f) => f.id), [three.id, one.id]);
        assert.equal(page.next_page, null);
        await refused(client.files.list({ ids: [one.id], limit: 5 }), 400, /ids.*limit/);
        await refused(client.files.list({ ids: [one.id], page: 'x' }), 400, /page|ids/);
        const many = Array.from({ length: 101 }, (_, i) => `file_${String(i).padStart(24, '0')}`);
        await refused(client.files.list({ ids: many }), 400, /ids.*100/);
        assert.deepEqual((await client.files.list({ ids: [...many.slice(0, 99), one.id, one.id] })).data.map((f) => f.id), [one.id]);
    });

    test('the scope is shown to who knows the betas', async () => {
        const made = await upload('1.11.0', 'scope', 's.txt');
        assert.equal('scope' in made, false);
        const [file] = (await world.client('1.11.0').beta.files.list({ ids: [made.id], betas: [BETA] })).data;
        assert.equal(file.scope, null);
    });
});

describe('the older shape', () => {
    const list = (query) => world.http('GET', `/v1/files?${query}`, { beta: OLD });

    test('pages go both ways by ids', async () => {
        const ids = [];
        for (let i = 0; i < 5; i++) ids.unshift((await upload('0.120.0', `both ${i}`, `both-${i}.txt`)).id);
        const page = async (query) => {
            const { json } = await list(query);
            return [json.data.map((f) => ids.indexOf(f.id)), json.has_more];
        };
        assert.deepEqual(await page(`limit=2&after_id=${ids[0]}`), [[1, 2], true]);
        assert.deepEqual(await page(`limit=2&before_id=${ids[4]}`), [[2, 3], true]);
        assert.deepEqual(await page(`limit=4&before_id=${ids[4]}`), [[0, 1, 2, 3], false]);
        assert.deepEqual(await page(`before_id=${ids[0]}`), [[], false]);
        const empty = await list(`after_id=${'file_' + '0'.repeat(22)}`);
        assert.deepEqual(empty.json, { data: [], has_more: false, first_id: null, last_id: null });
    });

    test('walking backwards with the SDK sees each once', async () => {
        const client = world.client('0.120.0');
        const all = [];
        for await (const file of client.beta.files.list({ limit: 3 })) all.push(file.id);
        const back = [];
        for await (const file of client.beta.files.list({ limit: 3, before_id: all.at(-1) })) back.push(file.id);
        assert.deepEqual(back.toSorted(), all.slice(0, -1).toSorted());
    });

    test('both directions at once, or an id of another kind, are refused', async () => {
        assert.match((await list(`after_id=${UNKNOWN}&before_id=${UNKNOWN}`)).text, /before_id/);
        assert.match((await list('after_id=sesn_0111')).text, /after_id/);
    });

    test('scope_id needs the managed-agents beta as well', async () => {
        const answer = await list('scope_id=sesn_011111111111111111111111');
        assert.equal(answer.status, 400);
        assert.match(answer.json.error.message, /anthropic-beta.*managed-agents-2026-04-01/);
        const both = await world.http('GET', '/v1/files?scope_id=sesn_011111111111111111111111', { beta: `${OLD},${BETA}` });
        assert.deepEqual(both.json.data, []);
    });
});

describe('contents', () => {
    test('equal contents are kept once and live as long as one file has them', async () => {
        const text = `shared ${process.pid}`;
        const [a, b] = [await upload('1.11.0', text, 'a.txt'), await upload('0.120.0', text, 'b.txt')];
        assert.equal(readFileSync(blobPath(text), 'utf8'), text);
        await world.client().beta.files.delete(a.id);
        await world.client().beta.files.retrieveMetadata(b.id);
        assert.ok(existsSync(blobPath(text)));
        await world.client().beta.files.delete(b.id);
        await gone(blobPath(text));
        const again = await upload('1.11.0', text, 'again.txt');
        assert.equal(readFileSync(blobPath(text), 'utf8'), text);
        await world.client().beta.files.delete(again.id);
    });

    test('a file that may be downloaded comes byte by byte, as an attachment', async () => {
        for (const sdk of Object.keys(SDKS)) {
            const bytes = Buffer.from(Array.from({ length: 300000 }, (_, i) => (i * 31) % 256));
            const made = await world.client(sdk).beta.files.upload({ file: await make[sdk](bytes, 'höhe.html', { type: 'text/html' }) });
            sql('UPDATE file SET downloadable = 1 WHERE id = ?', made.id);
            const response = await world.client(sdk).beta.files.download(made.id);
            assert.deepEqual(Buffer.from(await response.arrayBuffer()), bytes);
            assert.equal(response.headers.get('content-type'), 'text/html');
            assert.equal(response.headers.get('content-disposition'), "attachment; filename*=UTF-8''h%C3%B6he.html");
            assert.equal(response.headers.get('x-content-type-options'), 'nosniff');
            assert.equal(response.headers.get('content-length'), '300000');
        }
    });

    test('an empty file is a file', async () => {
        const answer = await post(form([filePart('filename="empty"', '')]));
        assert.equal(answer.status, 200, answer.text);
        assert.equal(answer.json.size_bytes, 0);
        sql('UPDATE file SET downloadable = 1 WHERE id = ?', answer.json.id);
        const content = await world.http('GET', `/v1/files/${answer.json.id}/content`);
        assert.equal(content.status, 200);
        assert.equal(content.text, '');
    });

    test('the files of a session are found by its id and go with it', async () => {
        const session = await world.session();
        const client = world.client();
        const text = `made by ${session.id}`;
        const made = await upload('1.11.0', text, 'result.txt');
        sql('UPDATE file SET scope = ?, downloadable = 1 WHERE id = ?', session.id, made.id);
        for (const sdk of Object.keys(SDKS)) {
            const { data } = await world.client(sdk).beta.files.list({ scope_id: session.id, betas: [BETA] });
            assert.deepEqual(data.map((f) => [f.id, f.scope]), [[made.id, { type: 'session', id: session.id }]]);
        }
        assert.equal((await client.beta.files.list({ scope_id: session.id })).data.length, 1, 'the GA shape needs no beta');
        assert.deepEqual((await client.beta.files.list({ scope_id: session.id, ids: [UNKNOWN] })).data, []);
        await client.beta.sessions.delete(session.id);
        await refused(client.beta.files.retrieveMetadata(made.id), 404);
        await world.server.restart();
        await gone(blobPath(text));
    });
});

describe('expiry', () => {
    const HOUR = 3600n * 1000000n;
    const now = () => BigInt(Date.now()) * 1000n;

    test('an expired file can be looked at for 30 days, its content not at all', async () => {
        const client = world.client('1.11.0');
        const text = `short-lived ${process.pid}`;
        const made = await client.files.upload({ file: await toFile(Buffer.from(text), 'short.txt'), expires_in_seconds: 7776000 });
        assert.ok(Date.parse(made.expires_at) > Date.now() + 7775000 * 1000);
        sql('UPDATE file SET expires_us = ?, downloadable = 1 WHERE id = ?', now() - 1n, made.id);
        await refused(client.files.download(made.id), 404, /expired/, 'file_expired');
        assert.equal((await client.files.retrieveMetadata(made.id)).size_bytes, text.length);
        assert.equal((await client.files.list({ ids: [made.id] })).data.length, 1);
        await world.server.restart(); // which begins with a sweep
        await gone(blobPath(text));
        await refused(client.files.download(made.id), 404, /expired/, 'file_expired');
        assert.equal((await client.files.retrieveMetadata(made.id)).filename, 'short.txt');
        sql('UPDATE file SET expires_us = ? WHERE id = ?', now() - 30n * 24n * HOUR - 1n, made.id);
        await refused(client.files.retrieveMetadata(made.id), 404);
        await refused(client.files.download(made.id), 404);
        assert.equal((await client.files.list({ ids: [made.id] })).data.length, 0);
    });

    test('only an hour to ninety days can be asked for', async () => {
        for (const value of ['3599', '7776001', '-1', '0', '1e4', '3600.5', '', 'soon', '99999999999999999999', 'x'.repeat(1000)]) {
            const answer = await post(form([filePart(), [`${CD}name="expires_in_seconds"`, value]]));
            assert.equal(answer.status, 400, value);
            assert.match(answer.json.error.message, /expires_in_seconds/);
        }
        for (const value of ['3600', '7776000']) {
            const answer = await post(form([[`${CD}name="expires_in_seconds"`, value], filePart()]));
            assert.equal(answer.status, 200, answer.text);
        }
    });
});

describe('forms', () => {
    const TYPE = 'multipart/form-data; boundary=b0';
    const BAD = [
        ['no form', 'hello', { type: 'text/plain' }, /content-type/],
        ['JSON', '{"file": "x"}', { type: 'application/json' }, /content-type/],
        ['a form without boundary', form([filePart()]), { type: 'multipart/form-data' }, /boundary/],
        ['another boundary', form([filePart()], { boundary: 'b1' }), {}, /boundary/],
        ['nothing', '', { type: TYPE }, /boundary/],
        ['no end', form([filePart()], { end: '' }), {}, /last boundary/],
        ['something behind the end', form([filePart()], { end: '--b0--\r\nmore' }), {}, /follows/],
        ['no file', form([]), {}, /file: Field required/],
        ['no file but fields', form([[`${CD}name="purpose"`, 'x']]), {}, /file: Field required/],
        ['two files', form([filePart(), filePart()]), {}, /file: .*once/],
        ['expiry twice', form([filePart(), [`${CD}name="expires_in_seconds"`, '3600'], [`${CD}name="expires_in_seconds"`, '3600']]), {}, /expires_in_seconds: .*once/],
        ['an unknown field', form([filePart(), [`${CD}name="colour"`, 'red']]), {}, /colour: Extra inputs/],
        ['a part without name', form([['Content-Disposition: form-data', 'x']]), {}, /name/],
        ['a part without head', form([['X: y', 'x']]), {}, /Content-Disposition/],
        ['a huge part head', form([[`${CD}name="file"\r\nX: ${'x'.repeat(9000)}`, 'x']]), {}, /8 KiB/],
        ['base64', form([[`${CD}name="file"; filename=a\r\nContent-Transfer-Encoding: base64`, 'eA==']]), {}, /Transfer-Encoding/],
        ['a name with a forbidden character', form([filePart('filename="a?b"')]), {}, /file: .*\?/],
        ['a name with a line end', form([filePart('filename="a%0Ab"')]), {}, /control character/],
        ['a name that is dots', form([filePart('filename=".."')]), {}, /filename/],
        ['a name of 256 characters', form([filePart(`filename="${'n'.repeat(256)}"`)]), {}, /255/],
        ['a name that is no UTF-8', Buffer.from(form([filePart('filename="\xff"')]).toString('latin1').replace(/\xc3\xbf/, '\xff'), 'latin1'), {}, /UTF-8/],
        ['a type that is none', form([filePart('filename="a"\r\nContent-Type: nonsense')]), {}, /Content-Type/],
    ];
    for (const [what, body, options, names] of BAD) {
        test(`${what} is refused`, async () => {
            const answer = await post(body, options);
            assert.equal(answer.status, 400, answer.text);
            assert.match(answer.json.error.message, names);
        });
    }

    test('names and types that are not said are found', async () => {
        const cases = [
            ['filename="C:\\dir\\a.pdf"', 'a.pdf', 'application/pdf'],
            ['filename="/etc/notes.md"', 'notes.md', 'text/markdown'],
            ['filename=""\r\nContent-Type: text/html; charset=utf-8', 'unnamed.html', 'text/html'],
            ['filename="x"; filename*=UTF-8\'\'h%C3%B6he.csv', 'höhe.csv', 'text/csv'],
            [`filename="${'ö'.repeat(255)}"`, 'ö'.repeat(255), 'application/octet-stream'],
        ];
        for (const [params, filename, type] of cases) {
            const answer = await post(form([filePart(params)]));
            assert.equal(answer.status, 200, answer.text);
            assert.deepEqual([answer.json.filename, answer.json.mime_type], [filename, type]);
        }
        const bare = await post(form([[`${CD}name="file"`, 'x'], [`${CD}name="purpose"`, 'user_data']]));
        assert.deepEqual([bare.json.filename, bare.json.mime_type], ['unnamed', 'application/octet-stream']);
    });

    test('a refused form leaves nothing behind', async () => {
        const before = (await world.client().beta.files.list({ limit: 1000 })).data.length;
        await post(form([filePart('filename="a"', 'y'.repeat(3 << 20)), [`${CD}name="colour"`, 'red']]));
        assert.equal((await world.client().beta.files.list({ limit: 1000 })).data.length, before);
        const blobs = path.join(world.server.data, 'blobs');
        for (const name of readdirSync(blobs)) if (name.startsWith('tmp.')) await gone(path.join(blobs, name));
    });

    test('queries that are none are refused', async () => {
        for (const [query, names] of [['limit=0', /limit/], ['limit=1001', /limit/], ['page=rubbish', /page/], ['limit=x', /limit/]]) {
            const answer = await world.http('GET', `/v1/files?${query}`);
            assert.equal(answer.status, 400);
            assert.match(answer.json.error.message, names);
        }
        for (const id of ['file_%00', 'sesn_011111111111111111111111', UNKNOWN, 'x'.repeat(500)]) {
            for (const [method, tail] of [['GET', ''], ['GET', '/content'], ['DELETE', '']]) {
                const answer = await world.http(method, `/v1/files/${id}${tail}`);
                assert.equal(answer.status, 404, answer.text);
            }
        }
    });
});

test('files of another workspace do not exist', async () => {
    const made = world.server.command(['keys', 'create', '--workspace', 'neighbour']);
    const key = (made.stdout.match(/sk-[A-Za-z0-9_-]{20,}/) ?? [])[0];
    const file = await upload('1.11.0', 'mine', 'mine.txt');
    for (const [method, tail] of [['GET', ''], ['GET', '/content'], ['DELETE', '']]) {
        assert.equal((await world.http(method, `/v1/files/${file.id}${tail}`, { key })).status, 404);
    }
    assert.deepEqual((await world.http('GET', '/v1/files', { key })).json.data, []);
    assert.deepEqual((await world.http('GET', `/v1/files?ids[]=${file.id}`, { key })).json.data, []);
    await world.client().beta.files.retrieveMetadata(file.id);
});

// Peak of resident memory, in bytes.
const peak = (pid) => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmHWM:\s+(\d+) kB/)[1]) * 1024;

// A form whose file has `size` bytes, written as fast as the server takes it, never held as a whole.
// Resolves to {status, text}.
async function stream(size, { headers = {}, chunk = Buffer.alloc(1 << 20, 'streamed ') } = {}) {
    const head = `--b0\r\n${CD}name="file"; filename="large.bin"\r\n\r\n`;
    const tail = '\r\n--b0--\r\n';
    const req = request(`${world.server.url}/v1/files`, {
        method: 'POST',
        headers: { 'x-api-key': world.server.key, 'content-type': 'multipart/form-data; boundary=b0', 'content-length': head.length + size + tail.length, ...headers },
    });
    const answered = once(req, 'response');
    answered.catch(() => {});
    req.write(head);
    for (let left = size; left > 0; left -= chunk.length) {
        if (!req.write(chunk.subarray(0, Math.min(left, chunk.length)))) await once(req, 'drain');
    }
    req.end(tail);
    const [response] = await answered;
    response.setEncoding('utf8');
    let text = '';
    for await (const piece of response) text += piece;
    return { status: response.statusCode, text };
}

describe('sizes', () => {
    const SIZE = 200 << 20;
    // A sanitizer keeps shadows and what was freed.
    const BOUND = (process.env.ASAN_OPTIONS ? 64 : 16) << 20;

    test('200 MB go in and out while the server stays small', async () => {
        await upload('1.11.0', 'x'.repeat(4 << 20), 'warm.bin');
        const before = peak(world.server.pid);
        const answer = await stream(SIZE);
        assert.equal(answer.status, 200, answer.text);
        const made = JSON.parse(answer.text);
        assert.equal(made.size_bytes, SIZE);
        sql('UPDATE file SET downloadable = 1 WHERE id = ?', made.id);
        const response = await fetch(`${world.server.url}/v1/files/${made.id}/content`, { headers: { 'x-api-key': world.server.key } });
        const hash = createHash('sha256');
        let length = 0;
        for await (const piece of response.body) {
            hash.update(piece);
            length += piece.length;
        }
        assert.equal(length, SIZE);
        const name = hash.digest('hex');
        const blob = path.join(world.server.data, 'blobs', name.slice(0, 2), name.slice(2));
        assert.ok(existsSync(blob), 'what came out is what the blob is named by');
        const grown = peak(world.server.pid) - before;
        assert.ok(grown < BOUND, `the server grew by ${grown >> 10} KiB for ${SIZE >> 20} MB`);
        await world.client().beta.files.delete(made.id);
        await gone(blob);
    });

    test('a length over 500 MB is refused before a byte of it is read', async () => {
        const socket = connect(world.server.port, '127.0.0.1');
        await once(socket, 'connect');
        socket.write(`POST /v1/files HTTP/1.1\r\nHost: x\r\nx-api-key: ${world.server.key}\r\ncontent-type: multipart/form-data; boundary=b0\r\ncontent-length: ${(502 << 20) + 4096}\r\n\r\n`);
        socket.setEncoding('utf8');
        let text = '';
        for await (const chunk of socket) {
            text += chunk;
            if (text.includes('request_too_large')) break;
        }
        socket.destroy();
        assert.match(text, /^HTTP\/1\.1 413 /);
        assert.match(text, /x-should-retry: false|request_too_large/);
    });

    // Sends the begin of an upload; resolves to its socket and its temporary.
    async function half() {
        const blobs = path.join(world.server.data, 'blobs');
        const socket = connect(world.server.port, '127.0.0.1');
        socket.on('error', () => {});
        await once(socket, 'connect');
        const begun = new Promise((resolve) => {
            const watcher = watch(blobs, (_, name) => {
                if (!name?.startsWith('tmp.')) return;
                watcher.close();
                resolve(path.join(blobs, name));
            });
        });
        socket.write(`POST /v1/files HTTP/1.1\r\nHost: x\r\nx-api-key: ${world.server.key}\r\ncontent-type: multipart/form-data; boundary=b0\r\ncontent-length: 50000000\r\n\r\n`);
        socket.write(`--b0\r\n${CD}name="file"; filename="half.bin"\r\n\r\n`);
        socket.write(Buffer.alloc(8 << 20));
        return { socket, temporary: await begun };
    }

    test('a client that leaves in the middle leaves nothing', async () => {
        const { socket, temporary } = await half();
        socket.destroy();
        await gone(temporary);
    });

    test('a server that is told to stop in the middle ends well', async () => {
        const { socket, temporary } = await half();
        await world.server.stop();
        socket.destroy();
        assert.equal(existsSync(temporary), false);
        await world.server.start();
    });
});

test('a kill in the middle of uploads loses no answered file and leaves no stray content', async () => {
    const answered = [];
    const tasks = Array.from({ length: 4 }, async (_, task) => {
        for (let i = 0; ; i++) {
            const text = `killed ${task} ${i} ${'z'.repeat(200000)}`;
            try {
                const response = await fetch(`${world.server.url}/v1/files`, {
                    method: 'POST', headers: { 'x-api-key': world.server.key, 'content-type': 'multipart/form-data; boundary=b0' }, body: form([filePart(`filename="k${task}-${i}.txt"`, text)]),
                });
                answered.push([(await response.json()).id, text]);
            } catch {
                return;
            }
            if (answered.length === 12) await world.server.kill();
        }
    });
    await Promise.all(tasks);
    await world.server.restart();
    for (const [id, text] of answered) {
        assert.equal((await world.client().beta.files.retrieveMetadata(id)).size_bytes, text.length);
        assert.equal(readFileSync(blobPath(text), 'utf8'), text);
    }
    const blobs = path.join(world.server.data, 'blobs');
    assert.deepEqual(readdirSync(blobs).filter((name) => name.startsWith('tmp.')), []);
    const db = new DatabaseSync(path.join(world.server.data, 'ostler.db'), { readOnly: true });
    const known = new Set(db.prepare('SELECT name FROM blob').all().map((row) => row.name));
    db.close();
    for (const shard of readdirSync(blobs)) {
        for (const rest of readdirSync(path.join(blobs, shard))) if (!known.has(shard + rest)) await gone(path.join(blobs, shard, rest));
    }
});
