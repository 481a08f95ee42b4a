//! The child's side between fork and exec.
//!
//! The child shares the keeper's memory until it has executed the program (see [`sys::run_in_child`]): everything that
//! needs memory is prepared before, and a failure is left in the plan, where the keeper finds it.

use super::messages::Request;
use super::{Limit, NeverRan, Stage};
use crate::sys::{self, Strings};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Pid, Signal, Uid};
use std::ffi::{CStr, CString};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Where programs are looked for if the environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of a program is read to find out which interpreter it asked for.
const HEAD: usize = 4096;

/// Everything that the child does.
#[derive(Debug)]
struct Plan<'a> {
    candidates: &'a [CString],
    argv: Strings<'a>,
    env: Strings<'a>,
    directory: Option<&'a CStr>,
    user: Option<(Uid, Gid, Vec<Gid>)>,
    umask: Option<Mode>,
    limits: &'a [Limit],
    stdio: [BorrowedFd<'a>; 3],
    script: Option<BorrowedFd<'a>>,
    terminal: bool,
    keeper: Pid,
    failure: Option<Failure>,
    /// The beginning of a program whose interpreter is missing.
    head: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    stage: Stage,
    errno: i32,
    candidate: Option<usize>,
}

/// Starts the program of a request. The result is the main process, or why it never ran.
pub(super) fn launch(request: &Request<'_>, descriptors: &[OwnedFd], stack: &mut sys::Stack) -> Result<i32, NeverRan> {
    let fail = |stage, errno, path: Option<&[u8]>| NeverRan { stage, errno, path: path.map(<[u8]>::to_vec) };
    let Some(name) = request.program.or(request.argv.first().copied()) else {
        return Err(fail(Stage::Arguments, libc::EINVAL, None));
    };
    let descriptor = |index: u8| descriptors.get(usize::from(index)).map(std::os::fd::AsFd::as_fd);
    let [Some(stdin), Some(stdout), Some(stderr)] = request.stdio.map(descriptor) else {
        return Err(fail(Stage::Resources, libc::EMFILE, None));
    };
    let script = match request.script.map(descriptor) {
        Some(None) => return Err(fail(Stage::Resources, libc::EMFILE, None)),
        script => script.flatten(),
    };
    let candidates = candidates(name, &request.env);
    let user = request.user.as_ref().map(|user| {
        (
            Uid::from_raw(user.uid),
            Gid::from_raw(user.gid),
            user.groups.iter().map(|group| Gid::from_raw(*group)).collect(),
        )
    });
    let mut plan = Plan {
        candidates: &candidates,
        argv: request.argv.iter().copied().collect(),
        env: request.env.iter().copied().collect(),
        directory: request.directory,
        user,
        umask: request.umask.map(Mode::from_raw_mode),
        limits: &request.limits,
        stdio: [stdin, stdout, stderr],
        script,
        terminal: request.terminal,
        keeper: rustix::process::getpid(),
        failure: None,
        head: Vec::with_capacity(HEAD),
    };
    let pid = sys::run_in_child(stack, &mut plan, |plan| {
        let failure = run(plan);
        plan.failure = Some(failure);
        127
    })
    .map_err(|error| fail(Stage::Resources, error.raw_os_error().unwrap_or(libc::EAGAIN), None))?;
    let Some(failure) = plan.failure else { return Ok(pid) };
    let options = rustix::process::WaitOptions::from_bits_retain(libc::__WALL.cast_unsigned());
    let _ = rustix::io::retry_on_intr(|| rustix::process::waitpid(Pid::from_raw(pid), options));
    let candidate = failure.candidate.and_then(|index| candidates.get(index)).map(|path| path.to_bytes());
    let path = match failure.stage {
        Stage::Directory => request.directory.map(CStr::to_bytes),
        Stage::Program => candidate.or(Some(name.to_bytes())),
        Stage::Interpreter => interpreter(&plan.head),
        _ => None,
    };
    Err(fail(failure.stage, failure.errno, path))
}

