// Outcomes: trace F with every result through both SDK releases, what the session shows of them, rubrics that are
// files, checks, the grading of what the last turn left, money, forks.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { toFile } from '@anthropic-ai/sdk';
import { refused, SDKS, texts, types, useServer } from '../lib/harness.mjs';

const world = useServer({ config: `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\n` });
const graded = useServer({ config: `script_dir: ${path.resolve(import.meta.dirname, 'scripts')}\ngrader: {model: script/outcome}\n` });
const TOOLSET = { type: 'agent_toolset_20260401' };
const RUN = ['session.status_running', 'session.thread_status_running'];
const IDLE = ['session.thread_status_idle', 'session.usage', 'session.status_idle'];
const SAY = ['span.model_request_start', 'agent.message', 'span.model_request_end'];
const CALL = ['span.model_request_start', 'agent.tool_use', 'span.model_request_end', 'agent.tool_result'];
const GRADE = ['span.outcome_evaluation_start', 'span.outcome_evaluation_end'];
const ONGOING = 'span.outcome_evaluation_ongoing';
const DEFINE = 'user.define_outcome';
const OUT = '/mnt/session/outputs';

const text = (content, extra = {}) => ({ type: 'text', content, ...extra });
const outcome = (description, rubric, extra = {}) => ({ type: DEFINE, description, rubric: typeof rubric === 'string' ? text(rubric) : rubric, ...extra });
const write = (words) => `run: echo ${words} > ${OUT}/a.txt`;
const session = (extra = {}) => world.session({ agent: { model: 'script/outcome', tools: [TOOLSET] }, ...extra });
const retrieve = (s, sdk) => world.client(sdk).beta.sessions.retrieve(s.id ?? s);
const quiet = (log) => types(log).filter((t) => t !== ONGOING);
const ends = (log) => log.filter((e) => e.type === GRADE[1]);
const results = (log) => ends(log).map((e) => e.result);
const fork = (s, body = {}) => world.client().post(`/v1/sessions/${s.id}/fork`, { body });

// Every evaluation's events belong together, and say of the same outcome.
function checkSpans(log) {
    let open;
    for (const e of log) {
        if (e.type === GRADE[0]) open = { start: e, beats: 0 };
        if (e.type === ONGOING) {
            assert.deepEqual([e.outcome_id, e.iteration], [open.start.outcome_id, open.start.iteration]);
            open.beats++;
        }
        if (e.type !== GRADE[1]) continue;
        assert.equal(e.outcome_evaluation_start_id, open ? open.start.id : '');
        if (open) assert.deepEqual([e.outcome_id, e.iteration], [open.start.outcome_id, open.start.iteration]);
        open = undefined;
    }
}

