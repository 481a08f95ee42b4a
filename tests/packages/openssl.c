/* A program with an OpenSSL of its own: neither is touched by the other, also not at the end, while calls run. */

#define _POSIX_C_SOURCE 200809L

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <sandbox.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sbx_sandbox *sandbox;
static sem_t begun;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

/* SHA-256 of "abc", and a context for TLS. */
static void use_openssl(void) {
    static const unsigned char expected[] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea};
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    CHECK(EVP_Digest("abc", 3, digest, &length, EVP_sha256(), NULL) == 1 && length == 32);
    CHECK(memcmp(digest, expected, sizeof expected) == 0);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    CHECK(context != NULL && SSL_CTX_set_default_verify_paths(context) == 1);
    SSL_CTX_free(context);
}

static void *run_for_ever(void *unused) {
    (void)unused;
    for (int count = 0;; count++) {
        sbx_output *output = NULL;
        CHECK(sbx_sandbox_execute(sandbox, "true", &output, NULL) == SBX_OK);
        sbx_output_free(output);
        if (count == 0)
            sem_post(&begun);
    }
    return NULL;
}

/* The first argument is the name of a sandbox. */
int main(int argc, char **argv) {
    sbx_client *client = NULL;
    sbx_error *err = NULL;
    pthread_t threads[4];
    CHECK(argc == 2);
    /* Before the library's, so that its end is the later one, if they were one. */
    use_openssl();
    ERR_put_error(ERR_LIB_USER, 0, 42, "here", 1);
    unsigned long mine = ERR_peek_error(), version = OpenSSL_version_num();
    CHECK(mine != 0 && version < 0x30000000L);
    if (sbx_client_new(NULL, &client, &err) || sbx_client_attach(client, argv[1], &sandbox, &err)) {
        fprintf(stderr, "%s\n", sbx_error_message(err));
        return 1;
    }
    CHECK(sem_init(&begun, 0, 0) == 0);
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++)
        CHECK(pthread_create(&threads[i], NULL, run_for_ever, NULL) == 0);
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++)
        CHECK(sem_wait(&begun) == 0);
    CHECK(ERR_get_error() == mine && ERR_get_error() == 0 && OpenSSL_version_num() == version);
    use_openssl();
    puts("done");
    /* While the threads are in calls. */
    return 0;
}
