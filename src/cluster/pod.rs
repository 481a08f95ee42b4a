//! What we read out of a Pod. Above this module nothing knows Kubernetes's types.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Pod;

use super::members::MemberState;
use super::names::{
    CLAIM, CONTAINER, EXPIRES_AT, HOST_KEY, MANAGED_BY, MANAGER, NONCE, OWNER, POOL, POOL_SINCE, POOL_SPEC, POOL_STATE,
    POOL_UNTIL, SSH_PORT, SSH_USER,
};
use super::verdict::{self, PodHealth};
use crate::error::{Error, ErrorKind, Result, Verdict, stable_names};
use crate::guest;

/// The phase of a sandbox's Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Accepted by Kubernetes; its container does not run yet.
    Pending,
    /// Its container runs.
    Running,
    /// It stopped with exit code 0: it was told to from outside.
    Succeeded,
    /// It stopped in another way.
    Failed,
    /// Kubernetes does not know the phase, or reports one that this library does not know.
    Unknown,
    /// It is being deleted.
    Terminating,
}

stable_names!(Phase, "phase", {
    Pending => "pending",
    Running => "running",
    Succeeded => "succeeded",
    Failed => "failed",
    Unknown => "unknown",
    Terminating => "terminating",
});

/// Everything we read out of a Pod.
#[derive(Clone, Debug)]
pub(crate) struct PodSnapshot {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) phase: Phase,
    pub(crate) owner: String,
    pub(crate) nonce: String,
    pub(crate) image: String,
    pub(crate) node: Option<String>,
    /// `None` for the cluster's own.
    pub(crate) runtime_class: Option<String>,
    pub(crate) pod_ip: Option<IpAddr>,
    pub(crate) ssh_port: u16,
    pub(crate) ssh_user: String,
    /// The file of the guest, the sandbox's main process.
    pub(crate) guest: String,
    /// In OpenSSH's form, `ssh-ed25519 AAAA…`.
    pub(crate) host_key: Option<String>,
    pub(crate) created_at: Option<SystemTime>,
    /// `None` for never.
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) labels: BTreeMap<String, String>,
    /// What the Pod's status alone says about why it stopped or can't start.
    pub(crate) verdict: Option<Verdict>,
    /// The login key that it was made with, in OpenSSH's form.
    pub(crate) login_key: Option<String>,
    /// If it was made for a pool.
    pub(crate) membership: Option<Membership>,
}

/// What a Pod says about the pool that it was made for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Membership {
    pub(crate) pool: String,
    pub(crate) state: MemberState,
    /// Stands for the spec.
    pub(crate) spec: String,
    /// When the one who made it began to fill the pool.
    pub(crate) since: Option<SystemTime>,
    /// When it has been given up if it is not ready, unless its maker moves that.
    pub(crate) until: Option<SystemTime>,
    /// By which claim it was taken.
    pub(crate) claim: String,
    pub(crate) started_at: Option<SystemTime>,
    pub(crate) active_deadline: Option<u64>,
    /// Since when it runs on a node that Kubernetes does not hear from.
    pub(crate) lost_since: Option<SystemTime>,
}

impl Membership {
    /// Whether it may be claimed by who wants this spec.
    pub(crate) fn is_ready_for(&self, spec: &str) -> bool {
        self.state == MemberState::Ready && self.spec == spec
    }
}

