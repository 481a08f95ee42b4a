/* The scenario of ports. */

#include "conformance.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

/* Answers with what it got, backwards. */
static const char reverser[] = "import socketserver as s, threading as t\n"
                               "class H(s.StreamRequestHandler):\n"
                               "    def handle(self): self.wfile.write(self.rfile.read()[::-1])\n"
                               "u = s.ThreadingUnixStreamServer('/tmp/reverser', H)\n"
                               "t.Thread(target=u.serve_forever, daemon=True).start()\n"
                               "s.ThreadingTCPServer(('127.0.0.1', 7300), H).serve_forever()\n";

/* Talks to it, and closes the connection. */
static void is_reversed(int fd) {
    char answer[64];
    size_t len = 0;
    CHECK(send(fd, "desserts", 8, 0) == 8 && shutdown(fd, SHUT_WR) == 0);
    for (ssize_t got; (got = recv(fd, answer + len, sizeof answer - len, 0)) != 0; len += (size_t)got)
        CHECK(got > 0);
    CHECK(len == 8 && memcmp(answer, "stressed", 8) == 0);
    CHECK(close(fd) == 0);
}

/* A connection to a port of this machine, or -1. */
static int local_connection(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

static void forwards(void) {
    sbx_forward *forward = NULL, *to_nobody = NULL;
    sbx_error *failure = NULL;
    char expected[64], port[8], byte;
    OK(sbx_sandbox_forward(sandbox, "0", "7300", &forward, &err));
    snprintf(expected, sizeof expected, "127.0.0.1:%u", (unsigned)sbx_forward_port(forward));
    CHECK(strcmp(sbx_forward_local(forward), expected) == 0);
    int fd = local_connection(sbx_forward_port(forward));
    CHECK(fd >= 0);
    is_reversed(local_connection(sbx_forward_port(forward)));
    CHECK(sbx_forward_is_open(forward) && sbx_forward_connections(forward) >= 1);
    CHECK(!sbx_forward_last_failure(forward, &failure) && failure == NULL);
    snprintf(port, sizeof port, "%u", (unsigned)sbx_forward_port(forward));
    FAILS(SBX_ERR_BUSY, port, sbx_sandbox_forward(sandbox, port, "7300", &to_nobody, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "somewhere", sbx_sandbox_forward(sandbox, "somewhere", "7300", &to_nobody, &err));

    OK(sbx_sandbox_forward(sandbox, "127.0.0.1:0", "7301", &to_nobody, &err));
    int refused = local_connection(sbx_forward_port(to_nobody));
    CHECK(recv(refused, &byte, 1, 0) == -1 && errno == ECONNRESET && close(refused) == 0);
    CHECK(sbx_forward_last_failure(to_nobody, NULL) && sbx_forward_last_failure(to_nobody, &failure));
    CHECK(sbx_error_status(failure) == SBX_ERR_REFUSED && sbx_error_errno(failure) == ECONNREFUSED);
    sbx_error_free(failure);
    sbx_forward_free(to_nobody);

    sbx_forward_close(forward);
    OK(sbx_forward_wait(forward, &err));
    CHECK(!sbx_forward_is_open(forward) && local_connection(sbx_forward_port(forward)) == -1 && close(fd) == 0);
    sbx_forward_free(forward);
}

void ports(void) {
    sbx_detached *server = NULL;
    int fd = -1;
    FAILS(SBX_ERR_TIMED_OUT, "port 7300", sbx_sandbox_wait_for_port(sandbox, "7300", 0.05, &err));
    FAILS(SBX_ERR_REFUSED, "port 7300", sbx_sandbox_connect(sandbox, "7300", &fd, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "http", sbx_sandbox_connect(sandbox, "http", &fd, &err));
    CHECK(fd == -1);
    sbx_command *command = program("python3", "-c", reverser, NULL);
    OK(sbx_command_detach(command, "reverser", &server, &err));
    sbx_command_free(command);
    OK(sbx_sandbox_wait_for_port(sandbox, "7300", 60, &err));
    OK(sbx_sandbox_wait_for_port(sandbox, "/tmp/reverser", -1, &err));
    OK(sbx_sandbox_connect(sandbox, "7300", &fd, &err));
    is_reversed(fd);
    OK(sbx_sandbox_connect(sandbox, "/tmp/reverser", &fd, &err));
    is_reversed(fd);
    FAILS(SBX_ERR_FILE_NOT_FOUND, "/no/such", sbx_sandbox_connect(sandbox, "/no/such/socket", &fd, &err));
    forwards();
    OK(sbx_detached_kill(server, &err));
    OK(sbx_detached_remove(server, &err));
    sbx_detached_free(server);
}
