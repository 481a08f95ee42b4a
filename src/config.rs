//! Settings: explicit before the environment before a `.env` file.

use std::env::VarError;
use std::path::PathBuf;
use std::time::Duration;

use crate::dotenv::Dotenv;
use crate::error::{Error, ErrorKind, Result, stable_names};
use crate::guest::Guest;
use crate::logging::{LogLevel, log_to_stderr};

const PREFIX: &str = "SANDBOX_";
/// They choose a cluster, a program to log in with, or a key. A `.env` file may have come with somebody else's code, so
/// it can't.
const NOT_FROM_A_FILE: &[&str] = &["kubeconfig", "context", "ssh_key"];

/// How a client reaches Kubernetes and its sandboxes, and how long it waits.
///
/// [`Config::from_env`] takes what the environment says, then what a `.env` file in the working directory or above it
/// says, then the defaults; a setter called afterwards wins over all three. The process's environment is not changed.
///
/// This table is the one list of all settings. Each is a setter of the same name here, `SANDBOX_` and its name in
/// capitals in the environment and, except for `kubeconfig`, `context` and `ssh_key`, in `.env`, and a name for
/// [`Config::set`].
///
/// | setting | meaning | default |
/// |---|---|---|
/// | `namespace` | Kubernetes namespace of the sandboxes | the context's or the service account's, else `default` |
/// | `kubeconfig` | path of a kubeconfig file | `KUBECONFIG`, else `~/.kube/config`, else the Pod's service account |
/// | `context` | context in the kubeconfig | its current context |
/// | `image` | image of new sandboxes | `localhost/sandbox:dev` |
/// | `ssh_user` | user name for SSH | `sandbox` |
/// | `ssh_port` | port of the SSH server, 1 to 65535; one below 1024 takes a sysctl in the Pod | 2222 |
/// | `ssh_key` | path of an unencrypted ed25519 private key, as `ssh-keygen` writes it or in PEM (PKCS#8) form, for its owner alone | a new key in memory for each client |
/// | `guest` | how the guest, the main process of a sandbox, gets into its Pod: `image`, `volume`, `copy` or `auto`, see [`Guest`] | `auto` |
/// | `guest_image` | the image that has it, for `volume` and `copy` | `localhost/sandbox-guest:dev` |
/// | `transport` | `direct` (Pod address), `tunnel` or `exec` (through the API server), or `auto`, see [`Transport`] | `auto` |
/// | `owner` | label value that tells whose sandboxes these are | `default` |
/// | `lifetime` | seconds until a new sandbox expires, or `none` | 3600 |
/// | `create_timeout` | seconds for creating a sandbox up to its first login, or `none` | 300 |
/// | `connect_timeout` | seconds for one SSH connection with login, or `none` | 30 |
/// | `command_timeout` | seconds for a command, or `none` | 600 |
/// | `transfer_timeout` | seconds for a file transfer, or `none` | 3600 |
/// | `idle_timeout` | seconds until an unused SSH session is closed, or `none` | 300 |
/// | `max_sessions` | SSH sessions to one sandbox at the same time, 1 to 1000; more callers wait | 16 |
/// | `log` | level for [`Config::init_logging`]: `off`, `error`, `warn`, `info`, `debug`, `trace` | `warn` |
///
/// Seconds may have a fraction (`0.5`); zero is not allowed.
///
/// # The `.env` file
///
/// The nearest one counts. Such a file often comes with code that somebody else wrote, so it has limits:
///
/// - `SANDBOX_KUBECONFIG`, `SANDBOX_CONTEXT` and `SANDBOX_SSH_KEY` are refused there: a file can't choose a cluster, a
///   key, or a program, since a kubeconfig may name one to log in with. It can choose the namespace and the image.
/// - Its settings are ignored, with a warning in the log, if it belongs to another user than this one or root, or if
///   every user may write to it. A file that can't be read is ignored as well.
/// - Only lines that set one of these settings matter, each by itself: a value ends with its line. An error in one of
///   them names the file and the line; all other lines may look as they like.
///
/// When a client is made, the log says which file was read.
///
/// # How Kubernetes is found
///
/// As `kubectl` finds it:
///
/// - `kubeconfig` alone if it is set; else the files that `KUBECONFIG` lists, of which some may be missing; else
///   `~/.kube/config`; else, also if these name no context, the service account of the Pod that this runs in. Relative
///   paths in a file count from where it stands.
/// - A `proxy-url` of the kubeconfig is always used. Without one, `HTTPS_PROXY` (`HTTP_PROXY` for a server without TLS)
///   and `NO_PROXY`, or their lower-case forms, decide; a loopback server needs no proxy then.
/// - A login command (`exec`) runs once, and again when its credentials have expired or were refused. It gets the
///   standard input only if that is a terminal and `interactiveMode` allows it, for `IfAvailable` only when the client
///   is made; what is piped into this program stays there. Its standard error is this program's. After five minutes it
///   is killed.
/// - Without TLS no credentials are sent.
///
/// Unlike `kubectl`, a `kubeconfig` that is set and names no context is an error, and so is a context without its
/// cluster; `localhost:8080` is never guessed; and nobody is asked for a user name, so without credentials requests
/// have none. All proxies but SOCKS are asked to `CONNECT`, also for a server without TLS.
///
/// ```
/// use std::time::Duration;
/// use sandbox::Config;
///
/// let config = Config::from_env()?.namespace("ci").command_timeout(Duration::from_secs(60));
/// # Ok::<(), sandbox::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) namespace: Option<String>,
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) context: Option<String>,
    pub(crate) image: String,
    pub(crate) ssh_user: String,
    pub(crate) ssh_port: u16,
    pub(crate) ssh_key: Option<PathBuf>,
    pub(crate) guest: Guest,
    pub(crate) guest_image: String,
    pub(crate) transport: Transport,
    pub(crate) owner: String,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) create_timeout: Option<Duration>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) command_timeout: Option<Duration>,
    pub(crate) transfer_timeout: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_sessions: usize,
    pub(crate) log: LogLevel,
    /// What there is to log about the `.env` file: a logger may come only after this configuration.
    pub(crate) notes: Vec<(log::Level, String)>,
    /// What came from the environment or a file, and from where.
    found: Vec<Told>,
}

