package sandbox

/*
#include <sandbox.h>
*/
import "C"

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// A Terminal is what a command can run on.
type Terminal struct {
	// Its kind. Default: "xterm-256color".
	Kind string
	// Its size in characters.
	Columns, Rows uint16
}

// A Cmd is a command to run in a sandbox, after os/exec; made by [Sandbox.Command] or [Sandbox.Shell].
//
// Its environment is the image's, overridden by the spec's, overridden by its own. It starts in the image's working
// directory. It runs at most once, also if the connection is lost: then the error is [ErrOutcomeUnknown]. When its
// context is done, its process group is killed, and the error matches the context's and has the output so far, where
// that was collected. A deadline becomes the command's timeout, at which whatever left the process group is killed too.
//
// A Cmd can't be used by several goroutines at once, apart from its Process and its pipes, and not again after it was
// run.
type Cmd struct {
	// The program, or the line for the shell, and the arguments. The program is looked up in the PATH of the image, and
	// gets its arguments exactly as given; for a line they are $1, $2, …
	Args []string
	// Environment variables as "NAME=value", on top of those that are there anyway.
	Env []string
	// The directory to run in; a relative one begins at the image's working directory.
	Dir string
	// The user to run as, by name, with that user's groups and HOME. Only a sandbox that runs as root allows another
	// than its own.
	User string
	// The standard input; nil is an empty one. A *bytes.Buffer, *bytes.Reader or *strings.Reader is read at the start.
	// An *os.File is read by the library itself, as the command wants it. From another reader a goroutine reads ahead.
	Stdin io.Reader
	// Where output goes; what is nil is thrown away in the sandbox, so that it does not travel. If both are the same
	// writer, the output comes in the order in which it was written, and only one goroutine at a time calls Write.
	Stdout, Stderr io.Writer
	// The time after which the command is killed, or NoLimit; 0 for the deadline of the context, else the configured
	// command timeout.
	Timeout time.Duration
	// Runs the command on a terminal: all output comes as standard output then, with "\r\n" at the ends of lines.
	Terminal *Terminal
	// How many bytes of each stream are kept by Output, CombinedOutput and Collect. Default: 256 MiB.
	OutputLimit int
	// How long is waited, from the end of the command or of its context on, whichever comes first: for the proof that
	// it was killed, and for goroutines that copy input or output. Default: 10 seconds.
	WaitDelay time.Duration

	// The command once it is started.
	Process *Process
	// How the command ended, once that is known.
	ProcessState *ProcessState

	ctx     context.Context
	sandbox *Sandbox
	isShell bool

	isMerged      bool
	input         *inputPipe
	pipes         []*io.PipeReader
	obeysDeadline bool // its timeout is the context's deadline
	unwatch       func() bool
	feeding       *feed
	copies        []<-chan drain
	waitsUntil    time.Time     // see lastMoment
	isOver        chan struct{} // closed when an output stream has come to its end, which it does with the command
	hasRun        bool
	isWaitedFor   bool
}

// Command makes a command: name is looked up in the PATH of the image. Nothing runs yet. The context kills the command
// if it is done before the command has ended.
func (s *Sandbox) Command(ctx context.Context, name string, args ...string) *Cmd {
	return &Cmd{ctx: ctx, sandbox: s, Args: append([]string{name}, args...)}
}

// Shell makes a command of a line for the sandbox's shell, with arguments $1, $2, … Otherwise it is as
// [Sandbox.Command].
func (s *Sandbox) Shell(ctx context.Context, line string, args ...string) *Cmd {
	return &Cmd{ctx: ctx, sandbox: s, Args: append([]string{line}, args...), isShell: true}
}

// Execute runs a command line in the sandbox's shell and collects its output. An exit code other than 0 is no error
// here.
func (s *Sandbox) Execute(ctx context.Context, line string) (*Output, error) {
	if ctx.Done() != nil {
		return s.Shell(ctx, line).Collect()
	}
	return ask(ctx, s.operation("run command", line), s.handle, func(sandbox *C.sbx_sandbox) (*Output, error) {
		return collect(s.name, func(output **C.sbx_output, err **C.sbx_error) C.sbx_status {
			return C.sbx_sandbox_execute(sandbox, text(line), output, err)
		})
	}, nil)
}

// String is the command's line for people; what is in it is not quoted.
func (c *Cmd) String() string { return strings.Join(c.Args, " ") }

