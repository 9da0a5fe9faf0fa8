// The soak: a server of the release build under a gentle load for a long time. Sessions with tools, interrupts,
// queued messages; kill -9 at random; readers that stall and clients that vanish. At the end everything that was
// acknowledged is in the logs once, and the server is no larger than it was.
//
//   node tests/soak/soak.mjs [--minutes 60] [--sessions 200] [--rate 80] [--hands 6] [--turns 40] [--seed N] [--out FILE]
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { build, Server } from '../lib/server.mjs';
import { Client } from './client.mjs';
import { Driver, random } from './driver.mjs';
import { cpuSeconds, Memory } from './rss.mjs';

process.removeAllListeners('warning'); // that node's SQLite is new
const { DatabaseSync } = await import('node:sqlite');

const { values: options } = parseArgs({
    options: Object.fromEntries(Object.entries({ minutes: '60', sessions: '200', rate: '80', hands: '6', turns: '40', seed: String(Date.now() % 1000000), out: path.join(build, 'soak.json') }).map(([name, value]) => [name, { type: 'string', default: value }])),
});
const [MINUTES, SESSIONS, RATE, HANDS, TURNS, SEED] = ['minutes', 'sessions', 'rate', 'hands', 'turns', 'seed'].map((name) => Number(options[name]));
if ([MINUTES, SESSIONS, RATE, TURNS].some((n) => !(n > 0)) || !(HANDS >= 0)) throw new Error('minutes, sessions, rate and turns are numbers above 0');
const SAMPLE_MS = Math.min(10000, MINUTES * 700); // short runs are for trying it
const WARMUP_MINUTES = Math.min(2, MINUTES / 12);
const FOLLOWERS = 10;
const STALLED = 8;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const server = new Server({ config: `script_dir: ${path.join(import.meta.dirname, 'scripts')}\n`, args: ['--log-level', 'error'] });
const rand = random(SEED);
const memory = new Memory();
const client = new Client(server);
const ends = { at: 0 };
const over = () => Date.now() >= ends.at;
const driver = new Driver(client, { rand, turns: TURNS, keep: options.out.replace(/\.json$/, ''), stopping: over });
let down = false;
let kills = 0;
let cpu = 0;

async function begin() {
    await server.start();
    memory.begin();
    down = false;
}

async function murder() {
    down = true;
    cpu += cpuSeconds(server.pid);
    await server.kill();
    kills++;
    await pause(rand() * 1500);
    await begin();
}

// At random, but not in the third quarter: one long life shows what the short ones hide.
async function killing(began) {
    const quiet = [began + MINUTES * 30000, began + MINUTES * 45000];
    const mean = Math.min(180000, (MINUTES * 60000) / 10);
    for (;;) {
        let next = Date.now() + mean * (0.2 + 1.6 * rand());
        if (next > quiet[0] && Date.now() < quiet[1]) next = Math.max(next, quiet[1]);
        while (Date.now() < next && !over()) await pause(Math.min(500, next - Date.now()));
        if (over()) return;
        await murder();
    }
}

async function sampling() {
    while (!over()) {
        await pause(Math.min(SAMPLE_MS, Math.max(1, ends.at - Date.now())));
        if (!down) memory.sample(server.pid);
    }
}

async function acting() {
    const running = new Set();
    let due = Date.now();
    while (!over()) {
        due = Math.max(due + 1000 / RATE, Date.now() - 1000);
        await pause(Math.max(0, due - Date.now()));
        // Somebody always tries, also while there is no server.
        if (running.size >= 64 || (down && rand() > 0.1)) continue;
        const work = driver.act().finally(() => running.delete(work));
        running.add(work);
    }
    await Promise.all(running);
}

async function reading() {
    while (!over()) {
        await pause(1000);
        if (down) continue;
        if (driver.stalled.size < STALLED && rand() < 0.3) driver.stall();
        if (rand() < 0.5) driver.glance();
        const session = driver.pick(driver.sessions);
        if (driver.followers.size < FOLLOWERS && session && !session.busy && !session.follower) driver.follow(session).catch((error) => driver.wrong(session, error.stack));
    }
}

async function telling(began) {
    while (!over()) {
        await pause(Math.min(60000, Math.max(1, ends.at - Date.now())));
        const kb = memory.lives.at(-1)?.samples.at(-1)?.[1] ?? 0;
        console.log(`${Math.round((Date.now() - began) / 60000)} min: ${driver.counts['events acknowledged'] ?? 0} events acknowledged, ${kills} kills, ${Math.round(kb / 1024)} MiB, ${driver.violations.length} violations`);
    }
}

// ---- what must hold in the end ----

async function each(list, n, fn) {
    const rest = [...list];
    await Promise.all(Array.from({ length: n }, async () => {
        while (rest.length > 0) {
            const item = rest.shift();
            await fn(item).catch((error) => driver.wrong(item, error.stack));
        }
    }));
}

