/**
 * \file
 *
 * sandbox: disposable machines on your own Kubernetes.
 *
 * Create a Pod with SSH, run commands in it, move files in and out, delete it:
 *
 * ```c
 * sbx_client *client = NULL;
 * sbx_sandbox *sandbox = NULL;
 * sbx_output *output = NULL;
 * sbx_error *err = NULL;
 * if (sbx_client_new(NULL, &client, &err) != SBX_OK ||
 *     sbx_client_create(client, NULL, &sandbox, &err) != SBX_OK ||
 *     sbx_sandbox_execute(sandbox, "uname -a", &output, &err) != SBX_OK ||
 *     sbx_sandbox_delete(sandbox, &err) != SBX_OK)
 *     fprintf(stderr, "%s\n", sbx_error_message(err));
 * else
 *     printf("%s", (const char *)sbx_output_stdout(output, NULL));
 * sbx_output_free(output);
 * sbx_sandbox_free(sandbox);
 * sbx_client_free(client);
 * sbx_error_free(err);
 * ```
 *
 * What holds for all functions:
 *
 * Results. A function that can fail returns an sbx_status and takes `sbx_error **err` as its last parameter. `err` may
 * be NULL. If it is not, `*err` is always written: NULL on success, and on failure an error that the caller frees with
 * sbx_error_free(). So free an error before passing its variable to the next call. Other output parameters are written
 * on success only and left unchanged on failure. An output parameter for a handle must not be NULL unless its function
 * says so. One for a number may be NULL, except the `len` of sbx_child_read_stdout(), sbx_child_read_stderr() and
 * sbx_file_read(), and the positions of sbx_detached_stream(). Those positions are the only output parameters that are
 * also read. Output parameters must not overlap.
 *
 * Ownership. Every handle that a function returns must be freed once, with the function named sbx_..._free. Freeing
 * NULL does nothing. A handle keeps alive what it needs of other handles, so they can be freed in any order. Text and
 * bytes that a function returns are borrowed from its first argument: they stay valid until that is freed, and must
 * not be freed themselves. All of them are followed by a NUL, except sbx_transferred_sha256(). Arguments are copied,
 * or used only during the call.
 *
 * Freeing. A `..._free` function does not wait for anything, with these exceptions: sbx_file_free() closes an open
 * file (up to 2 seconds), sbx_forward_free() breaks its connections (up to 2 seconds), sbx_pool_free() deletes the
 * sandboxes that are half created (up to 10 seconds if the API server does not answer), and whichever handle is
 * freed last stops the library's threads (up to 3 seconds). SSH sessions are closed without waiting for the
 * server.
 *
 * NULL and text. If a required argument is NULL, or a text is not UTF-8, the function fails with
 * SBX_ERR_INVALID_ARGUMENT. Arguments of commands, environment variables and file paths are bytes, not text, as they
 * are for Linux itself. Functions that return no status return NULL, 0 or false for a NULL handle.
 *
 * Units. Durations are seconds as a double. Where "no limit" is allowed, a negative number means it. Points in time
 * are seconds since 1970-01-01 UTC as an int64_t.
 *
 * Threads. A function that takes its handle as const may be called with the same handle from several threads at once.
 * A function that takes it as non-const must not run at the same time as another call with that handle. A handle may
 * be freed by another thread than the one that made it. Functions may be called on any thread, and the only state per
 * thread is what sbx_thread_on_wait() registers. Calls block, and must not be made in a signal handler. In a child of
 * fork() that does not exec, handles of the parent fail with SBX_ERR_FORKED.
 *
 * Exit. A program may exit while other threads are in calls or an sbx_child runs.
 *
 * File descriptors. The library opens descriptors for its connections and for waking its threads. A program must not
 * close descriptors that it did not open, as a loop over all numbers does, not even 0 to 2: calls would hang, or write
 * into a file that is opened later under the same number. Each call opens /dev/null for those of 0 to 2 that are
 * closed; they stay open.
 *
 * Callbacks get `userdata` as their first argument, run on the calling thread and only during the call, and return 0
 * to continue. An sbx_log_fn is the exception: it may run on any thread for as long as it is set.
 *
 * A bug in the library is reported as SBX_ERR_PANIC; no Rust panic leaves the library. Freeing a handle twice, using
 * it after it was freed, or passing a pointer to something else is undefined behavior, as everywhere in C.
 *
 * Versions. Within one SONAME, functions and enumerators are only added, never removed or renumbered. A program can
 * compare SBX_VERSION_NUMBER, the version that it was compiled with, with sbx_version_number(), the version that it
 * runs with. What was added after 0.1.0 says so; the files in symbols/ list the functions of each version.
 */

#ifndef SANDBOX_H
#define SANDBOX_H

/* Made from src/ffi by `BLESS=1 cargo test --test header`. Changes go there. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The version that this header belongs to: its first number, with which everything may change. */
#define SBX_VERSION_MAJOR 0
/** Its second number, with which there is something new. */
#define SBX_VERSION_MINOR 1
/** Its third number, with which something is repaired. */
#define SBX_VERSION_PATCH 0
/** The version as a number that grows. */
#define SBX_VERSION_NUMBER ((SBX_VERSION_MAJOR << 16) | (SBX_VERSION_MINOR << 8) | SBX_VERSION_PATCH)
/** The version as text, as sbx_version() has that of the library that runs. */
#define SBX_VERSION_STRING "0.1.0"

/** A status that nobody looks at is a mistake, which compilers say. */
#if (defined(__cplusplus) && __cplusplus >= 201703L) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L)
#define SBX_NODISCARD [[nodiscard]]
#elif defined(__GNUC__)
#define SBX_NODISCARD __attribute__((warn_unused_result))
#else
#define SBX_NODISCARD
#endif

/**
 * The result of a call: SBX_OK, or why it failed.
 *
 * A number never changes and is never reused. A later version may have more of them.
 */
enum sbx_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Success.
     */
    SBX_OK = 0,
    /**
     * An argument is invalid: a required one is NULL, a text is not UTF-8, a number is out of range. Nothing was done.
     */
    SBX_ERR_INVALID_ARGUMENT = 1,
    /**
     * A setting, the kubeconfig or the service account can't be used; the message names it and what is allowed.
     */
    SBX_ERR_CONFIG = 2,
    /**
     * A blocking call was made from asynchronous Rust code of the host program.
     */
    SBX_ERR_ASYNC_CONTEXT = 3,
    /**
     * The client was made before fork(); its threads don't exist in the child. Make a new client there.
     */
    SBX_ERR_FORKED = 4,
    /**
     * The handle was closed, or its sandbox deleted through it.
     */
    SBX_ERR_CLOSED = 5,
    /**
     * No such sandbox: it was never there, or is gone.
     */
    SBX_ERR_NOT_FOUND = 20,
    /**
     * A sandbox of that name exists already, or the key of a detached command is in use, or somebody else changed the
     * same object at the same time.
     */
    SBX_ERR_CONFLICT = 21,
    /**
     * Kubernetes, or a file system, does not allow it.
     */
    SBX_ERR_PERMISSION_DENIED = 22,
    /**
     * A quota of the namespace, or the API server's limit of requests, is used up.
     */
    SBX_ERR_QUOTA = 23,
    /**
     * The disk is full, a disk quota is exceeded, or the file has reached the largest size allowed.
     */
    SBX_ERR_STORAGE_FULL = 24,
    /**
     * No detached command has this key. The sandbox is there.
     */
    SBX_ERR_DETACHED_NOT_FOUND = 25,
    /**
     * The pool has no sandbox ready, and the claim was made with SBX_ON_MISS_FAIL.
     */
    SBX_ERR_POOL_EMPTY = 26,
    /**
     * No such file or directory. For this and the following file errors, the message says whether the file is in the
     * sandbox or on this machine.
     */
    SBX_ERR_FILE_NOT_FOUND = 30,
    /**
     * A file or directory of that name exists already.
     */
    SBX_ERR_FILE_EXISTS = 31,
    /**
     * The path is a directory, and the operation needs a file.
     */
    SBX_ERR_IS_A_DIRECTORY = 32,
    /**
     * The path, or one of its parents, is not a directory.
     */
    SBX_ERR_NOT_A_DIRECTORY = 33,
    /**
     * The directory is not empty.
     */
    SBX_ERR_DIRECTORY_NOT_EMPTY = 34,
    /**
     * The file system is read-only.
     */
    SBX_ERR_READ_ONLY = 35,
    /**
     * The file is in use: it is being executed, is a mount point, or another download writes to it. Also: a local port
     * is in use.
     */
    SBX_ERR_BUSY = 36,
    /**
     * A file name is longer than the file system allows, or a path is longer than 4095 bytes.
     */
    SBX_ERR_NAME_TOO_LONG = 37,
    /**
     * The API server can't be reached or can't answer now. Trying later may help.
     */
    SBX_ERR_UNAVAILABLE = 40,
    /**
     * No connection to the sandbox's SSH server could be made.
     */
    SBX_ERR_CONNECT = 41,
    /**
     * The sandbox's SSH server refused this client's key or user name.
     */
    SBX_ERR_AUTHENTICATION = 42,
    /**
     * The SSH server showed another host key than the one pinned for this sandbox. Nothing was sent to it.
     */
    SBX_ERR_HOST_KEY_MISMATCH = 43,
    /**
     * The connection was lost, either before a request was sent or during a request that can safely be repeated.
     */
    SBX_ERR_DISCONNECTED = 44,
    /**
     * The operation timed out. A command's processes were killed, and the error has the output up to then.
     */
    SBX_ERR_TIMED_OUT = 45,
    /**
     * Nothing in the sandbox listens on the port or the socket.
     */
    SBX_ERR_REFUSED = 46,
    /**
     * The sandbox could not be created; the error's verdict has the reason that Kubernetes gives. The Pod was deleted
     * again.
     */
    SBX_ERR_CREATE = 60,
    /**
     * The sandbox could not be deleted, or its end could not be confirmed.
     */
    SBX_ERR_DELETE = 61,
    /**
     * The command could not be started: it did not run.
     */
    SBX_ERR_COMMAND = 62,
    /**
     * The command ran and did not succeed. Only sbx_output_check() fails with this: elsewhere a non-zero exit code is
     * not an error.
     */
    SBX_ERR_COMMAND_FAILED = 63,
    /**
     * The connection was lost after the request to run a command or to change a file was sent. The sandbox may have
     * carried it out, completely or in part. The library does not repeat such a request.
     */
    SBX_ERR_OUTCOME_UNKNOWN = 64,
    /**
     * A transfer or another file operation failed for a reason that has no status of its own. The target of a transfer
     * is unchanged.
     */
    SBX_ERR_TRANSFER = 65,
    /**
     * A callback of the caller, or the function registered with sbx_thread_on_wait(), cancelled the call.
     */
    SBX_ERR_CANCELLED = 66,
    /**
     * A bug in this library: a panic was caught at the C boundary. The handles stay usable.
     */
    SBX_ERR_PANIC = 90,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sbx_status sbx_status;
#else
typedef int32_t sbx_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What has become of a sandbox. A later version may have more of them.
 */
enum sbx_change_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It is there, which was not known before.
     */
    SBX_CHANGE_ADDED = 0,
    /**
     * Something about it is not as it was.
     */
    SBX_CHANGE_CHANGED = 1,
    /**
     * It is gone, or does not fit any more.
     */
    SBX_CHANGE_REMOVED = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sbx_change_kind sbx_change_kind;
#else
typedef int32_t sbx_change_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The two output streams of a command.
 */
enum sbx_stream
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Standard output.
     */
    SBX_STREAM_STDOUT = 1,
    /**
     * Standard error.
     */
    SBX_STREAM_STDERR = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sbx_stream sbx_stream;
#else
typedef int32_t sbx_stream;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a check found, the better before the worse.
 */
enum sbx_check_state
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * All is well.
     */
    SBX_CHECK_OK = 0,
    /**
     * It could not be checked, because of the failure of another check or because this client may not look.
     */
    SBX_CHECK_SKIPPED = 1,
    /**
     * Sandboxes work, but something is missing or unusual.
     */
    SBX_CHECK_WARNING = 2,
    /**
     * Sandboxes can't be made or used.
     */
    SBX_CHECK_FAILURE = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sbx_check_state sbx_check_state;
#else
typedef int32_t sbx_check_state;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Why a Pod can't start or has stopped, according to Kubernetes. A later version may have more of them.
 */
enum sbx_cause
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * There is no verdict.
     */
    SBX_CAUSE_NONE = 0,
    /**
     * The image does not exist, can't be reached, or needs credentials.
     */
    SBX_CAUSE_IMAGE_PULL = 1,
    /**
     * No node can take the Pod.
     */
    SBX_CAUSE_UNSCHEDULABLE = 2,
    /**
     * A quota of the namespace forbids it.
     */
    SBX_CAUSE_QUOTA = 3,
    /**
     * Admission (Pod security, a policy, a webhook) or validation rejected the Pod.
     */
    SBX_CAUSE_REJECTED = 4,
    /**
     * The container can't be set up: a missing Secret or ConfigMap, a bad command, a failed volume.
     */
    SBX_CAUSE_CONFIGURATION = 5,
    /**
     * The container's main process ended by itself.
     */
    SBX_CAUSE_EXITED = 6,
    /**
     * The container used more memory than its limit and was killed.
     */
    SBX_CAUSE_OUT_OF_MEMORY = 7,
    /**
     * The node evicted the Pod.
     */
    SBX_CAUSE_EVICTED = 8,
    /**
     * The Pod reached its hard time limit.
     */
    SBX_CAUSE_DEADLINE_EXCEEDED = 9,
    /**
     * The sandbox reached its own expiry.
     */
    SBX_CAUSE_EXPIRED = 10,
    /**
     * The Pod was deleted, or is being deleted.
     */
    SBX_CAUSE_DELETED = 11,
    /**
     * The node is gone or does not answer.
     */
    SBX_CAUSE_NODE_LOST = 12,
    /**
     * Kubernetes reports no problem; the verdict is the last state seen.
     */
    SBX_CAUSE_PENDING = 13,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sbx_cause sbx_cause;
#else
typedef int32_t sbx_cause;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a file is.
 */
enum sbx_file_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Nothing is known.
     */
    SBX_FILE_KIND_UNKNOWN = 0,
    /**
     * A regular file.
     */
    SBX_FILE_KIND_FILE = 1,
    /**
     * A directory.
     */
    SBX_FILE_KIND_DIRECTORY = 2,
    /**
     * A symbolic link.
     */
    SBX_FILE_KIND_SYMLINK = 3,
    /**
     * A named pipe, a socket, a device.
     */
    SBX_FILE_KIND_OTHER = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sbx_file_kind sbx_file_kind;
#else
typedef int32_t sbx_file_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The phase of a Pod. A later version may have more of them.
 */
enum sbx_phase
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Kubernetes does not know the phase, or reports one that this library does not know.
     */
    SBX_PHASE_UNKNOWN = 0,
    /**
     * Accepted by Kubernetes; its container does not run yet.
     */
    SBX_PHASE_PENDING = 1,
    /**
     * Its container runs.
     */
    SBX_PHASE_RUNNING = 2,
    /**
     * It stopped with exit code 0.
     */
    SBX_PHASE_SUCCEEDED = 3,
    /**
     * It stopped in another way.
     */
    SBX_PHASE_FAILED = 4,
    /**
     * It is being deleted.
     */
    SBX_PHASE_TERMINATING = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sbx_phase sbx_phase;
#else
typedef int32_t sbx_phase;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The levels of log lines, for sbx_config_set_log() and sbx_log_set_handler().
 */
enum sbx_log_level
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * None at all.
     */
    SBX_LOG_OFF = 0,
    /**
     * Failures that no call can report.
     */
    SBX_LOG_ERROR = 1,
    /**
     * Conditions that may need attention.
     */
    SBX_LOG_WARN = 2,
    /**
     * What the library does: sandboxes created and deleted, connections made.
     */
    SBX_LOG_INFO = 3,
    /**
     * Details for debugging: each request and connection.
     */
    SBX_LOG_DEBUG = 4,
    /**
     * Everything.
     */
    SBX_LOG_TRACE = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sbx_log_level sbx_log_level;
