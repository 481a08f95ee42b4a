/// \file
/// Part of sandbox.hpp, which is to be included: open files and transfers.

#ifndef SANDBOX_FILE_HPP
#define SANDBOX_FILE_HPP

#include <sandbox.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <istream>
#include <optional>
#include <ostream>
#include <string_view>
#include <type_traits>

#include "values.hpp"

namespace [[gnu::visibility("default")]] sandbox {

/// An open file of a sandbox, made by box::open_file(). It keeps an SSH session for itself until it is closed. May be
/// used from several threads; their calls take turns. After a lost connection or a timeout it can only be destroyed.
/// Destroying it closes it too, for which it waits up to 2 seconds, but reports no error; call close() first to see
/// errors. Functions fail as box::upload_file().
class file : public handle<sbx_file> {
public:
    using handle::handle;

    /// Reads from the position on into `buffer`, and says how many bytes came: 0 at the file's end or if `buffer` has
    /// no room, else 1 or more, but not always as many as there are.
    std::size_t read(buffer_view buffer) const {
        std::size_t size = 0;
        const sbx_file *native = native_handle();
        if (buffer.size() > 0)
            detail::call(sbx_file_read, native, buffer.data(), buffer.size(), &size);
        return size;
    }

    /// Writes all of `data` from the position on, or at the file's end if it is open for that. After an error a part
    /// may be written.
    void write(bytes_view data) const { detail::call(sbx_file_write, native_handle(), data.data(), data.size()); }

    /// Sets the position to `offset` bytes from where `whence` says. The new position.
    std::uint64_t seek(std::int64_t offset, seek_from whence = seek_from::start) const {
        std::uint64_t position = 0;
        detail::call(sbx_file_seek, native_handle(), offset, static_cast<std::int32_t>(whence), &position);
        return position;
    }

    /// What is known about it now.
    ::sandbox::metadata metadata() const {
        return detail::told(detail::make(sbx_file_metadata, native_handle()).get());
    }

    /// Truncates it to `size` bytes, or extends it with zeros.
    void set_size(std::uint64_t size) const { detail::call(sbx_file_set_size, native_handle(), size); }

    /// Sets its permission bits.
    void set_permissions(std::filesystem::perms permissions) const {
        detail::call(sbx_file_set_permissions, native_handle(), detail::mode(permissions));
    }

    /// Syncs the contents to the sandbox's disk (fsync). transfer_error if the file system does not support it.
    void sync() const { detail::call(sbx_file_sync, native_handle()); }

    /// Closes it and reports write errors; some file systems report them only on close. closed_error if it was closed
    /// before.
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
            static_assert(std::is_integral_v<std::remove_const_t<decltype(given)>>,
                          "a reader returns how many bytes it gives");
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
        })
                   ? 0
                   : 1;
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

/// Options for uploads and downloads, made by box::transfer(). It may be used again and again, from several threads
/// too.
///
/// By default nothing is resumed, nothing is synced to disk, and no checksum is compared: SSH protects every packet
/// with a MAC, and the server acknowledges every write. Setters give the options back, so that they can be chained; the
/// object itself stays where it is.
///
/// `progress` is any callable for a `const sandbox::progress &`, or nullptr. It is called at the beginning, at the end,
/// and up to 20 times a second in between, and may use this library, also the same sandbox.
class transfer : public handle<sbx_transfer> {
public:
    using handle::handle;

    /// Whether the SHA-256 of the source and of the copy are compared before the copy gets its name; in a directory,
    /// for each file. Default: false.
    transfer &set_checksum(bool checksum = true) {
        detail::call(sbx_transfer_set_checksum, native_handle(), checksum);
        return *this;
    }

    /// Whether contents and names are synced to the receiving disk (fsync) before a transfer returns. Default: false.
    transfer &set_sync(bool sync = true) {
        detail::call(sbx_transfer_set_sync, native_handle(), sync);
        return *this;
    }

    /// Whether a failed transfer of a file keeps the partial file, and a later transfer to the same name continues from
    /// it, if its SHA-256 matches the beginning of the source. Implies the checksum. Default: false; the partial file
    /// is removed.
    transfer &set_resume(bool resume = true) {
        detail::call(sbx_transfer_set_resume, native_handle(), resume);
        return *this;
    }

    /// Permission bits of a new file that an upload creates, such as 0600, minus the sandbox's umask. An existing file
    /// keeps its own, and the files of a directory keep those they have locally. Default: those of the local file, or
    /// 0666.
    transfer &set_mode(std::uint32_t mode) {
        detail::call(sbx_transfer_set_mode, native_handle(), mode);
        return *this;
    }

    /// How many bytes of contents a download may have; more are a transfer_error. Default: no limit.
    transfer &set_max_bytes(std::uint64_t max_bytes) {
        detail::call(sbx_transfer_set_max_bytes, native_handle(), max_bytes);
        return *this;
    }

    /// How many entries the download of a directory may have; more are a transfer_error. Default: no limit.
    transfer &set_max_entries(std::uint64_t max_entries) {
        detail::call(sbx_transfer_set_max_entries, native_handle(), max_entries);
        return *this;
    }

