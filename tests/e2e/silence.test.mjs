// A provider that takes its time: the configured limits end the attempt, the next one gets through.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { FakeMessages } from '../lib/fake-messages.mjs';
import { texts } from '../lib/harness.mjs';
import { assertSound, useProvider, worker } from '../lib/e2e.mjs';

const provider = new FakeMessages();
const world = await useProvider(provider, { config: 'model_requests: {first_byte_ms: 1500, silence_ms: 1500}\n' });

describe('a provider', () => {
    for (const [what, hold, pattern] of [
        ['that does not begin to answer', 'head', /1\.5 s|1500 ms|time/i],
        ['that falls silent in the middle', 5, /silen|time|quiet/i],
    ]) {
        test(`${what} is given up and asked again`, async () => {
            const held = provider.expect({ blocks: ['never finished'], hold });
            provider.expect(['Awake.']);
            const session = await worker(world);
            const seen = await world.turn(session.id, 'x');
            assert.equal(await held.closed, false, 'the connection was given up');
            assert.deepEqual(texts(seen), ['Awake.']);
            const { error } = seen.find((e) => e.type === 'session.error');
            assert.equal(error.type, 'model_request_failed_error');
            assert.equal(error.retry_status.type, 'retrying');
            assert.match(error.message, pattern);
            assertSound(seen, { accepted: seen.filter((e) => e.type === 'user.message') });
        });
    }
});
