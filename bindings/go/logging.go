package sandbox

/*
#include <sandbox.h>

void sandbox_go_log(void *userdata, sbx_log_level level, char *target, char *message);
*/
import "C"

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

// A LogHandler takes a line of the library's log: its level, the part of the library that wrote it, such as
// "sandbox::client", and the message, without a newline.
type LogHandler func(level LogLevel, target, message string)

var (
	logHandler  atomic.Pointer[LogHandler]
	logReplaced sync.Mutex
)

// SetLogHandler passes the library's log lines, up to this level, to the handler, for all clients of the process; nil
// stops it. An earlier handler is replaced: once this returns, it is not called any more. Without this and
// [Config.InitLogging] the library writes nothing.
//
// The handler is called by several goroutines at once. It must not wait for calls of this library. What it logs itself
// is left out. A panic in it ends the program. [ErrInvalidArgument] if a handler calls it; [ErrTimedOut] if the handler
// to be replaced does not return.
func SetLogHandler(level LogLevel, handler LogHandler) error {
	number, isKnown := logLevels[level]
	if !isKnown {
		return &Error{Kind: ErrInvalidArgument, Message: string(level) + " is no level of log lines"}
	}
	logReplaced.Lock()
	defer logReplaced.Unlock()
	before := logHandler.Load()
	var receive C.sbx_log_fn
	if handler != nil {
		receive = C.sbx_log_fn(C.sandbox_go_log)
		logHandler.Store(&handler)
	}
	err := invoke(func(err **C.sbx_error) C.sbx_status { return C.sbx_log_set_handler(number, receive, nil, err) })
	if err != nil {
		logHandler.Store(before)
	} else if handler == nil {
		logHandler.Store(nil)
	}
	return err
}

//export sandbox_go_log
func sandbox_go_log(_ unsafe.Pointer, level C.sbx_log_level, target, message *C.char) {
	handler := *logHandler.Load()
	handler(levelOf[level], C.GoString(target), C.GoString(message))
}

var levelOf = func() map[C.sbx_log_level]LogLevel {
	levels := make(map[C.sbx_log_level]LogLevel, len(logLevels))
	for level, number := range logLevels {
		levels[C.sbx_log_level(number)] = level
	}
	return levels
}()
