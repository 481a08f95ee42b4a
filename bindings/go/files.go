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
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// A FileInfo is what is known about a file of a sandbox. It is an fs.FileInfo.
type FileInfo struct {
	name               string
	size               int64
	mode               fs.FileMode
	modified, accessed time.Time
}

var _ fs.FileInfo = (*FileInfo)(nil)

// Name is the last element of the file's name.
func (i *FileInfo) Name() string { return i.name }

// Size is its size in bytes. Generated files, such as those in /proc, have size 0.
func (i *FileInfo) Size() int64 { return i.size }

// Mode is its type and permission bits. A named pipe, a socket or a device is fs.ModeIrregular.
func (i *FileInfo) Mode() fs.FileMode { return i.mode }

// ModTime is when its contents were changed last, in whole seconds; the zero time if that is not known.
func (i *FileInfo) ModTime() time.Time { return i.modified }

// AccessTime is when it was read last, in whole seconds; the zero time if that is not known.
func (i *FileInfo) AccessTime() time.Time { return i.accessed }

// IsDir is true for a directory.
func (i *FileInfo) IsDir() bool { return i.mode.IsDir() }

// Sys is the *FileInfo itself, whose AccessTime an fs.FileInfo has not.
func (i *FileInfo) Sys() any { return i }

// String is as fs.FormatFileInfo.
func (i *FileInfo) String() string { return fs.FormatFileInfo(i) }

func newFileInfo(name string, metadata *C.sbx_metadata) *FileInfo {
	bits := C.sbx_metadata_mode(metadata)
	mode := fs.FileMode(bits) & fs.ModePerm
	switch C.sbx_metadata_kind(metadata) {
	case C.SBX_FILE_KIND_FILE:
	case C.SBX_FILE_KIND_DIRECTORY:
		mode |= fs.ModeDir
	case C.SBX_FILE_KIND_SYMLINK:
		mode |= fs.ModeSymlink
	default:
		mode |= fs.ModeIrregular
	}
	for _, special := range specialBits {
		if bits&special.bit != 0 {
			mode |= special.mode
		}
	}
	return &FileInfo{
		name:     name,
		size:     int64(C.sbx_metadata_size(metadata)),
		mode:     mode,
		modified: moment(func(at *C.int64_t) C.bool { return C.sbx_metadata_modified(metadata, at) }),
		accessed: moment(func(at *C.int64_t) C.bool { return C.sbx_metadata_accessed(metadata, at) }),
	}
}

// Go has bits of its own for these.
var specialBits = []struct {
	bit  C.uint32_t
	mode fs.FileMode
}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}}

func permissions(mode fs.FileMode) C.uint32_t {
	bits := C.uint32_t(mode.Perm())
	for _, special := range specialBits {
		if mode&special.mode != 0 {
			bits |= special.bit
		}
	}
	return bits
}

// takeFileInfo makes a Go value of metadata that belongs to the caller.
func takeFileInfo(name string, call func(metadata **C.sbx_metadata, err **C.sbx_error) C.sbx_status) (*FileInfo, error) {
	var metadata *C.sbx_metadata
	if err := invoke(func(err **C.sbx_error) C.sbx_status { return call(&metadata, err) }); err != nil {
		return nil, err
	}
	defer C.sbx_metadata_free(metadata)
	return newFileInfo(name, metadata), nil
}

// contents makes a Go slice of bytes that belong to the caller.
func contents(call func(bytes **C.sbx_bytes, err **C.sbx_error) C.sbx_status) ([]byte, error) {
	var bytes *C.sbx_bytes
	if err := invoke(func(err **C.sbx_error) C.sbx_status { return call(&bytes, err) }); err != nil {
		return nil, err
	}
	defer C.sbx_bytes_free(bytes)
	var length C.size_t
	data := C.sbx_bytes_data(bytes, &length)
	return copied(data, length), nil
}

