#include "tests/support/sandbox_child.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

void sandbox_child(const struct sandbox_profile *profile, struct sandbox_state *state, int (*attempt)(void))
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(60);
        sandbox_enter(profile, state);
        _exit(attempt());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == LEFT_OUT) {
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}