/// What is tried to be executed, in this order: as `execvp`, but by the `PATH` of the command's own environment.
fn candidates(name: &CStr, env: &[&CStr]) -> Vec<CString> {
    let name = name.to_bytes();
    let path = env.iter().find_map(|entry| entry.to_bytes().strip_prefix(b"PATH=")).unwrap_or(DEFAULT_PATH);
    if name.is_empty() || name.contains(&b'/') {
        return CString::new(name).into_iter().collect();
    }
    let in_directory = |directory: &[u8]| {
        // An empty entry is the working directory.
        let separator: &[u8] = if directory.is_empty() || directory.ends_with(b"/") { b"" } else { b"/" };
        CString::new([directory, separator, name].concat()).ok()
    };
    path.split(|byte| *byte == b':').filter_map(in_directory).collect()
}

/// The child. It returns only if the program could not be executed. It must not allocate, lock or panic.
fn run(plan: &mut Plan<'_>) -> Failure {
    let failed = |stage, errno: rustix::io::Errno| Failure { stage, errno: errno.raw_os_error(), candidate: None };
    if let Err(errno) = prepare_session(plan) {
        return failed(if plan.terminal { Stage::Terminal } else { Stage::Resources }, errno);
    }
    for limit in plan.limits {
        if let Err(error) = sys::set_limit(limit.resource, limit.soft, limit.hard) {
            return Failure {
                stage: Stage::Limits,
                errno: error.raw_os_error().unwrap_or(libc::EINVAL),
                candidate: None,
            };
        }
    }
    if let Some((uid, gid, groups)) = &plan.user
        && let Err(errno) = take_user(*uid, *gid, groups)
    {
        return failed(Stage::User, errno);
    }
    // After the change of user, which takes it back. If the keeper was killed before, nobody would keep this command.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if rustix::process::getppid() != Some(plan.keeper) {
        sys::exit_now(127);
    }
    if let Some(mask) = plan.umask {
        rustix::process::umask(mask);
    }
    // As the command's user, who may see other directories than the guest.
    if let Some(directory) = plan.directory
        && let Err(errno) = rustix::process::chdir(directory)
    {
        return failed(Stage::Directory, errno);
    }
    if sys::unblock_all_signals().is_err() {
        return failed(Stage::Resources, rustix::io::Errno::INVAL);
    }
    execute(plan)
}

/// A session of its own, the terminal, the standard descriptors and no others.
fn prepare_session(plan: &Plan<'_>) -> rustix::io::Result<()> {
    rustix::process::setsid()?;
    let [stdin, stdout, stderr] = plan.stdio;
    if plan.terminal {
        rustix::process::ioctl_tiocsctty(stdin)?;
    }
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    // All others are so already; this is for those that nobody has thought of.
    sys::close_on_exec_from(3).map_err(|_| rustix::io::Errno::MFILE)?;
    match plan.script {
        Some(script) => sys::duplicate_to_3(script).map_err(|_| rustix::io::Errno::MFILE),
        None => Ok(()),
    }
}

