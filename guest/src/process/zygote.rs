//! The process that forks keepers.

use super::messages::{self, Record};
use super::{fence, keeper};
use crate::sys::{self, Forked};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::os::fd::AsFd;

/// The zygote's whole life: `sandbox-guest keeper`. Its standard input is the socket to the guest; it ends when the
/// guest closes that. The result is the exit code.
pub fn main() -> i32 {
    match serve() {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn serve() -> std::io::Result<()> {
    sys::block_all_signals()?;
    sys::reset_signals();
    // Keepers are children that nobody waits for: the guest sees their end on their sockets.
    sys::ignore_children()?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    sys::close_on_exec_from(3)?;
    // No signal of a terminal that the guest may have. It fails only where there is none to leave.
    let _ = rustix::process::setsid();
    leave_room_for_signals();
    let guest = rustix::process::getppid().map_or(-1, |pid| pid.as_raw_nonzero().get());
    fence::install(guest, std::process::id().cast_signed());
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    // A keeper must not hold this socket: the guest would not see the zygote's end. And 0 is to stay in use.
    rustix::stdio::dup2_stdin(rustix::stdio::stderr())?;
    loop {
        let mut descriptors = Vec::new();
        let mut packet = [0; 16];
        match messages::receive(socket.as_fd(), &mut packet, &mut descriptors, RecvFlags::empty()) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // The descriptor could not be received; the guest sees the keeper's socket closed.
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let Some(control) = descriptors.pop() else { continue };
        match sys::fork() {
            Ok(Forked::Child) => {
                drop(socket);
                keeper::run(control);
            }
            Ok(Forked::Parent(_)) => {}
            Err(error) => {
                let mut packet = Vec::new();
                Record::NoKeeper(error.raw_os_error().unwrap_or(libc::EAGAIN)).encode(&mut packet);
                let _ = messages::send(control.as_fd(), &packet, &[]);
            }
        }
    }
}

/// Gives keepers and commands half of the guest's limit of waiting signals. The limit counts those of all processes of
/// the user. Once that many wait, the kernel delivers further ones without their sender, just as those that come from
/// outside of the namespace, and the guest would take a command's SIGTERM for the kubelet's. Below half, the guest's
/// own limit is never reached.
fn leave_room_for_signals() {
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Sigpending).current {
        // Linux lets every process lower a limit. gVisor does not know this one; nor does it keep commands from ending
        // the guest, which its client is told.
        let _ = sys::set_limit(libc::RLIMIT_SIGPENDING, limit / 2, limit / 2);
    }
}
