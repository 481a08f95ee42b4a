// Package sandbox gives a program disposable Linux machines on the user's own Kubernetes: it creates a Pod that runs an
// SSH server, runs commands in it, moves files in and out, and deletes it.
//
//	client, err := sandbox.NewClient(nil)
//	box, err := client.Create(ctx, nil)
//	output, err := box.Execute(ctx, "uname -a")
//	err = box.Delete(ctx)
//
// # Contexts
//
// What blocks takes a context, and returns when that is done:
//
//   - A command is killed in the sandbox. A deadline becomes the command's timeout, so that it is killed there even if
//     this process can't reach it any more.
//   - A transfer is stopped; its target is as it was before.
//   - Everything else (creating, listing, a small file) can't be interrupted in the middle. It returns at once, and
//     what it began is finished in the background: a sandbox that is created after its context was done is deleted
//     again; another change is made or not made.
//
// The error then is an [*Error] that matches [context.Canceled] or [context.DeadlineExceeded], and [context.Cause] too.
//
// # Errors
//
// Every error of the library is an [*Error] with a [Kind]. errors.Is matches it with a kind, such as [ErrNotFound], and
// with what Go has for the same: fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrInvalid, fs.ErrClosed,
// os.ErrDeadlineExceeded and syscall.ENOSPC.
//
// # Goroutines and threads
//
// All methods may be called from many goroutines at once. A call into C takes a thread of the operating system until it
// returns, as a file of os does; a goroutine that waits for its context or for another goroutine takes none. A command
// that is started takes a thread to run it, one for each output stream that is copied, and one to wait for it. What is
// beyond the configured number of sessions per sandbox waits for its turn as a goroutine, without a thread; see
// [Client.MaxSessions]. So thousands of goroutines may use a sandbox. Calls that only ask Kubernetes, as
// [Client.Create] and [Sandbox.Info], take a thread each.
//
// Functions that are handed in are called on the goroutine that made the call: a panic goes its usual way there, after
// the operation was stopped. So does a panic of a reader or writer of a transfer, or of a writer of a command.
//
// # Handles
//
// [Client], [Sandbox], [Detached] and [File] have a Close. It may be called more than once and while calls of other
// goroutines run: those go on to their end, later ones fail with an error that matches [os.ErrClosed]. Handles keep
// alive what they need of each other, so any order is right. What is forgotten is freed some time after the garbage
// collector has found it.
package sandbox

/*
#include <sandbox.h>
*/
import "C"

// Version is the version of the library that runs, such as "0.1.0".
func Version() string { return C.GoString(C.sbx_version()) }

// VersionNumber is the same as a number that grows: major<<16 | minor<<8 | patch.
func VersionNumber() uint32 { return uint32(C.sbx_version_number()) }
