/* Shared by the files of sys_sandbox. */
#ifndef TANDEM_BASE_SYS_SANDBOX_INTERNAL_H
#define TANDEM_BASE_SYS_SANDBOX_INTERNAL_H

#include "base/sys_sandbox.h"

#include "base/error.h"

/* Append to state->text and state->missing. */
void sandbox__in_force(struct sandbox_state *state, const char *fmt, ...) PRINTF_FORMAT(2, 3);
void sandbox__missing(struct sandbox_state *state, const char *fmt, ...) PRINTF_FORMAT(2, 3);

/* The platform's own: all but the limits that every system has. */
void sandbox__confine(const struct sandbox_profile *profile, struct sandbox_state *state);
/* At most so many bytes of private memory; false: not possible here. */
bool sandbox__limit_memory(uint64_t size);

/* Linux. */
void sandbox__landlock(const struct sandbox_profile *profile, struct sandbox_state *state);
void sandbox__seccomp(const struct sandbox_profile *profile, struct sandbox_state *state);

#endif
