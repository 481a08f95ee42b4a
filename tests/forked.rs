//! A forked child hangs nowhere, whatever the other threads of its parent were doing. Needs no cluster.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, reason = "a test program")]

mod common;
mod sshd;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sandbox::{Claim, Client, ErrorKind, Pool, PoolOptions, Result, Sandbox, SandboxSpec, SessionCounts};
use sshd::Server;
use sshd::connection::Connection;

/// Commands with exit code 0, one after the other.
fn serve(client: &mut Connection) -> io::Result<()> {
    client.open_commands()?;
    loop {
        client.transport.renew();
        client.await_request()?;
        client.started()?;
        client.await_input_end()?;
        client.ended(0)?;
    }
}

fn is_refused<T>(result: Result<T>) -> bool {
    result.is_err_and(|e| e.kind() == ErrorKind::Forked)
}

/// What a child must get through. All of it is refused, or answers without a lock.
fn is_safe(client: &Client, sandbox: &Sandbox, pool: &Pool) -> bool {
    let has_no_pool = is_refused(pool.fill())
        && is_refused(pool.claim(&Claim::new()))
        && is_refused(pool.status())
        && is_refused(pool.drain())
        && is_refused(pool.remove())
        && is_refused(client.pool("other", &SandboxSpec::new(), &PoolOptions::new()));

    let refused = is_refused(sandbox.execute("true"))
        && is_refused(sandbox.files().read("file"))
        && is_refused(client.attach(sandbox.name()))
        && is_refused(client.execute_command(sandbox.name(), "true"))
        && is_refused(client.list());
    let has_port = client.ssh_port("x") == sandbox_protocol::DEFAULT_PORT;
    has_no_pool
        && refused
        && sandbox.session_counts() == SessionCounts::default()
        && sandbox.host_key().is_none()
        && has_port
}

#[test]
fn a_forked_child_hangs_in_no_lock() {
    let server = Server::start(serve);
    let client = sshd::client(|config| config.max_sessions(3));
    let name = server.name().to_owned();
    let (is_over, commands) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        // More than there are sessions, so that some wait for one.
        for _ in 0..6 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    assert!(client.execute_command(&name, "true").unwrap().status.success());
                    commands.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // What waits for no round trip takes the locks more often than that.
        scope.spawn(|| {
            let sandbox = client.attach(&name).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                drop((sandbox.session_counts(), sandbox.host_key(), client.ssh_port(&name), client.attach(&name)));
            }
        });
        // One of its threads looks at the pool all the time.
        let options = PoolOptions::new().keep_filled(true);
        let pool = client.pool("forked", &SandboxSpec::new(), &options).unwrap();
        let _end = End(&is_over);
        let (mut forks, began) = (0, Instant::now());
        while forks < 300 || commands.load(Ordering::Relaxed) < 100 {
            assert!(began.elapsed() < Duration::from_secs(120), "{forks} forks, {commands:?} commands");
            let copies = (client.clone(), client.attach(&name).unwrap(), pool.clone());
            let status = fork(move || {
                let safe = is_safe(&copies.0, &copies.1, &copies.2);
                drop(copies);
                safe
            });
            forks += 1;
            assert_eq!(status, 0, "of fork {forks}");
        }
    });
}

/// Has the other threads end, also if this one panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The wait status of a child that does this.
#[expect(unsafe_code, reason = "fork")]
fn fork(work: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child makes calls that are to be refused without a lock, frees memory, which glibc's fork prepares
    // for, and leaves without running anything else.
    unsafe {
        match libc::fork() {
            0 => {
                // One that hangs ends too, and says so by its status.
                libc::alarm(10);
                let code = if work() { 0 } else { 1 };
                libc::_exit(code)
            }
            child => {
                let mut status = -1;
                libc::waitpid(child, &raw mut status, 0);
                status
            }
        }
    }
}
