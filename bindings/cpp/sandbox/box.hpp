/// \file
/// Part of sandbox.hpp, which is to be included: sandboxes.

#ifndef SANDBOX_BOX_HPP
#define SANDBOX_BOX_HPP

#include <sandbox.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "command.hpp"
#include "file.hpp"
#include "forward.hpp"

namespace [[gnu::visibility("default")]] sandbox {

/// A running sandbox: a Pod with an SSH server, made by client::create() or client::attach(). May be used from several
/// threads at once. Destroying this object does not delete the sandbox: it stays until delete_sandbox(), or until it
/// expires. A scoped_box deletes.
class box : public handle<sbx_sandbox> {
public:
    using handle::handle;

    /// Name of the sandbox and of its Pod.
    std::string name() const { return detail::text(sbx_sandbox_name(native_handle())); }

    /// Kubernetes' unique id of the Pod.
    std::string uid() const { return detail::text(sbx_sandbox_uid(native_handle())); }

    /// Port of the SSH server, from the cache.
    std::uint16_t ssh_port() const { return sbx_sandbox_ssh_port(native_handle()); }

    /// The SSH server's host key as it is pinned, as OpenSSH writes it; none before the first connection.
    std::optional<std::string> host_key() const { return detail::some_text(sbx_sandbox_host_key(native_handle())); }

    /// Where the sandbox comes from.
    ::sandbox::origin origin() const {
        return static_cast<::sandbox::origin>(sbx_sandbox_origin(native_handle()));
    }

    /// How long each phase of the creation took, if this object came from client::create() or pool::take().
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

    /// Asks Kubernetes about the sandbox: one API call. not_found_error if its Pod is gone, even if a new Pod has the
    /// same name.
    ::sandbox::info info() const { return ::sandbox::info(detail::make(sbx_sandbox_info, native_handle())); }

    /// Asks the sandbox what it uses now: one round trip and no API call. Errors as execute(), but for the command's.
    ::sandbox::usage usage() const { return detail::told(detail::make(sbx_sandbox_usage, native_handle()).get()); }

    /// Runs a command line in the sandbox's shell and collects its output. Short for shell() and command::output(),
    /// whose errors it has.
    output execute(std::string_view line) const {
        return output(detail::make(sbx_sandbox_execute, native_handle(), detail::c_text(line, "line").get()));
    }

    /// Makes a command: `program` is looked up in the PATH of the image and gets its arguments exactly as given.
    /// Nothing runs yet.
    [[nodiscard]] ::sandbox::command command(std::string_view program) const {
        return ::sandbox::command(
            detail::make(sbx_sandbox_command, native_handle(), detail::c_text(program, "program").get()));
    }

    /// Makes a command of a line for the sandbox's shell. Nothing runs yet.
    [[nodiscard]] ::sandbox::command shell(std::string_view line) const {
        return ::sandbox::command(detail::make(sbx_sandbox_shell, native_handle(), detail::c_text(line, "line").get()));
    }

    /// A handle for the command that command::detach() started under this key, in this process or another. No request
    /// is sent: only the first use of the handle tells whether the command exists. invalid_argument_error if the key is
    /// invalid.
    [[nodiscard]] ::sandbox::detached detached(std::string_view key) const {
        return ::sandbox::detached(
            detail::make(sbx_sandbox_detached, native_handle(), detail::c_text(key, "key").get()));
    }

    /// Connects to a TCP port of the sandbox's own loopback addresses. The server there may listen on a loopback
    /// address only.
    ///
    /// This gives an ordinary TCP socket of this machine, whose bytes go through an SSH session that all connections
    /// into the sandbox share. Each side can close its half with shutdown(). If the connection breaks, on the way or in
    /// the sandbox, reads fail with ECONNRESET instead of returning the end of the data. The socket stays usable after
    /// the handles are freed.
    ///
    /// refused_error if nothing listens there; timed_out_error after the client's time to connect; ssh_error if the
    /// sandbox can't be reached.
    [[nodiscard]] descriptor connect(std::uint16_t port) const { return connect(std::to_string(port)); }

