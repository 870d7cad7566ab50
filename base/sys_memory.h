/* Memory of the system or of the cgroup that holds this process, whichever is less. Bytes. Any thread. */
#ifndef TANDEM_BASE_SYS_MEMORY_H
#define TANDEM_BASE_SYS_MEMORY_H

#include <stdint.h>

struct sys_memory {
    uint64_t total;     /* the system's memory or the cgroup's limit */
    uint64_t available; /* what could still be taken without swapping */
};

struct sys_memory sys_memory(void);
uint64_t sys_memory_resident(void); /* of this process */
int sys_open_descriptors(void);     /* of this process; -1 when the system does not say */

#endif
