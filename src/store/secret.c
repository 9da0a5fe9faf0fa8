#include "store/secret.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/rand.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    KEY = crypto_secretbox_KEYBYTES,
    OVERHEAD = crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES
};

/* ---- the key ---- */

/* Written under another name first: whoever finds the key finds all of it. */
static int make_key(const char *dir, const char *path, struct err *err)
{
    unsigned char key[KEY];
    char tmp[PATH_MAX];
    if (snprintf(tmp, sizeof tmp, "%s.%016" PRIx64, path, rand_u64()) >= (int)sizeof tmp)
        return err_set(err, ERR_INVALID, "the path of the data directory is too long");
    AUTO_FD int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_sys(err, errno, "%s", tmp);
    randombytes_buf(key, sizeof key);
    int rc = fd_write_all(fd, str_n((const char *)key, sizeof key), err);
    sodium_memzero(key, sizeof key);
    if (rc == 0 && fsync(fd) < 0)
        rc = err_sys(err, errno, "%s", tmp);
    /* Not over a key that another process made meanwhile. */
    if (rc == 0 && link(tmp, path) < 0 && errno != EEXIST)
        rc = err_sys(err, errno, "%s", path);
    unlink(tmp);
    AUTO_FD int d = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (rc == 0 && (d < 0 || fsync(d) < 0))
        rc = err_sys(err, errno, "%s", dir);
    return rc;
}

static int load_key(const char *dir, bool make, unsigned char key[KEY], struct err *err)
{
    char path[PATH_MAX];
    if (sodium_init() < 0)
        return err_set(err, ERR_INTERNAL, "libsodium cannot be initialised");
    if (snprintf(path, sizeof path, "%s/secret-key", dir) >= (int)sizeof path - 32)
        return err_set(err, ERR_INVALID, "the path of the data directory is too long");
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT && make) {
        int rc = make_key(dir, path, err);
        if (rc)
            return rc;
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    }
    if (fd < 0)
        return err_sys(err, errno, "%s", path);
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size != KEY || (st.st_mode & 077))
        return err_set(err, ERR_CORRUPT, "%s must be a file of %d bytes with mode 0600", path, KEY);
    if (read(fd, key, KEY) != KEY)
        return err_sys(err, errno, "%s", path);
    return 0;
}

/* ---- sealing: a nonce, then the box of the owner's id, a NUL and the secret ---- */

int secret_seal(const char *data_dir, struct str owner, struct str secret, struct arena *a,
                struct str *out, struct err *err)
{
    unsigned char key[KEY];
    size_t plain_len = owner.len + 1 + secret.len;
    if (secret.len > SECRET_MAX)
        return err_set(err, ERR_TOO_LARGE, "a secret is longer than %d bytes", SECRET_MAX);
    unsigned char *plain = (unsigned char *)arena_bytes(a, plain_len);
    unsigned char *box = (unsigned char *)arena_bytes(a, plain_len + OVERHEAD);
    if (!plain || !box)
        return err_set(err, ERR_LIMIT, "the request is too large");
    int rc = load_key(data_dir, true, key, err);
    if (rc)
        return rc;
    memcpy(plain, owner.ptr, owner.len);
    plain[owner.len] = '\0';
    if (secret.len)
        memcpy(plain + owner.len + 1, secret.ptr, secret.len);
    randombytes_buf(box, crypto_secretbox_NONCEBYTES);
    crypto_secretbox_easy(box + crypto_secretbox_NONCEBYTES, plain, plain_len, box, key);
    sodium_memzero(key, sizeof key);
    sodium_memzero(plain, plain_len);
    *out = str_n((const char *)box, plain_len + OVERHEAD);
    return 0;
}

int secret_open(const char *data_dir, struct str owner, struct str sealed, struct arena *a,
                struct str *out, struct err *err)
{
    unsigned char key[KEY];
    if (sealed.len < OVERHEAD + owner.len + 1 || sealed.len > SECRET_MAX + OVERHEAD + 256)
        return err_set(err, ERR_CORRUPT, "a sealed secret is damaged");
    size_t len = sealed.len - OVERHEAD;
    const unsigned char *box = (const unsigned char *)sealed.ptr;
    unsigned char *plain = (unsigned char *)arena_bytes(a, len);
    if (!plain)
        return err_set(err, ERR_LIMIT, "a sealed secret is too large");
    int rc = load_key(data_dir, false, key, err);
    if (rc)
        return rc;
    bool ok = crypto_secretbox_open_easy(plain, box + crypto_secretbox_NONCEBYTES,
                                         sealed.len - crypto_secretbox_NONCEBYTES, box, key) == 0;
    sodium_memzero(key, sizeof key);
    if (!ok || memcmp(plain, owner.ptr, owner.len) != 0 || plain[owner.len] != '\0')
        return err_set(err, ERR_CORRUPT,
                       "a sealed secret cannot be opened: it was sealed with another secret-key");
    *out = str_n((const char *)plain + owner.len + 1, len - owner.len - 1);
    return 0;
}
