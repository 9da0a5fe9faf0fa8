// The work of self-hosted environments: the queue, the rules of polling, acknowledging, heartbeats and
// stopping, and which credential opens what.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { refused, SDKS, useServer } from '../lib/harness.mjs';

const world = useServer({ config: `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\n` });
const TOOLSET = { type: 'agent_toolset_20260401' };
const call = 'bash {"command": "true"}';

// A self-hosted environment, its key, and who works with it.
async function place(sdk = '1.11.0') {
    const environment = await world.environment({ name: 'own', config: { type: 'self_hosted' } });
    const made = await world.http('POST', `/v1/environments/${environment.id}/keys`, { body: { name: 'worker' }, beta: null });
    assert.equal(made.status, 200, made.text);
    const client = (authToken) => world.client(sdk, { apiKey: null, authToken });
    return { id: environment.id, key: made.json.key, keyId: made.json.id, worker: client(made.json.key), client, operator: world.client(sdk) };
}

async function session(env, { tools, ...extra } = {}) {
    const agent = await world.agent({ model: 'script/call', tools: tools ?? [TOOLSET], ...extra });
    return world.client().beta.sessions.create({ agent: agent.id, environment_id: env.id });
}

const work = (client) => client.beta.environments.work;
const at = (env) => ({ environment_id: env.id });
const tokenOf = (item) => JSON.parse(Buffer.from(item.secret, 'base64url')).sessions_token;

async function take(env) {
    const item = await work(env.worker).poll(env.id, { block_ms: 999, 'Anthropic-Worker-ID': 'w1' });
    assert.ok(item, 'there is work');
    await work(env.worker).ack(item.id, at(env));
    const holder = env.client(tokenOf(item));
    const beat = await work(holder).heartbeat(item.id, { ...at(env), expected_last_heartbeat: 'NO_HEARTBEAT' });
    return { item, holder, last: beat.last_heartbeat };
}

for (const sdk of Object.keys(SDKS)) {
    describe(`work with SDK ${sdk}`, () => {
        test('an item goes from the queue through a worker to its end', async () => {
            const env = await place(sdk);
            const { id } = await session(env);
            const item = await work(env.worker).poll(env.id, { block_ms: 500, 'Anthropic-Worker-ID': 'w1' });
            assert.deepEqual(item.data, { type: 'session', id });
            assert.equal(item.state, 'queued');
            assert.match(tokenOf(item), /^sk-ant-req-/);
            const acked = await work(env.worker).ack(item.id, at(env));
            assert.equal(acked.state, 'starting');
            assert.equal(acked.secret, null);
            assert.ok(acked.acknowledged_at);
            const holder = env.client(tokenOf(item));
            const first = await work(holder).heartbeat(item.id, { ...at(env), expected_last_heartbeat: 'NO_HEARTBEAT' });
            assert.deepEqual({ state: first.state, extended: first.lease_extended, ttl: first.ttl_seconds }, { state: 'active', extended: true, ttl: 300 });
            const second = await work(holder).heartbeat(item.id, { ...at(env), expected_last_heartbeat: first.last_heartbeat, desired_ttl_seconds: 60 });
            assert.equal(second.ttl_seconds, 60);
            assert.ok(second.last_heartbeat > first.last_heartbeat);
            assert.equal((await holder.beta.sessions.retrieve(id)).id, id);
            const seen = await work(env.operator).retrieve(item.id, at(env));
            assert.equal(seen.latest_heartbeat_at, second.last_heartbeat);
            const stopped = await work(holder).stop(item.id, { ...at(env), force: true });
            assert.equal(stopped.state, 'stopped');
            assert.ok(stopped.stopped_at);
            await refused(work(holder).stop(item.id, { ...at(env), force: true }), 409, /stopped/);
            await refused(holder.beta.sessions.retrieve(id), 401);
        });

        test('the list takes the key of the environment, one item an operator\'s', async () => {
            const env = await place(sdk);
            const made = [(await session(env)).id, (await session(env)).id, (await session(env)).id];
            const listed = [];
            for await (const item of work(env.worker).list(env.id, { limit: 2 })) listed.push(item);
            assert.deepEqual(listed.map((i) => i.data.id), made.toReversed());
            await refused(work(env.operator).list(env.id), 403, /worker/);
            await refused(work(env.worker).retrieve(listed[0].id, at(env)), 403, /API key/);
            const updated = await work(env.operator).update(listed[0].id, { ...at(env), metadata: { rack: '7', gone: 'x' } });
            assert.deepEqual(updated.metadata, { rack: '7', gone: 'x' });
            const again = await work(env.operator).update(listed[0].id, { ...at(env), metadata: { gone: null } });
            assert.deepEqual(again.metadata, { rack: '7' });
            await refused(work(env.operator).update(listed[0].id, { ...at(env), metadata: { k: 'x'.repeat(513) } }), 400, /512/, 'invalid_metadata');
        });

        test('stats count what waits, what was offered and who polls', async () => {
            const env = await place(sdk);
            const empty = await work(env.operator).stats(env.id);
            assert.deepEqual(empty, { type: 'work_queue_stats', depth: 0, pending: 0, oldest_queued_at: null, workers_polling: 0 });
            await session(env);
            await session(env);
            await work(env.worker).poll(env.id, { 'Anthropic-Worker-ID': 'w1' });
            const stats = await work(env.worker).stats(env.id);
            assert.deepEqual({ ...stats, oldest_queued_at: '' }, { type: 'work_queue_stats', depth: 1, pending: 1, oldest_queued_at: '', workers_polling: 1 });
            assert.ok(stats.oldest_queued_at);
        });
    });
}

