/* Bounds of everything that grows with outside input. A limit that an operator may change is a default here and an
 * option in cli/options; the rest is fixed. */
#ifndef TANDEM_BASE_LIMITS_H
#define TANDEM_BASE_LIMITS_H

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)
#define GIB(n) ((size_t)(n) << 30)

/* HTTP */
#define LIMIT_HTTP_LINE         KIB(16) /* request line */
#define LIMIT_HTTP_HEADERS      KIB(64) /* all header fields together */
#define LIMIT_HTTP_HEADER_COUNT 100
#define LIMIT_HTTP_BODY         MIB(32)
#define LIMIT_HTTP_CONNECTIONS  1024
#define LIMIT_HTTP_CLIENT       256      /* of them, from one address of another machine */
#define LIMIT_HTTP_PIPELINE     16       /* requests of one connection waiting for their turn */
#define LIMIT_HTTP_REPLY        MIB(64)  /* one non-streaming reply */
#define LIMIT_HTTP_OUT_BUFFER   KIB(256) /* unsent bytes of one stream before its source is paused */

/* API keys */
#define LIMIT_API_KEYS      1024
#define LIMIT_API_KEY_SIZE  1024 /* bytes of one key */
#define LIMIT_API_KEYS_FILE MIB(1)

/* requests */
#define LIMIT_JSON_DEPTH     32
#define LIMIT_MESSAGES       4096
#define LIMIT_STOPS          16
#define LIMIT_STOP_SIZE      256 /* bytes of one stop string */
#define LIMIT_LOGIT_BIAS     1024
#define LIMIT_TOP_LOGPROBS   20
#define LIMIT_CHOICES        64 /* n and best_of */
#define LIMIT_PROMPTS        64 /* prompts of one completion request */
#define LIMIT_REQUEST_ARENA  MIB(256)
#define LIMIT_TOOLS          512     /* of one request */
#define LIMIT_TOOL_NAME      128     /* bytes */
#define LIMIT_TURN_CALLS     256     /* tool_use blocks of one turn of a conversation */
#define LIMIT_SCHEMA_SIZE    MIB(1)  /* JSON text of one tool's parameters or of a response format */
#define LIMIT_GRAMMAR_SIZE   MIB(1)  /* text of one grammar or regular expression */
#define LIMIT_SCHEMA_REFS    1024    /* places in one schema that references lead to */
#define LIMIT_SCHEMA_DROPS   256     /* of one schema that are named; more are counted */
#define LIMIT_CHOICE_STRINGS 4096    /* of one choice among texts */
#define LIMIT_TRIGGERS       32      /* of a constraint that waits for one */
#define LIMIT_TRIGGER_SIZE   256     /* bytes */
#define LIMIT_MARKER_IDS     64      /* tokens that begin or end reasoning */
#define LIMIT_FORCED_IDS     1024    /* tokens that are written when its budget is used up */
#define LIMIT_CONSTRAINT     MIB(2)  /* bytes of an encoded constraint spec */
#define LIMIT_OUTPUT_TEXT    MIB(64) /* what one choice may write */

/* JSON Schema, compiled and validated (grammar/json_schema.h) */
#define LIMIT_SCHEMA_DEPTH     128        /* nesting of the schema's JSON, and of what is compared as a whole */
#define LIMIT_SCHEMA_VALUES    (1u << 18) /* JSON values of one document */
#define LIMIT_SCHEMA_DOCUMENTS 64         /* other documents that a schema refers to */
#define LIMIT_SCHEMA_ARENA     MIB(64)    /* what one compiled schema takes, without its patterns */
#define LIMIT_SCHEMA_PATTERN   KIB(16)    /* bytes of one regular expression */
#define LIMIT_SCHEMA_PATTERNS  MIB(8)     /* all regular expressions of a schema, compiled */
#define LIMIT_SCHEMA_NESTED    256        /* schemas applied within each other at once; each takes stack */
#define LIMIT_SCHEMA_STEPS     10000000   /* of one validation: a keyword, a member, an item, 64 bytes of text */
#define LIMIT_SCHEMA_SCRATCH   MIB(64)    /* memory of one validation */

