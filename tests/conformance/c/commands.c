/* Scenarios about commands. */

#include "conformance.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

void run(void) {
    sbx_command *command = program("sh", "-c", "printf '%s|' \"$MINE\" \"$PWD\" \"$(id -un)\" \"$@\"", "sh", NULL);
    sbx_output *output = NULL;
    OK(sbx_command_add_arg(command, "two words", &err));
    OK(sbx_command_add_arg(command, "it's \"$HOME\" `id` \\ *", &err));
    OK(sbx_command_add_arg(command, "a\nb \xff\xfe", &err));
    OK(sbx_command_add_arg_bytes(command, (const uint8_t *)"cut here", 3, &err));
    OK(sbx_command_add_arg_bytes(command, NULL, 0, &err));
    OK(sbx_command_set_env(command, "MINE", "one\ntwo", &err));
    OK(sbx_command_set_current_dir(command, "/tmp", &err));
    OK(sbx_command_set_user(command, "sandbox", &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "value is NULL", sbx_command_add_arg(command, NULL, &err));
    for (int time = 0; time < 2; time++) {
        OK(sbx_command_output(command, &output, &err));
        PRINTS("one\ntwo|/tmp|sandbox|two words|it's \"$HOME\" `id` \\ *|a\nb \xff\xfe|cut||", output);
    }
    OK(sbx_command_set_user(command, "root", &err));
    FAILS(SBX_ERR_COMMAND, "the user can't be changed", sbx_command_output(command, &output, &err));
    sbx_command_free(command);

    command = shell("for word; do echo \"<$word>\"; done | tac");
    OK(sbx_command_add_arg(command, "one two", &err));
    OK(sbx_command_add_arg(command, "3", &err));
    PRINTS("<3>\n<one two>\n", output_of(command));
}

/* What a callback has received, and when it is to stop. */
struct received {
    uint8_t out[100], errors[100];
    uint64_t out_len, errors_len, stop_after, calls_after_stop;
    /* Is written in the sandbox when something comes. */
    const char *file;
    sbx_status written;
};

static int32_t receive(void *userdata, sbx_stream stream, const uint8_t *data, size_t len) {
    struct received *received = userdata;
    uint64_t *total = stream == SBX_STREAM_STDOUT ? &received->out_len : &received->errors_len;
    uint8_t *kept = stream == SBX_STREAM_STDOUT ? received->out : received->errors;
    received->calls_after_stop += received->out_len > received->stop_after;
    if (*total < sizeof received->out)
        memcpy(kept + *total, data, len < sizeof received->out - *total ? len : sizeof received->out - *total);
    *total += len;
    if (received->file)
        received->written = sbx_sandbox_write_file(sandbox, received->file, NULL, 0, NULL);
    received->file = NULL;
    return received->out_len > received->stop_after;
}

/* A line goes there and comes back, while the other stream has its own. */
static void talk_to_cat(void) {
    uint8_t buffer[64];
    size_t len = 0;
    bool has_ended = true;
    sbx_exit_status *exit_status = NULL;
    sbx_child *child = child_of(shell("echo to stderr >&2; exec cat"));
    CHECK(strlen(sbx_child_id(child)) > 0);
    for (int turn = 0; turn < 3; turn++) {
        OK(sbx_child_write_stdin(child, (const uint8_t *)"li\0ne\n", 6, &err));
        OK(sbx_child_read_stdout(child, buffer, sizeof buffer, &len, &err));
        CHECK(len == 6 && memcmp(buffer, "li\0ne\n", 6) == 0);
    }
    OK(sbx_child_try_wait(child, &has_ended, &exit_status, &err));
    CHECK(!has_ended && exit_status == NULL);
    OK(sbx_child_read_stderr(child, buffer, 9, &len, &err));
    CHECK(len == 9 && memcmp(buffer, "to stderr", 9) == 0);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "buffer", sbx_child_read_stdout(child, NULL, 1, &len, &err));
    OK(sbx_child_wait(child, &exit_status, &err));
    CHECK(sbx_exit_status_success(exit_status) && sbx_exit_status_signal(exit_status) == NULL);
    sbx_exit_status_free(exit_status);
    OK(sbx_child_try_wait(child, &has_ended, NULL, &err));
    CHECK(has_ended);
    OK(sbx_child_read_stdout(child, buffer, sizeof buffer, &len, &err));
    CHECK(len == 0);
    sbx_child_free(child);
}

