/* A pipeline over a port that the test plays (pipeline_bench.h), with an MCP server that the test's program is too:
 * started with the word "server", it answers `echo` and `look`, which only reads, and says nothing to `hang`.
 *
 *     int main(int argc, char **argv) { return mcp_bench_main(argc, argv, all_tests); }
 *
 *     f = mcp_bench_open(max_turns);              its server is ready; f->request asks for all of its tools
 *     mcp_bench_prepare(f); f->g = ...            the generation, whose events mcp_bench_take takes
 *     mcp_bench_run_until(f, is_there)            at most 30 seconds
 *     mcp_bench_close(&f) */
#ifndef TANDEM_TESTS_SUPPORT_PIPELINE_MCP_H
#define TANDEM_TESTS_SUPPORT_PIPELINE_MCP_H

#include "pipeline/mcp/mcp_host.h"
#include "tests/support/pipeline_bench.h"
#include "tests/support/temp_dir.h"

#define CALL(name, arguments) "<tool_call>{\"name\": \"" name "\", \"arguments\": " arguments "}</tool_call>"

struct mcp_bench {
    struct loop *loop;
    struct temp_dir dir;
    struct mcp_host *host;
    struct pipeline_bench bench;
    struct gen_request request;
    struct generation *g;
    struct buf text, results; /* DELTA; RESULT, each in brackets */
    struct gen_event finish;
    uint64_t total_prompt, total_tokens;
    int n_errors, n_done, n_ready;
    bool closed;
};

int mcp_bench_main(int argc, char **argv, int (*tests)(void)); /* the server, or the tests */

struct mcp_bench *mcp_bench_open(int64_t max_turns);
int mcp_bench_close(void **state);                                     /* a cmocka teardown of what state points to */
void mcp_bench_init_request(struct mcp_bench *f, struct arena *arena); /* anew */
const struct json *mcp_bench_parse(struct mcp_bench *f, const char *text); /* the request's arena owns it */
void mcp_bench_prepare(struct mcp_bench *f);
void mcp_bench_on_ready(void *arg); /* counts */
void mcp_bench_take(struct mcp_bench *f);
void mcp_bench_run_until(struct mcp_bench *f, bool (*done)(const struct mcp_bench *f));
bool mcp_bench_is_unheld(const struct mcp_bench *f); /* no worker reads a request */
void mcp_bench_free_generation(struct mcp_bench *f);
void mcp_bench_expect(struct buf *b, const char *text);

#endif
