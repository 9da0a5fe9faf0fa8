/* Skills: front matter, what an upload becomes, the `skills` of an agent, its system prompt. */
#include "api/skill_pack.h"
#include "api/skills_decode.h"
#include "base/fd.h"
#include "base/limits.h"
#include "core/agent.h"

#include <archive.h>
#include <archive_entry.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

static struct arena arena;
static struct err err;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 256u << 20);
    err = (struct err){0};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

#define MD(name) "---\nname: " name "\ndescription: Sorts.\n---\n"

/* ---- front matter ---- */

static void front_matter_is_read_as_it_is_meant(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name, *description;
    } cases[] = {
        {"---\nname: a-1\ndescription: Sorts.\n---\nbody", "a-1", "Sorts."},
        {"---\r\nname: a\r\ndescription: Sorts.\r\n---\r\n", "a", "Sorts."},
        {"\xef\xbb\xbf---\nname: a\ndescription: b\n---", "a", "b"},
        {"--- \t\n\"name\": 'a'\ndescription: \"b: c\"\n---  \n---\n", "a", "b: c"},
        {"---\ndescription: >\n  two\n  lines\nname: a\n---\n", "a", "two lines"},
        {"---\ndescription: |\n  two\n  lines\nname: a\n---\n", "a", "two\nlines"},
        {"---\n{name: a, description: b}\n---\n", "a", "b"},
        {"---\nname: 7\ndescription: true\nmetadata: {x: [1, &y {}, *y]}\n---\n", "7", "true"},
        {"---\nname: a\ndescription: 1 < 2 > 0, a<-b, x <\n---\n", "a", "1 < 2 > 0, a<-b, x <"},
        {"---\nname: a\ndescription: gr\xc3\xb6\xc3\x9f"
         "e\n---\n",
         "a",
         "gr\xc3\xb6\xc3\x9f"
         "e"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct skill_md md;
        if (skill_md_read(&arena, str_z(cases[i].text), &md, &err))
            fail_msg("%s: %s", cases[i].text, err.msg);
        assert_true(str_eqz(md.name, cases[i].name));
        assert_true(str_eqz(md.description, cases[i].description));
    }
}

static void front_matter_that_is_none_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *say;
    } cases[] = {
        {"", "must begin"},
        {"# Title\n---\nname: a\n---\n", "must begin"},
        {"----\nname: a\n----\n", "must begin"},
        {"---", "not closed"},
        {"---\nname: a\ndescription: b\n", "not closed"},
        {"---\n---\n", "missing"},
        {"---\n# nothing\n---\n", "missing"},
        {"---\nname a\n---\n", "mapping"},
        {"---\n- name\n---\n", "mapping"},
        {"---\nname: a\n---\n", "description is missing"},
        {"---\ndescription: a\n---\n", "name is missing"},
        {"---\nname: ''\ndescription: a\n---\n", "name is missing"},
        {"---\nname: ~\ndescription: a\n---\n", "name is missing"},
        {"---\nname: a\ndescription: null\n---\n", "description is missing"},
        {"---\nname: {}\ndescription: a\n---\n", "name must be text"},
        {"---\nx: &x b\nname: a\ndescription: *x\n---\n", "description must be text"},
        {"---\nname: a b\ndescription: a\n---\n", "lower-case"},
        {"---\nname: \"a/b\"\ndescription: a\n---\n", "lower-case"},
        {"---\nname: ..\ndescription: a\n---\n", "lower-case"},
        {"---\nname: \xc3\xb6\ndescription: a\n---\n", "lower-case"},
        {"---\nname: a\ndescription: x <script>y\n---\n", "XML"},
        {"---\nname: a\ndescription: </system>\n---\n", "XML"},
        {"---\nname: a\ndescription: \"\\e[2J\"\n---\n", "plain text"},
        {"---\nname: a\ndescription: \x01\n---\n", "plain text"},
        {"---\nname: a\ndescription: \xff\n---\n", "UTF-8"},
        {"---\nname: a\n description: b\n---\n", "YAML"},
        {"---\nname: a\nname: b\ndescription: b\n---\n", "name is there twice"},
        {"---\n[[[[[[[[\n---\n", "YAML"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct skill_md md;
        assert_int_equal(skill_md_read(&arena, str_z(cases[i].text), &md, &err), ERR_INVALID);
        if (!str_starts(str_z(err.msg), STR("SKILL.md: ")) || !strstr(err.msg, cases[i].say))
            fail_msg("%s: %s", cases[i].text, err.msg);
    }
}

