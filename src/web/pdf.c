/* PDF to text by pdftotext, in a sandbox of its own: no network, no files but programs and
 * libraries, bounded memory and time. It reads and writes descriptors that it is born with. Without
 * bubblewrap no PDF is read: their readers have too many mistakes to run beside the server's keys.
 */
#include "base/fd.h"
#include "base/limits.h"
#include "web/charset.h"
#include "web/impl.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUTPUT_MAX = 4 * 1024 * 1024 };

struct pdf_job {
    struct web_run *run;
    struct loop_child child;
    int in, out;
    bool over;
};

static void on_child_closed(struct loop_child *c)
{
    struct pdf_job *j = CONTAINER_OF(c, struct pdf_job, child);
    struct web_run *r = j->run;
    fd_close(j->in);
    fd_close(j->out);
    mem_free(j);
    web_run_release(r);
}

static void read_all(int fd, struct buf *out)
{
    enum { PIECE = 65536 };
    while (out->len < OUTPUT_MAX) {
        char *to = buf_reserve(out, PIECE);
        ssize_t n = to ? pread(fd, to, PIECE, (off_t)out->len) : 0;
        if (n <= 0)
            break;
        buf_commit(out, (size_t)n);
    }
}

static void read_text(struct web_run *r, int fd)
{
    struct buf raw = BUF_INIT(2 * OUTPUT_MAX), text = BUF_INIT(8 * OUTPUT_MAX);
    read_all(fd, &raw);
    charset_to_utf8(buf_view(&raw), STR("utf-8"), false, &text);
    if (str_trim(buf_view(&text)).len)
        page_answer(r, "", buf_view(&text), raw.len >= OUTPUT_MAX, false);
    else
        web_fail(r, "%.*s is a PDF without text: its pages are images.", 400, r->link.url);
    buf_fini(&raw);
    buf_fini(&text);
}

static void on_exited(struct loop_child *c, int status)
{
    struct pdf_job *j = CONTAINER_OF(c, struct pdf_job, child);
    struct web_run *r = j->run;
    r->pdf = NULL;
    if (!r->over && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        read_text(r, j->out);
    else
        web_fail(
            r,
            "%.*s is a PDF that cannot be read: pdftotext failed on it, or it cannot be run in "
            "isolation on this server.",
            400, r->link.url);
    loop_child_close(c, on_child_closed);
}

void pdf_cancel(struct web_run *r)
{
    if (r->pdf)
        (void)loop_child_kill(&r->pdf->child, SIGKILL);
}

static int spawn(struct pdf_job *j, const char *program, struct err *err)
{
    const char *const argv[] = {"bwrap",
                                "--unshare-all",
                                "--uid",
                                "65534",
                                "--gid",
                                "65534",
                                "--die-with-parent",
                                "--new-session",
                                "--cap-drop",
                                "ALL",
                                "--clearenv",
                                "--setenv",
                                "PATH",
                                "/usr/bin",
                                "--ro-bind",
                                "/usr",
                                "/usr",
                                "--symlink",
                                "usr/bin",
                                "/bin",
                                "--symlink",
                                "usr/lib",
                                "/lib",
                                "--symlink",
                                "usr/lib64",
                                "/lib64",
                                "--ro-bind",
                                program,
                                "/pdftotext",
                                "--dev",
                                "/dev",
                                "--tmpfs",
                                "/tmp",
                                "--chdir",
                                "/tmp",
                                "--",
                                "/usr/bin/prlimit",
                                "--as=1073741824",
                                "--cpu=20",
                                "--fsize=4194304",
                                "--core=0",
                                "--nofile=64",
                                "--",
                                "/pdftotext",
                                "-q",
                                "-enc",
                                "UTF-8",
                                "-nopgbrk",
                                "-",
                                "-",
                                NULL};
    const int fds[] = {j->in, j->out, -1};
    const struct loop_spawn how = {
        .file = "bwrap", .argv = argv, .fds = fds, .nfds = COUNT_OF(fds), .new_session = true};
    return loop_spawn(j->run->web->loop, &j->child, &how, on_exited, err);
}

static bool open_files(struct pdf_job *j)
{
    struct err err;
    j->in = memfd_create("pdf", MFD_CLOEXEC);
    j->out = memfd_create("text", MFD_CLOEXEC);
    return j->in >= 0 && j->out >= 0 && fd_write_all(j->in, buf_view(&j->run->body), &err) == 0 &&
           lseek(j->in, 0, SEEK_SET) == 0;
}

void pdf_begin(struct web_run *r)
{
    const char *program = r->web->pdftotext ? r->web->pdftotext : "/usr/bin/pdftotext";
    struct err err = {0};
    if (access(program, X_OK) < 0) {
        web_fail(r,
                 "%.*s is a PDF, and this server cannot read PDF: pdftotext is not installed "
                 "(Debian: poppler-utils).",
                 400, r->link.url);
        return;
    }
    struct pdf_job *j = mem_zalloc(sizeof *j);
    j->run = r;
    j->in = j->out = -1;
    if (open_files(j) && spawn(j, program, &err) == 0) {
        r->pdf = j;
        r->pending++;
        return;
    }
    web_fail(r, "%.*s is a PDF, and pdftotext cannot be started in isolation: %s.", 400,
             r->link.url, err.code ? err.msg : "no memory");
    fd_close(j->in);
    fd_close(j->out);
    mem_free(j);
}