/* No SIGPIPE comes from a command that has gone away. */
static void write_to_nobody(void) {
    bool has_ended = false;
    sbx_child *child = child_of(program("true", NULL));
    while (!has_ended)
        OK(sbx_child_try_wait(child, &has_ended, NULL, &err));
    while (sbx_child_write_stdin(child, (const uint8_t *)"more", 4, NULL) == SBX_OK)
        rest();
    sbx_child_free(child);
}

enum { LARGE = 16 << 20 };

/* A call that may block, on a thread of its own. */
struct blocked {
    sbx_child *child;
    sbx_file *file;
    const uint8_t *data;
    uint8_t buffer[8];
    size_t len;
    sbx_status status;
    pthread_t thread;
};

static void *read_from_child(void *blocked_) {
    struct blocked *blocked = blocked_;
    uint8_t *buffer = blocked->buffer;
    blocked->status = sbx_child_read_stdout(blocked->child, buffer, sizeof blocked->buffer, &blocked->len, NULL);
    return NULL;
}

static void *read_from_file(void *blocked_) {
    struct blocked *blocked = blocked_;
    blocked->status = sbx_file_read(blocked->file, blocked->buffer, sizeof blocked->buffer, &blocked->len, NULL);
    return NULL;
}

static void *write_to_child(void *blocked_) {
    struct blocked *blocked = blocked_;
    blocked->status = sbx_child_write_stdin(blocked->child, blocked->data, blocked->len, NULL);
    return NULL;
}

/* Begins a call, and gives it the time to block. */
static void begin(struct blocked *blocked, void *(*call)(void *)) {
    CHECK(pthread_create(&blocked->thread, NULL, call, blocked) == 0);
    for (int i = 0; i < 10; i++)
        rest();
}

static void end_of(struct blocked *blocked) {
    CHECK(pthread_join(blocked->thread, NULL) == 0 && blocked->status == SBX_OK);
}

/* Who closes a stream, or waits, does not wait for who is blocked in one. */
static void close_what_is_used(void) {
    struct blocked reader = {.child = child_of(program("sleep", "64", NULL)), .len = 7};
    double begun = now();
    begin(&reader, read_from_child);
    sbx_child_close_stdout(reader.child);
    end_of(&reader);
    CHECK(reader.len == 0 && now() - begun < 30);
    OK(sbx_child_read_stdout(reader.child, reader.buffer, sizeof reader.buffer, &reader.len, &err));
    CHECK(reader.len == 0);
    OK(sbx_child_kill(reader.child, &err));
    sbx_child_free(reader.child);

    /* Nobody reads what cat writes until its end is waited for, and what is written to it goes there whole. */
    uint8_t *much = numbers(LARGE);
    size_t len = 0;
    sbx_output *output = NULL;
    struct blocked writer = {.child = child_of(program("cat", NULL)), .data = much, .len = LARGE};
    begin(&writer, write_to_child);
    sbx_child_close_stdin(writer.child);
    FAILS(SBX_ERR_CLOSED, "closed", sbx_child_write_stdin(writer.child, much, 1, &err));
    OK(sbx_child_wait_with_output(writer.child, &output, &err));
    end_of(&writer);
    CHECK(memcmp(sbx_output_stdout(output, &len), much, LARGE) == 0 && len == LARGE);
    sbx_output_free(output);
    sbx_child_free(writer.child);
    free(much);
}