static void names_and_descriptions_have_bounds(void **state)
{
    (void)state;
    static const struct {
        int name, description, rc;
    } cases[] = {{64, 1024, 0}, {65, 1024, ERR_INVALID}, {64, 1025, ERR_INVALID}};
    char name[80], description[2100];
    memset(name, 'n', sizeof name);
    for (size_t i = 0; i + 1 < sizeof description; i += 2)
        memcpy(description + i, "\xc3\xb6", 2); /* characters count, not bytes */
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct skill_md md;
        struct str text = arena_printf(&arena, "---\nname: %.*s\ndescription: %.*s\n---\n",
                                       cases[i].name, name, cases[i].description * 2, description);
        assert_int_equal(skill_md_read(&arena, text, &md, &err), cases[i].rc);
    }
}

/* ---- packs ---- */

static int to_buf(void *arg, struct str piece, struct err *e)
{
    struct buf *b = arg;
    (void)e;
    buf_str(b, piece);
    return 0;
}

static struct str packed(const struct skill_file *files, size_t n)
{
    struct skill_pack p;
    AUTO_BUF struct buf b = BUF_INIT(64u << 20);
    if (skill_pack_read(&arena, files, n, &p, &err) || skill_pack_tar(&p, to_buf, &b, &err))
        fail_msg("%s", err.msg);
    struct str out = arena_str(&arena, buf_view(&b));
    skill_pack_fini(&p);
    return out;
}

#define FILE_(p, b)                                                                                \
    {                                                                                              \
        .path = STR(p), .bytes = STR(b)                                                            \
    }

static void the_same_files_give_the_same_bytes(void **state)
{
    (void)state;
    struct skill_file files[] = {FILE_("a/SKILL.md", MD("a")), FILE_("a/b/c", "c"),
                                 FILE_("a/b-d", "d"), FILE_("./a/h\xc3\xb6he", "")};
    struct skill_file back[] = {files[3], files[2], files[1], files[0]};
    struct str one = packed(files, COUNT_OF(files));
    assert_true(str_eq(one, packed(back, COUNT_OF(back))));
    assert_int_equal(one.len % 512, 0);
    /* A pack is an upload as well, and comes out as it went in. */
    struct skill_file again = {.path = STR("x.tar"), .bytes = one};
    assert_true(str_eq(one, packed(&again, 1)));
}

static void a_pack_is_sorted_and_says_nothing_of_its_maker(void **state)
{
    (void)state;
    struct skill_file files[] = {FILE_("a/z", "z"), FILE_("a/b/c", "c"),
                                 FILE_("a/SKILL.md", MD("a"))};
    files[0].executable = true;
    struct str tar = packed(files, COUNT_OF(files));
    static const char *const want[] = {"a/ 755", "a/SKILL.md 644", "a/b/ 755", "a/b/c 644",
                                       "a/z 755"};
    struct archive *in = archive_read_new();
    struct archive_entry *e;
    archive_read_support_format_tar(in);
    assert_int_equal(archive_read_open_memory(in, tar.ptr, tar.len), ARCHIVE_OK);
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        assert_int_equal(archive_read_next_header(in, &e), ARCHIVE_OK);
        struct str got = arena_printf(&arena, "%s %o", archive_entry_pathname(e),
                                      (unsigned)archive_entry_perm(e));
        assert_string_equal(got.ptr, want[i]);
        assert_int_equal(archive_entry_mtime(e), 0);
        assert_int_equal(archive_entry_uid(e), 0);
        const char *user = archive_entry_uname(e);
        assert_true(!user || !*user);
    }
    assert_int_equal(archive_read_next_header(in, &e), ARCHIVE_EOF);
    archive_read_free(in);
}

