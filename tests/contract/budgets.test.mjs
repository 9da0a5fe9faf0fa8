// Budgets and limits: how they are set and changed, every refusal with its reason, what they show, and what
// a session that has reached one still takes.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { message, refused, useServer } from '../lib/harness.mjs';

const ids = {};
const world = useServer({ config: `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\n` }, async (w) => {
    ids.environment = (await w.environment()).id;
    for (const [name, model] of Object.entries({
        free: 'script/echo',
        priced: 'script/priced',
        known: 'claude-opus-5-5',
        unknown: 'claude-nobody-knows-9',
        fast: { id: 'claude-opus-5-5', speed: 'fast' },
    })) ids[name] = (await w.agent({ model })).id;
});

const sessions = () => world.client().beta.sessions;
const cents = (amount, currency = 'USD') => ({ type: 'limit', max_list_cost: { amount, currency } });
const make = (agent, extra = {}) => sessions().create({ agent: ids[agent] ?? agent, environment_id: ids.environment, ...extra });
const amounts = (session) => [session.budget?.max_list_cost.amount ?? null, session.usage.list_cost.amount];

// The refusal names the field by its pointer and the published reason, and says both in the message.
async function unacceptable(promise, pointer, reason, pattern) {
    const error = await refused(promise, 400, pattern, reason);
    assert.equal(error.error.error.details.pointer, pointer);
    if (reason) assert.match(error.error.error.message, new RegExp(reason));
    return error;
}

// [what, budget, pointer, what the message says]
const MALFORMED = [
    ['a number', 25, '/budget', /object/],
    ['an amount alone', '2500', '/budget', /object/],
    ['a list', [], '/budget', /object/],
    ['an empty object', {}, '/budget/type', /Field required/],
    ['no type', { max_list_cost: { amount: '1', currency: 'USD' } }, '/budget/type', /Field required/],
    ['another type', { ...cents('1'), type: 'soft' }, '/budget/type', /'limit'/],
    ['no cost', { type: 'limit' }, '/budget/max_list_cost', /Field required/],
    ['a null cost', { type: 'limit', max_list_cost: null }, '/budget/max_list_cost', /object/],
    ['a cost that is no object', { type: 'limit', max_list_cost: '2500' }, '/budget/max_list_cost', /object/],
    ['something else beside', { ...cents('1'), soft: true }, '/budget/soft', /Extra inputs/],
    ['no amount', { type: 'limit', max_list_cost: { currency: 'USD' } }, '/budget/max_list_cost/amount', /Field required/],
    ['no currency', { type: 'limit', max_list_cost: { amount: '1' } }, '/budget/max_list_cost/currency', /Field required/],
    ['another currency', cents('2500', 'EUR'), '/budget/max_list_cost/currency', /'USD'/],
    ['a currency in small letters', cents('2500', 'usd'), '/budget/max_list_cost/currency', /'USD'/],
    ['an amount in dollars', cents('25.00'), '/budget/max_list_cost/amount', /cents/],
    ['an amount as a number', cents(2500), '/budget/max_list_cost/amount', /string/],
    ['a null amount', cents(null), '/budget/max_list_cost/amount', /string/],
    ['an empty amount', cents(''), '/budget/max_list_cost/amount', /cents/],
    ['nothing to spend', cents('0'), '/budget/max_list_cost/amount', /above 0/],
    ['a leading zero', cents('0100'), '/budget/max_list_cost/amount', /leading zeros/],
    ['a negative amount', cents('-5'), '/budget/max_list_cost/amount', /cents/],
    ['a signed amount', cents('+5'), '/budget/max_list_cost/amount', /cents/],
    ['an exponent', cents('1e3'), '/budget/max_list_cost/amount', /cents/],
    ['a blank', cents(' 5'), '/budget/max_list_cost/amount', /cents/],
    ['other digits', cents('٢٥'), '/budget/max_list_cost/amount', /cents/],
    ['an amount beyond all reason', cents('1000000000000'), '/budget/max_list_cost/amount', /12 digits/],
];

