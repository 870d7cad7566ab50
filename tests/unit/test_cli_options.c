/* Options from flags, environment and config file: which one wins, every kind's values and refusals, what each command
 * takes, and the help made from the table. */
#include "cli/options.h"

#include "base/sys_file.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

extern char **environ;

#define MAX_WORDS 80

struct fixture {
    struct options options;
    struct error err;
    struct arena *arena;
    struct temp_dir dir;
    char *config; /* path of a config file in dir */
    char *words[MAX_WORDS];
    int n_words;
};

/* What the shell that runs the tests has set must not matter. */
static void clear_environment(void)
{
    for (int i = 0; environ[i];) {
        char name[128];
        size_t n = strcspn(environ[i], "=");
        if (strncmp(environ[i], "TANDEM_", 7) != 0 || n >= sizeof name) {
            i++;
            continue;
        }
        memcpy(name, environ[i], n);
        name[n] = '\0';
        unsetenv(name);
    }
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    clear_environment();
    f->arena = arena_create(1 << 20);
    temp_dir_make(&f->dir);
    f->config = temp_dir_file(&f->dir, "tandem.json");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < f->n_words; i++) {
        free(f->words[i]);
    }
    clear_environment();
    temp_dir_remove(&f->dir);
    free(f->config);
    arena_free(f->arena);
    free(f);
    return 0;
}

/* line: words separated by single blanks. */
static bool parse(struct fixture *f, enum command command, const char *line)
{
    struct str rest = str_of(line), word;
    for (int i = 0; i < f->n_words; i++) {
        free(f->words[i]);
    }
    f->n_words = 0;
    while (line[0] && str_split(&rest, ' ', &word)) {
        assert_true(f->n_words < MAX_WORDS);
        f->words[f->n_words] = calloc(1, word.len + 1);
        memcpy(f->words[f->n_words++], word.ptr, word.len);
    }
    f->err = (struct error){0};
    return options_parse(command, f->n_words, f->words, f->arena, &f->options, &f->err);
}

static void must_parse(struct fixture *f, enum command command, const char *line)
{
    if (!parse(f, command, line)) {
        fail_msg("'%s': %s", line, f->err.msg);
    }
}

/* Refused with a message that holds both. */
static void must_refuse(struct fixture *f, enum command command, const char *line, const char *word, const char *other)
{
    if (parse(f, command, line)) {
        fail_msg("'%s' was accepted", line);
    }
    assert_int_equal(f->err.code, ERR_INVALID);
    if (!strstr(f->err.msg, word) || !strstr(f->err.msg, other)) {
        fail_msg("'%s': no '%s' and '%s' in \"%s\"", line, word, other, f->err.msg);
    }
}

/* `first`, then n times `again`; free(). */
static char *repeated(const char *first, const char *again, int n)
{
    struct buf text;
    size_t size;
    buf_init(&text, 10000);
    buf_puts(&text, first);
    for (int i = 0; i < n; i++) {
        buf_puts(&text, again);
    }
    buf_putc(&text, '\0');
    return buf_take(&text, &size);
}

static void write_config(struct fixture *f, const char *text)
{
    struct error err = {0};
    assert_true(file_write_atomic(f->config, str_of(text), &err));
}

/* ---- where values come from ---- */

static void without_anything_there_are_defaults(void **state)
{
    struct fixture *f = *state;
    must_parse(f, COMMAND_SERVE, "");
    const struct options *o = &f->options;
    assert_null(o->model);
    assert_string_equal(o->host, "127.0.0.1");
    assert_int_equal(o->port, 8000);
    assert_int_equal(o->max_body, 32 << 20);
    assert_int_equal(o->kv_memory, 0);
    assert_true(o->prefix_cache);
    assert_false(o->strict_fields);
    assert_int_equal(o->max_tokens, -1);
    assert_int_equal(o->listen.n, 0);
    struct sampling s = sampling_default();
    assert_memory_equal(&o->sampling, &s, sizeof s);
    assert_int_equal(o->socket_fd, -1);
    assert_null(o->config);
}

