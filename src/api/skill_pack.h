/* skill_pack: what a client uploads as a skill, checked and put into one form: a tar of plain
 * files.
 *
 * Blocking and greedy for a processor: worker threads only. Pure but for the descriptors of
 * skill_pack_zip(). Nothing is ever unpacked to a file system here: an archive is read into memory,
 * up to LIMIT_SKILL bytes and LIMIT_SKILL_FILES files, and refused as a whole for anything in it
 * that is no plain file or folder below one top folder.
 */
#ifndef OSTLER_API_SKILL_PACK_H
#define OSTLER_API_SKILL_PACK_H

#include "base/buf.h"
#include "store/skill_md.h"

/* A file as it came: of a form, or of an archive. */
struct skill_file {
    struct str path;  /* as it was sent */
    struct str bytes; /* of a folder: nothing */
    bool executable, folder;
};

struct skill_pack {
    struct str directory; /* the top folder, which has the skill's name */
    struct skill_md md;
    struct skill_file *entries; /* files and folders, folders first, sorted by path */
    size_t n;
    struct buf unpacked; /* what an archive held */
};

/* One file that lies in no folder is taken for an archive (zip, tar, tar.gz), several for the
 * skill's files. Views of `out` borrow the files, the arena and out->unpacked. INVALID, TOO_LARGE
 * at "files". */
int skill_pack_read(struct arena *a, const struct skill_file *files, size_t n,
                    struct skill_pack *out, struct err *err) MUST_USE;
void skill_pack_fini(struct skill_pack *p); /* also after a failure; zeroed is fine */

/* The same files give the same bytes: no times, no owners, modes 0644 and 0755. `sink` returns 0 or
 * a negative code that it stored. */
int skill_pack_tar(const struct skill_pack *p,
                   int (*sink)(void *arg, struct str piece, struct err *err), void *arg,
                   struct err *err) MUST_USE;

/* The tar of skill_pack_tar() at `in` as a zip to `out`, which is an empty file. */
int skill_pack_zip(int in, int out, struct err *err) MUST_USE;

#endif
