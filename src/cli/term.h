/* term: text for a terminal: what an agent or a server says can neither move the cursor nor change
 * colours, titles or the reading direction.
 *
 * Pure, except term_for(). Any thread.
 */
#ifndef OSTLER_CLI_TERM_H
#define OSTLER_CLI_TERM_H

#include "base/buf.h"

enum term_style { TERM_PLAIN, TERM_DIM, TERM_BOLD, TERM_GREEN, TERM_RED, TERM_YELLOW, TERM_CYAN };

struct term {
    bool colour;
    bool utf8; /* symbols beyond ASCII may be used */
    bool tty;
};

/* Looks at the descriptor and the environment (NO_COLOR, TERM, LC_ALL, LC_CTYPE, LANG). */
struct term term_for(int fd);
void term_style(const struct term *t, struct buf *out,
                enum term_style style); /* TERM_PLAIN resets */

/* Appends `s`; control characters other than newline and tab, C1 controls, bidirectional overrides
 * and invalid UTF-8 become U+FFFD; carriage returns vanish; whole escape sequences become one mark.
 */
void term_safe(struct buf *out, struct str s);
/* The same on one line: newlines and tabs become blanks. */
void term_safe_line(struct buf *out, struct str s);

/* "1.2k", "3.4M", "812" */
void term_count(struct buf *out, int64_t n);
/* "0.4 s", "12 s", "3:05" */
void term_duration(struct buf *out, int64_t ms);
/* "$0.0123"; amounts under a hundredth of a cent are said to be so */
void term_money(struct buf *out, int64_t microusd);

#endif
