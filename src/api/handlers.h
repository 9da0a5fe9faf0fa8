/* handlers: one function for each route; the table in routes.c is their only caller. Loop thread.
 */
#ifndef OSTLER_API_HANDLERS_H
#define OSTLER_API_HANDLERS_H

struct call;

void agents_create(struct call *c);
void agents_list(struct call *c);
void agents_get(struct call *c);
void agents_update(struct call *c);
void agents_archive(struct call *c);
void agents_versions(struct call *c);

void environments_create(struct call *c);
void environments_list(struct call *c);
void environments_get(struct call *c);
void environments_update(struct call *c);
void environments_delete(struct call *c);
void environments_archive(struct call *c);

void environment_keys_create(struct call *c);
void environment_keys_list(struct call *c);
void environment_keys_delete(struct call *c);

void work_poll(struct call *c);
void work_stats(struct call *c);
void work_list(struct call *c);
void work_get(struct call *c);
void work_update(struct call *c);
void work_ack(struct call *c);
void work_heartbeat(struct call *c);
void work_stop(struct call *c);

void sessions_create(struct call *c);
void sessions_list(struct call *c);
void sessions_get(struct call *c);
void sessions_update(struct call *c);
void sessions_delete(struct call *c);
void sessions_archive(struct call *c);
void sessions_fork(struct call *c);

void resources_add(struct call *c);
void resources_list(struct call *c);
void resources_get(struct call *c);
void resources_update(struct call *c);
void resources_delete(struct call *c);

void events_send(struct call *c);
void events_list(struct call *c);
void events_stream(struct call *c);

void threads_list(struct call *c);
void threads_get(struct call *c);

void files_upload(struct call *c);
void files_list(struct call *c);
void files_get(struct call *c);
void files_delete(struct call *c);
void files_content(struct call *c);

void skills_create(struct call *c);
void skills_list(struct call *c);
void skills_get(struct call *c);
void skills_delete(struct call *c);
void skill_versions_create(struct call *c);
void skill_versions_list(struct call *c);
void skill_versions_get(struct call *c);
void skill_versions_delete(struct call *c);
void skill_versions_content(struct call *c);

void models_list(struct call *c);
void models_get(struct call *c);

void workspace_put(struct call *c);
void workspace_get(struct call *c);
void workspace_tar(struct call *c);
void workspace_patch(struct call *c);
void checkpoints_list(struct call *c);
void outputs_tar(struct call *c);
void egress_list(struct call *c);

void health_get(struct call *c);
void metrics_get(struct call *c);

#endif