// [what, limits, pointer below /limits]
const BAD_LIMITS = [
    ['a number', 5, ''],
    ['a list', [], ''],
    ['an unknown limit', { max_steps: 1 }, '/max_steps'],
    ['zero', { max_turns: 0 }, '/max_turns'],
    ['less than nothing', { max_tokens: -1 }, '/max_tokens'],
    ['a fraction', { max_seconds: 1.5 }, '/max_seconds'],
    ['a string', { max_cost_microusd: '5' }, '/max_cost_microusd'],
    ['more than clients can count', { max_tokens: 9007199254740993n }, '/max_tokens'],
];
const json = (body) => JSON.stringify(body, (_, v) => (typeof v === 'bigint' ? `@${v}@` : v)).replace(/"@(\d+)@"/g, '$1');

describe('a malformed budget', () => {
    for (const [what, budget, pointer, says] of MALFORMED) {
        test(`${what} is refused at creation and in an update`, async () => {
            await unacceptable(make('free', { budget }), pointer, undefined, says);
            const session = await make('free', { budget: cents('100') });
            await unacceptable(sessions().update(session.id, { budget }), pointer, undefined, says);
            const { budget: kept, updated_at } = await sessions().retrieve(session.id);
            assert.deepEqual([kept, updated_at], [session.budget, session.updated_at], 'nothing changed');
        });
    }
});

describe('malformed limits', () => {
    for (const [what, limits, at] of BAD_LIMITS) {
        test(`${what}: refused on sessions and agents alike`, async () => {
            const session = await make('free');
            for (const [target, body] of [
                ['/v1/sessions', { agent: ids.free, environment_id: ids.environment, limits }],
                [`/v1/sessions/${session.id}`, { limits }],
                ['/v1/agents', { name: 'a', model: 'script/echo', limits }],
                [`/v1/agents/${ids.free}`, { limits }],
            ]) {
                const answer = await world.http('POST', target, { body: json(body) });
                assert.equal(answer.status, 400, answer.text);
                assert.equal(answer.json.error.details.pointer, `/limits${at}`);
            }
        });
    }

    test('what an agent is overridden with for one session holds no limits', async () => {
        const agent = { type: 'agent_with_overrides', id: ids.free, limits: { max_turns: 1 } };
        await unacceptable(make(agent), '/agent/limits', undefined, /Extra inputs/);
    });
});

describe('a budget', () => {
    test('is shown as it was given, by every way to read the session', async () => {
        for (const amount of ['1', '50', '2500', '999999999999']) {
            const made = await make('free', { budget: cents(amount) });
            assert.deepEqual(made.budget, cents(amount));
            assert.deepEqual((await sessions().retrieve(made.id)).budget, cents(amount));
            const listed = (await sessions().list({ limit: 1 })).data[0];
            assert.deepEqual(listed.budget, cents(amount));
        }
    });

    test('is null when there is none', async () => {
        for (const extra of [{}, { budget: null }]) assert.equal((await make('free', extra)).budget, null);
    });

    test('needs a model with a list price', async () => {
        for (const agent of ['free', 'priced', 'known']) assert.deepEqual((await make(agent, { budget: cents('1') })).budget, cents('1'));
        for (const agent of ['unknown', 'fast']) {
            await unacceptable(make(agent, { budget: cents('1') }), '/budget', 'model_not_budgetable', /price/);
            assert.equal((await make(agent)).budget, null, 'without one the model is fine');
        }
    });

    test('is judged by the model that the session gets, not by the agent\'s', async () => {
        const to = (model) => ({ type: 'agent_with_overrides', id: ids.free, model });
        await unacceptable(make(to('claude-nobody-knows-9'), { budget: cents('1') }), '/budget', 'model_not_budgetable');
        const from = { type: 'agent_with_overrides', id: ids.unknown, model: 'script/echo' };
        assert.deepEqual((await make(from, { budget: cents('1') })).budget, cents('1'));
    });

    test('leaves nothing behind when it is refused', async () => {
        const before = (await sessions().list({ limit: 1 })).data[0]?.id;
        await unacceptable(make('unknown', { budget: cents('1'), initial_events: [message('hello')] }), '/budget', 'model_not_budgetable');
        assert.equal((await sessions().list({ limit: 1 })).data[0]?.id, before);
    });

    test('is part of what an idempotency key repeats', async () => {
        const options = { headers: { 'Idempotency-Key': `budget-${process.pid}` } };
        const body = { agent: ids.free, environment_id: ids.environment, budget: cents('7') };
        const first = await sessions().create(body, options);
        assert.deepEqual(await sessions().create(body, options), first);
        await refused(sessions().create({ ...body, budget: cents('8') }, options), 409);
    });

    test('cannot be added later', async () => {
        for (const agent of ['free', 'unknown']) {
            const session = await make(agent);
            await unacceptable(sessions().update(session.id, { budget: cents('100') }), '/budget', 'budget_create_only');
            assert.equal((await sessions().retrieve(session.id)).budget, null);
        }
    });

    test('that is not there can be removed', async () => {
        const session = await make('free');
        assert.equal((await sessions().update(session.id, { budget: null })).budget, null);
    });

    test('must stay above what was spent', async () => {
        const session = await make('priced', { budget: cents('500') });
        await world.turn(session.id, 'hello');
        const spent = await sessions().retrieve(session.id);
        assert.deepEqual(amounts(spent), ['500', '20'], 'twenty cents an answer');
        for (const amount of ['20', '19', '1']) {
            await unacceptable(sessions().update(session.id, { budget: cents(amount), title: 'new' }), '/budget', 'budget_not_raised', /200000/);
        }
        const after = await sessions().retrieve(session.id);
        assert.deepEqual([after.title, ...amounts(after)], [spent.title, '500', '20'], 'all or nothing');
    });

    test('of a session that is over cannot be changed', async () => {
        const session = await make('free', { budget: cents('100') });
        await sessions().archive(session.id);
        for (const budget of [cents('200'), null]) await refused(sessions().update(session.id, { budget }), 400, /archived/);
        assert.deepEqual((await sessions().retrieve(session.id)).budget, cents('100'));
    });

    test('of a session that is not there', async () => {
        await refused(sessions().update('sesn_01nothing', { budget: cents('1') }), 404);
    });
});

