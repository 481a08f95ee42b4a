//! OpenSSH's programs and sandboxes: `sandbox ssh`, `sandbox ssh-config`, and what both have ssh call.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;

use sandbox::Client;

use crate::arguments::{Connection, Ssh};
use crate::output::{self, Failure};
use crate::stream::write_all;

/// What hosts are called that are sandboxes.
const SUFFIX: &str = ".sandbox";
/// What is written here begins with this line, and nothing else is overwritten.
const HEAD: &str = "# Written by `sandbox ssh-config --write`, which overwrites it. See `sandbox help ssh-config`.";
const KEY: &str = "sandbox_ed25519";
/// What is copied at once.
const PIECE: usize = 64 << 10;

/// Becomes ssh.
pub(crate) fn ssh(connection: &Connection, wanted: &Ssh) -> Result<ExitCode, Failure> {
    let settings = settings(connection)?;
    let mut ssh = Command::new("ssh");
    for (name, value) in &settings {
        ssh.arg("-o").arg(format!("{name}={value}"));
    }
    // As ssh itself does it, options may follow the host.
    ssh.arg(format!("{}{SUFFIX}", wanted.name)).args(&wanted.arguments);
    let e = ssh.exec();
    Err(Failure::here(format!("OpenSSH's ssh can't be run: {e}")).with_code(255))
}

pub(crate) fn config(connection: &Connection, is_to_write: bool) -> Result<(), Failure> {
    let mut block = format!("Host *{SUFFIX}\n");
    for (name, value) in settings(connection)? {
        block.push_str(&format!("    {name} {value}\n"));
    }
    if !is_to_write {
        return output::bytes(block.as_bytes());
    }
    let directory = ssh_directory()?;
    let own = directory.join("sandbox.conf");
    let in_file = |path: &Path, e: io::Error| Failure::here(format!("{}: {e}", path.display()));
    match fs::read_to_string(&own) {
        Ok(text) if !text.starts_with(HEAD) => {
            return Err(Failure::here(format!("{} is somebody else's file", own.display())));
        }
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(in_file(&own, e)),
        _ => {}
    }
    replace(&own, format!("{HEAD}\n{block}").as_bytes(), 0o600).map_err(|e| in_file(&own, e))?;
    output::line(format_args!("{} is written", own.display()))?;

    let users = directory.join("config");
    // What a link leads to is replaced, not the link.
    let users = fs::canonicalize(&users).unwrap_or(users);
    let (text, mode) = match fs::read(&users) {
        Ok(text) => (text, fs::metadata(&users).map_err(|e| in_file(&users, e))?.permissions().mode() & 0o777),
        Err(e) if e.kind() == io::ErrorKind::NotFound => (Vec::new(), 0o600),
        Err(e) => return Err(in_file(&users, e)),
    };
    let line = format!("Include \"{}\"", self::text(own.as_os_str())?);
    if is_included(&text, &line) {
        return Ok(());
    }
    // On top: below the first Host it would belong to that, and what comes first wins.
    output::line(format_args!("{} gets this line on top: {line}", users.display()))?;
    replace(&users, &[line.as_bytes(), b"\n", &text].concat(), mode).map_err(|e| in_file(&users, e))
}

/// Whether the line is there before anything that would limit it to some hosts.
fn is_included(text: &[u8], include: &str) -> bool {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let is_limit = |line: &&[u8]| {
        let word = line.split(|byte| b" \t=".contains(byte)).next().unwrap_or_default();
        word.eq_ignore_ascii_case(b"host") || word.eq_ignore_ascii_case(b"match")
    };
    lines.take_while(|line| !is_limit(line)).any(|line| line == include.as_bytes())
}

/// Writes a file beside its place and renames it there.
fn replace(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}.new", std::process::id()));
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&new)?;
    let written = file.write_all(contents).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn ssh_directory() -> Result<PathBuf, Failure> {
    let home = env::var_os("HOME").filter(|home| !home.is_empty()).ok_or_else(|| Failure::here("HOME is not set"))?;
    let directory = Path::new(&home).join(".ssh");
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            Err(Failure::here(format!("{}: {e}", directory.display())))
        }
        _ => Ok(directory),
    }
}

/// The key to log in with: the configured one, else one of this command's own, which is made if it is not there.
fn key(connection: &Connection) -> Result<PathBuf, Failure> {
    let set = connection.set.iter().rev().find(|(name, _)| name == "ssh_key").map(|(_, path)| path.into());
    let configured = set.or_else(|| env::var_os("SANDBOX_SSH_KEY")).filter(|path: &OsString| !path.is_empty());
    if let Some(path) = configured {
        return std::path::absolute(&path).map_err(|e| Failure::here(format!("ssh_key: {e}")));
    }
    let key = ssh_directory()?.join(KEY);
    if !key.exists() {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "sandbox", "-f"]).arg(&key);
        match keygen.status() {
            // Another call may have made it at the same time.
            Ok(_) if key.exists() => {}
            Ok(status) => return Err(Failure::here(format!("ssh-keygen can't make {}: {status}", key.display()))),
            Err(e) => return Err(Failure::here(format!("OpenSSH's ssh-keygen can't be run: {e}"))),
        }
    }
    Ok(key)
}

