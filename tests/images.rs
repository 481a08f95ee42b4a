//! Any image: what the library does works in each, whatever the image lacks and however the guest comes in; and what
//! can't work is told with its reason and what to do about it.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::any::Any;
use std::collections::VecDeque;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command as Local;
use std::sync::Mutex;
use std::time::Duration;

use common::{Scratch, await_that, client, config, kubectl, kubectl_with_input, noise, pods, unique};
use sandbox::{Cause, Client, Command, Error, ErrorKind, Guest, OutputStream, Sandbox, SandboxSpec, Transport};
use serde_json::{Value, json};

const OURS: &str = "localhost/sandbox:dev";
const PLAIN: &str = "localhost/plain:dev";
const BUSYBOX: &str = "localhost/busybox:dev";
const SINGLE: &str = "localhost/single:dev";
const FISH: &str = "localhost/fish:dev";

const MINUTE: Duration = Duration::from_secs(60);
/// Rows that are tried at the same time.
const WORKERS: usize = 3;

/// What is tried in each image. The last one ends the sandbox.
type Check = fn(&Row, &Subject<'_>);
const CHECKS: [(&str, Check); 8] = [
    ("commands", commands),
    ("detached", detached),
    ("terminal", terminal),
    ("files", files),
    ("trees", trees),
    ("timeouts", timeouts),
    ("ssh", ssh),
    ("expiry", expiry),
];

/// What can be run in the image.
#[derive(Clone, Copy, PartialEq)]
enum Tools {
    Shell,
    /// tests/cluster/single.c
    Single,
}

/// An image, and the Pod that it is tried in.
struct Row {
    name: &'static str,
    image: &'static str,
    guest: Guest,
    transport: Transport,
    tools: Tools,
    is_root: bool,
    commands_as: Option<&'static str>,
    user_from_cluster: bool,
    /// A namespace in which an admission policy chooses the user.
    chooses_user: bool,
    annotations: Vec<(&'static str, String)>,
    template: Value,
    /// What a person expects: user and group, working directory, home, directory for temporary files if it is not
    /// `/tmp`.
    user: &'static str,
    directory: &'static str,
    home: &'static str,
    temporary: &'static str,
    /// A directory that can be written.
    place: &'static str,
    /// A line for OpenSSH's `ssh`, and what that prints.
    asked: &'static str,
    line: &'static str,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            name: "",
            image: PLAIN,
            guest: Guest::Volume,
            transport: Transport::Auto,
            tools: Tools::Shell,
            is_root: false,
            commands_as: None,
            user_from_cluster: false,
            chooses_user: false,
            annotations: Vec::new(),
            template: json!({}),
            user: "1000:1000",
            directory: "/home/sandbox",
            home: "/home/sandbox",
            temporary: "",
            place: "/home/sandbox",
            asked: "echo line",
            line: "line\n",
        }
    }
}

/// One busybox whose user has a line in `/etc/passwd` that ends with this shell, and more files where they are to be.
fn with_shell(name: &'static str, shell: &str, files: &[(&'static str, &'static str, &str)]) -> Row {
    let passwd = ("passwd", "/etc/passwd", &*format!("dev:x:1000:1000::/tmp:{shell}\n"));
    let files = [&[passwd], files].concat();
    let items: Vec<_> = files
        .iter()
        .map(|(key, ..)| {
            let field = json!({"fieldPath": format!("metadata.annotations['{key}']")});
            json!({"path": key, "mode": 0o555, "fieldRef": field})
        })
        .collect();
    let mounts: Vec<_> =
        files.iter().map(|(key, path, _)| json!({"name": "files", "mountPath": path, "subPath": key})).collect();
    Row {
        name,
        annotations: files.iter().map(|(key, _, text)| (*key, (*text).to_owned())).collect(),
        template: json!({"spec": {
            "volumes": [{"name": "files", "downwardAPI": {"items": items}}],
            "containers": [{"name": "sandbox", "volumeMounts": mounts}],
        }}),
        ..busybox()
    }
}

