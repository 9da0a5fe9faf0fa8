// What the soak does to a server: sessions with a life of some turns, and clients of every kind.
import { writeFileSync } from 'node:fs';
import { judge, judgeRuns } from './check.mjs';

const TOOLSET = { type: 'agent_toolset_20260401' };
const ASK = { type: 'custom', name: 'ask', description: 'Asks the client.', input_schema: { type: 'object', properties: { mark: { type: 'string' } } } };
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// What is done to a session, and how often in a hundred.
const ACTIONS = [['say', 34], ['tool', 20], ['queue', 8], ['slow', 8], ['interrupt', 8], ['answer', 6], ['ask', 4], ['big', 2], ['vanish', 4], ['title', 3], ['fail', 1], ['list', 2]];

// Numbers from a seed: the choices can be repeated, what happens to them cannot.
export function random(seed) {
    let a = seed >>> 0;
    return () => {
        a = (a + 0x6d2b79f5) >>> 0;
        let t = Math.imul(a ^ (a >>> 15), 1 | a);
        t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
}

export class Driver {
    sessions = [];
    followers = new Set();
    stalled = new Set();
    counts = {};
    violations = [];
    #mark = 0;

    // `keep`: where the logs of sessions that break a rule are kept.
    constructor(client, { rand, turns, keep, stopping = () => false }) {
        Object.assign(this, { client, rand, turns, keep, stopping });
    }

    count(what, n = 1) {
        this.counts[what] = (this.counts[what] ?? 0) + n;
    }

    wrong(session, what) {
        this.violations.push(`${session?.id ?? '-'}: ${what}`);
        if (this.violations.length <= 20) console.log(`VIOLATION ${this.violations.at(-1)}`);
    }

    pick(list) {
        return list[Math.floor(this.rand() * list.length)];
    }

    // An answer that is not the expected one is a violation, unless the server may say so of itself.
    #judged(what, { status, text, lost }, expected = 200) {
        if (lost) this.count(`lost (${lost})`);
        else if (status === expected) return true;
        else if ([503, 529].includes(status)) this.count(`answered ${status}`);
        else this.wrong(null, `${what} was answered with ${status}: ${text?.slice(0, 300)}`);
        return false;
    }

    // Asks until it is answered: for what must be done however often the server dies.
    async #surely(method, path, body) {
        for (;;) {
            const answer = await this.client.call(method, path, body);
            if (!answer.lost && ![503, 529].includes(answer.status)) return answer;
            await pause(200);
        }
    }

    async prepare(hands) {
        const make = async (path, body) => {
            const { status, json, text } = await this.#surely('POST', path, body);
            if (status !== 200) throw new Error(`POST ${path}: ${status} ${text}`);
            return json.id;
        };
        this.environment = await make('/v1/environments', { name: 'soak', config: { type: 'cloud' } });
        this.agents = {
            plain: await make('/v1/agents', { name: 'soak', model: 'script/soak', tools: [ASK] }),
            hands: await make('/v1/agents', { name: 'soak-hands', model: 'script/soak', tools: [TOOLSET, ASK] }),
        };
        this.hands = hands;
    }

    // A new session in place `at`; the first ones get lives of all lengths, so that not all end at once.
    async create(at, first = false) {
        const kind = at < this.hands ? 'hands' : 'plain';
        const { status, json, text } = await this.#surely('POST', '/v1/sessions', { agent: this.agents[kind], environment_id: this.environment, title: `soak ${at}` });
        if (status !== 200) throw new Error(`a session could not be made: ${status} ${text}`);
        const life = Math.max(2, Math.ceil(this.turns * (first ? this.rand() : 1)));
        this.sessions[at] = { at, id: json.id, kind, life, done: 0, busy: false, acknowledged: [], unsure: new Set() };
        this.count('sessions created');
    }

    // ---- actions ----

    // One action on a session that nobody else works on.
    async act() {
        const session = this.pick(this.sessions);
        if (!session || session.busy) return;
        session.busy = true;
        try {
            if (session.done >= session.life) await this.retire(session);
            else await this.#one(session);
        } catch (error) {
            this.wrong(session, error.stack);
        } finally {
            session.busy = false;
        }
    }

    async #one(session) {
        let dice = this.rand() * 100;
        const [name] = ACTIONS.find(([, share]) => (dice -= share) < 0) ?? ACTIONS[0];
        this.count(name);
        await this[name](session);
    }

    message(what) {
        const mark = `m${++this.#mark}`;
        return { mark, event: { type: 'user.message', content: [{ type: 'text', text: `${mark} ${what}` }] } };
    }

    async send(session, messages, options) {
        const { status, json, text, lost } = await this.client.call('POST', `/v1/sessions/${session.id}/events`, { events: messages.map((m) => m.event) }, options);
        session.done++;
        if (lost || status !== 200) for (const m of messages) session.unsure.add(m.mark ?? m.event.type);
        if (!this.#judged(`${messages[0].event.type}`, { status, text, lost })) return false;
        json.data.forEach((e, i) => session.acknowledged.push({ id: e.id, type: e.type, mark: messages[i].mark }));
        this.count('events acknowledged', json.data.length);
        return true;
    }

    say = (session) => this.send(session, [this.message('say')]);
    slow = (session) => this.send(session, [this.message(`slow ${1 + Math.floor(this.rand() * 5)}`)]);
    big = (session) => this.send(session, [this.message('big')]);
    fail = (session) => this.send(session, [this.message('fail')]);
    ask = (session) => this.send(session, [this.message('ask')]);
    interrupt = (session) => this.send(session, [{ event: { type: 'user.interrupt' } }]);
    vanish = (session) => this.send(session, [this.message('say')], { vanish: Math.floor(this.rand() * 6) });

    tool(session) {
        const n = 1 + Math.floor(this.rand() * 3);
        return this.send(session, [this.message(session.kind === 'hands' ? `bash ${n}` : `tool ${n}`)]);
    }

    async queue(session) {
        const some = ['say', 'slow 2', 'tool 2', 'say'].map((what) => this.message(what));
        for (const m of some.slice(0, 2)) await this.send(session, [m]);
        await this.send(session, some.slice(2));
    }

    async title(session) {
        this.#judged('an update', await this.client.call('POST', `/v1/sessions/${session.id}`, { title: `soak ${++this.#mark}` }));
    }

    async list(session) {
        this.#judged('a list', await this.client.call('GET', `/v1/sessions?limit=${1 + Math.floor(this.rand() * 50)}`));
        this.#judged('a list of events', await this.client.call('GET', `/v1/sessions/${session.id}/events?limit=20&order=desc`));
    }

    async answer(session) {
        const { status, json } = await this.client.call('GET', `/v1/sessions/${session.id}`);
        if (status !== 200 || json.stop_reason?.type !== 'requires_action') return;
        const answers = json.stop_reason.event_ids.map((id) => ({ event: { type: 'user.custom_tool_result', custom_tool_use_id: id, content: [{ type: 'text', text: 'yes' }] } }));
        await this.send(session, answers);
    }

    // ---- readers ----

    // A stream that nobody reads, for a while.
    async stall() {
        const session = this.pick(this.sessions);
        const socket = this.client.stall(session.id, session.acknowledged[0]?.id);
        this.stalled.add(socket);
        this.count('stalled readers');
        setTimeout(() => {
            socket.destroy();
            this.stalled.delete(socket);
        }, 20000 + this.rand() * 60000).unref();
    }

    // A stream that is left without a word.
    async glance() {
        this.count('vanished readers');
        await this.client.stream(this.pick(this.sessions).id, { onEvent: () => {}, signal: AbortSignal.timeout(1 + Math.floor(this.rand() * 300)) });
    }

    // Follows a session from its first event to its end, over any number of kills.
    async follow(session) {
        const first = (await this.client.call('GET', `/v1/sessions/${session.id}/events?limit=1&order=asc`)).json?.data?.[0];
        if (!first?.processed_at || session.follower) return;
        const f = { session, ids: [first.id], stop: new AbortController() };
        session.follower = f;
        this.followers.add(f);
        this.count('followers');
        while (!f.stop.signal.aborted) {
            await this.client.stream(session.id, { after: f.ids.at(-1), signal: f.stop.signal, onEvent: (e, id) => id && e.processed_at && f.ids.push(id) });
            if (f.stop.signal.aborted) break;
            this.count('reconnects');
            await pause(100 + this.rand() * 400);
        }
    }

    async #judgeFollower(session, log) {
        const f = session.follower;
        if (!f) return;
        for (let i = 0; i < 300 && f.ids.at(-1) !== log.at(-1).id; i++) await pause(100);
        f.stop.abort();
        this.followers.delete(f);
        session.follower = undefined;
        this.#compareIds(session, 'a follower', f.ids, log);
    }

    #compareIds(session, who, ids, log) {
        const all = log.map((e) => e.id);
        const from = all.slice(all.indexOf(ids[0]));
        if (ids.join() === from.join()) return;
        const at = from.findIndex((id, i) => ids[i] !== id);
        this.wrong(session, `${who} saw ${ids.length} events of ${from.length}; they part at ${at}: ${ids[at]} for ${from[at]} (${log[at]?.type})`);
    }

    // The stored log once more, through a stream.
    async #judgeStream(session, log) {
        const ids = [log[0].id];
        const stop = new AbortController();
        const timer = setTimeout(() => stop.abort(), 30000);
        const seen = (e, id) => {
            if (!id) return;
            ids.push(id);
            if (id === log.at(-1).id) stop.abort();
        };
        // Again where it broke: the server may be killed meanwhile.
        while (log.length > 1 && !stop.signal.aborted) {
            await this.client.stream(session.id, { after: ids.at(-1), signal: stop.signal, onEvent: seen });
            if (!stop.signal.aborted) await pause(100);
        }
        clearTimeout(timer);
        this.#compareIds(session, 'a stream', ids, log);
    }

    // ---- the end of a session ----

    // Brings it to rest and returns its log.
    async settle(session) {
        const deadline = Date.now() + 120000;
        for (;;) {
            const { json } = await this.#surely('GET', `/v1/sessions/${session.id}`);
            if (json.status === 'idle' && json.stop_reason?.type !== 'requires_action') {
                const log = await this.client.events(session.id);
                if (log && log.every((e) => e.processed_at) && (log.length === 0 || !/running|start$/.test(log.at(-1).type))) return log;
            }
            if (json.stop_reason?.type === 'requires_action' || json.status === 'rescheduling') await this.interrupt(session);
            if (Date.now() > deadline) {
                this.wrong(session, `it does not come to rest: ${json.status} ${JSON.stringify(json.stop_reason)}`);
                return undefined;
            }
            await pause(200);
        }
    }

    async examine(session) {
        const log = await this.settle(session);
        if (!log || log.length === 0) return;
        const wrong = judge(log, session);
        if (session.kind === 'hands' && log.some((e) => e.name === 'bash')) {
            const { status, text } = await this.#surely('GET', `/v1/sessions/${session.id}/workspace?path=runs`);
            if (status === 200 || status === 404) wrong.push(...judgeRuns(log, status === 200 ? text : ''));
            else wrong.push(`its workspace was answered with ${status}: ${text.slice(0, 200)}`);
        }
        for (const what of wrong) this.wrong(session, what);
        if (wrong.length > 0) writeFileSync(`${this.keep}-${session.id}.json`, JSON.stringify({ session: { ...session, follower: undefined, unsure: [...session.unsure] }, log }, null, 1));
        await this.#judgeFollower(session, log);
        await this.#judgeStream(session, log);
        this.count('events checked', log.length);
        this.count('turns', log.filter((e) => e.type === 'session.status_idle').length);
        this.count('model requests', log.filter((e) => e.type === 'span.model_request_start').length);
        this.count('tool calls', log.filter((e) => e.type === 'agent.tool_use').length);
        this.count('compactions', log.filter((e) => e.type === 'agent.thread_context_compacted').length);
    }

    async remove(session) {
        session.follower?.stop.abort();
        const { status, text } = await this.#surely('DELETE', `/v1/sessions/${session.id}`);
        // Deleted by a request whose answer was lost.
        if (status !== 200 && status !== 404) this.wrong(session, `its deletion was answered with ${status}: ${text}`);
        this.count('sessions deleted');
    }

    async retire(session) {
        if (this.stopping()) return;
        await this.examine(session);
        await this.remove(session);
        await this.create(session.at);
    }
}
