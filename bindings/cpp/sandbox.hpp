/**
 * \file
 *
 * sandbox for C++17 and newer: disposable machines on your own Kubernetes.
 *
 * ```cpp
 * auto client = sandbox::client::from_env();
 * sandbox::scoped_box box(client.create());
 * std::cout << box->execute("uname -a").check().out();
 * ```
 *
 * This is all of the C ABI, sandbox.h, with C++'s means: what is `sbx_OBJECT_VERB()` there is `sandbox::OBJECT::VERB()` here, and
 * does the same; `sbx_sandbox` is sandbox::box. What the functions mean in full is said there. What holds for all of this header:
 *
 * Errors are exceptions, all of them sandbox::error, with a class for each kind. A constructor, a function or an assignment that is
 * not `noexcept` may throw std::bad_alloc too. Where something may be missing, a std::optional says so.
 *
 * Handles (sandbox::client, box, command, …) own what they are named after. They can be moved, not copied. What is asked of one that
 * was moved from is a sandbox::closed_error; it may be destroyed, and assigned to. Handles keep alive what they need of each other, so
 * any order of destruction is right. What is asked and answered (sandbox::info, metadata, exit_status, …) are values, and can be
 * copied.
 *
 * Text and paths in the sandbox come in as std::string_view. A NUL in one, which C could not see, is a
 * sandbox::invalid_argument_error. Arguments, environment variables and paths are bytes, other text is UTF-8. Contents of files and
 * streams come in as sandbox::bytes_view, for which any contiguous container of bytes does. Paths of this machine are
 * std::filesystem::path.
 *
 * Durations come in as any std::chrono::duration. Where there may be no limit, std::nullopt says that; a negative duration is an
 * invalid_argument_error, so that a time that has run out by accident is no time without end.
 *
 * Callbacks are any callables. They run on the calling thread during the call only. They return nothing, or a bool, of which false
 * stops the call with a sandbox::cancelled_error. An exception that leaves one stops the call too, and comes out of it.
 *
 * Threads. Functions that are const may be called on the same object from several threads at once; others need the object to
 * themselves. In a child of fork(), handles of the parent throw sandbox::forked_error.
 */

#ifndef SANDBOX_HPP
#define SANDBOX_HPP

#if !defined(__cplusplus) || __cplusplus < 201703L
#error "sandbox.hpp needs C++17 or newer"
#endif

#include <sandbox.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <istream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

/// Disposable machines on your own Kubernetes. Visible, so that an exception is the same class in every shared library.
namespace [[gnu::visibility("default")]] sandbox {

// ---------------------------------------------------------------------------------------------------------------------------------
// Numbers and units

/// Seconds, whole or not. Every std::chrono::duration becomes this by itself.
using seconds = std::chrono::duration<double>;

/// A point in time, in whole seconds.
using time_point = std::chrono::time_point<std::chrono::system_clock, std::chrono::seconds>;

/// Why something failed. A later version of the library may have more of them.
enum class error_kind : std::int32_t {
    /// An argument can't be meant as given. Nothing was tried.
    invalid_argument = SBX_ERR_INVALID_ARGUMENT,
    /// A setting, the kubeconfig or the service account can't be used.
    config = SBX_ERR_CONFIG,
    /// A blocking call was made from asynchronous Rust code of the host program.
    async_context = SBX_ERR_ASYNC_CONTEXT,
    /// The client was made before fork(); its threads don't exist in the child.
    forked = SBX_ERR_FORKED,
    /// The handle was closed or moved from, or its sandbox deleted through it.
    closed = SBX_ERR_CLOSED,
    /// No such sandbox, or no such file in it.
    not_found = SBX_ERR_NOT_FOUND,
    /// A sandbox or a file of that name exists already, or somebody else changed the same object at the same time.
    conflict = SBX_ERR_CONFLICT,
    /// Kubernetes, or the file system of the sandbox, does not allow it.
    permission_denied = SBX_ERR_PERMISSION_DENIED,
    /// A quota of the namespace, or the API server's limit of requests, is used up.
    quota = SBX_ERR_QUOTA,
    /// A disk is full, or its quota used up.
    storage_full = SBX_ERR_STORAGE_FULL,
    /// The API server can't be reached or can't answer now.
    unavailable = SBX_ERR_UNAVAILABLE,
    /// No connection to the sandbox's SSH server could be made.
    connect = SBX_ERR_CONNECT,
    /// The sandbox's SSH server refused this client's key or user name.
    authentication = SBX_ERR_AUTHENTICATION,
    /// The SSH server showed another host key than the one pinned. Nothing was sent to it.
    host_key_mismatch = SBX_ERR_HOST_KEY_MISMATCH,
    /// A connection was lost before anything was asked of the sandbox, or where asking again is harmless.
    disconnected = SBX_ERR_DISCONNECTED,
    /// The operation's time ran out. A command was killed, and the error has its output so far.
    timed_out = SBX_ERR_TIMED_OUT,
    /// The sandbox could not be created; the verdict has the cluster's reason.
    create = SBX_ERR_CREATE,
    /// The sandbox could not be deleted, or its end could not be confirmed.
    delete_failed = SBX_ERR_DELETE,
    /// The command could not be started: it did not run.
    command = SBX_ERR_COMMAND,
    /// The command ran and did not succeed, as output::check() says.
    command_failed = SBX_ERR_COMMAND_FAILED,
    /// The connection was lost while the command may have run, or the change of a file be done.
    outcome_unknown = SBX_ERR_OUTCOME_UNKNOWN,
    /// A file could not be moved, or something else not be done to it, for a reason that has no kind of its own.
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
    /// Nothing is wrong that Kubernetes knows of: this is the last state that was seen.
    pending = SBX_CAUSE_PENDING,
};

/// Where a Pod is in its life. A later version of the library may have more of them.
enum class phase : std::int32_t {
    /// Kubernetes has lost sight of it, or says something that the library does not know.
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
    /// Begins on the tunnel and moves to the Pod's address if that can be reached.
    automatic = SBX_TRANSPORT_AUTO,
    /// Straight to the Pod's address. Works inside the cluster's network.
    direct = SBX_TRANSPORT_DIRECT,
    /// Through the API server's port-forward. Works wherever kubectl works.
    tunnel = SBX_TRANSPORT_TUNNEL,
};

/// The levels of log lines.
enum class log_level : std::int32_t {
    /// None at all.
    off = SBX_LOG_OFF,
    /// What went wrong and could not be reported by a call.
    error = SBX_LOG_ERROR,
    /// What may need attention.
    warn = SBX_LOG_WARN,
    /// What happens.
    info = SBX_LOG_INFO,
    /// Details for finding a fault.
    debug = SBX_LOG_DEBUG,
    /// Everything.
    trace = SBX_LOG_TRACE,
};

/// How a file is opened; to be combined with |.
enum class open_mode : std::int32_t {
    /// For reading.
    read = SBX_OPEN_READ,
    /// For writing, over what is there.
    write = SBX_OPEN_WRITE,
    /// For writing at the end, wherever that is at the time.
    append = SBX_OPEN_APPEND,
    /// Empties a file that is there. Needs `write`.
    truncate = SBX_OPEN_TRUNCATE,
    /// Creates the file if it is not there. Needs `write` or `append`.
    create = SBX_OPEN_CREATE,
    /// Creates the file, which must not be there, nor a link of its name. Needs `write` or `append`.
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

// ---------------------------------------------------------------------------------------------------------------------------------
// Errors

/// Why Kubernetes can't start a Pod, or why it stopped.
struct verdict {
    /// What happened.
    ::sandbox::cause cause = ::sandbox::cause::none;
    /// The word that Kubernetes itself uses, such as "ErrImagePull"; may be empty.
    std::string reason;
    /// Kubernetes' explanation on one line; may be empty.
    std::string message;
};

namespace detail {

inline std::string text(const char *c) { return c ? c : std::string(); }

inline std::optional<std::string> some_text(const char *c) {
    return c ? std::optional<std::string>(c) : std::nullopt;
}

inline std::string_view view(const std::uint8_t *data, std::size_t size) {
    return std::string_view(reinterpret_cast<const char *>(data), size);
}

inline std::optional<verdict> some_verdict(sbx_cause cause, const char *reason, const char *message) {
    if (cause == SBX_CAUSE_NONE)
        return std::nullopt;
    return verdict{static_cast<::sandbox::cause>(cause), text(reason), text(message)};
}

} // namespace detail

/// Why a call failed: the base of all that this library throws. Copies share what they tell, and may be read from several threads.
class error : public std::runtime_error {
public:
    /// Tells what an error of the C ABI tells.
    explicit error(std::shared_ptr<const sbx_error> told)
        : std::runtime_error(detail::text(sbx_error_message(told.get()))),
          kind_(static_cast<error_kind>(sbx_error_status(told.get()))), told_(std::move(told)) {}

    /// An error of this header itself.
    error(error_kind kind, const std::string &message) : std::runtime_error(message), kind_(kind) {}

    /// Why it failed.
    error_kind kind() const noexcept { return kind_; }

    /// What was tried, such as "create sandbox"; empty where there is nothing to say.
    std::string operation() const { return detail::text(sbx_error_operation(told_.get())); }

    /// The name of the sandbox that it was tried on.
    std::optional<std::string> sandbox_name() const { return detail::some_text(sbx_error_sandbox(told_.get())); }

    /// True if trying the same call again later may succeed and can't do harm: nothing had been asked of the sandbox.
    bool is_retryable() const noexcept { return sbx_error_is_retryable(told_.get()); }

    /// The HTTP status of the API server's answer, if that was a failure.
    std::optional<int> http_status() const noexcept { return unless_zero(sbx_error_http_status(told_.get())); }

    /// libssh2's error number (negative) or the SFTP status (positive), if one of them failed.
    std::optional<int> ssh_code() const noexcept { return unless_zero(sbx_error_ssh_code(told_.get())); }

    /// What Kubernetes knows about it.
    std::optional<::sandbox::verdict> verdict() const {
        const sbx_error *told = told_.get();
        return detail::some_verdict(sbx_error_verdict_cause(told), sbx_error_verdict_reason(told),
                                    sbx_error_verdict_message(told));
    }

    /// What a command had written to its standard output when it was stopped, failed or was lost. Stays as long as a copy of the
    /// error.
    std::optional<std::string_view> out() const { return written(sbx_error_stdout); }

    /// As out(), for the standard error.
    std::optional<std::string_view> err() const { return written(sbx_error_stderr); }

private:
    static std::optional<int> unless_zero(std::int32_t number) noexcept {
        return number ? std::optional<int>(number) : std::nullopt;
    }

    std::optional<std::string_view> written(const std::uint8_t *(*of)(const sbx_error *, std::size_t *)) const {
        std::size_t size = 0;
        const std::uint8_t *data = of(told_.get(), &size);
        return data ? std::optional<std::string_view>(detail::view(data, size)) : std::nullopt;
    }