void streams(void) {
    sbx_output *output = NULL;
    sbx_exit_status *exit_status = NULL;
    int32_t code = -1;
    size_t len = 0;
    talk_to_cat();
    write_to_nobody();
    close_what_is_used();

    sbx_command *command = shell("for n in 1 2 3; do echo out $n; echo err $n >&2; done");
    OK(sbx_command_output(command, &output, &err));
    const uint8_t *data = sbx_output_stderr(output, &len);
    IS("err 1\nerr 2\nerr 3\n", data, len);
    PRINTS("out 1\nout 2\nout 3\n", output);
    OK(sbx_command_merge_stderr(command, &err));
    PRINTS("out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n", output_of(command));

    command = shell("echo out; echo err >&2");
    OK(sbx_command_discard_stderr(command, &err));
    OK(sbx_command_output(command, &output, &err));
    data = sbx_output_stderr(output, &len);
    IS("", data, len);
    PRINTS("out\n", output);
    OK(sbx_command_discard_stdout(command, &err));
    PRINTS("", output_of(command));

    /* The command goes on when its first line has been received, and not before. */
    struct received all = {.stop_after = UINT64_MAX, .file = "received"};
    command = shell("echo first; until [ -e received ]; do sleep 0.02; done; head -c 1000000 /dev/zero; echo last >&2; exit 9");
    OK(sbx_command_stream(command, receive, &all, &exit_status, &err));
    CHECK(all.written == SBX_OK && all.out_len == 1000006 && memcmp(all.out, "first\n", 6) == 0);
    CHECK(all.errors_len == 5 && memcmp(all.errors, "last\n", 5) == 0);
    CHECK(sbx_exit_status_code(exit_status, &code) && code == 9 && !sbx_exit_status_success(exit_status));
    sbx_exit_status_free(exit_status);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "receive is NULL", sbx_command_stream(command, NULL, NULL, NULL, &err));
    sbx_command_free(command);
}

void exit_status(void) {
    static const int32_t codes[] = {0, 3, 255};
    sbx_output *output = NULL;
    sbx_exit_status *exit_status = NULL;
    size_t len = 0;
    for (size_t i = 0; i < 3; i++) {
        char line[32];
        int32_t code = -1;
        snprintf(line, sizeof line, "exit %d", (int)codes[i]);
        output = execute(line);
        CHECK(sbx_output_exit_code(output, &code) && code == codes[i] && sbx_output_success(output) == (code == 0));
        CHECK(sbx_output_signal(output) == NULL && sbx_output_truncated(output) == 0);
        CHECK(sbx_output_check(output, NULL) == (code == 0 ? SBX_OK : SBX_ERR_COMMAND_FAILED));
        sbx_output_free(output);
    }

    int32_t code = -1;
    output = execute("kill -KILL $$");
    CHECK(strcmp(sbx_output_signal(output), "KILL") == 0 && !sbx_output_exit_code(output, &code) && code == -1);
    CHECK(!sbx_output_success(output));
    sbx_output_free(output);
    sbx_command *command = shell("kill -TERM $$");
    OK(sbx_command_run(command, &exit_status, &err));
    CHECK(strcmp(sbx_exit_status_signal(exit_status), "TERM") == 0 && !sbx_exit_status_code(exit_status, NULL));
    sbx_exit_status_free(exit_status);
    OK(sbx_command_run(command, NULL, &err));
    sbx_command_free(command);

    output = execute("printf 'a\\0b'; echo first >&2; echo oops >&2; exit 3");
    FAILS_WITH(SBX_ERR_COMMAND_FAILED, "exit code 3: oops", sbx_output_check(output, &err));
    sbx_output_free(output);
    const uint8_t *data = sbx_error_stdout(err, &len);
    IS("a\0b", data, len);
    data = sbx_error_stderr(err, &len);
    IS("first\noops\n", data, len);
    DONE;

    command = program("no-such-program", NULL);
    FAILS(SBX_ERR_COMMAND, "no-such-program", sbx_command_output(command, &output, &err));
    sbx_command_free(command);
}

void timeout(void) {
    sbx_output *output = NULL;
    size_t len = 0;
    double begun = now();
    sbx_command *command = shell("echo so far; sleep 60");
    OK(sbx_command_set_timeout(command, 4, &err));
    FAILS_WITH(SBX_ERR_TIMED_OUT, "", sbx_command_output(command, &output, &err));
    CHECK(now() - begun < 30);
    const uint8_t *data = sbx_error_stdout(err, &len);
    IS("so far\n", data, len);
    DONE;
    sbx_command_free(command);
    NOTHING_RUNS("slee[p] 60");
}

static void *kill_soon(void *child) {
    rest();
    return sbx_child_kill(child, NULL) == SBX_OK ? child : NULL;
}

