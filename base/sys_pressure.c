/* Bounds. What is left counts most: stall times alone also rise when files are read for the first time in a small
 * group, so they count where little is left. */
#include "base/sys_pressure.h"

#include <stdbool.h>

#define WARN_LEFT     0.08 /* of all memory: caches go before the kernel has to look for pages */
#define CRITICAL_LEFT 0.03
#define WARN_SOME     10.0 /* percent of the time: tasks do wait */
#define CRITICAL_FULL 20.0 /* nothing else is done in a fifth of it */
#define STALLS_LEFT   0.25 /* with more left than this, stalls have another reason */

const char *pressure_level_name(enum pressure_level level)
{
    static const char *const names[] = {"none", "warn", "critical"};
    return names[level];
}

enum pressure_level pressure_level_of(const struct pressure_signs *s)
{
    bool stalls_count = s->left < STALLS_LEFT;
    if (s->left < CRITICAL_LEFT || (stalls_count && s->full >= CRITICAL_FULL)) {
        return PRESSURE_CRITICAL;
    }
    return s->left < WARN_LEFT || (stalls_count && s->some >= WARN_SOME) ? PRESSURE_WARN : PRESSURE_NONE;
}
