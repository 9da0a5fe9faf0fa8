// A provider that is down, refuses, hangs up or talks rubbish: the session says so, tries again where that
// can help, and stays usable.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { apiError, FakeMessages, stream as frames } from '../lib/fake-messages.mjs';
import { message, texts, types } from '../lib/harness.mjs';
import { assertSound, rest, useProvider, worker } from '../lib/e2e.mjs';

const provider = new FakeMessages();
const world = await useProvider(provider);

const ATTEMPTS = 5;
const course = (events) => types(events).filter((t) => /^(session\.(error|status)|span)/.test(t)).map((t) => t.replace(/^(session|span)\./, ''));
const TRY = ['status_running', 'model_request_start', 'model_request_end'];
const RETRY = ['error', 'status_rescheduled'];

async function sound(session) {
    const log = await world.events(session.id);
    assertSound(log, { accepted: log.filter((e) => e.type.startsWith('user.')) });
    return log;
}

describe('a provider that cannot be reached', () => {
    test('is tried five times, each seen on the stream, then the turn ends and the session stays usable', async () => {
        await provider.stop();
        const session = await worker(world);
        const stream = await world.stream(session.id);
        await world.send(session.id, 'anyone?');
        await stream.until('session.status_rescheduled');
        await world.send(session.id, 'still there?');
        stream.close();
        const seen = await rest(world, session);
        assert.deepEqual(course(seen), [...Array(ATTEMPTS - 1).fill([...TRY, ...RETRY]).flat(), ...TRY, 'error', 'status_idle']);
        assert.deepEqual(seen.at(-1).stop_reason, { type: 'retries_exhausted' });
        const errors = seen.filter((e) => e.type === 'session.error').map((e) => e.error);
        assert.deepEqual(errors.map((e) => e.retry_status.type), ['retrying', 'retrying', 'retrying', 'retrying', 'exhausted']);
        for (const error of errors) {
            assert.equal(error.type, 'model_request_failed_error');
            assert.match(error.message, /cannot be reached.*127\.0\.0\.1.*ANTHROPIC_BASE_URL/);
        }
        await provider.start();
        provider.expect(['Back.']);
        assert.deepEqual(texts(await world.turn(session.id, 'and now?')), ['Back.']);
        await sound(session);
    });

    test('is found again when it comes back in time', async () => {
        await provider.stop();
        const session = await worker(world);
        const stream = await world.stream(session.id);
        await world.send(session.id, 'anyone?');
        const before = await stream.until('session.status_rescheduled');
        await provider.start();
        provider.expect(['Here I am.']);
        const after = await stream.until('session.status_idle');
        stream.close();
        assert.deepEqual(texts([...before, ...after]), ['Here I am.']);
        await sound(session);
    });
});

describe('a provider that refuses', () => {
    for (const [status, type, said, pattern] of [
        [401, 'authentication_error', 'invalid x-api-key sk-ant-of-the-tests', /401.*ANTHROPIC_API_KEY/],
        [403, 'permission_error', 'not for you', /403.*not for you/],
        [400, 'invalid_request_error', 'messages: too odd', /400.*messages: too odd/],
        [404, 'not_found_error', 'model: no such model', /404.*no such model/],
        [400, 'invalid_request_error', 'Your credit balance is too low', /credit balance is too low/],
    ]) {
        test(`${status} "${said}" is not tried again and is told with its remedy`, async () => {
            provider.expect(apiError(status, type, said));
            const session = await worker(world);
            const seen = await world.turn(session.id, 'x');
            assert.deepEqual(course(seen), [...TRY, 'error', 'status_idle']);
            const { error } = seen.find((e) => e.type === 'session.error');
            assert.match(error.message, pattern);
            assert.equal(error.retry_status.type, 'exhausted');
            assert.ok(!JSON.stringify(seen).includes('sk-ant-of-the-tests'), 'the key is not told');
            assert.deepEqual(seen.at(-1).stop_reason, { type: 'retries_exhausted' });
            provider.expect(['All right.']);
            assert.deepEqual(texts(await world.turn(session.id, 'y')), ['All right.']);
            await sound(session);
        });
    }
});

describe('a provider that is not well', () => {
    const html = '<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>';
    const sse = (body) => ({ headers: { 'content-type': 'text/event-stream' }, body });
    const whole = frames(['never heard']);
    for (const [what, reply] of [
        ['hangs up before the answer', { blocks: ['x'], cut: 0 }],
        ['hangs up in the middle', { blocks: ['half of it'], cut: 5 }],
        ['ends its stream too early, but politely', { blocks: ['half of it'], end: 5 }],
        ['answers with a page of HTML and status 200', { headers: { 'content-type': 'text/html' }, body: html }],
        ['answers with a page of HTML and status 502', { status: 502, headers: { 'content-type': 'text/html' }, body: html }],
        ['answers with nothing at all', sse('')],
        ['streams what is no JSON', sse('event: message_start\ndata: {"type":"message_st\n\n')],
        ['streams JSON of another world', sse('event: message_start\ndata: [1,2,3]\n\nevent: message_stop\ndata: "x"\n\n')],
        ['streams bytes that are no text', { headers: { 'content-type': 'text/event-stream' }, body: Buffer.from([0xff, 0xfe, 0, 1, 2, 10, 10, 0xc3]) }],
        ['streams deltas of a block that it never began', sse(whole.filter((f) => !f.includes('content_block_start')).join(''))],
        ['reports an error in the middle of its stream', sse(`${whole.slice(0, 4).join('')}event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n`)],
        ['answers 503', apiError(503, 'overloaded_error', 'full house')],
    ]) {
        test(`when it ${what}, it is asked again and nothing of the bad answer stays`, async () => {
            provider.expect(reply);
            provider.expect(['Now properly.']);
            const session = await worker(world);
            const seen = await world.turn(session.id, 'x');
            assert.deepEqual(texts(seen), ['Now properly.']);
            assert.deepEqual(course(seen), [...TRY, ...RETRY, ...TRY, 'status_idle']);
            assert.ok(seen.find((e) => e.type === 'session.error').error.message.length > 10);
            assert.doesNotMatch(JSON.stringify(seen), /doctype|never heard|half of it/);
            await sound(session);
        });
    }

    test('events of a kind that did not exist when this was written are passed over', async () => {
        const [start, ...others] = frames(['Known.']);
        provider.expect(sse([start, 'event: weather\ndata: {"type":"weather","wind":[1]}\n\n', ': a comment\n\n', ...others].join('')));
        const session = await worker(world);
        assert.deepEqual(texts(await world.turn(session.id, 'x')), ['Known.']);
    });

    test('an answer in one byte at a time is an answer', async () => {
        provider.expect((request) => ({ ...sse(''), bytes: frames([`You said ${request.json.messages[0].content[0].text} \u{1F600}`]).join('') }));
        const session = await worker(world);
        assert.deepEqual(texts(await world.turn(session.id, 'x')), ['You said x \u{1F600}']);
    });

    test('the server answers others while a provider keeps one waiting', async () => {
        const held = provider.expect({ blocks: ['late'], hold: 'head' });
        provider.expect(['soon']);
        const [slow, quick] = [await worker(world), await worker(world)];
        const stream = await world.stream(slow.id);
        await world.send(slow.id, message('slow'));
        await held.paused;
        assert.deepEqual(texts(await world.turn(quick.id, 'quick')), ['soon']);
        held.release();
        assert.deepEqual(texts(await stream.until('session.status_idle')), ['late']);
        stream.close();
    });
});
