/* fault_vfs: SQLite's files with calls that fail on demand, and with what a power cut would leave.
 *
 * Registered as the default VFS of the process. A failed write is half done. A sync does not reach
 * the disk; it copies the file into a second directory, which thus holds what was made durable and
 * nothing else. Any thread; set up before the first connection.
 */
#ifndef OSTLER_TESTS_FAULT_VFS_H
#define OSTLER_TESTS_FAULT_VFS_H

#include "fault.h"

enum fault_kind {
    FAULT_OPEN,
    FAULT_READ,
    FAULT_WRITE,
    FAULT_SYNC,
    FAULT_TRUNCATE,
    FAULT_SHM,
    FAULT_DELETE,
    FAULT_KINDS
};

extern struct fault fault_vfs[FAULT_KINDS];

void fault_vfs_register(void);
/* Where synced files are copied to; NULL: nowhere. The directory exists. */
void fault_vfs_durable(const char *dir);

#endif
