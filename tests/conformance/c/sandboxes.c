/* Scenarios about sandboxes, clients and settings. */

#include "conformance.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>

/* How many sandboxes are listed whose owner begins so, and which the last of them is. */
static size_t listed(const char *whose, char name[64]) {
    sbx_info_list *list = NULL;
    size_t found = 0;
    OK(sbx_client_list(client, NULL, &list, &err));
    for (size_t i = 0; i < sbx_info_list_count(list); i++) {
        const sbx_info *info = sbx_info_list_at(list, i);
        if (strncmp(sbx_info_owner(info), whose, strlen(whose)) == 0) {
            found++;
            snprintf(name, 64, "%s", sbx_info_name(info));
        }
    }
    CHECK(sbx_info_list_at(list, sbx_info_list_count(list)) == NULL);
    sbx_info_list_free(list);
    return found;
}

static bool has_phase(sbx_phase phase) {
    sbx_info *info = NULL;
    OK(sbx_sandbox_info(sandbox, &info, &err));
    bool has = sbx_info_phase(info) == phase;
    sbx_info_free(info);
    return has;
}

static bool has_note_of_host_key(void) {
    sbx_info *info = NULL;
    OK(sbx_sandbox_info(sandbox, &info, &err));
    bool has = sbx_info_host_key(info) != NULL;
    sbx_info_free(info);
    return has;
}

static void look_at_the_timings(void) {
    double accepted = 0, started = 0, logged_in = 0;
    CHECK(sbx_sandbox_timings(sandbox, &accepted, &started, &logged_in));
    CHECK(0 < accepted && accepted <= started && started <= logged_in);
    CHECK(sbx_sandbox_timings(sandbox, NULL, NULL, NULL));
    CHECK(strncmp(sbx_sandbox_host_key(sandbox), "ssh-", 4) == 0);
    CHECK(sbx_sandbox_host_key(sandbox) == sbx_sandbox_host_key(sandbox));
}

static void look_at_the_info(void) {
    sbx_info *info = NULL;
    /* The sandbox is faster than the node's report on it, and than the note of its host key. */
    AWAIT(has_phase(SBX_PHASE_RUNNING) && has_note_of_host_key());
    OK(sbx_sandbox_info(sandbox, &info, &err));
    CHECK(strcmp(sbx_info_name(info), sbx_sandbox_name(sandbox)) == 0);
    CHECK(strcmp(sbx_info_uid(info), sbx_sandbox_uid(sandbox)) == 0);
    CHECK(strcmp(sbx_info_namespace(info), sbx_client_namespace(client)) == 0);
    CHECK(strcmp(sbx_info_owner(info), owner) == 0);
    CHECK(strlen(sbx_info_image(info)) > 0 && sbx_info_node(info) != NULL && sbx_info_pod_ip(info) != NULL);
    CHECK(strcmp(sbx_info_ssh_user(info), "sandbox") == 0);
    CHECK(strcmp(sbx_info_host_key(info), sbx_sandbox_host_key(sandbox)) == 0);
    CHECK(sbx_info_ssh_port(info) == sbx_sandbox_ssh_port(sandbox));
    CHECK(sbx_info_verdict_cause(info) == SBX_CAUSE_NONE);
    CHECK(sbx_info_verdict_reason(info) == NULL && sbx_info_verdict_message(info) == NULL);

    CHECK(strcmp(sbx_info_label(info, "language"), "c") == 0);
    CHECK(sbx_info_label(info, "no such") == NULL && sbx_info_label(info, NULL) == NULL);
    size_t count = sbx_info_label_count(info), found = 0;
    for (size_t i = 0; i < count; i++)
        found += strcmp(sbx_info_label_name_at(info, i), "language") == 0 && strcmp(sbx_info_label_value_at(info, i), "c") == 0;
    CHECK(found == 1 && count > 1);
    CHECK(sbx_info_label_name_at(info, count) == NULL && sbx_info_label_value_at(info, count) == NULL);

    int64_t created = 0, expires = 0, renewed = 0;
    CHECK(sbx_info_created_at(info, &created) && sbx_info_expires_at(info, &expires));
    CHECK(created + 290 < expires && expires < created + 420);
    sbx_info_free(info);
    OK(sbx_sandbox_renew(sandbox, 600, &renewed, &err));
    CHECK(expires + 290 < renewed);

    const char *key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVV a person";
    sbx_key_list *keys = NULL;
    bool was_there = false;
    double left = 0;
    OK(sbx_sandbox_authorize_key(sandbox, key, 100, &err));
    OK(sbx_sandbox_authorized_keys(sandbox, &keys, &err));
    CHECK(sbx_key_list_count(keys) == 1 && strcmp(sbx_key_list_key_at(keys, 0), key) == 0 && sbx_key_list_key_at(keys, 1) == NULL);
    CHECK(sbx_key_list_remaining_at(keys, 0, &left) && left > 0 && left <= 100 && !sbx_key_list_remaining_at(keys, 1, NULL));
    sbx_key_list_free(keys);
    OK(sbx_sandbox_revoke_key(sandbox, key, &was_there, &err));
    CHECK(was_there);
    OK(sbx_sandbox_revoke_key(sandbox, key, &was_there, &err));
    CHECK(!was_there);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "public key", sbx_sandbox_authorize_key(sandbox, "no key", -1, &err));

    sbx_usage *usage = NULL;
    OK(sbx_sandbox_usage(sandbox, &usage, &err));
    const int32_t told[] = {SBX_USAGE_CPU,  SBX_USAGE_MEMORY, SBX_USAGE_PROCESSES,    SBX_USAGE_DISK,
                            SBX_USAGE_RECEIVED, SBX_USAGE_SENT,   SBX_USAGE_GUEST_MEMORY, SBX_USAGE_CONNECTIONS};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        uint64_t value = 0;
        CHECK(sbx_usage_value(usage, told[i], &value) && value > 0);
    }
    uint64_t commands = 99;
    CHECK(sbx_usage_value(usage, SBX_USAGE_COMMANDS, &commands) && commands == 0);
    CHECK(!sbx_usage_value(usage, 99, &commands) && !sbx_usage_value(NULL, SBX_USAGE_CPU, NULL) && commands == 0);
    sbx_usage_free(usage);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "at least one second", sbx_sandbox_renew(sandbox, 0, NULL, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "seconds", sbx_sandbox_renew(sandbox, -5, NULL, &err));
}