/// The settings of ssh for sandboxes.
fn settings(connection: &Connection) -> Result<Vec<(&'static str, String)>, Failure> {
    let key = key(connection)?;
    let program = env::current_exe().map_err(|e| Failure::here(format!("this program's own path: {e}")))?;
    let mut words = vec![program.into_os_string()];
    let mut option = |name: &str, value: &OsStr| words.extend([name.into(), value.to_owned()]);
    if let Some(namespace) = &connection.namespace {
        option("--namespace", OsStr::new(namespace));
    }
    if let Some(context) = &connection.context {
        option("--context", OsStr::new(context));
    }
    if let Some(path) = &connection.kubeconfig {
        let path = std::path::absolute(path).map_err(|e| Failure::here(format!("kubeconfig: {e}")))?;
        option("--kubeconfig", path.as_os_str());
    }
    for (name, value) in connection.set.iter().filter(|(name, _)| name != "ssh_key") {
        option("--set", OsStr::new(&format!("{name}={value}")));
    }
    option("--set", OsStr::new(&format!("ssh_key={}", text(key.as_os_str())?)));
    let user = connection.set.iter().rev().find(|(name, _)| name == "ssh_user").map(|(_, user)| user.clone());
    let user = user.or_else(|| env::var("SANDBOX_SSH_USER").ok()).unwrap_or_else(|| "sandbox".into());
    let words = words.iter().map(|word| text(word)).collect::<Result<Vec<_>, _>>()?;
    let for_shell: Vec<_> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
    let for_ssh: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    let proxy = format!("{} ssh-proxy %n", for_shell.join(" ").replace('%', "%%"));
    Ok(vec![
        ("User", user),
        ("ProxyCommand", proxy),
        ("KnownHostsCommand", format!("{} ssh-host-key %n %H %I", for_ssh.join(" ").replace('%', "%%"))),
        ("UserKnownHostsFile", "none".into()),
        ("GlobalKnownHostsFile", "none".into()),
        ("StrictHostKeyChecking", "yes".into()),
        ("IdentityFile", format!("\"{}\"", text(key.as_os_str())?.replace('%', "%%"))),
        ("IdentitiesOnly", "yes".into()),
        ("PreferredAuthentications", "publickey".into()),
        ("ServerAliveInterval", "15".into()),
    ])
}

/// What can stand in ssh's configuration.
fn text(word: &OsStr) -> Result<String, Failure> {
    match word.to_str() {
        Some(text) if !text.contains(['"', '\\', '\n', '\r']) => Ok(text.to_owned()),
        _ => Err(Failure::here(format!("ssh's configuration can't hold {word:?}"))),
    }
}

fn name_of(host: &str) -> &str {
    host.strip_suffix(SUFFIX).unwrap_or(host)
}

/// Connects this program's input and output to the sandbox's SSH server.
pub(crate) fn proxy(client: &Client, host: &str) -> Result<(), Failure> {
    let sandbox = client.attach(name_of(host))?;
    let stream = sandbox.connect(sandbox.ssh_port())?;
    thread::scope(|scope| {
        // Its end is no end of the other direction.
        scope.spawn(|| {
            copy(&mut io::stdin().lock(), |bytes| (&stream).write_all(bytes))
                .and_then(|()| stream.shutdown(Shutdown::Write))
        });
        let result = receive(&stream);
        // The reading of the input can't be ended in another way.
        if let Err(e) = &result {
            output::complain(format_args!(
                "sandbox: the connection to {} was lost: {e}",
                output::plain(sandbox.name())
            ));
        }
        std::process::exit(i32::from(result.is_err()));
    })
}

fn receive(stream: &TcpStream) -> io::Result<()> {
    let out = io::stdout().lock();
    copy(&mut &*stream, |bytes| write_all(out.as_fd(), bytes))
}

fn copy(from: &mut impl Read, mut to: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to(&buffer[..length])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Prints the pinned host key as known_hosts has it.
pub(crate) fn host_key(
    client: impl FnOnce() -> sandbox::Result<Client>,
    host: &str,
    searched: &str,
    purpose: &str,
) -> Result<(), Failure> {
    // There is one algorithm, so there is no order.
    if purpose != "HOSTNAME" {
        return Ok(());
    }
    let sandbox = client()?.attach(name_of(host))?;
    if sandbox.host_key().is_none() {
        // Any connection pins it.
        sandbox.files().exists("/")?;
    }
    match sandbox.host_key() {
        Some(key) => output::line(format_args!("{searched} {key}")),
        None => Err(Failure::here("the sandbox's host key is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_counts_where_it_holds_for_all_hosts() {
        for (text, is_there) in [
            ("Include sandbox.conf\nHost a\n", true),
            ("# mine\n\tInclude sandbox.conf", true),
            ("Host a\n  Include sandbox.conf\n", false),
            ("match=all\nInclude sandbox.conf\n", false),
            ("HostName a\nInclude sandbox.conf\n", true),
            ("", false),
        ] {
            assert_eq!(is_included(text.as_bytes(), "Include sandbox.conf"), is_there, "{text}");
        }
    }
}
