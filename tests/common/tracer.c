/* Stops or fails calls to the system where a test wants it, in processes that can't be told to do so themselves.
 *
 *   tracer HELD -- PROGRAM ARGUMENTS...    in this program and all that it starts
 *   tracer HELD POD                        in all processes of the Pod with this uid, and all that they start
 *   tracer - POD THREAD                    stops the threads of this name in the Pod
 *
 * Which call, says a name in the path of the file: "before-CALL" stops CALL before it is made, "after-CALL" once it is,
 * "@N" behind it at the Nth time; "fail-CALL-ERRNO" lets it fail. What stops leaves a file in the directory HELD, under
 * that name, and goes on when that is gone. Where HELD is not there, nothing stops. A directory "endless-readdir@N" has
 * names of N bytes without end.
 *
 * It says "ready" when it is at work. With the end of its input it lets go of a Pod. */
#define _GNU_SOURCE
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* <linux/ptrace.h> does not go together with <sys/ptrace.h>. */
struct syscall_info {
    uint8_t op, pad[3];
    uint32_t arch;
    uint64_t instruction_pointer, stack_pointer;
    union {
        struct { uint64_t nr, args[6]; } entry;
        struct { int64_t value; uint8_t is_error; } exit;
    };
};

enum { ENTRY = 1, EXIT = 2 };

/* Where a call has its file: a descriptor in an argument, a path there, or a directory's descriptor and a path. */
enum source { FD, PATH, AT };

static const struct call {
    long number;
    const char *name;
    enum source source;
    int argument;
} calls[] = {
#ifdef SYS_open
    {SYS_open, "open", PATH, 0},      {SYS_creat, "open", PATH, 0},     {SYS_stat, "stat", PATH, 0},
    {SYS_lstat, "lstat", PATH, 0},    {SYS_mkdir, "mkdir", PATH, 0},    {SYS_rmdir, "rmdir", PATH, 0},
    {SYS_unlink, "unlink", PATH, 0},  {SYS_chmod, "chmod", PATH, 0},    {SYS_symlink, "symlink", PATH, 1},
    {SYS_rename, "rename", PATH, 1},  {SYS_readlink, "readlink", PATH, 0},
#endif
    {SYS_openat, "open", AT, 0},      {SYS_openat2, "open", AT, 0},     {SYS_read, "read", FD, 0},
    {SYS_pread64, "read", FD, 0},     {SYS_readv, "read", FD, 0},       {SYS_preadv, "read", FD, 0},
    {SYS_write, "write", FD, 0},      {SYS_pwrite64, "write", FD, 0},   {SYS_writev, "write", FD, 0},
    {SYS_pwritev, "write", FD, 0},    {SYS_fsync, "fsync", FD, 0},      {SYS_ftruncate, "ftruncate", FD, 0},
    {SYS_fchmod, "fchmod", FD, 0},    {SYS_fstat, "fstat", FD, 0},      {SYS_newfstatat, "stat", AT, 0},
    {SYS_statx, "stat", AT, 0},       {SYS_close, "close", FD, 0},      {SYS_mkdirat, "mkdir", AT, 0},
    {SYS_unlinkat, "unlink", AT, 0},  {SYS_fchmodat, "chmod", AT, 0},   {SYS_symlinkat, "symlink", AT, 1},
    {SYS_renameat, "rename", AT, 2},  {SYS_renameat2, "rename", AT, 2}, {SYS_linkat, "linkat", AT, 0},
    {SYS_readlinkat, "readlink", AT, 0}, {SYS_getdents64, "readdir", FD, 0},
};

/* What is to happen to a thread that makes a call. */
struct thread {
    pid_t id;
    /* For the end of the call under way. */
    int error, is_skipped, endless;
    uint64_t buffer, size;
    char after[256];
    /* Stopped until this is gone. */
    char held[256];
};

static struct thread *threads;
static size_t thread_count, thread_room;
static const char *held_directory;
static struct { char name[256]; int times; } counts[1024];

static void die(const char *what) {
    perror(what);
    exit(1);
}

static struct thread *thread_of(pid_t id) {
    for (size_t at = 0; at < thread_count; at++)
        if (threads[at].id == id) return &threads[at];
    if (thread_count == thread_room) {
        thread_room = 2 * thread_room + 64;
        threads = realloc(threads, thread_room * sizeof *threads);
        if (threads == NULL) die("realloc");
    }
    threads[thread_count] = (struct thread){.id = id};
    return &threads[thread_count++];
}

