//! The handle of one sandbox.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;
use std::sync::OnceLock;

use super::boundary::{self, Text, require};
use super::command::{sbx_command, sbx_output};
use super::detached::sbx_detached;
use super::error::{sbx_error, sbx_status};
use super::forward::sbx_forward;
use super::info::sbx_info;
use crate::{Origin, Sandbox};

/// A running sandbox: a Pod with an SSH server. May be used from several threads at once. Freed with
/// sbx_sandbox_free(), which does not delete the sandbox: it stays until sbx_sandbox_delete(), or until it expires. It
/// keeps what it needs of its client alive.
#[derive(Debug)]
pub struct sbx_sandbox {
    pub(super) sandbox: Sandbox,
    name: CString,
    uid: CString,
    /// Once there is one, it never changes.
    host_key: OnceLock<CString>,
}

impl sbx_sandbox {
    pub(super) fn new(sandbox: Sandbox) -> Self {
        Self {
            name: boundary::c_text(sandbox.name()),
            uid: boundary::c_text(sandbox.uid()),
            host_key: OnceLock::new(),
            sandbox,
        }
    }
}

/// Name of the sandbox and of its Pod.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_name(sandbox: Option<&sbx_sandbox>) -> *const c_char {
    boundary::get_text(sandbox, |sandbox| Some(&sandbox.name))
}

/// Kubernetes' unique id of the Pod.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_uid(sandbox: Option<&sbx_sandbox>) -> *const c_char {
    boundary::get_text(sandbox, |sandbox| Some(&sandbox.uid))
}

/// Port of the SSH server, from the cache; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_ssh_port(sandbox: Option<&sbx_sandbox>) -> u16 {
    boundary::get(sandbox, 0, |sandbox| sandbox.sandbox.ssh_port())
}

/// The SSH server's host key as it is pinned, as OpenSSH writes it; NULL before the first connection.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_host_key(sandbox: Option<&sbx_sandbox>) -> *const c_char {
    boundary::get_text(sandbox, |sandbox| {
        if let Some(key) = sandbox.sandbox.host_key() {
            return Some(sandbox.host_key.get_or_init(|| boundary::c_text(&key)));
        }
        None
    })
}

/// If this handle came from sbx_client_create() or sbx_pool_claim(), returns true and how long it took, in seconds from
/// the call, until the API server had stored the Pod or assigned it to this client (`accepted`), until the container
/// had started (`started`), and until the SSH login had succeeded (`logged_in`). Each of the three may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_timings(
    sandbox: Option<&sbx_sandbox>,
    accepted: Option<&mut MaybeUninit<f64>>,
    started: Option<&mut MaybeUninit<f64>>,
    logged_in: Option<&mut MaybeUninit<f64>>,
) -> bool {
    boundary::get(sandbox, false, |sandbox| {
        let Some(timings) = sandbox.sandbox.timings() else {
            return false;
        };
        boundary::write_out(accepted, timings.accepted.as_secs_f64());
        boundary::write_out(started, timings.started.as_secs_f64());
        boundary::write_out(logged_in, timings.logged_in.as_secs_f64());
        true
    })
}

/// Where a sandbox comes from. A later version may have more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum sbx_origin {
    /// It was there before: sbx_client_attach().
    SBX_ORIGIN_ATTACHED = 0,
    /// It was created by sbx_client_create().
    SBX_ORIGIN_CREATED = 1,
    /// A pool had it ready.
    SBX_ORIGIN_POOL = 2,
    /// The pool was empty, and its next sandbox was waited for.
    SBX_ORIGIN_POOL_WAIT = 3,
    /// The pool was empty, and it was created instead.
    SBX_ORIGIN_POOL_MISS = 4,
}

/// Where the sandbox of this handle comes from; SBX_ORIGIN_ATTACHED for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_origin(sandbox: Option<&sbx_sandbox>) -> sbx_origin {
    boundary::get(sandbox, sbx_origin::SBX_ORIGIN_ATTACHED, |sandbox| {
        match sandbox.sandbox.timings().map(|timings| timings.origin) {
            None => sbx_origin::SBX_ORIGIN_ATTACHED,
            Some(Origin::Created) => sbx_origin::SBX_ORIGIN_CREATED,
            Some(Origin::Pool) => sbx_origin::SBX_ORIGIN_POOL,
            Some(Origin::PoolWait) => sbx_origin::SBX_ORIGIN_POOL_WAIT,
            Some(Origin::PoolMiss) => sbx_origin::SBX_ORIGIN_POOL_MISS,
        }
    })
}