/* Yes once the command runs: a question may make calls itself. */
static int32_t runs(void *asked) {
    sbx_output *output = NULL;
    ++*(int *)asked;
    if (sbx_sandbox_execute(sandbox, "pgrep -f 'slee[p] 63'", &output, NULL) != SBX_OK)
        return 0;
    bool found = sbx_output_success(output);
    sbx_output_free(output);
    return found;
}

static void interrupt(void) {
    int asked = 0;
    size_t len = 0;
    sbx_output *output = NULL;
    sbx_command *command = shell("echo so far; setsid sleep 63 & exec sleep 63");
    sbx_thread_on_wait(runs, &asked);
    sbx_status status = sbx_command_output(command, &output, &err);
    int before = asked;
    sbx_thread_on_wait(NULL, NULL);
    FAILS_WITH(SBX_ERR_CANCELLED, "all its processes were killed: interrupted", status);
    const uint8_t *data = sbx_error_stdout(err, &len);
    IS("so far\n", data, len);
    DONE;
    sbx_command_free(command);
    NOTHING_RUNS("slee[p] 63");
    sbx_output_free(execute("sleep 0.3"));
    CHECK(before > 0 && asked == before);
}

void cancel(void) {
    pthread_t thread;
    void *killed = NULL;
    sbx_exit_status *exit_status = NULL;
    sbx_child *child = child_of(shell("yes & sleep 61"));
    sbx_child_close_stdout(child);
    sbx_child_close_stderr(child);
    RUNS("slee[p] 61");
    double begun = now();
    CHECK(pthread_create(&thread, NULL, kill_soon, child) == 0);
    OK(sbx_child_wait(child, &exit_status, &err));
    CHECK(now() - begun < 30 && strcmp(sbx_exit_status_signal(exit_status), "KILL") == 0);
    sbx_exit_status_free(exit_status);
    CHECK(pthread_join(thread, &killed) == 0 && killed != NULL);
    AWAIT(!matches("slee[p] 61") && !matches("^ye[s]"));
    sbx_child_free(child);

    child = child_of(program("sleep", "62", NULL));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "signal", sbx_child_signal(child, "no such", &err));
    OK(sbx_child_signal(child, "TERM", &err));
    OK(sbx_child_wait(child, &exit_status, &err));
    CHECK(strcmp(sbx_exit_status_signal(exit_status), "TERM") == 0);
    sbx_exit_status_free(exit_status);
    sbx_child_free(child);

    interrupt();
}

/* Reads from the child what must be there next. */
static void reads(sbx_child *child, const char *expected) {
    uint8_t buffer[64];
    size_t len = 0, had = 0;
    while (had < strlen(expected)) {
        OK(sbx_child_read_stdout(child, buffer + had, strlen(expected) - had, &len, &err));
        CHECK(len > 0);
        had += len;
    }
    CHECK(memcmp(buffer, expected, had) == 0);
}

void terminal(void) {
    sbx_command *command = shell("trap 'stty size; exit' WINCH; echo $TERM; stty size; while :; do sleep 0.02; done");
    OK(sbx_command_set_terminal(command, "vt100", 100, 30, &err));
    sbx_child *child = child_of(command);
    reads(child, "vt100\r\n30 100\r\n");
    sbx_child_resize(child, 120, 40);
    reads(child, "40 120\r\n");
    OK(sbx_child_wait(child, NULL, &err));
    sbx_child_free(child);
}

