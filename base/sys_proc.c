#include "base/sys_proc.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

void sys_ignore_sigpipe(void)
{
    signal(SIGPIPE, SIG_IGN);
}

void sys_ignore_sighup(void)
{
    signal(SIGHUP, SIG_IGN);
}

bool sys_has_terminal(void)
{
    int fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

bool sys_close_on_exec(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0) {
        return false;
    }
    return fcntl(fd, F_SETFD, on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC) == 0;
}