/// How many idle and busy SSH sessions the client has to this sandbox at this moment. Each of the two may be NULL;
/// nothing is written if `sandbox` is.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_session_counts(
    sandbox: Option<&sbx_sandbox>,
    idle: Option<&mut MaybeUninit<usize>>,
    busy: Option<&mut MaybeUninit<usize>>,
) {
    boundary::get(sandbox, (), |sandbox| {
        let counts = sandbox.sandbox.session_counts();
        boundary::write_out(idle, counts.idle);
        boundary::write_out(busy, counts.busy);
    });
}

/// Asks Kubernetes about the sandbox: one API call. The caller frees the answer with sbx_info_free().
///
/// SBX_ERR_NOT_FOUND if its Pod is gone, even if a new Pod has the same name.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_info(
    sandbox: Option<&sbx_sandbox>,
    info: Option<&mut MaybeUninit<*mut sbx_info>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, place) = (require(sandbox, "sandbox")?, require(info, "info")?);
        sandbox.sandbox.info().map(|info| boundary::write_handle(place, sbx_info::new(info)))
    })
}

/// Runs a command line in the sandbox's shell and collects its output, which the caller frees with sbx_output_free().
/// Short for sbx_sandbox_shell() and sbx_command_output(), whose errors it has.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_execute(
    sandbox: Option<&sbx_sandbox>,
    line: Text,
    output: Option<&mut MaybeUninit<*mut sbx_output>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, line) = (require(sandbox, "sandbox")?, line.bytes("line")?);
        let place = require(output, "output")?;
        sandbox.sandbox.execute(line).map(|output| boundary::write_handle(place, sbx_output::new(output)))
    })
}

/// Makes a command: `program` is looked up in the PATH of the image and gets its arguments exactly as given. Nothing
/// runs yet. The caller frees it with sbx_command_free().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_command(
    sandbox: Option<&sbx_sandbox>,
    program: Text,
    command: Option<&mut MaybeUninit<*mut sbx_command>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, program) = (require(sandbox, "sandbox")?, program.bytes("program")?);
        boundary::write_handle(require(command, "command")?, sbx_command::new(sandbox.sandbox.command(program)));
        Ok(())
    })
}

/// Makes a command of a line for the sandbox's shell. Nothing runs yet. The caller frees it with sbx_command_free().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_shell(
    sandbox: Option<&sbx_sandbox>,
    line: Text,
    command: Option<&mut MaybeUninit<*mut sbx_command>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, line) = (require(sandbox, "sandbox")?, line.bytes("line")?);
        boundary::write_handle(require(command, "command")?, sbx_command::new(sandbox.sandbox.shell(line)));
        Ok(())
    })
}

/// A handle for the command that sbx_command_detach() started under this key, in this process or another. No request is
/// sent: only the first use of the handle tells whether the command exists. The caller frees it with
/// sbx_detached_free().
///
/// SBX_ERR_INVALID_ARGUMENT if the key is invalid.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_detached(
    sandbox: Option<&sbx_sandbox>,
    key: Text,
    detached: Option<&mut MaybeUninit<*mut sbx_detached>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, key) = (require(sandbox, "sandbox")?, key.utf8("key")?);
        let place = require(detached, "detached")?;
        sandbox.sandbox.detached(key).map(|detached| boundary::write_handle(place, sbx_detached::new(detached)))
    })
}

