/* The hand outside a sandbox, over its socket: every tool and message, and what happens to calls
 * when connections come and go. argv[1]: the hand. */
#include "hand_client.h"

#include "base/clock.h"
#include "base/fd.h"
#include "hand/text.h"
#include "hand/tools.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *exe;

struct fixture {
    struct hand_run hand;
    struct client client;
    int next;
};

static int setup_with(void **state, const char *const *extra)
{
    struct fixture *f = mem_zalloc(sizeof *f);
    hand_start(&f->hand, exe, extra);
    client_open(&f->client, f->hand.socket);
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, NULL);
}

static int setup_no_rg(void **state)
{
    return setup_with(state, (const char *const[]){"--no-rg", NULL});
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    client_close(&f->client);
    hand_stop(&f->hand);
    mem_free(f);
    return 0;
}

/* Runs one call to its end; the result frame. "$W" in the input stands for the working directory.
 */
static const struct json *call(struct fixture *f, const char *tool, const char *input)
{
    AUTO_BUF struct buf b = BUF_INIT(64 << 20);
    for (const char *p = input; *p; p++) {
        if (p[0] == '$' && p[1] == 'W') {
            buf_printf(&b, "%s/work", f->hand.dir);
            p++;
        } else {
            buf_ch(&b, *p);
        }
    }
    char id[32];
    snprintf(id, sizeof id, "call_%d", f->next++);
    client_run(&f->client, id, tool, b.data);
    return client_wait(&f->client, "result", id);
}

static void expect(struct fixture *f, const char *tool, const char *input, const char *content,
                   bool is_error)
{
    const struct json *r = call(f, tool, input);
    AUTO_BUF struct buf want = BUF_INIT(1 << 20);
    for (const char *p = content; *p; p++) {
        if (p[0] == '$' && p[1] == 'W') {
            buf_printf(&want, "%s/work", f->hand.dir);
            p++;
        } else {
            buf_ch(&want, *p);
        }
    }
    struct str got = json_get_str(r, "content");
    size_t n = want.len;
    /* "prefix*": the beginning is enough */
    bool prefix = n && want.data[n - 1] == '*';
    bool same = prefix ? str_starts(got, str_n(want.data, n - 1)) : str_eq(got, buf_view(&want));
    if (!same)
        fail_msg("%s %s\n gave: " STR_FMT "\n not:  %s", tool, input, STR_ARG(got), want.data);
    assert_int_equal(json_is_true(json_get(r, "is_error")), is_error);
}

struct row {
    const char *tool, *input, *content;
    bool is_error;
};

static void expect_rows(struct fixture *f, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        expect(f, rows[i].tool, rows[i].input, rows[i].content, rows[i].is_error);
}

/* ---- bash ---- */

static void bash_answers_as_the_reference_worker_does(void **state)
{
    static const struct row rows[] = {
        {"bash", "{\"command\":\"echo hello\"}", "hello", false},
        {"bash", "{\"command\":\"echo out; echo err >&2\"}", "out\nerr", false},
        {"bash", "{\"command\":\"true\"}", "", false},
        {"bash", "{\"command\":\"false\"}", "exit 1", true},
        {"bash", "{\"command\":\"(exit 42)\"}", "exit 42", true},
        {"bash", "{\"command\":\"echo broken; (exit 3)\"}", "broken", true},
        {"bash", "{\"command\":\"printf 'a\\\\n\\\\n\\\\n'\"}", "a", false},
        {"bash", "{\"command\":\"pwd\"}", "$W", false},
        {"bash", "{\"command\":\"cd / && X=1\"}", "", false},
        {"bash", "{\"command\":\"echo $PWD $X\"}", "/ 1", false},
        {"bash", "{\"restart\":true}", "bash session restarted", false},
        {"bash", "{\"command\":\"echo $PWD $X\",\"restart\":false}", "$W", false},
        {"bash", "{\"restart\":true,\"command\":\"echo fresh\"}", "fresh", false},
        {"bash", "{}", "bash: command is required", true},
        {"bash", "{\"command\":null}", "bash: command is required", true},
        {"bash", "{\"command\":\"\"}", "bash: command is required", true},
        {"bash", "{\"command\":7}", "bash: command must be a string", true},
        {"bash", "{\"command\":\"a\\u0000b\"}", "bash: the command contains a NUL character", true},
        {"bash", "{\"command\":\"x\",\"timeout_ms\":\"1\"}",
         "bash: timeout_ms must be a whole number of milliseconds, at least 1", true},
        {"bash", "{\"command\":\"x\",\"timeout_ms\":0}",
         "bash: timeout_ms must be a whole number of milliseconds, at least 1", true},
        {"bash", "{\"command\":\"cat; read x; echo end-$?\"}", "end-1", false},
        {"bash", "{\"command\":\"printf '\\\\033[31mred\\\\033[0m \\\\033]0;title\\\\007x'\"}",
         "red x", false},
        {"bash", "{\"command\":\"printf 'a\\\\377b\\\\000c'\"}",
         "a\xEF\xBF\xBD"
         "b\xEF\xBF\xBD"
         "c",
         false},
        {"bash", "{\"command\":\"echo ${ANTHROPIC_API_KEY:-scrubbed} $TERM\"}", "scrubbed dumb",
         false},
        {"bash", "{\"command\":\"echo 'unclosed\"}", "*", true},
        {"bash", "{\"command\":\"cat <<EOF\\nhere\\nEOF\"}", "here", false},
        {"bash", "{\"command\":\"echo still; # comment\"}", "still", false},
        {"bash", "{\"command\":\"exec 1>/dev/null\"}", "", false},
        {"bash", "{\"command\":\"echo seen\"}", "seen", false},
        {"bash", "{\"command\":\"f() { echo \\\"$1\\\"; }\"}", "", false},
        {"bash", "{\"command\":\"f \\\"it's\\\"\"}", "it's", false},
        {"bash",
         "{\"command\":\"ls /proc/$$/fd >/dev/null; { : >&250; } 2>/dev/null || echo closed\"}",
         "closed", false},
        {"nope", "{}", "unknown tool: nope", true},
    };
    expect_rows(*state, rows, COUNT_OF(rows));
}

