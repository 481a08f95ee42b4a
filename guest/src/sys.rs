//! System calls that have no safe wrapper elsewhere: the only file of this crate with `unsafe`.

#![allow(unsafe_code, reason = "system calls that rustix has no safe function for")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::ptr;

use rustix::io::Errno;

/// The kernel's `struct sigaction`, which is not libc's.
#[repr(C)]
struct KernelSigaction {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

/// The size of the kernel's set of signals.
const SIGNAL_SET_SIZE: usize = 8;

/// The highest signal of Linux.
const LAST_SIGNAL: i32 = 64;

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// What the guest does first of all: descriptors 0 to 2 are made valid, every other one is closed when a program is
/// executed, and the process is made not dumpable, so that no process of the same user can trace it, read its memory or
/// take its descriptors. What is to be written below `/proc/self` must be written before.
pub fn protect() -> io::Result<()> {
    fill_standard_descriptors()?;
    close_on_exec_from(3)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Makes descriptors 0 to 2 valid, so that no file that is opened later gets one of these numbers and is taken for a
/// standard stream.
pub fn fill_standard_descriptors() -> io::Result<()> {
    loop {
        // Any file does; an eventfd needs none of the image. It is leaked on purpose.
        let file = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty())?;
        if file.as_raw_fd() > 2 {
            return Ok(());
        }
        std::mem::forget(file);
    }
}

/// Closes every descriptor from this one on when a program is executed.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: the flag is set on descriptors; none is closed, no memory is touched.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 {
        return Ok(());
    }
    // A kernel before 5.11. The highest descriptor is not known there; the soft limit is above all that were opened
    // below it.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20).min(1 << 20);
    for number in first..u32::try_from(limit).unwrap_or(1 << 20) {
        // SAFETY: as above; a number that is not open is an error without effect.
        unsafe { libc::fcntl(number.cast_signed(), libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Makes descriptor 3 another of the same file, which stays open when a program is executed. What it was before is
/// closed.
pub fn duplicate_to_3(file: BorrowedFd<'_>) -> io::Result<()> {
    if file.as_raw_fd() == 3 {
        return Ok(rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty())?);
    }
    // SAFETY: touches no memory. Only for a process that is about to execute a program, where nobody uses descriptor 3
    // any more.
    check(unsafe { libc::dup2(file.as_raw_fd(), 3) }).map(drop)
}

/// Ends this process now, without any clean-up.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: does not return and runs nothing of this process.
    unsafe { libc::_exit(code) }
}

/// Sets what a signal does. `handler` is SIG_DFL or SIG_IGN, never a function.
fn set_disposition(signal: i32, handler: usize, flags: i32) -> io::Result<()> {
    debug_assert!(handler == libc::SIG_DFL || handler == libc::SIG_IGN);
    let action = KernelSigaction { handler, flags: usize::try_from(flags).unwrap_or(0), restorer: 0, mask: 0 };
    // SAFETY: `action` is the kernel's structure and lives through the call; no handler of ours is installed. The raw
    // call, because glibc's refuses the signals 32 and 33, which may be inherited as ignored.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, ptr::null_mut::<c_void>(), SIGNAL_SET_SIZE)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives every signal its default effect, also those that were inherited as ignored.
pub fn reset_signals() {
    for signal in 1..=LAST_SIGNAL {
        // SIGKILL and SIGSTOP can't be set and need not be.
        let _ = set_disposition(signal, libc::SIG_DFL, 0);
    }
}

/// Takes back what Rust does at SIGSEGV and SIGBUS: it tells of an overflown stack. Process 1 can be killed by signals
/// from inside only if it handles them: many at once overflow the stack of the handlers, and that the kernel does not
/// forgive.
///
/// # Errors
/// If the kernel does not know the call.
pub fn drop_fault_handlers() -> io::Result<()> {
    set_disposition(libc::SIGSEGV, libc::SIG_DFL, 0)?;
    set_disposition(libc::SIGBUS, libc::SIG_DFL, 0)
}

/// Lets the kernel reap the children of this process.
pub fn ignore_children() -> io::Result<()> {
    set_disposition(libc::SIGCHLD, libc::SIG_IGN, 0)
}

/// Children of this process are to be waited for; SIGCHLD comes when one ends, not when one stops.
pub fn await_children() -> io::Result<()> {
    set_disposition(libc::SIGCHLD, libc::SIG_DFL, libc::SA_NOCLDSTOP)
}

fn set_signal_mask(how: c_int, mask: u64) -> io::Result<()> {
    // SAFETY: `mask` is as long as the size says and lives through the call. The raw call reaches also 32 and 33.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const mask, ptr::null_mut::<c_void>(), SIGNAL_SET_SIZE)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn signal_set(signals: &[i32]) -> u64 {
    signals.iter().filter(|signal| (1..=LAST_SIGNAL).contains(*signal)).fold(0, |set, signal| set | 1 << (signal - 1))
}

/// Blocks all signals in this thread.
pub fn block_all_signals() -> io::Result<()> {
    set_signal_mask(libc::SIG_SETMASK, u64::MAX)
}

/// Blocks no signal in this thread.
pub fn unblock_all_signals() -> io::Result<()> {
    set_signal_mask(libc::SIG_SETMASK, 0)
}

/// Blocks these signals in this thread, and so in those that it starts later.
pub fn block_signals(signals: &[i32]) -> io::Result<()> {
    set_signal_mask(libc::SIG_BLOCK, signal_set(signals))
}

/// A descriptor from which these signals, blocked before, are read. It does not block.
pub fn signal_descriptor(signals: &[i32]) -> io::Result<OwnedFd> {
    let mask = signal_set(signals);
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: `mask` is as long as the size says and lives through the call.
    let result = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, SIGNAL_SET_SIZE, flags) };
    let descriptor = check(c_int::try_from(result).unwrap_or(-1))?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Sends a signal to a process, or to the group of the negated number. Refuses 0 and -1, which mean more than one
/// thinks.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    if pid == 0 || pid == -1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: touches no memory.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Sends a signal to the process of a pidfd.
pub fn pidfd_kill(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: touches no memory; without a siginfo the kernel makes that of kill(2).
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, ptr::null::<c_void>(), 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets a resource limit of this process; `u64::MAX` is no limit.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` lives through the call, which only reads it; 0 is this process.
    let result =
        unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, ptr::null_mut::<c_void>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old process, with the number of the new one.
    Parent(i32),
}

/// Forks. Only for a process with a single thread: in the child of any other, locks that another thread held stay
/// locked for ever.
pub fn fork() -> io::Result<Forked> {
    // SAFETY: duplicates the process; every pointer of either stays valid in its own copy.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid)),
    }
}

/// The stack of a child that shares the memory of its parent.
#[derive(Debug)]
pub struct Stack {
    memory: Box<[MaybeUninit<u128>]>,
}

impl Stack {
    /// Reserves memory for a stack; what is not used is never touched.
    pub fn new(bytes: usize) -> Self {
        Self { memory: Box::new_uninit_slice(bytes.div_ceil(size_of::<u128>())) }
    }
}

/// Starts a child that runs `child` in this process's memory, on a stack of its own, while this process waits until the
/// child has executed a program or ended: as `vfork`, in the form that is safe to use. The child's descriptors,
/// directory, umask, signal mask and user are its own. What `child` returns is its exit code.
pub fn run_in_child<T>(stack: &mut Stack, data: &mut T, child: fn(&mut T) -> i32) -> io::Result<i32> {
    struct Call<'a, T> {
        data: &'a mut T,
        child: fn(&mut T) -> i32,
    }
    extern "C" fn enter<T>(call: *mut c_void) -> c_int {
        // SAFETY: the pointer given to clone below; the parent, suspended, does not use it meanwhile.
        let call = unsafe { &mut *call.cast::<Call<'_, T>>() };
        (call.child)(call.data)
    }
    let mut call = Call { data, child };
    let top = stack.memory.as_mut_ptr_range().end.cast::<c_void>();
    // SAFETY: `top` is the 16-byte-aligned end of memory that only the child uses. With CLONE_VFORK this thread goes on
    // only when the child has left this memory, so `call` and the stack outlive its use of them. A panic in an
    // `extern "C"` function aborts the child.
    let pid = unsafe {
        libc::clone(enter::<T>, top, libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, (&raw mut call).cast())
    };
    check(pid)
}

/// A NULL-terminated array of strings, as `execve` wants it.
#[derive(Debug)]
pub struct Strings<'a> {
    pointers: Vec<*const c_char>,
    strings: PhantomData<&'a CStr>,
}

impl<'a> FromIterator<&'a CStr> for Strings<'a> {
    fn from_iter<I: IntoIterator<Item = &'a CStr>>(strings: I) -> Self {
        let pointers = strings.into_iter().map(CStr::as_ptr).chain([ptr::null()]).collect();
        Self { pointers, strings: PhantomData }
    }
}

/// Executes a program. Returns only the error number.
pub fn execute(program: &CStr, argv: &Strings<'_>, env: &Strings<'_>) -> i32 {
    // SAFETY: both arrays end with NULL (there is no other way to make `Strings`) and borrow strings that end with
    // zero.
    unsafe { libc::execve(program.as_ptr(), argv.pointers.as_ptr(), env.pointers.as_ptr()) };
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)
}

/// Lays a seccomp filter on this process and all that it starts. It needs `no_new_privs` or CAP_SYS_ADMIN.
pub fn install_filter(instructions: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: instructions.as_ptr().cast_mut(),
    };
    let install = |flags: libc::c_ulong| {
        // SAFETY: `program` and the instructions live through the call; the kernel copies and checks them and writes
        // nothing.
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) }
    };
    // Without this flag, kernels before 5.16 slow down everything below a filter by their mitigations of speculation.
    if install(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) == 0 || install(0) == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Closes a descriptor, and tells what some file systems report only then: that they could not write.
///
/// # Errors
/// As `close`. The descriptor is closed in any case.
pub fn close(descriptor: OwnedFd) -> Result<(), Errno> {
    // SAFETY: the descriptor is owned here and given away by `into_raw_fd`, so nobody else uses or closes it.
    match unsafe { libc::close(descriptor.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// Reads at an offset and appends what was read, at most `length` bytes, to `buffer`; says how much it was. The bytes
/// are written once: the memory for them is not filled with zeros before.
///
/// # Errors
/// As `pread`.
pub fn append_at(file: BorrowedFd<'_>, buffer: &mut Vec<u8>, length: usize, offset: u64) -> Result<usize, Errno> {
    buffer.reserve(length);
    let (read, _) = rustix::io::pread(file, &mut buffer.spare_capacity_mut()[..length], offset)?;
    let count = read.len();
    // SAFETY: these bytes behind the buffer's end are within its capacity, and the call has just initialised them.
    unsafe { buffer.set_len(buffer.len() + count) };
    Ok(count)
}

/// The same where the file is read in sequence.
///
/// # Errors
/// As `read`.
pub fn append(file: BorrowedFd<'_>, buffer: &mut Vec<u8>, length: usize) -> Result<usize, Errno> {
    buffer.reserve(length);
    let (read, _) = rustix::io::read(file, &mut buffer.spare_capacity_mut()[..length])?;
    let count = read.len();
    // SAFETY: as above.
    unsafe { buffer.set_len(buffer.len() + count) };
    Ok(count)
}

/// Lets this thread, and those that it starts, reach files as this user and group: with the rights of these and no
/// others. What else root may do stays.
///
/// # Errors
/// If they are not taken on: for want of the right to it, or by a kernel that has no such call, such as gVisor's.
pub fn reach_files_as(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: these touch no memory. Unlike its other calls of this kind, the C library hands them on to no other
    // thread.
    let taken = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        // They tell of no failure, only what was before; -1 changes nothing.
        (libc::setfsuid(u32::MAX), libc::setfsgid(u32::MAX))
    };
    if taken == (uid.cast_signed(), gid.cast_signed()) { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// Makes the allocator give memory back that is not used, and keep few arenas: many threads that are mostly idle share
/// them.
pub fn tune_allocator() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in
        [(libc::M_ARENA_MAX, 2), (libc::M_MMAP_THRESHOLD, 64 << 10), (libc::M_TRIM_THRESHOLD, 128 << 10)]
    {
        // SAFETY: mallopt takes two numbers; with parameters that it does not know it does nothing.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// The process at the other end of a Unix socket: its number in this PID namespace, 0 if it has none.
pub fn peer_process(socket: BorrowedFd<'_>) -> io::Result<i32> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the structure's size, and every content is valid for
    // it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(credentials.pid) } else { Err(io::Error::last_os_error()) }
}

/// A descriptor of the process at the other end of a Unix socket, whatever its number is used for later. Since Linux
/// 6.5.
pub fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut descriptor: libc::c_int = -1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the number's size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut descriptor).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for the caller, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