    /// The same for a port as text or for a Unix socket in the sandbox, a path with a slash, of which
    /// file_not_found_error and permission_denied_error are too.
    [[nodiscard]] descriptor connect(std::string_view target) const {
        int fd = -1;
        detail::call(sbx_sandbox_connect, native_handle(), detail::c_text(target, "target").get(), &fd);
        return descriptor(fd);
    }

    /// Listens on this machine and connects each connection to a port of the sandbox or a Unix socket in it, as
    /// connect() does. `local` is a port of 127.0.0.1 such as "8080", or ADDRESS:PORT, or a path with a slash, of which
    /// the file must not exist; port 0 is one that the system chooses. It does not check whether anything listens in
    /// the sandbox; wait_for_port() waits for that. busy_error if the local port or file is in use;
    /// permission_denied_error if it may not be used.
    [[nodiscard]] ::sandbox::forward forward(std::string_view local, std::string_view target) const {
        return ::sandbox::forward(detail::make(sbx_sandbox_forward, native_handle(),
                                               detail::c_text(local, "local").get(),
                                               detail::c_text(target, "target").get()));
    }

    /// The same for ports.
    [[nodiscard]] ::sandbox::forward forward(std::uint16_t local, std::uint16_t target) const {
        return forward(std::to_string(local), std::to_string(target));
    }

    /// Waits in the sandbox until something listens on a port, at most for `timeout`; by default for ever. The check
    /// makes no connection to the server. timed_out_error if nothing does in time; ssh_error if the sandbox can't be
    /// reached.
    void wait_for_port(std::uint16_t port, std::optional<seconds> timeout = std::nullopt) const {
        wait_for_port(std::to_string(port), timeout);
    }

    /// The same for a port as text, or a Unix socket, a path with a slash.
    void wait_for_port(std::string_view target, std::optional<seconds> timeout = std::nullopt) const {
        detail::call(sbx_sandbox_wait_for_port, native_handle(), detail::c_text(target, "target").get(),
                     detail::optional_seconds(timeout, "timeout"));
    }

    /// Lets somebody else log in with OpenSSH's programs, who has the private key of `key`: a line as in
    /// `authorized_keys`, without options. It is good for `lifetime` from now; none is as long as the sandbox lives.
    /// Whoever logs in with it can do there what this client can, but let nobody else in.
    ///
    /// invalid_argument_error if this is no public key; conflict_error if it is the key of a client of this library;
    /// permission_denied_error if this client itself was let in so.
    void authorize_key(std::string_view key, std::optional<seconds> lifetime = std::nullopt) const {
        detail::call(sbx_sandbox_authorize_key, native_handle(), detail::c_text(key, "key").get(),
                     detail::optional_seconds(lifetime, "lifetime"));
    }

    /// The keys that authorize_key() let in, by whichever client, and that may log in now.
    std::vector<authorized_key> authorized_keys() const {
        const auto keys = detail::make(sbx_sandbox_authorized_keys, native_handle());
        std::vector<authorized_key> all(sbx_key_list_count(keys.get()));
        for (std::size_t index = 0; index < all.size(); ++index) {
            double left = 0;
            all[index].key = detail::text(sbx_key_list_key_at(keys.get(), index));
            if (sbx_key_list_remaining_at(keys.get(), index, &left))
                all[index].remaining = seconds(left);
        }
        return all;
    }

    /// Lets such a key log in no longer, and closes the connections that were made with it. False if there was no such
    /// key. Errors as authorize_key().
    bool revoke_key(std::string_view key) const {
        bool was_there = false;
        detail::call(sbx_sandbox_revoke_key, native_handle(), detail::c_text(key, "key").get(), &was_there);
        return was_there;
    }

    /// Sets the sandbox's expiry to `lifetime` from now, at least a second, and returns it. It may be earlier than the
    /// current one, and never exceeds the hard limit of the spec.
    time_point renew(seconds lifetime) const {
        std::int64_t unix_seconds = 0;
        detail::call(sbx_sandbox_renew, native_handle(), detail::exact_seconds(lifetime, "lifetime"), &unix_seconds);
        return detail::at(unix_seconds);
    }

