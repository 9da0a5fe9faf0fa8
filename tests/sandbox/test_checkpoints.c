/* Checkpoints with real sandboxes: what is kept, what comes back after the directory of a session
 * was lost, what the model is told then, and what a server that dies on the way leaves. argv[1]:
 * the hand; argv[2], argv[3]: a directory to die in, see `die`. */
#include "fixture.h"

#include "base/fd.h"
#include "sandbox/impl.h"
#include "store/checkpoints.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *self;
static struct fixture f;

/* ---- a store that can be slow, or the last thing a server sees ---- */

static struct gate {
    struct store_port real;
    bool hold, die;
    struct store_job *held;
} gate;

static void gated_read(void *p, struct store_job *job)
{
    (void)p;
    gate.real.read(gate.real.self, job);
}

static void gated_write(void *p, struct store_job *job)
{
    (void)p;
    if (gate.die)
        _exit(9); /* the snapshot is there, nothing refers to it */
    if (gate.hold && !gate.held)
        gate.held = job;
    else
        gate.real.write(gate.real.self, job);
}

static void open_gate(void)
{
    gate.hold = false;
    if (gate.held)
        gate.real.write(gate.real.self, TAKE_PTR(gate.held));
}

static void gate_store(void)
{
    gate = (struct gate){.real = store_port(f.store)};
    f.s->store = (struct store_port){.read = gated_read, .write = gated_write};
}

/* ---- sessions ---- */

enum { EVENTS = 40 };

struct made {
    struct session_row row;
    int64_t due, processed;
};

static int make_session(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct made *m = on_store_arg(job);
    struct event events[EVENTS];
    struct id ws;
    int rc = tx_workspace_ensure(tx, STR("default"), 1, &ws, err);
    m->row = (struct session_row){.id = m->row.id,
                                  .workspace_id = ws,
                                  .thread_id = id_new("sthr"),
                                  .agent_id = id_new("agent"),
                                  .environment_id = id_new("env"),
                                  .created_us = 1};
    if (rc == 0)
        rc = tx_session_insert(tx, &m->row, err);
    for (int i = 0; i < EVENTS; i++)
        events[i] = (struct event){.seq = i + 1,
                                   .id = id_new("sevt"),
                                   .type = EVENT_USER_MESSAGE,
                                   .processed_us = i + 1,
                                   .body = STR("{}")};
    const struct session_append ap = {.key = m->row.key,
                                      .epoch = m->row.epoch,
                                      .events = events,
                                      .nevents = EVENTS,
                                      .checkpoint_due = m->due};
    return rc ? rc : tx_session_append(tx, &ap, err);
}

static struct session_row new_session(int64_t due)
{
    struct made m = {.row.id = id_new("sesn"), .due = due};
    assert_int_equal(on_store(&f, true, make_session, &m), 0);
    return m.row;
}

struct looked {
    const struct session_row *session;
    int64_t seq, due;
    struct checkpoint_row row;
    char manifest[BLOB_NAME_LEN + 1];
    char event[ID_MAX];
    bool found;
};

static int look_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    struct looked *l = on_store_arg(job);
    AUTO_ARENA struct arena a;
    struct session_row row;
    struct event *events;
    size_t n;
    bool more;
    arena_init(&a, 64 << 20);
    int rc = tx_session_get(tx, STR_NONE, id_str(&l->session->id), &a, &row, err);
    l->due = row.checkpoint_due;
    if (rc)
        return rc;
    rc = tx_checkpoint_at(tx, id_str(&l->session->id), l->seq, &a, &l->row, err);
    l->found = rc == 0;
    if (rc)
        return rc == ERR_NOT_FOUND ? 0 : rc;
    (void)str_copyz(l->manifest, sizeof l->manifest, l->row.manifest);
    const struct event_filter filter = {.after_seq = l->row.seq - 1, .limit = 1};
    rc = tx_event_list(tx, row.key, &filter, &a, &events, &n, &more, err);
    if (rc == 0 && n)
        memcpy(l->event, events[0].id.z, sizeof l->event);
    return rc;
}

static struct looked look(const struct session_row *s, int64_t seq)
{
    struct looked l = {.session = s, .seq = seq};
    assert_int_equal(on_store(&f, false, look_fn, &l), 0);
    return l;
}

static int delete_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    const struct session_row *s = on_store_arg(job);
    return tx_session_delete(tx, s->key, err);
}

static int64_t ended(void)
{
    struct sandboxes_stats s = sandboxes_stats(f.s);
    return s.checkpoints + s.checkpoint_failures;
}

