/* Handles of C that end in any order, each kind with its parents gone before it. AddressSanitizer looks at it. */

#include <sandbox.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sbx_error *err;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, err ? sbx_error_message(err) : ""); \
            exit(1); \
        } \
    } while (0)
#define OK(call) CHECK((call) == SBX_OK)

enum kind {
    CLIENT, SANDBOX, COMMAND, CHILD, OUTPUT, EXIT_STATUS, FILE_, TRANSFER, DETACHED, INFO, INFO_LIST, ENTRIES, METADATA, BYTES, ERROR,
    CONFIG, SPEC, KINDS,
};

static void *made[KINDS];

static void make_all(const char *name) {
    sbx_config *config = NULL;
    sbx_spec *spec = NULL;
    sbx_client *client = NULL;
    sbx_sandbox *sandbox = NULL;
    sbx_command *command = NULL, *cat = NULL;
    sbx_child *child = NULL;
    sbx_output *output = NULL;
    sbx_exit_status *exit_status = NULL;
    sbx_file *file = NULL;
    sbx_transfer *transfer = NULL;
    sbx_detached *detached = NULL;
    sbx_info *info = NULL;
    sbx_info_list *list = NULL;
    sbx_dir_entries *entries = NULL;
    sbx_metadata *metadata = NULL;
    sbx_bytes *bytes = NULL;
    sbx_error *error = NULL;
    OK(sbx_config_from_env(&config, &err));
    OK(sbx_spec_new(&spec, &err));
    OK(sbx_client_new(config, &client, &err));
    OK(sbx_client_attach(client, name, &sandbox, &err));
    OK(sbx_sandbox_command(sandbox, "true", &command, &err));
    OK(sbx_command_output(command, &output, &err));
    OK(sbx_command_run(command, &exit_status, &err));
    OK(sbx_sandbox_command(sandbox, "cat", &cat, &err));
    OK(sbx_command_spawn(cat, &child, &err));
    sbx_command_free(cat);
    OK(sbx_sandbox_open_file(sandbox, "/etc/passwd", SBX_OPEN_READ, 0, &file, &err));
    OK(sbx_sandbox_transfer(sandbox, &transfer, &err));
    OK(sbx_sandbox_detached(sandbox, "nothing", &detached, &err));
    OK(sbx_sandbox_info(sandbox, &info, &err));
    OK(sbx_client_list(client, NULL, &list, &err));
    OK(sbx_sandbox_read_dir(sandbox, "/etc", &entries, &err));
    OK(sbx_sandbox_file_metadata(sandbox, "/etc/passwd", &metadata, &err));
    OK(sbx_sandbox_read_file(sandbox, "/etc/passwd", &bytes, &err));
    CHECK(sbx_sandbox_remove_file(sandbox, "/no/such", &error) == SBX_ERR_FILE_NOT_FOUND);
    void *all[KINDS] = {client, sandbox, command, child, output, exit_status, file, transfer, detached, info, list, entries,
                        metadata, bytes, error, config, spec};
    memcpy(made, all, sizeof made);
}

/* What is left works as long as it is there, whatever it was made from. */
static void use(enum kind kind) {
    uint8_t buffer[8];
    size_t len = 0;
    bool has_ended = true;
    sbx_output *output = NULL;
    sbx_transferred *transferred = NULL;
    void *handle = made[kind];
    switch (kind) {
    case CLIENT:
        CHECK(sbx_client_namespace(handle)[0] != '\0');
        break;
    case SANDBOX:
        OK(sbx_sandbox_execute(handle, "echo on", &output, &err));
        CHECK(strcmp((const char *)sbx_output_stdout(output, NULL), "on\n") == 0);
        sbx_output_free(output);
        break;
    case COMMAND:
        OK(sbx_command_output(handle, &output, &err));
        sbx_output_free(output);
        break;
    case CHILD:
        OK(sbx_child_write_stdin(handle, (const uint8_t *)"abc", 3, &err));
        OK(sbx_child_read_stdout(handle, buffer, sizeof buffer, &len, &err));
        CHECK(len == 3 && memcmp(buffer, "abc", 3) == 0);
        OK(sbx_child_try_wait(handle, &has_ended, NULL, &err));
        CHECK(!has_ended);
        break;
    case OUTPUT:
        CHECK(sbx_output_success(handle));
        break;
    case EXIT_STATUS:
        CHECK(sbx_exit_status_success(handle));
        break;
    case FILE_:
        OK(sbx_file_seek(handle, 0, SBX_SEEK_START, NULL, &err));
        OK(sbx_file_read(handle, buffer, 5, &len, &err));
        CHECK(len > 0 && buffer[0] == 'r');
        break;
    case TRANSFER:
        OK(sbx_transfer_download(handle, "/etc/passwd", "/dev/shm/sandbox-endings", NULL, NULL, &transferred, &err));
        sbx_transferred_free(transferred);
        break;
    case DETACHED:
        CHECK(sbx_detached_kill(handle, NULL) == SBX_ERR_DETACHED_NOT_FOUND);
        break;
    case INFO:
        CHECK(sbx_info_name(handle)[0] != '\0');
        break;
    case INFO_LIST:
        CHECK(sbx_info_name(sbx_info_list_at(handle, 0))[0] != '\0');
        break;
    case ENTRIES:
        CHECK(sbx_dir_entries_count(handle) > 3);
        break;
    case METADATA:
        CHECK(sbx_metadata_size(handle) > 0);
        break;
    case BYTES:
        CHECK(sbx_bytes_data(handle, &len)[0] == 'r' && len > 0);
        break;
    case ERROR:
        CHECK(strstr(sbx_error_message(handle), "/no/such") != NULL);
        break;
    case CONFIG:
        OK(sbx_config_set_owner(handle, "somebody", &err));
        break;
    case SPEC:
        OK(sbx_spec_set_name(handle, "a-name", &err));
        break;
    case KINDS:
        break;
    }
}

