//! The scenarios of sandboxes, settings and errors.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn life(world: &World) {
    let (client, owner) = (&world.client, &*world.owner);
    let spec = SandboxSpec::new().name(owner).label("language", "rust").env("LIFE", "from the spec");
    let spec = spec.lifetime(Duration::from_secs(300)).hard_limit(Duration::from_secs(900));
    let sandbox = world.sandbox.get_or_init(|| client.create(&spec).unwrap());
    assert_eq!(sandbox.name(), owner);
    let timings = sandbox.timings().unwrap();
    assert!(Duration::ZERO < timings.accepted && timings.accepted <= timings.started, "{timings:?}");
    assert!(timings.started <= timings.logged_in, "{timings:?}");

    // The sandbox is faster than the node's report on it, and than the note of its host key.
    await_that("the Pod to be told to run", || {
        let info = sandbox.info().unwrap();
        info.phase == Phase::Running && info.host_key.is_some()
    });
    let info = sandbox.info().unwrap();
    assert_eq!((&*info.name, &*info.uid, &*info.namespace), (owner, sandbox.uid(), client.namespace()));
    assert_eq!((&*info.owner, &*info.labels["language"], &*info.ssh_user), (owner, "rust", "sandbox"));
    assert!(!info.image.is_empty() && info.node.is_some() && info.pod_ip.is_some() && info.verdict.is_none());
    assert_eq!((info.host_key, info.ssh_port), (sandbox.host_key(), sandbox.ssh_port()));
    let (created, expires) = (info.created_at.unwrap(), info.expires_at.unwrap());
    let lifetime = expires.duration_since(created).unwrap().as_secs();
    // The lifetime begins when the container starts, some time after its creation.
    assert!(created <= SystemTime::now() && (290..420).contains(&lifetime), "{lifetime}");
    let renewed = sandbox.renew(Duration::from_secs(600)).unwrap();
    assert!(renewed > expires + Duration::from_secs(290));
    fails(ErrorKind::InvalidArgument, "at least one second", sandbox.renew(Duration::ZERO));
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVV a person";
    sandbox.authorize_key(key, Duration::from_secs(100)).unwrap();
    let keys = sandbox.authorized_keys().unwrap();
    assert_eq!((keys.len(), &*keys[0].key), (1, key));
    assert!(keys[0].remaining.is_some_and(|left| (1..=100).contains(&left.as_secs())), "{keys:?}");
    assert!(sandbox.revoke_key(key).unwrap() && !sandbox.revoke_key(key).unwrap());
    fails(ErrorKind::InvalidArgument, "public key", sandbox.authorize_key("no key", None));
    let usage = sandbox.usage().unwrap();
    assert!(usage.cpu > Some(Duration::ZERO) && usage.memory > Some(0) && usage.processes > Some(0), "{usage:?}");
    assert!(usage.disk > Some(0) && usage.sent > Some(0) && usage.guest_memory > Some(0), "{usage:?}");
    assert!(usage.commands == 0 && usage.connections > 0, "{usage:?}");

    assert_eq!(world.listed(owner), [owner]);
    assert!(sandbox.execute("uname -n").unwrap().stdout_text().starts_with(owner));
    assert_eq!(sandbox.execute("echo \"$LIFE\"").unwrap().stdout, b"from the spec\n");
    let second_client = Client::new(config(owner).transport(Transport::Exec)).unwrap();
    let second = second_client.attach(owner).unwrap();
    assert_eq!((second.uid(), second.timings()), (sandbox.uid(), None));
    assert_eq!(second.execute("echo attached").unwrap().stdout, b"attached\n");
    // A warm call asks Kubernetes nothing.
    let requests = second_client.stats().api_requests;
    assert_eq!(second.execute("echo warm").unwrap().stdout, b"warm\n");
    assert!(requests > 0 && second_client.stats().api_requests == requests);
}