#define TURN_WHILE(waiting)                                                                        \
    for (int i = 0; waiting; i++) {                                                                \
        assert_true(i < 15000);                                                                    \
        turn(&f, 1);                                                                               \
    }

static void ask(const struct session_row *s, int64_t seq)
{
    f.port.checkpoint(f.port.self, id_str(&s->id), seq, true);
}

static void wait_ended(int64_t n)
{
    TURN_WHILE(ended() < n);
}

static void keep(const struct session_row *s, int64_t seq)
{
    int64_t before = ended();
    ask(s, seq);
    wait_ended(before + 1);
}

static void says(const struct session_row *s, const char *command, const char *want)
{
    bash_says(&f, s->id.z, command, want);
}

static void does(const struct session_row *s, const char *command)
{
    says(s, command, "");
}

static void lose(const struct session_row *s)
{
    char command[ID_MAX + 64];
    snprintf(command, sizeof command, "rm -rf data/%s", s->id.z);
    assert_int_equal(on_host(&f, command), 0);
}

/* A call that made the file `begun` of the workspace, and goes on with the command. */
static void begin(struct answer *a, const struct session_row *s, const char *command)
{
    char path[256], input[256];
    snprintf(input, sizeof input, "{\"command\":\"touch begun; %s\"}", command);
    call_start(&f, a, s->id.z, "sevt_long", "bash", input, (struct call_flags){.existed = true});
    snprintf(path, sizeof path, "%s/%s/workspace/begun", f.data, s->id.z);
    wait_for_file(&f, path);
}

/* Of one that goes on while that file is there. */
static void let_end(const struct session_row *s)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s/workspace/begun", f.data, s->id.z);
    assert_int_equal(unlink(path), 0);
}

static bool there(const struct session_row *s, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s/%s", f.data, s->id.z, name);
    return access(path, F_OK) == 0;
}

static int open_fixture(void **state)
{
    (void)state;
    fixture_open_stored(&f);
    return 0;
}

static int close_fixture(void **state)
{
    (void)state;
    f.s->store = store_port(f.store);
    fixture_close(&f);
    return 0;
}

/* ---- what comes back ---- */

static void files_come_back_under_a_running_sandbox(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = new_session(0);
    does(&s, "mkdir -p a/b; echo one > a/b/f; chmod 600 a/b/f; ln -s b/f a/l; export X=1\n"
             "echo out > /mnt/session/outputs/o; echo rc > ~/.rc; echo t > /tmp/t");
    keep(&s, 7);
    struct looked l = look(&s, 0);
    assert_int_equal(l.row.seq, 7);
    assert_true(l.row.turn_end);
    assert_int_equal(l.row.files, 4);
    does(&s, "echo two > a/b/f");
    lose(&s);
    struct answer a;
    bash(&f, &a, s.id.z,
         "cat a/l /mnt/session/outputs/o ~/.rc; stat -c %a:%U a/b/f; ls /tmp; echo ${X:-unset}");
    assert_false(a.is_error);
    struct str text = buf_view(&a.text);
    assert_true(str_ends(str_trim(text), STR("one\nout\nrc\n600:agent\nunset")));
    assert_true(str_starts(text, STR("This is a fresh sandbox. The files in /workspace,")));
    assert_true(str_find(text, str_z(l.event)) > 0);
    answer_fini(&a);
    says(&s, "cat a/l", "one"); /* and is not told again */
    says(&s, "echo three > a/b/f; cat a/l", "three");
    assert_int_equal(sandboxes_stats(f.s).restores, 1);
}

static void
a_call_that_ends_in_a_lost_directory_is_answered_and_the_next_one_has_the_files(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = new_session(0);
    struct answer a;
    does(&s, "echo one > f");
    keep(&s, 2);
    begin(&a, &s, "while [ -e begun ]; do :; done; echo ended");
    lose(&s);
    answer_wait(&a);
    assert_string_equal(a.text.data, "ended");
    answer_fini(&a);
    says(&s, "cat f", "*are gone. Look before you rely on any of it.\none");
}

static void a_call_under_way_is_lost_with_the_directory_when_the_next_one_comes(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = new_session(0);
    struct answer a, b;
    does(&s, "echo one > f");
    keep(&s, 2);
    begin(&a, &s, "while :; do :; done");
    lose(&s);
    call_start(&f, &b, s.id.z, "sevt_next", "bash", "{\"command\":\"cat f\"}",
               (struct call_flags){.existed = true});
    answer_wait(&a);
    assert_true(a.is_error);
    assert_string_equal(a.reason, "sandbox_lost");
    assert_non_null(strstr(a.text.data, "/workspace are lost with it"));
    answer_fini(&a);
    answer_wait(&b);
    assert_false(b.is_error);
    assert_non_null(strstr(b.text.data, "are gone. Look before you rely on any of it.\none"));
    answer_fini(&b);
}

