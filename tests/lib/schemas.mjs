// JSON Schemas made from the types of an SDK release, at test time. Additional properties are allowed when
// a value is validated; unknown() names the fields that the types do not have.
import { createRequire } from 'node:module';
import { mkdirSync, readFileSync, renameSync, writeFileSync, existsSync } from 'node:fs';
import { createHash } from 'node:crypto';
import path from 'node:path';

const require = createRequire(import.meta.url);
const tests = path.resolve(import.meta.dirname, '..');

// Name in the schema -> [file of the SDK's declarations, type]. A page is written out because the SDK's own
// page types are classes.
const TYPES = {
    Agent: ['resources/beta/agents/agents', 'BetaManagedAgentsAgent'],
    Environment: ['resources/beta/environments/environments', 'BetaEnvironment'],
    EnvironmentDeleted: ['resources/beta/environments/environments', 'BetaEnvironmentDeleteResponse'],
    Session: ['resources/beta/sessions/sessions', 'BetaManagedAgentsSession'],
    SessionDeleted: ['resources/beta/sessions/sessions', 'BetaManagedAgentsDeletedSession'],
    Event: ['resources/beta/sessions/events', 'BetaManagedAgentsSessionEvent'],
    StreamEvent: ['resources/beta/sessions/events', 'BetaManagedAgentsStreamSessionEvents'],
    SentEvents: ['resources/beta/sessions/events', 'BetaManagedAgentsSendSessionEvents'],
    Thread: ['resources/beta/sessions/threads/threads', 'BetaManagedAgentsSessionThread'],
    Resource: ['resources/beta/sessions/resources', 'BetaManagedAgentsSessionResource'],
    ResourceDeleted: ['resources/beta/sessions/resources', 'BetaManagedAgentsDeleteSessionResource'],
    File: ['resources/beta/files', 'BetaFileMetadata'],
    FileDeleted: ['resources/beta/files', 'BetaDeletedFile'],
    Model: ['resources/beta/models', 'BetaModelInfo'],
    Work: ['resources/beta/environments/work', 'BetaSelfHostedWork'],
    WorkHeartbeat: ['resources/beta/environments/work', 'BetaSelfHostedWorkHeartbeatResponse'],
    WorkStats: ['resources/beta/environments/work', 'BetaSelfHostedWorkQueueStats'],
    PlainModel: ['resources/models', 'ModelInfo'],
    ErrorResponse: ['resources/beta/beta', 'BetaErrorResponse'],
};
// Where the releases have different names, and different shapes.
const OWN_TYPES = {
    '@anthropic-ai/sdk': {
        Skill: ['resources/beta/skills/skills', 'BetaSkill'],
        SkillDeleted: ['resources/beta/skills/skills', 'BetaDeletedSkill'],
        SkillVersion: ['resources/beta/skills/versions', 'BetaSkillVersion'],
        SkillVersionDeleted: ['resources/beta/skills/versions', 'BetaDeletedSkillVersion'],
    },
    'sdk-0120': {
        Skill: ['resources/beta/skills/skills', 'SkillRetrieveResponse'],
        SkillDeleted: ['resources/beta/skills/skills', 'SkillDeleteResponse'],
        SkillVersion: ['resources/beta/skills/versions', 'VersionRetrieveResponse'],
        SkillVersionDeleted: ['resources/beta/skills/versions', 'VersionDeleteResponse'],
    },
};
const PAGES = { AgentPage: 'Agent', EnvironmentPage: 'Environment', EventPage: 'Event', ThreadPage: 'Thread', ResourcePage: 'Resource', WorkPage: 'Work' };

function entrySource(sdkDir, packageName) {
    const lines = [];
    for (const [name, [file, type]] of Object.entries({ ...TYPES, ...OWN_TYPES[packageName] })) {
        lines.push(`import type { ${type} as Its${name} } from '${sdkDir}/${file}';`);
        lines.push(`export type ${name} = Its${name};`);
    }
    for (const [page, item] of Object.entries(PAGES)) {
        lines.push(`export interface ${page} { data: Array<${item}>; next_page: string | null }`);
    }
    lines.push('export type WorkOrNull = Work | null;');
    lines.push('export interface SessionPage { data: Array<Session>; next_page: string | null; prev_page: string | null }');
    return lines.join('\n') + '\n';
}

function generate(sdkDir, workDir, packageName) {
    const { createGenerator } = require('ts-json-schema-generator');
    const entry = path.join(workDir, 'entry.ts');
    const tsconfig = path.join(workDir, 'tsconfig.json');
    writeFileSync(entry, entrySource(sdkDir, packageName));
    const compilerOptions = { target: 'ES2022', module: 'NodeNext', moduleResolution: 'NodeNext', strict: true, types: [] };
    writeFileSync(tsconfig, JSON.stringify({ compilerOptions: { ...compilerOptions, skipLibCheck: true, noEmit: true }, files: [entry] }));
    return createGenerator({
        path: entry, tsconfig, type: '*', skipTypeCheck: true, expose: 'export', jsDoc: 'none', additionalProperties: false,
    }).createSchema('*');
}

