// Idempotency-Key on every POST that creates: the same answer for the same request, once and for a day.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import path from 'node:path';
import { message, useServer } from '../lib/harness.mjs';

const ids = {};
const world = useServer({}, async (w) => {
    const session = await w.session();
    Object.assign(ids, { agent: session.agent.id, environment: session.environment_id, session: session.id });
});

let serial = 0;
const fresh = () => `key-${process.pid}-${++serial}`;
const send = (target, body, key, more = {}) => world.http('POST', target, { body, ...more, headers: { 'idempotency-key': key, ...more.headers } });

// A form as clients make them: with another boundary each time.
function upload({ name = 'a.txt', text = 'data', fields = {} } = {}) {
    const boundary = `b${++serial}`;
    const parts = [`--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${name}"\r\n\r\n${text}\r\n`];
    for (const [key, value] of Object.entries(fields)) parts.push(`--${boundary}\r\nContent-Disposition: form-data; name="${key}"\r\n\r\n${value}\r\n`);
    return { body: Buffer.from(`${parts.join('')}--${boundary}--\r\n`), headers: { 'content-type': `multipart/form-data; boundary=${boundary}` } };
}
const sendFile = (key, form) => {
    const { body, headers } = upload(form);
    return send('/v1/files', body, key, { headers });
};

const count = (table) => {
    const db = new DatabaseSync(path.join(world.server.data, 'ostler.db'), { readOnly: true });
    try {
        return db.prepare(`SELECT count(*) AS n FROM ${table}`).get().n;
    } finally {
        db.close();
    }
};

// [what, table, one request, another one]
const KINDS = [
    ['an agent', 'agent', (k) => send('/v1/agents', { name: 'a', model: 'script/echo' }, k), (k) => send('/v1/agents', { name: 'b', model: 'script/echo' }, k)],
    ['an environment', 'environment', (k) => send('/v1/environments', { name: 'a', config: { type: 'cloud' } }, k), (k) => send('/v1/environments', { name: 'b', config: { type: 'cloud' } }, k)],
    ['a session', 'session', (k) => send('/v1/sessions', { agent: ids.agent, environment_id: ids.environment }, k), (k) => send('/v1/sessions', { agent: ids.agent, environment_id: ids.environment, title: 'x' }, k)],
    ['a file', 'file', (k) => sendFile(k), (k) => sendFile(k, { text: 'other' })],
];

for (const [what, table, request, other] of KINDS) {
    describe(what, () => {
        test('the same request gets the same answer and makes one', async () => {
            const key = fresh();
            const first = await request(key);
            assert.equal(first.status, 200, first.text);
            const before = count(table);
            const second = await request(key);
            assert.equal(second.status, 200);
            assert.equal(second.text, first.text);
            assert.equal(count(table), before);
            assert.notEqual((await request(fresh())).json.id, first.json.id);
        });

        test('another body is a conflict that no client retries', async () => {
            const key = fresh();
            assert.equal((await request(key)).status, 200);
            const before = count(table);
            const second = await other(key);
            assert.equal(second.status, 409, second.text);
            assert.equal(second.headers.get('x-should-retry'), 'false');
            assert.match(second.json.error.message, /idempotency-key/);
            assert.equal(count(table), before);
            assert.equal((await request(key)).status, 200);
        });

        test('many at once make one', async () => {
            const key = fresh();
            const before = count(table);
            const answers = await Promise.all(Array.from({ length: 16 }, () => request(key)));
            assert.deepEqual(new Set(answers.map((a) => a.text)).size, 1);
            assert.deepEqual(new Set(answers.map((a) => a.status)), new Set([200]));
            assert.equal(count(table), before + 1);
        });

        test('a kill does not forget it', async () => {
            const key = fresh();
            const first = await request(key);
            await world.server.restart();
            const before = count(table);
            assert.equal((await request(key)).text, first.text);
            assert.equal((await other(key)).status, 409);
            assert.equal(count(table), before);
        });
    });
}

describe('events', () => {
    test('a message that is sent twice under one key is one message', async () => {
        const { id } = await world.session();
        const key = fresh();
        const body = { events: [message('once')] };
        const [first, second] = await Promise.all([send(`/v1/sessions/${id}/events`, body, key), send(`/v1/sessions/${id}/events`, body, key)]);
        assert.equal(first.status, 200, first.text);
        assert.equal(second.text, first.text);
        await world.idle(id);
        const log = await world.events(id);
        assert.equal(log.filter((e) => e.type === 'user.message').length, 1);
        assert.equal((await send(`/v1/sessions/${id}/events`, { events: [message('twice')] }, key)).status, 409);
    });

    test('initial events run once', async () => {
        const key = fresh();
        const body = { agent: ids.agent, environment_id: ids.environment, initial_events: [message('go')] };
        const answers = await Promise.all([1, 2, 3].map(() => send('/v1/sessions', body, key)));
        assert.equal(new Set(answers.map((a) => a.json.id)).size, 1);
        await world.idle(answers[0].json.id);
        assert.equal((await world.events(answers[0].json.id)).filter((e) => e.type === 'user.message').length, 1);
    });
});

