//! Pseudo-terminals.

use super::User;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, Winsize,
};
use std::os::fd::{BorrowedFd, OwnedFd};

/// The pseudo-terminal of a command, as SSH asks for it (RFC 4254, sections 6.2 and 8).
#[derive(Debug, Clone, Default)]
pub struct Terminal {
    /// The kind of terminal: becomes `TERM`, unless the environment has one. Empty: none.
    pub term: Vec<u8>,
    /// Width in characters.
    pub columns: u16,
    /// Height in characters.
    pub rows: u16,
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// The encoded terminal modes; empty for the kernel's.
    pub modes: Vec<u8>,
}

/// Opens a pseudo-terminal: the master, not blocking, and the slave. On Linux it needs no names below /dev/pts.
pub(super) fn open(terminal: &Terminal, user: Option<&User>) -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    // gVisor has no such call; there, by its name.
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).or_else(|_| {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::open(rustix::pty::ptsname(&master, Vec::new())?, flags, Mode::empty())
    })?;
    if let Some(user) = user {
        // So that the command can open /dev/tty and its terminal by name. Its group stays that of all terminals.
        rustix::fs::fchown(&slave, Some(rustix::process::Uid::from_raw(user.uid)), None)?;
    }
    let mut termios = rustix::termios::tcgetattr(&slave)?;
    apply(&mut termios, &terminal.modes);
    rustix::termios::tcsetattr(&slave, OptionalActions::Now, &termios)?;
    resize(std::os::fd::AsFd::as_fd(&master), terminal.columns, terminal.rows, terminal.width, terminal.height)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok((master, slave))
}

/// Sets the size; the kernel tells the foreground group by SIGWINCH.
pub(super) fn resize(master: BorrowedFd<'_>, columns: u16, rows: u16, width: u16, height: u16) -> Result<(), Errno> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: width, ws_ypixel: height };
    rustix::termios::tcsetwinsize(master, size)
}

/// Applies SSH's encoded modes: an opcode and a number of 32 bits each, until opcode 0. Opcodes from 160 on end it too,
/// as their form is not known; unknown ones below are skipped.
fn apply(termios: &mut Termios, mut modes: &[u8]) {
    while let Some((&opcode, rest)) = modes.split_first() {
        let Some((value, rest)) = rest.split_first_chunk::<4>() else { return };
        if opcode == 0 || opcode >= 160 {
            return;
        }
        modes = rest;
        apply_one(termios, opcode, u32::from_be_bytes(*value));
    }
}