static void a_command_that_takes_too_long_is_ended_and_the_shell_is_fresh(void **state)
{
    struct fixture *f = *state;
    expect(f, "bash", "{\"command\":\"X=1; cd /\"}", "", false);
    const struct json *r = call(f, "bash", "{\"command\":\"sleep 600\",\"timeout_ms\":150}");
    assert_true(str_eqz(json_get_str(r, "content"), "bash: bash command timed out after 150ms"));
    assert_true(str_eqz(json_get_str(r, "reason"), "timeout"));
    assert_true(json_is_true(json_get(r, "is_error")));
    expect(f, "bash", "{\"command\":\"echo $PWD${X:-}\"}", "$W", false);
    expect(f, "bash", "{\"command\":\"echo part; sleep 600\",\"timeout_ms\":300}",
           "bash: bash command timed out after 300ms\noutput so far:\npart", true);
}

static void what_a_timed_out_command_left_behind_is_gone(void **state)
{
    struct fixture *f = *state;
    call(f, "bash", "{\"command\":\"sleep 600 & echo $! > pid; sleep 600\",\"timeout_ms\":300}");
    expect(f, "bash", "{\"command\":\"kill -0 $(cat pid) 2>/dev/null || echo gone\"}", "gone",
           false);
}

static void a_job_in_the_background_outlives_its_command(void **state)
{
    struct fixture *f = *state;
    expect(f, "bash", "{\"command\":\"sleep 600 & echo started\"}", "started", false);
    expect(f, "bash", "{\"command\":\"kill -0 $! && echo alive; kill $!\"}", "alive", false);
}

static void a_shell_that_exits_is_replaced(void **state)
{
    struct fixture *f = *state;
    expect(f, "bash", "{\"command\":\"echo bye; exit 7\"}",
           "bye\nbash: bash session terminated (exit 7); the next command starts a fresh shell",
           true);
    expect(f, "bash", "{\"command\":\"echo back\"}", "back", false);
    expect(f, "bash", "{\"command\":\"kill -9 $$\"}",
           "bash: bash session terminated by signal 9; the next command starts a fresh shell",
           true);
    expect(f, "bash", "{\"command\":\"set -e; false; echo never\"}",
           "bash: bash session terminated (exit 1); the next command starts a fresh shell", true);
}

static void long_output_keeps_its_end_and_the_whole_is_in_a_file(void **state)
{
    struct fixture *f = *state;
    const struct json *r = call(f, "bash", "{\"command\":\"seq 1 100000; exit_code=1\"}");
    struct str got = json_get_str(r, "content");
    assert_false(json_is_true(json_get(r, "is_error")));
    assert_true(str_starts(got, STR("[output truncated]\n")));
    assert_true(str_ends(got, STR("\n99999\n100000")));
    assert_true(got.len < 20000);
    char id[32];
    snprintf(id, sizeof id, "call_%d", f->next - 1);
    char path[128];
    snprintf(path, sizeof path, "%s/spill/%s.txt", f->hand.dir, id);
    assert_true(str_find(got, str_z(path)) > 0);
    AUTO_BUF struct buf whole = BUF_INIT(1 << 20);
    struct err err;
    assert_int_equal(fd_read_file(path, &whole, &err), 0);
    assert_int_equal(whole.len, 588895);
    assert_true(str_starts(buf_view(&whole), STR("1\n2\n3\n")));
    assert_true(str_ends(buf_view(&whole), STR("99999\n100000\n")));
}

