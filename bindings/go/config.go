package sandbox

/*
#include <sandbox.h>
*/
import "C"

import "time"

// A Transport is the way to a sandbox's SSH server.
type Transport string

// The ways to a sandbox.
const (
	// Begins on the tunnel and moves to the Pod's address if that can be reached. Where port-forward is refused or does
	// not reach into the sandbox, it takes exec instead.
	TransportAuto Transport = "auto"
	// Straight to the Pod's address. Works inside the cluster's network.
	TransportDirect Transport = "direct"
	// Through the API server's port-forward. Works wherever kubectl works.
	TransportTunnel Transport = "tunnel"
	// Through the API server's exec. Works wherever "kubectl exec" works, also under gVisor and Kata. Code in the
	// sandbox that has the guest's user can end these connections, but not the others.
	TransportExec Transport = "exec"
)

var transports = map[Transport]C.int32_t{
	TransportAuto: C.SBX_TRANSPORT_AUTO, TransportDirect: C.SBX_TRANSPORT_DIRECT, TransportTunnel: C.SBX_TRANSPORT_TUNNEL,
	TransportExec: C.SBX_TRANSPORT_EXEC,
}

// A LogLevel says which lines [Config.InitLogging] lets through.
type LogLevel string

// The levels of log lines.
const (
	// None at all.
	LogOff LogLevel = "off"
	// Failures that no call can report.
	LogError LogLevel = "error"
	// Conditions that may need attention.
	LogWarn LogLevel = "warn"
	// What the library does: sandboxes created and deleted, connections made.
	LogInfo LogLevel = "info"
	// Details for debugging: each request and connection.
	LogDebug LogLevel = "debug"
	// Everything.
	LogTrace LogLevel = "trace"
)

var logLevels = map[LogLevel]C.int32_t{
	LogOff: C.SBX_LOG_OFF, LogError: C.SBX_LOG_ERROR, LogWarn: C.SBX_LOG_WARN,
	LogInfo: C.SBX_LOG_INFO, LogDebug: C.SBX_LOG_DEBUG, LogTrace: C.SBX_LOG_TRACE,
}

// A Config says how a client reaches Kubernetes and its sandboxes, and how long it waits. What has its zero value is
// taken from the SANDBOX_ variables of the environment, then of a .env file in the working directory or above it, then
// from the defaults below. The process's environment is not changed. Durations may be [NoLimit].
//
// A .env file may be part of untrusted code. So SANDBOX_KUBECONFIG, SANDBOX_CONTEXT and SANDBOX_SSH_KEY are refused in
// it, and a file that another user can write to is ignored.
type Config struct {
	// Leaves the environment and .env aside.
	IgnoreEnvironment bool

	// Kubernetes namespace of the sandboxes. Default: the context's or the service account's, else "default".
	Namespace string
	// Path of a kubeconfig file. Default: KUBECONFIG, else ~/.kube/config, else the service account of the Pod that
	// this runs in.
	Kubeconfig string
	// Context in the kubeconfig. Default: its current context.
	Context string
	// Image of new sandboxes whose spec names none.
	Image string
	// User name for SSH. Default: "sandbox".
	SSHUser string
	// Port of the SSH server in new sandboxes. Default: 2222.
	SSHPort uint16
	// Path of an unencrypted ed25519 private key in OpenSSH's format or PEM (PKCS#8), for processes that share sandboxes.
	// Default: a new key in memory for each client.
	SSHKey string
	// The way to the sandboxes. Default: TransportAuto.
	Transport Transport
	// Label value that names the owner of the sandboxes: at most 63 letters, digits, '-', '_' and '.'. Default: "default".
	Owner string
	// Time until a new sandbox expires. Default: an hour.
	Lifetime time.Duration
	// Time for creating a sandbox, up to its first login. Default: 5 minutes.
	CreateTimeout time.Duration
	// Time for one SSH connection with login. Default: 30 seconds.
	ConnectTimeout time.Duration
	// Time for a command that has no timeout itself and whose context has no deadline. Default: 10 minutes.
	CommandTimeout time.Duration
	// Time for each transfer and each call for files. Default: an hour.
	TransferTimeout time.Duration
	// Time after which an unused SSH session is closed. Default: 5 minutes.
	IdleTimeout time.Duration
	// SSH sessions to one sandbox at the same time, 1 to 1000; further callers wait. Default: 16.
	MaxSessions int
	// Level for InitLogging. Default: LogWarn.
	Log LogLevel

	// Settings by their names in the environment, in lower case and without SANDBOX_, as text. They win over the fields
	// above.
	Settings map[string]string
}