static void a_hand_that_outlived_server_and_directory_is_ended_first(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = new_session(0);
    turn(&f, 300); /* it may take a directory that was made before it */
    does(&s, "echo one > f; sleep 314159 > /dev/null 2>&1 &");
    keep(&s, 2);
    assert_int_equal(on_host(&f, "pgrep -f '[s]leep 314159' > /dev/null"), 0);
    fixture_restart(&f);
    lose(&s);
    says(&s, "cat f", "*\none");
    assert_int_equal(on_host(&f, "pgrep -f '[s]leep 314159' > /dev/null"), 1);
    /* And where the hand was found before its directory went. The model was told, also when the
     * server that did so is gone. */
    f.port.idle(f.port.self, id_str(&s.id));
    TURN_WHILE(there(&s, "restored"));
    fixture_restart(&f);
    says(&s, "cat f", "one");
    lose(&s);
    says(&s, "cat f", "*\none");
}

static void another_directory_in_its_place_is_not_taken_for_it(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = new_session(0);
    char command[256];
    does(&s, "echo one > f");
    fixture_restart(&f);
    says(&s, "cat f", "one");
    snprintf(command, sizeof command, "mv data/%s old && cp -a old data/%s && rm -rf old", s.id.z,
             s.id.z);
    assert_int_equal(on_host(&f, command), 0);
    says(&s, "echo two > f; cat f", "two");
    snprintf(command, sizeof command, "grep -q two data/%s/workspace/f", s.id.z);
    assert_int_equal(on_host(&f, command), 0);
}

static void a_workspace_that_is_looked_at_comes_back_too(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = new_session(0);
    AUTO_BUF struct buf out = BUF_INIT(1 << 20);
    struct err err;
    assert_int_equal(on_host(&f, "mkdir t && echo one > t/f && tar -C t -cf t.tar ."), 0);
    char path[160];
    snprintf(path, sizeof path, "%s/t.tar", f.dir);
    int64_t before = ended();
    assert_int_equal(import_workspace(&f, s.id.z, open(path, O_RDONLY | O_CLOEXEC), &err), 0);
    assert_int_equal(ended(), before + 1); /* before anybody is told that it is done */
    struct looked l = look(&s, 0);
    assert_int_equal(l.row.seq, EVENTS);
    assert_true(l.row.turn_end);
    lose(&s);
    assert_int_equal(read_workspace(&f, s.id.z, WORKSPACE_FILE, "f", &out, &err), 0);
    assert_string_equal(out.data, "one\n");
    /* What it was compared with came back as well. */
    says(&s, "true", "*are gone");
    says(&s, "echo two > f; cat f", "two");
    buf_clear(&out);
    keep(&s, EVENTS + 1);
    lose(&s);
    assert_int_equal(read_workspace(&f, s.id.z, WORKSPACE_PATCH, "", &out, &err), 0);
    assert_non_null(strstr(out.data, "-one\n+two"));
}

static int copy_fn(struct store_tx *tx, struct store_job *job, struct err *err)
{
    const struct session_row *both = on_store_arg(job);
    return tx_checkpoint_copy(tx, both[0].key, both[1].key, 20, err);
}

static void a_branch_begins_with_the_files_of_its_event(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row both[2] = {new_session(0), new_session(0)};
    does(&both[0], "echo one > f");
    keep(&both[0], 10);
    does(&both[0], "echo two > f");
    keep(&both[0], 30);
    assert_int_equal(on_store(&f, true, copy_fn, both), 0);
    assert_int_equal(on_store(&f, true, delete_fn, &both[0]), 0);
    says(&both[1], "cat f", "*\none");
}

static void what_was_lost_for_good_is_said_and_what_never_was_is_not(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = new_session(0), fresh = new_session(0);
    struct answer a;
    says(&fresh, "echo hi", "hi");
    call_start(&f, &a, s.id.z, "sevt_a", "bash", "{\"command\":\"echo hi\"}",
               (struct call_flags){.existed = true, .had = true});
    answer_wait(&a);
    assert_non_null(strstr(a.text.data, "could not be restored"));
    answer_fini(&a);
    says(&s, "echo hi", "hi");
    /* And one that was there a moment ago. */
    lose(&fresh);
    says(&fresh, "echo hi", "*could not be restored");
}

