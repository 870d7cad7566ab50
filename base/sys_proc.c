#include "base/sys_proc.h"

#include <fcntl.h>
#include <signal.h>

void sys_ignore_sigpipe(void)
{
    signal(SIGPIPE, SIG_IGN);
}

bool sys_close_on_exec(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0) {
        return false;
    }
    return fcntl(fd, F_SETFD, on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC) == 0;
}