    error_kind kind_;
    std::shared_ptr<const sbx_error> told_;
};

/// The sandbox's SSH server could not be used: a connect_error, authentication_error, host_key_mismatch_error or disconnected_error.
class ssh_error : public error {
public:
    using error::error;
};

namespace detail {

constexpr bool is_of_ssh(error_kind kind) noexcept {
    return kind == error_kind::connect || kind == error_kind::authentication || kind == error_kind::host_key_mismatch ||
           kind == error_kind::disconnected;
}

template <error_kind Kind> using base_of = std::conditional_t<is_of_ssh(Kind), ssh_error, error>;

} // namespace detail

/// The error of one kind. Its names are below.
template <error_kind Kind> class error_of : public detail::base_of<Kind> {
    using base = detail::base_of<Kind>;

public:
    /// Tells what an error of the C ABI tells, which is of this kind.
    explicit error_of(std::shared_ptr<const sbx_error> told) : base(std::move(told)) {}

    /// An error of this header itself.
    explicit error_of(const std::string &message) : base(Kind, message) {}
};

/// error_kind::invalid_argument
using invalid_argument_error = error_of<error_kind::invalid_argument>;
/// error_kind::config
using config_error = error_of<error_kind::config>;
/// error_kind::async_context
using async_context_error = error_of<error_kind::async_context>;
/// error_kind::forked
using forked_error = error_of<error_kind::forked>;
/// error_kind::closed
using closed_error = error_of<error_kind::closed>;
/// error_kind::not_found
using not_found_error = error_of<error_kind::not_found>;
/// error_kind::conflict
using conflict_error = error_of<error_kind::conflict>;
/// error_kind::permission_denied
using permission_denied_error = error_of<error_kind::permission_denied>;
/// error_kind::quota
using quota_error = error_of<error_kind::quota>;
/// error_kind::storage_full
using storage_full_error = error_of<error_kind::storage_full>;
/// error_kind::unavailable
using unavailable_error = error_of<error_kind::unavailable>;
/// error_kind::connect
using connect_error = error_of<error_kind::connect>;
/// error_kind::authentication
using authentication_error = error_of<error_kind::authentication>;
/// error_kind::host_key_mismatch
using host_key_mismatch_error = error_of<error_kind::host_key_mismatch>;
/// error_kind::disconnected
using disconnected_error = error_of<error_kind::disconnected>;
/// error_kind::timed_out
using timed_out_error = error_of<error_kind::timed_out>;
/// error_kind::create
using create_error = error_of<error_kind::create>;
/// error_kind::delete_failed
using delete_error = error_of<error_kind::delete_failed>;
/// error_kind::command
using command_error = error_of<error_kind::command>;
/// error_kind::command_failed
using command_failed_error = error_of<error_kind::command_failed>;
/// error_kind::outcome_unknown
using outcome_unknown_error = error_of<error_kind::outcome_unknown>;
/// error_kind::transfer
using transfer_error = error_of<error_kind::transfer>;
/// error_kind::cancelled
using cancelled_error = error_of<error_kind::cancelled>;
/// error_kind::panic
using panic_error = error_of<error_kind::panic>;

// ---------------------------------------------------------------------------------------------------------------------------------
// What everything below uses

namespace detail {

/// What a contiguous container has its elements as; void for anything else.
template <class Container, class = void> struct element {
    using type = void;
};
template <class Container>
struct element<Container, std::void_t<decltype(std::data(std::declval<Container &>())),
                                      decltype(std::size(std::declval<Container &>()))>> {
    using type = std::remove_pointer_t<decltype(std::data(std::declval<Container &>()))>;
};

template <class T> constexpr bool is_byte = sizeof(T) == 1 && std::is_trivially_copyable_v<T>;
template <> inline constexpr bool is_byte<void> = false;
template <> inline constexpr bool is_byte<const void> = false;

template <class Container> constexpr bool is_byte_container = is_byte<typename element<Container>::type>;
template <class Container>
constexpr bool is_byte_buffer = is_byte_container<Container> && !std::is_const_v<typename element<Container>::type>;

} // namespace detail

/// Bytes that a function reads: those of a std::string, std::string_view, string literal, std::vector, std::array, std::span, … whose
/// elements are one byte each. Like a std::string_view it does not own them.
class bytes_view {
public:
    /// No bytes.
    constexpr bytes_view() noexcept = default;

    /// `size` bytes at `data`.
    bytes_view(const void *data, std::size_t size) noexcept
        : data_(static_cast<const std::uint8_t *>(data)), size_(size) {}

    /// Those of text, or of a contiguous container.
    template <class Source, class = std::enable_if_t<std::is_convertible_v<const Source &, std::string_view> ||
                                                     detail::is_byte_container<const Source>>>
    bytes_view(const Source &source) noexcept {
        if constexpr (std::is_convertible_v<const Source &, std::string_view>) {
            const std::string_view text = source;
            *this = bytes_view(text.data(), text.size());
        } else {
            *this = bytes_view(std::data(source), std::size(source));
        }
    }

    /// The first of them.
    const std::uint8_t *data() const noexcept { return data_; }

    /// How many they are.
    std::size_t size() const noexcept { return size_; }

private:
    const std::uint8_t *data_ = nullptr;
    std::size_t size_ = 0;
};

/// Room that a function writes bytes to: that of a std::string, std::vector, std::array, array, std::span, … of the size that it has.
/// It does not own it.
class buffer_view {
public:
    /// Room for `size` bytes at `data`.
    buffer_view(void *data, std::size_t size) noexcept : data_(static_cast<std::uint8_t *>(data)), size_(size) {}

    /// The elements of a contiguous container.
    template <class Target, class = std::enable_if_t<detail::is_byte_buffer<Target>>>
    buffer_view(Target &&target) noexcept : buffer_view(std::data(target), std::size(target)) {}

    /// Where it begins.
    std::uint8_t *data() const noexcept { return data_; }

    /// How many bytes it has room for.
    std::size_t size() const noexcept { return size_; }

private:
    std::uint8_t *data_;
    std::size_t size_;
};

namespace detail {

template <error_kind... Kinds> [[noreturn]] void throw_as(std::shared_ptr<const sbx_error> told) {
    const auto kind = static_cast<error_kind>(sbx_error_status(told.get()));
    ((kind == Kinds ? throw error_of<Kinds>(std::move(told)) : void()), ...);
    throw error(std::move(told));
}

/// Throws what a function of the C ABI answered.
[[noreturn]] inline void fail(sbx_error *told) {
    using k = error_kind;
    throw_as<k::invalid_argument, k::config, k::async_context, k::forked, k::closed, k::not_found, k::conflict,
             k::permission_denied, k::quota, k::storage_full, k::unavailable, k::connect, k::authentication,
             k::host_key_mismatch, k::disconnected, k::timed_out, k::create, k::delete_failed, k::command, k::command_failed,
             k::outcome_unknown, k::transfer, k::cancelled, k::panic>(
        std::shared_ptr<const sbx_error>(told, sbx_error_free));
}

/// Calls a function of the C ABI, and throws its error.
template <class... Parameters, class... Arguments>
void call(sbx_status (*function)(Parameters...), Arguments... arguments) {
    sbx_error *told = nullptr;
    if (function(arguments..., &told) != SBX_OK)
        fail(told);
}

template <auto Free> struct freed_by {
    template <class T> void operator()(T *handle) const noexcept { Free(handle); }
};

/// A handle of the C ABI for as long as its contents are taken out of it.
template <class T, auto Free> using owned = std::unique_ptr<T, freed_by<Free>>;

/// Calls a function of the C ABI that gives a handle out as its last result.
template <class T, auto Free, class... Parameters, class... Arguments>
owned<T, Free> make(sbx_status (*function)(Parameters...), Arguments... arguments) {
    T *handle = nullptr;
    call(function, arguments..., &handle);
    return owned<T, Free>(handle);
}

/// Text for C, which can't have a NUL in it.
class c_text {
public:
    c_text(std::string_view text, const char *name) : text_(text) {
        if (text.find('\0') != std::string_view::npos)
            throw invalid_argument_error(std::string(name) + " has a NUL in it");
    }

    const char *get() const noexcept { return text_.c_str(); }

private:
    std::string text_;
};

inline double exact_seconds(seconds time, const char *name) {
    if (time < seconds::zero())
        throw invalid_argument_error(std::string(name) + " is negative");
    return time.count();
}

inline double optional_seconds(std::optional<seconds> time, const char *name) {
    return time ? exact_seconds(*time, name) : -1.0;
}

inline time_point at(std::int64_t unix_seconds) {
    return time_point(std::chrono::seconds(unix_seconds));
}

/// A container of bytes with what is at `data`.
template <class Bytes> Bytes copied(const std::uint8_t *data, std::size_t size) {
    using value = typename Bytes::value_type;
    static_assert(sizeof(value) == 1, "the elements of the container must be bytes");
    const auto *first = reinterpret_cast<const value *>(data);
    return Bytes(first, first + size);
}

template <class Bytes> Bytes taken(const owned<sbx_bytes, sbx_bytes_free> &bytes) {
    std::size_t size = 0;
    const std::uint8_t *data = sbx_bytes_data(bytes.get(), &size);
    return copied<Bytes>(data, size);
}

/// Whether a callback says by what it returns that the call goes on.
template <class Callback, class... Arguments> bool goes_on(Callback &callback, Arguments &&...arguments) {
    using answer = std::invoke_result_t<Callback &, Arguments...>;
    static_assert(std::is_void_v<answer> || std::is_same_v<answer, bool>, "a callback returns nothing, or a bool");
    if constexpr (std::is_void_v<answer>) {
        std::invoke(callback, std::forward<Arguments>(arguments)...);
        return true;
    } else {
        return std::invoke(callback, std::forward<Arguments>(arguments)...);
    }
}

/// Keeps what a callback throws on this side of the border to C.
class catcher {
public:
    template <class Body> bool goes_on(Body &&body) noexcept {
        if (thrown_)
            return false;
        try {
            return body();
        } catch (...) {
            thrown_ = std::current_exception();
            return false;
        }
    }

    /// Calls a function of the C ABI, and throws what a callback threw, else its error.
    template <class... Parameters, class... Arguments>
    void call(sbx_status (*function)(Parameters...), Arguments... arguments) {
        sbx_error *told = nullptr;
        const sbx_status status = function(arguments..., &told);
        if (thrown_) {
            sbx_error_free(told);
            std::rethrow_exception(std::move(thrown_));
        }
        if (status != SBX_OK)
            fail(told);
    }

    /// The same for one that gives a handle out as its last result.
    template <class T, auto Free, class... Parameters, class... Arguments>
    owned<T, Free> make(sbx_status (*function)(Parameters...), Arguments... arguments) {
        T *handle = nullptr;
        try {
            call(function, arguments..., &handle);
        } catch (...) {
            Free(handle);
            throw;
        }
        return owned<T, Free>(handle);
    }

private:
    std::exception_ptr thrown_;
};

/// Receives output for a callable.
template <class Receive> struct receiver : catcher {
    explicit receiver(Receive &callable) : receive(callable) {}

    static std::int32_t call_back(void *self, sbx_stream stream, const std::uint8_t *data, std::size_t size) noexcept {
        auto &own = *static_cast<receiver *>(self);
        return own.goes_on([&] {
            return detail::goes_on(own.receive, static_cast<output_stream>(stream), view(data, size));
        }) ? 0 : 1;
    }

    Receive &receive;
};

} // namespace detail

/// What all handles have in common: each owns a handle of the C ABI, and frees it when it is destroyed. Can be moved, not copied.
template <class Native, auto Free> class handle {
public:
    /// True unless it was moved from.
    explicit operator bool() const noexcept { return native_ != nullptr; }

    /// What it owns and keeps owning, for calls to the C ABI. closed_error if it was moved from.
    Native *native_handle() const {
        if (!native_)
            throw closed_error("the handle was moved from");
        return native_.get();
    }

protected:
    /// Takes over what the C ABI gave out, and what is not NULL.
    explicit handle(Native *native) noexcept : native_(native) {}

private:
    detail::owned<Native, Free> native_;
};

// ---------------------------------------------------------------------------------------------------------------------------------
// What is answered

/// How a command ended: with an exit code, or by a signal. The server really said so; nothing is made up.
class exit_status {
public:
    /// Tells what the C ABI tells, which stays the caller's.
    explicit exit_status(const sbx_ending *ending)
        : success_(sbx_ending_success(ending)), signal_(detail::some_text(sbx_ending_signal(ending))) {
        if (std::int32_t code = 0; sbx_ending_exit_code(ending, &code))
            exit_code_ = code;
    }

    /// True if the command ended with exit code 0.
    bool success() const noexcept { return success_; }

