package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var kinds = []Kind{
	ErrInvalidArgument, ErrConfig, ErrAsyncContext, ErrForked, ErrClosed, ErrNotFound, ErrConflict, ErrPermissionDenied, ErrQuota,
	ErrStorageFull, ErrDetachedNotFound, ErrPoolEmpty, ErrFileNotFound, ErrFileExists, ErrIsADirectory, ErrNotADirectory, ErrDirectoryNotEmpty,
	ErrReadOnly, ErrBusy, ErrNameTooLong, ErrUnavailable, ErrConnect, ErrAuthentication, ErrHostKeyMismatch, ErrDisconnected, ErrTimedOut, ErrCreate,
	ErrRefused, ErrDelete, ErrCommand, ErrCommandFailed, ErrOutcomeUnknown, ErrTransfer, ErrCancelled, ErrPanic,
}

func TestKindsAreThoseOfTheLibrary(t *testing.T) {
	known := Kinds()
	slices.Sort(known)
	ours := slices.Clone(kinds)
	slices.Sort(ours)
	if !slices.Equal(known, ours) {
		t.Errorf("the library has %v", known)
	}
	if text := ErrHostKeyMismatch.Error(); text != "host key mismatch" {
		t.Error(text)
	}
	if text := Kind(12345).Error(); text != "error 12345" {
		t.Error(text)
	}
}

func TestKindsMatchTheirOwnAndNothingElse(t *testing.T) {
	standard := map[Kind]error{
		ErrInvalidArgument: fs.ErrInvalid, ErrClosed: os.ErrClosed, ErrPermissionDenied: fs.ErrPermission,
		ErrStorageFull: syscall.ENOSPC, ErrFileNotFound: fs.ErrNotExist, ErrFileExists: syscall.EEXIST,
		ErrIsADirectory: syscall.EISDIR, ErrNotADirectory: syscall.ENOTDIR, ErrDirectoryNotEmpty: syscall.ENOTEMPTY,
		ErrReadOnly: syscall.EROFS, ErrBusy: syscall.EBUSY, ErrNameTooLong: syscall.ENAMETOOLONG,
		ErrRefused: syscall.ECONNREFUSED, ErrTimedOut: os.ErrDeadlineExceeded,
	}
	for _, kind := range kinds {
		err := error(&Error{Kind: kind})
		for _, other := range kinds {
			if errors.Is(err, other) != (kind == other) {
				t.Errorf("%v and %v", kind, other)
			}
			if target := standard[other]; target != nil && errors.Is(err, target) != (kind == other) {
				t.Errorf("%v and %v", kind, target)
			}
		}
		if os.IsTimeout(err) != (kind == ErrTimedOut) || os.IsTimeout(&fs.PathError{Err: err}) != (kind == ErrTimedOut) {
			t.Errorf("os.IsTimeout is wrong about %v", kind)
		}
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v matches a context", kind)
		}
	}
}

func TestErrorNumbersMatch(t *testing.T) {
	for kind, number := range numbers {
		if !errors.Is(kind, number) {
			t.Errorf("%v and %v", kind, number)
		}
	}
	// As the number itself does.
	if !errors.Is(ErrFileExists, fs.ErrExist) || !errors.Is(ErrDirectoryNotEmpty, fs.ErrExist) || !errors.Is(ErrFileNotFound, syscall.ENOENT) {
		t.Error("a kind does not match what its number matches")
	}
	// A sandbox is no file.
	if errors.Is(ErrNotFound, fs.ErrNotExist) || errors.Is(ErrConflict, fs.ErrExist) {
		t.Error("a sandbox is taken for a file")
	}
	err := error(&Error{Kind: ErrTransfer, Errno: syscall.EXDEV})
	if !errors.Is(err, ErrTransfer) || !errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.ENOENT) {
		t.Error(err)
	}
	if err := error(&Error{Kind: ErrCommand, Errno: syscall.EACCES}); !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
}

