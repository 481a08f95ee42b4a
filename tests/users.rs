//! Commands as another user, which only a sandbox that runs as root allows.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::fs;
use std::time::Duration;

use common::{Scratch, client, config, create, kubectl, noise};
use sandbox::{Client, Error, ErrorKind, OpenOptions, OutputStream, Sandbox, SandboxSpec};

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

/// Runs a test in a sandbox whose guest is root, which the namespace of the tests does not take.
fn below_root(user: &str, test: impl FnOnce(&Sandbox)) {
    let client = Client::new(config().namespace("default")).unwrap();
    let sandbox = client.create(&SandboxSpec::new().commands_as(user)).unwrap();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&sandbox)));
    kubectl(&["delete", "pod", "--namespace=default", sandbox.name(), "--wait=false", "--grace-period=1"]);
    result.unwrap();
}

fn printed(sandbox: &Sandbox, line: &str) -> String {
    sandbox.execute(line).unwrap().check().unwrap().stdout_text().into_owned()
}

fn is_denied<T: std::fmt::Debug>(what: &str, result: Result<T, Error>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error}");
}

#[test]
fn commands_have_a_user_of_their_own_below_root() {
    below_root("sandbox", |sandbox| {
        assert_eq!(printed(sandbox, "id -u; id -g; id -G; echo $HOME"), "1000\n1000\n1000\n/home/sandbox\n");
        assert_eq!(sandbox.command("id").arg("-u").user("root").output().unwrap().stdout, b"0\n");
        let terminal = sandbox.shell("test -O $(tty) && stty size").terminal("vt100", 90, 33).output().unwrap();
        assert_eq!(terminal.stdout_text(), "33 90\r\n");
        // A keeper is root's: nothing reaches it, so that every end is proved.
        assert_eq!(
            printed(sandbox, "kill -9 $PPID 2> refused || kill -STOP $PPID 2>> refused || cat refused")
                .matches("not permitted")
                .count(),
            2
        );
        let stubborn = sandbox.shell("kill -9 $PPID -1; trap '' TERM; setsid sleep 1001 & sleep 1002; sleep 1003");
        let error = stubborn.timeout(Duration::from_secs(3)).output().unwrap_err();
        // It may have killed itself before.
        assert!(!error.to_string().contains("not proved"), "{error}");
        let error =
            sandbox.shell("setsid sleep 1001 & sleep 1002").timeout(Duration::from_secs(2)).output().unwrap_err();
        assert!(error.to_string().contains("all its processes were killed"), "{error}");
        assert_eq!(printed(sandbox, "pgrep -c sleep || true"), "0\n");
    });
}

#[test]
fn files_are_those_of_the_commands_user() {
    below_root("sandbox", |sandbox| {
        let (files, scratch) = (sandbox.files(), Scratch::new());
        let hide = "umask 077; mkdir /var/private && echo root > /var/private/file";
        sandbox.shell(hide).user("root").output().unwrap().check().unwrap();
        sandbox.execute("ln -s /var/private/file link; ln -s /etc/passwd users").unwrap().check().unwrap();
        let local = scratch.path("local");
        fs::create_dir(&local).unwrap();
        fs::write(local.join("file"), noise(10_000)).unwrap();
        let private = "/var/private/file";
        is_denied("read", files.read(private));
        is_denied("read by a link", files.read("link"));
        is_denied("write", files.write(private, "x"));
        is_denied("write beside", files.write("/etc/new", "x"));
        is_denied("write by a link", files.write("users", "x"));
        is_denied("append", files.append("users", "x"));
        is_denied("open", files.open_with("users", OpenOptions::new().write(true)));
        is_denied("upload", files.upload(local.join("file"), "/etc/new"));
        is_denied("download", files.download(private, scratch.path("down")));
        is_denied("list", files.read_dir("/var/private"));
        is_denied("metadata", files.metadata(private));
        is_denied("create a directory", files.create_dir("/etc/new"));
        is_denied("remove a file", files.remove_file("/etc/passwd"));
        is_denied("remove a directory", files.remove_dir_all("/var/private"));
        is_denied("rename", files.rename("/etc/passwd", "/etc/users"));
        is_denied("permissions", files.set_permissions("/etc/passwd", 0o666));
        is_denied("a link", files.symlink("x", "/etc/link"));
        is_denied("upload a tree", files.upload_dir(&local, "/etc/tree"));
        is_denied("download a tree", files.download_dir("/var/private", scratch.path("tree")));
        assert_eq!(printed(sandbox, "ls -d /etc/new /etc/tree /etc/link 2> /dev/null | wc -l"), "0\n");

        files.write("written", "x").unwrap();
        files.upload(local.join("file"), "uploaded").unwrap();
        files.create_dir("made").unwrap();
        files.symlink("x", "linked").unwrap();
        files.upload_dir(&local, "tree").unwrap();
        let owners = printed(sandbox, "stat -c %U:%G written uploaded made linked tree tree/file");
        assert_eq!(owners, "sandbox:sandbox\n".repeat(6));
        files.download_dir("tree", scratch.path("back")).unwrap();
        assert!(fs::read(scratch.path("back").join("file")).unwrap() == noise(10_000));
    });
}

#[test]
fn detached_output_is_out_of_the_commands_reach() {
    // A user that the image does not know, and the longest way of a detached command.
    below_root("54321:54322", |sandbox| {
        assert_eq!(printed(sandbox, "id -u; id -g; cd; touch here && stat -c %u here"), "54321\n54322\n54321\n");
        let line = "id -u; head -c 3000000 /dev/zero; cat; exit 5";
        let job = sandbox.shell(line).stdin("input").detach("job").unwrap();
        assert_eq!(job.wait(Duration::from_secs(60)).unwrap().code(), Some(5));
        let forge = "for file in /proc/[0-9]*/fd/*; do test -f $file && echo forged > $file; done 2> /dev/null; \
                     find / -xdev -user 54321 -size +100k 2> /dev/null";
        assert_eq!(sandbox.execute(forge).unwrap().stdout_text(), "");
        let kept = job.read(OutputStream::Stdout, 0, 4_000_000).unwrap();
        assert!(kept.starts_with(b"54321\n\0\0") && kept.ends_with(b"\0input") && kept.len() == 3_000_011);
    });
}

#[test]
fn a_user_that_commands_can_not_have_is_told_at_creation() {
    let client = Client::new(config().namespace("default")).unwrap();
    for (user, why) in [("no-such-user", "no user 'no-such-user'"), ("root", "root")] {
        let error = client.create(&SandboxSpec::new().commands_as(user)).unwrap_err();
        assert!(error.kind() == ErrorKind::Create && error.to_string().contains(why), "{error}");
    }
    let error = client.create(&SandboxSpec::new().commands_as("sandbox").runtime_class("gvisor")).unwrap_err();
    assert!(error.kind() == ErrorKind::Create && error.to_string().contains("as under gVisor"), "{error}");
    let both = SandboxSpec::new().commands_as("sandbox").user_from_cluster();
    assert_eq!(client.create(&both).unwrap_err().kind(), ErrorKind::InvalidArgument);
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