/// The way to a sandbox's SSH server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// Begins on the tunnel, which answers before the Pod's address is known, and moves to the address if that can be
    /// reached. Where port-forward is refused or does not reach into the sandbox, and `exec` does, it takes `exec`
    /// instead; the client finds that out once for each runtime class.
    #[default]
    Auto,
    /// Straight to the Pod's address. Works inside the cluster's network. The host key is learned through the API
    /// server, as by `Auto`.
    Direct,
    /// Through the API server's port-forward. Works wherever `kubectl port-forward` works. Takes the rights to
    /// `get` and, from Kubernetes 1.35 on, `create` `pods/portforward`.
    Tunnel,
    /// Through the API server's exec: the guest's program in the sandbox carries the connection over its standard
    /// streams. Works wherever `kubectl exec` works, also under gVisor and Kata, into whose network port-forward does
    /// not reach. Takes the rights to `get` and, from Kubernetes 1.35 on, `create` `pods/exec`. Code in the sandbox
    /// that has the guest's user can end these connections, but not the others.
    Exec,
}

stable_names!(Transport, "transport", {
    Auto => "auto",
    Direct => "direct",
    Tunnel => "tunnel",
    Exec => "exec",
});

/// The image of new sandboxes; the guest is in it.
pub(crate) const DEFAULT_IMAGE: &str = "localhost/sandbox:dev";

