/* An answer that obeys a JSON Schema, whatever the model would rather say.
 *
 *     cc structured.c $(pkg-config --cflags --libs tandem) -o structured
 *     ./structured model.gguf "The weather in Rome is sunny, 31 degrees." */
#include <tandem.h>

#include <stdio.h>

static const char schema[] = "{\"type\": \"object\", \"properties\": {"
                             "   \"sky\": {\"enum\": [\"sunny\", \"cloudy\", \"rainy\"]},"
                             "   \"degrees\": {\"type\": \"integer\", \"minimum\": -60, \"maximum\": 60}},"
                             " \"required\": [\"sky\", \"degrees\"], \"additionalProperties\": false}";

int main(int argc, char **argv)
{
    struct tandem_error error = {0};
    struct tandem_model *model = argc == 3 ? tandem_model_load(argv[1], NULL, &error) : NULL;
    if (!model) {
        fprintf(stderr, "structured: %s\n", argc == 3 ? error.message : "usage: structured MODEL TEXT");
        return 1;
    }
    struct tandem_message messages[] = {{"system", "Answer with the sky and the temperature, as JSON."},
                                        {"user", argv[2]}};
    struct tandem_request request;
    tandem_request_init(&request, sizeof request);
    request.messages = messages;
    request.n_messages = 2;
    request.json_schema = schema;
    request.max_tokens = 256;
    request.temperature = 0;
    struct tandem_answer *answer = tandem_generate_wait(model, &request, &error);
    if (answer) {
        puts(tandem_answer_text(answer, 0, NULL));
    } else {
        fprintf(stderr, "structured: %s\n", error.message);
    }
    int status = answer ? 0 : 1;
    tandem_answer_free(answer);
    tandem_model_free(model);
    return status;
}