describe('limits', () => {
    const ALL = { max_turns: 1, max_tokens: 9007199254740991, max_seconds: 3600, max_cost_microusd: 1 };

    test('are shown as they were given, without those that are null', async () => {
        const session = await make('free', { limits: ALL });
        assert.deepEqual(session.limits, ALL);
        assert.deepEqual((await sessions().retrieve(session.id)).limits, ALL);
        const some = await make('free', { limits: { max_turns: 3, max_tokens: null } });
        assert.deepEqual(some.limits, { max_turns: 3 });
    });

    test('are not shown when there are none', async () => {
        for (const limits of [undefined, null, {}, { max_turns: null }]) assert.ok(!('limits' in (await make('free', { limits }))), JSON.stringify(limits));
    });

    test('of cost need a model with a list price, the others do not', async () => {
        for (const agent of ['unknown', 'fast']) {
            await unacceptable(make(agent, { limits: { max_cost_microusd: 5 } }), '/limits', 'model_not_budgetable', /max_cost_microusd/);
            const session = await make(agent, { limits: { max_turns: 5, max_tokens: 5, max_seconds: 5 } });
            await unacceptable(sessions().update(session.id, { limits: { max_cost_microusd: 5 } }), '/limits', 'model_not_budgetable', /max_cost_microusd/);
        }
    });

    test('of an agent are the default of its sessions', async () => {
        const agent = await world.agent({ limits: { max_turns: 2, max_seconds: 60 } });
        assert.deepEqual(agent.limits, { max_turns: 2, max_seconds: 60 });
        assert.deepEqual((await world.client().beta.agents.retrieve(agent.id)).limits, agent.limits);
        const session = await make(agent.id);
        assert.deepEqual(session.limits, agent.limits);
        assert.ok(!('limits' in session.agent), 'the session says it, not the agent in it');
        const own = { max_tokens: 5 };
        assert.deepEqual((await make(agent.id, { limits: own })).limits, own, 'the whole object is replaced');
        for (const limits of [null, {}]) assert.ok(!('limits' in (await make(agent.id, { limits }))));
        const overrides = { type: 'agent_with_overrides', id: agent.id, model: 'script/priced' };
        assert.deepEqual((await make(overrides)).limits, agent.limits);
    });

    test('of an agent are versioned like all of it', async () => {
        const agents = world.client().beta.agents;
        const one = await world.agent({ limits: { max_turns: 1 } });
        const same = await agents.update(one.id, { version: 1, limits: { max_turns: 1 } });
        assert.equal(same.version, 1, 'nothing changed');
        const two = await agents.update(one.id, { version: 1, limits: { max_tokens: 9 } });
        assert.deepEqual([two.version, two.limits], [2, { max_tokens: 9 }]);
        const named = await agents.update(one.id, { version: 2, name: 'renamed' });
        assert.deepEqual(named.limits, { max_tokens: 9 }, 'left alone');
        const none = await agents.update(one.id, { version: 3, limits: null });
        assert.ok(!('limits' in none));
        assert.deepEqual((await agents.retrieve(one.id, { version: 1 })).limits, { max_turns: 1 });
    });

    test('of cost that an agent gives by default are judged with the session\'s model', async () => {
        const agent = await world.agent({ model: 'claude-nobody-knows-9', limits: { max_cost_microusd: 5 } });
        await unacceptable(make(agent.id), '/limits', 'model_not_budgetable');
        assert.ok(await make(agent.id, { limits: null }));
    });
});

