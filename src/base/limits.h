/* limits: every bound of the program, by name. Sizes in bytes unless the name says otherwise. The
 * source of a published bound stands beside it ("API"); the others are ours.
 */
#ifndef OSTLER_BASE_LIMITS_H
#define OSTLER_BASE_LIMITS_H

enum {
    /* HTTP */
    LIMIT_HTTP_HEAD = 32 * 1024,         /* request line and headers */
    LIMIT_HTTP_HEADERS = 100,            /* header lines */
    LIMIT_HTTP_BODY = 32 * 1024 * 1024,  /* JSON bodies (API) */
    LIMIT_HTTP_HEAD_MS = 10 * 1000,      /* a head must be complete by then */
    LIMIT_HTTP_BODY_IDLE_MS = 30 * 1000, /* silence inside a body */
    LIMIT_HTTP_KEEPALIVE_MS = 75 * 1000, /* silence between requests */
    LIMIT_HTTP_CONNECTIONS = 8192,
    LIMIT_STREAM_QUEUE = 32 * 1024, /* unsent bytes beyond the socket's buffer, per stream */
    LIMIT_STREAM_PING_MS = 15 * 1000,
    LIMIT_STREAM_TICK_MS = 5 * 1000,    /* how often streams are looked after; divides the ping */
    LIMIT_STREAM_STALL_MS = 10 * 1000,  /* a full queue that takes nothing for so long is cut */
    LIMIT_SSE_EVENT = 32 * 1024 * 1024, /* one event read from a provider */

    /* JSON */
    LIMIT_JSON_DEPTH = 128,
    LIMIT_JSON_ARENA = 256 * 1024 * 1024, /* nodes and decoded strings of one document */

    /* API objects (API) */
    LIMIT_NAME_CHARS = 256,
    LIMIT_DESCRIPTION_CHARS = 2048,
    LIMIT_SYSTEM_CHARS = 100000,
    LIMIT_TITLE_CHARS = 1024, /* ours */
    LIMIT_BUDGET_DIGITS = 12, /* ours: of its cents */
    LIMIT_TOOLS = 256,
    LIMIT_METADATA_PAIRS = 16,
    LIMIT_METADATA_KEY_CHARS = 64,
    LIMIT_METADATA_VALUE_CHARS = 512,
    LIMIT_INITIAL_EVENTS = 50,
    LIMIT_EVENTS_PER_SEND = 1000,
    LIMIT_CONTENT_BLOCKS = 1000,
    LIMIT_FILE_DOCUMENTS = 100,                    /* with files as sources, in one request */
    LIMIT_RESOURCES = 500,                         /* of one session */
    LIMIT_REPOSITORIES = 20,                       /* ours: of those */
    LIMIT_MESSAGE_FILES = 20 * 1024 * 1024,        /* ours: bytes of the files in one message */
    LIMIT_REQUEST_FILES = 3 * LIMIT_MESSAGE_FILES, /* ours: ... and in all of one request */

    /* Files (API) */
    LIMIT_FILE = 500 * 1024 * 1024,
    LIMIT_FILENAME_CHARS = 255,
    LIMIT_MIME_TYPE = 127, /* ours */
    LIMIT_FILE_EXPIRES_MIN_S = 3600,
    LIMIT_FILE_EXPIRES_MAX_S = 7776000,
    LIMIT_FILE_METADATA_DAYS = 30, /* how long an expired file can still be looked at */
    LIMIT_FILE_IDS = 100,          /* of one list request */

    /* Skills (API) */
    LIMIT_SKILL_NAME = 64,          /* characters */
    LIMIT_SKILL_DESCRIPTION = 1024, /* characters */
    LIMIT_SKILL_LABEL = 255,        /* characters of display_name */
    LIMIT_SKILL = 30 * 1024 * 1024, /* bytes of its files; also of an archive that holds them */
    LIMIT_SKILL_MD = 256 * 1024,    /* ours: what the read tool gives at once */
    LIMIT_SKILL_FILES = 1000,       /* ours, as are the next ones */
    LIMIT_SKILL_ENTRIES = 4000,     /* of an archive: files, folders and what is left out */
    LIMIT_SKILL_PATH = 512,         /* bytes */
    LIMIT_SKILL_DEPTH = 16,         /* names in a path */
    LIMIT_SKILL_RATIO = 250,        /* unpacked bytes for one of the archive, over 1 MB */
    LIMIT_AGENT_SKILLS = 20,

