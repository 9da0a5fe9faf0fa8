/* log: structured lines on stderr, as text or JSON. Any thread; a line is one write.
 *
 * Only api/, engine/, sandbox/ (its own process), worker/ and cli/ log; lower layers return errors.
 * Values that may hold secrets are never passed here.
 */
#ifndef OSTLER_BASE_LOG_H
#define OSTLER_BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_setup(enum log_level min, bool json); /* at start, before threads */
/* Whether such a line would be written: where making its values costs something. */
bool log_wants(enum log_level level);
/* A message and key-value pairs of C strings, closed by NULL:
 * log_line(LOG_INFO, "session resumed", "session", id, NULL); */
void log_line(enum log_level level, const char *msg, ...) __attribute__((sentinel));
void log_err(enum log_level level, const char *msg, const struct err *err);

#endif
