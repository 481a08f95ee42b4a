/* Preloaded into everything that a sandbox runs, its SFTP server too: stops a call to the system where a test wants it.
 *
 * Which, says a name in the path of the file: "before-CALL" stops CALL before it is made, "after-CALL" once it is, "@N" behind it at
 * the Nth time in a process; "fail-CALL-ERRNO" lets it fail. What stops leaves its process id in HELD, under that name, and goes on
 * when that is gone. Where HELD is not there, nothing stops. A directory "endless-readdir@N" has names of N bytes without end. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HELD "/tmp/held/"

/* sshd is not looked at more closely before it opens such a file: until somebody is logged in, it may hardly do anything. */
static int is_armed;

__attribute__((constructor)) static void begin(void) { is_armed = strcmp(program_invocation_short_name, "sshd") != 0; }

/* The name in `path` that begins with `word`, "-" and `call`, and what follows there; NULL if none does. */
static const char *find(const char *path, const char *word, const char *call, const char **rest) {
    char start[32];
    int length = snprintf(start, sizeof start, "%s-%s", word, call);
    for (const char *at = path; (at = strstr(at, start)) != NULL; at++) {
        *rest = at + length;
        if ((at == path || at[-1] == '/') && strchr("@.-/", **rest)) return at;
    }
    return NULL;
}

static void hold(const char *path, const char *word, const char *call) {
    static int times;
    const char *rest, *name = path ? find(path, word, call, &rest) : NULL;
    if (name == NULL || (*rest == '@' && ++times != atoi(rest + 1))) return;
    char marker[256], pid[16];
    snprintf(marker, sizeof marker, HELD "%.*s", (int)strcspn(name, "/"), name);
    int error = errno, length = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    long file = syscall(SYS_openat, AT_FDCWD, marker, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (file >= 0) {
        syscall(SYS_write, file, pid, length);
        syscall(SYS_close, file);
        while (syscall(SYS_faccessat, AT_FDCWD, marker, F_OK) == 0) nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    errno = error;
}

static int fails(const char *path, const char *call) {
    const char *rest;
    if (path == NULL || find(path, "fail", call, &rest) == NULL) return 0;
    errno = atoi(rest + 1);
    return 1;
}

/* The path of an open file. */
static const char *path_of(int descriptor) {
    static __thread char path[4096], link[32];
    if (!is_armed) return NULL;
    int error = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    errno = error;
    if (length < 0) return NULL;
    path[length] = 0;
    return path;
}

#define AROUND(path, call, real)             \
    const char *of = (path);                 \
    hold(of, "before", call);                \
    if (fails(of, call)) return -1;          \
    long result = (real);                    \
    hold(of, "after", call);                 \
    return result

static void arm(const char *path) {
    static const char *const words[] = {"before-", "after-", "fail-", "endless-"};
    for (size_t word = 0; word < sizeof words / sizeof *words; word++) is_armed |= strstr(path, words[word]) != NULL;
}

static long open_at(int directory, const char *path, int flags, mode_t mode) {
    arm(path);
    AROUND(path, "open", syscall(SYS_openat, directory, path, flags, mode));
}

static mode_t mode_in(va_list list) { return va_arg(list, mode_t); }

int open(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & O_CREAT ? mode_in(list) : 0;
    va_end(list);
    return (int)open_at(AT_FDCWD, path, flags, mode);
}

int openat(int directory, const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & O_CREAT ? mode_in(list) : 0;
    va_end(list);
    return (int)open_at(directory, path, flags, mode);
}

ssize_t read(int file, void *to, size_t size) { AROUND(path_of(file), "read", syscall(SYS_read, file, to, size)); }
ssize_t write(int file, const void *from, size_t size) { AROUND(path_of(file), "write", syscall(SYS_write, file, from, size)); }
int fsync(int file) { AROUND(path_of(file), "fsync", syscall(SYS_fsync, file)); }
int ftruncate(int file, off_t size) { AROUND(path_of(file), "ftruncate", syscall(SYS_ftruncate, file, size)); }
int fchmod(int file, mode_t mode) { AROUND(path_of(file), "fchmod", syscall(SYS_fchmod, file, mode)); }
int fstat(int file, struct stat *to) { AROUND(path_of(file), "fstat", syscall(SYS_fstat, file, to)); }

int close(int file) {
    const char *path = path_of(file);
    hold(path, "before", "close");
    long result = syscall(SYS_close, file);
    hold(path, "after", "close");
    return fails(path, "close") ? -1 : (int)result;
}

int mkdir(const char *path, mode_t mode) { AROUND(path, "mkdir", syscall(SYS_mkdirat, AT_FDCWD, path, mode)); }
int rmdir(const char *path) { AROUND(path, "rmdir", syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR)); }
int unlink(const char *path) { AROUND(path, "unlink", syscall(SYS_unlinkat, AT_FDCWD, path, 0)); }
int chmod(const char *path, mode_t mode) { AROUND(path, "chmod", syscall(SYS_fchmodat, AT_FDCWD, path, mode)); }
int symlink(const char *to, const char *path) { AROUND(path, "symlink", syscall(SYS_symlinkat, to, AT_FDCWD, path)); }
int rename(const char *from, const char *to) { AROUND(to, "rename", syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0)); }

