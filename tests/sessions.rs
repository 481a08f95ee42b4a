//! SSH sessions: leases, limits, idle closing, replacement, host keys, transports, threads, and no API calls when warm.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use common::{
    Position, Scratch, await_that, beside, client, client_over, config, create, disconnect, is_late_end, kubectl,
    noise, position, session_counts, transports,
};
use sandbox::{Client, Error, ErrorKind, OpenOptions, SandboxSpec, Transport};

/// Whether the guest has connections through the API server, and directly from its clients.
fn ways(sandbox: &sandbox::Sandbox) -> (bool, bool) {
    let table = sandbox.execute("cat /proc/net/tcp /proc/net/tcp6").unwrap().stdout_text().into_owned();
    let peers = table.lines().filter_map(|line| {
        let [_, local, remote, state] = line.split_whitespace().take(4).collect::<Vec<_>>()[..] else { return None };
        (local.ends_with(":08AE") && state == "01").then(|| remote.split(':').next().unwrap().ends_with("0100007F"))
    });
    let (loopback, others): (Vec<bool>, Vec<bool>) = peers.partition(|is_loopback| *is_loopback);
    (!loopback.is_empty(), !others.is_empty())
}

/// A line that runs until this file is there.
fn waiting_for(file: &str) -> String {
    format!("until [ -e {file} ]; do sleep 0.02; done; echo done")
}

#[test]
fn warm_operations_make_no_api_call() {
    for &transport in transports() {
        let client = client_over(transport);
        let (sandbox, scratch) = (create(&client), Scratch::new());
        let name = sandbox.name();
        let local = scratch.path("file");
        std::fs::write(&local, noise(100_000)).unwrap();
        // The creation's own work goes on in the background for about a second.
        await_that("the host key to be in its annotation", || sandbox.info().unwrap().host_key.is_some());
        await_that("the address to be known", || sandbox.info().unwrap().pod_ip.is_some());
        sandbox.execute("true").unwrap();
        sandbox.upload_file(&local, "file").unwrap();
        let before = client.stats().api_requests;
        assert!(before > 0);
        for _ in 0..20 {
            sandbox.execute("true").unwrap();
            client.execute_command(name, "true").unwrap();
            client.attach(name).unwrap();
            client.upload_file(name, &local, "file").unwrap();
            client.download_file(name, "file", &local).unwrap();
            sandbox.files().read("file").unwrap();
            assert_eq!(client.ssh_port(name), 2222);
        }
        assert_eq!(client.stats().api_requests - before, 0, "over {transport:?}");
        sandbox.info().unwrap();
        assert_eq!(client.stats().api_requests - before, 1, "the counter counts");
    }
}

#[test]
fn each_transport_goes_its_way() {
    for &transport in transports() {
        let client = client_over(transport);
        let sandbox = create(&client);
        match (transport, position()) {
            // The host key is learned through the tunnel.
            (Transport::Direct, _) => assert!(ways(&sandbox).1),
            (Transport::Auto, Position::Inside) => {
                await_that("auto to move to the Pod's address", || ways(&sandbox).1);
            }
            (_, Position::Inside) | (Transport::Tunnel | Transport::Exec, _) => {
                assert_eq!(ways(&sandbox), (true, false))
            }
            (_, Position::Outside) => {
                await_that("the address to be known", || sandbox.info().unwrap().pod_ip.is_some());
                assert_eq!(ways(&sandbox), (true, false));
            }
        }
    }
}

#[test]
fn sessions_are_used_again_and_limited() {
    let client = Client::new(config().max_sessions(3).transport(Transport::Tunnel)).unwrap();
    let sandbox = create(&client);
    for _ in 0..5 {
        sandbox.execute("true").unwrap();
    }
    assert_eq!(session_counts(&sandbox), (1, 0));
    std::thread::scope(|scope| {
        let commands: Vec<_> = (0..12).map(|_| scope.spawn(|| sandbox.execute(waiting_for("one")))).collect();
        await_that("all sessions to be busy", || session_counts(&sandbox) == (0, 3));
        beside(&sandbox, "touch one");
        for command in commands {
            assert_eq!(command.join().unwrap().unwrap().stdout, b"done\n");
            assert!(sandbox.session_counts().busy <= 3);
        }
    });
    assert_eq!(session_counts(&sandbox), (3, 0));
    let error = std::thread::scope(|scope| {
        let busy: Vec<_> = (0..3).map(|_| scope.spawn(|| sandbox.execute(waiting_for("two")))).collect();
        await_that("all sessions to be busy", || session_counts(&sandbox) == (0, 3));
        let error = sandbox.shell("true").timeout(Duration::from_millis(200)).output().unwrap_err();
        beside(&sandbox, "touch two");
        busy.into_iter().for_each(|one| drop(one.join().unwrap().unwrap()));
        error
    });
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("all 3 SSH sessions were busy"), "{error}");
}

