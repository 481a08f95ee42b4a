/* The scenario of warm pools. */

#include "conformance.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

static sbx_claim *new_claim(sbx_on_miss on_miss) {
    sbx_claim *claim = NULL;
    OK(sbx_claim_new(&claim, &err));
    OK(sbx_claim_set_on_miss(claim, on_miss, &err));
    return claim;
}

static sbx_pool_state *status_of(const sbx_pool *pool) {
    sbx_pool_state *state = NULL;
    OK(sbx_pool_status(pool, &state, &err));
    return state;
}

static void wrong_pools(const char *name) {
    sbx_pool_options *options = NULL;
    sbx_spec *spec = NULL;
    sbx_pool *none = NULL;
    OK(sbx_pool_options_new(&options, &err));
    OK(sbx_pool_options_set_size(options, 1000000, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "at most", sbx_client_pool(client, name, NULL, options, &none, &err));
    OK(sbx_pool_options_set_size(options, 1, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "seconds", sbx_pool_options_set_idle_lifetime(options, -1, &err));
    OK(sbx_spec_new(&spec, &err));
    OK(sbx_spec_set_name(spec, "a", &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "name", sbx_client_pool(client, name, spec, options, &none, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "under_score", sbx_client_pool(client, "under_score", NULL, NULL, &none, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "options is NULL", sbx_pool_options_new(NULL, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "pool is NULL", sbx_pool_fill(NULL, NULL, NULL, &err));
    sbx_claim *claim = new_claim(SBX_ON_MISS_CREATE);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "on_miss", sbx_claim_set_on_miss(claim, 99, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "data is NULL", sbx_claim_add_file(claim, "/a", NULL, 1, &err));
    CHECK(sbx_pool_counter(NULL, SBX_POOL_HITS) == 0 && sbx_pool_state_ready(NULL) == 0 && none == NULL);
    sbx_claim_free(claim);
    sbx_spec_free(spec);
    sbx_pool_options_free(options);
    sbx_pool_options_free(NULL);
    sbx_claim_free(NULL);
    sbx_pool_free(NULL);
    sbx_pool_state_free(NULL);
}

/* What another thread waits for. */
struct waiter {
    const sbx_pool *pool;
    const sbx_claim *claim;
    sbx_sandbox *sandbox;
    sbx_status status;
};

static void *wait_for_one(void *argument) {
    struct waiter *waiter = argument;
    waiter->status = sbx_pool_claim(waiter->pool, waiter->claim, &waiter->sandbox, NULL);
    return NULL;
}

/* Claims with everything that a claim can have. */
static sbx_sandbox *claimed_from(const sbx_pool *pool) {
    char whose[96];
    sbx_sandbox *claimed = NULL;
    sbx_output *output = NULL;
    sbx_info *info = NULL;
    sbx_claim *claim = new_claim(SBX_ON_MISS_FAIL);
    snprintf(whose, sizeof whose, "%s-claimed", owner);
    OK(sbx_claim_set_env(claim, "TASK", "17", &err));
    OK(sbx_claim_set_label(claim, "of", "a-pool", &err));
    OK(sbx_claim_set_annotation(claim, "note", "a note", &err));
    OK(sbx_claim_set_lifetime(claim, 300, &err));
    OK(sbx_claim_set_owner(claim, whose, &err));
    OK(sbx_claim_add_file(claim, "/tmp/task", (const uint8_t *)"a task", 6, &err));
    OK(sbx_pool_claim(pool, claim, &claimed, &err));
    sbx_claim_free(claim);
    CHECK(sbx_sandbox_origin(claimed) == SBX_ORIGIN_POOL && sbx_sandbox_timings(claimed, NULL, NULL, NULL));
    OK(sbx_sandbox_execute(claimed, "echo $TASK; cat /tmp/task", &output, &err));
    PRINTS("17\na task", output);
    OK(sbx_sandbox_info(claimed, &info, &err));
    int64_t expires = 0;
    CHECK(strcmp(sbx_info_label(info, "of"), "a-pool") == 0 && strcmp(sbx_info_owner(info), whose) == 0);
    CHECK(sbx_info_expires_at(info, &expires));
    CHECK(expires > time(NULL) + 240 && expires < time(NULL) + 360);
    sbx_info_free(info);
    return claimed;
}

void pool(void) {
    char name[64];
    size_t created = 0, retired = 0, deleted = 0;
    sbx_pool_options *options = NULL;
    sbx_pool *filler = NULL, *claiming = NULL, *keeper = NULL;
    sbx_sandbox *instead = NULL, *none = NULL;
    snprintf(name, sizeof name, "pool-%d", (int)getpid());
    wrong_pools(name);
    OK(sbx_pool_options_new(&options, &err));
    OK(sbx_pool_options_set_size(options, 2, &err));
    OK(sbx_pool_options_set_idle_lifetime(options, 600, &err));
    OK(sbx_pool_options_set_creates_at_once(options, 2, &err));
    OK(sbx_pool_options_set_creates_per_second(options, 20, &err));
    OK(sbx_client_pool(client, name, NULL, options, &filler, &err));
    CHECK(strcmp(sbx_pool_name(filler), name) == 0);
    sbx_claim *claim = new_claim(SBX_ON_MISS_FAIL);
    FAILS(SBX_ERR_POOL_EMPTY, name, sbx_pool_claim(filler, claim, &none, &err));
    sbx_claim_free(claim);
    OK(sbx_pool_claim(filler, NULL, &instead, &err));
    CHECK(sbx_sandbox_origin(instead) == SBX_ORIGIN_POOL_MISS);
    CHECK(sbx_sandbox_origin(sandbox) == SBX_ORIGIN_CREATED && sbx_sandbox_origin(NULL) == SBX_ORIGIN_ATTACHED);
    OK(sbx_sandbox_delete(instead, &err));
    sbx_sandbox_free(instead);
    OK(sbx_pool_fill(filler, &created, &retired, &err));
    CHECK(created == 2 && retired == 0);
    OK(sbx_pool_fill(filler, &created, NULL, &err));
    CHECK(created == 0);

    sbx_client *other = new_client(new_config("-other"));
    OK(sbx_client_pool(other, name, NULL, NULL, &claiming, &err));
    sbx_sandbox *claimed = claimed_from(claiming);
    sbx_pool_state *state = status_of(filler);
    int64_t oldest = 0;
    CHECK(sbx_pool_state_ready(state) == 1 && sbx_pool_state_claimed(state) == 1);
    CHECK(sbx_pool_state_filling(state) == 0 && sbx_pool_state_foreign(state) == 0 && sbx_pool_state_ending(state) == 0);
    CHECK(sbx_pool_state_oldest(state, &oldest) && oldest > 0 && sbx_pool_state_held(state) == NULL);
    sbx_pool_state_free(state);

    OK(sbx_pool_drain(filler, &deleted, &err));
    CHECK(deleted == 1);
    pthread_t thread;
    claim = new_claim(SBX_ON_MISS_WAIT);
    struct waiter waiter = {claiming, claim, NULL, SBX_OK};
    CHECK(pthread_create(&thread, NULL, wait_for_one, &waiter) == 0);
    AWAIT(sbx_pool_counter(claiming, SBX_POOL_WAITING) == 1);
    OK(sbx_pool_options_set_size(options, 1, &err));
    OK(sbx_pool_options_set_keep_filled(options, true, &err));
    OK(sbx_client_pool(client, name, NULL, options, &keeper, &err));
    pthread_join(thread, NULL);
    sbx_claim_free(claim);
    CHECK(waiter.status == SBX_OK && sbx_sandbox_origin(waiter.sandbox) == SBX_ORIGIN_POOL_WAIT);
    OK(sbx_sandbox_delete(waiter.sandbox, &err));
    sbx_sandbox_free(waiter.sandbox);
    CHECK(sbx_pool_counter(claiming, SBX_POOL_HITS) == 1 && sbx_pool_counter(claiming, SBX_POOL_MISSES) == 1);
    CHECK(sbx_pool_counter(claiming, SBX_POOL_BAD) == 0 && sbx_pool_counter(claiming, 99) == 0);
    CHECK(sbx_pool_counter(filler, SBX_POOL_CREATED) == 2 && sbx_pool_counter(filler, SBX_POOL_RETIRED) == 1);
    OK(sbx_pool_remove(keeper, NULL, &err));
    sbx_output *output = NULL;
    OK(sbx_sandbox_execute(claimed, "echo works on", &output, &err));
    PRINTS("works on\n", output);
    OK(sbx_sandbox_delete(claimed, &err));
    sbx_sandbox_free(claimed);
    sbx_pool_options_free(options);
    sbx_pool_free(keeper);
    sbx_pool_free(claiming);
    sbx_pool_free(filler);
    sbx_client_free(other);
}
