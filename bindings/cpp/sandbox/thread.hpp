/// \file
/// Part of sandbox.hpp, which is to be included: what ends the calls of a thread.

#ifndef SANDBOX_THREAD_HPP
#define SANDBOX_THREAD_HPP

#include <sandbox.h>

#include <cstdint>
#include <functional>
#include <utility>

namespace [[gnu::visibility("default")]] sandbox {

/// While it exists, the calls of the thread that made it ask it, while they wait, whether they are to end: with a
/// cancelled_error, after what they can undo is undone, as when their time runs out. A signal such as Ctrl-C's ends
/// them so, if its handler sets a flag that this looks at.
///
/// It is asked about ten times a second, and in most waits when a signal handler has run. It may make calls itself, of
/// other objects, which are not asked about. What it throws ends the program. On one thread, there is one at a time.
class on_wait {
public:
    /// Asks `is_interrupted`.
    explicit on_wait(std::function<bool()> is_interrupted) : is_interrupted_(std::move(is_interrupted)) {
        sbx_thread_on_wait(ask, this);
    }

    /// The library has its address.
    on_wait(const on_wait &) = delete;
    /// The library has its address.
    on_wait &operator=(const on_wait &) = delete;

    /// Asks nobody any more. It must be the same thread.
    ~on_wait() { sbx_thread_on_wait(nullptr, nullptr); }

private:
    static std::int32_t ask(void *self) noexcept { return static_cast<on_wait *>(self)->is_interrupted_() ? 1 : 0; }

    std::function<bool()> is_interrupted_;
};

} // namespace sandbox

#endif // SANDBOX_THREAD_HPP
