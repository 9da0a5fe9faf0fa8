// A reporter that prints "passed failed skipped", counting cases: suites and files are not cases.
export default async function* count(source) {
    let passed = 0;
    let failed = 0;
    let skipped = 0;
    for await (const { type, data } of source) {
        if (type !== 'test:pass' && type !== 'test:fail') continue;
        if (data.details?.type === 'suite' && type === 'test:pass') continue;
        if (data.details?.type === 'suite' && data.details.error?.failureType === 'subtestsFailed') continue;
        if (data.skip !== undefined || data.todo !== undefined) skipped++;
        else if (type === 'test:pass') passed++;
        else failed++;
    }
    yield `${passed} ${failed} ${skipped}\n`;
}