ssize_t readlink(const char *restrict path, char *restrict to, size_t size) {
    AROUND(path, "readlink", syscall(SYS_readlinkat, AT_FDCWD, path, to, size));
}

int stat(const char *restrict path, struct stat *restrict to) {
    AROUND(path, "stat", syscall(SYS_newfstatat, AT_FDCWD, path, to, 0));
}

int lstat(const char *restrict path, struct stat *restrict to) {
    const char *rest;
    if (find(path, "endless", "readdir", &rest) != NULL) path = "/";
    AROUND(path, "lstat", syscall(SYS_newfstatat, AT_FDCWD, path, to, AT_SYMLINK_NOFOLLOW));
}

int unlinkat(int directory, const char *path, int flags) {
    AROUND(path, "unlinkat", syscall(SYS_unlinkat, directory, path, flags));
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    AROUND(from, "renameat2", syscall(SYS_renameat2, a, from, b, to, flags));
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
    AROUND(from, "linkat", syscall(SYS_linkat, a, from, b, to, flags));
}

static void real(void *function, const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    memcpy(function, &found, sizeof found);
}

DIR *opendir(const char *path) {
    DIR *(*opened)(const char *);
    real(&opened, "opendir");
    arm(path);
    return opened(path);
}

struct dirent *readdir(DIR *directory) {
    struct dirent *(*next)(DIR *);
    real(&next, "readdir");
    static struct dirent made_up;
    static long times;
    const char *rest, *path = path_of(dirfd(directory));
    if (path != NULL && find(path, "endless", "readdir", &rest) != NULL) {
        snprintf(made_up.d_name, sizeof made_up.d_name, "%0*ld", atoi(rest + 1), times++);
        return &made_up;
    }
    hold(path, "before", "readdir");
    struct dirent *entry = next(directory);
    hold(path, "after", "readdir");
    return entry;
}

static size_t read_stream(const char *name, void *to, size_t size, size_t count, FILE *file) {
    size_t (*more)(void *, size_t, size_t, FILE *);
    real(&more, name);
    const char *path = path_of(fileno(file));
    hold(path, "before", "fread");
    size_t result = more(to, size, count, file);
    hold(path, "after", "fread");
    return result;
}

/* How OpenSSL and sha256sum read. */
size_t(fread)(void *restrict to, size_t size, size_t count, FILE *restrict file) {
    return read_stream("fread", to, size, count, file);
}

size_t(fread_unlocked)(void *restrict to, size_t size, size_t count, FILE *restrict file) {
    return read_stream("fread_unlocked", to, size, count, file);
}

/* How head writes. */
size_t(fwrite_unlocked)(const void *restrict from, size_t size, size_t count, FILE *restrict file) {
    size_t (*written)(const void *, size_t, size_t, FILE *);
    real(&written, "fwrite_unlocked");
    return fails(path_of(fileno(file)), "write") ? 0 : written(from, size, count, file);
}