fn busybox() -> Row {
    Row { image: BUSYBOX, directory: "/", home: "/tmp", place: "/tmp", ..Row::default() }
}

fn single() -> Row {
    Row {
        image: SINGLE,
        tools: Tools::Single,
        directory: "/",
        home: "/dev/shm",
        temporary: "/dev/shm",
        place: "/dev/shm",
        line: "sandbox: this image has no shell to run the line with; the library runs programs without one\n",
        ..Row::default()
    }
}

fn own_security(security: Value) -> Value {
    json!({"spec": {"containers": [{"name": "sandbox", "securityContext": security}]}})
}

fn rows() -> Vec<Row> {
    let pause = |more: Value| {
        let mut container = json!({
            "name": "helper", "image": "localhost/pause:dev", "resources": {"limits": {"cpu": "100m", "memory": "16Mi"}},
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        });
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        container
    };
    let user = |uid: u32, gid: u32| json!({"spec": {"securityContext": {"runAsUser": uid, "runAsGroup": gid}}});
    let volume = |path: &str, volume: Value| {
        json!({"spec": {
            "volumes": [{"name": "own", "emptyDir": volume}],
            "containers": [{"name": "sandbox", "volumeMounts": [{"name": "own", "mountPath": path}]}],
        }})
    };
    let gvisor = json!({"spec": {"runtimeClassName": "gvisor"}});
    vec![
        Row { name: "our image", image: OURS, guest: Guest::Image, ..Row::default() },
        Row { name: "Debian, image volume", ..Row::default() },
        Row { name: "Debian, copy", guest: Guest::Copy, ..Row::default() },
        Row { name: "busybox with musl, image volume", ..busybox() },
        Row { name: "busybox with musl, copy", guest: Guest::Copy, ..busybox() },
        Row { name: "one program, image volume", ..single() },
        Row { name: "one program, copy", guest: Guest::Copy, ..single() },
        Row {
            name: "a user that no file knows",
            template: user(1_234_567, 7_654_321),
            user: "1234567:7654321",
            ..busybox()
        },
        Row {
            name: "one program, a user that no file knows",
            template: user(1_234_567, 7_654_321),
            user: "1234567:7654321",
            ..single()
        },
        Row {
            name: "the image's own user",
            image: OURS,
            guest: Guest::Image,
            user_from_cluster: true,
            ..Row::default()
        },
        Row {
            name: "a user that the cluster chooses",
            user_from_cluster: true,
            chooses_user: true,
            user: "1000650000:1000650001",
            ..busybox()
        },
        Row {
            name: "read-only root",
            template: own_security(json!({"readOnlyRootFilesystem": true})),
            temporary: "/dev/shm",
            place: "/dev/shm",
            ..Row::default()
        },
        Row {
            name: "one program, read-only root, copy",
            guest: Guest::Copy,
            template: own_security(json!({"readOnlyRootFilesystem": true})),
            ..single()
        },
        Row {
            name: "root",
            is_root: true,
            template: json!({"spec": {
                "securityContext": {"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false},
                "containers": [{"name": "sandbox", "securityContext": {"capabilities": {"drop": []}}}],
            }}),
            user: "0:0",
            directory: "/home/sandbox",
            home: "/root",
            place: "/root",
            ..Row::default()
        },
        Row { name: "root, commands as somebody else", is_root: true, commands_as: Some("sandbox"), ..Row::default() },
        with_shell("a login shell that is absent", "/usr/bin/zsh", &[]),
        with_shell(
            "nologin, and /etc/nologin",
            "/sbin/nologin",
            &[("nologin", "/etc/nologin", "Nobody may log in.\n")],
        ),
        Row {
            line: "not sh: -c echo line\n",
            ..with_shell(
                "a login shell of another kind",
                "/odd",
                &[("odd", "/odd", "#!/bin/sh\necho not sh: \"$@\"\n")],
            )
        },
        Row {
            image: FISH,
            directory: "/home/sandbox",
            asked: "string upper line",
            line: "LINE\n",
            ..with_shell("fish as login shell", "/usr/bin/fish", &[])
        },
        // Those that runtimes make are noexec.
        Row {
            name: "a full /dev/shm",
            template: volume("/dev/shm", json!({"medium": "Memory", "sizeLimit": "64Ki"})),
            ..Row::default()
        },
        Row { name: "a volume at /dev/shm", template: volume("/dev/shm", json!({})), ..single() },
        Row { name: "a sidecar", template: json!({"spec": {"containers": [pause(json!({}))]}}), ..Row::default() },
        Row {
            name: "a native sidecar, copy",
            guest: Guest::Copy,
            template: json!({"spec": {"initContainers": [pause(json!({"restartPolicy": "Always"}))]}}),
            ..Row::default()
        },
        Row {
            name: "gVisor, our image, direct",
            image: OURS,
            guest: Guest::Image,
            transport: Transport::Direct,
            template: gvisor.clone(),
            ..Row::default()
        },
        Row { name: "gVisor, Debian, image volume, auto", template: gvisor.clone(), ..Row::default() },
        Row {
            name: "gVisor, one program, copy, auto",
            guest: Guest::Copy,
            template: gvisor,
            // gVisor gives an image without /tmp one.
            home: "/tmp",
            temporary: "",
            place: "/tmp",
            ..single()
        },
    ]
}

/// A sandbox of a row.
struct Subject<'a> {
    client: &'a Client,
    sandbox: &'a Sandbox,
    namespace: &'a str,
}

