// The life of a sandbox in Go, through cgo. The first argument is an empty directory to work in.
package main

/*
#cgo LDFLAGS: -lsandbox
#include <stdlib.h>
#include "sandbox.h"

int32_t receive(void *userdata, sbx_stream stream, uint8_t *data, size_t len);
*/
import "C"

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/cgo"
	"sync"
	"unsafe"
)

type failure struct {
	status  C.sbx_status
	message string
}

func (f *failure) Error() string { return f.message }

// call makes one call, and a Go error of its status and its error handle.
func call(function func(err **C.sbx_error) C.sbx_status) error {
	var handle *C.sbx_error
	status := function(&handle)
	if status == C.SBX_OK {
		return nil
	}
	defer C.sbx_error_free(handle)
	return &failure{status, C.GoString(C.sbx_error_message(handle))}
}

func check(condition bool, what string) {
	if !condition {
		panic(what)
	}
}

// must makes a call that has to succeed.
func must(function func(err **C.sbx_error) C.sbx_status) {
	if err := call(function); err != nil {
		panic(err)
	}
}

// fails makes a call that has to fail with this status.
func fails(status C.sbx_status, function func(err **C.sbx_error) C.sbx_status) {
	var f *failure
	err := call(function)
	check(errors.As(err, &f) && f.status == status, fmt.Sprintf("%s expected, got: %v", C.GoString(C.sbx_status_name(C.int32_t(status))), err))
}

// with lends a Go string to C.
func with[T any](s string, use func(*C.char) T) T {
	c := C.CString(s)
	defer C.free(unsafe.Pointer(c))
	return use(c)
}

func stdout(output *C.sbx_output) []byte {
	var length C.size_t
	data := C.sbx_output_stdout(output, &length)
	return C.GoBytes(unsafe.Pointer(data), C.int(length))
}

func execute(sandbox *C.sbx_sandbox, line string) (out []byte, code int) {
	var output *C.sbx_output
	must(func(err **C.sbx_error) C.sbx_status {
		return with(line, func(line *C.char) C.sbx_status { return C.sbx_sandbox_execute(sandbox, line, &output, err) })
	})
	defer C.sbx_output_free(output)
	var exit C.int32_t
	check(bool(C.sbx_output_exit_code(output, &exit)), "no exit code")
	return stdout(output), int(exit)
}

type receiver struct {
	bytes, limit int
}

//export receive
func receive(userdata unsafe.Pointer, _ C.sbx_stream, data *C.uint8_t, length C.size_t) C.int32_t {
	r := (*(*cgo.Handle)(userdata)).Value().(*receiver)
	r.bytes += len(unsafe.Slice(data, length))
	if r.bytes > r.limit {
		return 1
	}
	return 0
}

func stream(sandbox *C.sbx_sandbox, line string, r *receiver) error {
	var command *C.sbx_command
	must(func(err **C.sbx_error) C.sbx_status {
		return with(line, func(line *C.char) C.sbx_status { return C.sbx_sandbox_shell(sandbox, line, &command, err) })
	})
	defer C.sbx_command_free(command)
	handle := cgo.NewHandle(r)
	defer handle.Delete()
	return call(func(err **C.sbx_error) C.sbx_status {
		return C.sbx_command_stream(command, C.sbx_output_fn(C.receive), unsafe.Pointer(&handle), nil, err)
	})
}

func commands(sandbox *C.sbx_sandbox) {
	out, code := execute(sandbox, `printf 'a\0b'; exit 5`)
	check(bytes.Equal(out, []byte("a\x00b")) && code == 5, "execute")

	var command *C.sbx_command
	must(func(err **C.sbx_error) C.sbx_status {
		return with("sh", func(program *C.char) C.sbx_status { return C.sbx_sandbox_command(sandbox, program, &command, err) })
	})
	defer C.sbx_command_free(command)
	for _, argument := range []string{"-c", `cat; printf '|%s' "$A" "$PWD" "$1"`, "sh", "a 'b'"} {
		// A Go string has no NUL at its end.
		data := (*C.uint8_t)(unsafe.StringData(argument))
		must(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_command_add_arg_bytes(command, data, C.size_t(len(argument)), err)
		})
	}
	input := []byte{1, 0, 2}
	must(func(err **C.sbx_error) C.sbx_status {
		return C.sbx_command_set_stdin(command, (*C.uint8_t)(&input[0]), C.size_t(len(input)), err)
	})
	must(func(err **C.sbx_error) C.sbx_status {
		return with("A", func(name *C.char) C.sbx_status { return C.sbx_command_set_env(command, name, name, err) })
	})
	must(func(err **C.sbx_error) C.sbx_status {
		return with("/tmp", func(directory *C.char) C.sbx_status {
			return C.sbx_command_set_current_dir(command, directory, err)
		})
	})
	must(func(err **C.sbx_error) C.sbx_status { return C.sbx_command_set_timeout(command, 20, err) })
	var output *C.sbx_output
	must(func(err **C.sbx_error) C.sbx_status { return C.sbx_command_output(command, &output, err) })
	check(string(stdout(output)) == "\x01\x00\x02|A|/tmp|a 'b'", "the command's output")
	C.sbx_output_free(output)

	// The calls may wander over the system's threads as Go likes.
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			out, _ := execute(sandbox, fmt.Sprint("echo ", i))
			check(string(out) == fmt.Sprintln(i), "another call's output")
		})
	}
	group.Wait()

	all := receiver{limit: 1 << 30}
	check(stream(sandbox, "head -c 300000 /dev/zero", &all) == nil && all.bytes == 300000, "the stream")
	some := receiver{limit: 1000}
	var f *failure
	check(errors.As(stream(sandbox, "yes", &some), &f) && f.status == C.SBX_ERR_CANCELLED, "the stop")
	must(func(err **C.sbx_error) C.sbx_status { return C.sbx_command_set_timeout(command, 1e-9, err) })
	fails(C.SBX_ERR_TIMED_OUT, func(err **C.sbx_error) C.sbx_status { return C.sbx_command_output(command, &output, err) })
	fails(C.SBX_ERR_INVALID_ARGUMENT, func(err **C.sbx_error) C.sbx_status {
		return C.sbx_sandbox_execute(sandbox, nil, &output, err)
	})
}