    /// The exit code, unless a signal ended the command.
    std::optional<int> exit_code() const noexcept { return exit_code_; }

    /// The name of the signal that ended the command, without SIG, such as "KILL".
    const std::optional<std::string> &signal() const noexcept { return signal_; }

private:
    bool success_;
    std::optional<int> exit_code_;
    std::optional<std::string> signal_;
};

/// What a command wrote and how it ended.
class output : public handle<sbx_output, sbx_output_free> {
public:
    /// Takes over what the C ABI gave out.
    explicit output(sbx_output *native) noexcept : handle(native) {}

    /// True if the command ended with exit code 0.
    bool success() const { return sbx_output_success(native_handle()); }

    /// The exit code, unless a signal ended the command.
    std::optional<int> exit_code() const {
        std::int32_t code = 0;
        return sbx_output_exit_code(native_handle(), &code) ? std::optional<int>(code) : std::nullopt;
    }

    /// The name of the signal that ended the command, without SIG, such as "KILL".
    std::optional<std::string> signal() const { return detail::some_text(sbx_output_signal(native_handle())); }

    /// The bytes of the standard output. They stay as long as this object, wherever it is moved.
    std::string_view out() const & { return view(sbx_output_stdout); }

    /// The same of an object that goes away: a copy.
    std::string out() const && { return std::string(view(sbx_output_stdout)); }

    /// As out(), for the standard error.
    std::string_view err() const & { return view(sbx_output_stderr); }

    /// As out(), for the standard error.
    std::string err() const && { return std::string(view(sbx_output_stderr)); }

    /// How many bytes of both streams were beyond the limit and are lost.
    std::uint64_t truncated() const { return sbx_output_truncated(native_handle()); }

    /// This output if the command ended with exit code 0. Else command_failed_error: its message has the code and the last line of
    /// the standard error, and it has both streams.
    const output &check() const & {
        detail::call(sbx_output_check, native_handle());
        return *this;
    }

    /// The same of an object that goes away.
    output check() && {
        detail::call(sbx_output_check, native_handle());
        return std::move(*this);
    }

private:
    std::string_view view(const std::uint8_t *(*of)(const sbx_output *, std::size_t *)) const {
        std::size_t size = 0;
        const std::uint8_t *data = of(native_handle(), &size);
        return detail::view(data, size);
    }
};

/// What Kubernetes says about a sandbox at one moment. Copies share what they tell, and may be read from several threads.
class info {
public:
    /// Tells what the C ABI tells; not NULL.
    explicit info(std::shared_ptr<const sbx_info> told) noexcept : told_(std::move(told)) {}

    /// Name of the sandbox and of its Pod.
    std::string name() const { return detail::text(sbx_info_name(get())); }

    /// Namespace of the Pod.
    std::string namespace_name() const { return detail::text(sbx_info_namespace(get())); }

    /// Kubernetes' unique id of the Pod; another Pod of the same name has another one.
    std::string uid() const { return detail::text(sbx_info_uid(get())); }

    /// Where the Pod is in its life.
    ::sandbox::phase phase() const { return static_cast<::sandbox::phase>(sbx_info_phase(get())); }

    /// The owner that its creator was configured with.
    std::string owner() const { return detail::text(sbx_info_owner(get())); }

    /// The image it runs.
    std::string image() const { return detail::text(sbx_info_image(get())); }

    /// The node it runs on; none until one is chosen.
    std::optional<std::string> node() const { return detail::some_text(sbx_info_node(get())); }

    /// The Pod's address as text; none until it has one.
    std::optional<std::string> pod_ip() const { return detail::some_text(sbx_info_pod_ip(get())); }

    /// Port of the SSH server.
    std::uint16_t ssh_port() const { return sbx_info_ssh_port(get()); }

    /// User name for SSH.
    std::string ssh_user() const { return detail::text(sbx_info_ssh_user(get())); }

    /// The SSH server's host key, as OpenSSH writes it; none until it is pinned.
    std::optional<std::string> host_key() const { return detail::some_text(sbx_info_host_key(get())); }

    /// When it was created, if that is known.
    std::optional<time_point> created_at() const { return time(sbx_info_created_at); }

    /// When it expires, unless it never does.
    std::optional<time_point> expires_at() const { return time(sbx_info_expires_at); }

    /// The value of one of the Pod's labels, if it has it.
    std::optional<std::string> label(std::string_view name) const {
        return detail::some_text(sbx_info_label(get(), detail::c_text(name, "name").get()));
    }

    /// All labels of the Pod.
    std::map<std::string, std::string> labels() const {
        std::map<std::string, std::string> labels;
        for (std::size_t index = 0; index < sbx_info_label_count(get()); index++)
            labels.emplace(sbx_info_label_name_at(get(), index), sbx_info_label_value_at(get(), index));
        return labels;
    }

    /// Why it stopped or can't start, if either is so.
    std::optional<::sandbox::verdict> verdict() const {
        return detail::some_verdict(sbx_info_verdict_cause(get()), sbx_info_verdict_reason(get()),
                                    sbx_info_verdict_message(get()));
    }

private:
    const sbx_info *get() const {
        if (!told_)
            throw closed_error("the info was moved from");
        return told_.get();
    }

    std::optional<time_point> time(bool (*of)(const sbx_info *, std::int64_t *)) const {
        std::int64_t unix_seconds = 0;
        return of(get(), &unix_seconds) ? std::optional<time_point>(detail::at(unix_seconds)) : std::nullopt;
    }

    std::shared_ptr<const sbx_info> told_;
};

/// What is known about a file.
struct metadata {
    /// What it is.
    file_kind kind = file_kind::unknown;
    /// Its size in bytes. Files that the system makes up, as in /proc, say 0.
    std::uint64_t size = 0;
    /// Its permission bits, with those for set-user-id, set-group-id and sticky.
    std::filesystem::perms permissions = std::filesystem::perms::none;
    /// When its contents were changed last, if that is known.
    std::optional<time_point> modified;
    /// When it was read last, if that is known.
    std::optional<time_point> accessed;
};

/// An entry of a directory.
struct directory_entry {
    /// Its name: bytes without '/'.
    std::string name;
    /// What is known about it, about a link itself.
    ::sandbox::metadata metadata;
};

/// What the transfer of a file did.
struct transferred {
    /// Bytes of the file.
    std::uint64_t bytes = 0;
    /// How many of them had been there already, from an earlier transfer.
    std::uint64_t resumed = 0;
    /// The file's SHA-256, if it was compared.
    std::optional<std::array<std::uint8_t, 32>> sha256;
};

/// Something to say about an entry of a tree.
struct note {
    /// The entry, below the root of the tree: bytes.
    std::string path;
    /// What there is to say, such as "a socket".
    std::string text;
};

/// What the transfer of a directory did.
struct tree_report {
    /// Regular files, those with several names counted once for each.
    std::uint64_t files = 0;
    /// Directories, with the root.
    std::uint64_t directories = 0;
    /// Symbolic links.
    std::uint64_t symlinks = 0;
    /// Bytes of all files.
    std::uint64_t bytes = 0;
    /// How many entries were left out.
    std::uint64_t skipped = 0;
    /// What was left out and why, and which files were changed while they were read; at most 1000.
    std::vector<note> notes;
};

/// How far a transfer has come.
struct progress {
    /// The file that is read: as the caller named it, or below the root of a tree. Only during the callback.
    std::string_view path;
    /// Bytes that have arrived, in all files of a tree.
    std::uint64_t done = 0;
    /// How many there are, if that is known.
    std::optional<std::uint64_t> total;
};

/// How long each phase of a creation took, counted from the call.
struct creation_timings {
    /// Until the API server had stored the Pod.
    seconds accepted{};
    /// Until the container had started.
    seconds started{};
    /// Until the SSH login had succeeded.
    seconds logged_in{};
};

/// SSH sessions of a client to a sandbox at one moment.
struct session_counts {
    /// Those that wait for work.
    std::size_t idle = 0;
    /// Those that work.
    std::size_t busy = 0;
};

namespace detail {

using owned_ending = owned<sbx_ending, sbx_ending_free>;

inline std::optional<time_point> file_time(bool (*of)(const sbx_metadata *, std::int64_t *), const sbx_metadata *file) {
    std::int64_t unix_seconds = 0;
    return of(file, &unix_seconds) ? std::optional<time_point>(at(unix_seconds)) : std::nullopt;
}

inline metadata told(const sbx_metadata *file) {
    metadata all;
    all.kind = static_cast<file_kind>(sbx_metadata_kind(file));
    all.size = sbx_metadata_size(file);
    all.permissions = static_cast<std::filesystem::perms>(sbx_metadata_mode(file));
    all.modified = file_time(sbx_metadata_modified, file);
    all.accessed = file_time(sbx_metadata_accessed, file);
    return all;
}

inline std::vector<directory_entry> told(const sbx_entries *entries) {
    std::vector<directory_entry> all;
    all.reserve(sbx_entries_count(entries));
    for (std::size_t index = 0; index < sbx_entries_count(entries); index++)
        all.push_back({text(sbx_entries_name_at(entries, index)), told(sbx_entries_metadata_at(entries, index))});
    return all;
}

inline transferred told(const sbx_transferred *file) {
    transferred all;
    all.bytes = sbx_transferred_bytes(file);
    all.resumed = sbx_transferred_resumed(file);
    if (const std::uint8_t *sha256 = sbx_transferred_sha256(file))
        std::copy_n(sha256, 32, all.sha256.emplace().begin());
    return all;
}

inline tree_report told(const sbx_tree_report *report) {
    tree_report all;
    all.files = sbx_tree_report_files(report);
    all.directories = sbx_tree_report_directories(report);
    all.symlinks = sbx_tree_report_symlinks(report);
    all.bytes = sbx_tree_report_bytes(report);
    all.skipped = sbx_tree_report_skipped(report);
    for (std::size_t index = 0; index < sbx_tree_report_note_count(report); index++)
        all.notes.push_back({text(sbx_tree_report_note_path_at(report, index)),
                             text(sbx_tree_report_note_text_at(report, index))});
    return all;
}

inline std::uint32_t mode(std::filesystem::perms permissions) noexcept {
    return static_cast<std::uint32_t>(permissions);
}

} // namespace detail

// ---------------------------------------------------------------------------------------------------------------------------------
// Commands

namespace detail {

/// What reads one of a command's output streams.
class child_source : public std::streambuf {
public:
    using reader = sbx_status (*)(const sbx_child *, std::uint8_t *, std::size_t, std::size_t *, sbx_error **);

    child_source(const sbx_child *child, reader from) : child_(child), from_(from) {}

    /// What the stream has read ahead, else what comes.
    std::size_t read_some(buffer_view buffer) {
        const auto ahead = static_cast<std::size_t>(egptr() - gptr());
        if (ahead == 0)
            return read(buffer.data(), buffer.size());
        const std::size_t size = std::min(ahead, buffer.size());
        std::copy_n(gptr(), size, buffer.data());
        gbump(static_cast<int>(size));
        return size;
    }

protected:
    int_type underflow() override {
        buffer_.resize(capacity);
        const std::size_t size = read(reinterpret_cast<std::uint8_t *>(buffer_.data()), capacity);
        setg(buffer_.data(), buffer_.data(), buffer_.data() + size);
        return size == 0 ? traits_type::eof() : traits_type::to_int_type(*gptr());
    }

private:
    static constexpr std::size_t capacity = 64 * 1024;

    std::size_t read(std::uint8_t *buffer, std::size_t room) {
        std::size_t size = 0;
        call(from_, child_, buffer, room, &size);
        return size;
    }

    const sbx_child *child_;
    reader from_;
    std::string buffer_;
};

/// What writes a command's standard input, at once.
class child_sink : public std::streambuf {
public:
    explicit child_sink(const sbx_child *child) : child_(child) {}