/// How a text becomes a setting's value; the error says what is allowed.
type Apply = fn(&mut Config, &str) -> std::result::Result<(), &'static str>;
/// How a setting's value is told; `None` if it has none.
type Tell = fn(&Config) -> Option<String>;
/// Every setting by its name.
const SETTINGS: &[(&str, Apply, Tell)] = &[
    ("namespace", |c, v| text(v).map(|v| c.namespace = Some(v)), |c| c.namespace.clone()),
    ("kubeconfig", |c, v| text(v).map(|v| c.kubeconfig = Some(v.into())), |c| told_path(&c.kubeconfig)),
    ("context", |c, v| text(v).map(|v| c.context = Some(v)), |c| c.context.clone()),
    ("image", |c, v| text(v).map(|v| c.image = v), |c| Some(c.image.clone())),
    ("ssh_user", |c, v| text(v).map(|v| c.ssh_user = v), |c| Some(c.ssh_user.clone())),
    ("ssh_port", |c, v| port(v).map(|v| c.ssh_port = v), |c| Some(c.ssh_port.to_string())),
    ("ssh_key", |c, v| text(v).map(|v| c.ssh_key = Some(v.into())), |c| told_path(&c.ssh_key)),
    ("guest", |c, v| v.parse().map(|v| c.guest = v).map_err(|_| "auto, image, volume or copy"), |c| told(c.guest)),
    ("guest_image", |c, v| text(v).map(|v| c.guest_image = v), |c| Some(c.guest_image.clone())),
    (
        "transport",
        |c, v| v.parse().map(|v| c.transport = v).map_err(|_| "auto, direct, tunnel or exec"),
        |c| told(c.transport),
    ),
    ("owner", |c, v| label(v).map(|v| c.owner = v), |c| Some(c.owner.clone())),
    ("lifetime", |c, v| seconds(v).map(|v| c.lifetime = v), |c| told_seconds(c.lifetime)),
    ("create_timeout", |c, v| seconds(v).map(|v| c.create_timeout = v), |c| told_seconds(c.create_timeout)),
    ("connect_timeout", |c, v| seconds(v).map(|v| c.connect_timeout = v), |c| told_seconds(c.connect_timeout)),
    ("command_timeout", |c, v| seconds(v).map(|v| c.command_timeout = v), |c| told_seconds(c.command_timeout)),
    ("transfer_timeout", |c, v| seconds(v).map(|v| c.transfer_timeout = v), |c| told_seconds(c.transfer_timeout)),
    ("idle_timeout", |c, v| seconds(v).map(|v| c.idle_timeout = v), |c| told_seconds(c.idle_timeout)),
    ("max_sessions", |c, v| sessions(v).map(|v| c.max_sessions = v), |c| Some(c.max_sessions.to_string())),
    (
        "log",
        |c, v| v.to_ascii_lowercase().parse().map(|v| c.log = v).map_err(|_| "off, error, warn, info, debug or trace"),
        |c| told(c.log),
    ),
];

/// A setting that is not the default, and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) place: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            namespace: None,
            kubeconfig: None,
            context: None,
            image: DEFAULT_IMAGE.into(),
            ssh_user: "sandbox".into(),
            ssh_port: sandbox_protocol::DEFAULT_PORT,
            ssh_key: None,
            guest: Guest::Auto,
            guest_image: "localhost/sandbox-guest:dev".into(),
            transport: Transport::Auto,
            owner: "default".into(),
            lifetime: Some(Duration::from_secs(3600)),
            create_timeout: Some(Duration::from_secs(300)),
            connect_timeout: Some(Duration::from_secs(30)),
            command_timeout: Some(Duration::from_secs(600)),
            transfer_timeout: Some(Duration::from_secs(3600)),
            idle_timeout: Some(Duration::from_secs(300)),
            max_sessions: 16,
            log: LogLevel::Warn,
            notes: Vec::new(),
            found: Vec::new(),
        }
    }
}

impl Config {
    /// The defaults, whatever the environment says.
    pub fn new() -> Self {
        Self::default()
    }