#else
typedef int32_t sbx_log_level;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Where a sandbox comes from. A later version may have more of them.
 */
enum sbx_origin
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It was there before: sbx_client_attach().
     */
    SBX_ORIGIN_ATTACHED = 0,
    /**
     * It was created by sbx_client_create().
     */
    SBX_ORIGIN_CREATED = 1,
    /**
     * A pool had it ready.
     */
    SBX_ORIGIN_POOL = 2,
    /**
     * The pool was empty, and its next sandbox was waited for.
     */
    SBX_ORIGIN_POOL_WAIT = 3,
    /**
     * The pool was empty, and it was created instead.
     */
    SBX_ORIGIN_POOL_MISS = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sbx_origin sbx_origin;
#else
typedef int32_t sbx_origin;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The way to a sandbox's SSH server, for sbx_config_set_transport().
 */
enum sbx_transport
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Begins on the tunnel and moves to the Pod's address if that can be reached. Where port-forward is refused or
     * does not reach into the sandbox, it takes exec instead.
     */
    SBX_TRANSPORT_AUTO = 0,
    /**
     * Straight to the Pod's address. Works inside the cluster's network.
     */
    SBX_TRANSPORT_DIRECT = 1,
    /**
     * Through the API server's port-forward. Works wherever kubectl works.
     */
    SBX_TRANSPORT_TUNNEL = 2,
    /**
     * Through the API server's exec. Works wherever "kubectl exec" works, also under gVisor and Kata. Code in the
     * sandbox that has the guest's user can end these connections, but not the others.
     */
    SBX_TRANSPORT_EXEC = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sbx_transport sbx_transport;
#else
typedef int32_t sbx_transport;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How sbx_sandbox_open_file() opens a file; combine them with |.
 */
enum sbx_open
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * For reading.
     */
    SBX_OPEN_READ = 1,
    /**
     * For writing, without truncating.
     */
    SBX_OPEN_WRITE = 2,
    /**
     * For writing at the end of the file, even if it has grown meanwhile.
     */
    SBX_OPEN_APPEND = 4,
    /**
     * Truncates an existing file. Needs SBX_OPEN_WRITE.
     */
    SBX_OPEN_TRUNCATE = 8,
    /**
     * Creates the file if it does not exist. Needs SBX_OPEN_WRITE or SBX_OPEN_APPEND.
     */
    SBX_OPEN_CREATE = 16,
    /**
     * Creates the file, and fails if the name exists, even as a broken link. Needs SBX_OPEN_WRITE or SBX_OPEN_APPEND.
     */
    SBX_OPEN_CREATE_NEW = 32,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sbx_open sbx_open;
#else
typedef int32_t sbx_open;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What sbx_file_seek() counts from.
 */
enum sbx_seek
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * The beginning of the file.
     */
    SBX_SEEK_START = 0,
    /**
     * The position.
     */
    SBX_SEEK_CURRENT = 1,
    /**
     * The end of the file.
     */
    SBX_SEEK_END = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sbx_seek sbx_seek;
#else
typedef int32_t sbx_seek;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a claim does if the pool has nothing ready, for sbx_claim_set_on_miss().
 */
enum sbx_on_miss
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Creates a sandbox, as sbx_client_create() does.
     */
    SBX_ON_MISS_CREATE = 0,
    /**
     * Waits until the pool has one, up to the setting "create_timeout".
     */
    SBX_ON_MISS_WAIT = 1,
    /**
     * Fails at once with SBX_ERR_POOL_EMPTY.
     */
    SBX_ON_MISS_FAIL = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sbx_on_miss sbx_on_miss;
#else
typedef int32_t sbx_on_miss;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What sbx_pool_counter() counts.
 */
enum sbx_pool_counter_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Claims that were served by a ready sandbox at once.
     */
    SBX_POOL_HITS = 0,
    /**
     * Claims that found nothing ready.
     */
    SBX_POOL_MISSES = 1,
    /**
     * Attempts to take a sandbox that another claim took first, or that had ended.
     */
    SBX_POOL_CONFLICTS = 2,
    /**
     * Claims that wait for a sandbox now.
     */
    SBX_POOL_WAITING = 3,
    /**
     * Sandboxes that were taken, could not be reached, and were deleted.
     */
    SBX_POOL_BAD = 4,
    /**
     * Sandboxes that this handle has made for the pool.
     */
    SBX_POOL_CREATED = 5,
    /**
     * Sandboxes whose deletion it has requested.
     */
    SBX_POOL_RETIRED = 6,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sbx_pool_counter_kind sbx_pool_counter_kind;
#else
typedef int32_t sbx_pool_counter_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What sbx_usage_value() tells. Memory, processor time and processes are those of the sandbox's container, with its
 * guest.
 */
enum sbx_usage_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Microseconds of processor time since the container started.
     */
    SBX_USAGE_CPU = 0,
    /**
     * Microseconds for which it had to wait because it had used up its share of the processors.
     */
    SBX_USAGE_THROTTLED = 1,
    /**
     * Bytes of memory, with the files that the kernel keeps in memory for it.
     */
    SBX_USAGE_MEMORY = 2,
    /**
     * The most that it has been.
     */
    SBX_USAGE_MEMORY_PEAK = 3,
    /**
     * What it may be at most.
     */
    SBX_USAGE_MEMORY_LIMIT = 4,
    /**
     * Processes that were killed because there was no more memory.
     */
    SBX_USAGE_OOM_KILLS = 5,
    /**
     * Processes and threads.
     */
    SBX_USAGE_PROCESSES = 6,
    /**
     * What they may be at most.
     */
    SBX_USAGE_PROCESSES_LIMIT = 7,
    /**
     * Bytes in use on the file system of the home directory. Where the sandbox has no volume there, that is the node's
     * disk, with all that others keep on it.
     */
    SBX_USAGE_DISK = 8,
    /**
     * Bytes of that file system.
     */
    SBX_USAGE_DISK_LIMIT = 9,
    /**
     * Bytes received through the Pod's network interfaces but loopback.
     */
    SBX_USAGE_RECEIVED = 10,
    /**
     * Bytes sent through them.
     */
    SBX_USAGE_SENT = 11,
    /**
     * Bytes of memory of the guest itself, which is the sandbox's main process.
     */
    SBX_USAGE_GUEST_MEMORY = 12,
    /**
     * Commands that run, of all clients.
     */
    SBX_USAGE_COMMANDS = 13,
    /**
     * SSH connections of all clients.
     */
    SBX_USAGE_CONNECTIONS = 14,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum sbx_usage_kind sbx_usage_kind;
#else
typedef int32_t sbx_usage_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Bytes that came from the sandbox, such as the contents of a file. Freed with sbx_bytes_free(). May be read from
 * several threads.
 */
typedef struct sbx_bytes sbx_bytes;

/**
 * The changes of sandboxes, made by sbx_client_watch(). May be used from several threads, of which each change goes to
 * one. Freed with sbx_changes_free().
 */
typedef struct sbx_changes sbx_changes;

/**
 * A command that runs, made by sbx_command_spawn(). May be used from several threads at once: one writes, two read,
 * one waits. As with a process of this machine, a command whose output nobody reads stops when the buffers are full.
 * Freed with sbx_child_free(), which does not end the command.
 */
typedef struct sbx_child sbx_child;

/**
 * What a claimed sandbox gets. Made by sbx_claim_new(), changed by setters, used by sbx_pool_claim() any number of
 * times. Freed with sbx_claim_free(). Setters copy their arguments.
 */
typedef struct sbx_claim sbx_claim;

/**
 * A connection to Kubernetes and everything that its sandboxes share. May be used from several threads at once. Freed
 * with sbx_client_free().
 */
typedef struct sbx_client sbx_client;

/**
 * A command to run in a sandbox, made by sbx_sandbox_command() or sbx_sandbox_shell() and freed with
 * sbx_command_free().
 *
 * It sees the image's environment, then the spec's, then its own, and begins in the image's working directory. It may
 * be run again and again, from several threads too; each run is a new process. A run happens at most once: when the
 * connection is lost after the command was requested, the status is SBX_ERR_OUTCOME_UNKNOWN. It keeps what it needs of
 * its sandbox alive.
 */
typedef struct sbx_command sbx_command;

/**
 * How a client reaches Kubernetes and its sandboxes, and how long it waits. Freed with sbx_config_free(); a client
 * copies what it needs of it.
 */
typedef struct sbx_config sbx_config;

/**
 * A command that runs in the sandbox whether anybody is connected or not, made by sbx_command_detach() or
 * sbx_sandbox_detached(). Its output and its status stay in the sandbox until sbx_detached_remove(). It may be used
 * from several threads, and from other processes under its key. Freed with sbx_detached_free(), which does nothing to
 * the command.
 */
typedef struct sbx_detached sbx_detached;

/**
 * The entries of a directory. Freed with sbx_dir_entries_free(). May be read from several threads.
 */
typedef struct sbx_dir_entries sbx_dir_entries;

/**
 * Why a call failed. Belongs to the caller, who frees it with sbx_error_free(). May be read from several threads.
 */
typedef struct sbx_error sbx_error;

/**
 * How a command ended: with an exit code, or by a signal. It is always what the sandbox reported, never a default.
 * Freed with sbx_exit_status_free(). May be read from several threads.
 */
typedef struct sbx_exit_status sbx_exit_status;

/**
 * An open file of a sandbox, made by sbx_sandbox_open_file(). It keeps an SSH session for itself until it is closed.
 * May be used from several threads; their calls take turns. After a lost connection or a timeout it can only be freed.
 * Freed with sbx_file_free(), which also closes it but reports no error; call sbx_file_close() first to see errors.
 */
typedef struct sbx_file sbx_file;

/**
 * Which sandboxes sbx_client_list() finds: those that fit everything that is set. Made by sbx_filter_new(), changed by
 * setters, used any number of times. Freed with sbx_filter_free(). Setters copy their arguments.
 */
typedef struct sbx_filter sbx_filter;

/**
 * A local port or Unix socket whose connections end in a sandbox, made by sbx_sandbox_forward(). It has a thread of
 * its own and listens until it is closed or freed, or until its Pod has ended. It never connects to another Pod of the
 * same name. Its connections end with it. If the SSH session is lost, its open connections break and later ones use a
 * new session. It may be used from several threads. Freed with sbx_forward_free().
 */
typedef struct sbx_forward sbx_forward;

/**
 * What Kubernetes says about a sandbox at one moment. Freed with sbx_info_free(), unless it belongs to an
 * sbx_info_list. May be read from several threads.
 */
typedef struct sbx_info sbx_info;

/**
 * A list of infos. Freed with sbx_info_list_free(). May be read from several threads.
 */
typedef struct sbx_info_list sbx_info_list;

/**
 * Keys with which somebody else may log in, from sbx_sandbox_authorized_keys(). Freed with sbx_key_list_free(). May be
 * read from several threads.
 */
typedef struct sbx_key_list sbx_key_list;

/**
 * What is known about a file. Freed with sbx_metadata_free() unless it was borrowed from a list. May be read from
 * several threads.
 */
typedef struct sbx_metadata sbx_metadata;

/**
 * A list of names. Freed with sbx_name_list_free(). May be read from several threads.
 */
typedef struct sbx_name_list sbx_name_list;

/**
 * What a command wrote and how it ended. Freed with sbx_output_free(). May be read from several threads.
 */
typedef struct sbx_output sbx_output;

/**
 * A named pool of sandboxes of one spec that are created in advance. The state of a pool is in the cluster only: any
 * number of processes fill it and claim from it, each sandbox goes to exactly one claim, and what a killed process
 * leaves behind is found by the others. May be used from several threads at once. Freed with sbx_pool_free(), which
 * stops its background work; the sandboxes stay.
 */
typedef struct sbx_pool sbx_pool;

/**
 * How a pool is filled. Made by sbx_pool_options_new(), changed by setters, used by sbx_client_pool() any number of
 * times. A program that only claims needs no options. Freed with sbx_pool_options_free().
 */
typedef struct sbx_pool_options sbx_pool_options;

/**
 * The state of a pool at one moment, from sbx_pool_status(). Freed with sbx_pool_state_free(). May be read from
 * several threads.
 */
typedef struct sbx_pool_state sbx_pool_state;

/**
 * What sbx_diagnose() found. Freed with sbx_report_free(). May be read from several threads.
 */
typedef struct sbx_report sbx_report;

/**
 * A running sandbox: a Pod with an SSH server. May be used from several threads at once. Freed with
 * sbx_sandbox_free(), which does not delete the sandbox: it stays until sbx_sandbox_delete(), or until it expires. It
 * keeps what it needs of its client alive.
 */
typedef struct sbx_sandbox sbx_sandbox;

/**
 * What to create. Made by sbx_spec_new(), changed by setters, used by sbx_client_create() any number of times. Freed
 * with sbx_spec_free(). Texts are UTF-8, and are copied. Values that Kubernetes does not accept are reported by
 * sbx_client_create(), not by the setters.
 */
typedef struct sbx_spec sbx_spec;

/**
 * Options for uploads and downloads, made by sbx_sandbox_transfer() and freed with sbx_transfer_free(). It may be used
 * again and again, from several threads too. It keeps what it needs of its sandbox alive.
 *
 * By default nothing is resumed, nothing is synced to disk, and no checksum is compared: SSH protects every packet
 * with a MAC, and the server acknowledges every write.
 */
typedef struct sbx_transfer sbx_transfer;

/**
 * What the transfer of a file did. Freed with sbx_transferred_free(). May be read from several threads.
 */
typedef struct sbx_transferred sbx_transferred;

/**
 * What the transfer of a directory did. Freed with sbx_tree_report_free(). May be read from several threads.
 */
typedef struct sbx_tree_report sbx_tree_report;

/**
 * What a sandbox uses at one moment, from sbx_sandbox_usage(). Freed with sbx_usage_free(). May be read from several
 * threads.
 */
typedef struct sbx_usage sbx_usage;

/**
 * Receives output of a command as it arrives, for sbx_command_stream() and sbx_detached_stream(): `len` bytes at
 * `data`, not followed by a NUL, in pieces of any size. Returns 0 to continue; anything else ends the call.
 *
 * It is called on the thread that made the call, and only during that call. It may call this library, also for the
 * same sandbox, but must not change or free the object that the call belongs to. It must not throw, longjmp or end its
 * thread.
 */
typedef int32_t (*sbx_output_fn)(void *userdata,
                                 sbx_stream stream,
                                 const uint8_t *data,
                                 size_t len);

/**
 * Receives a line of the library's log: its level, the part of the library that wrote it, such as "sandbox::client",
 * and the message, without a newline. The texts are valid until it returns.
 *
 * It is called on the thread that logs, which may be one of the library's own, and by several threads at once. It must
 * not wait for calls of this library, nor throw, longjmp or end its thread. Lines that its own calls of this library
 * would log are dropped.
 */
typedef void (*sbx_log_fn)(void *userdata,
                           sbx_log_level level,
                           const char *target,
                           const char *message);

/**
 * Tells whether to cancel the call of this library in which the thread waits. 0 continues. After anything else the
 * call fails with SBX_ERR_CANCELLED, and the function is not called again before that call has returned.
 *
 * It is called on the waiting thread, as an ordinary function, not as a signal handler. It may call this library, but
 * must not change or free the objects that the waiting call belongs to. Its own calls are not cancelled by it; it may
 * register another function for them with sbx_thread_on_wait(), which stays registered until it returns. It must not
 * throw, longjmp or end its thread.
 */
typedef int32_t (*sbx_interrupted_fn)(void *userdata);

