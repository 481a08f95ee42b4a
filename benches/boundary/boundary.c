/* This library from C, for benches/peers/boundary.py. */
#define _POSIX_C_SOURCE 199309L
#include <sandbox.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static sbx_sandbox *sandbox;
static sbx_error *err;

static void check(sbx_status status) {
    if (status == SBX_OK)
        return;
    fprintf(stderr, "%s\n", sbx_error_message(err));
    exit(1);
}

static void ssh_port(void) { sbx_sandbox_ssh_port(sandbox); }

static void host_key(void) { sbx_sandbox_host_key(sandbox); }

static void detached(void) {
    sbx_detached *command = NULL;
    check(sbx_sandbox_detached(sandbox, "boundary", &command, &err));
    sbx_detached_free(command);
}

static void warm(void) {
    sbx_output *output = NULL;
    check(sbx_sandbox_execute(sandbox, "true", &output, &err));
    check(sbx_output_check(output, &err));
    sbx_output_free(output);
}

static const struct {
    const char *name;
    void (*call)(void);
} works[] = {{"ssh_port", ssh_port}, {"host_key", host_key}, {"detached", detached}, {"warm", warm}};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    sbx_client *client = NULL;
    char name[16];
    unsigned long count, calls;
    if (argc != 2)
        return 2;
    check(sbx_client_new(NULL, &client, &err));
    check(sbx_client_attach(client, argv[1], &sandbox, &err));
    warm();
    while (scanf("%15s %lu %lu", name, &count, &calls) == 3) {
        void (*call)(void) = NULL;
        for (size_t i = 0; i < sizeof works / sizeof *works; i++)
            if (strcmp(works[i].name, name) == 0)
                call = works[i].call;
        if (call == NULL)
            return 2;
        for (unsigned long run = 0; run < count; run++) {
            const double began = now();
            for (unsigned long i = 0; i < calls; i++)
                call();
            printf("%s%.9f", run == 0 ? "{\"result\": [" : ", ", now() - began);
        }
        puts("]}");
        fflush(stdout);
    }
    sbx_sandbox_free(sandbox);
    sbx_client_free(client);
    return 0;
}