    /// The environment, then a `.env` file with the limits told above, then the defaults.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]; the message has the variable, its source, its value and the allowed values.
    pub fn from_env() -> Result<Self> {
        let is_ours = |name: &str| SETTINGS.iter().any(|(setting, ..)| variable(setting) == name);
        // Without a working directory there is no file in it.
        let mut file = std::env::current_dir().map(|here| Dotenv::nearest(&here, is_ours)).unwrap_or_default();
        let mut config = Self { notes: std::mem::take(&mut file.notes), ..Self::default() };
        for (name, apply, tell) in SETTINGS {
            let variable = variable(name);
            let (value, place) = match (std::env::var(&variable), file.take(&variable)) {
                (Ok(value), _) => (value, "the environment".to_owned()),
                (Err(VarError::NotUnicode(_)), _) => {
                    return Err(Error::new(ErrorKind::Config, format!("{variable} in the environment is not UTF-8")));
                }
                (Err(VarError::NotPresent), Some(entry)) if NOT_FROM_A_FILE.contains(name) => {
                    let why =
                        "a .env file can't choose a cluster or a key, since it may have come with somebody else's code";
                    return Err(Error::new(
                        ErrorKind::Config,
                        format!("{variable} is refused in {}: {why}; set it in the environment", entry.place),
                    ));
                }
                (Err(VarError::NotPresent), Some(entry)) => match entry.value {
                    Ok(value) => (value, entry.place),
                    Err(why) => {
                        let message = format!("{variable} in {} can't be understood: {why}", entry.place);
                        return Err(Error::new(ErrorKind::Config, message));
                    }
                },
                (Err(VarError::NotPresent), None) => continue,
            };
            apply(&mut config, &value).map_err(|allowed| {
                Error::new(ErrorKind::Config, format!("{variable} in {place} is {value:?}; it must be {allowed}"))
            })?;
            let value = tell(&config).unwrap_or_default();
            config.found.push(Told { name, value, place: format!("{variable} in {place}") });
        }
        Ok(config)
    }

    /// Sets a setting by its name in the table, from text as it would stand in the environment.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no such setting or the value is not allowed.
    pub fn set(mut self, name: &str, value: &str) -> Result<Self> {
        let Some((_, apply, _)) = SETTINGS.iter().find(|(known, ..)| *known == name) else {
            let names: Vec<_> = SETTINGS.iter().map(|(name, ..)| *name).collect();
            return Err(Error::new(
                ErrorKind::Config,
                format!("there is no setting {name:?}; there are {}", names.join(", ")),
            ));
        };
        match apply(&mut self, value) {
            Ok(()) => Ok(self),
            Err(allowed) => Err(Error::new(ErrorKind::Config, format!("{name} is {value:?}; it must be {allowed}"))),
        }
    }

    /// Kubernetes namespace of the sandboxes.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Path of a kubeconfig file; without one, `KUBECONFIG`, else `~/.kube/config`, else the service account of the Pod
    /// that this runs in.
    pub fn kubeconfig(mut self, path: impl Into<PathBuf>) -> Self {
        self.kubeconfig = Some(path.into());
        self
    }

    /// Context in the kubeconfig.
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// Image of new sandboxes whose spec names none.
    pub fn image(mut self, image: impl Into<String>) -> Self {
        self.image = image.into();
        self
    }

    /// User name for SSH.
    pub fn ssh_user(mut self, user: impl Into<String>) -> Self {
        self.ssh_user = user.into();
        self
    }

    /// Port of the SSH server in new sandboxes.
    pub fn ssh_port(mut self, port: u16) -> Self {
        self.ssh_port = port;
        self
    }

    /// Path of an unencrypted ed25519 private key in OpenSSH's format or PEM (PKCS#8), for processes that share
    /// sandboxes. As with OpenSSH, only the owner may have access to the file (mode 0600).
    pub fn ssh_key(mut self, path: impl Into<PathBuf>) -> Self {
        self.ssh_key = Some(path.into());
        self
    }