static void flags_win_over_environment_over_config_file_over_defaults(void **state)
{
    struct fixture *f = *state;
    char line[512];
    write_config(f, "{\"port\": 1001, \"kv-memory\": \"1M\", \"host\": \"file\", \"strict-fields\": true}");
    setenv("TANDEM_KV_MEMORY", "2M", 1);
    setenv("TANDEM_HOST", "environment", 1);
    snprintf(line, sizeof line, "--host flag --config %s", f->config);
    must_parse(f, COMMAND_SERVE, line);
    assert_string_equal(f->options.host, "flag");
    assert_int_equal(f->options.kv_memory, 2 << 20);
    assert_int_equal(f->options.port, 1001);
    assert_true(f->options.strict_fields);
    assert_int_equal(f->options.max_connections, 1024);
    snprintf(line, sizeof line, "--no-strict-fields --config=%s", f->config);
    must_parse(f, COMMAND_SERVE, line);
    assert_false(f->options.strict_fields);
    assert_string_equal(f->options.host, "environment");
}

static void the_config_file_may_be_named_by_the_environment(void **state)
{
    struct fixture *f = *state;
    write_config(f, "{\"port\": 7}");
    setenv("TANDEM_CONFIG", f->config, 1);
    must_parse(f, COMMAND_SERVE, "");
    assert_int_equal(f->options.port, 7);
    must_parse(f, COMMAND_INSPECT, "m"); /* knows no config file */
    setenv("TANDEM_CONFIG", "/nowhere/tandem.json", 1);
    must_parse(f, COMMAND_LIST, "");
    assert_false(parse(f, COMMAND_SERVE, ""));
    assert_non_null(strstr(f->err.msg, "/nowhere/tandem.json"));
}

static void a_list_replaces_that_of_a_weaker_source(void **state)
{
    struct fixture *f = *state;
    char line[512];
    write_config(f, "{\"served-model-name\": [\"a\", \"b\"], \"listen\": \"unix:x\"}");
    snprintf(line, sizeof line, "--config %s", f->config);
    must_parse(f, COMMAND_SERVE, line);
    assert_int_equal(f->options.names.n, 2);
    assert_string_equal(f->options.names.items[1], "b");
    assert_int_equal(f->options.listen.n, 1);
    setenv("TANDEM_SERVED_MODEL_NAME", "e", 1);
    must_parse(f, COMMAND_SERVE, line);
    assert_int_equal(f->options.names.n, 1);
    assert_string_equal(f->options.names.items[0], "e");
    snprintf(line, sizeof line, "--served-model-name c --config %s --served-model-name=d", f->config);
    must_parse(f, COMMAND_SERVE, line);
    assert_int_equal(f->options.names.n, 2);
    assert_string_equal(f->options.names.items[0], "c");
    assert_string_equal(f->options.names.items[1], "d");
    assert_int_equal(f->options.listen.n, 1);
}

static void the_environment_is_for_the_commands_own_options(void **state)
{
    struct fixture *f = *state;
    setenv("TANDEM_PORT", "nonsense", 1);
    setenv("TANDEM_TEMPERATURE", "0.25", 1);
    must_parse(f, COMMAND_RUN, "m");
    assert_float_equal(f->options.sampling.temperature, 0.25, 0);
    must_parse(f, COMMAND_ENGINE, "--socket-fd 3");
    assert_float_equal(f->options.sampling.temperature, 0, 0); /* it has no such option */
    must_refuse(f, COMMAND_SERVE, "m", "TANDEM_PORT", "'nonsense'");
}

/* ---- values ---- */

static void sizes(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        uint64_t size;
    } cases[] = {
        {"0", 0},
        {"4096", 4096},
        {"512M", 512ULL << 20},
        {"512m", 512ULL << 20},
        {"512MB", 512ULL << 20},
        {"512MiB", 512ULL << 20},
        {"64K", 64ULL << 10},
        {"1.5G", 1536ULL << 20},
        {"2g", 2ULL << 30},
        {"0.5T", 512ULL << 30},
        {"100B", 100},
        {"1e6", 1000000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[64];
        snprintf(line, sizeof line, "--kv-memory %s", cases[i].text);
        must_parse(f, COMMAND_SERVE, line);
        assert_int_equal(f->options.kv_memory, cases[i].size);
    }
    static const char *const wrong[] = {"M",  "12X", "-1",   "1M2", "25%", "0x10",
                                        "iB", "5iB", "1e40", "nan", "1 M", "--"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *words[] = {(char *)"--kv-memory", (char *)wrong[i]};
        f->err = (struct error){0};
        if (options_parse(COMMAND_SERVE, 2, words, f->arena, &f->options, &f->err)) {
            fail_msg("%s was accepted", wrong[i]);
        }
        assert_non_null(strstr(f->err.msg, "--kv-memory"));
        assert_non_null(strstr(f->err.msg, "a size such as 512M"));
        assert_non_null(strstr(f->err.msg, wrong[i]));
    }
    must_refuse(f, COMMAND_SERVE, "--max-body 1023", "from 1024 to 1073741824", "1023");
    must_refuse(f, COMMAND_SERVE, "--max-body=", "--max-body", "''");
}

