//! What stands in the way of a sandbox is found and named, and what the report says to do about it helps.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Namespace, Scratch, await_that, config, kubectl, kubectl_with_input, pods, repository};
use sandbox::{Check, CheckState, Config, Report, Transport, diagnose};
use serde_json::{Value, json};

fn report(config: Config, checks: &[&str]) -> Report {
    let report = diagnose(Ok(config), checks).unwrap();
    println!("{report}\n");
    report
}

fn find<'a>(report: &'a Report, name: &str) -> &'a Check {
    report.checks.iter().find(|check| check.name == name).unwrap()
}

/// The one check of this name.
fn only(config: Config, name: &str) -> Check {
    let report = report(config, &[name]);
    assert_eq!(report.checks.len(), 1, "{report}");
    find(&report, name).clone()
}

/// Does what a report says, as this test's kubectl and user.
fn paste(fix: &str) {
    let kubernetes = repository().join("target/cluster/programs/kubernetes");
    let line = format!("kubectl() {{ {} kubectl \"$@\"; }}; {fix}", kubernetes.display());
    assert!(Command::new("sh").arg("-c").arg(&line).stdout(Stdio::null()).status().unwrap().success(), "{fix}");
}

fn command(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
    command.args(args).envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap()
}

fn kubeconfig_of(server: &str) -> String {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "own",
        "contexts": [{"name": "own", "context": {"cluster": "own"}}],
        "clusters": [{"name": "own", "cluster": {"server": server}}],
    });
    kubeconfig.to_string()
}

#[test]
fn where_all_is_well_nothing_is_found() {
    let began = Instant::now();
    let report = report(config().transport(Transport::Tunnel), &[]);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(report.state(), CheckState::Ok, "{report}");
    assert_eq!(report.checks.len(), 14);
    let settings = &find(&report, "config").found;
    assert!(
        settings.contains("lifetime=600 (from the program)") && settings.contains("transport=tunnel"),
        "{settings}"
    );
    assert!(find(&report, "pod").found.contains("would take one"));
}

#[test]
fn the_command_says_the_same_and_its_exit_code_tells() {
    let output = command(&["doctor", "config", "pod"], &[("SANDBOX_OWNER", "somebody")]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("owner=somebody (from SANDBOX_OWNER in the environment)"), "{text}");
    assert!(text.ends_with("nothing stands in the way of a sandbox\n"), "{text}");

    let output = command(&["--json", "doctor"], &[("SANDBOX_TRANSPORT", "pigeon")]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let of = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap();
    assert_eq!((&of("config")["state"], &of("config")["fix"]), (&json!("failure"), &json!("unset SANDBOX_TRANSPORT")));
    assert_eq!((&of("pod")["state"], &of("process")["state"]), (&json!("skipped"), &json!("ok")));
    assert_eq!(report["state"], "failure");

    assert_eq!(command(&["doctor", "no-such-check"], &[]).status.code(), Some(2));
}

#[test]
fn an_api_server_that_does_not_answer_is_the_one_failure() {
    let scratch = Scratch::new();
    // Nobody accepts its connections.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    std::fs::write(scratch.path("kubeconfig"), kubeconfig_of(&server)).unwrap();
    let silent = report(config().kubeconfig(scratch.path("kubeconfig")), &["quota"]);
    assert_eq!(find(&silent, "api-server").state, CheckState::Failure);
    assert_eq!(find(&silent, "quota").state, CheckState::Skipped);
    assert_eq!(silent.checks.len(), 2, "what is needed is there only because it failed");
    let absent = report(config().kubeconfig("/no/such/file"), &[]);
    assert!(find(&absent, "api-server").found.contains("/no/such/file"), "{absent}");
}

#[test]
fn one_that_stops_to_answer_holds_nobody_up_for_long() {
    let scratch = Scratch::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    // It tells its version, and takes all other questions without an answer.
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            if line.starts_with("GET /version") {
                let body = r#"{"major": "1", "minor": "37", "gitVersion": "v1.37.2", "buildDate": "", "compiler": "",
                    "gitCommit": "", "gitTreeState": "", "goVersion": "", "platform": ""}"#;
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
                    .unwrap();
            } else {
                silent.push(stream);
            }
        }
    });
    std::fs::write(scratch.path("kubeconfig"), kubeconfig_of(&server)).unwrap();
    let began = Instant::now();
    let silent = report(config().kubeconfig(scratch.path("kubeconfig")), &[]);
    // An answer alone may take 30 s elsewhere.
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert_eq!(find(&silent, "api-server").state, CheckState::Ok);
    assert_eq!((find(&silent, "quota").state, find(&silent, "pod").state), (CheckState::Skipped, CheckState::Failure));
    assert!(find(&silent, "pod").found.contains("no answer came"), "{silent}");
}

