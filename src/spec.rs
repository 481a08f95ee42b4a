//! What to create.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// The sandbox to create: start from [`SandboxSpec::new`] and change what matters.
///
/// The Pod passes the *restricted* Pod Security Standard unless [`pod_template`](Self::pod_template) says otherwise: it
/// runs as user 1000 without capabilities, privilege escalation or a service account token, with the runtime's seccomp
/// profile and with resource limits.
///
/// ```no_run
/// use std::time::Duration;
/// use sandbox::{Client, SandboxSpec};
///
/// let client = Client::from_env()?;
/// let spec = SandboxSpec::new().env("STAGE", "test").memory("2Gi").lifetime(Duration::from_secs(600));
/// let sandbox = client.create(&spec)?;
/// # Ok::<(), sandbox::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    pub(crate) name: Option<String>,
    pub(crate) image: Option<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) cpu: String,
    pub(crate) cpu_request: String,
    pub(crate) memory: String,
    pub(crate) memory_request: String,
    pub(crate) disk: Option<String>,
    pub(crate) lifetime: Lifetime,
    pub(crate) hard_limit: HardLimit,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) user_from_cluster: bool,
    pub(crate) commands_as: Option<String>,
    pub(crate) runtime_class: Option<String>,
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) unschedulable_grace: Duration,
    pub(crate) pod_template: Option<serde_json::Value>,
}

/// When a new sandbox expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    FromConfig,
    Set(Option<Duration>),
}

/// The cap that `renew` can't move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HardLimit {
    FromLifetime,
    Set(Option<Duration>),
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for SandboxSpec {
    fn default() -> Self {
        Self {
            name: None,
            image: None,
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            cpu: "1".into(),
            cpu_request: "10m".into(),
            memory: "1Gi".into(),
            memory_request: "32Mi".into(),
            disk: None,
            lifetime: Lifetime::FromConfig,
            hard_limit: HardLimit::FromLifetime,
            idle_timeout: None,
            user_from_cluster: false,
            commands_as: None,
            runtime_class: None,
            node_selector: BTreeMap::new(),
            unschedulable_grace: Duration::from_secs(10),
            pod_template: None,
        }
    }
}

impl SandboxSpec {
    /// The defaults: a name made up by the client, the configured image, 1 CPU, 1 GiB of memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Name of the sandbox and of its Pod: at most 63 lower-case letters, digits and `-`. Default: `sandbox-` and 16
    /// random hexadecimal digits.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Image to run: any Linux image for the nodes' architecture, without requirements, since the library brings the
    /// sandbox's main process (see [`Guest`](crate::Guest)). Only [`Sandbox::shell`](crate::Sandbox::shell) and
    /// [`Sandbox::execute`](crate::Sandbox::execute) need a shell in it. Its entry point is not used; commands get its
    /// environment variables, working directory and programs. Default: the configured image.
    ///
    /// If the image or the user lacks one of these, commands get a default: `PATH` as Docker has it; `HOME` as the
    /// user's line in `/etc/passwd` says, else the working directory or the one for temporary files, whichever can be
    /// written, else `/`; `TMPDIR` where `/tmp` can't be written but `/var/tmp` or `/dev/shm` can.
    pub fn image(mut self, image: impl Into<String>) -> Self {
        self.image = Some(image.into());
        self
    }