static void wide_characters_within_the_bound_are_kept_to_100_kib(void **state)
{
    struct fixture *f = *state;
    const struct json *r =
        call(f, "bash",
             "{\"command\":\"for i in $(seq 20000); do printf '\\u00e9\\u00e9\\u00e9\\n'; done\"}");
    struct str got = json_get_str(r, "content");
    assert_true(str_starts(got, STR("[output truncated]\n")));
    assert_true(str_utf8(got));
    assert_true(got.len > 100 * 1024 && got.len < 103 * 1024);
}

static void a_big_command_arrives_whole(void **state)
{
    struct fixture *f = *state;
    AUTO_BUF struct buf b = BUF_INIT(4 << 20);
    buf_z(&b, "{\"command\":\"X='");
    for (int i = 0; i < 200000; i++)
        buf_ch(&b, 'y');
    buf_z(&b, "'; echo ${#X}\"}");
    expect(f, "bash", b.data, "200000", false);
}

/* ---- read, write, edit ---- */

static void the_file_tools_answer_as_the_reference_worker_does(void **state)
{
    static const struct row rows[] = {
        {"write", "{\"file_path\":\"a/b/c.txt\",\"content\":\"one\\ntwo\\nthree\\n\"}",
         "wrote 14 bytes to a/b/c.txt", false},
        {"read", "{\"file_path\":\"a/b/c.txt\"}", "one\ntwo\nthree\n", false},
        {"read", "{\"file_path\":\"$W/a/b/c.txt\",\"view_range\":[2,2]}", "two", false},
        {"read", "{\"file_path\":\"a/b/c.txt\",\"view_range\":[2,3]}", "two\nthree", false},
        {"read", "{\"file_path\":\"a/b/c.txt\",\"view_range\":[2,-1]}", "two\nthree\n", false},
        {"read", "{\"file_path\":\"a/b/c.txt\",\"view_range\":[0,0]}", "one\ntwo\nthree\n", false},
        {"read", "{\"file_path\":\"a/b/c.txt\",\"view_range\":[9,12]}", "", false},
        {"read", "{\"file_path\":\"a/b/c.txt\",\"view_range\":[3,1]}", "", false},
        {"read", "{\"file_path\":\"a/b/c.txt\",\"view_range\":[]}", "one\ntwo\nthree\n", false},
        {"read", "{\"file_path\":\"a/b/c.txt\",\"view_range\":[1]}",
         "read: view_range must be [start_line, end_line]", true},
        {"read", "{\"file_path\":\"a/b/c.txt\",\"view_range\":\"1-2\"}",
         "read: view_range must be [start_line, end_line]", true},
        {"read", "{}", "read: file_path is required", true},
        {"read", "{\"file_path\":\"\"}", "read: file_path is required", true},
        {"read", "{\"file_path\":[]}", "read: file_path must be a string, not an array", true},
        {"read", "{\"file_path\":\"none\"}", "read: none: no such file or directory", true},
        {"read", "{\"file_path\":\"a\"}", "read: a is not a regular file", true},
        {"read", "{\"file_path\":\"/dev/zero\"}", "read: /dev/zero is not a regular file", true},
        {"read", "{\"file_path\":\"a/b/c.txt/d\"}", "read: a/b/c.txt/d: not a directory", true},
        {"read", "{\"file_path\":\"a\\u0000b\"}", "read: the path contains a NUL character", true},
        {"bash", "{\"command\":\"mkfifo pipe; ln -s a/b/c.txt link; ln -s nowhere dangling\"}", "",
         false},
        {"read", "{\"file_path\":\"pipe\"}", "read: pipe is not a regular file", true},
        {"read", "{\"file_path\":\"link\",\"view_range\":[1,1]}", "one", false},
        {"write", "{\"file_path\":\"empty\",\"content\":\"\"}", "wrote 0 bytes to empty", false},
        {"read", "{\"file_path\":\"empty\"}", "", false},
        {"write", "{\"file_path\":\"x\"}", "write: content is required", true},
        {"write", "{\"file_path\":\"a\",\"content\":\"\"}", "write: a: is a directory", true},
        {"write", "{\"file_path\":\"new/\",\"content\":\"\"}", "write: new/: is a directory", true},
        {"write", "{\"file_path\":\"pipe\",\"content\":\"\"}", "write: pipe is not a regular file",
         true},
        {"write", "{\"file_path\":\"dangling\",\"content\":\"\"}",
         "write: dangling is a symbolic link that leads nowhere", true},
        {"write", "{\"file_path\":\"a/b/c.txt/d\",\"content\":\"\"}",
         "write: a/b/c.txt/d: not a directory", true},
        {"write", "{\"file_path\":\"link\",\"content\":\"via link\"}", "wrote 8 bytes to link",
         false},
        {"bash", "{\"command\":\"readlink link; cat a/b/c.txt\"}", "a/b/c.txt\nvia link", false},
        {"write", "{\"file_path\":\"e.txt\",\"content\":\"foo bar foo\"}",
         "wrote 11 bytes to e.txt", false},
        {"edit", "{\"file_path\":\"e.txt\",\"old_string\":\"nope\",\"new_string\":\"x\"}",
         "edit: old_string not found in e.txt", true},
        {"edit", "{\"file_path\":\"e.txt\",\"old_string\":\"foo\",\"new_string\":\"x\"}",
         "edit: old_string appears 2 times in e.txt (must be unique)", true},
        {"edit", "{\"file_path\":\"e.txt\",\"old_string\":\"bar\",\"new_string\":\"$&\"}",
         "edited e.txt (1 replacement(s))", false},
        {"edit",
         "{\"file_path\":\"e.txt\",\"old_string\":\"foo\",\"new_string\":\"\",\"replace_all\":"
         "true}",
         "edited e.txt (2 replacement(s))", false},
        {"read", "{\"file_path\":\"e.txt\"}", " $& ", false},
        {"edit", "{\"file_path\":\"e.txt\",\"old_string\":\"\",\"new_string\":\"x\"}",
         "edit: old_string is required", true},
        {"edit", "{\"file_path\":\"e.txt\",\"old_string\":\"a\"}", "edit: new_string is required",
         true},
        {"edit", "{\"file_path\":\"none\",\"old_string\":\"a\",\"new_string\":\"b\"}",
         "edit: none: no such file or directory", true},
        {"edit", "{\"file_path\":\"pipe\",\"old_string\":\"a\",\"new_string\":\"b\"}",
         "edit: pipe is not a regular file", true},
        {"bash", "{\"command\":\"chmod 750 e.txt\"}", "", false},
        {"edit", "{\"file_path\":\"e.txt\",\"old_string\":\"$\",\"new_string\":\"b\"}",
         "edited e.txt (1 replacement(s))", false},
        {"bash", "{\"command\":\"stat -c %a e.txt; ls -A | grep -c tmp\"}", "750\n0", true},
    };
    expect_rows(*state, rows, COUNT_OF(rows));
}