static void let_go(enum kind kind) {
    void *handle = made[kind];
    made[kind] = NULL;
    switch (kind) {
    case CLIENT: sbx_client_free(handle); break;
    case SANDBOX: sbx_sandbox_free(handle); break;
    case COMMAND: sbx_command_free(handle); break;
    case CHILD: sbx_child_free(handle); break;
    case OUTPUT: sbx_output_free(handle); break;
    case EXIT_STATUS: sbx_exit_status_free(handle); break;
    case FILE_: sbx_file_free(handle); break;
    case TRANSFER: sbx_transfer_free(handle); break;
    case DETACHED: sbx_detached_free(handle); break;
    case INFO: sbx_info_free(handle); break;
    case INFO_LIST: sbx_info_list_free(handle); break;
    case ENTRIES: sbx_dir_entries_free(handle); break;
    case METADATA: sbx_metadata_free(handle); break;
    case BYTES: sbx_bytes_free(handle); break;
    case ERROR: sbx_error_free(handle); break;
    case CONFIG: sbx_config_free(handle); break;
    case SPEC: sbx_spec_free(handle); break;
    case KINDS: break;
    }
}

static uint32_t seed = 1;

static uint32_t below(uint32_t limit) {
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % limit;
}

int main(void) {
    sbx_client *client = NULL;
    sbx_sandbox *sandbox = NULL;
    sbx_output *output = NULL;
    OK(sbx_client_new(NULL, &client, &err));
    OK(sbx_client_create(client, NULL, &sandbox, &err));
    for (int round = 0; round < 24; round++) {
        enum kind order[KINDS];
        for (uint32_t i = 0; i < KINDS; i++)
            order[i] = (enum kind)(round == 1 ? KINDS - 1 - i : i);
        for (uint32_t i = KINDS; round > 1 && i > 1; i--) {
            uint32_t other = below(i);
            enum kind kind = order[other];
            order[other] = order[i - 1];
            order[i - 1] = kind;
        }
        make_all(sbx_sandbox_name(sandbox));
        for (uint32_t i = 0; i < KINDS; i++) {
            let_go(order[i]);
            let_go(order[i]); /* which is NULL now */
            if (i + 1 < KINDS)
                use(order[i + 1 + below(KINDS - i - 1)]);
        }
    }
    /* A close, and the end of what was closed, each with its parent gone. */
    make_all(sbx_sandbox_name(sandbox));
    let_go(CLIENT);
    let_go(SANDBOX);
    OK(sbx_file_close(made[FILE_], &err));
    CHECK(sbx_file_close(made[FILE_], NULL) == SBX_ERR_CLOSED);
    sbx_child_close_stdin(made[CHILD]);
    sbx_child_close_stdin(made[CHILD]);
    OK(sbx_child_wait(made[CHILD], NULL, &err));
    sbx_child_close_stdout(made[CHILD]);
    for (int kind = 0; kind < KINDS; kind++)
        let_go((enum kind)kind);
    OK(sbx_sandbox_execute(sandbox, "rm -f closed; true", &output, &err));
    sbx_output_free(output);
    OK(sbx_sandbox_delete(sandbox, &err));
    sbx_client_free(client);
    sbx_sandbox_free(sandbox);
    remove("/dev/shm/sandbox-endings");
    puts("done");
    return 0;
}