fn apply_one(termios: &mut Termios, opcode: u8, value: u32) {
    let on = value != 0;
    if let Some(index) = special_code(opcode) {
        // 255 is "none" in SSH; Linux writes that as 0.
        termios.special_codes[index] = u8::try_from(value).ok().filter(|code| *code != 255).unwrap_or(0);
        return;
    }
    match opcode {
        30 => termios.input_modes.set(InputModes::IGNPAR, on),
        31 => termios.input_modes.set(InputModes::PARMRK, on),
        32 => termios.input_modes.set(InputModes::INPCK, on),
        33 => termios.input_modes.set(InputModes::ISTRIP, on),
        34 => termios.input_modes.set(InputModes::INLCR, on),
        35 => termios.input_modes.set(InputModes::IGNCR, on),
        36 => termios.input_modes.set(InputModes::ICRNL, on),
        37 => termios.input_modes.set(InputModes::IUCLC, on),
        38 => termios.input_modes.set(InputModes::IXON, on),
        39 => termios.input_modes.set(InputModes::IXANY, on),
        40 => termios.input_modes.set(InputModes::IXOFF, on),
        41 => termios.input_modes.set(InputModes::IMAXBEL, on),
        42 => termios.input_modes.set(InputModes::IUTF8, on),
        50 => termios.local_modes.set(LocalModes::ISIG, on),
        51 => termios.local_modes.set(LocalModes::ICANON, on),
        52 => termios.local_modes.set(LocalModes::XCASE, on),
        53 => termios.local_modes.set(LocalModes::ECHO, on),
        54 => termios.local_modes.set(LocalModes::ECHOE, on),
        55 => termios.local_modes.set(LocalModes::ECHOK, on),
        56 => termios.local_modes.set(LocalModes::ECHONL, on),
        57 => termios.local_modes.set(LocalModes::NOFLSH, on),
        58 => termios.local_modes.set(LocalModes::TOSTOP, on),
        59 => termios.local_modes.set(LocalModes::IEXTEN, on),
        60 => termios.local_modes.set(LocalModes::ECHOCTL, on),
        61 => termios.local_modes.set(LocalModes::ECHOKE, on),
        62 => termios.local_modes.set(LocalModes::PENDIN, on),
        70 => termios.output_modes.set(OutputModes::OPOST, on),
        71 => termios.output_modes.set(OutputModes::OLCUC, on),
        72 => termios.output_modes.set(OutputModes::ONLCR, on),
        73 => termios.output_modes.set(OutputModes::OCRNL, on),
        74 => termios.output_modes.set(OutputModes::ONOCR, on),
        75 => termios.output_modes.set(OutputModes::ONLRET, on),
        90 if on => termios.control_modes = (termios.control_modes - ControlModes::CSIZE) | ControlModes::CS7,
        91 if on => termios.control_modes = (termios.control_modes - ControlModes::CSIZE) | ControlModes::CS8,
        92 => termios.control_modes.set(ControlModes::PARENB, on),
        93 => termios.control_modes.set(ControlModes::PARODD, on),
        // The speeds mean nothing on a pseudo-terminal; programs may still ask for them.
        128 => drop(termios.set_input_speed(value)),
        129 => drop(termios.set_output_speed(value)),
        _ => {}
    }
}

fn special_code(opcode: u8) -> Option<SpecialCodeIndex> {
    Some(match opcode {
        1 => SpecialCodeIndex::VINTR,
        2 => SpecialCodeIndex::VQUIT,
        3 => SpecialCodeIndex::VERASE,
        4 => SpecialCodeIndex::VKILL,
        5 => SpecialCodeIndex::VEOF,
        6 => SpecialCodeIndex::VEOL,
        7 => SpecialCodeIndex::VEOL2,
        8 => SpecialCodeIndex::VSTART,
        9 => SpecialCodeIndex::VSTOP,
        10 => SpecialCodeIndex::VSUSP,
        12 => SpecialCodeIndex::VREPRINT,
        13 => SpecialCodeIndex::VWERASE,
        14 => SpecialCodeIndex::VLNEXT,
        16 => SpecialCodeIndex::VSWTC,
        18 => SpecialCodeIndex::VDISCARD,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_applied_and_garbage_is_not() {
        let mut modes = Vec::new();
        for (opcode, value) in [(53, 0_u32), (1, 7), (2, 255), (129, 38400), (11, 1), (41, 1)] {
            modes.push(opcode);
            modes.extend(value.to_be_bytes());
        }
        modes.extend([0, 72, 0, 0, 0, 0]);
        let terminal = Terminal { columns: 132, rows: 43, modes, ..Terminal::default() };
        let (master, slave) = open(&terminal, None).unwrap();
        let termios = rustix::termios::tcgetattr(&slave).unwrap();
        assert!(!termios.local_modes.contains(LocalModes::ECHO));
        assert!(termios.output_modes.contains(OutputModes::ONLCR), "nothing after the end is read");
        assert!(termios.input_modes.contains(InputModes::IMAXBEL));
        assert_eq!(termios.special_codes[SpecialCodeIndex::VINTR], 7);
        assert_eq!(termios.special_codes[SpecialCodeIndex::VQUIT], 0);
        let size = rustix::termios::tcgetwinsize(&master).unwrap();
        assert_eq!((size.ws_col, size.ws_row), (132, 43));
        for garbage in [&[1][..], &[200, 0, 0, 0, 0, 53, 0, 0, 0, 1], &[53, 0, 0], &[255; 64]] {
            let mut changed = termios.clone();
            apply(&mut changed, garbage);
            assert!(!changed.local_modes.contains(LocalModes::ECHO));
        }
    }
}
