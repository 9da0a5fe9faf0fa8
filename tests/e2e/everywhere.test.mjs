// One tool turn, killed after its first, second, third... frame, until it gets through unharmed.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { FakeMessages } from '../lib/fake-messages.mjs';
import { texts } from '../lib/harness.mjs';
import { assertSound, drain, firstEvent, rest, resultText, useProvider, worker, workspaceFile } from '../lib/e2e.mjs';

const provider = new FakeMessages();
const world = await useProvider(provider);

const DELTAS = '?event_deltas[]=agent.message';
const stored = (stream) => stream.seen.filter((item) => item.id).map((item) => item.value);
const isIdle = (event) => event?.type === 'session.status_idle';
let unknown = 0;

// Two calls, then one more, then words: what it says follows from the request alone, as after a kill the
// same is asked again.
function act({ json }) {
    const results = json.messages.flatMap((m) => m.content).filter((b) => b.type === 'tool_result').length;
    if (results === 0) return ['I begin.', { bash: 'echo first >> runs' }, { bash: 'echo second >> runs' }];
    if (results === 2) return [{ bash: 'echo third >> runs; cat runs' }];
    return ['All done, in a few words.'];
}

// The word that each call appends to the file, with the call's result.
function outcomes(log) {
    const calls = log.filter((e) => e.type === 'agent.tool_use');
    assert.equal(calls.length, 3);
    return calls.map((call) => [call.input.command.match(/echo (\w+)/)[1], log.find((e) => e.tool_use_id === call.id)]);
}

// One turn in which the server is killed each time so many frames were seen since its start. Resolves to
// how many of the kills came before the turn was over.
async function turnKilledAfter(...counts) {
    provider.fallback = act;
    const session = await worker(world);
    let stream = await world.stream(session.id, { query: DELTAS });
    const { data: accepted } = await world.send(session.id, 'work');
    const seen = [];
    let kills = 0;
    for (const count of counts) {
        let over = false;
        for (let n = 0; n < count && !over; n++) over = isIdle((await stream.next())?.value);
        if (over) break;
        await world.server.kill();
        kills++;
        await drain(stream);
        seen.push(...stored(stream));
        await world.server.start();
        if (seen.length === 0) seen.push(await firstEvent(world, session));
        stream = null;
        if (isIdle(seen.at(-1))) break;
        stream = await world.stream(session.id, { query: DELTAS, headers: { 'last-event-id': seen.at(-1).id } });
    }
    if (stream) seen.push(...stored(stream));
    stream?.close();
    if (!isIdle(seen.at(-1))) seen.push(...(await rest(world, session, seen.at(-1))));
    const log = await world.events(session.id);
    assert.deepEqual(seen, log, 'the stream before the kill and its continuation are the log, each event once');
    assertSound(log, { accepted });
    assert.deepEqual(texts(log), ['I begin.', 'All done, in a few words.']);
    const runs = ((await workspaceFile(world, session, 'runs')) ?? '').split('\n').filter(Boolean);
    for (const [word, result] of outcomes(log)) {
        const times = runs.filter((run) => run === word).length;
        if (result.is_error) {
            // Killed while the sandbox was being started: nobody can know, and the model is told so.
            assert.deepEqual(result.failure, { reason: 'sandbox_lost' }, JSON.stringify(result));
            assert.match(resultText(result), /unknown/);
            assert.ok(times <= 1, `${word} ran ${times} times`);
            unknown++;
        } else {
            assert.equal(times, 1, `${word} ran ${times} times, and its result is ${JSON.stringify(result)}`);
        }
    }
    return kills;
}

describe('a turn of three tool calls', () => {
    test('killed after every single frame of it, ends every time with each call run once', async () => {
        let k = 0;
        while ((await turnKilledAfter(k)) > 0) assert.ok(++k < 60, 'the turn never gets through');
        assert.ok(k >= 20, `only ${k} frames`);
        assert.ok(unknown <= k, `${unknown} of ${3 * k} outcomes are unknown`);
    });

    // A linear congruential generator: the same kills every time.
    test('killed three times at moments picked by a seed, still does', async () => {
        let seed = 20261120;
        const pick = (n) => (seed = (seed * 1103515245 + 12345) % 2 ** 31) % n;
        for (let round = 0; round < 12; round++) await turnKilledAfter(pick(14), pick(10), pick(10));
    });
});