#[test]
fn idle_sessions_are_closed_in_the_background() {
    let client = Client::new(config().idle_timeout(Duration::from_secs(3))).unwrap();
    let sandbox = create(&client);
    sandbox.execute("true").unwrap();
    assert_eq!(sandbox.session_counts().idle, 1);
    await_that("the session to be closed", || session_counts(&sandbox) == (0, 0));
    // One that is busy is not idle, however long it takes.
    assert_eq!(sandbox.execute("sleep 6; echo still here").unwrap().stdout, b"still here\n");
}

#[test]
fn a_renewal_waits_for_no_session() {
    let client = Client::new(config().max_sessions(1)).unwrap();
    let sandbox = create(&client);
    let running = sandbox.command("sleep").arg("600").spawn().unwrap();
    assert_eq!(session_counts(&sandbox), (0, 1));
    sandbox.renew(Duration::from_secs(900)).unwrap();
    assert_eq!(session_counts(&sandbox), (0, 1));
    running.kill().unwrap();
}

#[test]
fn a_dead_session_is_replaced_unnoticed() {
    for &transport in transports() {
        let sandbox = create(&client_over(transport));
        for round in 0..3 {
            sandbox.execute("true").unwrap();
            disconnect(&sandbox);
            match sandbox.execute(format!("echo {round}")) {
                Err(e) if is_late_end(transport, &e) => {}
                result => assert_eq!(result.unwrap().stdout, format!("{round}\n").into_bytes()),
            }
        }
    }
}

#[test]
fn idle_sessions_that_died_are_replaced_before_anything_is_sent() {
    for &transport in transports() {
        let sandbox = &create(&client_over(transport));
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| sandbox.execute(waiting_for("go")))).collect();
            await_that("all to run", || session_counts(sandbox) == (0, 4));
            beside(sandbox, "touch go");
            all.into_iter().for_each(|one| drop(one.join().unwrap().unwrap()));
        });
        let idle = sandbox.session_counts().idle;
        assert_eq!(idle, 4);
        disconnect(sandbox);
        for _ in 0..=idle {
            match sandbox.execute("true") {
                Err(e) if is_late_end(transport, &e) => {}
                result => assert!(result.unwrap().status.success()),
            }
        }
        sandbox.files().write("file", "x").unwrap();
    }
}

#[test]
fn another_host_key_is_refused() {
    for &transport in transports() {
        let sandbox = create(&client());
        await_that("the host key to be in its annotation", || sandbox.info().unwrap().host_key.is_some());
        assert_eq!(sandbox.info().unwrap().host_key, sandbox.host_key());
        let other_key = create(&client()).host_key().unwrap();
        let annotation = format!("sandbox/host-key={other_key}");
        kubectl(&["annotate", "--overwrite", "pod", sandbox.name(), &annotation]);
        let attached = client_over(transport).attach(sandbox.name()).unwrap();
        let error = attached.execute("touch was-here").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HostKeyMismatch, "{error}");
        assert!(error.to_string().contains(&other_key), "{error}");
        // The handle that learned the right key from the Pod itself is not misled.
        assert_eq!(sandbox.execute("ls").unwrap().stdout, b"");
    }
}

