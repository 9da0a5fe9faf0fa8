// GET /metrics: the Prometheus text format, exactly the documented list, and numbers that follow what happens.
import { before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { useServer } from '../lib/harness.mjs';
import { root } from '../lib/server.mjs';

const world = useServer();

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"/y;

function labels(text) {
    const found = {};
    let at = 0;
    while (at < text.length) {
        LABEL.lastIndex = at;
        const match = LABEL.exec(text);
        assert.ok(match, `not labels: ${text}`);
        assert.ok(!(match[1] in found), `a label twice: ${text}`);
        found[match[1]] = match[2];
        at = LABEL.lastIndex;
        if (at < text.length) assert.equal(text[at++], ',', text);
    }
    return found;
}

// The exposition format, version 0.0.4, as far as we may use it: HELP and TYPE before the samples of a family, a
// family in one piece, no sample twice. Resolves names to {type, help, samples: [{labels, value}]}.
function parse(text) {
    assert.ok(text.endsWith('\n'), 'the last line must end, too');
    const families = new Map();
    let current;
    for (const line of text.slice(0, -1).split('\n')) {
        const help = line.match(new RegExp(`^# HELP (${NAME}) (.+)$`));
        const type = line.match(new RegExp(`^# TYPE (${NAME}) (counter|gauge)$`));
        const sample = line.match(new RegExp(`^(${NAME})(?:\\{(.*)\\})? (\\S+)$`));
        if (help) {
            assert.ok(!families.has(help[1]), `${help[1]} is there twice`);
            current = { name: help[1], help: help[2], samples: [] };
            families.set(current.name, current);
        } else if (type) {
            assert.equal(type[1], current?.name, 'TYPE follows its HELP');
            assert.ok(!current.type);
            current.type = type[2];
        } else {
            assert.ok(sample, `not a line of the format: ${line}`);
            assert.equal(sample[1], current?.name, 'samples follow their TYPE');
            assert.ok(current.type, `${current.name} has no type`);
            assert.match(sample[3], /^-?\d+(\.\d+)?$/, line);
            const entry = { labels: labels(sample[2] ?? ''), value: Number(sample[3]) };
            assert.ok(!current.samples.some((s) => JSON.stringify(s.labels) === JSON.stringify(entry.labels)), `${line} is there twice`);
            current.samples.push(entry);
        }
    }
    for (const f of families.values()) assert.ok(f.type && f.samples.length > 0, `${f.name} is empty`);
    return families;
}

// docs/metrics.md: | `name{label,...}` (, `name`)* | type | text |
function documented() {
    const found = new Map();
    for (const line of readFileSync(path.join(root, 'docs/metrics.md'), 'utf8').split('\n')) {
        const row = line.match(/^\| (`.*`) \| (counter|gauge) \| (.+) \|$/);
        if (!row) continue;
        for (const [, name, list] of row[1].matchAll(/`([a-z_]+)(?:\{([a-z_,]+)\})?`/g)) {
            assert.ok(!found.has(name), `${name} is documented twice`);
            found.set(name, { type: row[2], labels: list ? list.split(',') : [], text: row[3] });
        }
    }
    return found;
}

async function scrape() {
    const answer = await world.http('GET', '/metrics', { key: null, beta: null });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
    const families = parse(answer.text);
    const value = (name, wanted = {}) => {
        const sample = families.get(name)?.samples.find((s) => Object.entries(wanted).every(([k, v]) => s.labels[k] === v));
        assert.ok(sample, `no ${name} ${JSON.stringify(wanted)}`);
        return sample.value;
    };
    return { families, value };
}

describe('the list', () => {
    let families;
    const docs = documented();
    before(async () => ({ families } = await scrape()));

    test('what is exported is what docs/metrics.md names, in name, type and labels', () => {
        const shape = (name, type, names) => `${name} ${type} {${names.toSorted()}}`;
        const exported = [...families.values()].map((f) => shape(f.name, f.type, Object.keys(f.samples[0].labels)));
        const listed = [...docs].map(([name, d]) => shape(name, d.type, d.labels));
        assert.ok(listed.length > 25);
        assert.deepEqual(exported.toSorted(), listed.toSorted());
    });

    test('every value of a label that is one of a few is documented', () => {
        for (const f of families.values()) {
            if (['ostler_build_info', 'ostler_http_requests_total'].includes(f.name)) continue;
            for (const sample of f.samples) for (const value of Object.values(sample.labels)) assert.ok(docs.get(f.name).text.includes(`\`${value}\``), `${f.name}: ${value}`);
        }
    });

    test('counters end in _total, and nothing else does', () => {
        for (const f of families.values()) assert.equal(f.name.endsWith('_total'), f.type === 'counter', f.name);
    });

    test('samples of a family have the same labels', () => {
        for (const f of families.values()) for (const s of f.samples) assert.deepEqual(Object.keys(s.labels), Object.keys(f.samples[0].labels), f.name);
    });
});

describe('the numbers', () => {
    test('of the process and the build are those of this server', async () => {
        const { families, value } = await scrape();
        const version = world.server.command(['--version']).stdout.trim().split(' ')[1];
        assert.equal(families.get('ostler_build_info').samples[0].labels.version, version);
        const status = readFileSync(`/proc/${world.server.pid}/status`, 'utf8');
        const resident = Number(status.match(/^VmRSS:\s+(\d+) kB/m)[1]) * 1024;
        assert.ok(Math.abs(value('process_resident_memory_bytes') - resident) < resident / 2);
        assert.ok(value('process_open_fds') > 8 && value('process_open_fds') < value('process_max_fds'));
        assert.ok(value('process_cpu_seconds_total') > 0);
        assert.ok(Math.abs(value('ostler_start_time_seconds') + value('ostler_uptime_seconds') - Date.now() / 1000) < 3);
    });

    test('of a turn with a tool call grow as the turn says', async () => {
        const one = await scrape();
        const session = await world.session({ agent: { model: 'script/tool', tools: [{ type: 'agent_toolset_20260401' }] } });
        const seen = await world.turn(session.id, 'run: echo counted');
        const count = (type) => seen.filter((e) => e.type === type).length;
        assert.ok(count('agent.tool_use') > 0, 'the script calls a tool');
        const two = await scrape();
        const grown = (name, wanted) => two.value(name, wanted) - one.value(name, wanted);
        assert.equal(grown('ostler_turns_total'), 1);
        assert.equal(grown('ostler_model_requests_total'), count('span.model_request_start'));
        assert.equal(grown('ostler_model_failures_total'), 0);
        assert.equal(grown('ostler_tool_calls_total'), count('agent.tool_use'));
        assert.equal(grown('ostler_sessions', { status: 'idle' }), 1);
        assert.ok(grown('ostler_model_tokens_total', { kind: 'output' }) >= 0);
        assert.ok(grown('ostler_store_commits_total') > 0);
        assert.ok(grown('ostler_store_writes_total') >= grown('ostler_store_commits_total'));
        assert.ok(grown('ostler_http_requests_total', { status: '2xx' }) >= 5);
        assert.equal(grown('ostler_streams_total'), 1);
        assert.equal(two.value('ostler_store_queue'), 0);
        if (two.value('ostler_sandbox_ok')) {
            assert.equal(grown('ostler_sandbox_starts_total'), 1);
            assert.ok(two.value('ostler_sandboxes') >= 1);
        } else {
            assert.equal(grown('ostler_tool_failures_total', { reason: 'sandbox_unavailable' }), count('agent.tool_use'));
        }
    });

    test('of requests that are refused and streams that are open are told', async () => {
        const one = await scrape();
        const session = await world.session();
        const stream = await world.stream(session.id);
        await world.http('GET', '/v1/agents', { key: 'sk-wrong-wrong' });
        const two = await scrape();
        assert.equal(two.value('ostler_streams_open') - one.value('ostler_streams_open'), 1);
        assert.equal(two.value('ostler_http_requests_total', { status: '4xx' }) - one.value('ostler_http_requests_total', { status: '4xx' }), 1);
        assert.ok(two.value('ostler_http_connections') >= 1);
        stream.close();
    });

    test('of a failed model request and of one taken up again after a kill are told', async () => {
        const session = await world.session({ agent: { model: 'claude-sonnet-4-5' } });
        await world.turn(session.id, 'x');
        assert.ok((await scrape()).value('ostler_model_failures_total') >= 1);
        const waiting = await world.session({ agent: { model: 'script/tool', tools: [{ type: 'agent_toolset_20260401' }] } });
        const stream = await world.stream(waiting.id);
        await world.send(waiting.id, 'run: read -r -t 5 line < <(tail -f /dev/null); echo over');
        await stream.until('agent.tool_use');
        stream.close();
        await world.server.restart();
        assert.equal((await scrape()).value('ostler_turns_resumed_total'), 1);
        await world.idle(waiting.id);
        assert.equal((await scrape()).value('ostler_tool_calls_total'), 0, 'the call was not made again');
    });
});