impl Row {
    fn command(&self, sandbox: &Sandbox, single: &[&str], shell: &str) -> Command {
        match self.tools {
            Tools::Shell => sandbox.command("sh").arg("-c").arg(shell).arg("sh").arg(single.last().unwrap()),
            Tools::Single => sandbox.command("/single").args(single),
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.place)
    }
}

fn commands(row: &Row, Subject { sandbox, .. }: &Subject<'_>) {
    let odd = "a 'b' \"c\" $HOME `id`\n*";
    let output = row.command(sandbox, &["say", odd], "printf '%s\\n' \"$1\"; echo error >&2; exit 7").output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!((output.stdout_text(), output.stderr_text()), (format!("{odd}\n").into(), "error\n".into()));
    let input = noise(300_000);
    let output = row.command(sandbox, &["cat"], "cat").stdin(input.clone()).output().unwrap();
    assert!(output.stdout == input && output.status.success());
    let shell = "echo \"$(id -u):$(id -g)\"; pwd; echo \"$HOME\"; echo \"$PATH\"; echo \"$TMPDIR\"";
    let output = row.command(sandbox, &["where"], shell).output().unwrap();
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let expected = [row.user, row.directory, row.home, path, row.temporary, ""].join("\n");
    assert_eq!(output.stdout_text(), expected);
    let error = sandbox.command("no-such-program").output().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Command, "{error}");
    match row.tools {
        Tools::Shell => assert_eq!(sandbox.execute("echo $((1 + 1))").unwrap().stdout, b"2\n"),
        Tools::Single => {
            let error = sandbox.execute("echo line").unwrap_err();
            assert!(
                error.kind() == ErrorKind::Command && error.to_string().contains("takes a shell in the image"),
                "{error}"
            );
        }
    }
}

fn detached(row: &Row, Subject { sandbox, client, .. }: &Subject<'_>) {
    let command = row.command(sandbox, &["cat"], "cat; exit 5").stdin(noise(200_000));
    let started = command.detach("job").unwrap();
    let code = started.wait(MINUTE).unwrap().code();
    assert_eq!(code, Some(if row.tools == Tools::Shell { 5 } else { 0 }));
    let found = client.attach(sandbox.name()).unwrap().detached("job").unwrap();
    assert!(found.read(OutputStream::Stdout, 0, 1 << 20).unwrap() == noise(200_000));
    found.remove().unwrap();
    let endless = row.command(sandbox, &["sleep", "986"], "sleep 986").detach("endless").unwrap();
    endless.kill().unwrap();
    assert_eq!(endless.wait(MINUTE).unwrap().signal(), Some("KILL"));
}

