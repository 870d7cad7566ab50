/* Child processes and their signals, and what a process says about itself. Waiting and pipes of children belong to the
 * event loop (libuv); this is what libuv does not do. */
#ifndef TANDEM_BASE_SYS_PROC_H
#define TANDEM_BASE_SYS_PROC_H

#include "base/error.h"

/* This process gets SIGKILL when its parent ends, however that ends. A parent that ended before the call goes
 * unnoticed: look afterwards whether what connects both is still open. */
void sys_die_with_parent(void);
void sys_oom_prefer_me(void);           /* the system should rather end this process than its parent */
void sys_lower_priority(void);          /* of the calling thread: below the kernels' threads */
void sys_name_thread(const char *name); /* at most 15 bytes are kept */
void sys_ignore_sigpipe(void);
void sys_ignore_sighup(void);
bool sys_has_terminal(void);             /* there is a controlling terminal, and it has not been hung up */
bool sys_close_on_exec(int fd, bool on); /* false when fd is bad */

#endif