static void read_says_how_to_get_at_a_big_file(void **state)
{
    struct fixture *f = *state;
    expect(f, "bash",
           "{\"command\":\"seq 1 100000 > big; head -c 300000 /dev/zero | tr '\\\\0' x > line\"}",
           "", false);
    expect(f, "read", "{\"file_path\":\"big\"}",
           "read: big is 588895 bytes, exceeds 262144-byte limit. Use the view_range parameter to "
           "read specific line ranges, e.g. view_range: [1, 500].",
           true);
    expect(f, "read", "{\"file_path\":\"big\",\"view_range\":[99999,100000]}", "99999\n100000",
           false);
    expect(f, "read", "{\"file_path\":\"big\",\"view_range\":[1,90000]}",
           "read: view_range [1, 90000] of big exceeds 262144-byte limit. Narrow the view_range to "
           "read a smaller portion.",
           true);
    expect(f, "read", "{\"file_path\":\"line\",\"view_range\":[1,1]}",
           "read: line 1 of line alone exceeds 262144-byte limit. The read tool cannot return part "
           "of a line, so view_range cannot narrow this further.",
           true);
}

static void more_than_100000_characters_become_a_preview_and_a_file(void **state)
{
    struct fixture *f = *state;
    expect(f, "bash", "{\"command\":\"seq 1 25000 > mid\"}", "", false);
    const struct json *r = call(f, "read", "{\"file_path\":\"mid\"}");
    struct str got = json_get_str(r, "content");
    assert_false(json_is_true(json_get(r, "is_error")));
    assert_true(str_starts(got, STR("1\n2\n3\n")));
    assert_true(
        str_find(got, STR("[output truncated: this is the beginning of 138894 characters")) > 0);
    char path[128];
    snprintf(path, sizeof path, "%s/spill/call_%d.txt", f->hand.dir, f->next - 1);
    assert_true(str_find(got, str_z(path)) > 0);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 138894);
}

static void binary_data_reads_as_valid_text(void **state)
{
    struct fixture *f = *state;
    expect(f, "bash", "{\"command\":\"printf 'a\\\\377\\\\000z' > bin\"}", "", false);
    expect(f, "read", "{\"file_path\":\"bin\"}",
           "a\xEF\xBF\xBD\xEF\xBF\xBD"
           "z",
           false);
}

/* ---- glob and grep ---- */