static void integers(void **state)
{
    struct fixture *f = *state;
    must_parse(f, COMMAND_SERVE, "--port 0 --max-tokens=-1 --top-k 1048576 --dry-penalty-last-n -1");
    assert_int_equal(f->options.port, 0);
    assert_int_equal(f->options.max_tokens, -1);
    assert_int_equal(f->options.sampling.top_k, 1048576);
    assert_int_equal(f->options.sampling.dry_penalty_last_n, -1);
    must_parse(f, COMMAND_SERVE, "--port 65535");
    must_refuse(f, COMMAND_SERVE, "--port 65536", "--port: expected an integer from 0 to 65535", "'65536'");
    must_refuse(f, COMMAND_SERVE, "--port -1", "--port", "'-1'");
    must_refuse(f, COMMAND_SERVE, "--port 80.0", "--port", "'80.0'");
    must_refuse(f, COMMAND_SERVE, "--port 8k", "--port", "'8k'");
    must_refuse(f, COMMAND_SERVE, "--port=", "--port", "''");
    must_refuse(f, COMMAND_SERVE, "--port 99999999999999999999", "--port", "'99999999999999999999'");
    must_refuse(f, COMMAND_SERVE, "--top-k 1048577", "--top-k", "1048576");
    must_refuse(f, COMMAND_SERVE, "--top-k -2", "--top-k", "-1");
}

static void numbers(void **state)
{
    struct fixture *f = *state;
    must_parse(f, COMMAND_RUN, "--temperature 0 --top-p .5 --min-p 1e-2 --repetition-penalty 0.01");
    assert_float_equal(f->options.sampling.temperature, 0, 0);
    assert_float_equal(f->options.sampling.top_p, 0.5F, 0);
    assert_float_equal(f->options.sampling.min_p, 0.01F, 0);
    assert_float_equal(f->options.sampling.repetition_penalty, 0.01F, 0);
    must_refuse(f, COMMAND_RUN, "--temperature -0.1", "--temperature: expected a number from 0 to 100", "'-0.1'");
    must_refuse(f, COMMAND_RUN, "--top-p 1.01", "--top-p", "'1.01'");
    must_refuse(f, COMMAND_RUN, "--top-p nan", "--top-p", "'nan'");
    must_refuse(f, COMMAND_RUN, "--temperature inf", "--temperature", "'inf'");
    must_refuse(f, COMMAND_RUN, "--temperature 1,5", "--temperature", "'1,5'");
}

static void booleans(void **state)
{
    struct fixture *f = *state;
    must_parse(f, COMMAND_SERVE, "--strict-fields --no-prefix-cache model");
    assert_true(f->options.strict_fields);
    assert_false(f->options.prefix_cache);
    assert_string_equal(f->options.model, "model");
    must_parse(f, COMMAND_SERVE, "--strict-fields off --prefix-cache on model");
    assert_false(f->options.strict_fields);
    assert_true(f->options.prefix_cache);
    assert_string_equal(f->options.model, "model");
    must_parse(f, COMMAND_SERVE, "--strict-fields=yes --prefix-cache=0 --insecure-no-auth=true");
    assert_true(f->options.strict_fields && f->options.insecure_no_auth && !f->options.prefix_cache);
    must_refuse(f, COMMAND_SERVE, "--strict-fields=maybe", "--strict-fields: expected on or off", "'maybe'");
    must_refuse(f, COMMAND_SERVE, "--no-strict-fields=on", "--no-strict-fields", "no value");
    must_refuse(f, COMMAND_SERVE, "--no-port 3", "unknown option", "--no-port");
    setenv("TANDEM_STRICT_FIELDS", "1", 1);
    must_parse(f, COMMAND_SERVE, "");
    assert_true(f->options.strict_fields);
}

static void a_list_is_bounded(void **state)
{
    struct fixture *f = *state;
    char *line = repeated("", " --listen unix:x", OPTIONS_MAX_LIST), *longer = repeated(line, " --listen unix:x", 1);
    must_parse(f, COMMAND_SERVE, line + 1);
    assert_int_equal(f->options.listen.n, OPTIONS_MAX_LIST);
    must_refuse(f, COMMAND_SERVE, longer + 1, "--listen", "at most 32");
    free(line);
    free(longer);
}

/* ---- words ---- */