func files(sandbox *C.sbx_sandbox, directory string) {
	contents := []byte("f\x00\xff")
	local, back := filepath.Join(directory, "local"), filepath.Join(directory, "back")
	check(os.WriteFile(local, contents, 0o600) == nil, local)
	remote := C.CString("file")
	defer C.free(unsafe.Pointer(remote))
	var size C.uint64_t
	must(func(err **C.sbx_error) C.sbx_status {
		return with(local, func(local *C.char) C.sbx_status {
			return C.sbx_sandbox_upload_file(sandbox, local, remote, &size, err)
		})
	})
	must(func(err **C.sbx_error) C.sbx_status {
		return with(back, func(back *C.char) C.sbx_status {
			return C.sbx_sandbox_download_file(sandbox, remote, back, nil, err)
		})
	})
	read, err := os.ReadFile(back)
	check(err == nil && bytes.Equal(read, contents) && int(size) == len(contents), "the file")

	must(func(err **C.sbx_error) C.sbx_status {
		return C.sbx_sandbox_write_file(sandbox, remote, (*C.uint8_t)(&contents[0]), 2, err)
	})
	var handle *C.sbx_bytes
	must(func(err **C.sbx_error) C.sbx_status { return C.sbx_sandbox_read_file(sandbox, remote, &handle, err) })
	defer C.sbx_bytes_free(handle)
	var length C.size_t
	data := C.sbx_bytes_data(handle, &length)
	check(bytes.Equal(C.GoBytes(unsafe.Pointer(data), C.int(length)), contents[:2]), "the bytes")
}

func live(directory string) {
	var config *C.sbx_config
	must(func(err **C.sbx_error) C.sbx_status { return C.sbx_config_from_env(&config, err) })
	must(func(err **C.sbx_error) C.sbx_status {
		return with("life-go", func(owner *C.char) C.sbx_status { return C.sbx_config_set_owner(config, owner, err) })
	})
	must(func(err **C.sbx_error) C.sbx_status { return C.sbx_config_set_lifetime(config, 300, err) })
	fails(C.SBX_ERR_INVALID_ARGUMENT, func(err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set_transport(config, 99, err)
	})
	var client *C.sbx_client
	must(func(err **C.sbx_error) C.sbx_status { return C.sbx_client_new(config, &client, err) })
	defer C.sbx_client_free(client)
	C.sbx_config_free(config)

	var sandbox, second *C.sbx_sandbox
	must(func(err **C.sbx_error) C.sbx_status { return C.sbx_client_create(client, nil, &sandbox, err) })
	defer C.sbx_sandbox_free(sandbox)
	// If something panics before the right time for it.
	defer C.sbx_sandbox_delete(sandbox, nil)

	name := C.sbx_sandbox_name(sandbox)
	var info *C.sbx_info
	must(func(err **C.sbx_error) C.sbx_status { return C.sbx_sandbox_info(sandbox, &info, err) })
	check(C.GoString(C.sbx_info_owner(info)) == "life-go", "the owner")
	C.sbx_info_free(info)

	commands(sandbox)
	files(sandbox, directory)

	must(func(err **C.sbx_error) C.sbx_status { return C.sbx_client_attach(client, name, &second, err) })
	must(func(err **C.sbx_error) C.sbx_status { return C.sbx_sandbox_renew(second, 600, nil, err) })
	C.sbx_sandbox_free(second)
	var list *C.sbx_list
	must(func(err **C.sbx_error) C.sbx_status { return C.sbx_client_list(client, &list, err) })
	check(C.sbx_list_count(list) > 0, "the list")
	C.sbx_list_free(list)

	must(func(err **C.sbx_error) C.sbx_status { return C.sbx_sandbox_delete(sandbox, err) })
	fails(C.SBX_ERR_NOT_FOUND, func(err **C.sbx_error) C.sbx_status {
		return C.sbx_client_attach(client, name, &second, err)
	})
}

func main() {
	check(len(os.Args) == 2, "one argument: a directory")
	check(C.sbx_version_number() == C.SBX_VERSION_NUMBER, "the header is another version's")
	live(os.Args[1])
	fmt.Println("done")
}
