// One tool turn, killed after its first, second, third... frame, until it gets through unharmed.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { FakeMessages } from '../lib/fake-messages.mjs';
import { texts } from '../lib/harness.mjs';
import { assertSound, count, drain, rest, useProvider, worker, workspaceFile } from '../lib/e2e.mjs';

const provider = new FakeMessages();
const world = await useProvider(provider);

// Two calls, then one more, then words: what it says follows from the request alone, as after a kill the
// same is asked again.
function act({ json }) {
    const results = json.messages.flatMap((m) => m.content).filter((b) => b.type === 'tool_result').length;
    if (results === 0) return ['I begin.', { bash: 'echo first >> runs' }, { bash: 'echo second >> runs' }];
    if (results === 2) return [{ bash: 'echo third >> runs; cat runs' }];
    return ['All done, in a few words.'];
}

// Kills the server as soon as `when` holds for the number of frames seen; true when it did before the end.
async function turnKilledAt(when) {
    provider.fallback = act;
    const session = await worker(world);
    const stream = await world.stream(session.id, { query: '?event_deltas[]=agent.message' });
    const { data: accepted } = await world.send(session.id, 'work');
    let killed = false;
    for (let n = 0; !killed; n++) {
        if (when(n)) {
            await world.server.kill();
            killed = true;
            break;
        }
        const item = await stream.next();
        if (!item || item.value.type === 'session.status_idle') break;
    }
    if (killed) {
        await drain(stream);
        await world.server.start();
    } else {
        stream.close();
    }
    const seen = stream.seen.filter((item) => item.id).map((item) => item.value);
    if (seen.at(-1)?.type !== 'session.status_idle') seen.push(...(await rest(world, session, seen.at(-1))));
    const log = await world.events(session.id);
    assert.deepEqual(seen, log, 'the stream before the kill and its continuation are the log, each event once');
    assertSound(log, { accepted });
    assert.deepEqual(texts(log), ['I begin.', 'All done, in a few words.']);
    assert.equal(count(log, 'agent.tool_result'), 3);
    const runs = (await workspaceFile(world, session, 'runs')).trim().split('\n');
    assert.deepEqual(runs.toSorted(), ['first', 'second', 'third'], 'each call ran exactly once');
    return killed;
}

describe('a turn of three tool calls', () => {
    test('killed after every single frame of it, ends every time with each call run once', async () => {
        let k = 0;
        while (await turnKilledAt((n) => n === k)) {
            k++;
            assert.ok(k < 60, 'the turn never gets through');
        }
        assert.ok(k >= 20, `only ${k} frames`);
    });
});