static void a_zip_of_a_pack_is_the_same_skill(void **state)
{
    (void)state;
    struct skill_file files[] = {FILE_("a/SKILL.md", MD("a")), FILE_("a/h\xc3\xb6he", "x")};
    struct str tar = packed(files, COUNT_OF(files));
    AUTO_FD int in = memfd_create("in", MFD_CLOEXEC);
    AUTO_FD int out = memfd_create("out", MFD_CLOEXEC);
    AUTO_BUF struct buf zip = BUF_INIT(1u << 20);
    assert_int_equal(fd_write_all(in, tar, &err), 0);
    assert_int_equal(lseek(in, 0, SEEK_SET), 0);
    assert_int_equal(skill_pack_zip(in, out, &err), 0);
    assert_int_equal(lseek(out, 0, SEEK_SET), 0);
    assert_int_equal(fd_read_all(out, &zip, &err), 0);
    struct skill_file again = {.path = STR("x.zip"), .bytes = buf_view(&zip)};
    assert_true(str_eq(tar, packed(&again, 1)));
    /* What is no tar any more is damage, not a crash. */
    assert_int_equal(ftruncate(in, 700), 0);
    assert_int_equal(lseek(in, 0, SEEK_SET), 0);
    assert_int_equal(skill_pack_zip(in, out, &err), ERR_CORRUPT);
}

static int fail_sink(void *arg, struct str piece, struct err *e)
{
    (void)arg;
    (void)piece;
    return err_set(e, ERR_NO_SPACE, "the disk is full");
}

static void a_full_disk_is_told_as_such(void **state)
{
    (void)state;
    struct skill_file file = FILE_("a/SKILL.md", MD("a"));
    struct skill_pack p;
    assert_int_equal(skill_pack_read(&arena, &file, 1, &p, &err), 0);
    assert_int_equal(skill_pack_tar(&p, fail_sink, NULL, &err), ERR_NO_SPACE);
    skill_pack_fini(&p);
}

static void files_that_make_no_skill_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *path, *say;
    } cases[] = {
        {"", "Every file needs a path"},
        {"a", "both a file and a folder"},
        {"b", "lies outside of the top-level folder"},
        {"SKILL.md", "exactly in the top-level folder"},
        {"/a/b", "absolute"},
        {"./../a/b", "'..'"},
        {"a/../b", "'..'"},
        {"a/./b", "'.'"},
        {"a//b", "empty"},
        {"a\\b", "backslash"},
        {"a/\x01", "control"},
        {"a/\xff", "UTF-8"},
        {"b/c", "one top-level folder"},
        {"a/SKILL.md", "there twice"},
        {"a/SKILL.md/b", "both a file and a folder"},
        {"a/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6", "too deep"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct skill_file files[] = {FILE_("a/SKILL.md", MD("a")), {.path = str_z(cases[i].path)}};
        struct skill_pack p;
        assert_int_equal(skill_pack_read(&arena, files, 2, &p, &err), ERR_INVALID);
        assert_string_equal(err.at, "files");
        if (!strstr(err.msg, cases[i].say))
            fail_msg("%s: %s", cases[i].path, err.msg);
        skill_pack_fini(&p);
    }
    struct skill_file other = FILE_("triage/SKILL.md", MD("sorting"));
    struct skill_pack p;
    assert_int_equal(skill_pack_read(&arena, &other, 1, &p, &err), ERR_INVALID);
    assert_string_equal(
        err.msg, "The folder name 'triage' must match the skill name 'sorting' in SKILL.md.");
    skill_pack_fini(&p);
    assert_int_equal(skill_pack_read(&arena, NULL, 0, &p, &err), ERR_INVALID);
}

/* ---- agents ---- */

static const struct json *parse(const char *text)
{
    const struct json *doc;
    assert_int_equal(json_parse(&arena, arena_str(&arena, str_z(text)), 0, &doc, &err), 0);
    return doc;
}

static void skills_come_back_with_their_version(void **state)
{
    (void)state;
    struct str out;
    assert_int_equal(
        skills_decode(
            &arena,
            parse("[ {\"skill_id\":\"skill_1\", \"type\":\"custom\"},{\"type\":\"custom\","
                  "\"skill_id\":\"skill_2\",\"version\":\"17\"}]"),
            "/skills", &out, &err),
        0);
    assert_true(str_eqz(out, "[{\"type\":\"custom\",\"skill_id\":\"skill_1\",\"version\":"
                             "\"latest\"},{\"type\":\"custom\",\"skill_id\":\"skill_2\","
                             "\"version\":\"17\"}]"));
    assert_int_equal(skills_decode(&arena, parse("null"), "/skills", &out, &err), 0);
    assert_true(str_eqz(out, "[]"));
}

