/* Memory of the system or of the cgroup that holds this process, whichever is less. Bytes. Any thread. */
#ifndef TANDEM_BASE_SYS_MEMORY_H
#define TANDEM_BASE_SYS_MEMORY_H

#include <stddef.h>
#include <stdint.h>

struct sys_memory {
    uint64_t total;     /* the system's memory or the cgroup's limit */
    uint64_t available; /* what could still be taken without swapping */
};

struct sys_memory sys_memory(void);
struct sys_memory sys_memory_of_system(void); /* whatever control groups allow */
uint64_t sys_memory_resident(void);           /* of this process */
/* Processes that the system has ended for want of memory since it started, of every group: it tells such an end from
 * another SIGKILL. 0 where the system does not count them. */
uint64_t sys_memory_oom_kills(void);
int sys_open_descriptors(void); /* of this process; -1 when the system does not say */

/* A hint, before the memory is touched: large pages suit it, since it is read through again and again and should not
 * wait for address translation. p is aligned to SYS_LARGE_PAGE. */
#define SYS_LARGE_PAGE ((size_t)2 << 20)
void sys_prefer_large_pages(void *p, size_t size);

#endif
