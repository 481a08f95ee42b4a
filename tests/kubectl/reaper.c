/* Preloaded into a program, it waits for all of the program's children, as a handler of SIGCHLD may do. It is always
 * the first: whoever waits for a child of their own comes too late. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static pid_t wait_for(pid_t pid, int *status, int options) {
    return (pid_t)syscall(SYS_wait4, pid, status, options, NULL);
}

static void reap(int signal) {
    int before = errno;
    (void)signal;
    while (wait_for(-1, NULL, 1 /* WNOHANG */) > 0) {
    }
    errno = before;
}

pid_t waitpid(pid_t pid, int *status, int options) {
    const struct timespec moment = {0, 1000000};
    while (pid > 0 && kill(pid, 0) == 0)
        nanosleep(&moment, NULL);
    return wait_for(pid, status, options);
}

__attribute__((constructor)) static void begin(void) {
    struct sigaction action = {.sa_handler = reap, .sa_flags = SA_RESTART};
    sigaction(SIGCHLD, &action, NULL);
    /* The programs that this one starts are ordinary ones. */
    unsetenv("LD_PRELOAD");
}
