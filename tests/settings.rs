//! Settings and authentication: who wins over whom, and errors that say what was tried.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Scratch, example};

/// Runs the example that shows its settings, with nothing but these variables, in this directory.
fn show(directory: &Path, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(example("show_config"));
    command.env_clear().current_dir(directory).envs(variables.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
    let scratch = Scratch::new();
    let file = "# a comment\nSANDBOX_SSH_PORT=2222\nSANDBOX_IMAGE='from a file:1'\nSANDBOX_NAMESPACE=filed\nOTHER=x\n";
    std::fs::write(scratch.path(".env"), file).unwrap();
    std::fs::create_dir(scratch.path("below")).unwrap();
    let shown = show(&scratch.path("below"), &[("SANDBOX_SSH_PORT", "2020"), ("SANDBOX_COMMAND_TIMEOUT", "none")]);
    let shown = text(&shown.stdout);
    for expected in [
        "ssh_port: 2020",
        "image: \"from a file:1\"",
        "namespace: Some(\"filed\")",
        "command_timeout: None",
        "ssh_user: \"sandbox\"",
        "connect_timeout: Some(30s)",
        // Reading a file must not change the environment of the process.
        "environment: [\"SANDBOX_COMMAND_TIMEOUT\", \"SANDBOX_SSH_PORT\"]",
    ] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
}

#[test]
fn a_wrong_value_names_its_place_and_what_is_allowed() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path(".env"), "SANDBOX_TRANSPORT=pigeon\n").unwrap();
    let failed = show(&scratch.path(""), &[]);
    assert_eq!(failed.status.code(), Some(1));
    let message = "SANDBOX_TRANSPORT in .env is \"pigeon\", allowed is auto, direct or tunnel";
    assert!(text(&failed.stderr).contains(message), "{}", text(&failed.stderr));
    let failed = show(&scratch.path(""), &[("SANDBOX_TRANSPORT", "auto"), ("SANDBOX_SSH_PORT", "0")]);
    let message = "SANDBOX_SSH_PORT in the environment is \"0\", allowed is a port from 1 to 65535";
    assert!(text(&failed.stderr).contains(message), "{}", text(&failed.stderr));
}

#[test]
fn a_broken_file_is_an_error_that_shows_no_secret() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path(".env"), "FINE=1\nPASSWORD='hunter2\n").unwrap();
    let failed = show(&scratch.path(""), &[]);
    let message = text(&failed.stderr);
    assert!(failed.status.code() == Some(1) && message.contains(".env"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn without_a_way_to_kubernetes_the_error_says_which_were_tried() {
    let scratch = Scratch::new();
    let home = scratch.path("home");
    let quickstart = |variables: &[(&str, &str)]| {
        let mut command = Command::new(example("quickstart"));
        let output =
            command.env_clear().current_dir(scratch.path("")).env("HOME", &home).envs(variables.iter().copied());
        let output = output.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let message = quickstart(&[]);
    assert!(message.contains("Config") && message.contains(".kube/config"), "{message}");
    assert!(message.contains("service account"), "{message}");
    let missing = scratch.path("missing");
    let message = quickstart(&[("KUBECONFIG", missing.to_str().unwrap())]);
    assert!(message.contains("KUBECONFIG") && message.contains("missing"), "{message}");
    let message = quickstart(&[("SANDBOX_KUBECONFIG", missing.to_str().unwrap())]);
    assert!(message.contains("missing"), "{message}");
    let broken = scratch.path("broken");
    std::fs::write(&broken, "users: [{name: x, user: {token: hunter2}}]\nclusters: 7\n").unwrap();
    let message = quickstart(&[("KUBECONFIG", broken.to_str().unwrap())]);
    assert!(message.contains("broken") && !message.contains("hunter2"), "{message}");
}

#[test]
fn a_context_that_does_not_exist_is_named() {
    let config = common::config().context("no-such-context");
    let error = sandbox::Client::new(config).unwrap_err();
    assert_eq!(error.kind(), sandbox::ErrorKind::Config);
    assert!(error.to_string().contains("no-such-context"), "{error}");
}

#[test]
fn an_api_server_that_does_not_answer_is_unavailable() {
    let scratch = Scratch::new();
    let kubeconfig = scratch.path("kubeconfig");
    // Nothing listens on port 1 of the loopback.
    let text = "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n\
                users: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\ncurrent-context: a\n";
    std::fs::write(&kubeconfig, text).unwrap();
    let client = sandbox::Client::new(sandbox::Config::new().kubeconfig(&kubeconfig)).unwrap();
    let error = client.get_sandbox_info("any").unwrap_err();
    assert_eq!(error.kind(), sandbox::ErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable() && error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[test]
fn no_constructor_installs_a_logger_and_no_line_has_a_secret() {
    common::position();
    let run = |level: &str| {
        let output = Command::new(example("logged_life")).env("SANDBOX_LOG", level).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr).to_owned()
    };
    assert_eq!(run("off"), "");
    let lines = run("trace");
    assert!(lines.contains("created the Pod"), "{lines}");
    // The kubeconfig's key and token, this client's private key, and what the command was given.
    let kubeconfig = std::fs::read_to_string(std::env::var("KUBECONFIG").unwrap()).unwrap();
    let secrets = kubeconfig.lines().filter_map(|line| line.split_once("key-data: ")).map(|(_, key)| &key[..40]);
    for secret in secrets.chain(["PRIVATE KEY", "Bearer", "hunter2"]) {
        assert!(!lines.contains(secret), "{secret}");
    }
}