fn terminal(row: &Row, Subject { sandbox, .. }: &Subject<'_>) {
    let command = row.command(sandbox, &["terminal"], "test -t 0 && test -t 1 && stty size");
    let output = command.terminal("vt100", 90, 33).output().unwrap();
    assert_eq!((output.stdout_text(), output.status.code()), ("33 90\r\n".into(), Some(0)));
}

fn files(row: &Row, Subject { sandbox, .. }: &Subject<'_>) {
    let (files, contents) = (sandbox.files(), noise(20_000));
    let (path, other) = (row.path("file"), row.path("other"));
    files.write(&path, &contents).unwrap();
    files.append(&path, "more").unwrap();
    assert!(files.read(&path).unwrap() == [&contents[..], b"more"].concat());
    files.set_permissions(&path, 0o640).unwrap();
    assert_eq!((files.metadata(&path).unwrap().len(), files.metadata(&path).unwrap().mode() & 0o777), (20_004, 0o640));
    files.rename(&path, &other).unwrap();
    assert!(files.read_dir(row.place).unwrap().iter().any(|entry| entry.name == *"other"));
    let scratch = Scratch::new();
    assert_eq!(files.download(&other, scratch.path("down")).unwrap(), 20_004);
    files.transfer().checksum(true).upload(scratch.path("down"), &path).unwrap();
    assert!(files.read(&path).unwrap() == fs::read(scratch.path("down")).unwrap());
    files.remove_file(&path).unwrap();
    files.remove_file(&other).unwrap();
    assert!(!files.exists(&path).unwrap());
}

fn trees(row: &Row, Subject { sandbox, .. }: &Subject<'_>) {
    let (files, scratch) = (sandbox.files(), Scratch::new());
    let (up, down) = (scratch.path("up"), scratch.path("down"));
    fs::create_dir_all(up.join("a/b")).unwrap();
    fs::create_dir(up.join("empty")).unwrap();
    fs::write(up.join("a/b/file"), noise(10_000)).unwrap();
    std::os::unix::fs::symlink("b/file", up.join("a/link")).unwrap();
    files.upload_dir(&up, row.path("tree")).unwrap();
    files.download_dir(row.path("tree"), &down).unwrap();
    assert!(fs::read(down.join("a/b/file")).unwrap() == noise(10_000) && down.join("empty").is_dir());
    assert_eq!(fs::read_link(down.join("a/link")).unwrap().to_str(), Some("b/file"));
    files.remove_dir_all(row.path("tree")).unwrap();
}

/// The processes whose arguments have this word.
fn processes(sandbox: &Sandbox, word: &str) -> Vec<String> {
    let files = sandbox.files();
    let names = files.read_dir("/proc").unwrap().into_iter().map(|entry| entry.name.into_string().unwrap());
    let numbers = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    // Some end meanwhile.
    let lines = numbers.filter_map(|number| files.read(format!("/proc/{number}/cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(word)).collect()
}

fn timeouts(row: &Row, Subject { sandbox, .. }: &Subject<'_>) {
    let family = row.command(sandbox, &["family", "987"], "setsid env -i /bin/sleep 987 & echo before; sleep 987");
    let error = family.timeout(Duration::from_secs(3)).output().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("all its processes were killed"), "{error}");
    assert_eq!(error.partial_output().unwrap().stdout, b"before\n");
    assert_eq!(processes(sandbox, "987"), [""; 0]);
}

/// What a person sees who uses OpenSSH's client: the way is the login shell's, which the library does not take.
fn ssh(row: &Row, Subject { sandbox, namespace, .. }: &Subject<'_>) {
    let scratch = Scratch::new();
    let key = scratch.path("key").into_os_string().into_string().unwrap();
    assert!(Local::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]).status().unwrap().success());
    let pod = |path: &str| kubectl(&["get", "pod", "-n", namespace, sandbox.name(), "-o", &format!("jsonpath={path}")]);
    let (guest, port) = (pod("{.spec.containers[0].command[0]}"), sandbox.ssh_port().to_string());
    let public = fs::read_to_string(scratch.path("key.pub")).unwrap();
    let control = [&*guest, "control", "--port", &port, "authorize", public.trim()];
    kubectl(&[&["exec", "-n", namespace, "-c", "sandbox", sandbox.name(), "--"][..], &control].concat());
    let known = format!("[{}]:{port} {}\n", pod("{.status.podIP}"), sandbox.host_key().unwrap());
    fs::write(scratch.path("known"), known).unwrap();
    let known = format!("UserKnownHostsFile={}", scratch.path("known").display());
    let user = if row.is_root { "root" } else { "sandbox" };
    let output = Local::new("ssh")
        .args(["-F", "none", "-i", &key, "-p", &port, "-o", &known, "-o", "BatchMode=yes"])
        .arg(format!("{user}@{}", pod("{.status.podIP}")))
        .arg(row.asked)
        .output()
        .unwrap();
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(printed, row.line);
    assert_eq!(output.status.code(), Some(if row.tools == Tools::Shell { 0 } else { 127 }));
}

