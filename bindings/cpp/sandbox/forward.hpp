/// \file
/// Part of sandbox.hpp, which is to be included: connections into sandboxes.

#ifndef SANDBOX_FORWARD_HPP
#define SANDBOX_FORWARD_HPP

#include <sandbox.h>

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "error.hpp"
#include "handle.hpp"

namespace [[gnu::visibility("default")]] sandbox {

/// A descriptor of this process, which is closed when this is destroyed. Can be moved, not copied.
class descriptor {
public:
    /// Takes over an open descriptor; -1 is none.
    explicit descriptor(int fd) noexcept : fd_(fd) {}

    /// Takes the descriptor of the other, which has none then.
    descriptor(descriptor &&other) noexcept : fd_(other.release()) {}

    /// Closes its own and takes that of the other.
    descriptor &operator=(descriptor &&other) noexcept {
        descriptor(std::move(other)).swap(*this);
        return *this;
    }

    ~descriptor() {
        if (fd_ >= 0)
            ::close(fd_);
    }

    /// The number, for calls to the system; -1 if it was moved from.
    int get() const noexcept { return fd_; }

    /// Gives it to the caller, who closes it.
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

    /// Exchanges two.
    void swap(descriptor &other) noexcept { std::swap(fd_, other.fd_); }

private:
    int fd_;
};

/// A local port or Unix socket whose connections end in a sandbox, made by box::forward(). It has a thread of its own
/// and listens until it is closed or destroyed, or until its Pod has ended. It never connects to another Pod of the
/// same name. Its connections end with it. If the SSH session is lost, its open connections break and later ones use a
/// new session. May be used from several threads at once.
class forward : public handle<sbx_forward> {
public:
    using handle::handle;

    /// Where it listens, such as "127.0.0.1:8080" with the port that the system has chosen for 0, or a path.
    std::string local() const { return detail::text(sbx_forward_local(native_handle())); }

    /// The local port; 0 for a Unix socket.
    std::uint16_t port() const { return sbx_forward_port(native_handle()); }

    /// Connections that there are at this moment.
    std::size_t connections() const { return sbx_forward_connections(native_handle()); }

    /// Whether it still listens.
    bool is_open() const { return sbx_forward_is_open(native_handle()); }

    /// Why the last connection that failed did so, such as error_kind::refused because nothing listened in the sandbox.
    /// A connection that its local side breaks off does not count as failed.
    std::optional<error> last_failure() const {
        sbx_error *failure = nullptr;
        if (!sbx_forward_last_failure(native_handle(), &failure))
            return std::nullopt;
        return error(std::shared_ptr<const sbx_error>(failure, sbx_error_free));
    }

    /// Waits until it has ended; returns if another thread has closed it. Else it throws the reason: the Pod is gone or
    /// its sandbox was deleted.
    void wait() const { detail::call(sbx_forward_wait, native_handle()); }

    /// Stops listening and breaks the open connections, for which it waits up to 2 seconds. Does nothing if it is
    /// closed already.
    void close() const { sbx_forward_close(native_handle()); }
};

} // namespace sandbox

#endif // SANDBOX_FORWARD_HPP