    void write(bytes_view data) { call(sbx_child_write_stdin, child_, data.data(), data.size()); }

protected:
    std::streamsize xsputn(const char *data, std::streamsize size) override {
        write(std::string_view(data, static_cast<std::size_t>(size)));
        return size;
    }

    int_type overflow(int_type byte) override {
        if (traits_type::eq_int_type(byte, traits_type::eof()))
            return traits_type::not_eof(byte);
        const char one = traits_type::to_char_type(byte);
        write(std::string_view(&one, 1));
        return byte;
    }

private:
    const sbx_child *child_;
};

/// The three streams of a command. What goes wrong in one is thrown as it is.
struct child_streams {
    explicit child_streams(const sbx_child *child)
        : sink(child), out_source(child, sbx_child_read_stdout), err_source(child, sbx_child_read_stderr), in(&sink),
          out(&out_source), err(&err_source) {
        in.exceptions(std::ios_base::badbit);
        out.exceptions(std::ios_base::badbit);
        err.exceptions(std::ios_base::badbit);
    }

    child_sink sink;
    child_source out_source;
    child_source err_source;
    std::ostream in;
    std::istream out;
    std::istream err;
};

} // namespace detail

/// A command that runs, made by command::spawn(). May be used from several threads at once: one writes, two read, one waits. As with
/// a process of this machine, a command whose output nobody reads stops when the buffers are full. When this object is destroyed,
/// the command runs on to its end or its timeout, with its input closed and its output thrown away.
class child : public handle<sbx_child, sbx_child_free> {
public:
    /// Takes over what the C ABI gave out.
    explicit child(sbx_child *native) : handle(native), streams_(std::make_unique<detail::child_streams>(native)) {}

    /// The value of SANDBOX_COMMAND_ID in the environment of the command's processes.
    std::string id() const { return detail::text(sbx_child_id(native_handle())); }

    /// The command's standard input. What is written goes to the command at once, and blocks while its buffers are full. An error,
    /// such as closed_error when the command takes no more, is thrown by the operation on the stream.
    std::ostream &in() const { return streams().in; }

    /// The command's standard output. Errors are thrown by the operation on the stream, and so they are no end of the output.
    std::istream &out() const { return streams().out; }

    /// As out(), for the standard error.
    std::istream &err() const { return streams().err; }

    /// Writes all of `data` to the command's standard input, and blocks while its buffers are full. closed_error if the input was
    /// closed or the command takes no more.
    void write_stdin(bytes_view data) const { streams().sink.write(data); }

    /// Ends the command's standard input. Waits for a write of another thread.
    void close_stdin() const { sbx_child_close_stdin(native_handle()); }

    /// Reads what there is of the command's standard output into `buffer`, and says how many bytes that is: 0 at the end, else 1 or
    /// more. Blocks until there are some. Begins with what the stream out() has read ahead.
    std::size_t read_stdout(buffer_view buffer) const { return streams().out_source.read_some(buffer); }

    /// As read_stdout(), for the standard error.
    std::size_t read_stderr(buffer_view buffer) const { return streams().err_source.read_some(buffer); }

    /// Lets go of the command's standard output: what still comes is thrown away, so that nobody needs to read it.
    void close_stdout() const { sbx_child_close_stdout(native_handle()); }

    /// As close_stdout(), for the standard error.
    void close_stderr() const { sbx_child_close_stderr(native_handle()); }

    /// Ends the command's standard input and waits until the command has ended. May be called again. Fails as command::output().
    exit_status wait() const {
        return exit_status(detail::make<sbx_ending, sbx_ending_free>(sbx_child_wait, native_handle()).get());
    }

    /// Ends the command's standard input, reads both its output streams to their ends, and waits. The output has what nobody read
    /// before, without what out() and err() have read ahead, and of each stream at most the command's output limit. Both streams are
    /// closed afterwards. Fails as command::output().
    ::sandbox::output wait_with_output() const {
        return ::sandbox::output(
            detail::make<sbx_output, sbx_output_free>(sbx_child_wait_with_output, native_handle()).release());
    }

    /// How the command ended, if it has. Does not wait. Fails as command::output().
    std::optional<exit_status> try_wait() const {
        bool has_ended = false;
        const auto ending = detail::make<sbx_ending, sbx_ending_free>(sbx_child_try_wait, native_handle(), &has_ended);
        return has_ended ? std::optional<exit_status>(ending.get()) : std::nullopt;
    }

    /// Sends the command's process group the signal KILL. wait() tells when it has ended.
    void kill() const { detail::call(sbx_child_kill, native_handle()); }

    /// Sends the command's process group a signal, named without SIG, such as "INT" or "TERM". invalid_argument_error if this is no
    /// name of a signal.
    void signal(std::string_view name) const {
        detail::call(sbx_child_signal, native_handle(), detail::c_text(name, "name").get());
    }

    /// Tells the command that its terminal has another size, in characters.
    void resize(std::uint16_t columns, std::uint16_t rows) const { sbx_child_resize(native_handle(), columns, rows); }

private:
    detail::child_streams &streams() const {
        native_handle();
        return *streams_;
    }

    std::unique_ptr<detail::child_streams> streams_;
};

/// How far detached::stream() has come: bytes from the beginning of each stream.
struct stream_positions {
    /// In the standard output.
    std::uint64_t out = 0;
    /// In the standard error.
    std::uint64_t err = 0;
};

/// A command that runs in the sandbox whether anybody is connected or not, made by command::detach() or box::detached(). Its output
/// and its status stay in the sandbox until remove(). It may be used from several threads, and from other processes under its key.
/// Destroying this object does nothing to the command.
class detached : public handle<sbx_detached, sbx_detached_free> {
public:
    /// Takes over what the C ABI gave out.
    explicit detached(sbx_detached *native) noexcept : handle(native) {}

    /// The key that it was started with.
    std::string key() const { return detail::text(sbx_detached_key(native_handle())); }

    /// How the command ended, if it has. Does not wait for it. not_found_error if no command has this key; timed_out_error if its own
    /// timeout ended it; command_error if it did not run; outcome_unknown_error if what watches over it in the sandbox was killed;
    /// ssh_error if the sandbox can't be reached.
    std::optional<exit_status> try_wait() const {
        bool has_ended = false;
        const auto ending = detail::make<sbx_ending, sbx_ending_free>(sbx_detached_try_wait, native_handle(), &has_ended);
        return has_ended ? std::optional<exit_status>(ending.get()) : std::nullopt;
    }

    /// Waits until the command has ended, at most for `timeout`; by default for ever. timed_out_error if it still runs; it goes on
    /// then. Else as try_wait().
    exit_status wait(std::optional<seconds> timeout = std::nullopt) const {
        const double limit = detail::optional_seconds(timeout, "timeout");
        return exit_status(detail::make<sbx_ending, sbx_ending_free>(sbx_detached_wait, native_handle(), limit).get());
    }

    /// What the command has written by now to a stream, from the byte `offset` on: at most `limit` bytes. It does not wait: none
    /// means that there is nothing there yet, or no more once it has ended. not_found_error if no command has this key; ssh_error if
    /// the sandbox can't be reached.
    template <class Bytes = std::string>
    Bytes read(output_stream stream, std::uint64_t offset, std::size_t limit) const {
        return detail::taken<Bytes>(detail::make<sbx_bytes, sbx_bytes_free>(
            sbx_detached_read, native_handle(), static_cast<std::int32_t>(stream), offset, limit));
    }

    /// Hands the output to `receive` as it comes, as by command::stream(), until the command has ended. It begins at `positions`, and
    /// moves them along, so that after an error the same call goes on where this one stopped. cancelled_error if `receive` asked to
    /// stop; the command runs on then. Else as try_wait().
    template <class Receive> exit_status stream(stream_positions &positions, Receive &&receive) const {
        detail::receiver<std::remove_reference_t<Receive>> state(receive);
        return exit_status(state
                               .template make<sbx_ending, sbx_ending_free>(
                                   sbx_detached_stream, native_handle(), &positions.out, &positions.err, &state.call_back,
                                   static_cast<void *>(&state))
                               .get());
    }

    /// The same from the beginning of both streams.
    template <class Receive> exit_status stream(Receive &&receive) const {
        stream_positions positions;
        return stream(positions, std::forward<Receive>(receive));
    }

    /// Kills the command and all its processes, those that left its process group too, and returns when they are gone. One that has
    /// ended needs no killing. not_found_error if no command has this key; command_error if some process can't be killed; ssh_error if
    /// the sandbox can't be reached.
    void kill() const { detail::call(sbx_detached_kill, native_handle()); }

    /// Sends the command's process group a signal, named without SIG, such as "INT" or "TERM". One that has ended needs none.
    /// invalid_argument_error if this is no name of a signal; else as kill().
    void signal(std::string_view name) const {
        detail::call(sbx_detached_signal, native_handle(), detail::c_text(name, "name").get());
    }

    /// Removes the output and the status of a command that has ended. Its key is free again. conflict_error if it runs;
    /// not_found_error if no command has this key; ssh_error if the sandbox can't be reached.
    void remove() const { detail::call(sbx_detached_remove, native_handle()); }
};

/// A command to run in a sandbox, made by box::command() or box::shell().
///
/// It sees the image's environment, then the spec's, then its own, and begins in the image's working directory. It may be run again
/// and again, from several threads too; each run is a new process. A run happens at most once: when the connection is lost after the
/// command was requested, it is an outcome_unknown_error. Setters give the command back, so that they can be chained; the object
/// itself stays where it is.
class command : public handle<sbx_command, sbx_command_free> {
public:
    /// Takes over what the C ABI gave out.
    explicit command(sbx_command *native) noexcept : handle(native) {}

    /// Adds an argument. The command gets exactly its bytes; no shell sees them. For a shell line the arguments are $1, $2, … A NUL in
    /// it makes the run fail with an invalid_argument_error.
    command &add_arg(std::string_view value) {
        const bytes_view bytes = value;
        detail::call(sbx_command_add_arg_bytes, native_handle(), bytes.data(), bytes.size());
        return *this;
    }

    /// The same for text that ends with a NUL.
    command &add_arg(const char *value) {
        detail::call(sbx_command_add_arg, native_handle(), value);
        return *this;
    }

    /// Adds all arguments of a range whose elements can be read as std::string_view.
    template <class Range> command &add_args(const Range &values) {
        for (const auto &value : values)
            add_arg(std::string_view(value));
        return *this;
    }

    /// Adds all these arguments.
    command &add_args(std::initializer_list<std::string_view> values) {
        return add_args<std::initializer_list<std::string_view>>(values);
    }

    /// Sets an environment variable for the command. Name and value are bytes; the name has no '='.
    command &set_env(std::string_view name, std::string_view value) {
        detail::call(sbx_command_set_env, native_handle(), detail::c_text(name, "name").get(),
                     detail::c_text(value, "value").get());
        return *this;
    }

    /// Sets the directory to run in; a relative one begins at the image's working directory.
    command &set_current_dir(std::string_view directory) {
        detail::call(sbx_command_set_current_dir, native_handle(), detail::c_text(directory, "directory").get());
        return *this;
    }

    /// Sets the user to run as, by name, with that user's groups and HOME. Only a sandbox that runs as root allows another user than its
    /// own; elsewhere the run fails with a command_error. Default: the SSH user.
    command &set_user(std::string_view name) {
        detail::call(sbx_command_set_user, native_handle(), detail::c_text(name, "name").get());
        return *this;
    }

    /// Sets the command's standard input to a copy of `data`; it ends after that. Default: no input.
    command &set_stdin(bytes_view data) {
        detail::call(sbx_command_set_stdin, native_handle(), data.data(), data.size());
        return *this;
    }