fn expiry(_: &Row, Subject { sandbox, client, .. }: &Subject<'_>) {
    sandbox.renew(Duration::from_secs(1)).unwrap();
    await_that("the sandbox to expire", || {
        let info = client.get_sandbox_info(sandbox.name()).unwrap();
        info.verdict.is_some_and(|verdict| verdict.cause == Cause::Expired)
    });
    let error = sandbox.command("/single").output().unwrap_err();
    assert_eq!(error.verdict().map(|verdict| verdict.cause), Some(Cause::Expired), "{error}");
}

/// A policy of the cluster that chooses users, as OpenShift's does, and the namespace in which it holds. Both go when
/// the test does.
struct Chooser(common::Namespace);

impl Chooser {
    fn new() -> Self {
        let this = Self(common::Namespace::new("chosen"));
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": this.0.name()},
            "spec": {
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
                }]},
                // Whoever chooses a user himself is not given another one.
                "matchConditions": [{"name": "open", "expression": "!has(object.spec.securityContext.runAsUser)"}],
                "reinvocationPolicy": "Never",
                "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
                    "Object{spec: Object.spec{securityContext: Object.spec.securityContext{\
                     runAsUser: 1000650000, runAsGroup: 1000650001}}}"}}],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": this.0.name()},
            "spec": {
                "policyName": this.0.name(),
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": this.0.name()}}},
            },
        });
        for object in [policy, binding] {
            kubectl_with_input(&["create", "-f", "-"], &object.to_string());
        }
        // The API server takes a moment to know it.
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "try"}, "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "a", "image": "a", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        }});
        await_that("the policy to hold", || {
            let options = ["create", "-n", this.0.name(), "--dry-run=server", "-o", "json", "-f", "-"];
            kubectl_with_input(&options, &pod.to_string()).contains("1000650000")
        });
        this
    }
}

impl Drop for Chooser {
    fn drop(&mut self) {
        for kind in ["mutatingadmissionpolicybinding", "mutatingadmissionpolicy"] {
            kubectl(&["delete", kind, self.0.name(), "--ignore-not-found"]);
        }
    }
}