static void dashes_and_underscores_are_the_same_in_names(void **state)
{
    struct fixture *f = *state;
    must_parse(f, COMMAND_SERVE, "--top_p 0.5 --kv_memory=1M --max-connections 5");
    assert_float_equal(f->options.sampling.top_p, 0.5, 0);
    assert_int_equal(f->options.kv_memory, 1 << 20);
    setenv("TANDEM_TOP_P", "0.25", 1);
    must_parse(f, COMMAND_SERVE, "");
    assert_float_equal(f->options.sampling.top_p, 0.25, 0);
}

static void unknown_options_and_missing_values_are_named(void **state)
{
    struct fixture *f = *state;
    must_refuse(f, COMMAND_SERVE, "--prt 80", "unknown option '--prt'", "--help");
    must_refuse(f, COMMAND_SERVE, "--prt=80", "unknown option '--prt=80'", "");
    must_refuse(f, COMMAND_SERVE, "--=80", "unknown option", "--=80");
    must_refuse(f, COMMAND_SERVE, "model --port", "--port needs a value", "port to listen on");
    must_refuse(f, COMMAND_SERVE, "--port --host", "--port", "'--host'"); /* it is the value */
}

static void a_precision_is_one_of_those_that_there_are(void **state)
{
    struct fixture *f = *state;
    const enum command commands[] = {COMMAND_SERVE, COMMAND_RUN, COMMAND_INSPECT, COMMAND_BENCH};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        must_parse(f, commands[i], "m --quantize 6");
        must_refuse(f, commands[i], "m --quantize 5", "--quantize", "'5'");
    }
}

static void a_key_on_the_command_line_is_refused(void **state)
{
    struct fixture *f = *state;
    static const char *const lines[] = {"--api-key sk-SECRET", "--api-key=sk-SECRET"};
    for (size_t i = 0; i < 2; i++) {
        must_refuse(f, COMMAND_SERVE, lines[i], "TANDEM_API_KEY", "--api-keys");
        assert_null(strstr(f->err.msg, "SECRET"));
    }
}

/* ---- reading again ---- */

static void must_reload(struct fixture *f, struct options *next, const char *fixed)
{
    struct error err = {0};
    struct buf names;
    buf_init(&names, 1000);
    if (!options_reload(&f->options, f->arena, next, &names, &err)) {
        fail_msg("%s", err.msg);
    }
    assert_string_equal(names.data ? names.data : "", fixed);
    buf_release(&names);
}

static void what_can_change_is_read_again(void **state)
{
    struct fixture *f = *state;
    struct options next;
    char line[600];
    write_config(
        f,
        "{\"max-connections\": 5, \"keepalive-ms\": 200, \"cors-origin\": [\"https://a\"], \"log-level\": \"warn\"}");
    snprintf(line, sizeof line, "m --config %s --keepalive-ms 300", f->config);
    must_parse(f, COMMAND_SERVE, line);
    must_reload(f, &next, "");
    assert_int_equal(next.max_connections, 5);
    write_config(f, "{\"max-connections\": 6, \"keepalive-ms\": 400, \"cors-origin\": [\"https://b\", \"https://c\"], "
                    "\"max-body\": \"1M\"}");
    must_reload(f, &next, "");
    assert_int_equal(next.max_connections, 6);
    assert_int_equal(next.max_body, 1 << 20);
    assert_int_equal(next.keepalive_ms, 300); /* the flag still wins */
    assert_int_equal(next.cors_origins.n, 2);
    assert_string_equal(next.cors_origins.items[1], "https://c");
    assert_string_equal(next.log_level, "info"); /* no longer given */
    assert_string_equal(next.model, "m");
}

static void what_cannot_change_stays_and_is_named(void **state)
{
    struct fixture *f = *state;
    struct options next, again;
    struct error err = {0};
    struct buf names;
    char line[600];
    write_config(f, "{\"kv-memory\": \"1G\", \"backend\": \"cpu\", \"listen\": [\"unix:a\"], \"top-p\": 0.5}");
    snprintf(line, sizeof line, "m --config %s", f->config);
    must_parse(f, COMMAND_SERVE, line);
    write_config(f, "{\"kv-memory\": \"2G\", \"backend\": \"mlx\", \"listen\": [\"unix:b\"], \"top-p\": 0.25, "
                    "\"max-body\": \"1M\"}");
    must_reload(f, &next, "listen kv-memory backend top_p");
    assert_int_equal(next.kv_memory, 1 << 30);
    assert_true(next.backend == f->options.backend); /* the string itself, whose memory stays */
    assert_string_equal(next.listen.items[0], "unix:a");
    assert_float_equal(next.sampling.top_p, 0.5, 0);
    assert_int_equal(next.max_body, 1 << 20);
    write_config(f, "{\"max-connections\": 0}");
    buf_init(&names, 1000);
    assert_false(options_reload(&next, f->arena, &again, &names, &err));
    assert_non_null(strstr(err.msg, "max-connections"));
    buf_release(&names);
}

