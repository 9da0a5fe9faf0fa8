// The server's memory over time: a sample every few seconds, a line through those of each of its lives.
import { readFileSync } from 'node:fs';

export function residentKb(pid) {
    try {
        return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
    } catch {
        return 0;
    }
}

export function cpuSeconds(pid) {
    try {
        const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' ');
        return (Number(fields[11]) + Number(fields[12])) / 100;
    } catch {
        return 0;
    }
}

// Least squares: {slope, mean} of points [x, y].
export function fit(points) {
    const n = points.length;
    const mx = points.reduce((sum, [x]) => sum + x, 0) / n;
    const my = points.reduce((sum, [, y]) => sum + y, 0) / n;
    const over = points.reduce((sum, [x, y]) => sum + (x - mx) * (y - my), 0);
    const under = points.reduce((sum, [x]) => sum + (x - mx) ** 2, 0);
    return { slope: under > 0 ? over / under : 0, mean: my };
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const ENOUGH = 8; // samples behind the warm-up, or a life says nothing

export class Memory {
    lives = [];

    begin() {
        this.lives.push({ began: Date.now(), samples: [] });
    }

    sample(pid) {
        const life = this.lives.at(-1);
        const kb = residentKb(pid);
        if (life && kb) life.samples.push([(Date.now() - life.began) / 60000, kb]);
    }

    // Flat: within a life, behind its warm-up, the fitted line rises by no more than a tenth of the mean or
    // 4 MiB; and from the first life to the last, each at the same age, another line rises by no more than
    // that. Lives of the time when all sessions were new (before `settled`) say nothing to the latter, and
    // two lives make no line.
    report(warmupMinutes, settled) {
        const allowed = (mean) => Math.max(4096, mean / 10);
        const lives = this.lives.map(({ samples, began }) => {
            const warm = samples.filter(([minute]) => minute >= warmupMinutes);
            if (warm.length < ENOUGH) return { minutes: round(samples.at(-1)?.[0] ?? 0), samples: samples.length, fitted: false };
            const { slope, mean } = fit(warm);
            const minutes = warm.at(-1)[0] - warm[0][0];
            return {
                minutes: round(samples.at(-1)[0]), samples: samples.length, fitted: true, first_kb: samples[0][1], last_kb: samples.at(-1)[1], max_kb: Math.max(...samples.map(([, kb]) => kb)),
                settled: began >= settled, young_kb: median(warm.slice(0, ENOUGH).map(([, kb]) => kb)), kb_per_minute: round(slope), rise_kb: round(slope * minutes), flat: slope * minutes <= allowed(mean),
            };
        });
        const fitted = lives.filter((life) => life.fitted);
        const comparable = fitted.filter((life) => life.settled);
        const across = comparable.length > 2 ? fit(comparable.map((life, i) => [i, life.young_kb])) : null;
        const rise = across ? across.slope * (comparable.length - 1) : 0;
        const flat = fitted.every((life) => life.flat) && (!across || rise <= allowed(across.mean));
        return { flat, fitted: fitted.length, compared: across ? comparable.length : 0, across_lives_rise_kb: round(rise), lives };
    }
}

const round = (x) => Math.round(x * 100) / 100;