    /// Reads `in` to its end now, and sets the command's standard input to that. For more than fits into memory there are
    /// set_stdin_fd() and child::in(). invalid_argument_error if the stream has failed.
    command &set_stdin(std::istream &in) {
        if (!in)
            throw invalid_argument_error("the stream for the standard input has failed");
        return set_stdin(std::string(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()));
    }

    /// Lets the command read its standard input from an open file, pipe or socket of this process, from where it stands to its end. The
    /// library reads from a duplicate of `fd`, while the command runs and when there is something; the caller may close its own at
    /// once. It is used up by one run: the next fails with an invalid_argument_error.
    command &set_stdin_fd(int fd) {
        detail::call(sbx_command_set_stdin_fd, native_handle(), fd);
        return *this;
    }

    /// Sends the standard output to /dev/null in the sandbox, so that none of it travels.
    command &discard_stdout() {
        detail::call(sbx_command_discard_stdout, native_handle());
        return *this;
    }

    /// Sends the standard error to /dev/null in the sandbox, so that none of it travels.
    command &discard_stderr() {
        detail::call(sbx_command_discard_stderr, native_handle());
        return *this;
    }

    /// Sends the standard error to where the standard output goes, in the order in which the command writes both.
    command &merge_stderr() {
        detail::call(sbx_command_merge_stderr, native_handle());
        return *this;
    }

    /// Sets the time after which the command is killed; std::nullopt for no limit. Default: config::set_command_timeout().
    command &set_timeout(std::optional<seconds> timeout) {
        detail::call(sbx_command_set_timeout, native_handle(), detail::optional_seconds(timeout, "timeout"));
        return *this;
    }

    /// Runs the command on a terminal of this kind, such as "xterm-256color", and size in characters. Both output streams come as
    /// standard output then, and the terminal turns line ends into "\r\n". Default: no terminal.
    command &set_terminal(std::string_view kind, std::uint16_t columns, std::uint16_t rows) {
        detail::call(sbx_command_set_terminal, native_handle(), detail::c_text(kind, "kind").get(), columns, rows);
        return *this;
    }

    /// Sets how many bytes of each output stream output() keeps; output::truncated() counts the rest. Default: 256 MiB.
    command &set_output_limit(std::size_t bytes) {
        detail::call(sbx_command_set_output_limit, native_handle(), bytes);
        return *this;
    }

    /// Runs the command to its end and collects its output. A non-zero exit code is no error; see output::check().
    ///
    /// command_error if it did not run; timed_out_error if it was killed at its deadline (the error has its output so far);
    /// outcome_unknown_error if the connection was lost while it may have run; ssh_error if the sandbox can't be reached.
    ::sandbox::output output() const {
        return ::sandbox::output(detail::make<sbx_output, sbx_output_free>(sbx_command_output, native_handle()).release());
    }

    /// Runs the command to its end and throws its output away. Fails as output().
    exit_status status() const {
        return exit_status(detail::make<sbx_ending, sbx_ending_free>(sbx_command_status, native_handle()).get());
    }

    /// Runs the command to its end and hands its output as it comes to `receive(output_stream, std::string_view)`, in pieces of any size
    /// that stay during the callback. The callback may use this library, also the same sandbox, but must not change the command.
    ///
    /// cancelled_error if `receive` asked to stop, and what it throws if it does; the command was killed then. Else as output().
    template <class Receive> exit_status stream(Receive &&receive) const {
        detail::receiver<std::remove_reference_t<Receive>> state(receive);
        return exit_status(state
                               .template make<sbx_ending, sbx_ending_free>(sbx_command_stream, native_handle(),
                                                                           &state.call_back, static_cast<void *>(&state))
                               .get());
    }

    /// Starts the command and returns while it runs. Fails as output(), as far as the start is concerned; the rest comes from
    /// child::wait().
    [[nodiscard]] child spawn() const {
        return child(detail::make<sbx_child, sbx_child_free>(sbx_command_spawn, native_handle()).release());
    }

    /// Starts the command so that it needs neither this process nor a connection, and returns: it is found again, from any process, by
    /// its key. It starts at most once per key: where the key is known already, this gives the command that has it, running or ended.
    ///
    /// A key has 1 to 64 ASCII letters, digits, '.', '_' or '-', and begins with a letter or digit. The command's output goes to files in
    /// the sandbox's /tmp; its input must be bytes; it has no terminal; and only a timeout of its own counts, not the configured one.
    ///
    /// invalid_argument_error for what is said above; conflict_error if the key belongs to another command; else as output().
    ::sandbox::detached detach(std::string_view key) const {
        return ::sandbox::detached(detail::make<sbx_detached, sbx_detached_free>(sbx_command_detach, native_handle(),
                                                                                 detail::c_text(key, "key").get())
                                       .release());
    }
};

// ---------------------------------------------------------------------------------------------------------------------------------
// Files

/// An open file of a sandbox, made by box::open_file(). It keeps an SSH session for itself until it is closed. May be used from several
/// threads; their calls take turns. After a lost connection or a timeout it can only be destroyed, which closes it too, but tells no
/// error; so close() it first. Functions fail as box::upload_file().
class file : public handle<sbx_file, sbx_file_free> {
public:
    /// Takes over what the C ABI gave out.
    explicit file(sbx_file *native) noexcept : handle(native) {}

    /// Reads from the position on into `buffer`, and says how many bytes came: 0 at the file's end, else 1 or more, but not always as
    /// many as there are.
    std::size_t read(buffer_view buffer) const {
        std::size_t size = 0;
        detail::call(sbx_file_read, native_handle(), buffer.data(), buffer.size(), &size);
        return size;
    }

    /// Writes all of `data` from the position on, or at the file's end if it is open for that. After an error a part may be written.
    void write(bytes_view data) const { detail::call(sbx_file_write, native_handle(), data.data(), data.size()); }

    /// Sets the position to `offset` bytes from where `whence` says. The new position.
    std::uint64_t seek(std::int64_t offset, seek_from whence = seek_from::start) const {
        std::uint64_t position = 0;
        detail::call(sbx_file_seek, native_handle(), offset, static_cast<std::int32_t>(whence), &position);
        return position;
    }

    /// What is known about it now.
    ::sandbox::metadata metadata() const {
        return detail::told(detail::make<sbx_metadata, sbx_metadata_free>(sbx_file_metadata, native_handle()).get());
    }

    /// Cuts it off after `size` bytes, or fills it up with zeros.
    void set_size(std::uint64_t size) const { detail::call(sbx_file_set_size, native_handle(), size); }

    /// Sets its permission bits.
    void set_permissions(std::filesystem::perms permissions) const {
        detail::call(sbx_file_set_permissions, native_handle(), detail::mode(permissions));
    }

    /// Returns once the sandbox's system says that the contents are on its disk. transfer_error if the SFTP server can't do that, which
    /// OpenSSH's can.
    void sync() const { detail::call(sbx_file_sync, native_handle()); }

    /// Closes it, and tells what could not be written: some file systems report it only then. closed_error if it was closed before.
    void close() const { detail::call(sbx_file_close, native_handle()); }
};

namespace detail {

/// The callbacks of a transfer: what gives or takes the contents, and what is told of its progress; nullptr for none.
template <class Contents, class Progress> class flow : public catcher {
public:
    flow(Contents &contents, Progress &progress) : contents_(contents), progress_(progress) {}

    static constexpr sbx_progress_fn tell() {
        if constexpr (std::is_null_pointer_v<std::remove_cv_t<Progress>>)
            return nullptr;
        else
            return tell_back;
    }

    static std::int64_t read(void *self, std::uint8_t *buffer, std::size_t capacity) noexcept {
        auto &own = *static_cast<flow *>(self);
        std::int64_t size = -1;
        own.goes_on([&] {
            const auto given = own.contents_(reinterpret_cast<char *>(buffer), capacity);
            static_assert(std::is_integral_v<std::remove_const_t<decltype(given)>>, "a reader returns how many bytes it gives");
            size = static_cast<std::int64_t>(given);
            return true;
        });
        return size;
    }

    static std::int32_t write(void *self, const std::uint8_t *data, std::size_t size) noexcept {
        auto &own = *static_cast<flow *>(self);
        return own.goes_on([&] { return detail::goes_on(own.contents_, view(data, size)); }) ? 0 : 1;
    }

private:
    static std::int32_t tell_back(void *self, const char *path, std::uint64_t done, std::int64_t total) noexcept {
        auto &own = *static_cast<flow *>(self);
        return own.goes_on([&] {
            ::sandbox::progress now{text_view(path), done, std::nullopt};
            if (total >= 0)
                now.total = static_cast<std::uint64_t>(total);
            return detail::goes_on(own.progress_, static_cast<const ::sandbox::progress &>(now));
        }) ? 0 : 1;
    }

    static std::string_view text_view(const char *path) { return path ? path : std::string_view(); }

    Contents &contents_;
    Progress &progress_;
};

/// Bytes of a stream of the caller, until its end.
struct stream_reader {
    std::istream &in;

    std::size_t operator()(char *buffer, std::size_t capacity) {
        const auto size = in.rdbuf()->sgetn(buffer, static_cast<std::streamsize>(capacity));
        return static_cast<std::size_t>(std::max<std::streamsize>(size, 0));
    }
};

/// Bytes for a stream of the caller.
struct stream_writer {
    std::ostream &out;

    void operator()(std::string_view data) {
        const auto size = static_cast<std::streamsize>(data.size());
        if (out.rdbuf()->sputn(data.data(), size) != size)
            throw cancelled_error("the stream for the download does not take all");
    }
};

} // namespace detail

/// Options for uploads and downloads, made by box::transfer(). It may be used again and again, from several threads too.
///
/// By default nothing is resumed or forced to a disk, and no checksum is compared: SSH guards every packet, the server acknowledges every
/// write, and the size is always compared. Setters give the options back, so that they can be chained; the object itself stays where it
/// is.
///
/// `progress` is any callable for a `const sandbox::progress &`, or nullptr. It is called at the beginning, at the end, and up to 20
/// times a second in between, and may use this library, also the same sandbox.
class transfer : public handle<sbx_transfer, sbx_transfer_free> {
public:
    /// Takes over what the C ABI gave out.
    explicit transfer(sbx_transfer *native) noexcept : handle(native) {}

    /// Whether the SHA-256 of what was sent and of what has arrived are compared, before it gets its name; of a tree, of each of its
    /// files. The sandbox needs sha256sum. Default: false.
    transfer &set_checksum(bool checksum = true) {
        detail::call(sbx_transfer_set_checksum, native_handle(), checksum);
        return *this;
    }

    /// Whether a transfer returns only when contents and names are on the receiving disk, as far as its system tells the truth. Default:
    /// false.
    transfer &set_sync(bool sync = true) {
        detail::call(sbx_transfer_set_sync, native_handle(), sync);
        return *this;
    }

    /// Whether what has arrived when a transfer of a file fails is kept, and what an earlier one of the same name has kept is begun with,
    /// if its SHA-256 is that of the first bytes of the source. Includes the checksum. Default: false; what has arrived is removed.
    transfer &set_resume(bool resume = true) {
        detail::call(sbx_transfer_set_resume, native_handle(), resume);
        return *this;
    }

    /// How many bytes of contents a download may have; more are a transfer_error. Default: no limit but the time.
    transfer &set_max_bytes(std::uint64_t max_bytes) {
        detail::call(sbx_transfer_set_max_bytes, native_handle(), max_bytes);
        return *this;
    }

    /// How many entries the download of a directory may have; more are a transfer_error. Default: no limit but the time.
    transfer &set_max_entries(std::uint64_t max_entries) {
        detail::call(sbx_transfer_set_max_entries, native_handle(), max_entries);
        return *this;
    }