static void forget(pid_t id) {
    for (size_t at = 0; at < thread_count; at++)
        if (threads[at].id == id) {
            threads[at] = threads[--thread_count];
            return;
        }
}

/* The name in `path` that begins with `word`, "-" and `call`, and what follows there; 0 if none does. */
static int find(const char *path, const char *word, const char *call, char name[256], char rest[256]) {
    char start[64];
    int length = snprintf(start, sizeof start, "%s-%s", word, call);
    for (const char *at = path; (at = strstr(at, start)) != NULL; at++) {
        size_t whole = strcspn(at, "/");
        if ((at == path || at[-1] == '/') && strchr("@.-/", at[length]) && whole < 256) {
            snprintf(name, 256, "%.*s", (int)whole, at);
            snprintf(rest, 256, "%.*s", (int)whole - length, at + length);
            return 1;
        }
    }
    return 0;
}

static int is_armed(void) { return access(held_directory, F_OK) == 0; }

/* Whether this is the time that the name asks for. */
static int is_time(const char *name, const char *rest) {
    if (*rest != '@') return 1;
    for (size_t at = 0; at < sizeof counts / sizeof *counts; at++) {
        if (counts[at].name[0] == 0) snprintf(counts[at].name, sizeof counts[at].name, "%s", name);
        if (strcmp(counts[at].name, name) == 0) return ++counts[at].times == atoi(rest + 1);
    }
    return 0;
}

/* Leaves a mark in HELD; 0 if there is one already, or no HELD. */
static int mark(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", held_directory, name);
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (file < 0) return 0;
    close(file);
    return 1;
}

static void link_of(pid_t id, const char *what, char path[4096]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/%s", (int)id, what);
    ssize_t length = readlink(link, path, 4095);
    path[length < 0 ? 0 : length] = 0;
}

static void text_of(pid_t id, uint64_t at, char text[4096]) {
    size_t length = 0;
    while (length < 4095) {
        // Not beyond the page: the next one may not be there.
        size_t room = 4096 - (at + length) % 4096, most = 4095 - length;
        struct iovec ours = {text + length, room < most ? room : most}, theirs = {(void *)(at + length), ours.iov_len};
        ssize_t count = process_vm_readv(id, &ours, 1, &theirs, 1, 0);
        if (count <= 0) break;
        if (memchr(text + length, 0, (size_t)count)) return;
        length += (size_t)count;
    }
    text[length] = 0;
}

/* The path of the file that a call is about. */
static void path_of(pid_t id, enum source source, int argument, const uint64_t *args, char path[8192]) {
    char descriptor[32], text[4096] = "", base[4096] = "";
    if (source == FD) {
        snprintf(descriptor, sizeof descriptor, "fd/%d", (int)args[argument]);
        link_of(id, descriptor, path);
        return;
    }
    text_of(id, args[source == AT ? argument + 1 : argument], text);
    if (text[0] != '/') {
        int directory = source == AT ? (int)args[argument] : AT_FDCWD;
        snprintf(descriptor, sizeof descriptor, "fd/%d", directory);
        link_of(id, directory == AT_FDCWD ? "cwd" : descriptor, base);
    }
    snprintf(path, 8192, "%s%s%s", base, base[0] ? "/" : "", text);
}

static int is_directory(pid_t id, int descriptor) {
    char link[64];
    struct stat found;
    snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)id, descriptor);
    return stat(link, &found) == 0 && S_ISDIR(found.st_mode);
}

static void set_registers(pid_t id, int skip, const int64_t *value) {
#if defined __x86_64__
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGS, id, 0, &registers) < 0) return;
    if (skip) registers.orig_rax = (unsigned long long)-1;
    if (value) registers.rax = (unsigned long long)*value;
    ptrace(PTRACE_SETREGS, id, 0, &registers);
#elif defined __aarch64__
    if (skip) {
        int number = -1;
        struct iovec of = {&number, sizeof number};
        ptrace(PTRACE_SETREGSET, id, NT_ARM_SYSTEM_CALL, &of);
    }
    if (value) {
        struct user_regs_struct registers;
        struct iovec of = {&registers, sizeof registers};
        if (ptrace(PTRACE_GETREGSET, id, NT_PRSTATUS, &of) < 0) return;
        registers.regs[0] = (unsigned long long)*value;
        ptrace(PTRACE_SETREGSET, id, NT_PRSTATUS, &of);
    }
#else
#error "an architecture whose registers are not known here"
#endif
}

