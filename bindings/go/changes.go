package sandbox

/*
#include <sandbox.h>
*/
import "C"

import (
	"context"
	"iter"
)

// ChangeKind is what has become of a sandbox. A later version may have more of them.
type ChangeKind int32

// What becomes of sandboxes.
const (
	// It is there, which was not known before.
	ChangeAdded ChangeKind = C.SBX_CHANGE_ADDED
	// Something about it is not as it was.
	ChangeChanged ChangeKind = C.SBX_CHANGE_CHANGED
	// It is gone, or does not fit any more.
	ChangeRemoved ChangeKind = C.SBX_CHANGE_REMOVED
)

// A Change tells what has become of a sandbox.
type Change struct {
	// What has become of it.
	Kind ChangeKind
	// The sandbox as it is now, or as it was last.
	Info *Info
}

// Changes are the changes of sandboxes, from [Client.Watch]. First all that fit are told as added, the oldest first,
// then each change. After a lost connection or a restart of the API server it goes on, and tells what has changed
// meanwhile; what came and went in between is not told. It may be used from several goroutines, of which each change
// goes to one.
type Changes struct {
	handle *handle[*C.sbx_changes]
}

// Seconds after which a wait looks at its context.
const glance = 0.1

// Watch watches the sandboxes in the namespace that fit; nil is all. It is one watch of its own, and keeps what it has
// told last of each sandbox. Nothing is asked before [Changes.Next].
//
// [ErrInvalidArgument] if no Pod can have the owner or a label, or if the filter asks for an age, which changes by
// itself.
func (c *Client) Watch(which *Filter) (*Changes, error) {
	given, err := which.handle()
	if err != nil {
		return nil, err
	}
	defer C.sbx_filter_free(given)
	op := operation{name: "watch sandboxes"}
	changes, err := ask(context.Background(), op, c.handle, func(client *C.sbx_client) (changes *C.sbx_changes, err error) {
		err = invoke(func(err **C.sbx_error) C.sbx_status { return C.sbx_client_watch(client, given, &changes, err) })
		return changes, err
	}, nil)
	if err != nil {
		return nil, err
	}
	return &Changes{newHandle(changes, func(changes *C.sbx_changes) { C.sbx_changes_free(changes) })}, nil
}

// Close ends the watch: where other goroutines wait in [Changes.Next], that fails with [ErrClosed]. It always returns
// nil, and is there for io.Closer.
func (c *Changes) Close() error {
	if changes, ok := c.handle.borrow(); ok {
		C.sbx_changes_close(changes)
		c.handle.giveBack()
	}
	c.handle.close()
	return nil
}

// Next waits for the next change. [ErrPermissionDenied] if the client may not list and watch Pods.
func (c *Changes) Next(ctx context.Context) (*Change, error) {
	op := operation{name: "watch sandboxes"}
	limit := C.double(-1)
	if ctx.Done() != nil {
		limit = glance
	}
	for {
		if err := op.check(ctx); err != nil {
			return nil, err
		}
		change, err := ask(context.Background(), op, c.handle, func(changes *C.sbx_changes) (*Change, error) {
			var kind C.sbx_change_kind
			var info *C.sbx_info
			err := invoke(func(err **C.sbx_error) C.sbx_status {
				return C.sbx_changes_next(changes, limit, &kind, &info, err)
			})
			if err != nil || info == nil {
				return nil, err
			}
			defer C.sbx_info_free(info)
			return &Change{ChangeKind(kind), newInfo(info)}, nil
		}, nil)
		if err != nil || change != nil {
			return change, err
		}
	}
}

// All is an iterator over the changes, which ends with the first error, such as that of the context.
func (c *Changes) All(ctx context.Context) iter.Seq2[*Change, error] {
	return func(yield func(*Change, error) bool) {
		for {
			change, err := c.Next(ctx)
			if !yield(change, err) || err != nil {
				return
			}
		}
	}
}