    /// Copies the local file `local` to `remote`, as box::upload_file(), whose errors it has; transfer_error also if the checksums
    /// differ, cancelled_error if `progress` says so.
    template <class Progress = std::nullptr_t>
    transferred upload(const std::filesystem::path &local, std::string_view remote, Progress &&progress = nullptr) const {
        return between(sbx_transfer_upload, {local.native(), "local"}, {remote, "remote"}, progress);
    }

    /// Copies `remote` to the local file `local`; otherwise as upload().
    template <class Progress = std::nullptr_t>
    transferred download(std::string_view remote, const std::filesystem::path &local, Progress &&progress = nullptr) const {
        return between(sbx_transfer_download, {remote, "remote"}, {local.native(), "local"}, progress);
    }

    /// Copies all that `source` gives to the file `remote`, with permissions rw-r--r--. `source` is a std::istream, which is read to its
    /// end, or a callable `source(char *buffer, std::size_t capacity)` that puts up to `capacity` bytes into `buffer` and returns how
    /// many: 0 at the end, a negative number for a cancelled_error. It can't be resumed: invalid_argument_error, also for a stream that
    /// has failed. Otherwise as upload().
    template <class Source, class Progress = std::nullptr_t>
    transferred upload_from(Source &&source, std::string_view remote, Progress &&progress = nullptr) const {
        if constexpr (std::is_base_of_v<std::istream, std::remove_reference_t<Source>>) {
            if (!source)
                throw invalid_argument_error("the stream for the upload has failed");
            return upload_from(detail::stream_reader{source}, remote, progress);
        } else {
            detail::flow<std::remove_reference_t<Source>, std::remove_reference_t<Progress>> state(source, progress);
            return detail::told(state
                                    .template make<sbx_transferred, sbx_transferred_free>(
                                        sbx_transfer_upload_from, native_handle(), &state.read,
                                        detail::c_text(remote, "remote").get(), state.tell(), static_cast<void *>(&state))
                                    .get());
        }
    }

    /// Hands the contents of the file `remote` to `target`: a std::ostream, which is flushed at the end, or a callable
    /// `target(std::string_view)`. It can't be resumed: invalid_argument_error, also for a stream that has failed. cancelled_error if
    /// the stream takes no more. Otherwise as upload().
    template <class Target, class Progress = std::nullptr_t>
    transferred download_to(std::string_view remote, Target &&target, Progress &&progress = nullptr) const {
        if constexpr (std::is_base_of_v<std::ostream, std::remove_reference_t<Target>>) {
            if (!target)
                throw invalid_argument_error("the stream for the download has failed");
            const transferred all = download_to(remote, detail::stream_writer{target}, progress);
            if (target.rdbuf()->pubsync() == -1)
                throw cancelled_error("the stream for the download does not take all");
            return all;
        } else {
            detail::flow<std::remove_reference_t<Target>, std::remove_reference_t<Progress>> state(target, progress);
            return detail::told(state
                                    .template make<sbx_transferred, sbx_transferred_free>(
                                        sbx_transfer_download_to, native_handle(), detail::c_text(remote, "remote").get(),
                                        &state.write, state.tell(), static_cast<void *>(&state))
                                    .get());
        }
    }

    /// Copies the local directory `local` with all that is in it to `remote`, as one stream: with modes, times of modification in whole
    /// seconds, symbolic links as they are and empty directories. Sockets, pipes and devices are left out and told.
    ///
    /// Nothing has its name before all has arrived. If `remote` is not there, it appears whole. If it is a directory, it is merged: files
    /// replace files, each in one step, and what only the target has stays.
    ///
    /// Fails as box::upload_file(); conflict_error if something else than a directory is in the way, cancelled_error if `progress` says
    /// so, invalid_argument_error if it is to be resumed. If the merge itself fails, a part of it may be done.
    template <class Progress = std::nullptr_t>
    tree_report upload_dir(const std::filesystem::path &local, std::string_view remote, Progress &&progress = nullptr) const {
        return between(sbx_transfer_upload_dir, {local.native(), "local"}, {remote, "remote"}, progress);
    }

    /// Copies the directory `remote` with all that is in it to the local directory `local`; otherwise as upload_dir().
    ///
    /// Whatever the sandbox sends, nothing is written outside of `local`, and what is kept in memory does not grow with the tree. Symbolic
    /// links that lead out of the tree are left out and told. Names that begin with '/' or have a "..", files below a link, and links to
    /// files outside are a transfer_error. Bits for set-user-id and its like are not set.
    template <class Progress = std::nullptr_t>
    tree_report download_dir(std::string_view remote, const std::filesystem::path &local, Progress &&progress = nullptr) const {
        return between(sbx_transfer_download_dir, {remote, "remote"}, {local.native(), "local"}, progress);
    }

private:
    template <class Report>
    using mover = sbx_status (*)(const sbx_transfer *, const char *, const char *, sbx_progress_fn, void *, Report **, sbx_error **);

    template <class Progress>
    transferred between(mover<sbx_transferred> move, const detail::c_text &from, const detail::c_text &to,
                        Progress &progress) const {
        return moved<sbx_transferred, sbx_transferred_free>(move, from, to, progress);
    }

    template <class Progress>
    tree_report between(mover<sbx_tree_report> move, const detail::c_text &from, const detail::c_text &to,
                        Progress &progress) const {
        return moved<sbx_tree_report, sbx_tree_report_free>(move, from, to, progress);
    }

    template <class Report, auto Free, class Progress>
    auto moved(mover<Report> move, const detail::c_text &from, const detail::c_text &to, Progress &progress) const {
        std::nullptr_t nothing = nullptr;
        detail::flow<std::nullptr_t, Progress> state(nothing, progress);
        const auto report = state.template make<Report, Free>(move, native_handle(), from.get(), to.get(), state.tell(),
                                                              static_cast<void *>(&state));
        return detail::told(static_cast<const Report *>(report.get()));
    }
};

// ---------------------------------------------------------------------------------------------------------------------------------
// Sandboxes

/// A running sandbox: a Pod with an SSH server, made by client::create() or client::attach(). May be used from several threads at once.
/// Destroying this object does not delete the sandbox: it stays until delete_sandbox(), or until it expires. A scoped_box deletes.
class box : public handle<sbx_sandbox, sbx_sandbox_free> {
public:
    /// Takes over what the C ABI gave out.
    explicit box(sbx_sandbox *native) noexcept : handle(native) {}

    /// Name of the sandbox and of its Pod.
    std::string name() const { return detail::text(sbx_sandbox_name(native_handle())); }

    /// Kubernetes' unique id of the Pod.
    std::string uid() const { return detail::text(sbx_sandbox_uid(native_handle())); }

    /// Port of the SSH server, from the cache.
    std::uint16_t ssh_port() const { return sbx_sandbox_ssh_port(native_handle()); }

    /// The SSH server's host key as it is pinned, as OpenSSH writes it; none before the first connection.
    std::optional<std::string> host_key() const { return detail::some_text(sbx_sandbox_host_key(native_handle())); }

    /// How long each phase of the creation took, if this object came from client::create().
    std::optional<creation_timings> timings() const {
        double accepted = 0, started = 0, logged_in = 0;
        if (!sbx_sandbox_timings(native_handle(), &accepted, &started, &logged_in))
            return std::nullopt;
        return creation_timings{seconds(accepted), seconds(started), seconds(logged_in)};
    }

    /// How many idle and busy SSH sessions the client has to this sandbox at this moment.
    ::sandbox::session_counts session_counts() const {
        ::sandbox::session_counts counts;
        sbx_sandbox_session_counts(native_handle(), &counts.idle, &counts.busy);
        return counts;
    }

    /// Asks Kubernetes about the sandbox: one API call. not_found_error if its Pod is gone, also if another one has its name now.
    ::sandbox::info info() const {
        return ::sandbox::info(detail::make<sbx_info, sbx_info_free>(sbx_sandbox_info, native_handle()));
    }

    /// Runs a command line in the sandbox's shell and collects its output. Short for shell() and command::output(), whose errors it has.
    output execute(std::string_view line) const {
        return output(detail::make<sbx_output, sbx_output_free>(sbx_sandbox_execute, native_handle(),
                                                                detail::c_text(line, "line").get())
                          .release());
    }

    /// Makes a command: `program` is looked up in the PATH of the image and gets its arguments exactly as given. Nothing runs yet.
    [[nodiscard]] ::sandbox::command command(std::string_view program) const {
        return ::sandbox::command(detail::make<sbx_command, sbx_command_free>(sbx_sandbox_command, native_handle(),
                                                                              detail::c_text(program, "program").get())
                                      .release());
    }

    /// Makes a command of a line for the sandbox's shell. Nothing runs yet.
    [[nodiscard]] ::sandbox::command shell(std::string_view line) const {
        return ::sandbox::command(detail::make<sbx_command, sbx_command_free>(sbx_sandbox_shell, native_handle(),
                                                                              detail::c_text(line, "line").get())
                                      .release());
    }

    /// The command that command::detach() started under this key, by whomever. Nothing is asked of the sandbox: the first use tells
    /// whether there is one. invalid_argument_error if this can't be a key.
    [[nodiscard]] ::sandbox::detached detached(std::string_view key) const {
        return ::sandbox::detached(detail::make<sbx_detached, sbx_detached_free>(sbx_sandbox_detached, native_handle(),
                                                                                 detail::c_text(key, "key").get())
                                       .release());
    }

    /// Lets the sandbox live for `lifetime` from now, at least a second; earlier than before is possible too. The hard limit of its spec
    /// stays. The new expiry.
    time_point renew(seconds lifetime) const {
        std::int64_t unix_seconds = 0;
        detail::call(sbx_sandbox_renew, native_handle(), detail::exact_seconds(lifetime, "lifetime"), &unix_seconds);
        return detail::at(unix_seconds);
    }

    /// Deletes the sandbox and waits until its Pod is gone. What its handles are asked afterwards is a closed_error. not_found_error if
    /// it was gone already, delete_error if its end could not be confirmed in time.
    void delete_sandbox() const { detail::call(sbx_sandbox_delete, native_handle()); }

    /// The same as delete_sandbox(), under the name that some know.
    void shutdown() const { detail::call(sbx_sandbox_shutdown, native_handle()); }

    /// Copies the local file `local` to `remote` in the sandbox, with its permission bits; a relative `remote` begins at the image's
    /// working directory. The file arrives whole or not at all. The number of bytes.
    ///
    /// What functions for files have in common when they fail: not_found_error and permission_denied_error as the system says them,
    /// conflict_error for what exists already, storage_full_error for a full disk or quota, invalid_argument_error for what is no path,
    /// transfer_error for everything else that the sandbox's system refuses, timed_out_error (the configured transfer timeout, which
    /// applies to each call), and those of a lost connection: disconnected_error where asking again is harmless, outcome_unknown_error
    /// where it may have been done. The message names the file.
    std::uint64_t upload_file(const std::filesystem::path &local, std::string_view remote) const {
        std::uint64_t size = 0;
        detail::call(sbx_sandbox_upload_file, native_handle(), detail::c_text(local.native(), "local").get(),
                     detail::c_text(remote, "remote").get(), &size);
        return size;
    }

    /// Copies `remote` in the sandbox to the local file `local`; otherwise as upload_file().
    std::uint64_t download_file(std::string_view remote, const std::filesystem::path &local) const {
        std::uint64_t size = 0;
        detail::call(sbx_sandbox_download_file, native_handle(), detail::c_text(remote, "remote").get(),
                     detail::c_text(local.native(), "local").get(), &size);
        return size;
    }

    /// Makes options for transfers to and from this sandbox.
    [[nodiscard]] ::sandbox::transfer transfer() const {
        return ::sandbox::transfer(
            detail::make<sbx_transfer, sbx_transfer_free>(sbx_sandbox_transfer, native_handle()).release());
    }

