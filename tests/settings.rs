//! Settings and authentication: who wins over whom, and errors that say what was tried.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::os::unix::fs::PermissionsExt;
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
    let place = scratch.path(".env, line 1");
    let message =
        format!("SANDBOX_TRANSPORT in {} is \"pigeon\"; it must be auto, direct, tunnel or exec", place.display());
    assert!(text(&failed.stderr).contains(&message), "{}", text(&failed.stderr));
    let failed = show(&scratch.path(""), &[("SANDBOX_TRANSPORT", "auto"), ("SANDBOX_SSH_PORT", "0")]);
    let message = "SANDBOX_SSH_PORT in the environment is \"0\"; it must be a port from 1 to 65535";
    assert!(text(&failed.stderr).contains(message), "{}", text(&failed.stderr));
}

#[test]
fn foreign_lines_of_the_file_never_matter() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("below")).unwrap();
    for foreign in [
        &b"GREETING=hello world"[..],
        b"A=a$b\"c",
        b"export X",
        b"{\"a\": 1}",
        b"A=Jos\xe9",
        b"PASSWORD='hunter2",
        b"PASSWORD=\"hunter2",
        b"\xef\xbb\xbf",
    ] {
        // A byte order mark stands at the beginning alone.
        let first = if foreign.starts_with(b"\xef") { foreign } else { &[foreign, b"\n"].concat() };
        std::fs::write(scratch.path(".env"), [first, b"SANDBOX_OWNER=x\n", foreign].concat()).unwrap();
        for directory in ["", "below"] {
            let shown = show(&scratch.path(directory), &[]);
            assert!(shown.status.success(), "{}: {}", String::from_utf8_lossy(foreign), text(&shown.stderr));
            assert!(text(&shown.stdout).contains("owner: \"x\""), "{}", text(&shown.stdout));
        }
    }
}

#[test]
fn a_broken_line_of_ours_is_an_error_that_names_its_place_and_shows_no_secret() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path(".env"), "FINE=1\nSANDBOX_NAMESPACE=\"hunter2\nFINE=2\n").unwrap();
    let failed = show(&scratch.path(""), &[]);
    let (message, place) = (text(&failed.stderr), scratch.path(".env, line 2"));
    assert!(failed.status.code() == Some(1) && message.contains(place.to_str().unwrap()), "{message}");
    assert!(message.contains("SANDBOX_NAMESPACE") && !message.contains("hunter2"), "{message}");
    // What the environment says is not looked for in the file.
    assert!(show(&scratch.path(""), &[("SANDBOX_NAMESPACE", "n")]).status.success());
}

#[test]
fn the_file_chooses_no_program_no_cluster_and_no_key() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("sub")).unwrap();
    let pwned = scratch.path("pwned");
    let kubeconfig = serde_json::json!({
        "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "c", "user": {"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
            "command": "touch", "args": [pwned],
        }}}],
    });
    let good = scratch.path("good");
    std::fs::write(scratch.path("k.yaml"), kubeconfig.to_string()).unwrap();
    std::fs::write(
        &good,
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\ncurrent-context: c\n\
                           contexts: [{name: c, context: {cluster: c, user: c}}]\n",
    )
    .unwrap();
    let absolute = scratch.path("k.yaml").display().to_string();
    for (line, directory) in [
        ("SANDBOX_KUBECONFIG=./k.yaml", ""),
        (&*format!("SANDBOX_KUBECONFIG={absolute}"), "sub"),
        ("export SANDBOX_CONTEXT=other", "sub"),
        ("SANDBOX_SSH_KEY=./key", "sub"),
    ] {
        std::fs::write(scratch.path(".env"), format!("\n{line}\n")).unwrap();
        let mut command = Command::new(example("quickstart"));
        command.env_clear().current_dir(scratch.path(directory)).env("KUBECONFIG", &good);
        let output = command.output().unwrap();
        let (message, place) = (text(&output.stderr), scratch.path(".env, line 2"));
        let name = line.trim_start_matches("export ").split('=').next().unwrap();
        assert!(message.contains(name) && message.contains(&*place.to_string_lossy()), "{message}");
        assert!(message.contains("refused") && output.status.code() == Some(1), "{message}");
        assert!(!pwned.exists());
    }
    // The control: named by the caller, it is run.
    std::fs::remove_file(scratch.path(".env")).unwrap();
    let mut command = Command::new(example("quickstart"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("SANDBOX_KUBECONFIG", &absolute);
    assert!(!command.output().unwrap().status.success());
    assert!(pwned.exists());
}

#[test]
fn a_directory_that_cannot_be_searched_has_no_file() {
    let scratch = Scratch::new();
    std::fs::create_dir_all(scratch.path("p/q")).unwrap();
    // Another user may have no way to where the examples are built.
    std::fs::copy(example("show_config"), scratch.path("show_config")).unwrap();
    let drop =
        if rustix::process::geteuid().is_root() { "setpriv --reuid=65534 --regid=65534 --clear-groups" } else { "" };
    let line = format!("cd p/q && chmod 600 .. && {drop} {}", scratch.path("show_config").display());
    let output = Command::new("sh").args(["-c", &line]).current_dir(scratch.path("")).output().unwrap();
    std::fs::set_permissions(scratch.path("p"), PermissionsExt::from_mode(0o700)).unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("owner: \"default\""), "{}", text(&output.stdout));
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
