/// \file
/// Part of sandbox.hpp, which is to be included: warm pools.

#ifndef SANDBOX_POOL_HPP
#define SANDBOX_POOL_HPP

#include <sandbox.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "box.hpp"

namespace [[gnu::visibility("default")]] sandbox {

/// How a pool is filled, for client::pool(). Who only claims needs none. Setters give the options back, so that they
/// can be chained.
class pool_options : public handle<sbx_pool_options> {
public:
    /// The defaults.
    pool_options() : handle(detail::make(sbx_pool_options_new)) {}

    using handle::handle;

    /// How many sandboxes are kept ready, 0 to 10,000. If several processes fill the pool, the largest size applies.
    /// After the size was lowered, surplus sandboxes stay until they are claimed or reach their idle lifetime. Default:
    /// 4.
    pool_options &set_size(std::size_t size) {
        detail::call(sbx_pool_options_set_size, native_handle(), size);
        return *this;
    }

    /// How long a sandbox waits to be claimed before it is replaced; at least 10 seconds. Default: one hour.
    pool_options &set_idle_lifetime(seconds time) {
        detail::call(sbx_pool_options_set_idle_lifetime, native_handle(), detail::exact_seconds(time, "time"));
        return *this;
    }

    /// How many sandboxes the pool makes at the same time, 1 to 256. Default: 4.
    pool_options &set_creates_at_once(std::size_t creates) {
        detail::call(sbx_pool_options_set_creates_at_once, native_handle(), creates);
        return *this;
    }

    /// How many sandboxes the pool begins to make in a second, more than 0. Default: 10.
    pool_options &set_creates_per_second(double creates) {
        detail::call(sbx_pool_options_set_creates_per_second, native_handle(), creates);
        return *this;
    }

    /// Whether the pool is kept filled by a thread of its own for as long as the object lives. Default: only
    /// pool::fill() fills it.
    pool_options &set_keep_filled(bool keep = true) {
        detail::call(sbx_pool_options_set_keep_filled, native_handle(), keep);
        return *this;
    }
};

/// What a claim gives the sandbox that it takes. Setters give the claim back, so that they can be chained; what they
/// are given is copied. They throw invalid_argument_error for text that is not UTF-8.
class claim : public handle<sbx_claim> {
public:
    /// A sandbox as the pool's spec has it.
    claim() : handle(detail::make(sbx_claim_new)) {}

    using handle::handle;

    /// An environment variable for all later commands in the sandbox. It overrides one of the spec.
    claim &set_env(std::string_view name, std::string_view value) { return with(sbx_claim_set_env, name, value); }

    /// A Kubernetes label on the Pod.
    claim &set_label(std::string_view name, std::string_view value) { return with(sbx_claim_set_label, name, value); }

    /// A Kubernetes annotation on the Pod.
    claim &set_annotation(std::string_view name, std::string_view value) {
        return with(sbx_claim_set_annotation, name, value);
    }

    /// Time until the sandbox expires, from the claim on; none for never. Default: that of the pool's spec, else the
    /// configured one.
    claim &set_lifetime(std::optional<seconds> time) {
        detail::call(sbx_claim_set_lifetime, native_handle(), detail::optional_seconds(time, "time"));
        return *this;
    }

    /// The new owner of the sandbox. Default: the configured owner of the client that claims.
    claim &set_owner(std::string_view owner) {
        detail::call(sbx_claim_set_owner, native_handle(), detail::c_text(owner, "owner").get());
        return *this;
    }

    /// A file to write before the sandbox is handed out.
    claim &add_file(std::string_view remote, bytes_view contents) {
        detail::call(sbx_claim_add_file, native_handle(), detail::c_text(remote, "remote").get(), contents.data(),
                     contents.size());
        return *this;
    }

