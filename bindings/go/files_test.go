package sandbox

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"time"
)

func TestFSIsOne(t *testing.T) {
	box := box(t)
	line := `set -e; rm -rf /tmp/tree; mkdir -p /tmp/tree/a/b /tmp/tree/empty; cd /tmp/tree; echo one >one; printf two >a/two
	head -c 5000 /dev/zero >a/b/zeros; : >a/none; ln -s one link; chmod 600 one`
	if output, err := box.Execute(t.Context(), line); err != nil || output.Check() != nil {
		t.Fatal(err, output)
	}
	files := box.FS(t.Context(), "/tmp/tree")
	if err := fstest.TestFS(files, "one", "a/two", "a/b/zeros", "a/none", "link", "empty"); err != nil {
		t.Error(err)
	}
	sub, err := fs.Sub(files, "a")
	if err != nil {
		t.Fatal(err)
	}
	if contents, err := fs.ReadFile(sub, "two"); err != nil || string(contents) != "two" {
		t.Errorf("%q %v", contents, err)
	}
	if names, err := fs.Glob(files, "*/t*"); err != nil || len(names) != 1 {
		t.Error(names, err)
	}
	if err := box.WriteFile(t.Context(), "working", []byte("here"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{"", "."} {
		if contents, err := box.FS(t.Context(), root).ReadFile("working"); err != nil || string(contents) != "here" {
			t.Errorf("%q: %q %v", root, contents, err)
		}
	}
	_, err = files.Open("missing")
	var where *fs.PathError
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &where) || where.Path != "missing" {
		t.Error(err)
	}
	local := t.TempDir()
	if err := os.CopyFS(local+"/copy", sub); err != nil {
		t.Error(err)
	}
	if contents, err := os.ReadFile(local + "/copy/b/zeros"); err != nil || len(contents) != 5000 {
		t.Error(len(contents), err)
	}
}

func TestFilesAreMadeAndRemovedAsByOs(t *testing.T) {
	box := box(t)
	for _, ctx := range []context.Context{context.Background(), t.Context()} {
		if err := box.RemoveAll(ctx, "/tmp/os"); err != nil {
			t.Error(err)
		}
		if err := errors.Join(
			box.MkdirAll(ctx, "/tmp/os/a/b//c/", 0o710),
			box.MkdirAll(ctx, "/tmp/os/a", 0o777),
			box.MkdirAll(ctx, "/tmp/os/f/../g", 0o777),
			box.Mkdir(ctx, "/tmp/os/d", 0o777),
			box.Mkdir(ctx, "/tmp/os/e", 0o700),
			box.WriteFile(ctx, "/tmp/os/d/open", nil, 0o666),
			box.WriteFile(ctx, "/tmp/os/d/secret", []byte("old"), 0o600),
			box.WriteFile(ctx, "/tmp/os/d/secret", []byte("new"), 0o644),
			box.WriteFile(ctx, "/tmp/os/d/run", []byte("#!/bin/sh\n"), 0o755),
			box.Symlink(ctx, "d", "/tmp/os/link"),
			box.Symlink(ctx, "d", "/tmp/os/a/link"),
		); err != nil {
			t.Fatal(err)
		}
		for name, mode := range map[string]fs.FileMode{
			"": fs.ModeDir | 0o710, "a": fs.ModeDir | 0o710, "a/b": fs.ModeDir | 0o710, "a/b/c": fs.ModeDir | 0o710,
			"d": fs.ModeDir | 0o755, "e": fs.ModeDir | 0o700, "g": fs.ModeDir | 0o755, "d/open": 0o644, "d/secret": 0o600, "d/run": 0o755,
		} {
			if info, err := box.Stat(ctx, "/tmp/os/"+name); err != nil || info.Mode() != mode {
				t.Error(name, info, err)
			}
		}
		if err := box.MkdirAll(ctx, "/tmp/os/d/run/a", 0o755); err == nil {
			t.Error("a directory in a file")
		}
		for name, wanted := range map[string]error{"a": ErrDirectoryNotEmpty, "no": fs.ErrNotExist, "d/run": nil, "e": nil} {
			if err := box.Remove(ctx, "/tmp/os/"+name); !errors.Is(err, wanted) {
				t.Error(name, err)
			}
		}
		for _, name := range []string{"link", "a", "f", "g", "d/open", "no", "no/no"} {
			if err := box.RemoveAll(ctx, "/tmp/os/"+name); err != nil {
				t.Error(name, err)
			}
		}
		entries, err := box.ReadDir(ctx, "/tmp/os")
		if err != nil || len(entries) != 1 || entries[0].Name() != "d" {
			t.Error(entries, err)
		}
		if contents, err := box.ReadFile(ctx, "/tmp/os/d/secret"); err != nil || string(contents) != "new" {
			t.Errorf("%q %v", contents, err)
		}
	}
	// That the sandbox is gone is another thing than that the file is.
	client := newClient(t)
	defer client.Close()
	other, err := client.Create(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.DeleteSandbox(t.Context(), other.Name()); err != nil {
		t.Fatal(err)
	}
	if err := other.RemoveAll(t.Context(), "/tmp/no"); err == nil {
		t.Error("something was removed in a sandbox that is gone")
	}
}

func TestAFileIsAsInOs(t *testing.T) {
	box := box(t)
	for _, ctx := range []context.Context{context.Background(), t.Context()} {
		file, err := box.OpenFile(ctx, "/tmp/file", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Repeat("0123456789", 50)
		if n, err := io.WriteString(file, text); n != len(text) || err != nil {
			t.Error(n, err)
		}
		if position, err := file.Seek(0, io.SeekStart); position != 0 || err != nil {
			t.Error(position, err)
		}
		if err := iotest.TestReader(file, []byte(text)); err != nil {
			t.Error(err)
		}
		some := make([]byte, 5)
		if n, err := file.ReadAt(some, 345); n != 5 || err != nil || string(some) != "56789" {
			t.Error(n, err, string(some))
		}
		if n, err := file.WriteAt([]byte("there"), 3); n != 5 || err != nil {
			t.Error(n, err)
		}
		if err := errors.Join(file.Truncate(10), file.Chmod(fs.ModeSetuid|0o711), file.Sync()); err != nil {
			t.Error(err)
		}
		if info, err := file.Stat(); err != nil || info.Size() != 10 || info.Mode() != fs.ModeSetuid|0o711 || info.Name() != "file" {
			t.Error(info, err)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
		if err := file.Close(); !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
		if _, err := file.Read(some); !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
		if contents, err := box.ReadFile(ctx, "/tmp/file"); err != nil || string(contents) != "012there89" {
			t.Errorf("%q %v", contents, err)
		}
		if _, err := box.OpenFile(ctx, "/tmp/file", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); !errors.Is(err, fs.ErrExist) {
			t.Error(err)
		}
		if _, err := box.OpenFile(ctx, "/tmp/file", os.O_RDONLY|os.O_SYNC, 0); !errors.Is(err, fs.ErrInvalid) {
			t.Error(err)
		}
		file, err = box.OpenFile(ctx, "/tmp/file", os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(some, 0); !errors.Is(err, fs.ErrInvalid) {
			t.Error(err)
		}
		if _, err := file.Write([]byte("!")); err != nil {
			t.Error(err)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
		if info, err := box.Stat(ctx, "/tmp/file"); err != nil || info.Size() != 11 || time.Since(info.AccessTime()) > time.Hour {
			t.Error(info, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	file, err := box.Open(ctx, "/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := file.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := file.Close(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A reading is a function as a reader.
type reading func(p []byte) (int, error)

func (r reading) Read(p []byte) (int, error) { return r(p) }

// Writes less than it was given, and keeps silent about it.
type short struct{}

func (short) Write(p []byte) (int, error) { return len(p) / 2, nil }

func TestATransferEndsWithItsContext(t *testing.T) {
	box := box(t)
	local := filepath.Join(t.TempDir(), "down")
	if output, err := box.Execute(t.Context(), "head -c 200000000 /dev/zero >/tmp/large"); err != nil || output.Check() != nil {
		t.Fatal(err)
	}
	for name, transfer := range map[string]func(ctx context.Context, options *TransferOptions) error{
		"from": func(ctx context.Context, options *TransferOptions) error {
			_, err := box.UploadFrom(ctx, zeros{}, "/tmp/up", options)
			return err
		},
		"to": func(ctx context.Context, options *TransferOptions) error {
			_, err := box.DownloadTo(ctx, "/tmp/large", io.Discard, options)
			return err
		},
		"down": func(ctx context.Context, options *TransferOptions) error {
			_, err := box.Download(ctx, "/tmp/large", local, options)
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		err := transfer(ctx, &TransferOptions{Progress: func(p Progress) error {
			if p.Done > 1<<20 {
				cancel()
			}
			return nil
		}})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if exists, err := box.Exists(t.Context(), "/tmp/up"); exists || err != nil {
		t.Error(exists, err)
	}
	if _, err := os.Stat(local); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	// A reader that never comes back does not keep the call.
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	reader, writer := io.Pipe()
	defer writer.Close()
	if _, err := box.UploadFrom(ctx, reader, "/tmp/up", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	// Nor does what one does later reach the call.
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	isBack := make(chan struct{}, 100)
	late := reading(func(p []byte) (int, error) {
		time.Sleep(500 * time.Millisecond)
		defer func() { isBack <- struct{}{} }()
		return len(p), nil
	})
	if _, err := box.UploadFrom(ctx, late, "/tmp/up", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	<-isBack
	for says, reader := range map[string]io.Reader{
		"returned -1": reading(func(p []byte) (int, error) { return -1, nil }),
		"returned 1":  reading(func(p []byte) (int, error) { return len(p) + 1<<30, nil }),
		"no data":     reading(func(p []byte) (int, error) { return 0, nil }),
	} {
		for _, ctx := range []context.Context{context.Background(), t.Context()} {
			_, err := box.UploadFrom(ctx, reader, "/tmp/up", nil)
			if !errors.Is(err, ErrCancelled) || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v", says, err)
			}
		}
	}
	if _, err := box.DownloadTo(t.Context(), "/etc/passwd", short{}, nil); !errors.Is(err, io.ErrShortWrite) {
		t.Error(err)
	}
	broken := errors.New("broken")
	if _, err := box.UploadFrom(t.Context(), failing{broken}, "/tmp/up", nil); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := box.DownloadTo(t.Context(), "/tmp/large", failing{broken}, nil); !errors.Is(err, broken) {
		t.Error(err)
	}
	var whole bytes.Buffer
	if transferred, err := box.DownloadTo(t.Context(), "/etc/passwd", &whole, nil); err != nil || transferred.Bytes != int64(whole.Len()) {
		t.Error(transferred, err)
	}
}
