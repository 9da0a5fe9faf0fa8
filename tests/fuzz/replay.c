/* replay: feeds every file of the directories given to a fuzz target, so that a corpus is an
 * ordinary test with any compiler. */
#include "base/buf.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *dir, const char *name)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return 1;
    FILE *f = fopen(path, "rbe");
    if (!f) {
        perror(path);
        return 1;
    }
    AUTO_BUF struct buf b = BUF_INIT(16 << 20);
    char *to;
    size_t n = 0;
    while ((to = buf_reserve(&b, 65536)) && (n = fread(to, 1, 65536, f)) > 0)
        buf_commit(&b, n);
    int rc = ferror(f) || !buf_ok(&b);
    fclose(f);
    if (rc) {
        fprintf(stderr, "%s: cannot be read\n", path);
        return 1;
    }
    /* An exact copy, so that a sanitizer sees a read past the end. */
    uint8_t *data = mem_alloc(b.len);
    if (b.len)
        memcpy(data, b.data, b.len);
    LLVMFuzzerTestOneInput(data, b.len);
    mem_free(data);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        if (!d) {
            perror(argv[i]);
            return 1;
        }
        for (struct dirent *e; (e = readdir(d));) {
            if (e->d_name[0] == '.')
                continue;
            if (replay_file(argv[i], e->d_name))
                return 1;
            files++;
        }
        closedir(d);
    }
    printf("%u files replayed\n", files);
    return files ? 0 : 1;
}