    /* Loop */
    LIMIT_TOOL_ROUNDS = 500, /* per turn */
    LIMIT_COMPACTIONS = 3,   /* in a row, without a word of the model */
    LIMIT_MODEL_ATTEMPTS = 5,
    LIMIT_MODEL_BACKOFF_MIN_MS = 500,
    LIMIT_MODEL_BACKOFF_MAX_MS = 8000,
    LIMIT_RETRY_AFTER_MS = 60 * 1000,
    LIMIT_CHECKPOINT_INTERVAL_MS = 60 * 1000,
    LIMIT_CHECK_SECONDS = 120, /* of one check of a rubric, unless it says so */
    LIMIT_CHECK_SECONDS_MAX = 600,
    LIMIT_CHECKS = 50,
    LIMIT_CHECK_NAME_CHARS = 128,
    LIMIT_CHECK_RUN_CHARS = 16384, /* with its quotes it fits an argument of a program */
    LIMIT_CHECK_PATTERN_CHARS = 4096,
    LIMIT_RUBRIC_CHARS = 262144, /* (API) */
    LIMIT_OUTCOME_CHARS = 65536, /* of its description */
    LIMIT_EVALUATION_MS = 30 * 60 * 1000,
    LIMIT_EVALUATION_BEAT_MS = 15 * 1000,
    LIMIT_FORK_WAIT_MS = 5 * 1000, /* for a checkpoint that is being taken */
    LIMIT_FORK_LOOK_MS = 20,
    LIMIT_MODEL_CONNECT_MS = 10 * 1000,
    LIMIT_MODEL_FIRST_BYTE_MS = 120 * 1000,
    LIMIT_MODEL_SILENCE_MS = 60 * 1000,
    LIMIT_MODEL_RESPONSE = 64 * 1024 * 1024,
    LIMIT_PROMPT = 256 * 1024 * 1024,
    LIMIT_TOOL_CALLS_PER_RESPONSE = 128,

    /* Tools */
    LIMIT_TOOL_MS = 120 * 1000,         /* default for one call (API) */
    LIMIT_TOOL_MAX_MS = 600 * 1000,     /* the most timeout_ms may ask for */
    LIMIT_BASH_OUTPUT = 100 * 1024,     /* kept: the last ones (API) */
    LIMIT_READ_OUTPUT = 256 * 1024,     /* (API) */
    LIMIT_GREP_OUTPUT = 100 * 1024,     /* (API) */
    LIMIT_GLOB_RESULTS = 200,           /* (API) */
    LIMIT_GREP_MS = 60 * 1000,          /* (API) */
    LIMIT_SPILL_CHARS = 100000,         /* longer results go to a file (API) */
    LIMIT_WEB_FETCH = 10 * 1024 * 1024, /* bytes of one response, unpacked */
    LIMIT_WEB_MS = 30 * 1000,           /* one call of web_fetch or web_search */
    LIMIT_WEB_SEARCH = 2 * 1024 * 1024, /* bytes of one answer of the search engine */
    LIMIT_HAND_FRAME = 40 * 1024 * 1024,
    LIMIT_HAND_GRACE_MS = 60 * 60 * 1000, /* a hand without a server ends itself */

    /* Sandbox defaults, per sandbox */
    LIMIT_SANDBOX_PIDS = 512,
    LIMIT_SANDBOX_MEMORY_MB = 4096,
    LIMIT_SANDBOX_CPUS = 2,
    LIMIT_SANDBOX_FILE_MB = 4096,
    LIMIT_SANDBOX_DISK_MB = 10240,
    LIMIT_CHECKPOINT_FILES = 250000,
    LIMIT_CHECKPOINT_MB = 10240,  /* of files: what is stored is less */
    LIMIT_REPOSITORY_MB = 4096,   /* one file of what a clone fetches */
    LIMIT_REPOSITORY_DAYS = 30,   /* a mirror that nobody fetches into goes */
    LIMIT_SANDBOX_WARM = 256,     /* kept ready for sessions to come; default: none */
    LIMIT_MIRRORS_MB = 2048,      /* default: all mirrors; then the least recently used go */
    LIMIT_TOOL_NOTE = 128 * 1024, /* what is said before a result */
    LIMIT_OUTPUTS = 1000,         /* files of one session's outputs that are listed */
    LIMIT_SKILL_CACHE = 200,      /* unpacked skills that are kept for the next session */

    /* Server */
    LIMIT_SHUTDOWN_MS = 5 * 1000,
    LIMIT_STORE_BATCH = 512,              /* writes of one group commit */
    LIMIT_INBOX_READ = 16 * 1024 * 1024,  /* bytes of waiting events read at once, and one event */
    LIMIT_INBOX_TAKE = 128 * 1024 * 1024, /* ... that one model request takes in, and one event */
    LIMIT_INBOX_EVENTS = 4000,            /* that wait in one session; ... */
    LIMIT_INBOX_BYTES = 128 * 1024 * 1024,
    LIMIT_STORE_QUEUE = 16384,

    /* Self-hosted workers */
    LIMIT_WORK_LEASE_S = 300, /* unless they ask for another (API) */

    /* Egress proxy */
    LIMIT_EGRESS_PACKET = 128 * 1024,    /* one control message: a policy of 1000 hosts fits */
    LIMIT_EGRESS_CONNECTIONS = 64,       /* per sandbox; more wait */
    LIMIT_EGRESS_LOOKUPS = 4,            /* per sandbox at a time; more wait */
    LIMIT_EGRESS_IDLE_MS = 300 * 1000,   /* silence in both directions */
    LIMIT_EGRESS_CONNECT_MS = 10 * 1000, /* lookup and connecting; also a head, or a TLS hello */
    LIMIT_EGRESS_RECORDS = 10000,        /* kept of a session; then the oldest go */
    LIMIT_EGRESS_WAITING = 8192,         /* records not written yet; more are left out */
    LIMIT_EGRESS_BACKLOG = 1024 * 1024, /* records not taken by the server; then nobody is served */
};

#endif