static const char tree[] =
    "{\"command\":\"mkdir -p src/deep/er node_modules/m .git .github; touch -d 2020-01-01 "
    "src/old.c; "
    "touch -d 2021-01-01 src/deep/new.c; touch -d 2022-01-01 top.c src/deep/er/x.h .github/ci.yml; "
    "touch node_modules/m/no.c .git/no.c; ln -s src/old.c ln.c; "
    "printf 'alpha\\\\nbeta 1\\\\nbeta 2\\\\n' > src/text.txt; touch -d 2019-01-01 src/text.txt\"}";

static void glob_lists_the_newest_first(void **state)
{
    static const struct row rows[] = {
        {"bash", tree, "", false},
        {"glob", "{\"pattern\":\"**/*.c\"}", "$W/top.c\n$W/src/deep/new.c\n$W/src/old.c", false},
        {"glob", "{\"pattern\":\"*.c\"}", "$W/top.c", false},
        {"glob", "{\"pattern\":\"src/*.{c,txt}\"}", "$W/src/old.c\n$W/src/text.txt", false},
        {"glob", "{\"pattern\":\"src/**/*.h\"}", "$W/src/deep/er/x.h", false},
        {"glob", "{\"pattern\":\"src/**\"}",
         "$W/src/deep/er/x.h\n$W/src/deep/new.c\n$W/src/old.c\n$W/src/text.txt", false},
        {"glob", "{\"pattern\":\"*.c\",\"path\":\"src\"}", "$W/src/old.c", false},
        {"glob", "{\"pattern\":\"*.c\",\"path\":\"$W/src/deep/\"}", "$W/src/deep/new.c", false},
        {"glob", "{\"pattern\":\".github/*\"}", "$W/.github/ci.yml", false},
        {"glob", "{\"pattern\":\"**/[!o]*.c\"}", "$W/top.c\n$W/src/deep/new.c", false},
        {"glob", "{\"pattern\":\"*.zig\"}", "no matches", false},
        {"glob", "{\"pattern\":\"node_modules/**\"}", "no matches", false},
        {"glob", "{}", "glob: pattern is required", true},
        {"glob", "{\"pattern\":\"/etc/*\"}",
         "glob: absolute pattern not permitted; pass a relative pattern (and optionally path)",
         true},
        {"glob", "{\"pattern\":\"../*\"}", "glob: \"..\" is not permitted in the pattern", true},
        {"glob", "{\"pattern\":\"a/{b,..}/c\"}", "glob: \"..\" is not permitted in the pattern",
         true},
        {"glob", "{\"pattern\":\"*\",\"path\":\"none\"}", "glob: none: no such file or directory",
         true},
        {"glob", "{\"pattern\":\"{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}\"}",
         "glob: the braces expand into more than 64 patterns", true},
    };
    expect_rows(*state, rows, COUNT_OF(rows));
}

static void glob_stops_at_200(void **state)
{
    struct fixture *f = *state;
    expect(f, "bash", "{\"command\":\"for i in $(seq 250); do : > f$i.q; done\"}", "", false);
    struct str rest = json_get_str(call(f, "glob", "{\"pattern\":\"*.q\"}"), "content");
    size_t n = 0;
    for (; str_some(rest); n++)
        str_split(&rest, '\n');
    assert_int_equal(n, 200);
}

