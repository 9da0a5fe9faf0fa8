// Keeping the files of a session of 200 MB in 5,000 files, one of them changed, restoring them, and copying them.
import { remove, temporary } from '../lib/programs.mjs';
import { rounds } from '../lib/report.mjs';

export async function snapshot({ build, quick, add }) {
    const n = quick ? 3 : 7, dir = temporary();
    const run = await build.run('snapshot', [dir, 5000, 200, n]);
    const got = await rounds(n, [async (i) => run.rounds[i]]);
    remove(dir);
    add({
        name: 'checkpoint, 200 MB, 5,000 files, one changed', group: 'snapshot', unit: 'µs', value: got.take, floor: got.walk, floorName: 'a walk that looks at every file',
        ratio: got.paired((r) => r.take / r.walk), spread: got.spread('take'), target: { text: 'at most 150 ms', limit: 150000 },
        note: `floor: a walk that looks at every file; nothing changed: ${Math.round(got.unchanged / 1000)} ms; the first one: ${Math.round(run.first / 1000)} ms`,
    });
    add({
        name: 'restore of the same', group: 'snapshot', unit: 'µs', value: got.restore, floor: got.tar, floorName: 'tar -x', ratio: got.paired((r) => r.restore / r.tar),
        spread: got.spread('restore'), target: { text: 'at most 1 s', limit: 1000000 }, note: 'floor: tar -x of an archive of the same',
    });
    add({
        name: 'copy of the same, for a grader', group: 'snapshot', unit: 'µs', value: got.direct, floor: got.cp, floorName: 'cp -a', ratio: got.paired((r) => r.direct / r.cp),
        spread: got.spread('direct'), target: { text: 'at most 1 s', limit: 1000000 }, note: 'floor: cp -a; one for each check and one for the model that looks',
    });
}