/* Starts the command of the key, which has to be freed, from a client of its own. */
static void find_it_from_elsewhere(void) {
    sbx_client *other = new_client(new_config(""));
    sbx_sandbox *attached = NULL;
    sbx_detached *found = NULL;
    sbx_exit_status *exit_status = NULL;
    sbx_bytes *read = NULL;
    size_t len = 0;
    int32_t code = 0;
    OK(sbx_client_attach(other, owner, &attached, &err));
    OK(sbx_sandbox_detached(attached, "job", &found, &err));
    sbx_client_free(other);
    sbx_sandbox_free(attached);
    FAILS(SBX_ERR_TIMED_OUT, "still runs", sbx_detached_wait(found, 0.1, NULL, &err));
    sbx_output_free(execute("touch go"));
    OK(sbx_detached_wait(found, -1, &exit_status, &err));
    CHECK(sbx_exit_status_code(exit_status, &code) && code == 3);
    sbx_exit_status_free(exit_status);
    OK(sbx_detached_read(found, SBX_STREAM_STDOUT, 6, 100, &read, &err));
    const uint8_t *data = sbx_bytes_data(read, &len);
    IS("second\n", data, len);
    sbx_bytes_free(read);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "stream", sbx_detached_read(found, 7, 0, 1, &read, &err));

    /* A callback that stops at the second byte is given the same again. */
    struct received some = {.stop_after = 1}, rest_of_it = {.stop_after = UINT64_MAX};
    uint64_t out = 6, errors_out = 0;
    FAILS(SBX_ERR_CANCELLED, "returned 1", sbx_detached_stream(found, &out, &errors_out, receive, &some, NULL, &err));
    CHECK(out == 6);
    OK(sbx_detached_stream(found, &out, &errors_out, receive, &rest_of_it, &exit_status, &err));
    CHECK(rest_of_it.out_len == 7 && memcmp(rest_of_it.out, "second\n", 7) == 0 && out == 13);
    /* The other stream may have come before the stop. */
    CHECK(some.errors_len + rest_of_it.errors_len == 4 && errors_out == 4);
    sbx_exit_status_free(exit_status);
    OK(sbx_detached_remove(found, &err));
    FAILS(SBX_ERR_DETACHED_NOT_FOUND, "job", sbx_detached_kill(found, &err));
    sbx_detached_free(found);
}

