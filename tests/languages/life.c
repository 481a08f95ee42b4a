/* The whole life of a sandbox in C99. The first argument is an empty directory to work in. */

#define _POSIX_C_SOURCE 200809L

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sandbox.h"

static sbx_client *client;
static sbx_sandbox *sandbox;
static sbx_error *err;

/* Ends the program at the first thing that is not as it should be, without leaving the sandbox behind. */
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            if (err) \
                fprintf(stderr, "the last error: %s\n", sbx_error_message(err)); \
            sbx_sandbox_delete(sandbox, NULL); \
            exit(1); \
        } \
    } while (0)

/* The call succeeds and says so in both ways. */
#define OK(call) \
    do { \
        CHECK((call) == SBX_OK); \
        CHECK(err == NULL); \
    } while (0)

/* The call fails with this status, and its message has this text. */
#define FAILS(status, text, call) \
    do { \
        CHECK((call) == (status)); \
        CHECK(err != NULL && sbx_error_status(err) == (status)); \
        CHECK(strstr(sbx_error_message(err), (text)) != NULL); \
        sbx_error_free(err); \
        err = NULL; \
    } while (0)

/* The stream has exactly these bytes, and a NUL behind them. */
#define IS(expected, data, len) \
    CHECK((len) == sizeof(expected) - 1 && memcmp((data), (expected), sizeof(expected)) == 0)

static void versions_and_statuses(void) {
    char version[64];
    snprintf(version, sizeof version, "%d.%d.%d", SBX_VERSION_MAJOR, SBX_VERSION_MINOR, SBX_VERSION_PATCH);
    CHECK(strcmp(sbx_version(), version) == 0);
    CHECK(sbx_version_number() == SBX_VERSION_NUMBER);

    CHECK(sbx_status_at(0) == SBX_OK && sbx_status_at(sbx_status_count()) == SBX_OK);
    for (size_t i = 1; i < sbx_status_count(); i++)
        CHECK(strncmp(sbx_status_name(sbx_status_at(i)), "SBX_ERR_", 8) == 0);
    CHECK(sbx_status_name(-1) == NULL);
}

