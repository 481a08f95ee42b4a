/* One behaviour, every language: the scenarios of ../scenarios.md in C99. */

#include "conformance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

static const struct {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    {"life", life},
    {"by-name", by_name},
    {"run", run},
    {"streams", streams},
    {"exit-status", exit_status},
    {"timeout", timeout},
    {"cancel", cancel},
    {"terminal", terminal},
    {"detached", detached},
    {"ports", ports},
    {"bytes", bytes},
    {"large", large},
    {"files", files},
    {"transfers", transfers},
    {"trees", trees},
    {"errors", errors},
    {"file-errors", file_errors},
    {"use-after-close", use_after_close},
    {"threads", threads},
    {"fork", forks},
    {"callback", callback},
    {"fleet", fleet},
    {"pool", pool},
    {"settings", settings},
    {"doctor", doctor},
    {"end", end},
};

const char *directory;
char owner[64];
sbx_client *client;
sbx_sandbox *sandbox;
sbx_error *err;

static jmp_buf scenario_failed;
static char why[1024];

void fail(const char *file, int line, const char *what) {
    const char *name = strrchr(file, '/');
    const char *message = err ? sbx_error_message(err) : "none";
    snprintf(why, sizeof why, "%s:%d: %s; the last error: %s", name ? name + 1 : file, line, what, message);
    longjmp(scenario_failed, 1);
}

void prints(const char *file, int line, const char *expected, size_t expected_len, sbx_output *output) {
    size_t len = 0, errors_len = 0;
    const uint8_t *data = sbx_output_stdout(output, &len);
    const uint8_t *errors = sbx_output_stderr(output, &errors_len);
    char what[400];
    snprintf(what, sizeof what, "\"%.100s\" expected, got \"%.100s\" and \"%.100s\"", expected, (const char *)data,
             (const char *)errors);
    if (len != expected_len || memcmp(data, expected, len) != 0)
        fail(file, line, what);
    sbx_output_free(output);
}

double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

void rest(void) {
    nanosleep(&(struct timespec){0, 20000000}, NULL);
}

sbx_output *execute(const char *line) {
    sbx_output *output = NULL;
    OK(sbx_sandbox_execute(sandbox, line, &output, &err));
    return output;
}

sbx_command *program(const char *name, ...) {
    sbx_command *command = NULL;
    OK(sbx_sandbox_command(sandbox, name, &command, &err));
    va_list arguments;
    va_start(arguments, name);
    for (const char *argument; (argument = va_arg(arguments, const char *)) != NULL;)
        OK(sbx_command_add_arg(command, argument, &err));
    va_end(arguments);
    return command;
}

sbx_command *shell(const char *line) {
    sbx_command *command = NULL;
    OK(sbx_sandbox_shell(sandbox, line, &command, &err));
    return command;
}

sbx_output *output_of(sbx_command *command) {
    sbx_output *output = NULL;
    OK(sbx_command_output(command, &output, &err));
    sbx_command_free(command);
    return output;
}

sbx_child *child_of(sbx_command *command) {
    sbx_child *child = NULL;
    OK(sbx_command_spawn(command, &child, &err));
    sbx_command_free(command);
    return child;
}

bool matches(const char *pattern) {
    sbx_output *output = output_of(program("pgrep", "-f", pattern, NULL));
    bool found = sbx_output_success(output);
    sbx_output_free(output);
    return found;
}

const char *in_directory(const char *name) {
    static char paths[4][4096];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

void write_local(const char *path, const void *data, size_t len) {
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL && fwrite(data, 1, len, file) == len && fclose(file) == 0);
}

void local_is(const char *path, const void *data, size_t len) {
    FILE *file = fopen(path, "rb");
    uint8_t *read = malloc(len + 1);
    CHECK(file != NULL && fread(read, 1, len + 1, file) == len && fclose(file) == 0 && memcmp(read, data, len) == 0);
    free(read);
}

uint8_t *numbers(size_t len) {
    uint8_t *bytes = malloc(len);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i / 4 >> 8 * (i % 4));
    return bytes;
}

sbx_config *new_config(const char *suffix_of_owner) {
    char whose[80];
    snprintf(whose, sizeof whose, "%s%s", owner, suffix_of_owner);
    sbx_config *config = NULL;
    OK(sbx_config_from_env(&config, &err));
    OK(sbx_config_set_owner(config, whose, &err));
    OK(sbx_config_set_lifetime(config, 600, &err));
    OK(sbx_config_set_create_timeout(config, 60, &err));
    OK(sbx_config_set_command_timeout(config, 60, &err));
    OK(sbx_config_set_transfer_timeout(config, 60, &err));
    return config;
}

sbx_client *new_client(sbx_config *config) {
    sbx_client *made = NULL;
    OK(sbx_client_new(config, &made, &err));
    sbx_config_free(config);
    return made;
}

static bool is_asked_for(const char *name, char **asked) {
    bool found = *asked == NULL || strcmp(name, "life") == 0;
    for (; *asked != NULL; asked++)
        found |= strcmp(name, *asked) == 0;
    return found;
}

static bool passes(size_t index) {
    bool passed = setjmp(scenario_failed) == 0;
    if (passed) {
        scenarios[index].run();
        printf("ok %s\n", scenarios[index].name);
    } else {
        printf("failed %s: %s\n", scenarios[index].name, why);
    }
    fflush(stdout);
    DONE;
    return passed;
}

/* Deletes what a failed scenario, or a choice of them, has left. */
static void clear_away(void) {
    sbx_info_list *list = NULL;
    if (client == NULL || sbx_client_list(client, NULL, &list, NULL) != SBX_OK)
        return;
    for (size_t i = 0; i < sbx_info_list_count(list); i++) {
        const sbx_info *info = sbx_info_list_at(list, i);
        if (strncmp(sbx_info_owner(info), owner, strlen(owner)) == 0 &&
            sbx_client_delete_sandbox(client, sbx_info_name(info), NULL) != SBX_OK)
            fprintf(stderr, "%s is still there\n", sbx_info_name(info));
    }
    sbx_info_list_free(list);
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    directory = argv[1];
    snprintf(owner, sizeof owner, "conformance-c-%ld", (long)getpid());
    bool all_passed = true;
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        if (is_asked_for(scenarios[i].name, argv + 2))
            all_passed &= passes(i);
    clear_away();
    /* A scenario that failed has freed nothing. That is no leak to look for. */
    if (!all_passed)
        _exit(1);
    sbx_sandbox_free(sandbox);
    sbx_client_free(client);
    return 0;
}