/**
 * Reports the progress of a transfer: at the beginning, at the end, and up to 20 times a second in between. `path` is
 * the file being read: as the caller named it, or relative to the root of the directory that is copied. `done` of
 * `total` bytes have arrived, counting all files of a directory; `total` is -1 if it is not known. Returns 0 to
 * continue; anything else ends the transfer with SBX_ERR_CANCELLED.
 *
 * It is called on the thread that called the function it was given to, and only during that call. It may call this
 * library, also for the same sandbox, but must not change or free the object whose call it is in. It must not throw,
 * longjmp or end its thread.
 */
typedef int32_t (*sbx_progress_fn)(void *userdata,
                                   const char *path,
                                   uint64_t done,
                                   int64_t total);

/**
 * Writes up to `capacity` bytes of the data to upload into `buffer` and returns their number. Returns 0 at the end of
 * the data, and a negative number to end the transfer with SBX_ERR_CANCELLED; more than `capacity` ends it with
 * SBX_ERR_INVALID_ARGUMENT. The rules for threads and for calls of this library are those of sbx_progress_fn.
 */
typedef int64_t (*sbx_read_fn)(void *userdata,
                               uint8_t *buffer,
                               size_t capacity);

/**
 * Receives `len` bytes at `data` of a download. Returns 0 to continue; anything else ends the transfer with
 * SBX_ERR_CANCELLED. The rules for threads and for calls of this library are those of sbx_progress_fn.
 */