/// The results of a row: nothing where all is well, else what is wrong.
fn run(row: &Row) -> Vec<Option<String>> {
    let chooser = row.chooses_user.then(Chooser::new);
    let namespace = match &chooser {
        // The namespace of the tests takes no Pod that runs as root.
        None if row.is_root => "default",
        None => "sandbox-tests",
        Some(chooser) => chooser.0.name(),
    };
    let config = config().namespace(namespace).guest(row.guest).transport(row.transport);
    let config = if row.is_root { config.ssh_user("root") } else { config };
    let client = Client::new(config).unwrap();
    let mut spec = SandboxSpec::new().image(row.image).pod_template(&row.template.to_string()).unwrap();
    for (name, value) in &row.annotations {
        spec = spec.annotation(*name, value);
    }
    if let Some(user) = row.commands_as {
        spec = spec.commands_as(user);
    }
    if row.user_from_cluster {
        spec = spec.user_from_cluster();
    }
    let sandbox = match client.create(&spec) {
        Ok(sandbox) => sandbox,
        Err(e) => return vec![Some(e.to_string()); CHECKS.len()],
    };
    if row.name == "a full /dev/shm" {
        let error = sandbox.files().write("/dev/shm/filler", noise(1 << 20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }
    let subject = Subject { client: &client, sandbox: &sandbox, namespace };
    let results = CHECKS.iter().map(|(_, check)| {
        let result = catch_unwind(AssertUnwindSafe(|| check(row, &subject)));
        result.err().map(|panic| text_of(panic.as_ref()).replace('\n', " "))
    });
    let results = results.collect();
    kubectl(&["delete", "pod", "-n", namespace, sandbox.name(), "--wait=false", "--grace-period=1"]);
    results
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Prints a table without an empty cell. `SANDBOX_TEST_ROW` is a part of the names of the rows to try, if not all.
#[test]
fn everything_works_in_every_image() {
    let only = std::env::var("SANDBOX_TEST_ROW").unwrap_or_default();
    let rows: Vec<_> = rows().into_iter().filter(|row| row.name.contains(&only)).collect();
    let (queue, results) = (Mutex::new(VecDeque::from_iter(0..rows.len())), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(number) = { queue.lock().unwrap().pop_front() } {
                    let result = catch_unwind(AssertUnwindSafe(|| run(&rows[number])));
                    let result = result.unwrap_or_else(|panic| vec![Some(text_of(panic.as_ref())); CHECKS.len()]);
                    results.lock().unwrap().push((number, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(number, _)| *number);
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap();
    let line = |name: &str, cells: &[&str]| {
        let cells: String = cells.iter().map(|cell| format!("  {cell:<9}")).collect();
        println!("{name:width$}{}", cells.trim_end());
    };
    line("", &CHECKS.map(|(name, _)| name));
    for (number, cells) in &results {
        let cells: Vec<_> = cells.iter().map(|cell| if cell.is_none() { "works" } else { "FAILS" }).collect();
        line(rows[*number].name, &cells);
    }
    let failures: Vec<_> = results
        .iter()
        .flat_map(|(number, cells)| cells.iter().zip(CHECKS).map(|(cell, (check, _))| (*number, check, cell)))
        .filter_map(|(number, check, cell)| Some(format!("{}, {check}: {}", rows[number].name, cell.as_ref()?)))
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// The error of a creation, which leaves nothing behind and comes soon.
fn refused(client: &Client, spec: SandboxSpec) -> Error {
    let label = unique();
    let began = std::time::Instant::now();
    let error = client.create(&spec.label("doomed", &label)).unwrap_err();
    println!("{:?}: {error}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(120), "{error}");
    await_that("the Pod to go", || pods(&format!("doomed={label}")).is_empty());
    error
}

#[test]
fn a_sandbox_that_has_ended_does_not_come_back() {
    let client = client();
    for template in [
        json!({"spec": {"restartPolicy": "Always"}}),
        json!({"spec": {"restartPolicy": "OnFailure"}}),
        json!({"spec": {"containers": [{"name": "sandbox", "restartPolicy": "Always"}]}}),
    ] {
        let spec = SandboxSpec::new().pod_template(&template.to_string()).unwrap();
        let error = refused(&client, spec);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains("does not come back"), "{error}");
    }
}

/// Where the guest does not get in, the error has Kubernetes's reason and names the other way.
#[test]
fn a_way_in_that_fails_names_the_other() {
    let with = |guest: Guest, image: &str| Client::new(config().guest(guest).guest_image(image)).unwrap();
    let guests = "localhost/sandbox-guest:dev";
    let other_image = "localhost/no-such-guest:1";
    for (guest, guest_image, image, cause, reason, remedy) in [
        (Guest::Image, guests, PLAIN, Cause::Configuration, "/sandbox-guest", "SANDBOX_GUEST=volume or copy"),
        (Guest::Image, guests, SINGLE, Cause::Configuration, "/sandbox-guest", "SANDBOX_GUEST=volume or copy"),
        (Guest::Volume, other_image, PLAIN, Cause::ImagePull, "no-such-guest", "SANDBOX_GUEST_IMAGE"),
        (Guest::Copy, other_image, PLAIN, Cause::ImagePull, "no-such-guest", "SANDBOX_GUEST_IMAGE"),
        // An image that is there, but not the guest's.
        (Guest::Volume, PLAIN, PLAIN, Cause::Configuration, "/.sandbox/sandbox-guest", "SANDBOX_GUEST_IMAGE"),
        (Guest::Copy, PLAIN, PLAIN, Cause::Configuration, "/sandbox-guest", "SANDBOX_GUEST_IMAGE"),
    ] {
        let error = refused(&with(guest, guest_image), SandboxSpec::new().image(image));
        assert_eq!(error.verdict().map(|verdict| verdict.cause), Some(cause), "{error}");
        let text = error.to_string();
        assert!(text.contains(reason) && text.contains(remedy), "{text}");
    }
}

/// A cluster whose policy has a list of volumes that are allowed, from the time before there were image volumes.
struct NoImageVolumes(common::Namespace);

impl NoImageVolumes {
    fn new() -> Self {
        let this = Self(common::Namespace::new("volumes"));
        let name = this.0.name();
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
                }]},
                "validations": [{
                    "expression": "!has(object.spec.volumes) || object.spec.volumes.all(v, has(v.emptyDir))",
                    "message": "only emptyDir is allowed here",
                }],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name, "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}},
            },
        });
        for object in [policy, binding] {
            kubectl_with_input(&["create", "-f", "-"], &object.to_string());
        }
        this
    }
}

impl Drop for NoImageVolumes {
    fn drop(&mut self) {
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            kubectl(&["delete", kind, self.0.name(), "--ignore-not-found"]);
        }
    }
}

