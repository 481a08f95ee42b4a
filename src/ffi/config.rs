//! Settings.

use std::mem::MaybeUninit;

use super::boundary::{self, Text, require};
use super::error::{sbx_error, sbx_status};
use crate::{Config, LogLevel, Result, Transport};

/// How a client reaches Kubernetes and its sandboxes, and how long it waits. Freed with sbx_config_free(); a client
/// copies what it needs of it.
#[derive(Debug)]
pub struct sbx_config(Config);

impl sbx_config {
    pub(super) fn get(&self) -> &Config {
        &self.0
    }

    /// By way of a copy, so that a failure leaves everything as it was.
    fn change(&mut self, change: impl FnOnce(Config) -> Result<Config>) -> Result<()> {
        self.0 = change(self.0.clone())?;
        Ok(())
    }
}

/// The way to a sandbox's SSH server, for sbx_config_set_transport().
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum sbx_transport {
    /// Begins on the tunnel and moves to the Pod's address if that can be reached. Where port-forward is refused or
    /// does not reach into the sandbox, it takes exec instead.
    SBX_TRANSPORT_AUTO = 0,
    /// Straight to the Pod's address. Works inside the cluster's network.
    SBX_TRANSPORT_DIRECT = 1,
    /// Through the API server's port-forward. Works wherever kubectl works.
    SBX_TRANSPORT_TUNNEL = 2,
    /// Through the API server's exec. Works wherever "kubectl exec" works, also under gVisor and Kata. Code in the
    /// sandbox that has the guest's user can end these connections, but not the others.
    SBX_TRANSPORT_EXEC = 3,
}

/// The levels of log lines, for sbx_config_set_log() and sbx_log_set_handler().
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum sbx_log_level {
    /// None at all.
    SBX_LOG_OFF = 0,
    /// Failures that no call can report.
    SBX_LOG_ERROR = 1,
    /// Conditions that may need attention.
    SBX_LOG_WARN = 2,
    /// What the library does: sandboxes created and deleted, connections made.
    SBX_LOG_INFO = 3,
    /// Details for debugging: each request and connection.
    SBX_LOG_DEBUG = 4,
    /// Everything.
    SBX_LOG_TRACE = 5,
}

/// The transports by number.
const TRANSPORTS: &[(i32, Transport)] = &[
    (sbx_transport::SBX_TRANSPORT_AUTO as i32, Transport::Auto),
    (sbx_transport::SBX_TRANSPORT_DIRECT as i32, Transport::Direct),
    (sbx_transport::SBX_TRANSPORT_TUNNEL as i32, Transport::Tunnel),
    (sbx_transport::SBX_TRANSPORT_EXEC as i32, Transport::Exec),
];

/// The log levels by number.
pub(super) const LEVELS: &[(i32, LogLevel)] = &[
    (sbx_log_level::SBX_LOG_OFF as i32, LogLevel::Off),
    (sbx_log_level::SBX_LOG_ERROR as i32, LogLevel::Error),
    (sbx_log_level::SBX_LOG_WARN as i32, LogLevel::Warn),
    (sbx_log_level::SBX_LOG_INFO as i32, LogLevel::Info),
    (sbx_log_level::SBX_LOG_DEBUG as i32, LogLevel::Debug),
    (sbx_log_level::SBX_LOG_TRACE as i32, LogLevel::Trace),
];

/// Makes a configuration with the defaults, whatever the environment says. The caller frees it with sbx_config_free().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_new(
    config: Option<&mut MaybeUninit<*mut sbx_config>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        boundary::write_handle(require(config, "config")?, sbx_config(Config::new()));
        Ok(())
    })
}

/// Makes a configuration from the SANDBOX_ variables of the environment, then from a .env file in the working directory
/// or a directory above it, then from the defaults. The process's environment is not changed. The caller frees it with
/// sbx_config_free().
///
/// A .env file may be part of untrusted code. So SANDBOX_KUBECONFIG, SANDBOX_CONTEXT and SANDBOX_SSH_KEY are refused in
/// it, and a file that another user can write to is ignored.
///
/// SBX_ERR_CONFIG; the message has the variable, its source, its value and the allowed values.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_from_env(
    config: Option<&mut MaybeUninit<*mut sbx_config>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let place = require(config, "config")?;
        Config::from_env().map(|config| boundary::write_handle(place, sbx_config(config)))
    })
}

/// Sets a setting by its name, such as "ssh_port", from text in the form used in the environment, such as "2222". The
/// names are those of the sbx_config_set_ functions.
///
/// SBX_ERR_CONFIG if there is no such setting or the value is not allowed; the message lists the settings or the
/// allowed values.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set(
    config: Option<&mut sbx_config>,
    name: Text,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (name, value) = (name.utf8("name")?, value.utf8("value")?);
        require(config, "config")?.change(|config| config.set(name, value))
    })
}

/// Kubernetes namespace of the sandboxes. Default: the context's or the service account's, else "default".
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_namespace(
    config: Option<&mut sbx_config>,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let value = value.utf8("value")?;
        require(config, "config")?.change(|config| Ok(config.namespace(value)))
    })
}

