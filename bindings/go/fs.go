package sandbox

import (
	"cmp"
	"context"
	"io"
	"io/fs"
	"syscall"
)

// FS is the files of a sandbox below a directory, for all that takes an fs.FS, such as fs.WalkDir, template.ParseFS or
// http.FS. The context holds for all its methods. A relative root begins at the image's working directory, and an empty
// one is that. Symbolic links are followed, also out of the root. Its errors are *fs.PathError with an [*Error] in it.
// It is also an fs.ReadDirFS, fs.ReadFileFS, fs.StatFS and fs.ReadLinkFS; its files are [*File], with all that these
// can do.
func (s *Sandbox) FS(ctx context.Context, root string) *FS { return &FS{s, ctx, cmp.Or(root, ".")} }

// An FS is made by [Sandbox.FS].
type FS struct {
	sandbox *Sandbox
	ctx     context.Context
	root    string
}

var (
	_ fs.ReadDirFS   = (*FS)(nil)
	_ fs.ReadFileFS  = (*FS)(nil)
	_ fs.StatFS      = (*FS)(nil)
	_ fs.ReadDirFile = (*directory)(nil)
	// fs.ReadLinkFS, which Go 1.24 has not.
	_ interface {
		fs.FS
		ReadLink(name string) (string, error)
		Lstat(name string) (fs.FileInfo, error)
	} = (*FS)(nil)
)

// at is the file in the sandbox that a name stands for.
func (f *FS) at(op, name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	// Not path.Join, which would resolve a ".." of the root without looking at links.
	return f.root + "/" + name, nil
}

// in says which name an error is about.
func in[T any](op, name string, value T, err error) (T, error) {
	if err != nil {
		err = &fs.PathError{Op: op, Path: name, Err: err}
	}
	return value, err
}

// Open opens a file for reading, or a directory.
func (f *FS) Open(name string) (fs.File, error) {
	at, err := f.at("open", name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat(name)
	if err != nil {
		err.(*fs.PathError).Op = "open"
		return nil, err
	}
	if info.IsDir() {
		return &directory{fs: f, name: name, info: info}, nil
	}
	file, err := f.sandbox.Open(f.ctx, at)
	if err != nil {
		return in[fs.File]("open", name, nil, err)
	}
	return file, nil
}

// ReadFile reads a file, of 1 GiB at most.
func (f *FS) ReadFile(name string) ([]byte, error) {
	at, err := f.at("read", name)
	if err != nil {
		return nil, err
	}
	contents, err := f.sandbox.ReadFile(f.ctx, at)
	return in("read", name, contents, err)
}

// ReadDir lists the entries of a directory, sorted by name.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	at, err := f.at("readdir", name)
	if err != nil {
		return nil, err
	}
	entries, err := f.sandbox.ReadDir(f.ctx, at)
	return in("readdir", name, entries, err)
}

// Stat returns the metadata of a file; links are followed.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	at, err := f.at("stat", name)
	if err != nil {
		return nil, err
	}
	info, err := f.sandbox.Stat(f.ctx, at)
	if err != nil {
		return in[fs.FileInfo]("stat", name, nil, err)
	}
	return info, nil
}

// Lstat is as Stat, of a link itself.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	at, err := f.at("lstat", name)
	if err != nil {
		return nil, err
	}
	info, err := f.sandbox.Lstat(f.ctx, at)
	if err != nil {
		return in[fs.FileInfo]("lstat", name, nil, err)
	}
	return info, nil
}

// ReadLink tells what a symbolic link points to.
func (f *FS) ReadLink(name string) (string, error) {
	at, err := f.at("readlink", name)
	if err != nil {
		return "", err
	}
	target, err := f.sandbox.Readlink(f.ctx, at)
	return in("readlink", name, target, err)
}

// A directory is what Open gives for one. Its entries are read at once, when the first ones are asked for.
type directory struct {
	fs      *FS
	name    string
	info    fs.FileInfo
	isRead  bool
	entries []fs.DirEntry
	isShut  bool
}

func (d *directory) Stat() (fs.FileInfo, error) {
	if d.isShut {
		return nil, &fs.PathError{Op: "stat", Path: d.name, Err: fs.ErrClosed}
	}
	return d.info, nil
}

func (d *directory) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: syscall.EISDIR}
}

func (d *directory) Close() error {
	if d.isShut {
		return &fs.PathError{Op: "close", Path: d.name, Err: fs.ErrClosed}
	}
	d.isShut = true
	return nil
}

func (d *directory) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.isShut {
		return nil, &fs.PathError{Op: "readdir", Path: d.name, Err: fs.ErrClosed}
	}
	if !d.isRead {
		entries, err := d.fs.ReadDir(d.name)
		if err != nil {
			return nil, err
		}
		d.entries, d.isRead = entries, true
	}
	if n <= 0 {
		n = len(d.entries)
	} else if len(d.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.entries))
	some := d.entries[:n:n]
	d.entries = d.entries[n:]
	return some, nil
}
