/* html: a web page as readable text. Any thread.
 *
 * Parsed by libxml2 as a stream of tags: no tree is built, so that a page costs no more memory than
 * its text. What is no content is left out: scripts, styles, navigation, forms, and what is hidden
 * from readers, which is where instructions for machines like to stand.
 */
#ifndef OSTLER_WEB_HTML_H
#define OSTLER_WEB_HTML_H

#include "base/buf.h"

enum { HTML_TITLE_MAX = 512 };

struct html_text {
    struct buf *out;            /* appended to, until `limit` bytes are there */
    size_t limit;               /* below the buffer's maximum */
    const char *base;           /* the page's URL: links are relative to it */
    int64_t until_us;           /* clock_mono_us() when to stop reading; 0: never */
    char title[HTML_TITLE_MAX]; /* out; may be empty */
    bool cut;                   /* out: the page has more */
};

/* `page` is valid UTF-8. Broken markup is read as well as it can be. */
void html_to_text(struct str page, struct html_text *t);

#endif
