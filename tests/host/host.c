/* What belongs to the host program is, after each call, as it was before: signals, locale, umask, limits, files. */

#define _GNU_SOURCE
#include <sandbox.h>

#include <dirent.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static sbx_error *err;
static volatile sig_atomic_t signals;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, err ? sbx_error_message(err) : ""); \
            exit(1); \
        } \
    } while (0)
#define OK(call) \
    do { \
        CHECK((call) == SBX_OK); \
        compare(#call); \
    } while (0)

/* What a program sets for itself. */
struct state {
    struct sigaction actions[65];
    sigset_t mask;
    mode_t umask;
    char locale[256], directory[4096], name[17];
    struct rlimit files, stack;
    struct itimerval timer;
    int dumpable, parent_death, subreaper, priority;
    size_t variables;
};

static struct state own;

static void count_signal(int number) {
    (void)number;
    signals++;
}

static void take(struct state *state) {
    memset(state, 0, sizeof *state);
    for (int number = 1; number <= 64; number++)
        sigaction(number, NULL, &state->actions[number]);
    pthread_sigmask(SIG_BLOCK, NULL, &state->mask);
    state->umask = umask(0);
    umask(state->umask);
    snprintf(state->locale, sizeof state->locale, "%s", setlocale(LC_ALL, NULL));
    CHECK(getcwd(state->directory, sizeof state->directory));
    pthread_getname_np(pthread_self(), state->name, sizeof state->name);
    getrlimit(RLIMIT_NOFILE, &state->files);
    getrlimit(RLIMIT_STACK, &state->stack);
    getitimer(ITIMER_REAL, &state->timer);
    state->dumpable = prctl(PR_GET_DUMPABLE);
    prctl(PR_GET_PDEATHSIG, &state->parent_death);
    prctl(PR_GET_CHILD_SUBREAPER, &state->subreaper);
    state->priority = getpriority(PRIO_PROCESS, 0);
    while (environ[state->variables])
        state->variables++;
}

static void compare(const char *call) {
    struct state now;
    take(&now);
    for (int number = 1; number <= 64; number++) {
        const struct sigaction *before = &own.actions[number], *after = &now.actions[number];
        if (before->sa_handler != after->sa_handler || before->sa_flags != after->sa_flags) {
            fprintf(stderr, "the action of signal %d is another one after %s\n", number, call);
            exit(1);
        }
    }
    memcpy(now.actions, own.actions, sizeof own.actions);
    if (signals || memcmp(&now, &own, sizeof own) != 0) {
        fprintf(stderr, "%d signals, or another state of the program after %s\n", (int)signals, call);
        exit(1);
    }
}

/* How many descriptors and threads there are. */
static size_t entries(const char *path) {
    size_t count = 0;
    DIR *directory = opendir(path);
    CHECK(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static void use(void) {
    sbx_client *client = NULL;
    sbx_spec *spec = NULL;
    sbx_sandbox *sandbox = NULL;
    sbx_command *command = NULL;
    sbx_output *output = NULL;
    sbx_child *child = NULL;
    sbx_detached *detached = NULL;
    sbx_forward *forward = NULL;
    sbx_file *file = NULL;
    sbx_info_list *list = NULL;
    const uint8_t *big = calloc(1, 1 << 20);
    int connection = -1;
    OK(sbx_client_new(NULL, &client, &err));
    OK(sbx_client_list(client, NULL, &list, &err));
    OK(sbx_spec_new(&spec, &err));
    OK(sbx_client_create(client, spec, &sandbox, &err));
    OK(sbx_sandbox_execute(sandbox, "echo a; exit 3", &output, &err));
    OK(sbx_sandbox_write_file(sandbox, "/tmp/file", big, 1 << 20, &err));
    OK(sbx_sandbox_open_file(sandbox, "/tmp/file", SBX_OPEN_READ, 0, &file, &err));
    OK(sbx_file_close(file, &err));
    /* Nobody reads what is written: a socket or pipe would send SIGPIPE. */
    OK(sbx_sandbox_shell(sandbox, "exec 0<&-; exec sleep 1", &command, &err));
    OK(sbx_command_spawn(command, &child, &err));
    for (int piece = 0; piece < 8 && sbx_child_write_stdin(child, big, 1 << 20, NULL) == SBX_OK; piece++)
        compare("sbx_child_write_stdin");
    OK(sbx_child_wait(child, NULL, &err));
    OK(sbx_command_detach(command, "host", &detached, &err));
    OK(sbx_sandbox_forward(sandbox, "0", "9", &forward, &err));
    CHECK(sbx_sandbox_connect(sandbox, "9", &connection, NULL) == SBX_ERR_REFUSED);
    compare("sbx_sandbox_connect");
    OK(sbx_sandbox_delete(sandbox, &err));
    sbx_forward_free(forward);
    sbx_detached_free(detached);
    sbx_child_free(child);
    sbx_command_free(command);
    sbx_file_free(file);
    sbx_output_free(output);
    sbx_sandbox_free(sandbox);
    sbx_spec_free(spec);
    sbx_info_list_free(list);
    sbx_client_free(client);
    compare("everything was freed");
    free((void *)(uintptr_t)big);
}

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = count_signal;
    for (int number = 1; number < 32; number++)
        if (number != SIGKILL && number != SIGSTOP && number != SIGSEGV && number != SIGBUS && number != SIGALRM)
            CHECK(sigaction(number, &action, NULL) == 0);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    umask(027);
    setlocale(LC_ALL, "C.UTF-8");
    pthread_setname_np(pthread_self(), "host");
    take(&own);
    use();
    size_t descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
    for (int time = 0; time < 3; time++)
        use();
    /* The threads of a client that was freed may still be on their way out. */
    for (int wait = 0; entries("/proc/self/task") > threads && wait < 3000; wait++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    CHECK(entries("/proc/self/fd") <= descriptors && entries("/proc/self/task") <= threads);
    puts("done");
    return 0;
}
