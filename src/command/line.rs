//! What the sandbox's shell gets for a command: the environment, the user, the directory, then the program in the shell's place,
//! or the line itself.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::error::{Error, ErrorKind, Result};

/// Exit code for a command that never ran; the reason is in [`reason_file`] then. A command may end with the same code.
pub(super) const NEVER_RAN: i32 = 127;

/// What Linux takes as one argument or variable where pages have 4 KiB (`MAX_ARG_STRLEN`, with the NUL at its end).
const LONGEST_ARGUMENT: usize = (128 << 10) - 1;

#[derive(Clone, Debug)]
pub(super) enum What {
    Program(Vec<OsString>),
    Shell { line: OsString, args: Vec<OsString> },
}

/// Where an output stream of a command goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Way {
    #[default]
    Kept,
    Discarded,
    /// The standard error goes the way of the standard output.
    Merged,
}

/// A command as its shell's text.
pub(super) struct Line<'a> {
    pub(super) id: &'a str,
    pub(super) what: &'a What,
    pub(super) env: &'a [(OsString, OsString)],
    pub(super) directory: Option<&'a OsStr>,
    pub(super) user: Option<&'a str>,
    pub(super) stdout: Way,
    pub(super) stderr: Way,
}

impl Line<'_> {
    pub(super) fn text(&self) -> Result<Vec<u8>> {
        // The start script left the image's environment and working directory there.
        let mut text = b". /dev/shm/.sandbox/env\n".to_vec();
        append(&mut text, &[b"export ", marker(self.id).as_bytes(), b"\n"]);
        // Variables that the shell itself can't have, but processes may.
        let mut odd = Vec::new();
        for (name, value) in self.env {
            let (name, value) = (argument(name)?, argument(value)?);
            if name.is_empty() || name.contains(&b'=') {
                return Err(invalid("the name of an environment variable is empty or has a '='"));
            }
            if is_identifier(name) {
                append(&mut text, &[b"export ", name, b"=", &quoted(value), b"\n"]);
            } else {
                append(&mut odd, &[b" ", &quoted(&[name, b"=", value].concat())]);
            }
        }
        let mut hops = Vec::new();
        if self.user.is_some() {
            hops.extend_from_slice(b" $sandbox_as");
        }
        if !odd.is_empty() {
            append(&mut hops, &[b" env", &odd]);
        }
        let is_plain_shell = matches!(self.what, What::Shell { .. }) && hops.is_empty();
        if !is_plain_shell || self.directory.is_some() {
            let reason = reason_file(self.id);
            text.extend(format!("sandbox_fail() {{ printf %s \"$1\" > {reason}; exit {NEVER_RAN}; }}\n").bytes());
        }
        if let Some(directory) = self.directory {
            let directory = quoted(argument(directory)?);
            append(&mut text, &[b"cd -- ", &directory, b" 2> /dev/null || {\n[ -d ", &directory, b" ] || "]);
            append(&mut text, &[b"sandbox_fail 'there is no directory '", &directory, b"\n"]);
            append(&mut text, &[b"sandbox_fail 'no permission to enter the directory '", &directory, b"\n}\n"]);
        }
        if let What::Program(words) = self.what {
            let program = quoted(argument(&words[0])?);
            append(&mut text, &[b"command -v ", &program, b" > /dev/null || "]);
            append(&mut text, &[b"sandbox_fail 'there is no program '", &program, b"\n"]);
        }
        if let Some(user) = self.user {
            text.extend(become_user(user)?.bytes());
        }
        text.extend_from_slice(match (self.stdout, self.stderr) {
            (Way::Discarded, Way::Discarded | Way::Merged) => b"exec > /dev/null 2>&1\n",
            (Way::Discarded, Way::Kept) => b"exec > /dev/null\n",
            (_, Way::Discarded) => b"exec 2> /dev/null\n",
            (_, Way::Merged) => b"exec 2>&1\n",
            (_, Way::Kept) => b"",
        });
        match self.what {
            What::Program(words) => {
                append(&mut text, &[CATCH_EXEC, b"exec", &hops]);
                append_words(&mut text, words)?;
            }
            What::Shell { line, args } if is_plain_shell => {
                if self.directory.is_some() {
                    text.extend_from_slice(b"unset -f sandbox_fail\n");
                }
                if !args.is_empty() {
                    text.extend_from_slice(b"set --");
                    append_words(&mut text, args)?;
                    text.push(b'\n');
                }
                text.extend_from_slice(argument(line)?);
            }
            What::Shell { line, args } => {
                append(&mut text, &[CATCH_EXEC, b"exec", &hops, b" /bin/sh -c ", &quoted(argument(line)?), b" sh"]);
                append_words(&mut text, args)?;
            }
        }
        Ok(text)
    }

    /// The line that kills every process of the command by its marker; exit code 0 once none is left.
    pub(super) fn kill_stragglers(&self) -> String {
        const SWEEP: &str = include_str!("sweep.sh");
        let marker = marker(self.id);
        let Some(user) = self.user else { return format!("set -- {marker}\n{SWEEP}") };
        let quoted = String::from_utf8_lossy(&quoted(SWEEP.as_bytes())).into_owned();
        format!(
            "set -- {marker} own\n\
             [ \"$(id -u)\" != \"$(id -u {user})\" ] || set -- {marker}\n\
             ({SWEEP}) || exit 1\n\
             [ -z \"$2\" ] || exec setpriv --reuid={user} --regid=\"$(id -g {user})\" --init-groups /bin/sh -c {quoted} sh \"$@\""
        )
    }

    /// Why Linux may have refused to start the program, where that is to be seen from here.
    pub(super) fn too_long(&self) -> Option<String> {
        let (What::Program(words) | What::Shell { args: words, .. }) = self.what;
        let (number, longest) = words.iter().map(|word| word.len()).enumerate().max_by_key(|(_, length)| *length)?;
        let variables = self.env.iter().map(|(name, value)| (name, name.len() + 1 + value.len()));
        if longest > LONGEST_ARGUMENT {
            return Some(format!("argument {number} has {longest} bytes, and Linux takes {LONGEST_ARGUMENT} at most"));
        }
        if let Some((name, length)) = variables.clone().find(|(_, length)| *length > LONGEST_ARGUMENT) {
            let name = name.to_string_lossy();
            return Some(format!(
                "the variable {name} has {length} bytes with its name, and Linux takes {LONGEST_ARGUMENT} at most"
            ));
        }
        let all =
            words.iter().map(|word| word.len()).sum::<usize>() + variables.map(|(_, length)| length).sum::<usize>();
        // A quarter of the limit of the stack, which is 8 MiB nearly everywhere.
        (all > 1 << 20).then(|| format!("its arguments and variables have {all} bytes, and Linux takes about 2 MiB"))
    }
}

