/* Watches how short memory is: on the loop, by a timer and, where the system has one, by a descriptor. Its level is
 * that of the system or, with a file, what stands in it ("none", "warn" or "critical"), for those who know better and
 * for tests. */
#ifndef TANDEM_GATEWAY_PRESSURE_H
#define TANDEM_GATEWAY_PRESSURE_H

#include "base/error.h"
#include "base/loop.h"
#include "base/sys_pressure.h"

struct pressure;

struct pressure_options {
    struct loop *loop;
    const char *file; /* NULL: the system is asked; outlives the watch */
    /* Twice a second, and at once when tasks begin to wait for memory. */
    void (*on_level)(void *arg, enum pressure_level level);
    void *arg;
};

NODISCARD struct pressure *pressure_create(const struct pressure_options *options, struct error *err);
void pressure_free(struct pressure *p);                       /* NULL is fine; on_level is not called after it */
enum pressure_level pressure_level(const struct pressure *p); /* the last one; NULL: none */

#endif