// Environ is the environment variables that the command adds to those of the sandbox.
func (c *Cmd) Environ() []string { return append([]string(nil), c.Env...) }

// Run starts the command and waits for its end. It returns an [*ExitError] unless the exit code is 0.
func (c *Cmd) Run() error {
	if c.isAlone() && c.Stdout == nil && c.Stderr == nil && c.input == nil {
		return c.settle(once(c, running, func(command *C.sbx_command) (*ProcessState, error) {
			return exitStatus(func(exitStatus **C.sbx_exit_status, err **C.sbx_error) C.sbx_status {
				return C.sbx_command_run(command, exitStatus, err)
			})
		}))
	}
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the command and returns its standard output. It returns an [*ExitError] with the standard error unless
// the exit code is 0.
func (c *Cmd) Output() ([]byte, error) {
	if c.Stdout != nil {
		return nil, c.operation().fail(ErrInvalidArgument, "Stdout is set already")
	}
	if c.Stderr != nil {
		var stdout bytes.Buffer
		c.Stdout = &stdout
		err := c.Run()
		return stdout.Bytes(), err
	}
	return checked(c.Collect())
}

// CombinedOutput runs the command and returns its standard output and standard error in the order in which they were
// written.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	if c.Stdout != nil || c.Stderr != nil {
		return nil, c.operation().fail(ErrInvalidArgument, "Stdout or Stderr is set already")
	}
	c.isMerged = true
	return checked(c.Collect())
}

// checked is the standard output, also what came of it before a failure.
func checked(output *Output, err error) ([]byte, error) {
	var e *Error
	if errors.As(err, &e) {
		return e.Stdout, err
	}
	return output.Stdout, output.Check()
}

// Collect runs the command and returns both output streams and how it ended. An exit code other than 0 is no error
// here.
func (c *Cmd) Collect() (*Output, error) {
	if c.Stdout != nil || c.Stderr != nil || c.input != nil {
		return nil, c.operation().fail(ErrInvalidArgument, "the streams of a command that is collected are its own")
	}
	if c.isAlone() {
		output, err := once(c, collecting, func(command *C.sbx_command) (*Output, error) {
			return collect(c.sandbox.name, func(output **C.sbx_output, err **C.sbx_error) C.sbx_status {
				return C.sbx_command_output(command, output, err)
			})
		})
		if err == nil {
			c.ProcessState = output.ProcessState
		}
		return output, err
	}
	if err := c.start(collecting); err != nil {
		return nil, err
	}
	output, err := finish(c.ctx, c.Process, c.operation(), c.lastMoment, c.Process.collect)
	if output == nil {
		return nil, c.tidy(nil, err)
	}
	c.ProcessState = output.ProcessState
	err = c.tidy(output.ProcessState, err)
	var e *Error
	if errors.As(err, &e) {
		e.Stdout, e.Stderr = output.Stdout, output.Stderr
		return nil, err
	}
	return output, err
}

// Stream runs the command and hands its output to receive as it comes: on the goroutine that called Stream, in pieces
// of any size, each to be used during the call only. An error of receive kills the command and matches the error of
// Stream, which is [ErrCancelled]; a panic kills it too. Otherwise it is as [Cmd.Run].
func (c *Cmd) Stream(receive func(stream Stream, data []byte) error) error {
	if c.Stdout != nil || c.Stderr != nil || c.input != nil {
		return c.operation().fail(ErrInvalidArgument, "the streams of a command that is streamed are its own")
	}
	talking := &conversation{receive: receive}
	if c.isAlone() {
		command, err := c.prepare(collecting)
		if err != nil {
			return err
		}
		defer command.close()
		return c.settle(talk(c.ctx, c.operation(), command, stopTimeout, talking,
			func(command *C.sbx_command, userdata unsafe.Pointer) (*ProcessState, error) {
				return exitStatus(func(exitStatus **C.sbx_exit_status, err **C.sbx_error) C.sbx_status {
					return C.sbx_command_stream(command, onReceive, userdata, exitStatus, err)
				})
			}))
	}
	handOver := func(stream Stream) io.Writer {
		return writerFunc(func(data []byte) error {
			if talking.do(func() error { return receive(stream, data) }) {
				return nil
			}
			c.Process.Kill()
			return ErrCancelled
		})
	}
	c.Stdout, c.Stderr = handOver(Stdout), handOver(Stderr)
	var err error
	// Wait looks at the context itself.
	talking.conduct(context.Background(), stopTimeout, func() { err = c.Run() })
	if talking.err != nil {
		return c.operation().fail(ErrCancelled, talking.err.Error(), talking.err)
	}
	return err
}

