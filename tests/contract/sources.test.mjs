// Files as sources of images and documents: the model gets the bytes that were there when the event was
// accepted, the log keeps the reference.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import path from 'node:path';
import { toFile } from '@anthropic-ai/sdk';
import { refused, texts, useServer } from '../lib/harness.mjs';

const world = useServer({ config: `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\n` });
const LOOKUP = { type: 'custom', name: 'lookup', description: 'Looks a thing up.', input_schema: { type: 'object' } };
const MB = 1024 * 1024;

const upload = async (name, bytes, type) => (await world.client().beta.files.upload({ file: await toFile(Buffer.from(bytes), name, { type }) })).id;
const block = (type, id, extra = {}) => ({ type, source: { type: 'file', file_id: id }, ...extra });
const say = (...content) => ({ type: 'user.message', content: [...content, { type: 'text', text: 'look' }] });
const seeing = (extra = {}) => world.session({ agent: { model: 'script/seen', ...extra } });
const drop = (id) => world.client().beta.files.delete(id);
const shown = (events) => texts(events).at(-1);
const base64 = (text) => Buffer.from(text).toString('base64');

describe('files as sources', () => {
    for (const [what, type, name, mime, bytes, expected] of [
        ['a PNG', 'image', 'a.png', 'image/png', '\x89PNG', `image(base64 image/png ${base64('\x89PNG')})`],
        ['a JPEG', 'image', 'a.jpg', 'image/jpeg', 'jpeg', `image(base64 image/jpeg ${base64('jpeg')})`],
        ['a GIF', 'image', 'a.gif', 'image/gif', 'gif', `image(base64 image/gif ${base64('gif')})`],
        ['a WebP', 'image', 'a.webp', 'image/webp', 'webp', `image(base64 image/webp ${base64('webp')})`],
        ['a PDF', 'document', 'a.pdf', 'application/pdf', '%PDF-1', `document(base64 application/pdf ${base64('%PDF-1')})`],
        ['a text', 'document', 'a.txt', 'text/plain', 'só "so" \n🐎', 'document(text text/plain só "so" \n🐎)'],
        ['a table', 'document', 'a.csv', 'text/csv', 'a,b', 'document(text text/plain a,b)'],
        ['a page with its charset', 'document', 'a.html', 'text/html; charset=utf-8', '<p>', 'document(text text/plain <p>)'],
    ]) {
        test(`${what} reaches the model as its bytes, and is served as a reference`, async () => {
            const id = await upload(name, bytes, mime);
            const session = await seeing();
            const seen = await world.turn(session.id, say(block(type, id)));
            assert.ok(shown(seen).includes(`user: ${expected} text(look)`), shown(seen));
            const content = [block(type, id), { type: 'text', text: 'look' }];
            assert.deepEqual(seen.find((e) => e.type === 'user.message').content, content);
            assert.deepEqual((await world.events(session.id, { types: ['user.message'] }))[0].content, content);
        });
    }

    test('what else the block says stays, and other blocks are not touched', async () => {
        const id = await upload('a.txt', 'text', 'text/plain');
        const session = await seeing();
        const url = { type: 'image', source: { type: 'url', url: 'https://example.com/a.png' } };
        const seen = await world.turn(session.id, say({ type: 'text', text: 'first' }, block('document', id, { title: 'T', context: 'C' }), url));
        assert.ok(shown(seen).includes('user: text(first) document(text text/plain text)=T image(url  https://example.com/a.png) text(look)'), shown(seen));
    });

    test('deleting the file later changes nothing, not even behind a restart', async () => {
        const id = await upload('a.txt', 'kept words', 'text/plain');
        const session = await world.session({ agent: { model: 'script/seen', tools: [LOOKUP] } });
        const use = (await world.turn(session.id, { type: 'user.message', content: [{ type: 'text', text: 'call lookup' }] })).find((e) => e.type === 'agent.custom_tool_use');
        await world.send(session.id, say(block('document', id))); // queued while the call waits
        await drop(id);
        await world.server.restart();
        const result = { type: 'user.custom_tool_result', custom_tool_use_id: use.id, content: [{ type: 'text', text: 'x' }] };
        assert.match(shown(await world.turn(session.id, result)), /kept words/);
        await world.server.restart();
        assert.match(shown(await world.turn(session.id, 'again')), /kept words/);
        await refused(world.send(session.id, say(block('document', id))), 404, /not found/);
    });

    test('a session may begin with one', async () => {
        const id = await upload('a.txt', 'from the start', 'text/plain');
        const [agent, environment] = [await world.agent({ model: 'script/seen' }), await world.environment()];
        const session = await world.client().beta.sessions.create({ agent: agent.id, environment_id: environment.id, initial_events: [say(block('document', id))] });
        await drop(id);
        await world.idle(session.id);
        assert.match(shown(await world.events(session.id)), /from the start/);
    });

    test('the result of a custom tool may hold one', async () => {
        const [text, image] = [await upload('a.txt', 'in a result', 'text/plain'), await upload('a.png', 'png', 'image/png')];
        const session = await seeing({ tools: [LOOKUP] });
        const use = (await world.turn(session.id, 'call lookup')).find((e) => e.type === 'agent.custom_tool_use');
        const seen = await world.turn(session.id, { type: 'user.custom_tool_result', custom_tool_use_id: use.id, content: [block('document', text), block('image', image)] });
        assert.ok(shown(seen).includes(`result(document(text text/plain in a result) image(base64 image/png ${base64('png')}))`), shown(seen));
        assert.deepEqual(seen.find((e) => e.type === 'user.custom_tool_result').content, [block('document', text), block('image', image)]);
    });

    test('one hundred documents in a request, and 20 MB in a message, are within', async () => {
        const [small, large] = [await upload('a.txt', 'x', 'text/plain'), await upload('b.pdf', Buffer.alloc(20 * MB, 7), 'application/pdf')];
        const session = await world.session();
        await world.turn(session.id, say(...Array(100).fill(block('document', small))));
        const seen = await world.turn(session.id, say(block('document', large)));
        assert.deepEqual(texts(seen), ['look']);
        const answer = await world.http('POST', `/v1/sessions/${session.id}/events`, { body: { events: [say(block('document', large), block('document', small))] } });
        assert.equal(answer.status, 413);
        assert.match(answer.json.error.message, new RegExp(`${small}.*20971520`));
        const all = await world.http('POST', `/v1/sessions/${session.id}/events`, { body: { events: Array.from({ length: 4 }, () => say(block('document', large))) } });
        assert.equal(all.status, 413);
        assert.equal(all.json.error.details.pointer, '/events/3/content/0/source/file_id');
    });

    test('a file of another workspace is unknown', async () => {
        const made = world.server.command(['keys', 'create', '--workspace', 'neighbour']);
        const key = made.stdout.match(/sk-[A-Za-z0-9_-]{20,}/)[0];
        const form = new FormData();
        form.append('file', new Blob(['theirs']), 'theirs.txt');
        const upload = await fetch(`${world.server.url}/v1/files`, { method: 'POST', headers: { 'x-api-key': key }, body: form });
        const session = await world.session();
        await refused(world.send(session.id, say(block('document', (await upload.json()).id))), 404, /not found/);
        assert.deepEqual(await world.events(session.id), []);
    });

    test('an expired file is gone', async () => {
        const id = await upload('a.txt', 'x', 'text/plain');
        const session = await world.session();
        const db = new DatabaseSync(path.join(world.server.data, 'ostler.db'));
        db.exec('PRAGMA busy_timeout = 10000');
        db.prepare('UPDATE file SET expires_us = ? WHERE id = ?').run((Date.now() - 1000) * 1000, id);
        db.close();
        await refused(world.send(session.id, say(block('document', id))), 404, /expired/, 'file_expired');
    });

    test('the same request under the same key is answered as before, though the file is gone', async () => {
        const id = await upload('a.txt', 'x', 'text/plain');
        const session = await world.session();
        const ask = () => world.http('POST', `/v1/sessions/${session.id}/events`, { body: { events: [say(block('document', id))] }, headers: { 'idempotency-key': `k-${id}` } });
        const first = await ask();
        assert.equal(first.status, 200);
        await drop(id);
        const again = await ask();
        assert.deepEqual(again.json, first.json);
        await world.idle(session.id);
        assert.equal((await world.events(session.id, { types: ['user.message'] })).length, 1);
    });
});
