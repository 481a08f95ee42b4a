//! The life of sandboxes: create, fail fast, attach, renew, expire, reap, delete.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use common::{
    Guarded, Namespace, await_that, client, client_over, config, create, create_from, example, gated_pod,
    guest_process, kubectl, kubectl_with_input, pods, processes, steady_transports, transports, unique,
};
use sandbox::{Cause, Claim, Client, Config, Error, ErrorKind, Phase, PoolOptions, Sandbox, SandboxSpec, Transport};

#[test]
fn a_whole_life() {
    for &transport in transports() {
        let client = client_over(transport);
        let spec = SandboxSpec::new().label("team", "blue").annotation("note", "a test").memory("256Mi").cpu("500m");
        let sandbox = client.create_sandbox(&spec).unwrap();
        let name = sandbox.name().to_owned();
        let timings = sandbox.timings().unwrap();
        assert!(timings.accepted <= timings.started && timings.started <= timings.logged_in);

        assert_eq!(client.execute_command(&name, "echo hi").unwrap().stdout, b"hi\n");
        let info = client.get_sandbox_info(&name).unwrap();
        assert_eq!((info.name.as_str(), info.uid.as_str(), info.owner.as_str()), (&*name, sandbox.uid(), "default"));
        assert_eq!((info.ssh_port, info.ssh_user.as_str(), info.labels["team"].as_str()), (2222, "sandbox", "blue"));
        assert!(info.expires_at.unwrap() > SystemTime::now() && info.created_at.unwrap() <= SystemTime::now());
        assert_eq!((client.ssh_port(&name), client.ssh_port("unknown")), (2222, 2222));
        await_that("the Pod's status to say what the library knew before", || {
            let info = sandbox.info().unwrap();
            info.phase == Phase::Running && info.pod_ip.is_some() && info.host_key == sandbox.host_key()
        });
        assert!(client.list().unwrap().iter().any(|one| one.name == name));

        let began = Instant::now();
        client.shutdown_sandbox(&name).unwrap();
        assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
        assert_eq!(pods("team=blue").iter().filter(|one| **one == name).count(), 0);
        assert_eq!(client.delete_sandbox(&name).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(client.execute_command(&name, "true").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(sandbox.execute("true").unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(sandbox.info().unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(sandbox.delete().unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn a_guard_deletes_its_sandbox_unless_told_to_keep_it() {
    let client = client();
    let create = || client.create(&SandboxSpec::new()).unwrap().delete_on_drop();
    let is_gone = |name: &str| client.get_sandbox_info(name).is_err_and(|e| e.kind() == ErrorKind::NotFound);
    // In the middle of a panic, too.
    let mut name = String::new();
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let sandbox = create();
        name = sandbox.name().to_owned();
        assert!(!sandbox.execute("true").unwrap().status.success(), "this fails");
    }));
    assert!(unwound.is_err() && is_gone(&name));

    let sandbox = create();
    name = sandbox.name().to_owned();
    sandbox.delete().unwrap();
    assert!(is_gone(&name));

    let kept = Guarded(create().keep());
    assert!(kept.execute("true").unwrap().status.success());
}

#[test]
fn a_name_is_taken_once() {
    let client = client();
    let name = format!("named-{}", unique());
    let spec = SandboxSpec::new().name(&name);
    let sandbox = create_from(&client, &spec);
    assert_eq!(sandbox.name(), name);
    let error = client.create(&spec).unwrap_err();
    assert_eq!((error.kind(), error.sandbox()), (ErrorKind::Conflict, Some(&*name)));
    // The one that is there was not touched.
    assert!(sandbox.execute("true").unwrap().status.success());
    for wrong in ["", "Capital", "under_score", &"x".repeat(64)] {
        let error = client.create(&SandboxSpec::new().name(wrong)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong}: {error}");
    }
}

#[test]
fn another_client_attaches_by_name() {
    for &transport in transports() {
        let sandbox = create(&client());
        sandbox.files().write("shared", "seen by both").unwrap();
        let other = client_over(transport);
        let attached = other.attach(sandbox.name()).unwrap();
        assert_eq!(attached.execute("cat shared").unwrap().stdout, b"seen by both");
        assert_eq!(attached.host_key(), sandbox.host_key());
        assert_eq!((attached.uid(), attached.timings()), (sandbox.uid(), None));
        assert_eq!(other.attach("no-such-sandbox").unwrap_err().kind(), ErrorKind::NotFound);
    }
}

/// Creates what can't start; the error must come soon, have the cause, and leave no Pod.
fn fails(client: &Client, spec: SandboxSpec, kind: ErrorKind, cause: Cause) -> Error {
    let label = unique();
    let began = Instant::now();
    let error = client.create(&spec.label("doomed", &label)).unwrap_err();
    let took = began.elapsed();
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(error.verdict().map(|verdict| verdict.cause), Some(cause), "{error}");
    assert!(took < Duration::from_secs(45), "{took:?}: {error}");
    assert!(error.operation() == "create sandbox" && error.sandbox().is_some(), "{error}");
    await_that("the Pod to go", || pods(&format!("doomed={label}")).is_empty());
    println!("{took:?}: {error}");
    error
}

#[test]
fn an_image_that_does_not_exist() {
    let spec = SandboxSpec::new().image("localhost/no/such/image:1");
    let error = fails(&client(), spec, ErrorKind::Create, Cause::ImagePull);
    assert!(error.to_string().contains("no/such/image"), "{error}");
    let error = fails(&client(), SandboxSpec::new().image("Not An Image"), ErrorKind::Create, Cause::ImagePull);
    assert!(error.to_string().contains("InvalidImageName"), "{error}");
}

#[test]
fn a_pod_that_fits_no_node() {
    let spec = SandboxSpec::new().cpu("1000").cpu_request("1000").unschedulable_grace(Duration::from_millis(500));
    let error = fails(&client(), spec, ErrorKind::Create, Cause::Unschedulable);
    assert!(error.to_string().contains("Insufficient cpu"), "{error}");
    let spec = SandboxSpec::new().node_selector("no", "where").unschedulable_grace(Duration::ZERO);
    fails(&client(), spec, ErrorKind::Create, Cause::Unschedulable);
}

#[test]
fn a_quota_that_is_used_up() {
    // A namespace of its own: the quota would hinder the other tests.
    let namespace = Namespace::new("quota");
    namespace.kubectl(&["create", "quota", "none", "--hard=pods=0"]);
    let client = Client::new(config().namespace(namespace.name())).unwrap();
    await_that("the quota to count", || {
        namespace.kubectl(&["get", "quota", "none", "-o", "jsonpath={.status.used.pods}"]) == "0"
    });
    let error = client.create(&SandboxSpec::new()).unwrap_err();
    assert_eq!((error.kind(), error.verdict().unwrap().cause), (ErrorKind::Quota, Cause::Quota), "{error}");
    assert!(error.to_string().contains("exceeded quota") && error.http_status() == Some(403), "{error}");
}

#[test]
fn a_pod_that_admission_rejects() {
    let template = r#"{"spec": {"containers": [
        {"name": "sandbox", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]}}"#;
    let spec = SandboxSpec::new().pod_template(template).unwrap();
    let error = fails(&client(), spec, ErrorKind::Create, Cause::Rejected);
    assert!(error.to_string().contains("PodSecurity") && error.http_status() == Some(403), "{error}");
    let spec = SandboxSpec::new().pod_template(r#"{"spec": {"misspelt": 1}}"#).unwrap();
    let error = fails(&client(), spec, ErrorKind::Create, Cause::Rejected);
    assert!(error.to_string().contains("misspelt"), "{error}");
}

#[test]
fn a_container_that_exits_at_once() {
    // The guest ends with a message where it may not listen on its port.
    let client = Client::new(config().ssh_port(80)).unwrap();
    let template = r#"{"spec": {"securityContext": {"sysctls": null}}}"#;
    let spec = SandboxSpec::new().pod_template(template).unwrap();
    let error = fails(&client, spec, ErrorKind::Create, Cause::Configuration);
    assert!(error.to_string().contains("exit code 81: port 80 can't be listened on: Permission denied"), "{error}");
}

#[test]
fn a_create_that_takes_too_long_says_where_it_stood() {
    let client = Client::new(config().create_timeout(Duration::from_secs(10))).unwrap();
    let spec = SandboxSpec::new().node_selector("no", "where").unschedulable_grace(Duration::from_secs(60));
    let error = fails(&client, spec, ErrorKind::TimedOut, Cause::Unschedulable);
    assert!(error.to_string().contains("didn't match Pod's node affinity/selector"), "{error}");
}

#[test]
fn a_namespace_that_does_not_exist() {
    let client = Client::new(config().namespace("no-such-namespace")).unwrap();
    let error = client.create(&SandboxSpec::new()).unwrap_err();
    assert!(error.to_string().contains("no-such-namespace"), "{error}");
    assert_eq!(error.http_status(), Some(404));
    assert!(client.list().unwrap().is_empty());
}

/// A client of this namespace: what one test reaps is no other's then.
fn client_in(namespace: &Namespace) -> Client {
    Client::new(config().namespace(namespace.name())).unwrap()
}

#[test]
fn an_expired_sandbox_stops_by_itself_and_is_reaped() {
    let namespace = Namespace::new("expired");
    let client = client_in(&namespace);
    // It counts from before the creation.
    let sandbox = client.create(&SandboxSpec::new().lifetime(Duration::from_secs(30))).unwrap();
    let name = sandbox.name();
    let stranger = client_in(&namespace).attach(name).unwrap();
    await_that("the sandbox to stop", || sandbox.info().unwrap().phase == Phase::Failed);
    assert_eq!(sandbox.info().unwrap().verdict.unwrap().cause, Cause::Expired);
    // The stranger's key was never there.
    for one in [&sandbox, &stranger] {
        let error = one.execute("true").unwrap_err();
        assert_eq!(error.verdict().map(|verdict| verdict.cause), Some(Cause::Expired), "{error}");
    }
    assert!(client.reap().unwrap().iter().any(|reaped| reaped == name));
    // Attaching may be answered from the cache.
    await_that("the Pod to go", || client.get_sandbox_info(name).is_err_and(|e| e.kind() == ErrorKind::NotFound));
}

#[test]
fn renewing_moves_the_expiry_both_ways() {
    let namespace = Namespace::new("renewed");
    let client = client_in(&namespace);
    let sandbox = client.create(&SandboxSpec::new().lifetime(Duration::from_secs(40))).unwrap();
    let expiry = sandbox.renew(Duration::from_secs(300)).unwrap();
    assert_eq!(sandbox.info().unwrap().expires_at, Some(expiry));
    let old_end = SystemTime::now() + Duration::from_secs(46);
    await_that("the old expiry to pass", || SystemTime::now() > old_end);
    assert!(sandbox.execute("true").unwrap().status.success());
    assert!(!client.reap().unwrap().iter().any(|reaped| reaped == sandbox.name()));
    sandbox.renew(Duration::from_secs(1)).unwrap();
    await_that("the sandbox to stop", || sandbox.info().unwrap().phase == Phase::Failed);
    assert_eq!(sandbox.renew(Duration::ZERO).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn the_pod_is_as_the_design_says() {
    let client = client();
    let sandbox = create_from(&client, &SandboxSpec::new().lifetime(Duration::from_secs(120)));
    let field = |path: &str| kubectl(&["get", "pod", sandbox.name(), "-o", &format!("jsonpath={path}")]);
    assert_eq!(field("{.spec.activeDeadlineSeconds}"), "86400");
    assert_eq!(field("{.spec.terminationGracePeriodSeconds}"), "1");
    assert_eq!(field("{.spec.automountServiceAccountToken}"), "false");
    assert_eq!(field("{.metadata.labels.app\\.kubernetes\\.io/managed-by}"), "sandbox");
    assert_eq!(field("{.metadata.labels.sandbox/owner}"), "default");
    assert_eq!(field("{.spec.containers[0].resources.limits}"), r#"{"cpu":"1","memory":"1Gi"}"#);
    let id = sandbox.execute("id -u; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status").unwrap();
    let expected = "1000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";
    assert_eq!(id.stdout_text(), expected);
    let forever = create_from(&client, &SandboxSpec::new().lifetime(None));
    assert_eq!(forever.info().unwrap().expires_at, None);
    assert_eq!(kubectl(&["get", "pod", forever.name(), "-o", "jsonpath={.spec.activeDeadlineSeconds}"]), "");
}

#[test]
fn a_template_reaches_every_field_of_the_pod() {
    let client = client();
    let template = r#"{"metadata": {"labels": {"from": "template"}},
                       "spec": {"hostname": "templated", "containers": [
                          {"name": "sandbox", "env": [{"name": "FROM_TEMPLATE", "value": "yes"}]}]}}"#;
    let sandbox = create_from(&client, &SandboxSpec::new().pod_template(template).unwrap());
    assert_eq!(sandbox.execute("uname -n; echo $FROM_TEMPLATE").unwrap().stdout, b"templated\nyes\n");
    assert_eq!(sandbox.info().unwrap().labels["from"], "template");
    let error = SandboxSpec::new().pod_template("[]").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_process_killed_in_the_middle_of_creates_leaves_nothing_that_reap_does_not_find() {
    let namespace = Namespace::new("crash");
    let pods = || namespace.kubectl(&["get", "pods", "-o", "name"]).lines().count();
    let mut creator = Command::new(example("create_many"))
        .args(["10"])
        .env("SANDBOX_NAMESPACE", namespace.name())
        .env("SANDBOX_LIFETIME", "10")
        .spawn()
        .unwrap();
    await_that("some of ten Pods to be there", || pods() >= 3);
    creator.kill().unwrap();
    creator.wait().unwrap();
    let client = client_in(&namespace);
    await_that("reap to leave nothing", || {
        client.reap().unwrap();
        pods() == 0
    });
}

#[test]
fn a_death_names_its_cause() {
    for &transport in transports() {
        let client = client_over(transport);
        let sandbox = create(&client);
        sandbox.execute("true").unwrap();
        let name = sandbox.name().to_owned();
        let stranger = client_over(transport).attach(&name).unwrap();
        let error = std::thread::scope(|scope| {
            let running = scope.spawn(|| sandbox.execute("touch here; sleep 60"));
            await_that("the command to run", || sandbox.execute("test -e here").unwrap().status.success());
            kubectl(&["delete", "pod", &name, "--grace-period=1", "--wait=false"]);
            running.join().unwrap().unwrap_err()
        });
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        assert_eq!(error.verdict().map(|verdict| verdict.cause), Some(Cause::Deleted), "{error}");
        await_that("the Pod to go", || stranger.info().is_err_and(|e| e.kind() == ErrorKind::NotFound));
        let error = stranger.execute("true").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

#[test]
fn a_successor_of_the_same_name_is_found() {
    let client = client();
    let spec = SandboxSpec::new().name(format!("again-{}", unique()));
    let first = create_from(&client, &spec);
    let name = first.name().to_owned();
    first.execute("true").unwrap();
    kubectl(&["delete", "pod", &name, "--grace-period=1"]);
    let second = Guarded(Client::new(Config::from_env().unwrap()).unwrap().create(&spec).unwrap());
    // The handle stays with its Pod, the name goes to the new one.
    assert_eq!(first.execute("true").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(client.execute_command(&name, "true").unwrap().status.success());
    assert_eq!(client.attach(&name).unwrap().uid(), second.uid());
}

/// What the first call must say. The end of a connection comes through the API server late: what was sent into it
/// meanwhile may have run.
fn says_deleted_at_first(transport: Transport, error: &Error) {
    match error.kind() {
        ErrorKind::OutcomeUnknown if transport != Transport::Direct => {
            assert_eq!(error.verdict().map(|verdict| verdict.cause), Some(Cause::Deleted), "{error}");
        }
        _ => says_deleted(error),
    }
}

/// What a call must say of a sandbox that somebody else has deleted.
fn says_deleted(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(error.verdict().map(|verdict| verdict.cause), Some(Cause::Deleted), "{error}");
    assert!(!error.is_retryable(), "{error}");
}

#[test]
fn a_sandbox_that_somebody_else_deleted_is_forgotten() {
    for &transport in transports() {
        let client = client_over(transport);
        let sandbox = create(&client);
        sandbox.execute("true").unwrap();
        let name = sandbox.name().to_owned();
        kubectl(&["delete", "pod", &name, "--grace-period=1"]);
        says_deleted_at_first(transport, &sandbox.execute("true").unwrap_err());
        says_deleted(&sandbox.execute("true").unwrap_err());
        says_deleted(&sandbox.files().read("/etc/passwd").unwrap_err());
        says_deleted(&sandbox.connect(80).unwrap_err());
        // Not from the cache any more.
        assert_eq!(client.attach(&name).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

/// A Pod that stays when it is deleted, until its finalizer is taken off.
struct Held(String);

impl Held {
    /// It has this much more in its specification.
    fn new(client: &Client, spec: &serde_json::Value) -> (Self, Guarded) {
        let template = serde_json::json!({"metadata": {"finalizers": ["example.com/hold"]}, "spec": spec});
        let spec = SandboxSpec::new().pod_template(&template.to_string()).unwrap();
        let sandbox = create_from(client, &spec);
        (Self(sandbox.name().to_owned()), sandbox)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        kubectl(&["patch", "pod", &self.0, "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    }
}

#[test]
fn a_sandbox_that_is_being_deleted_is_used_to_its_end() {
    for &transport in transports() {
        let client = client_over(transport);
        // The guest is told to end once the file is there.
        let wait = ["sh", "-c", "until test -e /tmp/enough; do sleep 0.1; done"];
        let container = serde_json::json!({"name": "sandbox", "lifecycle": {"preStop": {"exec": {"command": wait}}}});
        let spec = serde_json::json!({"terminationGracePeriodSeconds": 60, "containers": [container]});
        let (held, sandbox) = Held::new(&client, &spec);
        let name = sandbox.name();
        kubectl(&["delete", "pod", name, "--wait=false", "--grace-period=60"]);
        assert_eq!(sandbox.info().unwrap().phase, Phase::Terminating);
        assert!(client.list().unwrap().iter().any(|one| one.name == name && one.phase == Phase::Terminating));
        // From the cache, and by asking.
        let calls = client.stats().api_requests;
        let cached = client.attach(name).unwrap();
        assert_eq!(client.stats().api_requests, calls);
        let attached = client_over(transport).attach(name).unwrap();
        for handle in [&cached, &attached] {
            assert!(handle.execute("true").unwrap().status.success());
        }
        cached.files().write("/tmp/enough", "").unwrap();
        let end = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
        await_that("the guest to end", || !kubectl(&["get", "pod", name, "-o", end]).is_empty());
        for handle in [&cached, &attached] {
            says_deleted_at_first(transport, &handle.execute("true").unwrap_err());
            for _ in 0..2 {
                says_deleted(&handle.execute("true").unwrap_err());
            }
        }
        // The Pod is still there, and so it can be attached to, and says why it is of no use.
        let again = client.attach(name).unwrap();
        assert_eq!(again.info().unwrap().verdict.map(|verdict| verdict.cause), Some(Cause::Deleted));
        says_deleted(&again.execute("true").unwrap_err());
        drop(held);
        // An attach would keep what it finds, and ask no more.
        await_that("the Pod to go", || client.get_sandbox_info(name).is_err_and(|e| e.kind() == ErrorKind::NotFound));
        assert_eq!(client.attach(name).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn a_delete_that_is_held_back_says_by_whom() {
    let client = client();
    let (held, sandbox) = Held::new(&client, &serde_json::json!({}));
    sandbox.renew(Duration::from_secs(1)).unwrap();
    let error = sandbox.delete().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Delete, "{error}");
    assert!(error.to_string().contains("example.com/hold"), "{error}");
    assert_eq!(client.get_sandbox_info(&held.0).unwrap().phase, Phase::Terminating);
    // It has expired, and its end has been asked for already.
    assert!(!client.reap().unwrap().contains(&held.0));
    let error = client.create(&SandboxSpec::new().name(&held.0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

/// Nothing has to be started for it, neither a process nor a thread.
#[test]
fn a_sandbox_without_room_for_a_process_expires_all_the_same() {
    let lifetime = Duration::from_secs(40);
    let client = client_over(steady_transports()[0]);
    let sandbox = create_from(&client, &SandboxSpec::new().lifetime(lifetime));
    sandbox.execute("true").unwrap();
    sandbox.files().read("/etc/passwd").unwrap();
    for pid in processes(&sandbox) {
        // As the guest's own user, who needs no right for it. Not all processes of the Pod are that user's.
        let mut limit = Command::new("setpriv");
        limit.args(["--reuid=1000", "--regid=1000", "--clear-groups", "prlimit", "--nproc=1:1", "--pid"]);
        let is_done = limit.arg(pid.to_string()).output().unwrap().status.success();
        assert!(is_done || pid != guest_process(&sandbox));
    }
    // What keeps the next one has been started already.
    let error = (0..5).find_map(|_| sandbox.execute("true").err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::Command, "{error}");
    assert!(error.to_string().contains("Resource temporarily unavailable"), "{error}");
    // What needs no process goes on.
    assert!(!sandbox.files().read("/etc/passwd").unwrap().is_empty());
    let error = common::client().execute_command(sandbox.name(), "true").unwrap_err();
    assert!(error.kind() == ErrorKind::Connect && error.is_retryable(), "{error}");
    await_that("the sandbox to stop", || sandbox.info().unwrap().phase == Phase::Failed);
    for _ in 0..2 {
        let error = sandbox.execute("true").unwrap_err();
        assert_eq!(error.verdict().map(|verdict| verdict.cause), Some(Cause::Expired), "{error}");
        assert!(!error.is_retryable(), "{error}");
    }
}

/// What every call on a sandbox says that was evicted.
fn says_evicted(sandbox: &Sandbox, because: &str) {
    for _ in 0..2 {
        let error = sandbox.execute("true").unwrap_err();
        let verdict = error.verdict().unwrap_or_else(|| panic!("{error}"));
        assert_eq!(verdict.cause, Cause::Evicted, "{error}");
        assert!(verdict.message.contains(because) && !error.is_retryable(), "{error}");
    }
}

#[test]
fn an_eviction_by_the_cluster_is_told_as_one() {
    for &transport in transports() {
        let client = client_over(transport);
        // It stays to be looked at.
        let (held, sandbox) = Held::new(&client, &serde_json::json!({}));
        sandbox.execute("true").unwrap();
        let eviction = serde_json::json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": held.0, "namespace": client.namespace()},
            "deleteOptions": {"gracePeriodSeconds": 1},
        });
        let path = format!("/api/v1/namespaces/{}/pods/{}/eviction", client.namespace(), held.0);
        kubectl_with_input(&["create", "--raw", &path, "-f", "-"], &eviction.to_string());
        let end = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
        await_that("the guest to end", || !kubectl(&["get", "pod", &held.0, "-o", end]).is_empty());
        says_evicted(&sandbox, "evicting");
        let info = client.get_sandbox_info(&held.0).unwrap();
        assert_eq!(info.verdict.map(|verdict| verdict.cause), Some(Cause::Evicted));
    }
}

/// It looks every ten seconds.
#[test]
fn an_eviction_by_the_kubelet_is_told_as_one() {
    let sandbox = create_from(&client(), &SandboxSpec::new().disk("20Mi"));
    let error = sandbox.execute("head -c 100000000 /dev/zero > big; sleep 300").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    says_evicted(&sandbox, "exceeds");
    assert_eq!(sandbox.info().unwrap().verdict.map(|verdict| verdict.cause), Some(Cause::Evicted));
}

/// Other tools may have that label too: only together with the owner it is this library's.
#[test]
fn pods_of_others_are_left_alone() {
    let namespace = Namespace::new("others");
    let client = client_in(&namespace);
    let pod = gated_pod(&serde_json::json!({
        "name": "another", "namespace": namespace.name(), "labels": {"app.kubernetes.io/managed-by": "sandbox"},
        "annotations": {"sandbox/expires-at": "1"},
    }));
    kubectl_with_input(&["create", "-f", "-"], &pod.to_string());
    assert!(client.list().unwrap().is_empty());
    assert_eq!(client.reap().unwrap(), [""; 0]);
    for error in [client.attach("another").unwrap_err(), client.delete_sandbox("another").unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("it is no sandbox"), "{error}");
    }
    assert_eq!(namespace.kubectl(&["get", "pods", "-o", "name"]), "pod/another\n");
}

#[test]
fn sandboxes_are_listed_completely() {
    let client = client();
    let prefix = format!("listed-{}", unique());
    let labels = serde_json::json!({"app.kubernetes.io/managed-by": "sandbox", "sandbox/owner": "listed"});
    let pod = |number| gated_pod(&serde_json::json!({"name": format!("{prefix}-{number}"), "labels": labels}));
    let items: Vec<_> = (0..30).map(pod).collect();
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    kubectl_with_input(&["create", "-f", "-"], &list);
    let found = client.list().unwrap().into_iter().filter(|one| one.name.starts_with(&prefix)).count();
    kubectl_with_input(&["delete", "--force", "--grace-period=0", "--wait=false", "-f", "-"], &list);
    assert_eq!(found, 30);
}

/// What is used stays, claimed or created; what is not is over, and says why.
#[test]
fn a_sandbox_that_nothing_uses_ends() {
    let client = client();
    let spec = SandboxSpec::new().idle_timeout(Duration::from_secs(8));
    let pool = client.pool(&unique(), &spec, &PoolOptions::new().size(1)).unwrap();
    pool.fill().unwrap();
    let created = client.create(&spec).unwrap();
    let claimed = pool.claim(&Claim::new()).unwrap();
    let uses = [&created, &claimed].map(|sandbox| sandbox.command("sleep").arg("12").detach("use").unwrap());
    for of_it in uses {
        assert!(of_it.wait(None).unwrap().success());
    }
    for sandbox in [created, claimed] {
        await_that("the end of what is idle", || sandbox.info().unwrap().verdict.is_some());
        let error = sandbox.execute("true").unwrap_err();
        let verdict = error.verdict().unwrap();
        assert_eq!((verdict.cause, verdict.message.contains("idle timeout")), (Cause::Expired, true), "{error}");
        sandbox.delete().unwrap();
    }
    pool.remove().unwrap();
}
