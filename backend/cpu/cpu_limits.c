/* Times the loops of cpu_peak.h on the pool of a backend that lives as long as the measurement. */
#include "backend/cpu/cpu_limits.h"

#include "backend/cpu/cpu_internal.h"
#include "backend/cpu/cpu_peak.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/sys_memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define QUIET_NS   (200 * 1000000LL) /* runs go on until none was better by BETTER for so long, */
#define LONGEST_NS (5 * QUIET_NS)    /* or they have gone on for so long */
#define BETTER     1.01
#define MIN_RUNS   16
/* Several times the caches of all but the largest servers, as far as memory allows. */
#define BUFFER_SIZE     MIB(256)
#define BUFFER_SIZE_MIN MIB(32)
/* A run lasts about a millisecond, so that some fall between the time slices of other programs, and has several tiles
 * for each thread: one that begins late leaves its share to the others. */
#define TILES_PER_THREAD  4
#define TILE_NS           250000
#define PIECES_PER_THREAD 16
#define PIECE_SIZE        MIB(2)

static const struct cpu_limit_info infos[CPU_LIMIT_COUNT] = {
    [CPU_LIMIT_READ] = {"read", "B/s"},
    [CPU_LIMIT_INT8] = {"int8", "multiply-adds/s"},
    [CPU_LIMIT_INT4] = {"int4", "multiply-adds/s"},
    [CPU_LIMIT_F32] = {"f32", "multiply-adds/s"},
};

const struct cpu_limit_info *cpu_limit_info(enum cpu_limit limit)
{
    return &infos[limit];
}

/* Tiles of one run, and what they amount to. */
struct peak_run {
    void (*tile)(void *arg, int tile, int thread);
    int n_tiles;
    double work;
    const struct cpu_peak *peak;
    const struct cpu_peak_loop *loop;
    int64_t rounds; /* of the loop in a tile */
    uint8_t *data;  /* [n_pieces, PIECE_SIZE]; runs go round in it */
    int n_pieces, first_piece;
    _Atomic uint64_t sum;
};

/* Work per second of the best run. */
static double best_rate(struct pool *pool, struct peak_run *run)
{
    int64_t start = clock_ns(), until = start + QUIET_NS, now = start;
    double best = 0;
    for (int i = 0; i < MIN_RUNS || (now < until && now < start + LONGEST_NS); i++) {
        int64_t begun = clock_ns();
        pool_run(pool, run->tile, run, run->n_tiles);
        now = clock_ns();
        double rate = run->work * 1e9 / (double)(now > begun ? now - begun : 1);
        until = rate > best * BETTER ? now + QUIET_NS : until;
        best = rate > best ? rate : best;
        run->first_piece += run->n_tiles;
    }
    return best;
}

/* ---- memory ---- */

static void fill_piece(void *arg, int tile, int thread)
{
    struct peak_run *run = arg;
    (void)thread;
    memset(run->data + (size_t)tile * PIECE_SIZE, tile + 1, PIECE_SIZE);
}

static void read_piece(void *arg, int tile, int thread)
{
    struct peak_run *run = arg;
    (void)thread;
    int piece = (run->first_piece + tile) % run->n_pieces;
    atomic_fetch_xor(&run->sum, run->peak->read(run->data + (size_t)piece * PIECE_SIZE, PIECE_SIZE));
}

static bool measure_read(const struct cpu_backend *be, double *out, struct error *err)
{
    uint64_t quarter = sys_memory().available / 4;
    size_t size = quarter < BUFFER_SIZE ? (size_t)quarter : BUFFER_SIZE;
    size = size < BUFFER_SIZE_MIN ? BUFFER_SIZE_MIN : size / PIECE_SIZE * PIECE_SIZE;
    struct peak_run run = {.tile = read_piece,
                           .peak = be->kernels->peak,
                           .data = aligned_alloc(CPU_ALIGN, size),
                           .n_pieces = (int)(size / PIECE_SIZE)};
    if (!run.data)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for %zu bytes to read.", size);
    run.n_tiles = be->n_threads * PIECES_PER_THREAD < run.n_pieces ? be->n_threads * PIECES_PER_THREAD : run.n_pieces;
    run.work = (double)run.n_tiles * PIECE_SIZE;
    pool_run(be->pool, fill_piece, &run, run.n_pieces);
    *out = best_rate(be->pool, &run);
    free(run.data);
    return true;
}

/* ---- products ---- */

static void multiply_tile(void *arg, int tile, int thread)
{
    struct peak_run *run = arg;
    (void)tile;
    (void)thread;
    atomic_fetch_xor(&run->sum, run->loop->run(run->rounds));
}

/* Rounds that take at least TILE_NS. */
static int64_t rounds_of_tile(const struct cpu_peak_loop *loop, _Atomic uint64_t *sum)
{
    int64_t rounds = 64, ns = 0;
    for (; ns < TILE_NS; rounds *= 2) {
        int64_t start = clock_ns();
        atomic_fetch_xor(sum, loop->run(rounds));
        ns = clock_ns() - start;
    }
    return rounds / 2;
}

static double measure_loop(const struct cpu_backend *be, const struct cpu_peak_loop *loop)
{
    struct peak_run run = {.tile = multiply_tile, .n_tiles = be->n_threads * TILES_PER_THREAD, .loop = loop};
    run.rounds = rounds_of_tile(loop, &run.sum);
    run.work = (double)run.rounds * loop->macs * run.n_tiles;
    return best_rate(be->pool, &run);
}

bool cpu_limits_measure(const struct cpu_backend_options *options, struct cpu_limits *out, struct error *err)
{
    struct backend *base = cpu_backend_create(options, err);
    if (!base)
        return false;
    const struct cpu_backend *be = cpu__of(base);
    const struct cpu_peak *peak = be->kernels->peak;
    const struct cpu_peak_loop *loops[CPU_LIMIT_COUNT] = {
        [CPU_LIMIT_INT8] = &peak->int8, [CPU_LIMIT_INT4] = &peak->int4, [CPU_LIMIT_F32] = &peak->f32};
    out->kernels = be->kernels->name;
    out->n_threads = be->n_threads;
    out->how[CPU_LIMIT_READ] = "vector loads, 4 streams of each thread";
    bool ok = measure_read(be, &out->per_second[CPU_LIMIT_READ], err);
    for (int i = CPU_LIMIT_READ + 1; ok && i < CPU_LIMIT_COUNT; i++) {
        out->how[i] = loops[i]->what;
        /* equal loops are the same limit: one figure */
        out->per_second[i] = i == CPU_LIMIT_INT4 && peak->int4.run == peak->int8.run ? out->per_second[CPU_LIMIT_INT8]
                                                                                     : measure_loop(be, loops[i]);
    }
    base->ops->free(base);
    return ok;
}