#[test]
fn thirty_two_threads_on_four_sandboxes_mix_nothing_up() {
    for &transport in transports() {
        let client = client_over(transport);
        let sandboxes: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| create(&client))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let scratch = Scratch::new();
        std::thread::scope(|scope| {
            for thread in 0..32 {
                let (sandbox, scratch) = (&sandboxes[thread % 4], &scratch);
                scope.spawn(move || {
                    for round in 0..6 {
                        let tag = format!("{}-{thread}-{round}", sandbox.name());
                        let output = sandbox.shell("uname -n; cat; echo $TAG >&2").stdin(tag.clone()).env("TAG", &tag);
                        let output = output.output().unwrap();
                        assert_eq!(output.stdout_text(), format!("{}\n{tag}", sandbox.name()));
                        assert_eq!(output.stderr_text(), format!("{tag}\n"));
                        let bytes = [tag.as_bytes(), &noise(50_000 + thread)].concat();
                        let (local, back) = (scratch.path(&tag), scratch.path(&format!("{tag}.back")));
                        std::fs::write(&local, &bytes).unwrap();
                        sandbox.upload_file(&local, &tag).unwrap();
                        sandbox.download_file(&tag, &back).unwrap();
                        assert!(std::fs::read(back).unwrap() == bytes);
                        assert_eq!(sandbox.info().unwrap().name, sandbox.name());
                    }
                });
            }
        });
    }
}

#[test]
fn silence_is_no_failure() {
    let client = client();
    let sandbox = create(&client);
    let began = Instant::now();
    assert_eq!(sandbox.execute("sleep 8; echo woke").unwrap().stdout, b"woke\n");
    assert!(began.elapsed() >= Duration::from_secs(8));
}

#[test]
fn blocking_calls_in_async_code_and_in_a_forked_child_are_errors() {
    let client = client();
    let sandbox = create(&client);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test needs async code to call from")]
    let errors = runtime.block_on(async {
        [
            sandbox.execute("true").unwrap_err(),
            client.list().unwrap_err(),
            client.create(&SandboxSpec::new()).unwrap_err(),
            sandbox.files().read("x").unwrap_err(),
            sandbox.delete().unwrap_err(),
        ]
    });
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::AsyncContext, "{error}");
    }
    let other = Client::new(config().transport(Transport::Tunnel)).unwrap();
    let kept = create(&other);
    kept.execute("true").unwrap();
    let mut only_copy = Some(Client::new(config()).unwrap().attach(kept.name()).unwrap());
    only_copy.as_ref().unwrap().execute("true").unwrap();
    let mut file = Some(kept.files().open_with("file", OpenOptions::new().write(true).create(true)).unwrap());
    #[expect(unsafe_code, reason = "fork")]
    // SAFETY: the child only makes calls that are to be refused at once, and leaves without running anything else.
    let status = unsafe {
        match libc::fork() {
            0 => {
                // One that hangs ends too, and says so by its status.
                libc::alarm(30);
                // Dropping what came from the parent must leave the parent's connections alone.
                drop(only_copy.take());
                let mut file = file.take().unwrap();
                let is_forked = |e: std::io::Error| {
                    e.get_ref().and_then(|e| e.downcast_ref::<Error>()).is_some_and(|e| e.kind() == ErrorKind::Forked)
                };
                let refused = file.write(b"child").is_err_and(is_forked)
                    && file.seek(SeekFrom::End(0)).is_err_and(is_forked)
                    && file.metadata().is_err_and(|e| e.kind() == ErrorKind::Forked)
                    && file.close().is_err_and(|e| e.kind() == ErrorKind::Forked)
                    && sandbox.execute("true").is_err_and(|e| e.kind() == ErrorKind::Forked)
                    && client.list().is_err_and(|e| e.kind() == ErrorKind::Forked)
                    && sandbox.files().read("x").is_err_and(|e| e.kind() == ErrorKind::Forked);
                libc::_exit(if refused { 0 } else { 1 });
            }
            child => {
                let mut status = -1;
                libc::waitpid(child, &raw mut status, 0);
                status
            }
        }
    };
    assert_eq!(status, 0);
    let mut file = file.unwrap();
    file.write_all(b"parent").unwrap();
    file.close().unwrap();
    assert_eq!(kept.files().read("file").unwrap(), b"parent");
    assert!(sandbox.execute("true").unwrap().status.success());
    let copy = only_copy.unwrap();
    let before = copy.session_counts();
    assert!(copy.execute("true").unwrap().status.success());
    assert_eq!(copy.session_counts(), before, "the session that was idle at the fork is the one that was used");
}