// The schema of one SDK, made once and kept in the build directory under a name that says what it came from.
function load(packageName) {
    const sdkDir = path.join(tests, 'node_modules', packageName);
    const version = JSON.parse(readFileSync(path.join(sdkDir, 'package.json'), 'utf8')).version;
    const key = createHash('sha256').update(readFileSync(import.meta.filename)).digest('hex').slice(0, 12);
    const build = process.env.OSTLER_BUILD ?? path.resolve(tests, '../build');
    const file = path.join(build, 'contract', `sdk-${version}-${key}.json`);
    if (!existsSync(file)) {
        const workDir = path.join(build, 'contract', `sdk-${version}.${process.pid}`);
        mkdirSync(workDir, { recursive: true });
        const schema = generate(sdkDir, workDir, packageName);
        writeFileSync(path.join(workDir, 'schema.json'), JSON.stringify(schema, null, 1));
        renameSync(path.join(workDir, 'schema.json'), file);
    }
    return { version, schema: JSON.parse(readFileSync(file, 'utf8')) };
}

function allowMore(node) {
    if (Array.isArray(node)) return node.map(allowMore);
    if (node === null || typeof node !== 'object') return node;
    const copy = {};
    for (const [key, value] of Object.entries(node)) {
        if (key === 'additionalProperties' && value === false) continue;
        copy[key] = allowMore(value);
    }
    return copy;
}

export class Schemas {
    constructor(packageName) {
        const { version, schema } = load(packageName);
        this.version = version;
        this.definitions = schema.definitions;
        const { Ajv } = require('ajv');
        this.ajv = new Ajv({ allErrors: true, strict: false, discriminator: false, allowUnionTypes: true });
        this.ajv.addSchema({ $id: 'sdk', definitions: allowMore(schema.definitions) });
        this.compiled = new Map();
    }

    #validator(name) {
        if (!this.definitions[name]) throw new Error(`the schemas of SDK ${this.version} have no ${name}`);
        if (!this.compiled.has(name)) {
            this.compiled.set(name, this.ajv.compile({ $ref: `sdk#/definitions/${encodeURIComponent(name)}` }));
        }
        return this.compiled.get(name);
    }

    // Why `value` is not a `name`; empty when it is one. Of a union, only the member with the value's own
    // `type` is talked about: the other forty would hide what is wrong.
    errors(name, value) {
        const member = this.#member(this.definitions[name], value);
        if (member && member !== name) return this.errors(member, value);
        const validate = this.#validator(name);
        if (validate(value)) return [];
        return validate.errors.map((e) => `${e.instancePath || '/'} ${e.message}${e.params?.allowedValues ? ' ' + JSON.stringify(e.params.allowedValues) : ''}`);
    }

    #member(node, value) {
        if (!node || typeof value?.type !== 'string') return undefined;
        if (node.$ref) {
            const name = decodeURIComponent(node.$ref.replace('#/definitions/', ''));
            const inner = this.definitions[name];
            if (inner.properties) return inner.properties.type?.const === value.type ? name : undefined;
            return this.#member(inner, value);
        }
        for (const branch of node.anyOf ?? []) {
            const name = this.#member(branch, value);
            if (name) return name;
        }
        return undefined;
    }

    // Paths ("agent.tools.configs.colour", array indices left out) of fields that the types do not know.
    unknown(name, value) {
        return [...new Set(this.#unknown({ $ref: `#/definitions/${encodeURIComponent(name)}` }, value, ''))];
    }

    #unknown(node, value, at) {
        if (value === null || typeof value !== 'object' || !node || node === true) return [];
        if (node.$ref) return this.#unknown(this.definitions[decodeURIComponent(node.$ref.replace('#/definitions/', ''))], value, at);
        if (node.anyOf) return this.#unknownInUnion(node.anyOf, value, at);
        if (node.allOf) {
            const lists = node.allOf.map((part) => this.#unknown(part, value, at));
            return lists.reduce((a, b) => a.filter((path) => b.includes(path)));
        }
        if (Array.isArray(value)) return value.flatMap((item) => this.#unknown(node.items, item, at));
        if (!node.properties && node.additionalProperties !== false) return [];
        return Object.entries(value).flatMap(([key, inner]) => {
            const here = at ? `${at}.${key}` : key;
            if (node.properties?.[key]) return this.#unknown(node.properties[key], inner, here);
            if (node.additionalProperties) return this.#unknown(node.additionalProperties, inner, here);
            return [here];
        });
    }

    // A member whose constants fit speaks for the value; of several, the one that knows most.
    #unknownInUnion(branches, value, at) {
        const fits = (branch) => {
            let node = branch;
            while (node.$ref) node = this.definitions[decodeURIComponent(node.$ref.replace('#/definitions/', ''))];
            if (node.anyOf) return node.anyOf.some(fits);
            if (node.type === 'array') return Array.isArray(value);
            if (node.type !== 'object' || Array.isArray(value)) return false;
            return Object.entries(node.properties ?? {}).every(([key, p]) => p.const === undefined || p.const === value[key]);
        };
        const lists = branches.filter(fits).map((branch) => this.#unknown(branch, value, at));
        if (lists.length === 0) return [];
        return lists.reduce((a, b) => (b.length < a.length ? b : a));
    }
}

const cache = new Map();
export function schemas(packageName = '@anthropic-ai/sdk') {
    if (!cache.has(packageName)) cache.set(packageName, new Schemas(packageName));
    return cache.get(packageName);
}

// Run by itself it fills the cache, so that test files do not all do it at once.
if (process.argv[1] === import.meta.filename) {
    for (const name of ['@anthropic-ai/sdk', 'sdk-0120']) console.log(`schemas of SDK ${schemas(name).version}`);
}
