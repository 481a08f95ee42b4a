package sandbox

/*
#include <sandbox.h>
*/
import "C"

import "context"

// A Client is a connection to Kubernetes and everything that its sandboxes share.
type Client struct {
	handle    *handle[*C.sbx_client]
	namespace string
	turnstile *turnstile
}

// NewClient makes a client; nil stands for a Config of zero values, whose settings come from the environment. It reads
// the service account or the kubeconfig and asks nothing of the network.
//
// [ErrConfig] if a setting is not allowed, or no way to authenticate was found.
func NewClient(config *Config) (*Client, error) {
	settings, err := config.handle()
	if err != nil {
		return nil, err
	}
	defer C.sbx_config_free(settings)
	var client *C.sbx_client
	if err := invoke(func(err **C.sbx_error) C.sbx_status { return C.sbx_client_new(settings, &client, err) }); err != nil {
		return nil, err
	}
	return &Client{
		handle:    newHandle(client, func(client *C.sbx_client) { C.sbx_client_free(client) }),
		namespace: C.GoString(C.sbx_client_namespace(client)),
		turnstile: newTurnstile(int(C.sbx_client_max_sessions(client))),
	}, nil
}

// Close frees the client. Its sandboxes stay, and handles of them stay usable; with the last of all these its SSH
// sessions are closed. It always returns nil, and is there for io.Closer.
func (c *Client) Close() error {
	c.handle.close()
	return nil
}

// Namespace is the Kubernetes namespace of this client's sandboxes.
func (c *Client) Namespace() string { return c.namespace }

// MaxSessions is how many SSH sessions this client has to one sandbox at most. Further calls wait for their turn.
func (c *Client) MaxSessions() int { return c.turnstile.limit }

// APIRequests is how many HTTP requests this client has sent to the Kubernetes API server; 0 after Close.
func (c *Client) APIRequests() uint64 {
	return get(c.handle, func(client *C.sbx_client) uint64 { return uint64(C.sbx_client_api_requests(client)) })
}

// Create creates a sandbox and waits until it is ready for commands; nil stands for the defaults. A sandbox that fails
// to start is deleted again, and so is one whose context is done before it was returned. The caller deletes it with
// [Sandbox.Delete].
//
// [ErrCreate] with the cluster's verdict; [ErrQuota]; [ErrConflict] if the name is taken; [ErrTimedOut] with the last
// known state; [ErrPermissionDenied] and [ErrUnavailable] from the API server.
func (c *Client) Create(ctx context.Context, spec *Spec) (*Sandbox, error) {
	op := operation{name: "create sandbox"}
	if spec != nil {
		op.sandbox = spec.Name
	}
	given, err := spec.handle()
	if err != nil {
		return nil, err
	}
	// The call may go on after this function.
	shared := newHandle(given, func(given *C.sbx_spec) { C.sbx_spec_free(given) })
	defer shared.close()
	return c.newSandbox(ask(ctx, op, c.handle, func(client *C.sbx_client) (sandbox *C.sbx_sandbox, err error) {
		given, isOpen := shared.borrow()
		if !isOpen {
			return nil, op.stopped(ctx)
		}
		defer shared.giveBack()
		err = invoke(func(err **C.sbx_error) C.sbx_status { return C.sbx_client_create(client, given, &sandbox, err) })
		return sandbox, err
	}, func(sandbox *C.sbx_sandbox) {
		C.sbx_sandbox_delete(sandbox, nil)
		C.sbx_sandbox_free(sandbox)
	}))
}

// Attach makes a handle for the existing sandbox of this name. It takes one API call, or none if the client's cache has
// the sandbox. [ErrNotFound] if there is none.
func (c *Client) Attach(ctx context.Context, name string) (*Sandbox, error) {
	op := operation{name: "attach sandbox", sandbox: name, texts: []string{name}}
	return c.newSandbox(ask(ctx, op, c.handle, func(client *C.sbx_client) (sandbox *C.sbx_sandbox, err error) {
		err = invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_client_attach(client, text(name), &sandbox, err)
		})
		return sandbox, err
	}, func(sandbox *C.sbx_sandbox) { C.sbx_sandbox_free(sandbox) }))
}

// List tells about the sandboxes in the namespace that fit, the oldest first, and those of the same second by name; nil
// is all, whoever owns them. It takes one API call for every 500 that have the filter's owner and labels.
//
// [ErrInvalidArgument] if no Pod can have the owner or a label.
func (c *Client) List(ctx context.Context, which *Filter) ([]*Info, error) {
	op := operation{name: "list sandboxes"}
	given, err := which.handle()
	if err != nil {
		return nil, err
	}
	// The call may go on after this function.
	shared := newHandle(given, func(given *C.sbx_filter) { C.sbx_filter_free(given) })
	defer shared.close()
	return ask(ctx, op, c.handle, func(client *C.sbx_client) (infos []*Info, err error) {
		given, isOpen := shared.borrow()
		if !isOpen {
			return nil, op.stopped(ctx)
		}
		defer shared.giveBack()
		var list *C.sbx_info_list
		if err := invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_client_list(client, given, &list, err)
		}); err != nil {
			return nil, err
		}
		defer C.sbx_info_list_free(list)
		for index := range C.sbx_info_list_count(list) {
			infos = append(infos, newInfo(C.sbx_info_list_at(list, index)))
		}
		return infos, nil
	}, nil)
}

