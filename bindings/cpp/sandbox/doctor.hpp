/// \file
/// Part of sandbox.hpp, which is to be included: what stands in the way of a sandbox.

#ifndef SANDBOX_DOCTOR_HPP
#define SANDBOX_DOCTOR_HPP

#include <sandbox.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "client.hpp"
#include "handle.hpp"
#include "types.hpp"

namespace [[gnu::visibility("default")]] sandbox {

/// One check of a report.
struct check {
    /// Its stable name, one of those that diagnose() lists.
    std::string name;
    /// How it is.
    check_state state = check_state::ok;
    /// What was found, on one line.
    std::string found;
    /// What may be done about it, to be pasted into a shell as far as it is a command; empty if nothing is to be done.
    std::string fix;
};

/// What diagnose() found.
struct report {
    /// The worst state of all checks.
    check_state state = check_state::ok;
    /// One line that says whether all is well.
    std::string summary;
    /// The checks, in their order.
    std::vector<check> checks;
};

namespace detail {

inline report diagnose(const sbx_config *settings, std::string_view checks) {
    const auto native = make(sbx_diagnose, settings, c_text(checks, "checks").get());
    report found;
    found.state = static_cast<check_state>(sbx_report_state(native.get()));
    found.summary = text(sbx_report_summary(native.get()));
    found.checks.resize(sbx_report_count(native.get()));
    for (std::size_t index = 0; index < found.checks.size(); ++index) {
        auto &one = found.checks[index];
        one.name = text(sbx_report_name_at(native.get(), index));
        one.state = static_cast<check_state>(sbx_report_state_at(native.get(), index));
        one.found = text(sbx_report_found_at(native.get(), index));
        one.fix = text(sbx_report_fix_at(native.get(), index));
    }
    return found;
}

} // namespace detail

/// Finds out what stands in the way of a sandbox. What it finds is no error.
///
/// `checks` has the names of the checks to make, separated by spaces: config, process, api-server, clock, identity,
/// rights-pods, rights-portforward, rights-exec, rights-events, namespace, quota, network-policy, guest, pod, and
/// sandbox, the life of a real sandbox. An empty text is all but the last one, which takes at most 5 seconds unless
/// somebody has to log in by hand. What a check needs is in the report if it failed. Nothing is changed in the cluster
/// but by sandbox.
///
/// invalid_argument_error for a name that is no check's.
inline report diagnose(const config &settings, std::string_view checks = {}) {
    return detail::diagnose(settings.native_handle(), checks);
}

/// The same for what the environment says; a wrong setting there is what the check config says then.
inline report diagnose(std::string_view checks = {}) { return detail::diagnose(nullptr, checks); }

} // namespace sandbox

#endif // SANDBOX_DOCTOR_HPP