// UploadFile copies the local file to remote in the sandbox, with its permission bits, and returns its size. A relative
// remote begins at the image's working directory. The file arrives whole or not at all. See [Sandbox.Upload] for
// options.
//
// All methods for files fail in the same ways. Errors of the system, for the file in the sandbox or the local file (the
// message says which): [ErrFileNotFound], [ErrFileExists], [ErrIsADirectory], [ErrNotADirectory],
// [ErrDirectoryNotEmpty], [ErrPermissionDenied], [ErrReadOnly], [ErrBusy], [ErrNameTooLong], [ErrStorageFull] for a
// full disk or quota, and [ErrTransfer] for everything else; errors.Is matches each with its [syscall.Errno].
// [ErrInvalidArgument] for an invalid path, [ErrNotFound] if the sandbox is gone, [ErrTimedOut] after the configured
// transfer timeout, which applies to each call. After a lost connection: [ErrDisconnected] if the call is safe to
// repeat, [ErrOutcomeUnknown] if the change may have been made. The message names the file.
func (s *Sandbox) UploadFile(ctx context.Context, local, remote string) (int64, error) {
	if ctx.Done() != nil {
		return sizeOf(s.Upload(ctx, local, remote, nil))
	}
	return ask(ctx, s.operation("upload file", local, remote), s.handle, func(sandbox *C.sbx_sandbox) (int64, error) {
		var size C.uint64_t
		err := invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_sandbox_upload_file(sandbox, text(local), text(remote), &size, err)
		})
		return int64(size), err
	}, nil)
}

// DownloadFile copies remote in the sandbox to the local file; otherwise as [Sandbox.UploadFile].
func (s *Sandbox) DownloadFile(ctx context.Context, remote, local string) (int64, error) {
	if ctx.Done() != nil {
		return sizeOf(s.Download(ctx, remote, local, nil))
	}
	return ask(ctx, s.operation("download file", local, remote), s.handle, func(sandbox *C.sbx_sandbox) (int64, error) {
		var size C.uint64_t
		err := invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_sandbox_download_file(sandbox, text(remote), text(local), &size, err)
		})
		return int64(size), err
	}, nil)
}

func sizeOf(transferred *Transferred, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return transferred.Bytes, nil
}

// umask is what a new directory does not get of the permission bits that it is asked for with, as nearly everywhere.
const umask = 0o022

// WriteFile writes a file. As with [os.WriteFile], perm, minus the sandbox's umask, is for a new one; a file that is
// there keeps its bits. It arrives whole or not at all. Fails as [Sandbox.UploadFile].
func (s *Sandbox) WriteFile(ctx context.Context, name string, data []byte, perm fs.FileMode) error {
	if perm = perm.Perm(); perm != 0o666 {
		// Also no bits at all are an option.
		_, err := s.UploadFrom(ctx, bytes.NewReader(data), name, &TransferOptions{Mode: perm | fs.ModeIrregular})
		return err
	}
	data = owned(ctx, data)
	return s.change(ctx, "write file", func(sandbox *C.sbx_sandbox, err **C.sbx_error) C.sbx_status {
		bytes, length := lent(data)
		return C.sbx_sandbox_write_file(sandbox, text(name), bytes, length, err)
	}, name)
}

// AppendFile writes data at the end of a file, which is created with the bits 0666 minus the sandbox's umask if it is
// not there. After a failure a part may be there. Fails as [Sandbox.UploadFile].
func (s *Sandbox) AppendFile(ctx context.Context, name string, data []byte) error {
	data = owned(ctx, data)
	return s.change(ctx, "append to file", func(sandbox *C.sbx_sandbox, err **C.sbx_error) C.sbx_status {
		bytes, length := lent(data)
		return C.sbx_sandbox_append_file(sandbox, text(name), bytes, length, err)
	}, name)
}

// ReadFile reads a file, of 1 GiB at most. Fails as [Sandbox.UploadFile].
func (s *Sandbox) ReadFile(ctx context.Context, name string) ([]byte, error) {
	return ask(ctx, s.operation("read file", name), s.handle, func(sandbox *C.sbx_sandbox) ([]byte, error) {
		return contents(func(bytes **C.sbx_bytes, err **C.sbx_error) C.sbx_status {
			return C.sbx_sandbox_read_file(sandbox, text(name), bytes, err)
		})
	}, nil)
}

// Stat returns the metadata of a file; links are followed. Fails as [Sandbox.UploadFile].
func (s *Sandbox) Stat(ctx context.Context, name string) (*FileInfo, error) {
	return ask(ctx, s.operation("get metadata", name), s.handle, func(sandbox *C.sbx_sandbox) (*FileInfo, error) {
		return takeFileInfo(path.Base(name), func(metadata **C.sbx_metadata, err **C.sbx_error) C.sbx_status {
			return C.sbx_sandbox_file_metadata(sandbox, text(name), metadata, err)
		})
	}, nil)
}

