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
/// other objects, which are not asked about. What it throws ends the program. Of several on one thread the last one
/// made is asked, and once that is gone the one before it, whatever order they end in.
class on_wait {
public:
    /// Asks `is_interrupted`.
    explicit on_wait(std::function<bool()> is_interrupted)
        : is_interrupted_(std::move(is_interrupted)), before_(std::exchange(last(), this)) {
        sbx_thread_on_wait(ask, this);
    }

    /// The library has its address.
    on_wait(const on_wait &) = delete;
    /// The library has its address.
    on_wait &operator=(const on_wait &) = delete;

    /// Does not ask this one any more. It must be the same thread.
    ~on_wait() {
        on_wait **place = &last();
        while (*place != this)
            place = &(*place)->before_;
        *place = before_;
        sbx_thread_on_wait(last() ? ask : nullptr, last());
    }

private:
    static std::int32_t ask(void *self) noexcept { return static_cast<on_wait *>(self)->is_interrupted_() ? 1 : 0; }

    /// That of this thread that is asked.
    static on_wait *&last() noexcept {
        static thread_local on_wait *last = nullptr;
        return last;
    }

    std::function<bool()> is_interrupted_;
    on_wait *before_;
};

} // namespace sandbox

#endif // SANDBOX_THREAD_HPP
