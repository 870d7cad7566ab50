/* An engine_port whose engine runs in this process, on its own thread: what `tandem run` and the C library use. Events
 * cross to the loop's thread as the same frames that cross between processes. */
#ifndef TANDEM_LIB_LOCAL_PORT_H
#define TANDEM_LIB_LOCAL_PORT_H

#include "base/loop.h"
#include "engine/engine.h"
#include "pipeline/engine_port.h"

struct local_port;

/* Takes the engine over: started here, freed with the port, or at once when it fails. Loop's thread. */
NODISCARD struct local_port *local_port_create(struct loop *loop, struct engine *engine, struct error *err);
void local_port_free(struct local_port *p); /* NULL is fine; no generation may be left */
struct engine_port *local_port_port(struct local_port *p);
/* See engine_adapt. The loop's thread. */
NODISCARD bool local_port_adapt(struct local_port *p, const struct adapter_order *order,
                                void (*done)(void *arg, uint32_t number, const struct error *err), void *arg,
                                struct error *err);

#endif
