/* How short memory is, of the system or of the control groups that hold this process, as the system sees it. One
 * thread.
 *
 *     p = sys_pressure_open();
 *     level = sys_pressure_level(p);        a few small files are read, or one call: well under a millisecond
 *     fd = sys_pressure_fd(p);              where there is one: ask again when it is ready (POLLPRI), and by a timer
 *     sys_pressure_close(p);
 *
 * Linux: the memory that is left of the system and of each group's limits (memory.max, memory.high), and stall times
 * (PSI) of the own group or the system, which also gives the descriptor. macOS: the level that the system keeps. */
#ifndef TANDEM_BASE_SYS_PRESSURE_H
#define TANDEM_BASE_SYS_PRESSURE_H

#include <stdint.h>

enum pressure_level {
    PRESSURE_NONE,
    PRESSURE_WARN,    /* caches should give way */
    PRESSURE_CRITICAL /* what runs should give way too: the system is about to end processes */
};
const char *pressure_level_name(enum pressure_level level); /* "none", "warn", "critical" */

struct sys_pressure;
struct sys_pressure *sys_pressure_open(void); /* NULL: no memory for it */
void sys_pressure_close(struct sys_pressure *p);
enum pressure_level sys_pressure_level(struct sys_pressure *p);
/* Ready for POLLPRI when processes begin to wait for memory, and for POLLERR when it will not be any more; -1: there is
 * none. It stays open until sys_pressure_close. */
int sys_pressure_fd(const struct sys_pressure *p);

/* What a level is made of, where the system does not say it itself. */
struct pressure_signs {
    double left; /* of the memory that there is, 0 to 1 */
    double some,
        full; /* percent of the last ten seconds in which some, or all, tasks waited for memory; < 0: unknown */
};
enum pressure_level pressure_level_of(const struct pressure_signs *signs);

#endif