static void globs_match_or_do_not(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *path;
        bool hit;
    } rows[] = {
        {"*", "a", true},
        {"*", ".a", false},
        {".*", ".a", true},
        {"*", "a/b", false},
        {"**", "a/b", true},
        {"**/b", "b", true},
        {"**/b", "a/x/b", true},
        {"**/b", ".a/b", false},
        {"a/**/b", "a/b", true},
        {"a/**/b", "a/x/y/b", true},
        {"a/**/b", "x/a/b", false},
        {"a?c", "abc", true},
        {"a?c",
         "a\xC3\xA9"
         "c",
         true},
        {"[a-c]x", "bx", true},
        {"[!a-c]x", "bx", false},
        {"[^a]x", "bx", true},
        {"[]]x", "]x", true},
        {"[a", "[a", true},
        {"a\\*", "a*", true},
        {"a\\*", "ab", false},
        {"*a*b*c", "xaxbxc", true},
        {"*a*b*c", "xaxbx", false},
        {"./a", "a", true},
        {"a//b", "a/b", true},
        {"**/a/**/b", "x/a/y/a/z/b", true},

        {"a", "", false},
        {"**/*.min.*", "x/y.min.js", true},
        {"*.c", "a.cc", false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (glob_match(str_z(rows[i].pattern), str_z(rows[i].path)) != rows[i].hit)
            fail_msg("%s against %s", rows[i].pattern, rows[i].path);
}

static const struct row grep_rows[] = {
    {"bash", tree, "", false},
    {"grep", "{\"pattern\":\"beta [0-9]\",\"path\":\"src\"}",
     "$W/src/text.txt:2:beta 1\n$W/src/text.txt:3:beta 2", false},
    {"grep", "{\"pattern\":\"^alpha$\"}", "$W/src/text.txt:1:alpha", false},
    {"grep", "{\"pattern\":\"alpha\",\"path\":\"src/text.txt\"}", "$W/src/text.txt:1:alpha", false},
    {"grep", "{\"pattern\":\"-e\"}", "no matches", false},
    {"grep", "{\"pattern\":\"gamma\"}", "no matches", false},
    {"grep", "{}", "grep: pattern is required", true},
    {"grep", "{\"pattern\":\"a\",\"path\":\"none\"}", "grep: none: no such file or directory",
     true},
    {"grep", "{\"pattern\":\"a\\u0000\"}", "grep: the pattern contains a NUL character", true},
};

static void grep_finds_lines_with_ripgrep(void **state)
{
    if (access("/usr/bin/rg", X_OK) < 0)
        skip();
    expect_rows(*state, grep_rows, COUNT_OF(grep_rows));
    expect(*state, "grep", "{\"pattern\":\"(\"}", "grep: rg failed: *", true);
}

static void grep_finds_lines_without_ripgrep(void **state)
{
    expect_rows(*state, grep_rows, COUNT_OF(grep_rows));
    expect(*state, "grep", "{\"pattern\":\"(\"}", "grep: invalid regex: *", true);
}

static void grep_is_cut_at_100_kib(void **state)
{
    struct fixture *f = *state;
    expect(f, "bash", "{\"command\":\"yes needle-needle-needle | head -n 20000 > hay\"}", "",
           false);
    struct str got = json_get_str(call(f, "grep", "{\"pattern\":\"needle\"}"), "content");
    assert_true(str_find(got, STR(":1:needle-needle-needle\n")) > 0);
    assert_true(str_find(got, STR("[output truncated")) > 0);
}

/* ---- calls and connections ---- */

static void a_known_id_is_never_run_again(void **state)
{
    struct fixture *f = *state;
    client_run(&f->client, "one", "bash", "{\"command\":\"echo x >> times; cat times\"}");
    const struct json *r = client_wait(&f->client, "result", "one");
    assert_true(str_eqz(json_get_str(r, "content"), "x"));
    for (int i = 0; i < 3; i++) {
        client_run(&f->client, "one", "bash", "{\"command\":\"echo y >> times; cat times\"}");
        r = client_wait(&f->client, "result", "one");
        assert_true(str_eqz(json_get_str(r, "content"), "x"));
    }
    client_send(&f->client, "{\"op\":\"ack\",\"id\":\"one\"}");
    client_run(&f->client, "one", "bash", "{\"command\":\"echo z >> times\"}");
    r = client_wait(&f->client, "state", "one");
    assert_true(str_eqz(json_get_str(r, "state"), "acknowledged"));
    client_send(&f->client, "{\"op\":\"query\",\"id\":\"never\"}");
    r = client_wait(&f->client, "state", "never");
    assert_true(str_eqz(json_get_str(r, "state"), "unknown"));
    expect(f, "bash", "{\"command\":\"cat times\"}", "x", false);
}

static void a_call_goes_on_without_its_client_and_the_next_one_gets_the_result(void **state)
{
    struct fixture *f = *state;
    client_run(&f->client, "slow", "bash",
               "{\"command\":\"until [ -e go ]; do sleep 0.02; done; echo done >> log; cat log\"}");
    client_wait(&f->client, "started", "slow");
    client_close(&f->client);
    client_open(&f->client, f->hand.socket);
    client_send(&f->client, "{\"op\":\"query\",\"id\":\"slow\"}");
    client_wait(&f->client, "started", "slow");
    client_run(&f->client, "go", "write", "{\"file_path\":\"go\",\"content\":\"\"}");
    const struct json *r = client_wait(&f->client, "result", "slow");
    assert_true(str_eqz(json_get_str(r, "content"), "done"));
    client_close(&f->client);
    /* Delivered, but not acknowledged: it is still there. */
    client_open(&f->client, f->hand.socket);
    client_run(&f->client, "slow", "bash", "{\"command\":\"echo again\"}");
    r = client_wait(&f->client, "result", "slow");
    assert_true(str_eqz(json_get_str(r, "content"), "done"));
}

static void calls_for_the_shell_wait_their_turn_and_others_do_not(void **state)
{
    struct fixture *f = *state;
    client_run(&f->client, "first", "bash",
               "{\"command\":\"until [ -e go ]; do sleep 0.02; done; echo 1 >> order\"}");
    client_run(&f->client, "second", "bash", "{\"command\":\"echo 2 >> order; cat order\"}");
    client_send(&f->client, "{\"op\":\"query\",\"id\":\"second\"}");
    const struct json *r = client_wait(&f->client, "state", "second");
    assert_true(str_eqz(json_get_str(r, "state"), "queued"));
    client_run(&f->client, "third", "write", "{\"file_path\":\"go\",\"content\":\"\"}");
    client_wait(&f->client, "result", "third");
    r = client_wait(&f->client, "result", "second");
    assert_true(str_eqz(json_get_str(r, "content"), "1\n2"));
}

static void a_cancelled_call_ends_at_once(void **state)
{
    struct fixture *f = *state;
    client_run(&f->client, "long", "bash", "{\"command\":\"echo begun; sleep 600\"}");
    client_run(&f->client, "queued", "bash", "{\"command\":\"echo never > never\"}");
    client_wait(&f->client, "started", "long");
    client_send(&f->client, "{\"op\":\"cancel\",\"id\":\"queued\"}");
    const struct json *r = client_wait(&f->client, "result", "queued");
    assert_true(str_eqz(json_get_str(r, "reason"), "cancelled"));
    client_send(&f->client, "{\"op\":\"cancel\",\"id\":\"long\"}");
    r = client_wait(&f->client, "result", "long");
    assert_true(str_starts(json_get_str(r, "content"), STR("bash: the call was cancelled")));
    assert_true(json_is_true(json_get(r, "is_error")));
    expect(f, "bash", "{\"command\":\"[ -e never ] || echo clean\"}", "clean", false);
}

static void a_limit_ends_what_runs_with_its_reason(void **state)
{
    struct fixture *f = *state;
    client_run(&f->client, "hog", "bash", "{\"command\":\"sleep 600\"}");
    client_wait(&f->client, "started", "hog");
    client_send(&f->client,
                "{\"op\":\"limit\",\"reason\":\"pids\",\"message\":\"too many processes\"}");
    const struct json *r = client_wait(&f->client, "result", "hog");
    assert_true(str_eqz(json_get_str(r, "reason"), "pids"));
    assert_true(str_eqz(json_get_str(r, "content"), "bash: too many processes"));
    expect(f, "bash", "{\"command\":\"echo on\"}", "on", false);
}

static void unacknowledged_results_are_bounded_by_refusal(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 256; i++) {
        char id[32];
        snprintf(id, sizeof id, "many_%d", i);
        client_run(&f->client, id, "nope", "{}");
        client_wait(&f->client, "result", id);
    }
    client_run(&f->client, "over", "nope", "{}");
    client_wait(&f->client, "refused", "over");
    client_send(&f->client, "{\"op\":\"ack\",\"id\":\"many_0\"}");
    client_run(&f->client, "over", "nope", "{}");
    client_wait(&f->client, "result", "over");
    client_send(&f->client, "{\"op\":\"ack_all\"}");
    client_run(&f->client, "after", "nope", "{}");
    client_wait(&f->client, "result", "after");
}

