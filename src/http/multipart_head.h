/* multipart_head: the texts around the parts of a form: the boundary in the request's Content-Type,
 * the head of a part. Pure, any thread. Internal to http/.
 */
#ifndef OSTLER_HTTP_MULTIPART_HEAD_H
#define OSTLER_HTTP_MULTIPART_HEAD_H

#include "http/multipart.h"

/* INVALID at "content-type". */
int multipart_boundary(struct str content_type, char out[MULTIPART_BOUNDARY_MAX], size_t *len,
                       struct err *err) MUST_USE;
/* `head` is whole: lines that end in CR LF, the last one empty. What is decoded goes to `text`,
 * which must have room for twice the head's bytes; the views point into both. INVALID. */
int multipart_head(struct str head, struct buf *text, struct multipart_part *out,
                   struct err *err) MUST_USE;

#endif
