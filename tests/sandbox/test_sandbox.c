/* Real sandboxes on this host: what is seen and can be done inside, what ends them, what outlives a
 * server. argv[1]: the hand. Skipped, with the reason, where no sandbox can be had. */
#include "fixture.h"

#include "base/clock.h"
#include "base/fd.h"
#include "sandbox/impl.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct fixture shared; /* one sandbox for all probes that leave nothing behind */
static char missing[256];

#define NEEDS_SANDBOX()                                                                            \
    do {                                                                                           \
        if (missing[0]) {                                                                          \
            print_message("skipped: %s\n", missing);                                               \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

static int open_shared(void **state)
{
    (void)state;
    fixture_open(&shared, NULL);
    snprintf(missing, sizeof missing, "%s", fixture_lacks(&shared));
    return 0;
}

static int close_shared(void **state)
{
    (void)state;
    fixture_close(&shared);
    return 0;
}

/* ---- probes: a command inside and what it must say ---- */

struct probe_row {
    const char *what, *command, *says; /* "*x": x is somewhere in it */
};

static bool says(const struct answer *a, const char *want)
{
    struct str got = buf_view(&a->text);
    return want[0] == '*' ? str_find(got, str_z(want + 1)) >= 0 : str_eqz(got, want);
}

static void check_rows(const struct probe_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct answer a;
        bash(&shared, &a, "sesn_probe", rows[i].command);
        if (!says(&a, rows[i].says))
            fail_msg("%s\n said: %s\n not:  %s", rows[i].what, a.text.data, rows[i].says);
        answer_fini(&a);
    }
}

#define PY "python3 -c '"
/* libc's syscall() by number: seccomp is asked, not a wrapper. x86-64 numbers. */
#define CALL(number, args)                                                                         \
    PY "import ctypes,os; l=ctypes.CDLL(None,use_errno=True); r=l.syscall(" number args            \
       "); print(r, os.strerror(ctypes.get_errno()))'"

static void nothing_of_the_host_is_seen(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    char secret[128], look[512];
    snprintf(secret, sizeof secret, "%s/secret", shared.dir);
    struct err err;
    assert_int_equal(fd_write_file_atomic(secret, STR("s"), 0644, &err), 0);
    snprintf(look, sizeof look, "ls %s %s %s/sandboxes 2>&1 | grep -c 'No such file'", secret,
             shared.run, shared.data);
    const struct probe_row rows[] = {
        {"a file of the host", look, "3"},
        {"the root holds only what was put there", "echo /*", "*/bin /dev /etc /home /lib"},
        {"no home directories of the host", "ls /home /root 2>&1", "*agent"},
        {"no root's home", "ls /root 2>&1", "*No such file"},
        {"no /sys", "ls /sys 2>&1", "*No such file"},
        {"no /boot, /srv, /opt, /media", "ls -d /boot /srv /opt /media 2>/dev/null | wc -l", "0"},
        {"no password file of the host", "cut -d: -f1 /etc/passwd | tr '\\n' ' '",
         "root agent nobody "},
        {"no shadow file", "cat /etc/shadow 2>&1", "*No such file"},
        {"no machine id", "cat /etc/machine-id 2>&1", "*No such file"},
        {"the host's name is not told", "uname -n; cat /etc/hostname", "sandbox\nsandbox"},
        {"only this sandbox's processes", "ls -d /proc/[0-9]* | wc -l | awk '{print ($1<8)}'", "1"},
        {"pid 1 is the hand", "cat /proc/1/comm", "hand"},
        {"the hand's socket has no path inside", "grep -c ostler /proc/net/unix; ls /run",
         "0\nhand"},
        {"no disk devices", "ls /dev | grep -E '^(sd|vd|nvme|mem|kmsg|kvm)' | wc -l", "0"},
        {"the bound directories only",
         "grep -cE ' /(workspace|tmp|home/agent|mnt/session/outputs) ' "
         "/proc/self/mounts",
         "4"},
    };
    check_rows(rows, COUNT_OF(rows));
}

static void there_is_no_network(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    static const struct probe_row rows[] = {
        {"only loopback, and it is down or alone", "ls /proc/sys/net/ipv4/conf | tr '\\n' ' '",
         "all default lo "},
        {"no route", "wc -l < /proc/net/route", "1"},
        {"no way out",
         "(echo > /dev/tcp/1.1.1.1/53) 2>&1 | grep -qiE 'unreachable|not permitted' && echo none",
         "none"},
        {"the host's loopback is not ours",
         "(echo > /dev/tcp/127.0.0.1/22) 2>&1 | grep -q refused && echo alone", "alone"},
        {"no metadata service",
         "(echo > /dev/tcp/169.254.169.254/80) 2>&1 | grep -qiE 'unreachable|not permitted' && "
         "echo none",
         "none"},
        {"no DNS", "getent hosts example.com || echo none", "none"},
        {"no vsock to the hypervisor",
         PY "import socket\ntry: socket.socket(40,1)\nexcept OSError as e: "
            "print(e.strerror)'",
         "Address family not supported by protocol"},
        {"no packet sockets",
         PY "import socket\ntry: socket.socket(17,3)\nexcept OSError as e: "
            "print(e.strerror)'",
         "Address family not supported by protocol"},
        {"no kernel crypto sockets",
         PY "import socket\ntry: socket.socket(38,5)\nexcept OSError as e: "
            "print(e.strerror)'",
         "Address family not supported by protocol"},
        {"no netlink but routes",
         PY "import socket\nsocket.socket(16,3,0)\ntry: socket.socket(16,3,12)\n"
            "except OSError as e: print(e.strerror)'",
         "Address family not supported by protocol"},
    };
    check_rows(rows, COUNT_OF(rows));
}

static void the_system_cannot_be_written(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    static const struct probe_row rows[] = {
        {"/", "touch /x 2>&1", "*Read-only file system"},
        {"/usr", "touch /usr/x 2>&1", "*Read-only file system"},
        {"/etc", "touch /etc/x 2>&1; echo x >> /etc/passwd", "*Read-only file system"},
        {"/dev", "touch /dev/x 2>&1", "*Read-only file system"},
        {"/run", "rm -f /run/hand 2>&1", "*Read-only file system"},
        {"the hand's program", "echo x >> /run/hand || echo refused", "*refused"},
        {"/proc/sys", "echo x > /proc/sys/kernel/core_pattern", "*denied"},
        {"sysrq", "echo b > /proc/sysrq-trigger", "*sysrq-trigger"},
        {"what is ours can be",
         "cd; for d in /workspace /tmp /home/agent /mnt/session/outputs /dev/shm; "
         "do echo x > $d/f && rm $d/f && printf .; done; cd /workspace",
         "....."},
        {"a mode of another owner's file", "chmod 777 /usr/bin/env 2>&1", "*Read-only file system"},
    };
    check_rows(rows, COUNT_OF(rows));
}

static void no_privilege_can_be_gained(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    static const struct probe_row rows[] = {
        {"an ordinary user", "id -u; id -g; id -G", "1000\n1000\n1000"},
        {"no capabilities", "grep Cap /proc/self/status | awk '{print $2}' | sort -u",
         "0000000000000000"},
        {"no new privileges", "grep NoNewPrivs /proc/self/status | awk '{print $2}'", "1"},
        {"seccomp is on", "grep ^Seccomp: /proc/self/status | awk '{print $2}'", "2"},
        {"setuid programs do not work",
         "su -c id 2>&1 </dev/null; mount -t tmpfs x /tmp 2>&1; true", "*mount"},
        {"no file can be given away", "touch f; chown 0 f 2>/dev/null || echo refused; rm -f f",
         "refused"},
        {"no device nodes", "mknod d c 1 1 2>&1", "*not permitted"},
        {"no user namespace", "unshare -U true 2>&1", "*unshare failed"},
        {"no mount namespace", "unshare -m true 2>&1", "*unshare failed"},
        {"another user cannot be become",
         PY "import os\ntry: os.setuid(0)\nexcept OSError as e: "
            "print(\"refused\")'",
         "refused"},
        {"no chroot", "chroot /tmp true 2>&1", "*not permitted"},
        {"pid 1 cannot be signalled", "kill -9 1; kill -STOP 1; cat /proc/1/comm", "hand"},
        {"pid 1's memory cannot be read", "cat /proc/1/mem 2>&1", "*denied"},
        {"pid 1's descriptors cannot be seen", "ls /proc/1/fd 2>&1", "*denied"},
        {"pid 1's environment cannot be read", "cat /proc/1/environ 2>&1", "*denied"},
        {"pid 1 cannot be traced", CALL("101", ",16,1,0,0"),
         "-1 Operation not permitted"}, /* PTRACE_ATTACH */
        {"a child can be traced",
         PY "import ctypes,os,time; l=ctypes.CDLL(None,use_errno=True); p=os.fork()\n"
            "if p==0:\n while True: time.sleep(1)\n"
            "r=l.syscall(101,16,p,0,0); print(r); os.kill(p,9)'",
         "0"},
    };
    check_rows(rows, COUNT_OF(rows));
}

static void dangerous_system_calls_are_refused(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
#ifndef __x86_64__
    skip();
#endif
    static const struct probe_row rows[] = {
        {"mount", CALL("165", ",b\"x\",b\"/tmp\",b\"tmpfs\",0,0"), "-1 Operation not permitted"},
        {"umount2", CALL("166", ",b\"/tmp\",2"), "-1 Operation not permitted"},
        {"pivot_root", CALL("155", ",b\"/tmp\",b\"/tmp\""), "-1 Operation not permitted"},
        {"open_tree", CALL("428", ",-100,b\"/tmp\",1"), "-1 Operation not permitted"},
        {"fsopen", CALL("430", ",b\"tmpfs\",0"), "-1 Operation not permitted"},
        {"setns", CALL("308", ",0,0"), "-1 Operation not permitted"},
        {"unshare of users", CALL("272", ",0x10000000"), "-1 Operation not permitted"},
        {"unshare of time", CALL("272", ",0x80"), "-1 Operation not permitted"},
        {"unshare of files only", CALL("272", ",0x400"), "0 Success"},
        {"clone of users", CALL("56", ",0x10000000|17,0,0,0,0"), "-1 Operation not permitted"},
        {"clone3", CALL("435", ",0,0"), "-1 Function not implemented"},
        {"keyctl", CALL("250", ",0,-3,1"), "-1 Operation not permitted"},
        {"add_key", CALL("248", ",b\"user\",b\"a\",b\"b\",1,-3"), "-1 Operation not permitted"},
        {"bpf", CALL("321", ",0,0,0"), "-1 Operation not permitted"},
        {"perf_event_open", CALL("298", ",0,0,0,0,0"), "-1 Operation not permitted"},
        {"userfaultfd", CALL("323", ",1"), "-1 Operation not permitted"},
        {"io_uring_setup", CALL("425", ",8,0"), "-1 Function not implemented"},
        {"kexec_load", CALL("246", ",0,0,0,0"), "-1 Operation not permitted"},
        {"init_module", CALL("175", ",0,0,b\"\""), "-1 Operation not permitted"},
        {"open_by_handle_at", CALL("304", ",-100,0,0"), "-1 Operation not permitted"},
        {"reboot", CALL("169", ",0xfee1dead,672274793,0,0"), "-1 Operation not permitted"},
        {"swapon", CALL("167", ",b\"/tmp/x\",0"), "-1 Operation not permitted"},
        {"settimeofday", CALL("164", ",0,0"), "-1 Operation not permitted"},
        {"clock_settime", CALL("227", ",0,0"), "-1 Operation not permitted"},
        {"the kernel's log", CALL("103", ",3,0,0"), "-1 Operation not permitted"},
        {"TIOCSTI", CALL("16", ",0,0x5412,b\"x\""), "-1 Operation not permitted"},
        {"TIOCSTI in disguise", CALL("16", ",0,ctypes.c_ulong(0x100005412),b\"x\""),
         "-1 Operation not permitted"},
        {"32-bit system calls",
         "printf '.globl _start\\n_start: movl $20,%%eax\\nint $0x80\\n"
         "movl $60,%%eax\\nxorl %%edi,%%edi\\nsyscall\\n' > /tmp/a.s && "
         "gcc -nostdlib -static -o /tmp/a /tmp/a.s 2>/dev/null || "
         "{ echo 159; exit; }; /tmp/a; echo $?",
         "*159"},
    };
    check_rows(rows, COUNT_OF(rows));
}

static void landlock_bounds_files_a_second_time(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    if (!sandboxes_tier(shared.s)->landlock)
        skip();
    static const struct probe_row rows[] = {
        /* /proc is mounted writable; making things in it is not allowed by the rules either way */
        {"no directory outside of ours", "mkdir /dev/pts/x 2>&1", "*denied"},
        {"links across our directories work",
         "cd /workspace; mkdir -p a b; echo x > a/f; ln a/f b/f; "
         "mv a/f b/g; cat b/g; rm -r a b",
         "x"},
    };
    check_rows(rows, COUNT_OF(rows));
}

static void ordinary_work_works(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    static const struct probe_row rows[] = {
        {"a compiler",
         "echo 'int main(void){return 42;}' > /tmp/m.c; gcc -o /tmp/m /tmp/m.c && /tmp/m; "
         "echo $?",
         "42"},
        {"threads",
         PY "import threading; t=threading.Thread(target=print,args=(7,)); t.start(); t.join()'",
         "7"},
        {"git",
         "cd /tmp && rm -rf r && git init -q r && cd r && git -c user.name=a -c user.email=b "
         "commit "
         "-q --allow-empty -m m && git log --oneline | wc -l; cd /workspace",
         "1"},
        {"a pipe through a named pipe", "mkfifo /tmp/p; echo hi > /tmp/p & cat /tmp/p; rm /tmp/p",
         "hi"},
        {"the variables", "echo $HOME $USER $LANG $TERM", "/home/agent agent C.UTF-8 dumb"},
        {"names resolve without a network", "getent hosts localhost | awk '{print $NF}'; whoami",
         "*agent"},
        {"a server on loopback",
         PY "import socket,threading; s=socket.socket(); s.bind((\"127.0.0.1\",0)); s.listen(1)\n"
            "t=threading.Thread(target=lambda: s.accept()[0].send(b\"ok\")); t.start()\n"
            "c=socket.create_connection(s.getsockname()); print(c.recv(2).decode())'",
         "ok"},
        {"a terminal", "script -qc 'tty | grep -c /dev/pts' /dev/null | tr -d '\\r'", "1"},
    };
    check_rows(rows, COUNT_OF(rows));
}

static void two_sandboxes_do_not_see_each_other(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct answer a, b;
    bash(&shared, &a, "sesn_one",
         "echo mine > /tmp/f; echo mine > f; sleep 100 & ls /proc | grep -c '^[0-9]'");
    bash(&shared, &b, "sesn_two", "cat /tmp/f f 2>&1 | grep -c 'No such'; pgrep sleep | wc -l");
    assert_string_equal(b.text.data, "2\n0");
    answer_fini(&a);
    answer_fini(&b);
    if (!sandboxes_tier(shared.s)->ok || geteuid() != 0)
        return;
    struct session_paths p1, p2;
    struct host h = {.root = true};
    session_paths(&h, "sesn_one", &p1);
    session_paths(&h, "sesn_two", &p2);
    assert_int_not_equal(p1.uid, p2.uid);
}

/* ---- limits ---- */

static void a_fork_bomb_ends_with_its_reason_and_the_next_call_works(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a;
    fixture_open(&f, &(struct sandbox_limits){.pids = 64, .memory_mb = 512});
    int64_t began = clock_mono_us();
    bash(&f, &a, "sesn_bomb", "b() { b | b & }; b; sleep 20");
    assert_true(a.is_error);
    assert_non_null(a.reason);
    assert_string_equal(a.reason, "pids");
    assert_true(clock_mono_us() - began < 10 * 1000000);
    answer_fini(&a);
    bash(&f, &a, "sesn_bomb", "echo alive");
    assert_string_equal(a.text.data, "alive");
    answer_fini(&a);
    fixture_close(&f);
}

static void a_memory_hog_ends_with_its_reason_and_the_next_call_works(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a;
    fixture_open(&f, &(struct sandbox_limits){.memory_mb = 128});
    bash(&f, &a, "sesn_hog",
         "python3 -c 'x=[]\nwhile True: x.append(bytearray(1<<20))'; echo the shell lives on");
    if (!a.is_error) { /* the process was killed and the shell went on before it was noticed */
        answer_fini(&a);
        bash(&f, &a, "sesn_hog", "python3 -c 'x=[]\nwhile True: x.append(bytearray(1<<20))'");
    }
    assert_true(a.is_error);
    assert_non_null(a.reason);
    assert_string_equal(a.reason, "out_of_memory");
    assert_true(str_find(buf_view(&a.text), STR("128 MB")) >= 0);
    answer_fini(&a);
    bash(&f, &a, "sesn_hog", "echo alive");
    assert_string_equal(a.text.data, "alive");
    answer_fini(&a);
    fixture_close(&f);
}

static void a_file_can_only_grow_so_far(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a;
    fixture_open(&f, &(struct sandbox_limits){.file_mb = 8});
    bash(&f, &a, "sesn_file", "head -c 20000000 /dev/zero > big; stat -c %s big");
    assert_true(str_ends(buf_view(&a.text), STR("8388608")));
    answer_fini(&a);
    fixture_close(&f);
}

static void a_full_disk_ends_the_call_with_its_reason(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a;
    fixture_open(&f, &(struct sandbox_limits){.disk_mb = 32});
    bash(&f, &a, "sesn_disk",
         "for i in 1 2 3 4 5 6 7 8; do head -c 10000000 /dev/urandom > f$i; done; sleep 20");
    assert_true(a.is_error);
    assert_non_null(a.reason);
    assert_string_equal(a.reason, "disk");
    answer_fini(&a);
    bash(&f, &a, "sesn_disk", "rm f*; echo cleaned");
    assert_string_equal(a.text.data, "cleaned");
    answer_fini(&a);
    fixture_close(&f);
}

static void a_hand_that_hangs_is_ended(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    /* From inside nobody can stop pid 1; from outside the test does, and the time is the server's.
     */
    struct fixture f;
    struct answer a;
    fixture_open(&f, NULL);
    bash(&f, &a, "sesn_hang", "echo up");
    answer_fini(&a);
    turn(&f, 50);
    struct session_paths p;
    struct host h = {.root = geteuid() == 0};
    snprintf(h.dir, sizeof h.dir, "%s", f.data);
    session_paths(&h, "sesn_hang", &p);
    struct sandbox_record r;
    assert_true(record_read(p.meta, &r));
    assert_true(r.pid > 1);
    assert_int_equal(kill((pid_t)r.pid, SIGSTOP), 0);
    bash(&f, &a, "sesn_hang", "echo never");
    assert_true(a.is_error);
    assert_string_equal(a.reason, "sandbox_lost");
    answer_fini(&a);
    bash(&f, &a, "sesn_hang", "echo fresh");
    assert_string_equal(a.text.data, "fresh");
    answer_fini(&a);
    fixture_close(&f);
}

/* ---- servers come and go ---- */

static void session_file(const struct fixture *f, const char *session, const char *name,
                         char out[256])
{
    snprintf(out, 256, "%s/%s/workspace/%s", f->data, session, name);
}

static void a_call_finishes_without_a_server_and_the_next_one_gets_the_result(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a, b;
    char path[256];
    fixture_open(&f, NULL);
    call_start(&f, &a, "sesn_r", "sevt_slow", "bash",
               "{\"command\":\"echo x >> runs; touch begun; until [ -e go ]; do sleep 0.02; done; "
               "echo y >> runs; cat runs\"}",
               (struct call_flags){0});
    session_file(&f, "sesn_r", "begun", path);
    wait_for_file(&f, path);
    fixture_restart(&f); /* the first server never heard the end of it */
    session_file(&f, "sesn_r", "go", path);
    struct err err;
    assert_int_equal(fd_write_file_atomic(path, STR(""), 0644, &err), 0);
    call_start(&f, &b, "sesn_r", "sevt_slow", "bash", "{\"command\":\"echo z >> runs; cat runs\"}",
               (struct call_flags){.again = true, .existed = true});
    answer_wait(&b);
    assert_string_equal(b.text.data, "x\ny");
    assert_false(b.is_error);
    answer_fini(&a);
    answer_fini(&b);
    fixture_close(&f);
}

static void a_call_that_was_never_dispatched_runs_after_a_restart(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a;
    fixture_open(&f, NULL);
    call_start(&f, &a, "sesn_n", "sevt_1", "bash", "{\"command\":\"echo ran\"}",
               (struct call_flags){.again = true, .existed = false});
    answer_wait(&a);
    assert_string_equal(a.text.data, "ran");
    answer_fini(&a);
    /* The hand lives and is the session's first: it knows that it never had this one. */
    fixture_restart(&f);
    call_start(&f, &a, "sesn_n", "sevt_2", "bash", "{\"command\":\"echo ran too\"}",
               (struct call_flags){.again = true, .existed = true});
    answer_wait(&a);
    assert_string_equal(a.text.data, "ran too");
    answer_fini(&a);
    fixture_close(&f);
}

static void a_call_whose_hand_is_gone_has_an_unknown_outcome(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a;
    fixture_open(&f, NULL);
    call_start(&f, &a, "sesn_g", "sevt_1", "bash", "{\"command\":\"touch twice\"}",
               (struct call_flags){.again = true, .existed = true});
    answer_wait(&a);
    assert_true(a.is_error);
    assert_string_equal(a.reason, "sandbox_lost");
    assert_true(str_find(buf_view(&a.text), STR("outcome is unknown")) >= 0);
    answer_fini(&a);
    /* A later one in doubt must not be run by a hand that was not there then. */
    bash(&f, &a, "sesn_g", "ls");
    assert_string_equal(a.text.data, "");
    answer_fini(&a);
    call_start(&f, &a, "sesn_g", "sevt_2", "bash", "{\"command\":\"touch twice\"}",
               (struct call_flags){.again = true, .existed = true});
    answer_wait(&a);
    assert_string_equal(a.reason, "sandbox_lost");
    answer_fini(&a);
    fixture_close(&f);
}

static void kill_hand(struct fixture *f, const char *session)
{
    struct session_paths p;
    struct host h = {.root = geteuid() == 0};
    struct sandbox_record r;
    snprintf(h.dir, sizeof h.dir, "%s", f->data);
    session_paths(&h, session, &p);
    for (int i = 0; i < 200; i++) {
        assert_true(record_read(p.meta, &r));
        if (r.pid)
            break;
        turn(f, 10);
    }
    assert_true(r.pid > 1);
    assert_int_equal(kill((pid_t)r.pid, SIGKILL), 0);
}

static void a_hand_that_dies_is_reported_and_replaced_over_the_same_files(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a;
    char path[256];
    fixture_open(&f, NULL);
    call_start(&f, &a, "sesn_d", "sevt_1", "bash",
               "{\"command\":\"echo kept > kept; touch begun; sleep 60\"}", (struct call_flags){0});
    session_file(&f, "sesn_d", "begun", path);
    wait_for_file(&f, path);
    kill_hand(&f, "sesn_d");
    answer_wait(&a);
    assert_true(a.is_error);
    assert_string_equal(a.reason, "sandbox_lost");
    answer_fini(&a);
    bash(&f, &a, "sesn_d", "cat kept");
    assert_string_equal(a.text.data, "kept");
    answer_fini(&a);
    fixture_close(&f);
}

static void a_cancelled_call_answers_at_once(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a;
    char path[256];
    fixture_open(&f, NULL);
    call_start(&f, &a, "sesn_c", "sevt_1", "bash", "{\"command\":\"touch begun; sleep 600\"}",
               (struct call_flags){0});
    session_file(&f, "sesn_c", "begun", path);
    wait_for_file(&f, path);
    f.port.cancel(f.port.self, STR("sesn_c"), STR("sevt_1"));
    answer_wait(&a);
    assert_true(a.is_error);
    assert_string_equal(a.reason, "cancelled");
    answer_fini(&a);
    fixture_close(&f);
}

static void destroying_ends_everything_and_wipes(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    struct fixture f;
    struct answer a;
    char path[256];
    fixture_open(&f, NULL);
    bash(&f, &a, "sesn_w", "mkdir -p d/e; touch d/e/f; chmod 000 d/e; echo up");
    assert_string_equal(a.text.data, "up");
    answer_fini(&a);
    session_file(&f, "sesn_w", "", path);
    f.port.destroy(f.port.self, STR("sesn_w"), true);
    snprintf(path, sizeof path, "%s/sesn_w", f.data);
    for (int i = 0; access(path, F_OK) == 0; i++) {
        assert_true(i < 1000);
        turn(&f, 10);
    }
    fixture_close(&f);
}

static void parallel_calls_all_answer(void **state)
{
    (void)state;
    NEEDS_SANDBOX();
    enum { CALLS = 24 };
    struct answer a[CALLS];
    char id[32], input[128];
    for (int i = 0; i < CALLS; i++) {
        snprintf(id, sizeof id, "sevt_par_%d", i);
        snprintf(input, sizeof input, "{\"%s\":\"%s%d\",\"content\":\"%d\"}",
                 i % 2 ? "file_path" : "command", i % 2 ? "p" : "echo ", i, i);
        call_start(&shared, &a[i], "sesn_par", id, i % 2 ? "write" : "bash", input,
                   (struct call_flags){0});
    }
    for (int i = 0; i < CALLS; i++) {
        answer_wait(&a[i]);
        assert_false(a[i].is_error);
        answer_fini(&a[i]);
    }
}

static void without_a_hand_calls_fail_and_say_why(void **state)
{
    (void)state;
    struct fixture f;
    struct answer a;
    const char *hand = fixture_hand;
    fixture_hand = "/nonexistent/hand";
    fixture_open(&f, NULL);
    fixture_hand = hand;
    assert_false(sandboxes_tier(f.s)->ok);
    bash(&f, &a, "sesn_x", "touch /tmp/ostler-must-not-exist");
    assert_true(a.is_error);
    assert_string_equal(a.reason, "sandbox_unavailable");
    assert_true(access("/tmp/ostler-must-not-exist", F_OK) != 0);
    answer_fini(&a);
    fixture_close(&f);
}

int main(int argc, char **argv)
{
    fixture_hand = argc > 1 ? argv[1] : "hand";
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_of_the_host_is_seen),
        cmocka_unit_test(there_is_no_network),
        cmocka_unit_test(the_system_cannot_be_written),
        cmocka_unit_test(no_privilege_can_be_gained),
        cmocka_unit_test(dangerous_system_calls_are_refused),
        cmocka_unit_test(landlock_bounds_files_a_second_time),
        cmocka_unit_test(ordinary_work_works),
        cmocka_unit_test(two_sandboxes_do_not_see_each_other),
        cmocka_unit_test(parallel_calls_all_answer),
        cmocka_unit_test(a_fork_bomb_ends_with_its_reason_and_the_next_call_works),
        cmocka_unit_test(a_memory_hog_ends_with_its_reason_and_the_next_call_works),
        cmocka_unit_test(a_file_can_only_grow_so_far),
        cmocka_unit_test(a_full_disk_ends_the_call_with_its_reason),
        cmocka_unit_test(a_hand_that_hangs_is_ended),
        cmocka_unit_test(a_call_finishes_without_a_server_and_the_next_one_gets_the_result),
        cmocka_unit_test(a_call_that_was_never_dispatched_runs_after_a_restart),
        cmocka_unit_test(a_call_whose_hand_is_gone_has_an_unknown_outcome),
        cmocka_unit_test(a_hand_that_dies_is_reported_and_replaced_over_the_same_files),
        cmocka_unit_test(a_cancelled_call_answers_at_once),
        cmocka_unit_test(destroying_ends_everything_and_wipes),
        cmocka_unit_test(without_a_hand_calls_fail_and_say_why),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