#[test]
fn a_cluster_that_takes_no_image_volumes() {
    let cluster = NoImageVolumes::new();
    let client = |guest| Client::new(config().namespace(cluster.0.name()).guest(guest)).unwrap();
    let (spec, volume) = (SandboxSpec::new().image(PLAIN), client(Guest::Volume));
    let mut refusal = None;
    await_that("the policy to hold", || match volume.create(&spec) {
        Ok(sandbox) => {
            sandbox.delete().unwrap();
            false
        }
        Err(e) => {
            refusal = Some(e);
            true
        }
    });
    let error = refusal.unwrap();
    assert_eq!(error.verdict().map(|verdict| verdict.cause), Some(Cause::Rejected), "{error}");
    let text = error.to_string();
    assert!(text.contains("only emptyDir is allowed here") && text.contains("SANDBOX_GUEST=copy"), "{text}");
    // What the error says helps.
    let sandbox = client(Guest::Copy).create(&spec).unwrap();
    assert_eq!(sandbox.execute("echo $((1 + 1))").unwrap().stdout, b"2\n");
}

/// The image that `sandbox guest-image` writes: the same bytes each time, and sandboxes start with it.
#[cfg(feature = "cli")]
#[test]
fn the_command_writes_the_guests_image() {
    let program = || {
        let host = fs::read_dir(common::repository().join("target/guest")).unwrap();
        let files = host.map(|entry| entry.unwrap().path().join("guest/sandbox-guest"));
        files.into_iter().find(|file| file.exists()).expect("make guest")
    };
    let (scratch, name) = (Scratch::new(), format!("localhost/written-guest:{}", unique()));
    let command = |options: &[&str], file: &str| {
        let mut command = Local::new(env!("CARGO_BIN_EXE_sandbox"));
        command.arg("guest-image").args(options).args(["--name", &name]).arg(file);
        command.output().unwrap()
    };
    let path = |name: &str| scratch.path(name).into_os_string().into_string().unwrap();
    let program = program().into_os_string().into_string().unwrap();
    let options = ["--program", &program];
    for file in ["one.tar", "two.tar"] {
        let output = command(&options, &path(file));
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    }
    let archive = fs::read(scratch.path("one.tar")).unwrap();
    assert!(archive == fs::read(scratch.path("two.tar")).unwrap());
    assert!(archive == command(&options, "-").stdout);
    assert_eq!(scratch.names().len(), 2, "nothing else is left");
    // The one beside the command is found.
    let beside = scratch.path("sandbox");
    fs::copy(env!("CARGO_BIN_EXE_sandbox"), &beside).unwrap();
    let without =
        |file: &str| Local::new(&beside).args(["guest-image", "--name", &name, &path(file)]).output().unwrap();
    let output = without("three.tar");
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("make guest"), "{output:?}");
    fs::copy(&program, scratch.path("sandbox-guest")).unwrap();
    assert!(without("three.tar").status.success());
    assert!(archive == fs::read(scratch.path("three.tar")).unwrap());
    // What it can't make an image of is told, and leaves no file.
    let dynamic = ["--program", env!("CARGO_BIN_EXE_sandbox")];
    for (options, why) in [(&dynamic[..], "linked with libraries"), (&["--program", "/no/such"], "No such file")] {
        let output = command(options, &path("none.tar"));
        assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
    }
    assert!(!scratch.path("none.tar").exists());

    let cluster = common::repository().join("tests/cluster/cluster.py");
    let loaded = Local::new(cluster).arg("load").arg(scratch.path("one.tar")).output().unwrap();
    assert!(loaded.status.success(), "{loaded:?}");
    for guest in [Guest::Volume, Guest::Copy] {
        let client = Client::new(config().guest(guest).guest_image(&name)).unwrap();
        let sandbox = common::create_from(&client, &SandboxSpec::new().image(SINGLE));
        assert_eq!(sandbox.command("/single").args(["say", "yes"]).output().unwrap().stdout, b"yes\n");
    }
}

