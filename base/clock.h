/* Time. Monotonic for durations and deadlines, wall clock only for what is shown. Any thread. */
#ifndef TANDEM_BASE_CLOCK_H
#define TANDEM_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_ns(void);     /* monotonic */
int64_t clock_us(void);     /* monotonic */
int64_t clock_ms(void);     /* monotonic */
int64_t clock_wall_s(void); /* seconds since 1970 */
int64_t clock_wall_ms(void);
int64_t clock_wall_ns(void);
int64_t clock_cpu_ns(void); /* processor time of this process, all threads */
void clock_sleep_ms(int64_t ms);

#endif
