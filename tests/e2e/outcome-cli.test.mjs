// Rubrics and outcomes on the command line: `ostler run --rubric`, `ostler rubric check`, `ostler outcome`.
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { useServer } from '../lib/harness.mjs';
import { git, remove, repository, run, scratch } from '../lib/e2e.mjs';

const dir = scratch();
const repo = path.join(dir, 'repo');
const scripts = path.join(dir, 'scripts');

// The worker claims success every time. It writes 41 into answer.txt, and 42 when it is asked again, unless the
// task says that it is stubborn; "late" makes it wait for one more revision. The grader looks for itself.
const SCRIPT = `--model: context=100000 max_output=2000 input=10 output=100
return function(request)
    if request.purpose == "grader" then
        if #request.results == 0 then
            return { tools = { { name = "bash", input = { command = "grep -n 42 /workspace/answer.txt || echo missing" } } } }
        end
        local found = json.encode(request.results[1].content):match("1:42")
        return { tools = { { name = "submit_verdict", input = { rubric_applies = true, criteria = {
            { number = 1, verdict = found and "met" or "not_met", comment = found and "It is there." or "It is not there.",
              evidence = found and "answer.txt:1: 42" or "grep -n 42 answer.txt: missing" },
            { number = 2, verdict = "met", comment = "It exists.", evidence = "answer.txt" } } } } } }
    end
    if #request.results > 0 then return "I have done everything, all criteria are met." end
    local task = json.encode(request.messages)
    local times = task:find("late") and 2 or 1
    local last = task:find("stubborn") and 41 or 42
    return { tools = { { name = "bash", input = { command = "echo x >> /tmp/n; if test $(wc -l < /tmp/n) -gt " .. times .. "; then echo " .. last .. " > answer.txt; else echo 41 > answer.txt; fi" } } } }
end
`;
const RUBRIC = '# What counts\n\n1. answer.txt holds the line `42`\n2. answer.txt exists\n';

mkdirSync(scripts);
writeFileSync(path.join(scripts, 'worker.lua'), SCRIPT);
const world = useServer({ config: `script_dir: ${scripts}\n` });

const file = (name, text) => {
    writeFileSync(path.join(dir, name), text);
    return path.join(dir, name);
};
const graded = (task, rubric, ...more) => {
    const name = `${Math.random().toString(36).slice(2)}.patch`;
    const patch = path.join(dir, name);
    const words = task === null ? [] : [task];
    return run(world, ['run', ...words, '--dir', repo, '--model', 'script/worker', '--out', patch, '--rubric', rubric, ...more]).then((r) => ({ ...r, patch }));
};
const sessionOf = ({ stdout }) => stdout.match(/sesn_\w+/)[0];

before(() => repository(repo, { 'a.txt': 'a\n' }));
after(() => remove(dir));

