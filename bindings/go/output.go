package sandbox

/*
#include <sandbox.h>
*/
import "C"

import (
	"errors"
	"fmt"
)

// A ProcessState says how a command ended. It is always what the sandbox reported, never a default.
type ProcessState struct {
	code      int
	signal    string
	isSuccess bool
}

// ExitCode is the exit code, or -1 if a signal ended the command.
func (s *ProcessState) ExitCode() int { return s.code }

// Exited is true if the command ended by itself, with an exit code.
func (s *ProcessState) Exited() bool { return s.signal == "" }

// Signal is the name of the signal that ended the command, without SIG, such as "KILL"; "" if it ended by itself.
func (s *ProcessState) Signal() string { return s.signal }

// Success is true for exit code 0.
func (s *ProcessState) Success() bool { return s.isSuccess }

// String says it in words, such as "exit status 3".
func (s *ProcessState) String() string {
	if s.Exited() {
		return fmt.Sprintf("exit status %d", s.code)
	}
	return "signal: " + s.signal
}

// newState makes a Go value of what C says about an end.
func newState(isSuccess C.bool, code func(*C.int32_t) C.bool, signal *C.char) *ProcessState {
	state := &ProcessState{code: -1, signal: C.GoString(signal), isSuccess: bool(isSuccess)}
	var number C.int32_t
	if code(&number) {
		state.code = int(number)
	}
	return state
}

// takeExitStatus makes a Go value of an exit status that belongs to the caller; nil for NULL.
func takeExitStatus(exitStatus *C.sbx_exit_status) *ProcessState {
	if exitStatus == nil {
		return nil
	}
	defer C.sbx_exit_status_free(exitStatus)
	return newState(C.sbx_exit_status_success(exitStatus), func(code *C.int32_t) C.bool {
		return C.sbx_exit_status_code(exitStatus, code)
	}, C.sbx_exit_status_signal(exitStatus))
}

// exitStatus makes a call that tells how a command ended.
func exitStatus(call func(exitStatus **C.sbx_exit_status, err **C.sbx_error) C.sbx_status) (*ProcessState, error) {
	var exitStatus *C.sbx_exit_status
	if err := invoke(func(err **C.sbx_error) C.sbx_status { return call(&exitStatus, err) }); err != nil {
		return nil, err
	}
	return takeExitStatus(exitStatus), nil
}

// An Output is what a command wrote and how it ended. An exit code other than 0 is no error here; see [Output.Check].
type Output struct {
	*ProcessState
	// The bytes of the standard output and the standard error.
	Stdout, Stderr []byte
	// How many bytes of both streams were beyond [Cmd.OutputLimit] and are lost.
	Truncated uint64

	failure error
}

// Check is nil for exit code 0, else an [*ExitError].
func (o *Output) Check() error {
	if o.failure == nil {
		return nil
	}
	return &ExitError{ProcessState: o.ProcessState, Stderr: o.Stderr, cause: o.failure}
}

// collect makes a call that gives an output.
func collect(sandbox string, call func(output **C.sbx_output, err **C.sbx_error) C.sbx_status) (*Output, error) {
	var output *C.sbx_output
	if err := invoke(func(err **C.sbx_error) C.sbx_status { return call(&output, err) }); err != nil {
		return nil, err
	}
	defer C.sbx_output_free(output)
	var out, err C.size_t
	stdout, stderr := C.sbx_output_stdout(output, &out), C.sbx_output_stderr(output, &err)
	failure := invoke(func(err **C.sbx_error) C.sbx_status { return C.sbx_output_check(output, err) })
	var e *Error
	if errors.As(failure, &e) {
		e.Sandbox = sandbox
	}
	return &Output{
		ProcessState: newState(C.sbx_output_success(output), func(code *C.int32_t) C.bool {
			return C.sbx_output_exit_code(output, code)
		}, C.sbx_output_signal(output)),
		Stdout:    copied(stdout, out),
		Stderr:    copied(stderr, err),
		Truncated: uint64(C.sbx_output_truncated(output)),
		failure:   failure,
	}, nil
}

// An ExitError says that a command ran and did not succeed, after os/exec. It matches [ErrCommandFailed], and errors.As
// finds the [*Error] in it.
type ExitError struct {
	*ProcessState
	// What the command wrote to its standard error, where that was collected.
	Stderr []byte

	cause error
}

// Error says how the command ended, and the last line of its standard error where that was collected.
func (e *ExitError) Error() string { return e.cause.Error() }

// Unwrap gives the [*Error].
func (e *ExitError) Unwrap() error { return e.cause }

// failed is the error for a command that did not succeed and whose output is not here; nil for one that did.
func (o operation) failed(state *ProcessState) error {
	if state.Success() {
		return nil
	}
	return &ExitError{ProcessState: state, cause: o.fail(ErrCommandFailed, state.String())}
}
