/* What the scenarios in C share. */

#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#define _POSIX_C_SOURCE 200809L

#include <sandbox.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const char *directory;
/* A label value that only this process's sandboxes have, or begin with. */
extern char owner[64];
/* Made by the scenario `life`. */
extern sbx_client *client;
extern sbx_sandbox *sandbox;
/* Of the last call on the main thread. */
extern sbx_error *err;

/* One function for each scenario; main.c has the table. */
void life(void), by_name(void), errors(void), use_after_close(void), fleet(void), pool(void), settings(void), doctor(void), end(void);
void run(void), streams(void), exit_status(void), timeout(void), cancel(void), terminal(void), detached(void), ports(void);
void bytes(void), large(void), threads(void), forks(void), callback(void);
void files(void), file_errors(void), transfers(void), trees(void);

/* Ends the scenario, and does not return. On the main thread only, and in no callback: C code must not jump out of
   one. */
void fail(const char *file, int line, const char *what);

#define CHECK(condition) ((condition) ? (void)0 : fail(__FILE__, __LINE__, #condition))

/* The call succeeds, and says so in both ways. */
#define OK(call) CHECK((call) == SBX_OK && err == NULL)

/* The call fails with this status, and its message has this text. The error is there until it is freed by DONE. */
#define FAILS_WITH(status, text, call) \
    do { \
        CHECK((call) == (status)); \
        CHECK(err != NULL && sbx_error_status(err) == (status)); \
        CHECK(strstr(sbx_error_message(err), (text)) != NULL); \
    } while (0)
#define DONE \
    do { \
        sbx_error_free(err); \
        err = NULL; \
    } while (0)
#define FAILS(status, text, call) \
    do { \
        FAILS_WITH(status, text, call); \
        DONE; \
    } while (0)

/* There are exactly these bytes, and a NUL behind them. */
#define IS(expected, data, len) CHECK((len) == sizeof(expected) - 1 && memcmp((data), (expected), sizeof(expected)) == 0)

/* An output has exactly this on its standard output; it is freed. */
#define PRINTS(expected, output) prints(__FILE__, __LINE__, (expected), sizeof(expected) - 1, (output))
void prints(const char *file, int line, const char *expected, size_t len, sbx_output *output);

/* The condition holds within a minute. */
#define AWAIT(condition) \
    for (double begun = now(); !(condition); rest()) \
    CHECK(now() < begun + 60)
double now(void);
void rest(void);

/* Runs a line in the sandbox; the caller frees the output. */
sbx_output *execute(const char *line);
/* A program and its arguments, with a NULL behind them. */
sbx_command *program(const char *name, ...);
sbx_command *shell(const char *line);
/* Runs a command and frees it. */
sbx_output *output_of(sbx_command *command);
/* Starts a command and frees it. */
sbx_child *child_of(sbx_command *command);

/* Waits until a process runs whose command line matches, or checks that none does. Write "slee[p] 1", so that the
   search does not find itself. */
#define RUNS(pattern) AWAIT(matches(pattern))
#define NOTHING_RUNS(pattern) CHECK(!matches(pattern))
bool matches(const char *pattern);

/* A file name in the directory, in one of four buffers that take turns. */
const char *in_directory(const char *name);
void write_local(const char *path, const void *data, size_t len);
void local_is(const char *path, const void *data, size_t len);

/* The settings that all clients here have. */
sbx_config *new_config(const char *suffix_of_owner);
sbx_client *new_client(sbx_config *config);

/* As many bytes as asked for: the numbers from 0 on, as four bytes each. To be freed. */
uint8_t *numbers(size_t len);

#endif