for (const sdk of Object.keys(SDKS)) {
    // Defines it through this SDK and waits for the end; resolves to the log.
    const work = async (s, defined) => {
        const stream = await world.stream(s.id);
        const { data: [echo] } = await world.client(sdk).beta.sessions.events.send(s.id, { events: [defined] });
        const seen = await stream.until('session.status_idle');
        stream.close();
        const log = await world.events(s.id);
        checkSpans(log);
        assert.deepEqual(types(seen), types(log).slice(-seen.length), 'the stream brought the same');
        return { echo, log };
    };
    const newest = async (s) => (await retrieve(s, sdk)).outcome_evaluations.at(-1);

    describe(`F, with SDK ${sdk}`, () => {
        test('satisfied: what was defined is echoed as it counts, worked on and graded once', async () => {
            const s = await session();
            const { echo, log } = await work(s, outcome(write('alpha beta'), '1. contains alpha\n2. contains beta'));
            assert.match(echo.outcome_id, /^outc_/);
            assert.ok(echo.processed_at, 'it is processed on its receipt');
            assert.equal(echo.max_iterations, 3);
            assert.deepEqual(echo.rubric, text('1. contains alpha\n2. contains beta'));
            assert.deepEqual(quiet(log), [RUN, DEFINE, CALL, SAY, GRADE, IDLE].flat());
            assert.ok(types(log).includes(ONGOING));
            const [end] = ends(log);
            assert.deepEqual([end.result, end.iteration, end.outcome_id], ['satisfied', 0, echo.outcome_id]);
            assert.match(end.explanation, /^An independent grader found .*:\n- contains alpha \(met\): .*\n- contains beta \(met\): /);
            assert.deepEqual(end.criteria.map((c) => [c.name, c.verdict]), [['contains alpha', 'met'], ['contains beta', 'met']]);
            assert.match(end.criteria[0].evidence, /alpha beta/);
            assert.deepEqual(log.at(-1).stop_reason, { type: 'end_turn' });
            const { status, outcome_evaluations: [entry, ...more] } = await retrieve(s, sdk);
            assert.equal(status, 'idle');
            assert.equal(more.length, 0);
            assert.deepEqual(entry, {
                type: 'outcome_evaluation', outcome_id: echo.outcome_id, description: write('alpha beta'), result: 'satisfied',
                explanation: end.explanation, iteration: 0, completed_at: end.processed_at, criteria: end.criteria,
            });
        });

        test('needs_revision, then satisfied: what was missing goes back to the agent', async () => {
            const s = await session();
            const { log } = await work(s, outcome(`${write('alpha')}\nthen: echo beta >> ${OUT}/a.txt`, '- contains alpha\n- contains beta'));
            assert.deepEqual(quiet(log), [RUN, DEFINE, CALL, SAY, GRADE, CALL, SAY, GRADE, IDLE].flat());
            assert.deepEqual(results(log), ['needs_revision', 'satisfied']);
            assert.deepEqual(ends(log).map((e) => e.iteration), [0, 1]);
            const { explanation } = ends(log)[0];
            assert.match(explanation, /^An independent grader found the following criteria are not fully met:\n- contains beta \(not met\): /);
            assert.match(explanation, /\nPlease revise your work/);
            assert.doesNotMatch(explanation, /contains alpha/);
            assert.deepEqual([(await newest(s)).result, (await newest(s)).iteration], ['satisfied', 1]);
        });

        test('max_iterations_reached: one more turn, which is not graded', async () => {
            const s = await session();
            const { log } = await work(s, outcome(write('alpha'), '- contains nothing', { max_iterations: 2 }));
            assert.deepEqual(quiet(log), [RUN, DEFINE, CALL, SAY, GRADE, CALL, SAY, GRADE, SAY, IDLE].flat());
            assert.deepEqual(results(log), ['needs_revision', 'max_iterations_reached']);
            assert.match(ends(log)[1].explanation, /^Reached 2 revision cycles without satisfying the rubric/);
            assert.equal(texts(log).at(-1), 'So be it.');
            const entry = await newest(s);
            assert.deepEqual([entry.result, entry.iteration, entry.closing], ['max_iterations_reached', 1, undefined]);
            assert.equal(entry.completed_at, ends(log)[1].processed_at);
        });

        test('failed: the rubric does not apply', async () => {
            const s = await session();
            const { log } = await work(s, outcome(write('alpha'), '- does not apply'));
            assert.deepEqual(quiet(log), [RUN, DEFINE, CALL, SAY, GRADE, IDLE].flat());
            assert.deepEqual(results(log), ['failed']);
            assert.match(ends(log)[0].explanation, /does not apply .*there is no such thing/);
            assert.equal((await newest(s)).result, 'failed');
        });

        test('failed: a grader that hands no verdict in satisfies nothing', async () => {
            const s = await session();
            const { log } = await work(s, outcome('do nothing', '- mumble'));
            assert.deepEqual(quiet(log), [RUN, DEFINE, SAY, GRADE, IDLE].flat());
            assert.deepEqual(results(log), ['failed']);
            assert.match(ends(log)[0].explanation, /no verdict/);
        });

        test('interrupted before the evaluation: its end names no start', async () => {
            const s = await session();
            const stream = await world.stream(s.id);
            await world.client(sdk).beta.sessions.events.send(s.id, { events: [outcome('wait', '- contains alpha')] });
            await stream.until('span.model_request_start');
            assert.equal((await newest(s)).result, 'running');
            await world.client(sdk).beta.sessions.events.send(s.id, { events: [{ type: 'user.interrupt' }] });
            await stream.until('session.status_idle');
            stream.close();
            const log = await world.events(s.id);
            checkSpans(log);
            assert.deepEqual(quiet(log), [RUN, DEFINE, SAY[0], SAY[2], GRADE[1], 'user.interrupt', IDLE].flat());
            assert.deepEqual([ends(log)[0].result, ends(log)[0].outcome_evaluation_start_id], ['interrupted', '']);
            const entry = await newest(s);
            assert.deepEqual([entry.result, entry.completed_at], ['interrupted', ends(log)[0].processed_at]);
        });

        test('interrupted during the evaluation', async () => {
            const s = await session();
            const stream = await world.stream(s.id);
            await world.client(sdk).beta.sessions.events.send(s.id, { events: [outcome('do nothing', '1. wait')] });
            await stream.until(ONGOING);
            assert.equal((await newest(s)).result, 'evaluating');
            assert.equal((await retrieve(s, sdk)).status, 'running');
            await world.client(sdk).beta.sessions.events.send(s.id, { events: [{ type: 'user.interrupt' }] });
            await stream.until('session.status_idle');
            stream.close();
            const log = await world.events(s.id);
            checkSpans(log);
            assert.deepEqual(quiet(log), [RUN, DEFINE, SAY, GRADE, 'user.interrupt', IDLE].flat());
            assert.deepEqual(results(log), ['interrupted']);
            assert.equal((await newest(s)).result, 'interrupted');
        });

        test('one after the other: the session remembers each', async () => {
            const s = await session();
            const first = await work(s, outcome(write('alpha'), '- contains alpha'));
            const second = await work(s, outcome(write('beta'), '- contains beta', { max_iterations: 20 }));
            assert.equal(second.echo.max_iterations, 20);
            const turn = [RUN, DEFINE, CALL, SAY, GRADE, IDLE].flat();
            assert.deepEqual(quiet(second.log), [...turn, ...turn]);
            const list = (await retrieve(s, sdk)).outcome_evaluations;
            assert.deepEqual(list.map((e) => [e.outcome_id, e.result]), [[first.echo.outcome_id, 'satisfied'], [second.echo.outcome_id, 'satisfied']]);
            const listed = (await world.client(sdk).beta.sessions.list({ limit: 1 })).data[0];
            assert.deepEqual(listed.outcome_evaluations, list);
        });

        test('as an initial event: the session begins to work at once', async () => {
            const s = await world.client(sdk).beta.sessions.create({
                agent: (await world.agent({ model: 'script/outcome', tools: [TOOLSET] })).id, environment_id: (await world.environment()).id,
                initial_events: [outcome(write('alpha'), '- contains alpha', { max_iterations: null })],
            });
            assert.equal(s.status, 'running');
            assert.deepEqual(s.outcome_evaluations.map((e) => [e.result, e.iteration, e.explanation, e.completed_at]), [['pending', 0, null, null]]);
            await world.idle(s.id);
            const log = await world.events(s.id);
            assert.deepEqual(quiet(log), [RUN, DEFINE, CALL, SAY, GRADE, IDLE].flat());
            assert.equal(log.find((e) => e.type === DEFINE).outcome_id, s.outcome_evaluations[0].outcome_id);
            assert.equal((await newest(s)).result, 'satisfied');
        });

        test('a rubric that is a file is its text', async () => {
            const file = await world.client(sdk).beta.files.upload({ file: await toFile(Buffer.from('# Rubric\r\n- contains alpha\r\n- contains ünï\r\n'), 'rubric.md', { type: 'text/markdown' }) });
            const s = await session();
            const { echo, log } = await work(s, outcome(write('alpha ünï'), { type: 'file', file_id: file.id }));
            assert.deepEqual(echo.rubric, text('# Rubric\r\n- contains alpha\r\n- contains ünï\r\n'));
            assert.deepEqual(log.find((e) => e.type === DEFINE).rubric, echo.rubric);
            assert.equal(ends(log)[0].criteria.length, 2);
        });

        test('what the grading costs is in its span and in the session', async () => {
            const s = await session();
            const { log } = await work(s, outcome(write('alpha'), '- contains alpha'));
            const [end] = ends(log);
            assert.deepEqual([end.usage.input_tokens, end.usage.output_tokens], [2000, 100]);
            const { usage } = await retrieve(s, sdk);
            assert.deepEqual([usage.input_tokens, usage.output_tokens], [2200, 120]);
        });
    });
}