pub(crate) fn by_name(world: &World) {
    let (client, name, contents) = (&world.client, &*world.owner, b"\0\xffby name");
    assert_eq!(client.execute_command(name, "echo by name").unwrap().stdout, b"by name\n");
    fs::write(world.path("there"), contents).unwrap();
    assert_eq!(client.upload_file(name, world.path("there"), "by-name").unwrap(), 9);
    assert_eq!(client.download_file(name, "by-name", world.path("back")).unwrap(), 9);
    assert_eq!(fs::read(world.path("back")).unwrap(), contents);
    let info = client.get_sandbox_info(name).unwrap();
    assert_eq!((&*info.name, client.ssh_port(name)), (name, info.ssh_port));
    let own = client.create_sandbox(&SandboxSpec::new()).unwrap();
    client.shutdown_sandbox(own.name()).unwrap();
    fails(ErrorKind::NotFound, own.name(), client.shutdown_sandbox(own.name()));
    fails(ErrorKind::NotFound, "no-such-sandbox", client.delete_sandbox("no-such-sandbox"));
}

pub(crate) fn errors(world: &World) {
    let (client, sandbox, owner) = (&world.client, world.sandbox(), &*world.owner);
    let of = |error: &Error| (error.operation().to_owned(), error.sandbox().unwrap().to_owned());
    fails(ErrorKind::InvalidArgument, "NUL", sandbox.execute("a\0b"));
    fails(ErrorKind::Config, "colour", Config::new().set("colour", "red"));
    let error = fails(ErrorKind::NotFound, "no-such-sandbox", client.attach("no-such-sandbox"));
    assert_eq!(of(&error), ("attach to sandbox".into(), "no-such-sandbox".into()));
    assert!(error.http_status() == Some(404) && error.verdict().is_none() && error.partial_output().is_none());
    assert_eq!((error.raw_os_error(), io::Error::from(error).kind()), (None, io::ErrorKind::NotConnected));
    let error = fails(ErrorKind::PermissionDenied, "/etc/no", sandbox.files().write("/etc/no", ""));
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::PermissionDenied);
    let error = fails(ErrorKind::Conflict, owner, client.create(&SandboxSpec::new().name(owner)));
    assert_eq!((of(&error), error.http_status()), (("create sandbox".into(), owner.into()), Some(409)));
    let error = fails(ErrorKind::TimedOut, "", sandbox.command("sleep").arg("1030").timeout(millis(300)).output());
    assert_eq!((of(&error), error.is_retryable()), (("run command".into(), owner.into()), false));
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);

    let spec = SandboxSpec::new().image("localhost/no/such/image:1");
    let error = fails(ErrorKind::Create, "no/such/image", client.create(&spec));
    let verdict = error.verdict().unwrap();
    assert!(verdict.cause == Cause::ImagePull && !verdict.reason.is_empty(), "{verdict:?}");
    assert!(error.operation() == "create sandbox" && error.sandbox().is_some());
    // Nothing listens on port 1 of the loopback.
    let kubeconfig = "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n\
                      users: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n\
                      current-context: a\n";
    fs::write(world.path("kubeconfig"), kubeconfig).unwrap();
    let nobody = Client::new(config(owner).kubeconfig(world.path("kubeconfig"))).unwrap();
    assert!(fails(ErrorKind::Unavailable, "127.0.0.1:1", nobody.list()).is_retryable());
}

pub(crate) fn use_after_close(world: &World) {
    let mut child = world.sandbox().command("cat").spawn().unwrap();
    child.wait().unwrap();
    assert!(child.wait().unwrap().success() && child.stdin.is_none());
    child.kill().unwrap();
    let parent = Client::new(config(&world.owner)).unwrap();
    let own = parent.create(&SandboxSpec::new()).unwrap();
    let command = own.command("true");
    own.delete().unwrap();
    fails(ErrorKind::Closed, "deleted", own.execute("true"));
    fails(ErrorKind::Closed, "deleted", own.files().read("x"));
    fails(ErrorKind::NotFound, own.name(), own.info());
    fails(ErrorKind::NotFound, own.name(), own.delete());
    drop((parent, own));
    fails(ErrorKind::Closed, "deleted", command.output());
}

