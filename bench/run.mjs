// Runs the benchmarks of a build, each beside its floor, and reports. See README.md.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Build } from './lib/programs.mjs';
import { compare, judge, previous, save, table } from './lib/report.mjs';
import { json } from './benches/json.mjs';
import { ack, group } from './benches/store.mjs';
import { http } from './benches/http.mjs';
import { concurrent, first } from './benches/turns.mjs';
import { sandbox } from './benches/sandbox.mjs';
import { egress } from './benches/egress.mjs';
import { snapshot } from './benches/snapshot.mjs';
import { fork } from './benches/fork.mjs';
import { work } from './benches/work.mjs';
import { isolation } from './benches/isolation.mjs';
import { fan, stall } from './benches/streams.mjs';
import { boot, idle, kill, slow } from './benches/life.mjs';

const benches = { ack, group, http, first, fork, concurrent, sandbox, isolation, egress, snapshot, work, fan, stall, boot, kill, idle, slow, json };
const results = path.join(import.meta.dirname, 'results');

function options() {
    const { values, positionals } = parseArgs({
        allowPositionals: true,
        options: { quick: { type: 'boolean' }, baseline: { type: 'boolean' }, only: { type: 'string' }, help: { type: 'boolean' } },
    });
    if (values.help || positionals.length !== 1) {
        console.log(`usage: bench/run BUILD [--quick] [--only NAME,...] [--baseline]\nnames: ${Object.keys(benches).join(' ')}`);
        process.exit(values.help ? 0 : 2);
    }
    const names = values.only?.split(',') ?? Object.keys(benches);
    const unknown = names.find((name) => !benches[name]);
    if (unknown) throw new Error(`no benchmark is called '${unknown}'; there are: ${Object.keys(benches).join(', ')}`);
    return { ...values, names, build: new Build(positionals[0]) };
}

function git(...args) {
    try {
        return execFileSync('git', args, { cwd: results, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
    } catch {
        return null;
    }
}

// The share of the processors that others use while nothing of ours runs.
async function foreign() {
    const read = () => readFileSync('/proc/stat', 'utf8').split('\n')[0].split(/\s+/).slice(1, 9).map(Number);
    const from = read();
    await pause(1000);
    const spent = read().map((ticks, i) => ticks - from[i]), all = spent.reduce((a, b) => a + b, 0);
    return 1 - (spent[3] + spent[4]) / all; // all but idle and waiting for the disk
}

async function machine() {
    return {
        cpu: os.cpus()[0]?.model.trim(), cpus: os.cpus().length, memory_mb: Math.round(os.totalmem() / 2 ** 20), kernel: os.release(), load: os.loadavg()[0], foreign: await foreign(),
        commit: git('rev-parse', '--short', 'HEAD'), dirty: Boolean(git('status', '--porcelain', '--untracked-files=no')),
    };
}

async function main() {
    const opt = options(), rows = [], failed = [];
    const old = previous(results), began = new Date(), from = await machine();
    for (const name of opt.names) {
        const started = Date.now();
        process.stderr.write(`${name} ... `);
        // A model of its own: counters start at 0.
        const model = await opt.build.start('model');
        try {
            await benches[name]({ build: opt.build, model, quick: opt.quick, add: (row) => rows.push(judge({ bench: name, ...row })) });
            process.stderr.write(`${((Date.now() - started) / 1000).toFixed(1)} s\n`);
        } catch (error) {
            failed.push({ name, error: error.message });
            process.stderr.write(`FAILED: ${error.message}\n`);
        }
        await model.stop();
    }
    compare(rows, old);
    const seconds = (Date.now() - began) / 1000, to = await machine();
    const missed = rows.filter((row) => row.met === false), met = rows.filter((row) => row.met);
    console.log(`\n${table(rows)}\n`);
    for (const row of rows) if (row.note) console.log(`${row.name}: ${row.note}`);
    console.log(`${to.cpus} CPUs (${to.cpu}), Linux ${to.kernel}, ${seconds.toFixed(0)} s${old ? `; "before" is ${old.name}` : ''}`);
    const busy = Math.max(from.foreign, to.foreign);
    if (busy > 0.1) console.log(`NOT QUIET: others used ${Math.round(busy * 100)} % of the processors before or after; these figures are no basis for a judgement`);
    console.log(`${met.length} met, ${missed.length} missed${missed.length ? `: ${missed.map((row) => row.name).join('; ')}` : ''}${failed.length ? `; FAILED TO RUN: ${failed.map((f) => f.name).join(', ')}` : ''}`);
    const result = { date: began.toISOString(), quick: Boolean(opt.quick), seconds, before: from, after: to, rows, failed };
    // A part of the benchmarks is no result to compare the next one with.
    if (!opt.only && failed.length === 0) save(path.join(results, `${began.toISOString().slice(0, 19).replaceAll(':', '-')}.json`), result);
    if (opt.baseline) save(path.join(results, 'baseline.json'), result);
    process.exit(failed.length ? 1 : 0);
}

await main();
