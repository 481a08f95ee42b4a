/// \file
/// Part of sandbox.hpp, which is to be included: what is answered.

#ifndef SANDBOX_VALUES_HPP
#define SANDBOX_VALUES_HPP

#include <sandbox.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "handle.hpp"

namespace [[gnu::visibility("default")]] sandbox {

/// How a command ended: with an exit code, or by a signal. It is always what the sandbox reported, never a default.
class exit_status {
public:
    /// Tells what the C ABI tells, which stays the caller's.
    explicit exit_status(const sbx_exit_status *status)
        : success_(sbx_exit_status_success(status)), signal_(detail::some_text(sbx_exit_status_signal(status))) {
        if (std::int32_t code = 0; sbx_exit_status_code(status, &code))
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
class output : public handle<sbx_output> {
public:
    using handle::handle;

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

    /// This output if the command ended with exit code 0. Else command_failed_error: its message has the code and the
    /// last line of the standard error, and it has both streams.
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

/// What Kubernetes says about a sandbox at one moment. Copies share what they tell, and may be read from several
/// threads.
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

    /// The phase of the Pod.
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
    /// Its size in bytes. Generated files, such as those in /proc, have size 0.
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

/// What pool::fill() has done.
struct filled {
    /// Sandboxes that it has made.
    std::size_t created = 0;
    /// Sandboxes whose deletion it has requested: they had ended, were too old, or of another spec.
    std::size_t retired = 0;
};

/// What there is of a pool at one moment.
struct pool_status {
    /// Sandboxes that can be claimed.
    std::size_t ready = 0;
    /// Sandboxes that are being made.
    std::size_t filling = 0;
    /// Sandboxes that were claimed and still exist.
    std::size_t claimed = 0;
    /// Sandboxes that have ended or are being deleted, and were not claimed.
    std::size_t ending = 0;
    /// Sandboxes of other specs, not claimed.
    std::size_t foreign = 0;
    /// When the oldest one that can be claimed was made.
    std::optional<time_point> oldest;
    /// Why the pool is not filled, as far as the Pods and this object's own attempts tell.
    std::optional<std::string> held;
};

/// Counts of a pool object's work since it was made.
struct pool_counters {
    /// Claims that were served by a ready sandbox at once.
    std::uint64_t hits = 0;
    /// Claims that found nothing ready.
    std::uint64_t misses = 0;
    /// Attempts to take a sandbox that another claim took first, or that had ended.
    std::uint64_t conflicts = 0;
    /// Claims that wait for a sandbox now.
    std::uint64_t waiting = 0;
    /// Sandboxes that were taken, could not be reached, and were deleted.
    std::uint64_t bad = 0;
    /// Sandboxes that this object has made for the pool.
    std::uint64_t created = 0;
    /// Sandboxes whose deletion it has requested.
    std::uint64_t retired = 0;
};

/// A key with which somebody else than the clients may log in.
struct authorized_key {
    /// The public key as a line of `authorized_keys`, with its comment.
    std::string key;
    /// How long it may log in yet; none is as long as the sandbox lives.
    std::optional<seconds> remaining;
};

/// What a sandbox uses at one moment; none is what its kernel does not tell, or no limit. Memory, processor time and
/// processes are those of the sandbox's container, with its guest.
struct usage {
    /// Processor time since the container started.
    std::optional<seconds> cpu;
    /// Time for which it had to wait because it had used up its share of the processors.
    std::optional<seconds> throttled;
    /// Bytes of memory, with the files that the kernel keeps in memory for it.
    std::optional<std::uint64_t> memory;
    /// The most that it has been.
    std::optional<std::uint64_t> memory_peak;
    /// What it may be at most.
    std::optional<std::uint64_t> memory_limit;
    /// Processes that were killed because there was no more memory.
    std::optional<std::uint64_t> oom_kills;
    /// Processes and threads.
    std::optional<std::uint64_t> processes;
    /// What they may be at most.
    std::optional<std::uint64_t> processes_limit;
    /// Bytes in use on the file system of the home directory. Where the sandbox has no volume there, that is the node's
    /// disk, with all that others keep on it.
    std::optional<std::uint64_t> disk;
    /// Bytes of that file system.
    std::optional<std::uint64_t> disk_limit;
    /// Bytes received through the Pod's network interfaces but loopback.
    std::optional<std::uint64_t> received;
    /// Bytes sent through them.
    std::optional<std::uint64_t> sent;
    /// Bytes of memory of the guest itself, which is the sandbox's main process.
    std::optional<std::uint64_t> guest_memory;
    /// Commands that run, of all clients.
    std::uint64_t commands = 0;
    /// SSH connections of all clients.
    std::uint64_t connections = 0;
};

/// SSH sessions of a client to a sandbox at one moment.
struct session_counts {
    /// Those that wait for work.
    std::size_t idle = 0;
    /// Those that work.
    std::size_t busy = 0;
};

namespace detail {

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

inline usage told(const sbx_usage *from) {
    const auto value = [from](sbx_usage_kind kind) {
        std::uint64_t found = 0;
        return sbx_usage_value(from, kind, &found) ? std::optional<std::uint64_t>(found) : std::nullopt;
    };
    const auto time = [&value](sbx_usage_kind kind) {
        const auto microseconds = value(kind);
        return microseconds ? std::optional<seconds>(static_cast<double>(*microseconds) / 1e6) : std::nullopt;
    };
    usage all;
    all.cpu = time(SBX_USAGE_CPU);
    all.throttled = time(SBX_USAGE_THROTTLED);
    all.memory = value(SBX_USAGE_MEMORY);
    all.memory_peak = value(SBX_USAGE_MEMORY_PEAK);
    all.memory_limit = value(SBX_USAGE_MEMORY_LIMIT);
    all.oom_kills = value(SBX_USAGE_OOM_KILLS);
    all.processes = value(SBX_USAGE_PROCESSES);
    all.processes_limit = value(SBX_USAGE_PROCESSES_LIMIT);
    all.disk = value(SBX_USAGE_DISK);
    all.disk_limit = value(SBX_USAGE_DISK_LIMIT);
    all.received = value(SBX_USAGE_RECEIVED);
    all.sent = value(SBX_USAGE_SENT);
    all.guest_memory = value(SBX_USAGE_GUEST_MEMORY);
    all.commands = value(SBX_USAGE_COMMANDS).value_or(0);
    all.connections = value(SBX_USAGE_CONNECTIONS).value_or(0);
    return all;
}

inline std::vector<directory_entry> told(const sbx_dir_entries *entries) {
    std::vector<directory_entry> all;
    all.reserve(sbx_dir_entries_count(entries));
    for (std::size_t index = 0; index < sbx_dir_entries_count(entries); index++)
        all.push_back({text(sbx_dir_entries_name_at(entries, index)), told(sbx_dir_entries_metadata_at(entries, index))});
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
        all.notes.push_back(
            {text(sbx_tree_report_note_path_at(report, index)), text(sbx_tree_report_note_text_at(report, index))});
    return all;
}

inline std::uint32_t mode(std::filesystem::perms permissions) noexcept {
    return static_cast<std::uint32_t>(permissions);
}

} // namespace detail

} // namespace sandbox

#endif // SANDBOX_VALUES_HPP