pub(crate) fn fleet(world: &World) {
    let owner = format!("{}-fleet", world.owner);
    let captain = Client::new(config(&owner)).unwrap();
    // The Pod's own environment tells its settings.
    let template = r#"{"metadata": {"labels": {"from": "template"}}, "spec": {"containers": [{"name": "sandbox", "env": [
        {"name": "NOTE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['note']"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
        {"name": "DISK", "valueFrom": {"resourceFieldRef": {"resource": "limits.ephemeral-storage"}}}]}]}}"#;
    let spec = SandboxSpec::new().cpu("500m").cpu_request("5m").memory("256Mi").memory_request("16Mi").disk("512Mi");
    let spec = spec.annotation("note", "a note").node_selector("kubernetes.io/os", "linux");
    let spec = spec.unschedulable_grace(Duration::from_secs(5)).pod_template(template).unwrap();
    let three = [spec, SandboxSpec::new(), SandboxSpec::new()].map(|spec| captain.create(&spec).unwrap());
    assert_eq!(world.listed(&owner).len(), 3);
    let told = three[0].execute("echo $CPU $MEMORY $DISK $NOTE").unwrap();
    assert_eq!(told.stdout_text(), "500 268435456 536870912 a note\n");
    assert_eq!(three[0].info().unwrap().labels["from"], "template");
    let found = captain.find(&Filter::new().owner(&owner)).unwrap();
    assert!(found.len() == 3 && found.is_sorted_by_key(|info| (info.created_at, info.name.clone())), "{found:?}");
    let names = |filter: Filter| {
        let found = captain.find(&filter.owner(&owner)).unwrap().into_iter();
        found.map(|info| info.name).collect::<Vec<_>>()
    };
    assert_eq!(names(Filter::new().label("from", "template")), [three[0].name()]);
    assert_eq!(names(Filter::new().phase(Phase::Pending).phase(Phase::Running).younger_than(HOUR)).len(), 3);
    assert!(names(Filter::new().phase(Phase::Failed)).is_empty() && names(Filter::new().older_than(HOUR)).is_empty());
    fails(ErrorKind::InvalidArgument, "a,b", captain.find(&Filter::new().label("from", "a,b")));

    let changes = captain.watch(&Filter::new().owner(&owner)).unwrap();
    let mut added: Vec<_> = (0..3).map(|_| changes.next_within(HOUR).unwrap().unwrap()).collect();
    assert!(added.iter().all(|change| change.kind == ChangeKind::Added), "{added:?}");
    added.retain(|change| three.iter().any(|sandbox| sandbox.uid() == change.info.uid));
    assert!(added.len() == 3 && added.is_sorted_by_key(|change| change.info.created_at), "{added:?}");
    fails(ErrorKind::InvalidArgument, "age", captain.watch(&Filter::new().older_than(HOUR)));

    three[2].renew(Duration::from_secs(1)).unwrap();
    await_that("the expired one to be reaped", || {
        let reaped = captain.reap().unwrap();
        assert!(!reaped.iter().any(|name| name == three[0].name() || name == three[1].name()));
        reaped.iter().any(|name| name == three[2].name())
    });
    assert_eq!(three[1].execute("echo here").unwrap().stdout, b"here\n");
    three[0].delete().unwrap();
    three[1].shutdown().unwrap();
    await_that("the fleet to be gone", || world.listed(&owner).is_empty());
    let (mut removed, mut failed) = (0, false);
    while removed < 3 {
        let change = changes.next_within(HOUR).unwrap().unwrap();
        assert_ne!(change.kind, ChangeKind::Added, "{change:?}");
        removed += usize::from(change.kind == ChangeKind::Removed);
        failed |= change.info.verdict.is_some_and(|verdict| verdict.cause == Cause::Expired);
    }
    assert!(failed && changes.next_within(millis(10)).unwrap().is_none());
}