// Reap deletes every sandbox in the namespace that has expired, whoever owns it, without waiting for the end of the
// Pods, and returns their names.
func (c *Client) Reap(ctx context.Context) ([]string, error) {
	op := operation{name: "reap sandboxes"}
	return ask(ctx, op, c.handle, func(client *C.sbx_client) (reaped []string, err error) {
		var names *C.sbx_name_list
		if err := invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_client_reap(client, &names, err)
		}); err != nil {
			return nil, err
		}
		defer C.sbx_name_list_free(names)
		for index := range C.sbx_name_list_count(names) {
			reaped = append(reaped, C.GoString(C.sbx_name_list_at(names, index)))
		}
		return reaped, nil
	}, nil)
}

// DeleteSandbox deletes a sandbox by name: [Client.Attach] and [Sandbox.Delete] in one.
func (c *Client) DeleteSandbox(ctx context.Context, name string) error {
	op := operation{name: "delete sandbox", sandbox: name, texts: []string{name}}
	return tell(ctx, op, c.handle, func(client *C.sbx_client, err **C.sbx_error) C.sbx_status {
		return C.sbx_client_delete_sandbox(client, text(name), err)
	})
}

// ShutdownSandbox is an alias of [Client.DeleteSandbox].
func (c *Client) ShutdownSandbox(ctx context.Context, name string) error {
	op := operation{name: "delete sandbox", sandbox: name, texts: []string{name}}
	return tell(ctx, op, c.handle, func(client *C.sbx_client, err **C.sbx_error) C.sbx_status {
		return C.sbx_client_shutdown_sandbox(client, text(name), err)
	})
}

// ExecuteCommand runs a command line in a sandbox by name: [Client.Attach] and [Sandbox.Execute] in one.
func (c *Client) ExecuteCommand(ctx context.Context, name, line string) (*Output, error) {
	if ctx.Done() != nil {
		return by(ctx, c, name, func(s *Sandbox) (*Output, error) { return s.Execute(ctx, line) })
	}
	op := operation{"run command", name, []string{name, line}, c.turnstile.turns(name)}
	return ask(ctx, op, c.handle, func(client *C.sbx_client) (*Output, error) {
		return collect(name, func(output **C.sbx_output, err **C.sbx_error) C.sbx_status {
			return C.sbx_client_execute_command(client, text(name), text(line), output, err)
		})
	}, nil)
}

// UploadFile copies a local file into a sandbox by name: [Client.Attach] and [Sandbox.UploadFile] in one.
func (c *Client) UploadFile(ctx context.Context, name, local, remote string) (int64, error) {
	if ctx.Done() != nil {
		return by(ctx, c, name, func(s *Sandbox) (int64, error) { return s.UploadFile(ctx, local, remote) })
	}
	op := operation{"upload file", name, []string{name, local, remote}, c.turnstile.turns(name)}
	return ask(ctx, op, c.handle, func(client *C.sbx_client) (int64, error) {
		var size C.uint64_t
		err := invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_client_upload_file(client, text(name), text(local), text(remote), &size, err)
		})
		return int64(size), err
	}, nil)
}

// DownloadFile copies a file out of a sandbox by name: [Client.Attach] and [Sandbox.DownloadFile] in one.
func (c *Client) DownloadFile(ctx context.Context, name, remote, local string) (int64, error) {
	if ctx.Done() != nil {
		return by(ctx, c, name, func(s *Sandbox) (int64, error) { return s.DownloadFile(ctx, remote, local) })
	}
	op := operation{"download file", name, []string{name, local, remote}, c.turnstile.turns(name)}
	return ask(ctx, op, c.handle, func(client *C.sbx_client) (int64, error) {
		var size C.uint64_t
		err := invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_client_download_file(client, text(name), text(remote), text(local), &size, err)
		})
		return int64(size), err
	}, nil)
}

// by does something with a sandbox by name, in a way that can be interrupted.
func by[T any](ctx context.Context, c *Client, name string, use func(*Sandbox) (T, error)) (T, error) {
	sandbox, err := c.Attach(ctx, name)
	if err != nil {
		var none T
		return none, err
	}
	defer sandbox.Close()
	return use(sandbox)
}

// GetSandboxInfo asks Kubernetes about a sandbox by name: one API call. [ErrNotFound] if there is none.
func (c *Client) GetSandboxInfo(ctx context.Context, name string) (*Info, error) {
	op := operation{name: "get sandbox info", sandbox: name, texts: []string{name}}
	return ask(ctx, op, c.handle, func(client *C.sbx_client) (*Info, error) {
		return takeInfo(func(info **C.sbx_info, err **C.sbx_error) C.sbx_status {
			return C.sbx_client_get_sandbox_info(client, text(name), info, err)
		})
	}, nil)
}

// SSHPort is the SSH port of a sandbox by name, from the cache; the configured port for one that the cache does not
// know; 0 after Close.
func (c *Client) SSHPort(name string) int {
	return get(c.handle, func(client *C.sbx_client) int { return int(C.sbx_client_ssh_port(client, text(name))) })
}
