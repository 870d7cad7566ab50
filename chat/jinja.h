/* Jinja templates as chat templates use them: rendering equals jinja2 as `transformers` sets it up
 * (ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks, loop controls, generation blocks). No host access; a step
 * and an output budget bound every render; no recursion on input depth beyond a stated limit.
 * A compiled template is const and may be rendered by many threads at once. */
#ifndef TANDEM_CHAT_JINJA_H
#define TANDEM_CHAT_JINJA_H

#include "base/buf.h"
#include "base/json.h"

struct jinja_template;

/* Compiles source. INVALID: "template line 12: expected 'endfor' but found 'endif'". The source is copied. */
NODISCARD struct jinja_template *jinja_compile(struct str source, struct error *err);
void jinja_free(struct jinja_template *t);

struct jinja_limits {
    uint64_t max_steps; /* evaluated nodes and loop turns; 0: JINJA_DEFAULT_STEPS */
    size_t max_output;  /* bytes; 0: JINJA_DEFAULT_OUTPUT */
    size_t max_memory;  /* bytes of values alive and dead; 0: JINJA_DEFAULT_MEMORY */
};
#define JINJA_DEFAULT_STEPS  20000000
#define JINJA_DEFAULT_OUTPUT ((size_t)64 << 20)
#define JINJA_DEFAULT_MEMORY ((size_t)512 << 20)

/* Renders with the members of `context` (a JSON object) as variables. now_s: what strftime_now shows (seconds since
 * 1970, local time). Appends to out. INVALID with the template line on any failure, TOO_LARGE when a budget is spent;
 * the message of raise_exception comes as it was given. */
NODISCARD bool jinja_render(const struct jinja_template *t, const struct json *context, int64_t now_s,
                            const struct jinja_limits *limits, struct buf *out, struct error *err);

#endif
