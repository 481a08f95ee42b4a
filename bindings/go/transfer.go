package sandbox

/*
#include <sandbox.h>
*/
import "C"

import (
	"context"
	"io"
	"io/fs"
	"unsafe"
)

// TransferOptions change how something is copied; nil stands for zero values. By default nothing is resumed, nothing is
// synced to disk, and no checksum is compared: SSH protects every packet with a MAC, and the server acknowledges every
// write.
type TransferOptions struct {
	// Compares the SHA-256 of the source and of the copy before the copy gets its name; in a directory, for each file.
	Checksum bool
	// Syncs contents and names to the receiving disk (fsync) before it returns.
	Sync bool
	// Keeps the partial file when a transfer of a file fails, and continues from that of an earlier transfer to the same
	// name, if its SHA-256 matches the beginning of the source. Implies the checksum. Only from file to file.
	Resume bool
	// Permission bits of a new file that an upload makes, minus the sandbox's umask, if not 0. An existing file keeps its
	// own, and the files of a directory keep those they have locally. Otherwise those of the local file, or 0666.
	Mode fs.FileMode
	// How many bytes of contents a download may have, if not 0; more are [ErrTransfer].
	MaxBytes uint64
	// How many entries the download of a directory may have, if not 0; more are [ErrTransfer].
	MaxEntries uint64
	// Is told how far it has come: at the beginning, at the end, and up to 20 times a second in between. An error stops
	// the transfer.
	Progress func(Progress) error
}

// Progress says how far a transfer has come.
type Progress struct {
	// The file that is read: as the caller named it, or below the root of a directory.
	Path string
	// How many bytes have arrived, in all files of a directory.
	Done int64
	// How many there are; -1 if that is not known.
	Total int64
}

// Transferred is what the transfer of a file did.
type Transferred struct {
	// Bytes of the file.
	Bytes int64
	// How many of them had been there already, from an earlier transfer.
	Resumed int64
	// The 32 bytes of the file's SHA-256; nil if it was not compared.
	SHA256 []byte
}

// A TreeReport is what the transfer of a directory did.
type TreeReport struct {
	// Regular files, those with several names counted once for each; directories, with the root; symbolic links.
	Files, Directories, Symlinks int64
	// Bytes of all files.
	Bytes int64
	// How many entries were left out.
	Skipped int64
	// What was left out and why, and which files were changed while they were read; at most 1000.
	Notes []Note
}

// A Note is about one entry of a directory that was transferred.
type Note struct {
	// The entry, below the root.
	Path string
	// What there is to say, such as "a socket".
	Text string
}

// Upload copies the local file to remote in the sandbox, with its permission bits. It arrives whole or not at all. A
// relative remote begins at the image's working directory. Fails with the errors of [Sandbox.UploadFile]; [ErrTransfer]
// also if the checksums differ.
func (s *Sandbox) Upload(ctx context.Context, local, remote string, options *TransferOptions) (*Transferred, error) {
	op := s.operation("upload file", local, remote)
	return transferFile(ctx, s, op, options, &conversation{}, func(t *C.sbx_transfer, userdata unsafe.Pointer,
		transferred **C.sbx_transferred, err **C.sbx_error) C.sbx_status {
		return C.sbx_transfer_upload(t, text(local), text(remote), onProgress, userdata, transferred, err)
	})
}

// Download copies remote in the sandbox to the local file; otherwise as [Sandbox.Upload].
func (s *Sandbox) Download(ctx context.Context, remote, local string, options *TransferOptions) (*Transferred, error) {
	op := s.operation("download file", local, remote)
	return transferFile(ctx, s, op, options, &conversation{}, func(t *C.sbx_transfer, userdata unsafe.Pointer,
		transferred **C.sbx_transferred, err **C.sbx_error) C.sbx_status {
		return C.sbx_transfer_download(t, text(remote), text(local), onProgress, userdata, transferred, err)
	})
}