    /// Copies the local file `local` to `remote`, as box::upload_file(), whose errors it has; transfer_error also if
    /// the checksums differ, cancelled_error if `progress` says so.
    template <class Progress = std::nullptr_t>
    transferred upload(const std::filesystem::path &local, std::string_view remote,
                       Progress &&progress = nullptr) const {
        return between(sbx_transfer_upload, {local.native(), "local"}, {remote, "remote"}, progress);
    }

    /// Copies `remote` to the local file `local`; otherwise as upload().
    template <class Progress = std::nullptr_t>
    transferred download(std::string_view remote, const std::filesystem::path &local,
                         Progress &&progress = nullptr) const {
        return between(sbx_transfer_download, {remote, "remote"}, {local.native(), "local"}, progress);
    }

    /// Copies all that `source` gives to the file `remote`, as box::write_file() does. `source` is a std::istream,
    /// which is read to its end, or a callable `source(char *buffer, std::size_t capacity)` that puts up to `capacity`
    /// bytes into `buffer` and returns how many: 0 at the end, a negative number for a cancelled_error. It can't be
    /// resumed: invalid_argument_error, also for a stream that has failed. Otherwise as upload().
    template <class Source, class Progress = std::nullptr_t>
    transferred upload_from(Source &&source, std::string_view remote, Progress &&progress = nullptr) const {
        if constexpr (std::is_base_of_v<std::istream, std::remove_reference_t<Source>>) {
            if (!source)
                throw invalid_argument_error("the stream for the upload has failed");
            return upload_from(detail::stream_reader{source}, remote, progress);
        } else {
            detail::flow<std::remove_reference_t<Source>, std::remove_reference_t<Progress>> state(source, progress);
            return detail::told(state
                                    .make(sbx_transfer_upload_from, native_handle(), &state.read,
                                          detail::c_text(remote, "remote").get(), state.tell(),
                                          static_cast<void *>(&state))
                                    .get());
        }
    }

    /// Hands the contents of the file `remote` to `target`: a std::ostream, which is flushed at the end, or a callable
    /// `target(std::string_view)`. It can't be resumed: invalid_argument_error, also for a stream that has failed.
    /// cancelled_error if the stream takes no more. Otherwise as upload().
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
                                    .make(sbx_transfer_download_to, native_handle(),
                                          detail::c_text(remote, "remote").get(), &state.write, state.tell(),
                                          static_cast<void *>(&state))
                                    .get());
        }
    }

    /// Copies the local directory `local` with all that is in it to `remote`, as one stream: with modes, times of
    /// modification in nanoseconds, symbolic links as they are, empty directories and the holes of sparse files.
    /// Sockets, pipes and devices are left out, and the report lists them.
    ///
    /// No file gets its name before everything has arrived. If `remote` does not exist, it appears complete. If it is a
    /// directory, the two are merged: files and links replace files and links, each atomically and with the modes of
    /// the tree, read-only ones too; what a link led to and what exists only in the target stay. Obstacles, such as a
    /// device in the place of a file, are found before the merge begins.
    ///
    /// Fails as box::upload_file(); not_a_directory_error if a path exists that should be a directory and is not,
    /// cancelled_error if `progress` says so, invalid_argument_error if it is to be resumed. If the merge itself fails,
    /// it may be partly done.
    template <class Progress = std::nullptr_t>
    tree_report upload_dir(const std::filesystem::path &local, std::string_view remote,
                           Progress &&progress = nullptr) const {
        return between(sbx_transfer_upload_dir, {local.native(), "local"}, {remote, "remote"}, progress);
    }

    /// Copies the directory `remote` with all that is in it to the local directory `local`; otherwise as upload_dir().
    ///
    /// Whatever the sandbox sends, nothing is written outside of `local`, and what is kept in memory does not grow with
    /// the tree. Symbolic links that lead out of the directory are left out, and the report lists them. Absolute names,
    /// names with "..", files below a link, and hard links to files outside are a transfer_error. Set-user-id,
    /// set-group-id and sticky bits are not set.
    template <class Progress = std::nullptr_t>
    tree_report download_dir(std::string_view remote, const std::filesystem::path &local,
                             Progress &&progress = nullptr) const {
        return between(sbx_transfer_download_dir, {remote, "remote"}, {local.native(), "local"}, progress);
    }

private:
    template <class Report>
    using mover = sbx_status (*)(const sbx_transfer *, const char *, const char *, sbx_progress_fn, void *, Report **,
                                 sbx_error **);

    template <class Progress>
    transferred between(mover<sbx_transferred> move, const detail::c_text &from, const detail::c_text &to,
                        Progress &progress) const {
        return moved(move, from, to, progress);
    }

    template <class Progress>
    tree_report between(mover<sbx_tree_report> move, const detail::c_text &from, const detail::c_text &to,
                        Progress &progress) const {
        return moved(move, from, to, progress);
    }

    template <class Report, class Progress>
    auto moved(mover<Report> move, const detail::c_text &from, const detail::c_text &to, Progress &progress) const {
        std::nullptr_t nothing = nullptr;
        detail::flow<std::nullptr_t, Progress> state(nothing, progress);
        const auto report =
            state.make(move, native_handle(), from.get(), to.get(), state.tell(), static_cast<void *>(&state));
        return detail::told(static_cast<const Report *>(report.get()));
    }
};

} // namespace sandbox

#endif // SANDBOX_FILE_HPP
