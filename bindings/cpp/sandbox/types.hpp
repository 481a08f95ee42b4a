/// \file
/// Part of sandbox.hpp, which is to be included: numbers and units.

#ifndef SANDBOX_TYPES_HPP
#define SANDBOX_TYPES_HPP

#include <sandbox.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

/// Disposable machines on your own Kubernetes. Visible, so that an exception is the same class in every shared library.
namespace [[gnu::visibility("default")]] sandbox {

/// Seconds, whole or not. Every std::chrono::duration becomes this by itself.
using seconds = std::chrono::duration<double>;

/// A point in time, in whole seconds.
using time_point = std::chrono::time_point<std::chrono::system_clock, std::chrono::seconds>;

/// Why something failed. A later version of the library may have more of them.
enum class error_kind : std::int32_t {
    /// An argument is invalid. Nothing was done.
    invalid_argument = SBX_ERR_INVALID_ARGUMENT,
    /// A setting, the kubeconfig or the service account can't be used.
    config = SBX_ERR_CONFIG,
    /// A blocking call was made from asynchronous Rust code of the host program.
    async_context = SBX_ERR_ASYNC_CONTEXT,
    /// The client was made before fork(); its threads don't exist in the child.
    forked = SBX_ERR_FORKED,
    /// The handle was closed or moved from, or its sandbox deleted through it.
    closed = SBX_ERR_CLOSED,
    /// No such sandbox: it was never there, or is gone.
    not_found = SBX_ERR_NOT_FOUND,
    /// A sandbox of that name exists already, or the key of a detached command is in use, or somebody else changed the
    /// same object at the same time.
    conflict = SBX_ERR_CONFLICT,
    /// Kubernetes, or a file system, does not allow it.
    permission_denied = SBX_ERR_PERMISSION_DENIED,
    /// A quota of the namespace, or the API server's limit of requests, is used up.
    quota = SBX_ERR_QUOTA,
    /// The disk is full, a disk quota is exceeded, or the file has reached the largest size allowed.
    storage_full = SBX_ERR_STORAGE_FULL,
    /// No detached command has this key. The sandbox is there.
    detached_not_found = SBX_ERR_DETACHED_NOT_FOUND,
    /// The pool has no sandbox ready, and the claim was made to fail in that case.
    pool_empty = SBX_ERR_POOL_EMPTY,
    /// No such file or directory. For this and the following file errors, the message says whether the file is in the
    /// sandbox or on this machine.
    file_not_found = SBX_ERR_FILE_NOT_FOUND,
    /// A file or directory of that name exists already.
    file_exists = SBX_ERR_FILE_EXISTS,
    /// The path is a directory, and the operation needs a file.
    is_a_directory = SBX_ERR_IS_A_DIRECTORY,
    /// The path, or one of its parents, is not a directory.
    not_a_directory = SBX_ERR_NOT_A_DIRECTORY,
    /// The directory is not empty.
    directory_not_empty = SBX_ERR_DIRECTORY_NOT_EMPTY,
    /// The file system is read-only.
    read_only = SBX_ERR_READ_ONLY,
    /// The file is in use: it is being executed, is a mount point, or another download writes to it. Also: a local port
    /// is in use.
    busy = SBX_ERR_BUSY,
    /// A file name is longer than the file system allows, or a path is longer than 4095 bytes.
    name_too_long = SBX_ERR_NAME_TOO_LONG,
    /// The API server can't be reached or can't answer now.
    unavailable = SBX_ERR_UNAVAILABLE,
    /// No connection to the sandbox's SSH server could be made.
    connect = SBX_ERR_CONNECT,
    /// The sandbox's SSH server refused this client's key or user name.
    authentication = SBX_ERR_AUTHENTICATION,
    /// The SSH server showed another host key than the one pinned. Nothing was sent to it.
    host_key_mismatch = SBX_ERR_HOST_KEY_MISMATCH,
    /// The connection was lost, either before a request was sent or during a request that can safely be repeated.
    disconnected = SBX_ERR_DISCONNECTED,
    /// The operation timed out. A command was killed, and the error has the output up to then.
    timed_out = SBX_ERR_TIMED_OUT,
    /// Nothing in the sandbox listens on the port or the socket.
    refused = SBX_ERR_REFUSED,
    /// The sandbox could not be created; the verdict has the cluster's reason.
    create = SBX_ERR_CREATE,
    /// The sandbox could not be deleted, or its end could not be confirmed.
    delete_failed = SBX_ERR_DELETE,
    /// The command could not be started: it did not run.
    command = SBX_ERR_COMMAND,
    /// The command ran and did not succeed, as output::check() says.
    command_failed = SBX_ERR_COMMAND_FAILED,
    /// The connection was lost after the request to run a command or to change a file was sent. The sandbox may have
    /// carried it out.
    outcome_unknown = SBX_ERR_OUTCOME_UNKNOWN,
    /// A transfer or another file operation failed for a reason that has no kind of its own.
    transfer = SBX_ERR_TRANSFER,
    /// A callback asked to stop, or a stream of the caller failed.
    cancelled = SBX_ERR_CANCELLED,
    /// A bug in the library. The handles stay usable.
    panic = SBX_ERR_PANIC,
};

/// The causes that Kubernetes' verdict on a Pod tells apart. A later version of the library may have more of them.
enum class cause : std::int32_t {
    /// There is no verdict.
    none = SBX_CAUSE_NONE,
    /// The image does not exist, can't be reached, or needs credentials.
    image_pull = SBX_CAUSE_IMAGE_PULL,
    /// No node can take the Pod.
    unschedulable = SBX_CAUSE_UNSCHEDULABLE,
    /// A quota of the namespace forbids it.
    quota = SBX_CAUSE_QUOTA,
    /// Admission or validation rejected the Pod.
    rejected = SBX_CAUSE_REJECTED,
    /// The container can't be set up: a missing Secret or ConfigMap, a bad command, a failed volume.
    configuration = SBX_CAUSE_CONFIGURATION,
    /// The container's main process ended by itself.
    exited = SBX_CAUSE_EXITED,
    /// The container used more memory than its limit and was killed.
    out_of_memory = SBX_CAUSE_OUT_OF_MEMORY,
    /// The node evicted the Pod.
    evicted = SBX_CAUSE_EVICTED,
    /// The Pod reached its hard time limit.
    deadline_exceeded = SBX_CAUSE_DEADLINE_EXCEEDED,
    /// The sandbox reached its own expiry.
    expired = SBX_CAUSE_EXPIRED,
    /// The Pod was deleted, or is being deleted.
    deleted = SBX_CAUSE_DELETED,
    /// The node is gone or does not answer.
    node_lost = SBX_CAUSE_NODE_LOST,
    /// Kubernetes reports no problem; the verdict is the last state seen.
    pending = SBX_CAUSE_PENDING,
};

/// The phase of a Pod. A later version of the library may have more of them.
enum class phase : std::int32_t {
    /// Kubernetes does not know the phase, or reports one that the library does not know.
    unknown = SBX_PHASE_UNKNOWN,
    /// Accepted by Kubernetes; its container does not run yet.
    pending = SBX_PHASE_PENDING,
    /// Its container runs.
    running = SBX_PHASE_RUNNING,
    /// It stopped with exit code 0.
    succeeded = SBX_PHASE_SUCCEEDED,
    /// It stopped in another way.
    failed = SBX_PHASE_FAILED,
    /// It is being deleted.
    terminating = SBX_PHASE_TERMINATING,
};

/// What has become of a sandbox. A later version of the library may have more of them.
enum class change_kind : std::int32_t {
    /// It is there, which was not known before.
    added = SBX_CHANGE_ADDED,
    /// Something about it is not as it was.
    changed = SBX_CHANGE_CHANGED,
    /// It is gone, or does not fit any more.
    removed = SBX_CHANGE_REMOVED,
};

/// Where a sandbox comes from. A later version of the library may have more of them.
enum class origin : std::int32_t {
    /// It existed before: client::attach().
    attached = SBX_ORIGIN_ATTACHED,
    /// It was created by client::create().
    created = SBX_ORIGIN_CREATED,
    /// A pool had it ready.
    pool = SBX_ORIGIN_POOL,
    /// The pool was empty, and its next sandbox was waited for.
    pool_wait = SBX_ORIGIN_POOL_WAIT,
    /// The pool was empty, and it was created instead.
    pool_miss = SBX_ORIGIN_POOL_MISS,
};

/// What a claim does if the pool has nothing ready.
enum class on_miss : std::int32_t {
    /// Creates a sandbox, as client::create() does.
    create = SBX_ON_MISS_CREATE,
    /// Waits until the pool has one, up to the setting "create_timeout".
    wait = SBX_ON_MISS_WAIT,
    /// Fails at once with a pool_empty_error.
    fail = SBX_ON_MISS_FAIL,
};

/// The two output streams of a command.
enum class output_stream : std::int32_t {
    /// Standard output.
    out = SBX_STREAM_STDOUT,
    /// Standard error.
    err = SBX_STREAM_STDERR,
};

/// What a file is.
enum class file_kind : std::int32_t {
    /// Nothing is known.
    unknown = SBX_FILE_KIND_UNKNOWN,
    /// A regular file.
    file = SBX_FILE_KIND_FILE,
    /// A directory.
    directory = SBX_FILE_KIND_DIRECTORY,
    /// A symbolic link.
    symlink = SBX_FILE_KIND_SYMLINK,
    /// A named pipe, a socket, a device.
    other = SBX_FILE_KIND_OTHER,
};

/// The way to a sandbox's SSH server.
enum class transport : std::int32_t {
    /// Begins on the tunnel and moves to the Pod's address if that can be reached. Where port-forward is refused or
    /// does not reach into the sandbox, it takes exec instead.
    automatic = SBX_TRANSPORT_AUTO,
    /// Straight to the Pod's address. Works inside the cluster's network.
    direct = SBX_TRANSPORT_DIRECT,
    /// Through the API server's port-forward. Works wherever kubectl works.
    tunnel = SBX_TRANSPORT_TUNNEL,
    /// Through the API server's exec. Works wherever "kubectl exec" works, also under gVisor and Kata. Code in the
    /// sandbox that has the guest's user can end these connections, but not the others.
    exec = SBX_TRANSPORT_EXEC,
};

/// What a check found, the better before the worse.
enum class check_state : std::int32_t {
    /// All is well.
    ok = SBX_CHECK_OK,
    /// It could not be checked, because of the failure of another check or because this client may not look.
    skipped = SBX_CHECK_SKIPPED,
    /// Sandboxes work, but something is missing or unusual.
    warning = SBX_CHECK_WARNING,
    /// Sandboxes can't be made or used.
    failure = SBX_CHECK_FAILURE,
};

/// The levels of log lines.
enum class log_level : std::int32_t {
    /// None at all.
    off = SBX_LOG_OFF,
    /// Failures that no call can report.
    error = SBX_LOG_ERROR,
    /// Conditions that may need attention.
    warn = SBX_LOG_WARN,
    /// What the library does: sandboxes created and deleted, connections made.
    info = SBX_LOG_INFO,
    /// Details for debugging: each request and connection.
    debug = SBX_LOG_DEBUG,
    /// Everything.
    trace = SBX_LOG_TRACE,
};

/// How a file is opened; to be combined with |.
enum class open_mode : std::int32_t {
    /// For reading.
    read = SBX_OPEN_READ,
    /// For writing, without truncating.
    write = SBX_OPEN_WRITE,
    /// For writing at the end of the file, even if it has grown meanwhile.
    append = SBX_OPEN_APPEND,
    /// Truncates an existing file. Needs `write`.
    truncate = SBX_OPEN_TRUNCATE,
    /// Creates the file if it does not exist. Needs `write` or `append`.
    create = SBX_OPEN_CREATE,
    /// Creates the file, and fails if the name exists, even as a broken link. Needs `write` or `append`.
    create_new = SBX_OPEN_CREATE_NEW,
};

/// Both ways of opening at once.
constexpr open_mode operator|(open_mode one, open_mode other) noexcept {
    return static_cast<open_mode>(static_cast<std::int32_t>(one) | static_cast<std::int32_t>(other));
}

/// What file::seek() counts from.
enum class seek_from : std::int32_t {
    /// The beginning of the file.
    start = SBX_SEEK_START,
    /// The position.
    current = SBX_SEEK_CURRENT,
    /// The end of the file.
    end = SBX_SEEK_END,
};

/// The version of the library that runs, such as "0.1.0".
inline std::string_view version() { return sbx_version(); }

/// The version of the library that runs as a number; SBX_VERSION_NUMBER is that of the header.
inline std::uint32_t version_number() noexcept { return sbx_version_number(); }

/// The name of a kind as C has it, such as "SBX_ERR_NOT_FOUND"; empty for a number that the library does not know.
inline std::string_view status_name(error_kind kind) {
    const char *name = sbx_status_name(static_cast<std::int32_t>(kind));
    return name ? name : std::string_view();
}

/// All kinds of errors that the library knows, those too that this header does not.
inline std::vector<error_kind> error_kinds() {
    std::vector<error_kind> kinds;
    for (std::size_t index = 0; index < sbx_status_count(); index++)
        if (const sbx_status status = sbx_status_at(index); status != SBX_OK)
            kinds.push_back(static_cast<error_kind>(status));
    return kinds;
}

} // namespace sandbox

#endif // SANDBOX_TYPES_HPP
