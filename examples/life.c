/*
 * The life of a sandbox in C. Compile it with the library that cargo built:
 *
 *     cc -Iinclude examples/life.c -Ltarget/debug -lsandbox -o life
 */

#include <stdio.h>

#include "sandbox.h"

int main(void) {
    sbx_client *client = NULL;
    sbx_sandbox *sandbox = NULL;
    sbx_output *output = NULL;
    sbx_bytes *bytes = NULL;
    sbx_error *err = NULL;
    static const char greeting[] = "hello, file\n";
    double accepted = 0, started = 0, logged_in = 0;
    int32_t code = -1;

    if (sbx_client_new(NULL, &client, &err) != SBX_OK || sbx_client_create(client, NULL, &sandbox, &err) != SBX_OK)
        goto end;
    if (sbx_sandbox_timings(sandbox, &accepted, &started, &logged_in)) {
        printf("create    %6.0f ms  Pod accepted\n", accepted * 1e3);
        printf("          %6.0f ms  container started\n", started * 1e3);
        printf("          %6.0f ms  logged in: %s takes commands\n", logged_in * 1e3, sbx_sandbox_name(sandbox));
    }

    if (sbx_sandbox_execute(sandbox, "echo hello from $(uname -n)", &output, &err) != SBX_OK)
        goto end;
    sbx_output_exit_code(output, &code);
    printf("execute   exit code %d: %s", code, (const char *)sbx_output_stdout(output, NULL));

    if (sbx_sandbox_write_file(sandbox, "greeting", (const uint8_t *)greeting, sizeof greeting - 1, &err) != SBX_OK ||
        sbx_sandbox_read_file(sandbox, "greeting", &bytes, &err) != SBX_OK)
        goto end;
    printf("read      %s", (const char *)sbx_bytes_data(bytes, NULL));

    if (sbx_sandbox_delete(sandbox, &err) == SBX_OK)
        printf("delete    the Pod is gone, with %llu API requests in all\n",
               (unsigned long long)sbx_client_api_requests(client));

end:
    if (err)
        fprintf(stderr, "%s\n", sbx_error_message(err));
    int failed = err != NULL;
    sbx_bytes_free(bytes);
    sbx_output_free(output);
    sbx_sandbox_free(sandbox);
    sbx_client_free(client);
    sbx_error_free(err);
    return failed;
}
