/* The shortest life of a sandbox. */
#include <sandbox.h>
#include <stdio.h>

int main(void) {
    sbx_client *client = NULL;
    sbx_sandbox *sandbox = NULL;
    sbx_output *output = NULL;
    sbx_error *err = NULL;
    if (sbx_client_new(NULL, &client, &err) || sbx_client_create(client, NULL, &sandbox, &err) ||
        sbx_sandbox_execute(sandbox, "uname -n", &output, &err) || sbx_sandbox_delete(sandbox, &err))
        fprintf(stderr, "%s\n", sbx_error_message(err));
    else
        printf("%s says %s", sbx_sandbox_name(sandbox), (const char *)sbx_output_stdout(output, NULL));
    int status = err != NULL;
    sbx_output_free(output);
    sbx_sandbox_free(sandbox);
    sbx_client_free(client);
    sbx_error_free(err);
    return status;
}
