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
            // The tier is known a moment after the start only.
            const settled = ({ config: { tier, ...config }, ...rest }) => ({ ...rest, config });
            assert.deepEqual(settled(await environments().retrieve(environment.id)), settled(environment));
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
            assert.deepEqual({ ...next.config, tier: '' }, { ...environment.config, tier: '' });
        });

        test('its type cannot change', async () => {
            const environment = await environments().create({ name: 'cloud' });
            await refused(environments().update(environment.id, { config: { type: 'self_hosted' } }), 400, /type/, 'invalid_config_type_change');
        });

        test('contents are echoed, and kept or cleared one by one', async () => {
            const environment = await environments().create({
                name: 'contents',
                config: { type: 'cloud', setup: ['true'], variables: { COLOUR: 'green' }, limits: { memory_mb: 512, wall_seconds: 60 } },
            });
            assert.deepEqual(environment.config.setup, ['true']);
            assert.deepEqual(environment.config.variables, { COLOUR: 'green' });
            assert.deepEqual(environment.config.limits, { memory_mb: 512, wall_seconds: 60 });
            assert.ok(['pending', 'building', 'ready'].includes(environment.build.state));
            // What was served can be sent back.
            const { config } = await environments().update(environment.id, { config: environment.config });
            assert.deepEqual({ ...config, tier: '' }, { ...environment.config, tier: '' });
            const cleared = await environments().update(environment.id, { config: { type: 'cloud', setup: [], limits: null } });
            assert.equal(cleared.build, null);
            assert.ok(!('setup' in cleared.config) && !('limits' in cleared.config));
            assert.deepEqual(cleared.config.variables, { COLOUR: 'green' });
        });

        test('what packages, variables and images may not be is a 400 with its place', async () => {
            const cloud = (config) => environments().create({ name: 'x', config: { type: 'cloud', ...config } });
            await refused(cloud({ packages: { apt: ['-o=x'] } }), 400, /packages\.apt\.0.*name or name=version/);
            await refused(cloud({ packages: { npm: ['a; id'] } }), 400, /packages\.npm\.0/);
            await refused(cloud({ packages: { pip: ['six'] }, networking: { type: 'limited' } }), 400, /allow_package_managers/);
            await refused(cloud({ variables: { PATH: '/x' } }), 400, /variables\.PATH.*sandbox sets/);
            await refused(cloud({ limits: { memory_mb: 1 } }), 400, /limits\.memory_mb/);
            await refused(cloud({ image: { type: 'oci_layout', path: '/x' } }), 400, /image\.type.*OCI/);
            await refused(cloud({ image: { type: 'rootfs', path: '/' } }), 400, /image\.path/);
            await refused(cloud({ image: { type: 'rootfs', path: '/usr' } }), 400, /image\.path.*sandbox\.images/);
        });

        test('archive is repeatable and ends updates and new sessions', async () => {
            const environment = await environments().create({ name: 'gone' });
            const archived = await environments().archive(environment.id);
            assert.ok(archived.archived_at);
            const again = await environments().archive(environment.id);
            assert.deepEqual({ ...again, config: 0 }, { ...archived, config: 0 });
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
