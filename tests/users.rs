//! Commands as another user, which only a sandbox that runs as root allows.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::time::Duration;

use common::{client, config, create, kubectl};
use sandbox::{Client, ErrorKind, SandboxSpec};

const AS_ROOT: &str = r#"{"spec": {
    "securityContext": {"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false},
    "containers": [{"name": "sandbox", "securityContext": {
        "runAsNonRoot": false, "capabilities": {"drop": [], "add": []}
    }}]
}}"#;

#[test]
fn a_sandbox_that_runs_as_root_runs_commands_as_anybody() {
    // The namespace of the tests takes no Pod that runs as root.
    let client = Client::new(config().namespace("default").ssh_user("root")).unwrap();
    let sandbox = client.create(&SandboxSpec::new().pod_template(AS_ROOT).unwrap()).unwrap();
    let test = || {
        let text = |command: sandbox::Command| command.output().unwrap().check().unwrap().stdout_text().into_owned();
        assert_eq!(text(sandbox.command("id").arg("-un")), "root\n");
        assert_eq!(text(sandbox.command("id").arg("-un").user("root")), "root\n");
        assert_eq!(text(sandbox.command("id").arg("-un").user("sandbox")), "sandbox\n");
        assert_eq!(text(sandbox.command("id").arg("-Gn").user("sandbox")), "sandbox\n");
        let line = "echo $(id -un) $HOME $USER $LOGNAME \"$1\" \"$VALUE\"; cat";
        let shell = sandbox.shell(line).arg("an argument").env("VALUE", "a 'value'").user("nobody").stdin("input");
        assert_eq!(text(shell), "nobody /nonexistent nobody nobody an argument a 'value'\ninput");
        // Root may not look at the SFTP server's process either.
        sandbox.files().write("file", "").unwrap();
        // A signal stays a signal, and a timeout reaches what belongs to another user.
        let killed = sandbox.shell("kill -KILL $$").user("nobody").output().unwrap();
        assert_eq!(killed.status.signal(), Some("KILL"));
        for user in ["nobody", "root"] {
            let stubborn = sandbox.shell("trap '' TERM; setsid sleep 1001 & sleep 1002").user(user);
            let error = stubborn.timeout(Duration::from_secs(5)).output().unwrap_err();
            assert!(error.to_string().contains("all its processes were killed"), "{error}");
        }
        assert_eq!(text(sandbox.shell("pgrep -c -u nobody sleep || true")), "0\n");
        for user in ["root", "sandbox"] {
            let mut child = sandbox
                .shell("trap 'exit 9' INT; echo ready; while :; do sleep 0.05; done")
                .user(user)
                .spawn()
                .unwrap();
            let mut ready = [0; 6];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
            child.signal("INT").unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(9));
            let mut child = sandbox.command("sleep").arg("100").user(user).spawn().unwrap();
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some("KILL"));
        }
        sandbox.files().write("/tmp/file", "x").unwrap();
        let detached = sandbox.command("id").arg("-un").user("sandbox").detach("job").unwrap();
        assert!(detached.wait(Duration::from_secs(60)).unwrap().success());
        assert_eq!(detached.read(sandbox::OutputStream::Stdout, 0, 100).unwrap(), b"sandbox\n");
        let error = sandbox.command("true").user("somebody-else").output().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Command);
        assert!(error.to_string().contains("no user 'somebody-else'"), "{error}");
    };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
    kubectl(&["delete", "pod", "--namespace=default", sandbox.name(), "--wait=false", "--grace-period=1"]);
    result.unwrap();
}

#[test]
fn elsewhere_only_its_own_user_is_allowed() {
    let client = client();
    let sandbox = create(&client);
    assert_eq!(sandbox.command("id").arg("-un").user("sandbox").output().unwrap().stdout, b"sandbox\n");
    let error = sandbox.shell("touch ran").user("root").output().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Command);
    assert!(error.to_string().contains("only a sandbox that runs as root allows another user"), "{error}");
    assert!(!sandbox.command("ls").arg("ran").status().unwrap().success());
    for wrong in ["", "-root", "a b", "$(id)"] {
        assert_eq!(sandbox.command("true").user(wrong).output().unwrap_err().kind(), ErrorKind::Command);
    }
}
