// The checkers must find what they are for: each rule gets a tree made here that breaks only it.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../..');

function check(tool, files) {
    const dir = mkdtempSync(path.join(tmpdir(), 'ostler-check-'));
    try {
        for (const [name, text] of Object.entries(files)) {
            mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
            writeFileSync(path.join(dir, name), text);
        }
        const run = spawnSync(path.join(root, 'tools', tool), [dir], { encoding: 'utf8' });
        return { code: run.status, out: run.stdout + run.stderr };
    } finally {
        rmSync(dir, { recursive: true, force: true });
    }
}

const header = '/* x: a thing. Any thread; a value; lives as long as its owner. */\n';
const body = (lines) => `int f(void)\n{\n${'    g();\n'.repeat(lines - 3)}}\n`;

const source = [
    ['a banned function', { 'src/base/a.c': 'void f(char *d)\n{\n    strcpy(d, "x");\n}\n' }, /a\.c:3: strcpy\(\) is banned/],
    ['sprintf', { 'src/base/a.c': 'void f(char *d)\n{\n    sprintf(d, "x");\n}\n' }, /a\.c:3: sprintf/],
    ['a function over 120 lines', { 'src/base/a.c': body(122) }, /f\(\) has 12\d lines; 120 at the most/],
    ['a file over 1000 lines', { 'src/base/a.c': 'int a;\n'.repeat(1001) }, /file of 1001 lines/],
    ['a line over 100 columns', { 'src/base/a.c': `int ${'a'.repeat(100)};\n` }, /a\.c:1: line of 105 columns/],
    ['a header without its preamble', { 'src/base/a.h': '#pragma once\n' }, /a\.h:1: a header opens with/],
    ['a tab', { 'src/base/a.c': 'int\ta;\n' }, /a\.c:1: tab/],
    ['a trailing blank', { 'src/base/a.c': 'int a; \n' }, /a\.c:1: trailing blank/],
    ['a mark of unfinished work', { 'src/base/a.c': `/* ${'TO' + 'DO'}: later */\n` }, /a\.c:1: mark/],
    ['a mark in a script', { 'tests/a.mjs': `// ${'FIX' + 'ME'}\n` }, /a\.mjs:1: mark/],
    ['a sleeping test', { 'tests/unit/a.c': 'void f(void)\n{\n    usleep(5);\n}\n' }, /do not sleep/],
];

for (const [what, files, expected] of source) {
    test(`check-src finds ${what}`, () => {
        const { code, out } = check('check-src', files);
        assert.equal(code, 1, out);
        assert.match(out, expected);
        assert.match(out, /check-src: 1 errors/);
    });
}

test('check-src leaves good code alone', () => {
    const { code, out } = check('check-src', {
        'src/base/a.h': `${header}int strcpy_like(void);\n`,
        'src/base/a.c':
            '/* strcpy() in a comment, "quoted" */\nconst char *s = "strcpy(x) /* TODOS */ mkstemp XXXXXX";\n' +
            'void f(struct port *p)\n{\n    p->system(p);\n    my_atoi(s);\n    snprintf(s, 3, "\\"gets(x)");\n}\n' +
            'void g(void)\n{\n    system("true"); /* check-src: ok, the test of the rule */\n}\n' +
            `// ${'é'.repeat(97)}\n`,
        'src/base/b.c': body(121),
    });
    assert.equal(code, 0, out);
});

const layers = [
    ['an arrow that points up', { 'src/core/a.c': '#include "store/store.h"\n' }, /points up: core\/ is below store\//],
    ['neighbours', { 'src/memory/a.c': '#include "vault/vault.h"\n' }, /stand side by side/],
    ['uv outside io and http', { 'src/store/a.c': '#include <uv.h>\n' }, /<uv\.h> is not for this module/],
    ['curl outside http', { 'src/model/a.c': '#include <curl/curl.h>\n' }, /<curl\/curl\.h>/],
    ['sqlite outside its driver', { 'src/store/a.c': '#include <sqlite3.h>\n' }, /<sqlite3\.h>/],
    ['libpq outside its driver', { 'src/store/sqlite/a.c': '#include <libpq-fe.h>\n' }, /<libpq-fe\.h>/],
    ['lua outside the scripted model', { 'src/model/a.c': '#include <lua.h>\n' }, /<lua\.h>/],
    ['seccomp outside the sandbox', { 'src/engine/a.c': '#include <seccomp.h>\n' }, /<seccomp\.h>/],
    ['a system header in core', { 'src/core/a.c': '#include <sys/socket.h>\n' }, /core\/ is pure/],
    ['an unknown module', { 'src/base/a.c': '#include "util/x.h"\n' }, /no such module/],
    ['a module without a place', { 'src/util/a.c': '#include <stdio.h>\n' }, /no place in the layers/],
    ['a header without its module', { 'src/base/a.c': '#include "str.h"\n' }, /name the module: "base\/str\.h"/],
    ['a hand that sees the engine', { 'hand/a.c': '#include "engine/engine.h"\n' }, /the hand sees only/],
    ['an engine that sees the hand', { 'src/engine/a.c': '#include "hand/proto.h"\n' }, /only sandbox\//],
];

for (const [what, files, expected] of layers) {
    test(`check-layers finds ${what}`, () => {
        const { code, out } = check('check-layers', files);
        assert.equal(code, 1, out);
        assert.match(out, expected);
        assert.match(out, /check-layers: 1 errors/);
    });
}

test('check-layers lets arrows point down', () => {
    const { code, out } = check('check-layers', {
        'src/cli/main.c': '#include "api/api.h"\n#include "base/str.h"\n#include <unistd.h>\n',
        'src/core/a.c': '#include "core/b.h"\n#include "json/json.h"\n#include <string.h>\n',
        'src/io/a.c': '#include <uv.h>\n',
        'src/http/a.c': '#include <uv.h>\n#include <curl/curl.h>\n#include <llhttp.h>\n',
        'src/store/sqlite/a.c': '#include <sqlite3.h>\n#include "store/store.h"\n',
        'src/model/script.c': '#include <lua5.4/lua.h>\n#include <lauxlib.h>\n',
        'src/sandbox/a.c': '#include <seccomp.h>\n#include "hand/proto.h"\n',
        'hand/a.c': '#include <linux/landlock.h>\n#include "base/buf.h"\n#include "hand/tool.h"\n',
    });
    assert.equal(code, 0, out);
});

test('count-cases adds up cmocka cases, plain tests, crashes and skips', () => {
    const log = `=== 1/4 ===
test:         a
result:       exit status 1
---- stdout ----
1..3
ok 1 - x
not ok 2 - y
not ok 3 # SKIP z
=== 2/4 ===
test:         b
result:       killed by signal 6 SIGABRT
---- stdout ----
1..2
ok 1 - x
=== 3/4 ===
test:         c
result:       exit status 0
=== 4/4 ===
test:         d
result:       exit status 77
`;
    const run = spawnSync('awk', ['-f', path.join(root, 'tools/count-cases.awk')], { input: log, encoding: 'utf8' });
    assert.equal(run.stdout, '3 2 2\n');
});
