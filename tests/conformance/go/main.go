// The scenarios of ../scenarios.md in Go, in their order.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"sandbox.invalid/sandbox"
)

var scenarios = []struct {
	name string
	run  func(*world)
}{
	{"life", life}, {"by-name", byName}, {"run", run}, {"streams", streams}, {"exit-status", exitStatus}, {"timeout", timeout},
	{"cancel", cancel}, {"terminal", terminal}, {"detached", detached}, {"ports", ports}, {"bytes", allBytes}, {"large", large}, {"files", files},
	{"transfers", transfers}, {"trees", trees}, {"errors", failures}, {"file-errors", fileErrors},
	{"use-after-close", useAfterClose}, {"threads", threads}, {"fork", fork}, {"callback", callback}, {"fleet", fleet},
	{"pool", pool}, {"settings", settings}, {"doctor", doctor}, {"end", end},
}

// What all scenarios share: one client, and one sandbox that life creates.
type world struct {
	ctx       context.Context
	directory string
	unique    string
	client    *sandbox.Client
	box       *sandbox.Sandbox
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: go DIRECTORY [SCENARIO...]")
		os.Exit(2)
	}
	chosen := os.Args[2:]
	w := &world{ctx: context.Background(), directory: os.Args[1], unique: fmt.Sprintf("go-%08x", rand.Uint32())}
	client, err := sandbox.NewClient(w.config())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	w.client = client
	failed := false
	for _, scenario := range scenarios {
		if len(chosen) != 0 && scenario.name != "life" && !slices.Contains(chosen, scenario.name) {
			continue
		}
		if why := attempt(w, scenario.run); why == "" {
			fmt.Println("ok", scenario.name)
		} else {
			fmt.Printf("failed %s: %s\n", scenario.name, why)
			failed = true
		}
	}
	// Whatever went wrong, nothing stays.
	for _, name := range w.mine() {
		if err := client.DeleteSandbox(w.ctx, name); err != nil && !errors.Is(err, sandbox.ErrNotFound) {
			fmt.Fprintln(os.Stderr, err)
			failed = true
		}
	}
	client.Close()
	if failed {
		os.Exit(1)
	}
}

func (w *world) config() *sandbox.Config {
	return &sandbox.Config{Owner: w.unique, Lifetime: 10 * time.Minute, CommandTimeout: time.Minute}
}

// mine are the names of the sandboxes that this program made.
func (w *world) mine() (names []string) {
	infos, err := w.client.List(w.ctx, nil)
	succeeds(err)
	for _, info := range infos {
		if strings.HasPrefix(info.Owner, w.unique) && info.Phase != sandbox.PhaseTerminating {
			names = append(names, info.Name)
		}
	}
	return names
}

func (w *world) path(name string) string { return filepath.Join(w.directory, name) }

// sh runs a line, which has to succeed, and returns what it wrote.
func (w *world) sh(line string) string {
	output, err := w.box.Execute(w.ctx, line)
	succeeds(err)
	succeeds(output.Check())
	return string(output.Stdout)
}

// gone waits until no process of this command line is left in the sandbox.
func (w *world) gone(line string) { await(line+" is gone", func() bool { return !w.runs(line) }) }

func (w *world) runs(line string) bool {
	output, err := w.box.Command(w.ctx, "pgrep", "-xf", line).Collect()
	succeeds(err)
	return output.Success()
}

type failure string

func attempt(w *world, run func(*world)) (why string) {
	defer func() {
		switch value := recover().(type) {
		case nil:
		case failure:
			why = strings.ReplaceAll(string(value), "\n", " ")
		default:
			why = fmt.Sprintf("panic: %v", value)
		}
	}()
	run(w)
	return ""
}

func fail(format string, args ...any) {
	_, file, line, _ := runtime.Caller(2)
	panic(failure(fmt.Sprintf("%s:%d: ", filepath.Base(file), line) + fmt.Sprintf(format, args...)))
}

func succeeds(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func check(condition bool, format string, args ...any) {
	if !condition {
		fail(format, args...)
	}
}

func equal[T comparable](got, wanted T) {
	if got != wanted {
		fail("%#v instead of %#v", got, wanted)
	}
}

func same(got, wanted []byte) {
	if !bytes.Equal(got, wanted) {
		fail("%d bytes %.40q instead of %d bytes %.40q", len(got), got, len(wanted), wanted)
	}
}

// fails checks that an error matches all of these, and returns it.
func fails(err error, wanted ...error) *sandbox.Error {
	for _, want := range wanted {
		if !errors.Is(err, want) {
			fail("%v instead of %v", err, want)
		}
	}
	var e *sandbox.Error
	if !errors.As(err, &e) {
		fail("%T is not our error: %v", err, err)
	}
	return e
}

func await(what string, condition func() bool) {
	for deadline := time.Now().Add(60 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			fail("not within 60 s: %s", what)
		}
	}
}
