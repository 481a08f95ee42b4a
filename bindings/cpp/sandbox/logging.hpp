/// \file
/// Part of sandbox.hpp, which is to be included: log lines for a program's own logger.

#ifndef SANDBOX_LOGGING_HPP
#define SANDBOX_LOGGING_HPP

#include <sandbox.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>

#include "handle.hpp"
#include "types.hpp"

namespace [[gnu::visibility("default")]] sandbox {

/// Takes a line of the library's log: its level, the part of the library that wrote it, such as "sandbox::client", and
/// the message, without a newline.
using log_handler = std::function<void(log_level level, std::string_view target, std::string_view message)>;

namespace detail {

/// The one that gets the lines. Never destroyed: the library's threads may log while the program ends.
struct log_receiver {
    std::mutex changing;
    std::unique_ptr<log_handler> handler;

    static log_receiver &only() {
        static log_receiver *const only = new log_receiver;
        return *only;
    }

    static void receive(void *handler, sbx_log_level level, const char *target, const char *message) noexcept {
        (*static_cast<log_handler *>(handler))(static_cast<log_level>(level), target, message);
    }
};

} // namespace detail

/// Passes the library's log lines, up to this level, to `handler`, for all clients of the process, until it is called
/// again; an empty handler stops it. An earlier handler is replaced: once this returns, it is not called any more.
/// Without this and config::init_logging() the library writes nothing.
///
/// It is called on the thread that logs, which may be one of the library's own, and by several threads at once. It must
/// not wait for calls of this library. Lines that its own calls of this library would log are dropped. What it throws
/// ends the program. invalid_argument_error if a handler calls it; timed_out_error if the handler to be replaced does
/// not return.
inline void set_log_handler(log_level level, log_handler handler) {
    auto next = handler ? std::make_unique<log_handler>(std::move(handler)) : nullptr;
    auto &receiver = detail::log_receiver::only();
    std::lock_guard lock(receiver.changing);
    detail::call(sbx_log_set_handler, static_cast<std::int32_t>(level), next ? detail::log_receiver::receive : nullptr,
                 static_cast<void *>(next.get()));
    receiver.handler = std::move(next);
}

} // namespace sandbox

#endif // SANDBOX_LOGGING_HPP