// A writerFunc is a function as a writer.
type writerFunc func(data []byte) error

func (f writerFunc) Write(data []byte) (int, error) {
	if err := f(data); err != nil {
		return 0, err
	}
	return len(data), nil
}

// StdinPipe is a pipe to the command's standard input, to be closed when there is no more. A Write blocks while the
// command is not started or does not read, and fails with an error that matches os.ErrClosed once it takes no more;
// Close waits for a Write that runs.
func (c *Cmd) StdinPipe() (io.WriteCloser, error) {
	if c.Stdin != nil || c.input != nil || c.hasRun {
		return nil, c.operation().fail(ErrInvalidArgument, "Stdin is set, or the command was started")
	}
	op := c.operation()
	op.name = "write input"
	c.input = &inputPipe{op: op, isStarted: make(chan struct{}), isClosed: make(chan struct{})}
	return c.input, nil
}

// StdoutPipe is a pipe from the command's standard output. [Cmd.Wait] closes it; so it is to be read to its end before.
func (c *Cmd) StdoutPipe() (io.ReadCloser, error) { return c.outputPipe(&c.Stdout) }

// StderrPipe is as [Cmd.StdoutPipe], for the standard error.
func (c *Cmd) StderrPipe() (io.ReadCloser, error) { return c.outputPipe(&c.Stderr) }

func (c *Cmd) outputPipe(place *io.Writer) (io.ReadCloser, error) {
	if *place != nil || c.hasRun {
		return nil, c.operation().fail(ErrInvalidArgument, "the stream is taken, or the command was started")
	}
	reader, writer := io.Pipe()
	*place = writer
	c.pipes = append(c.pipes, reader)
	return reader, nil
}

// Start starts the command and returns while it runs. [Cmd.Wait] must follow.
//
// [ErrCommand] if it did not start; [ErrConnect] and its like if the sandbox can't be reached.
func (c *Cmd) Start() error { return c.start(running) }

// Wait waits for the end of a command that was started, and for the goroutines that copy its input and output. It
// closes all pipes once the command has ended. It returns an [*ExitError] unless the exit code is 0.
func (c *Cmd) Wait() error {
	if c.Process == nil || c.isWaitedFor {
		return c.operation().fail(ErrInvalidArgument, "the command was not started, or was waited for before")
	}
	c.isWaitedFor = true
	if c.input != nil {
		// To wait in C ends the input, of which there may come more.
		select {
		case <-c.input.isClosed:
		case <-c.isOver:
		case <-c.ctx.Done():
		}
	}
	state, err := finish(c.ctx, c.Process, c.operation(), c.lastMoment, c.Process.wait)
	return c.settle(state, c.tidy(state, err))
}

// Detach starts the command so that it depends on neither this process nor a connection, and returns. Any process finds
// it again by its key. It starts at most once per key: if the sandbox knows the key already, this returns a handle of
// the command that has it, running or ended.
//
// A key has 1 to 64 ASCII letters, digits, '.', '_' or '-', and begins with a letter or digit. The sandbox keeps the
// output, up to OutputLimit bytes of each stream; later output is dropped and counted. The input must be bytes, and
// there is no terminal. Only the command's own Timeout applies, neither the configured one nor the context, which is
// for the start.
//
// [ErrInvalidArgument] if one of these rules is broken; [ErrConflict] if the key belongs to another command; else as
// [Cmd.Start].
func (c *Cmd) Detach(key string) (*Detached, error) {
	op := c.operation()
	op.name = "detach command"
	if c.Stdout != nil || c.Stderr != nil || c.input != nil {
		return nil, op.fail(ErrInvalidArgument, "a detached command has no streams here")
	}
	command, err := c.prepare(detaching)
	if err != nil {
		return nil, err
	}
	defer command.close()
	op.texts = []string{key}
	return newDetached(c.sandbox, c.ctx, op, command, func(command *C.sbx_command, detached **C.sbx_detached, err **C.sbx_error) C.sbx_status {
		return C.sbx_command_detach(command, text(key), detached, err)
	})
}