pub(crate) fn doctor(world: &World) {
    let report = diagnose(Ok(config(&world.owner)), &[]).unwrap();
    assert!(report.state() != CheckState::Failure && report.checks.len() == 14, "{report}");
    assert!(report.checks.iter().all(|check| !check.found.is_empty()), "{report}");
    assert!(report.to_string().ends_with(&report.summary()));
    let report = diagnose(Ok(config(&world.owner).namespace("no-such-namespace")), &["namespace"]).unwrap();
    assert_eq!((report.state(), report.checks.len()), (CheckState::Failure, 1), "{report}");
    let check = &report.checks[0];
    assert!(check.name == "namespace" && check.fix.contains("create namespace"), "{report}");
    assert_eq!(diagnose(Config::from_env(), &["config"]).unwrap().state(), CheckState::Ok);
    fails(ErrorKind::InvalidArgument, "no-such-check", diagnose(Config::from_env(), &["no-such-check"]));
}

pub(crate) fn settings(world: &World) {
    let other = config("other").namespace("elsewhere").image("image:1").ssh_user("somebody").ssh_port(2222);
    let other = other.connect_timeout(Duration::from_secs(20)).idle_timeout(None).transport(Transport::Tunnel);
    let other = other.max_sessions(4).log(LogLevel::Warn).set("command_timeout", "0.5").unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&lines);
    let keep = move |line: &LogLine<'_>| kept.lock().unwrap().push((line.level, line.target.to_owned()));
    set_log_handler(LogLevel::Debug, Some(Box::new(keep))).unwrap();
    world.client.list().unwrap();
    let told = lines.lock().unwrap().clone();
    assert!(
        told.iter().any(|(level, target)| *level == LogLevel::Debug && target.starts_with("sandbox::")),
        "{told:?}"
    );
    fails(ErrorKind::Config, "logger", other.init_logging());
    set_log_handler(LogLevel::Off, None).unwrap();
    lines.lock().unwrap().clear();
    world.client.list().unwrap();
    assert!(lines.lock().unwrap().is_empty());
    other.init_logging().unwrap();
    fails(ErrorKind::Config, "logger", other.init_logging());
    let elsewhere = Client::new(other).unwrap();
    assert_eq!((elsewhere.namespace(), elsewhere.ssh_port("unknown")), ("elsewhere", 2222));
    let config = || config(&world.owner);
    fails(ErrorKind::Config, "there is no setting \"colour\"", config().set("colour", "red"));
    fails(ErrorKind::Config, "1 to 65535", config().set("ssh_port", "0"));
    fails(ErrorKind::Config, "/no/such/key", Client::new(config().ssh_key("/no/such/key")));
    fails(ErrorKind::Config, "no-such-context", Client::new(config().context("no-such-context")));
    fails(ErrorKind::Config, "/no/such/file", Client::new(config().kubeconfig("/no/such/file")));
    fails(ErrorKind::Config, "max_sessions", Client::new(config().max_sessions(0)));
    fails(ErrorKind::InvalidArgument, "JSON", SandboxSpec::new().pod_template("[]"));
    let spec = SandboxSpec::new().commands_as("sandbox");
    let error = fails(ErrorKind::Create, "runAsNonRoot", world.client.create(&spec));
    assert_eq!(error.verdict().unwrap().cause, Cause::Rejected);
    let spec = SandboxSpec::new().user_from_cluster().runtime_class("no-such-class");
    let error = fails(ErrorKind::Create, "no-such-class", world.client.create(&spec));
    assert_eq!(error.verdict().unwrap().cause, Cause::Rejected);
    let spec = SandboxSpec::new().idle_timeout(Duration::ZERO);
    fails(ErrorKind::InvalidArgument, "idle timeout", world.client.create(&spec));
    let spec = SandboxSpec::new().name("under_score");
    fails(ErrorKind::InvalidArgument, "under_score", world.client.create(&spec));
}

pub(crate) fn end(world: &World) {
    let (client, sandbox) = (&world.client, world.sandbox());
    sandbox.delete().unwrap();
    fails(ErrorKind::NotFound, sandbox.name(), sandbox.info());
    fails(ErrorKind::Closed, "deleted", sandbox.execute("true"));
    fails(ErrorKind::NotFound, sandbox.name(), client.execute_command(sandbox.name(), "true"));
    await_that("nothing to be listed", || world.listed(&world.owner).is_empty());
}
