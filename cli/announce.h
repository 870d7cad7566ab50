/* What `tandem serve` tells the service manager (base/sys_service.h): READY once every model is ready, what it is doing
 * until then and whenever that changes, that it is alive, that it stops. A start is over only then, so a model that
 * cannot be loaded is a start that failed; connections are taken all the same, from the moment the port is bound, and
 * requests wait for the model. A manager that waits for the start gets a further minute whenever loading has come on.
 * Loop's thread. */
#ifndef TANDEM_CLI_ANNOUNCE_H
#define TANDEM_CLI_ANNOUNCE_H

#include "base/sys_service.h"
#include "gateway/gateway.h"

struct announcer;

/* NULL without a manager that listens, or without memory: every call below takes it. service outlives it. */
struct announcer *announcer_create(struct gateway *gateway, const struct service *service);
void announcer_free(struct announcer *a);

void announcer_look(struct announcer *a);      /* something may have changed: not only at the next tick */
void announcer_reloading(struct announcer *a); /* followed by ... */
void announcer_reloaded(struct announcer *a, const char *status); /* ... this: what came of it; NULL: all is well */
void announcer_stopping(struct announcer *a);

#endif
