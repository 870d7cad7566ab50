/* The service manager that started this process, if one did: systemd on Linux (sd_notify(3), sd_listen_fds(3)), launchd
 * on macOS, which takes no messages and only hands over sockets. Without a manager every call does nothing.
 *
 *     struct service service;
 *     int fds[SERVICE_MAX_SOCKETS];
 *     int n = service_sockets(fds);                 at the start of main, once
 *     service_init(&service);                       likewise
 *     service_notify(&service, SERVICE_READY, "serving");
 *     service_notify(&service, SERVICE_ALIVE, NULL) at least every service.watchdog_ms / 2
 *
 * init and sockets take what they use out of the environment, so that no child believes it was meant: before the first
 * thread. service_notify: any thread. */
#ifndef TANDEM_BASE_SYS_SERVICE_H
#define TANDEM_BASE_SYS_SERVICE_H

#include "base/error.h"

#define SERVICE_MAX_SOCKETS 16

struct service {
    char socket[108];    /* where messages go; "": nobody listens. '@' stands for the NUL of an abstract name */
    int64_t watchdog_ms; /* the manager ends a process that says nothing for so long; 0: it does not */
};

enum service_event {
    SERVICE_STATUS, /* only the words */
    SERVICE_READY,  /* started up, or done with reloading */
    SERVICE_RELOADING,
    SERVICE_STOPPING,
    SERVICE_ALIVE,
    SERVICE_LOADING /* not ready yet, and allowed a further minute from now */
};

void service_init(struct service *s);
bool service_is_managed(const struct service *s); /* somebody gets the messages */

/* status: one line for people, or NULL. Not waited for; a message that cannot be delivered is lost. */
void service_notify(const struct service *s, enum service_event event, const char *status);

/* Listening sockets that the manager opened for this process; from now on they are not inherited. Returns how many. On
 * macOS those of the entry SERVICE_SOCKETS_NAME in the property list. Those beyond SERVICE_MAX_SOCKETS are closed. */
#define SERVICE_SOCKETS_NAME "Listeners"
int service_sockets(int fds[SERVICE_MAX_SOCKETS]);

#endif