static void nothing_is_answered(void) {
    sbx_config_free(NULL);
    sbx_client_free(NULL);
    sbx_spec_free(NULL);
    sbx_sandbox_free(NULL);
    sbx_command_free(NULL);
    sbx_child_free(NULL);
    sbx_detached_free(NULL);
    sbx_ending_free(NULL);
    sbx_output_free(NULL);
    sbx_info_free(NULL);
    sbx_list_free(NULL);
    sbx_names_free(NULL);
    sbx_bytes_free(NULL);
    sbx_metadata_free(NULL);
    sbx_entries_free(NULL);
    sbx_file_free(NULL);
    sbx_transfer_free(NULL);
    sbx_transferred_free(NULL);
    sbx_tree_report_free(NULL);
    sbx_error_free(NULL);

    size_t len = 7;
    CHECK(sbx_output_stdout(NULL, &len) == NULL && sbx_bytes_data(NULL, NULL) == NULL && len == 7);
    CHECK(sbx_sandbox_name(NULL) == NULL && sbx_error_message(NULL) == NULL && sbx_list_at(NULL, 0) == NULL);
    CHECK(sbx_error_status(NULL) == SBX_OK && sbx_list_count(NULL) == 0 && !sbx_output_exit_code(NULL, NULL));
    CHECK(sbx_client_ssh_port(NULL, NULL) == 0);

    FAILS(SBX_ERR_INVALID_ARGUMENT, "config is NULL", sbx_config_new(NULL, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "client is NULL", sbx_client_new(NULL, NULL, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "client is NULL", sbx_client_create(NULL, NULL, &sandbox, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "sandbox is NULL", sbx_sandbox_delete(NULL, &err));
    CHECK(sbx_sandbox_delete(NULL, NULL) == SBX_ERR_INVALID_ARGUMENT);
    CHECK(sandbox == NULL);
}

static void make_client(void) {
    sbx_config *config = NULL;
    OK(sbx_config_from_env(&config, &err));
    OK(sbx_config_set_owner(config, "life-c", &err));
    OK(sbx_config_set_command_timeout(config, 60, &err));
    OK(sbx_config_set_idle_timeout(config, -1, &err));
    OK(sbx_config_set_transport(config, SBX_TRANSPORT_TUNNEL, &err));
    OK(sbx_config_set_log(config, SBX_LOG_WARN, &err));
    OK(sbx_config_set(config, "lifetime", "300", &err));
    OK(sbx_config_init_logging(config, &err));
    FAILS(SBX_ERR_CONFLICT, "logger", sbx_config_init_logging(config, &err));
    FAILS(SBX_ERR_CONFIG, "there is no setting \"colour\"", sbx_config_set(config, "colour", "red", &err));
    FAILS(SBX_ERR_CONFIG, "1 to 65535", sbx_config_set(config, "ssh_port", "0", &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "99 is no transport", sbx_config_set_transport(config, 99, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "value is not UTF-8", sbx_config_set_image(config, "\xff", &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "value is NULL", sbx_config_set_image(config, NULL, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "seconds", sbx_config_set_lifetime(config, (double)NAN, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "seconds", sbx_config_set_lifetime(config, 1e300, &err));
    OK(sbx_client_new(config, &client, &err));

    sbx_client *none = NULL;
    OK(sbx_config_set_max_sessions(config, 0, &err));
    FAILS(SBX_ERR_CONFIG, "max_sessions", sbx_client_new(config, &none, &err));
    CHECK(none == NULL);
    sbx_config_free(config);
    CHECK(strlen(sbx_client_namespace(client)) > 0);
}

static void create(void) {
    sbx_spec *spec = NULL;
    OK(sbx_spec_new(&spec, &err));
    OK(sbx_spec_set_env(spec, "LIFE", "from the spec", &err));
    OK(sbx_spec_set_label(spec, "language", "c", &err));
    OK(sbx_spec_set_memory(spec, "256Mi", &err));
    OK(sbx_spec_set_hard_limit(spec, 900, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "JSON", sbx_spec_set_pod_template(spec, "[]", &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "seconds", sbx_spec_set_unschedulable_grace(spec, -1, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "sandbox is NULL", sbx_client_create(client, spec, NULL, &err));
    OK(sbx_client_create(client, spec, &sandbox, &err));
    sbx_spec_free(spec);

    double accepted = 0, started = 0, logged_in = 0;
    CHECK(sbx_sandbox_timings(sandbox, &accepted, &started, &logged_in));
    CHECK(0 < accepted && accepted <= started && started <= logged_in);
    CHECK(sbx_sandbox_timings(sandbox, NULL, NULL, NULL));
    CHECK(strncmp(sbx_sandbox_host_key(sandbox), "ssh-", 4) == 0 || strncmp(sbx_sandbox_host_key(sandbox), "ecdsa-", 6) == 0);
    CHECK(sbx_sandbox_host_key(sandbox) == sbx_sandbox_host_key(sandbox));
}

static void look(void) {
    sbx_info *info = NULL;
    OK(sbx_sandbox_info(sandbox, &info, &err));
    /* The sandbox can be faster than the node's report on it. */
    CHECK(sbx_info_phase(info) == SBX_PHASE_PENDING || sbx_info_phase(info) == SBX_PHASE_RUNNING);
    CHECK(strcmp(sbx_info_name(info), sbx_sandbox_name(sandbox)) == 0);
    CHECK(strcmp(sbx_info_uid(info), sbx_sandbox_uid(sandbox)) == 0);
    CHECK(strcmp(sbx_info_namespace(info), sbx_client_namespace(client)) == 0);
    CHECK(strcmp(sbx_info_owner(info), "life-c") == 0);
    CHECK(strcmp(sbx_info_label(info, "language"), "c") == 0);
    CHECK(sbx_info_label(info, "no such") == NULL && sbx_info_label(info, NULL) == NULL);
    CHECK(sbx_info_label_count(info) > 1);
    CHECK(sbx_info_label_name_at(info, sbx_info_label_count(info)) == NULL);
    CHECK(sbx_info_label_name_at(info, 0) != NULL && sbx_info_label_value_at(info, 0) != NULL);
    CHECK(sbx_info_ssh_port(info) == sbx_sandbox_ssh_port(sandbox));
    CHECK(sbx_info_verdict_cause(info) == SBX_CAUSE_NONE && sbx_info_verdict_reason(info) == NULL);
    int64_t created = 0, expires = 0, renewed = 0;
    CHECK(sbx_info_created_at(info, &created) && sbx_info_expires_at(info, &expires));
    CHECK(created + 290 < expires && expires < created + 310);
    sbx_info_free(info);

    OK(sbx_sandbox_renew(sandbox, 600, &renewed, &err));
    CHECK(expires + 290 < renewed);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "at least one second", sbx_sandbox_renew(sandbox, 0, NULL, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "seconds", sbx_sandbox_renew(sandbox, -5, NULL, &err));

    sbx_list *list = NULL;
    OK(sbx_client_list(client, &list, &err));
    size_t found = 0;
    for (size_t i = 0; i < sbx_list_count(list); i++)
        found += strcmp(sbx_info_uid(sbx_list_at(list, i)), sbx_sandbox_uid(sandbox)) == 0;
    CHECK(found == 1 && sbx_list_at(list, sbx_list_count(list)) == NULL);
    sbx_list_free(list);
}

static void execute(void) {
    sbx_output *output = NULL;
    size_t len = 0;
    int32_t code = -1;
    OK(sbx_sandbox_execute(sandbox, "true", &output, &err));
    CHECK(sbx_output_success(output));
    OK(sbx_output_check(output, &err));
    sbx_output_free(output);

    uint64_t requests = sbx_client_api_requests(client);
    OK(sbx_sandbox_execute(sandbox, "printf 'a\\0\\377b'; printf oops >&2; exit 3", &output, &err));
    CHECK(sbx_client_api_requests(client) == requests);
    const uint8_t *data = sbx_output_stdout(output, &len);
    IS("a\0\xff" "b", data, len);
    data = sbx_output_stderr(output, &len);
    IS("oops", data, len);
    CHECK(sbx_output_exit_code(output, &code) && code == 3);
    CHECK(!sbx_output_success(output) && sbx_output_signal(output) == NULL && sbx_output_truncated(output) == 0);

    CHECK(sbx_output_check(output, &err) == SBX_ERR_COMMAND_FAILED);
    sbx_output_free(output);
    data = sbx_error_stdout(err, &len);
    IS("a\0\xff" "b", data, len);
    data = sbx_error_stderr(err, &len);
    IS("oops", data, len);
    CHECK(strstr(sbx_error_message(err), "exit code 3: oops") != NULL);
    sbx_error_free(err);

    OK(sbx_sandbox_execute(sandbox, "kill -KILL $$", &output, &err));
    code = -1;
    CHECK(strcmp(sbx_output_signal(output), "KILL") == 0 && !sbx_output_exit_code(output, &code) && code == -1);
    sbx_output_free(output);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "line is NULL", sbx_sandbox_execute(sandbox, NULL, &output, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "output is NULL", sbx_sandbox_execute(sandbox, "true", NULL, &err));
}

static void command(void) {
    sbx_command *command = NULL;
    sbx_output *output = NULL;
    sbx_ending *ending = NULL;
    size_t len = 0;
    OK(sbx_sandbox_command(sandbox, "sh", &command, &err));
    OK(sbx_command_add_arg(command, "-c", &err));
    OK(sbx_command_add_arg(command, "cat; printf '|%s' \"$LIFE\" \"$MINE\" \"$PWD\" \"$@\"", &err));
    OK(sbx_command_add_arg(command, "sh", &err));
    OK(sbx_command_add_arg(command, "it's $HOME \xff", &err));
    OK(sbx_command_add_arg_bytes(command, (const uint8_t *)"cut here", 3, &err));
    OK(sbx_command_add_arg_bytes(command, NULL, 0, &err));
    OK(sbx_command_set_env(command, "MINE", "a\nb", &err));
    OK(sbx_command_set_current_dir(command, "/tmp", &err));
    OK(sbx_command_set_stdin(command, (const uint8_t *)"in\0put", 6, &err));
    OK(sbx_command_set_timeout(command, 20, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "value is NULL", sbx_command_add_arg(command, NULL, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "data is NULL, but its length is 1", sbx_command_set_stdin(command, NULL, 1, &err));
    for (int run = 0; run < 2; run++) {
        OK(sbx_command_output(command, &output, &err));
        const uint8_t *data = sbx_output_stdout(output, &len);
        IS("in\0put|from the spec|a\nb|/tmp|it's $HOME \xff|cut|", data, len);
        sbx_output_free(output);
    }
    OK(sbx_command_set_output_limit(command, 4, &err));
    OK(sbx_command_output(command, &output, &err));
    const uint8_t *data = sbx_output_stdout(output, &len);
    IS("in\0p", data, len);
    CHECK(sbx_output_truncated(output) == strlen("ut|from the spec|a b|/tmp|it's $HOME .|cut|"));
    sbx_output_free(output);
    OK(sbx_command_status(command, &ending, &err));
    CHECK(sbx_ending_success(ending) && sbx_ending_signal(ending) == NULL);
    sbx_ending_free(ending);
    OK(sbx_command_status(command, NULL, &err));
    OK(sbx_command_add_arg_bytes(command, (const uint8_t *)"\0", 1, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "NUL", sbx_command_output(command, &output, &err));
    sbx_command_free(command);

    OK(sbx_sandbox_command(sandbox, "no-such-program", &command, &err));
    FAILS(SBX_ERR_COMMAND, "no-such-program", sbx_command_output(command, &output, &err));
    sbx_command_free(command);

    OK(sbx_sandbox_command(sandbox, "stty", &command, &err));
    OK(sbx_command_add_arg(command, "size", &err));
    OK(sbx_command_set_terminal(command, "xterm", 90, 30, &err));
    OK(sbx_command_output(command, &output, &err));
    data = sbx_output_stdout(output, &len);
    IS("30 90\r\n", data, len);
    sbx_output_free(output);
    sbx_command_free(command);

    OK(sbx_sandbox_shell(sandbox, "echo so far; sleep 60", &command, &err));
    OK(sbx_command_set_timeout(command, 0.5, &err));
    CHECK(sbx_command_output(command, &output, &err) == SBX_ERR_TIMED_OUT);
    data = sbx_error_stdout(err, &len);
    IS("so far\n", data, len);
    CHECK(strcmp(sbx_error_operation(err), "run command") == 0);
    CHECK(strcmp(sbx_error_sandbox(err), sbx_sandbox_name(sandbox)) == 0);
    CHECK(!sbx_error_is_retryable(err) && sbx_error_http_status(err) == 0 && sbx_error_ssh_code(err) == 0);
    CHECK(sbx_error_verdict_cause(err) == SBX_CAUSE_NONE && sbx_error_verdict_message(err) == NULL);
    sbx_error_free(err);
    err = NULL;
    sbx_command_free(command);
}

struct received {
    size_t out, errors, stop_after, calls_after_stop;
};

static int32_t receive(void *userdata, sbx_stream stream, const uint8_t *data, size_t len) {
    struct received *received = userdata;
    CHECK(data != NULL && len > 0);
    received->calls_after_stop += received->out > received->stop_after;
    *(stream == SBX_STREAM_STDOUT ? &received->out : &received->errors) += len;
    return received->out > received->stop_after;
}

static void stream(void) {
    sbx_command *command = NULL;
    sbx_ending *ending = NULL;
    int32_t code = -1;
    struct received all = {0, 0, SIZE_MAX, 0}, some = {0, 0, 100000, 0};
    OK(sbx_sandbox_shell(sandbox, "head -c 1000000 /dev/zero; printf 12345 >&2; exit 9", &command, &err));
    OK(sbx_command_stream(command, receive, &all, &ending, &err));
    CHECK(all.out == 1000000 && all.errors == 5);
    CHECK(sbx_ending_exit_code(ending, &code) && code == 9 && !sbx_ending_success(ending));
    sbx_ending_free(ending);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "receive is NULL", sbx_command_stream(command, NULL, NULL, NULL, &err));
    sbx_command_free(command);

    OK(sbx_sandbox_shell(sandbox, "cat /dev/zero", &command, &err));
    FAILS(SBX_ERR_CANCELLED, "all its processes were killed: the callback returned 1",
          sbx_command_stream(command, receive, &some, NULL, &err));
    /* Nothing came after the stop, and nothing runs any more. */
    CHECK(some.out > some.stop_after && some.calls_after_stop == 0);
    sbx_command_free(command);
    sbx_output *output = NULL;
    OK(sbx_sandbox_execute(sandbox, "! pgrep cat", &output, &err));
    OK(sbx_output_check(output, &err));
    sbx_output_free(output);
}

static void child(void) {
    sbx_command *command = NULL;
    sbx_child *child = NULL;
    sbx_ending *ending = NULL;
    uint8_t buffer[64];
    size_t len = 7;
    bool has_ended = true;
    OK(sbx_sandbox_shell(sandbox, "echo to stderr >&2; exec cat", &command, &err));
    OK(sbx_command_spawn(command, &child, &err));
    CHECK(strlen(sbx_child_id(child)) > 0);
    OK(sbx_child_try_wait(child, &has_ended, &ending, &err));
    CHECK(!has_ended && ending == NULL);
    for (int turn = 0; turn < 3; turn++) {
        OK(sbx_child_write_stdin(child, (const uint8_t *)"pi\0ng", 5, &err));
        OK(sbx_child_read_stdout(child, buffer, sizeof buffer, &len, &err));
        CHECK(len == 5 && memcmp(buffer, "pi\0ng", 5) == 0);
    }
    OK(sbx_child_read_stderr(child, buffer, 9, &len, &err));
    CHECK(len == 9 && memcmp(buffer, "to stderr", 9) == 0);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "buffer", sbx_child_read_stdout(child, NULL, 1, &len, &err));
    OK(sbx_child_wait(child, &ending, &err));
    CHECK(sbx_ending_success(ending));
    sbx_ending_free(ending);
    OK(sbx_child_try_wait(child, &has_ended, NULL, &err));
    CHECK(has_ended);
    OK(sbx_child_read_stdout(child, buffer, sizeof buffer, &len, &err));
    CHECK(len == 0);
    FAILS(SBX_ERR_CLOSED, "closed", sbx_child_write_stdin(child, buffer, 1, &err));
    sbx_child_free(child);
    sbx_command_free(command);

    /* No SIGPIPE comes from a command that has gone away. */
    OK(sbx_sandbox_command(sandbox, "true", &command, &err));
    OK(sbx_command_spawn(command, &child, &err));
    do
        OK(sbx_child_try_wait(child, &has_ended, NULL, &err));
    while (!has_ended);
    while (sbx_child_write_stdin(child, buffer, sizeof buffer, NULL) == SBX_OK)
        continue;
    sbx_child_free(child);
    sbx_command_free(command);

    OK(sbx_sandbox_shell(sandbox, "yes & sleep 60", &command, &err));
    OK(sbx_command_spawn(command, &child, &err));
    sbx_child_close_stdout(child);
    sbx_child_close_stderr(child);
    OK(sbx_child_signal(child, "TERM", &err));
    OK(sbx_child_wait(child, &ending, &err));
    CHECK(strcmp(sbx_ending_signal(ending), "TERM") == 0);
    sbx_ending_free(ending);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "signal", sbx_child_signal(child, "no such", &err));
    OK(sbx_child_kill(child, &err));
    sbx_child_free(child);
    sbx_command_free(command);
}

/* Every kind of input, and every way of the output. */
static void input_and_output(const char *directory) {
    sbx_command *command = NULL;
    sbx_child *child = NULL;
    sbx_output *output = NULL;
    char path[4096];
    snprintf(path, sizeof path, "%s/input", directory);
    FILE *file = fopen(path, "w+");
    CHECK(file != NULL && fputs("from a file", file) >= 0 && fflush(file) == 0);
    rewind(file);
    OK(sbx_sandbox_shell(sandbox, "cat; echo err >&2", &command, &err));
    OK(sbx_command_set_stdin_fd(command, fileno(file), &err));
    fclose(file);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "fd is -1", sbx_command_set_stdin_fd(command, -1, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "not open", sbx_command_set_stdin_fd(command, 1000000, &err));
    OK(sbx_command_merge_stderr(command, &err));
    OK(sbx_command_output(command, &output, &err));
    size_t len = 0;
    const uint8_t *bytes = sbx_output_stdout(output, &len);
    IS("from a fileerr\n", bytes, len);
    sbx_output_free(output);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "used up", sbx_command_output(command, &output, &err));
    OK(sbx_command_set_stdin(command, NULL, 0, &err));
    OK(sbx_command_discard_stderr(command, &err));
    OK(sbx_command_spawn(command, &child, &err));
    OK(sbx_child_write_stdin(child, (const uint8_t *)"written", 7, &err));
    OK(sbx_child_wait_with_output(child, &output, &err));
    bytes = sbx_output_stdout(output, &len);
    IS("written", bytes, len);
    bytes = sbx_output_stderr(output, &len);
    IS("", bytes, len);
    sbx_output_free(output);
    sbx_child_free(child);
    OK(sbx_command_discard_stdout(command, &err));
    OK(sbx_command_output(command, &output, &err));
    bytes = sbx_output_stdout(output, &len);
    IS("", bytes, len);
    sbx_output_free(output);
    OK(sbx_command_set_user(command, "root", &err));
    FAILS(SBX_ERR_COMMAND, "can not become root", sbx_command_output(command, &output, &err));
    sbx_command_free(command);
    CHECK(remove(path) == 0);
}

static int32_t gather(void *userdata, sbx_stream stream, const uint8_t *data, size_t len) {
    char *text = userdata;
    CHECK(stream == SBX_STREAM_STDOUT && strlen(text) + len < 64);
    strncat(text, (const char *)data, len);
    return strlen(text) < 10 ? 0 : 1;
}

/* A command that nobody needs to stay connected to. */
static void detached(void) {
    sbx_command *command = NULL;
    sbx_detached *detached = NULL, *found = NULL;
    sbx_ending *ending = NULL;
    sbx_bytes *bytes = NULL;
    bool has_ended = true;
    size_t len = 0;
    OK(sbx_sandbox_shell(sandbox, "echo once >> starts; echo first; sleep 1; echo second; exit 3", &command, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "no key", sbx_command_detach(command, "no key", &detached, &err));
    OK(sbx_command_detach(command, "job", &detached, &err));
    sbx_detached_free(detached);
    OK(sbx_command_detach(command, "job", &detached, &err));
    OK(sbx_detached_try_wait(detached, &has_ended, &ending, &err));
    CHECK(!has_ended && ending == NULL && strcmp(sbx_detached_key(detached), "job") == 0);
    FAILS(SBX_ERR_CONFLICT, "runs", sbx_detached_remove(detached, &err));
    FAILS(SBX_ERR_TIMED_OUT, "still runs", sbx_detached_wait(detached, 0.1, NULL, &err));
    OK(sbx_detached_wait(detached, -1, &ending, &err));
    int32_t code = 0;
    CHECK(sbx_ending_exit_code(ending, &code) && code == 3);
    sbx_ending_free(ending);
    OK(sbx_sandbox_detached(sandbox, "job", &found, &err));
    OK(sbx_detached_read(found, SBX_STREAM_STDOUT, 6, 100, &bytes, &err));
    const uint8_t *data = sbx_bytes_data(bytes, &len);
    IS("second\n", data, len);
    sbx_bytes_free(bytes);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "stream", sbx_detached_read(found, 7, 0, 1, &bytes, &err));
    char text[64] = "";
    uint64_t out = 0, none = 0;
    /* The callback stops at the end; what it refused is handed over again. */
    FAILS(SBX_ERR_CANCELLED, "returned 1", sbx_detached_stream(found, &out, &none, gather, text, NULL, &err));
    text[0] = '\0';
    out = 6;
    OK(sbx_detached_stream(found, &out, &none, gather, text, &ending, &err));
    CHECK(strcmp(text, "second\n") == 0 && out == 13 && none == 0);
    sbx_ending_free(ending);
    OK(sbx_detached_remove(found, &err));
    FAILS(SBX_ERR_NOT_FOUND, "job", sbx_detached_kill(found, &err));
    sbx_detached_free(detached);
    sbx_detached_free(found);
    sbx_command_free(command);

    OK(sbx_sandbox_command(sandbox, "sleep", &command, &err));
    OK(sbx_command_add_arg(command, "1000", &err));
    OK(sbx_command_detach(command, "long", &detached, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "signal", sbx_detached_signal(detached, "no such", &err));
    OK(sbx_detached_signal(detached, "TERM", &err));
    OK(sbx_detached_wait(detached, 30, &ending, &err));
    CHECK(strcmp(sbx_ending_signal(ending), "TERM") == 0);
    sbx_ending_free(ending);
    OK(sbx_detached_kill(detached, &err));
    sbx_detached_free(detached);
    sbx_command_free(command);
    sbx_output *output = NULL;
    OK(sbx_sandbox_execute(sandbox, "cat starts", &output, &err));
    CHECK(strcmp((const char *)sbx_output_stdout(output, NULL), "once\n") == 0);
    sbx_output_free(output);
}

static void files(const char *directory) {
    static const uint8_t contents[] = {'f', 0, 0xff, '\n'};
    char local[4096], back[4096];
    uint64_t size = 0;
    size_t len = 0;
    sbx_bytes *bytes = NULL;
    snprintf(local, sizeof local, "%s/local", directory);
    snprintf(back, sizeof back, "%s/back", directory);
    FILE *file = fopen(local, "wb");
    CHECK(file && fwrite(contents, 1, sizeof contents, file) == sizeof contents && fclose(file) == 0);

    OK(sbx_sandbox_upload_file(sandbox, local, "uploaded \xff", &size, &err));
    CHECK(size == sizeof contents);
    OK(sbx_sandbox_download_file(sandbox, "uploaded \xff", back, NULL, &err));
    uint8_t read[16];
    file = fopen(back, "rb");
    CHECK(file && fread(read, 1, sizeof read, file) == sizeof contents && fclose(file) == 0);
    CHECK(memcmp(read, contents, sizeof contents) == 0);

    OK(sbx_sandbox_write_file(sandbox, "written", contents, sizeof contents, &err));
    OK(sbx_sandbox_read_file(sandbox, "written", &bytes, &err));
    CHECK(memcmp(sbx_bytes_data(bytes, &len), contents, sizeof contents) == 0 && len == sizeof contents);
    sbx_bytes_free(bytes);
    OK(sbx_sandbox_write_file(sandbox, "written", NULL, 0, &err));
    OK(sbx_sandbox_read_file(sandbox, "written", &bytes, &err));
    CHECK(*sbx_bytes_data(bytes, &len) == 0 && len == 0);
    sbx_bytes_free(bytes);

    FAILS(SBX_ERR_NOT_FOUND, "no-such-file", sbx_sandbox_read_file(sandbox, "no-such-file", &bytes, &err));
    FAILS(SBX_ERR_NOT_FOUND, "nor-here", sbx_sandbox_upload_file(sandbox, "nor-here", "x", NULL, &err));
    FAILS(SBX_ERR_PERMISSION_DENIED, "", sbx_sandbox_write_file(sandbox, "/etc/no", contents, 1, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "remote is NULL", sbx_sandbox_read_file(sandbox, NULL, &bytes, &err));
}

static void names(void) {
    sbx_metadata *found = NULL;
    sbx_entries *entries = NULL;
    sbx_bytes *bytes = NULL;
    bool exists = true;
    int64_t when = 0;
    OK(sbx_sandbox_create_dir(sandbox, "dir", &err));
    FAILS(SBX_ERR_CONFLICT, "'dir' in the sandbox exists", sbx_sandbox_create_dir(sandbox, "dir", &err));
    OK(sbx_sandbox_create_dir_all(sandbox, "dir/a/b", &err));
    OK(sbx_sandbox_append_file(sandbox, "dir/odd \xff", (const uint8_t *)"one", 3, &err));
    OK(sbx_sandbox_append_file(sandbox, "dir/odd \xff", (const uint8_t *)"two", 3, &err));
    OK(sbx_sandbox_set_file_permissions(sandbox, "dir/odd \xff", 0640, &err));
    OK(sbx_sandbox_create_symlink(sandbox, "no where", "dir/link", &err));
    OK(sbx_sandbox_read_link(sandbox, "dir/link", &bytes, &err));
    CHECK(strcmp((const char *)sbx_bytes_data(bytes, NULL), "no where") == 0);
    sbx_bytes_free(bytes);
    OK(sbx_sandbox_resolve_path(sandbox, "dir/../dir", &bytes, &err));
    CHECK(strcmp((const char *)sbx_bytes_data(bytes, NULL), "/home/sandbox/dir") == 0);
    sbx_bytes_free(bytes);

    OK(sbx_sandbox_file_metadata(sandbox, "dir/odd \xff", &found, &err));
    CHECK(sbx_metadata_kind(found) == SBX_FILE_KIND_FILE && sbx_metadata_size(found) == 6 && sbx_metadata_mode(found) == 0640);
    CHECK(sbx_metadata_modified(found, &when) && when > 1600000000 && sbx_metadata_accessed(found, NULL));
    sbx_metadata_free(found);
    OK(sbx_sandbox_symlink_metadata(sandbox, "dir/link", &found, &err));
    CHECK(sbx_metadata_kind(found) == SBX_FILE_KIND_SYMLINK);
    sbx_metadata_free(found);
    OK(sbx_sandbox_file_metadata(sandbox, "/dev/null", &found, &err));
    CHECK(sbx_metadata_kind(found) == SBX_FILE_KIND_OTHER && sbx_metadata_kind(NULL) == SBX_FILE_KIND_UNKNOWN);
    sbx_metadata_free(found);
    OK(sbx_sandbox_file_exists(sandbox, "dir/link", &exists, &err));
    CHECK(!exists);

    OK(sbx_sandbox_read_dir(sandbox, "dir", &entries, &err));
    CHECK(sbx_entries_count(entries) == 3 && sbx_entries_name_at(entries, 3) == NULL);
    for (size_t i = 0; i < 3; i++) {
        const char *name = sbx_entries_name_at(entries, i);
        sbx_file_kind kind = sbx_metadata_kind(sbx_entries_metadata_at(entries, i));
        CHECK(kind == (strcmp(name, "a") == 0      ? SBX_FILE_KIND_DIRECTORY
                       : strcmp(name, "link") == 0 ? SBX_FILE_KIND_SYMLINK
                                                   : SBX_FILE_KIND_FILE));
    }
    CHECK(sbx_entries_metadata_at(entries, 3) == NULL && sbx_entries_count(NULL) == 0);
    sbx_entries_free(entries);

    OK(sbx_sandbox_rename_file(sandbox, "dir/odd \xff", "dir/plain", &err));
    OK(sbx_sandbox_remove_file(sandbox, "dir/link", &err));
    FAILS(SBX_ERR_NOT_FOUND, "dir/link", sbx_sandbox_remove_file(sandbox, "dir/link", &err));
    OK(sbx_sandbox_remove_dir(sandbox, "dir/a/b", &err));
    FAILS(SBX_ERR_TRANSFER, "not empty", sbx_sandbox_remove_dir(sandbox, "dir", &err));
    OK(sbx_sandbox_remove_dir_all(sandbox, "dir", &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "path is NULL", sbx_sandbox_file_exists(sandbox, NULL, NULL, &err));
}

static void open_file(void) {
    sbx_file *file = NULL;
    sbx_metadata *found = NULL;
    uint8_t buffer[64];
    uint64_t position = 0;
    size_t len = 0;
    int32_t flags = SBX_OPEN_READ | SBX_OPEN_WRITE | SBX_OPEN_CREATE_NEW;
    OK(sbx_sandbox_open_file(sandbox, "opened", flags, 0600, &file, &err));
    OK(sbx_file_write(file, (const uint8_t *)"0123456789", 10, &err));
    OK(sbx_file_write(file, NULL, 0, &err));
    OK(sbx_file_seek(file, -4, SBX_SEEK_END, &position, &err));
    CHECK(position == 6);
    OK(sbx_file_read(file, buffer, sizeof buffer, &len, &err));
    CHECK(len == 4 && memcmp(buffer, "6789", 4) == 0);
    OK(sbx_file_read(file, buffer, sizeof buffer, &len, &err));
    CHECK(len == 0);
    OK(sbx_file_seek(file, 1, SBX_SEEK_START, NULL, &err));
    OK(sbx_file_seek(file, 1, SBX_SEEK_CURRENT, &position, &err));
    CHECK(position == 2);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "before the file's start", sbx_file_seek(file, -1, SBX_SEEK_START, NULL, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "9 is no place", sbx_file_seek(file, 0, 9, NULL, &err));
    OK(sbx_file_set_size(file, 5, &err));
    OK(sbx_file_set_permissions(file, 0644, &err));
    OK(sbx_file_sync(file, &err));
    OK(sbx_file_metadata(file, &found, &err));
    CHECK(sbx_metadata_size(found) == 5 && sbx_metadata_mode(found) == 0644);
    sbx_metadata_free(found);
    OK(sbx_file_close(file, &err));
    FAILS(SBX_ERR_CLOSED, "closed", sbx_file_close(file, &err));
    FAILS(SBX_ERR_CLOSED, "closed", sbx_file_write(file, buffer, 1, &err));
    sbx_file_free(file);
    FAILS(SBX_ERR_CONFLICT, "opened", sbx_sandbox_open_file(sandbox, "opened", flags, 0600, &file, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "64 are no flags", sbx_sandbox_open_file(sandbox, "opened", 64, 0600, &file, &err));
    FAILS(SBX_ERR_NOT_FOUND, "none", sbx_sandbox_open_file(sandbox, "none", SBX_OPEN_READ, 0, &file, &err));
    /* One that is never closed is closed when it is freed. */
    OK(sbx_sandbox_open_file(sandbox, "opened", SBX_OPEN_APPEND, 0, &file, &err));
    sbx_file_free(file);
}

struct moved {
    uint64_t done, size;
    int64_t total;
    int32_t answer;
    char path[256];
};

static int32_t progress(void *userdata, const char *path, uint64_t done, int64_t total) {
    struct moved *moved = userdata;
    CHECK(done >= moved->done);
    moved->done = done;
    moved->total = total;
    snprintf(moved->path, sizeof moved->path, "%s", path);
    return moved->answer;
}

static int64_t read_some(void *userdata, uint8_t *buffer, size_t capacity) {
    struct moved *moved = userdata;
    size_t len = moved->size < capacity ? (size_t)moved->size : capacity;
    memset(buffer, 7, len);
    moved->size -= len;
    return moved->answer ? -moved->answer : (int64_t)len;
}

static int32_t write_some(void *userdata, const uint8_t *data, size_t len) {
    struct moved *moved = userdata;
    CHECK(data[0] == 7 && data[len - 1] == 7);
    moved->size += len;
    return moved->answer;
}

static void transfers(const char *directory) {
    sbx_transfer *transfer = NULL;
    sbx_transferred *transferred = NULL;
    sbx_tree_report *report = NULL;
    struct moved moved = {0, 5000000, 0, 0, ""};
    char back[4096], tree[4096];
    snprintf(back, sizeof back, "%s/back", directory);
    snprintf(tree, sizeof tree, "%s/tree", directory);
    OK(sbx_sandbox_transfer(sandbox, &transfer, &err));
    OK(sbx_transfer_set_checksum(transfer, true, &err));
    OK(sbx_transfer_set_sync(transfer, true, &err));
    OK(sbx_transfer_set_max_bytes(transfer, 10000000, &err));
    OK(sbx_transfer_set_max_entries(transfer, 1000, &err));

    OK(sbx_transfer_upload_from(transfer, read_some, "sevens", progress, &moved, &transferred, &err));
    CHECK(moved.done == 5000000 && moved.total == -1 && strcmp(moved.path, "sevens") == 0);
    CHECK(sbx_transferred_bytes(transferred) == 5000000 && sbx_transferred_resumed(transferred) == 0);
    CHECK(sbx_transferred_sha256(transferred) != NULL);
    sbx_transferred_free(transferred);
    moved = (struct moved){0, 0, 0, 0, ""};
    OK(sbx_transfer_download_to(transfer, "sevens", write_some, progress, &moved, NULL, &err));
    CHECK(moved.done == 5000000 && moved.total == 5000000 && moved.size == 5000000);
    moved = (struct moved){0, 5000000, 0, 3, ""};
    FAILS(SBX_ERR_CANCELLED, "the callback returned 3",
          sbx_transfer_upload_from(transfer, read_some, "sevens", progress, &moved, NULL, &err));
    FAILS(SBX_ERR_CANCELLED, "the callback returned -3",
          sbx_transfer_upload_from(transfer, read_some, "sevens", NULL, &moved, NULL, &err));
    FAILS(SBX_ERR_CANCELLED, "the callback returned 3",
          sbx_transfer_download_to(transfer, "sevens", write_some, NULL, &moved, NULL, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "read is NULL",
          sbx_transfer_upload_from(transfer, NULL, "sevens", NULL, NULL, NULL, &err));

    OK(sbx_transfer_set_checksum(transfer, false, &err));
    OK(sbx_transfer_set_resume(transfer, true, &err));
    OK(sbx_transfer_download(transfer, "sevens", back, NULL, NULL, &transferred, &err));
    CHECK(sbx_transferred_bytes(transferred) == 5000000 && sbx_transferred_sha256(transferred) != NULL);
    sbx_transferred_free(transferred);
    OK(sbx_transfer_upload(transfer, back, "sevens", NULL, NULL, NULL, &err));
    OK(sbx_transfer_set_resume(transfer, false, &err));
    OK(sbx_transfer_upload(transfer, back, "sevens", NULL, NULL, &transferred, &err));
    CHECK(sbx_transferred_sha256(transferred) == NULL);
    sbx_transferred_free(transferred);

    moved = (struct moved){0, 0, 0, 0, ""};
    OK(sbx_transfer_upload_dir(transfer, directory, "tree", progress, &moved, &report, &err));
    CHECK(sbx_tree_report_files(report) == 2 && sbx_tree_report_directories(report) == 1);
    CHECK(moved.done == sbx_tree_report_bytes(report) && (uint64_t)moved.total == moved.done);
    CHECK(sbx_tree_report_skipped(report) == 0 && sbx_tree_report_symlinks(report) == 0);
    sbx_tree_report_free(report);
    OK(sbx_sandbox_create_symlink(sandbox, "/etc", "tree/out", &err));
    OK(sbx_transfer_download_dir(transfer, "tree", tree, NULL, NULL, &report, &err));
    CHECK(sbx_tree_report_skipped(report) == 1 && sbx_tree_report_note_count(report) == 1);
    CHECK(strcmp(sbx_tree_report_note_path_at(report, 0), "out") == 0);
    CHECK(strstr(sbx_tree_report_note_text_at(report, 0), "out of the tree") != NULL);
    CHECK(sbx_tree_report_note_path_at(report, 1) == NULL && sbx_tree_report_note_text_at(report, 1) == NULL);
    sbx_tree_report_free(report);
    OK(sbx_transfer_set_max_bytes(transfer, 100, &err));
    FAILS(SBX_ERR_TRANSFER, "100 bytes", sbx_transfer_download_dir(transfer, "tree", tree, NULL, NULL, NULL, &err));
    sbx_transfer_free(transfer);
}

static void by_name(const char *directory) {
    const char *name = sbx_sandbox_name(sandbox);
    sbx_sandbox *second = NULL;
    sbx_output *output = NULL;
    sbx_info *info = NULL;
    sbx_names *names = NULL;
    char local[4096];
    snprintf(local, sizeof local, "%s/local", directory);
    OK(sbx_client_attach(client, name, &second, &err));
    CHECK(strcmp(sbx_sandbox_uid(second), sbx_sandbox_uid(sandbox)) == 0);
    CHECK(!sbx_sandbox_timings(second, NULL, NULL, NULL));
    sbx_sandbox_free(second);
    OK(sbx_client_execute_command(client, name, "echo by name", &output, &err));
    CHECK(strcmp((const char *)sbx_output_stdout(output, NULL), "by name\n") == 0);
    sbx_output_free(output);
    OK(sbx_client_upload_file(client, name, local, "by-name", NULL, &err));
    OK(sbx_client_download_file(client, name, "by-name", local, NULL, &err));
    OK(sbx_client_get_sandbox_info(client, name, &info, &err));
    CHECK(strcmp(sbx_info_name(info), name) == 0);
    sbx_info_free(info);
    CHECK(sbx_client_ssh_port(client, name) == sbx_sandbox_ssh_port(sandbox));
    size_t idle = 0, busy = 7;
    sbx_sandbox_session_counts(sandbox, &idle, &busy);
    CHECK(idle > 0 && busy == 0);
    OK(sbx_client_reap(client, &names, &err));
    CHECK(sbx_names_at(names, sbx_names_count(names)) == NULL);
    sbx_names_free(names);
    FAILS(SBX_ERR_NOT_FOUND, "no-such-sandbox", sbx_client_delete_sandbox(client, "no-such-sandbox", &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "name is not UTF-8", sbx_client_attach(client, "\xff", &second, &err));
}

static void end(void) {
    sbx_command *command = NULL;
    sbx_output *output = NULL;
    sbx_sandbox *second = NULL;
    OK(sbx_sandbox_shell(sandbox, "true", &command, &err));
    OK(sbx_sandbox_delete(sandbox, &err));
    FAILS(SBX_ERR_CLOSED, "deleted", sbx_command_output(command, &output, &err));
    CHECK(sbx_client_attach(client, sbx_sandbox_name(sandbox), &second, &err) == SBX_ERR_NOT_FOUND);
    CHECK(sbx_error_http_status(err) == 404);
    /* Parents first: children keep what they need. */
    sbx_client_free(client);
    sbx_sandbox_free(sandbox);
    FAILS(SBX_ERR_CLOSED, "deleted", (sbx_error_free(err), sbx_command_output(command, &output, &err)));
    sbx_command_free(command);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    versions_and_statuses();
    nothing_is_answered();
    make_client();
    create();
    look();
    execute();
    command();
    stream();
    child();
    input_and_output(argv[1]);
    detached();
    files(argv[1]);
    names();
    open_file();
    transfers(argv[1]);
    by_name(argv[1]);
    end();
    puts("done");
    return 0;
}
