//! Classifies a Pod and its events: healthy, waiting, or terminal.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Event, Pod, PodCondition, PodStatus,
};

use std::time::SystemTime;

use sandbox_protocol::ExitCode;

use super::names::CONTAINER;
use crate::error::{Cause, Error, ErrorKind, Verdict};

/// The health of a Pod by its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PodHealth {
    /// The status shows no problem.
    Ok,
    /// A problem that may be temporary.
    Waiting(Verdict),
    /// It has stopped, or will never start.
    Terminal(Verdict),
}

/// What an event says about its Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EventClass {
    /// The sandbox's container has started.
    Started,
    /// A pull of the image failed for a reason that may be temporary; the number counts the failures in a row.
    PullFailed(Verdict, i32),
    /// A problem that may be temporary.
    Warning(Verdict),
    /// It will never start.
    Terminal(Verdict),
    /// Nothing that matters here.
    Nothing,
}

/// Errors of a registry that a retry does not change.
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
/// Errors of a busy node that pass by themselves.
const PASSING_CONTAINER_ERRORS: [&str; 3] = ["deadline exceeded", "is reserved", "timed out"];
/// A volume whose Secret or ConfigMap is missing is tried this often, half a second, one and two seconds apart.
const MOUNT_ATTEMPTS: i32 = 3;

/// The health of `pod` as its status alone tells it.
pub(super) fn of_pod(pod: &Pod) -> PodHealth {
    let none = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    let deleted = pod.metadata.deletion_timestamp.is_some();
    let phase = status.phase.as_deref().unwrap_or_default();
    let stopped = matches!(phase, "Failed" | "Succeeded");
    if let Some(verdict) = pod_reason(status).filter(|_| stopped || deleted) {
        return PodHealth::Terminal(verdict);
    }
    let ends = containers(pod, status).filter_map(end);
    // These explain a deletion; any other end is its consequence.
    let explains = |verdict: &Verdict| matches!(verdict.cause, Cause::OutOfMemory | Cause::Expired);
    if let Some(verdict) = ends.clone().find(|verdict| !deleted || explains(verdict)) {
        return PodHealth::Terminal(verdict);
    }
    if deleted {
        return PodHealth::Terminal(Verdict::new(Cause::Deleted, "", "the Pod is being deleted"));
    }
    if stopped {
        return PodHealth::Terminal(Verdict::new(Cause::Exited, phase, status.message.as_deref().unwrap_or_default()));
    }
    match containers(pod, status).map(waiting).find(|health| *health != PodHealth::Ok) {
        Some(health) => health,
        None => unschedulable(status).map_or(PodHealth::Ok, PodHealth::Waiting),
    }
}

