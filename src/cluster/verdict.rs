//! Judges a Pod and its events: does it do well, does it wait for something, or is it over?

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Event, Pod, PodCondition, PodStatus,
};

use super::pod::CONTAINER;
use crate::error::{Cause, Error, ErrorKind, Verdict};

/// What a Pod can expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing is wrong that the Pod's status tells.
    Fine,
    /// Something hinders it that may still pass.
    Waits(Verdict),
    /// It has stopped, or will never start.
    Over(Verdict),
}

/// What an event tells about its Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// The sandbox's container has started.
    Started,
    /// The image could not be pulled, for the given time in a row, for a reason that may pass.
    PullFailed(Verdict, i32),
    /// Something hinders it that may still pass.
    Warning(Verdict),
    /// It will never start.
    Over(Verdict),
    /// Nothing that matters here.
    Nothing,
}

/// A registry that says one of these will say so again.
const FINAL_PULL_ERRORS: [&str; 11] = [
    "not found",
    "manifest unknown",
    "unauthorized",
    "denied",
    "forbidden",
    "authentication required",
    "no basic auth credentials",
    "invalid reference",
    "no match for platform",
    // An image that has no registry but the node itself.
    "dial tcp 127.0.0.1:",
    "dial tcp [::1]:",
];
/// A busy node says these, and then manages.
const PASSING_CONTAINER_ERRORS: [&str; 3] = ["deadline exceeded", "is reserved", "timed out"];
/// A volume whose Secret or ConfigMap is missing is tried this often, half a second, one and two seconds apart.
const MOUNT_ATTEMPTS: i32 = 3;

/// The fate of `pod` as its status alone tells it.
pub(super) fn of_pod(pod: &Pod) -> Fate {
    let none = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    let deleted = pod.metadata.deletion_timestamp.is_some();
    let phase = status.phase.as_deref().unwrap_or_default();
    let stopped = matches!(phase, "Failed" | "Succeeded");
    if let Some(verdict) = pod_reason(status).filter(|_| stopped || deleted) {
        return Fate::Over(verdict);
    }
    let ends = containers(status).filter_map(end);
    // These explain a deletion; any other end is its consequence.
    let explains = |verdict: &Verdict| matches!(verdict.cause, Cause::OutOfMemory | Cause::Expired);
    if let Some(verdict) = ends.clone().find(|verdict| !deleted || explains(verdict)) {
        return Fate::Over(verdict);
    }
    if deleted {
        return Fate::Over(Verdict::new(Cause::Deleted, "", "the Pod is being deleted"));
    }
    if stopped {
        return Fate::Over(Verdict::new(Cause::Exited, phase, status.message.as_deref().unwrap_or_default()));
    }
    match containers(status).map(waiting).find(|fate| *fate != Fate::Fine) {
        Some(fate) => fate,
        None => unschedulable(status).map_or(Fate::Fine, Fate::Waits),
    }
}

/// Whether the sandbox's container runs, as the status has it.
pub(super) fn runs(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| {
        status.container_statuses.iter().flatten().any(|container| {
            container.name == CONTAINER && container.state.as_ref().is_some_and(|state| state.running.is_some())
        })
    })
}

/// Whether it runs on a node that Kubernetes hears from.
pub(super) fn is_sound(pod: &Pod) -> bool {
    let unready = |condition: &&PodCondition| condition.type_ == "Ready" && condition.status != "True";
    runs(pod) && pod.status.as_ref().is_some_and(|status| status.conditions.iter().flatten().find(unready).is_none())
}

/// Where the Pod stands when nothing is wrong with it: its phase, and what it waits for.
pub(super) fn progress(pod: &Pod) -> Verdict {
    let none = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    let phase = status.phase.as_deref().unwrap_or("Pending");
    let waits = |container: &ContainerStatus| container.state.as_ref().and_then(|state| state.waiting.clone());
    if let Some(waiting) = containers(status).find_map(waits) {
        let reason = waiting.reason.unwrap_or_default();
        return Verdict::new(Cause::Pending, reason, waiting.message.unwrap_or_else(|| format!("the Pod is {phase}")));
    }
    let missing = |condition: &&PodCondition| condition.status == "False";
    match status.conditions.iter().flatten().find(missing) {
        Some(condition) => {
            let reason = condition.reason.as_deref().unwrap_or(&condition.type_);
            let cause = if reason == "Unschedulable" { Cause::Unschedulable } else { Cause::Pending };
            Verdict::new(cause, reason, condition.message.as_deref().unwrap_or(&format!("the Pod is {phase}")))
        }
        None => Verdict::new(Cause::Pending, phase, ""),
    }
}