test('a poll of an empty queue answers null, at once or at the end of its block', async () => {
    const env = await place();
    assert.equal(await work(env.worker).poll(env.id), null);
    const start = Date.now();
    assert.equal(await work(env.worker).poll(env.id, { block_ms: 300 }), null);
    assert.ok(Date.now() - start >= 290, 'it waited');
});

test('a poller that waits gets the work as it comes, and only one does', async () => {
    const env = await place();
    const polls = Array.from({ length: 8 }, () => work(env.worker).poll(env.id, { block_ms: 999 }));
    const { id } = await session(env);
    const items = (await Promise.all(polls)).filter((item) => item !== null);
    assert.deepEqual(items.map((i) => i.data.id), [id]);
});

test('an offer that is not acknowledged is made again, to one who says when', async () => {
    const env = await place();
    await session(env);
    const first = await work(env.worker).poll(env.id);
    assert.equal(await work(env.worker).poll(env.id), null);
    const second = await work(env.worker).poll(env.id, { reclaim_older_than_ms: 0 });
    assert.equal(second.id, first.id);
    assert.notEqual(tokenOf(second), tokenOf(first));
    // The late one hears yes, as after a lost answer, but the first heartbeat decides.
    await work(env.worker).ack(first.id, at(env));
    await work(env.worker).ack(first.id, at(env));
    await work(env.client(tokenOf(second))).heartbeat(first.id, { ...at(env), expected_last_heartbeat: 'NO_HEARTBEAT' });
    const late = await refused(work(env.client(tokenOf(first))).heartbeat(first.id, { ...at(env), expected_last_heartbeat: 'NO_HEARTBEAT' }), 412, null, 'heartbeat_precondition_failed');
    assert.equal(late.error.error.details.current_state.state, 'active');
    await refused(work(env.client(tokenOf(first))).stop(first.id, { ...at(env), force: true }), 409);
    await refused(work(env.worker).ack(first.id, at(env)), 409, /active/);
});

