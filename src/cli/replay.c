#include "cli/replay.h"

#include "base/fd.h"
#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/options.h"
#include "cli/replay_show.h"

#include <unistd.h>

enum { UNREADABLE = CLI_SERVER, REQUESTS_DEFAULT = 50, DUMP_MODE = 0600 };

struct replay {
    struct replay_log log;
    struct replay_show show;
    struct replay_asker *asker; /* NULL: requests are compared, not sent */
    const char *model, *dump;
    int64_t version, only, max_requests;
    bool all, as_json;
    bool found;   /* the one that was asked for */
    bool stopped; /* what was asked for is known: the rest of the log is not needed */
};

static const char notes[] =
    "Reads the data directory itself, beside a running server or without one, and writes\n"
    "nothing. Each model request is built again from the log, as after a crash, and compared with\n"
    "the digest that was noted when it was sent.\n"
    "\n"
    "With --agent or --model the recorded conversation goes to another version of the agent or to\n"
    "another model, request by request, and its answers are compared with the recorded ones. "
    "Tools\n"
    "are not run: the recorded results are fed. It ends at the first answer that differs; with\n"
    "--all it goes on with the recorded conversation. Real models cost money: --max-requests\n"
    "bounds it, and what was spent is said at the end.\n"
    "\n"
    "Examples:\n"
    "  ostler replay sesn_01ABC\n"
    "  ostler replay sesn_01ABC --request 3 --dump request.json\n"
    "  ostler replay sesn_01ABC --agent 2\n"
    "  ostler replay sesn_01ABC --model claude-opus-4-5 --all --max-requests 10\n"
    "\n"
    "Exit codes: 0 everything is equal, 1 something differs, 2 usage, 3 the log cannot be read or\n"
    "the model cannot be asked\n";

/* ---- each request ---- */

static int flush(struct replay *r, struct err *err)
{
    int rc = r->as_json ? 0 : fd_write_all(STDOUT_FILENO, buf_view(&r->show.out), err);
    if (!r->as_json)
        buf_clear(&r->show.out);
    return rc;
}

static int dump(const struct replay *r, const struct replay_request *q, struct err *err)
{
    AUTO_BUF struct buf b = BUF_INIT((size_t)LIMIT_PROMPT * 3);
    if (q->state == REPLAY_NOT_BUILT || !str_some(q->built.messages))
        return err_set(err, ERR_NOT_FOUND, "request %lld cannot be built: %s", (long long)q->number,
                       q->why.msg);
    replay_write_request(&q->built, &b);
    buf_ch(&b, '\n');
    if (!buf_ok(&b))
        return err_set(err, ERR_LIMIT, "request %lld is too large", (long long)q->number);
    if (strcmp(r->dump, "-") == 0)
        return fd_write_all(STDOUT_FILENO, buf_view(&b), err);
    return fd_write_file_atomic(r->dump, buf_view(&b), DUMP_MODE, err);
}

/* Then nothing else goes there. */
static bool dumps_to_stdout(const struct replay *r)
{
    return r->dump && strcmp(r->dump, "-") == 0;
}

static int on_compared(struct replay *r, struct replay_request *q, struct err *err)
{
    if (r->dump) {
        int rc = dump(r, q, err);
        if (rc)
            return rc;
    }
    if (!dumps_to_stdout(r))
        replay_show_request(&r->show, q);
    return flush(r, err);
}

/* Compactions are the server's own, and what nobody answered says nothing. */
static bool is_answered(const struct replay_request *q, const struct replay_answer *recorded)
{
    bool used = q->ended.usage.output_tokens > 0;
    return q->to && !q->is_error && q->record.purpose == MODEL_FOR_TURN &&
           q->state != REPLAY_NOT_BUILT && (recorded->n > 0 || used);
}

static int on_asked(struct replay *r, struct replay_request *q, struct err *err)
{
    AUTO_ARENA struct arena a;
    arena_init(&a, LIMIT_MODEL_RESPONSE * 4ul);
    struct replay_answer recorded, other = {0};
    struct model_usage used = {0};
    int rc = replay_recorded(&r->log, q, &a, &recorded, err);
    if (rc)
        return rc;
    if (!is_answered(q, &recorded) || !str_some(q->built.messages)) {
        replay_show_skipped(&r->show, q);
        return flush(r, err);
    }
    if (r->show.asked == r->max_requests) {
        r->show.out_of_requests = r->stopped = true;
        return 0;
    }
    rc = replay_ask(r->asker, q, &a, &other, &used, err);
    replay_show_spent(&r->show, &used);
    if (rc)
        return rc;
    bool same = replay_same(&recorded, &other);
    replay_show_answers(&r->show, q, same, &recorded, &other);
    r->stopped = !same && !r->all;
    return flush(r, err);
}

