package sandbox

/*
#include <sandbox.h>
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// A Kind says why an operation failed. It is an error itself, for errors.Is:
//
//	if errors.Is(err, sandbox.ErrNotFound) {
type Kind int32

// The kinds of errors, the same in every language. A later version of the library may have more of them.
const (
	// An argument is invalid. Nothing was done. Matches fs.ErrInvalid.
	ErrInvalidArgument Kind = C.SBX_ERR_INVALID_ARGUMENT
	// A setting, the kubeconfig or the service account can't be used; the message names it and what is allowed.
	ErrConfig Kind = C.SBX_ERR_CONFIG
	// A blocking call was made from asynchronous Rust code, which a Go program has not.
	ErrAsyncContext Kind = C.SBX_ERR_ASYNC_CONTEXT
	// The client was made before a fork of this process.
	ErrForked Kind = C.SBX_ERR_FORKED
	// The handle was closed, or its sandbox deleted through it. Matches fs.ErrClosed, which is os.ErrClosed.
	ErrClosed Kind = C.SBX_ERR_CLOSED
	// No such sandbox: it was never there, or is gone.
	ErrNotFound Kind = C.SBX_ERR_NOT_FOUND
	// A sandbox of that name exists already, or the key of a detached command is in use, or somebody else changed the
	// same object at the same time.
	ErrConflict Kind = C.SBX_ERR_CONFLICT
	// Kubernetes, or a file system, does not allow it. Matches fs.ErrPermission.
	ErrPermissionDenied Kind = C.SBX_ERR_PERMISSION_DENIED
	// A quota of the namespace, or the API server's limit of requests, is used up.
	ErrQuota Kind = C.SBX_ERR_QUOTA
	// The disk is full, a disk quota is exceeded, or the file has reached the largest size allowed. Matches
	// syscall.ENOSPC.
	ErrStorageFull Kind = C.SBX_ERR_STORAGE_FULL
	// No detached command has this key. The sandbox is there.
	ErrDetachedNotFound Kind = C.SBX_ERR_DETACHED_NOT_FOUND
	// The pool has no sandbox ready, and the claim was made to fail in that case.
	ErrPoolEmpty Kind = C.SBX_ERR_POOL_EMPTY
	// No such file or directory. For this and the following file errors, the message says whether the file is in the
	// sandbox or on this machine. Matches fs.ErrNotExist and syscall.ENOENT.
	ErrFileNotFound Kind = C.SBX_ERR_FILE_NOT_FOUND
	// A file or directory of that name exists already. Matches
	// fs.ErrExist and syscall.EEXIST.
	ErrFileExists Kind = C.SBX_ERR_FILE_EXISTS
	// The path is a directory, and the operation needs a file. Matches syscall.EISDIR.
	ErrIsADirectory Kind = C.SBX_ERR_IS_A_DIRECTORY
	// The path, or one of its parents, is not a directory. Matches syscall.ENOTDIR.
	ErrNotADirectory Kind = C.SBX_ERR_NOT_A_DIRECTORY
	// The directory is not empty. Matches
	// syscall.ENOTEMPTY.
	ErrDirectoryNotEmpty Kind = C.SBX_ERR_DIRECTORY_NOT_EMPTY
	// The file system is read-only. Matches
	// syscall.EROFS.
	ErrReadOnly Kind = C.SBX_ERR_READ_ONLY
	// The file is in use: it is being executed, is a mount point, or another download writes to it. Also: a local port is
	// in use. Matches syscall.EBUSY.
	ErrBusy Kind = C.SBX_ERR_BUSY
	// A file name is longer than the file system allows, or a path is longer than 4095 bytes. Matches
	// syscall.ENAMETOOLONG.
	ErrNameTooLong Kind = C.SBX_ERR_NAME_TOO_LONG
	// The API server can't be reached or can't answer now. Trying later may help.
	ErrUnavailable Kind = C.SBX_ERR_UNAVAILABLE
	// No connection to the sandbox's SSH server could be made.
	ErrConnect Kind = C.SBX_ERR_CONNECT
	// The sandbox's SSH server refused this client's key or user name.
	ErrAuthentication Kind = C.SBX_ERR_AUTHENTICATION
	// The SSH server showed another host key than the one pinned for this sandbox. Nothing was sent to it.
	ErrHostKeyMismatch Kind = C.SBX_ERR_HOST_KEY_MISMATCH
	// The connection was lost, either before a request was sent or during a request that can safely be repeated.
	ErrDisconnected Kind = C.SBX_ERR_DISCONNECTED
	// The operation timed out. A command was killed, and the error has the output up to then. Matches
	// os.ErrDeadlineExceeded.
	ErrTimedOut Kind = C.SBX_ERR_TIMED_OUT
	// Nothing in the sandbox listens on the port or the socket. Matches
	// syscall.ECONNREFUSED.
	ErrRefused Kind = C.SBX_ERR_REFUSED
	// The sandbox could not be created; the error's verdict has the reason that Kubernetes gives. The Pod was deleted
	// again.
	ErrCreate Kind = C.SBX_ERR_CREATE
	// The sandbox could not be deleted, or its end could not be confirmed.
	ErrDelete Kind = C.SBX_ERR_DELETE
	// The command could not be started: it did not run.
	ErrCommand Kind = C.SBX_ERR_COMMAND
	// The command ran and did not succeed. Only [ExitError] and [Output.Check] say this.
	ErrCommandFailed Kind = C.SBX_ERR_COMMAND_FAILED
	// The connection was lost after the request to run a command or to change a file was sent. The sandbox may have
	// carried it out. The library does not repeat such a request.
	ErrOutcomeUnknown Kind = C.SBX_ERR_OUTCOME_UNKNOWN
	// A transfer or another file operation failed for a reason that has no kind of its own. The target of a transfer is
	// unchanged.
	ErrTransfer Kind = C.SBX_ERR_TRANSFER
	// The caller asked to stop: by the context, or by an error of a function, reader or writer. That error matches too.
	ErrCancelled Kind = C.SBX_ERR_CANCELLED
	// A bug in the library. The handles stay usable.
	ErrPanic Kind = C.SBX_ERR_PANIC
)

// Kinds are all kinds that the library knows.
func Kinds() []Kind {
	var kinds []Kind
	for index := range C.sbx_status_count() {
		if status := C.sbx_status_at(index); status != C.SBX_OK {
			kinds = append(kinds, Kind(status))
		}
	}
	return kinds
}

// Error is the kind in words, such as "not found".
func (k Kind) Error() string {
	name := C.sbx_status_name(C.int32_t(k))
	if name == nil {
		return fmt.Sprintf("error %d", int32(k))
	}
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(C.GoString(name), "SBX_ERR_"), "_", " "))
}

// The error numbers that kinds stand for.
var numbers = map[Kind]syscall.Errno{
	ErrStorageFull:       syscall.ENOSPC,
	ErrFileNotFound:      syscall.ENOENT,
	ErrFileExists:        syscall.EEXIST,
	ErrIsADirectory:      syscall.EISDIR,
	ErrNotADirectory:     syscall.ENOTDIR,
	ErrDirectoryNotEmpty: syscall.ENOTEMPTY,
	ErrReadOnly:          syscall.EROFS,
	ErrBusy:              syscall.EBUSY,
	ErrNameTooLong:       syscall.ENAMETOOLONG,
	ErrRefused:           syscall.ECONNREFUSED,
}

// Is matches the kind with Go's own errors for the same.
func (k Kind) Is(target error) bool {
	switch k {
	case ErrInvalidArgument:
		return target == fs.ErrInvalid
	case ErrClosed:
		return target == fs.ErrClosed
	case ErrPermissionDenied:
		return target == fs.ErrPermission
	case ErrTimedOut:
		return target == os.ErrDeadlineExceeded
	default:
		number := numbers[k]
		return number != 0 && (target == number || number.Is(target))
	}
}

// An Error says why a call failed.
type Error struct {
	// Why it failed, to branch on.
	Kind Kind
	// The operation that failed, such as "create sandbox"; "" if there is none.
	Op string
	// The name of the sandbox that it was tried on, or "".
	Sandbox string
	// The complete message on one line, without secrets: the operation, the sandbox, what happened, and what Kubernetes
	// reports.
	Message string
	// What Kubernetes knows about why the Pod can't start or why it stopped, if the cause is there; else nil.
	Verdict *Verdict
	// The HTTP status of the API server's answer, if that was a failure; else 0.
	HTTPStatus int
	// libssh2's error number (negative), or the SFTP status code (positive) of a server that reports no errno; else 0.
	SSHCode int
	// The error number of Linux, such as syscall.ENOENT, if a system call on a file failed in the sandbox or on this
	// machine, or if one is why a command did not run; else 0. errors.Is matches it, and what it matches itself, such
	// as fs.ErrNotExist.
	Errno syscall.Errno
	// What a command had written when it was stopped, failed or was lost; nil for an error without output.
	Stdout, Stderr []byte
	// The same call may succeed later and is safe to repeat, because no request had been sent to the sandbox.
	Retryable bool

	causes []error
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

// Unwrap gives the kind, the error number of the system, and what caused the error in this process: the context's
// error, or that of a function that was called.
func (e *Error) Unwrap() []error {
	all := []error{e.Kind}
	if e.Errno != 0 {
		all = append(all, e.Errno)
	}
	return append(all, e.causes...)
}

// Timeout is true if the operation's time ran out. os.IsTimeout asks for it, also in an fs.PathError.
func (e *Error) Timeout() bool { return e.Kind == ErrTimedOut }

// A Cause is why Kubernetes says that a Pod can't start or has stopped. A later version may have more of them.
type Cause int32

// The causes that a [Verdict] tells apart.
const (
	// There is no verdict.
	CauseNone Cause = C.SBX_CAUSE_NONE
	// The image does not exist, can't be reached, or needs credentials.
	CauseImagePull Cause = C.SBX_CAUSE_IMAGE_PULL
	// No node can take the Pod.
	CauseUnschedulable Cause = C.SBX_CAUSE_UNSCHEDULABLE
	// A quota of the namespace forbids it.
	CauseQuota Cause = C.SBX_CAUSE_QUOTA
	// Admission (Pod security, a policy, a webhook) or validation rejected the Pod.
	CauseRejected Cause = C.SBX_CAUSE_REJECTED
	// The container can't be set up: a missing Secret or ConfigMap, a bad command, a failed volume.
	CauseConfiguration Cause = C.SBX_CAUSE_CONFIGURATION
	// The container's main process ended by itself.
	CauseExited Cause = C.SBX_CAUSE_EXITED
	// The container used more memory than its limit and was killed.
	CauseOutOfMemory Cause = C.SBX_CAUSE_OUT_OF_MEMORY
	// The node evicted the Pod.
	CauseEvicted Cause = C.SBX_CAUSE_EVICTED
	// The Pod reached its hard time limit.
	CauseDeadlineExceeded Cause = C.SBX_CAUSE_DEADLINE_EXCEEDED
	// The sandbox reached its own expiry.
	CauseExpired Cause = C.SBX_CAUSE_EXPIRED
	// The Pod was deleted, or is being deleted.
	CauseDeleted Cause = C.SBX_CAUSE_DELETED
	// The node is gone or does not answer.
	CauseNodeLost Cause = C.SBX_CAUSE_NODE_LOST
	// Kubernetes reports no problem; the verdict is the last state seen.
	CausePending Cause = C.SBX_CAUSE_PENDING
)

// A Verdict is what Kubernetes says about a Pod that can't start or has stopped.
type Verdict struct {
	// The cause, to branch on.
	Cause Cause
	// Kubernetes' own reason, such as "ErrImagePull"; may be empty.
	Reason string
	// The explanation of Kubernetes on one line; may be empty.
	Message string
}

func newVerdict(cause C.sbx_cause, reason, message *C.char) *Verdict {
	if cause == C.SBX_CAUSE_NONE {
		return nil
	}
	return &Verdict{Cause(cause), C.GoString(reason), C.GoString(message)}
}

// invoke makes a call that can fail.
func invoke(call func(err **C.sbx_error) C.sbx_status) error {
	var failure *C.sbx_error
	if call(&failure) == C.SBX_OK {
		return nil
	}
	defer C.sbx_error_free(failure)
	return newError(failure)
}

func newError(failure *C.sbx_error) *Error {
	var out, err C.size_t
	stdout, stderr := C.sbx_error_stdout(failure, &out), C.sbx_error_stderr(failure, &err)
	return &Error{
		Kind:    Kind(C.sbx_error_status(failure)),
		Op:      C.GoString(C.sbx_error_operation(failure)),
		Sandbox: C.GoString(C.sbx_error_sandbox(failure)),
		Message: C.GoString(C.sbx_error_message(failure)),
		Verdict: newVerdict(C.sbx_error_verdict_cause(failure), C.sbx_error_verdict_reason(failure),
			C.sbx_error_verdict_message(failure)),
		HTTPStatus: int(C.sbx_error_http_status(failure)),
		SSHCode:    int(C.sbx_error_ssh_code(failure)),
		Errno:      syscall.Errno(C.sbx_error_errno(failure)),
		Stdout:     copied(stdout, out),
		Stderr:     copied(stderr, err),
		Retryable:  bool(C.sbx_error_is_retryable(failure)),
	}
}

// because adds what caused an error in this process.
func because(err, cause error) error {
	var e *Error
	if cause != nil && errors.As(err, &e) {
		e.causes = append(e.causes, cause)
	}
	return err
}

// An operation is what an error that begins in this package names.
type operation struct {
	name    string
	sandbox string
	// What goes to C as text, where a NUL would end it.
	texts []string
	// Whose turn it needs; nil for what needs no SSH session, or has it.
	turns *turns
}

func (o operation) fail(kind Kind, message string, causes ...error) *Error {
	where := o.name
	if o.sandbox != "" {
		where += " (" + o.sandbox + ")"
	}
	return &Error{Kind: kind, Op: o.name, Sandbox: o.sandbox, Message: where + ": " + message, causes: causes}
}

// stopped is the error for a context that is done.
func (o operation) stopped(ctx context.Context) *Error {
	err := ctx.Err()
	kind, causes := ErrCancelled, []error{err}
	if errors.Is(err, context.DeadlineExceeded) {
		kind = ErrTimedOut
	}
	message := err.Error()
	if cause := context.Cause(ctx); cause != err {
		message, causes = fmt.Sprintf("%v: %v", err, cause), append(causes, cause)
	}
	return o.fail(kind, message, causes...)
}

// check finds what is wrong before anything is tried.
func (o operation) check(ctx context.Context) error {
	if ctx.Err() != nil {
		return o.stopped(ctx)
	}
	for _, text := range o.texts {
		if strings.IndexByte(text, 0) >= 0 {
			return o.fail(ErrInvalidArgument, fmt.Sprintf("%q has a NUL", text))
		}
	}
	return nil
}