// handle makes C's configuration, which the caller frees.
func (c *Config) handle() (*C.sbx_config, error) {
	if c == nil {
		c = &Config{}
	}
	var (
		config *C.sbx_config
		s      settings
	)
	s.do(func(err **C.sbx_error) C.sbx_status {
		if c.IgnoreEnvironment {
			return C.sbx_config_new(&config, err)
		}
		return C.sbx_config_from_env(&config, err)
	})
	s.text("namespace", c.Namespace, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set_namespace(config, value, err)
	})
	s.text("kubeconfig", c.Kubeconfig, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set_kubeconfig(config, value, err)
	})
	s.text("context", c.Context, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set_context(config, value, err)
	})
	s.text("image", c.Image, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set_image(config, value, err)
	})
	s.text("ssh_user", c.SSHUser, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set_ssh_user(config, value, err)
	})
	s.flag(c.SSHPort != 0, func(err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set_ssh_port(config, C.uint16_t(c.SSHPort), err)
	})
	s.text("ssh_key", c.SSHKey, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set_ssh_key(config, value, err)
	})
	s.text("transport", string(c.Transport), func(value *C.char, err **C.sbx_error) C.sbx_status {
		if number, isKnown := transports[c.Transport]; isKnown {
			return C.sbx_config_set_transport(config, number, err)
		}
		return C.sbx_config_set(config, text("transport"), value, err) // which says what is allowed
	})
	s.text("owner", c.Owner, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set_owner(config, value, err)
	})
	s.seconds(c.Lifetime, func(value C.double, err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set_lifetime(config, value, err)
	})
	s.seconds(c.CreateTimeout, func(value C.double, err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set_create_timeout(config, value, err)
	})
	s.seconds(c.ConnectTimeout, func(value C.double, err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set_connect_timeout(config, value, err)
	})
	s.seconds(c.CommandTimeout, func(value C.double, err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set_command_timeout(config, value, err)
	})
	s.seconds(c.TransferTimeout, func(value C.double, err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set_transfer_timeout(config, value, err)
	})
	s.seconds(c.IdleTimeout, func(value C.double, err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set_idle_timeout(config, value, err)
	})
	s.flag(c.MaxSessions != 0, func(err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set_max_sessions(config, C.size_t(c.MaxSessions), err)
	})
	s.text("log", string(c.Log), func(value *C.char, err **C.sbx_error) C.sbx_status {
		if number, isKnown := logLevels[c.Log]; isKnown {
			return C.sbx_config_set_log(config, number, err)
		}
		return C.sbx_config_set(config, text("log"), value, err)
	})
	s.pairs("a setting", c.Settings, func(name, value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_config_set(config, name, value, err)
	})
	if s.err != nil {
		C.sbx_config_free(config)
		return nil, s.err
	}
	return config, nil
}

// InitLogging sends the library's log lines to standard error at the configured level, for the rest of the process's
// life. Without this the library writes nothing. A second time is [ErrConfig].
func (c *Config) InitLogging() error {
	config, err := c.handle()
	if err != nil {
		return err
	}
	defer C.sbx_config_free(config)
	return invoke(func(err **C.sbx_error) C.sbx_status { return C.sbx_config_init_logging(config, err) })
}
