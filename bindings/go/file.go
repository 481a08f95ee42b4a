package sandbox

/*
#include <sandbox.h>
*/
import "C"

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
)

// A File is an open file of a sandbox, after os.File. The context that it was opened with holds for all its methods.
//
// It keeps an SSH session for itself until it is closed. Calls of several goroutines take turns. Each is one round trip
// or more, so a bufio.Reader or bufio.Writer around it is worth as much as around a file of this machine. After a lost
// connection or a timeout it can only be closed. Fails with the errors of [Sandbox.UploadFile].
type File struct {
	handle   *handle[*C.sbx_file]
	ctx      context.Context
	name     string
	sandbox  string
	appends  bool
	position sync.Mutex
}

var (
	_ fs.File            = (*File)(nil)
	_ io.ReadWriteSeeker = (*File)(nil)
	_ io.ReaderAt        = (*File)(nil)
	_ io.WriterAt        = (*File)(nil)
)

// Open opens a file for reading.
func (s *Sandbox) Open(ctx context.Context, name string) (*File, error) {
	return s.OpenFile(ctx, name, os.O_RDONLY, 0)
}

// Create creates a file, or empties one that is there, for reading and writing.
func (s *Sandbox) Create(ctx context.Context, name string) (*File, error) {
	return s.OpenFile(ctx, name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
}

// OpenFile opens a file with flags of os: one of O_RDONLY, O_WRONLY and O_RDWR, with O_APPEND, O_CREATE, O_EXCL and
// O_TRUNC. A new one gets the permission bits, minus the sandbox's umask. [ErrFileExists] if a file is there that
// O_CREATE|O_EXCL was to create.
func (s *Sandbox) OpenFile(ctx context.Context, name string, flag int, perm fs.FileMode) (*File, error) {
	op := s.operation("open file", name)
	flags, isKnown := openFlags(flag)
	if !isKnown {
		return nil, op.fail(ErrInvalidArgument, name+": flags that SFTP has not")
	}
	file, err := ask(ctx, op, s.handle, func(sandbox *C.sbx_sandbox) (file *C.sbx_file, err error) {
		err = invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_sandbox_open_file(sandbox, text(name), flags, permissions(perm), &file, err)
		})
		return file, err
	}, func(file *C.sbx_file) { C.sbx_file_free(file) })
	if err != nil {
		return nil, err
	}
	return &File{
		handle: newHandle(file, func(file *C.sbx_file) { C.sbx_file_free(file) }),
		ctx:    ctx, name: name, sandbox: s.name, appends: flag&os.O_APPEND != 0,
	}, nil
}

func openFlags(flag int) (flags C.int32_t, isKnown bool) {
	switch flag & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR) {
	case os.O_RDONLY:
		flags = C.SBX_OPEN_READ
	case os.O_WRONLY:
		flags = C.SBX_OPEN_WRITE
	case os.O_RDWR:
		flags = C.SBX_OPEN_READ | C.SBX_OPEN_WRITE
	}
	if flag&os.O_APPEND != 0 {
		flags = flags&^C.SBX_OPEN_WRITE | C.SBX_OPEN_APPEND
	}
	if flag&os.O_TRUNC != 0 {
		flags |= C.SBX_OPEN_TRUNCATE
	}
	switch flag & (os.O_CREATE | os.O_EXCL) {
	case os.O_CREATE:
		flags |= C.SBX_OPEN_CREATE
	case os.O_CREATE | os.O_EXCL:
		flags |= C.SBX_OPEN_CREATE_NEW
	}
	known := os.O_RDONLY | os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREATE | os.O_EXCL | os.O_TRUNC
	return flags, flag&^known == 0
}

// Name is the name that it was opened with.
func (f *File) Name() string { return f.name }

func (f *File) operation(name string) operation { return operation{name: name, sandbox: f.sandbox} }

// Read reads up to len(p) bytes; io.EOF at the end of the file.
func (f *File) Read(p []byte) (int, error) {
	f.position.Lock()
	defer f.position.Unlock()
	return f.read(p)
}

func (f *File) read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	buffer := p
	if f.ctx.Done() != nil {
		// The call may go on after this one. C reads no more than this at once.
		buffer = make([]byte, min(len(p), 64<<10))
	}
	length, err := ask(f.ctx, f.operation("read file"), f.handle, func(file *C.sbx_file) (int, error) {
		var length C.size_t
		data, capacity := lent(buffer)
		err := invoke(func(err **C.sbx_error) C.sbx_status { return C.sbx_file_read(file, data, capacity, &length, err) })
		return int(length), err
	}, nil)
	if err != nil {
		return 0, err
	}
	if length == 0 {
		return 0, io.EOF
	}
	if f.ctx.Done() != nil {
		copy(p, buffer[:length])
	}
	return length, nil
}

