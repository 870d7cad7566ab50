/* Shared memory: shared through the descriptor, zeroed when discarded, safe against shrinking and wrong sizes. */
#include "base/sys_memory.h"
#include "base/sys_shm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 1 << 20 };

static void is_shared_and_anonymous(void **state)
{
    (void)state;
    struct error err;
    struct shm a, b;
    int before = sys_open_descriptors();
    assert_true(shm_create(SIZE, "test", &a, &err));
    assert_int_equal(fcntl(a.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    char *data = a.data;
    for (int i = 0; i < SIZE; i += 512) {
        assert_int_equal(data[i], 0);
    }
    assert_true(shm_attach(dup(a.fd), SIZE, &b, &err));
    memcpy(data + 5000, "seen", 5);
    assert_string_equal((char *)b.data + 5000, "seen");
    pid_t child = fork();
    if (child == 0) {
        ((char *)b.data)[6000] = 'c';
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(data[6000], 'c'); /* outlives the process that wrote it */
    shm_release(&b);
    shm_release(&a);
    shm_release(&a);
    shm_release(&(struct shm){0});
    assert_int_equal(sys_open_descriptors(), before);
}

static void wrong_sizes_are_refused(void **state)
{
    (void)state;
    struct error err;
    struct shm a, b;
    int before = sys_open_descriptors();
    assert_false(shm_create(0, "nothing", &a, &err));
    assert_false(shm_create(SIZE_MAX / 2, "too much", &a, &err));
    assert_int_equal(err.code, ERR_NO_MEMORY);
    assert_true(shm_create(SIZE, "test", &a, &err));
    assert_false(shm_attach(dup(a.fd), SIZE + 1, &b, &err));
    assert_int_equal(err.code, ERR_IO);
    assert_false(shm_attach(-1, SIZE, &b, &err));
    assert_int_not_equal(ftruncate(a.fd, 4096), 0); /* whoever holds it cannot pull the pages from under the others */
    shm_release(&a);
    assert_int_equal(sys_open_descriptors(), before);
}

static void discarded_ranges_are_zero_and_no_more(void **state)
{
    (void)state;
    struct error err;
    struct shm a;
    static const size_t ranges[][2] = {{0, SIZE},     {4096, 8192}, {100, 200},      {4000, 200},
                                       {4000, 10000}, {4096, 100},  {SIZE - 50, 50}, {8192, 0}};
    assert_true(shm_create(SIZE, "test", &a, &err));
    for (size_t r = 0; r < sizeof ranges / sizeof *ranges; r++) {
        size_t from = ranges[r][0], to = from + ranges[r][1];
        unsigned char *data = a.data;
        memset(data, 0xAA, SIZE);
        shm_discard(&a, from, to - from);
        for (size_t i = 0; i < SIZE; i++) {
            if (data[i] != (i >= from && i < to ? 0 : 0xAA)) {
                fail_msg("range %zu: byte %zu is %d", r, i, data[i]);
            }
        }
    }
    shm_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_shared_and_anonymous),
        cmocka_unit_test(wrong_sizes_are_refused),
        cmocka_unit_test(discarded_ranges_are_zero_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
