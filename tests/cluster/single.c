/* The one program of an image without anything else: what the tests of such an image run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int copy_input(void) {
    char buffer[65536];
    ssize_t length;
    while ((length = read(0, buffer, sizeof buffer)) > 0) {
        for (ssize_t done = 0, written; done < length; done += written) {
            written = write(1, buffer + done, (size_t)(length - done));
            if (written < 0) {
                return 1;
            }
        }
    }
    return length < 0;
}

/* A child in a session of its own with an empty environment, which outlives its parent's group unless it is looked for.
 * */
static int leave_family(char *seconds) {
    char *arguments[] = {"/single", "sleep", seconds, NULL}, *nothing[] = {NULL};
    if (fork() == 0) {
        setsid();
        execve("/single", arguments, nothing);
        _exit(1);
    }
    puts("before");
    fflush(stdout);
    sleep((unsigned)atoi(seconds));
    return 0;
}

static int tell_terminal(void) {
    struct winsize size;
    if (ioctl(0, TIOCGWINSZ, &size) != 0 || !isatty(1)) {
        puts("no terminal");
        return 1;
    }
    printf("%d %d\n", size.ws_row, size.ws_col);
    return 0;
}

int main(int count, char **words) {
    const char *verb = count > 1 ? words[1] : "";
    char *last = words[count - 1], directory[4096];
    if (strcmp(verb, "say") == 0) {
        puts(last);
        fputs("error\n", stderr);
        return 7;
    }
    if (strcmp(verb, "cat") == 0) {
        return copy_input();
    }
    if (strcmp(verb, "family") == 0) {
        return leave_family(last);
    }
    if (strcmp(verb, "sleep") == 0) {
        return (int)sleep((unsigned)atoi(last));
    }
    if (strcmp(verb, "terminal") == 0) {
        return tell_terminal();
    }
    if (strcmp(verb, "where") == 0) {
        const char *home = getenv("HOME"), *path = getenv("PATH"), *temporary = getenv("TMPDIR");
        printf("%u:%u\n%s\n%s\n%s\n%s\n", getuid(), getgid(), getcwd(directory, sizeof directory), home ? home : "",
               path ? path : "", temporary ? temporary : "");
        return 0;
    }
    fprintf(stderr, "single: what is %s?\n", verb);
    return 2;
}