// What a command is made for.
type purpose int

const (
	running purpose = iota
	collecting
	detaching
)

func (c *Cmd) operation() operation { return c.sandbox.operation("run command") }

// isAlone is true for a command that nobody can stop and nobody has to feed: one call of C on one thread runs it.
func (c *Cmd) isAlone() bool {
	switch c.Stdin.(type) {
	case nil, *bytes.Buffer, *bytes.Reader, *strings.Reader, *os.File:
		return c.ctx.Done() == nil
	default:
		return false
	}
}

// once runs a command in one call of C.
func once[T any](c *Cmd, purpose purpose, call func(command *C.sbx_command) (T, error)) (T, error) {
	var none T
	shared, err := c.prepare(purpose)
	if err != nil {
		return none, err
	}
	defer shared.close()
	return ask(c.ctx, c.operation(), shared, call, nil)
}

// prepare makes C's command.
func (c *Cmd) prepare(purpose purpose) (*handle[*C.sbx_command], error) {
	op := c.operation()
	if c.hasRun || len(c.Args) == 0 {
		return nil, op.fail(ErrInvalidArgument, "a command has Args, and is run once")
	}
	if c.OutputLimit < 0 {
		return nil, op.fail(ErrInvalidArgument, "a negative OutputLimit")
	}
	c.hasRun = true
	op.texts = []string{c.Args[0]}
	if err := op.check(c.ctx); err != nil {
		return nil, err
	}
	sandbox, isOpen := c.sandbox.handle.borrow()
	if !isOpen {
		return nil, op.fail(ErrClosed, "the handle was closed")
	}
	defer c.sandbox.handle.giveBack()
	var (
		command *C.sbx_command
		s       settings
	)
	s.do(func(err **C.sbx_error) C.sbx_status {
		if c.isShell {
			return C.sbx_sandbox_shell(sandbox, text(c.Args[0]), &command, err)
		}
		return C.sbx_sandbox_command(sandbox, text(c.Args[0]), &command, err)
	})
	for _, arg := range c.Args[1:] {
		s.do(func(err **C.sbx_error) C.sbx_status {
			if arg == "" { // which may have no address
				return C.sbx_command_add_arg(command, text(arg), err)
			}
			return C.sbx_command_add_arg_bytes(command, (*C.uint8_t)(unsafe.StringData(arg)), C.size_t(len(arg)), err)
		})
	}
	for _, variable := range c.Env {
		name, value, isPair := strings.Cut(variable, "=")
		if !isPair && s.err == nil {
			s.err = op.fail(ErrInvalidArgument, variable+" is no NAME=value")
		}
		s.pair("env", name, value, func(name, value *C.char, err **C.sbx_error) C.sbx_status {
			return C.sbx_command_set_env(command, name, value, err)
		})
	}
	s.text("working directory", c.Dir, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_command_set_current_dir(command, value, err)
	})
	s.text("user", c.User, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_command_set_user(command, value, err)
	})
	if c.Terminal != nil {
		s.text("terminal", cmp.Or(c.Terminal.Kind, "xterm-256color"), func(value *C.char, err **C.sbx_error) C.sbx_status {
			return C.sbx_command_set_terminal(command, value, C.uint16_t(c.Terminal.Columns), C.uint16_t(c.Terminal.Rows), err)
		})
	}
	s.flag(c.OutputLimit != 0, func(err **C.sbx_error) C.sbx_status {
		return C.sbx_command_set_output_limit(command, C.size_t(c.OutputLimit), err)
	})
	s.seconds(c.limit(purpose), func(value C.double, err **C.sbx_error) C.sbx_status {
		return C.sbx_command_set_timeout(command, value, err)
	})
	c.isMerged = c.isMerged || c.Stdout != nil && isSame(c.Stdout, c.Stderr)
	s.flag(c.isMerged, func(err **C.sbx_error) C.sbx_status { return C.sbx_command_merge_stderr(command, err) })
	s.flag(purpose == running && c.Stdout == nil, func(err **C.sbx_error) C.sbx_status {
		return C.sbx_command_discard_stdout(command, err)
	})
	s.flag(purpose == running && c.Stderr == nil, func(err **C.sbx_error) C.sbx_status {
		return C.sbx_command_discard_stderr(command, err)
	})
	c.setInput(command, &s, purpose)
	if s.err != nil {
		C.sbx_command_free(command)
		return nil, s.err
	}
	return newHandle(command, func(command *C.sbx_command) { C.sbx_command_free(command) }), nil
}