static int on_request(void *arg, struct replay_request *q, struct err *err)
{
    struct replay *r = arg;
    if (r->stopped || (r->only && q->number != r->only))
        return 0;
    r->found = true;
    int rc = r->asker ? on_asked(r, q, err) : on_compared(r, q, err);
    r->stopped = r->stopped || r->only;
    return rc;
}

/* ---- the command ---- */

static int walk(struct replay *r, struct err *err)
{
    if (!dumps_to_stdout(r))
        replay_show_begin(&r->show, &r->log, r->asker ? replay_asker_model(r->asker) : NULL);
    int rc = replay_each(&r->log, on_request, r, err);
    /* What stands behind the end of the search is not asked for. */
    if (rc && r->stopped)
        rc = 0;
    if (rc == 0 && r->only && !r->found)
        rc = err_set(err, ERR_INVALID, "the session has no request %lld", (long long)r->only);
    if (!dumps_to_stdout(r))
        replay_show_end(&r->show, rc ? err : NULL);
    struct err late;
    if (fd_write_all(STDOUT_FILENO, buf_view(&r->show.out), rc ? &late : err) && rc == 0)
        rc = err->code;
    return rc;
}

static int run(struct replay *r, const struct config *cfg, const char *session)
{
    struct err err = {0};
    int rc = replay_open(&r->log, cfg->data, str_z(session), r->version, &err);
    if (rc == 0 && (r->version || r->model))
        rc = replay_asker_open(cfg, &r->log, r->model, &r->asker, &err);
    if (rc) {
        replay_close(&r->log);
        return cli_fail(rc == ERR_INVALID ? CLI_USAGE : UNREADABLE, "replay", "%s", err.msg);
    }
    replay_show_init(&r->show, r->as_json, term_for(STDOUT_FILENO));
    rc = walk(r, &err);
    bool differs = r->show.differs > 0;
    replay_show_fini(&r->show);
    replay_asker_close(r->asker);
    replay_close(&r->log);
    if (rc)
        return cli_fail(rc == ERR_INVALID ? CLI_USAGE : UNREADABLE, "replay", "%s", err.msg);
    return differs ? CLI_FAILED : CLI_OK;
}

static int check(const struct replay *r, const char *session, struct err *err)
{
    if (connect_check_session(session, err))
        return err->code;
    if (r->dump && !r->only)
        return err_set(err, ERR_INVALID, "--dump needs --request N: which one is meant");
    if (r->dump && (r->version || r->model))
        return err_set(err, ERR_INVALID,
                       "--dump writes recorded requests: leave out --agent and "
                       "--model");
    if (r->all && !r->version && !r->model)
        return err_set(err, ERR_INVALID, "--all goes with --agent or --model");
    return 0;
}

int cmd_replay(int argc, char **argv)
{
    struct config_flags flags = {0};
    struct replay r = {.max_requests = REQUESTS_DEFAULT};
    const struct option_spec options[] = {
        {"agent", 0, OPTION_I64, &r.version, "VERSION", "ask this version of its agent", 1,
         INT64_MAX},
        {"model", 'm', OPTION_TEXT, &r.model, "MODEL", "ask this model", 0, 0},
        {"all", 0, OPTION_FLAG, &r.all, NULL, "go on behind the first answer that differs", 0, 0},
        {"max-requests", 0, OPTION_I64, &r.max_requests, "N", "ask at most so often (50)", 1,
         1000000},
        {"request", 0, OPTION_I64, &r.only, "N", "look at this request only", 1, INT64_MAX},
        {"dump", 0, OPTION_TEXT, &r.dump, "FILE", "write that request as JSON; - is stdout", 0, 0},
        {"json", 0, OPTION_FLAG, &r.as_json, NULL, "one JSON object", 0, 0},
        {"data", 0, OPTION_TEXT, &flags.data, "DIR", "data directory [OSTLER_DATA]", 0, 0},
        {"config", 0, OPTION_TEXT, &flags.file, "FILE", "ostler.yaml [OSTLER_CONFIG]", 0, 0},
        {.kind = OPTION_END},
    };
    const struct command_spec spec = {
        .name = "replay",
        .usage = "ostler replay ID [--request N [--dump FILE]] [--json]\n"
                 "ostler replay ID [--agent VERSION] [--model MODEL] [--all]",
        .summary = "Builds a session's model requests again from its log and says where one "
                   "differs;\nor asks another agent or model the same.",
        .notes = notes,
        .options = options,
        .min_words = 1,
        .max_words = 1,
        .word_name = "ID"};
    struct option_words words;
    struct config config;
    struct err err;
    int code;
    if (!options_begin(&spec, argc, argv, &words, &code))
        return code;
    if (check(&r, words.word[0], &err))
        return cli_fail(CLI_USAGE, "replay", "%s", err.msg);
    if (config_load(&config, &flags, &err))
        code = cli_fail(CLI_USAGE, "replay", "%s", err.msg);
    else
        code = run(&r, &config, words.word[0]);
    config_fini(&config);
    return code;
}