/// Connects to a TCP port of the sandbox's own loopback addresses, or to a Unix socket in it: `target` is a number such
/// as "8080", or a path with a slash. The server there may listen on a loopback address only.
///
/// `*fd` is an ordinary TCP socket of this machine, which blocks and is closed on exec; the caller closes it with
/// close(). Its bytes go through an SSH session that all connections into the sandbox share. Each side can close its
/// half with shutdown(). If the connection breaks, on the way or in the sandbox, reads fail with ECONNRESET instead of
/// returning the end of the data. The socket stays usable after the handles are freed.
///
/// SBX_ERR_REFUSED if nothing listens there; SBX_ERR_FILE_NOT_FOUND and SBX_ERR_PERMISSION_DENIED of a Unix socket;
/// SBX_ERR_TIMED_OUT after the client's time to connect; SBX_ERR_CONNECT and its like if the sandbox can't be reached.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_connect(
    sandbox: Option<&sbx_sandbox>,
    target: Text,
    fd: Option<&mut MaybeUninit<i32>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, target) = (require(sandbox, "sandbox")?, target.target("target")?);
        let place = require(fd, "fd")?;
        sandbox.sandbox.connect(target).map(|stream| boundary::write_out(Some(place), stream.into_raw_fd()))
    })
}

/// Listens on this machine and connects each connection to a port of the sandbox or a Unix socket in it, as
/// sbx_sandbox_connect() does and with its `target`. `local` is a port of 127.0.0.1 such as "8080", or ADDRESS:PORT
/// such as "0.0.0.0:8080", or a path with a slash, of which the file must not exist; port 0 is one that the system
/// chooses. It does not check whether anything listens in the sandbox; sbx_sandbox_wait_for_port() waits for that. The
/// caller frees it with sbx_forward_free().
///
/// SBX_ERR_BUSY if the local port or file is in use; SBX_ERR_PERMISSION_DENIED if it may not be used; SBX_ERR_CONNECT
/// and its like if the sandbox can't be reached.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_forward(
    sandbox: Option<&sbx_sandbox>,
    local: Text,
    target: Text,
    forward: Option<&mut MaybeUninit<*mut sbx_forward>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, target) = (require(sandbox, "sandbox")?, target.target("target")?);
        let (local, place) = (local.local("local")?, require(forward, "forward")?);
        sandbox.sandbox.forward(local, target).map(|forward| boundary::write_handle(place, sbx_forward::new(forward)))
    })
}

/// Waits until something in the sandbox listens on a port or a Unix socket, at most `seconds`; a negative number waits
/// without a limit. `target` is as for sbx_sandbox_connect(). The check makes no connection to the server.
///
/// SBX_ERR_TIMED_OUT if nothing listens there in time; SBX_ERR_CONNECT and its like if the sandbox can't be reached.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_wait_for_port(
    sandbox: Option<&sbx_sandbox>,
    target: Text,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, target) = (require(sandbox, "sandbox")?, target.target("target")?);
        sandbox.sandbox.wait_for_port(target, boundary::optional_seconds(seconds, "seconds")?)
    })
}

/// Sets the sandbox's expiry to `seconds` from now, at least 1. It may be earlier than the current one, and never
/// exceeds the hard limit of the spec. Sets `*unix_seconds`, which may be NULL, to the new expiry.
///
/// SBX_ERR_INVALID_ARGUMENT for less than a second; else as sbx_sandbox_execute() and, from the API server, as
/// sbx_client_list().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_renew(
    sandbox: Option<&sbx_sandbox>,
    seconds: f64,
    unix_seconds: Option<&mut MaybeUninit<i64>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let lifetime = boundary::exact_seconds(seconds, "seconds")?;
        let expiry = require(sandbox, "sandbox")?.sandbox.renew(lifetime)?;
        boundary::write_out(unix_seconds, boundary::unix_time(expiry));
        Ok(())
    })
}

/// Deletes the sandbox and waits until its Pod is gone. Its handles must still be freed; other calls with them fail
/// with SBX_ERR_CLOSED.
///
/// SBX_ERR_NOT_FOUND if it was gone already, SBX_ERR_DELETE if its end could not be confirmed in time.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_delete(
    sandbox: Option<&sbx_sandbox>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(sandbox, "sandbox")?.sandbox.delete())
}

/// An alias of sbx_sandbox_delete().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_shutdown(
    sandbox: Option<&sbx_sandbox>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(sandbox, "sandbox")?.sandbox.shutdown())
}

/// Frees a handle. The sandbox stays.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_free(sandbox: Option<Box<sbx_sandbox>>) {
    boundary::free(sandbox);
}