static void frames_that_are_no_requests_are_refused_and_nothing_breaks(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "{\"op\":\"fly\"}",
        "{\"op\":\"run\",\"id\":\"x\",\"tool\":\"bash\",\"input\":[]}",
        "{\"op\":\"run\",\"id\":\"../../etc/x\",\"tool\":\"bash\",\"input\":{}}",
        "{\"op\":\"run\",\"tool\":\"bash\",\"input\":{}}",
        "{\"op\":\"run\",\"id\":\"x\",\"input\":{}}",
        "{\"op\":\"run\",\"id\":\"x\",\"tool\":\"bash\",\"input\":{},\"timeout_ms\":-1}",
        "{\"op\":\"limit\",\"reason\":\"a b\"}",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        client_send(&f->client, bad[i]);
        client_wait(&f->client, "refused", NULL);
    }
    client_send(&f->client, "{\"op\":\"ping\"}");
    client_wait(&f->client, "pong", NULL);
    /* A length over the bound ends the connection, not the hand. */
    struct err err;
    assert_int_equal(fd_write_all(f->client.fd, STR("\xff\xff\xff\xff"), &err), 0);
    assert_true(client_closed(&f->client));
    client_close(&f->client);
    client_open(&f->client, f->hand.socket);
    expect(f, "bash", "{\"command\":\"echo on\"}", "on", false);
}

static void a_hang_in_a_file_tool_blocks_nothing_else(void **state)
{
    struct fixture *f = *state;
    /* ripgrep reads a named fifo that is given to it as the path. */
    expect(f, "bash", "{\"command\":\"mkfifo p\"}", "", false);
    client_run(&f->client, "stuck", "grep", "{\"pattern\":\"x\",\"path\":\"p\"}");
    client_wait(&f->client, "started", "stuck");
    expect(f, "bash", "{\"command\":\"echo free\"}", "free", false);
    expect(f, "read", "{\"file_path\":\"none\"}", "read: none: no such file or directory", true);
    client_send(&f->client, "{\"op\":\"cancel\",\"id\":\"stuck\"}");
    client_wait(&f->client, "result", "stuck");
}

