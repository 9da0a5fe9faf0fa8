/* json_reference: jansson as the reader to compare with. Apart from the test, because the two
 * libraries' names clash. */
#ifndef OSTLER_TEST_JSON_REFERENCE_H
#define OSTLER_TEST_JSON_REFERENCE_H

#include "base/buf.h"

enum json_reference {
    JSON_REFERENCE_ACCEPTED,
    JSON_REFERENCE_REFUSED,
    JSON_REFERENCE_OWN_LIMIT, /* refused for a limit of jansson's, not for the grammar: no verdict
                               */
};

/* Reads `text` and, when accepted, appends its content in a form that can be compared bytewise. */
enum json_reference json_reference_read(struct str text, struct buf *canonical);

#endif