describe('checks', () => {
    const done = async (defined) => {
        const s = await session({ initial_events: [defined] });
        await world.idle(s.id);
        const log = await world.events(s.id);
        checkSpans(log);
        return { s, log };
    };

    test('that pass come before the criteria of the rubric', async () => {
        const checks = [
            { name: 'the file is there', run: `test -s ${OUT}/a.txt` },
            { name: 'it has one line', run: `wc -l < ${OUT}/a.txt; exit 3`, expect_exit: 3, expect_stdout_matches: '^\\s*1$', timeout_seconds: 20 },
        ];
        const { log } = await done(outcome(write('alpha'), text('- contains alpha', { checks })));
        assert.deepEqual(log.find((e) => e.type === DEFINE).rubric.checks, checks);
        assert.deepEqual(ends(log)[0].criteria.map((c) => [c.name, c.verdict]), [['the file is there', 'met'], ['it has one line', 'met'], ['contains alpha', 'met']]);
        assert.match(ends(log)[0].criteria[1].evidence, /^\$ wc -l .*\n1\nexit code 3$/);
    });

    test('that fail spare the model, and their output is the evidence', async () => {
        const { s, log } = await done(outcome(`${write('alpha')}\nthen: echo beta >> ${OUT}/a.txt`, text('- contains alpha', { checks: [
            { name: 'beta is there', run: `grep beta ${OUT}/a.txt || { echo "no beta in $(cat ${OUT}/a.txt)"; exit 1; }` }, { name: 'true', run: 'true' },
        ] })));
        assert.deepEqual(results(log), ['needs_revision', 'satisfied']);
        const [first, second] = ends(log);
        assert.deepEqual(first.criteria.map((c) => [c.name, c.verdict]), [['beta is there', 'not_met'], ['true', 'met']]);
        assert.match(first.criteria[0].evidence, /no beta in alpha\nexit code 1$/);
        assert.match(first.explanation, /- beta is there \(not met\): exit code 1, expected 0/);
        assert.equal(first.usage.input_tokens, 0, 'no model was asked');
        assert.equal(second.usage.input_tokens, 2000);
        assert.equal((await retrieve(s)).outcome_evaluations[0].criteria.length, 3);
    });

    test('work on a copy: the agent never sees what they leave', async () => {
        const { log } = await done(outcome(`${write('alpha')}\nthen: ls /workspace ${OUT} > ${OUT}/b.txt`, text('- contains alpha\n- contains nothing', { checks: [
            { name: 'it leaves things', run: `touch /workspace/left ${OUT}/left && echo alpha` },
        ] }), { max_iterations: 2 }));
        assert.deepEqual(ends(log).map((e) => e.criteria[0].verdict), ['met', 'met']);
        assert.doesNotMatch(ends(log)[1].criteria[1].evidence, /left/);
    });
});

