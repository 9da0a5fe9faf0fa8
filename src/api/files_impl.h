/* files_impl: what the handlers of /v1/files share. Internal to api/. */
#ifndef OSTLER_API_FILES_IMPL_H
#define OSTLER_API_FILES_IMPL_H

#include "api/api_impl.h"
#include "json/writer.h"

/* Which of the published shapes the client wants. */
struct file_dialect {
    bool old;   /* files-api-2025-04-14: pages by ids, no expires_at */
    bool scope; /* it knows scopes: any of the betas */
};

struct file_dialect file_dialect_of(struct call *c); /* while the request is there */
void file_write(struct jw *w, const struct file_row *row, const struct file_dialect *d);

#endif
