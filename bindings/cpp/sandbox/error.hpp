/// \file
/// Part of sandbox.hpp, which is to be included: errors.

#ifndef SANDBOX_ERROR_HPP
#define SANDBOX_ERROR_HPP

#include <sandbox.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include "types.hpp"

namespace [[gnu::visibility("default")]] sandbox {

/// Why Kubernetes can't start a Pod, or why it stopped.
struct verdict {
    /// What happened.
    ::sandbox::cause cause = ::sandbox::cause::none;
    /// Kubernetes' own reason, such as "ErrImagePull"; may be empty.
    std::string reason;
    /// Kubernetes' explanation on one line; may be empty.
    std::string message;
};

namespace detail {

inline std::string text(const char *c) { return c ? c : std::string(); }

inline std::optional<std::string> some_text(const char *c) { return c ? std::optional<std::string>(c) : std::nullopt; }

inline std::string_view view(const std::uint8_t *data, std::size_t size) {
    return std::string_view(reinterpret_cast<const char *>(data), size);
}

inline std::optional<verdict> some_verdict(sbx_cause cause, const char *reason, const char *message) {
    if (cause == SBX_CAUSE_NONE)
        return std::nullopt;
    return verdict{static_cast<::sandbox::cause>(cause), text(reason), text(message)};
}

} // namespace detail

/// Why a call failed: the base of all that this library throws. Copies share what they tell, and may be read from
/// several threads.
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

    /// True if the same call may succeed later and is safe to repeat, because no request had been sent to the sandbox.
    bool is_retryable() const noexcept { return sbx_error_is_retryable(told_.get()); }

    /// The HTTP status of the API server's answer, if that was a failure.
    std::optional<int> http_status() const noexcept { return unless_zero(sbx_error_http_status(told_.get())); }

    /// libssh2's error number (negative), or the SFTP status code (positive) of a server that reports no errno.
    std::optional<int> ssh_code() const noexcept { return unless_zero(sbx_error_ssh_code(told_.get())); }

    /// The system's error, if a system call on a file failed in the sandbox or on this machine, or if one is why a
    /// command did not run; else one that is no error. It compares with std::errc, such as std::errc::is_a_directory.
    std::error_code code() const noexcept {
        return std::error_code(sbx_error_errno(told_.get()), std::generic_category());
    }

    /// What Kubernetes knows about it.
    std::optional<::sandbox::verdict> verdict() const {
        const sbx_error *told = told_.get();
        return detail::some_verdict(sbx_error_verdict_cause(told), sbx_error_verdict_reason(told),
                                    sbx_error_verdict_message(told));
    }

    /// What a command had written to its standard output when it was stopped, failed or was lost. Stays as long as a
    /// copy of the error.
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

/// The sandbox's SSH server could not be used: a connect_error, authentication_error, host_key_mismatch_error or
/// disconnected_error.
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
/// error_kind::detached_not_found
using detached_not_found_error = error_of<error_kind::detached_not_found>;
/// error_kind::pool_empty
using pool_empty_error = error_of<error_kind::pool_empty>;
/// error_kind::file_not_found
using file_not_found_error = error_of<error_kind::file_not_found>;
/// error_kind::file_exists
using file_exists_error = error_of<error_kind::file_exists>;
/// error_kind::is_a_directory
using is_a_directory_error = error_of<error_kind::is_a_directory>;
/// error_kind::not_a_directory
using not_a_directory_error = error_of<error_kind::not_a_directory>;
/// error_kind::directory_not_empty
using directory_not_empty_error = error_of<error_kind::directory_not_empty>;
/// error_kind::read_only
using read_only_error = error_of<error_kind::read_only>;
/// error_kind::busy
using busy_error = error_of<error_kind::busy>;
/// error_kind::name_too_long
using name_too_long_error = error_of<error_kind::name_too_long>;
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
/// error_kind::refused
using refused_error = error_of<error_kind::refused>;
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

} // namespace sandbox

#endif // SANDBOX_ERROR_HPP
