/* From a layout's index to its layers: descriptors, digests, the cache. */
#include "sandbox/oci_image.h"

#include "base/clock.h"
#include "base/fd.h"
#include "json/json.h"
#include "sandbox/oci_layer.h"
#include "sandbox/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIGEST_HEX = 64, DOCUMENT_MAX = 4 << 20, NESTED_MAX = 4, LAYERS_MAX = 256 };

struct layout {
    const char *path;
    struct arena arena;
    struct err *err;
};

/* ---- blobs ---- */

/* sha256:HEX, nothing else. */
static bool digest_hex(struct str digest, char out[DIGEST_HEX + 1])
{
    struct str lead = STR("sha256:");
    if (!str_starts(digest, lead) || digest.len != lead.len + DIGEST_HEX)
        return false;
    for (size_t i = 0; i < DIGEST_HEX; i++) {
        char c = digest.ptr[lead.len + i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        out[i] = c;
    }
    out[DIGEST_HEX] = '\0';
    return true;
}

/* Opens what a descriptor names; its size is the one that is said. */
static int open_blob(struct layout *l, const struct json *descriptor, char hex[DIGEST_HEX + 1],
                     int *ret_fd)
{
    char path[PATH_MAX];
    int64_t size;
    struct stat st;
    if (!digest_hex(json_get_str(descriptor, "digest"), hex) ||
        !json_i64(json_get(descriptor, "size"), &size) || size < 0)
        return err_set(l->err, ERR_INVALID,
                       "the layout has a descriptor without a sha256 digest and a size");
    snprintf(path, sizeof path, "%s/blobs/sha256/%s", l->path, hex);
    AUTO_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(l->err, ERR_INVALID, "the layout has no blob sha256:%s", hex);
    if (!S_ISREG(st.st_mode) || st.st_size != size)
        return err_set(l->err, ERR_INVALID, "the blob sha256:%s has not the size of %" PRId64, hex,
                       size);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int parse(struct layout *l, struct str text, const struct json **out)
{
    struct str kept = arena_str(&l->arena, text);
    if (kept.len && json_parse(&l->arena, kept, JSON_ALLOW_DUPLICATES, out, NULL) == 0 &&
        (*out)->type == JSON_OBJECT)
        return 0;
    return err_set(l->err, ERR_INVALID, "the layout has a document that is no JSON object");
}

static int read_document(struct layout *l, const struct json *descriptor, char hex[DIGEST_HEX + 1],
                         const struct json **out)
{
    AUTO_BUF struct buf text = BUF_INIT(DOCUMENT_MAX);
    unsigned char sum[crypto_hash_sha256_BYTES];
    char is[DIGEST_HEX + 1];
    int opened = -1;
    int rc = open_blob(l, descriptor, hex, &opened);
    AUTO_FD int fd = opened;
    rc = rc ? rc : fd_read_all(fd, &text, l->err);
    if (rc)
        return rc;
    crypto_hash_sha256(sum, (const unsigned char *)text.data, text.len);
    sodium_bin2hex(is, sizeof is, sum, sizeof sum);
    if (!str_eqz(str_z(is), hex))
        return err_set(l->err, ERR_INVALID, "the blob sha256:%s has another digest: sha256:%s", hex,
                       is);
    return parse(l, buf_view(&text), out);
}

static int read_file(struct layout *l, const char *name, const struct json **out)
{
    char path[PATH_MAX];
    AUTO_BUF struct buf text = BUF_INIT(DOCUMENT_MAX);
    snprintf(path, sizeof path, "%s/%s", l->path, name);
    if (fd_read_file(path, &text, NULL) != 0)
        return err_set(l->err, ERR_INVALID, "the image is no OCI layout: %s cannot be read", path);
    return parse(l, buf_view(&text), out);
}

/* ---- the manifest for this machine ---- */

static bool fits(const struct json *descriptor)
{
    static const char *const machine =
#if defined __x86_64__
        "amd64";
#elif defined __aarch64__
        "arm64";
#else
        "";
#endif
    const struct json *platform = json_get(descriptor, "platform");
    return !platform || (str_eqz(json_get_str(platform, "architecture"), machine) &&
                         str_eqz(json_get_str(platform, "os"), "linux"));
}

static bool is_index(const struct json *descriptor)
{
    struct str type = json_get_str(descriptor, "mediaType");
    return str_ends(type, STR(".image.index.v1+json")) ||
           str_ends(type, STR(".manifest.list.v2+json"));
}

static bool is_manifest(const struct json *descriptor)
{
    struct str type = json_get_str(descriptor, "mediaType");
    return str_ends(type, STR(".image.manifest.v1+json")) ||
           str_ends(type, STR(".distribution.manifest.v2+json"));
}

static int find_manifest(struct layout *l, char hex[DIGEST_HEX + 1], const struct json **out)
{
    const struct json *index;
    int rc = read_file(l, "oci-layout", &index);
    if (rc == 0 && !str_starts(json_get_str(index, "imageLayoutVersion"), STR("1.")))
        return err_set(l->err, ERR_INVALID, "the OCI layout has an unknown version; 1.0.0 is read");
    rc = rc ? rc : read_file(l, "index.json", &index);
    for (int depth = 0; rc == 0 && depth < NESTED_MAX; depth++) {
        const struct json *found = NULL;
        size_t n = 0;
        json_for_each (d, json_get(index, "manifests")) {
            if (!fits(d) || (!is_index(d) && !is_manifest(d)))
                continue;
            found = d;
            n++;
        }
        if (n != 1)
            return err_set(l->err, ERR_INVALID,
                           "the OCI layout has %zu images for this machine; one is needed", n);
        rc = read_document(l, found, hex, &index);
        if (rc == 0 && is_manifest(found)) {
            *out = index;
            return 0;
        }
    }
    return rc ? rc : err_set(l->err, ERR_INVALID, "the OCI layout's indexes are nested too deeply");
}

/* ---- unpacking ---- */

static int unpack_layers(struct layout *l, const struct json *manifest, const char *root)
{
    const struct json *layers = json_get(manifest, "layers");
    if (!json_is(layers, JSON_ARRAY) || !layers->count || layers->count > LAYERS_MAX)
        return err_set(l->err, ERR_INVALID, "the image has no layers, or more than %d", LAYERS_MAX);
    struct oci_unpacked sum = {.bytes = 0};
    json_for_each (d, layers) {
        char hex[DIGEST_HEX + 1];
        int opened = -1;
        int rc = open_blob(l, d, hex, &opened);
        AUTO_FD int fd = opened;
        rc = rc ? rc : oci_layer_unpack(fd, hex, root, &sum, l->err);
        if (rc)
            return rc;
    }
    return oci_layer_check(root, l->err);
}

static int write_config(struct layout *l, const struct json *manifest, const char *dir)
{
    char hex[DIGEST_HEX + 1], path[PATH_MAX];
    const struct json *config;
    int rc = read_document(l, json_get(manifest, "config"), hex, &config);
    snprintf(path, sizeof path, "%s/config.json", dir);
    return rc ? rc : fd_write_file_atomic(path, config->raw, 0600, l->err);
}

static int unpack(struct layout *l, const char *cache, char out[PATH_MAX])
{
    const struct json *manifest = NULL;
    char hex[DIGEST_HEX + 1], dir[PATH_MAX - 16], fresh[PATH_MAX - 16], path[PATH_MAX];
    int rc = find_manifest(l, hex, &manifest);
    if (rc)
        return rc;
    snprintf(dir, sizeof dir, "%s/%s", cache, hex);
    snprintf(fresh, sizeof fresh, "%s/.new-%s", cache, hex);
    snprintf(path, sizeof path, "%s/root", fresh);
    if (snprintf(out, PATH_MAX, "%s/root", dir) >= PATH_MAX)
        return err_set(l->err, ERR_INVALID, "the image's path is too long");
    if (access(out, F_OK) == 0) {
        (void)utimensat(AT_FDCWD, dir, NULL, 0);
        return 0;
    }
    rc = fd_mkdirs(cache, 0700, l->err);
    rc = rc ? rc : tree_remove(fresh, l->err);
    rc = rc ? rc : fd_mkdirs(path, 0755, l->err);
    if (rc == 0 && chmod(path, 0755) < 0)
        rc = err_sys(l->err, errno, "%s", path);
    rc = rc ? rc : write_config(l, manifest, fresh);
    rc = rc ? rc : unpack_layers(l, manifest, path);
    AUTO_FD int whole = open(cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (rc == 0 && (whole < 0 || syncfs(whole) < 0 || rename(fresh, dir) < 0))
        rc = err_sys(l->err, errno, "%s", dir);
    if (rc)
        (void)tree_remove(fresh, NULL);
    return rc;
}

int oci_image_unpack(const char *layout, const char *cache, char out[PATH_MAX], struct err *err)
{
    struct layout l = {.path = layout, .err = err};
    arena_init(&l.arena, (size_t)64 << 20);
    int rc = unpack(&l, cache, out);
    arena_fini(&l.arena);
    return rc;
}

/* ---- what it says of itself ---- */

void oci_image_variables(struct arena *a, const char *root,
                         const char *out[OCI_IMAGE_VARIABLES + 1])
{
    char real[PATH_MAX], path[PATH_MAX];
    AUTO_BUF struct buf text = BUF_INIT(DOCUMENT_MAX);
    const struct json *doc;
    size_t n = 0;
    out[0] = NULL;
    char *slash = root && realpath(root, real) ? strrchr(real, '/') : NULL;
    if (!slash || !str_eqz(str_z(slash), "/root"))
        return;
    *slash = '\0';
    if (snprintf(path, sizeof path, "%s/config.json", real) >= (int)sizeof path ||
        fd_read_file(path, &text, NULL) != 0)
        return;
    struct str kept = arena_str(a, buf_view(&text));
    if (!kept.len || json_parse(a, kept, JSON_ALLOW_DUPLICATES, &doc, NULL) != 0)
        return;
    json_for_each (it, json_get(json_get(doc, "config"), "Env")) {
        if (n == OCI_IMAGE_VARIABLES)
            break;
        if (it->type != JSON_STRING || str_find_ch(it->str, '\0') >= 0 ||
            str_find_ch(it->str, '=') < 1)
            continue;
        const char *z = arena_strz(a, it->str);
        if (z)
            out[n++] = z;
    }
    out[n] = NULL;
}

/* ---- the cache ---- */

static bool is_named(const char *image, const char *layers)
{
    DIR *d = opendir(layers);
    struct dirent *e;
    bool named = !d;
    while (d && !named && (e = readdir(d))) {
        char path[PATH_MAX], target[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s/image", layers, e->d_name);
        ssize_t n = readlink(path, target, sizeof target - 1);
        named = n > 0 && str_find(str_n(target, (size_t)n), str_z(image)) >= 0;
    }
    if (d)
        closedir(d);
    return named;
}

void oci_image_sweep(const char *cache, const char *layers, int64_t older_than_s)
{
    DIR *d = opendir(cache);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        char path[PATH_MAX], away[PATH_MAX];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", cache, e->d_name);
        snprintf(away, sizeof away, "%s/.gone-%s", cache, e->d_name);
        if (str_starts(str_z(e->d_name), STR(".gone-")))
            (void)tree_remove(path, NULL);
        if (strlen(e->d_name) != DIGEST_HEX || stat(path, &st) < 0 ||
            st.st_mtime + older_than_s >= clock_unix_us() / 1000000 ||
            is_named(e->d_name, layers) || rename(path, away) < 0)
            continue;
        (void)tree_remove(away, NULL);
    }
    if (d)
        closedir(d);
}
