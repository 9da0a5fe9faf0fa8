/* The repository of the demo: a clone of the one around the working directory if the scripted model
 * knows it, else of the one ostler was built from. */
#include "cli/demo.h"

#include "base/fd.h"
#include "cli/proc.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The demo may run as root on a checkout that belongs to somebody else, which git refuses to read
 * unless told that it is fine. Reading is all that is done there. */
static int trust_git(const char *config_path, struct err *err)
{
    int rc = fd_write_file_atomic(config_path, STR("[safe]\n\tdirectory = *\n"), 0600, err);
    if (rc == 0 && setenv("GIT_CONFIG_GLOBAL", config_path, 1) < 0)
        rc = err_set(err, ERR_INTERNAL, "cannot set the environment");
    return rc;
}

static bool is_known(const char *dir)
{
    char path[4200];
    const char *args[] = {"rev-parse", "--verify", "--quiet", "HEAD:src/base/str.c", NULL};
    struct err err;
    snprintf(path, sizeof path, "%s/.git", dir);
    return access(path, F_OK) == 0 && git_run(dir, args, NULL, &err) == 0;
}

static bool around_cwd(char out[4096])
{
    AUTO_BUF struct buf text = BUF_INIT(8192);
    const char *args[] = {"rev-parse", "--show-toplevel", NULL};
    struct err err;
    if (git_run(".", args, &text, &err))
        return false;
    return str_copyz(out, 4096, str_trim(buf_view(&text))) && is_known(out);
}

/* A source tree without history (an archive) becomes a repository of one commit. */
static int copy_plain(const char *from, const char *to, struct err *err)
{
    const char *copy[] = {"cp", "-R", from, to, NULL};
    struct proc p = {.argv = copy};
    int rc = proc_run(&p, err);
    if (rc)
        return rc < 0 ? rc : err_set(err, ERR_IO, "cannot copy %s", from);
    const char *init[] = {"init", "--quiet", NULL};
    const char *add[] = {"add", "--all", "src", NULL};
    const char *commit[] = {
        "-c",     "user.name=ostler", "-c",        "user.email=ostler@localhost",
        "commit", "--quiet",          "--message", "The sources as they are",
        NULL};
    rc = git_run(to, init, NULL, err);
    rc = rc ? rc : git_run(to, add, NULL, err);
    return rc ? rc : git_run(to, commit, NULL, err);
}

int demo_clone(const char *to, char from[4096], struct err *err)
{
    char config[4200];
    snprintf(config, sizeof config, "%s.gitconfig", to);
    int rc = trust_git(config, err);
    if (rc)
        return rc;
    if (!around_cwd(from)) {
        snprintf(from, 4096, "%s", OSTLER_SOURCE_DIR);
        char known[4200];
        snprintf(known, sizeof known, "%s/src/base/str.c", from);
        if (access(known, R_OK) < 0)
            return err_set(err, ERR_NOT_FOUND,
                           "the demo works on ostler's own sources, which are not here: run it in "
                           "a checkout of them");
        if (!is_known(from))
            return copy_plain(from, to, err);
    }
    /* Not hard-linked: nothing in the copy may share a byte with the original. */
    const char *args[] = {"clone", "--quiet", "--no-hardlinks", "--", from, to, NULL};
    return git_run(".", args, NULL, err);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)at;
    if (kind == FTW_DP || kind == FTW_D)
        return rmdir(path) && 0;
    return unlink(path) && 0; /* goes on: what cannot be removed is left */
}

void demo_remove_tree(const char *dir)
{
    if (nftw(dir, remove_one, 32, FTW_DEPTH | FTW_PHYS) < 0)
        return;
}
