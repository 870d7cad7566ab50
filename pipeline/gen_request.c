#include "pipeline/gen_request.h"

#include "base/clock.h"

void gen_request_init(struct gen_request *r, struct arena *arena, enum gen_input input)
{
    *r = (struct gen_request){
        .arena = arena,
        .input = input,
        .created_s = clock_wall_s(),
        .received_us = clock_us(),
        .add_generation_prompt = true,
        .parallel_tool_calls = true,
        .include_reasoning = true,
        .thinking = -1,
        .thinking_budget = -1,
        .add_special_tokens = true,
        .sampling = sampling_default(),
        .max_tokens = -1,
        .n = 1,
        .cache_prompt = true,
        .skip_special_tokens = true,
        .interval_tokens = 1,
    };
}

struct str gen_tool_name(const struct json *tool)
{
    return json_str(json_get(json_get(tool, "function"), "name"));
}

const struct json *gen_tool_find(const struct json *tools, struct str name)
{
    for (size_t i = 0; i < json_len(tools); i++) {
        if (str_eq(gen_tool_name(json_at(tools, i)), name)) {
            return json_at(tools, i);
        }
    }
    return NULL;
}