typedef int32_t (*sbx_write_fn)(void *userdata,
                                const uint8_t *data,
                                size_t len);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * \defgroup sbx_version The version
 * \{
 */

/**
 * The version of the library that runs, such as "0.1.0". The text is static.
 */
const char *sbx_version(void);

/**
 * The version of the library that runs as a number like SBX_VERSION_NUMBER.
 */
uint32_t sbx_version_number(void);

/** \} */

/**
 * \defgroup sbx_changes The changes of sandboxes
 * \{
 */

/**
 * Watches the sandboxes of the namespace that fit; `filter` may be NULL for all of them. Nothing is asked before
 * sbx_changes_next(). The caller frees `*changes` with sbx_changes_free().
 *
 * SBX_ERR_INVALID_ARGUMENT if no Pod can have the filter's owner or a label, or if the filter asks for an age, which
 * changes by itself.
 */
SBX_NODISCARD
sbx_status sbx_client_watch(const sbx_client *client,
                            const sbx_filter *filter,
                            sbx_changes **changes,
                            sbx_error **err);

/**
 * Waits for the next change, at most so many seconds; a negative number for ever. `*info` gets the sandbox as it is
 * now, or as it was last, and the caller frees it with sbx_info_free(); it is NULL if the time is over. `*kind`, which
 * may be NULL, is written only with an info. First all that fit are told as added, the oldest first, then each change.
 * After a lost connection or a restart of the API server it goes on, and tells what has changed meanwhile; what came
 * and went in between is not told.
 *
 * SBX_ERR_PERMISSION_DENIED if this client may not list and watch Pods; SBX_ERR_CLOSED after sbx_changes_close().
 */
SBX_NODISCARD
sbx_status sbx_changes_next(const sbx_changes *changes,
                            double seconds,
                            sbx_change_kind *kind,
                            sbx_info **info,
                            sbx_error **err);

/**
 * Ends the watch: where other threads wait in sbx_changes_next(), and later, it fails with SBX_ERR_CLOSED.
 */
void sbx_changes_close(const sbx_changes *changes);

/**
 * Ends a watch and frees it.
 */
void sbx_changes_free(sbx_changes *changes);

/** \} */

/**
 * \defgroup sbx_child Commands that run beside their caller
 * \{
 */

/**
 * The command's number in the sandbox, as text.
 */
const char *sbx_child_id(const sbx_child *child);

/**
 * Writes `len` bytes at `data` to the command's standard input, and blocks while its buffers are full.
 *
 * SBX_ERR_CLOSED if the input was closed or the command takes no more.
 */
SBX_NODISCARD
sbx_status sbx_child_write_stdin(const sbx_child *child,
                                 const uint8_t *data,
                                 size_t len,
                                 sbx_error **err);

/**
 * Ends the command's standard input. Does not wait; a write of another thread is finished first.
 */
void sbx_child_close_stdin(const sbx_child *child);

/**
 * Reads from the command's standard output into the `capacity` bytes at `buffer`, and sets `*len` to their number: 1
 * or more, or 0 at the end of the output. Blocks until there is output. A lost connection ends the output too;
 * sbx_child_wait() reports it.
 *
 * SBX_ERR_INVALID_ARGUMENT if `capacity` is 0.
 */
SBX_NODISCARD
sbx_status sbx_child_read_stdout(const sbx_child *child,
                                 uint8_t *buffer,
                                 size_t capacity,
                                 size_t *len,
                                 sbx_error **err);

/**
 * As sbx_child_read_stdout(), for the standard error.
 */
SBX_NODISCARD
sbx_status sbx_child_read_stderr(const sbx_child *child,
                                 uint8_t *buffer,
                                 size_t capacity,
                                 size_t *len,
                                 sbx_error **err);

/**
 * Closes the command's standard output: output that still arrives is discarded, so it need not be read. Does not wait.
 * A read by another thread returns the end of the output.
 */
void sbx_child_close_stdout(const sbx_child *child);

/**
 * As sbx_child_close_stdout(), for the standard error.
 */
void sbx_child_close_stderr(const sbx_child *child);

/**
 * Ends the command's standard input and waits until the command has ended. May be called again. The caller frees
 * `*exit_status` with sbx_exit_status_free(); `exit_status` may be NULL. Fails as sbx_command_output().
 */
SBX_NODISCARD
sbx_status sbx_child_wait(const sbx_child *child,
                          sbx_exit_status **exit_status,
                          sbx_error **err);

/**
 * Ends the command's standard input, reads both its output streams to their ends, and waits. The caller frees
 * `*output` with sbx_output_free(). It has what nobody read before, and of each stream at most the command's output
 * limit. Both streams are closed afterwards. Fails as sbx_command_output().
 */
SBX_NODISCARD
sbx_status sbx_child_wait_with_output(const sbx_child *child,
                                      sbx_output **output,
                                      sbx_error **err);

/**
 * Sets `*has_ended` to whether the command has ended. If it has, sets `*exit_status`, which may be NULL, to how; the
 * caller frees that with sbx_exit_status_free(). Does not wait. Fails as sbx_command_output().
 */
SBX_NODISCARD
sbx_status sbx_child_try_wait(const sbx_child *child,
                              bool *has_ended,
                              sbx_exit_status **exit_status,
                              sbx_error **err);

/**
 * Kills the command and all processes that it started. Does not wait; sbx_child_wait() does. Does nothing if the
 * command has ended.
 *
 * SBX_ERR_FORKED in a forked child. There is no other error.
 */
SBX_NODISCARD
sbx_status sbx_child_kill(const sbx_child *child,
                          sbx_error **err);

/**
 * Sends the command's process group a signal, named without SIG, such as "INT" or "TERM".
 *
 * SBX_ERR_INVALID_ARGUMENT if there is no signal of this name.
 */
SBX_NODISCARD
sbx_status sbx_child_signal(const sbx_child *child,
                            const char *name,
                            sbx_error **err);

/**
 * Tells the command that its terminal has another size, in characters.
 */
void sbx_child_resize(const sbx_child *child,
                      uint16_t columns,
                      uint16_t rows);

/**
 * Frees a child, without waiting. Its command runs on to its end or its timeout, with its input closed and its output
 * discarded.
 */
void sbx_child_free(sbx_child *child);

/** \} */

/**
 * \defgroup sbx_client The client
 * \{
 */

/**
 * Makes a client; `config` may be NULL for sbx_config_from_env(). Reads the service account or the kubeconfig. The
 * caller frees it with sbx_client_free().
 *
 * SBX_ERR_CONFIG if a setting is not allowed, or no way to authenticate was found.
 */
SBX_NODISCARD
sbx_status sbx_client_new(const sbx_config *config,
                          sbx_client **client,
                          sbx_error **err);

/**
 * The namespace of this client's sandboxes.
 */
const char *sbx_client_namespace(const sbx_client *client);

/**
 * How many SSH sessions this client has to one sandbox at most: further callers wait for one, each in its thread. 0
 * for NULL.
 */
size_t sbx_client_max_sessions(const sbx_client *client);

/**
 * How many HTTP requests this client has sent to the Kubernetes API server; 0 for NULL.
 */
uint64_t sbx_client_api_requests(const sbx_client *client);

/**
 * Creates a sandbox and waits until it is ready for commands; `spec` may be NULL for the defaults. A sandbox that
 * fails to start is deleted again. The caller frees the handle with sbx_sandbox_free(), and deletes the sandbox with
 * sbx_sandbox_delete().
 *
 * SBX_ERR_CREATE with the cluster's verdict; SBX_ERR_QUOTA; SBX_ERR_CONFLICT if the name is taken; SBX_ERR_TIMED_OUT
 * with the last known state; SBX_ERR_PERMISSION_DENIED and SBX_ERR_UNAVAILABLE from the API server.
 */
SBX_NODISCARD
sbx_status sbx_client_create(const sbx_client *client,
                             const sbx_spec *spec,
                             sbx_sandbox **sandbox,
                             sbx_error **err);

/**
 * Makes a handle for the existing sandbox of this name. It takes one API call, or none if the client's cache has the
 * sandbox. The caller frees it with sbx_sandbox_free().
 *
 * SBX_ERR_NOT_FOUND if there is none.
 */
SBX_NODISCARD
sbx_status sbx_client_attach(const sbx_client *client,
                             const char *name,
                             sbx_sandbox **sandbox,
                             sbx_error **err);

/**
 * Lists the sandboxes in the namespace that fit, the oldest first, and those of the same second by name; `filter` may
 * be NULL for all of them, whoever owns them. It takes one API call for every 500 that have the filter's owner and
 * labels. The caller frees the list with sbx_info_list_free().
 *
 * SBX_ERR_INVALID_ARGUMENT if no Pod can have the owner or a label; SBX_ERR_PERMISSION_DENIED and SBX_ERR_UNAVAILABLE
 * from the API server.
 */
SBX_NODISCARD
sbx_status sbx_client_list(const sbx_client *client,
                           const sbx_filter *filter,
                           sbx_info_list **list,
                           sbx_error **err);

/**
 * Deletes every expired sandbox in the namespace, whoever owns it. It does not wait until the Pods are gone. `*names`
 * gets the names of the deleted sandboxes; the caller frees it with sbx_name_list_free(). `names` may be NULL.
 *
 * Fails as sbx_client_list(), with the first error. The other sandboxes are deleted all the same.
 */
SBX_NODISCARD
sbx_status sbx_client_reap(const sbx_client *client,
                           sbx_name_list **names,
                           sbx_error **err);

/**
 * Deletes a sandbox by name: sbx_client_attach() and sbx_sandbox_delete() in one.
 *
 * SBX_ERR_NOT_FOUND if there is none of this name.
 */
SBX_NODISCARD
sbx_status sbx_client_delete_sandbox(const sbx_client *client,
                                     const char *name,
                                     sbx_error **err);

/**
 * An alias of sbx_client_delete_sandbox().
 */
SBX_NODISCARD
sbx_status sbx_client_shutdown_sandbox(const sbx_client *client,
                                       const char *name,
                                       sbx_error **err);

/**
 * Runs a command line in a sandbox by name: sbx_client_attach() and sbx_sandbox_execute() in one. `line` is UTF-8
 * here. The caller frees the output with sbx_output_free().
 */
SBX_NODISCARD
sbx_status sbx_client_execute_command(const sbx_client *client,
                                      const char *name,
                                      const char *line,
                                      sbx_output **output,
                                      sbx_error **err);

/**
 * Copies a local file into a sandbox by name: sbx_client_attach() and sbx_sandbox_upload_file() in one.
 */
SBX_NODISCARD
sbx_status sbx_client_upload_file(const sbx_client *client,
                                  const char *name,
                                  const char *local,
                                  const char *remote,
                                  uint64_t *size,
                                  sbx_error **err);

/**
 * Copies a file out of a sandbox by name: sbx_client_attach() and sbx_sandbox_download_file() in one.
 */
SBX_NODISCARD
sbx_status sbx_client_download_file(const sbx_client *client,
                                    const char *name,
                                    const char *remote,
                                    const char *local,
                                    uint64_t *size,
                                    sbx_error **err);

/**
 * Asks Kubernetes about a sandbox by name: one API call. The caller frees the answer with sbx_info_free().
 *
 * SBX_ERR_NOT_FOUND if there is none of this name.
 */
SBX_NODISCARD
sbx_status sbx_client_get_sandbox_info(const sbx_client *client,
                                       const char *name,
                                       sbx_info **info,
                                       sbx_error **err);

/**
 * The SSH port of a sandbox by name, from the cache; the configured port for one that the cache does not know. 0 if an
 * argument is NULL or the name is not UTF-8.
 */
uint16_t sbx_client_ssh_port(const sbx_client *client,
                             const char *name);

/**
 * Frees a client. Its sandboxes stay, and handles of them stay usable; its SSH sessions are closed when the last of
 * all these is freed. Freeing the last handle of all clients also stops the library's threads, and waits up to 3
 * seconds for them.
 */
void sbx_client_free(sbx_client *client);

/** \} */

/**
 * \defgroup sbx_command Commands, their output and how they ended
 * \{
 */

/**
 * Adds an argument. The command gets exactly its bytes; no shell sees them. For a shell line the arguments are $1, $2,
 * …
 */
SBX_NODISCARD
sbx_status sbx_command_add_arg(sbx_command *command,
                               const char *value,
                               sbx_error **err);

/**
 * Adds an argument of `len` bytes at `data`, for callers whose strings have no NUL at their end. `data` may be NULL if
 * `len` is 0. A NUL among the bytes makes the run fail with SBX_ERR_INVALID_ARGUMENT.
 */
SBX_NODISCARD
sbx_status sbx_command_add_arg_bytes(sbx_command *command,
                                     const uint8_t *data,
                                     size_t len,
                                     sbx_error **err);

/**
 * Sets an environment variable for the command. Name and value are bytes; the name has no '='.
 */
SBX_NODISCARD
sbx_status sbx_command_set_env(sbx_command *command,
                               const char *name,
                               const char *value,
                               sbx_error **err);

/**
 * Sets the directory to run in; a relative one begins at the image's working directory.
 */
SBX_NODISCARD
sbx_status sbx_command_set_current_dir(sbx_command *command,
                                       const char *directory,
                                       sbx_error **err);

/**
 * Sets the user to run as, by name, with that user's groups and HOME. Only a sandbox that runs as root allows another
 * user than its own; elsewhere the run fails with SBX_ERR_COMMAND. Default: the SSH user.
 */
SBX_NODISCARD
sbx_status sbx_command_set_user(sbx_command *command,
                                const char *name,
                                sbx_error **err);

/**
 * Sets the command's standard input to a copy of `len` bytes at `data`; it ends after them. `data` may be NULL if
 * `len` is 0. Default: no input.
 */
SBX_NODISCARD
sbx_status sbx_command_set_stdin(sbx_command *command,
                                 const uint8_t *data,
                                 size_t len,
                                 sbx_error **err);

/**
 * Lets the command read its standard input from an open file, pipe or socket of this process, from the current
 * position to the end. The library duplicates `fd`, so the caller may close its own at once, and reads from the
 * duplicate while the command runs. One run consumes the input: the next run fails with SBX_ERR_INVALID_ARGUMENT.
 */
SBX_NODISCARD
sbx_status sbx_command_set_stdin_fd(sbx_command *command,
                                    int32_t fd,
                                    sbx_error **err);

/**
 * Sends the standard output to /dev/null in the sandbox, so that none of it is transferred.
 */
SBX_NODISCARD
sbx_status sbx_command_discard_stdout(sbx_command *command,
                                      sbx_error **err);

/**
 * Sends the standard error to /dev/null in the sandbox, so that none of it is transferred.
 */
SBX_NODISCARD
sbx_status sbx_command_discard_stderr(sbx_command *command,
                                      sbx_error **err);

/**
 * Sends the standard error to where the standard output goes, in the order in which the command writes both.
 */
SBX_NODISCARD
sbx_status sbx_command_merge_stderr(sbx_command *command,
                                    sbx_error **err);

/**
 * Sets the time in seconds after which the command is killed; a negative number for no limit. Default: the configured
 * command_timeout.
 */
SBX_NODISCARD
sbx_status sbx_command_set_timeout(sbx_command *command,
                                   double seconds,
                                   sbx_error **err);

/**
 * Runs the command on a terminal of this type, such as "xterm-256color", and this size in characters. Both output
 * streams then arrive as standard output, and the terminal turns "\n" into "\r\n". Default: no terminal.
 */
SBX_NODISCARD
sbx_status sbx_command_set_terminal(sbx_command *command,
                                    const char *kind,
                                    uint16_t columns,
                                    uint16_t rows,
                                    sbx_error **err);

/**
 * Sets how many bytes of each output stream sbx_command_output() keeps; sbx_output_truncated() counts the rest.
 * Default: 256 MiB.
 */
SBX_NODISCARD
sbx_status sbx_command_set_output_limit(sbx_command *command,
                                        size_t bytes,
                                        sbx_error **err);

/**
 * Runs the command to its end and collects its output, which the caller frees with sbx_output_free(). A non-zero exit
 * code is no error; see sbx_output_check().
 *
 * SBX_ERR_COMMAND if it did not run; SBX_ERR_TIMED_OUT if it was killed at its deadline (the error has its output so
 * far); SBX_ERR_OUTCOME_UNKNOWN if the connection was lost while it may have run; SBX_ERR_CONNECT and its like if the
 * sandbox can't be reached.
 */
SBX_NODISCARD
sbx_status sbx_command_output(const sbx_command *command,
                              sbx_output **output,
                              sbx_error **err);

/**
 * Runs the command to its end and discards its output. The caller frees `*exit_status` with sbx_exit_status_free();
 * `exit_status` may be NULL. Fails as sbx_command_output().
 */
SBX_NODISCARD
sbx_status sbx_command_run(const sbx_command *command,
                           sbx_exit_status **exit_status,
                           sbx_error **err);

/**
 * Runs the command to its end and passes its output to `receive` as it arrives, with `userdata` as first argument. The
 * caller frees `*exit_status` with sbx_exit_status_free(); `exit_status` may be NULL.
 *
 * SBX_ERR_CANCELLED if `receive` asked to stop; the command was killed then. Else as sbx_command_output().
 */
SBX_NODISCARD
sbx_status sbx_command_stream(const sbx_command *command,
                              sbx_output_fn receive,
                              void *userdata,
                              sbx_exit_status **exit_status,
                              sbx_error **err);

/**
 * Starts the command and returns while it runs. The caller frees the child with sbx_child_free().
 *
 * Errors of the start are those of sbx_command_output(); later ones are reported by sbx_child_wait().
 */
SBX_NODISCARD
sbx_status sbx_command_spawn(const sbx_command *command,
                             sbx_child **child,
                             sbx_error **err);

/**
 * Starts the command so that it depends on neither this process nor a connection, and returns. Any process finds it
 * again by its key. It starts at most once per key: if the sandbox knows the key already, this returns a handle of the
 * command that has it, running or ended. The caller frees `*detached` with sbx_detached_free().
 *
 * A key has 1 to 64 ASCII letters, digits, '.', '_' or '-', and begins with a letter or digit. The sandbox keeps the
 * output, up to the command's output limit for each stream; later output is dropped and counted. The input must be
 * bytes, and there is no terminal. Only the command's own timeout applies, not the configured one.
 *
 * SBX_ERR_INVALID_ARGUMENT if one of these rules is broken; SBX_ERR_CONFLICT if the key belongs to another command;
 * otherwise as sbx_command_output().
 */
SBX_NODISCARD
sbx_status sbx_command_detach(const sbx_command *command,
                              const char *key,
                              sbx_detached **detached,
                              sbx_error **err);

/**
 * Frees a command.
 */
void sbx_command_free(sbx_command *command);

/**
 * True if the command ended with exit code 0.
 */
bool sbx_exit_status_success(const sbx_exit_status *exit_status);

/**
 * True, and the exit code in `*code`, unless a signal ended the command. `code` may be NULL.
 */
bool sbx_exit_status_code(const sbx_exit_status *exit_status,
                          int32_t *code);

/**
 * The name of the signal that ended the command, without SIG, such as "KILL"; NULL if it ended by itself.
 */
const char *sbx_exit_status_signal(const sbx_exit_status *exit_status);

/**
 * Frees an exit status.
 */
void sbx_exit_status_free(sbx_exit_status *exit_status);

/**
 * True if the command ended with exit code 0.
 */
bool sbx_output_success(const sbx_output *output);

/**
 * True, and the exit code in `*code`, unless a signal ended the command. `code` may be NULL.
 */
bool sbx_output_exit_code(const sbx_output *output,
                          int32_t *code);

/**
 * The name of the signal that ended the command, without SIG, such as "KILL"; NULL if it ended by itself.
 */
const char *sbx_output_signal(const sbx_output *output);

/**
 * The bytes of the standard output, borrowed from the output, and their number in `*len`; they are followed by a NUL.
 * `len` may be NULL. Returns NULL, with 0 in `*len`, only if `output` is NULL.
 */
const uint8_t *sbx_output_stdout(const sbx_output *output,
                                 size_t *len);

/**
 * As sbx_output_stdout(), for the standard error.
 */
const uint8_t *sbx_output_stderr(const sbx_output *output,
                                 size_t *len);

/**
 * How many bytes of both streams were beyond the limit and are lost.
 */
uint64_t sbx_output_truncated(const sbx_output *output);

/**
 * SBX_OK if the command ended with exit code 0, else SBX_ERR_COMMAND_FAILED: its message has the code and the last
 * line of the standard error, and the error has both streams.
 */
SBX_NODISCARD
sbx_status sbx_output_check(const sbx_output *output,
                            sbx_error **err);

/**
 * Frees an output and all that was borrowed from it.
 */
void sbx_output_free(sbx_output *output);

/** \} */

/**
 * \defgroup sbx_config Settings
 * \{
 */

/**
 * Makes a configuration with the defaults, whatever the environment says. The caller frees it with sbx_config_free().
 */
SBX_NODISCARD
sbx_status sbx_config_new(sbx_config **config,
                          sbx_error **err);

/**
 * Makes a configuration from the SANDBOX_ variables of the environment, then from a .env file in the working directory
 * or a directory above it, then from the defaults. The process's environment is not changed. The caller frees it with
 * sbx_config_free().
 *
 * A .env file may be part of untrusted code. So SANDBOX_KUBECONFIG, SANDBOX_CONTEXT and SANDBOX_SSH_KEY are refused in
 * it, and a file that another user can write to is ignored.
 *
 * SBX_ERR_CONFIG; the message has the variable, its source, its value and the allowed values.
 */
SBX_NODISCARD
sbx_status sbx_config_from_env(sbx_config **config,
                               sbx_error **err);

/**
 * Sets a setting by its name, such as "ssh_port", from text in the form used in the environment, such as "2222". The
 * names are those of the sbx_config_set_ functions.
 *
 * SBX_ERR_CONFIG if there is no such setting or the value is not allowed; the message lists the settings or the
 * allowed values.
 */
SBX_NODISCARD
sbx_status sbx_config_set(sbx_config *config,
                          const char *name,
                          const char *value,
                          sbx_error **err);

/**
 * Kubernetes namespace of the sandboxes. Default: the context's or the service account's, else "default".
 */
SBX_NODISCARD
sbx_status sbx_config_set_namespace(sbx_config *config,
                                    const char *value,
                                    sbx_error **err);

/**
 * Path of a kubeconfig file. Default: KUBECONFIG, else ~/.kube/config, else the service account of the Pod that this
 * runs in, as kubectl finds them.
 */
SBX_NODISCARD
sbx_status sbx_config_set_kubeconfig(sbx_config *config,
                                     const char *path,
                                     sbx_error **err);

/**
 * Context in the kubeconfig. Default: its current context.
 */
SBX_NODISCARD
sbx_status sbx_config_set_context(sbx_config *config,
                                  const char *value,
                                  sbx_error **err);

/**
 * Image of new sandboxes whose spec names none.
 */
SBX_NODISCARD
sbx_status sbx_config_set_image(sbx_config *config,
                                const char *value,
                                sbx_error **err);

/**
 * User name for SSH. Default: "sandbox".
 */
SBX_NODISCARD
sbx_status sbx_config_set_ssh_user(sbx_config *config,
                                   const char *value,
                                   sbx_error **err);

/**
 * Port of the SSH server in new sandboxes. Default: 2222.
 */
SBX_NODISCARD
sbx_status sbx_config_set_ssh_port(sbx_config *config,
                                   uint16_t port,
                                   sbx_error **err);

/**
 * Path of an unencrypted ed25519 private key, in OpenSSH's format or PEM (PKCS#8), for processes that share sandboxes.
 * Only the owner may have access to the file (mode 0600). Default: a new key in memory for each client.
 */
SBX_NODISCARD
sbx_status sbx_config_set_ssh_key(sbx_config *config,
                                  const char *path,
                                  sbx_error **err);

/**
 * The way to the sandboxes: an sbx_transport. Default: SBX_TRANSPORT_AUTO.
 */
SBX_NODISCARD
sbx_status sbx_config_set_transport(sbx_config *config,
                                    int32_t transport,
                                    sbx_error **err);

/**
 * Label value that names the owner of the sandboxes: at most 63 letters, digits, '-', '_' and '.'. Default: "default".
 */
SBX_NODISCARD
sbx_status sbx_config_set_owner(sbx_config *config,
                                const char *value,
                                sbx_error **err);

/**
 * Seconds until a new sandbox expires; a negative number for never. Default: 3600.
 */
SBX_NODISCARD
sbx_status sbx_config_set_lifetime(sbx_config *config,
                                   double seconds,
                                   sbx_error **err);

/**
 * Seconds for creating a sandbox, including the first login; a negative number for no limit. Default: 300.
 */
SBX_NODISCARD
sbx_status sbx_config_set_create_timeout(sbx_config *config,
                                         double seconds,
                                         sbx_error **err);

/**
 * Seconds for one SSH connection with login; a negative number for no limit. Default: 30.
 */
SBX_NODISCARD
sbx_status sbx_config_set_connect_timeout(sbx_config *config,
                                          double seconds,
                                          sbx_error **err);

/**
 * Seconds for a command that sets none itself; a negative number for no limit. Default: 600.
 */
SBX_NODISCARD
sbx_status sbx_config_set_command_timeout(sbx_config *config,
                                          double seconds,
                                          sbx_error **err);

/**
 * Seconds for a file transfer; a negative number for no limit. Default: 3600.
 */
SBX_NODISCARD
sbx_status sbx_config_set_transfer_timeout(sbx_config *config,
                                           double seconds,
                                           sbx_error **err);

/**
 * Seconds after which an unused SSH session is closed; a negative number for never. Default: 300.
 */
SBX_NODISCARD
sbx_status sbx_config_set_idle_timeout(sbx_config *config,
                                       double seconds,
                                       sbx_error **err);

/**
 * SSH sessions to one sandbox at the same time, 1 to 1000; further callers wait. Default: 16.
 */
SBX_NODISCARD
sbx_status sbx_config_set_max_sessions(sbx_config *config,
                                       size_t sessions,
                                       sbx_error **err);

/**
 * Level for sbx_config_init_logging(): an sbx_log_level. Default: SBX_LOG_WARN.
 */
SBX_NODISCARD
sbx_status sbx_config_set_log(sbx_config *config,
                              int32_t level,
                              sbx_error **err);

/**
 * Sends this library's log lines to standard error at the configured level, for the rest of the process's life.
 * Without this and sbx_log_set_handler() the library writes nothing.
 *
 * SBX_ERR_CONFIG if this was done before, or if sbx_log_set_handler() has set a function.
 */
SBX_NODISCARD
sbx_status sbx_config_init_logging(const sbx_config *config,
                                   sbx_error **err);

/**
 * Frees a configuration.
 */
void sbx_config_free(sbx_config *config);

/** \} */

/**
 * \defgroup sbx_detached Commands that outlive their connection
 * \{
 */

/**
 * The key that it was started with.
 */
const char *sbx_detached_key(const sbx_detached *detached);

/**
 * Puts into `*has_ended` whether the command has ended, and if so into `*exit_status`, which may be NULL, how; the
 * caller frees that with sbx_exit_status_free(). Does not wait for it.
 *
 * SBX_ERR_DETACHED_NOT_FOUND if no command has this key; SBX_ERR_TIMED_OUT if its own timeout ended it;
 * SBX_ERR_COMMAND if it did not run; SBX_ERR_OUTCOME_UNKNOWN if the process that supervises it in the sandbox was
 * killed; SBX_ERR_CONNECT and the other connection errors if the sandbox can't be reached.
 */
SBX_NODISCARD
sbx_status sbx_detached_try_wait(const sbx_detached *detached,
                                 bool *has_ended,
                                 sbx_exit_status **exit_status,
                                 sbx_error **err);

/**
 * Waits at most `seconds` until the command has ended; a negative number is for ever. The caller frees `*exit_status`
 * with sbx_exit_status_free(); `exit_status` may be NULL.
 *
 * SBX_ERR_TIMED_OUT if it still runs; it keeps running. Otherwise as sbx_detached_try_wait().
 */
SBX_NODISCARD
sbx_status sbx_detached_wait(const sbx_detached *detached,
                             double seconds,
                             sbx_exit_status **exit_status,
                             sbx_error **err);

/**
 * Reads what the command has written so far to a stream (an sbx_stream), starting at byte `offset`: at most `limit`
 * bytes, which the caller frees with sbx_bytes_free(). Does not wait. No bytes means that there is no more output yet,
 * or none at all if the command has ended.
 *
 * SBX_ERR_DETACHED_NOT_FOUND if no command has this key; SBX_ERR_CONNECT and its like if the sandbox can't be reached.
 */
SBX_NODISCARD
sbx_status sbx_detached_read(const sbx_detached *detached,
                             int32_t stream,
                             uint64_t offset,
                             size_t limit,
                             sbx_bytes **bytes,
                             sbx_error **err);

/**
 * Passes the output to `receive` as it arrives, with `userdata` as first argument, until the command has ended. It
 * starts `*stdout_position` and `*stderr_position` bytes after the beginning of the streams. When the call returns,
 * both are updated, so that after an error the same call continues where this one stopped. The caller frees
 * `*exit_status` with sbx_exit_status_free(); `exit_status` may be NULL.
 *
 * SBX_ERR_CANCELLED if `receive` asked to stop; the command keeps running. Otherwise as sbx_detached_try_wait().
 */
SBX_NODISCARD
sbx_status sbx_detached_stream(const sbx_detached *detached,
                               uint64_t *stdout_position,
                               uint64_t *stderr_position,
                               sbx_output_fn receive,
                               void *userdata,
                               sbx_exit_status **exit_status,
                               sbx_error **err);

/**
 * Kills the command and all its descendants, also those that left its process group, and returns when they are gone.
 * Does nothing if the command has ended.
 *
 * SBX_ERR_DETACHED_NOT_FOUND if no command has this key; SBX_ERR_COMMAND if some process can't be killed;
 * SBX_ERR_CONNECT and its like if the sandbox can't be reached.
 */
SBX_NODISCARD
sbx_status sbx_detached_kill(const sbx_detached *detached,
                             sbx_error **err);

/**
 * Sends the command's process group a signal, named without SIG, such as "INT" or "TERM". Does nothing if the command
 * has ended.
 *
 * SBX_ERR_INVALID_ARGUMENT if this is no name of a signal; else as sbx_detached_kill().
 */
SBX_NODISCARD
sbx_status sbx_detached_signal(const sbx_detached *detached,
                               const char *name,
                               sbx_error **err);

/**
 * Removes the output and the status of a command that has ended. Its key is free again.
 *
 * SBX_ERR_CONFLICT if it runs; SBX_ERR_DETACHED_NOT_FOUND if no command has this key; SBX_ERR_CONNECT and its like if
 * the sandbox can't be reached.
 */
SBX_NODISCARD
sbx_status sbx_detached_remove(const sbx_detached *detached,
                               sbx_error **err);

/**
 * Frees the handle, without waiting. The command runs on, and is found again under its key.
 */
void sbx_detached_free(sbx_detached *detached);

/** \} */

/**
 * \defgroup sbx_doctor What stands in the way of a sandbox
 * \{
 */

/**
 * Finds out what stands in the way of a sandbox. `config` may be NULL for what sbx_config_from_env() makes, whose
 * error is what the check "config" says then.
 *
 * `checks` has the names of the checks to make, separated by spaces: "config", "process", "api-server", "clock",
 * "identity", "rights-pods", "rights-portforward", "rights-exec", "rights-events", "namespace", "quota",
 * "network-policy", "guest", "pod", and "sandbox", the life of a real sandbox. An empty text is all but the last one,
 * which takes at most 5 seconds unless somebody has to log in by hand. What a check needs is in the report if it
 * failed. Nothing is changed in the cluster but by "sandbox".
 *
 * What was found is no error; the caller frees it with sbx_report_free(). SBX_ERR_INVALID_ARGUMENT for a name that is
 * no check's.
 */
SBX_NODISCARD
sbx_status sbx_diagnose(const sbx_config *config,
                        const char *checks,
                        sbx_report **report,
                        sbx_error **err);

/**
 * The worst state of all checks; SBX_CHECK_OK for NULL.
 */
sbx_check_state sbx_report_state(const sbx_report *report);

/**
 * One line that says whether all is well, borrowed from the report.
 */
const char *sbx_report_summary(const sbx_report *report);

/**
 * How many checks there are; 0 for NULL.
 */
size_t sbx_report_count(const sbx_report *report);

/**
 * The stable name of a check, borrowed from the report; `index` counts from 0. NULL beyond the last.
 */
const char *sbx_report_name_at(const sbx_report *report,
                               size_t index);

/**
 * The state of a check; SBX_CHECK_SKIPPED beyond the last.
 */
sbx_check_state sbx_report_state_at(const sbx_report *report,
                                    size_t index);

/**
 * What a check found, on one line, borrowed from the report. NULL beyond the last.
 */
const char *sbx_report_found_at(const sbx_report *report,
                                size_t index);

/**
 * What may be done about what a check found, to be pasted into a shell as far as it is a command, borrowed from the
 * report; empty if nothing is to be done. NULL beyond the last.
 */
const char *sbx_report_fix_at(const sbx_report *report,
                              size_t index);

/**
 * Frees a report.
 */
void sbx_report_free(sbx_report *report);

/** \} */

/**
 * \defgroup sbx_error Statuses and the error handle
 * \{
 */

/**
 * The name of a status, such as "SBX_ERR_NOT_FOUND"; NULL for a number that is none. The text is static.
 */
const char *sbx_status_name(int32_t status);

/**
 * How many statuses there are, SBX_OK included; see sbx_status_at().
 */
size_t sbx_status_count(void);

/**
 * The statuses one by one, for bindings that check that they know all: `index` counts from 0. SBX_OK beyond the last.
 */
SBX_NODISCARD
sbx_status sbx_status_at(size_t index);

/**
 * The status that came with this error; SBX_OK for NULL.
 */
SBX_NODISCARD
sbx_status sbx_error_status(const sbx_error *error);

/**
 * The complete message on one line, without secrets: the operation, the sandbox, what happened, and what Kubernetes
 * reports. NULL only if `error` is NULL.
 */
const char *sbx_error_message(const sbx_error *error);

/**
 * The operation that failed, such as "create sandbox"; "" if there is none.
 */
const char *sbx_error_operation(const sbx_error *error);

/**
 * The name of the sandbox that it was tried on, or NULL.
 */
const char *sbx_error_sandbox(const sbx_error *error);

/**
 * True if the same call may succeed later and is safe to repeat, because no request had been sent to the sandbox.
 */
bool sbx_error_is_retryable(const sbx_error *error);

/**
 * The HTTP status of the API server's answer, if that was a failure; else 0.
 */
int32_t sbx_error_http_status(const sbx_error *error);

/**
 * libssh2's error number (negative), or the SFTP status code (positive) of a server that reports no errno; else 0.
 */
int32_t sbx_error_ssh_code(const sbx_error *error);

/**
 * The error number of Linux, such as ENOENT, if a system call on a file failed in the sandbox or on this machine, or
 * if one is why a command did not run; else 0.
 */
int32_t sbx_error_errno(const sbx_error *error);

/**
 * Why the Pod can't start or has stopped, according to Kubernetes; SBX_CAUSE_NONE if that is not the cause of the
 * error.
 */
sbx_cause sbx_error_verdict_cause(const sbx_error *error);

/**
 * Kubernetes' own reason, such as "ErrImagePull"; may be empty. NULL without a verdict.
 */
const char *sbx_error_verdict_reason(const sbx_error *error);

/**
 * Kubernetes' explanation on one line; may be empty. NULL without a verdict.
 */
const char *sbx_error_verdict_message(const sbx_error *error);

/**
 * What a command had written to its standard output when it was stopped, failed or was lost: bytes borrowed from the
 * error, their number in `*len`. NULL and 0 if the error has no output. `len` may be NULL.
 */
const uint8_t *sbx_error_stdout(const sbx_error *error,
                                size_t *len);

/**
 * As sbx_error_stdout(), for the standard error.
 */
const uint8_t *sbx_error_stderr(const sbx_error *error,
                                size_t *len);

/**
 * Frees an error and all that was borrowed from it.
 */
void sbx_error_free(sbx_error *error);

/** \} */

/**
 * \defgroup sbx_forward Local ports whose connections end in a sandbox
 * \{
 */

/**
 * Where it listens, such as "127.0.0.1:8080" with the port that the system has chosen for 0, or a path.
 */
const char *sbx_forward_local(const sbx_forward *forward);

/**
 * The local port; 0 for a Unix socket and for NULL.
 */
uint16_t sbx_forward_port(const sbx_forward *forward);

/**
 * Connections that there are at this moment; 0 for NULL.
 */
size_t sbx_forward_connections(const sbx_forward *forward);

/**
 * Whether it still listens; false for NULL.
 */
bool sbx_forward_is_open(const sbx_forward *forward);

/**
 * Returns true if a connection has failed, and then sets `*failure` to the error of the last one, such as
 * SBX_ERR_REFUSED because nothing listened in the sandbox. A connection that its local side breaks off does not count
 * as failed. The caller frees `*failure` with sbx_error_free(); `failure` may be NULL.
 */
bool sbx_forward_last_failure(const sbx_forward *forward,
                              sbx_error **failure);

/**
 * Waits until it has ended. SBX_OK if another thread has closed it.
 *
 * Else the reason: SBX_ERR_NOT_FOUND, SBX_ERR_CLOSED or SBX_ERR_DISCONNECTED with the verdict where there is one,
 * because the Pod is gone or its sandbox was deleted.
 */
SBX_NODISCARD
sbx_status sbx_forward_wait(const sbx_forward *forward,
                            sbx_error **err);

/**
 * Stops listening and breaks the open connections, for which it waits up to 2 seconds. Does nothing if it is closed
 * already.
 */
void sbx_forward_close(const sbx_forward *forward);

/**
 * Frees a forward, and closes it as sbx_forward_close() does if it is open. No other thread may use it.
 */
void sbx_forward_free(sbx_forward *forward);

/** \} */

/**
 * \defgroup sbx_open_file Open files of a sandbox
 * \{
 */

/**
 * Opens a file with the sbx_open `flags`. A new file gets the permission bits `mode`, such as 0644, minus the
 * sandbox's umask. The caller closes it with sbx_file_close() and frees it with sbx_file_free(). Fails as
 * sbx_sandbox_upload_file(); SBX_ERR_FILE_EXISTS if SBX_OPEN_CREATE_NEW is set and the file exists.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_open_file(const sbx_sandbox *sandbox,
                                 const char *path,
                                 int32_t flags,
                                 uint32_t mode,
                                 sbx_file **file,
                                 sbx_error **err);

/**
 * Reads from the current position into the `capacity` bytes at `buffer`, and sets `*len` to their number: 0 at the end
 * of the file, else 1 or more, possibly fewer than the file has. Fails as sbx_sandbox_upload_file();
 * SBX_ERR_INVALID_ARGUMENT if `capacity` is 0.
 */
SBX_NODISCARD
sbx_status sbx_file_read(const sbx_file *file,
                         uint8_t *buffer,
                         size_t capacity,
                         size_t *len,
                         sbx_error **err);

/**
 * Writes all `len` bytes at `data` at the current position, or at the end of a file opened with SBX_OPEN_APPEND.
 * `data` may be NULL if `len` is 0. Fails as sbx_sandbox_upload_file(); some of the bytes may be written then.
 */
SBX_NODISCARD
sbx_status sbx_file_write(const sbx_file *file,
                          const uint8_t *data,
                          size_t len,
                          sbx_error **err);

/**
 * Sets the position to `offset` bytes from where the sbx_seek `whence` says, and puts the new one into `*position`,
 * which may be NULL. Fails as sbx_sandbox_upload_file().
 */
SBX_NODISCARD
sbx_status sbx_file_seek(const sbx_file *file,
                         int64_t offset,
                         int32_t whence,
                         uint64_t *position,
                         sbx_error **err);

/**
 * Gets the file's metadata. The caller frees it with sbx_metadata_free(). Fails as sbx_sandbox_upload_file().
 */
SBX_NODISCARD
sbx_status sbx_file_metadata(const sbx_file *file,
                             sbx_metadata **metadata,
                             sbx_error **err);

/**
 * Truncates the file to `size` bytes, or extends it with zeros. Fails as sbx_sandbox_upload_file().
 */
SBX_NODISCARD
sbx_status sbx_file_set_size(const sbx_file *file,
                             uint64_t size,
                             sbx_error **err);

/**
 * Sets its permission bits, such as 0755. Fails as sbx_sandbox_upload_file().
 */
SBX_NODISCARD
sbx_status sbx_file_set_permissions(const sbx_file *file,
                                    uint32_t mode,
                                    sbx_error **err);

/**
 * Syncs the file's contents to the sandbox's disk (fsync). Fails as sbx_sandbox_upload_file(); SBX_ERR_TRANSFER if the
 * file system does not support it.
 */
SBX_NODISCARD
sbx_status sbx_file_sync(const sbx_file *file,
                         sbx_error **err);

/**
 * Closes the file and reports write errors; some file systems report them only on close. The handle must still be
 * freed. Fails as sbx_sandbox_upload_file(); SBX_ERR_CLOSED if it was closed before.
 */
SBX_NODISCARD
sbx_status sbx_file_close(const sbx_file *file,
                          sbx_error **err);

/**
 * Frees a file, and closes it if it is open, which takes up to 2 seconds.
 */
void sbx_file_free(sbx_file *file);

/** \} */

/**
 * \defgroup sbx_files Files of a sandbox, by their paths
 * \{
 */

/**
 * Copies the local file `local` to `remote` in the sandbox, with its permission bits, and puts the number of bytes
 * into `*size`, which may be NULL. Paths are bytes; a relative `remote` begins at the image's working directory. The
 * file arrives whole or not at all.
 *
 * All functions for files fail in the same ways. Errors of the system, for the file in the sandbox or the local file
 * (the message says which): SBX_ERR_FILE_NOT_FOUND, SBX_ERR_FILE_EXISTS, SBX_ERR_IS_A_DIRECTORY,
 * SBX_ERR_NOT_A_DIRECTORY, SBX_ERR_DIRECTORY_NOT_EMPTY, SBX_ERR_PERMISSION_DENIED, SBX_ERR_READ_ONLY, SBX_ERR_BUSY,
 * SBX_ERR_NAME_TOO_LONG, SBX_ERR_STORAGE_FULL, and SBX_ERR_TRANSFER for all others; sbx_error_errno() has the number.
 * SBX_ERR_INVALID_ARGUMENT for an invalid path, SBX_ERR_NOT_FOUND if the sandbox is gone, SBX_ERR_TIMED_OUT after the
 * configured transfer_timeout, which applies to each call. After a lost connection: SBX_ERR_DISCONNECTED if the call
 * is safe to repeat, SBX_ERR_OUTCOME_UNKNOWN if the change may have been made. The message names the file.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_upload_file(const sbx_sandbox *sandbox,
                                   const char *local,
                                   const char *remote,
                                   uint64_t *size,
                                   sbx_error **err);

/**
 * Copies `remote` in the sandbox to the local file `local`; otherwise as sbx_sandbox_upload_file().
 */
SBX_NODISCARD
sbx_status sbx_sandbox_download_file(const sbx_sandbox *sandbox,
                                     const char *remote,
                                     const char *local,
                                     uint64_t *size,
                                     sbx_error **err);

/**
 * Writes `len` bytes at `data` to the file `remote` in the sandbox, which gets permissions rw-rw-rw- minus the
 * sandbox's umask if it is new. `data` may be NULL if `len` is 0. Otherwise as sbx_sandbox_upload_file().
 */
SBX_NODISCARD
sbx_status sbx_sandbox_write_file(const sbx_sandbox *sandbox,
                                  const char *remote,
                                  const uint8_t *data,
                                  size_t len,
                                  sbx_error **err);

/**
 * Reads the file `remote` in the sandbox, of 1 GiB at most. The caller frees the bytes with sbx_bytes_free(). Fails as
 * sbx_sandbox_upload_file().
 */
SBX_NODISCARD
sbx_status sbx_sandbox_read_file(const sbx_sandbox *sandbox,
                                 const char *remote,
                                 sbx_bytes **bytes,
                                 sbx_error **err);

/**
 * The bytes, borrowed from the handle, and their number in `*len`; they are followed by a NUL. `len` may be NULL.
 * Returns NULL, with 0 in `*len`, only if the handle is NULL.
 */
const uint8_t *sbx_bytes_data(const sbx_bytes *bytes,
                              size_t *len);

/**
 * Frees bytes.
 */
void sbx_bytes_free(sbx_bytes *bytes);

/**
 * Writes `len` bytes at `data` at the end of the file `remote`, which is created as by sbx_sandbox_write_file() if it
 * does not exist. After a failure some of the bytes may have been written. `data` may be NULL if `len` is 0. Fails as
 * sbx_sandbox_upload_file().
 */
SBX_NODISCARD
sbx_status sbx_sandbox_append_file(const sbx_sandbox *sandbox,
                                   const char *remote,
                                   const uint8_t *data,
                                   size_t len,
                                   sbx_error **err);

/**
 * Gets the metadata of a file; links are followed. The caller frees it with sbx_metadata_free(). Fails as
 * sbx_sandbox_upload_file().
 */
SBX_NODISCARD
sbx_status sbx_sandbox_file_metadata(const sbx_sandbox *sandbox,
                                     const char *path,
                                     sbx_metadata **metadata,
                                     sbx_error **err);

/**
 * As sbx_sandbox_file_metadata(), but does not follow a link.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_symlink_metadata(const sbx_sandbox *sandbox,
                                        const char *path,
                                        sbx_metadata **metadata,
                                        sbx_error **err);

/**
 * Sets `*exists` to whether the file exists; links are followed, so a broken link does not exist. Fails as
 * sbx_sandbox_upload_file(), except that a missing file is no error.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_file_exists(const sbx_sandbox *sandbox,
                                   const char *path,
                                   bool *exists,
                                   sbx_error **err);

/**
 * Lists all entries of a directory except "." and "..", in no particular order. The caller frees the list with
 * sbx_dir_entries_free(). Fails as sbx_sandbox_upload_file(); SBX_ERR_TRANSFER for more than 1048576 entries or 64 MiB
 * of names.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_read_dir(const sbx_sandbox *sandbox,
                                const char *path,
                                sbx_dir_entries **entries,
                                sbx_error **err);

/**
 * Creates a directory. Fails as sbx_sandbox_upload_file(); SBX_ERR_FILE_EXISTS if the name exists.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_create_dir(const sbx_sandbox *sandbox,
                                  const char *path,
                                  sbx_error **err);

/**
 * Creates a directory and its missing parents. Fails as sbx_sandbox_upload_file(); SBX_ERR_FILE_EXISTS if the name
 * exists and is not a directory, SBX_ERR_NOT_A_DIRECTORY if a parent is not a directory.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_create_dir_all(const sbx_sandbox *sandbox,
                                      const char *path,
                                      sbx_error **err);

/**
 * Removes a file, or a link itself. Fails as sbx_sandbox_upload_file(); SBX_ERR_IS_A_DIRECTORY for a directory.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_remove_file(const sbx_sandbox *sandbox,
                                   const char *path,
                                   sbx_error **err);

/**
 * Removes an empty directory. Fails as sbx_sandbox_upload_file(); SBX_ERR_DIRECTORY_NOT_EMPTY if it is not empty,
 * SBX_ERR_NOT_A_DIRECTORY if it is not a directory.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_remove_dir(const sbx_sandbox *sandbox,
                                  const char *path,
                                  sbx_error **err);

/**
 * Removes a directory and all that is in it. Links are removed, not followed. Fails as sbx_sandbox_upload_file();
 * SBX_ERR_NOT_A_DIRECTORY if it is not a directory. After a failure, part of the contents may be removed.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_remove_dir_all(const sbx_sandbox *sandbox,
                                      const char *path,
                                      sbx_error **err);

/**
 * Renames a file or directory, atomically. An existing file of the new name is replaced; a directory replaces an empty
 * directory. Fails as sbx_sandbox_upload_file(); SBX_ERR_IS_A_DIRECTORY, SBX_ERR_NOT_A_DIRECTORY or
 * SBX_ERR_DIRECTORY_NOT_EMPTY if the target can't be replaced, SBX_ERR_TRANSFER with EXDEV if the names are on
 * different file systems.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_rename_file(const sbx_sandbox *sandbox,
                                   const char *from,
                                   const char *to,
                                   sbx_error **err);

/**
 * Sets the permission bits, such as 0755; links are followed. Fails as sbx_sandbox_upload_file().
 */
SBX_NODISCARD
sbx_status sbx_sandbox_set_file_permissions(const sbx_sandbox *sandbox,
                                            const char *path,
                                            uint32_t mode,
                                            sbx_error **err);

/**
 * Makes the symbolic link `link` that points to `original`, which need not exist. Fails as sbx_sandbox_upload_file();
 * SBX_ERR_FILE_EXISTS if the name exists.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_create_symlink(const sbx_sandbox *sandbox,
                                      const char *original,
                                      const char *link,
                                      sbx_error **err);

/**
 * Reads the target of a symbolic link. The caller frees the bytes with sbx_bytes_free(). Fails as
 * sbx_sandbox_upload_file(); SBX_ERR_TRANSFER with EINVAL if the path is not a link.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_read_link(const sbx_sandbox *sandbox,
                                 const char *path,
                                 sbx_bytes **bytes,
                                 sbx_error **err);

/**
 * Resolves a path to an absolute one without links, "." and "..". The caller frees the bytes with sbx_bytes_free().
 * Fails as sbx_sandbox_upload_file().
 */
SBX_NODISCARD
sbx_status sbx_sandbox_resolve_path(const sbx_sandbox *sandbox,
                                    const char *path,
                                    sbx_bytes **bytes,
                                    sbx_error **err);

/**
 * What it is; SBX_FILE_KIND_UNKNOWN for NULL.
 */
sbx_file_kind sbx_metadata_kind(const sbx_metadata *metadata);

/**
 * Its size in bytes; 0 for NULL. Generated files, such as those in /proc, have size 0.
 */
uint64_t sbx_metadata_size(const sbx_metadata *metadata);

/**
 * Its permission bits, such as 0644, with those for set-user-id, set-group-id and sticky; 0 for NULL.
 */
uint32_t sbx_metadata_mode(const sbx_metadata *metadata);

/**
 * True, and when its contents were changed last in `*unix_seconds`, if that is known. `unix_seconds` may be NULL.
 */
bool sbx_metadata_modified(const sbx_metadata *metadata,
                           int64_t *unix_seconds);

/**
 * True, and when it was read last in `*unix_seconds`, if that is known. `unix_seconds` may be NULL.
 */
bool sbx_metadata_accessed(const sbx_metadata *metadata,
                           int64_t *unix_seconds);

/**
 * Frees metadata that was not borrowed from a list.
 */
void sbx_metadata_free(sbx_metadata *metadata);

/**
 * How many entries there are; 0 for NULL.
 */
size_t sbx_dir_entries_count(const sbx_dir_entries *entries);

/**
 * The name of an entry: bytes without '/', borrowed from the list; `index` counts from 0. NULL beyond the last.
 */
const char *sbx_dir_entries_name_at(const sbx_dir_entries *entries,
                                    size_t index);

/**
 * The metadata of an entry, of the link itself if it is one; borrowed from the list. `index` counts from 0. NULL
 * beyond the last.
 */
const sbx_metadata *sbx_dir_entries_metadata_at(const sbx_dir_entries *entries,
                                                size_t index);

/**
 * Frees a list of entries and what was borrowed from it.
 */
void sbx_dir_entries_free(sbx_dir_entries *entries);

/** \} */

/**
 * \defgroup sbx_filter Which sandboxes are meant
 * \{
 */

/**
 * Makes a filter for all sandboxes of the namespace, whoever owns them. The caller frees it with sbx_filter_free().
 */
SBX_NODISCARD
sbx_status sbx_filter_new(sbx_filter **filter,
                          sbx_error **err);

/**
 * Only those of this owner.
 */
SBX_NODISCARD
sbx_status sbx_filter_set_owner(sbx_filter *filter,
                                const char *owner,
                                sbx_error **err);

/**
 * Only those whose Pod has this Kubernetes label with this value. Of several labels, all must be there.
 */
SBX_NODISCARD
sbx_status sbx_filter_set_label(sbx_filter *filter,
                                const char *name,
                                const char *value,
                                sbx_error **err);

/**
 * Only those in this phase, an sbx_phase; called several times, in one of these.
 */
SBX_NODISCARD
sbx_status sbx_filter_add_phase(sbx_filter *filter,
                                int32_t phase,
                                sbx_error **err);

/**
 * Only those that were created more than so many seconds ago. Kubernetes tells that time in whole seconds, and the API
 * server's clock tells how long ago it was.
 */
SBX_NODISCARD
sbx_status sbx_filter_set_older_than(sbx_filter *filter,
                                     double seconds,
                                     sbx_error **err);

/**
 * Only those that were created at most so many seconds ago, which is all that sbx_filter_set_older_than() with the
 * same number leaves out.
 */
SBX_NODISCARD
sbx_status sbx_filter_set_younger_than(sbx_filter *filter,
                                       double seconds,
                                       sbx_error **err);

/**
 * Frees a filter.
 */
void sbx_filter_free(sbx_filter *filter);

/** \} */

/**
 * \defgroup sbx_info What Kubernetes says about sandboxes
 * \{
 */

/**
 * Name of the sandbox and of its Pod.
 */
const char *sbx_info_name(const sbx_info *info);

/**
 * Namespace of the Pod.
 */
const char *sbx_info_namespace(const sbx_info *info);

/**
 * Kubernetes' unique id of the Pod; another Pod of the same name has another one.
 */
const char *sbx_info_uid(const sbx_info *info);

/**
 * The phase of the Pod; SBX_PHASE_UNKNOWN for NULL.
 */
sbx_phase sbx_info_phase(const sbx_info *info);

/**
 * The owner that its creator was configured with.
 */
const char *sbx_info_owner(const sbx_info *info);

/**
 * The image it runs.
 */
const char *sbx_info_image(const sbx_info *info);

/**
 * The node it runs on; NULL until one is chosen.
 */
const char *sbx_info_node(const sbx_info *info);

/**
 * The Pod's address as text; NULL until it has one.
 */
const char *sbx_info_pod_ip(const sbx_info *info);

/**
 * Port of the SSH server; 0 for NULL.
 */
uint16_t sbx_info_ssh_port(const sbx_info *info);

/**
 * User name for SSH.
 */
const char *sbx_info_ssh_user(const sbx_info *info);

/**
 * The SSH server's host key, as OpenSSH writes it; NULL until it is pinned.
 */
const char *sbx_info_host_key(const sbx_info *info);

/**
 * True, and when it was created in `*unix_seconds`, if that is known. `unix_seconds` may be NULL.
 */
bool sbx_info_created_at(const sbx_info *info,
                         int64_t *unix_seconds);

/**
 * True, and when it expires in `*unix_seconds`, unless it never does. `unix_seconds` may be NULL.
 */
bool sbx_info_expires_at(const sbx_info *info,
                         int64_t *unix_seconds);

/**
 * The value of the Pod's label `name`; NULL if it has no such label.
 */
const char *sbx_info_label(const sbx_info *info,
                           const char *name);

/**
 * How many labels the Pod has.
 */
size_t sbx_info_label_count(const sbx_info *info);

/**
 * The name of a label; `index` counts from 0. NULL beyond the last.
 */
const char *sbx_info_label_name_at(const sbx_info *info,
                                   size_t index);

/**
 * The value of a label; `index` counts from 0. NULL beyond the last.
 */
const char *sbx_info_label_value_at(const sbx_info *info,
                                    size_t index);

/**
 * Why the Pod has stopped or can't start; SBX_CAUSE_NONE if neither is the case.
 */
sbx_cause sbx_info_verdict_cause(const sbx_info *info);

/**
 * Kubernetes' own reason, such as "OOMKilled"; may be empty. NULL without a verdict.
 */
const char *sbx_info_verdict_reason(const sbx_info *info);

/**
 * Kubernetes' explanation on one line; may be empty. NULL without a verdict.
 */
const char *sbx_info_verdict_message(const sbx_info *info);

/**
 * Frees an info that was not borrowed from a list.
 */
void sbx_info_free(sbx_info *info);

/**
 * How many infos the list has; 0 for NULL.
 */
size_t sbx_info_list_count(const sbx_info_list *list);

/**
 * One of the list's infos, borrowed from the list; `index` counts from 0. NULL beyond the last.
 */
const sbx_info *sbx_info_list_at(const sbx_info_list *list,
                                 size_t index);

/**
 * Frees a list and the infos in it.
 */
void sbx_info_list_free(sbx_info_list *list);

/**
 * How many names the list has; 0 for NULL.
 */
size_t sbx_name_list_count(const sbx_name_list *names);

/**
 * One of the names, borrowed from the list; `index` counts from 0. NULL beyond the last.
 */
const char *sbx_name_list_at(const sbx_name_list *names,
                             size_t index);

/**
 * Frees a list of names.
 */
void sbx_name_list_free(sbx_name_list *names);

/** \} */

/**
 * \defgroup sbx_keys Keys with which somebody else may log in
 * \{
 */

/**
 * Lets somebody else log in to the sandbox with OpenSSH's programs, who has the private key of `key`: a line as in
 * `authorized_keys`, without options. It is good for `seconds` from now; a negative number is as long as the sandbox
 * lives. The same key once more is good for that time from then on. Whoever logs in with it can do there what this
 * client can, but let nobody else in.
 *
 * SBX_ERR_INVALID_ARGUMENT if this is no public key, of the kinds ed25519, ECDSA P-256 and RSA; SBX_ERR_CONFLICT if it
 * is the key of a client of this library; SBX_ERR_PERMISSION_DENIED if this client itself was let in so. Else as
 * sbx_sandbox_execute().
 */
SBX_NODISCARD
sbx_status sbx_sandbox_authorize_key(const sbx_sandbox *sandbox,
                                     const char *key,
                                     double seconds,
                                     sbx_error **err);

/**
 * The keys that sbx_sandbox_authorize_key() let in, by whichever client, and that may log in now. The caller frees
 * them with sbx_key_list_free().
 *
 * As sbx_sandbox_execute().
 */
SBX_NODISCARD
sbx_status sbx_sandbox_authorized_keys(const sbx_sandbox *sandbox,
                                       sbx_key_list **keys,
                                       sbx_error **err);

/**
 * Lets such a key log in no longer, and closes the connections that were made with it. `*was_there`, which may be
 * NULL, says whether it could log in. The comment of `key` does not matter.
 *
 * As sbx_sandbox_authorize_key().
 */
SBX_NODISCARD
sbx_status sbx_sandbox_revoke_key(const sbx_sandbox *sandbox,
                                  const char *key,
                                  bool *was_there,
                                  sbx_error **err);

/**
 * How many keys there are; 0 for NULL.
 */
size_t sbx_key_list_count(const sbx_key_list *keys);

/**
 * A key as a line of `authorized_keys`, with its comment; `index` counts from 0. NULL beyond the last.
 */
const char *sbx_key_list_key_at(const sbx_key_list *keys,
                                size_t index);

/**
 * True, and for how long it may log in yet in `*seconds`, if a key does not stay as long as the sandbox. `seconds` may
 * be NULL.
 */
bool sbx_key_list_remaining_at(const sbx_key_list *keys,
                               size_t index,
                               double *seconds);

/**
 * Frees what sbx_sandbox_authorized_keys() gave out.
 */
void sbx_key_list_free(sbx_key_list *keys);

/** \} */

/**
 * \defgroup sbx_logging Log lines for a program's own logger
 * \{
 */

/**
 * Passes the library's log lines, up to the sbx_log_level `level`, to `receive` with `userdata` as its first argument.
 * This holds for all clients of the process, until it is called again; NULL stops it. An earlier function is replaced:
 * once this returns, it is not called any more, and its `userdata` may be freed. Without this and
 * sbx_config_init_logging() the library writes nothing.
 *
 * SBX_ERR_INVALID_ARGUMENT if it is called by such a function; SBX_ERR_TIMED_OUT if the function to be replaced does
 * not return within 5 seconds.
 */
SBX_NODISCARD
sbx_status sbx_log_set_handler(int32_t level,
                               sbx_log_fn receive,
                               void *userdata,
                               sbx_error **err);

/** \} */

/**
 * \defgroup sbx_pool Warm pools
 * \{
 */

/**
 * Makes options with the defaults: 4 sandboxes, an idle lifetime of one hour, filled by sbx_pool_fill() only. The
 * caller frees them with sbx_pool_options_free().
 */
SBX_NODISCARD
sbx_status sbx_pool_options_new(sbx_pool_options **options,
                                sbx_error **err);

/**
 * How many sandboxes are kept ready, 0 to 10,000. If several processes fill the pool, the largest size applies. After
 * the size was lowered, surplus sandboxes stay until they are claimed or reach their idle lifetime. Default: 4.
 */
SBX_NODISCARD
sbx_status sbx_pool_options_set_size(sbx_pool_options *options,
                                     size_t size,
                                     sbx_error **err);

/**
 * How many seconds a sandbox waits to be claimed before it is replaced; at least 10. It stops by itself then, even if
 * no process fills the pool. Default: 3600.
 */
SBX_NODISCARD
sbx_status sbx_pool_options_set_idle_lifetime(sbx_pool_options *options,
                                              double seconds,
                                              sbx_error **err);

/**
 * How many sandboxes the handle makes at the same time, 1 to 256. Default: 4.
 */
SBX_NODISCARD
sbx_status sbx_pool_options_set_creates_at_once(sbx_pool_options *options,
                                                size_t creates,
                                                sbx_error **err);

/**
 * How many sandboxes the handle begins to make in a second, more than 0. Default: 10.
 */
SBX_NODISCARD
sbx_status sbx_pool_options_set_creates_per_second(sbx_pool_options *options,
                                                   double creates,
                                                   sbx_error **err);

/**
 * Whether the pool is kept filled by a thread of its own for as long as the handle lives. Default: false, only
 * sbx_pool_fill() fills it.
 */
SBX_NODISCARD
sbx_status sbx_pool_options_set_keep_filled(sbx_pool_options *options,
                                            bool keep,
                                            sbx_error **err);

/**
 * Frees options.
 */
void sbx_pool_options_free(sbx_pool_options *options);

/**
 * Makes a claim for a sandbox as the pool's spec has it. The caller frees it with sbx_claim_free().
 */
SBX_NODISCARD
sbx_status sbx_claim_new(sbx_claim **claim,
                         sbx_error **err);

/**
 * An environment variable for all later commands in the sandbox, whoever runs them. It overrides one of the spec.
 */
SBX_NODISCARD
sbx_status sbx_claim_set_env(sbx_claim *claim,
                             const char *name,
                             const char *value,
                             sbx_error **err);

/**
 * A Kubernetes label on the Pod.
 */
SBX_NODISCARD
sbx_status sbx_claim_set_label(sbx_claim *claim,
                               const char *name,
                               const char *value,
                               sbx_error **err);

/**
 * A Kubernetes annotation on the Pod.
 */
SBX_NODISCARD
sbx_status sbx_claim_set_annotation(sbx_claim *claim,
                                    const char *name,
                                    const char *value,
                                    sbx_error **err);

/**
 * Seconds until the sandbox expires, from the claim on; a negative number for never. Default: that of the pool's spec,
 * else the configured one.
 */
SBX_NODISCARD
sbx_status sbx_claim_set_lifetime(sbx_claim *claim,
                                  double seconds,
                                  sbx_error **err);

/**
 * The new owner of the sandbox. Default: the configured owner of the client that claims.
 */
SBX_NODISCARD
sbx_status sbx_claim_set_owner(sbx_claim *claim,
                               const char *owner,
                               sbx_error **err);

/**
 * A file to write before sbx_pool_claim() returns, with `len` bytes at `data`, which may be NULL if `len` is 0.
 */
SBX_NODISCARD
sbx_status sbx_claim_add_file(sbx_claim *claim,
                              const char *remote,
                              const uint8_t *data,
                              size_t len,
                              sbx_error **err);

/**
 * What to do if nothing is ready: an sbx_on_miss. Default: SBX_ON_MISS_CREATE.
 */
SBX_NODISCARD
sbx_status sbx_claim_set_on_miss(sbx_claim *claim,
                                 int32_t on_miss,
                                 sbx_error **err);

/**
 * Frees a claim.
 */
void sbx_claim_free(sbx_claim *claim);

/**
 * Makes a handle for the pool of this name, for sandboxes of this spec. It makes no API call. `spec` and `options` may
 * be NULL for the defaults. The caller frees it with sbx_pool_free().
 *
 * SBX_ERR_INVALID_ARGUMENT if the name (at most 36 lower-case letters, digits and '-'), the spec (which must not have
 * a name) or the options are invalid.
 */
SBX_NODISCARD
sbx_status sbx_client_pool(const sbx_client *client,
                           const char *name,
                           const sbx_spec *spec,
                           const sbx_pool_options *options,
                           sbx_pool **pool,
                           sbx_error **err);

/**
 * The name of the pool.
 */
const char *sbx_pool_name(const sbx_pool *pool);

/**
 * Creates the sandboxes that the pool lacks, and deletes those that have ended, are too old, or were made from an
 * older spec. Returns when that is done. Sets `*created` and `*retired`, which may be NULL, to how many were created
 * and deleted.
 *
 * Fails as sbx_client_create(), with the first error; after that no further sandbox is begun. SBX_ERR_CONFLICT if
 * another process fills the pool from a newer spec.
 */
SBX_NODISCARD
sbx_status sbx_pool_fill(const sbx_pool *pool,
                         size_t *created,
                         size_t *retired,
                         sbx_error **err);

/**
 * Takes a ready sandbox out of the pool, or does what sbx_claim_set_on_miss() says if there is none;
 * sbx_sandbox_origin() tells which. `claim` may be NULL for the defaults. A claim that fails leaves no sandbox behind.
 * The caller frees the handle with sbx_sandbox_free(), and deletes the sandbox with sbx_sandbox_delete().
 *
 * SBX_ERR_POOL_EMPTY and SBX_ERR_TIMED_OUT as sbx_on_miss says; SBX_ERR_PERMISSION_DENIED if the sandboxes were made
 * with another SSH key and this client has no right to pods/exec; otherwise as sbx_client_create() and
 * sbx_sandbox_write_file().
 */
SBX_NODISCARD
sbx_status sbx_pool_claim(const sbx_pool *pool,
                          const sbx_claim *claim,
                          sbx_sandbox **sandbox,
                          sbx_error **err);

/**
 * Gets the state of the pool: one API call. The caller frees it with sbx_pool_state_free().
 *
 * SBX_ERR_PERMISSION_DENIED and SBX_ERR_UNAVAILABLE from the API server.
 */
SBX_NODISCARD
sbx_status sbx_pool_status(const sbx_pool *pool,
                           sbx_pool_state **state,
                           sbx_error **err);

/**
 * The value of one of this handle's counters, an sbx_pool_counter_kind; 0 for NULL and for an unknown number.
 */
uint64_t sbx_pool_counter(const sbx_pool *pool,
                          int32_t kind);

/**
 * Deletes all unclaimed sandboxes of the pool without waiting until they are gone, and sets `*deleted`, which may be
 * NULL, to their number. This handle stops filling the pool in the background; other processes that fill it will do so
 * again.
 *
 * Fails with the first error of the API server; the other sandboxes are deleted all the same.
 */
SBX_NODISCARD
sbx_status sbx_pool_drain(const sbx_pool *pool,
                          size_t *deleted,
                          sbx_error **err);

/**
 * As sbx_pool_drain(), and waits until the sandboxes are gone. Claimed sandboxes stay.
 *
 * SBX_ERR_CONFLICT if sandboxes are still there after a minute, for example because another process fills the pool;
 * otherwise as sbx_pool_drain().
 */
SBX_NODISCARD
sbx_status sbx_pool_remove(const sbx_pool *pool,
                           size_t *deleted,
                           sbx_error **err);

/**
 * Frees a pool's handle. If the handle keeps the pool filled, that ends, and sandboxes that are half created are
 * deleted, which takes up to 10 seconds if the API server does not answer.
 */
void sbx_pool_free(sbx_pool *pool);

/**
 * Sandboxes that can be claimed; 0 for NULL, as in the next ones.
 */
size_t sbx_pool_state_ready(const sbx_pool_state *state);

/**
 * Sandboxes that are being made.
 */
size_t sbx_pool_state_filling(const sbx_pool_state *state);

/**
 * Sandboxes that were claimed and still exist.
 */
size_t sbx_pool_state_claimed(const sbx_pool_state *state);

/**
 * Sandboxes that have ended or are being deleted, and were not claimed.
 */
size_t sbx_pool_state_ending(const sbx_pool_state *state);

/**
 * Sandboxes of other specs, not claimed.
 */
size_t sbx_pool_state_foreign(const sbx_pool_state *state);

/**
 * True, and when the oldest one that can be claimed was made, if there is one. `time` may be NULL.
 */
bool sbx_pool_state_oldest(const sbx_pool_state *state,
                           int64_t *time);

/**
 * Why the pool is not full, as far as the Pods and this handle's own attempts show; NULL if no reason is known.
 */
const char *sbx_pool_state_held(const sbx_pool_state *state);

/**
 * Frees what sbx_pool_status() gave out.
 */
void sbx_pool_state_free(sbx_pool_state *state);

/** \} */

/**
 * \defgroup sbx_sandbox The handle of one sandbox
 * \{
 */

/**
 * Name of the sandbox and of its Pod.
 */
const char *sbx_sandbox_name(const sbx_sandbox *sandbox);

/**
 * Kubernetes' unique id of the Pod.
 */
const char *sbx_sandbox_uid(const sbx_sandbox *sandbox);

/**
 * Port of the SSH server, from the cache; 0 for NULL.
 */
uint16_t sbx_sandbox_ssh_port(const sbx_sandbox *sandbox);

/**
 * The SSH server's host key as it is pinned, as OpenSSH writes it; NULL before the first connection.
 */
const char *sbx_sandbox_host_key(const sbx_sandbox *sandbox);

/**
 * If this handle came from sbx_client_create() or sbx_pool_claim(), returns true and how long it took, in seconds from
 * the call, until the API server had stored the Pod or assigned it to this client (`accepted`), until the container
 * had started (`started`), and until the SSH login had succeeded (`logged_in`). Each of the three may be NULL.
 */
bool sbx_sandbox_timings(const sbx_sandbox *sandbox,
                         double *accepted,
                         double *started,
                         double *logged_in);

/**
 * Where the sandbox of this handle comes from; SBX_ORIGIN_ATTACHED for NULL.
 */
sbx_origin sbx_sandbox_origin(const sbx_sandbox *sandbox);

/**
 * How many idle and busy SSH sessions the client has to this sandbox at this moment. Each of the two may be NULL;
 * nothing is written if `sandbox` is.
 */
void sbx_sandbox_session_counts(const sbx_sandbox *sandbox,
                                size_t *idle,
                                size_t *busy);

/**
 * Asks Kubernetes about the sandbox: one API call. The caller frees the answer with sbx_info_free().
 *
 * SBX_ERR_NOT_FOUND if its Pod is gone, even if a new Pod has the same name.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_info(const sbx_sandbox *sandbox,
                            sbx_info **info,
                            sbx_error **err);

/**
 * Runs a command line in the sandbox's shell and collects its output, which the caller frees with sbx_output_free().
 * Short for sbx_sandbox_shell() and sbx_command_output(), whose errors it has.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_execute(const sbx_sandbox *sandbox,
                               const char *line,
                               sbx_output **output,
                               sbx_error **err);

/**
 * Makes a command: `program` is looked up in the PATH of the image and gets its arguments exactly as given. Nothing
 * runs yet. The caller frees it with sbx_command_free().
 */
SBX_NODISCARD
sbx_status sbx_sandbox_command(const sbx_sandbox *sandbox,
                               const char *program,
                               sbx_command **command,
                               sbx_error **err);

/**
 * Makes a command of a line for the sandbox's shell. Nothing runs yet. The caller frees it with sbx_command_free().
 */
SBX_NODISCARD
sbx_status sbx_sandbox_shell(const sbx_sandbox *sandbox,
                             const char *line,
                             sbx_command **command,
                             sbx_error **err);

/**
 * A handle for the command that sbx_command_detach() started under this key, in this process or another. No request is
 * sent: only the first use of the handle tells whether the command exists. The caller frees it with
 * sbx_detached_free().
 *
 * SBX_ERR_INVALID_ARGUMENT if the key is invalid.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_detached(const sbx_sandbox *sandbox,
                                const char *key,
                                sbx_detached **detached,
                                sbx_error **err);

/**
 * Connects to a TCP port of the sandbox's own loopback addresses, or to a Unix socket in it: `target` is a number such
 * as "8080", or a path with a slash. The server there may listen on a loopback address only.
 *
 * `*fd` is an ordinary TCP socket of this machine, which blocks and is closed on exec; the caller closes it with
 * close(). Its bytes go through an SSH session that all connections into the sandbox share. Each side can close its
 * half with shutdown(). If the connection breaks, on the way or in the sandbox, reads fail with ECONNRESET instead of
 * returning the end of the data. The socket stays usable after the handles are freed.
 *
 * SBX_ERR_REFUSED if nothing listens there; SBX_ERR_FILE_NOT_FOUND and SBX_ERR_PERMISSION_DENIED of a Unix socket;
 * SBX_ERR_TIMED_OUT after the client's time to connect; SBX_ERR_CONNECT and its like if the sandbox can't be reached.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_connect(const sbx_sandbox *sandbox,
                               const char *target,
                               int32_t *fd,
                               sbx_error **err);

/**
 * Listens on this machine and connects each connection to a port of the sandbox or a Unix socket in it, as
 * sbx_sandbox_connect() does and with its `target`. `local` is a port of 127.0.0.1 such as "8080", or ADDRESS:PORT
 * such as "0.0.0.0:8080", or a path with a slash, of which the file must not exist; port 0 is one that the system
 * chooses. It does not check whether anything listens in the sandbox; sbx_sandbox_wait_for_port() waits for that. The
 * caller frees it with sbx_forward_free().
 *
 * SBX_ERR_BUSY if the local port or file is in use; SBX_ERR_PERMISSION_DENIED if it may not be used; SBX_ERR_CONNECT
 * and its like if the sandbox can't be reached.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_forward(const sbx_sandbox *sandbox,
                               const char *local,
                               const char *target,
                               sbx_forward **forward,
                               sbx_error **err);

/**
 * Waits until something in the sandbox listens on a port or a Unix socket, at most `seconds`; a negative number waits
 * without a limit. `target` is as for sbx_sandbox_connect(). The check makes no connection to the server.
 *
 * SBX_ERR_TIMED_OUT if nothing listens there in time; SBX_ERR_CONNECT and its like if the sandbox can't be reached.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_wait_for_port(const sbx_sandbox *sandbox,
                                     const char *target,
                                     double seconds,
                                     sbx_error **err);

/**
 * Sets the sandbox's expiry to `seconds` from now, at least 1. It may be earlier than the current one, and never
 * exceeds the hard limit of the spec. Sets `*unix_seconds`, which may be NULL, to the new expiry.
 *
 * SBX_ERR_INVALID_ARGUMENT for less than a second; else as sbx_sandbox_execute() and, from the API server, as
 * sbx_client_list().
 */
SBX_NODISCARD
sbx_status sbx_sandbox_renew(const sbx_sandbox *sandbox,
                             double seconds,
                             int64_t *unix_seconds,
                             sbx_error **err);

/**
 * Deletes the sandbox and waits until its Pod is gone. Its handles must still be freed; other calls with them fail
 * with SBX_ERR_CLOSED.
 *
 * SBX_ERR_NOT_FOUND if it was gone already, SBX_ERR_DELETE if its end could not be confirmed in time.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_delete(const sbx_sandbox *sandbox,
                              sbx_error **err);

/**
 * An alias of sbx_sandbox_delete().
 */
SBX_NODISCARD
sbx_status sbx_sandbox_shutdown(const sbx_sandbox *sandbox,
                                sbx_error **err);

/**
 * Frees a handle. The sandbox stays.
 */
void sbx_sandbox_free(sbx_sandbox *sandbox);

/** \} */

/**
 * \defgroup sbx_spec What to create
 * \{
 */

/**
 * Makes a spec with the defaults: a name made up by the client, the configured image, 1 CPU, 1 GiB of memory. The
 * caller frees it with sbx_spec_free().
 */
SBX_NODISCARD
sbx_status sbx_spec_new(sbx_spec **spec,
                        sbx_error **err);

/**
 * Name of the sandbox and of its Pod: at most 63 lower-case letters, digits and '-'. Default: "sandbox-" and 16 random
 * hexadecimal digits.
 */
SBX_NODISCARD
sbx_status sbx_spec_set_name(sbx_spec *spec,
                             const char *value,
                             sbx_error **err);

/**
 * Image to run: any Linux image, without requirements, since the library brings the sandbox's main process (setting
 * "guest"). Its entry point is not used. Default: the configured image.
 */
SBX_NODISCARD
sbx_status sbx_spec_set_image(sbx_spec *spec,
                              const char *value,
                              sbx_error **err);

/**
 * An environment variable for everything that runs in the sandbox, on top of the image's own.
 */
SBX_NODISCARD
sbx_status sbx_spec_set_env(sbx_spec *spec,
                            const char *name,
                            const char *value,
                            sbx_error **err);

/**
 * A Kubernetes label on the Pod.
 */
SBX_NODISCARD
sbx_status sbx_spec_set_label(sbx_spec *spec,
                              const char *name,
                              const char *value,
                              sbx_error **err);

/**
 * A Kubernetes annotation on the Pod.
 */
SBX_NODISCARD
sbx_status sbx_spec_set_annotation(sbx_spec *spec,
                                   const char *name,
                                   const char *value,
                                   sbx_error **err);

/**
 * The most CPU it may use, as a Kubernetes quantity such as "500m" or "2". Default: "1".
 */
SBX_NODISCARD
sbx_status sbx_spec_set_cpu(sbx_spec *spec,
                            const char *value,
                            sbx_error **err);

/**
 * The CPU that the scheduler sets aside for it, as a Kubernetes quantity. Default: "10m".
 */
SBX_NODISCARD
sbx_status sbx_spec_set_cpu_request(sbx_spec *spec,
                                    const char *value,
                                    sbx_error **err);

/**
 * The most memory it may use, as a Kubernetes quantity such as "512Mi"; if it uses more, the kernel kills processes.
 * Default: "1Gi".
 */
SBX_NODISCARD
sbx_status sbx_spec_set_memory(sbx_spec *spec,
                               const char *value,
                               sbx_error **err);

/**
 * The memory that the scheduler sets aside for it, as a Kubernetes quantity. Default: "32Mi".
 */
SBX_NODISCARD
sbx_status sbx_spec_set_memory_request(sbx_spec *spec,
                                       const char *value,
                                       sbx_error **err);

/**
 * The most disk space that it may write, as a Kubernetes quantity; beyond it the node evicts the Pod. Default: no
 * limit.
 */
SBX_NODISCARD
sbx_status sbx_spec_set_disk(sbx_spec *spec,
                             const char *value,
                             sbx_error **err);

/**
 * Seconds until the sandbox expires: it stops by itself, and sbx_client_reap() deletes what is left.
 * sbx_sandbox_renew() moves it. A negative number for never. Default: the configured lifetime.
 */
SBX_NODISCARD
sbx_status sbx_spec_set_lifetime(sbx_spec *spec,
                                 double seconds,
                                 sbx_error **err);

/**
 * Seconds after which Kubernetes itself stops the Pod; no renewal moves it. A negative number for never. Default: 24
 * hours, or twice the lifetime if that is more; none for a sandbox that never expires.
 */
SBX_NODISCARD
sbx_status sbx_spec_set_hard_limit(sbx_spec *spec,
                                   double seconds,
                                   sbx_error **err);

/**
 * Seconds without use after which the sandbox stops by itself, as when it expires; whole ones, rounded up. A negative
 * number for never. In use is a sandbox in which a command runs, detached ones too, or of which a file or a connection
 * to a port is open; and whatever a client asks for, a renewal too, is a use at that moment. An idle SSH connection is
 * none. The sandbox itself keeps this time, whether its clients are there or not. Of a pool's members it begins with
 * the claim. Default: never.
 */
SBX_NODISCARD
sbx_status sbx_spec_set_idle_timeout(sbx_spec *spec,
                                     double seconds,
                                     sbx_error **err);

/**
 * Lets the cluster or the image choose the user and group that the sandbox runs as: the Pod sets none. Needed on
 * clusters that assign them per namespace, such as OpenShift. Root stays forbidden. Default: user and group 1000,
 * whatever the image says.
 */
SBX_NODISCARD
sbx_status sbx_spec_set_user_from_cluster(sbx_spec *spec,
                                          sbx_error **err);

/**
 * Gives commands a user of their own below a guest that runs as root: a name or number that the image's /etc/passwd
 * knows, or numbers of a user and a group such as "1000:1000". Files and sockets are reached as that user too. The Pod
 * then runs as root, with the capabilities KILL, SETGID and SETUID and no others, which the restricted and baseline
 * Pod Security Standards refuse. gVisor can't do it. Default: commands and guest have the sandbox's user.
 */
SBX_NODISCARD
sbx_status sbx_spec_set_commands_as(sbx_spec *spec,
                                    const char *user,
                                    sbx_error **err);

/**
 * Runtime class, such as "gvisor" or "kata". Default: the cluster's. The tunnel transport does not work
 * under these two, the others do. The library logs a warning for each guarantee that does not hold there.
 */
SBX_NODISCARD
sbx_status sbx_spec_set_runtime_class(sbx_spec *spec,
                                      const char *value,
                                      sbx_error **err);

/**
 * A label that the node must have.
 */
SBX_NODISCARD
sbx_status sbx_spec_set_node_selector(sbx_spec *spec,
                                      const char *label,
                                      const char *value,
                                      sbx_error **err);

/**
 * How many seconds to wait for a Pod that can't be scheduled, so that an autoscaler can add a node; not negative.
 * Default: 10.
 */
SBX_NODISCARD
sbx_status sbx_spec_set_unschedulable_grace(sbx_spec *spec,
                                            double seconds,
                                            sbx_error **err);

/**
 * A Pod in JSON that is merged over the one that this library makes (RFC 7386: objects are merged, everything else is
 * replaced; the list "containers" is replaced too, except that an entry named "sandbox" is merged). This reaches every
 * field that Kubernetes has.
 *
 * SBX_ERR_INVALID_ARGUMENT if the text is not a JSON object.
 */
SBX_NODISCARD
sbx_status sbx_spec_set_pod_template(sbx_spec *spec,
                                     const char *json,
                                     sbx_error **err);

/**
 * Frees a spec.
 */
void sbx_spec_free(sbx_spec *spec);

/** \} */

/**
 * \defgroup sbx_thread What the calls of a thread ask while they wait
 * \{
 */

/**
 * Registers a function that this thread's calls of the library call while they wait, with `userdata` as its argument,
 * to ask whether to cancel; NULL unregisters it. A thread has at most one: a new one replaces the previous one. It
 * must stay valid as long as it is registered.
 *
 * So a signal, such as SIGINT from Ctrl-C, can cancel a call: its handler sets a flag, and the function returns the
 * flag. The function is called about ten times a second while a call waits, and in most waits as soon as a signal
 * handler has run on this thread. It is not called before a wait, nor by calls that do not wait. Calls of other
 * threads, and background work such as the command of an sbx_child, are not affected.
 *
 * A cancelled call cleans up as it does after a timeout. A command is killed in the sandbox, and the call waits for
 * its end; the file that an upload would have replaced is unchanged; a Pod that was being created is deleted. This may
 * take some seconds if the sandbox does not answer. Any other change may or may not have been made, and the error's
 * message says so. A cancelled sbx_file can only be freed.
 */
void sbx_thread_on_wait(sbx_interrupted_fn is_interrupted,
                        void *userdata);

/** \} */

/**
 * \defgroup sbx_transfer Transfers with options: files, directories, and whatever the caller reads from or writes to
 * \{
 */

/**
 * Makes options for transfers to and from this sandbox. The caller frees them with sbx_transfer_free().
 */
SBX_NODISCARD
sbx_status sbx_sandbox_transfer(const sbx_sandbox *sandbox,
                                sbx_transfer **transfer,
                                sbx_error **err);

/**
 * Whether the SHA-256 of the source and of the copy are compared before the copy gets its name; in a directory, for
 * each file. Default: false.
 */
SBX_NODISCARD
sbx_status sbx_transfer_set_checksum(sbx_transfer *transfer,
                                     bool checksum,
                                     sbx_error **err);

/**
 * Whether contents and names are synced to the receiving disk (fsync) before a transfer returns. Default: false.
 */
SBX_NODISCARD
sbx_status sbx_transfer_set_sync(sbx_transfer *transfer,
                                 bool sync,
                                 sbx_error **err);

/**
 * Whether a failed transfer of a file keeps the partial file, and a later transfer to the same name continues from it,
 * if its SHA-256 matches the beginning of the source. Implies the checksum. A download to a device or a pipe can't be
 * resumed: SBX_ERR_INVALID_ARGUMENT. Default: false; the partial file is removed.
 */
SBX_NODISCARD
sbx_status sbx_transfer_set_resume(sbx_transfer *transfer,
                                   bool resume,
                                   sbx_error **err);

/**
 * Permission bits of a new file that an upload creates, such as 0600, minus the sandbox's umask. An existing file
 * keeps its own, and the files of a directory keep those they have locally. Default: those of the local file, or 0666.
 */
SBX_NODISCARD
sbx_status sbx_transfer_set_mode(sbx_transfer *transfer,
                                 uint32_t mode,
                                 sbx_error **err);

/**
 * The most bytes of contents that a download may have; beyond that it fails with SBX_ERR_TRANSFER. Default: no limit.
 */
SBX_NODISCARD
sbx_status sbx_transfer_set_max_bytes(sbx_transfer *transfer,
                                      uint64_t max_bytes,
                                      sbx_error **err);

/**
 * The most entries that the download of a directory may have; beyond that it fails with SBX_ERR_TRANSFER. Default: no
 * limit.
 */
SBX_NODISCARD
sbx_status sbx_transfer_set_max_entries(sbx_transfer *transfer,
                                        uint64_t max_entries,
                                        sbx_error **err);

/**
 * Copies the local file `local` to `remote`, as sbx_sandbox_upload_file(). `progress` may be NULL. The caller frees
 * `*transferred` with sbx_transferred_free(); `transferred` may be NULL.
 *
 * Fails as sbx_sandbox_upload_file(); SBX_ERR_TRANSFER also if the checksums differ, SBX_ERR_CANCELLED if the callback
 * cancels.
 */
SBX_NODISCARD
sbx_status sbx_transfer_upload(const sbx_transfer *transfer,
                               const char *local,
                               const char *remote,
                               sbx_progress_fn progress,
                               void *userdata,
                               sbx_transferred **transferred,
                               sbx_error **err);

/**
 * Copies `remote` to the local file `local`; otherwise as sbx_transfer_upload().
 */
SBX_NODISCARD
sbx_status sbx_transfer_download(const sbx_transfer *transfer,
                                 const char *remote,
                                 const char *local,
                                 sbx_progress_fn progress,
                                 void *userdata,
                                 sbx_transferred **transferred,
                                 sbx_error **err);

/**
 * Copies all that `read` gives to the file `remote`, with permissions as from sbx_sandbox_write_file(). `read` and
 * `progress` get the same `userdata`. With sbx_transfer_set_resume() it fails with SBX_ERR_INVALID_ARGUMENT. Otherwise
 * as sbx_transfer_upload().
 */
SBX_NODISCARD
sbx_status sbx_transfer_upload_from(const sbx_transfer *transfer,
                                    sbx_read_fn read,
                                    const char *remote,
                                    sbx_progress_fn progress,
                                    void *userdata,
                                    sbx_transferred **transferred,
                                    sbx_error **err);

/**
 * Hands the contents of the file `remote` to `write`. `write` and `progress` get the same `userdata`. With
 * sbx_transfer_set_resume() it fails with SBX_ERR_INVALID_ARGUMENT. Otherwise as sbx_transfer_upload().
 */
SBX_NODISCARD
sbx_status sbx_transfer_download_to(const sbx_transfer *transfer,
                                    const char *remote,
                                    sbx_write_fn write,
                                    sbx_progress_fn progress,
                                    void *userdata,
                                    sbx_transferred **transferred,
                                    sbx_error **err);

/**
 * Copies the local directory `local` with all that is in it to `remote`, as one stream: with modes, times of
 * modification in nanoseconds, symbolic links as they are, empty directories and the holes of sparse files. Sockets,
 * pipes and devices are left out, and the report lists them. `progress` may be NULL. The caller frees `*report` with
 * sbx_tree_report_free(); `report` may be NULL.
 *
 * No file gets its name before everything has arrived. If `remote` does not exist, it appears complete. If it is a
 * directory, the two are merged: files and links replace files and links, each atomically and with the modes of the
 * tree, read-only ones too; what a link led to and what exists only in the target stay. Obstacles, such as a device in
 * the place of a file, are found before the merge begins.
 *
 * Fails as sbx_sandbox_upload_file(); SBX_ERR_NOT_A_DIRECTORY if a path exists that should be a directory and is not,
 * SBX_ERR_CANCELLED if the callback cancels, SBX_ERR_INVALID_ARGUMENT with sbx_transfer_set_resume(). If the merge
 * itself fails, it may be partly done.
 */
SBX_NODISCARD
sbx_status sbx_transfer_upload_dir(const sbx_transfer *transfer,
                                   const char *local,
                                   const char *remote,
                                   sbx_progress_fn progress,
                                   void *userdata,
                                   sbx_tree_report **report,
                                   sbx_error **err);

/**
 * Copies the directory `remote` with all that is in it to the local directory `local`; otherwise as
 * sbx_transfer_upload_dir().
 *
 * Whatever the sandbox sends, nothing is written outside of `local`, and what is kept in memory does not grow with the
 * tree. Symbolic links that lead out of the directory are left out, and the report lists them. Absolute names, names
 * with "..", files below a link, and hard links to files outside fail with SBX_ERR_TRANSFER. Set-user-id, set-group-id
 * and sticky bits are not set.
 */
SBX_NODISCARD
sbx_status sbx_transfer_download_dir(const sbx_transfer *transfer,
                                     const char *remote,
                                     const char *local,
                                     sbx_progress_fn progress,
                                     void *userdata,
                                     sbx_tree_report **report,
                                     sbx_error **err);

/**
 * Frees options.
 */
void sbx_transfer_free(sbx_transfer *transfer);

/**
 * Bytes of the file; 0 for NULL.
 */
uint64_t sbx_transferred_bytes(const sbx_transferred *transferred);

/**
 * How many of the bytes had been there already, from an earlier transfer; 0 for NULL.
 */
uint64_t sbx_transferred_resumed(const sbx_transferred *transferred);

/**
 * The 32 bytes of the file's SHA-256; NULL if it was not compared.
 */
const uint8_t *sbx_transferred_sha256(const sbx_transferred *transferred);

/**
 * Frees the result of a transfer.
 */
void sbx_transferred_free(sbx_transferred *transferred);

/**
 * Regular files; a file with several hard links counts once for each. 0 for NULL.
 */
uint64_t sbx_tree_report_files(const sbx_tree_report *report);

/**
 * Directories, with the root; 0 for NULL.
 */
uint64_t sbx_tree_report_directories(const sbx_tree_report *report);

/**
 * Symbolic links; 0 for NULL.
 */
uint64_t sbx_tree_report_symlinks(const sbx_tree_report *report);

/**
 * Bytes of all files; 0 for NULL.
 */
uint64_t sbx_tree_report_bytes(const sbx_tree_report *report);

/**
 * How many entries were left out; 0 for NULL.
 */
uint64_t sbx_tree_report_skipped(const sbx_tree_report *report);

/**
 * How many notes there are: what was left out and why, and which files were changed while they were read; at most
 * 1000.
 */
size_t sbx_tree_report_note_count(const sbx_tree_report *report);

/**
 * The entry that a note is about, below the root of the tree: bytes; `index` counts from 0. NULL beyond the last.
 */
const char *sbx_tree_report_note_path_at(const sbx_tree_report *report,
                                         size_t index);

/**
 * The text of a note, such as "a socket"; `index` counts from 0. NULL beyond the last.
 */
const char *sbx_tree_report_note_text_at(const sbx_tree_report *report,
                                         size_t index);

/**
 * Frees a report and what was borrowed from it.
 */
void sbx_tree_report_free(sbx_tree_report *report);

/** \} */

/**
 * \defgroup sbx_usage What a sandbox uses
 * \{
 */

/**
 * Asks the sandbox what it uses now: one round trip and no API call. The caller frees the answer with
 * sbx_usage_free().
 *
 * As sbx_sandbox_execute(), but for the errors of the command.
 */
SBX_NODISCARD
sbx_status sbx_sandbox_usage(const sbx_sandbox *sandbox,
                             sbx_usage **usage,
                             sbx_error **err);

/**
 * True, and the value in `*value`, if the sandbox's kernel tells it; false also where there is no limit, for NULL, and
 * for a number that stands for no sbx_usage_kind. `value` may be NULL.
 */
bool sbx_usage_value(const sbx_usage *usage,
                     int32_t kind,
                     uint64_t *value);

/**
 * Frees what sbx_sandbox_usage() gave out.
 */
void sbx_usage_free(sbx_usage *usage);

/** \} */

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SANDBOX_H */
