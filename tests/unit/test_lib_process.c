/* The library and the process that it lives in: signals, rounding, locale, log, descriptors. On a random model. */
#include "base/clock.h"
#include "base/sys_file.h"
#include "base/sys_memory.h"
#include "tests/support/library_run.h"

#include <fenv.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define N_SIGNALS 32

static bool every_signal_is_unblocked_here(void)
{
    sigset_t set;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    return !sigismember(&set, SIGINT) && !sigismember(&set, SIGTERM) && !sigismember(&set, SIGUSR1);
}

static bool signals_are_blocked(void *arg, const struct tandem_event *e)
{
    bool *blocked = arg;
    sigset_t set;
    (void)e;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    *blocked = sigismember(&set, SIGINT) && sigismember(&set, SIGTERM) && sigismember(&set, SIGCHLD) &&
               !sigismember(&set, SIGSEGV) && !sigismember(&set, SIGBUS);
    return true;
}

static void signals_are_left_alone(void **state)
{
    struct fixture *f = *state;
    bool blocked = false;
    struct sigaction before[N_SIGNALS] = {0}, after;
    struct tandem_request r = request_of("x", 1);
    for (int number = 1; number < N_SIGNALS; number++) {
        sigaction(number, NULL, &before[number]);
    }
    struct tandem_model *model = load(f->path);
    struct tandem_generation *g = must_start(model, &r, signals_are_blocked, &blocked);
    must_end(g);
    tandem_generation_free(g);
    assert_true(blocked);
    assert_true(every_signal_is_unblocked_here());
    for (int number = 1; number < N_SIGNALS; number++) {
        if (sigaction(number, NULL, &after) == 0) {
            assert_true(after.sa_handler == before[number].sa_handler);
        }
    }
    tandem_model_free(model);
}

/* A locale in which numbers have a comma: made where the system has what it takes. NULL: it has not. */
static const char *use_comma(struct fixture *f)
{
    char *out = temp_dir_file(&f->dir, "de_DE.UTF-8");
    const char *words[] = {"localedef", "-i", "de_DE", "-f", "UTF-8", out, NULL};
    const char *name = setlocale(LC_NUMERIC, "de_DE.UTF-8");
    int status = -1;
    pid_t pid;
    if (!name && posix_spawnp(&pid, words[0], NULL, NULL, (char *const *)words, environ) == 0) {
        waitpid(pid, &status, 0);
    }
    if (status == 0 && setenv("LOCPATH", f->dir.path, 1) == 0) {
        name = setlocale(LC_NUMERIC, "de_DE.UTF-8");
    }
    free(out);
    return name;
}

static bool note_comma(void *arg, const struct tandem_event *e)
{
    char *text = arg;
    (void)e;
    snprintf(text, 8, "%.1f", 0.5);
    return true;
}

static void the_programs_locale_stays_with_it(void **state)
{
    struct fixture *f = *state;
    if (!use_comma(f)) {
        skip();
    }
    struct tandem_message message = {"user", "1.25"};
    struct tandem_model_options o = small_options();
    o.chat_template = "{{ 0.5 }} {{ messages[0].content | float }} {{ numbers | tojson }}";
    struct tandem_model *model = tandem_model_load(f->path, &o, NULL);
    assert_non_null(model);
    struct tandem_request r = chat_of(&message, 1);
    r.template_variables_json = "{\"numbers\":[0.1,2.5]}";
    char *text = tandem_render_chat(model, &r, NULL, NULL), inside[8] = "", outside[8];
    assert_string_equal(text, "0.5 1.25 [0.1, 2.5]");
    struct tandem_generation *g = must_start(model, &r, note_comma, inside);
    must_end(g);
    note_comma(outside, NULL);
    setlocale(LC_NUMERIC, "C");
    assert_string_equal(inside, "0,5");
    assert_string_equal(outside, "0,5");
    tandem_free(text);
    tandem_generation_free(g);
    tandem_model_free(model);
}

static bool note_rounding(void *arg, const struct tandem_event *e)
{
    int *mode = arg;
    (void)e;
    *mode = fegetround();
    return true;
}

/* A thread has the rounding of the one that started it: here every answer would depend on it. */
static void the_programs_rounding_stays_with_it(void **state)
{
    struct fixture *f = *state;
    struct tandem_request r = request_of("x", 1);
    int mode = -1;
    assert_int_equal(fesetround(FE_TOWARDZERO), 0);
    struct tandem_model *model = load(f->path);
    assert_int_equal(fegetround(), FE_TOWARDZERO);
    fesetround(FE_TONEAREST);
    struct tandem_generation *g = must_start(model, &r, note_rounding, &mode);
    must_end(g);
    assert_int_equal(mode, FE_TONEAREST);
    tandem_generation_free(g);
    tandem_model_free(model);
}

static void count_line(void *arg, int level, const char *line, size_t size)
{
    atomic_int *n = arg;
    assert_true(level <= TANDEM_LOG_DEBUG);
    assert_int_equal(strlen(line), size);
    assert_null(strchr(line, '\n'));
    atomic_fetch_add(n, 1);
}

static bool free_the_model(void *arg, const struct tandem_event *e)
{
    (void)e;
    tandem_model_free(arg); /* nothing, but a line of the log */
    return false;
}

/* Without a log nothing is written, whatever happens; with one its lines come there. */
static void the_log_is_the_programs(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    atomic_int n = 0;
    char *out = temp_dir_file(&f->dir, "stderr");
    int before = dup(STDERR_FILENO);
    assert_non_null(freopen(out, "w", stderr));
    tandem_model_free(load(f->path));
    assert_null(tandem_model_load("/nowhere", NULL, NULL));
    tandem_set_log(TANDEM_LOG_DEBUG, count_line, &n);
    struct tandem_model_options o = small_options();
    o.chat_template = NULL;
    o.tool_format = o.reasoning_format = NULL;
    struct tandem_model *model = tandem_model_load(f->path, &o, NULL);
    struct tandem_request r = request_of("x", 2);
    struct tandem_generation *g = must_start(model, &r, free_the_model, model);
    must_end(g);
    tandem_generation_free(g);
    tandem_model_free(model);
    assert_true(atomic_load(&n) > 0);
    tandem_set_log(TANDEM_LOG_ERROR, NULL, NULL);
    fflush(stderr);
    dup2(before, STDERR_FILENO);
    close(before);
    struct buf written;
    assert_true(file_read(out, 4096, &written, &err));
    assert_int_equal(written.len, 0);
    buf_release(&written);
    free(out);
}

static void models_come_and_go(void **state)
{
    struct fixture *f = *state;
    struct tandem_request r = request_of("x", 2);
    int before = -1;
    for (int i = 0; i < 20; i++) {
        struct tandem_model *m = load(f->path);
        struct tandem_answer *a = must_answer(m, &r);
        tandem_answer_free(a);
        tandem_model_free(m);
        int now = sys_open_descriptors();
        assert_true(before < 0 || now == before);
        before = now;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_are_left_alone),
        cmocka_unit_test(the_programs_locale_stays_with_it),
        cmocka_unit_test(the_programs_rounding_stays_with_it),
        cmocka_unit_test(the_log_is_the_programs),
        cmocka_unit_test(models_come_and_go),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
