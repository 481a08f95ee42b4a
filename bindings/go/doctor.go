package sandbox

/*
#include <sandbox.h>
*/
import "C"

import (
	"context"
	"fmt"
	"strings"
)

// A CheckState is what a check found.
type CheckState string

// The states of checks, the better before the worse.
const (
	// All is well.
	CheckOK CheckState = "ok"
	// It could not be checked, because of the failure of another check or because this client may not look.
	CheckSkipped CheckState = "skipped"
	// Sandboxes work, but something is missing or unusual.
	CheckWarning CheckState = "warning"
	// Sandboxes can't be made or used.
	CheckFailure CheckState = "failure"
)

var checkStates = map[C.sbx_check_state]CheckState{
	C.SBX_CHECK_OK: CheckOK, C.SBX_CHECK_SKIPPED: CheckSkipped, C.SBX_CHECK_WARNING: CheckWarning,
	C.SBX_CHECK_FAILURE: CheckFailure,
}

// A Check is one of a [Report].
type Check struct {
	// Its stable name, one of those that Diagnose lists.
	Name string
	// How it came out.
	State CheckState
	// What was found, on one line.
	Found string
	// What may be done about it, to be pasted into a shell as far as it is a command; "" if nothing is to be done.
	Fix string
}

// A Report is what Diagnose found.
type Report struct {
	// The worst state of all checks.
	State CheckState
	// One line that says whether all is well.
	Summary string
	// The checks that were made, in the order in which Diagnose lists them.
	Checks []Check
}

// String has a line for each check, its fix below it, and the summary.
func (r *Report) String() string {
	var lines strings.Builder
	for _, check := range r.Checks {
		fmt.Fprintf(&lines, "%-8s %-19s %s\n", check.State, check.Name, check.Found)
		if check.Fix != "" {
			fmt.Fprintf(&lines, "%28s fix: %s\n", "", check.Fix)
		}
	}
	return lines.String() + r.Summary
}

// Diagnose finds out what stands in the way of a sandbox. What it finds is no error; neither is a wrong setting in the
// environment, if config is nil. The checks are config, process, api-server, clock, identity, rights-pods,
// rights-portforward, rights-exec, rights-events, namespace, quota, network-policy, guest, pod, and sandbox, the life
// of a real sandbox. Without names, all but the last one are made, which takes at most 5 seconds unless somebody has to
// log in by hand. What a check needs is in the report if it failed. Nothing is changed in the cluster but by sandbox.
//
// [ErrInvalidArgument] for a name that is no check's.
func Diagnose(ctx context.Context, config *Config, checks ...string) (*Report, error) {
	op := operation{name: "diagnose", texts: checks}
	var settings *C.sbx_config
	if config != nil {
		var err error
		if settings, err = config.handle(); err != nil {
			return nil, err
		}
	}
	shared := newHandle(settings, func(settings *C.sbx_config) { C.sbx_config_free(settings) })
	defer shared.close()
	return ask(ctx, op, shared, func(settings *C.sbx_config) (*Report, error) {
		var report *C.sbx_report
		if err := invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_diagnose(settings, text(strings.Join(checks, " ")), &report, err)
		}); err != nil {
			return nil, err
		}
		defer C.sbx_report_free(report)
		found := &Report{
			State:   checkStates[C.sbx_report_state(report)],
			Summary: C.GoString(C.sbx_report_summary(report)),
			Checks:  make([]Check, C.sbx_report_count(report)),
		}
		for index := range found.Checks {
			at := C.size_t(index)
			found.Checks[index] = Check{
				Name:  C.GoString(C.sbx_report_name_at(report, at)),
				State: checkStates[C.sbx_report_state_at(report, at)],
				Found: C.GoString(C.sbx_report_found_at(report, at)),
				Fix:   C.GoString(C.sbx_report_fix_at(report, at)),
			}
		}
		return found, nil
	}, nil)
}
