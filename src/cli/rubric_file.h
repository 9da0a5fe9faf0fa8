/* rubric_file: a rubric out of a file, as YAML or as Markdown.
 *
 * Main thread; lives in the caller's arena, as long as that. A file whose name ends in .yaml or
 * .yml is a mapping: content (a text), or criteria (a list of texts, or of {name, text}), beside
 * description, checks, max_iterations, closing. Every other file is the content itself, in
 * Markdown, behind an optional front matter between two lines "---" with the other keys.
 */
#ifndef OSTLER_CLI_RUBRIC_FILE_H
#define OSTLER_CLI_RUBRIC_FILE_H

#include "base/arena.h"
#include "json/writer.h"

enum { RUBRIC_FILE_BYTES = 1024 * 1024 };

struct rubric_check {
    struct str name, run, matches; /* the last may be absent */
    bool has_exit;
    int64_t expect_exit, timeout_seconds; /* 0: not said */
    int line;
};

/* From `at` of the content on, lines of it are lines of the file, beginning with `line`. */
struct rubric_piece {
    size_t at;
    int line;
};

struct rubric_file {
    struct arena *arena;
    const char *path;
    struct str description; /* absent: not said */
    struct str content;
    struct rubric_check *checks;
    size_t nchecks;
    int64_t max_iterations; /* 0: not said */
    bool closing;

    /* private */
    struct rubric_piece *pieces;
    size_t npieces;
    int first_line; /* of the YAML text in the file */
};

/* INVALID with "PATH:LINE: KEY: what", or what kept the file from being read. */
int rubric_file_read(struct arena *a, const char *path, struct rubric_file *out,
                     struct err *err) MUST_USE;
/* The same of a text. `path` is what errors name, and tells YAML from Markdown. */
int rubric_file_parse(struct arena *a, const char *path, struct str text, struct rubric_file *out,
                      struct err *err) MUST_USE;
/* The line of the file that a view into the content begins on. */
int rubric_file_line(const struct rubric_file *f, struct str view);
/* The `rubric` of a user.define_outcome: {type, content, checks?, closing?}. */
void rubric_file_write(struct jw *w, const struct rubric_file *f);

#endif