// limit is the command's timeout; 0 for the configured one.
func (c *Cmd) limit(purpose purpose) time.Duration {
	deadline, hasDeadline := c.ctx.Deadline()
	if !hasDeadline || purpose == detaching {
		return c.Timeout
	}
	left := max(time.Until(deadline), time.Millisecond)
	if c.Timeout > 0 && c.Timeout < left {
		return c.Timeout
	}
	c.obeysDeadline = true
	return left
}

func (c *Cmd) setInput(command *C.sbx_command, s *settings, purpose purpose) {
	descriptor := func(file *os.File) {
		// Not Fd(), which would make it block.
		connection, err := file.SyscallConn()
		if err == nil {
			err = connection.Control(func(fd uintptr) {
				s.do(func(err **C.sbx_error) C.sbx_status { return C.sbx_command_set_stdin_fd(command, C.int32_t(fd), err) })
			})
		}
		if err != nil && s.err == nil {
			s.err = c.operation().fail(ErrInvalidArgument, "Stdin: "+err.Error(), err)
		}
	}
	switch stdin := c.Stdin.(type) {
	case nil:
	case *bytes.Buffer, *bytes.Reader, *strings.Reader:
		contents, _ := io.ReadAll(stdin) // from memory
		data, length := lent(contents)
		s.do(func(err **C.sbx_error) C.sbx_status { return C.sbx_command_set_stdin(command, data, length, err) })
	case *os.File:
		descriptor(stdin)
	default:
		if purpose == detaching && s.err == nil {
			s.err = c.operation().fail(ErrInvalidArgument, "the input of a detached command must be bytes")
		}
		if s.err != nil {
			return
		}
		reader, writer, err := os.Pipe()
		if err != nil {
			s.err = c.operation().fail(ErrCommand, "this process can't start a command: "+err.Error(), err)
			return
		}
		defer reader.Close()
		descriptor(reader)
		c.feeding = &feed{writer: writer, result: make(chan error, 1)}
	}
}

func (c *Cmd) start(purpose purpose) error {
	err := c.spawn(purpose)
	if err != nil {
		for _, pipe := range c.pipes {
			pipe.Close()
		}
		if c.feeding != nil {
			c.feeding.writer.Close()
		}
		if c.input != nil && c.Process == nil {
			c.input.start(nil)
		}
	}
	return err
}

func (c *Cmd) spawn(purpose purpose) error {
	command, err := c.prepare(purpose)
	if err != nil {
		return err
	}
	defer command.close()
	child, err := ask(c.ctx, c.operation(), command, func(command *C.sbx_command) (child *C.sbx_child, err error) {
		err = invoke(func(err **C.sbx_error) C.sbx_status { return C.sbx_command_spawn(command, &child, err) })
		return child, err
	}, func(child *C.sbx_child) {
		C.sbx_child_kill(child, nil)
		C.sbx_child_free(child)
	})
	if err != nil {
		return c.explain(err)
	}
	process := newProcess(child, c.sandbox.name)
	c.Process = process
	ctx, obeysDeadline := c.ctx, c.obeysDeadline
	c.unwatch = context.AfterFunc(ctx, func() {
		// At its timeout the library kills it, and what left its process group.
		if !obeysDeadline || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			process.Kill()
		}
	})
	if c.feeding != nil {
		go c.feeding.run(c.Stdin, process)
	}
	if c.input == nil {
		(&inputPipe{process: process}).end()
	} else {
		c.input.start(process)
		select {
		case <-c.input.isClosed:
			c.input.end()
		default:
		}
	}
	if purpose == running {
		c.isOver = make(chan struct{})
		over := sync.OnceFunc(func() { close(c.isOver) })
		c.copy(process.stdout(), c.Stdout, over, c.input != nil)
		if !c.isMerged {
			c.copy(process.stderr(), c.Stderr, over, false)
		}
	}
	return nil
}

// copy copies a stream in the background. What has no reader and is not needed to see the end is let go.
func (c *Cmd) copy(stream *outputPipe, writer io.Writer, over func(), isNeeded bool) {
	switch {
	case writer != nil:
	case isNeeded:
		writer = io.Discard
	default:
		stream.Close()
		return
	}
	c.copies = append(c.copies, copyOutput(stream, writer, over))
}

