// /v1/models: the table in the types of both SDK releases, walked both ways, and the scripts at its end.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { after } from 'node:test';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { refused, SDKS, useServer } from '../lib/harness.mjs';
import { schemas } from '../lib/schemas.mjs';

const dir = mkdtempSync(path.join(tmpdir(), 'ostler-models-'));
const scripts = path.join(dir, 'scripts');
mkdirSync(scripts);
writeFileSync(path.join(scripts, 'mine.lua'), 'return function() return "mine" end\n');
writeFileSync(path.join(scripts, 'not a name.lua'), '');
writeFileSync(path.join(scripts, 'notes.txt'), '');
after(() => rmSync(dir, { recursive: true }));

const world = useServer({ config: `script_dir: ${scripts}\n` });
const SCRIPTS = ['demo', 'echo', 'instant', 'mine', 'tool'].map((name) => `script/${name}`);

const all = async (resource, query = {}) => {
    const list = [];
    for await (const model of resource.list(query)) list.push(model);
    return list;
};

for (const [sdk, { packageName }] of Object.entries(SDKS)) {
    describe(`SDK ${sdk}`, () => {
        test('the list is the table and then the scripts, on both resources', async () => {
            const client = world.client(sdk);
            const models = await all(client.models);
            const ids = models.map((m) => m.id);
            assert.ok(ids.includes('claude-opus-5-5') && ids.includes('claude-haiku-4-5'));
            assert.deepEqual(ids.slice(-SCRIPTS.length), SCRIPTS);
            assert.equal(ids.findIndex((id) => id.startsWith('script/')), ids.length - SCRIPTS.length);
            assert.deepEqual((await all(client.beta.models)).map((m) => m.id), ids);
            for (const model of models) assert.deepEqual(schemas(packageName).errors('PlainModel', model), []);
        });

        test('pages of any size hold the same', async () => {
            const client = world.client(sdk);
            const ids = (await all(client.models, { limit: 1000 })).map((m) => m.id);
            for (const limit of [1, 3, ids.length - 1, ids.length]) {
                assert.deepEqual((await all(client.models, { limit })).map((m) => m.id), ids);
            }
            const page = await client.models.list({ limit: 2, before_id: ids[4] });
            assert.deepEqual([page.data.map((m) => m.id), page.has_more], [ids.slice(2, 4), true]);
            const first = await client.models.list({ limit: 4, before_id: ids[4] });
            assert.deepEqual([first.data.map((m) => m.id), first.has_more], [ids.slice(0, 4), false]);
            const back = await all(client.models, { limit: 2, before_id: ids[5] });
            assert.deepEqual(back.map((m) => m.id).toSorted(), ids.slice(0, 5).toSorted());
            const end = await client.models.list({ after_id: ids.at(-1) });
            assert.deepEqual([end.data, end.has_more], [[], false]);
        });

        test('a model is found by its id and by an alias', async () => {
            const client = world.client(sdk);
            const model = await client.models.retrieve('claude-opus-4-5');
            assert.equal(model.display_name, 'Claude Opus 4.5');
            assert.equal(model.max_input_tokens, 200000);
            assert.equal(model.max_tokens, 64000);
            assert.deepEqual(await client.models.retrieve('claude-opus-4-5-20251101'), model);
            assert.deepEqual(await client.beta.models.retrieve('claude-opus-4-5'), model);
            assert.deepEqual((await all(client.models)).find((m) => m.id === 'claude-opus-4-5'), model);
        });

        test('a script is labelled as one', async () => {
            const model = await world.client(sdk).models.retrieve('script/mine');
            assert.equal(model.id, 'script/mine');
            assert.match(model.display_name, /scripted/);
            assert.equal(model.max_tokens, null);
        });

        test('what is not in the table is not found', async () => {
            for (const id of ['claude-nobody', 'script/nobody', 'gpt', 'script/..', 'x'.repeat(500)]) {
                await refused(world.client(sdk).models.retrieve(id), 404, /not found/);
            }
        });
    });
}

test('lines, lifecycles and thinking are told', async () => {
    const client = world.client('1.11.0');
    const sonnet = await client.models.retrieve('claude-sonnet-5-5');
    assert.equal(sonnet.line, 'sonnet');
    assert.equal(sonnet.lifecycle, 'active');
    assert.equal(sonnet.capabilities.thinking.types.adaptive.supported, true);
    assert.equal(sonnet.capabilities.effort.max.supported, true);
    assert.match((await client.models.retrieve('claude-fable-5-2')).display_name, /unverified/);
    const ids = (await all(client.models)).map((m) => m.id);
    assert.deepEqual((await all(client.models, { lifecycle: ['active', 'retired'] })).map((m) => m.id), ids);
    assert.deepEqual(await all(client.models, { lifecycle: ['retired', 'deprecated'] }), []);
});

test('queries that are none are refused', async () => {
    const cases = [
        ['limit=0', /limit/], ['limit=1001', /limit/], ['limit=few', /limit/], ['lifecycle[]=young', /lifecycle/],
        ['after_id=claude-nobody', /after_id/], ['before_id=claude-nobody', /before_id/], ['after_id=script/demo&before_id=script/demo', /before_id/],
    ];
    for (const [query, names] of cases) {
        const answer = await world.http('GET', `/v1/models?${query}`);
        assert.equal(answer.status, 400, answer.text);
        assert.match(answer.json.error.message, names);
    }
});

test('models need a key and no beta header', async () => {
    assert.equal((await world.http('GET', '/v1/models', { key: null })).status, 401);
    assert.equal((await world.http('GET', '/v1/models', { beta: null })).status, 200);
});