const AT_A_CAP = /user\.tool_confirmation, user\.tool_result, user\.custom_tool_result and user\.interrupt/;
const LOOKUP = { type: 'custom', name: 'look', description: 'looks', input_schema: { type: 'object' } };
const looker = async (extra) => make((await world.agent({ model: 'script/priced', tools: [LOOKUP] })).id, extra);
const PAUSE = ['session.thread_status_idle', 'session.usage', 'session.status_idle'];
const reasons = (events) => events.slice(-3).map((e) => e.stop_reason?.type);

// Answers the call that the session waits for; resolves to what was streamed until it is idle again.
async function answer(session, events) {
    const use = events.find((e) => e.type === 'agent.custom_tool_use');
    return world.turn(session.id, { type: 'user.custom_tool_result', custom_tool_use_id: use.id, content: [{ type: 'text', text: 'seen' }] });
}

// A session with less than a cent left, in the middle of a turn: a call was answered, and the next request
// does not fit.
async function paused(extra = { budget: cents('21') }) {
    const session = await looker(extra);
    const first = await world.turn(session.id, 'call look');
    assert.deepEqual(reasons(first), ['requires_action', undefined, 'requires_action']);
    const then = await answer(session, first);
    return { session, then };
}

async function updated(session, change) {
    const stream = await world.stream(session.id);
    try {
        const row = await sessions().update(session.id, change);
        return { row, events: await stream.until('session.status_idle') };
    } finally {
        stream.close();
    }
}

