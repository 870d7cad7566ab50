#include "base/sys_memory.h"

#include <libproc.h>
#include <mach/mach.h>
#include <stdlib.h>
#include <sys/sysctl.h>
#include <unistd.h>

struct sys_memory sys_memory(void)
{
    struct sys_memory m = {0};
    size_t size = sizeof m.total;
    sysctlbyname("hw.memsize", &m.total, &size, NULL, 0);
    vm_statistics64_data_t vm;
    mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
    mach_port_t host = mach_host_self();
    if (host_statistics64(host, HOST_VM_INFO64, (host_info64_t)&vm, &count) == KERN_SUCCESS) {
        uint64_t pages = (uint64_t)vm.free_count + vm.inactive_count + vm.purgeable_count;
        m.available = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    }
    mach_port_deallocate(mach_task_self(), host); /* each mach_host_self counts one reference more */
    return m;
}

struct sys_memory sys_memory_of_system(void)
{
    return sys_memory();
}

uint64_t sys_memory_resident(void)
{
    mach_task_basic_info_data_t info;
    mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
    if (task_info(mach_task_self(), MACH_TASK_BASIC_INFO, (task_info_t)&info, &count) != KERN_SUCCESS) {
        return 0;
    }
    return info.resident_size;
}

uint64_t sys_memory_oom_kills(void)
{
    return 0;
}

int sys_open_descriptors(void)
{
    int room = proc_pidinfo(getpid(), PROC_PIDLISTFDS, 0, NULL, 0); /* the size of the table and some: no count yet */
    void *list = room > 0 ? malloc((size_t)room) : NULL;
    int size = list ? proc_pidinfo(getpid(), PROC_PIDLISTFDS, 0, list, room) : -1;
    free(list);
    return size <= 0 ? -1 : size / (int)PROC_PIDLISTFD_SIZE; /* libproc says 0 when it fails */
}

/* Pages of arm64 have 16 KiB, and the system gives no larger ones on request. */
void sys_prefer_large_pages(void *p, size_t size)
{
    (void)p;
    (void)size;
}