/// What `event` tells about its Pod.
pub(super) fn of_event(event: &Event) -> Sign {
    let message = event.message.as_deref().unwrap_or_default();
    let reason = event.reason.as_deref().unwrap_or_default();
    let field = event.involved_object.field_path.as_deref().unwrap_or_default();
    let times = event.series.as_ref().and_then(|series| series.count).or(event.count).unwrap_or(1);
    let verdict = |cause| Verdict::new(cause, reason, message);
    match reason {
        "Started" if field == format!("spec.containers{{{CONTAINER}}}") => Sign::Started,
        "Failed" if message.starts_with("Failed to pull image") && concerns_start(field) => {
            let verdict = Verdict::new(Cause::ImagePull, "ErrImagePull", message);
            if is_final_pull_error(message) { Sign::Over(verdict) } else { Sign::PullFailed(verdict, times) }
        }
        "FailedMount" if times >= MOUNT_ATTEMPTS && message.contains("not found") => {
            Sign::Over(verdict(Cause::Configuration))
        }
        // Said of every Pod in a cluster without DNS, whatever becomes of it.
        "MissingClusterDNS" => Sign::Nothing,
        "NodeNotReady" | "TaintManagerEviction" => Sign::Warning(verdict(Cause::NodeLost)),
        "Evicted" | "Preempted" => Sign::Warning(verdict(Cause::Evicted)),
        _ if event.type_.as_deref() == Some("Warning") => Sign::Warning(verdict(Cause::Pending)),
        _ => Sign::Nothing,
    }
}

/// The error of a create that ends with `verdict`.
pub(super) fn create_error(verdict: Verdict) -> Error {
    let (kind, message) = match verdict.cause {
        Cause::ImagePull => (ErrorKind::Create, "the image can't be pulled"),
        Cause::Unschedulable => (ErrorKind::Create, "no node can take the Pod"),
        Cause::Quota => (ErrorKind::Quota, "a quota of the namespace is used up"),
        Cause::Rejected => (ErrorKind::Create, "Kubernetes rejected the Pod"),
        Cause::Configuration => (ErrorKind::Create, "the container can't be set up"),
        Cause::Exited => (ErrorKind::Create, "the container ended by itself"),
        Cause::OutOfMemory => (ErrorKind::Create, "the container ran out of memory"),
        Cause::Evicted => (ErrorKind::Create, "the node evicted the Pod"),
        Cause::DeadlineExceeded => (ErrorKind::Create, "the Pod reached its hard time limit"),
        Cause::Expired => (ErrorKind::Create, "the sandbox expired"),
        Cause::Deleted => (ErrorKind::Create, "the Pod was deleted"),
        Cause::NodeLost => (ErrorKind::Create, "the Pod's node is lost"),
        Cause::Pending => (ErrorKind::Create, "the Pod does not run yet"),
    };
    Error::new(kind, message).with_verdict(verdict)
}

/// The containers whose state decides: those that run before the sandbox's, and its own. Others come and go.
fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> + Clone {
    let own = status.container_statuses.iter().flatten().filter(|container| container.name == CONTAINER);
    status.init_container_statuses.iter().flatten().chain(own)
}

fn concerns_start(field: &str) -> bool {
    field.is_empty() || field.starts_with("spec.initContainers") || field.contains(&format!("{{{CONTAINER}}}"))
}

/// What the Pod as a whole says about its end: the kubelet's word, then that of who asked for it.
fn pod_reason(status: &PodStatus) -> Option<Verdict> {
    let said = status.reason.as_deref().unwrap_or_default();
    let message = status.message.as_deref().unwrap_or_default();
    let cause = match said {
        "" => return disruption(status),
        "DeadlineExceeded" => Cause::DeadlineExceeded,
        "Evicted" | "Preempting" => Cause::Evicted,
        "NodeLost" | "NodeShutdown" | "Shutdown" | "Terminated" => Cause::NodeLost,
        "NodeAffinity" => Cause::Unschedulable,
        other if other.starts_with("OutOf") => Cause::Unschedulable,
        _ => Cause::Rejected,
    };
    Some(Verdict::new(cause, said, message))
}

fn disruption(status: &PodStatus) -> Option<Verdict> {
    let is_target = |condition: &&PodCondition| condition.type_ == "DisruptionTarget" && condition.status == "True";
    let condition = status.conditions.iter().flatten().find(is_target)?;
    let reason = condition.reason.as_deref().unwrap_or_default();
    let cause = match reason {
        "DeletionByTaintManager" | "DeletionByPodGC" => Cause::NodeLost,
        _ => Cause::Evicted,
    };
    Some(Verdict::new(cause, reason, condition.message.as_deref().unwrap_or_default()))
}

fn unschedulable(status: &PodStatus) -> Option<Verdict> {
    let condition = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    Some(Verdict::new(Cause::Unschedulable, "Unschedulable", condition.message.as_deref().unwrap_or_default()))
}