static void shutdown_ends_it(void **state)
{
    struct fixture *f = *state;
    client_run(&f->client, "bg", "bash", "{\"command\":\"sleep 600 & echo $!\"}");
    const struct json *r = client_wait(&f->client, "result", "bg");
    int64_t pid = 0;
    assert_true(str_i64(json_get_str(r, "content"), &pid));
    struct pollfd left = {.fd = pidfd_open((pid_t)pid, 0), .events = POLLIN};
    assert_true(left.fd >= 0);
    client_send(&f->client, "{\"op\":\"shutdown\"}");
    int status = hand_wait(&f->hand);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(poll(&left, 1, 10000), 1); /* what it left behind ends with it */
    close(left.fd);
}

static void a_hand_without_a_server_ends_itself(void **state)
{
    (void)state;
    struct hand_run h;
    struct client c;
    hand_start(&h, exe, (const char *const[]){"--grace-ms", "200", NULL});
    client_open(&c, h.socket);
    client_close(&c);
    int status = hand_wait(&h);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    hand_stop(&h);
}

static void a_hand_whose_files_were_removed_ends_itself(void **state)
{
    (void)state;
    struct hand_run h;
    struct client c;
    char work[96];
    hand_start(&h, exe, NULL); /* with 20 s of grace */
    client_open(&c, h.socket);
    snprintf(work, sizeof work, "%s/work", h.dir);
    assert_int_equal(rmdir(work), 0);
    client_close(&c);
    int64_t began_us = clock_mono_us();
    int status = hand_wait(&h);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(clock_mono_us() - began_us < 15 * 1000000);
    hand_stop(&h);
}

static void text_is_made_valid_and_free_of_escapes(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"plain", "plain"},
        {"\x1b[1;31mred\x1b[m", "red"},
        {"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"},
        {"\x1b(Bascii", "ascii"},
        {"cut \x1b[", "cut \x1b["},
        {"\xC3\xA9\xF0\x9F\x98\x80", "\xC3\xA9\xF0\x9F\x98\x80"},
        {"\xE2\x82", "\xEF\xBF\xBD"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        AUTO_BUF struct buf b = BUF_INIT(4096);
        text_clean(&b, str_z(rows[i].in), true);
        assert_string_equal(b.data, rows[i].out);
    }
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char **argv)
{
    exe = argc > 1 ? argv[1] : "hand";
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        WITH(bash_answers_as_the_reference_worker_does),
        WITH(a_command_that_takes_too_long_is_ended_and_the_shell_is_fresh),
        WITH(what_a_timed_out_command_left_behind_is_gone),
        WITH(a_job_in_the_background_outlives_its_command),
        WITH(a_shell_that_exits_is_replaced),
        WITH(long_output_keeps_its_end_and_the_whole_is_in_a_file),
        WITH(wide_characters_within_the_bound_are_kept_to_100_kib),
        WITH(a_big_command_arrives_whole),
        WITH(the_file_tools_answer_as_the_reference_worker_does),
        WITH(read_says_how_to_get_at_a_big_file),
        WITH(more_than_100000_characters_become_a_preview_and_a_file),
        WITH(binary_data_reads_as_valid_text),
        WITH(glob_lists_the_newest_first),
        WITH(glob_stops_at_200),
        cmocka_unit_test(globs_match_or_do_not),
        WITH(grep_finds_lines_with_ripgrep),
        cmocka_unit_test_setup_teardown(grep_finds_lines_without_ripgrep, setup_no_rg, teardown),
        WITH(grep_is_cut_at_100_kib),
        WITH(a_known_id_is_never_run_again),
        WITH(a_call_goes_on_without_its_client_and_the_next_one_gets_the_result),
        WITH(calls_for_the_shell_wait_their_turn_and_others_do_not),
        WITH(a_cancelled_call_ends_at_once),
        WITH(a_limit_ends_what_runs_with_its_reason),
        WITH(unacknowledged_results_are_bounded_by_refusal),
        WITH(frames_that_are_no_requests_are_refused_and_nothing_breaks),
        WITH(a_hang_in_a_file_tool_blocks_nothing_else),
        WITH(shutdown_ends_it),
        cmocka_unit_test(a_hand_without_a_server_ends_itself),
        cmocka_unit_test(a_hand_whose_files_were_removed_ends_itself),
        cmocka_unit_test(text_is_made_valid_and_free_of_escapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