/// Why nothing can run in it any more. One that is being deleted is used until its container has ended, which nobody
/// reports from a lost node.
pub(super) fn of_end(pod: &Pod) -> Option<Verdict> {
    let PodHealth::Terminal(verdict) = of_pod(pod) else { return None };
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let is_over = !runs(pod) || matches!(phase, Some("Failed" | "Succeeded")) || verdict.cause == Cause::NodeLost;
    is_over.then_some(verdict)
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

/// Since when it runs on a node that Kubernetes does not hear from.
pub(super) fn lost_since(pod: &Pod) -> Option<SystemTime> {
    let unready = |condition: &&PodCondition| condition.type_ == "Ready" && condition.status != "True";
    let condition = pod.status.as_ref()?.conditions.iter().flatten().find(unready).filter(|_| runs(pod))?;
    condition.last_transition_time.as_ref().map(|time| time.0.into())
}

/// Where the Pod stands when nothing is wrong with it: its phase, and what it waits for.
pub(super) fn progress(pod: &Pod) -> Verdict {
    let none = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    let phase = status.phase.as_deref().unwrap_or("Pending");
    let waits = |container: &ContainerStatus| container.state.as_ref().and_then(|state| state.waiting.clone());
    if let Some(waiting) = containers(pod, status).find_map(waits) {
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
pub(super) fn of_event(event: &Event) -> EventClass {
    let message = event.message.as_deref().unwrap_or_default();
    let reason = event.reason.as_deref().unwrap_or_default();
    let field = event.involved_object.field_path.as_deref().unwrap_or_default();
    let times = event.series.as_ref().and_then(|series| series.count).or(event.count).unwrap_or(1);
    let verdict = |cause| Verdict::new(cause, reason, message);
    match reason {
        "Started" if field == format!("spec.containers{{{CONTAINER}}}") => EventClass::Started,
        "Failed" if message.starts_with("Failed to pull image") && concerns_start(field) => {
            let verdict = Verdict::new(Cause::ImagePull, "ErrImagePull", message);
            if is_final_pull_error(message) {
                EventClass::Terminal(verdict)
            } else {
                EventClass::PullFailed(verdict, times)
            }
        }
        "FailedMount" if times >= MOUNT_ATTEMPTS && message.contains("not found") => {
            EventClass::Terminal(verdict(Cause::Configuration))
        }
        // Said of every Pod in a cluster without DNS, whatever becomes of it.
        "MissingClusterDNS" => EventClass::Nothing,
        "NodeNotReady" | "TaintManagerEviction" => EventClass::Warning(verdict(Cause::NodeLost)),
        "Evicted" | "Preempted" => EventClass::Warning(verdict(Cause::Evicted)),
        _ if event.type_.as_deref() == Some("Warning") => EventClass::Warning(verdict(Cause::Pending)),
        _ => EventClass::Nothing,
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

/// The containers whose state decides: the sandbox's own first, then those that must end before it starts. Others come
/// and go, and so do init containers that run beside it (native sidecars).
fn containers<'p>(pod: &'p Pod, status: &'p PodStatus) -> impl Iterator<Item = &'p ContainerStatus> + Clone {
    let is_sidecar = |name: &str| {
        let all = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        all.clone().any(|container| container.name == name && container.restart_policy.as_deref() == Some("Always"))
    };
    let own = status.container_statuses.iter().flatten().filter(|container| container.name == CONTAINER);
    own.chain(status.init_container_statuses.iter().flatten().filter(move |container| !is_sidecar(&container.name)))
}

/// How the sandbox's own container ended: its exit code.
pub(super) fn exit_code(pod: &Pod) -> Option<i32> {
    let status = pod.status.as_ref()?;
    let own = status.container_statuses.iter().flatten().find(|container| container.name == CONTAINER)?;
    Some(own.state.as_ref()?.terminated.as_ref()?.exit_code)
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
    let mut left = terminated.message.as_deref().unwrap_or_default().trim();
    // The guest's own exit code: nothing in the sandbox can make it end with another.
    let code = ExitCode::from_code(terminated.exit_code).filter(|_| name == CONTAINER);
    let cause = match (reason, code) {
        ("OOMKilled", _) => Cause::OutOfMemory,
        ("StartError" | "ContainerCannotRun", _) => Cause::Configuration,
        (_, Some(ExitCode::Expired | ExitCode::Idle)) => Cause::Expired,
        (_, Some(ExitCode::CannotStart)) => Cause::Configuration,
        _ => Cause::Exited,
    };
    match (cause, code) {
        (Cause::Expired, Some(ExitCode::Idle)) => left = "nothing had used it for its idle timeout",
        (Cause::Expired, _) => left = "its lifetime was over",
        // Whatever ran in the sandbox may have.
        (Cause::Exited, _) if name == CONTAINER => left = "",
        _ => {}
    }
    let how = match terminated.signal {
        Some(signal) if signal != 0 => format!("signal {signal}"),
        _ => format!("exit code {}", terminated.exit_code),
    };
    let whose = if name == CONTAINER { String::new() } else { format!("container {name}: ") };
    let separator = if left.is_empty() { "" } else { ": " };
    Verdict::new(cause, reason, format!("{whose}{how}{separator}{left}"))
}

fn waiting(container: &ContainerStatus) -> PodHealth {
    let Some(waiting) = container.state.as_ref().and_then(|state| state.waiting.as_ref()) else { return PodHealth::Ok };
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let message = waiting.message.as_deref().unwrap_or_default();
    match reason {
        "InvalidImageName" | "ErrImageNeverPull" | "SignatureValidationFailed" => {
            PodHealth::Terminal(Verdict::new(Cause::ImagePull, reason, message))
        }
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageInspect" | "RegistryUnavailable" => {
            let verdict = Verdict::new(Cause::ImagePull, reason, message);
            if is_final_pull_error(message) { PodHealth::Terminal(verdict) } else { PodHealth::Waiting(verdict) }
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "PostStartHookError" => {
            let verdict = Verdict::new(Cause::Configuration, reason, message);
            let passes = PASSING_CONTAINER_ERRORS.iter().any(|text| message.contains(text));
            if passes { PodHealth::Waiting(verdict) } else { PodHealth::Terminal(verdict) }
        }
        _ => PodHealth::Ok,
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

    fn health(status: Value) -> PodHealth {
        of_pod(&serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status})).unwrap())
    }

    fn deleted(status: Value) -> PodHealth {
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

    fn terminal(health: PodHealth) -> (Cause, String) {
        match health {
            PodHealth::Terminal(verdict) => (verdict.cause, verdict.to_string()),
            other => panic!("not over: {other:?}"),
        }
    }

    #[test]
    fn sidecars_decide_nothing() {
        let state = |name: &str, state: Value| json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        let failed = |code: i32| json!({"terminated": {"reason": "Error", "exitCode": code}});
        let pod = |own: Value, side: Value| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "a"},
                "spec": {
                    "containers": [{"name": "sandbox"}],
                    "initContainers": [{"name": "side", "restartPolicy": "Always"}],
                },
                "status": {
                    "phase": "Running",
                    "initContainerStatuses": [state("side", side)],
                    "containerStatuses": [state("sandbox", own)],
                },
            }))
            .unwrap()
        };
        let running = json!({"running": {}});
        assert_eq!(of_pod(&pod(running.clone(), failed(1))), PodHealth::Ok);
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        assert_eq!(of_pod(&pod(running, waiting)), PodHealth::Ok);
        let (cause, _) = terminal(of_pod(&pod(failed(82), failed(143))));
        assert_eq!(cause, Cause::Expired);
    }

    #[test]
    fn knows_what_is_over() {
        for (health, cause, text) in [
            (health(waiting("ErrImagePull", "not found")), Cause::ImagePull, "ErrImagePull: not found"),
            (health(waiting("InvalidImageName", "bad")), Cause::ImagePull, "InvalidImageName: bad"),
            (
                health(waiting("CreateContainerConfigError", "secret \"s\" not found")),
                Cause::Configuration,
                "CreateContainerConfigError: secret \"s\" not found",
            ),
            (health(terminated("Error", 81, "no port\n")), Cause::Configuration, "Error: exit code 81: no port"),
            (health(terminated("Completed", 0, "")), Cause::Exited, "Completed: exit code 0"),
            (health(terminated("Error", 137, "expired")), Cause::Exited, "Error: exit code 137"),
            (health(terminated("OOMKilled", 137, "")), Cause::OutOfMemory, "OOMKilled: exit code 137"),
            (
                health(terminated("StartError", 128, "no /bin/sh")),
                Cause::Configuration,
                "StartError: exit code 128: no /bin/sh",
            ),
            (health(terminated("Error", 82, "forged\n")), Cause::Expired, "Error: exit code 82: its lifetime was over"),
            (
                health(terminated("Error", 83, "forged\n")),
                Cause::Expired,
                "Error: exit code 83: nothing had used it for its idle timeout",
            ),
            // Anybody can write the message.
            (health(terminated("Error", 1, "expired\n")), Cause::Exited, "Error: exit code 1"),
            (health(terminated("Error", 81, "no port\n")), Cause::Configuration, "Error: exit code 81: no port"),
            (
                health(json!({"phase": "Failed", "reason": "DeadlineExceeded", "message": "too long"})),
                Cause::DeadlineExceeded,
                "DeadlineExceeded: too long",
            ),
            (
                health(json!({"phase": "Failed", "reason": "Evicted", "message": "disk"})),
                Cause::Evicted,
                "Evicted: disk",
            ),
            (health(json!({"phase": "Failed", "reason": "OutOfcpu"})), Cause::Unschedulable, "OutOfcpu"),
            (health(json!({"phase": "Failed", "reason": "SysctlForbidden"})), Cause::Rejected, "SysctlForbidden"),
            (deleted(json!({"phase": "Running"})), Cause::Deleted, "the Pod is being deleted"),
            // What a deletion does to a container is no cause of its own, unless it explains the deletion.
            (deleted(terminated("Error", 255, "")), Cause::Deleted, "the Pod is being deleted"),
            (deleted(terminated("Error", 82, "")), Cause::Expired, "Error: exit code 82: its lifetime was over"),
            (
                deleted(json!({"phase": "Running", "conditions": [
                    {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "gone"}]})),
                Cause::NodeLost,
                "DeletionByTaintManager: gone",
            ),
        ] {
            assert_eq!(terminal(health), (cause, text.to_owned()));
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
            match health(status) {
                PodHealth::Waiting(verdict) => assert_eq!(verdict.cause, cause),
                other => panic!("does not wait: {other:?}"),
            }
        }
        assert_eq!(health(waiting("ContainerCreating", "")), PodHealth::Ok);
        assert_eq!(health(json!({"phase": "Pending"})), PodHealth::Ok);
        assert_eq!(health(container("Running", json!({"running": {}}))), PodHealth::Ok);
    }

    #[test]
    fn only_the_sandbox_and_what_runs_before_it_decide() {
        let state = |name: &str, code: i32| {
            let ended = json!({"terminated": {"exitCode": code, "reason": "Error"}});
            json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": ended})
        };
        assert_eq!(health(json!({"phase": "Running", "containerStatuses": [state("other", 1)]})), PodHealth::Ok);
        assert_eq!(health(json!({"phase": "Pending", "initContainerStatuses": [state("first", 0)]})), PodHealth::Ok);
        let (cause, text) = terminal(health(json!({"phase": "Pending", "initContainerStatuses": [state("first", 3)]})));
        assert_eq!((cause, text.as_str()), (Cause::Exited, "Error: container first: exit code 3"));
    }

    #[test]
    fn reads_events() {
        let class_of = |kind: &str, reason: &str, message: &str, field: &str, count: i32| {
            of_event(
                &serde_json::from_value(json!({
                    "metadata": {"name": "e"}, "type": kind, "reason": reason, "message": message, "count": count,
                    "involvedObject": {"kind": "Pod", "fieldPath": field},
                }))
                .unwrap(),
            )
        };
        let own = "spec.containers{sandbox}";
        assert_eq!(class_of("Normal", "Started", "Started container", own, 1), EventClass::Started);
        assert_eq!(
            class_of("Normal", "Started", "Started container", "spec.initContainers{sandbox}", 1),
            EventClass::Nothing
        );
        let pull = |why: &str, field: &str, count| {
            class_of("Warning", "Failed", &format!("Failed to pull image \"i\": {why}"), field, count)
        };
        assert!(
            matches!(pull("not found", own, 1), EventClass::Terminal(verdict) if verdict.cause == Cause::ImagePull)
        );
        assert!(matches!(pull("i/o timeout", own, 2), EventClass::PullFailed(_, 2)));
        assert!(matches!(pull("not found", "spec.containers{other}", 1), EventClass::Warning(_)));
        let mount = |count| class_of("Warning", "FailedMount", "secret \"s\" not found", "", count);
        assert!(matches!(mount(1), EventClass::Warning(_)));
        assert!(matches!(mount(3), EventClass::Terminal(verdict) if verdict.cause == Cause::Configuration));
        assert!(matches!(class_of("Warning", "FailedCreatePodSandBox", "no IP", "", 9), EventClass::Warning(_)));
    }
}
