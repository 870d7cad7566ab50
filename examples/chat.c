/* A conversation: lines of standard input are what the user says, answers are printed as they come.
 *
 *     cc chat.c $(pkg-config --cflags --libs tandem) -o chat
 *     ./chat model.gguf */
#include <tandem.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TURNS_MAX 64

struct conversation {
    struct tandem_message messages[2 * TURNS_MAX];
    size_t n;
    char *answer; /* so far */
    size_t answer_size;
    bool failed;
};

/* On the model's thread. The main thread waits meanwhile, so nothing else touches the conversation. */
static bool on_event(void *arg, const struct tandem_event *event)
{
    struct conversation *c = arg;
    if (event->kind == TANDEM_EVENT_TEXT) {
        char *grown = realloc(c->answer, c->answer_size + event->text_size + 1);
        if (!grown) {
            return false; /* it is cancelled */
        }
        c->answer = grown;
        memcpy(c->answer + c->answer_size, event->text, event->text_size + 1);
        c->answer_size += event->text_size;
        fputs(event->text, stdout);
        fflush(stdout);
    } else if (event->kind == TANDEM_EVENT_END && event->error) {
        fprintf(stderr, "chat: %s\n", event->error->message);
        c->failed = true;
    }
    return true;
}

static bool add(struct conversation *c, const char *role, char *content)
{
    if (!content || c->n == 2 * TURNS_MAX) {
        free(content);
        return false;
    }
    c->messages[c->n++] = (struct tandem_message){role, content};
    return true;
}

static bool answer(struct tandem_model *model, struct conversation *c)
{
    struct tandem_error error = {0};
    struct tandem_request request;
    tandem_request_init(&request, sizeof request);
    request.messages = c->messages;
    request.n_messages = c->n;
    request.max_tokens = 64;
    c->answer = NULL;
    c->answer_size = 0;
    struct tandem_generation *generation = tandem_generate(model, &request, on_event, c, &error);
    if (!generation) {
        fprintf(stderr, "chat: %s\n", error.message);
        return false;
    }
    tandem_generation_wait(generation, -1);
    tandem_generation_free(generation);
    putchar('\n');
    return !c->failed && add(c, "assistant", c->answer ? c->answer : strdup(""));
}

int main(int argc, char **argv)
{
    struct tandem_error error = {0};
    struct conversation c = {0};
    char line[4096];
    bool ok = true;
    struct tandem_model *model = argc == 2 ? tandem_model_load(argv[1], NULL, &error) : NULL;
    if (!model) {
        fprintf(stderr, "chat: %s\n", argc == 2 ? error.message : "usage: chat MODEL");
        return 1;
    }
    while (ok && fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        ok = add(&c, "user", strdup(line)) && answer(model, &c);
    }
    for (size_t i = 0; i < c.n; i++) {
        free((char *)c.messages[i].content);
    }
    tandem_model_free(model);
    return ok ? 0 : 1;
}