fn take_user(uid: Uid, gid: Gid, groups: &[Gid]) -> rustix::io::Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    // Without the privilege, the groups stay as they are; that is right only if nothing is to change.
    if is_root {
        rustix::thread::set_thread_groups(groups)?;
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

fn execute(plan: &mut Plan<'_>) -> Failure {
    let mut verdict = Failure { stage: Stage::Program, errno: libc::ENOENT, candidate: None };
    for (index, program) in plan.candidates.iter().enumerate() {
        // Asking is much cheaper than a failed execution, and most programs are in one of the last directories of PATH.
        if plan.candidates.len() > 1
            && matches!(rustix::fs::access(program, rustix::fs::Access::EXISTS), Err(Errno::NOENT | Errno::NOTDIR))
        {
            continue;
        }
        let errno = sys::execute(program, &plan.argv, &plan.env);
        let stage = match errno {
            libc::E2BIG => Stage::Arguments,
            libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE => Stage::Resources,
            // The kernel says the same when the program is missing and when its interpreter is.
            libc::ENOENT if rustix::fs::access(program, rustix::fs::Access::EXISTS).is_ok() => {
                read_head(program, &mut plan.head);
                Stage::Interpreter
            }
            libc::ENOENT | libc::ENOTDIR if plan.candidates.len() > 1 => continue,
            // As the shells do: it may be found further on in PATH; if not, this is the reason.
            libc::EACCES if plan.candidates.len() > 1 => {
                if verdict.candidate.is_none() {
                    verdict = Failure { stage: Stage::Program, errno, candidate: Some(index) };
                }
                continue;
            }
            _ => Stage::Program,
        };
        return Failure { stage, errno, candidate: Some(index) };
    }
    verdict
}

/// Reads the beginning of a program, as the command's user. Not blocking, as it may be anything.
fn read_head(program: &CStr, head: &mut Vec<u8>) {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(program, flags, Mode::empty()) {
        // The capacity is there already: nothing is allocated.
        let _ = rustix::io::read(&file, rustix::buffer::spare_capacity(head));
    }
}

/// The interpreter that a program asks for: of its `#!` line, or its dynamic linker.
fn interpreter(head: &[u8]) -> Option<&[u8]> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next()?.trim_ascii_start();
        let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t' | 0)).unwrap_or(line.len());
        return (end > 0).then(|| &line[..end]);
    }
    // ELF, 64 bits: the table of segments, of which that of type 3 is the name.
    let long = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?));
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = usize::try_from(long(32)?).ok()?;
    let (size, count) = (usize::from(half(54)?), usize::from(half(56)?));
    let segment = (0..count)
        .filter_map(|index| table.checked_add(size * index))
        .find(|at| at.checked_add(4).and_then(|end| head.get(*at..end)) == Some(&3_u32.to_le_bytes()))?;
    let start = usize::try_from(long(segment + 8)?).ok()?;
    head.get(start..)?.split(|byte| *byte == 0).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[CString]) -> Vec<&[u8]> {
        list.iter().map(|string| string.to_bytes()).collect()
    }

    #[test]
    fn programs_are_looked_up_in_the_commands_own_path() {
        let env = [c"A=B", c"PATH=/a:b/::/c"];
        assert_eq!(strings(&candidates(c"x", &env)), [&b"/a/x"[..], b"b/x", b"x", b"/c/x"]);
        assert_eq!(strings(&candidates(c"./x", &env)), [b"./x"]);
        assert_eq!(strings(&candidates(c"", &env)), [b""]);
        assert_eq!(candidates(c"x", &[c"PATHS=/a"]).len(), 6);
        assert_eq!(strings(&candidates(c"x", &[c"PATH="])), [b"x"]);
    }

    #[test]
    fn the_interpreter_is_read_from_the_program() {
        assert_eq!(interpreter(b"#!/bin/none -x\n"), Some(&b"/bin/none"[..]));
        assert_eq!(interpreter(b"#! \t/bin/none\necho"), Some(&b"/bin/none"[..]));
        assert_eq!(interpreter(b"#!/bin/none"), Some(&b"/bin/none"[..]));
        assert_eq!(interpreter(b"#!\n"), None);
        assert_eq!(interpreter(b"#!"), None);
        assert_eq!(interpreter(b""), None);
        assert_eq!(interpreter(b"\x7fELF\x02\x01 and nothing more"), None);
        let mut endless = [0xff; 128];
        endless[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert_eq!(interpreter(&endless), None);
        let program = std::fs::read("/bin/true").unwrap();
        let linker = interpreter(&program[..HEAD]).unwrap();
        assert!(linker.starts_with(b"/") && std::fs::exists(String::from_utf8_lossy(linker).as_ref()).unwrap());
    }
}