// UploadFrom copies all that source gives to the file remote, which gets the permission bits 0666 minus the sandbox's
// umask if it is new. The error of a Read matches the error of UploadFrom; a Read that still blocks when the context is
// done is left alone. Otherwise as [Sandbox.Upload].
func (s *Sandbox) UploadFrom(ctx context.Context, source io.Reader, remote string, options *TransferOptions) (*Transferred, error) {
	op := s.operation("upload file", remote)
	return transferFile(ctx, s, op, options, &conversation{source: source}, func(t *C.sbx_transfer, userdata unsafe.Pointer,
		transferred **C.sbx_transferred, err **C.sbx_error) C.sbx_status {
		return C.sbx_transfer_upload_from(t, onRead, text(remote), onProgress, userdata, transferred, err)
	})
}

// DownloadTo writes the contents of the file remote to target. The error of a Write matches the error of DownloadTo;
// one that still blocks when the context is done is left alone. Otherwise as [Sandbox.Download].
func (s *Sandbox) DownloadTo(ctx context.Context, remote string, target io.Writer, options *TransferOptions) (*Transferred, error) {
	op := s.operation("download file", remote)
	return transferFile(ctx, s, op, options, &conversation{target: target}, func(t *C.sbx_transfer, userdata unsafe.Pointer,
		transferred **C.sbx_transferred, err **C.sbx_error) C.sbx_status {
		return C.sbx_transfer_download_to(t, text(remote), onWrite, onProgress, userdata, transferred, err)
	})
}

// UploadDir copies the local directory with all that is in it to remote, as one stream: with modes, times of
// modification in nanoseconds, symbolic links as they are, empty directories and the holes of sparse files. Sockets,
// pipes and devices are left out, and the report lists them.
//
// No file gets its name before everything has arrived. If remote does not exist, it appears complete. If it is a
// directory, the two are merged: files and links replace files and links, each atomically and with the modes of the
// tree, read-only ones too; what a link led to and what exists only in the target stay. Obstacles, such as a device in
// the place of a file, are found before the merge begins. If the merge itself fails, it may be partly done.
//
// [ErrNotADirectory] if a path exists that should be a directory and is not; otherwise as [Sandbox.Upload].
func (s *Sandbox) UploadDir(ctx context.Context, local, remote string, options *TransferOptions) (*TreeReport, error) {
	op := s.operation("upload directory", local, remote)
	return transferDir(ctx, s, op, options, func(t *C.sbx_transfer, userdata unsafe.Pointer, report **C.sbx_tree_report,
		err **C.sbx_error) C.sbx_status {
		return C.sbx_transfer_upload_dir(t, text(local), text(remote), onProgress, userdata, report, err)
	})
}

// DownloadDir copies the directory remote with all that is in it to the local directory; otherwise as
// [Sandbox.UploadDir].
//
// Whatever the sandbox sends, nothing is written outside of local, and what is kept in memory does not grow with the
// tree. Symbolic links that lead out of the directory are left out, and the report lists them. Absolute names, names
// with "..", files below a link, and hard links to files outside are [ErrTransfer]. Set-user-id, set-group-id and
// sticky bits are not set.
func (s *Sandbox) DownloadDir(ctx context.Context, remote, local string, options *TransferOptions) (*TreeReport, error) {
	op := s.operation("download directory", local, remote)
	return transferDir(ctx, s, op, options, func(t *C.sbx_transfer, userdata unsafe.Pointer, report **C.sbx_tree_report,
		err **C.sbx_error) C.sbx_status {
		return C.sbx_transfer_download_dir(t, text(remote), text(local), onProgress, userdata, report, err)
	})
}

