// The files of a session outlive its sandbox's directory: they are kept at the end of each turn, come back
// when the directory is gone, and go with the session. A real server and real sandboxes.
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { FakeMessages } from '../lib/fake-messages.mjs';
import { texts } from '../lib/harness.mjs';
import { assertSound, eventually, killHands, rest, resultText, useProvider, worker, workspaceFile } from '../lib/e2e.mjs';

const provider = new FakeMessages();
const world = await useProvider(provider);

const NOTE = /^This is a fresh sandbox\. The files in \/workspace, .* are those of \d{4}-.*Z \(after event (sevt_\w+)\)\. Later changes .*\n/;

const directory = (session) => path.join(world.server.data, 'sandboxes', session.id);
const lose = (session) => rmSync(directory(session), { recursive: true, force: true });
const results = (log) => log.filter((e) => e.type === 'agent.tool_result').map(resultText);

function query(sql) {
    const db = new DatabaseSync(path.join(world.server.data, 'ostler.db'), { readOnly: true });
    try {
        return db.prepare(sql).all().map((row) => ({ ...row }));
    } finally {
        db.close();
    }
}

// The checkpoints of a session: [{seq, turn_end, event}], the event being the one of that seq.
const checkpoints = (session) =>
    query(`SELECT c.seq, c.turn_end, e.id AS event FROM checkpoint c JOIN session s ON s.key = c.session LEFT JOIN event e ON e.session = s.key AND e.seq = c.seq WHERE s.id = '${session.id}' ORDER BY c.seq`);

// A turn in which the model runs these commands one after the other; its log.
async function turn(session, commands, last) {
    for (const bash of commands) provider.expect([{ bash }]);
    provider.expect(['done']);
    await world.send(session.id, 'work');
    return rest(world, session, last);
}

const kept = (session, event) => eventually(`the checkpoint of ${event.id}`, () => checkpoints(session).find((c) => c.event === event.id));

describe('a directory that is gone', () => {
    test('while the server was down, comes back with the next call, which says so', async () => {
        const session = await worker(world);
        const one = await turn(session, ['mkdir -p a; echo kept > a/f; chmod 750 a/f; echo mine > ~/.rc; echo out > /mnt/session/outputs/o']);
        await world.server.stop();
        lose(session);
        await world.server.start();
        const two = await turn(session, ['cat a/f ~/.rc /mnt/session/outputs/o; stat -c %a a/f', 'cat a/f'], one.at(-1));
        const [first, second] = results(two);
        assert.match(first, NOTE);
        assert.equal(first.match(NOTE)[1], one.at(-1).id, 'the event that ended the turn before');
        assert.equal(first.replace(NOTE, '').trim(), 'kept\nmine\nout\n750');
        assert.equal(second.trim(), 'kept', 'told once');
        assertSound([...one, ...two], { accepted: [...one, ...two].filter((e) => e.type === 'user.message') });
    });

    test('and its hand as well, as on another host', async () => {
        const session = await worker(world);
        const one = await turn(session, ['echo kept > f']);
        await world.server.stop();
        await killHands(world);
        lose(session);
        await world.server.start();
        const two = await turn(session, ['cat f'], one.at(-1));
        assert.equal(results(two)[0].replace(NOTE, '').trim(), 'kept');
    });

    test('between two calls of a turn, is noticed before the next one, and the turn goes on with its files', async () => {
        const session = await worker(world);
        const one = await turn(session, ['echo kept > f']);
        await kept(session, one.at(-1));
        provider.expect([{ bash: 'echo later > g; cat f' }]);
        const held = provider.expect({ blocks: [{ bash: 'cat f; ls; echo more > f' }], hold: 'head' });
        await world.send(session.id, 'go on');
        await held.paused;
        lose(session);
        provider.expect([{ bash: 'cat f' }]);
        provider.expect(['done']);
        held.release();
        const two = await rest(world, session, one.at(-1));
        const [before, after, last] = results(two);
        assert.equal(before.trim(), 'kept');
        assert.match(after, NOTE);
        assert.equal(after.replace(NOTE, '').trim(), 'kept\nf', 'what came after the checkpoint is gone');
        assert.equal(last.trim(), 'more');
        assert.ok(two.every((e) => e.is_error !== true));
        assert.deepEqual(texts(two), ['done']);
        assert.equal(await workspaceFile(world, session, 'f'), 'more\n');
        assert.equal((await kept(session, two.at(-1))).turn_end, 1);
    });
});