    /// How the guest, the main process of a sandbox, gets into its Pod. Default: [`Guest::Auto`].
    pub fn guest(mut self, guest: Guest) -> Self {
        self.guest = guest;
        self
    }

    /// The image that has the guest, for [`Guest::Volume`] and [`Guest::Copy`]. Default: `localhost/sandbox-guest:dev`.
    pub fn guest_image(mut self, image: impl Into<String>) -> Self {
        self.guest_image = image.into();
        self
    }

    /// The way to the sandboxes.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Label value that names the owner of the sandboxes: at most 63 letters, digits, `-`, `_` and `.`.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = owner.into();
        self
    }

    /// Time until a new sandbox expires; `None` for never.
    pub fn lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.lifetime = lifetime.into();
        self
    }

    /// Time for creating a sandbox, up to its first login; `None` for no limit.
    pub fn create_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.create_timeout = timeout.into();
        self
    }

    /// Time for one SSH connection with login; `None` for no limit.
    pub fn connect_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.connect_timeout = timeout.into();
        self
    }

    /// Time for a command that sets none itself; `None` for no limit.
    pub fn command_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.command_timeout = timeout.into();
        self
    }

    /// Time for a file transfer; `None` for no limit.
    pub fn transfer_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.transfer_timeout = timeout.into();
        self
    }

    /// Time after which an unused SSH session is closed; `None` for never.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// SSH sessions to one sandbox at the same time; further callers wait within their own deadline.
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// Level for [`Config::init_logging`].
    pub fn log(mut self, level: LogLevel) -> Self {
        self.log = level;
        self
    }

    /// Sends this library's log lines to standard error at the configured level, for programs that have no logger of
    /// their own. [`set_log_handler`](crate::set_log_handler) sends them elsewhere. Nothing else in the library
    /// installs a logger.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the process has a logger already.
    pub fn init_logging(&self) -> Result<()> {
        log_to_stderr(self.log)
    }

    /// The settings that differ from the defaults.
    pub(crate) fn settings(&self) -> Vec<Told> {
        let default = Self::default();
        let set = SETTINGS.iter().filter_map(|(name, _, tell)| {
            let value = tell(self)?;
            if tell(&default).as_ref() == Some(&value) {
                return None;
            }
            // A setter may have been called since.
            let found = self.found.iter().find(|found| found.name == *name && found.value == value);
            let place = found.map_or_else(|| "the program".to_owned(), |found| found.place.clone());
            Some(Told { name, value, place })
        });
        set.collect()
    }

    /// Checks what the typed setters took as it came.
    pub(crate) fn validate(&self) -> Result<()> {
        let zero = Some(Duration::ZERO);
        let wrong = [
            ("namespace", self.namespace.as_deref() == Some(""), TEXT),
            ("image", self.image.is_empty(), TEXT),
            ("guest_image", self.guest_image.is_empty(), TEXT),
            ("ssh_user", self.ssh_user.is_empty(), TEXT),
            ("ssh_port", self.ssh_port == 0, PORT),
            ("owner", label(&self.owner).is_err(), LABEL),
            ("max_sessions", !(1..=1000).contains(&self.max_sessions), SESSIONS),
            ("lifetime", self.lifetime.is_some_and(|lifetime| lifetime < Duration::from_secs(1)), "one second or more"),
            ("create_timeout", self.create_timeout == zero, SECONDS),
            ("connect_timeout", self.connect_timeout == zero, SECONDS),
            ("command_timeout", self.command_timeout == zero, SECONDS),
            ("transfer_timeout", self.transfer_timeout == zero, SECONDS),
            ("idle_timeout", self.idle_timeout == zero, SECONDS),
        ];
        match wrong.iter().find(|(_, is_wrong, _)| *is_wrong) {
            None => Ok(()),
            Some((name, _, allowed)) => {
                Err(Error::new(ErrorKind::Config, format!("the value of {name} is not allowed; it must be {allowed}")))
            }
        }
    }
}

