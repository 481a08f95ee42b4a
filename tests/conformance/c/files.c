/* Scenarios about files. */

#include "conformance.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE = 16 << 20 };

static void whole_files(void) {
    static const uint8_t contents[] = {'f', 0, 0xff, '\n'};
    sbx_bytes *read = NULL;
    size_t len = 0;
    OK(sbx_sandbox_write_file(sandbox, "whole", contents, sizeof contents, &err));
    OK(sbx_sandbox_append_file(sandbox, "whole", (const uint8_t *)"more", 4, &err));
    OK(sbx_sandbox_read_file(sandbox, "whole", &read, &err));
    const uint8_t *data = sbx_bytes_data(read, &len);
    IS("f\0\xff\nmore", data, len);
    sbx_bytes_free(read);
    OK(sbx_sandbox_write_file(sandbox, "whole", NULL, 0, &err));
    OK(sbx_sandbox_read_file(sandbox, "whole", &read, &err));
    data = sbx_bytes_data(read, &len);
    IS("", data, len);
    sbx_bytes_free(read);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "remote is NULL", sbx_sandbox_read_file(sandbox, NULL, &read, &err));
}

static void open_files(void) {
    sbx_file *file = NULL;
    sbx_metadata *found = NULL;
    uint8_t buffer[64];
    uint64_t position = 0;
    size_t len = 0;
    int32_t flags = SBX_OPEN_READ | SBX_OPEN_WRITE | SBX_OPEN_CREATE_NEW;
    OK(sbx_sandbox_open_file(sandbox, "opened", flags, 0600, &file, &err));
    OK(sbx_file_write(file, (const uint8_t *)"0123456789", 10, &err));
    OK(sbx_file_write(file, NULL, 0, &err));
    OK(sbx_file_seek(file, -4, SBX_SEEK_END, &position, &err));
    CHECK(position == 6);
    OK(sbx_file_read(file, buffer, sizeof buffer, &len, &err));
    CHECK(len == 4 && memcmp(buffer, "6789", 4) == 0);
    OK(sbx_file_read(file, buffer, sizeof buffer, &len, &err));
    CHECK(len == 0);
    OK(sbx_file_seek(file, 1, SBX_SEEK_START, NULL, &err));
    OK(sbx_file_seek(file, 1, SBX_SEEK_CURRENT, &position, &err));
    CHECK(position == 2);
    FAILS(SBX_ERR_INVALID_ARGUMENT, "before the file's start", sbx_file_seek(file, -1, SBX_SEEK_START, NULL, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "9 is not a valid sbx_seek", sbx_file_seek(file, 0, 9, NULL, &err));
    OK(sbx_file_set_size(file, 5, &err));
    OK(sbx_file_set_permissions(file, 0644, &err));
    OK(sbx_file_sync(file, &err));
    OK(sbx_file_metadata(file, &found, &err));
    CHECK(sbx_metadata_size(found) == 5 && sbx_metadata_mode(found) == 0644);
    sbx_metadata_free(found);
    OK(sbx_file_close(file, &err));
    sbx_file_free(file);
    FAILS(SBX_ERR_FILE_EXISTS, "opened", sbx_sandbox_open_file(sandbox, "opened", flags, 0600, &file, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "64 is not a valid combination", sbx_sandbox_open_file(sandbox, "opened", 64, 0600, &file, &err));
    FAILS(SBX_ERR_FILE_NOT_FOUND, "none", sbx_sandbox_open_file(sandbox, "none", SBX_OPEN_READ, 0, &file, &err));
    /* One that is never closed is closed when it is freed. */
    OK(sbx_sandbox_open_file(sandbox, "opened", SBX_OPEN_APPEND, 0, &file, &err));
    sbx_file_free(file);
}

/* A large file comes in large pieces. */
static void large_file(void) {
    sbx_file *file = NULL;
    uint8_t *many = numbers(SIZE), *read = malloc(SIZE);
    size_t len = 1, had = 0, most = 0;
    OK(sbx_sandbox_write_file(sandbox, "many", many, SIZE, &err));
    OK(sbx_sandbox_open_file(sandbox, "many", SBX_OPEN_READ, 0, &file, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "its capacity is 0", sbx_file_read(file, read, 0, &len, &err));
    while (had < SIZE) {
        OK(sbx_file_read(file, read + had, SIZE - had, &len, &err));
        CHECK(len > 0);
        had += len;
        most = len > most ? len : most;
    }
    CHECK(memcmp(read, many, SIZE) == 0 && most > 64 << 10);
    OK(sbx_file_close(file, &err));
    sbx_file_free(file);
    free(many);
    free(read);
}

/* A path is a directory, a file, a link. */
static sbx_file_kind kind_of(const char *path) {
    sbx_metadata *found = NULL;
    OK(sbx_sandbox_symlink_metadata(sandbox, path, &found, &err));
    sbx_file_kind kind = sbx_metadata_kind(found);
    sbx_metadata_free(found);
    return kind;
}

static bool is_there(const char *path) {
    bool exists = false;
    OK(sbx_sandbox_file_exists(sandbox, path, &exists, &err));
    return exists;
}

static void names(void) {
    sbx_metadata *found = NULL;
    sbx_dir_entries *entries = NULL;
    sbx_bytes *read = NULL;
    int64_t when = 0;
    OK(sbx_sandbox_create_dir(sandbox, "dir", &err));
    OK(sbx_sandbox_create_dir_all(sandbox, "dir/a/b", &err));
    OK(sbx_sandbox_write_file(sandbox, "dir/odd \xff", (const uint8_t *)"onetwo", 6, &err));
    OK(sbx_sandbox_set_file_permissions(sandbox, "dir/odd \xff", 0640, &err));
    OK(sbx_sandbox_create_symlink(sandbox, "no where", "dir/link", &err));
    OK(sbx_sandbox_read_link(sandbox, "dir/link", &read, &err));
    CHECK(strcmp((const char *)sbx_bytes_data(read, NULL), "no where") == 0);
    sbx_bytes_free(read);
    OK(sbx_sandbox_resolve_path(sandbox, "dir/../dir", &read, &err));
    CHECK(strcmp((const char *)sbx_bytes_data(read, NULL), "/home/sandbox/dir") == 0);
    sbx_bytes_free(read);

    OK(sbx_sandbox_file_metadata(sandbox, "dir/odd \xff", &found, &err));
    CHECK(sbx_metadata_kind(found) == SBX_FILE_KIND_FILE);
    CHECK(sbx_metadata_size(found) == 6 && sbx_metadata_mode(found) == 0640);
    CHECK(sbx_metadata_modified(found, &when) && when > 1600000000 && sbx_metadata_accessed(found, NULL));
    sbx_metadata_free(found);
    CHECK(kind_of("dir/link") == SBX_FILE_KIND_SYMLINK && kind_of("dir") == SBX_FILE_KIND_DIRECTORY);
    CHECK(kind_of("/dev/null") == SBX_FILE_KIND_OTHER && sbx_metadata_kind(NULL) == SBX_FILE_KIND_UNKNOWN);
    CHECK(!is_there("dir/link") && is_there("dir/a"));

    OK(sbx_sandbox_read_dir(sandbox, "dir", &entries, &err));
    CHECK(sbx_dir_entries_count(entries) == 3 && sbx_dir_entries_name_at(entries, 3) == NULL);
    for (size_t i = 0; i < 3; i++) {
        const char *name = sbx_dir_entries_name_at(entries, i);
        CHECK(sbx_metadata_kind(sbx_dir_entries_metadata_at(entries, i)) ==
              (strcmp(name, "a") == 0      ? SBX_FILE_KIND_DIRECTORY
               : strcmp(name, "link") == 0 ? SBX_FILE_KIND_SYMLINK
                                           : SBX_FILE_KIND_FILE));
    }
    CHECK(sbx_dir_entries_metadata_at(entries, 3) == NULL && sbx_dir_entries_count(NULL) == 0);
    sbx_dir_entries_free(entries);

    OK(sbx_sandbox_write_file(sandbox, "dir/plain", (const uint8_t *)"old", 3, &err));
    OK(sbx_sandbox_rename_file(sandbox, "dir/odd \xff", "dir/plain", &err));
    PRINTS("onetwo", execute("cat dir/plain"));
    OK(sbx_sandbox_remove_file(sandbox, "dir/link", &err));
    FAILS(SBX_ERR_FILE_NOT_FOUND, "dir/link", sbx_sandbox_remove_file(sandbox, "dir/link", &err));
    OK(sbx_sandbox_remove_dir(sandbox, "dir/a/b", &err));
    FAILS(SBX_ERR_DIRECTORY_NOT_EMPTY, "not empty", sbx_sandbox_remove_dir(sandbox, "dir", &err));
    OK(sbx_sandbox_remove_dir_all(sandbox, "dir", &err));
    CHECK(!is_there("dir"));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "path is NULL", sbx_sandbox_file_exists(sandbox, NULL, NULL, &err));
}

void files(void) {
    whole_files();
    open_files();
    large_file();
    names();
}

/* What callbacks of transfers see and do. */
struct moved {
    const uint8_t *source;
    uint8_t *target;
    uint64_t size, done;
    int64_t total;
    bool went_back;
    /* What they answer once something has been moved. */
    int32_t answer;
    char path[256];
};

static int32_t progress(void *userdata, const char *path, uint64_t done, int64_t total) {
    struct moved *moved = userdata;
    moved->went_back |= done < moved->done;
    moved->done = done;
    moved->total = total;
    snprintf(moved->path, sizeof moved->path, "%s", path);
    return done > 0 ? moved->answer : 0;
}

static int64_t read_some(void *userdata, uint8_t *buffer, size_t capacity) {
    struct moved *moved = userdata;
    size_t len = moved->size < capacity ? (size_t)moved->size : capacity;
    memcpy(buffer, moved->source, len);
    moved->source += len;
    moved->size -= len;
    return moved->answer ? -moved->answer : (int64_t)len;
}

static int64_t read_too_much(void *userdata, uint8_t *buffer, size_t capacity) {
    (void)userdata, (void)buffer;
    return (int64_t)capacity + 1;
}

static int32_t write_some(void *userdata, const uint8_t *data, size_t len) {
    struct moved *moved = userdata;
    memcpy(moved->target + moved->size, data, len);
    moved->size += len;
    return moved->answer;
}

static void paths(sbx_transfer *transfer, const uint8_t *many) {
    const char *there = in_directory("large"), *back = in_directory("large-back");
    sbx_transferred *told = NULL;
    struct moved moved = {0};
    uint64_t size = 0;
    OK(sbx_transfer_set_checksum(transfer, true, &err));
    OK(sbx_transfer_set_sync(transfer, true, &err));
    OK(sbx_transfer_upload(transfer, there, "large", progress, &moved, &told, &err));
    CHECK(!moved.went_back && moved.done == SIZE && moved.total == SIZE && strcmp(moved.path, there) == 0);
    CHECK(sbx_transferred_bytes(told) == SIZE && sbx_transferred_resumed(told) == 0);
    const uint8_t *sha256 = sbx_transferred_sha256(told);
    CHECK(sha256 != NULL && sha256[0] == 0xc9 && sha256[31] == 0x7f);
    sbx_transferred_free(told);
    moved = (struct moved){0};
    OK(sbx_transfer_download(transfer, "large", back, progress, &moved, NULL, &err));
    CHECK(!moved.went_back && moved.done == SIZE && moved.total == SIZE && strcmp(moved.path, "large") == 0);
    local_is(back, many, SIZE);

    OK(sbx_transfer_set_checksum(transfer, false, &err));
    OK(sbx_transfer_upload(transfer, back, "large", NULL, NULL, &told, &err));
    CHECK(sbx_transferred_sha256(told) == NULL);
    sbx_transferred_free(told);
    OK(sbx_sandbox_upload_file(sandbox, back, "odd \xff", &size, &err));
    OK(sbx_sandbox_download_file(sandbox, "odd \xff", back, NULL, &err));
    CHECK(size == SIZE);
    FAILS(SBX_ERR_FILE_NOT_FOUND, "nor-here", sbx_sandbox_upload_file(sandbox, "nor-here", "x", NULL, &err));
}

static void callbacks(sbx_transfer *transfer, const uint8_t *many, uint8_t *target) {
    struct moved moved = {.source = many, .size = SIZE};
    sbx_metadata *found = NULL;
    OK(sbx_transfer_set_mode(transfer, 0600, &err));
    OK(sbx_transfer_upload_from(transfer, read_some, "numbers", progress, &moved, NULL, &err));
    OK(sbx_sandbox_file_metadata(sandbox, "numbers", &found, &err));
    CHECK(sbx_metadata_mode(found) == 0600);
    sbx_metadata_free(found);
    CHECK(moved.done == SIZE && moved.total == -1 && strcmp(moved.path, "numbers") == 0);
    moved = (struct moved){.target = target};
    OK(sbx_transfer_download_to(transfer, "numbers", write_some, progress, &moved, NULL, &err));
    CHECK(moved.done == SIZE && moved.total == SIZE && moved.size == SIZE && memcmp(target, many, SIZE) == 0);
    moved = (struct moved){.source = many, .size = SIZE, .answer = 3};
    FAILS(SBX_ERR_CANCELLED, "the callback returned -3",
          sbx_transfer_upload_from(transfer, read_some, "numbers", NULL, &moved, NULL, &err));
    moved = (struct moved){.target = target, .answer = 3};
    FAILS(SBX_ERR_CANCELLED, "the callback returned 3",
          sbx_transfer_download_to(transfer, "numbers", write_some, NULL, &moved, NULL, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "has room for",
          sbx_transfer_upload_from(transfer, read_too_much, "numbers", NULL, NULL, NULL, &err));
    FAILS(SBX_ERR_INVALID_ARGUMENT, "read is NULL",
          sbx_transfer_upload_from(transfer, NULL, "numbers", NULL, NULL, NULL, &err));
}

static void interrupted(sbx_transfer *transfer, const uint8_t *many) {
    const char *there = in_directory("large"), *back = in_directory("resumed");
    sbx_transferred *told = NULL;
    struct moved moved = {.answer = 3};
    OK(sbx_transfer_set_resume(transfer, true, &err));
    FAILS(SBX_ERR_CANCELLED, "the callback returned 3",
          sbx_transfer_upload(transfer, there, "resumed", progress, &moved, NULL, &err));
    OK(sbx_transfer_upload(transfer, there, "resumed", NULL, NULL, &told, &err));
    CHECK(sbx_transferred_bytes(told) == SIZE && sbx_transferred_resumed(told) > 0);
    CHECK(sbx_transferred_sha256(told) != NULL);
    sbx_transferred_free(told);
    moved = (struct moved){.answer = 3};
    FAILS(SBX_ERR_CANCELLED, "the callback returned 3",
          sbx_transfer_download(transfer, "resumed", back, progress, &moved, NULL, &err));
    OK(sbx_transfer_download(transfer, "resumed", back, NULL, NULL, &told, &err));
    CHECK(sbx_transferred_bytes(told) == SIZE && sbx_transferred_resumed(told) > 0);
    sbx_transferred_free(told);
    local_is(back, many, SIZE);
    OK(sbx_transfer_set_resume(transfer, false, &err));
}

void transfers(void) {
    sbx_transfer *transfer = NULL;
    uint8_t *many = numbers(SIZE), *target = malloc(SIZE);
    write_local(in_directory("large"), many, SIZE);
    OK(sbx_sandbox_transfer(sandbox, &transfer, &err));
    paths(transfer, many);
    callbacks(transfer, many, target);
    interrupted(transfer, many);
    OK(sbx_transfer_set_max_bytes(transfer, SIZE - 1, &err));
    FAILS(SBX_ERR_TRANSFER, "16777215 bytes",
          sbx_transfer_download(transfer, "large", in_directory("refused"), NULL, NULL, NULL, &err));
    CHECK(access(in_directory("refused"), F_OK) != 0);
    sbx_transfer_free(transfer);
    free(many);
    free(target);
}

static mode_t mode_of(const char *name) {
    struct stat found;
    CHECK(lstat(in_directory(name), &found) == 0);
    return found.st_mode;
}

void trees(void) {
    sbx_transfer *transfer = NULL;
    sbx_tree_report *report = NULL;
    struct moved moved = {0};
    char target[16] = "";
    CHECK(mkdir(in_directory("tree"), 0755) == 0 && mkdir(in_directory("tree/empty"), 0750) == 0);
    write_local(in_directory("tree/plain"), "plain \xff", 7);
    write_local(in_directory("tree/program"), "#!/bin/sh\n", 10);
    CHECK(chmod(in_directory("tree/program"), 0755) == 0);
    CHECK(symlink("plain", in_directory("tree/link")) == 0);
    CHECK(mkfifo(in_directory("tree/pipe"), 0644) == 0);

    OK(sbx_sandbox_transfer(sandbox, &transfer, &err));
    OK(sbx_transfer_upload_dir(transfer, in_directory("tree"), "tree", progress, &moved, &report, &err));
    CHECK(sbx_tree_report_files(report) == 2 && sbx_tree_report_directories(report) == 2);
    CHECK(sbx_tree_report_symlinks(report) == 1 && sbx_tree_report_bytes(report) == 17);
    CHECK(sbx_tree_report_skipped(report) == 1 && sbx_tree_report_note_count(report) == 1);
    CHECK(strcmp(sbx_tree_report_note_path_at(report, 0), "pipe") == 0);
    CHECK(strcmp(sbx_tree_report_note_text_at(report, 0), "a named pipe") == 0);
    CHECK(sbx_tree_report_note_path_at(report, 1) == NULL && sbx_tree_report_note_text_at(report, 1) == NULL);
    CHECK(moved.done == 17 && moved.total == 17);
    sbx_tree_report_free(report);

    OK(sbx_sandbox_create_symlink(sandbox, "/etc", "tree/out", &err));
    OK(sbx_transfer_download_dir(transfer, "tree", in_directory("tree-back"), NULL, NULL, &report, &err));
    CHECK(sbx_tree_report_files(report) == 2 && sbx_tree_report_skipped(report) == 1);
    CHECK(strcmp(sbx_tree_report_note_path_at(report, 0), "out") == 0);
    CHECK(strstr(sbx_tree_report_note_text_at(report, 0), "out of the tree") != NULL);
    sbx_tree_report_free(report);
    local_is(in_directory("tree-back/plain"), "plain \xff", 7);
    local_is(in_directory("tree-back/program"), "#!/bin/sh\n", 10);
    CHECK(mode_of("tree-back/program") == mode_of("tree/program") && mode_of("tree-back/empty") == mode_of("tree/empty"));
    CHECK(readlink(in_directory("tree-back/link"), target, sizeof target) == 5 && memcmp(target, "plain", 5) == 0);
    CHECK(access(in_directory("tree-back/pipe"), F_OK) != 0);

    OK(sbx_transfer_set_max_entries(transfer, 2, &err));
    FAILS(SBX_ERR_TRANSFER, "2",
          sbx_transfer_download_dir(transfer, "tree", in_directory("tree-refused"), NULL, NULL, NULL, &err));
    CHECK(access(in_directory("tree-refused"), F_OK) != 0);
    sbx_transfer_free(transfer);
}

/* One call that fails with this status and error number. */
#define FAILS_FOR(status, number, text, call) \
    do { \
        FAILS_WITH(status, text, call); \
        CHECK(sbx_error_errno(err) == (number)); \
        DONE; \
    } while (0)

void file_errors(void) {
    sbx_bytes *contents = NULL;
    sbx_dir_entries *entries = NULL;
    sbx_metadata *found = NULL;
    sbx_output *output = NULL;
    char longest[257] = {0};
    bool exists = true;
    memset(longest, 'n', sizeof longest - 1);
    OK(sbx_sandbox_create_dir_all(sandbox, "errors/dir", &err));
    OK(sbx_sandbox_write_file(sandbox, "errors/file", (const uint8_t *)"x", 1, &err));
    PRINTS("", execute("cp \"$(command -v sleep)\" errors/program"));
    sbx_child *running = child_of(program("./errors/program", "6794", NULL));
    RUNS("errors/progra[m] 6794");

    FAILS_FOR(SBX_ERR_FILE_NOT_FOUND, ENOENT, "none", sbx_sandbox_read_file(sandbox, "none", &contents, &err));
    FAILS_FOR(SBX_ERR_FILE_EXISTS, EEXIST, "'/tmp' in the sandbox", sbx_sandbox_create_dir(sandbox, "/tmp", &err));
    FAILS_FOR(SBX_ERR_IS_A_DIRECTORY, EISDIR, "/tmp", sbx_sandbox_read_file(sandbox, "/tmp", &contents, &err));
    FAILS_FOR(SBX_ERR_IS_A_DIRECTORY, EISDIR, "dir", sbx_sandbox_remove_file(sandbox, "errors/dir", &err));
    FAILS_FOR(SBX_ERR_NOT_A_DIRECTORY, ENOTDIR, "file", sbx_sandbox_read_dir(sandbox, "errors/file", &entries, &err));
    FAILS_FOR(SBX_ERR_NOT_A_DIRECTORY, ENOTDIR, "x", sbx_sandbox_file_metadata(sandbox, "errors/file/x", &found, &err));
    FAILS_FOR(SBX_ERR_DIRECTORY_NOT_EMPTY, ENOTEMPTY, "errors", sbx_sandbox_remove_dir(sandbox, "errors", &err));
    FAILS_FOR(SBX_ERR_READ_ONLY, EROFS, "/sys/x", sbx_sandbox_create_dir(sandbox, "/sys/x", &err));
    FAILS_FOR(SBX_ERR_BUSY, ETXTBSY, "program",
              sbx_sandbox_append_file(sandbox, "errors/program", (const uint8_t *)"x", 1, &err));
    FAILS_FOR(SBX_ERR_NAME_TOO_LONG, ENAMETOOLONG, longest, sbx_sandbox_create_dir(sandbox, longest, &err));
    FAILS_FOR(SBX_ERR_TRANSFER, EXDEV, "errors/file",
              sbx_sandbox_rename_file(sandbox, "errors/file", "/dev/shm/file", &err));
    FAILS_FOR(SBX_ERR_FILE_NOT_FOUND, ENOENT, "on this machine",
              sbx_sandbox_upload_file(sandbox, "nor-here", "x", NULL, &err));
    FAILS_FOR(SBX_ERR_IS_A_DIRECTORY, EISDIR, "on this machine",
              sbx_sandbox_upload_file(sandbox, in_directory("."), "x", NULL, &err));
    write_local(in_directory("plain"), "x", 1);
    FAILS_FOR(SBX_ERR_NOT_A_DIRECTORY, ENOTDIR, "on this machine",
              sbx_sandbox_download_file(sandbox, "errors/file", in_directory("plain/below"), NULL, &err));
    OK(sbx_sandbox_file_exists(sandbox, "errors/file/x", &exists, &err));
    CHECK(!exists);
    sbx_command *missing = program("no-such-program", NULL);
    FAILS_FOR(SBX_ERR_COMMAND, ENOENT, "no-such-program", sbx_command_output(missing, &output, &err));
    sbx_command_free(missing);

    OK(sbx_child_kill(running, &err));
    sbx_child_free(running);
    OK(sbx_sandbox_remove_dir_all(sandbox, "errors", &err));
}