describe('a session that has reached a cap', () => {
    const CAPS = [
        ['its budget', { budget: cents('20') }, /budget/, {}],
        ['max_turns', { limits: { max_turns: 1 } }, /limit max_turns/, null],
        ['max_tokens', { limits: { max_tokens: 100 } }, /limit max_tokens/, { limit: 'max_tokens' }],
        ['max_cost_microusd', { limits: { max_cost_microusd: 200000 } }, /limit max_cost_microusd/, { limit: 'max_cost_microusd' }],
        ['max_seconds', { limits: { max_seconds: 1 } }, /limit max_seconds/, { limit: 'max_seconds' }],
    ];
    for (const [what, extra, says, limit] of CAPS) {
        test(`${what}: takes no message, by whatever it is accompanied`, async () => {
            const session = await make('priced', extra);
            await world.turn(session.id, 'wait');
            const before = await world.events(session.id);
            const reason = limit ? { type: 'budget_reached', ...limit } : { type: 'end_turn' };
            assert.deepEqual(before.at(-1).stop_reason, reason);
            for (const sent of [[message('more')], [{ type: 'user.interrupt' }, message('more')]]) {
                const error = await refused(world.send(session.id, ...sent), 400, AT_A_CAP);
                assert.match(error.error.error.message, says);
                assert.equal(error.error.error.details.pointer, `/events/${sent.length - 1}/type`);
            }
            assert.deepEqual(await world.events(session.id), before, 'nothing was kept');
            assert.deepEqual((await sessions().retrieve(session.id)).stop_reason, reason);
        });
    }

    test('an interrupt is answered and ignored', async () => {
        const session = await make('priced', { budget: cents('20') });
        await world.turn(session.id, 'hello');
        const before = await world.events(session.id);
        const { data } = await world.send(session.id, { type: 'user.interrupt' });
        assert.match(data[0].id, /^sevt_/);
        assert.equal((await sessions().retrieve(session.id)).status, 'idle');
        assert.deepEqual(await world.events(session.id), before);
    });

    test('a turn that ends with the money ends; the session has none', async () => {
        const session = await make('priced', { budget: cents('20') });
        const events = await world.turn(session.id, 'hello');
        assert.deepEqual(events.slice(-3).map((e) => e.type), PAUSE);
        assert.deepEqual(reasons(events), ['end_turn', undefined, 'budget_reached']);
        assert.deepEqual(events.at(-2).budget, cents('20'));
        assert.equal(events.at(-2).usage.list_cost.amount, '20');
        const raised = await updated(session, { budget: cents('60') });
        assert.deepEqual(raised.events.map((e) => e.type), ['session.updated', ...PAUSE]);
        assert.deepEqual(reasons(raised.events), ['end_turn', undefined, 'end_turn']);
        const next = await world.turn(session.id, 'more');
        assert.deepEqual(reasons(next), ['end_turn', undefined, 'end_turn']);
    });

    test('the answer is shortened to what is left, and then nothing is', async () => {
        const session = await make('priced', { budget: cents('30') });
        await world.turn(session.id, 'hello');
        await world.turn(session.id, 'once more');
        const ended = await sessions().retrieve(session.id);
        assert.deepEqual(amounts(ended), ['30', '30']);
        assert.equal(ended.usage.output_tokens, 3000);
        await refused(world.send(session.id, message('more')), 400, AT_A_CAP);
    });

    test('a request that does not fit pauses the turn', async () => {
        const { session, then } = await paused();
        assert.deepEqual(then.slice(-3).map((e) => e.type), PAUSE);
        assert.deepEqual(reasons(then), ['budget_reached', undefined, 'budget_reached']);
        assert.ok(!then.some((e) => e.type === 'span.model_request_start'), 'it was never sent');
        const now = await sessions().retrieve(session.id);
        assert.deepEqual([now.status, ...amounts(now)], ['idle', '21', '20']);
        await refused(world.send(session.id, message('more')), 400, AT_A_CAP);
        await unacceptable(sessions().update(session.id, { budget: cents('20') }), '/budget', 'budget_not_raised');
    });

    test('a raised budget lets the turn go on by itself', async () => {
        const { session } = await paused();
        const { row, events } = await updated(session, { budget: cents('41') });
        assert.deepEqual(row.budget, cents('41'));
        assert.deepEqual(events.slice(0, 2).map((e) => e.type), ['session.updated', 'session.status_running']);
        assert.deepEqual(events[0].budget, cents('41'));
        assert.ok(events.some((e) => e.type === 'agent.message'));
        assert.deepEqual(reasons(events), ['end_turn', undefined, 'end_turn']);
        assert.deepEqual(amounts(await sessions().retrieve(session.id)), ['41', '40']);
    });

    test('a budget that is still too low lets nothing go on', async () => {
        const { session } = await paused();
        const { events } = await updated(session, { budget: cents('22') });
        assert.equal(events[0].type, 'session.updated');
        assert.deepEqual(reasons(events), ['budget_reached', undefined, 'budget_reached']);
        assert.ok(!events.some((e) => e.type === 'span.model_request_start'));
    });

    test('a removed budget lets the turn go on, and is gone for good', async () => {
        const { session } = await paused();
        const { row, events } = await updated(session, { budget: null });
        assert.equal(row.budget, null);
        assert.equal(events[0].budget, null);
        assert.deepEqual(events.slice(0, 2).map((e) => e.type), ['session.updated', 'session.status_running']);
        assert.deepEqual(reasons(events), ['end_turn', undefined, 'end_turn']);
        assert.equal(events.at(-2).budget, null);
        await unacceptable(sessions().update(session.id, { budget: cents('900') }), '/budget', 'budget_create_only');
    });

    test('a call that waits for its client outranks the cap; its answer is taken', async () => {
        const session = await looker({ budget: cents('20') });
        const first = await world.turn(session.id, 'call look');
        assert.deepEqual(reasons(first), ['requires_action', undefined, 'requires_action']);
        await refused(world.send(session.id, message('more')), 400, AT_A_CAP);
        const then = await answer(session, first);
        assert.deepEqual(reasons(then), ['budget_reached', undefined, 'budget_reached']);
        const { events } = await updated(session, { budget: cents('100') });
        assert.deepEqual(reasons(events), ['end_turn', undefined, 'end_turn']);
        assert.deepEqual(amounts(await sessions().retrieve(session.id)), ['100', '40']);
    });

    test('an interrupt closes a call that waits, even then', async () => {
        const session = await looker({ budget: cents('20') });
        await world.turn(session.id, 'call look');
        const events = await world.turn(session.id, { type: 'user.interrupt' });
        assert.ok(events.some((e) => e.type === 'user.interrupt'));
        assert.deepEqual(reasons(events), ['end_turn', undefined, 'budget_reached']);
    });

    test('a budget may be lowered to anything above what was spent', async () => {
        const session = await make('priced', { budget: cents('500') });
        await world.turn(session.id, 'hello');
        assert.deepEqual((await sessions().update(session.id, { budget: cents('21') })).budget, cents('21'));
        assert.deepEqual((await sessions().retrieve(session.id)).budget, cents('21'));
        const log = await world.events(session.id);
        assert.deepEqual([log.at(-1).type, log.at(-1).budget], ['session.updated', cents('21')]);
    });

    test('an update that repeats the budget changes nothing', async () => {
        const session = await make('free', { budget: cents('500') });
        assert.deepEqual((await sessions().update(session.id, { budget: cents('500') })).budget, cents('500'));
        assert.deepEqual(await world.events(session.id), []);
    });

    test('all of it is there after a crash', async () => {
        const { session } = await paused();
        const before = await world.events(session.id);
        await world.server.restart();
        assert.deepEqual(await world.events(session.id), before);
        await refused(world.send(session.id, message('more')), 400, AT_A_CAP);
        const { events } = await updated(session, { budget: cents('100') });
        assert.deepEqual(reasons(events), ['end_turn', undefined, 'end_turn']);
        assert.deepEqual(amounts(await sessions().retrieve(session.id)), ['100', '40']);
    });
});