static void a_checkpoint_that_cannot_be_read_gives_the_one_before(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = new_session(0);
    char command[512];
    does(&s, "echo one > f");
    keep(&s, 10);
    does(&s, "echo two > f");
    keep(&s, 20);
    struct looked l = look(&s, 0);
    snprintf(command, sizeof command, "rm stored/blobs/%.2s/%s", l.manifest, l.manifest + 2);
    assert_int_equal(on_host(&f, command), 0);
    lose(&s);
    says(&s, "cat f", "*\none");
    assert_int_equal(sandboxes_stats(f.s).restore_failures, 1);
}

/* ---- what is kept, and when ---- */

static void calls_wait_until_a_checkpoint_is_durable(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = new_session(20);
    struct answer a;
    does(&s, "echo one > f");
    gate_store();
    gate.hold = true;
    ask(&s, 10);
    TURN_WHILE(!gate.held);
    /* More events, between which nothing ran, and a call behind them. */
    ask(&s, 12);
    ask(&s, 20);
    call_start(&f, &a, s.id.z, "sevt_late", "bash", "{\"command\":\"echo two > f; cat f\"}",
               (struct call_flags){.existed = true});
    assert_false(answer_within(&a, 100));
    assert_true(look(&s, 0).due == 20);
    open_gate();
    answer_wait(&a);
    assert_string_equal(str_trim(buf_view(&a.text)).ptr, a.text.data);
    assert_true(str_starts(buf_view(&a.text), STR("two")));
    answer_fini(&a);
    assert_int_equal(look(&s, 0).row.seq, 20);
    assert_int_equal(look(&s, 12).row.seq, 12);
    assert_int_equal(look(&s, 11).row.seq, 10);
    assert_string_equal(look(&s, 20).manifest, look(&s, 10).manifest);
    assert_true(look(&s, 20).row.turn_end);
    assert_int_equal(look(&s, 0).due, 0);
    lose(&s);
    says(&s, "cat f", "*\none");
}

static void what_is_kept_under_a_running_call_is_no_end_of_a_turn(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = new_session(0);
    struct answer a;
    does(&s, "echo one > f");
    begin(&a, &s, "while [ -e begun ]; do :; done");
    keep(&s, 10);
    assert_false(look(&s, 0).row.turn_end);
    let_end(&s);
    answer_wait(&a);
    answer_fini(&a);
    keep(&s, 11);
    assert_true(look(&s, 0).row.turn_end);
}

static void what_cannot_be_kept_is_counted_and_not_tried_for_ever(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = new_session(10), none = new_session(10);
    f.s->keep.max_files = 20;
    does(&s, "mkdir d; touch d/{1..20}");
    keep(&s, 10);
    assert_false(look(&s, 0).found);
    assert_int_equal(look(&s, 0).due, 0);
    assert_int_equal(sandboxes_stats(f.s).checkpoint_failures, 1);
    /* A session that has no files at all. */
    ask(&none, 10);
    TURN_WHILE(look(&none, 0).due);
    assert_false(look(&none, 0).found);
    assert_int_equal(sandboxes_stats(f.s).checkpoint_failures, 1);
    says(&s, "rm -r d; echo hi", "hi");
    keep(&s, 12);
    assert_int_equal(look(&s, 0).row.seq, 12);
    /* Where none are wanted, none is due; those that there are come back. */
    struct session_row unkept = new_session(10);
    f.s->keep.off = true;
    does(&unkept, "touch 1");
    ask(&unkept, 10);
    TURN_WHILE(look(&unkept, 0).due);
    assert_false(look(&unkept, 0).found);
    lose(&s);
    says(&s, "echo hi", "*are gone. Look before you rely on any of it.\nhi");
}

static void nothing_is_kept_of_a_directory_that_is_gone(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = new_session(30);
    does(&s, "echo one > f");
    keep(&s, 10);
    lose(&s);
    ask(&s, 30);
    says(&s, "cat f", "*\none");
    assert_int_equal(look(&s, 0).row.seq, 10);
    assert_int_equal(look(&s, 0).due, 0);
}

static void a_server_that_stops_or_a_session_that_is_archived_finishes_it(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = new_session(10);
    does(&s, "echo one > f");
    ask(&s, 10);
    turn(&f, 0);
    fixture_restart(&f);
    assert_int_equal(look(&s, 0).row.seq, 10);
    does(&s, "echo two > f");
    /* One that is not due any more, as another process asks for that came late. */
    struct looked first = look(&s, 10);
    keep(&s, 10);
    assert_string_equal(look(&s, 10).manifest, first.manifest);
    ask(&s, 12);
    f.port.destroy(f.port.self, id_str(&s.id), false);
    TURN_WHILE(look(&s, 0).row.seq != 12);
    assert_string_not_equal(look(&s, 10).manifest, look(&s, 12).manifest);
}

