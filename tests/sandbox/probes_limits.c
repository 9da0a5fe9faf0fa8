/* Taking more than one's share: every call ends soon with its reason, the shell after it is fresh,
 * the server answers all the while and a session beside it goes on. */
#include "probes.h"

#include "base/clock.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>

#define SESSION "sesn_limits"
enum { CALM_MS = 3000, OVER_MS = 2000, BEFORE_MS = 45000 };

static bool counted(struct fixture *f)
{
    return !str_eqz(str_z(sandboxes_tier(f->s)->limits), "rlimits");
}

static void start(struct fixture *f, struct answer *a, const char *session, const char *command,
                  int64_t timeout_ms)
{
    AUTO_BUF struct buf b = BUF_INIT(1 << 16);
    char id[32];
    snprintf(id, sizeof id, "sevt_lim_%d", f->next++);
    buf_printf(&b, "{\"timeout_ms\":%" PRId64 ",\"command\":\"", timeout_ms);
    for (const char *p = command; *p; p++)
        buf_printf(&b, *p == '\n' ? "\\n" : *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
    buf_z(&b, "\"}");
    call_start(f, a, session, id, "bash", b.data, (struct call_flags){.existed = true});
}

/* Another session's calls, until the first one's has ended. */
static void calm(struct fixture *f, struct answer *until)
{
    do {
        struct answer a;
        int64_t began_us = clock_mono_us();
        bash(f, &a, "sesn_calm", "echo calm");
        assert_string_equal(a.text.data, "calm");
        assert_false(a.is_error);
        answer_fini(&a);
        assert_true(clock_mono_us() - began_us < CALM_MS * 1000);
        turn(f, 20);
    } while (!until->done);
}

/* Variables and processes of the shell before are gone, the files stay. */
static void fresh(struct fixture *f)
{
    struct answer a;
    bash(f, &a, SESSION,
         "echo ${left:-fresh}\n"
         "for i in $(seq 30); do n=$(pgrep -cx 'sleep|yes|head'); [ $n = 0 ] && break\n"
         "read -rt 0.1 <> <(:); done; echo $n; cat kept");
    assert_string_equal(a.text.data, "fresh\n0\nkept");
    answer_fini(&a);
}

static void mark(struct fixture *f)
{
    struct answer a;
    bash(f, &a, SESSION,
         "left=behind; echo kept > kept; rm -rf /tmp/hog hog* ~/hog* /tmp/ostler-output; echo up");
    assert_string_equal(a.text.data, "up");
    answer_fini(&a);
}

/* The call must end with one of the reasons; `b` may be NULL. */
static void attack(struct fixture *f, const char *command, const char *reason, const char *b)
{
    struct answer a;
    mark(f);
    int64_t began_us = clock_mono_us();
    start(f, &a, SESSION, command, 60000);
    calm(f, &a);
    if (!a.is_error || !a.reason ||
        (!str_eqz(str_z(a.reason), reason) && !(b && str_eqz(str_z(a.reason), b))))
        fail_msg("%s: %s\n said: %.300s", command, a.reason ? a.reason : "no reason", a.text.data);
    assert_true(clock_mono_us() - began_us < BEFORE_MS * 1000);
    answer_fini(&a);
    fresh(f);
}

static void fork_bomb(struct fixture *f)
{
    attack(f, "b() { b | b & }; b; sleep 60", "pids", NULL);
}

static void fork_chain(struct fixture *f)
{
    attack(f,
           "python3 -c 'import os,time\nwhile True:\n try:\n  if os.fork(): time.sleep(60)\n"
           " except OSError: time.sleep(60)'",
           "pids", NULL);
}

static void detached(struct fixture *f)
{
    attack(f,
           "for i in $(seq 400); do setsid nohup sleep 600 >/dev/null 2>&1 & done 2>/dev/null; "
           "sleep 60",
           "pids", NULL);
}

static void threads(struct fixture *f)
{
    struct answer a;
    mark(f);
    start(f, &a, SESSION,
          "python3 -c 'import threading,time\nwhile True: "
          "threading.Thread(target=time.sleep,args=(60,),daemon=True).start()'",
          20000);
    calm(f, &a);
    assert_true(a.is_error);
    if (counted(f))
        assert_string_equal(a.reason, "pids");
    answer_fini(&a);
}

static void memory(struct fixture *f)
{
    attack(f, "python3 -c 'x=[]\nwhile True: x.append(bytearray(b\"x\"*(1<<20)))'; sleep 60",
           "out_of_memory", NULL);
}

static void memory_of_many(struct fixture *f)
{
    attack(f,
           "for i in 1 2 3 4 5 6 7 8; do python3 -c 'import time; x=bytearray(b\"x\"*(60<<20)); "
           "time.sleep(60)' & done; sleep 60",
           "out_of_memory", NULL);
}

static void memory_shared(struct fixture *f)
{
    attack(f,
           "python3 -c 'import mmap,time\nx=[]\nwhile True:\n m=mmap.mmap(-1,8<<20); "
           "m.write(b\"x\"*(8<<20)); x.append(m)\n'; sleep 60",
           "out_of_memory", NULL);
}

static void memory_segments(struct fixture *f)
{
    attack(f,
           "python3 -c 'import ctypes,time\nl=ctypes.CDLL(None); l.shmat.restype=ctypes.c_void_p\n"
           "while True:\n i=l.shmget(0,16<<20,0o1600); a=l.shmat(i,None,0)\n"
           " if i<0 or a is None or a==2**64-1: break\n"
           " ctypes.memset(a,1,16<<20); l.shmdt(ctypes.c_void_p(a))\n"
           "time.sleep(60)'; sleep 60",
           "out_of_memory", NULL);
}

static void memory_files(struct fixture *f)
{
    struct answer a;
    if (counted(f)) {
        attack(f,
               "python3 -c 'import os,time\nx=[]\nwhile True:\n d=os.memfd_create(\"x\"); "
               "x.append(d)\n"
               " os.write(d,b\"x\"*(8<<20))'; sleep 60",
               "out_of_memory", NULL);
        return;
    }
    bash(f, &a, SESSION, "python3 -c 'import os; os.memfd_create(\"x\")' 2>&1 | tail -1");
    assert_true(str_find(buf_view(&a.text), STR("not implemented")) >= 0);
    answer_fini(&a);
}

static void memory_tmpfs(struct fixture *f)
{
    struct answer a;
    mark(f);
    start(f, &a, SESSION, "head -c 2G /dev/zero > /dev/shm/hog; stat -c %s /dev/shm/hog", 20000);
    calm(f, &a);
    answer_fini(&a);
    /* Full or not: the session can go on, and clean up. */
    bash(f, &a, SESSION, "rm -f /dev/shm/hog; echo cleaned");
    assert_true(str_ends(buf_view(&a.text), STR("cleaned")));
    answer_fini(&a);
}

static void disk(struct fixture *f)
{
    attack(f, "for i in 1 2 3 4 5 6 7 8 9; do head -c 20000000 /dev/zero > hog$i; done; sleep 60",
           "disk", NULL);
    struct answer a;
    bash(f, &a, SESSION, "rm -f hog*; echo cleaned");
    assert_string_equal(a.text.data, "cleaned");
    answer_fini(&a);
}

static void disk_of_home(struct fixture *f)
{
    attack(f, "for i in 1 2 3 4 5 6 7 8 9; do head -c 20000000 /dev/zero > ~/hog$i; done; sleep 60",
           "disk", NULL);
    struct answer a;
    bash(f, &a, SESSION, "rm -f ~/hog*; echo cleaned");
    answer_fini(&a);
}

static void disk_names(struct fixture *f)
{
    attack(f,
           "mkdir hog; python3 -c 'n=0\nwhile True:\n n+=1; open(\"hog/%d\"%n,\"w\").close()'; "
           "sleep 60",
           "disk", NULL);
    struct answer a;
    bash(f, &a, SESSION, "rm -rf hog; echo cleaned");
    answer_fini(&a);
}

static void file_size(struct fixture *f)
{
    struct answer a;
    bash(f, &a, SESSION, "head -c 100000000 /dev/zero > hog");
    if (!a.is_error || !a.reason || !str_eqz(str_z(a.reason), "disk"))
        fail_msg("%s: %s", a.reason ? a.reason : "no reason", a.text.data);
    answer_fini(&a);
    bash(f, &a, SESSION, "stat -c %s hog; rm hog");
    assert_string_equal(a.text.data, "33554432");
    answer_fini(&a);
}

static void descriptors(struct fixture *f)
{
    struct answer a;
    mark(f);
    start(f, &a, SESSION,
          "for i in 1 2 3 4; do python3 -c 'import os\nn=0\ntry:\n"
          " while True: os.open(\"/dev/null\",0); n+=1\nexcept OSError as e: print(n<=65536)' & "
          "done; wait",
          30000);
    calm(f, &a);
    assert_true(str_find(buf_view(&a.text), STR("False")) < 0);
    answer_fini(&a);
}

static void output(struct fixture *f)
{
    struct answer a;
    mark(f);
    start(f, &a, SESSION, "yes 'a line of endless output'", 1500);
    calm(f, &a);
    assert_string_equal(a.reason, "timeout");
    assert_true(a.text.len < 150 * 1024);
    answer_fini(&a);
    fresh(f);
    bash(f, &a, SESSION, "rm -rf /tmp/ostler-output; echo ok");
    answer_fini(&a);
}

static void output_behind(struct fixture *f)
{
    struct answer a;
    mark(f);
    bash(f, &a, SESSION, "yes noise & echo begun");
    answer_fini(&a);
    bash(f, &a, SESSION, "kill %1 2>/dev/null; echo calm | tail -1");
    assert_true(str_find(buf_view(&a.text), STR("calm")) >= 0);
    answer_fini(&a);
    bash(f, &a, SESSION, "pkill yes; rm -rf /tmp/ostler-output; true");
    answer_fini(&a);
}

/* What ignores every signal and hides in a session of its own ends with its call. */
static void time_of_a_call(struct fixture *f)
{
    struct answer a;
    mark(f);
    int64_t began_us = clock_mono_us();
    start(f, &a, SESSION,
          "trap '' TERM INT HUP QUIT; setsid sleep 1000 & (setsid sleep 1000 &); sleep 1000", 700);
    calm(f, &a);
    assert_string_equal(a.reason, "timeout");
    assert_true(clock_mono_us() - began_us < (700 + OVER_MS) * 1000);
    answer_fini(&a);
    fresh(f);
}

static void wall_clock(struct fixture *f)
{
    struct answer a;
    f->environment = "{\"limits\":{\"wall_seconds\":1}}";
    bash(f, &a, "sesn_wall", "echo up");
    answer_fini(&a);
    int64_t began_us = clock_mono_us();
    start(f, &a, "sesn_wall", "sleep 1000", 60000); /* asks for a minute */
    assert_true(answer_within(&a, 10000));
    f->environment = NULL;
    assert_string_equal(a.reason, "timeout");
    assert_true(clock_mono_us() - began_us < (1000 + OVER_MS) * 1000);
    answer_fini(&a);
}

/* Left in the background it lives as long as a call may, and no longer. */
static void wall_clock_behind(struct fixture *f)
{
    struct answer a;
    f->environment = "{\"limits\":{\"wall_seconds\":1}}";
    bash(f, &a, "sesn_wall",
         "touch begun; (while sleep 0.1; do date +%s%N > alive; done) & echo up");
    assert_string_equal(a.text.data, "up");
    answer_fini(&a);
    turn(f, 1800);
    bash(f, &a, "sesn_wall",
         "x=$(cat alive); sleep 0.4; [ \"$x\" = \"$(cat alive)\" ] && echo ended");
    f->environment = NULL;
    assert_string_equal(a.text.data, "ended");
    answer_fini(&a);
}

static void cpu(struct fixture *f)
{
    struct answer a;
    mark(f);
    start(f, &a, SESSION, "for i in 1 2 3 4 5 6; do while :; do :; done & done; sleep 60", 1500);
    calm(f, &a);
    assert_string_equal(a.reason, "timeout");
    answer_fini(&a);
}

static const struct probe rows[] = {
    {"fork_bomb", "stop the host with a fork bomb", NULL, NULL, fork_bomb},
    {"fork_chain", "the same by a chain in which nobody ends", NULL, NULL, fork_chain},
    {"fork_detached", "leave very many processes in sessions of their own", NULL, NULL, detached},
    {"fork_threads", "make threads without end", NULL, NULL, threads},
    {"memory_hog", "take memory and touch it", NULL, NULL, memory},
    {"memory_hog_of_many", "take a little memory in each of many processes", NULL, NULL,
     memory_of_many},
    {"memory_hog_shared", "take memory that is shared", NULL, NULL, memory_shared},
    {"memory_hog_segments", "take memory that nobody has attached", NULL, NULL, memory_segments},
    {"memory_hog_memfd", "take memory as files without a name", NULL, NULL, memory_files},
    {"memory_hog_tmpfs", "take memory as files of /dev/shm", NULL, NULL, memory_tmpfs},
    {"disk_hog", "fill the disk", NULL, NULL, disk},
    {"disk_hog_home", "fill the disk from another directory", NULL, NULL, disk_of_home},
    {"disk_hog_names", "fill the disk with empty files", NULL, NULL, disk_names},
    {"disk_file_size", "fill the disk with one file", NULL, NULL, file_size},
    {"descriptor_hog", "open files without end", NULL, NULL, descriptors},
    {"output_endless", "print without end", NULL, NULL, output},
    {"output_in_the_background", "print without end beside the next call", NULL, NULL,
     output_behind},
    {"time_of_a_call", "outlive the end of a call", NULL, NULL, time_of_a_call},
    {"time_wall_clock", "take longer than the environment allows", NULL, NULL, wall_clock},
    {"time_in_the_background", "go on after the last call for longer than a call may", NULL, NULL,
     wall_clock_behind},
    {"cpu_hog", "take all processors", NULL, NULL, cpu},
};
PROBE_TABLE(probes_limits);