func TestABadSettingIsNamed(t *testing.T) {
	for _, c := range []struct {
		config Config
		says   string
	}{
		{Config{Transport: "pigeon"}, "pigeon"},
		{Config{Log: "loud"}, "loud"},
		{Config{MaxSessions: 1001}, "max_sessions"},
		{Config{Owner: "not a label"}, "owner"},
		{Config{Settings: map[string]string{"ssh_port": "seventy"}}, "seventy"},
		{Config{Settings: map[string]string{"no_such": "1"}}, "no_such"},
		{Config{Namespace: "a\x00b"}, `a\x00b`},
		{Config{Image: "\xff"}, "UTF-8"},
	} {
		c.config.IgnoreEnvironment = true
		_, err := NewClient(&c.config)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Error(), c.says) {
			t.Errorf("%+v: %v", c.config, err)
		} else if e.Kind != ErrInvalidArgument && e.Kind != ErrConfig {
			t.Errorf("%+v: %v", c.config, e.Kind)
		}
	}
}

// A client whose cluster answers nothing: its address takes connections and stays silent.
func silent(t *testing.T) *Client {
	client, err := NewClient(&Config{IgnoreEnvironment: true, Kubeconfig: kubeconfig(t, listen(t))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// kubeconfig is the path of one for an API server at this address.
func kubeconfig(t *testing.T, address string) string {
	path := t.TempDir() + "/kubeconfig"
	kubeconfig := `apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "http://` + address + `"}}]
users: [{name: u, user: {}}]
`
	if err := os.WriteFile(path, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAContextEndsWhatCanNotBeInterrupted(t *testing.T) {
	client := silent(t)
	reason := errors.New("enough")
	for what, call := range map[string]func(context.Context) error{
		"create": func(ctx context.Context) error { _, err := client.Create(ctx, &Spec{Name: "never"}); return err },
		"attach": func(ctx context.Context) error { _, err := client.Attach(ctx, "never"); return err },
		"list":   func(ctx context.Context) error { _, err := client.List(ctx, nil); return err },
		"delete": func(ctx context.Context) error { return client.DeleteSandbox(ctx, "never") },
		"run":    func(ctx context.Context) error { _, err := client.ExecuteCommand(ctx, "never", "true"); return err },
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(reason) })
		began := time.Now()
		err := call(ctx)
		if !errors.Is(err, context.Canceled) || !errors.Is(err, reason) || !errors.Is(err, ErrCancelled) {
			t.Errorf("%s: %v", what, err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s took %v", what, took)
		}
		deadline, cancelIt := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := call(deadline); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", what, err)
		}
		if err := call(deadline); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s with a context that is done: %v", what, err)
		}
		cancelIt()
	}
}

// A context that is asked when nothing but the call itself needs the object that it was made on: then all that can be
// is collected.
type forgetful struct{ context.Context }

func (c forgetful) Err() error {
	for range 5 {
		isCollected := make(chan struct{})
		runtime.AddCleanup(&forgetful{c}, func(isCollected chan struct{}) { close(isCollected) }, isCollected)
		for isWaiting := true; isWaiting; {
			runtime.GC()
			select {
			case <-isCollected:
				isWaiting = false
			case <-time.After(time.Millisecond):
			}
		}
	}
	return c.Context.Err()
}

func TestACallKeepsWhatItIsMadeOn(t *testing.T) {
	before := handles.Load()
	client, err := NewClient(&Config{IgnoreEnvironment: true, Kubeconfig: kubeconfig(t, "127.0.0.1:1")})
	if err != nil {
		t.Fatal(err)
	}
	// It fails before anything is asked of the cluster.
	if _, err := client.Attach(forgetful{context.Background()}, "Not A Name"); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
	await(t, "the client is freed", func() bool { runtime.GC(); return handles.Load() <= before })
}

func TestAClosedClientSaysSo(t *testing.T) {
	client := silent(t)
	ctx, cancel := context.WithCancel(t.Context())
	listed := make(chan error)
	go func() {
		_, err := client.List(ctx, nil)
		listed <- err
	}()
	time.Sleep(10 * time.Millisecond) // whether the call has begun makes no difference to what must hold
	client.Close()
	client.Close()
	cancel()
	if err := <-listed; !errors.Is(err, context.Canceled) && !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if _, err := client.Create(t.Context(), nil); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if _, err := client.List(context.Background(), nil); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if client.APIRequests() != 0 || client.SSHPort("any") != 0 {
		t.Error("a closed client answers")
	}
}
