//! What commands may not do to the guest: a seccomp filter.
//!
//! A process may lower the resource limits of any other of the same user, give it the lowest priority or the idle
//! scheduling class, and none of it can be taken back without privileges: the guest could open nothing any more, or get
//! no processor time. A filter sees only numbers, not whose they are, so every process number but 0 ("myself") is
//! refused there. The processor affinity is different: programs set that of their own threads by number, and it can be
//! taken back; there only the guest's main thread and the zygote are refused.

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

/// System call numbers of one architecture.
struct Calls {
    architecture: u32,
    prlimit: u32,
    setpriority: u32,
    ioprio_set: u32,
    sched: [u32; 3],
    sched_setaffinity: u32,
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: [Calls; 2] = [
    Calls {
        architecture: 0xC000_003E,
        prlimit: 302,
        setpriority: 141,
        ioprio_set: 251,
        sched: [144, 142, 314],
        sched_setaffinity: 203,
    },
    // Programs of 32 bits.
    Calls {
        architecture: 0x4000_0003,
        prlimit: 340,
        setpriority: 97,
        ioprio_set: 289,
        sched: [156, 154, 351],
        sched_setaffinity: 241,
    },
];

#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: [Calls; 2] = [
    Calls {
        architecture: 0xC000_00B7,
        prlimit: 261,
        setpriority: 140,
        ioprio_set: 30,
        sched: [119, 118, 274],
        sched_setaffinity: 122,
    },
    // Programs of 32 bits.
    Calls {
        architecture: 0x4000_0028,
        prlimit: 369,
        setpriority: 97,
        ioprio_set: 314,
        sched: [156, 154, 380],
        sched_setaffinity: 241,
    },
];

/// The bit that marks calls of x32 programs, whose numbers are otherwise those of x86-64.
const X32: u32 = 0x4000_0000;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

/// Where the number of the call, the architecture and the low half of an argument are in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k }
}

fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
}

/// Skips so many instructions if the loaded value is `value`, else so many others.
fn if_equal(value: u32, skip: u8, else_skip: u8) -> sock_filter {
    instruction(BPF_JMP | BPF_JEQ | BPF_K, value, skip, else_skip)
}

fn answer(value: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, value, 0, 0)
}

/// A test of one system call: if it is another, its instructions are skipped.
fn on_call(program: &mut Vec<sock_filter>, number: u32, body: &[sock_filter]) {
    let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
    program.push(if_equal(number, 0, length));
    program.extend(body);
}

/// The filter. `guest` and `zygote` are their process numbers.
fn filter(guest: i32, zygote: i32) -> Vec<sock_filter> {
    let mut program = Vec::new();
    for calls in ARCHITECTURES {
        let mut section = vec![load(NUMBER)];
        if cfg!(target_arch = "x86_64") {
            section.push(instruction(libc::BPF_ALU | libc::BPF_AND | BPF_K, !X32, 0, 0));
        }
        // Reading limits (no new ones are given) is allowed, and so is setting one's own.
        on_call(
            &mut section,
            calls.prlimit,
            &[
                load(argument(2)),
                if_equal(0, 0, 2),
                load(argument(2) + 4),
                if_equal(0, 2, 0),
                load(argument(0)),
                if_equal(0, 0, 1),
                answer(ALLOW),
                answer(DENY),
            ],
        );
        // `which` is a process, a group or a user; a user's number 0 means the guest as well.
        for (call, user) in [(calls.setpriority, 2), (calls.ioprio_set, 3)] {
            on_call(
                &mut section,
                call,
                &[
                    load(argument(0)),
                    if_equal(user, 3, 0),
                    load(argument(1)),
                    if_equal(0, 0, 1),
                    answer(ALLOW),
                    answer(DENY),
                ],
            );
        }
        for call in calls.sched {
            on_call(&mut section, call, &[load(argument(0)), if_equal(0, 0, 1), answer(ALLOW), answer(DENY)]);
        }
        let (guest, zygote) = (guest.cast_unsigned(), zygote.cast_unsigned());
        on_call(
            &mut section,
            calls.sched_setaffinity,
            &[load(argument(0)), if_equal(guest, 2, 0), if_equal(zygote, 1, 0), answer(ALLOW), answer(DENY)],
        );
        section.push(answer(ALLOW));
        program.push(load(ARCHITECTURE));
        program.push(if_equal(calls.architecture, 0, u8::try_from(section.len()).unwrap_or(u8::MAX)));
        program.extend(section);
    }
    program.push(answer(ALLOW));
    program
}

