package sandbox

/*
#include <sandbox.h>
*/
import "C"

import "time"

// A Filter says which sandboxes [Client.List] lists: those that fit everything that is set. What has its zero value
// does not matter.
type Filter struct {
	// Only those of this owner.
	Owner string
	// Only those whose Pods have all these Kubernetes labels with these values.
	Labels map[string]string
	// Only those in one of these phases.
	Phases []Phase
	// Only those that were created longer ago than this. Kubernetes tells that time in whole seconds, and the API server's
	// clock tells how long ago it was.
	OlderThan time.Duration
	// Only those that were created no longer ago than this.
	YoungerThan time.Duration
}

// handle makes C's filter, which the caller frees; NULL for nil.
func (f *Filter) handle() (*C.sbx_filter, error) {
	if f == nil {
		return nil, nil
	}
	var (
		filter *C.sbx_filter
		set    settings
	)
	set.do(func(err **C.sbx_error) C.sbx_status { return C.sbx_filter_new(&filter, err) })
	set.text("owner", f.Owner, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_filter_set_owner(filter, value, err)
	})
	set.pairs("label", f.Labels, func(name, value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_filter_set_label(filter, name, value, err)
	})
	for _, phase := range f.Phases {
		set.do(func(err **C.sbx_error) C.sbx_status { return C.sbx_filter_add_phase(filter, C.int32_t(phase), err) })
	}
	set.flag(f.OlderThan != 0, func(err **C.sbx_error) C.sbx_status {
		return C.sbx_filter_set_older_than(filter, C.double(f.OlderThan.Seconds()), err)
	})
	set.flag(f.YoungerThan != 0, func(err **C.sbx_error) C.sbx_status {
		return C.sbx_filter_set_younger_than(filter, C.double(f.YoungerThan.Seconds()), err)
	})
	if set.err != nil {
		C.sbx_filter_free(filter)
		return nil, set.err
	}
	return filter, nil
}