    /// Writes `data` to the file `remote` in the sandbox, with permissions rw-r--r--. Fails as upload_file().
    void write_file(std::string_view remote, bytes_view data) const {
        detail::call(sbx_sandbox_write_file, native_handle(), detail::c_text(remote, "remote").get(), data.data(), data.size());
    }

    /// Writes `data` at the end of the file `remote`, which is created with permissions rw-r--r-- if it is not there. After a failure a
    /// part may be there. Fails as upload_file().
    void append_file(std::string_view remote, bytes_view data) const {
        detail::call(sbx_sandbox_append_file, native_handle(), detail::c_text(remote, "remote").get(), data.data(), data.size());
    }

    /// Reads the file `remote` in the sandbox, of 1 GiB at most, into a std::string or another container of bytes, such as
    /// `read_file<std::vector<std::byte>>(remote)`. Fails as upload_file().
    template <class Bytes = std::string> Bytes read_file(std::string_view remote) const {
        return detail::taken<Bytes>(bytes_of(sbx_sandbox_read_file, remote));
    }

    /// Opens a file; a new one gets the permission bits `permissions`, less the sandbox's umask. Fails as upload_file(); conflict_error
    /// if a file is there that open_mode::create_new was to create.
    [[nodiscard]] file open_file(std::string_view path, open_mode mode = open_mode::read,
                                 std::filesystem::perms permissions = std::filesystem::perms(0644)) const {
        return file(detail::make<sbx_file, sbx_file_free>(sbx_sandbox_open_file, native_handle(),
                                                          detail::c_text(path, "path").get(), static_cast<std::int32_t>(mode),
                                                          detail::mode(permissions))
                        .release());
    }

    /// What is known about a file; links are followed. Fails as upload_file().
    metadata file_metadata(std::string_view path) const {
        return detail::told(detail::make<sbx_metadata, sbx_metadata_free>(sbx_sandbox_file_metadata, native_handle(),
                                                                          detail::c_text(path, "path").get())
                                .get());
    }

    /// As file_metadata(), of a link itself.
    metadata symlink_metadata(std::string_view path) const {
        return detail::told(detail::make<sbx_metadata, sbx_metadata_free>(sbx_sandbox_symlink_metadata, native_handle(),
                                                                          detail::c_text(path, "path").get())
                                .get());
    }

    /// Whether there is such a file; links are followed, so a broken one is none. Fails as upload_file(), but not for a file that is not
    /// there.
    bool file_exists(std::string_view path) const {
        bool exists = false;
        detail::call(sbx_sandbox_file_exists, native_handle(), detail::c_text(path, "path").get(), &exists);
        return exists;
    }

    /// The entries of a directory but "." and "..", in no order: all of them, or an error. Fails as upload_file(); transfer_error for more
    /// than 1048576 entries or 64 MiB of names.
    std::vector<directory_entry> read_dir(std::string_view path) const {
        const auto entries = detail::make<sbx_entries, sbx_entries_free>(sbx_sandbox_read_dir, native_handle(),
                                                                         detail::c_text(path, "path").get());
        return detail::told(static_cast<const sbx_entries *>(entries.get()));
    }

    /// Creates a directory. Fails as upload_file(); conflict_error if something of that name is there.
    void create_dir(std::string_view path) const { at_path(sbx_sandbox_create_dir, path); }

    /// Creates a directory and those above it, as far as they are not there. Fails as upload_file(); conflict_error if something else than
    /// a directory is in the way.
    void create_dir_all(std::string_view path) const { at_path(sbx_sandbox_create_dir_all, path); }

    /// Removes a file, or a link itself. Fails as upload_file(); transfer_error for a directory.
    void remove_file(std::string_view path) const { at_path(sbx_sandbox_remove_file, path); }

    /// Removes an empty directory. Fails as upload_file(); transfer_error if it is not empty, or no directory.
    void remove_dir(std::string_view path) const { at_path(sbx_sandbox_remove_dir, path); }

    /// Removes a directory and all that is in it. Links are removed, not followed. Fails as upload_file(); transfer_error for something
    /// else than a directory. What could be removed is gone then.
    void remove_dir_all(std::string_view path) const { at_path(sbx_sandbox_remove_dir_all, path); }

    /// Gives a file or directory another name, in one step. A file that has that name is replaced, and so is an empty directory by a
    /// directory. Fails as upload_file(); transfer_error if the two are not on the same file system, or a directory is in the way.
    void rename_file(std::string_view from, std::string_view to) const {
        detail::call(sbx_sandbox_rename_file, native_handle(), detail::c_text(from, "from").get(), detail::c_text(to, "to").get());
    }

    /// Sets the permission bits; links are followed. Fails as upload_file().
    void set_file_permissions(std::string_view path, std::filesystem::perms permissions) const {
        detail::call(sbx_sandbox_set_file_permissions, native_handle(), detail::c_text(path, "path").get(),
                     detail::mode(permissions));
    }

    /// Makes the symbolic link `link` that points to `original`, which need not exist. Fails as upload_file(); conflict_error if something
    /// of that name is there.
    void create_symlink(std::string_view original, std::string_view link) const {
        detail::call(sbx_sandbox_create_symlink, native_handle(), detail::c_text(original, "original").get(),
                     detail::c_text(link, "link").get());
    }

    /// What a symbolic link points to. Fails as upload_file(); transfer_error for what is no link.
    std::string read_link(std::string_view path) const {
        return detail::taken<std::string>(bytes_of(sbx_sandbox_read_link, path));
    }

    /// The absolute path of a file, without links, "." and "..". Fails as upload_file().
    std::string resolve_path(std::string_view path) const {
        return detail::taken<std::string>(bytes_of(sbx_sandbox_resolve_path, path));
    }

private:
    void at_path(sbx_status (*function)(const sbx_sandbox *, const char *, sbx_error **), std::string_view path) const {
        detail::call(function, native_handle(), detail::c_text(path, "path").get());
    }

    detail::owned<sbx_bytes, sbx_bytes_free>
    bytes_of(sbx_status (*function)(const sbx_sandbox *, const char *, sbx_bytes **, sbx_error **), std::string_view path) const {
        return detail::make<sbx_bytes, sbx_bytes_free>(function, native_handle(), detail::c_text(path, "path").get());
    }
};

/// A box that goes with its scope: the destructor deletes the sandbox, and waits for that. What goes wrong there is told to nobody; who
/// wants to know calls `delete_sandbox()` first. Can be moved, not copied.
class scoped_box {
public:
    /// Takes over the box.
    explicit scoped_box(::sandbox::box owned) noexcept : box_(std::move(owned)) {}

    /// Leaves the other one without a sandbox.
    scoped_box(scoped_box &&other) noexcept = default;

    /// Deletes the sandbox that this one has.
    scoped_box &operator=(scoped_box &&other) noexcept {
        std::swap(box_, other.box_);
        return *this;
    }

    ~scoped_box() {
        if (box_)
            (void)sbx_sandbox_delete(box_.native_handle(), nullptr);
    }

    /// The box.
    const ::sandbox::box &operator*() const noexcept { return box_; }

    /// The box.
    const ::sandbox::box *operator->() const noexcept { return &box_; }

    /// Gives the box up, and so keeps the sandbox.
    ::sandbox::box release() noexcept { return std::move(box_); }

private:
    ::sandbox::box box_;
};

// ---------------------------------------------------------------------------------------------------------------------------------
// Clients

/// How a client reaches Kubernetes and its sandboxes, and how long it waits. A client copies what it needs of it. Setters give the
/// configuration back, so that they can be chained; the object itself stays where it is. They throw invalid_argument_error for text that
/// is not UTF-8; what is not allowed otherwise is a config_error, here or from client::client().
class config : public handle<sbx_config, sbx_config_free> {
public:
    /// The defaults, whatever the environment says.
    config() : config(detail::make<sbx_config, sbx_config_free>(sbx_config_new).release()) {}

    /// Takes over what the C ABI gave out.
    explicit config(sbx_config *native) noexcept : handle(native) {}

    /// From the SANDBOX_ variables of the environment, then of a .env file in the working directory or above it, then the defaults. The
    /// process's environment is only read. config_error names the variable, where it stands, its value and what is allowed.
    [[nodiscard]] static config from_env() {
        return config(detail::make<sbx_config, sbx_config_free>(sbx_config_from_env).release());
    }

    /// Sets a setting by its name, such as "ssh_port", from text as it would stand in the environment, such as "22". The names are those
    /// of the setters. config_error if there is no such setting or the value is not allowed; the message says which there are, or what
    /// is.
    config &set(std::string_view name, std::string_view value) {
        detail::call(sbx_config_set, native_handle(), detail::c_text(name, "name").get(), detail::c_text(value, "value").get());
        return *this;
    }

    /// Kubernetes namespace of the sandboxes. Default: the context's or the service account's, else "default".
    config &set_namespace(std::string_view value) { return with(sbx_config_set_namespace, value, "namespace"); }

    /// Path of a kubeconfig file. Default: the service account of the Pod that this runs in, else KUBECONFIG, else ~/.kube/config.
    config &set_kubeconfig(const std::filesystem::path &path) {
        return with(sbx_config_set_kubeconfig, path.native(), "path");
    }

    /// Context in the kubeconfig. Default: its current context.
    config &set_context(std::string_view value) { return with(sbx_config_set_context, value, "context"); }

    /// Image of new sandboxes whose spec names none.
    config &set_image(std::string_view value) { return with(sbx_config_set_image, value, "image"); }

    /// User name for SSH. Default: "sandbox".
    config &set_ssh_user(std::string_view value) { return with(sbx_config_set_ssh_user, value, "ssh_user"); }

    /// Port of the SSH server in new sandboxes. Default: 22.
    config &set_ssh_port(std::uint16_t port) {
        detail::call(sbx_config_set_ssh_port, native_handle(), port);
        return *this;
    }

    /// Path of an unencrypted ed25519 private key in PEM (PKCS#8) form, for processes that share sandboxes. Default: a new key in memory
    /// for each client.
    config &set_ssh_key(const std::filesystem::path &path) { return with(sbx_config_set_ssh_key, path.native(), "path"); }

    /// The way to the sandboxes. Default: transport::automatic.
    config &set_transport(transport way) {
        detail::call(sbx_config_set_transport, native_handle(), static_cast<std::int32_t>(way));
        return *this;
    }

    /// Label value that tells whose sandboxes these are: at most 63 letters, digits, '-', '_' and '.'. Default: "default".
    config &set_owner(std::string_view value) { return with(sbx_config_set_owner, value, "owner"); }

    /// Time until a new sandbox expires; std::nullopt for never. Default: an hour.
    config &set_lifetime(std::optional<seconds> time) { return with(sbx_config_set_lifetime, time, "lifetime"); }

    /// Time for creating a sandbox, up to its first login; std::nullopt for no limit. Default: 300 s.
    config &set_create_timeout(std::optional<seconds> time) {
        return with(sbx_config_set_create_timeout, time, "create_timeout");
    }

    /// Time for one SSH connection with login; std::nullopt for no limit. Default: 30 s.
    config &set_connect_timeout(std::optional<seconds> time) {
        return with(sbx_config_set_connect_timeout, time, "connect_timeout");
    }

    /// Time for a command that sets none itself; std::nullopt for no limit. Default: 600 s.
    config &set_command_timeout(std::optional<seconds> time) {
        return with(sbx_config_set_command_timeout, time, "command_timeout");
    }

    /// Time for a file transfer; std::nullopt for no limit. Default: an hour.
    config &set_transfer_timeout(std::optional<seconds> time) {
        return with(sbx_config_set_transfer_timeout, time, "transfer_timeout");
    }

    /// Time after which an unused SSH session is closed; std::nullopt for never. Default: 300 s.
    config &set_idle_timeout(std::optional<seconds> time) { return with(sbx_config_set_idle_timeout, time, "idle_timeout"); }