void life(void) {
    sbx_spec *spec = NULL;
    client = new_client(new_config(""));
    CHECK(strlen(sbx_client_namespace(client)) > 0);
    OK(sbx_spec_new(&spec, &err));
    OK(sbx_spec_set_name(spec, owner, &err));
    OK(sbx_spec_set_label(spec, "language", "c", &err));
    OK(sbx_spec_set_env(spec, "LIFE", "from the spec", &err));
    OK(sbx_spec_set_lifetime(spec, 300, &err));
    OK(sbx_spec_set_hard_limit(spec, 900, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "sandbox is NULL", sbx_client_create(client, spec, NULL, &err));
    OK(sbx_client_create(client, spec, &sandbox, &err));
    sbx_spec_free(spec);
    CHECK(strcmp(sbx_sandbox_name(sandbox), owner) == 0);
    look_at_the_timings();
    look_at_the_info();

    char name[64];
    CHECK(listed(owner, name) == 1 && strcmp(name, owner) == 0);
    sbx_output *output = execute("uname -n");
    CHECK(strncmp((const char *)sbx_output_stdout(output, NULL), owner, strlen(owner)) == 0);
    sbx_output_free(output);
    PRINTS("from the spec\n", execute("echo \"$LIFE\""));

    sbx_config *by_exec = new_config("");
    OK(sbx_config_set_transport(by_exec, SBX_TRANSPORT_EXEC, &err));
    sbx_client *second_client = new_client(by_exec);
    sbx_sandbox *second = NULL;
    OK(sbx_client_attach(second_client, owner, &second, &err));
    CHECK(strcmp(sbx_sandbox_uid(second), sbx_sandbox_uid(sandbox)) == 0);
    CHECK(!sbx_sandbox_timings(second, NULL, NULL, NULL));
    OK(sbx_sandbox_execute(second, "echo attached", &output, &err));
    PRINTS("attached\n", output);
    /* A warm call asks Kubernetes nothing. */
    uint64_t requests = sbx_client_api_requests(second_client);
    CHECK(requests > 0);
    OK(sbx_sandbox_execute(second, "echo warm", &output, &err));
    PRINTS("warm\n", output);
    CHECK(sbx_client_api_requests(second_client) == requests);
    /* In the wrong order, which is right too. */
    sbx_client_free(second_client);
    sbx_sandbox_free(second);
}

void by_name(void) {
    sbx_output *output = NULL;
    sbx_info *info = NULL;
    sbx_sandbox *own = NULL;
    uint64_t up = 0, down = 0;
    OK(sbx_client_execute_command(client, owner, "echo by name", &output, &err));
    PRINTS("by name\n", output);
    write_local(in_directory("there"), "\0\xff" "by name", 9);
    OK(sbx_client_upload_file(client, owner, in_directory("there"), "by-name", &up, &err));
    OK(sbx_client_download_file(client, owner, "by-name", in_directory("back"), &down, &err));
    local_is(in_directory("back"), "\0\xff" "by name", 9);
    CHECK(up == 9 && down == 9);
    OK(sbx_client_get_sandbox_info(client, owner, &info, &err));
    CHECK(strcmp(sbx_info_name(info), owner) == 0 && sbx_client_ssh_port(client, owner) == sbx_info_ssh_port(info));
    sbx_info_free(info);

    OK(sbx_client_create(client, NULL, &own, &err));
    OK(sbx_client_shutdown_sandbox(client, sbx_sandbox_name(own), &err));
    FAILS(SBX_ERR_NOT_FOUND, sbx_sandbox_name(own), sbx_client_shutdown_sandbox(client, sbx_sandbox_name(own), &err));
    sbx_sandbox_free(own);
    FAILS(SBX_ERR_NOT_FOUND, "no-such-sandbox", sbx_client_delete_sandbox(client, "no-such-sandbox", &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "name is not UTF-8", sbx_client_attach(client, "\xff", &own, &err));
}

/* The error is one of an operation on this sandbox. */
static void tells(const char *operation, const char *name) {
    CHECK(strcmp(sbx_error_operation(err), operation) == 0);
    CHECK(sbx_error_sandbox(err) != NULL && strcmp(sbx_error_sandbox(err), name) == 0);
}

static void an_image_that_can_not_be_pulled(void) {
    sbx_spec *spec = NULL;
    sbx_sandbox *none = NULL;
    OK(sbx_spec_new(&spec, &err));
    OK(sbx_spec_set_image(spec, "localhost/no/such/image:1", &err));
    FAILS_WITH(SBX_ERR_CREATE, "no/such/image", sbx_client_create(client, spec, &none, &err));
    CHECK(sbx_error_verdict_cause(err) == SBX_CAUSE_IMAGE_PULL && none == NULL);
    CHECK(strlen(sbx_error_verdict_reason(err)) > 0 && strstr(sbx_error_verdict_message(err), "image") != NULL);
    CHECK(strcmp(sbx_error_operation(err), "create sandbox") == 0 && sbx_error_sandbox(err) != NULL);
    DONE;
    OK(sbx_spec_set_name(spec, owner, &err));
    FAILS_WITH(SBX_ERR_CONFLICT, owner, sbx_client_create(client, spec, &none, &err));
    tells("create sandbox", owner);
    CHECK(sbx_error_http_status(err) == 409);
    DONE;
    sbx_spec_free(spec);
}

static void a_cluster_that_does_not_answer(void) {
    /* Nothing listens on port 1 of the loopback. */
    static const char kubeconfig[] =
        "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "users: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\ncurrent-context: a\n";
    sbx_info_list *list = NULL;
    write_local(in_directory("kubeconfig"), kubeconfig, sizeof kubeconfig - 1);
    sbx_config *config = new_config("");
    OK(sbx_config_set_kubeconfig(config, in_directory("kubeconfig"), &err));
    sbx_client *nobody = new_client(config);
    FAILS_WITH(SBX_ERR_UNAVAILABLE, "127.0.0.1:1", sbx_client_list(nobody, NULL, &list, &err));
    CHECK(sbx_error_is_retryable(err) && sbx_error_sandbox(err) == NULL);
    DONE;
    sbx_client_free(nobody);
}

void errors(void) {
    sbx_output *output = NULL;
    sbx_bytes *contents = NULL;
    sbx_sandbox *none = NULL;
    FAILS(SBX_ERR_INVALID_ARGUMENT, "line is NULL", sbx_sandbox_execute(sandbox, NULL, &output, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "output is NULL", sbx_sandbox_execute(sandbox, "true", NULL, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "sandbox is NULL", sbx_sandbox_delete(NULL, &err));
    CHECK(sbx_sandbox_delete(NULL, NULL) == SBX_ERR_INVALID_ARGUMENT);

    FAILS_WITH(SBX_ERR_NOT_FOUND, "no-such-sandbox", sbx_client_attach(client, "no-such-sandbox", &none, &err));
    tells("attach to sandbox", "no-such-sandbox");
    CHECK(sbx_error_http_status(err) == 404 && sbx_error_errno(err) == 0 && sbx_error_verdict_cause(err) == SBX_CAUSE_NONE);
    CHECK(sbx_error_verdict_reason(err) == NULL && sbx_error_verdict_message(err) == NULL);
    CHECK(sbx_error_stdout(err, NULL) == NULL && sbx_error_stderr(err, NULL) == NULL);
    DONE;
    FAILS_WITH(SBX_ERR_FILE_NOT_FOUND, "no-such-file", sbx_sandbox_read_file(sandbox, "no-such-file", &contents, &err));
    tells("read file", owner);
    CHECK(sbx_error_errno(err) == ENOENT && sbx_error_ssh_code(err) == 0 && sbx_error_errno(NULL) == 0);
    DONE;
    FAILS(SBX_ERR_PERMISSION_DENIED, "/etc/no", sbx_sandbox_write_file(sandbox, "/etc/no", NULL, 0, &err));

    sbx_command *command = program("sleep", "1030", NULL);
    OK(sbx_command_set_timeout(command, 0.3, &err));
    FAILS_WITH(SBX_ERR_TIMED_OUT, "", sbx_command_output(command, &output, &err));
    tells("run command", owner);
    CHECK(!sbx_error_is_retryable(err) && sbx_error_http_status(err) == 0 && sbx_error_ssh_code(err) == 0);
    DONE;
    sbx_command_free(command);
    an_image_that_can_not_be_pulled();
    a_cluster_that_does_not_answer();

    CHECK(sbx_status_at(0) == SBX_OK && sbx_status_at(sbx_status_count()) == SBX_OK);
    for (size_t i = 1; i < sbx_status_count(); i++)
        CHECK(strncmp(sbx_status_name(sbx_status_at(i)), "SBX_ERR_", 8) == 0);
    CHECK(strcmp(sbx_status_name(SBX_OK), "SBX_OK") == 0 && sbx_status_name(-1) == NULL);
    CHECK(sbx_error_status(NULL) == SBX_OK && sbx_error_message(NULL) == NULL);
}

static void nothing_is_answered(void) {
    sbx_config_free(NULL);
    sbx_client_free(NULL);
    sbx_spec_free(NULL);
    sbx_sandbox_free(NULL);
    sbx_command_free(NULL);
    sbx_child_free(NULL);
    sbx_detached_free(NULL);
    sbx_exit_status_free(NULL);
    sbx_output_free(NULL);
    sbx_info_free(NULL);
    sbx_info_list_free(NULL);
    sbx_name_list_free(NULL);
    sbx_bytes_free(NULL);
    sbx_metadata_free(NULL);
    sbx_dir_entries_free(NULL);
    sbx_file_free(NULL);
    sbx_transfer_free(NULL);
    sbx_transferred_free(NULL);
    sbx_tree_report_free(NULL);
    sbx_error_free(NULL);
    size_t len = 7, errors_len = 7;
    CHECK(sbx_output_stdout(NULL, &len) == NULL && sbx_bytes_data(NULL, NULL) == NULL && len == 0);
    CHECK(sbx_error_stderr(NULL, &errors_len) == NULL && errors_len == 0);
    CHECK(sbx_sandbox_name(NULL) == NULL && sbx_info_list_at(NULL, 0) == NULL && sbx_info_list_count(NULL) == 0);
    CHECK(!sbx_output_exit_code(NULL, NULL) && sbx_client_ssh_port(NULL, NULL) == 0);
}

void use_after_close(void) {
    sbx_sandbox *own = NULL;
    sbx_output *output = NULL;
    sbx_command *command = NULL;
    sbx_file *file = NULL;
    sbx_info *info = NULL;
    nothing_is_answered();
    OK(sbx_sandbox_open_file(sandbox, "closed", SBX_OPEN_WRITE | SBX_OPEN_CREATE, 0600, &file, &err));
    OK(sbx_file_close(file, &err));
    FAILS(SBX_ERR_CLOSED, "closed", sbx_file_close(file, &err));
    FAILS(SBX_ERR_CLOSED, "closed", sbx_file_write(file, (const uint8_t *)"x", 1, &err));
    sbx_file_free(file);

    sbx_child *child = child_of(program("cat", NULL));
    sbx_child_close_stdin(child);
    sbx_child_close_stdin(child);
    FAILS(SBX_ERR_CLOSED, "closed", sbx_child_write_stdin(child, (const uint8_t *)"x", 1, &err));
    OK(sbx_child_wait(child, NULL, &err));
    OK(sbx_child_wait(child, NULL, &err));
    sbx_child_free(child);

    sbx_client *parent = new_client(new_config(""));
    OK(sbx_client_create(parent, NULL, &own, &err));
    OK(sbx_sandbox_shell(own, "true", &command, &err));
    OK(sbx_sandbox_delete(own, &err));
    FAILS(SBX_ERR_CLOSED, "deleted", sbx_sandbox_execute(own, "true", &output, &err));
    FAILS(SBX_ERR_NOT_FOUND, "", sbx_sandbox_info(own, &info, &err));
    FAILS(SBX_ERR_NOT_FOUND, "", sbx_sandbox_delete(own, &err));
    /* Parents first: children keep what they need. */
    sbx_client_free(parent);
    sbx_sandbox_free(own);
    FAILS(SBX_ERR_CLOSED, "deleted", sbx_command_output(command, &output, &err));
    sbx_command_free(command);
}

/* A spec whose settings the Pod's own environment tells. */
static sbx_spec *told_spec(void) {
    static const char template[] =
        "{\"metadata\": {\"labels\": {\"from\": \"template\"}}, \"spec\": {\"containers\": [{\"name\": \"sandbox\", \"env\": ["
        "{\"name\": \"NOTE\", \"valueFrom\": {\"fieldRef\": {\"fieldPath\": \"metadata.annotations['note']\"}}},"
        "{\"name\": \"CPU\", \"valueFrom\": {\"resourceFieldRef\": {\"resource\": \"limits.cpu\", \"divisor\": \"1m\"}}},"
        "{\"name\": \"MEMORY\", \"valueFrom\": {\"resourceFieldRef\": {\"resource\": \"limits.memory\"}}},"
        "{\"name\": \"DISK\", \"valueFrom\": {\"resourceFieldRef\": {\"resource\": \"limits.ephemeral-storage\"}}}]}]}}";
    sbx_spec *spec = NULL;
    OK(sbx_spec_new(&spec, &err));
    OK(sbx_spec_set_cpu(spec, "500m", &err));
    OK(sbx_spec_set_cpu_request(spec, "5m", &err));
    OK(sbx_spec_set_memory(spec, "256Mi", &err));
    OK(sbx_spec_set_memory_request(spec, "16Mi", &err));
    OK(sbx_spec_set_disk(spec, "512Mi", &err));
    OK(sbx_spec_set_annotation(spec, "note", "a note", &err));
    OK(sbx_spec_set_node_selector(spec, "kubernetes.io/os", "linux", &err));
    OK(sbx_spec_set_unschedulable_grace(spec, 5, &err));
    OK(sbx_spec_set_pod_template(spec, template, &err));
    return spec;
}

/* A filter for what this owner has. */
static sbx_filter *of(const char *whose) {
    sbx_filter *filter = NULL;
    OK(sbx_filter_new(&filter, &err));
    OK(sbx_filter_set_owner(filter, whose, &err));
    return filter;
}

/* How many fit, the first of which is `name` if that is not NULL. Frees the filter. */
static size_t fitting(const sbx_client *captain, sbx_filter *filter, const char *name) {
    sbx_info_list *list = NULL;
    OK(sbx_client_list(captain, filter, &list, &err));
    size_t count = sbx_info_list_count(list);
    int64_t before = 0, created = 0;
    for (size_t i = 0; i < count; i++, before = created)
        CHECK(sbx_info_created_at(sbx_info_list_at(list, i), &created) && before <= created);
    CHECK(name == NULL || (count > 0 && strcmp(sbx_info_name(sbx_info_list_at(list, 0)), name) == 0));
    sbx_info_list_free(list);
    sbx_filter_free(filter);
    return count;
}

/* Finds what a fleet of three has, of which the named one was made from the template. */
static void chosen(const sbx_client *captain, const char *whose, const char *templated) {
    CHECK(fitting(captain, of(whose), NULL) == 3 && fitting(captain, NULL, NULL) >= 3);
    sbx_filter *filter = of(whose);
    OK(sbx_filter_set_label(filter, "from", "template", &err));
    CHECK(fitting(captain, filter, templated) == 1);
    filter = of(whose);
    OK(sbx_filter_add_phase(filter, SBX_PHASE_PENDING, &err));
    OK(sbx_filter_add_phase(filter, SBX_PHASE_RUNNING, &err));
    OK(sbx_filter_set_younger_than(filter, 3600, &err));
    CHECK(fitting(captain, filter, NULL) == 3);
    filter = of(whose);
    OK(sbx_filter_add_phase(filter, SBX_PHASE_FAILED, &err));
    CHECK(fitting(captain, filter, NULL) == 0);
    filter = of(whose);
    OK(sbx_filter_set_older_than(filter, 3600, &err));
    CHECK(fitting(captain, filter, NULL) == 0);

    sbx_info_list *none = NULL;
    filter = of(whose);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "phase", sbx_filter_add_phase(filter, 99, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "seconds", sbx_filter_set_older_than(filter, -1, &err));
    OK(sbx_filter_set_label(filter, "from", "a,b", &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "a,b", sbx_client_list(captain, filter, &none, &err));
    sbx_filter_free(filter);
}

/* The next change, for which an hour is enough. The caller frees the info. */
static sbx_info *next(const sbx_changes *changes, sbx_change_kind *kind) {
    sbx_info *info = NULL;
    OK(sbx_changes_next(changes, 3600, kind, &info, &err));
    CHECK(info != NULL);
    return info;
}

/* A watch of a fleet of three, which has told of them. */
static sbx_changes *watched(const sbx_client *captain, const char *whose) {
    sbx_changes *changes = NULL;
    sbx_filter *filter = of(whose);
    OK(sbx_client_watch(captain, filter, &changes, &err));
    for (int i = 0; i < 3; i++) {
        sbx_change_kind kind;
        sbx_info *info = next(changes, &kind);
        CHECK(kind == SBX_CHANGE_ADDED && strcmp(sbx_info_owner(info), whose) == 0);
        sbx_info_free(info);
    }
    sbx_changes *none = NULL;
    OK(sbx_filter_set_older_than(filter, 1, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "age", sbx_client_watch(captain, filter, &none, &err));
    sbx_filter_free(filter);
    return changes;
}

static void all_are_removed(sbx_changes *changes) {
    bool has_expired = false;
    for (int removed = 0; removed < 3;) {
        sbx_change_kind kind;
        sbx_info *info = next(changes, &kind);
        CHECK(kind != SBX_CHANGE_ADDED);
        removed += kind == SBX_CHANGE_REMOVED;
        has_expired |= sbx_info_verdict_cause(info) == SBX_CAUSE_EXPIRED;
        sbx_info_free(info);
    }
    sbx_info *none = NULL;
    OK(sbx_changes_next(changes, 0.01, NULL, &none, &err));
    CHECK(has_expired && none == NULL);
    sbx_changes_close(changes);
    FAILS(SBX_ERR_CLOSED, "closed", sbx_changes_next(changes, -1, NULL, &none, &err));
    sbx_changes_free(changes);
}

void fleet(void) {
    sbx_sandbox *three[3] = {NULL, NULL, NULL};
    sbx_name_list *names = NULL;
    sbx_output *output = NULL;
    sbx_info *info = NULL;
    char whose[80], name[64];
    snprintf(whose, sizeof whose, "%s-fleet", owner);
    sbx_client *captain = new_client(new_config("-fleet"));
    sbx_spec *spec = told_spec();
    for (int i = 0; i < 3; i++)
        OK(sbx_client_create(captain, i == 0 ? spec : NULL, &three[i], &err));
    sbx_spec_free(spec);
    CHECK(listed(whose, name) == 3);

    OK(sbx_sandbox_execute(three[0], "echo $CPU $MEMORY $DISK $NOTE", &output, &err));
    PRINTS("500 268435456 536870912 a note\n", output);
    OK(sbx_sandbox_info(three[0], &info, &err));
    CHECK(strcmp(sbx_info_label(info, "from"), "template") == 0);
    sbx_info_free(info);
    chosen(captain, whose, sbx_sandbox_name(three[0]));
    sbx_changes *changes = watched(captain, whose);

    OK(sbx_sandbox_renew(three[2], 1, NULL, &err));
    bool is_reaped = false;
    for (double begun = now(); !is_reaped; rest()) {
        CHECK(now() < begun + 30);
        OK(sbx_client_reap(captain, &names, &err));
        for (size_t i = 0; i < sbx_name_list_count(names); i++) {
            is_reaped |= strcmp(sbx_name_list_at(names, i), sbx_sandbox_name(three[2])) == 0;
            CHECK(strcmp(sbx_name_list_at(names, i), sbx_sandbox_name(three[0])) != 0);
            CHECK(strcmp(sbx_name_list_at(names, i), sbx_sandbox_name(three[1])) != 0);
        }
        CHECK(sbx_name_list_at(names, sbx_name_list_count(names)) == NULL);
        sbx_name_list_free(names);
    }
    OK(sbx_client_reap(captain, NULL, &err));
    OK(sbx_sandbox_execute(three[1], "echo here", &output, &err));
    PRINTS("here\n", output);
    OK(sbx_sandbox_delete(three[0], &err));
    OK(sbx_sandbox_shutdown(three[1], &err));
    AWAIT(listed(whose, name) == 0);
    for (int i = 0; i < 3; i++)
        sbx_sandbox_free(three[i]);
    all_are_removed(changes);
    sbx_client_free(captain);
}

/* The sbx_client_new() of a configuration names what is wrong with it. */
static void refused(sbx_config *config, const char *text) {
    sbx_client *none = NULL;
    FAILS(SBX_ERR_CONFIG, text, sbx_client_new(config, &none, &err));
    CHECK(none == NULL);
    sbx_config_free(config);
}

static void specs(void) {
    sbx_spec *spec = NULL;
    sbx_sandbox *none = NULL;
    OK(sbx_spec_new(&spec, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "JSON", sbx_spec_set_pod_template(spec, "[]", &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "seconds", sbx_spec_set_unschedulable_grace(spec, -1, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "value is NULL", sbx_spec_set_env(spec, "NAME", NULL, &err));
    OK(sbx_spec_set_commands_as(spec, "sandbox", &err));
    FAILS_WITH(SBX_ERR_CREATE, "runAsNonRoot", sbx_client_create(client, spec, &none, &err));
    CHECK(sbx_error_verdict_cause(err) == SBX_CAUSE_REJECTED);
    DONE;
    sbx_spec_free(spec);
    OK(sbx_spec_new(&spec, &err));
    OK(sbx_spec_set_user_from_cluster(spec, &err));
    OK(sbx_spec_set_runtime_class(spec, "no-such-class", &err));
    FAILS_WITH(SBX_ERR_CREATE, "no-such-class", sbx_client_create(client, spec, &none, &err));
    CHECK(sbx_error_verdict_cause(err) == SBX_CAUSE_REJECTED);
    DONE;
    OK(sbx_spec_set_idle_timeout(spec, 0, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "idle timeout", sbx_client_create(client, spec, &none, &err));
    OK(sbx_spec_set_idle_timeout(spec, 600, &err));
    OK(sbx_spec_set_name(spec, "under_score", &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "under_score", sbx_client_create(client, spec, &none, &err));
    sbx_spec_free(spec);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "spec is NULL", sbx_spec_new(NULL, &err));
}

/* How many lines have come; several threads may log at once. */
struct lines {
    pthread_mutex_t lock;
    int all, of_debug;
};

static void take_line(void *userdata, sbx_log_level level, const char *target, const char *message) {
    struct lines *lines = userdata;
    pthread_mutex_lock(&lines->lock);
    lines->all++;
    lines->of_debug += level == SBX_LOG_DEBUG && strncmp(target, "sandbox::", 9) == 0 && *message != 0;
    pthread_mutex_unlock(&lines->lock);
}

static void logging(const sbx_config *config) {
    struct lines lines = {PTHREAD_MUTEX_INITIALIZER, 0, 0};
    char name[64] = "";
    FAILS(SBX_ERR_INVALID_ARGUMENT, "99", sbx_log_set_handler(99, take_line, &lines, &err));
    OK(sbx_log_set_handler(SBX_LOG_DEBUG, take_line, &lines, &err));
    listed(owner, name);
    pthread_mutex_lock(&lines.lock);
    CHECK(lines.of_debug > 0);
    pthread_mutex_unlock(&lines.lock);
    FAILS(SBX_ERR_CONFIG, "logger", sbx_config_init_logging(config, &err));
    OK(sbx_log_set_handler(SBX_LOG_OFF, NULL, NULL, &err));
    int before = lines.all;
    listed(owner, name);
    CHECK(lines.all == before);
}

void doctor(void) {
    sbx_config *config = new_config("");
    sbx_report *report = NULL;
    OK(sbx_diagnose(config, "", &report, &err));
    CHECK(sbx_report_state(report) != SBX_CHECK_FAILURE && strlen(sbx_report_summary(report)) > 0);
    CHECK(sbx_report_count(report) == 14);
    for (size_t i = 0; i < sbx_report_count(report); i++)
        CHECK(strlen(sbx_report_name_at(report, i)) > 0 && strlen(sbx_report_found_at(report, i)) > 0);
    CHECK(sbx_report_name_at(report, 14) == NULL && sbx_report_found_at(report, 14) == NULL);
    CHECK(sbx_report_fix_at(report, 14) == NULL && sbx_report_state_at(report, 14) == SBX_CHECK_SKIPPED);
    sbx_report_free(report);

    OK(sbx_config_set_namespace(config, "no-such-namespace", &err));
    OK(sbx_diagnose(config, "namespace", &report, &err));
    CHECK(sbx_report_state(report) == SBX_CHECK_FAILURE && sbx_report_count(report) == 1);
    CHECK(strcmp(sbx_report_name_at(report, 0), "namespace") == 0);
    CHECK(sbx_report_state_at(report, 0) == SBX_CHECK_FAILURE);
    CHECK(strstr(sbx_report_fix_at(report, 0), "create namespace") != NULL);
    sbx_report_free(report);

    OK(sbx_diagnose(NULL, "config", &report, &err));
    CHECK(sbx_report_state(report) == SBX_CHECK_OK);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "no-such-check", sbx_diagnose(NULL, "config no-such-check", &report, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "checks is NULL", sbx_diagnose(NULL, NULL, &report, &err));
    sbx_report_free(report);
    sbx_report_free(NULL);
    CHECK(sbx_report_count(NULL) == 0 && sbx_report_summary(NULL) == NULL && sbx_report_state(NULL) == SBX_CHECK_OK);
    sbx_config_free(config);
}

void settings(void) {
    char version[64];
    snprintf(version, sizeof version, "%d.%d.%d", SBX_VERSION_MAJOR, SBX_VERSION_MINOR, SBX_VERSION_PATCH);
    CHECK(strcmp(sbx_version(), version) == 0 && strcmp(version, SBX_VERSION_STRING) == 0 && sbx_version_number() == SBX_VERSION_NUMBER);

    sbx_config *config = new_config("");
    OK(sbx_config_set_namespace(config, "elsewhere", &err));
    OK(sbx_config_set_image(config, "image:1", &err));
    OK(sbx_config_set_ssh_user(config, "somebody", &err));
    OK(sbx_config_set_ssh_port(config, 2222, &err));
    OK(sbx_config_set_connect_timeout(config, 20, &err));
    OK(sbx_config_set_idle_timeout(config, -1, &err));
    OK(sbx_config_set_transport(config, SBX_TRANSPORT_TUNNEL, &err));
    OK(sbx_config_set_max_sessions(config, 4, &err));
    OK(sbx_config_set_log(config, SBX_LOG_WARN, &err));
    OK(sbx_config_set(config, "command_timeout", "0.5", &err));
    FAILS(SBX_ERR_CONFIG, "there is no setting \"colour\"", sbx_config_set(config, "colour", "red", &err));
    FAILS(SBX_ERR_CONFIG, "1 to 65535", sbx_config_set(config, "ssh_port", "0", &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "99 is not a valid transport", sbx_config_set_transport(config, 99, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "99", sbx_config_set_log(config, 99, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "value is not UTF-8", sbx_config_set_image(config, "\xff", &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "value is NULL", sbx_config_set_image(config, NULL, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "seconds", sbx_config_set_lifetime(config, (double)NAN, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "seconds", sbx_config_set_lifetime(config, 1e300, &err));
    logging(config);
    OK(sbx_config_init_logging(config, &err));
    FAILS(SBX_ERR_CONFIG, "logger", sbx_config_init_logging(config, &err));
    sbx_client *elsewhere = new_client(config);
    CHECK(strcmp(sbx_client_namespace(elsewhere), "elsewhere") == 0);
    CHECK(sbx_client_ssh_port(elsewhere, "unknown") == 2222);
    CHECK(sbx_client_max_sessions(elsewhere) == 4 && sbx_client_max_sessions(NULL) == 0);
    sbx_client_free(elsewhere);

    config = new_config("");
    OK(sbx_config_set_ssh_key(config, "/no/such/key", &err));
    refused(config, "/no/such/key");
    config = new_config("");
    OK(sbx_config_set_context(config, "no-such-context", &err));
    refused(config, "no-such-context");
    config = new_config("");
    OK(sbx_config_set_kubeconfig(config, "/no/such/kubeconfig", &err));
    refused(config, "/no/such/kubeconfig");
    OK(sbx_config_new(&config, &err));
    OK(sbx_config_set_max_sessions(config, 0, &err));
    refused(config, "max_sessions");
    FAILS(SBX_ERR_INVALID_ARGUMENT, "config is NULL", sbx_config_new(NULL, &err));
    specs();
}

void end(void) {
    sbx_info *info = NULL;
    sbx_output *output = NULL;
    char name[64] = "";
    OK(sbx_sandbox_delete(sandbox, &err));
    FAILS(SBX_ERR_NOT_FOUND, owner, sbx_sandbox_info(sandbox, &info, &err));
    FAILS(SBX_ERR_CLOSED, "deleted", sbx_sandbox_execute(sandbox, "true", &output, &err));
    FAILS(SBX_ERR_NOT_FOUND, owner, sbx_client_execute_command(client, owner, "true", &output, &err));
    AWAIT(listed(owner, name) == 0);
}
