/* The least there is: a prompt, and what the model makes of it.
 *
 *     cc generate.c $(pkg-config --cflags --libs tandem) -o generate
 *     ./generate model.gguf "The capital of France is" */
#include <tandem.h>

#include <stdio.h>

int main(int argc, char **argv)
{
    struct tandem_error error = {0};
    struct tandem_request request;
    if (argc != 3) {
        fprintf(stderr, "usage: generate MODEL PROMPT\n");
        return 2;
    }
    struct tandem_model *model = tandem_model_load(argv[1], NULL, &error);
    if (!model) {
        fprintf(stderr, "generate: %s\n", error.message);
        return 1;
    }
    tandem_request_init(&request, sizeof request);
    request.prompt = argv[2];
    request.max_tokens = 32;
    request.temperature = 0;
    struct tandem_answer *answer = tandem_generate_wait(model, &request, &error);
    if (answer) {
        struct tandem_usage usage = tandem_answer_usage(answer);
        printf("%s%s\n", argv[2], tandem_answer_text(answer, 0, NULL));
        fprintf(stderr, "%llu tokens of prompt, %llu of answer\n", (unsigned long long)usage.prompt,
                (unsigned long long)usage.completion);
    } else {
        fprintf(stderr, "generate: %s\n", error.message);
    }
    int status = answer ? 0 : 1;
    tandem_answer_free(answer);
    tandem_model_free(model);
    return status;
}