static void each_command_takes_its_own_options(void **state)
{
    struct fixture *f = *state;
    must_refuse(f, COMMAND_RUN, "--port 80", "unknown option", "--port");
    must_refuse(f, COMMAND_SERVE, "--raw", "unknown option", "--raw");
    must_refuse(f, COMMAND_SERVE, "--socket-fd 3", "unknown option", "--socket-fd");
    must_refuse(f, COMMAND_LIST, "--model x", "unknown option", "--model");
    must_parse(f, COMMAND_ENGINE, "--socket-fd 3 --pool-fd 4 --pool-size 1G --epoch 4294967295 --model m");
    assert_int_equal(f->options.socket_fd, 3);
    assert_int_equal(f->options.pool_size, 1 << 30);
    assert_true(f->options.epoch == 4294967295);
    assert_string_equal(f->options.model, "m");
    must_parse(f, COMMAND_LIST, "--json");
    assert_true(f->options.json);
}

/* --threads, --json and --kv-type mean a list, a file and a list to the benchmarks. */
static void one_name_may_mean_another_thing_to_another_command(void **state)
{
    struct fixture *f = *state;
    must_parse(f, COMMAND_BENCH, "m.gguf --threads 1,2 --json out.json --kv-type f32 --gen 7");
    assert_string_equal(f->options.model, "m.gguf");
    assert_string_equal(f->options.thread_list, "1,2");
    assert_string_equal(f->options.json_file, "out.json");
    assert_string_equal(f->options.kv_type, "f32");
    assert_string_equal(f->options.tests, "prefill,decode,batch");
    assert_int_equal(f->options.gen, 7);
    assert_int_equal(f->options.repeat, 5);
    assert_int_equal(f->options.threads, 0);
    assert_false(f->options.json);
    must_parse(f, COMMAND_BENCH_KERNELS, "--kv-type f16,f32 --op=rope");
    assert_string_equal(f->options.kv_types, "f16,f32");
    assert_string_equal(f->options.op, "rope");
    assert_null(f->options.thread_list);
    assert_null(f->options.kv_type);
    must_parse(f, COMMAND_LIST, "--json");
    assert_true(f->options.json);
    assert_null(f->options.json_file);
    must_refuse(f, COMMAND_SERVE, "m --threads 1,2", "--threads", "'1,2'");
    must_refuse(f, COMMAND_BENCH, "m --gen 1", "--gen", "from 2 to 65536");
    must_refuse(f, COMMAND_BENCH, "m --json", "--json", "needs a value");
    must_refuse(f, COMMAND_BENCH_KERNELS, "--gen 4", "unknown option", "--gen");
    setenv("TANDEM_THREADS", "3,4", 1);
    must_parse(f, COMMAND_BENCH, "m");
    assert_string_equal(f->options.thread_list, "3,4");
}

static void words_that_are_no_options(void **state)
{
    struct fixture *f = *state;
    must_parse(f, COMMAND_RUN, "model --raw why is");
    assert_string_equal(f->options.model, "model");
    assert_int_equal(f->options.arguments.n, 2);
    assert_string_equal(f->options.arguments.items[1], "is");
    must_parse(f, COMMAND_RUN, "-- --model --raw");
    assert_string_equal(f->options.model, "--model");
    assert_string_equal(f->options.arguments.items[0], "--raw");
    assert_false(f->options.raw);
    must_parse(f, COMMAND_SERVE, "a b"); /* models */
    assert_string_equal(f->options.arguments.items[0], "b");
    must_refuse(f, COMMAND_INSPECT, "a b", "unexpected argument", "'b'");
    must_refuse(f, COMMAND_LIST, "a", "unexpected argument", "'a'");
    char *line = repeated("model", " word", OPTIONS_MAX_LIST + 1);
    must_refuse(f, COMMAND_RUN, line, "more than 32 words", "quoted");
    free(line);
}

static void the_last_of_equal_flags_counts(void **state)
{
    struct fixture *f = *state;
    must_parse(f, COMMAND_SERVE, "--port 1 --port=2 --prefix-cache --no-prefix-cache");
    assert_int_equal(f->options.port, 2);
    assert_false(f->options.prefix_cache);
}