    /// An environment variable for everything that runs in the sandbox, on top of the image's own.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// A Kubernetes label on the Pod.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// A Kubernetes annotation on the Pod.
    pub fn annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(name.into(), value.into());
        self
    }

    /// The most CPU it may use, as a Kubernetes quantity such as `500m` or `2`. Default: `1`.
    pub fn cpu(mut self, quantity: impl Into<String>) -> Self {
        self.cpu = quantity.into();
        self
    }

    /// The CPU that the scheduler sets aside for it, as a Kubernetes quantity. Default: `10m`.
    pub fn cpu_request(mut self, quantity: impl Into<String>) -> Self {
        self.cpu_request = quantity.into();
        self
    }

    /// The most memory it may use, as a Kubernetes quantity such as `512Mi`; if it uses more, the kernel kills
    /// processes. Default: `1Gi`.
    pub fn memory(mut self, quantity: impl Into<String>) -> Self {
        self.memory = quantity.into();
        self
    }

    /// The memory that the scheduler sets aside for it, as a Kubernetes quantity. Default: `32Mi`.
    pub fn memory_request(mut self, quantity: impl Into<String>) -> Self {
        self.memory_request = quantity.into();
        self
    }

    /// The most disk space that it may write, as a Kubernetes quantity; beyond it the node evicts the Pod. Default:
    /// none.
    pub fn disk(mut self, quantity: impl Into<String>) -> Self {
        self.disk = Some(quantity.into());
        self
    }

    /// Time until the sandbox expires: it stops by itself, and [`Client::reap`](crate::Client::reap) deletes what is
    /// left. [`Sandbox::renew`](crate::Sandbox::renew) moves it. `None` for never. Default: the configured lifetime,
    /// one hour.
    pub fn lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.lifetime = Lifetime::Set(lifetime.into());
        self
    }

    /// Time after which Kubernetes itself stops the Pod (`activeDeadlineSeconds`); no renewal moves it. `None` for
    /// never. Default: 24 hours, or twice the lifetime if that is more; none for a sandbox that never expires.
    pub fn hard_limit(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.hard_limit = HardLimit::Set(limit.into());
        self
    }

    /// Time without use after which the sandbox stops by itself, as when it expires; whole seconds, rounded up. `None`
    /// for never. In use is a sandbox in which a command runs, detached ones too, or of which a file or a connection to
    /// a port is open; and whatever a client asks for, a renewal too, is a use at that moment. An idle SSH connection
    /// is none. The sandbox itself keeps this time, whether its clients are there or not. Of a pool's members it begins
    /// with the claim. Default: never.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// Lets the cluster or the image choose the user and group that the sandbox runs as: the Pod sets none. Needed on
    /// clusters that assign them per namespace, such as OpenShift. Root stays forbidden.
    ///
    /// Default: user and group 1000, whatever the image says.
    pub fn user_from_cluster(mut self) -> Self {
        self.user_from_cluster = true;
        self
    }

    /// Gives commands a user of their own below a guest that runs as root: a name or number that the image's
    /// `/etc/passwd` knows, or numbers of a user and a group such as `1000:1000`. Code in the sandbox then can't even
    /// signal what keeps it, and a limit, a kill or a promise of the guest holds whatever it does. Files, directories
    /// and sockets that this library is asked for are reached as that user too: with its rights, and its ownership of
    /// what is new. [`Command::user`](crate::Command::user) still chooses another one, root as well.
    ///
    /// The Pod then runs as root, with the capabilities `KILL`, `SETGID` and `SETUID` and no others, which the
    /// *restricted* and *baseline* Pod Security Standards refuse. Where it can't be had, since the image has no
    /// such user or the runtime is gVisor, the creation fails with the reason. Default: commands and guest have the
    /// sandbox's user.
    pub fn commands_as(mut self, user: impl Into<String>) -> Self {
        self.commands_as = Some(user.into());
        self
    }

    /// Runtime class, such as `gvisor` or `kata`. Default: the cluster's.
    ///
    /// Kubernetes's port-forward does not reach into the network of gVisor and Kata, so
    /// [`Transport::Tunnel`](crate::Transport) does not work there, the others do. The library logs a warning for each
    /// guarantee that does not hold there.
    pub fn runtime_class(mut self, name: impl Into<String>) -> Self {
        self.runtime_class = Some(name.into());
        self
    }

    /// A label that the node must have.
    pub fn node_selector(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.node_selector.insert(label.into(), value.into());
        self
    }

    /// How long to wait for a Pod that can't be scheduled, so that an autoscaler can add a node. Default: 10 seconds.
    pub fn unschedulable_grace(mut self, grace: Duration) -> Self {
        self.unschedulable_grace = grace;
        self
    }

    /// A Pod in JSON that is merged over the one that this library makes (RFC 7386: objects are merged, everything else
    /// is replaced; the list `containers` is replaced too, except that an entry named `sandbox` is merged). This
    /// reaches every field that Kubernetes has: volumes, tolerations, root, a service account.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the text is not a JSON object.
    pub fn pod_template(mut self, json: &str) -> Result<Self> {
        match serde_json::from_str(json) {
            Ok(template @ serde_json::Value::Object(_)) => {
                self.pod_template = Some(template);
                Ok(self)
            }
            Ok(_) => Err(Error::new(ErrorKind::InvalidArgument, "the Pod template is JSON, but not an object")),
            Err(e) => Err(Error::new(ErrorKind::InvalidArgument, format!("the Pod template is not JSON: {e}"))),
        }
    }

    pub(crate) fn lifetime_or(&self, configured: Option<Duration>) -> Option<Duration> {
        match self.lifetime {
            Lifetime::FromConfig => configured,
            Lifetime::Set(lifetime) => lifetime,
        }
    }

    /// The hard limit for a sandbox of this lifetime.
    pub(crate) fn hard_limit_for(&self, lifetime: Option<Duration>) -> Option<Duration> {
        match self.hard_limit {
            HardLimit::FromLifetime => lifetime.map(|lifetime| DAY.max(lifetime.saturating_mul(2))),
            HardLimit::Set(limit) => limit,
        }
    }
}
