//! Names of signals, without `SIG`.

use std::borrow::Cow;

/// Linux's numbers on x86-64, AArch64 and RISC-V.
const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The name of a signal; the real-time ones, which have none, are `RTMIN` plus a number.
pub fn signal_name(number: i32) -> Cow<'static, str> {
    match SIGNALS.iter().find(|(_, of)| *of == number) {
        Some((name, _)) => Cow::Borrowed(name),
        None if number == 34 => Cow::Borrowed("RTMIN"),
        None if (35..=64).contains(&number) => Cow::Owned(format!("RTMIN+{}", number - 34)),
        None => Cow::Owned(number.to_string()),
    }
}

/// The number of the signal with this name, with or without `SIG`, or with this number as text.
pub fn signal_number(name: &str) -> Option<i32> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    if let Some((_, number)) = SIGNALS.iter().find(|(of, _)| *of == name) {
        return Some(*number);
    }
    let number = match name {
        "RTMIN" => 34,
        "POLL" => 29,
        "IOT" => 6,
        "CLD" => 17,
        _ => match name.strip_prefix("RTMIN+") {
            Some(more) => 34_i32.checked_add(more.parse().ok()?)?,
            None => name.parse().ok()?,
        },
    };
    (1..=64).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for number in 1..=64 {
            assert_eq!(signal_number(&signal_name(number)), Some(number));
        }
        assert_eq!(signal_number("SIGTERM"), Some(15));
        assert_eq!(signal_name(64), "RTMIN+30");
    }

    #[test]
    fn other_names_are_none() {
        for name in ["", "SIG", "term", "0", "65", "-9", "RTMIN+31", "RTMIN+99999999999", "KILL "] {
            assert_eq!(signal_number(name), None, "{name}");
        }
    }
}