function inDatabase(sql) {
    const db = new DatabaseSync(path.join(server.data, 'ostler.db'), { readOnly: true });
    try {
        return db.prepare(sql).all();
    } finally {
        db.close();
    }
}

function checkSequences() {
    const gaps = inDatabase('SELECT s.id, count(*) AS n, min(e.seq) AS low, max(e.seq) AS high, s.last_seq AS head FROM session s JOIN event e ON e.session = s.key GROUP BY s.key HAVING n <> high OR low <> 1 OR high <> head');
    for (const g of gaps) driver.wrong(g, `its seqs have gaps: ${g.n} events, ${g.low} to ${g.high}, its head says ${g.head}`);
}

function checkReplay() {
    for (const session of driver.sessions.slice(0, 25)) {
        const { status, stdout, stderr } = server.command(['replay', session.id, '--json']);
        if (status !== 0) driver.wrong(session, `replay ended with ${status}: ${stderr || stdout.slice(-600)}`);
    }
}

function handsLeft() {
    const mine = path.basename(server.dir);
    const text = (pid) => {
        try {
            return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        } catch {
            return '';
        }
    };
    return readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && Number(pid) !== server.pid && text(pid).includes(mine));
}

async function checkGone() {
    const dir = path.join(server.data, 'sandboxes');
    const left = () => (existsSync(dir) ? readdirSync(dir).filter((name) => name.startsWith('sesn_')) : []);
    for (let i = 0; i < 300 && (left().length > 0 || handsLeft().length > 0); i++) await pause(100);
    if (left().length > 0) driver.wrong(null, `sandboxes are left: ${left().slice(0, 5)}`);
    if (handsLeft().length > 0) driver.wrong(null, `${handsLeft().length} processes of sandboxes are left`);
    for (const table of ['session', 'event', 'inbox', 'transcript']) {
        const [{ n }] = inDatabase(`SELECT count(*) AS n FROM ${table}`);
        if (n > 0) driver.wrong(null, `${n} rows are left in ${table}`);
    }
}

async function checkAll() {
    for (const socket of driver.stalled) socket.destroy();
    await each(driver.sessions, 8, (session) => driver.examine(session));
    checkSequences();
    checkReplay();
    await each(driver.sessions, 8, (session) => driver.remove(session));
    await checkGone();
    cpu += cpuSeconds(server.pid);
    await server.stop();
}

const began = Date.now();
console.log(`soak: ${MINUTES} minutes, ${SESSIONS} sessions, ${RATE} actions a second, seed ${SEED}, ${build}`);
ends.at = began + MINUTES * 60000;
let failed;
try {
    await begin();
    await driver.prepare(HANDS);
    await each(Array.from({ length: SESSIONS }, (_, i) => i), 8, (i) => driver.create(i, true));
    await Promise.all([acting(), reading(), sampling(), killing(began), telling(began)]);
    await checkAll();
} catch (error) {
    failed = error;
    console.log(error.stack, server.tail());
    server.abandon();
}
const rss = memory.report(WARMUP_MINUTES, began + (ends.at - began) / 8);
const complaints = server.complaints();
const passed = !failed && driver.violations.length === 0 && complaints.length === 0 && rss.flat;
const share = (seconds) => Math.round((seconds / ((Date.now() - began) / 1000)) * 1000) / 1000;
const result = { passed, options: { ...options }, kills, cpu_share: share(cpu), cpu_share_of_soak: share((process.cpuUsage().user + process.cpuUsage().system) / 1e6), counts: driver.counts, violations: driver.violations, complaints, rss };
writeFileSync(options.out, `${JSON.stringify(result, null, 2)}\n`);
server.abandon();
for (const [i, life] of rss.lives.entries()) {
    if (life.fitted) console.log(`life ${i + 1}: ${life.minutes} min, ${life.first_kb} to ${life.last_kb} kB, line rises ${life.kb_per_minute} kB/min, ${life.rise_kb} kB in all${life.flat ? '' : ': NOT FLAT'}`);
}
const c = driver.counts;
console.log(`soak ${passed ? 'passed' : 'FAILED'}: ${c['events acknowledged'] ?? 0} events acknowledged, ${c['events checked'] ?? 0} checked in ${c['sessions deleted'] ?? 0} sessions, ${c.turns ?? 0} turns, ${c['model requests'] ?? 0} model requests, ${c['tool calls'] ?? 0} tool calls, ${kills} kills, ${driver.violations.length} violations, memory ${rss.flat ? 'flat' : 'NOT flat'} (${rss.fitted} lives fitted, ${rss.across_lives_rise_kb} kB from the first to the last of ${rss.compared}), ${Math.round(result.cpu_share * 100)}% of a core (and ${Math.round(result.cpu_share_of_soak * 100)}% for the clients); ${options.out}`);
process.exit(passed ? 0 : 1);