describe('the last turn', () => {
    test('is graded once more when the rubric wants it, without events', async () => {
        const s = await session({ initial_events: [outcome(`${write('alpha')}\nfinally: echo beta >> ${OUT}/a.txt`, text('- contains beta', { closing: true }), { max_iterations: 1 })] });
        await world.idle(s.id);
        const log = await world.events(s.id);
        assert.equal(log.find((e) => e.type === DEFINE).rubric.closing, true);
        assert.deepEqual(quiet(log), [RUN, DEFINE, CALL, SAY, GRADE, CALL, SAY, IDLE].flat());
        const { outcome_evaluations: [entry], usage } = await retrieve(s);
        assert.equal(entry.result, 'max_iterations_reached');
        assert.equal(entry.closing.result, 'satisfied');
        assert.deepEqual(entry.closing.criteria.map((c) => [c.name, c.verdict]), [['contains beta', 'met']]);
        assert.deepEqual([usage.input_tokens, usage.output_tokens], [4 * 100 + 4 * 1000, 4 * 10 + 4 * 50]);
        const branch = await fork(s);
        assert.deepEqual(branch.outcome_evaluations, [entry]);
        const before = await fork(s, { event_id: ends(log)[0].id });
        assert.deepEqual(before.outcome_evaluations.map((e) => [e.result, e.closing]), [['max_iterations_reached', undefined]]);
    });
});

