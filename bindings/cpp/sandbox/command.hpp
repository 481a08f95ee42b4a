/// \file
/// Part of sandbox.hpp, which is to be included: commands.

#ifndef SANDBOX_COMMAND_HPP
#define SANDBOX_COMMAND_HPP

#include <sandbox.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <istream>
#include <iterator>
#include <memory>
#include <optional>
#include <ostream>
#include <streambuf>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "values.hpp"

namespace [[gnu::visibility("default")]] sandbox {

namespace detail {

/// What reads one of a command's output streams.
class child_source : public std::streambuf {
public:
    using reader = sbx_status (*)(const sbx_child *, std::uint8_t *, std::size_t, std::size_t *, sbx_error **);

    child_source(const sbx_child *child, reader from) : child_(child), from_(from) {}

    /// What the stream has read ahead, else what comes.
    std::size_t read_some(buffer_view buffer) {
        const auto ahead = static_cast<std::size_t>(egptr() - gptr());
        if (ahead == 0 && buffer.size() > 0)
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

/// A command that runs, made by command::spawn(). May be used from several threads at once: one writes, two read, one
/// waits. Each of its streams is for one thread at a time, and so are in() with write_stdin(), out() with
/// read_stdout(), and err() with read_stderr(). As with a process of this machine, a command blocks when nobody reads
/// its output and the buffers are full. When this object is destroyed, the command runs on to its end or its timeout,
/// with its input closed and its output thrown away.
class child : public handle<sbx_child> {
public:
    /// Takes over what the C ABI gave out.
    explicit child(sbx_child *native) : child(detail::owned<sbx_child>(native)) {}

    /// The same from one who owned it.
    explicit child(detail::owned<sbx_child> native)
        : handle(std::move(native)), streams_(std::make_unique<detail::child_streams>(native_handle())) {}

    /// The command's number in the sandbox, as text.
    std::string id() const { return detail::text(sbx_child_id(native_handle())); }

    /// The command's standard input. What is written goes to the command at once, and blocks while its buffers are
    /// full. An error, such as closed_error when the command takes no more, is thrown by the operation on the stream.
    std::ostream &in() const { return streams().in; }

    /// The command's standard output. Errors are thrown by the operation on the stream, and so they are no end of the
    /// output.
    std::istream &out() const { return streams().out; }

    /// As out(), for the standard error.
    std::istream &err() const { return streams().err; }

    /// Writes all of `data` to the command's standard input, and blocks while its buffers are full. closed_error if the
    /// input was closed or the command takes no more.
    void write_stdin(bytes_view data) const { streams().sink.write(data); }

    /// Ends the command's standard input. Does not wait; a write of another thread is finished first.
    void close_stdin() const { sbx_child_close_stdin(native_handle()); }

    /// Reads what there is of the command's standard output into `buffer`, and says how many bytes that is: 0 at the
    /// end or if `buffer` has no room, else 1 or more. Blocks until there are some. Begins with what the stream out()
    /// has read ahead.
    std::size_t read_stdout(buffer_view buffer) const { return streams().out_source.read_some(buffer); }

    /// As read_stdout(), for the standard error.
    std::size_t read_stderr(buffer_view buffer) const { return streams().err_source.read_some(buffer); }

    /// Closes the command's standard output: output that still arrives is discarded, so it need not be read. Does not
    /// wait. A read by another thread returns the end of the output.
    void close_stdout() const { sbx_child_close_stdout(native_handle()); }

    /// As close_stdout(), for the standard error.
    void close_stderr() const { sbx_child_close_stderr(native_handle()); }

    /// Ends the command's standard input and waits until the command has ended. May be called again. Fails as
    /// command::output().
    exit_status wait() const { return exit_status(detail::make(sbx_child_wait, native_handle()).get()); }

    /// Ends the command's standard input, reads both its output streams to their ends, and waits. The output has what
    /// nobody read before, without what out() and err() have read ahead, and of each stream at most the command's
    /// output limit. Both streams are closed afterwards. Fails as command::output().
    ::sandbox::output wait_with_output() const {
        return ::sandbox::output(detail::make(sbx_child_wait_with_output, native_handle()));
    }

    /// How the command ended, if it has. Does not wait. Fails as command::output().
    std::optional<exit_status> try_wait() const {
        bool has_ended = false;
        const auto status = detail::make(sbx_child_try_wait, native_handle(), &has_ended);
        return has_ended ? std::optional<exit_status>(status.get()) : std::nullopt;
    }

    /// Kills the command and all processes that it started. wait() waits until they are gone.
    void kill() const { detail::call(sbx_child_kill, native_handle()); }

    /// Sends the command's process group a signal, named without SIG, such as "INT" or "TERM". invalid_argument_error
    /// if there is no signal of this name.
    void signal(std::string_view name) const {
        detail::call(sbx_child_signal, native_handle(), detail::c_text(name, "name").get());
    }

    /// Changes the size of the command's terminal, in characters.
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

/// A command that runs in the sandbox whether anybody is connected or not, made by command::detach() or
/// box::detached(). Its output and its status stay in the sandbox until remove(). It may be used from several threads,
/// and from other processes under its key. Destroying this object does nothing to the command.
class detached : public handle<sbx_detached> {
public:
    using handle::handle;

    /// The key that it was started with.
    std::string key() const { return detail::text(sbx_detached_key(native_handle())); }

    /// How the command ended, if it has. Does not wait for it. detached_not_found_error if no command has this key;
    /// timed_out_error if its own timeout ended it; command_error if it did not run; outcome_unknown_error if the
    /// process that supervises it in the sandbox was killed; ssh_error if the sandbox can't be reached.
    std::optional<exit_status> try_wait() const {
        bool has_ended = false;
        const auto status = detail::make(sbx_detached_try_wait, native_handle(), &has_ended);
        return has_ended ? std::optional<exit_status>(status.get()) : std::nullopt;
    }

    /// Waits until the command has ended, at most for `timeout`; by default for ever. timed_out_error if it still runs;
    /// it goes on then. Else as try_wait().
    exit_status wait(std::optional<seconds> timeout = std::nullopt) const {
        const double limit = detail::optional_seconds(timeout, "timeout");
        return exit_status(detail::make(sbx_detached_wait, native_handle(), limit).get());
    }

    /// Reads what the command has written so far to a stream, starting at byte `offset`: at most `limit` bytes. It does
    /// not wait. No bytes means that there is no more output yet, or none at all if the command has ended.
    /// detached_not_found_error if no command has this key; ssh_error if the sandbox can't be reached.
    template <class Bytes = std::string>
    Bytes read(output_stream stream, std::uint64_t offset, std::size_t limit) const {
        return detail::taken<Bytes>(
            detail::make(sbx_detached_read, native_handle(), static_cast<std::int32_t>(stream), offset, limit));
    }

    /// Hands the output to `receive` as it comes, as by command::stream(), until the command has ended. It begins at
    /// `positions`, and moves them along, so that after an error the same call continues where this one stopped.
    /// cancelled_error if `receive` asked to stop; the command runs on then. Else as try_wait().
    template <class Receive> exit_status stream(stream_positions &positions, Receive &&receive) const {
        detail::receiver<std::remove_reference_t<Receive>> state(receive);
        return exit_status(state
                               .make(sbx_detached_stream, native_handle(), &positions.out, &positions.err,
                                     &state.call_back, static_cast<void *>(&state))
                               .get());
    }

    /// The same from the beginning of both streams.
    template <class Receive> exit_status stream(Receive &&receive) const {
        stream_positions positions;
        return stream(positions, std::forward<Receive>(receive));
    }

    /// Kills the command and all its descendants, also those that left its process group, and returns when they are
    /// gone. Does nothing if the command has ended. detached_not_found_error if no command has this key; command_error
    /// if some process can't be killed; ssh_error if the sandbox can't be reached.
    void kill() const { detail::call(sbx_detached_kill, native_handle()); }

    /// Sends the command's process group a signal, named without SIG, such as "INT" or "TERM". Does nothing if the
    /// command has ended. invalid_argument_error if there is no signal of this name; else as kill().
    void signal(std::string_view name) const {
        detail::call(sbx_detached_signal, native_handle(), detail::c_text(name, "name").get());
    }

    /// Removes the output and the status of a command that has ended. Its key is free again. conflict_error if it runs;
    /// detached_not_found_error if no command has this key; ssh_error if the sandbox can't be reached.
    void remove() const { detail::call(sbx_detached_remove, native_handle()); }
};

/// A command to run in a sandbox, made by box::command() or box::shell().
///
/// Its environment is the image's, overridden by the spec's, overridden by its own. It starts in the image's working
/// directory. It may be run again and again, from several threads too; each run is a new process. A run happens at most
/// once: when the connection is lost after the command was requested, it is an outcome_unknown_error. Setters give the
/// command back, so that they can be chained; the object itself stays where it is.
class command : public handle<sbx_command> {
public:
    using handle::handle;

    /// Adds an argument. The command gets exactly its bytes; no shell sees them. For a shell line the arguments are $1,
    /// $2, … A NUL in it makes the run fail with an invalid_argument_error.
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

    /// Sets the user to run as, by name, with that user's groups and HOME. Only a sandbox that runs as root allows
    /// another user than its own; elsewhere the run fails with a command_error. Default: the SSH user.
    command &set_user(std::string_view name) {
        detail::call(sbx_command_set_user, native_handle(), detail::c_text(name, "name").get());
        return *this;
    }

    /// Sets the command's standard input to a copy of `data`; it ends after that. Default: no input.
    command &set_stdin(bytes_view data) {
        detail::call(sbx_command_set_stdin, native_handle(), data.data(), data.size());
        return *this;
    }

    /// Reads `in` to its end now, and sets the command's standard input to that. For more than fits into memory there
    /// are set_stdin_fd() and child::in(). invalid_argument_error if the stream has failed.
    command &set_stdin(std::istream &in) {
        if (!in)
            throw invalid_argument_error("the stream for the standard input has failed");
        return set_stdin(std::string(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()));
    }

    /// Lets the command read its standard input from an open file, pipe or socket of this process, from where it stands
    /// to its end. The library reads from a duplicate of `fd`, while the command runs and when there is something; the
    /// caller may close its own at once. It is used up by one run: the next fails with an invalid_argument_error.
    command &set_stdin_fd(int fd) {
        detail::call(sbx_command_set_stdin_fd, native_handle(), fd);
        return *this;
    }

    /// Sends the standard output to /dev/null in the sandbox, so that none of it is transferred.
    command &discard_stdout() {
        detail::call(sbx_command_discard_stdout, native_handle());
        return *this;
    }

    /// Sends the standard error to /dev/null in the sandbox, so that none of it is transferred.
    command &discard_stderr() {
        detail::call(sbx_command_discard_stderr, native_handle());
        return *this;
    }

    /// Sends the standard error to where the standard output goes, in the order in which the command writes both.
    command &merge_stderr() {
        detail::call(sbx_command_merge_stderr, native_handle());
        return *this;
    }

    /// Sets the time after which the command is killed; std::nullopt for no limit. Default:
    /// config::set_command_timeout().
    command &set_timeout(std::optional<seconds> timeout) {
        detail::call(sbx_command_set_timeout, native_handle(), detail::optional_seconds(timeout, "timeout"));
        return *this;
    }

    /// Runs the command on a terminal of this type, such as "xterm-256color", and this size in characters. Both output
    /// streams then arrive as standard output, and the terminal turns "\n" into "\r\n". Default: no terminal.
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
    /// command_error if it did not run; timed_out_error if it was killed at its deadline (the error has its output so
    /// far); outcome_unknown_error if the connection was lost while it may have run; ssh_error if the sandbox can't be
    /// reached.
    ::sandbox::output output() const { return ::sandbox::output(detail::make(sbx_command_output, native_handle())); }

    /// Runs the command to its end and discards its output. Fails as output().
    exit_status status() const { return exit_status(detail::make(sbx_command_run, native_handle()).get()); }

    /// Runs the command to its end and hands its output as it comes to `receive(output_stream, std::string_view)`, in
    /// pieces of any size that stay during the callback. The callback may use this library, also the same sandbox, but
    /// must not change the command.
    ///
    /// cancelled_error if `receive` asked to stop, and what it throws if it does; the command was killed then. Else as
    /// output().
    template <class Receive> exit_status stream(Receive &&receive) const {
        detail::receiver<std::remove_reference_t<Receive>> state(receive);
        return exit_status(
            state.make(sbx_command_stream, native_handle(), &state.call_back, static_cast<void *>(&state)).get());
    }

    /// Starts the command and returns while it runs. Errors of the start are those of output(); later ones are reported
    /// by child::wait().
    [[nodiscard]] child spawn() const { return child(detail::make(sbx_command_spawn, native_handle())); }

    /// Starts the command so that it depends on neither this process nor a connection, and returns. Any process finds
    /// it again by its key. It starts at most once per key: if the sandbox knows the key already, this returns a handle
    /// of the command that has it, running or ended.
    ///
    /// A key has 1 to 64 ASCII letters, digits, '.', '_' or '-', and begins with a letter or digit. The sandbox keeps
    /// the output, up to the command's output limit for each stream; later output is dropped and counted. The input
    /// must be bytes, and there is no terminal. Only the command's own timeout applies, not the configured one.
    ///
    /// invalid_argument_error if one of these rules is broken; conflict_error if the key belongs to another command;
    /// else as output().
    ::sandbox::detached detach(std::string_view key) const {
        return ::sandbox::detached(detail::make(sbx_command_detach, native_handle(), detail::c_text(key, "key").get()));
    }
};

} // namespace sandbox

#endif // SANDBOX_COMMAND_HPP