/* warm prompts */
#define LIMIT_WARM_FILE    MIB(16)
#define LIMIT_WARM_PROMPTS 256
#define LIMIT_WARM_VALUES  (1u << 20) /* JSON values of the file, or of one line of it */

/* models */
#define LIMIT_GGUF_KEYS        65536
#define LIMIT_GGUF_TENSORS     65536
#define LIMIT_GGUF_DIMS        4
#define LIMIT_GGUF_SHARDS      1024
#define LIMIT_GGUF_KEY         65535      /* bytes of a metadata key */
#define LIMIT_GGUF_NAME        255        /* bytes of a tensor name */
#define LIMIT_GGUF_INDEX       MIB(256)   /* what the reader builds in memory for one model */
#define LIMIT_GGUF_OVERRIDES   64         /* --override-kv */
#define LIMIT_FOLDER_TENSORS   131072     /* of a model folder; experts come one by one */
#define LIMIT_FOLDER_KEYS      262144     /* metadata keys from all JSON files of a folder together */
#define LIMIT_FOLDER_JSON      MIB(32)    /* bytes of one JSON file that becomes metadata, or of a template */
#define LIMIT_FOLDER_INDEX     MIB(64)    /* bytes of model.safetensors.index.json */
#define LIMIT_FOLDER_DOCUMENT  MIB(512)   /* bytes of a file that is only a document: tokenizer.json */
#define LIMIT_FOLDER_VALUES    (1u << 20) /* JSON values of one such file */
#define LIMIT_FOLDER_TEMPLATES 64         /* files in additional_chat_templates */
#define LIMIT_SAFETENSORS_HEAD 100000000  /* bytes of a header; the limit of the reference implementation */
#define LIMIT_VOCAB            (1u << 20)
#define LIMIT_CONTEXT          (1u << 22)

/* MCP servers */
#define LIMIT_MCP_CONFIG      MIB(1)
#define LIMIT_MCP_SERVERS     64
#define LIMIT_MCP_WORDS       256        /* arguments, environment, headers, patterns: of each, of one server */
#define LIMIT_MCP_VALUE       KIB(32)    /* one value of the configuration, variables filled in */
#define LIMIT_MCP_MESSAGE     MIB(4)     /* one message, either way */
#define LIMIT_MCP_VALUES      (1u << 18) /* JSON values of one message, or of one list */
#define LIMIT_MCP_DEPTH       64         /* of a message */
#define LIMIT_MCP_BATCH       256        /* messages of a batch */
#define LIMIT_MCP_LIST        MIB(8)     /* JSON text of one server's list, all pages */
#define LIMIT_MCP_PAGES       256
#define LIMIT_MCP_TOOLS       256     /* of one server */
#define LIMIT_MCP_TOOL_NAME   64      /* bytes of a tool's name as models see it: what APIs allow */
#define LIMIT_MCP_SERVER_NAME 40      /* bytes */
#define LIMIT_MCP_RESULT      MIB(1)  /* text of one result; the rest is cut off */
#define LIMIT_MCP_PENDING     256     /* requests to one server without an answer yet */
#define LIMIT_MCP_CALLS       8       /* calls that one server works on at a time */
#define LIMIT_MCP_WAITING     64      /* calls to one server that wait for their turn */
#define LIMIT_MCP_UNSENT      MIB(16) /* bytes that a process has not read yet */

/* Hugging Face Hub (hub/) */
#define LIMIT_HUB_REPLY       MIB(32)    /* JSON of one reply */
#define LIMIT_HUB_VALUES      (1u << 20) /* JSON values of it */
#define LIMIT_HUB_FILES       65536      /* of a repository */
#define LIMIT_HUB_ARENA       MIB(64)    /* what is kept of a listing */
#define LIMIT_HUB_HEAD        MIB(128)   /* head of a model file that is not here */
#define LIMIT_HUB_MODELS      4096       /* models of a cache that are listed */
#define LIMIT_REGISTRY_FILE   MIB(1)
#define LIMIT_REGISTRY_NAMES  4096
#define LIMIT_REGISTRY_VALUES 65536 /* JSON values of it */

/* wire */
#define LIMIT_FRAME MIB(16)

#endif
