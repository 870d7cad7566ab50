#include "base/sys_service.h"

#include "base/sys_proc.h"

#include <launch.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

void service_init(struct service *s)
{
    *s = (struct service){0};
}

bool service_is_managed(const struct service *s)
{
    return s->socket[0] != '\0';
}

void service_notify(const struct service *s, enum service_event event, const char *status)
{
    (void)s;
    (void)event;
    (void)status;
}

/* launchd opens one socket for each address of the entry's host. */
int service_sockets(int fds[SERVICE_MAX_SOCKETS])
{
    int *found = NULL, taken = 0;
    size_t n = 0;
    if (launch_activate_socket(SERVICE_SOCKETS_NAME, &found, &n) != 0) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (taken < SERVICE_MAX_SOCKETS) {
            sys_close_on_exec(found[i], true);
            fds[taken++] = found[i];
        } else {
            close(found[i]);
        }
    }
    free(found);
    return taken;
}