describe('ostler run --rubric', () => {
    test('goes on until the grader is satisfied, whatever the agent claims, and shows every verdict', async () => {
        const done = await graded('write the answer', file('rubric.md', RUBRIC), '--keep');
        const { code, stdout, stderr, patch } = done;
        assert.equal(code, 0, stdout + stderr);
        assert.match(stdout, /graded by .*rubric\.md: 2 criteria, 0 checks/);
        assert.match(stdout, /grader {2}iteration 0\n {4}not met +answer\.txt holds the line `42`\n +It is not there\.\n +grep -n 42 answer\.txt: missing\n {4}met +answer\.txt exists\n[^]*needs revision \(/);
        assert.match(stdout, /grader {2}iteration 1\n {4}met +answer\.txt holds the line `42`\n +It is there\.\n +answer\.txt:1: 42\n[^]* {4}satisfied \(/);
        assert.match(stdout, /Done after/);
        assert.match(stdout, /outcome +satisfied after 2 evaluations/);
        assert.match(readFileSync(patch, 'utf8'), /\+42/);

        const shown = await run(world, ['outcome', sessionOf(done)]);
        assert.equal(shown.code, 0, shown.stderr);
        assert.match(shown.stdout, /^write the answer\n {2}outc_\w+: satisfied\n/);
        assert.match(shown.stdout, /iteration 0: needs revision\n {4}the agent: .* tokens; the grader: .* tokens, \$\d/);
        assert.match(shown.stdout, /iteration 1: satisfied\n[^]*answer\.txt:1: 42/);
        assert.match(shown.stdout, /grading used .* tokens, \$\d/);

        const { stdout: text } = await run(world, ['outcome', sessionOf(done), '--json']);
        const outcome = JSON.parse(text);
        assert.equal(outcome.type, 'ostler.outcome');
        assert.equal(outcome.satisfied, true);
        assert.deepEqual(outcome.iterations.map((i) => [i.iteration, i.result]), [[0, 'needs_revision'], [1, 'satisfied']]);
        for (const i of outcome.iterations) {
            assert.equal(i.criteria.length, 2);
            assert.ok(i.criteria.every((c) => c.evidence), 'each verdict has its evidence');
            assert.ok(i.usage.input_tokens > 0 && i.cost_microusd > 0 && i.work.input_tokens > 0, JSON.stringify(i));
            assert.ok(i.graded_ms >= 0 && i.worked_ms >= 0);
        }
        assert.equal(outcome.closing, null);
    });

    test('exits with 4 when no iteration is left, and hands out what there is', async () => {
        const { code, stdout, stderr, patch } = await graded('be stubborn', file('rubric.md', RUBRIC), '--max-iterations', '2', '--json');
        assert.equal(code, 4, stdout + stderr);
        const last = JSON.parse(stdout.trimEnd().split('\n').at(-1));
        assert.equal(last.done, true);
        assert.equal(last.outcome.result, 'max_iterations_reached');
        assert.equal(last.outcome.evaluations, 2);
        assert.equal(last.outcome.satisfied, false);
        assert.match(readFileSync(patch, 'utf8'), /\+41/);
    });

    test('a check that fails is the verdict, with its output as the evidence', async () => {
        const rubric = file('rubric.yaml', 'description: write the answer\ncriteria:\n  - answer.txt holds the line `42`\n  - answer.txt exists\nchecks:\n  - name: the answer\n    run: cat answer.txt; grep -q 42 answer.txt\n');
        const done = await graded(null, rubric, '--keep');
        assert.equal(done.code, 0, done.stdout + done.stderr);
        assert.match(done.stdout, /> write the answer/, 'the task is the one of the rubric');
        assert.match(done.stdout, /iteration 0\n {4}not met +the answer\n[^]*41\n[^]*needs revision/);
        const { iterations } = JSON.parse((await run(world, ['outcome', sessionOf(done), '--json'])).stdout);
        assert.deepEqual(iterations[0].criteria.map((c) => [c.name, c.verdict]), [['the answer', 'not_met']], 'nothing else was graded');
        assert.match(iterations[0].criteria[0].evidence, /41\n.*exit code 1/);
        assert.equal(iterations[1].criteria.length, 3);
    });

    test('what the last turn leaves is graded where the rubric asks for it, and counts', async () => {
        const done = await graded('be late', file('closing.md', `---\nmax_iterations: 1\nclosing: true\n---\n${RUBRIC}`), '--keep');
        const { code, stdout, stderr } = await graded('be late and stubborn', file('closing.md', `---\nmax_iterations: 1\nclosing: true\n---\n${RUBRIC}`));
        assert.equal(code, 4, stdout + stderr);
        assert.match(stdout, /closing +what the last turn left: needs_revision/);
        assert.equal(done.code, 4, done.stdout + done.stderr);
        const fixed = await graded('be quick', file('closing.md', `---\nmax_iterations: 1\nclosing: true\n---\n${RUBRIC}`), '--keep');
        assert.equal(fixed.code, 0, fixed.stdout + fixed.stderr);
        assert.match(fixed.stdout, /outcome +max_iterations_reached after 1 evaluation\n +closing +what the last turn left: satisfied/);
        const shown = await run(world, ['outcome', sessionOf(fixed)]);
        assert.equal(shown.code, 0, shown.stderr);
        assert.match(shown.stdout, /closing, what the last turn left: satisfied\n {4}met +answer\.txt holds/);
    });

    test('what cannot be meant is refused before anything begins', async () => {
        const rubric = file('rubric.md', RUBRIC);
        for (const [args, says] of [
            [['do it', '--max-iterations', '2'], /--max-iterations goes with --rubric FILE/],
            [['do it', '--rubric', path.join(dir, 'none.md')], /--rubric: .*none\.md: No such file/],
            [['do it', '--rubric', file('bad.yaml', 'criteria: [a]\nchekcs: []\n')], /bad\.yaml:2: chekcs: unknown key; did you mean checks\?/],
            [['--rubric', rubric], /TASK is missing/],
            [['do it', '--rubric', rubric, '--max-iterations', '21'], /--max-iterations takes a number from 1 to 20/],
        ]) {
            const { code, stderr } = await run(world, ['run', ...args, '--dir', repo]);
            assert.equal(code, 2, stderr);
            assert.match(stderr, says);
        }
    });
});

describe('ostler rubric check', () => {
    test('shows how each criterion is read and names those that cannot be judged', async () => {
        const { code, stdout } = await run(world, ['rubric', 'check', file('vague.md', '---\nchecks:\n- name: tests\n  run: make test\n---\n# Rubric\n\n- The code is clean\n- Everything works\n- `make` exits with 0 and the README lists all options\n- [ ] `a` exists\n- `a` exists\n')]);
        assert.equal(code, 1, stdout);
        assert.match(stdout, /5 criteria, 1 check, at most 3 iterations/);
        assert.match(stdout, /tests\n +\$ make test\n +expects exit code 0, within 120 s/);
        assert.match(stdout, / 1 The code is clean\n +line 8, vague: "clean": name the rule/);
        assert.match(stdout, / 2 Everything works\n +line 9, nothing to look at: name what one can look at or run/);
        assert.match(stdout, / 3 `make` exits .*\n +line 10, two in one: "and the README lists all": make two/);
        assert.match(stdout, / 5 `a` exists\n +line 12, said twice: the same as 4/);
        assert.match(stdout, /4 findings\n$/);
    });

    test('is silent about what can be judged', async () => {
        const { code, stdout } = await run(world, ['rubric', 'check', file('rubric.md', RUBRIC)]);
        assert.equal(code, 0, stdout);
        assert.match(stdout, /\n0 findings\n$/);
    });

    test('--json has the same for programs, with what is sent', async () => {
        const { code, stdout } = await run(world, ['rubric', 'check', '--json', file('a.yaml', 'criteria:\n  - The code is clean\nclosing: true\n')]);
        assert.equal(code, 1);
        const said = JSON.parse(stdout);
        assert.deepEqual(said.criteria, [{ number: 1, line: 2, text: 'The code is clean' }]);
        assert.deepEqual(said.rubric, { type: 'text', content: '- The code is clean\n', closing: true });
        const [{ advice, ...finding }] = said.findings;
        assert.deepEqual(finding, { criterion: 1, line: 2, problem: 'vague', words: 'clean' });
        assert.ok(advice);
    });

    test('a file that is no rubric is a mistake of usage', async () => {
        for (const args of [['check', path.join(dir, 'none.md')], ['check', file('empty.md', '')], ['chekc', 'x'], ['check']])
            assert.equal((await run(world, ['rubric', ...args])).code, 2, args.join(' '));
    });

    test('the completion and the manual know it', async () => {
        const { stdout } = await run(world, ['completion', 'bash']);
        assert.match(stdout, /rubric\)\n.*--json.*\n?.*choices='check'/);
        assert.match((await run(world, ['help', '--man'])).stdout, /\.SS outcome/);
    });
});

// A server of the published API: no criteria, no cost, nothing of a closing.
describe('ostler outcome with a server that tells less', () => {
    const at = (s) => `2026-11-20T10:00:${String(s).padStart(2, '0')}Z`;
    const zero = { input_tokens: 0, output_tokens: 0, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 };
    const events = [
        { id: 'sevt_1', type: 'user.define_outcome', processed_at: at(0), outcome_id: 'outc_1', description: 'First\u001b[2J task', rubric: { type: 'text', content: 'x' } },
        { id: 'sevt_2', type: 'span.model_request_end', processed_at: at(3), model_usage: { ...zero, input_tokens: 100, output_tokens: 20 } },
        { id: 'sevt_3', type: 'span.outcome_evaluation_start', processed_at: at(5), outcome_id: 'outc_1', iteration: 0 },
        { id: 'sevt_4', type: 'span.outcome_evaluation_end', processed_at: at(9), outcome_id: 'outc_1', iteration: 0, outcome_evaluation_start_id: 'sevt_3', result: 'needs_revision', explanation: 'An independent grader found the following criteria are not fully met:\n- One (not met): no', usage: zero },
        { id: 'sevt_5', type: 'span.outcome_evaluation_end', processed_at: at(12), outcome_id: 'outc_1', iteration: 1, outcome_evaluation_start_id: '', result: 'interrupted', explanation: 'Interrupted', usage: zero },
        { id: 'sevt_6', type: 'user.define_outcome', processed_at: at(20), outcome_id: 'outc_2', description: 'Second', rubric: { type: 'text', content: 'x' } },
        { id: 'sevt_7', type: 'span.outcome_evaluation_start', processed_at: at(25), outcome_id: 'outc_2', iteration: 0 },
    ];
    let server, url, log;
    before(async () => {
        server = createServer((req, res) => {
            const { pathname, searchParams } = new URL(req.url, 'http://x');
            res.setHeader('content-type', 'application/json');
            if (pathname.endsWith('/events')) {
                // Two to a page.
                const from = Number(searchParams.get('page') ?? 0);
                const rest = log.filter((e) => searchParams.getAll('types[]').includes(e.type));
                res.end(JSON.stringify({ data: rest.slice(from, from + 2), next_page: from + 2 < rest.length ? String(from + 2) : null }));
            } else {
                res.end(JSON.stringify({ id: 'sesn_1', type: 'session', outcome_evaluations: log.some((e) => e.outcome_id === 'outc_2') ? [{ type: 'outcome_evaluation', outcome_id: 'outc_2', result: 'evaluating' }] : [] }));
            }
        });
        await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
        url = `http://127.0.0.1:${server.address().port}`;
    });
    after(() => server.close());

    test('shows the explanation, tokens and times, and no money', async () => {
        log = events;
        const { code, stdout, stderr } = await run(world, ['outcome', 'sesn_1', '--server', url]);
        assert.equal(code, 4, stderr);
        assert.equal(stdout, [
            'First\ufffd task',
            '  outc_1: interrupted',
            '',
            '  iteration 0: needs revision',
            '    the agent: 5.0 s, 120 tokens; the grader: 4.0 s, 0 tokens',
            '    An independent grader found the following criteria are not fully met:',
            '    - One (not met): no',
            '',
            '  iteration 1: interrupted',
            '    the agent: 3.0 s, 0 tokens; the grader: 0.0 s, 0 tokens',
            '    Interrupted',
            '',
            '  grading used 0 tokens',
            '',
            'Second',
            '  outc_2: the grader looks',
            '',
            '  iteration 0: the grader looks',
            '    the agent: 5.0 s, 0 tokens',
            '',
            '  grading used 0 tokens',
            '',
        ].join('\n'));
        const lines = (await run(world, ['outcome', 'sesn_1', '--json', '--server', url])).stdout.trimEnd().split('\n').map((l) => JSON.parse(l));
        assert.deepEqual(lines.map((o) => [o.outcome_id, o.result, o.satisfied]), [['outc_1', 'interrupted', false], ['outc_2', 'evaluating', false]]);
        assert.ok(!('cost_microusd' in lines[0].iterations[0]));
        assert.equal(lines[0].iterations[0].criteria, null);
    });

    test('a session without outcomes is not satisfied', async () => {
        log = [];
        const { code, stdout } = await run(world, ['outcome', 'sesn_1', '--server', url]);
        assert.equal(stdout, 'no outcomes\n');
        assert.equal(code, 4);
    });

    test('an unknown session is an error', async () => {
        assert.equal((await run(world, ['outcome', 'sesn_01unknown'])).code, 1);
        assert.equal((await run(world, ['outcome', '../x'])).code, 2);
    });
});