// transfer makes a transfer with its options.
func transfer[T any](ctx context.Context, s *Sandbox, op operation, options *TransferOptions, c *conversation,
	call func(t *C.sbx_transfer, userdata unsafe.Pointer) (T, error)) (T, error) {
	if options == nil {
		options = &TransferOptions{}
	}
	c.progress = options.Progress
	chosen := *options
	return talk(ctx, op, s.handle, stopTimeout, c, func(sandbox *C.sbx_sandbox, userdata unsafe.Pointer) (T, error) {
		var (
			none T
			t    *C.sbx_transfer
			s    settings
		)
		s.do(func(err **C.sbx_error) C.sbx_status { return C.sbx_sandbox_transfer(sandbox, &t, err) })
		defer func() { C.sbx_transfer_free(t) }()
		s.do(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_transfer_set_checksum(t, C.bool(chosen.Checksum), err)
		})
		s.do(func(err **C.sbx_error) C.sbx_status { return C.sbx_transfer_set_sync(t, C.bool(chosen.Sync), err) })
		s.do(func(err **C.sbx_error) C.sbx_status { return C.sbx_transfer_set_resume(t, C.bool(chosen.Resume), err) })
		s.flag(chosen.Mode != 0, func(err **C.sbx_error) C.sbx_status {
			return C.sbx_transfer_set_mode(t, C.uint32_t(chosen.Mode.Perm()), err)
		})
		s.flag(chosen.MaxBytes != 0, func(err **C.sbx_error) C.sbx_status {
			return C.sbx_transfer_set_max_bytes(t, C.uint64_t(chosen.MaxBytes), err)
		})
		s.flag(chosen.MaxEntries != 0, func(err **C.sbx_error) C.sbx_status {
			return C.sbx_transfer_set_max_entries(t, C.uint64_t(chosen.MaxEntries), err)
		})
		if s.err != nil {
			return none, s.err
		}
		return call(t, userdata)
	})
}

func transferFile(ctx context.Context, s *Sandbox, op operation, options *TransferOptions, c *conversation,
	call func(t *C.sbx_transfer, userdata unsafe.Pointer, transferred **C.sbx_transferred,
		err **C.sbx_error) C.sbx_status) (*Transferred, error) {
	return transfer(ctx, s, op, options, c, func(t *C.sbx_transfer, userdata unsafe.Pointer) (*Transferred, error) {
		var transferred *C.sbx_transferred
		if err := invoke(func(err **C.sbx_error) C.sbx_status { return call(t, userdata, &transferred, err) }); err != nil {
			return nil, err
		}
		defer C.sbx_transferred_free(transferred)
		return &Transferred{
			Bytes:   int64(C.sbx_transferred_bytes(transferred)),
			Resumed: int64(C.sbx_transferred_resumed(transferred)),
			SHA256:  copied(C.sbx_transferred_sha256(transferred), 32),
		}, nil
	})
}

func transferDir(ctx context.Context, s *Sandbox, op operation, options *TransferOptions,
	call func(t *C.sbx_transfer, userdata unsafe.Pointer, report **C.sbx_tree_report,
		err **C.sbx_error) C.sbx_status) (*TreeReport, error) {
	return transfer(ctx, s, op, options, &conversation{}, func(t *C.sbx_transfer, userdata unsafe.Pointer) (*TreeReport, error) {
		var report *C.sbx_tree_report
		if err := invoke(func(err **C.sbx_error) C.sbx_status { return call(t, userdata, &report, err) }); err != nil {
			return nil, err
		}
		defer C.sbx_tree_report_free(report)
		found := &TreeReport{
			Files:       int64(C.sbx_tree_report_files(report)),
			Directories: int64(C.sbx_tree_report_directories(report)),
			Symlinks:    int64(C.sbx_tree_report_symlinks(report)),
			Bytes:       int64(C.sbx_tree_report_bytes(report)),
			Skipped:     int64(C.sbx_tree_report_skipped(report)),
		}
		for index := range C.sbx_tree_report_note_count(report) {
			path, what := C.sbx_tree_report_note_path_at(report, index), C.sbx_tree_report_note_text_at(report, index)
			found.Notes = append(found.Notes, Note{C.GoString(path), C.GoString(what)})
		}
		return found, nil
	})
}