/// Path of a kubeconfig file. Default: KUBECONFIG, else ~/.kube/config, else the service account of the Pod that this
/// runs in, as kubectl finds them.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_kubeconfig(
    config: Option<&mut sbx_config>,
    path: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let path = path.bytes("path")?;
        require(config, "config")?.change(|config| Ok(config.kubeconfig(path)))
    })
}

/// Context in the kubeconfig. Default: its current context.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_context(
    config: Option<&mut sbx_config>,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let value = value.utf8("value")?;
        require(config, "config")?.change(|config| Ok(config.context(value)))
    })
}

/// Image of new sandboxes whose spec names none.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_image(
    config: Option<&mut sbx_config>,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let value = value.utf8("value")?;
        require(config, "config")?.change(|config| Ok(config.image(value)))
    })
}

/// User name for SSH. Default: "sandbox".
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_ssh_user(
    config: Option<&mut sbx_config>,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let value = value.utf8("value")?;
        require(config, "config")?.change(|config| Ok(config.ssh_user(value)))
    })
}

/// Port of the SSH server in new sandboxes. Default: 2222.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_ssh_port(
    config: Option<&mut sbx_config>,
    port: u16,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(config, "config")?.change(|config| Ok(config.ssh_port(port))))
}

/// Path of an unencrypted ed25519 private key, in OpenSSH's format or PEM (PKCS#8), for processes that share sandboxes.
/// Only the owner may have access to the file (mode 0600). Default: a new key in memory for each client.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_ssh_key(
    config: Option<&mut sbx_config>,
    path: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let path = path.bytes("path")?;
        require(config, "config")?.change(|config| Ok(config.ssh_key(path)))
    })
}

/// The way to the sandboxes: an sbx_transport. Default: SBX_TRANSPORT_AUTO.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_transport(
    config: Option<&mut sbx_config>,
    transport: i32,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let transport = boundary::enum_from_i32(transport, "transport", TRANSPORTS)?;
        require(config, "config")?.change(|config| Ok(config.transport(transport)))
    })
}

/// Label value that names the owner of the sandboxes: at most 63 letters, digits, '-', '_' and '.'. Default: "default".
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_owner(
    config: Option<&mut sbx_config>,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let value = value.utf8("value")?;
        require(config, "config")?.change(|config| Ok(config.owner(value)))
    })
}

/// Seconds until a new sandbox expires; a negative number for never. Default: 3600.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_lifetime(
    config: Option<&mut sbx_config>,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let seconds = boundary::optional_seconds(seconds, "seconds")?;
        require(config, "config")?.change(|config| Ok(config.lifetime(seconds)))
    })
}

/// Seconds for creating a sandbox, including the first login; a negative number for no limit. Default: 300.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_create_timeout(
    config: Option<&mut sbx_config>,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let seconds = boundary::optional_seconds(seconds, "seconds")?;
        require(config, "config")?.change(|config| Ok(config.create_timeout(seconds)))
    })
}

/// Seconds for one SSH connection with login; a negative number for no limit. Default: 30.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_connect_timeout(
    config: Option<&mut sbx_config>,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let seconds = boundary::optional_seconds(seconds, "seconds")?;
        require(config, "config")?.change(|config| Ok(config.connect_timeout(seconds)))
    })
}

/// Seconds for a command that sets none itself; a negative number for no limit. Default: 600.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_command_timeout(
    config: Option<&mut sbx_config>,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let seconds = boundary::optional_seconds(seconds, "seconds")?;
        require(config, "config")?.change(|config| Ok(config.command_timeout(seconds)))
    })
}

/// Seconds for a file transfer; a negative number for no limit. Default: 3600.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_transfer_timeout(
    config: Option<&mut sbx_config>,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let seconds = boundary::optional_seconds(seconds, "seconds")?;
        require(config, "config")?.change(|config| Ok(config.transfer_timeout(seconds)))
    })
}

/// Seconds after which an unused SSH session is closed; a negative number for never. Default: 300.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_idle_timeout(
    config: Option<&mut sbx_config>,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let seconds = boundary::optional_seconds(seconds, "seconds")?;
        require(config, "config")?.change(|config| Ok(config.idle_timeout(seconds)))
    })
}

/// SSH sessions to one sandbox at the same time, 1 to 1000; further callers wait. Default: 16.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_max_sessions(
    config: Option<&mut sbx_config>,
    sessions: usize,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(config, "config")?.change(|config| Ok(config.max_sessions(sessions))))
}

/// Level for sbx_config_init_logging(): an sbx_log_level. Default: SBX_LOG_WARN.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_set_log(
    config: Option<&mut sbx_config>,
    level: i32,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let level = boundary::enum_from_i32(level, "level", LEVELS)?;
        require(config, "config")?.change(|config| Ok(config.log(level)))
    })
}

/// Sends this library's log lines to standard error at the configured level, for the rest of the process's life.
/// Without this and sbx_log_set_handler() the library writes nothing.
///
/// SBX_ERR_CONFIG if this was done before, or if sbx_log_set_handler() has set a function.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_init_logging(
    config: Option<&sbx_config>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(config, "config")?.0.init_logging())
}

/// Frees a configuration.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_config_free(config: Option<Box<sbx_config>>) {
    boundary::free(config);
}