/* ---- config file ---- */

static void config_values_of_every_kind(void **state)
{
    struct fixture *f = *state;
    write_config(f,
                 "{\n  \"port\": \"81\",\n  \"kv-memory\": 4096,\n  \"top_p\": 0.5,\n  \"temperature\": 1e-1,\n"
                 "  \"prefix-cache\": \"off\",\n  \"insecure-no-auth\": true,\n  \"seed\": 5,\n  \"json\": true\n}\n");
    setenv("TANDEM_CONFIG", f->config, 1);
    must_parse(f, COMMAND_SERVE, "");
    assert_int_equal(f->options.port, 81);
    assert_int_equal(f->options.kv_memory, 4096);
    assert_float_equal(f->options.sampling.top_p, 0.5, 0);
    assert_float_equal(f->options.sampling.temperature, 0.1F, 0);
    assert_false(f->options.prefix_cache);
    assert_true(f->options.insecure_no_auth);
    must_parse(f, COMMAND_RUN, "m");
    assert_int_equal(f->options.seed, 5);
}

static void a_bad_config_file_is_named_with_line_and_key(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *word, *other;
    } cases[] = {
        {"{\n  \"port\": 70000\n}", "line 2, 'port'", "'70000'"},
        {"{\"prt\": 1}", "'prt'", "no such option"},
        {"{\"port\": null}", "'port'", "null"},
        {"{\"port\": {}}", "'port'", "object"},
        {"{\"port\": [80]}", "'port'", "array"},
        {"{\"listen\": [\"unix:x\", [1]]}", "'listen'", "array"},
        {"{\"host\": \"a\\u0000b\"}", "'host'", "NUL"},
        {"{\"socket-fd\": 3}", "'socket-fd'", "no such option"},
        {"{\"port\": 80, \"port\": 81}", "port", ""},
        {"[]", "object", ""},
        {"{\"port\": 80", "line 1", ""},
        {"", "tandem.json", ""},
        {"{\"port\": 80.5}", "'port'", "'80.5'"},
    };
    setenv("TANDEM_CONFIG", f->config, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_config(f, cases[i].text);
        must_refuse(f, COMMAND_SERVE, "", "tandem.json", cases[i].word);
        assert_non_null(strstr(f->err.msg, cases[i].other));
    }
}

static void a_config_file_that_is_missing_is_named(void **state)
{
    struct fixture *f = *state;
    assert_false(parse(f, COMMAND_SERVE, "--config /nowhere/at/all.json"));
    assert_non_null(strstr(f->err.msg, "/nowhere/at/all.json"));
}

static void config_strings_live_in_the_arena(void **state)
{
    struct fixture *f = *state;
    char text[64] = "{\"host\": \"10.0.0.1\"}";
    f->options = (struct options){0};
    assert_true(options_read_config(COMMAND_SERVE, str_of(text), f->arena, &f->options, &f->err));
    memset(text, 'x', sizeof text);
    assert_string_equal(f->options.host, "10.0.0.1");
    struct arena *small = arena_create(16);
    assert_false(options_read_config(COMMAND_SERVE, STR("{\"host\": \"a name of many characters, too many\"}"), small,
                                     &f->options, &f->err));
    assert_int_equal(f->err.code, ERR_TOO_LARGE);
    arena_free(small);
}

/* bench-serve has names that mean something else for other commands, from each source. */
static void names_may_mean_something_else_for_a_command(void **state)
{
    struct fixture *f = *state;
    const struct bench_serve_options *b = &f->options.bench_serve;
    char line[512];
    must_parse(f, COMMAND_BENCH_SERVE, "a=h:1 --max-tokens 5 h:2 --json out.json --no-stream");
    assert_int_equal(f->options.arguments.n, 2);
    assert_string_equal(f->options.arguments.items[1], "h:2");
    assert_null(f->options.model);
    assert_string_equal(b->json, "out.json");
    assert_false(b->stream);
    assert_int_equal(b->max_tokens, 5);
    assert_int_equal(b->seed, -1);
    assert_float_equal(b->timeout_s, 600, 0);
    write_config(f, "{\"json\": \"x\", \"target\": [\"h:3\"], \"port\": 5, \"repeat\": 3, \"duration\": 0.5}");
    setenv("TANDEM_REPEAT", "4", 1);
    snprintf(line, sizeof line, "--config %s", f->config);
    must_parse(f, COMMAND_BENCH_SERVE, line);
    assert_string_equal(b->json, "x");
    assert_string_equal(b->targets.items[0], "h:3");
    assert_int_equal(b->repeat, 4);
    assert_float_equal(b->duration_s, 0.5, 0);
    unsetenv("TANDEM_REPEAT");
    must_parse(f, COMMAND_SERVE, line); /* the same file */
    assert_false(f->options.json);
    assert_int_equal(f->options.port, 5);
    must_parse(f, COMMAND_LIST, "--json");
    assert_true(f->options.json);
    must_refuse(f, COMMAND_BENCH_SERVE, "--port 5", "unknown option", "--port");
    must_refuse(f, COMMAND_BENCH_SERVE, "--max-tokens -1", "--max-tokens", "'-1'");
    char *many = repeated("h", " h", OPTIONS_MAX_LIST);
    must_refuse(f, COMMAND_BENCH_SERVE, many, "more than 32 targets", "");
    free(many);
}

