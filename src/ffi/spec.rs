//! What to create.

use std::mem::MaybeUninit;

use super::boundary::{self, Text, require};
use super::error::{sbx_error, sbx_status};
use crate::{Result, SandboxSpec};

/// What to create. Made by sbx_spec_new(), changed by setters, used by sbx_client_create() any number of times. Freed
/// with sbx_spec_free(). Texts are UTF-8, and are copied. Values that Kubernetes does not accept are reported by
/// sbx_client_create(), not by the setters.
#[derive(Debug)]
pub struct sbx_spec(SandboxSpec);

impl sbx_spec {
    pub(super) fn get(&self) -> &SandboxSpec {
        &self.0
    }

    /// By way of a copy, so that a failure leaves everything as it was.
    fn change(&mut self, change: impl FnOnce(SandboxSpec) -> Result<SandboxSpec>) -> Result<()> {
        self.0 = change(self.0.clone())?;
        Ok(())
    }
}

/// Makes a spec with the defaults: a name made up by the client, the configured image, 1 CPU, 1 GiB of memory. The
/// caller frees it with sbx_spec_free().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_new(
    spec: Option<&mut MaybeUninit<*mut sbx_spec>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        boundary::write_handle(require(spec, "spec")?, sbx_spec(SandboxSpec::new()));
        Ok(())
    })
}

/// Name of the sandbox and of its Pod: at most 63 lower-case letters, digits and '-'. Default: "sandbox-" and 16 random
/// hexadecimal digits.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_name(
    spec: Option<&mut sbx_spec>,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let value = value.utf8("value")?;
        require(spec, "spec")?.change(|spec| Ok(spec.name(value)))
    })
}

/// Image to run: any Linux image, without requirements, since the library brings the sandbox's main process (setting
/// "guest"). Its entry point is not used. Default: the configured image.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_image(
    spec: Option<&mut sbx_spec>,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let value = value.utf8("value")?;
        require(spec, "spec")?.change(|spec| Ok(spec.image(value)))
    })
}

/// An environment variable for everything that runs in the sandbox, on top of the image's own.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_env(
    spec: Option<&mut sbx_spec>,
    name: Text,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (name, value) = (name.utf8("name")?, value.utf8("value")?);
        require(spec, "spec")?.change(|spec| Ok(spec.env(name, value)))
    })
}

/// A Kubernetes label on the Pod.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_label(
    spec: Option<&mut sbx_spec>,
    name: Text,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (name, value) = (name.utf8("name")?, value.utf8("value")?);
        require(spec, "spec")?.change(|spec| Ok(spec.label(name, value)))
    })
}

/// A Kubernetes annotation on the Pod.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_annotation(
    spec: Option<&mut sbx_spec>,
    name: Text,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (name, value) = (name.utf8("name")?, value.utf8("value")?);
        require(spec, "spec")?.change(|spec| Ok(spec.annotation(name, value)))
    })
}

/// The most CPU it may use, as a Kubernetes quantity such as "500m" or "2". Default: "1".
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_cpu(
    spec: Option<&mut sbx_spec>,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let value = value.utf8("value")?;
        require(spec, "spec")?.change(|spec| Ok(spec.cpu(value)))
    })
}

/// The CPU that the scheduler sets aside for it, as a Kubernetes quantity. Default: "10m".
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_cpu_request(
    spec: Option<&mut sbx_spec>,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let value = value.utf8("value")?;
        require(spec, "spec")?.change(|spec| Ok(spec.cpu_request(value)))
    })
}

/// The most memory it may use, as a Kubernetes quantity such as "512Mi"; if it uses more, the kernel kills processes.
/// Default: "1Gi".
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_memory(
    spec: Option<&mut sbx_spec>,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let value = value.utf8("value")?;
        require(spec, "spec")?.change(|spec| Ok(spec.memory(value)))
    })
}

/// The memory that the scheduler sets aside for it, as a Kubernetes quantity. Default: "32Mi".
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_memory_request(
    spec: Option<&mut sbx_spec>,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let value = value.utf8("value")?;
        require(spec, "spec")?.change(|spec| Ok(spec.memory_request(value)))
    })
}

/// The most disk space that it may write, as a Kubernetes quantity; beyond it the node evicts the Pod. Default: no
/// limit.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_disk(
    spec: Option<&mut sbx_spec>,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let value = value.utf8("value")?;
        require(spec, "spec")?.change(|spec| Ok(spec.disk(value)))
    })
}