static void a_deleted_session_is_not_kept(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = new_session(10);
    does(&s, "echo one > f");
    assert_int_equal(on_store(&f, true, delete_fn, &s), 0);
    ask(&s, 10);
    f.port.destroy(f.port.self, id_str(&s.id), true);
    TURN_WHILE(there(&s, ""));
    assert_int_equal(sandboxes_stats(f.s).checkpoint_failures, 0);
}

/* ---- servers that die ---- */

/* In a process of its own: keeps the files of a session, and dies before anything refers to them.
 */
static noreturn void die(const char *dir, const char *session)
{
    fixture_stored = true;
    fixture_open_at(&f, dir);
    struct session_row s = {.id = id_from(str_z(session))};
    f.next = 100; /* the hand knows the first ones */
    does(&s, "echo two > f");
    gate_store();
    gate.die = true;
    ask(&s, 20);
    for (;;)
        turn(&f, 100);
}

static size_t temporaries(void)
{
    char path[160];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/blobs", f.stored);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += str_starts(str_z(e->d_name), STR("tmp."));
    closedir(d);
    return n;
}

static void a_snapshot_that_nothing_refers_to_yet_is_taken_again(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = new_session(20);
    does(&s, "echo one > f");
    keep(&s, 10);
    store_close(TAKE_PTR(f.store)); /* the other process has it now */
    f.s->store = (struct store_port){0};
    pid_t pid = fork();
    if (pid == 0) {
        execl(self, self, fixture_hand, f.dir, s.id.z, (char *)NULL);
        _exit(127);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 9);
    fixture_restart(&f);
    assert_int_equal(look(&s, 0).row.seq, 10);
    assert_int_equal(look(&s, 0).due, 20);
    assert_int_equal(temporaries(), 0);
    keep(&s, look(&s, 0).due); /* as the engine does */
    assert_int_equal(look(&s, 0).due, 0);
    assert_true(look(&s, 20).row.turn_end);
    lose(&s);
    says(&s, "cat f", "*\ntwo");
}

static void half_a_restore_is_swept_and_files_of_sessions_are_not(void **state)
{
    (void)state;
    FIXTURE_NEEDED(&f);
    struct session_row s = new_session(0);
    char busy[160];
    does(&s, "echo one > f");
    assert_int_equal(on_host(&f, "mkdir -p data/.restore-dead00/workspace data/.restore-busy00 &&"
                                 " chmod 0 data/.restore-dead00/workspace"),
                     0);
    snprintf(busy, sizeof busy, "%s/.restore-busy00", f.data);
    AUTO_FD int lock = open(busy, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    fixture_restart(&f);
    sandboxes_sweep(f.s, &s.id, 1);
    TURN_WHILE(on_host(&f, "test ! -e data/.restore-dead00") != 0);
    assert_int_equal(access(busy, F_OK), 0);
    assert_true(there(&s, "workspace/f"));
    says(&s, "cat f", "one");
}

int main(int argc, char **argv)
{
    self = argv[0];
    fixture_hand = argc > 1 ? argv[1] : NULL;
    if (argc > 3)
        die(argv[2], argv[3]);
#define T(fn) cmocka_unit_test_setup_teardown(fn, open_fixture, close_fixture)
    const struct CMUnitTest tests[] = {
        T(files_come_back_under_a_running_sandbox),
        T(a_call_that_ends_in_a_lost_directory_is_answered_and_the_next_one_has_the_files),
        T(a_call_under_way_is_lost_with_the_directory_when_the_next_one_comes),
        T(a_hand_that_outlived_server_and_directory_is_ended_first),
        T(another_directory_in_its_place_is_not_taken_for_it),
        T(a_workspace_that_is_looked_at_comes_back_too),
        T(a_branch_begins_with_the_files_of_its_event),
        T(what_was_lost_for_good_is_said_and_what_never_was_is_not),
        T(a_checkpoint_that_cannot_be_read_gives_the_one_before),
        T(calls_wait_until_a_checkpoint_is_durable),
        T(what_is_kept_under_a_running_call_is_no_end_of_a_turn),
        T(what_cannot_be_kept_is_counted_and_not_tried_for_ever),
        T(nothing_is_kept_of_a_directory_that_is_gone),
        T(a_server_that_stops_or_a_session_that_is_archived_finishes_it),
        T(a_deleted_session_is_not_kept),
        T(a_snapshot_that_nothing_refers_to_yet_is_taken_again),
        T(half_a_restore_is_swept_and_files_of_sessions_are_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