void detached(void) {
    sbx_detached *first = NULL, *second = NULL, *endless = NULL;
    sbx_exit_status *exit_status = NULL;
    bool has_ended = true;
    sbx_command *command =
        shell("echo once >> starts; echo first; until [ -e go ]; do sleep 0.02; done; echo second; echo bad >&2; exit 3");
    FAILS(SBX_ERR_INVALID_ARGUMENT, "no key", sbx_command_detach(command, "no key", &first, &err));
    OK(sbx_command_detach(command, "job", &first, &err));
    OK(sbx_command_detach(command, "job", &second, &err));
    OK(sbx_detached_try_wait(second, &has_ended, &exit_status, &err));
    CHECK(!has_ended && exit_status == NULL && strcmp(sbx_detached_key(second), "job") == 0);
    FAILS(SBX_ERR_CONFLICT, "runs", sbx_detached_remove(second, &err));
    find_it_from_elsewhere();
    PRINTS("once\n", execute("cat starts"));
    sbx_detached_free(first);
    sbx_detached_free(second);
    sbx_command_free(command);

    command = program("sleep", "63", NULL);
    OK(sbx_command_detach(command, "killed", &endless, &err));
    OK(sbx_detached_kill(endless, &err));
    NOTHING_RUNS("slee[p] 63");
    OK(sbx_detached_wait(endless, 60, &exit_status, &err));
    CHECK(strcmp(sbx_exit_status_signal(exit_status), "KILL") == 0);
    sbx_exit_status_free(exit_status);
    OK(sbx_detached_remove(endless, &err));
    sbx_detached_free(endless);
    OK(sbx_command_detach(command, "signalled", &endless, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "signal", sbx_detached_signal(endless, "no such", &err));
    OK(sbx_detached_signal(endless, "TERM", &err));
    OK(sbx_detached_wait(endless, 60, &exit_status, &err));
    CHECK(strcmp(sbx_exit_status_signal(exit_status), "TERM") == 0);
    sbx_exit_status_free(exit_status);
    OK(sbx_detached_remove(endless, &err));
    FAILS(SBX_ERR_DETACHED_NOT_FOUND, "signalled", sbx_detached_wait(endless, 0.1, NULL, &err));
    sbx_detached_free(endless);
    sbx_command_free(command);
}

void bytes(void) {
    uint8_t all[256];
    size_t len = 0;
    sbx_output *output = NULL;
    for (int i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    sbx_command *command = program("cat", NULL);
    OK(sbx_command_set_stdin(command, all, sizeof all, &err));
    OK(sbx_command_output(command, &output, &err));
    CHECK(memcmp(sbx_output_stdout(output, &len), all, sizeof all) == 0 && len == sizeof all);
    sbx_output_free(output);
    OK(sbx_command_set_stdin(command, NULL, 0, &err));
    OK(sbx_command_output(command, &output, &err));
    PRINTS("", output);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "data is NULL, but its length is 1", sbx_command_set_stdin(command, NULL, 1, &err));

    write_local(in_directory("input"), all, sizeof all);
    FILE *file = fopen(in_directory("input"), "rb");
    CHECK(file != NULL);
    OK(sbx_command_set_stdin_fd(command, fileno(file), &err));
    fclose(file);
    OK(sbx_command_output(command, &output, &err));
    CHECK(memcmp(sbx_output_stdout(output, &len), all, sizeof all) == 0 && len == sizeof all);
    sbx_output_free(output);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "used up", sbx_command_output(command, &output, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "fd is -1", sbx_command_set_stdin_fd(command, -1, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "not open", sbx_command_set_stdin_fd(command, 1000000, &err));

    OK(sbx_command_set_stdin(command, NULL, 0, &err));
    OK(sbx_command_add_arg_bytes(command, (const uint8_t *)"a\0b", 3, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "NUL", sbx_command_output(command, &output, &err));
    sbx_command_free(command);
}

void large(void) {
    sbx_output *output = NULL;
    size_t len = 0;
    uint8_t *many = numbers(LARGE);
    sbx_child *child = child_of(program("sha256sum", NULL));
    OK(sbx_child_write_stdin(child, many, LARGE, &err));
    OK(sbx_child_wait_with_output(child, &output, &err));
    sbx_child_free(child);
    PRINTS("c9e77904d4198fb6b70b6556e0d0229139bd3aa7dee40d70b8c7cddfdd1d537f  -\n", output);

    sbx_command *command = program("cat", NULL);
    OK(sbx_command_set_stdin(command, many, LARGE, &err));
    OK(sbx_command_output(command, &output, &err));
    CHECK(memcmp(sbx_output_stdout(output, &len), many, LARGE) == 0 && len == LARGE);
    sbx_output_free(output);
    OK(sbx_command_set_output_limit(command, 1000, &err));
    OK(sbx_command_output(command, &output, &err));
    CHECK(memcmp(sbx_output_stdout(output, &len), many, 1000) == 0 && len == 1000);
    CHECK(sbx_output_truncated(output) == LARGE - 1000);
    sbx_output_free(output);
    sbx_command_free(command);
    free(many);
}

enum { THREADS = 8, TIMES = 10 };

struct runner {
    int number, right;
    size_t sessions;
};

static void *run_often(void *runner_) {
    struct runner *runner = runner_;
    for (int i = 0; i < TIMES; i++) {
        char line[64], expected[64];
        sbx_output *output = NULL;
        size_t idle = 0, busy = 0;
        snprintf(line, sizeof line, "echo %d of %d", i, runner->number);
        snprintf(expected, sizeof expected, "%d of %d\n", i, runner->number);
        if (sbx_sandbox_execute(sandbox, line, &output, NULL) == SBX_OK)
            runner->right += strcmp((const char *)sbx_output_stdout(output, NULL), expected) == 0;
        sbx_output_free(output);
        sbx_sandbox_session_counts(sandbox, &idle, &busy);
        if (idle + busy > runner->sessions)
            runner->sessions = idle + busy;
    }
    return NULL;
}

void threads(void) {
    pthread_t ids[THREADS];
    struct runner runners[THREADS] = {{0, 0, 0}};
    for (int i = 0; i < THREADS; i++) {
        runners[i].number = i;
        CHECK(pthread_create(&ids[i], NULL, run_often, &runners[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(ids[i], NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(runners[i].right == TIMES && runners[i].sessions <= THREADS);
}

/* In the forked child: how many calls are not refused. */
static int allowed(sbx_child *child, sbx_file *file, sbx_file *stuck, sbx_detached *job) {
    sbx_output *output = NULL;
    uint64_t position;
    sbx_info_list *list = NULL;
    sbx_bytes *read = NULL;
    uint8_t buffer[8];
    size_t len;
    bool has_ended;
    const sbx_status answers[] = {
        sbx_client_list(client, NULL, &list, NULL),
        sbx_sandbox_execute(sandbox, "true", &output, NULL),
        sbx_sandbox_read_file(sandbox, "forked", &read, NULL),
        sbx_sandbox_delete(sandbox, NULL),
        sbx_file_read(file, buffer, sizeof buffer, &len, NULL),
        sbx_file_read(stuck, buffer, sizeof buffer, &len, NULL),
        sbx_file_seek(stuck, 0, SBX_SEEK_START, &position, NULL),
        sbx_file_close(stuck, NULL),
        sbx_detached_kill(job, NULL),
        sbx_child_write_stdin(child, (const uint8_t *)"x", 1, NULL),
        sbx_child_read_stdout(child, buffer, sizeof buffer, &len, NULL),
        sbx_child_try_wait(child, &has_ended, NULL, NULL),
        sbx_child_kill(child, NULL),
        sbx_child_wait(child, NULL, NULL),
        sbx_child_wait_with_output(child, &output, NULL),
    };
    int count = 0;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        count += answers[i] != SBX_ERR_FORKED;
    sbx_child_close_stdin(child);
    sbx_child_close_stdout(child);
    sbx_child_close_stderr(child);
    sbx_child_free(child);
    sbx_file_free(file);
    sbx_file_free(stuck);
    sbx_detached_free(job);
    return count;
}

void forks(void) {
    sbx_file *file = NULL, *stuck = NULL;
    sbx_detached *job = NULL;
    int status = -1;
    OK(sbx_sandbox_write_file(sandbox, "forked", (const uint8_t *)"text", 4, &err));
    OK(sbx_sandbox_open_file(sandbox, "forked", SBX_OPEN_READ, 0, &file, &err));
    OK(sbx_sandbox_detached(sandbox, "none", &job, &err));
    /* A pipe, into which nobody writes yet. */
    sbx_output_free(execute("mkfifo stuck; (exec 3<>stuck; until [ -e unstick ]; do sleep 0.05; done; "
                            "printf text >&3; sleep 2) > /dev/null 2>&1 &"));
    OK(sbx_sandbox_open_file(sandbox, "stuck", SBX_OPEN_READ, 0, &stuck, &err));
    sbx_child *child = child_of(program("cat", NULL));
    /* What these threads have locked stays so in the child, where they are not. */
    struct blocked of_child = {.child = child}, of_file = {.file = stuck};
    begin(&of_child, read_from_child);
    begin(&of_file, read_from_file);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(20);
        _exit(allowed(child, file, stuck, job));
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);

    /* What the child did and freed has changed nothing here. */
    uint8_t buffer[8];
    size_t len = 0;
    OK(sbx_child_write_stdin(child, (const uint8_t *)"line\n", 5, &err));
    end_of(&of_child);
    CHECK(of_child.len == 5 && memcmp(of_child.buffer, "line\n", 5) == 0);
    sbx_output_free(execute("touch unstick"));
    end_of(&of_file);
    CHECK(of_file.len == 4 && memcmp(of_file.buffer, "text", 4) == 0);
    sbx_file_free(stuck);
    OK(sbx_child_wait(child, NULL, &err));
    OK(sbx_file_read(file, buffer, sizeof buffer, &len, &err));
    CHECK(len == 4 && memcmp(buffer, "text", 4) == 0);
    OK(sbx_file_close(file, &err));
    sbx_child_free(child);
    sbx_file_free(file);
    sbx_detached_free(job);
    PRINTS("works on\n", execute("echo works on"));
}

void callback(void) {
    struct received some = {.stop_after = 100000};
    sbx_command *command = shell("echo $$; exec cat /dev/zero");
    FAILS(SBX_ERR_CANCELLED, "all its processes were killed: the callback returned 1",
          sbx_command_stream(command, receive, &some, NULL, &err));
    /* Nothing came after the stop, and nothing runs any more. */
    CHECK(some.out_len > some.stop_after && some.calls_after_stop == 0);
    NOTHING_RUNS("^ca[t] /dev/zero");
    sbx_command_free(command);
    PRINTS("works on\n", execute("echo works on"));
}