test('a heartbeat that expects another one is refused with the lease as it is', async () => {
    const env = await place();
    await session(env);
    const { item, last, holder } = await take(env);
    const error = await refused(work(env.worker).heartbeat(item.id, { ...at(env), expected_last_heartbeat: 'NO_HEARTBEAT' }), 412, null, 'heartbeat_precondition_failed');
    assert.deepEqual(error.error.error.details.current_state, { state: 'active', last_heartbeat: last, lease_extended: false, ttl_seconds: 300 });
    await refused(work(holder).heartbeat(item.id, { ...at(env), expected_last_heartbeat: 'no time' }), 412);
    // The same request again, because its answer was lost: only who holds the token can have sent it.
    const next = await work(holder).heartbeat(item.id, { ...at(env), expected_last_heartbeat: last });
    const repeated = await work(holder).heartbeat(item.id, { ...at(env), expected_last_heartbeat: last });
    assert.ok(repeated.lease_extended && repeated.last_heartbeat > next.last_heartbeat);
    await refused(work(env.worker).heartbeat(item.id, { ...at(env), expected_last_heartbeat: next.last_heartbeat.replace(/\d\dZ$/, '00Z') }), 412);
});

test('a graceful stop reaches the worker by its heartbeat, whatever that expects', async () => {
    const env = await place();
    await session(env);
    const { item, holder } = await take(env);
    const stopping = await work(env.operator).stop(item.id, at(env));
    assert.equal(stopping.state, 'stopping');
    assert.equal((await work(env.operator).stop(item.id, at(env))).stop_requested_at, stopping.stop_requested_at);
    const beat = await work(holder).heartbeat(item.id, { ...at(env), expected_last_heartbeat: 'anything' });
    assert.deepEqual([beat.state, beat.lease_extended], ['stopping', false]);
    await work(holder).stop(item.id, { ...at(env), force: true });
    const after = await work(holder).heartbeat(item.id, { ...at(env), expected_last_heartbeat: 'anything' });
    assert.deepEqual([after.state, after.lease_extended], ['stopped', false]);
});

test('heartbeats ask for a lease within bounds', async () => {
    const env = await place();
    await session(env);
    const { item, holder } = await take(env);
    const ttl = async (desired_ttl_seconds) => (await work(holder).heartbeat(item.id, { ...at(env), desired_ttl_seconds })).ttl_seconds;
    assert.deepEqual([await ttl(1), await ttl(100000), await ttl(45)], [2, 3600, 45]);
});

test('a call for the worker stands in the queue until it is answered, and a lost lease is said', async () => {
    const env = await place();
    const { id } = await session(env);
    const seen = await world.turn(id, call);
    assert.equal(seen.at(-1).stop_reason.type, 'requires_action');
    const use = seen.find((e) => e.type === 'agent.tool_use');
    const { item, holder, last } = await take(env);
    const stream = await world.stream(id);
    await work(holder).heartbeat(item.id, { ...at(env), expected_last_heartbeat: last, desired_ttl_seconds: 2 });
    const error = (await stream.until('session.error')).at(-1);
    assert.match(error.error.message, /lease ran out/);
    assert.equal(error.error.retry_status.type, 'retrying');
    await refused(work(holder).heartbeat(item.id, { ...at(env), expected_last_heartbeat: last }), 412, null, 'heartbeat_precondition_failed');
    await refused(holder.beta.sessions.retrieve(id), 401);
    const next = await take(env);
    assert.equal(next.item.id, item.id);
    await next.holder.beta.sessions.events.send(id, { events: [{ type: 'user.tool_result', tool_use_id: use.id, content: [{ type: 'text', text: 'done' }] }] });
    await stream.until((e) => e.type === 'session.status_idle' && e.stop_reason.type === 'end_turn');
    stream.close();
});

test('stopped three times without an answer it stays stopped until an interrupt', async () => {
    const env = await place();
    const { id } = await session(env);
    await world.turn(id, call);
    const stream = await world.stream(id);
    const errors = [];
    for (let i = 0; i < 3; i++) {
        const { item, holder } = await take(env);
        await work(holder).stop(item.id, { ...at(env), force: true });
        errors.push((await stream.until('session.error')).at(-1).error);
    }
    assert.deepEqual(errors.map((e) => e.retry_status.type), ['retrying', 'retrying', 'exhausted']);
    assert.match(errors[2].message, /user\.interrupt/);
    assert.equal(await work(env.worker).poll(env.id), null);
    await world.send(id, { type: 'user.interrupt' });
    await stream.until('session.status_idle');
    assert.equal((await take(env)).item.data.id, id);
    stream.close();
});

