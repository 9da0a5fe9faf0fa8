// Environments: create, update, archive, delete, lists, what sessions may do with them.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { refused, SDKS, useServer } from '../lib/harness.mjs';

const world = useServer();

for (const sdk of Object.keys(SDKS)) {
    describe(`environments with SDK ${sdk}`, () => {
        const environments = () => world.client(sdk).beta.environments;

        test('one without a config is a cloud environment with defaults', async () => {
            const environment = await environments().create({ name: 'bare' });
            assert.equal(environment.config.type, 'cloud');
            assert.ok(environment.config.networking.type);
            assert.deepEqual(environment.config.packages.apt, []);
            assert.equal(environment.description, '');
            assert.deepEqual(environment.metadata, {});
            assert.deepEqual(await environments().retrieve(environment.id), environment);
        });

        test('limited networking comes back with its defaults', async () => {
            const environment = await environments().create({
                name: 'limited', config: { type: 'cloud', networking: { type: 'limited', allowed_hosts: ['example.com'] } },
            });
            assert.deepEqual(environment.config.networking, {
                type: 'limited', allowed_hosts: ['example.com'], allow_mcp_servers: false, allow_package_managers: false,
            });
        });

        test('an update keeps what it omits and merges metadata', async () => {
            const environment = await environments().create({ name: 'u', description: 'd', metadata: { a: '1', b: '2' } });
            const next = await environments().update(environment.id, { name: 'v', metadata: { a: null, c: '3' } });
            assert.equal(next.name, 'v');
            assert.equal(next.description, 'd');
            assert.deepEqual(next.metadata, { b: '2', c: '3' });
            assert.deepEqual(next.config, environment.config);
        });

        test('its type cannot change', async () => {
            const environment = await environments().create({ name: 'cloud' });
            await refused(environments().update(environment.id, { config: { type: 'self_hosted' } }), 400, /type/, 'invalid_config_type_change');
        });

        test('archive is repeatable and ends updates and new sessions', async () => {
            const environment = await environments().create({ name: 'gone' });
            const archived = await environments().archive(environment.id);
            assert.ok(archived.archived_at);
            assert.deepEqual(await environments().archive(environment.id), archived);
            await refused(environments().update(environment.id, { name: 'x' }), 400, /archived/i, 'environment_archived');
            const agent = await world.agent();
            await refused(world.client(sdk).beta.sessions.create({ agent: agent.id, environment_id: environment.id }), 400, /archived/i);
        });

        test('delete answers with what was deleted, then it is unknown', async () => {
            const environment = await environments().create({ name: 'del' });
            assert.deepEqual(await environments().delete(environment.id), { id: environment.id, type: 'environment_deleted' });
            await refused(environments().retrieve(environment.id), 404, /env_|environment/i);
            await refused(environments().delete(environment.id), 404);
        });
    });
}

test('lists page without gap or repeat and hide what is archived', async () => {
    const { environments } = world.client().beta;
    const before = new Set();
    for await (const e of environments.list({ include_archived: true })) before.add(e.id);
    const made = [];
    for (let i = 0; i < 4; i++) made.push((await environments.create({ name: `p${i}` })).id);
    await environments.archive(made[1]);
    const ids = async (query) => {
        const out = [];
        for await (const e of environments.list({ limit: 1, ...query })) if (!before.has(e.id)) out.push(e.id);
        return out;
    };
    assert.deepEqual(await ids({}), [made[3], made[2], made[0]]);
    assert.deepEqual(await ids({ include_archived: true }), made.toReversed());
});