impl PodSnapshot {
    pub(super) fn of(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let labels = meta.labels.clone().unwrap_or_default();
        let annotation = |name: &str| meta.annotations.as_ref().and_then(|all| all.get(name).cloned());
        let spec = pod.spec.as_ref();
        let container = spec.and_then(|spec| {
            spec.containers.iter().find(|container| container.name == CONTAINER).or(spec.containers.first())
        });
        Self {
            name: meta.name.clone().unwrap_or_default(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            phase: phase(pod),
            owner: labels.get(OWNER).cloned().unwrap_or_default(),
            nonce: annotation(NONCE).unwrap_or_default(),
            image: container.and_then(|container| container.image.clone()).unwrap_or_default(),
            node: spec.and_then(|spec| spec.node_name.clone()),
            runtime_class: spec.and_then(|spec| spec.runtime_class_name.clone()),
            pod_ip: address(pod),
            guest: container
                .and_then(|container| container.command.as_ref()?.first().cloned())
                .unwrap_or_else(|| guest::IN_IMAGE.into()),
            ssh_port: annotation(SSH_PORT).and_then(|port| port.parse().ok()).unwrap_or(sandbox_protocol::DEFAULT_PORT),
            ssh_user: annotation(SSH_USER).unwrap_or_else(|| "sandbox".into()),
            host_key: annotation(HOST_KEY),
            created_at: meta.creation_timestamp.as_ref().map(|time| time.0.into()),
            expires_at: annotation(EXPIRES_AT).and_then(|text| time(&text)),
            labels,
            verdict: match verdict::of_pod(pod) {
                PodHealth::Ok => None,
                PodHealth::Waiting(verdict) | PodHealth::Terminal(verdict) => Some(verdict),
            },
            login_key: container.and_then(|container| {
                let words = container.command.as_ref()?;
                words.iter().skip_while(|word| *word != "--key").nth(1).cloned()
            }),
            membership: membership(pod),
        }
    }

    /// The oldest first, those of the same second by name.
    pub(super) fn by_age(&self, other: &Self) -> Ordering {
        (self.created_at, &self.name).cmp(&(other.created_at, &other.name))
    }

    /// Whether a caller sees no difference.
    pub(super) fn looks_like(&self, other: &Self) -> bool {
        let seen = |pod: &Self| {
            let labels = pod.labels.clone();
            (pod.phase, pod.pod_ip, pod.expires_at, pod.ssh_port, labels)
        };
        let texts = |pod: &Self| (pod.image.clone(), pod.node.clone(), pod.ssh_user.clone(), pod.host_key.clone());
        seen(self) == seen(other) && texts(self) == texts(other) && self.verdict == other.verdict
    }

    pub(crate) fn member_state(&self) -> Option<MemberState> {
        self.membership.as_ref().map(|membership| membership.state)
    }
}

fn membership(pod: &Pod) -> Option<Membership> {
    let label = |name: &str| pod.metadata.labels.as_ref()?.get(name);
    let annotation = |name: &str| pod.metadata.annotations.as_ref()?.get(name);
    let status = pod.status.as_ref();
    Some(Membership {
        pool: label(POOL)?.clone(),
        state: MemberState::parse(label(POOL_STATE)?)?,
        spec: label(POOL_SPEC).cloned().unwrap_or_default(),
        since: annotation(POOL_SINCE).and_then(|text| time(text)),
        until: annotation(POOL_UNTIL).and_then(|text| time(text)),
        claim: annotation(CLAIM).cloned().unwrap_or_default(),
        started_at: status.and_then(|status| status.start_time.as_ref()).map(|time| time.0.into()),
        active_deadline: pod
            .spec
            .as_ref()
            .and_then(|spec| spec.active_deadline_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok()),
        lost_since: verdict::lost_since(pod),
    })
}

/// Whether this library made it: another tool may call itself by the same name, but has no owner of ours.
pub(super) fn is_ours(pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.get(MANAGED_BY).is_some_and(|it| it == MANAGER) && labels.contains_key(OWNER))
}

pub(super) fn address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

/// A time as annotations have it: the next whole second, so that nothing expires too early.
pub(crate) fn whole_second(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs() + u64::from(since.subsec_nanos() > 0);
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(time)
}

/// A time as it stands in an annotation: seconds since 1970 as text.
pub(crate) fn time_text(time: SystemTime) -> String {
    whole_second(time).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string()
}

/// A time so much later.
pub(crate) fn after(time: SystemTime, span: Duration) -> Result<SystemTime> {
    time.checked_add(span)
        .map(whole_second)
        .ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "the lifetime ends beyond the clock's range"))
}

fn time(text: &str) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(text.parse().ok()?))
}

fn phase(pod: &Pod) -> Phase {
    if pod.metadata.deletion_timestamp.is_some() {
        return Phase::Terminating;
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match (phase, verdict::exit_code(pod)) {
        (Some("Succeeded"), _) => Phase::Succeeded,
        (Some("Failed"), _) => Phase::Failed,
        // A Pod goes on running as long as any container of it does.
        (_, Some(0)) => Phase::Succeeded,
        (_, Some(_)) => Phase::Failed,
        (Some("Pending") | None, None) => Phase::Pending,
        (Some("Running"), None) => Phase::Running,
        (Some(_), None) => Phase::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_survive_the_annotation() {
        let whole = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        assert_eq!(time_text(whole), "1800000000");
        assert_eq!(time_text(whole + Duration::from_nanos(1)), "1800000001");
        assert_eq!(time(&time_text(whole)), Some(whole));
        for wrong in ["", "never", "-1", "1.5", "99999999999999999999999"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn reads_what_is_there_and_bears_what_is_not() {
        let bare: Pod = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
        let snapshot = PodSnapshot::of(&bare);
        assert_eq!((snapshot.phase, snapshot.ssh_port, snapshot.ssh_user.as_str()), (Phase::Pending, 2222, "sandbox"));
        assert!(!is_ours(&bare));

        let full: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": "a", "namespace": "n", "uid": "u", "creationTimestamp": "2026-01-02T03:04:05Z",
                "labels": {MANAGED_BY: MANAGER, OWNER: "me"},
                "annotations": {SSH_PORT: "2200", SSH_USER: "worker", EXPIRES_AT: "1800000000", HOST_KEY: "ssh-ed25519 A"},
            },
            "spec": {"containers": [{"name": "other"}, {"name": "sandbox", "image": "i"}], "nodeName": "node", "runtimeClassName": "gvisor"},
            "status": {"phase": "Running", "podIP": "10.0.0.7"},
        }))
        .unwrap();
        let snapshot = PodSnapshot::of(&full);
        assert!(is_ours(&full));
        assert_eq!((snapshot.ssh_port, snapshot.ssh_user.as_str(), snapshot.image.as_str()), (2200, "worker", "i"));
        assert_eq!((snapshot.phase, snapshot.owner.as_str()), (Phase::Running, "me"));
        assert_eq!(snapshot.pod_ip, Some([10, 0, 0, 7].into()));
        assert_eq!(snapshot.runtime_class.as_deref(), Some("gvisor"));
        assert_eq!(snapshot.created_at, Some(UNIX_EPOCH + Duration::from_secs(1_767_323_045)));
        assert_eq!(snapshot.verdict, None);
    }
}