test('the end of a session reaches its worker', async () => {
    const env = await place();
    const [archived, deleted, untouched] = [await session(env), await session(env), await session(env)];
    const [one, two] = [await take(env), await take(env)];
    await world.client().beta.sessions.archive(archived.id);
    assert.equal((await work(one.holder).heartbeat(one.item.id, at(env))).state, 'stopping');
    assert.equal((await one.holder.beta.sessions.retrieve(archived.id)).status, 'terminated');
    await work(one.holder).stop(one.item.id, { ...at(env), force: true });
    await world.client().beta.sessions.delete(deleted.id);
    assert.equal((await work(two.holder).heartbeat(two.item.id, at(env))).state, 'stopping');
    await work(two.holder).stop(two.item.id, { ...at(env), force: true });
    await world.client().beta.sessions.archive(untouched.id);
    assert.equal(await work(env.worker).poll(env.id), null);
});

test('credentials of workers open what they need and nothing else', async () => {
    const [env, other] = [await place(), await place()];
    const [mine, theirs] = [await session(env), await session(other)];
    const { item, holder } = await take(env);
    for (const client of [env.worker, holder]) {
        assert.equal((await client.beta.sessions.retrieve(mine.id)).id, mine.id);
        assert.ok((await client.beta.sessions.events.list(mine.id)).data);
        await refused(client.beta.sessions.retrieve(theirs.id), 404);
        await refused(client.beta.sessions.events.list(theirs.id), 404);
        await refused(client.beta.sessions.events.send(theirs.id, { events: [{ type: 'user.tool_result', tool_use_id: 'sevt_x' }] }), 404);
        await refused(client.beta.sessions.list(), 403);
        await refused(client.beta.sessions.delete(mine.id), 403);
        await refused(client.beta.agents.list(), 403);
        await refused(client.beta.environments.retrieve(env.id), 403);
        await refused(client.beta.sessions.events.send(mine.id, { events: [{ type: 'user.message', content: [{ type: 'text', text: 'x' }] }] }), 403, /worker/);
        await refused(client.beta.sessions.events.send(mine.id, { events: [{ type: 'user.tool_confirmation', tool_use_id: 'sevt_x', result: 'allow' }] }), 403, /worker/);
        await refused(client.beta.sessions.events.send(mine.id, { events: [{ type: 'user.tool_result', tool_use_id: 'sevt_x', content: [{ type: 'document', source: { type: 'file', file_id: 'file_x' } }] }] }), 403, /file_id/);
        await refused(work(client).heartbeat(item.id, { environment_id: other.id }), 404);
    }
    await refused(work(env.worker).poll(other.id), 404);
    await refused(work(holder).poll(env.id), 403);
    await refused(work(env.operator).poll(env.id), 403);
    const another = await session(env);
    await refused(holder.beta.sessions.retrieve(another.id), 404);
    assert.equal((await env.worker.beta.sessions.retrieve(another.id)).id, another.id);
    await refused(work(env.client('sk-ant-oat01-guessed')).poll(env.id), 401);
    await refused(env.client('sk-ant-req-guessed').beta.sessions.retrieve(mine.id), 401);
});

test('an idempotency-key of a worker takes none from the clients of the workspace', async () => {
    const env = await place();
    const mine = await session(env);
    await world.send(mine.id, call);
    await world.idle(mine.id);
    const use = (await world.events(mine.id)).find((e) => e.type === 'agent.tool_use');
    const send = (events, authorization) =>
        world.http('POST', `/v1/sessions/${mine.id}/events`, { body: { events }, headers: { 'idempotency-key': `order-${mine.id}`, ...(authorization && { authorization }) } });
    const result = [{ type: 'user.tool_result', tool_use_id: use.id, content: [{ type: 'text', text: 'done' }] }];
    const first = await send(result, `Bearer ${env.key}`);
    assert.equal(first.status, 200, first.text);
    const again = await send(result, `Bearer ${env.key}`);
    assert.equal(again.json.data[0].id, first.json.data[0].id, 'repeated, not accepted twice');
    const theirs = await send([{ type: 'user.message', content: [{ type: 'text', text: 'hello' }] }]);
    assert.equal(theirs.status, 200, theirs.text);
});