    /// SSH sessions to one sandbox at the same time, 1 to 1000; further callers wait. Default: 16.
    config &set_max_sessions(std::size_t sessions) {
        detail::call(sbx_config_set_max_sessions, native_handle(), sessions);
        return *this;
    }

    /// Level for init_logging(). Default: log_level::warn.
    config &set_log(log_level level) {
        detail::call(sbx_config_set_log, native_handle(), static_cast<std::int32_t>(level));
        return *this;
    }

    /// Sends the library's log lines to standard error at the configured level, for the rest of the process's life. Without this the
    /// library writes nothing. conflict_error if this was done before.
    void init_logging() const { detail::call(sbx_config_init_logging, native_handle()); }

private:
    config &with(sbx_status (*setter)(sbx_config *, const char *, sbx_error **), std::string_view value, const char *name) {
        detail::call(setter, native_handle(), detail::c_text(value, name).get());
        return *this;
    }

    config &with(sbx_status (*setter)(sbx_config *, double, sbx_error **), std::optional<seconds> time, const char *name) {
        detail::call(setter, native_handle(), detail::optional_seconds(time, name));
        return *this;
    }
};

/// What to create: change what matters, then client::create(), as often as wanted. Text is UTF-8. What Kubernetes does not accept is found
/// out by client::create(). Setters give the spec back, so that they can be chained; the object itself stays where it is.
class spec : public handle<sbx_spec, sbx_spec_free> {
public:
    /// The defaults: a name made up by the client, the configured image, 1 CPU, 1 GiB of memory.
    spec() : spec(detail::make<sbx_spec, sbx_spec_free>(sbx_spec_new).release()) {}

    /// Takes over what the C ABI gave out.
    explicit spec(sbx_spec *native) noexcept : handle(native) {}

    /// Name of the sandbox and of its Pod: at most 63 lower-case letters, digits and '-'. Default: "sandbox-" and 16 random hexadecimal
    /// digits.
    spec &set_name(std::string_view value) { return with(sbx_spec_set_name, value, "name"); }

    /// Image to run; it needs an OpenSSH server, /bin/sh, and a user with the SSH user's name and the user id 1000. Default: the configured
    /// image.
    spec &set_image(std::string_view value) { return with(sbx_spec_set_image, value, "image"); }

    /// An environment variable for everything that runs in the sandbox, on top of the image's own.
    spec &set_env(std::string_view name, std::string_view value) { return with(sbx_spec_set_env, name, value); }

    /// A Kubernetes label on the Pod.
    spec &set_label(std::string_view name, std::string_view value) { return with(sbx_spec_set_label, name, value); }

    /// A Kubernetes annotation on the Pod.
    spec &set_annotation(std::string_view name, std::string_view value) { return with(sbx_spec_set_annotation, name, value); }

    /// The most CPU it may use, as a Kubernetes quantity such as "500m" or "2". Default: "1".
    spec &set_cpu(std::string_view value) { return with(sbx_spec_set_cpu, value, "cpu"); }

    /// The CPU that the scheduler sets aside for it, as a Kubernetes quantity. Default: "10m".
    spec &set_cpu_request(std::string_view value) { return with(sbx_spec_set_cpu_request, value, "cpu_request"); }

    /// The most memory it may use, as a Kubernetes quantity such as "512Mi"; beyond it the kernel kills. Default: "1Gi".
    spec &set_memory(std::string_view value) { return with(sbx_spec_set_memory, value, "memory"); }

    /// The memory that the scheduler sets aside for it, as a Kubernetes quantity. Default: "32Mi".
    spec &set_memory_request(std::string_view value) { return with(sbx_spec_set_memory_request, value, "memory_request"); }

    /// The most disk space that it may write, as a Kubernetes quantity; beyond it the node evicts the Pod. Default: no limit.
    spec &set_disk(std::string_view value) { return with(sbx_spec_set_disk, value, "disk"); }

    /// Time until the sandbox expires: it stops by itself, and client::reap() deletes what is left. box::renew() moves it. std::nullopt for
    /// never. Default: the configured lifetime.
    spec &set_lifetime(std::optional<seconds> time) {
        detail::call(sbx_spec_set_lifetime, native_handle(), detail::optional_seconds(time, "lifetime"));
        return *this;
    }

    /// Time after which Kubernetes itself stops the Pod; no renewal moves it. std::nullopt for never. Default: 24 hours, or twice the
    /// lifetime if that is more; none for a sandbox that never expires.
    spec &set_hard_limit(std::optional<seconds> time) {
        detail::call(sbx_spec_set_hard_limit, native_handle(), detail::optional_seconds(time, "hard_limit"));
        return *this;
    }

    /// Runtime class, such as "gvisor" or "kata". Default: the cluster's.
    spec &set_runtime_class(std::string_view value) { return with(sbx_spec_set_runtime_class, value, "runtime_class"); }

    /// A label that the node must have.
    spec &set_node_selector(std::string_view label, std::string_view value) {
        return with(sbx_spec_set_node_selector, label, value);
    }

    /// Time that a Pod which no node can take is waited for, so that an autoscaler can add one. Default: 10 s.
    spec &set_unschedulable_grace(seconds time) {
        detail::call(sbx_spec_set_unschedulable_grace, native_handle(), detail::exact_seconds(time, "unschedulable_grace"));
        return *this;
    }

    /// A Pod in JSON that is merged over the one that the library makes (RFC 7386: objects are merged, everything else is replaced; the
    /// list "containers" is replaced too, except that an entry named "sandbox" is merged). This reaches every field that Kubernetes has.
    /// invalid_argument_error if the text is not a JSON object.
    spec &set_pod_template(std::string_view json) { return with(sbx_spec_set_pod_template, json, "json"); }

private:
    spec &with(sbx_status (*setter)(sbx_spec *, const char *, sbx_error **), std::string_view value, const char *name) {
        detail::call(setter, native_handle(), detail::c_text(value, name).get());
        return *this;
    }

    spec &with(sbx_status (*setter)(sbx_spec *, const char *, const char *, sbx_error **), std::string_view name,
               std::string_view value) {
        detail::call(setter, native_handle(), detail::c_text(name, "name").get(), detail::c_text(value, "value").get());
        return *this;
    }
};

/// A connection to Kubernetes and everything that its sandboxes share. May be used from several threads at once. When it is destroyed its
/// sandboxes stay, and boxes stay usable; with the last of all these its SSH sessions are closed.
class client : public handle<sbx_client, sbx_client_free> {
public:
    /// Reads the service account or the kubeconfig. config_error if a setting is not allowed, or no way to authenticate was found.
    explicit client(const config &settings)
        : client(detail::make<sbx_client, sbx_client_free>(sbx_client_new, settings.native_handle()).release()) {}

    /// Takes over what the C ABI gave out.
    explicit client(sbx_client *native) noexcept : handle(native) {}

    /// The same with config::from_env().
    [[nodiscard]] static client from_env() {
        return client(detail::make<sbx_client, sbx_client_free>(sbx_client_new, nullptr).release());
    }

    /// The namespace of this client's sandboxes.
    std::string namespace_name() const { return detail::text(sbx_client_namespace(native_handle())); }

    /// How many HTTP requests this client has sent to the Kubernetes API server.
    std::uint64_t api_requests() const { return sbx_client_api_requests(native_handle()); }

    /// Creates a sandbox with the defaults; otherwise as create(const spec &).
    [[nodiscard]] box create() const { return created(nullptr); }

    /// Creates a sandbox and waits until it takes commands. A sandbox that fails to start is deleted again; one that starts is deleted with
    /// box::delete_sandbox(), or by a scoped_box.
    ///
    /// create_error with the cluster's verdict; quota_error; conflict_error if the name is taken; timed_out_error with the last known
    /// state; permission_denied_error and unavailable_error from the API server.
    [[nodiscard]] box create(const spec &what) const { return created(what.native_handle()); }

    /// Makes a handle of the sandbox of this name, from the cache without an API call, else with one. not_found_error if there is none.
    [[nodiscard]] box attach(std::string_view name) const {
        return box(detail::make<sbx_sandbox, sbx_sandbox_free>(sbx_client_attach, native_handle(),
                                                               detail::c_text(name, "name").get())
                       .release());
    }

    /// All sandboxes in the namespace, whoever owns them, in no particular order.
    std::vector<info> list() const {
        const std::shared_ptr<const sbx_list> all = detail::make<sbx_list, sbx_list_free>(sbx_client_list, native_handle());
        std::vector<info> infos;
        infos.reserve(sbx_list_count(all.get()));
        // Each keeps the list.
        for (std::size_t index = 0; index < sbx_list_count(all.get()); index++)
            infos.emplace_back(std::shared_ptr<const sbx_info>(all, sbx_list_at(all.get(), index)));
        return infos;
    }

    /// Deletes every sandbox in the namespace that has expired, whoever owns it, without waiting for the end of the Pods. Their names.
    std::vector<std::string> reap() const {
        const auto all = detail::make<sbx_names, sbx_names_free>(sbx_client_reap, native_handle());
        std::vector<std::string> names;
        for (std::size_t index = 0; index < sbx_names_count(all.get()); index++)
            names.emplace_back(sbx_names_at(all.get(), index));
        return names;
    }

    /// Deletes a sandbox by name: attach() and box::delete_sandbox() in one. not_found_error if there is none of this name.
    void delete_sandbox(std::string_view name) const {
        detail::call(sbx_client_delete_sandbox, native_handle(), detail::c_text(name, "name").get());
    }

    /// The same as delete_sandbox(), under the name that some know.
    void shutdown_sandbox(std::string_view name) const {
        detail::call(sbx_client_shutdown_sandbox, native_handle(), detail::c_text(name, "name").get());
    }

    /// Runs a command line in a sandbox by name: attach() and box::execute() in one. `line` is UTF-8 here.
    output execute_command(std::string_view name, std::string_view line) const {
        return output(detail::make<sbx_output, sbx_output_free>(sbx_client_execute_command, native_handle(),
                                                                detail::c_text(name, "name").get(),
                                                                detail::c_text(line, "line").get())
                          .release());
    }

    /// Copies a local file into a sandbox by name: attach() and box::upload_file() in one.
    std::uint64_t upload_file(std::string_view name, const std::filesystem::path &local, std::string_view remote) const {
        std::uint64_t size = 0;
        detail::call(sbx_client_upload_file, native_handle(), detail::c_text(name, "name").get(),
                     detail::c_text(local.native(), "local").get(), detail::c_text(remote, "remote").get(), &size);
        return size;
    }

    /// Copies a file out of a sandbox by name: attach() and box::download_file() in one.
    std::uint64_t download_file(std::string_view name, std::string_view remote, const std::filesystem::path &local) const {
        std::uint64_t size = 0;
        detail::call(sbx_client_download_file, native_handle(), detail::c_text(name, "name").get(),
                     detail::c_text(remote, "remote").get(), detail::c_text(local.native(), "local").get(), &size);
        return size;
    }

    /// Asks Kubernetes about a sandbox by name: one API call. not_found_error if there is none of this name.
    info get_sandbox_info(std::string_view name) const {
        return info(detail::make<sbx_info, sbx_info_free>(sbx_client_get_sandbox_info, native_handle(),
                                                          detail::c_text(name, "name").get()));
    }

    /// The SSH port of a sandbox by name, from the cache; the configured port for one that the cache does not know. 0 if the name is not
    /// UTF-8.
    std::uint16_t ssh_port(std::string_view name) const {
        return sbx_client_ssh_port(native_handle(), detail::c_text(name, "name").get());
    }

private:
    box created(const sbx_spec *what) const {
        return box(detail::make<sbx_sandbox, sbx_sandbox_free>(sbx_client_create, native_handle(), what).release());
    }
};

} // namespace sandbox

#endif // SANDBOX_HPP