/* Made-up entries of a directory. */
static void make_entries(struct thread *thread) {
    struct entry {
        uint64_t inode, offset;
        uint16_t length;
        uint8_t kind;
        char name[];
    } __attribute__((packed));
    static long number;
    char entries[32768] = {0};
    size_t size = thread->size < sizeof entries ? thread->size : sizeof entries, used = 0;
    size_t length = (offsetof(struct entry, name) + (size_t)thread->endless + 1 + 7) / 8 * 8;
    for (; used + length <= size; used += length) {
        struct entry *entry = (struct entry *)(entries + used);
        *entry = (struct entry){.inode = 1, .offset = (uint64_t)++number, .length = (uint16_t)length, .kind = DT_REG};
        snprintf(entry->name, (size_t)thread->endless + 1, "%0*ld", thread->endless, number);
    }
    struct iovec ours = {entries, used}, theirs = {(void *)thread->buffer, used};
    if (process_vm_writev(thread->id, &ours, 1, &theirs, 1, 0) == (ssize_t)used) {
        int64_t value = (int64_t)used;
        set_registers(thread->id, 0, &value);
    }
}

/* A call begins. */
static void enter(struct thread *thread, const struct syscall_info *info) {
    const struct call *call = NULL;
    for (size_t at = 0; at < sizeof calls / sizeof *calls; at++)
        if (calls[at].number == (long)info->entry.nr) call = &calls[at];
    thread->after[0] = 0;
    thread->error = thread->is_skipped = thread->endless = 0;
    if (call == NULL) return;
    const uint64_t *args = info->entry.args;
    const char *is = call->name;
    enum source source = call->source;
    int argument = call->argument;
    if (call->number == SYS_newfstatat || call->number == SYS_statx) {
        uint64_t flags = args[call->number == SYS_statx ? 2 : 3];
        if (flags & AT_SYMLINK_NOFOLLOW) is = "lstat";
        char text[4096] = "";
        if (flags & AT_EMPTY_PATH && args[1] != 0) text_of(thread->id, args[1], text);
        if (flags & AT_EMPTY_PATH && text[0] == 0) is = "fstat", source = FD;
    } else if (call->number == SYS_renameat2 && args[4] != 0) {
        is = "renameat2", argument = 0;
    } else if (call->number == SYS_unlinkat && args[2] & AT_REMOVEDIR) {
        is = "rmdir";
    }
    char path[8192], name[256], rest[256];
    path_of(thread->id, source, argument, args, path);
    if (find(path, "fail", is, name, rest)) {
        // A directory's end is nobody's write.
        if (call->number == SYS_close && is_directory(thread->id, (int)args[0])) return;
        thread->error = atoi(rest + 1);
        // What is closed is closed, whatever is said of it.
        if (call->number != SYS_close) {
            thread->is_skipped = 1;
            set_registers(thread->id, 1, NULL);
        }
    }
    if (call->number == SYS_getdents64 && find(path, "endless", is, name, rest)) {
        thread->endless = atoi(rest + 1);
        thread->buffer = args[1];
        thread->size = args[2];
    }
    if (!is_armed()) return;
    if (find(path, "before", is, name, rest) && is_time(name, rest) && mark(name))
        snprintf(thread->held, sizeof thread->held, "%s", name);
    if (find(path, "after", is, name, rest) && is_time(name, rest))
        snprintf(thread->after, sizeof thread->after, "%s", name);
}

/* A call has been made. */
static void leave(struct thread *thread) {
    if (thread->error) {
        int64_t value = -thread->error;
        set_registers(thread->id, 0, &value);
    }
    if (thread->endless) make_entries(thread);
    if (thread->after[0] && mark(thread->after)) snprintf(thread->held, sizeof thread->held, "%s", thread->after);
    thread->after[0] = 0;
    thread->error = thread->is_skipped = thread->endless = 0;
}

static void go_on(pid_t id, int signal) { ptrace(PTRACE_SYSCALL, id, 0, signal); }

static void stopped(pid_t id, int status) {
    struct thread *thread = thread_of(id);
    int signal = WSTOPSIG(status), event = status >> 16;
    if (event == PTRACE_EVENT_STOP) {
        int is_group = signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
        ptrace(is_group ? PTRACE_LISTEN : PTRACE_SYSCALL, id, 0, 0);
    } else if (event != 0) {
        go_on(id, 0);
    } else if (signal == (SIGTRAP | 0x80)) {
        struct syscall_info info;
        long length = ptrace(PTRACE_GET_SYSCALL_INFO, id, sizeof info, &info);
        if (length > 0 && info.op == ENTRY) enter(thread, &info);
        if (length > 0 && info.op == EXIT) leave(thread);
        if (thread->held[0] == 0) go_on(id, 0);
    } else {
        go_on(id, signal);
    }
}