test('keys are shown once, listed without themselves, and gone when deleted', async () => {
    const env = await place();
    const keys = `/v1/environments/${env.id}/keys`;
    const make = (body, headers = {}) => world.http('POST', keys, { body, headers, beta: null });
    const made = await make({ name: 'two' }, { 'idempotency-key': `k-${env.id}` });
    assert.match(made.json.key, /^sk-ant-oat01-/);
    const repeated = await make({ name: 'two' }, { 'idempotency-key': `k-${env.id}` });
    assert.equal(repeated.json.id, made.json.id);
    assert.ok(!('key' in repeated.json), 'the key is kept nowhere');
    const listed = await world.http('GET', keys, { beta: null });
    assert.deepEqual(listed.json.data.map((k) => [k.id, k.name, k.type, k.key]), [[made.json.id, 'two', 'environment_key', undefined], [env.keyId, 'worker', 'environment_key', undefined]]);
    await work(env.client(made.json.key)).poll(env.id);
    const gone = await world.http('DELETE', `${keys}/${made.json.id}`, { beta: null });
    assert.deepEqual(gone.json, { id: made.json.id, type: 'environment_key_deleted' });
    await refused(work(env.client(made.json.key)).poll(env.id), 401);
    assert.equal((await world.http('DELETE', `${keys}/${made.json.id}`, { beta: null })).status, 404);
    assert.equal((await make({})).status, 400);
    const cloud = await world.environment();
    const refusal = await world.http('POST', `/v1/environments/${cloud.id}/keys`, { body: { name: 'x' }, beta: null });
    assert.equal(refusal.status, 400);
    assert.match(refusal.json.error.message, /not self-hosted/);
});

test('a self-hosted environment has no contents, and its sessions no resources', async () => {
    const env = await place();
    const environments = world.client().beta.environments;
    const read = await environments.retrieve(env.id);
    assert.deepEqual(read.config, { type: 'self_hosted' });
    assert.ok(!('build' in read));
    assert.deepEqual((await environments.update(env.id, { name: 'renamed', config: { type: 'self_hosted' } })).config, { type: 'self_hosted' });
    await refused(environments.update(env.id, { config: { type: 'cloud' } }), 400, /type/, 'invalid_config_type_change');
    await refused(environments.create({ name: 'x', config: { type: 'self_hosted', setup: ['true'] } }), 400, /setup/);
    const agent = await world.agent();
    const file = await world.client().beta.files.upload({ file: new File(['x'], 'x.txt') });
    const resources = [{ type: 'file', file_id: file.id }];
    await refused(world.client().beta.sessions.create({ agent: agent.id, environment_id: env.id, resources }), 400, /is a self-hosted environment. `resources` are not supported/);
    const { id } = await session(env);
    await refused(world.client().beta.sessions.resources.add(id, resources[0]), 400, /self-hosted environment/);
});

test('what a poll cannot ask for is a 400 that names it', async () => {
    const env = await place();
    const poll = (query) => world.http('GET', `/v1/environments/${env.id}/work/poll?${query}`, { key: null, headers: { authorization: `Bearer ${env.key}` } });
    for (const query of ['block_ms=1000', 'block_ms=0', 'reclaim_older_than_ms=-1', 'block_ms=x']) assert.equal((await poll(query)).status, 400, query);
    assert.equal((await poll('beta=true')).text, 'null');
    const ack = (id) => world.http('POST', `/v1/environments/${env.id}/work/${id}/ack`, { key: null, body: '', headers: { authorization: `Bearer ${env.key}` } });
    assert.equal((await ack('work_01')).status, 404);
    await session(env);
    const item = (await poll('block_ms=999')).json;
    // As one client sends it: a content type and no body.
    assert.equal((await ack(item.id)).json.state, 'starting');
});