/* ---- help ---- */

static void help_lists_each_option_of_a_command_once(void **state)
{
    (void)state;
    static const struct {
        enum command command;
        const char *has, *lacks;
    } cases[] = {{COMMAND_SERVE, "--port PORT", "--raw"},        {COMMAND_RUN, "--raw", "--port"},
                 {COMMAND_INSPECT, "--json", "--port"},          {COMMAND_LIST, "--json", "--threads"},
                 {COMMAND_BENCH_SERVE, "--json FILE", "--port"}, {COMMAND_RUN, "--top-p VALUE", "--socket-fd"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf text;
        struct str rest, line;
        size_t n = 0;
        buf_init(&text, 1 << 20);
        options_help(cases[i].command, &text);
        assert_true(str_find(buf_view(&text), str_of(cases[i].has)) != STR_NPOS);
        assert_true(str_find(buf_view(&text), str_of(cases[i].lacks)) == STR_NPOS);
        assert_true(str_find(buf_view(&text), STR("_")) == STR_NPOS || cases[i].command != COMMAND_LIST);
        for (rest = buf_view(&text); str_split(&rest, '\n', &line) && line.len; n++) {
            assert_true(str_starts(line, STR("  --")));
            assert_true(line.len > 42); /* something is said of it */
            struct str flag = str_slice(line, 2, 2 + str_find_char(str_slice(line, 2, line.len), ' ') + 1);
            struct str behind = str_slice(buf_view(&text), (size_t)(line.ptr - text.data) + line.len, text.len);
            struct buf again;
            buf_init(&again, 200);
            buf_puts(&again, "\n  ");
            buf_append(&again, flag);
            assert_true(str_find(behind, buf_view(&again)) == STR_NPOS);
            buf_release(&again);
        }
        assert_true(n > 0);
        buf_release(&text);
    }
}

/* Every option that help shows with its default is one that the parser takes with just that value. */
static void defaults_in_help_can_be_given(void **state)
{
    struct fixture *f = *state;
    struct buf text;
    struct str rest, line;
    int n = 0;
    buf_init(&text, 1 << 20);
    options_help(COMMAND_SERVE, &text);
    for (rest = buf_view(&text); str_split(&rest, '\n', &line);) {
        if (line.len == 0 || line.ptr[line.len - 1] != ']') {
            continue;
        }
        size_t open = line.len;
        while (line.ptr[open - 1] != '[') {
            open--;
        }
        char words[200];
        struct str flag = str_slice(line, 2, 2 + str_find_char(str_slice(line, 2, line.len), ' '));
        snprintf(words, sizeof words, STR_FMT "=" STR_FMT, STR_ARG(flag), STR_ARG(str_slice(line, open, line.len - 1)));
        must_parse(f, COMMAND_SERVE, words);
        n++;
    }
    assert_true(n > 30);
    buf_release(&text);
}

static void docs_name_every_option_for_people(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, 1 << 20);
    options_docs(&text);
    struct str docs = buf_view(&text);
    assert_true(str_find(docs, STR("| `--kv-memory SIZE` | 0 | serve run |")) != STR_NPOS);
    assert_true(str_find(docs, STR("--top-p")) != STR_NPOS);
    assert_true(str_find(docs, STR("--socket-fd")) == STR_NPOS);
    buf_release(&text);
}

/* ---- options that have no effect beside others ---- */