/// Lays the filter on this process, the zygote, and so on all keepers and commands. Without `no_new_privs` there is
/// none: a filter would need that, and it would take set-user-id programs like `sudo` from the commands.
pub(super) fn install(guest: i32, zygote: i32) {
    if rustix::thread::no_new_privs().unwrap_or(false) {
        // A runtime whose kernel has no seccomp: the guest works without.
        let _ = crate::sys::install_filter(&filter(guest, zygote));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel does, for the instructions that are used here.
    fn verdict(program: &[sock_filter], architecture: u32, number: u32, arguments: [u64; 3]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(architecture.to_le_bytes());
        data.extend(0_u64.to_le_bytes());
        arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
        let (mut at, mut value) = (0, 0);
        loop {
            let instruction = program[at];
            at += 1;
            match u32::from(instruction.code) {
                code if code == BPF_LD | BPF_W | BPF_ABS => {
                    let offset = instruction.k as usize;
                    value = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
                }
                code if code == libc::BPF_ALU | libc::BPF_AND | BPF_K => value &= instruction.k,
                code if code == BPF_JMP | BPF_JEQ | BPF_K => {
                    at += usize::from(if value == instruction.k { instruction.jt } else { instruction.jf });
                }
                code if code == BPF_RET | BPF_K => return instruction.k,
                code => panic!("instruction {code:#x}"),
            }
        }
    }

    #[test]
    fn only_what_is_aimed_at_others_is_refused() {
        let program = filter(1, 7);
        let pointer = 0x7fff_0000_0000;
        for calls in ARCHITECTURES {
            let ask = |number, arguments| verdict(&program, calls.architecture, number, arguments) == ALLOW;
            assert!(ask(calls.prlimit, [1, 7, 0]), "limits may be read");
            assert!(ask(calls.prlimit, [0, 7, pointer]), "one's own may be set");
            assert!(!ask(calls.prlimit, [1, 7, pointer]));
            assert!(!ask(calls.prlimit, [55, 7, 1]));
            assert!(ask(calls.setpriority, [0, 0, 5]));
            assert!(ask(calls.setpriority, [1, 0, 5]));
            assert!(!ask(calls.setpriority, [2, 0, 5]), "all processes of the user");
            assert!(!ask(calls.setpriority, [0, 1, 19]));
            assert!(!ask(calls.setpriority, [1, 1, 19]));
            assert!(ask(calls.ioprio_set, [1, 0, 5]));
            assert!(ask(calls.ioprio_set, [2, 0, 5]));
            assert!(!ask(calls.ioprio_set, [3, 0, 5]));
            assert!(!ask(calls.ioprio_set, [1, 1, 5]));
            for call in calls.sched {
                assert!(ask(call, [0, 0, 0]));
                assert!(!ask(call, [1, 0, 0]));
                assert!(!ask(call, [0xffff_ffff_0000_0001, 0, 0]), "the upper half means nothing to the kernel");
            }
            assert!(ask(calls.sched_setaffinity, [0, 0, 0]));
            assert!(ask(calls.sched_setaffinity, [1234, 0, 0]), "one's own thread, by number");
            assert!(!ask(calls.sched_setaffinity, [1, 0, 0]));
            assert!(!ask(calls.sched_setaffinity, [7, 0, 0]));
            assert!(ask(0, [1, 1, 1]));
        }
        if cfg!(target_arch = "x86_64") {
            let calls = &ARCHITECTURES[0];
            assert_eq!(verdict(&program, calls.architecture, calls.prlimit | X32, [1, 7, pointer]), DENY);
        }
        assert_eq!(verdict(&program, 0, 302, [1, 7, pointer]), ALLOW, "another architecture has other numbers");
    }

    #[test]
    fn the_numbers_are_those_of_the_system() {
        let calls = &ARCHITECTURES[0];
        assert_eq!(i64::from(calls.prlimit), libc::SYS_prlimit64);
        assert_eq!(i64::from(calls.setpriority), libc::SYS_setpriority);
        assert_eq!(i64::from(calls.ioprio_set), libc::SYS_ioprio_set);
        assert_eq!(i64::from(calls.sched_setaffinity), libc::SYS_sched_setaffinity);
        let sched = [libc::SYS_sched_setscheduler, libc::SYS_sched_setparam, libc::SYS_sched_setattr];
        assert_eq!(calls.sched.map(i64::from), sched);
    }
}