/// Seconds until the sandbox expires: it stops by itself, and sbx_client_reap() deletes what is left.
/// sbx_sandbox_renew() moves it. A negative number for never. Default: the configured lifetime.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_lifetime(
    spec: Option<&mut sbx_spec>,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let seconds = boundary::optional_seconds(seconds, "seconds")?;
        require(spec, "spec")?.change(|spec| Ok(spec.lifetime(seconds)))
    })
}

/// Seconds after which Kubernetes itself stops the Pod; no renewal moves it. A negative number for never. Default: 24
/// hours, or twice the lifetime if that is more; none for a sandbox that never expires.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_hard_limit(
    spec: Option<&mut sbx_spec>,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let seconds = boundary::optional_seconds(seconds, "seconds")?;
        require(spec, "spec")?.change(|spec| Ok(spec.hard_limit(seconds)))
    })
}

/// Seconds without use after which the sandbox stops by itself, as when it expires; whole ones, rounded up. A negative
/// number for never. In use is a sandbox in which a command runs, detached ones too, or of which a file or a connection
/// to a port is open; and whatever a client asks for, a renewal too, is a use at that moment. An idle SSH connection is
/// none. The sandbox itself keeps this time, whether its clients are there or not. Of a pool's members it begins with
/// the claim. Default: never.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_idle_timeout(
    spec: Option<&mut sbx_spec>,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let seconds = boundary::optional_seconds(seconds, "seconds")?;
        require(spec, "spec")?.change(|spec| Ok(spec.idle_timeout(seconds)))
    })
}

/// Lets the cluster or the image choose the user and group that the sandbox runs as: the Pod sets none. Needed on
/// clusters that assign them per namespace, such as OpenShift. Root stays forbidden. Default: user and group 1000,
/// whatever the image says.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_user_from_cluster(
    spec: Option<&mut sbx_spec>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(spec, "spec")?.change(|spec| Ok(spec.user_from_cluster())))
}

/// Gives commands a user of their own below a guest that runs as root: a name or number that the image's /etc/passwd
/// knows, or numbers of a user and a group such as "1000:1000". Files and sockets are reached as that user too. The Pod
/// then runs as root, with the capabilities KILL, SETGID and SETUID and no others, which the restricted and baseline
/// Pod Security Standards refuse. gVisor can't do it. Default: commands and guest have the sandbox's user.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_commands_as(
    spec: Option<&mut sbx_spec>,
    user: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let user = user.utf8("user")?;
        require(spec, "spec")?.change(|spec| Ok(spec.commands_as(user)))
    })
}

/// Runtime class, such as "gvisor" or "kata". Default: the cluster's. The tunnel transport does not work
/// under these two, the others do. The library logs a warning for each guarantee that does not hold there.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_runtime_class(
    spec: Option<&mut sbx_spec>,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let value = value.utf8("value")?;
        require(spec, "spec")?.change(|spec| Ok(spec.runtime_class(value)))
    })
}

/// A label that the node must have.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_node_selector(
    spec: Option<&mut sbx_spec>,
    label: Text,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (label, value) = (label.utf8("label")?, value.utf8("value")?);
        require(spec, "spec")?.change(|spec| Ok(spec.node_selector(label, value)))
    })
}

/// How many seconds to wait for a Pod that can't be scheduled, so that an autoscaler can add a node; not negative.
/// Default: 10.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_unschedulable_grace(
    spec: Option<&mut sbx_spec>,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let seconds = boundary::exact_seconds(seconds, "seconds")?;
        require(spec, "spec")?.change(|spec| Ok(spec.unschedulable_grace(seconds)))
    })
}

/// A Pod in JSON that is merged over the one that this library makes (RFC 7386: objects are merged, everything else is
/// replaced; the list "containers" is replaced too, except that an entry named "sandbox" is merged). This reaches every
/// field that Kubernetes has.
///
/// SBX_ERR_INVALID_ARGUMENT if the text is not a JSON object.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_set_pod_template(
    spec: Option<&mut sbx_spec>,
    json: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let json = json.utf8("json")?;
        require(spec, "spec")?.change(|spec| spec.pod_template(json))
    })
}

/// Frees a spec.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_spec_free(spec: Option<Box<sbx_spec>>) {
    boundary::free(spec);
}