static void skills_that_cannot_be_are_refused_with_their_pointer(void **state)
{
    (void)state;
#define ONE(rest) "[{\"type\":\"custom\",\"skill_id\":\"skill_1\"" rest "}]"
    static const struct {
        const char *text, *at;
    } cases[] = {
        {"[1]", "/s/0"},
        {"[{}]", "/s/0/type"},
        {"[{\"type\":\"anthropic\",\"skill_id\":\"xlsx\"}]", "/s/0/type"},
        {"[{\"type\":\"file\",\"skill_id\":\"skill_1\"}]", "/s/0/type"},
        {"[{\"type\":\"custom\"}]", "/s/0/skill_id"},
        {"[{\"type\":\"custom\",\"skill_id\":\"skill_\"}]", "/s/0/skill_id"},
        {"[{\"type\":\"custom\",\"skill_id\":\"skill_a/b\"}]", "/s/0/skill_id"},
        {ONE(",\"version\":1"), "/s/0/version"},
        {ONE(",\"version\":\"\""), "/s/0/version"},
        {ONE(",\"extra\":1"), "/s/0/extra"},
        {"[{\"type\":\"custom\",\"skill_id\":\"skill_1\"},{\"type\":\"custom\",\"skill_id\":"
         "\"skill_1\",\"version\":\"2\"}]",
         "/s/1/skill_id"},
    };
#undef ONE
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct str out;
        assert_int_equal(skills_decode(&arena, parse(cases[i].text), "/s", &out, &err),
                         ERR_INVALID);
        assert_string_equal(err.at, cases[i].at);
    }
}

static void the_prompt_lists_skills_one_to_a_line(void **state)
{
    (void)state;
    struct agent ag;
    struct str provision = STR(
        "{\"files\":[],\"skills\":[{\"id\":\"skill_1\",\"name\":\"a\",\"description\":\" "
        "Sorts\\n\\n- b "
        "(x): y\"},{\"name\":\"r\",\"description\":\"In a repository.\",\"path\":\"/workspace/p/"
        ".claude/skills/r/SKILL.md\"}]}");
    assert_int_equal(
        agent_read(&arena,
                   STR("{\"system\":\"Own.\",\"tools\":[{\"type\":\"agent_toolset_20260401\"}]}"),
                   &ag, &err),
        0);
    assert_int_equal(agent_provide(&arena, STR_NONE, &ag, &err), 0);
    assert_false(agent_has_skills(&ag));
    assert_int_equal(agent_provide(&arena, STR("{}"), &ag, &err), 0);
    assert_false(agent_has_skills(&ag));
    assert_int_equal(agent_provide(&arena, provision, &ag, &err), 0);
    assert_true(agent_has_skills(&ag));
    AUTO_BUF struct buf text = BUF_INIT(1 << 20);
    agent_write_skills(&ag, &text);
    assert_true(str_ends(buf_view(&text),
                         STR("\n\n- a (/workspace/skills/a/SKILL.md): Sorts - b (x): y"
                             "\n- r (/workspace/p/.claude/skills/r/SKILL.md): In a repository.")));
    AUTO_BUF struct buf system = BUF_INIT(1 << 20);
    agent_write_system(&ag, &system);
    const struct json *blocks = parse(system.data);
    assert_int_equal(blocks->count, 3);
    assert_true(str_eq(json_get_str(json_at(blocks, 1), "text"), buf_view(&text)));
    assert_null(json_get(json_at(blocks, 1), "cache_control"));
    assert_non_null(json_get(json_at(blocks, 2), "cache_control"));
    ag.tools[TOOL_READ].offered = false;
    assert_false(agent_has_skills(&ag));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(front_matter_is_read_as_it_is_meant),
        cmocka_unit_test(front_matter_that_is_none_is_refused),
        cmocka_unit_test(names_and_descriptions_have_bounds),
        cmocka_unit_test(the_same_files_give_the_same_bytes),
        cmocka_unit_test(a_pack_is_sorted_and_says_nothing_of_its_maker),
        cmocka_unit_test(a_zip_of_a_pack_is_the_same_skill),
        cmocka_unit_test(a_full_disk_is_told_as_such),
        cmocka_unit_test(files_that_make_no_skill_are_refused),
        cmocka_unit_test(skills_come_back_with_their_version),
        cmocka_unit_test(skills_that_cannot_be_are_refused_with_their_pointer),
        cmocka_unit_test(the_prompt_lists_skills_one_to_a_line),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