    /// Deletes the sandbox and waits until its Pod is gone. Later calls with its handles throw closed_error.
    /// not_found_error if it was gone already, delete_error if its end could not be confirmed in time.
    void delete_sandbox() const { detail::call(sbx_sandbox_delete, native_handle()); }

    /// An alias of delete_sandbox().
    void shutdown() const { detail::call(sbx_sandbox_shutdown, native_handle()); }

    /// Copies the local file `local` to `remote` in the sandbox, with its permission bits; a relative `remote` begins
    /// at the image's working directory. The file arrives whole or not at all. The number of bytes.
    ///
    /// All functions for files fail in the same ways. Errors of the system, for the file in the sandbox or the local
    /// file (the message says which): file_not_found_error, file_exists_error, is_a_directory_error,
    /// not_a_directory_error, directory_not_empty_error, permission_denied_error, read_only_error, busy_error,
    /// name_too_long_error, storage_full_error, and transfer_error for all others; error::code() has the number.
    /// invalid_argument_error for an invalid path, not_found_error if the sandbox is gone, timed_out_error after the
    /// configured transfer timeout, which applies to each call. After a lost connection: disconnected_error if the call
    /// is safe to repeat, outcome_unknown_error if the change may have been made. The message names the file.
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
        return ::sandbox::transfer(detail::make(sbx_sandbox_transfer, native_handle()));
    }

    /// Writes `data` to the file `remote` in the sandbox, which gets permissions rw-rw-rw- minus the sandbox's umask if
    /// it is new. Otherwise as upload_file().
    void write_file(std::string_view remote, bytes_view data) const {
        detail::call(sbx_sandbox_write_file, native_handle(), detail::c_text(remote, "remote").get(), data.data(),
                     data.size());
    }

    /// Writes `data` at the end of the file `remote`, which is created as by write_file() if it is not there.
    /// After a failure a part may be there. Fails as upload_file().
    void append_file(std::string_view remote, bytes_view data) const {
        detail::call(sbx_sandbox_append_file, native_handle(), detail::c_text(remote, "remote").get(), data.data(),
                     data.size());
    }

    /// Reads the file `remote` in the sandbox, of 1 GiB at most, into a std::string or another container of bytes, such
    /// as `read_file<std::vector<std::byte>>(remote)`. Fails as upload_file().
    template <class Bytes = std::string> Bytes read_file(std::string_view remote) const {
        return detail::taken<Bytes>(bytes_of(sbx_sandbox_read_file, remote));
    }

    /// Opens a file; a new one gets the permission bits `permissions`, minus the sandbox's umask. Fails as
    /// upload_file(); file_exists_error if a file is there that open_mode::create_new was to create.
    [[nodiscard]] file open_file(std::string_view path, open_mode mode = open_mode::read,
                                 std::filesystem::perms permissions = std::filesystem::perms(0644)) const {
        return file(detail::make(sbx_sandbox_open_file, native_handle(), detail::c_text(path, "path").get(),
                                 static_cast<std::int32_t>(mode), detail::mode(permissions)));
    }

    /// The metadata of a file; links are followed. Fails as upload_file().
    metadata file_metadata(std::string_view path) const {
        return detail::told(
            detail::make(sbx_sandbox_file_metadata, native_handle(), detail::c_text(path, "path").get()).get());
    }

    /// As file_metadata(), of a link itself.
    metadata symlink_metadata(std::string_view path) const {
        return detail::told(
            detail::make(sbx_sandbox_symlink_metadata, native_handle(), detail::c_text(path, "path").get()).get());
    }

    /// Whether the file exists; links are followed, so a broken link does not exist. Fails as upload_file(), except
    /// that a missing file is no error.
    bool file_exists(std::string_view path) const {
        bool exists = false;
        detail::call(sbx_sandbox_file_exists, native_handle(), detail::c_text(path, "path").get(), &exists);
        return exists;
    }

