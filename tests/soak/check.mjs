// What must hold of a session's log at rest, given what its client was told.

const marker = (event) => (event.type === 'user.message' ? event.content[0].text.split(' ')[0] : undefined);

// `expected`: {acknowledged: [{id, type, mark}], unsure: Set of marks}. Returns what is wrong.
export function judge(log, { acknowledged, unsure }) {
    const wrong = [];
    const seen = new Map();
    for (const e of log) {
        if (seen.has(e.id)) wrong.push(`${e.id} came twice`);
        seen.set(e.id, e);
    }
    for (const a of acknowledged) if (!seen.has(a.id)) wrong.push(`${a.type} ${a.id} was acknowledged and is lost`);
    const known = new Set(acknowledged.map((a) => a.id));
    const marks = new Set();
    for (const e of log) {
        if (!e.type.startsWith('user.')) continue;
        const mark = marker(e);
        if (mark && marks.has(mark)) wrong.push(`message ${mark} is there twice`);
        if (mark) marks.add(mark);
        if (!known.has(e.id) && !(mark ? unsure.has(mark) : unsure.has(e.type))) wrong.push(`${e.type} ${e.id} was never sent`);
    }
    const order = log.filter((e) => e.type === 'user.message' && known.has(e.id)).map((e) => e.id);
    const sent = acknowledged.filter((a) => a.type === 'user.message' && seen.has(a.id)).map((a) => a.id);
    if (order.join() !== sent.join()) wrong.push('messages are not in the order of their acknowledgement');
    return [...wrong, ...judgeShape(log)];
}

function judgeShape(log) {
    const wrong = [];
    let last = '';
    for (const e of log) {
        if (!e.processed_at) wrong.push(`${e.type} ${e.id} is still queued`);
        const at = e.processed_at && e.processed_at.replace(/(\.\d+)?Z$/, (_, f = '.') => f.padEnd(7, '0'));
        if (at <= last) wrong.push(`the time of ${e.id} does not grow`);
        last = at ?? last;
    }
    const ids = (type, key = 'id') => log.filter((e) => e.type === type).map((e) => e[key]);
    const [calls, results] = [ids('agent.tool_use'), ids('agent.tool_result', 'tool_use_id')];
    for (const id of calls) {
        const n = results.filter((r) => r === id).length;
        if (n !== 1) wrong.push(`call ${id} has ${n} results`);
    }
    // A client's call is answered by the client, late answers included, or by the interrupt that ends it.
    const custom = ids('agent.custom_tool_use');
    const answers = ids('user.custom_tool_result', 'custom_tool_use_id');
    for (const id of custom) if (!answers.includes(id) && !results.includes(id)) wrong.push(`call ${id} of the client was never answered`);
    for (const id of [...results, ...answers]) if (!calls.includes(id) && !custom.includes(id)) wrong.push(`a result of ${id}, which is no call`);
    if (new Set(results).size !== results.length) wrong.push('a call has two results');
    if (ids('span.model_request_start').join() !== ids('span.model_request_end', 'model_request_start_id').join()) wrong.push('a span is not closed, or closed twice');
    // What happens to an idle session is told behind its idle event.
    const end = log.findLast((e) => e.type !== 'session.updated' && e.type !== 'user.interrupt');
    if (end && end.type !== 'session.status_idle') wrong.push(`the log ends with ${log.at(-1).type}`);
    return wrong;
}

// A call ran at most once, and once where its result says that it ended well. `runs`: the file they all write to.
export function judgeRuns(log, runs) {
    const wrong = [];
    const times = new Map();
    for (const mark of runs.split('\n').filter(Boolean)) times.set(mark, (times.get(mark) ?? 0) + 1);
    const results = new Map(log.filter((e) => e.type === 'agent.tool_result').map((e) => [e.tool_use_id, e]));
    for (const e of log) {
        if (e.type !== 'agent.tool_use' || e.name !== 'bash') continue;
        const mark = /^echo (\S+)/.exec(e.input.command)?.[1];
        const n = times.get(mark) ?? 0;
        if (n > 1) wrong.push(`call ${mark} ran ${n} times`);
        if (n === 0 && results.get(e.id)?.is_error === false) wrong.push(`call ${mark} ended well and never ran`);
    }
    return wrong;
}