/// Keeps what is logged, since a program has one logger.
struct Kept(Mutex<Vec<String>>);

static KEPT: Kept = Kept(Mutex::new(Vec::new()));

impl log::Log for Kept {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[test]
fn under_gvisor_others_attach_and_what_does_not_hold_is_said() {
    log::set_logger(&KEPT).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let spec = SandboxSpec::new().runtime_class("gvisor");
    let warnings = |name: &str| {
        let kept = KEPT.0.lock().unwrap();
        kept.iter().filter(|line| line.contains(name)).cloned().collect::<Vec<_>>()
    };
    for transport in [Transport::Auto, Transport::Direct, Transport::Exec] {
        let sandbox = common::create_from(&common::client_over(transport), &spec);
        let said = warnings(sandbox.name());
        println!("{said:#?}");
        for promise in ["can end its guest", "the program that lets another client in"] {
            assert!(said.iter().any(|line| line.contains(promise)), "{promise}");
        }
        // Also where nobody has told them the host key.
        for is_known in [true, false] {
            if !is_known {
                await_that("the annotation", || sandbox.info().unwrap().host_key.is_some());
                kubectl(&["annotate", "pod", sandbox.name(), "sandbox/host-key-"]);
            }
            let attached = common::client_over(transport).attach(sandbox.name()).unwrap();
            assert_eq!(attached.execute("uname -n").unwrap().stdout_text().trim(), sandbox.name());
            assert_eq!(attached.host_key(), sandbox.host_key());
        }
        // What is said is true.
        let error = sandbox.execute("kill -KILL 1; sleep 60").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    }
    let error = refused(&common::client_over(Transport::Tunnel), spec);
    assert!(error.kind() == ErrorKind::Create && error.to_string().contains("SANDBOX_TRANSPORT=auto"), "{error}");
    // On the kernel itself all holds.
    let sandbox = common::create(&client());
    assert_eq!(warnings(sandbox.name()), [""; 0]);
}
