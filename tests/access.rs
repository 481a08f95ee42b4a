//! In-cluster authentication from a real Pod, with the Role that the project ships.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use common::{Namespace, Scratch, config, example, repository};
use sandbox::{Client, ErrorKind, SandboxSpec};
use serde_json::Value;

/// A namespace with the service account and the Role in it.
fn namespace() -> Namespace {
    let namespace = Namespace::new("access");
    namespace.kubectl(&["apply", "-f", repository().join("examples/role.yaml").to_str().unwrap()]);
    namespace
}

/// Runs the tour in a sandbox that has the service account, over this transport.
fn tour(namespace: &Namespace, transport: &str) -> sandbox::Output {
    let client = Client::new(config().namespace(namespace.name())).unwrap();
    let template = r#"{"spec": {"serviceAccountName": "sandbox-client", "automountServiceAccountToken": true}}"#;
    let spec = SandboxSpec::new().pod_template(template).unwrap();
    let carrier = client.create(&spec).unwrap();
    carrier.upload_file(example("tour"), "tour").unwrap();
    let command = carrier.command("./tour").env("SANDBOX_CREATE_TIMEOUT", "60");
    let output = command.env("SANDBOX_TRANSPORT", transport).output().unwrap();
    carrier.delete().unwrap();
    output
}

/// Verb and resource of each request that the service account made and was allowed.
fn audited(namespace: &str) -> BTreeSet<(String, String)> {
    let log = std::fs::read_to_string(repository().join("target/cluster/state/logs/audit.log")).unwrap();
    let user = format!("system:serviceaccount:{namespace}:sandbox-client");
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries
        .filter(|entry| entry["user"]["username"] == user.as_str())
        .filter(|entry| entry["annotations"]["authorization.k8s.io/decision"] == "allow")
        .filter_map(|entry| {
            let resource = entry["objectRef"]["resource"].as_str()?;
            let resource = match entry["objectRef"]["subresource"].as_str() {
                Some(subresource) => format!("{resource}/{subresource}"),
                None => resource.to_owned(),
            };
            Some((entry["verb"].as_str()?.to_owned(), resource))
        })
        .collect()
}

fn granted(namespace: &Namespace) -> BTreeSet<(String, String)> {
    let role = namespace.kubectl(&["get", "role", "sandbox-client", "-o", "json"]);
    let role: Value = serde_json::from_str(&role).unwrap();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let rules = role["rules"].as_array().unwrap();
    rules
        .iter()
        .flat_map(|rule| {
            let verbs = texts(&rule["verbs"]);
            let resources = texts(&rule["resources"]);
            resources.into_iter().flat_map(move |resource| {
                verbs.clone().into_iter().map(move |verb| (verb, resource.clone())).collect::<Vec<_>>()
            })
        })
        .collect()
}

#[test]
fn every_operation_works_in_the_cluster_with_the_role_and_needs_all_of_it() {
    let namespace = namespace();
    let output = tour(&namespace, "auto");
    assert!(output.status.success(), "{}", output.stderr_text());
    assert!(output.stdout_text().contains("deleted sandbox-"), "{}", output.stdout_text());
    let mut unused = granted(&namespace);
    for used in audited(namespace.name()) {
        assert!(unused.remove(&used), "{used:?} is not in the Role");
    }
    // Of the two verbs that a tunnel needs, the log has the first only. The next test shows that it needs both.
    unused.retain(|(verb, resource)| !(verb == "create" && resource.starts_with("pods/")));
    // Asked only about a Pod that is not well and does not say itself why.
    unused.remove(&("list".to_owned(), "events".to_owned()));
    assert_eq!(unused, BTreeSet::new(), "granted and never used");
}

#[test]
fn without_a_permission_the_error_says_which() {
    let namespace = namespace();
    let patch = r#"[{"op": "remove", "path": "/rules/0/verbs/0"}]"#;
    namespace.kubectl(&["patch", "role", "sandbox-client", "--type=json", "-p", patch]);
    let output = tour(&namespace, "auto");
    assert_eq!(output.status.code(), Some(1));
    let message = output.stderr_text();
    assert!(message.contains("PermissionDenied") && message.contains("cannot create resource"), "{message}");

    namespace.kubectl(&["apply", "-f", repository().join("examples/role.yaml").to_str().unwrap()]);
    let patch = r#"[{"op": "remove", "path": "/rules/1"}]"#;
    namespace.kubectl(&["patch", "role", "sandbox-client", "--type=json", "-p", patch]);
    let message = tour(&namespace, "tunnel").stderr_text().into_owned();
    assert!(message.contains("PermissionDenied") && message.contains("pods/portforward"), "{message}");
    // "auto" does without.
    let output = tour(&namespace, "auto");
    assert!(output.status.success(), "{}", output.stderr_text());

    for create in ["/rules/1/verbs/1", "/rules/2/verbs/1"] {
        namespace.kubectl(&["apply", "-f", repository().join("examples/role.yaml").to_str().unwrap()]);
        let patch = format!(
            r#"[{{"op": "test", "path": "{create}", "value": "create"}}, {{"op": "remove", "path": "{create}"}}]"#
        );
        namespace.kubectl(&["patch", "role", "sandbox-client", "--type=json", "-p", &patch]);
        // Kubernetes names the Pod here, and neither verb nor resource.
        let message = tour(&namespace, "tunnel").stderr_text().into_owned();
        assert!(message.contains("PermissionDenied") && message.contains("is forbidden"), "{message}");
    }
}

#[test]
fn without_events_it_still_works() {
    let namespace = namespace();
    let patch = r#"[{"op": "remove", "path": "/rules/3"}]"#;
    namespace.kubectl(&["patch", "role", "sandbox-client", "--type=json", "-p", patch]);
    let output = tour(&namespace, "auto");
    assert!(output.status.success(), "{}", output.stderr_text());
}

#[test]
fn clients_that_share_a_key_share_sandboxes() {
    let scratch = Scratch::new();
    let key = scratch.path("key");
    let openssl = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&key).status();
    assert!(openssl.unwrap().success());
    let client = || Client::new(config().ssh_key(&key)).unwrap();
    let sandbox = common::create(&client());
    // Nobody has a key added.
    assert_eq!(client().execute_command(sandbox.name(), "echo let in").unwrap().stdout, b"let in\n");
    let log = std::fs::read_to_string(repository().join("target/cluster/state/logs/audit.log")).unwrap();
    let mut entries = log.lines().filter(|line| line.contains(sandbox.name()));
    assert!(entries.clone().count() > 1 && !entries.any(|line| line.contains("\"subresource\":\"exec\"")));
    let error = Client::new(config().ssh_key("/no/such/key")).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("/no/such/key"), "{error}");
}
