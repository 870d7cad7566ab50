/* The n-th allocation of the whole program fails: fail_at is which, from 0; -1: none. n_allocations counts them.
 * Included once, by the one file of a test program; with sanitizers, which bring their own allocator, CAN_FAIL is 0. */
#ifndef TANDEM_TESTS_SUPPORT_FAILING_MEMORY_H
#define TANDEM_TESTS_SUPPORT_FAILING_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

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

static bool fails_now(void)
{
    return n_allocations++ == fail_at;
}

void *malloc(size_t size)
{
    return fails_now() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return fails_now() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    return fails_now() ? NULL : __libc_realloc(p, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails_now() ? NULL : __libc_memalign(alignment, size);
}
#else
#define CAN_FAIL 0
static long fail_at, n_allocations;
#endif

#endif
