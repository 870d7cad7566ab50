/* The n-th allocation of the whole program fails: fail_at is which, from 0; -1: none. n_allocations counts them.
 * Included once, by the one file of a test program, behind <stdlib.h>; with sanitizers, which bring their own
 * allocator, CAN_FAIL is 0. With FAILS_OF_PROGRAM defined as 1 before it, allocations that libraries make neither fail
 * nor count (json-c 0.16 crashes when the copy of a key fails); <dlfcn.h> is included then, with _GNU_SOURCE. */
#ifndef TANDEM_TESTS_SUPPORT_FAILING_MEMORY_H
#define TANDEM_TESTS_SUPPORT_FAILING_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#ifndef FAILS_OF_PROGRAM
#define FAILS_OF_PROGRAM 0
#endif

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define CAN_FAIL 1

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void *malloc(size_t size);
void *calloc(size_t n, size_t size);
void *realloc(void *p, size_t size);
void *aligned_alloc(size_t alignment, size_t size);

static long fail_at = -1, n_allocations;

#if FAILS_OF_PROGRAM
static bool fails_now(const void *caller)
{
    Dl_info of_caller, of_program;
    return fail_at >= 0 && dladdr(caller, &of_caller) && dladdr((const void *)&n_allocations, &of_program) &&
           of_caller.dli_fbase == of_program.dli_fbase && n_allocations++ == fail_at;
}
#else
static bool fails_now(const void *caller)
{
    (void)caller;
    return n_allocations++ == fail_at;
}
#endif

void *malloc(size_t size)
{
    return fails_now(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return fails_now(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    return fails_now(__builtin_return_address(0)) ? NULL : __libc_realloc(p, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails_now(__builtin_return_address(0)) ? NULL : __libc_memalign(alignment, size);
}
#else
#define CAN_FAIL 0
static long fail_at, n_allocations;
#endif

#endif
