/* api: the HTTP surface: routes, credentials, decoding, responses, streams.
 *
 * Loop thread. The server behind it is opened by api_open() and lives until api_close()'s
 * call-back; everything in the config must outlive that.
 */
#ifndef OSTLER_API_API_H
#define OSTLER_API_API_H

#include "engine/engine.h"
#include "http/client.h"
#include "io/loop.h"
#include "model/model.h"
#include "sandbox/sandbox.h"
#include "store/store.h"

struct api;

struct api_config {
    struct loop *loop;
    struct store_port store;
    const struct store *stats; /* for /metrics; NULL: those lines are left out */
    struct engine *engine;
    struct sandboxes *sandboxes;
    struct model_router *models;
    struct http_client *http; /* for requests that another process must answer */
    const char *host;         /* numeric address or name */
    int port;                 /* 0: any free one */
    const int *listen_fd;     /* NULL, or a socket that listens: instead of host and port */
    /* DATA/owners/ID.http, where other processes forward to; NULL: this is the only one */
    const char *forward_path;
    const char *tmp_dir;    /* where uploads are spooled; NULL: /tmp */
    const char *data_dir;   /* holds blobs/ */
    bool repositories_http; /* repositories may have http URLs: for tests and closed networks */
    int64_t work_lease_s; /* of self-hosted workers, unless they ask for another; 0: the default */
};

/* What http_server_open() fails with (address in the message), or blobs_open(). */
int api_open(const struct api_config *cfg, struct api **out, struct err *err) MUST_USE;
int api_port(const struct api *api);
/* Stops accepting, ends streams, lets requests finish for grace_ms; `closed` when nothing of it is
 * left, in the store's queue either: the api is freed after it. Close it before the engine. */
void api_close(struct api *api, int64_t grace_ms, void (*closed)(void *arg), void *arg);

/* A session of this self-hosted environment waits for its hands: whoever polls is told. */
void api_work_wake(struct api *api, struct str environment);

/* SHA-256 of an API key: what the store keeps and looks up. Any thread. */
void api_hash_key(struct str key, unsigned char out[32]);

#endif
