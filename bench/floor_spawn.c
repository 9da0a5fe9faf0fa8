/* floor_spawn: what starting a program costs: posix_spawn, exec, wait.
 *
 *   floor_spawn N COMMAND [ARGUMENT...]
 */
#include "samples.h"

#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

static void once(char **argv, struct samples *s)
{
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status = 0;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    int64_t from = now_ns();
    int rc = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
    if (rc)
        die("%s: %s", argv[0], strerror(rc));
    if (waitpid(pid, &status, 0) != pid || status != 0)
        die("%s failed", argv[0]);
    samples_add(s, now_ns() - from);
    posix_spawn_file_actions_destroy(&actions);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        die("usage: floor_spawn N COMMAND [ARGUMENT...]");
    struct samples s = {0};
    for (int64_t n = number(argv[1], 1, 100000); n > 0; n--)
        once(argv + 2, &s);
    printf("{");
    samples_print(stdout, "spawn", &s);
    printf("}\n");
    samples_fini(&s);
    return 0;
}