// explain adds that the context is the cause.
func (c *Cmd) explain(err error) error {
	switch {
	case c.ctx.Err() != nil && !errors.Is(err, c.ctx.Err()):
		because(err, c.ctx.Err())
		if cause := context.Cause(c.ctx); cause != c.ctx.Err() {
			because(err, cause)
		}
	case c.obeysDeadline && errors.Is(err, ErrTimedOut) && !errors.Is(err, context.DeadlineExceeded):
		because(err, context.DeadlineExceeded)
	}
	return err
}

// tidy ends what belongs to a command that has ended, and says what went wrong.
func (c *Cmd) tidy(state *ProcessState, err error) error {
	c.unwatch()
	for _, pipe := range c.pipes {
		pipe.Close()
	}
	defer c.Process.handle.close()
	var failure error
	if c.feeding != nil {
		c.feeding.writer.Close()
		failure, _ = within(c.feeding.result, c.lastMoment())
	}
	for _, copy := range c.copies {
		result, isThere := within(copy, c.lastMoment())
		if isThere {
			result.how.goOn()
		} else {
			result.err = exec.ErrWaitDelay
		}
		if failure == nil && !errors.Is(result.err, io.ErrClosedPipe) {
			failure = result.err
		}
	}
	switch {
	case err != nil:
		return c.explain(err)
	case c.ctx.Err() != nil && state.Signal() == "KILL":
		return c.operation().stopped(c.ctx)
	case failure != nil:
		return c.operation().fail(ErrCancelled, failure.Error(), failure)
	}
	return nil
}

// lastMoment is until when is waited for what belongs to the command. The first question begins the time for that.
func (c *Cmd) lastMoment() time.Time {
	if c.waitsUntil.IsZero() {
		c.waitsUntil = time.Now().Add(cmp.Or(max(c.WaitDelay, 0), stopTimeout))
	}
	return c.waitsUntil
}

// within waits for a result until a moment; one that is there is never missed.
func within[T any](results <-chan T, moment time.Time) (result T, isThere bool) {
	select {
	case result = <-results:
		return result, true
	default:
	}
	timer := time.NewTimer(time.Until(moment))
	defer timer.Stop()
	select {
	case result = <-results:
		return result, true
	case <-timer.C:
		return result, false
	}
}

// settle is how Run and its like end.
func (c *Cmd) settle(state *ProcessState, err error) error {
	c.ProcessState = state
	if err != nil {
		return err
	}
	return c.operation().failed(state)
}

// isSame is true for two writers that are one.
func isSame(a, b io.Writer) bool {
	// Some types can't be compared.
	defer func() { _ = recover() }()
	return a == b
}

// A feed copies a reader to the pipe from which the library reads the input.
type feed struct {
	writer *os.File
	result chan error
}

func (f *feed) run(reader io.Reader, process *Process) {
	source := &watchedReader{reader: reader}
	_, _ = io.Copy(f.writer, source)
	if source.err != nil {
		// A part of an input is not to be taken for the whole.
		process.Kill()
	}
	f.writer.Close()
	f.result <- source.err
}

// A watchedReader tells its own errors from those of the writer.
type watchedReader struct {
	reader io.Reader
	err    error
}

func (r *watchedReader) Read(p []byte) (int, error) {
	length, err := r.reader.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return length, err
}

// A drain is how the copying of a stream has ended.
type drain struct {
	err error // of the writer
	how outcome
}

// copyOutput copies a stream to its end, and says so then. If the writer fails, what comes afterwards is thrown away.
func copyOutput(stream *outputPipe, writer io.Writer, over func()) <-chan drain {
	results := make(chan drain, 1)
	go func() {
		var result drain
		pipe, isPipe := writer.(*io.PipeWriter)
		defer func() {
			if !result.how.isBack {
				stream.process.Kill()
			}
			// A lost connection ends the stream too; the reason comes from Wait.
			over()
			if isPipe {
				pipe.Close()
			}
			results <- result
		}()
		result.how.of(func() {
			buffer := make([]byte, 64<<10)
			for {
				length, err := stream.Read(buffer)
				if err != nil {
					return
				}
				if result.err != nil {
					continue
				}
				if _, result.err = writeAll(writer, buffer[:length]); result.err != nil && isPipe {
					pipe.Close()
				}
			}
		})
	}()
	return results
}