// Write writes all of p, at the end of a file that was opened for that. After a failure a part may be written.
func (f *File) Write(p []byte) (int, error) {
	f.position.Lock()
	defer f.position.Unlock()
	return f.write(p)
}

func (f *File) write(p []byte) (int, error) {
	p = owned(f.ctx, p)
	err := f.change("write file", func(file *C.sbx_file, err **C.sbx_error) C.sbx_status {
		data, length := lent(p)
		return C.sbx_file_write(file, data, length, err)
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Seek sets the position for the next Read or Write, and returns it.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	f.position.Lock()
	defer f.position.Unlock()
	return f.seek(offset, whence)
}

var whences = map[int]C.int32_t{
	io.SeekStart: C.SBX_SEEK_START, io.SeekCurrent: C.SBX_SEEK_CURRENT, io.SeekEnd: C.SBX_SEEK_END,
}

func (f *File) seek(offset int64, whence int) (int64, error) {
	from, isKnown := whences[whence]
	if !isKnown {
		return 0, f.operation("seek file").fail(ErrInvalidArgument, "an unknown whence")
	}
	return ask(f.ctx, f.operation("seek file"), f.handle, func(file *C.sbx_file) (int64, error) {
		var position C.uint64_t
		err := invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_file_seek(file, C.int64_t(offset), from, &position, err)
		})
		return int64(position), err
	}, nil)
}

// at does something at another position and comes back.
func (f *File) at(offset int64, do func() (int, error)) (int, error) {
	f.position.Lock()
	defer f.position.Unlock()
	if offset < 0 {
		return 0, f.operation("seek file").fail(ErrInvalidArgument, "a negative offset")
	}
	before, err := f.seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if _, err := f.seek(offset, io.SeekStart); err != nil {
		return 0, err
	}
	length, err := do()
	if _, failure := f.seek(before, io.SeekStart); err == nil {
		err = failure
	}
	return length, err
}

// ReadAt reads len(p) bytes from the offset on, wherever the position is; io.EOF with those that there are if there are
// fewer.
func (f *File) ReadAt(p []byte, offset int64) (int, error) {
	return f.at(offset, func() (int, error) {
		length := 0
		for length < len(p) {
			more, err := f.read(p[length:])
			length += more
			if err != nil {
				return length, err
			}
		}
		return length, nil
	})
}

// WriteAt writes all of p from the offset on, wherever the position is. Not for a file that was opened with O_APPEND.
func (f *File) WriteAt(p []byte, offset int64) (int, error) {
	if f.appends {
		return 0, f.operation("write file").fail(ErrInvalidArgument, "WriteAt of a file that was opened with O_APPEND")
	}
	return f.at(offset, func() (int, error) { return f.write(p) })
}

// Stat returns its metadata; the info is a [*FileInfo].
func (f *File) Stat() (fs.FileInfo, error) {
	info, err := ask(f.ctx, f.operation("get metadata"), f.handle, func(file *C.sbx_file) (*FileInfo, error) {
		return takeFileInfo(path.Base(f.name), func(metadata **C.sbx_metadata, err **C.sbx_error) C.sbx_status {
			return C.sbx_file_metadata(file, metadata, err)
		})
	}, nil)
	if err != nil {
		return nil, err
	}
	return info, nil
}

// Truncate truncates the file to size bytes, or extends it with zeros.
func (f *File) Truncate(size int64) error {
	if size < 0 {
		return f.operation("set length").fail(ErrInvalidArgument, "a negative size")
	}
	return f.change("set length", func(file *C.sbx_file, err **C.sbx_error) C.sbx_status {
		return C.sbx_file_set_size(file, C.uint64_t(size), err)
	})
}

// Chmod sets its permission bits.
func (f *File) Chmod(mode fs.FileMode) error {
	return f.change("set permissions", func(file *C.sbx_file, err **C.sbx_error) C.sbx_status {
		return C.sbx_file_set_permissions(file, permissions(mode), err)
	})
}

// Sync syncs the contents to the sandbox's disk (fsync). [ErrTransfer] if the file system does not support it.
func (f *File) Sync() error {
	return f.change("sync file", func(file *C.sbx_file, err **C.sbx_error) C.sbx_status { return C.sbx_file_sync(file, err) })
}

// Close closes it and reports write errors; some file systems report them only on close. A second Close is [ErrClosed].
// Once its context is done, it is closed in the background.
func (f *File) Close() error {
	err := f.change("close file", func(file *C.sbx_file, err **C.sbx_error) C.sbx_status { return C.sbx_file_close(file, err) })
	if f.ctx.Err() != nil {
		go f.handle.close()
	} else {
		f.handle.close()
	}
	return err
}

func (f *File) change(what string, call func(*C.sbx_file, **C.sbx_error) C.sbx_status) error {
	return tell(f.ctx, f.operation(what), f.handle, call)
}