/* Lets those go on whose mark is gone. */
static void release(void) {
    for (size_t at = 0; at < thread_count; at++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", held_directory, threads[at].held);
        if (threads[at].held[0] == 0 || access(path, F_OK) == 0) continue;
        threads[at].held[0] = 0;
        go_on(threads[at].id, 0);
    }
}

static int is_any_held(void) {
    for (size_t at = 0; at < thread_count; at++)
        if (threads[at].held[0]) return 1;
    return 0;
}

static const int OPTIONS = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;

static int seize(pid_t id) {
    if (ptrace(PTRACE_SEIZE, id, 0, OPTIONS) < 0) return 0;
    thread_of(id);
    ptrace(PTRACE_INTERRUPT, id, 0, 0);
    return 1;
}

static int belongs_to(const char *process, const char *pod) {
    char path[64], text[8192];
    snprintf(path, sizeof path, "/proc/%.20s/cgroup", process);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    text[length < 0 ? 0 : length] = 0;
    return strstr(text, pod) != NULL;
}

static int has_name(const char *process, const char *task, const char *name) {
    char path[64], text[64];
    snprintf(path, sizeof path, "/proc/%.20s/task/%.20s/comm", process, task);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    text[length < 1 ? 0 : length - 1] = 0;
    return strcmp(text, name) == 0;
}

/* Seizes each thread of the Pod, or each of this name, that is not seized yet; how many these were. */
static int seize_pod(const char *pod, const char *name) {
    int count = 0;
    DIR *all = opendir("/proc");
    for (struct dirent *process; all && (process = readdir(all)) != NULL;) {
        if (process->d_name[0] < '0' || process->d_name[0] > '9' || !belongs_to(process->d_name, pod)) continue;
        char path[64];
        snprintf(path, sizeof path, "/proc/%.20s/task", process->d_name);
        DIR *tasks = opendir(path);
        // One that is seized already refuses.
        for (struct dirent *task; tasks && (task = readdir(tasks)) != NULL;)
            if (task->d_name[0] != '.' && (name == NULL || has_name(process->d_name, task->d_name, name)))
                count += seize(atoi(task->d_name));
        if (tasks) closedir(tasks);
    }
    if (all) closedir(all);
    return count;
}

/* Keeps threads stopped until the end of the input. */
static int freeze(const char *pod, const char *name) {
    int status;
    seize_pod(pod, name);
    for (size_t at = 0; at < thread_count; at++) waitpid(threads[at].id, &status, __WALL);
    puts("ready");
    fflush(stdout);
    return read(0, &status, 1) < 0;
}

int main(int count, char **arguments) {
    if (count < 3) return 2;
    if (strcmp(arguments[1], "-") == 0) return count < 4 ? 2 : freeze(arguments[2], arguments[3]);
    held_directory = arguments[1];
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    int signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK), is_pod = strcmp(arguments[2], "--") != 0;
    pid_t program = 0;
    if (is_pod) {
        if (seize_pod(arguments[2], NULL) == 0) return fprintf(stderr, "no process of the Pod can be seized\n"), 1;
    } else {
        program = fork();
        if (program < 0) die("fork");
        if (program == 0) {
            sigprocmask(SIG_UNBLOCK, &child, NULL);
            raise(SIGSTOP);
            execv(arguments[3], arguments + 3);
            die(arguments[3]);
        }
        waitpid(program, NULL, WUNTRACED);
        if (!seize(program)) die("ptrace");
        kill(program, SIGCONT);
    }
    for (int is_ready = 0;;) {
        int status;
        pid_t id;
        while ((id = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
            if (WIFSTOPPED(status)) {
                stopped(id, status);
                continue;
            }
            forget(id);
            if (id == program) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        if (id < 0 && errno == ECHILD) return 0;
        release();
        // What was started while the others were being seized.
        if (is_pod && !is_ready && seize_pod(arguments[2], NULL) == 0) {
            is_ready = 1;
            puts("ready");
            fflush(stdout);
        }
        struct pollfd awaited[] = {{.fd = signals, .events = POLLIN}, {.fd = is_pod ? 0 : -1, .events = POLLIN}};
        poll(awaited, 2, is_any_held() || (is_pod && !is_ready) ? 5 : 1000);
        struct signalfd_siginfo information;
        while (read(signals, &information, sizeof information) > 0) {
        }
        // All that is traced goes on when this ends.
        if (awaited[1].revents) return 0;
    }
}
