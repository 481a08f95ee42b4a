//! The program `sandbox-guest`.

use std::io::{self, Read, Write};
use std::iter::Peekable;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use sandbox_guest::server::{self, Config};
use sandbox_guest::{applet, connect, control, install, process};
use sandbox_protocol::{ControlAnswer, ControlRequest, DEFAULT_PORT};

const USAGE: &str = "\
The main process of a sandbox.

sandbox-guest serve [OPTIONS]     serves SSH until the sandbox ends
    --key KEY                     a public key that may log in, as in authorized_keys; may be repeated
    --user NAME                   the name to log in with (sandbox)
    --port PORT                   the TCP port to listen on (2222)
    --address ADDRESS             the address to listen on (all)
    --lifetime SECONDS            the sandbox ends after so long unless it is renewed
    --hard-limit SECONDS          the sandbox ends after so long in any case
    --idle-timeout SECONDS        the sandbox ends once nothing has used it for so long
    --termination-log FILE        where to write why the guest ended (/dev/termination-log)
    --max-connections NUMBER      connections at a time (1024)
    --commands-as USER            whom commands run as and files are reached as, if the guest is root: a user of
                                  /etc/passwd, or UID:GID
sandbox-guest control [--port PORT] authorize|revoke [KEY]
                                  lets a key log in, or no longer; without KEY it is read from the input
sandbox-guest control [--port PORT] disconnect [KEY]
                                  closes the SSH connections of a key, or all of them
sandbox-guest control [--port PORT] identify
                                  tells the host key, as JSON
sandbox-guest connect [--port PORT]
                                  carries an SSH connection to the guest over its standard streams
sandbox-guest install [--readable] DIRECTORY
                                  copies this program to DIRECTORY/sandbox-guest, execute-only unless it shall be readable
sandbox-guest --version

Exit codes of serve: 0 it was told to end, 81 it can't start, 82 it has expired, 83 nothing
has used it for its idle timeout. The termination log has the reason.
";

fn main() -> ExitCode {
    if let Some(code) = applet::run(std::env::args_os()) {
        return code;
    }
    let mut args = Vec::new();
    for arg in std::env::args_os().skip(1) {
        match arg.into_string() {
            Ok(arg) => args.push(arg),
            Err(arg) => return fail(&format!("{} is no text", arg.to_string_lossy())),
        }
    }
    let mut args = args.into_iter();
    match args.next().as_deref() {
        // The zygote and its keepers; started by the guest itself.
        Some("keeper") => match process::zygote_main() {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        },
        Some("serve") => match config(args) {
            Ok(config) => exit_code(server::run(&config)),
            Err(message) => exit_code(server::refuse(&message)),
        },
        Some("control") => control(args),
        Some("connect") => connect(args),
        Some("install") => {
            let mut args = args.peekable();
            let is_readable = args.next_if(|arg| arg == "--readable").is_some();
            match (args.next(), args.next()) {
                (Some(directory), None) => match install::install(Path::new(&directory), is_readable) {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(message) => fail(&message),
                },
                _ => usage(),
            }
        }
        Some("--version") => {
            let version = env!("CARGO_PKG_VERSION");
            say(&format!("sandbox-guest {version}, protocol {}", sandbox_protocol::PROTOCOL))
        }
        Some("--help") => {
            let _ = io::stdout().write_all(USAGE.as_bytes());
            ExitCode::SUCCESS
        }
        _ => usage(),
    }
}

fn exit_code(code: sandbox_protocol::ExitCode) -> ExitCode {
    ExitCode::from(u8::try_from(code.code()).unwrap_or(u8::MAX))
}

fn say(text: &str) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "sandbox-guest: {message}");
    ExitCode::FAILURE
}

fn usage() -> ExitCode {
    let _ = io::stderr().write_all(USAGE.as_bytes());
    ExitCode::from(2)
}

fn parse<T: std::str::FromStr>(option: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{option} can't be {value:?}"))
}

fn config(mut args: impl Iterator<Item = String>) -> Result<Config, String> {
    let mut config = Config::default();
    while let Some(option) = args.next() {
        let value = args.next().ok_or_else(|| format!("{option} takes a value"))?;
        match option.as_str() {
            "--key" => config.keys.push(value),
            "--user" => config.user = value,
            "--port" => config.port = parse(&option, &value)?,
            "--address" => config.address = Some(parse(&option, &value)?),
            "--lifetime" => config.lifetime = Some(Duration::from_secs(parse(&option, &value)?)),
            "--hard-limit" => config.hard_limit = Some(Duration::from_secs(parse(&option, &value)?)),
            "--idle-timeout" => config.idle_timeout = Some(Duration::from_secs(parse(&option, &value)?)),
            "--termination-log" => config.termination_log = Some(value.into()),
            "--max-connections" => config.max_connections = parse(&option, &value)?,
            "--commands-as" => config.commands_as = Some(value),
            _ => return Err(format!("there is no option {option}")),
        }
    }
    Ok(config)
}

/// As root the program is dumpable although it is execute-only.
fn protect() -> Result<(), String> {
    sandbox_guest::sys::protect().map_err(|e| format!("it can't be protected: {e}"))
}

/// The guest's port, if the arguments begin with it; `None` if they begin with something wrong.
fn port(args: &mut Peekable<impl Iterator<Item = String>>) -> Option<u16> {
    match args.next_if(|arg| arg == "--port") {
        Some(option) => parse(&option, &args.next()?).ok(),
        None => Some(DEFAULT_PORT),
    }
}

fn connect(args: impl Iterator<Item = String>) -> ExitCode {
    if let Err(message) = protect() {
        return fail(&message);
    }
    let mut args = args.peekable();
    let (Some(port), None) = (port(&mut args), args.next()) else { return usage() };
    match connect::run(port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&format!("the connection to the guest: {e}")),
    }
}

fn control(args: impl Iterator<Item = String>) -> ExitCode {
    if let Err(message) = protect() {
        return fail(&message);
    }
    let mut args = args.peekable();
    let Some(port) = port(&mut args) else { return usage() };
    let (Some(what), key, None) = (args.next(), args.next(), args.next()) else { return usage() };
    let read_key = |key| match key {
        Some(key) => Ok(key),
        None => {
            let mut text = String::new();
            io::stdin().take(64 << 10).read_to_string(&mut text).map(|_| text.trim().to_owned())
        }
    };
    let request = match what.as_str() {
        "authorize" => read_key(key).map(|key| ControlRequest::Authorize { key }),
        "revoke" => read_key(key).map(|key| ControlRequest::Revoke { key }),
        "disconnect" => Ok(ControlRequest::Disconnect { key }),
        "identify" => Ok(ControlRequest::Identify),
        _ => return usage(),
    };
    match request.and_then(|request| control::request(port, &request)) {
        Ok(ControlAnswer::Ok(identity)) => say(&serde_json::to_string(&identity).unwrap_or_default()),
        Ok(ControlAnswer::Error(reason)) => fail(&reason),
        Err(e) => fail(&format!("the guest can't be asked: {e}")),
    }
}