static void what_would_have_no_effect_is_refused(void **state)
{
    struct fixture *f = *state;
    static const struct {
        enum command command;
        const char *alone, *with; /* refused; accepted */
        const char *name, *other; /* what the refusal names */
    } cases[] = {
        {COMMAND_SERVE, "m --mcp-max-turns 5", "m --mcp-max-turns 5 --mcp-config f", "--mcp-max-turns",
         "without --mcp-config"},
        {COMMAND_SERVE, "m --journal-sync full", "m --journal-sync full --journal d", "--journal-sync",
         "without --journal."},
        {COMMAND_SERVE, "m --journal-max-mb 5", "m --journal d --journal-max-mb 5", "--journal-max-mb",
         "without --journal."},
        {COMMAND_SERVE, "m --journal-max-age-hours 5", "m --journal d --journal-max-age-hours 5",
         "--journal-max-age-hours", "without --journal."},
        {COMMAND_SERVE, "m --otlp-sample 0.5", "m --otlp-sample 0.5 --otlp-endpoint u", "--otlp-sample",
         "without --otlp-endpoint"},
        {COMMAND_SERVE, "m --backend cpu --mlx-device gpu", "m --mlx-device gpu", "--mlx-device",
         "with --backend cpu."},
        {COMMAND_RUN, "m --mlx-type f16 --backend cpu", "m --mlx-type f16 --backend mlx", "--mlx-type",
         "with --backend cpu."},
        {COMMAND_BENCH, "m --cpu-kernels reference --backend mlx", "m --cpu-kernels reference --backend cpu",
         "--cpu-kernels", "with --backend mlx."},
        {COMMAND_BENCH, "m --ops --backend mlx", "m --ops", "--ops", "with --backend mlx."},
        {COMMAND_RUN, "m hi --system x --raw", "m hi --system x --raw off", "--system", "with --raw."},
        {COMMAND_RUN, "m hi --chat-template x --raw", "m hi --chat-template x", "--chat-template", "with --raw."},
        {COMMAND_QUANTIZE, "m o --window 64", "m o --window 64 --calibrate f", "--window", "without --calibrate."},
        {COMMAND_QUANTIZE, "m o --kv-type q8", "m o --kv-type q8 --calibrate f", "--kv-type", "without --calibrate."},
        {COMMAND_QUANTIZE, "m o --cpu-kernels reference", "m o --cpu-kernels reference --calibrate f", "--cpu-kernels",
         "without --calibrate."},
        {COMMAND_BENCH_SERVE, "u --details", "u --details --json -", "--details", "without --json."},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        must_refuse(f, cases[i].command, cases[i].alone, cases[i].name, cases[i].other);
        must_parse(f, cases[i].command, cases[i].with);
    }
    must_parse(f, COMMAND_SERVE, "m --mcp-max-turns 10 --journal-sync normal --otlp-sample 1"); /* the defaults */
    setenv("TANDEM_JOURNAL_MAX_MB", "5", 1);
    must_refuse(f, COMMAND_SERVE, "m", "--journal-max-mb", "without --journal.");
    must_parse(f, COMMAND_EVAL, "m --text f --window 64 --kv-type q8");       /* which calibrates nothing */
    must_parse(f, COMMAND_RUN, "m");                                          /* which has no journal */
    must_parse(f, COMMAND_ENGINE, "m --backend mlx --cpu-kernels reference"); /* gets whatever serve has */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_anything_there_are_defaults),
        TEST(flags_win_over_environment_over_config_file_over_defaults),
        TEST(the_config_file_may_be_named_by_the_environment),
        TEST(a_list_replaces_that_of_a_weaker_source),
        TEST(the_environment_is_for_the_commands_own_options),
        TEST(sizes),
        TEST(integers),
        TEST(numbers),
        TEST(booleans),
        TEST(a_list_is_bounded),
        TEST(dashes_and_underscores_are_the_same_in_names),
        TEST(unknown_options_and_missing_values_are_named),
        TEST(a_precision_is_one_of_those_that_there_are),
        TEST(a_key_on_the_command_line_is_refused),
        TEST(what_can_change_is_read_again),
        TEST(what_cannot_change_stays_and_is_named),
        TEST(each_command_takes_its_own_options),
        TEST(one_name_may_mean_another_thing_to_another_command),
        TEST(words_that_are_no_options),
        TEST(the_last_of_equal_flags_counts),
        TEST(config_values_of_every_kind),
        TEST(a_bad_config_file_is_named_with_line_and_key),
        TEST(a_config_file_that_is_missing_is_named),
        TEST(config_strings_live_in_the_arena),
        TEST(names_may_mean_something_else_for_a_command),
        TEST(help_lists_each_option_of_a_command_once),
        TEST(defaults_in_help_can_be_given),
        TEST(docs_name_every_option_for_people),
        TEST(what_would_have_no_effect_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