    /// All entries of a directory except "." and "..", in no particular order. Fails as upload_file(); transfer_error
    /// for more than 1048576 entries or 64 MiB of names.
    std::vector<directory_entry> read_dir(std::string_view path) const {
        const auto entries = detail::make(sbx_sandbox_read_dir, native_handle(), detail::c_text(path, "path").get());
        return detail::told(static_cast<const sbx_dir_entries *>(entries.get()));
    }

    /// Creates a directory. Fails as upload_file(); file_exists_error if the name exists.
    void create_dir(std::string_view path) const { at_path(sbx_sandbox_create_dir, path); }

    /// Creates a directory and its missing parents. Fails as upload_file(); file_exists_error if the name exists and is
    /// not a directory, not_a_directory_error if a parent is not a directory.
    void create_dir_all(std::string_view path) const { at_path(sbx_sandbox_create_dir_all, path); }

    /// Removes a file, or a link itself. Fails as upload_file(); is_a_directory_error for a directory.
    void remove_file(std::string_view path) const { at_path(sbx_sandbox_remove_file, path); }

    /// Removes an empty directory. Fails as upload_file(); directory_not_empty_error if it is not empty,
    /// not_a_directory_error if it is not a directory.
    void remove_dir(std::string_view path) const { at_path(sbx_sandbox_remove_dir, path); }

    /// Removes a directory and all that is in it. Links are removed, not followed. Fails as upload_file();
    /// not_a_directory_error if it is not a directory. After a failure, part of the contents may be removed.
    void remove_dir_all(std::string_view path) const { at_path(sbx_sandbox_remove_dir_all, path); }

    /// Renames a file or directory, atomically. An existing file of the new name is replaced; a directory replaces an
    /// empty directory. Fails as upload_file(); is_a_directory_error, not_a_directory_error or
    /// directory_not_empty_error if the target can't be replaced, transfer_error with std::errc::cross_device_link if
    /// the names are on different file systems.
    void rename_file(std::string_view from, std::string_view to) const {
        detail::call(sbx_sandbox_rename_file, native_handle(), detail::c_text(from, "from").get(),
                     detail::c_text(to, "to").get());
    }

    /// Sets the permission bits; links are followed. Fails as upload_file().
    void set_file_permissions(std::string_view path, std::filesystem::perms permissions) const {
        detail::call(sbx_sandbox_set_file_permissions, native_handle(), detail::c_text(path, "path").get(),
                     detail::mode(permissions));
    }

    /// Makes the symbolic link `link` that points to `original`, which need not exist. Fails as upload_file();
    /// file_exists_error if the name exists.
    void create_symlink(std::string_view original, std::string_view link) const {
        detail::call(sbx_sandbox_create_symlink, native_handle(), detail::c_text(original, "original").get(),
                     detail::c_text(link, "link").get());
    }

    /// What a symbolic link points to. Fails as upload_file(); transfer_error with std::errc::invalid_argument if the
    /// path is not a link.
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

    detail::owned<sbx_bytes> bytes_of(sbx_status (*function)(const sbx_sandbox *, const char *, sbx_bytes **,
                                                             sbx_error **),
                                      std::string_view path) const {
        return detail::make(function, native_handle(), detail::c_text(path, "path").get());
    }
};

/// A box that is bound to its scope: the destructor deletes the sandbox and waits until it is gone. Errors are ignored
/// there; call `delete_sandbox()` first to see them. Can be moved, not copied.
class scoped_box {
public:
    /// Takes over the box.
    explicit scoped_box(::sandbox::box owned) noexcept : box_(std::move(owned)) {}

    /// Leaves the other one without a sandbox.
    scoped_box(scoped_box &&other) noexcept = default;

    /// Deletes the sandbox that this one has.
    scoped_box &operator=(scoped_box &&other) noexcept {
        scoped_box taken(std::move(other));
        std::swap(box_, taken.box_);
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

} // namespace sandbox

#endif // SANDBOX_BOX_HPP