    /// What to do if nothing is ready. Default: on_miss::create.
    claim &set_on_miss(on_miss what) {
        detail::call(sbx_claim_set_on_miss, native_handle(), static_cast<std::int32_t>(what));
        return *this;
    }

private:
    claim &with(sbx_status (*set)(sbx_claim *, const char *, const char *, sbx_error **), std::string_view name,
                std::string_view value) {
        detail::call(set, native_handle(), detail::c_text(name, "name").get(), detail::c_text(value, "value").get());
        return *this;
    }
};

/// A named pool of sandboxes of one spec that are created in advance; made by client::pool(). Its state is in the
/// cluster only: any number of processes fill it and claim from it, each sandbox goes to exactly one claim, and what a
/// killed process leaves behind is found by the others. May be used from several threads at once. Destroying this
/// object stops its background work and deletes sandboxes that are half created, for which it waits up to 10 seconds;
/// all others stay.
class pool : public handle<sbx_pool> {
public:
    using handle::handle;

    /// The name of the pool.
    std::string name() const { return detail::text(sbx_pool_name(native_handle())); }

    /// Creates the sandboxes that the pool lacks, and deletes those that have ended, are too old, or were made from an
    /// older spec. Returns when that is done.
    ///
    /// Fails as client::create(), with the first error; after that no further sandbox is begun. conflict_error if
    /// another process fills the pool from a newer spec.
    filled fill() const {
        filled done;
        detail::call(sbx_pool_fill, native_handle(), &done.created, &done.retired);
        return done;
    }

    /// Takes a sandbox that is ready, as claim(const claim &) with the defaults.
    [[nodiscard]] box take() const { return taken(nullptr); }

    /// Takes a ready sandbox out of the pool, or does what claim::set_on_miss() says if there is none; box::origin()
    /// says which it was. A claim that fails leaves no sandbox behind.
    ///
    /// pool_empty_error and timed_out_error by on_miss; permission_denied_error if the sandboxes were made with another
    /// SSH key and this client has no right to pods/exec; else as client::create() and box::write_file().
    [[nodiscard]] box take(const claim &what) const { return taken(what.native_handle()); }

    /// What there is of the pool now: one API call.
    pool_status status() const {
        const auto state = detail::make(sbx_pool_status, native_handle());
        pool_status all;
        all.ready = sbx_pool_state_ready(state.get());
        all.filling = sbx_pool_state_filling(state.get());
        all.claimed = sbx_pool_state_claimed(state.get());
        all.ending = sbx_pool_state_ending(state.get());
        all.foreign = sbx_pool_state_foreign(state.get());
        std::int64_t oldest = 0;
        if (sbx_pool_state_oldest(state.get(), &oldest))
            all.oldest = detail::at(oldest);
        all.held = detail::some_text(sbx_pool_state_held(state.get()));
        return all;
    }

    /// Counts of this object's work since it was made.
    pool_counters counters() const {
        const auto count = [this](sbx_pool_counter_kind kind) { return sbx_pool_counter(native_handle(), kind); };
        return {count(SBX_POOL_HITS), count(SBX_POOL_MISSES),  count(SBX_POOL_CONFLICTS), count(SBX_POOL_WAITING),
                count(SBX_POOL_BAD),  count(SBX_POOL_CREATED), count(SBX_POOL_RETIRED)};
    }

    /// Deletes all unclaimed sandboxes of the pool, without waiting for their end; how many. This object stops filling
    /// the pool in the background; other processes that fill it will do so again.
    std::size_t drain() const { return deleted(sbx_pool_drain); }

    /// drain(), which waits until the sandboxes are gone. Claimed sandboxes stay. conflict_error if sandboxes are still
    /// there after a minute, for example because another process fills the pool.
    std::size_t remove() const { return deleted(sbx_pool_remove); }

private:
    box taken(const sbx_claim *what) const { return box(detail::make(sbx_pool_claim, native_handle(), what)); }

    std::size_t deleted(sbx_status (*function)(const sbx_pool *, std::size_t *, sbx_error **)) const {
        std::size_t count = 0;
        detail::call(function, native_handle(), &count);
        return count;
    }
};

} // namespace sandbox

#endif // SANDBOX_POOL_HPP
