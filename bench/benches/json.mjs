// Parsing and writing JSON.
export async function json({ build, quick, add }) {
    const got = await build.run('json', [quick ? 500 : 1500]);
    add({ name: 'JSON, parse', group: 'json', unit: 'MB/s', value: got.parse_mb_s, floor: got.jansson_mb_s, floorName: 'jansson' });
    add({ name: 'JSON, write', group: 'json', unit: 'MB/s', value: got.write_mb_s });
}