describe('limits that are changed', () => {
    test('are replaced as a whole, and said in the log', async () => {
        const session = await make('free', { limits: { max_turns: 5, max_seconds: 60 } });
        const changed = await sessions().update(session.id, { limits: { max_tokens: 100000 } });
        assert.deepEqual(changed.limits, { max_tokens: 100000 });
        const log = await world.events(session.id);
        assert.deepEqual(log.map((e) => [e.type, e.limits]), [['session.updated', { max_tokens: 100000 }]]);
        const named = await sessions().update(session.id, { title: 'named' });
        assert.deepEqual(named.limits, { max_tokens: 100000 }, 'left alone');
    });

    test('can be set where there were none, and be taken away', async () => {
        const session = await make('free');
        assert.deepEqual((await sessions().update(session.id, { limits: { max_turns: 1 } })).limits, { max_turns: 1 });
        await world.turn(session.id, 'one');
        await refused(world.send(session.id, message('two')), 400, AT_A_CAP);
        const free = await sessions().update(session.id, { limits: null });
        assert.ok(!('limits' in free));
        assert.deepEqual(reasons(await world.turn(session.id, 'two')), ['end_turn', undefined, 'end_turn']);
    });

    test('let one more turn begin', async () => {
        const session = await make('priced', { limits: { max_turns: 1 } });
        await world.turn(session.id, 'one');
        await refused(world.send(session.id, message('two')), 400, /limit max_turns/);
        await sessions().update(session.id, { limits: { max_turns: 2 } });
        await world.turn(session.id, 'two');
        await refused(world.send(session.id, message('three')), 400, /limit max_turns/);
    });

    for (const [name, low, high] of [['max_tokens', 2100, 100000], ['max_cost_microusd', 210000, 1000000]]) {
        test(`${name}: a turn that paused goes on when it is raised`, async () => {
            const { session, then } = await paused({ limits: { [name]: low } });
            assert.deepEqual(then.at(-1).stop_reason, { type: 'budget_reached', limit: name });
            assert.deepEqual(then.at(-3).stop_reason, { type: 'budget_reached', limit: name });
            await refused(world.send(session.id, message('more')), 400, new RegExp(`limit ${name}`));
            const { events } = await updated(session, { limits: { [name]: high } });
            assert.deepEqual(events.slice(0, 2).map((e) => e.type), ['session.updated', 'session.status_running']);
            assert.deepEqual(reasons(events), ['end_turn', undefined, 'end_turn']);
        });
    }

    test('and a budget: each holds by itself', async () => {
        const session = await make('priced', { budget: cents('100'), limits: { max_cost_microusd: 200000 } });
        await world.turn(session.id, 'hello');
        await refused(world.send(session.id, message('more')), 400, /limit max_cost_microusd/);
        await sessions().update(session.id, { limits: null });
        assert.deepEqual(reasons(await world.turn(session.id, 'more')), ['end_turn', undefined, 'end_turn']);
    });
});
