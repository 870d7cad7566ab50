/* Children give up what they do not need and try it all the same. What this system cannot forbid is left out of the
 * test, with its reason. */
#include "base/clock.h"
#include "base/sys_cpu.h"
#include "base/sys_file.h"
#include "base/sys_memory.h"
#include "base/sys_shm.h"
#include "tests/support/sandbox_child.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct temp_dir readable, writable, other;
static char *given, *secret; /* a file in readable, one in other */
static struct sandbox_state state;

#define REFUSED(call) EXPECT((call) == -1 && (errno == EPERM || errno == EACCES))

static struct sandbox_profile usual(void)
{
    static const char *reads[1], *writes[1];
    reads[0] = readable.path;
    writes[0] = writable.path;
    return (struct sandbox_profile){.read = reads, .n_read = 1, .write = writes, .n_write = 1};
}

static char *text_file(const struct temp_dir *dir, const char *name)
{
    struct error err = {0};
    char *path = temp_dir_file(dir, name);
    assert_true(file_write_atomic(path, STR("secret"), &err));
    return path;
}

/* ---- files ---- */

static int read_what_is_given(void)
{
    char bytes[8];
    int fd = open(given, O_RDONLY);
    EXPECT(fd >= 0 && read(fd, bytes, sizeof bytes) == 6);
    close(fd);
    NEEDS(files);
    REFUSED(open(secret, O_RDONLY));
    REFUSED(open(given, O_RDWR));
    REFUSED(open(given, O_WRONLY | O_TRUNC));
    REFUSED(unlink(given));
    EXPECT(opendir(readable.path) != NULL);
    EXPECT(opendir(other.path) == NULL);
    return 0;
}

static void files_given_are_read_and_no_others(void **unused)
{
    (void)unused;
    struct sandbox_profile p = usual();
    sandbox_child(&p, &state, read_what_is_given);
    struct stat st;
    assert_int_equal(stat(given, &st), 0);
    assert_int_equal(st.st_size, 6);
}

static int write_below(void)
{
    char path[512], moved[512];
    snprintf(path, sizeof path, "%s/new", writable.path);
    snprintf(moved, sizeof moved, "%s/moved", writable.path);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    EXPECT(fd >= 0 && write(fd, "x", 1) == 1 && ftruncate(fd, 0) == 0);
    EXPECT(rename(path, moved) == 0 && unlink(moved) == 0);
    NEEDS(files);
    snprintf(path, sizeof path, "%s/new", other.path);
    REFUSED(open(path, O_RDWR | O_CREAT, 0600));
    REFUSED(mkdir(path, 0700));
    snprintf(path, sizeof path, "%s/new", readable.path);
    REFUSED(open(path, O_RDWR | O_CREAT, 0600));
    snprintf(path, sizeof path, "%s/link", writable.path);
    if (symlink(secret, path) == 0) { /* a link gives nothing that its end does not */
        int through = open(path, O_RDONLY);
        unlink(path);
        EXPECT(through == -1);
    }
    return 0;
}

static void files_are_written_below_one_folder(void **unused)
{
    (void)unused;
    struct sandbox_profile p = usual();
    sandbox_child(&p, &state, write_below);
}

static int read_one_file(void)
{
    EXPECT(open(secret, O_RDONLY) >= 0);
    NEEDS(files);
    REFUSED(open(given, O_RDONLY));
    return 0;
}

static void one_file_by_a_link(void **unused)
{
    (void)unused;
    char *link = temp_dir_file(&other, "link");
    assert_int_equal(symlink(secret, link), 0);
    const char *const reads[] = {link, "/nowhere/at/all"};
    struct sandbox_profile p = {.read = reads, .n_read = 2};
    sandbox_child(&p, &state, read_one_file);
    unlink(link);
    free(link);
}

static int read_anything(void)
{
    EXPECT(open(secret, O_RDONLY) >= 0);
    NEEDS(files);
    REFUSED(open(secret, O_RDWR));
    return 0;
}

static void reading_everything(void **unused)
{
    (void)unused;
    struct sandbox_profile p = {.read_all = true};
    sandbox_child(&p, &state, read_anything);
}

/* ---- what keeps working ---- */

static struct shm shared;
static int pair[2], n_cpus;

static void *set_flag(void *arg)
{
    *(int *)arg = 1;
    return NULL;
}

static int use_what_is_open(void)
{
    struct error err = {0};
    struct shm again = {.fd = -1};
    pthread_t thread;
    int flag = 0;
    char byte;
    EXPECT(shm_attach(dup(shared.fd), shared.size, &again, &err));
    ((char *)again.data)[5] = 'x';
    EXPECT(((char *)shared.data)[5] == 'x');
    EXPECT(write(pair[0], "a", 1) == 1 && read(pair[1], &byte, 1) == 1 && byte == 'a');
    EXPECT(pthread_create(&thread, NULL, set_flag, &flag) == 0 && pthread_join(thread, NULL) == 0 && flag);
    EXPECT(sys_memory_resident() > 0 && sys_memory().total > 0);
    EXPECT(sys_cpu_usable() == n_cpus);
    EXPECT(sys_open_descriptors() > 0);
    EXPECT(kill(getpid(), 0) == 0 && pthread_kill(pthread_self(), 0) == 0);
    void *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    EXPECT(memory != MAP_FAILED && posix_madvise(memory, 1 << 20, POSIX_MADV_WILLNEED) == 0);
    clock_sleep_ms(1);
    return 0;
}

static void what_is_open_keeps_working(void **unused)
{
    (void)unused;
    struct error err = {0};
    struct sandbox_profile p = usual();
    p.max_files = 64;
    p.max_memory = (uint64_t)8 << 30;
    n_cpus = sys_cpu_usable();
    assert_true(shm_create(4096, "test", &shared, &err));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    sandbox_child(&p, &state, use_what_is_open);
    close(pair[0]);
    close(pair[1]);
    shm_release(&shared);
}

