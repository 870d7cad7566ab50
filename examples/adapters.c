/* One prompt to a model and to adapters of it, all at once in one batch.
 *
 *     cc adapters.c $(pkg-config --cflags --libs tandem) -o adapters
 *     ./adapters model.gguf "Once upon a time" adapters/one adapters/two.gguf */
#include <tandem.h>

#include <stdio.h>
#include <stdlib.h>

#define MAX_ADAPTERS 8
#define TEXT_SIZE    4096

struct story {
    const char *path; /* of its adapter; NULL: the model itself */
    char name[24];
    struct tandem_generation *generation;
    char text[TEXT_SIZE];
    size_t size;
};

static bool on_event(void *arg, const struct tandem_event *event)
{
    struct story *s = arg;
    if (event->kind == TANDEM_EVENT_TEXT) {
        int n = snprintf(s->text + s->size, sizeof s->text - s->size, "%s", event->text);
        s->size += n > 0 ? (size_t)n : 0;
    }
    if (event->kind == TANDEM_EVENT_END && event->error) {
        fprintf(stderr, "adapters: %s\n", event->error->message);
    }
    return s->size < sizeof s->text; /* else it is enough */
}

static bool start(struct tandem_model *model, struct story *s, const char *prompt, struct tandem_error *error)
{
    struct tandem_request request;
    tandem_request_init(&request, sizeof request);
    request.prompt = prompt;
    request.max_tokens = 32;
    request.temperature = 0;
    if (s->path) {
        if (!tandem_model_load_adapter(model, s->name, s->path, error)) {
            return false;
        }
        request.adapter = s->name;
    }
    s->generation = tandem_generate(model, &request, on_event, s, error);
    /* Nobody else needs it: it goes when this generation has ended. */
    return s->generation && (!s->path || tandem_model_unload_adapter(model, s->name, error));
}

static bool tell(struct tandem_model *model, struct story *stories, int n, const char *prompt,
                 struct tandem_error *error)
{
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        snprintf(stories[i].name, sizeof stories[i].name, "adapter-%d", i);
        ok = start(model, &stories[i], prompt, error);
    }
    for (int i = 0; i < n; i++) {
        if (stories[i].generation && ok) {
            tandem_generation_wait(stories[i].generation, -1);
            printf("%s: %s%s\n", stories[i].path ? stories[i].path : "the model", prompt, stories[i].text);
        }
        tandem_generation_free(stories[i].generation);
    }
    return ok;
}

int main(int argc, char **argv)
{
    struct tandem_error error = {0};
    int n = argc - 2;
    if (n < 1 || n > 1 + MAX_ADAPTERS) {
        fprintf(stderr, "usage: adapters MODEL PROMPT [ADAPTER ...], at most %d of them\n", MAX_ADAPTERS);
        return 2;
    }
    struct story *stories = calloc((size_t)n, sizeof *stories);
    struct tandem_model *model = stories ? tandem_model_load(argv[1], NULL, &error) : NULL;
    for (int i = 1; stories && i < n; i++) {
        stories[i].path = argv[2 + i];
    }
    bool ok = model && tell(model, stories, n, argv[2], &error);
    if (!ok) {
        fprintf(stderr, "adapters: %s\n", stories ? error.message : "no memory");
    }
    tandem_model_free(model);
    free(stories);
    return ok ? 0 : 1;
}
