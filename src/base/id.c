#include "base/id.h"

#include "base/clock.h"
#include "base/rand.h"

#include <pthread.h>
#include <stdio.h>

static const char alphabet[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
enum { DIGITS = 22 };

struct id id_make(const char *prefix, int64_t unix_ms, const unsigned char entropy[10])
{
    unsigned __int128 v = (unsigned __int128)(uint64_t)unix_ms << 80;
    for (int i = 0; i < 10; i++)
        v |= (unsigned __int128)entropy[i] << (8 * (9 - i));
    char text[DIGITS + 1];
    for (int i = DIGITS - 1; i >= 0; i--) {
        text[i] = alphabet[(unsigned)(v % 58)];
        v /= 58;
    }
    text[DIGITS] = '\0';
    struct id id;
    snprintf(id.z, sizeof id.z, "%s_01%s", prefix, text);
    return id;
}

static void count_up(unsigned char e[10])
{
    for (int i = 9; i >= 0 && ++e[i] == 0; i--)
        ;
}

struct id id_new(const char *prefix)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int64_t last_ms;
    static unsigned char e[10];
    pthread_mutex_lock(&lock);
    int64_t ms = clock_unix_us() / 1000;
    if (ms > last_ms) {
        last_ms = ms;
        rand_fill(e, sizeof e);
        e[0] &= 0x7f; /* room to count up */
    } else {
        count_up(e);
    }
    struct id id = id_make(prefix, last_ms, e);
    pthread_mutex_unlock(&lock);
    return id;
}

bool id_valid(struct str s, const char *prefix)
{
    struct str p = str_z(prefix);
    if (!str_starts(s, p) || s.len < p.len + 2 || s.len > p.len + 33 || s.ptr[p.len] != '_' ||
        s.len >= ID_MAX)
        return false;
    for (size_t i = p.len + 1; i < s.len; i++) {
        char c = s.ptr[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              c == '_' || c == '-'))
            return false;
    }
    return true;
}

struct id id_from(struct str s)
{
    struct id id = {""};
    str_copyz(id.z, sizeof id.z, s);
    return id;
}