const TEXT: &str = "a non-empty text";
const PORT: &str = "a port from 1 to 65535";
const LABEL: &str = "at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit";
const SESSIONS: &str = "a number from 1 to 1000";
const SECONDS: &str = "a number of seconds above 0, such as 30 or 0.5, or none";

fn text(value: &str) -> std::result::Result<String, &'static str> {
    if value.is_empty() { Err(TEXT) } else { Ok(value.to_owned()) }
}

fn port(value: &str) -> std::result::Result<u16, &'static str> {
    value.parse().ok().filter(|port| *port > 0).ok_or(PORT)
}

/// A Kubernetes label value.
pub(crate) fn label(value: &str) -> std::result::Result<String, &'static str> {
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    let right = bytes.len() <= 63
        && ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte));
    if right { Ok(value.to_owned()) } else { Err(LABEL) }
}

fn sessions(value: &str) -> std::result::Result<usize, &'static str> {
    value.parse().ok().filter(|n| (1..=1000).contains(n)).ok_or(SESSIONS)
}

fn seconds(value: &str) -> std::result::Result<Option<Duration>, &'static str> {
    if value == "none" {
        return Ok(None);
    }
    let seconds: f64 = value.parse().map_err(|_| SECONDS)?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(Some(duration)),
        _ => Err(SECONDS),
    }
}

fn told(value: impl std::fmt::Display) -> Option<String> {
    Some(value.to_string())
}

fn told_path(path: &Option<PathBuf>) -> Option<String> {
    path.as_ref().map(|path| path.display().to_string())
}

fn told_seconds(span: Option<Duration>) -> Option<String> {
    Some(span.map_or_else(|| "none".into(), |span| span.as_secs_f64().to_string()))
}

/// The name of a setting in the environment.
fn variable(setting: &str) -> String {
    format!("{PREFIX}{}", setting.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_documented_once() {
        let source = include_str!("config.rs");
        for (name, ..) in SETTINGS {
            assert_eq!(source.matches(&format!("/// | `{name}` |")).count(), 1, "{name} in the table of Config");
            assert_eq!(source.matches(&format!("pub fn {name}(mut self")).count(), 1, "setter for {name}");
        }
        assert_eq!(source.matches("\n/// | `").count(), SETTINGS.len());
    }

    #[test]
    fn says_what_is_allowed() {
        for (name, value, allowed) in [
            ("ssh_port", "0", PORT),
            ("ssh_port", "65536", PORT),
            ("create_timeout", "0", SECONDS),
            ("create_timeout", "-1", SECONDS),
            ("create_timeout", "nan", SECONDS),
            ("create_timeout", "1e300", SECONDS),
            ("transport", "carrier pigeon", "auto, direct, tunnel or exec"),
            ("owner", "-me", LABEL),
            ("max_sessions", "0", SESSIONS),
            ("namespace", "", TEXT),
        ] {
            let message = Config::new().set(name, value).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(allowed), "{message}");
            assert!(message.contains(&format!("{value:?}")), "{message}");
        }
        assert!(Config::new().set("colour", "red").unwrap_err().to_string().contains("ssh_port"));
    }

    #[test]
    fn typed_setters_are_checked_too() {
        assert!(Config::new().validate().is_ok());
        for wrong in [
            Config::new().ssh_port(0),
            Config::new().max_sessions(0),
            Config::new().connect_timeout(Duration::ZERO),
            Config::new().owner("no spaces"),
            Config::new().image(""),
        ] {
            assert_eq!(wrong.validate().unwrap_err().kind(), ErrorKind::Config);
        }
    }

    #[test]
    fn none_means_no_limit() {
        let config = Config::new().set("command_timeout", "none").unwrap().set("idle_timeout", "0.5").unwrap();
        assert_eq!((config.command_timeout, config.idle_timeout), (None, Some(Duration::from_millis(500))));
    }
}
