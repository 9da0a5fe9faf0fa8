// What a budget lets through to a provider: the worst case of everything that was sent stays within it,
// whoever counts the tokens and whatever dies in between.
import { beforeEach, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { FakeMessages } from '../lib/fake-messages.mjs';
import { MODEL, rest, useProvider, worker } from '../lib/e2e.mjs';

const provider = new FakeMessages();
const world = await useProvider(provider);
const OUTPUT = 15; // micro-dollars a token
const INPUT = 6; // at most: written to a cache for an hour
const cents = (n) => ({ type: 'limit', max_list_cost: { amount: `${n}`, currency: 'USD' } });
const session = async (budget, extra = {}) => {
    const made = await worker(world, extra);
    return world.client().beta.sessions.create({ agent: made.agent.id, environment_id: made.environment_id, ...(budget && { budget: cents(budget) }) });
};
const reason = (events) => events.at(-1).stop_reason.type;
const LONG = 'word '.repeat(6000);

let seen;
beforeEach(() => {
    seen = { requests: provider.requests.length, counts: provider.counts.length };
    provider.tokens = null;
});
const requests = () => provider.requests.slice(seen.requests);
const counts = () => provider.counts.slice(seen.counts);

describe('a request under a budget', () => {
    test('without one nothing is counted, and the answer may be as long as the model\'s can be', async () => {
        provider.expect(['fine']);
        const made = await session(null);
        await world.turn(made.id, LONG);
        assert.equal(counts().length, 0);
        assert.equal(requests()[0].json.max_tokens, 64000);
    });

    test('one that fits by its bytes is not counted, either', async () => {
        provider.expect(['fine']);
        const made = await session(100000);
        await world.turn(made.id, LONG);
        assert.equal(counts().length, 0);
        assert.equal(requests()[0].json.max_tokens, 64000);
    });

    test('an answer is no longer than what is left pays for', async () => {
        provider.expect({ blocks: ['fine'], usage: { input_tokens: 100, output_tokens: 50 } });
        const made = await session(50);
        await world.turn(made.id, 'hello');
        const [{ raw, json }] = requests();
        assert.ok(json.max_tokens < 500000 / OUTPUT);
        assert.ok(json.max_tokens > (500000 - Buffer.byteLength(raw) * INPUT) / OUTPUT - 100, `${json.max_tokens}`);
    });

    test('where the bytes do not fit, the provider counts', async () => {
        provider.tokens = () => 6000;
        provider.expect({ blocks: ['fine'], usage: { input_tokens: 6000, output_tokens: 50 } });
        const made = await session(10);
        const events = await world.turn(made.id, LONG);
        assert.equal(reason(events), 'end_turn');
        assert.equal(counts().length, 1);
        const [asked, sent] = [counts()[0].json, requests()[0].json];
        for (const field of ['model', 'messages', 'system', 'tools']) assert.deepEqual(asked[field], sent[field], field);
        assert.ok(!('max_tokens' in asked) && !('stream' in asked));
        assert.ok(sent.max_tokens >= 256 && 6000 * 3 + sent.max_tokens * OUTPUT <= 100000, `${sent.max_tokens}`);
    });

    test('a count that does not fit stops the turn before anything is sent', async () => {
        provider.tokens = () => 33000;
        const made = await session(10);
        const events = await world.turn(made.id, LONG);
        assert.equal(reason(events), 'budget_reached');
        assert.deepEqual([counts().length, requests().length], [1, 0]);
        assert.ok(!events.some((e) => e.type === 'span.model_request_start'));
    });

    test('where the provider cannot count, half the bytes are taken', async () => {
        provider.expect({ blocks: ['fine'], usage: { input_tokens: 6000, output_tokens: 50 } });
        const made = await session(12);
        const events = await world.turn(made.id, LONG);
        assert.equal(reason(events), 'end_turn');
        assert.equal(counts().length, 1);
        const most = requests()[0].json.max_tokens;
        assert.ok(most >= 256 && most * OUTPUT <= 120000 - 15000 * 3, `${most}`);
    });

    test('what is spent is what the provider says, and the next request has the rest', async () => {
        const usage = { input_tokens: 1000, output_tokens: 6000, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 };
        provider.expect({ blocks: ['fine'], usage });
        provider.expect({ blocks: ['fine'], usage: { ...usage, output_tokens: 10 } });
        const made = await session(20);
        await world.turn(made.id, 'one');
        await world.turn(made.id, 'two');
        const [one, two] = requests().map((r) => r.json.max_tokens);
        const paid = 1000 * 3 + 6000 * OUTPUT;
        assert.ok(two * OUTPUT <= 200000 - paid && two < one, `${one}, ${two}`);
        const { usage: total } = await world.client().beta.sessions.retrieve(made.id);
        assert.equal(total.list_cost.amount, `${Math.round((paid + 1000 * 3 + 10 * OUTPUT) / 10000)}`);
    });

    test('of a request that died with the server, the worst case stays put aside', async () => {
        const held = provider.expect({ blocks: ['never finished'], hold: 3 });
        provider.expect({ blocks: ['fine'], usage: { input_tokens: 100, output_tokens: 50 } });
        const made = await session(100);
        await world.send(made.id, 'hello');
        await held.paused;
        await world.server.kill();
        await world.server.start();
        await rest(world, made);
        const sum = requests().reduce((n, r) => n + r.json.max_tokens * OUTPUT, 0);
        assert.equal(requests().length, 2);
        assert.equal(requests()[0].json.max_tokens, 64000);
        assert.ok(sum <= 1000000, `${sum}`);
        const after = await world.client().beta.sessions.retrieve(made.id);
        assert.equal(after.usage.list_cost.amount, '0', 'what nobody saw is no known cost');
    });
});