/* ---- network ---- */

static struct sockaddr_in there = {.sin_family = AF_INET};
static int tcp; /* not yet bound: opened before */

static int reach_out(void)
{
    NEEDS(network);
    REFUSED(connect(tcp, (struct sockaddr *)&there, sizeof there));
    struct sockaddr_in any = {.sin_family = AF_INET};
    REFUSED(bind(tcp, (struct sockaddr *)&any, sizeof any));
    NEEDS(calls);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT(fd < 0 || (connect(fd, (struct sockaddr *)&there, sizeof there) == -1 && errno == EPERM));
    fd = socket(AF_INET6, SOCK_DGRAM, 0);
    struct sockaddr_in6 away = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT, .sin6_port = htons(9)};
    EXPECT(fd < 0 || (sendto(fd, "x", 1, 0, (struct sockaddr *)&away, sizeof away) == -1 && errno == EPERM));
    return 0;
}

static void no_network(void **unused)
{
    (void)unused;
    socklen_t size = sizeof there;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, (struct sockaddr *)&there, sizeof there), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&there, &size), 0);
    tcp = socket(AF_INET, SOCK_STREAM, 0);
    struct sandbox_profile p = usual();
    sandbox_child(&p, &state, reach_out);
    close(tcp);
    close(listener);
}

/* ---- other processes ---- */

static int use_others(void)
{
    char name[] = "true", *const argv[] = {name, NULL};
    char *const envp[] = {NULL};
    NEEDS(calls);
    pid_t child = fork();
    if (child == 0) {
        _exit(0);
    }
    EXPECT(child == -1 && errno == EPERM);
    REFUSED(execve("/usr/bin/true", argv, envp));
    REFUSED(kill(getppid(), 0));
    return 0;
}

static void no_programs_and_no_signals(void **unused)
{
    (void)unused;
    struct sandbox_profile p = usual();
    sandbox_child(&p, &state, use_others);
}

static int start_one(void)
{
    char name[] = "true", *const argv[] = {name, NULL};
    char *const envp[] = {NULL};
    int status;
    pid_t child = fork();
    if (child == 0) {
        execve("/usr/bin/true", argv, envp);
        _exit(9);
    }
    EXPECT(child > 0 && waitpid(child, &status, 0) == child);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return 0;
}

static void programs_where_they_are_wanted(void **unused)
{
    (void)unused;
    static const char *const reads[] = {"/usr", "/bin"};
    struct sandbox_profile p = {.read = reads, .n_read = 2, .start_programs = true};
    sandbox_child(&p, &state, start_one);
}

/* ---- limits ---- */

static int look_at_limits(void)
{
    struct rlimit core, files;
    EXPECT(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0);
    EXPECT(getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max == 32);
    EXPECT(dup2(0, 40) == -1);
    EXPECT(strstr(state.text, "limits"));
    return 0;
}

static void limits(void **unused)
{
    (void)unused;
    struct sandbox_profile p = usual();
    p.max_files = 32;
    sandbox_child(&p, &state, look_at_limits);
}

static int take_memory(void)
{
    if (strstr(state.missing, "no limit of memory")) {
        fprintf(stderr, "skip: not possible here: %s\n", state.missing);
        return LEFT_OUT;
    }
    void *much = mmap(NULL, (size_t)2 << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    EXPECT(much == MAP_FAILED && errno == ENOMEM);
    void *little = mmap(NULL, (size_t)1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    EXPECT(little != MAP_FAILED);
    return 0;
}

static void memory_has_a_limit(void **unused)
{
    (void)unused;
    struct sandbox_profile p = usual();
    p.max_memory = (uint64_t)1 << 30;
    sandbox_child(&p, &state, take_memory);
}

/* ---- words ---- */

static int compare_words(void)
{
    fprintf(stderr, "in force: %s; missing: %s\n", state.text, state.missing[0] ? state.missing : "nothing");
    EXPECT(state.text[0] && strlen(state.text) < sizeof state.text);
    EXPECT((strstr(state.text, "landlock") != NULL) == (state.landlock > 0));
    EXPECT((strstr(state.text, "seccomp") || strstr(state.text, "profile")) == state.calls);
    EXPECT(state.files || state.missing[0]);
    return 0;
}

static void it_says_what_is_in_force(void **unused)
{
    (void)unused;
    struct sandbox_profile p = usual();
    sandbox_child(&p, &state, compare_words);
}

static int make_dirs(void **unused)
{
    (void)unused;
    temp_dir_make(&readable);
    temp_dir_make(&writable);
    temp_dir_make(&other);
    given = text_file(&readable, "given");
    secret = text_file(&other, "secret");
    return 0;
}

static int remove_dirs(void **unused)
{
    (void)unused;
    free(given);
    free(secret);
    temp_dir_remove(&readable);
    temp_dir_remove(&writable);
    temp_dir_remove(&other);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_says_what_is_in_force),
        cmocka_unit_test(files_given_are_read_and_no_others),
        cmocka_unit_test(files_are_written_below_one_folder),
        cmocka_unit_test(one_file_by_a_link),
        cmocka_unit_test(reading_everything),
        cmocka_unit_test(what_is_open_keeps_working),
        cmocka_unit_test(no_network),
        cmocka_unit_test(no_programs_and_no_signals),
        cmocka_unit_test(programs_where_they_are_wanted),
        cmocka_unit_test(limits),
        cmocka_unit_test(memory_has_a_limit),
    };
    return cmocka_run_group_tests(tests, make_dirs, remove_dirs);
}
