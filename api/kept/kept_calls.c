/* Calls of MCP tools, in the journal and back. Each is a row among the tokens of its request, at its place in its turn:
 * first it says that the call was begun, later what came of it.
 *
 *     {"of": calls of the turn, "tool": ..., "arguments": ..., "is_error": ..., "text": ...}    text: with the result
 *
 * The row's finish is what the answer ended with behind the turn's calls, its stop_id whether that was for want of
 * turns. */
#include "api/kept/kept_internal.h"
#include "base/limits.h"
#include "pipeline/mcp/mcp_turn.h"

enum {
    BEGUN = 1,
    ANSWERED = 2,
    OUT_OF_TURNS = 4,
    FINISH = 8
}; /* of a call: what is recorded; FINISH: times a reason */

struct turn_end {
    enum finish_reason finish;
    bool out_of_turns;
};

static struct turn_end end_of(const struct kept *k, size_t turn)
{
    struct turn_end end;
    end.finish = generation_turn_end(k->generation, turn, &end.out_of_turns);
    return end;
}

/* 0: there is nothing to record, since its turn is not over, or it is no call of an MCP tool, or it will not go out. */
static uint8_t state_of(const struct kept *k, const struct mcp_turn_call *c, struct turn_end end)
{
    bool goes_out = c->due && k->phase == KEPT_RUNNING;
    bool begun = c->tool && (goes_out || c->answered || c->saved);
    int more = (c->answered ? ANSWERED : 0) | (end.out_of_turns ? OUT_OF_TURNS : 0) | (FINISH * (int)end.finish);
    return begun ? (uint8_t)(BEGUN | more) : 0;
}

bool kept__calls_are_new(const struct kept *k)
{
    for (size_t t = 0; t < generation_n_turns(k->generation); t++) {
        const struct mcp_turn *turn = generation_turn(k->generation, t);
        struct turn_end end = end_of(k, t);
        for (size_t i = 0; i < turn->n_calls; i++) {
            if (state_of(k, &turn->calls[i], end) != turn->calls[i].saved) {
                return true;
            }
        }
    }
    return false;
}

size_t kept__n_calls(const struct kept *k)
{
    size_t n = 0;
    for (size_t t = 0; t < generation_n_turns(k->generation); t++) {
        n += mcp_turn_n_of(generation_turn(k->generation, t), true);
    }
    return n;
}

/* ---- into the journal ---- */

static bool pack(struct arena *arena, const struct mcp_turn_call *c, size_t of, struct journal_tokens *row)
{
    struct buf out;
    buf_init(&out, MIB(64));
    struct json_writer w = json_writer(&out);
    json_begin_object(&w);
    json_member_uint(&w, "of", of);
    json_member_str(&w, "tool", buf_view(&c->name));
    json_member_str(&w, "arguments", buf_view(&c->arguments));
    if (c->answered) {
        json_member_bool(&w, "is_error", c->is_error);
        json_member_str(&w, "text", buf_view(&c->result));
    }
    json_end_object(&w);
    row->data = out.failed ? (struct str){0} : arena_str(arena, buf_view(&out));
    buf_release(&out);
    return row->data.ptr != NULL;
}

static bool pack_turn(const struct kept *k, uint32_t t, struct arena *arena, struct journal_tokens *rows, size_t *n)
{
    struct mcp_turn *turn = generation_turn(k->generation, t);
    struct turn_end end = end_of(k, t);
    size_t of = mcp_turn_n_of(turn, true);
    uint32_t place = 0;
    for (size_t i = 0; i < turn->n_calls; i++) {
        struct mcp_turn_call *c = &turn->calls[i];
        c->sending = state_of(k, c, end);
        uint32_t at = place;
        place += c->tool != NULL;
        if (c->sending == c->saved) {
            continue;
        }
        struct journal_tokens *row = &rows[(*n)++];
        *row = (struct journal_tokens){.prompt = t,
                                       .choice = JOURNAL_CALLS,
                                       .first = at,
                                       .n = 1,
                                       .finish = end.finish,
                                       .stop_id = end.out_of_turns};
        if (!pack(arena, c, of, row)) {
            return false;
        }
    }
    return true;
}

bool kept__pack_calls(struct kept *k, struct arena *arena, struct journal_tokens *rows, size_t *n)
{
    for (size_t t = 0; t < generation_n_turns(k->generation); t++) {
        if (!pack_turn(k, (uint32_t)t, arena, rows, n)) {
            return false;
        }
    }
    return true;
}

void kept__calls_saved(struct kept *k)
{
    for (size_t t = 0; t < generation_n_turns(k->generation); t++) {
        struct mcp_turn *turn = generation_turn(k->generation, t);
        struct gen_mark *mark = &k->saved[t];
        bool shown = true;
        mark->n_results = 0;
        mark->ended = turn->n_calls > 0;
        for (size_t i = 0; i < turn->n_calls; i++) {
            struct mcp_turn_call *c = &turn->calls[i];
            c->saved = c->sending;
            shown = shown && (!c->tool || (c->saved & ANSWERED));
            mark->n_results += shown;
            mark->ended = mark->ended && (!c->tool || c->saved >= FINISH);
        }
    }
}

/* ---- out of it ---- */

static bool read_call(struct arena *arena, const struct journal_tokens *row, struct gen_saved_call *out, size_t *of)
{
    struct error ignored = {0};
    const struct json *v = json_keep(json_parse(row->data, 4, &ignored), arena, "a call", &ignored);
    const struct json *text = json_get(v, "text");
    *of = (size_t)json_int(json_get(v, "of"));
    *out = (struct gen_saved_call){.tool = json_str(json_get(v, "tool")),
                                   .arguments = json_str(json_get(v, "arguments")),
                                   .answered = text != NULL,
                                   .is_error = json_bool(json_get(v, "is_error")),
                                   .text = json_str(text),
                                   .finish = row->finish,
                                   .out_of_turns = row->stop_id != 0};
    return v != NULL;
}

bool kept__read_calls(struct arena *arena, const struct journal_tokens *rows, size_t n, struct gen_saved_calls *out,
                      bool *whole)
{
    size_t of = 0;
    struct gen_saved_call *items = arena_alloc_array(arena, n, sizeof *items);
    *out = (struct gen_saved_calls){.items = items};
    while (items && out->n < n && read_call(arena, &rows[out->n], &items[out->n], &of)) {
        out->n++;
    }
    *whole = out->n == n && n == of;
    return items != NULL;
}