describe('an outcome', () => {
    const api = () => world.client().beta.sessions;

    test('that is queued is shown and stands in the way of another', async () => {
        const s = await session();
        const stream = await world.stream(s.id);
        await world.send(s.id, 'wait');
        await stream.until('span.model_request_start');
        await world.send(s.id, outcome('do nothing', '- does not apply'));
        const [entry] = (await retrieve(s)).outcome_evaluations;
        assert.deepEqual([entry.result, entry.iteration, entry.completed_at], ['pending', 0, null]);
        const queued = (await world.events(s.id)).at(-1);
        assert.equal(queued.type, DEFINE);
        assert.ok(queued.processed_at);
        await refused(world.send(s.id, outcome('another', '- r')), 400, /still queued/);
        await world.send(s.id, { type: 'user.interrupt' });
        await stream.until(GRADE[1]);
        await stream.until('session.status_idle');
        stream.close();
        assert.deepEqual((await retrieve(s)).outcome_evaluations.map((e) => e.result), ['failed']);
        assert.ok((await world.send(s.id, outcome('another', '- does not apply'))).data[0].outcome_id);
    });

    test('may be defined while the last turn of another one runs, and loses nothing of either', async () => {
        const s = await session();
        const stream = await world.stream(s.id);
        await world.send(s.id, outcome(`do nothing\nfinally: sleep 1`, '- contains nothing', { max_iterations: 1 }));
        await stream.until(GRADE[1]);
        const { data: [echo] } = await world.send(s.id, outcome(write('alpha'), '- contains alpha'));
        await stream.until(GRADE[1]);
        await stream.until('session.status_idle');
        stream.close();
        assert.deepEqual((await retrieve(s)).outcome_evaluations.map((e) => e.result), ['max_iterations_reached', 'satisfied']);
        assert.equal((await retrieve(s)).outcome_evaluations[1].outcome_id, echo.outcome_id);
    });

    test('is defined once under one Idempotency-Key', async () => {
        const s = await session();
        const send = (key) => world.http('POST', `/v1/sessions/${s.id}/events`, { headers: { 'idempotency-key': key }, body: { events: [outcome('wait', '- contains alpha')] } });
        const [first, again] = [await send('one'), await send('one')];
        assert.equal(first.status, 200);
        assert.deepEqual(again.json, first.json);
        assert.equal((await send('two')).status, 400);
        assert.equal((await retrieve(s)).outcome_evaluations.length, 1);
        await world.send(s.id, { type: 'user.interrupt' });
    });

    test('with a file as its rubric is answered the same under the same Idempotency-Key, also when the file is gone', async () => {
        const file = await world.client().beta.files.upload({ file: await toFile(Buffer.from('- does not apply'), 'r.md', { type: 'text/markdown' }) });
        const s = await session();
        const send = () => world.http('POST', `/v1/sessions/${s.id}/events`, { headers: { 'idempotency-key': 'file' }, body: { events: [outcome('d', { type: 'file', file_id: file.id })] } });
        const first = await send();
        await world.client().beta.files.delete(file.id);
        assert.deepEqual((await send()).json, first.json);
    });

    test('whose grader the budget does not allow has failed', async () => {
        const cents = { type: 'limit', max_list_cost: { amount: '25', currency: 'USD' } };
        const s = await session({ budget: cents, initial_events: [outcome(`${write('alpha')}; true spend 2440`, '- contains alpha')] });
        await world.idle(s.id);
        const log = await world.events(s.id);
        assert.deepEqual(results(log), ['failed']);
        assert.match(ends(log)[0].explanation, /budget/);
    });

    test('at the budget rests ungraded and goes on when there is more', async () => {
        const cents = (amount) => ({ type: 'limit', max_list_cost: { amount, currency: 'USD' } });
        const s = await session({ budget: cents('25'), initial_events: [outcome(`${write('alpha')}; true spend 2600`, '- contains alpha')] });
        await world.idle(s.id);
        assert.deepEqual((await retrieve(s)).stop_reason, { type: 'budget_reached' });
        assert.deepEqual((await retrieve(s)).outcome_evaluations.map((e) => e.result), ['running']);
        await refused(world.send(s.id, outcome('another', '- r')), 400, /budget/);
        const stream = await world.stream(s.id);
        await api().update(s.id, { budget: cents('500') });
        await stream.until(GRADE[1]);
        await stream.until('session.status_idle');
        stream.close();
        assert.deepEqual((await retrieve(s)).outcome_evaluations.map((e) => e.result), ['satisfied']);
    });

    test('stands in a fork as it stood at the event', async () => {
        const s = await session();
        await world.turn(s.id, outcome(`${write('alpha')}\nthen: echo beta >> ${OUT}/a.txt`, '- contains alpha\n- contains beta'));
        await world.turn(s.id, outcome('do nothing', '- does not apply'));
        const log = await world.events(s.id);
        const [first, second] = log.filter((e) => e.type === DEFINE).map((e) => e.outcome_id);
        for (const [i, e] of log.entries()) {
            const prefix = log.slice(0, i + 1), rests = e.type === 'session.status_idle';
            const defined = prefix.filter((each) => each.type === DEFINE).length;
            const ended = results(prefix).filter((r) => r !== 'needs_revision');
            const wanted = [first, second].slice(0, defined).map((id, n) => [id, ended[n] ?? 'interrupted']);
            const branch = await fork(s, { event_id: e.id });
            assert.deepEqual(branch.outcome_evaluations.map((each) => [each.outcome_id, each.result]), wanted, `at ${e.type}${rests ? '' : ', closed'}`);
            assert.deepEqual((await retrieve(branch)).outcome_evaluations, branch.outcome_evaluations);
        }
        assert.deepEqual((await fork(s)).outcome_evaluations, (await retrieve(s)).outcome_evaluations);
    });

    test('is graded by the configured model, whatever the agent has', async () => {
        const s = await graded.session({ agent: { model: 'script/echo' } });
        await graded.turn(s.id, outcome('do nothing', '- does not apply'));
        const [end] = ends(await graded.events(s.id));
        assert.match(end.explanation, /there is no such thing/);
    });

    test('is counted by its results', async () => {
        const { text: metrics } = await world.http('GET', '/metrics', { key: null, beta: null });
        for (const result of ['satisfied', 'needs_revision', 'max_iterations_reached', 'failed', 'interrupted']) {
            const [, n] = metrics.match(new RegExp(`^ostler_outcome_evaluations_total\\{result="${result}"\\} (\\d+)$`, 'm'));
            assert.ok(Number(n) > 0, result);
        }
    });
});