/// A shell whose `exec` fails tells so and ends, except that bash gives no trap a chance without its option.
const CATCH_EXEC: &[u8] =
    b"shopt -s execfail 2> /dev/null\ntrap 'sandbox_fail \"the program can not be executed\"' EXIT\n";

/// Sets `sandbox_as` to what runs a program as this user, and the variables that go with a user.
fn become_user(user: &str) -> Result<String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if user.is_empty() || user.starts_with('-') || !user.bytes().all(is_name) {
        return Err(Error::new(ErrorKind::InvalidArgument, format!("{user:?} is no user name")));
    }
    // Not su: it answers with an exit code where a signal ended the program.
    Ok(format!(
        "id -u {user} > /dev/null 2>&1 || sandbox_fail 'there is no user {user}'\n\
         if [ \"$(id -u)\" = \"$(id -u {user})\" ]; then sandbox_as=; else\n\
         [ \"$(id -u)\" = 0 ] || sandbox_fail \"$(id -un) can not become {user}: only root can (see SandboxSpec::pod_template)\"\n\
         command -v setpriv > /dev/null || sandbox_fail 'the image has no setpriv, which becoming another user takes'\n\
         sandbox_as='setpriv --reuid={user} --regid='$(id -g {user})' --init-groups'\n\
         fi\n\
         HOME=~{user} USER={user} LOGNAME={user}\nexport HOME USER LOGNAME\n"
    ))
}

/// The variable by which the processes of one command are found in the sandbox.
pub(super) fn marker(id: &str) -> String {
    format!("SANDBOX_COMMAND_ID={id}")
}

/// The file that says why a command never ran. Not its standard error: that is the caller's, or may be discarded.
pub(super) fn reason_file(id: &str) -> String {
    format!("/dev/shm/.sandbox/never-ran-{id}")
}

fn append(text: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| text.extend_from_slice(part));
}

fn append_words(text: &mut Vec<u8>, words: &[OsString]) -> Result<()> {
    words.iter().try_for_each(|word| {
        append(text, &[b" ", &quoted(argument(word)?)]);
        Ok(())
    })
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidArgument, what)
}

/// The bytes of a text that can be handed to a process.
fn argument(text: &OsStr) -> Result<&[u8]> {
    let bytes = text.as_bytes();
    if bytes.contains(&0) { Err(invalid("a command, argument or variable has a NUL byte")) } else { Ok(bytes) }
}

fn is_identifier(name: &[u8]) -> bool {
    !name[0].is_ascii_digit() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// One word of a shell's line, whatever its bytes are.
fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut word = Vec::with_capacity(bytes.len() + 2);
    word.push(b'\'');
    for &byte in bytes {
        if byte == b'\'' {
            word.extend(b"'\\''");
        } else {
            word.push(byte);
        }
    }
    word.push(b'\'');
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_every_byte() {
        assert_eq!(quoted(b""), b"''");
        assert_eq!(quoted(b"a 'b' $c"), b"'a '\\''b'\\'' $c'");
        let all: Vec<u8> = (1..=255).collect();
        let script = [b"printf %s ", &quoted(&all)[..]].concat();
        let output = std::process::Command::new("sh").arg("-c").arg(OsStr::from_bytes(&script)).output().unwrap();
        assert_eq!(output.stdout, all);
    }

    #[test]
    fn takes_no_user_that_a_shell_would_read_as_something_else() {
        for wrong in ["", "-x", "a b", "a;b", "$a", "a\n", "~a"] {
            assert_eq!(become_user(wrong).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        assert!(become_user("www-data").is_ok());
    }
}