// Lstat is as [Sandbox.Stat], of a link itself.
func (s *Sandbox) Lstat(ctx context.Context, name string) (*FileInfo, error) {
	return ask(ctx, s.operation("get metadata", name), s.handle, func(sandbox *C.sbx_sandbox) (*FileInfo, error) {
		return takeFileInfo(path.Base(name), func(metadata **C.sbx_metadata, err **C.sbx_error) C.sbx_status {
			return C.sbx_sandbox_symlink_metadata(sandbox, text(name), metadata, err)
		})
	}, nil)
}

// Exists tells whether the file exists; links are followed, so a broken link does not exist. Fails as
// [Sandbox.UploadFile], except that a missing file is no error.
func (s *Sandbox) Exists(ctx context.Context, name string) (bool, error) {
	return ask(ctx, s.operation("get metadata", name), s.handle, func(sandbox *C.sbx_sandbox) (bool, error) {
		var exists C.bool
		err := invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_sandbox_file_exists(sandbox, text(name), &exists, err)
		})
		return bool(exists), err
	}, nil)
}

// ReadDir lists the entries of a directory, sorted by name: all of them, or an error. What an entry's Info says came
// with the list, of a link itself. Fails as [Sandbox.UploadFile]; [ErrTransfer] for more than 1048576 entries or 64 MiB
// of names.
func (s *Sandbox) ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error) {
	return ask(ctx, s.operation("list directory", name), s.handle, func(sandbox *C.sbx_sandbox) ([]fs.DirEntry, error) {
		var entries *C.sbx_dir_entries
		if err := invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_sandbox_read_dir(sandbox, text(name), &entries, err)
		}); err != nil {
			return nil, err
		}
		defer C.sbx_dir_entries_free(entries)
		var list []fs.DirEntry
		for index := range C.sbx_dir_entries_count(entries) {
			name, metadata := C.sbx_dir_entries_name_at(entries, index), C.sbx_dir_entries_metadata_at(entries, index)
			list = append(list, fs.FileInfoToDirEntry(newFileInfo(C.GoString(name), metadata)))
		}
		slices.SortFunc(list, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
		return list, nil
	}, nil)
}

// Mkdir creates a directory, with the permission bits perm less 022, the usual umask, which are set in a second step.
// Fails as [Sandbox.UploadFile]; [ErrFileExists] if the name exists.
func (s *Sandbox) Mkdir(ctx context.Context, name string, perm fs.FileMode) error {
	err := s.change(ctx, "create directory", func(sandbox *C.sbx_sandbox, err **C.sbx_error) C.sbx_status {
		return C.sbx_sandbox_create_dir(sandbox, text(name), err)
	}, name)
	if err != nil {
		return err
	}
	return s.Chmod(ctx, name, perm&^umask)
}

// MkdirAll creates a directory and its missing parents, each as by [Sandbox.Mkdir]. Fails as [Sandbox.UploadFile];
// [ErrFileExists] if the name exists and is not a directory, [ErrNotADirectory] if a parent is not a directory.
func (s *Sandbox) MkdirAll(ctx context.Context, name string, perm fs.FileMode) error {
	var missing []string
	// Not path.Dir, which would resolve a ".." without looking at links.
	for at := name; ; {
		exists, err := s.Exists(ctx, at)
		if err != nil {
			return err
		}
		if exists {
			break
		}
		if last := path.Base(at); last != "." && last != ".." {
			missing = append(missing, at)
		}
		end := strings.LastIndexByte(strings.TrimRight(at, "/"), '/')
		if end <= 0 {
			break
		}
		at = at[:end]
	}
	err := s.change(ctx, "create directory", func(sandbox *C.sbx_sandbox, err **C.sbx_error) C.sbx_status {
		return C.sbx_sandbox_create_dir_all(sandbox, text(name), err)
	}, name)
	for _, made := range missing {
		if err == nil {
			err = s.Chmod(ctx, made, perm&^umask)
		}
	}
	return err
}

// Remove removes a file, a link itself, or an empty directory. Fails as [Sandbox.UploadFile]; [ErrDirectoryNotEmpty]
// for a directory that is not empty.
func (s *Sandbox) Remove(ctx context.Context, name string) error {
	err := s.removeFile(ctx, name)
	if !errors.Is(err, ErrIsADirectory) {
		return err
	}
	return s.change(ctx, "remove directory", func(sandbox *C.sbx_sandbox, err **C.sbx_error) C.sbx_status {
		return C.sbx_sandbox_remove_dir(sandbox, text(name), err)
	}, name)
}

