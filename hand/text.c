#include "hand/text.h"

#include "base/fd.h"
#include "base/limits.h"
#include "json/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPLACEMENT "\xEF\xBF\xBD"
#define SPILL_MAX ((uint64_t)64 << 20)

enum { ESC = 0x1b, BEL = 0x07, OSC_MAX = 4096 };

/* Length of the CSI sequence at s (which begins with ESC '['), or 0 when it is not one. */
static size_t csi_len(struct str s)
{
    size_t i = 2;
    while (i < s.len && s.ptr[i] >= 0x30 && s.ptr[i] <= 0x3f)
        i++;
    while (i < s.len && s.ptr[i] >= 0x20 && s.ptr[i] <= 0x2f)
        i++;
    return i < s.len && s.ptr[i] >= 0x40 && s.ptr[i] <= 0x7e ? i + 1 : 0;
}

/* Operating system commands (titles, links) end with BEL or ESC '\'. */
static size_t osc_len(struct str s)
{
    for (size_t i = 2; i < s.len && i < OSC_MAX; i++) {
        if (s.ptr[i] == BEL)
            return i + 1;
        if (s.ptr[i] == ESC && i + 1 < s.len && s.ptr[i + 1] == '\\')
            return i + 2;
    }
    return 0;
}

static size_t escape_len(struct str s)
{
    if (s.len < 2 || s.ptr[0] != ESC)
        return 0;
    switch (s.ptr[1]) {
    case '[': return csi_len(s);
    case ']': return osc_len(s);
    case '(':
    case ')': return s.len >= 3 ? 3 : 0; /* choice of a character set */
    case '=':
    case '>':
    case '7':
    case '8': return 2;
    default: return 0;
    }
}

static bool plain(unsigned char c, bool strip)
{
    return c != 0 && c < 0x80 && !(strip && c == ESC);
}

void text_clean(struct buf *out, struct str in, bool strip)
{
    while (in.len) {
        size_t n = 0;
        while (n < in.len && plain((unsigned char)in.ptr[n], strip))
            n++;
        buf_put(out, in.ptr, n);
        in = str_skip(in, n);
        if (!in.len)
            return;
        size_t skip = strip ? escape_len(in) : 0;
        if (skip == 0) {
            bool ok;
            skip = utf8_step((const unsigned char *)in.ptr, in.len, &ok);
            if (ok && in.ptr[0] != '\0')
                buf_put(out, in.ptr, skip);
            else
                buf_z(out, REPLACEMENT);
        }
        in = str_skip(in, skip);
    }
}

struct str text_tail(struct str s, size_t max)
{
    if (s.len <= max)
        return s;
    s = str_skip(s, s.len - max);
    while (s.len && ((unsigned char)s.ptr[0] & 0xC0) == 0x80)
        s = str_skip(s, 1);
    return s;
}

struct str text_trim_newlines(struct str s)
{
    while (s.len && s.ptr[s.len - 1] == '\n')
        s.len--;
    return s;
}

void spill_init(struct spill *s, const char *dir, const char *id)
{
    *s = (struct spill){.fd = -1};
    if (snprintf(s->path, sizeof s->path, "%s/%s.txt", dir, id) >= (int)sizeof s->path)
        s->failed = true;
}

/* What runs here may have planted anything at the path: nothing is followed, overwritten or waited
 * for. */
static int open_new(const char *path)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = open(path, flags, 0644);
    if (fd >= 0 || errno != ENOENT)
        return fd;
    char dir[512];
    const char *slash = strrchr(path, '/');
    if (!slash || !str_copyz(dir, sizeof dir, str_n(path, (size_t)(slash - path))))
        return -1;
    if (mkdir(dir, 0755) < 0 && errno != EEXIST)
        return -1;
    return open(path, flags, 0644);
}

void spill_put(struct spill *s, struct str data)
{
    if (s->failed || data.len == 0)
        return;
    if (s->fd < 0)
        s->fd = open_new(s->path);
    struct err err;
    if (s->fd < 0 || s->len + data.len > SPILL_MAX || fd_write_all(s->fd, data, &err) != 0) {
        s->failed = true;
        return;
    }
    s->len += data.len;
}

void spill_close(struct spill *s)
{
    fd_close(TAKE_FD(s->fd));
}

void text_preview(struct buf *text, const char *dir, const char *id)
{
    struct str whole = buf_view(text);
    size_t chars = whole.len > LIMIT_SPILL_CHARS ? str_utf8_len(whole) : 0;
    if (chars <= LIMIT_SPILL_CHARS)
        return;
    struct spill file;
    spill_init(&file, dir, id);
    spill_put(&file, whole);
    spill_close(&file);
    struct str head = str_utf8_take(whole, TEXT_PREVIEW);
    text->len = head.len;
    text->data[text->len] = '\0';
    buf_printf(text, "\n[output truncated: this is the beginning of %zu characters; ", chars);
    if (file.failed)
        buf_z(text, "the rest could not be kept]");
    else
        buf_printf(text, "the complete output is in %s]", file.path);
}
