/* Many generations at once, which share the steps of the engine; those with an odd number are cancelled once they have
 * said something.
 *
 *     cc many.c $(pkg-config --cflags --libs tandem) -o many
 *     ./many model.gguf */
#include <tandem.h>

#include <stdio.h>

#define N 16

struct task {
    int index, n_pieces;
    enum tandem_finish finish;
};

static bool on_event(void *arg, const struct tandem_event *event)
{
    struct task *t = arg;
    if (event->kind == TANDEM_EVENT_TEXT) {
        t->n_pieces++;
    } else if (event->kind == TANDEM_EVENT_FINISH) {
        t->finish = event->finish;
    }
    return t->index % 2 == 0 || t->n_pieces < 2; /* false: it is enough */
}

int main(int argc, char **argv)
{
    struct tandem_error error = {0};
    struct tandem_model *model = argc == 2 ? tandem_model_load(argv[1], NULL, &error) : NULL;
    struct tandem_generation *generations[N];
    struct task tasks[N];
    if (!model) {
        fprintf(stderr, "many: %s\n", argc == 2 ? error.message : "usage: many MODEL");
        return 1;
    }
    for (int i = 0; i < N; i++) {
        char prompt[64]; /* copied by tandem_generate */
        struct tandem_request request;
        snprintf(prompt, sizeof prompt, "Story number %d. Once upon a time", i);
        tandem_request_init(&request, sizeof request);
        request.prompt = prompt;
        request.max_tokens = 48;
        request.ignore_eos = true;
        tasks[i] = (struct task){.index = i};
        generations[i] = tandem_generate(model, &request, on_event, &tasks[i], &error);
        if (!generations[i]) {
            fprintf(stderr, "many: %s\n", error.message);
        }
    }
    int n_whole = 0, n_cancelled = 0;
    for (int i = 0; i < N; i++) {
        if (generations[i]) {
            tandem_generation_wait(generations[i], -1);
            tandem_generation_free(generations[i]);
            n_whole += tasks[i].finish == TANDEM_FINISH_LENGTH;
            n_cancelled += tasks[i].finish == TANDEM_FINISH_CANCELLED;
        }
    }
    printf("%d whole, %d cancelled\n", n_whole, n_cancelled);
    tandem_model_free(model);
    return n_whole + n_cancelled == N ? 0 : 1;
}