// RemoveAll removes a file, a link itself, or a directory with all that is in it; links in it are removed, not
// followed. It is no error if there is nothing of that name. Fails as [Sandbox.UploadFile]; what could be removed is
// gone then.
func (s *Sandbox) RemoveAll(ctx context.Context, name string) error {
	info, err := s.Lstat(ctx, name)
	switch {
	case err != nil:
	case info.IsDir():
		err = s.change(ctx, "remove directory", func(sandbox *C.sbx_sandbox, err **C.sbx_error) C.sbx_status {
			return C.sbx_sandbox_remove_dir_all(sandbox, text(name), err)
		}, name)
	default:
		err = s.removeFile(ctx, name)
	}
	if errors.Is(err, ErrFileNotFound) {
		return nil
	}
	return err
}

func (s *Sandbox) removeFile(ctx context.Context, name string) error {
	return s.change(ctx, "remove file", func(sandbox *C.sbx_sandbox, err **C.sbx_error) C.sbx_status {
		return C.sbx_sandbox_remove_file(sandbox, text(name), err)
	}, name)
}

// Rename renames a file or directory, atomically. An existing file of the new name is replaced; a directory replaces an
// empty directory. Fails as [Sandbox.UploadFile]; [ErrIsADirectory], [ErrNotADirectory] or [ErrDirectoryNotEmpty] if
// the target can't be replaced, [ErrTransfer] with [syscall.EXDEV] if the names are on different file systems.
func (s *Sandbox) Rename(ctx context.Context, from, to string) error {
	return s.change(ctx, "rename file", func(sandbox *C.sbx_sandbox, err **C.sbx_error) C.sbx_status {
		return C.sbx_sandbox_rename_file(sandbox, text(from), text(to), err)
	}, from, to)
}

// Chmod sets the permission bits; links are followed. Fails as [Sandbox.UploadFile].
func (s *Sandbox) Chmod(ctx context.Context, name string, mode fs.FileMode) error {
	return s.change(ctx, "set permissions", func(sandbox *C.sbx_sandbox, err **C.sbx_error) C.sbx_status {
		return C.sbx_sandbox_set_file_permissions(sandbox, text(name), permissions(mode), err)
	}, name)
}

// Symlink makes the symbolic link that points to original, which need not exist. Fails as [Sandbox.UploadFile];
// [ErrFileExists] if something of the link's name is there.
func (s *Sandbox) Symlink(ctx context.Context, original, link string) error {
	return s.change(ctx, "create link", func(sandbox *C.sbx_sandbox, err **C.sbx_error) C.sbx_status {
		return C.sbx_sandbox_create_symlink(sandbox, text(original), text(link), err)
	}, original, link)
}

// Readlink tells what a symbolic link points to. Fails as [Sandbox.UploadFile]; [ErrTransfer] with [syscall.EINVAL] if
// the path is not a link.
func (s *Sandbox) Readlink(ctx context.Context, name string) (string, error) {
	target, err := ask(ctx, s.operation("read link", name), s.handle, func(sandbox *C.sbx_sandbox) ([]byte, error) {
		return contents(func(bytes **C.sbx_bytes, err **C.sbx_error) C.sbx_status {
			return C.sbx_sandbox_read_link(sandbox, text(name), bytes, err)
		})
	}, nil)
	return string(target), err
}

// ResolvePath tells the absolute path of a file, without links, "." and "..". Fails as [Sandbox.UploadFile].
func (s *Sandbox) ResolvePath(ctx context.Context, name string) (string, error) {
	resolved, err := ask(ctx, s.operation("resolve path", name), s.handle, func(sandbox *C.sbx_sandbox) ([]byte, error) {
		return contents(func(bytes **C.sbx_bytes, err **C.sbx_error) C.sbx_status {
			return C.sbx_sandbox_resolve_path(sandbox, text(name), bytes, err)
		})
	}, nil)
	return string(resolved), err
}

// change makes a call that changes files.
func (s *Sandbox) change(ctx context.Context, what string, call func(*C.sbx_sandbox, **C.sbx_error) C.sbx_status,
	names ...string) error {
	return tell(ctx, s.operation(what, names...), s.handle, call)
}

// owned is bytes that stay as they are also if the call goes on after the context is done.
func owned(ctx context.Context, data []byte) []byte {
	if ctx.Done() == nil {
		return data
	}
	return slices.Clone(data)
}