describe('one loss after another', () => {
    test('is told each time', async () => {
        const session = await worker(world);
        let last = (await turn(session, ['echo 0 > f'])).at(-1);
        for (let i = 1; i <= 4; i++) {
            await kept(session, last);
            lose(session);
            const log = await turn(session, [`cat f; echo ${i} > f`], last);
            const [result] = results(log);
            assert.match(result, NOTE);
            assert.equal(result.match(NOTE)[1], last.id);
            assert.equal(result.replace(NOTE, '').trim(), `${i - 1}`);
            last = log.at(-1);
        }
    });

    test('with a checkpoint that is damaged leaves those that come after it whole', async () => {
        const session = await worker(world);
        const one = await turn(session, ['head -c 1000 /dev/urandom > f']);
        await kept(session, one.at(-1));
        const two = await turn(session, ['seq 1 30000 > g'], one.at(-1));
        await kept(session, two.at(-1));
        const [pack] = query(`SELECT b.blob FROM session_blob b JOIN session s ON s.key = b.session JOIN checkpoint c ON c.session = s.key AND c.seq = b.seq
            WHERE s.id = '${session.id}' AND b.blob <> c.manifest ORDER BY b.seq DESC LIMIT 1`).map((row) => row.blob);
        const name = path.join(world.server.data, 'blobs', pack.slice(0, 2), pack.slice(2));
        const bytes = readFileSync(name);
        bytes[100] ^= 1;
        writeFileSync(name, bytes);
        lose(session);
        const three = await turn(session, ['ls; seq 1 30000 > g'], two.at(-1));
        assert.equal(results(three)[0].match(NOTE)[1], one.at(-1).id, 'the one before');
        assert.equal(results(three)[0].replace(NOTE, '').trim(), 'f');
        await kept(session, three.at(-1));
        lose(session);
        const four = await turn(session, ['ls; tail -n 1 g'], three.at(-1));
        assert.equal(results(four)[0].match(NOTE)[1], three.at(-1).id, 'which has the same content as the damaged one');
        assert.equal(results(four)[0].replace(NOTE, '').trim(), 'f\ng\n30000');
    });
});

describe('a directory that is being removed', () => {
    test('while it is looked at, is kept as a whole or not at all', async () => {
        const session = await worker(world);
        const make = 'mkdir -p d; for i in $(seq 1 1500); do echo $i$RANDOM > d/$i; done; ls d | wc -l';
        let last = (await turn(session, [make])).at(-1);
        await kept(session, last);
        for (let i = 0; i < 3; i++) {
            provider.expect([{ bash: make }]);
            provider.expect(['done']);
            const stream = await world.stream(session.id);
            await world.send(session.id, 'work');
            last = (await stream.until('session.status_idle')).at(-1);
            stream.close();
            execFileSync('sh', ['-c', 'until rm -rf "$0" 2>/dev/null; do :; done', directory(session)]); // the server may write its index meanwhile
            const log = await turn(session, ['ls d | wc -l'], last);
            assert.equal(results(log)[0].replace(NOTE, '').trim(), '1500');
            await kept(session, last = log.at(-1));
        }
    });
});

describe('the checkpoint of a turn', () => {
    test('is there after the server was killed right behind its last event', async () => {
        const session = await worker(world);
        for (let i = 1; i <= 3; i++) {
            provider.expect([{ bash: `echo ${i} > f` }]);
            provider.expect(['done']);
            const stream = await world.stream(session.id);
            await world.send(session.id, 'work');
            const idle = (await stream.until('session.status_idle')).at(-1);
            await world.server.kill();
            stream.close();
            await world.server.start();
            const checkpoint = await kept(session, idle);
            assert.equal(checkpoint.turn_end, 1);
            assert.deepEqual(query(`SELECT checkpoint_due FROM session WHERE id = '${session.id}'`), [{ checkpoint_due: 0 }]);
            lose(session);
            assert.equal(await workspaceFile(world, session, 'f'), `${i}\n`);
        }
    });

    test('goes with the session, and so do the bytes of all of them', async () => {
        const session = await worker(world);
        const one = await turn(session, ['head -c 300000 /dev/urandom > f']);
        const two = await turn(session, ['head -c 300000 /dev/urandom > g'], one.at(-1));
        await kept(session, two.at(-1));
        const names = query(`SELECT b.blob FROM session_blob b JOIN session s ON s.key = b.session WHERE s.id = '${session.id}'`).map((row) => row.blob);
        const file = (name) => path.join(world.server.data, 'blobs', name.slice(0, 2), name.slice(2));
        assert.ok(names.length >= 4, 'two manifests, two packs');
        assert.ok(names.every((name) => existsSync(file(name))));
        await world.client().beta.sessions.delete(session.id);
        await world.server.restart(); // which sweeps
        await eventually('the end of its blobs', () => !names.some((name) => existsSync(file(name))));
        await eventually('the end of its directory', () => !existsSync(directory(session)));
        assert.deepEqual(readdirSync(path.join(world.server.data, 'sandboxes')).filter((name) => name.startsWith('.restore')), []);
        assert.deepEqual(checkpoints(session), []);
    });
});
