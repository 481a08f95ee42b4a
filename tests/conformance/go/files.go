package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"sandbox.invalid/sandbox"
)

func files(w *world) {
	cancellable, cancel := context.WithCancel(w.ctx)
	defer cancel()
	for _, ctx := range []context.Context{w.ctx, cancellable} {
		w.sh("rm -rf /tmp/files")
		box := w.box
		succeeds(box.MkdirAll(ctx, "/tmp/files/a/b", 0o755))
		succeeds(box.Mkdir(ctx, "/tmp/files/c", 0o700))
		succeeds(box.WriteFile(ctx, "/tmp/files/one", []byte("one"), 0o644))
		succeeds(box.AppendFile(ctx, "/tmp/files/one", []byte(" and two")))
		contents, err := box.ReadFile(ctx, "/tmp/files/one")
		succeeds(err)
		equal(string(contents), "one and two")

		file, err := box.OpenFile(ctx, "/tmp/files/two", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
		succeeds(err)
		_, err = file.Write([]byte("0123456789"))
		succeeds(err)
		position, err := file.Seek(-4, io.SeekEnd)
		succeeds(err)
		equal(position, 6)
		rest, err := io.ReadAll(file)
		succeeds(err)
		equal(string(rest), "6789")
		succeeds(file.Truncate(5))
		succeeds(file.Sync())
		info, err := file.Stat()
		succeeds(err)
		equal(info.Size(), 5)
		succeeds(file.Close())

		found, err := box.Stat(ctx, "/tmp/files/two")
		succeeds(err)
		check(found.Name() == "two" && found.Size() == 5 && found.Mode() == 0o640 && !found.IsDir(), "%v", found)
		check(time.Since(found.ModTime()) < time.Minute && time.Since(found.AccessTime()) < time.Minute, "%v", found)
		succeeds(box.Chmod(ctx, "/tmp/files/two", 0o751|fs.ModeSticky))
		found, err = box.Stat(ctx, "/tmp/files/two")
		succeeds(err)
		equal(found.Mode(), 0o751|fs.ModeSticky)
		found, err = box.Stat(ctx, "/tmp/files/a")
		succeeds(err)
		check(found.IsDir() && found.Mode().IsDir(), "%v", found)

		succeeds(box.Symlink(ctx, "one", "/tmp/files/link"))
		target, err := box.Readlink(ctx, "/tmp/files/link")
		succeeds(err)
		equal(target, "one")
		found, err = box.Lstat(ctx, "/tmp/files/link")
		succeeds(err)
		equal(found.Mode().Type(), fs.ModeSymlink)
		resolved, err := box.ResolvePath(ctx, "/tmp/files/a/../link")
		succeeds(err)
		equal(resolved, "/tmp/files/one")
		entries, err := box.ReadDir(ctx, "/tmp/files")
		succeeds(err)
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		check(slices.Equal(names, []string{"a", "c", "link", "one", "two"}), "%v", names)

		succeeds(box.Rename(ctx, "/tmp/files/one", "/tmp/files/two"))
		contents, err = fs.ReadFile(box.FS(ctx, "/tmp/files"), "two")
		succeeds(err)
		equal(string(contents), "one and two")
		for name, wanted := range map[string]bool{"two": true, "one": false, "link": false, "a": true} {
			exists, err := box.Exists(ctx, "/tmp/files/"+name)
			succeeds(err)
			equal(exists, wanted)
		}
		succeeds(box.Remove(ctx, "/tmp/files/link"))
		succeeds(box.Remove(ctx, "/tmp/files/c"))
		fails(box.Remove(ctx, "/tmp/files/a"), sandbox.ErrDirectoryNotEmpty)
		succeeds(box.RemoveAll(ctx, "/tmp/files"))
		_, err = box.Stat(ctx, "/tmp/files")
		fails(err, fs.ErrNotExist)
	}
}

func transfers(w *world) {
	contents := noise(20 << 20)
	succeeds(os.WriteFile(w.path("file"), contents, 0o644))
	steps := []sandbox.Progress{}
	options := &sandbox.TransferOptions{Checksum: true, Sync: true, Progress: func(p sandbox.Progress) error {
		steps = append(steps, p)
		return nil
	}}
	checkSteps := func() {
		last := steps[len(steps)-1]
		check(last.Done == 20<<20 && last.Total == 20<<20, "%+v", last)
		isSorted := slices.IsSortedFunc(steps, func(a, b sandbox.Progress) int { return int(a.Done - b.Done) })
		check(isSorted, "the progress goes back")
		steps = nil
	}
	sum := sha256.Sum256(contents)
	up, err := w.box.Upload(w.ctx, w.path("file"), "/tmp/file", options)
	succeeds(err)
	check(up.Bytes == 20<<20 && up.Resumed == 0 && bytes.Equal(up.SHA256, sum[:]), "%+v", up)
	checkSteps()
	down, err := w.box.Download(w.ctx, "/tmp/file", w.path("back"), options)
	succeeds(err)
	check(down.Bytes == 20<<20 && bytes.Equal(down.SHA256, sum[:]), "%+v", down)
	checkSteps()
	back, err := os.ReadFile(w.path("back"))
	succeeds(err)
	same(back, contents)

	_, err = w.box.UploadFrom(w.ctx, bytes.NewReader(contents), "/tmp/from", nil)
	succeeds(err)
	var target bytes.Buffer
	to, err := w.box.DownloadTo(w.ctx, "/tmp/from", &target, nil)
	succeeds(err)
	check(to.Bytes == 20<<20 && to.SHA256 == nil, "%+v", to)
	same(target.Bytes(), contents)

	enough := errors.New("enough")
	stopping := &sandbox.TransferOptions{Resume: true, Progress: func(p sandbox.Progress) error {
		if p.Done > 0 {
			return enough
		}
		return nil
	}}
	_, err = w.box.Upload(w.ctx, w.path("file"), "/tmp/resumed", stopping)
	fails(err, sandbox.ErrCancelled, enough)
	resumed, err := w.box.Upload(w.ctx, w.path("file"), "/tmp/resumed", &sandbox.TransferOptions{Resume: true})
	succeeds(err)
	check(resumed.Resumed > 0 && resumed.Bytes == 20<<20, "%+v", resumed)
	equal(w.sh("cmp /tmp/file /tmp/resumed && echo same"), "same\n")

	_, err = w.box.Download(w.ctx, "/tmp/file", w.path("small"), &sandbox.TransferOptions{MaxBytes: 1000})
	fails(err, sandbox.ErrTransfer)
	_, err = os.Stat(w.path("small"))
	check(errors.Is(err, fs.ErrNotExist), "%v", err)
	_, err = w.box.UploadFrom(w.ctx, strings.NewReader(""), "/tmp/from", &sandbox.TransferOptions{Resume: true})
	fails(err, sandbox.ErrInvalidArgument)
	w.sh("rm -f /tmp/file /tmp/from /tmp/resumed")
}

func trees(w *world) {
	tree := w.path("tree")
	succeeds(os.MkdirAll(filepath.Join(tree, "empty"), 0o755))
	succeeds(os.WriteFile(filepath.Join(tree, "text"), []byte("text"), 0o644))
	succeeds(os.WriteFile(filepath.Join(tree, "run"), []byte("#!/bin/sh\n"), 0o755))
	succeeds(os.Symlink("text", filepath.Join(tree, "link")))
	succeeds(syscall.Mkfifo(filepath.Join(tree, "fifo"), 0o600))
	told := 0
	options := &sandbox.TransferOptions{Checksum: true, Progress: func(sandbox.Progress) error { told++; return nil }}
	up, err := w.box.UploadDir(w.ctx, tree, "/tmp/uploaded", options)
	succeeds(err)
	check(up.Files == 2 && up.Directories == 2 && up.Symlinks == 1 && up.Bytes == 14 && up.Skipped == 1, "%+v", up)
	check(len(up.Notes) == 1 && up.Notes[0].Path == "fifo" && up.Notes[0].Text != "", "%+v", up.Notes)
	check(told > 0, "no progress")
	down, err := w.box.DownloadDir(w.ctx, "/tmp/uploaded", w.path("again"), nil)
	succeeds(err)
	check(down.Files == 2 && down.Directories == 2 && down.Symlinks == 1 && down.Bytes == 14 && down.Skipped == 0, "%+v", down)
	for name, mode := range map[string]fs.FileMode{"text": 0o644, "run": 0o755, "empty": fs.ModeDir | 0o755} {
		before, err := os.Stat(filepath.Join(tree, name))
		succeeds(err)
		after, err := os.Stat(filepath.Join(w.path("again"), name))
		succeeds(err)
		equal(after.Mode(), mode)
		equal(after.ModTime().Unix(), before.ModTime().Unix())
	}
	text, err := os.ReadFile(filepath.Join(w.path("again"), "link"))
	succeeds(err)
	equal(string(text), "text")
	target, err := os.Readlink(filepath.Join(w.path("again"), "link"))
	succeeds(err)
	equal(target, "text")
	_, err = w.box.DownloadDir(w.ctx, "/tmp/uploaded", w.path("few"), &sandbox.TransferOptions{MaxEntries: 2})
	fails(err, sandbox.ErrTransfer)
}

func fileErrors(w *world) {
	succeeds(w.box.MkdirAll(w.ctx, "errors/dir", 0o777))
	succeeds(w.box.WriteFile(w.ctx, "errors/file", []byte("x"), 0o644))
	_, err := w.box.Shell(w.ctx, `cp "$(command -v sleep)" errors/program`).Output()
	succeeds(err)
	running := w.box.Command(w.ctx, "./errors/program", "6792")
	succeeds(running.Start())
	await("the program runs", func() bool { return w.runs("./errors/program 6792") })
	local := filepath.Join(w.directory, "plain")
	succeeds(os.WriteFile(local, []byte("x"), 0o644))

	for _, c := range []struct {
		kind   sandbox.Kind
		number syscall.Errno
		call   func() error
	}{
		{sandbox.ErrFileNotFound, syscall.ENOENT, func() error { _, err := w.box.ReadFile(w.ctx, "/no/such/file"); return err }},
		{sandbox.ErrFileExists, syscall.EEXIST, func() error { return w.box.Mkdir(w.ctx, "/tmp", 0o755) }},
		{sandbox.ErrIsADirectory, syscall.EISDIR, func() error { _, err := w.box.ReadFile(w.ctx, "/tmp"); return err }},
		{sandbox.ErrIsADirectory, syscall.EISDIR, func() error { return w.box.WriteFile(w.ctx, "errors/dir", nil, 0o644) }},
		{sandbox.ErrNotADirectory, syscall.ENOTDIR, func() error { _, err := w.box.ReadDir(w.ctx, "errors/file"); return err }},
		{sandbox.ErrNotADirectory, syscall.ENOTDIR, func() error { _, err := w.box.Stat(w.ctx, "errors/file/x"); return err }},
		{sandbox.ErrDirectoryNotEmpty, syscall.ENOTEMPTY, func() error { return w.box.Remove(w.ctx, "errors") }},
		{sandbox.ErrReadOnly, syscall.EROFS, func() error { return w.box.Mkdir(w.ctx, "/sys/x", 0o755) }},
		{sandbox.ErrBusy, syscall.ETXTBSY, func() error { return w.box.AppendFile(w.ctx, "errors/program", []byte("x")) }},
		{sandbox.ErrNameTooLong, syscall.ENAMETOOLONG, func() error { return w.box.Mkdir(w.ctx, strings.Repeat("n", 256), 0o755) }},
		{sandbox.ErrTransfer, syscall.EXDEV, func() error { return w.box.Rename(w.ctx, "errors/file", "/dev/shm/file") }},
		{sandbox.ErrFileNotFound, syscall.ENOENT, func() error { _, err := w.box.UploadFile(w.ctx, "nor-here", "x"); return err }},
		{sandbox.ErrIsADirectory, syscall.EISDIR, func() error { _, err := w.box.UploadFile(w.ctx, w.directory, "x"); return err }},
		{sandbox.ErrNotADirectory, syscall.ENOTDIR, func() error {
			_, err := w.box.DownloadFile(w.ctx, "errors/file", filepath.Join(local, "below"))
			return err
		}},
	} {
		e := fails(c.call(), c.kind, c.number)
		check(e.Errno == c.number && e.Sandbox == w.unique && e.Op != "", "%+v", e)
		// As a file of this machine.
		for _, standard := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission} {
			check(errors.Is(e, standard) == errors.Is(c.number, standard), "%v: %v", e, standard)
		}
	}
	exists, err := w.box.Exists(w.ctx, "errors/file/x")
	check(err == nil && !exists, "%v", err)
	_, err = w.box.Command(w.ctx, "no-such-program").Output()
	fails(err, sandbox.ErrCommand, syscall.ENOENT, fs.ErrNotExist)
	succeeds(running.Process.Kill())
	check(running.Wait() != nil, "a killed program succeeded")
	succeeds(w.box.RemoveAll(w.ctx, "errors"))
}