/// How a container ended, if it did and that is the end of the Pod.
fn end(container: &ContainerStatus) -> Option<Verdict> {
    let crashed = |state: &&ContainerState| {
        state.waiting.as_ref().is_some_and(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff"))
    };
    let state = container.state.as_ref()?;
    let last = container.state.as_ref().filter(crashed).and(container.last_state.as_ref());
    let terminated = state.terminated.as_ref().or_else(|| last?.terminated.as_ref())?;
    if terminated.exit_code == 0 && container.name != CONTAINER {
        return None;
    }
    Some(ended(&container.name, terminated))
}

fn ended(name: &str, terminated: &ContainerStateTerminated) -> Verdict {
    let reason = terminated.reason.as_deref().unwrap_or_default();
    let left = terminated.message.as_deref().unwrap_or_default().trim();
    let cause = match reason {
        "OOMKilled" => Cause::OutOfMemory,
        "StartError" | "ContainerCannotRun" => Cause::Configuration,
        _ if left == "expired" => Cause::Expired,
        _ => Cause::Exited,
    };
    let how = match terminated.signal {
        Some(signal) if signal != 0 => format!("signal {signal}"),
        _ => format!("exit code {}", terminated.exit_code),
    };
    let whose = if name == CONTAINER { String::new() } else { format!("container {name}: ") };
    let separator = if left.is_empty() { "" } else { ": " };
    Verdict::new(cause, reason, format!("{whose}{how}{separator}{left}"))
}

fn waiting(container: &ContainerStatus) -> Fate {
    let Some(waiting) = container.state.as_ref().and_then(|state| state.waiting.as_ref()) else { return Fate::Fine };
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let message = waiting.message.as_deref().unwrap_or_default();
    match reason {
        "InvalidImageName" | "ErrImageNeverPull" | "SignatureValidationFailed" => {
            Fate::Over(Verdict::new(Cause::ImagePull, reason, message))
        }
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageInspect" | "RegistryUnavailable" => {
            let verdict = Verdict::new(Cause::ImagePull, reason, message);
            if is_final_pull_error(message) { Fate::Over(verdict) } else { Fate::Waits(verdict) }
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "PostStartHookError" => {
            let verdict = Verdict::new(Cause::Configuration, reason, message);
            let passes = PASSING_CONTAINER_ERRORS.iter().any(|text| message.contains(text));
            if passes { Fate::Waits(verdict) } else { Fate::Over(verdict) }
        }
        _ => Fate::Fine,
    }
}

fn is_final_pull_error(message: &str) -> bool {
    let message = message.to_lowercase();
    FINAL_PULL_ERRORS.iter().any(|text| message.contains(text))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fate(status: Value) -> Fate {
        of_pod(&serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status})).unwrap())
    }

    fn deleted(status: Value) -> Fate {
        let meta = json!({"name": "a", "deletionTimestamp": "2026-01-02T03:04:05Z"});
        of_pod(&serde_json::from_value(json!({"metadata": meta, "status": status})).unwrap())
    }

    /// A status in which the sandbox's container has this state.
    fn container(phase: &str, state: Value) -> Value {
        let status =
            json!({"name": "sandbox", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        json!({"phase": phase, "containerStatuses": [status]})
    }

    fn waiting(reason: &str, message: &str) -> Value {
        container("Pending", json!({"waiting": {"reason": reason, "message": message}}))
    }

    fn terminated(reason: &str, code: i32, message: &str) -> Value {
        container("Failed", json!({"terminated": {"reason": reason, "exitCode": code, "message": message}}))
    }

    fn over(fate: Fate) -> (Cause, String) {
        match fate {
            Fate::Over(verdict) => (verdict.cause, verdict.to_string()),
            other => panic!("not over: {other:?}"),
        }
    }

    #[test]
    fn knows_what_is_over() {
        for (fate, cause, text) in [
            (fate(waiting("ErrImagePull", "not found")), Cause::ImagePull, "ErrImagePull: not found"),
            (fate(waiting("InvalidImageName", "bad")), Cause::ImagePull, "InvalidImageName: bad"),
            (
                fate(waiting("CreateContainerConfigError", "secret \"s\" not found")),
                Cause::Configuration,
                "CreateContainerConfigError: secret \"s\" not found",
            ),
            (fate(terminated("Error", 64, "no sshd\n")), Cause::Exited, "Error: exit code 64: no sshd"),
            (fate(terminated("Completed", 0, "")), Cause::Exited, "Completed: exit code 0"),
            (fate(terminated("OOMKilled", 137, "")), Cause::OutOfMemory, "OOMKilled: exit code 137"),
            (
                fate(terminated("StartError", 128, "no /bin/sh")),
                Cause::Configuration,
                "StartError: exit code 128: no /bin/sh",
            ),
            (fate(terminated("Error", 255, "expired\n")), Cause::Expired, "Error: exit code 255: expired"),
            (
                fate(json!({"phase": "Failed", "reason": "DeadlineExceeded", "message": "too long"})),
                Cause::DeadlineExceeded,
                "DeadlineExceeded: too long",
            ),
            (fate(json!({"phase": "Failed", "reason": "Evicted", "message": "disk"})), Cause::Evicted, "Evicted: disk"),
            (fate(json!({"phase": "Failed", "reason": "OutOfcpu"})), Cause::Unschedulable, "OutOfcpu"),
            (fate(json!({"phase": "Failed", "reason": "SysctlForbidden"})), Cause::Rejected, "SysctlForbidden"),
            (deleted(json!({"phase": "Running"})), Cause::Deleted, "the Pod is being deleted"),
            // What a deletion does to a container is no cause of its own, unless it explains the deletion.
            (deleted(terminated("Error", 255, "")), Cause::Deleted, "the Pod is being deleted"),
            (deleted(terminated("Error", 255, "expired")), Cause::Expired, "Error: exit code 255: expired"),
            (
                deleted(json!({"phase": "Running", "conditions": [
                    {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "gone"}]})),
                Cause::NodeLost,
                "DeletionByTaintManager: gone",
            ),
        ] {
            assert_eq!(over(fate), (cause, text.to_owned()));
        }
    }

    #[test]
    fn knows_what_may_pass() {
        for (status, cause) in [
            (waiting("ErrImagePull", "dial tcp 192.0.2.1:443: i/o timeout"), Cause::ImagePull),
            (waiting("ImagePullBackOff", "429 Too Many Requests"), Cause::ImagePull),
            (waiting("CreateContainerError", "context deadline exceeded"), Cause::Configuration),
            (
                json!({"phase": "Pending", "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}),
                Cause::Unschedulable,
            ),
        ] {
            match fate(status) {
                Fate::Waits(verdict) => assert_eq!(verdict.cause, cause),
                other => panic!("does not wait: {other:?}"),
            }
        }
        assert_eq!(fate(waiting("ContainerCreating", "")), Fate::Fine);
        assert_eq!(fate(json!({"phase": "Pending"})), Fate::Fine);
        assert_eq!(fate(container("Running", json!({"running": {}}))), Fate::Fine);
    }

    #[test]
    fn only_the_sandbox_and_what_runs_before_it_decide() {
        let state = |name: &str, code: i32| {
            let ended = json!({"terminated": {"exitCode": code, "reason": "Error"}});
            json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": ended})
        };
        assert_eq!(fate(json!({"phase": "Running", "containerStatuses": [state("other", 1)]})), Fate::Fine);
        assert_eq!(fate(json!({"phase": "Pending", "initContainerStatuses": [state("first", 0)]})), Fate::Fine);
        let (cause, text) = over(fate(json!({"phase": "Pending", "initContainerStatuses": [state("first", 3)]})));
        assert_eq!((cause, text.as_str()), (Cause::Exited, "Error: container first: exit code 3"));
    }

    #[test]
    fn reads_events() {
        let sign = |kind: &str, reason: &str, message: &str, field: &str, count: i32| {
            of_event(
                &serde_json::from_value(json!({
                    "metadata": {"name": "e"}, "type": kind, "reason": reason, "message": message, "count": count,
                    "involvedObject": {"kind": "Pod", "fieldPath": field},
                }))
                .unwrap(),
            )
        };
        let own = "spec.containers{sandbox}";
        assert_eq!(sign("Normal", "Started", "Started container", own, 1), Sign::Started);
        assert_eq!(sign("Normal", "Started", "Started container", "spec.initContainers{sandbox}", 1), Sign::Nothing);
        let pull = |why: &str, field: &str, count| {
            sign("Warning", "Failed", &format!("Failed to pull image \"i\": {why}"), field, count)
        };
        assert!(matches!(pull("not found", own, 1), Sign::Over(verdict) if verdict.cause == Cause::ImagePull));
        assert!(matches!(pull("i/o timeout", own, 2), Sign::PullFailed(_, 2)));
        assert!(matches!(pull("not found", "spec.containers{other}", 1), Sign::Warning(_)));
        let mount = |count| sign("Warning", "FailedMount", "secret \"s\" not found", "", count);
        assert!(matches!(mount(1), Sign::Warning(_)));
        assert!(matches!(mount(3), Sign::Over(verdict) if verdict.cause == Cause::Configuration));
        assert!(matches!(sign("Warning", "FailedCreatePodSandBox", "no IP", "", 9), Sign::Warning(_)));
    }
}
