/* Children that give up what they do not need and try it all the same, for the tests of base/sys_sandbox. */
#ifndef TANDEM_TESTS_SUPPORT_SANDBOX_CHILD_H
#define TANDEM_TESTS_SUPPORT_SANDBOX_CHILD_H

#include "base/sys_sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LEFT_OUT 77 /* an attempt's result: this system cannot forbid it */

/* attempt() in a child that has entered the sandbox; *state is what is in force there. 0: as it should be; LEFT_OUT:
 * the test is skipped; anything else fails it. */
void sandbox_child(const struct sandbox_profile *profile, struct sandbox_state *state, int (*attempt)(void));

/* In the child, with a variable `state`: the first expectation that fails says so, and the test with it. */
#define EXPECT(what)                                                                                    \
    do {                                                                                                \
        if (!(what)) {                                                                                  \
            fprintf(stderr, "%s:%d: not so: %s (errno: %s; in force: %s)\n", __FILE__, __LINE__, #what, \
                    strerror(errno), state.text);                                                       \
            return 1;                                                                                   \
        }                                                                                               \
    } while (0)
#define NEEDS(feature)                                                       \
    do {                                                                     \
        if (!state.feature) {                                                \
            fprintf(stderr, "skip: not possible here: %s\n", state.missing); \
            return LEFT_OUT;                                                 \
        }                                                                    \
    } while (0)

#endif