#[test]
fn credentials_that_are_refused_are_a_failure() {
    let scratch = Scratch::new();
    let mut kubeconfig: Value =
        serde_json::from_str(&kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"])).unwrap();
    kubeconfig["users"][0]["user"] = json!({"token": "of nobody"});
    std::fs::write(scratch.path("kubeconfig"), kubeconfig.to_string()).unwrap();
    let refused = report(config().kubeconfig(scratch.path("kubeconfig")), &["identity", "pod"]);
    assert_eq!(refused.state(), CheckState::Failure, "{refused}");
    assert!(refused.checks.iter().any(|check| check.found.contains("does not accept the credentials")), "{refused}");
}

#[test]
fn what_a_role_lacks_is_told_and_the_fix_grants_it() {
    let namespace = Namespace::new("doctor");
    namespace.kubectl(&["apply", "-f", repository().join("examples/role.yaml").to_str().unwrap()]);
    let scratch = Scratch::new();
    let token = namespace.kubectl(&["create", "token", "sandbox-client"]);
    let mut kubeconfig: Value =
        serde_json::from_str(&kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"])).unwrap();
    kubeconfig["users"][0]["user"] = json!({"token": token.trim()});
    std::fs::write(scratch.path("kubeconfig"), kubeconfig.to_string()).unwrap();
    let client = || config().kubeconfig(scratch.path("kubeconfig")).namespace(namespace.name());

    let all = report(client(), &[]);
    let user = format!("system:serviceaccount:{}:sandbox-client", namespace.name());
    assert_eq!((&find(&all, "identity").found, all.state()), (&user, CheckState::Skipped), "it may not look at all");
    for (rule, name, state) in [
        (3, "rights-events", CheckState::Warning),
        (2, "rights-exec", CheckState::Warning),
        (1, "rights-portforward", CheckState::Failure),
        (0, "rights-pods", CheckState::Failure),
    ] {
        let patch = format!(r#"[{{"op": "remove", "path": "/rules/{rule}"}}]"#);
        namespace.kubectl(&["patch", "role", "sandbox-client", "--type=json", "-p", &patch]);
        await_that("the right to be gone", || find(&report(client(), &[]), name).state != CheckState::Ok);
        assert_eq!(find(&report(client(), &[]), name).state, state, "{name}");
    }
    for name in ["rights-pods", "rights-exec", "rights-portforward", "rights-events"] {
        let check = find(&report(client(), &[]), name).clone();
        assert_ne!(check.state, CheckState::Ok);
        paste(&check.fix);
        await_that("the right to be there", || only(client(), name).state == CheckState::Ok);
    }
}

#[test]
fn what_is_wrong_with_a_namespace_is_told() {
    let absent = report(config().namespace("no-such-namespace"), &["namespace", "pod"]);
    assert_eq!(find(&absent, "namespace").state, CheckState::Failure);
    assert_eq!(find(&absent, "namespace").fix, "kubectl create namespace 'no-such-namespace'");
    assert_eq!(find(&absent, "pod").state, CheckState::Failure);

    let namespace = Namespace::new("doctor");
    let client = || config().namespace(namespace.name());
    assert!(only(client(), "namespace").found.contains("restricted"));
    assert_eq!(only(client(), "pod").state, CheckState::Ok);
    let apply = |object: Value| kubectl_with_input(&["-n", namespace.name(), "apply", "-f", "-"], &object.to_string());
    apply(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "closed"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }));
    let check = only(client().transport(Transport::Direct), "network-policy");
    assert!(check.state == CheckState::Warning && check.found.contains("closed"), "{check:?}");
    assert_eq!(only(client(), "network-policy").state, CheckState::Ok);
    apply(json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "tiny"},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "1Mi"}}]},
    }));
    let check = only(client(), "pod");
    assert!(check.state == CheckState::Failure && check.found.contains("1Mi"), "{check:?}");
    apply(json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": {"hard": {"pods": "0"}},
    }));
    await_that("the quota to be counted", || only(client(), "quota").state == CheckState::Failure);
}

#[test]
fn a_real_sandbox_lives_or_its_failure_is_told() {
    let check = only(config().owner("doctor-lives"), "sandbox");
    assert_eq!(check.state, CheckState::Ok, "{check:?}");
    assert!(check.found.contains("logged in after") && check.found.contains("deletion"), "{check:?}");
    let check = only(config().owner("doctor-fails").image("localhost/no-such-image:1"), "sandbox");
    assert!(check.state == CheckState::Failure && check.found.contains("no-such-image"), "{check:?}");
    for owner in ["doctor-lives", "doctor-fails"] {
        await_that("nothing to be left", || pods(&format!("sandbox/owner={owner}")).is_empty());
    }
}