describe('a key', () => {
    test('belongs to one route', async () => {
        const key = fresh();
        assert.equal((await send('/v1/environments', { name: 'r', config: { type: 'cloud' } }, key)).status, 200);
        assert.equal((await send('/v1/agents', { name: 'r', model: 'script/echo' }, key)).status, 409);
        const { id } = await world.session();
        const sent = fresh();
        assert.equal((await send(`/v1/sessions/${ids.session}/events`, { events: [message('x')] }, sent)).status, 200);
        assert.equal((await send(`/v1/sessions/${id}/events`, { events: [message('x')] }, sent)).status, 409);
    });

    test('belongs to one workspace', async () => {
        const made = world.server.command(['keys', 'create', '--workspace', 'other']);
        const theirs = (made.stdout.match(/sk-[A-Za-z0-9_-]{20,}/) ?? [])[0];
        const key = fresh();
        const body = { name: 'w', model: 'script/echo' };
        const mine = await send('/v1/agents', body, key);
        const other = await send('/v1/agents', body, key, { key: theirs });
        assert.equal(other.status, 200);
        assert.notEqual(other.json.id, mine.json.id);
    });

    test('is not used up by a request that fails', async () => {
        const key = fresh();
        assert.equal((await send('/v1/agents', { name: 'f' }, key)).status, 400);
        assert.equal((await send('/v1/sessions', { agent: 'agent_011111111111111111111111', environment_id: ids.environment }, key)).status, 404);
        assert.equal((await send('/v1/agents', { name: 'f', model: 'script/echo' }, key)).status, 200);
    });

    test('is forgotten after 24 hours', async () => {
        const key = fresh();
        const body = { name: 'day', model: 'script/echo' };
        const first = await send('/v1/agents', body, key);
        const age = (us) => {
            const db = new DatabaseSync(path.join(world.server.data, 'ostler.db'));
            db.exec('PRAGMA busy_timeout = 10000');
            db.prepare('UPDATE idempotency SET created_us = created_us - ? WHERE name = ?').run(us, key);
            db.close();
        };
        age(86390n * 1000000n);
        assert.equal((await send('/v1/agents', body, key)).json.id, first.json.id);
        age(11n * 1000000n);
        const later = await send('/v1/agents', { name: 'next', model: 'script/echo' }, key);
        assert.equal(later.status, 200);
        assert.notEqual(later.json.id, first.json.id);
    });

    test('over 255 bytes is refused, an empty one is none', async () => {
        const body = { name: 'k', model: 'script/echo' };
        const long = await send('/v1/agents', body, 'k'.repeat(256));
        assert.equal(long.status, 400);
        assert.match(long.json.error.message, /idempotency-key.*255/);
        const answers = [await send('/v1/agents', body, ''), await send('/v1/agents', body, '')];
        assert.notEqual(answers[0].json.id, answers[1].json.id);
    });
});

describe('a file under a key', () => {
    test('is what the form says, not how it is cut into parts', async () => {
        const key = fresh();
        const first = await sendFile(key, { name: 'same.txt', text: 'same', fields: { expires_in_seconds: '3600', purpose: 'x' } });
        assert.equal(first.status, 200, first.text);
        assert.equal((await sendFile(key, { name: '/dir/same.txt', text: 'same', fields: { purpose: 'y', expires_in_seconds: '3600' } })).text, first.text);
        for (const form of [{ name: 'other.txt', text: 'same' }, { name: 'same.txt', text: 'other' }, { name: 'same.txt', text: 'same' }]) {
            assert.equal((await sendFile(key, { fields: { expires_in_seconds: form.text === 'same' && form.name === 'same.txt' ? '7200' : '3600' }, ...form })).status, 409);
        }
    });

    test('gives the same answer when it was deleted meanwhile', async () => {
        const key = fresh();
        const first = await sendFile(key, { text: `deleted ${key}` });
        await world.client().beta.files.delete(first.json.id);
        assert.equal((await sendFile(key, { text: `deleted ${key}` })).text, first.text);
    });
});
