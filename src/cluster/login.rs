//! Who this client is to the API server: what the kubeconfig says at once, a token in a file, or what a login command
//! prints.
//!
//! kube has all this too, but its login commands get the caller's standard input, run once more for each TLS stack, and
//! fail where somebody else collects the ended children of this process.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use http::HeaderValue;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::config::{ExecConfig, ExecInteractiveMode};
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// People may have to find their second factor.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(300);
/// Credentials are renewed so long before they expire, or earlier if they are short-lived.
const MARGIN: Duration = Duration::from_secs(10);
/// How long a token from a file is believed.
const FILE_PERIOD: Duration = Duration::from_secs(60);
/// More is not read of what a login command prints.
const LONGEST_OUTPUT: u64 = 16 << 20;
/// The versions of the exchange with login commands; they differ only by name.
const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// Why there are no credentials. What a login command printed is not repeated: it may be a token.
#[derive(Clone, Debug)]
pub(super) struct LoginError(String);

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoginError {}

type Result<T> = std::result::Result<T, LoginError>;

/// A client certificate with its key, both in PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) chain: String,
    pub(super) key: String,
}

/// What a request needs to be let in.
#[derive(Default)]
pub(super) struct Credentials {
    pub(super) authorization: Option<HeaderValue>,
    pub(super) certificate: Option<Certificate>,
    renew_at: Option<SystemTime>,
    was_refused: AtomicBool,
}

impl Credentials {
    /// To be called when the API server does not accept them: a login command runs again before the next request.
    pub(super) fn refuse(&self) {
        self.was_refused.store(true, Ordering::Relaxed);
    }

    fn is_good(&self) -> bool {
        !self.was_refused.load(Ordering::Relaxed) && self.renew_at.is_none_or(|end| SystemTime::now() < end)
    }
}

/// Where the credentials come from.
pub(super) enum Login {
    Fixed(Arc<Credentials>),
    File(TokenFile),
    Command(Box<LoginCommand>),
}

impl Login {
    /// Nothing to show; a client certificate of the kubeconfig is not the business of this file.
    pub(super) fn none() -> Self {
        Self::Fixed(Arc::default())
    }

    pub(super) fn basic(user: &str, password: &str) -> Result<Self> {
        let encoded = openssl::base64::encode_block(format!("{user}:{password}").as_bytes());
        Ok(Self::Fixed(Arc::new(with_header("Basic", &encoded)?)))
    }

    pub(super) fn token(token: &str) -> Result<Self> {
        Ok(Self::Fixed(Arc::new(with_header("Bearer", token)?)))
    }

    /// A token in a file that somebody renews. Without the file, `fallback`.
    pub(super) fn token_file(path: PathBuf, fallback: Option<&str>) -> Result<Self> {
        let credentials = match (read_token(&path), fallback) {
            (Ok(credentials), _) => credentials,
            (Err(_), Some(token)) => with_header("Bearer", token)?,
            (Err(e), None) => return Err(e),
        };
        Ok(Self::File(TokenFile { path, last: Mutex::new((Arc::new(credentials), Instant::now())) }))
    }

    pub(super) fn command(exec: ExecConfig) -> Result<Self> {
        Ok(Self::Command(Box::new(LoginCommand::new(exec)?)))
    }

    /// What the next request shall use. A login command is run where that is needed, for all who wait together.
    pub(super) async fn credentials(&self) -> Outcome {
        match self {
            Self::Fixed(credentials) => Ok(Arc::clone(credentials)),
            Self::File(file) => Ok(file.credentials()),
            Self::Command(command) => command.credentials().await,
        }
    }
}

fn with_header(scheme: &str, secret: &str) -> Result<Credentials> {
    let mut value = HeaderValue::try_from(format!("{scheme} {secret}"))
        .map_err(|_| LoginError("the kubeconfig's credentials have characters that HTTP does not allow".into()))?;
    value.set_sensitive(true);
    Ok(Credentials { authorization: Some(value), ..Credentials::default() })
}

fn read_token(path: &Path) -> Result<Credentials> {
    let wrong = |why: &dyn fmt::Display| LoginError(format!("the token file {} can't be used: {why}", path.display()));
    match std::fs::read_to_string(path).map_err(|e| wrong(&e))?.trim() {
        "" => Err(wrong(&"it is empty")),
        token => with_header("Bearer", token),
    }
}

/// A token that is read again from time to time.
pub(super) struct TokenFile {
    path: PathBuf,
    last: Mutex<(Arc<Credentials>, Instant)>,
}

impl TokenFile {
    fn credentials(&self) -> Arc<Credentials> {
        let mut last = self.last.lock();
        let (credentials, read_at) = &mut *last;
        if read_at.elapsed() >= FILE_PERIOD || !credentials.is_good() {
            *read_at = Instant::now();
            // A file that is away for a moment, or for good, leaves the token that is known.
            if let Ok(new) = read_token(&self.path) {
                *credentials = Arc::new(new);
            }
        }
        Arc::clone(credentials)
    }
}

type Outcome = Result<Arc<Credentials>>;

/// One run of a login command.
#[derive(Clone)]
struct Attempt {
    /// Set when it ends, also if nobody waits.
    outcome: Arc<OnceLock<Outcome>>,
    end: Shared<BoxFuture<'static, Outcome>>,
}

impl Attempt {
    /// Whether it runs still, or has given what can be used.
    fn is_good(&self) -> bool {
        let outcome = self.outcome.get().or_else(|| self.end.peek());
        outcome.is_none_or(|outcome| outcome.as_ref().is_ok_and(|credentials| credentials.is_good()))
    }
}

/// A program of the kubeconfig that prints credentials.
pub(super) struct LoginCommand {
    exec: ExecConfig,
    attempt: Mutex<Option<Attempt>>,
    leash: Arc<Leash>,
}

impl LoginCommand {
    fn new(mut exec: ExecConfig) -> Result<Self> {
        let wrong = |what: &str| Err(LoginError(format!("the kubeconfig's login command {what}")));
        if exec.command.as_deref().unwrap_or_default().is_empty() {
            return wrong("has no command");
        }
        let version = exec.api_version.as_deref().unwrap_or_default();
        if !VERSIONS.contains(&version) {
            return wrong(&format!(
                "has the unsupported apiVersion {version:?}; supported are {}",
                VERSIONS.join(", ")
            ));
        }
        if version == VERSIONS[1] {
            exec.interactive_mode.get_or_insert(ExecInteractiveMode::IfAvailable);
        }
        if exec.interactive_mode.is_none() {
            return wrong("has no interactiveMode; it must be Never, IfAvailable or Always");
        }
        Ok(Self { exec, attempt: Mutex::default(), leash: Arc::new(Leash::new()) })
    }

    async fn credentials(&self) -> Outcome {
        let attempt = self.attempt()?;
        timeout(LOGIN_TIMEOUT, attempt.end).await.unwrap_or_else(|_| {
            self.leash.pull();
            Err(LoginError(format!("{} did not end within {} s", self.name(), LOGIN_TIMEOUT.as_secs())))
        })
    }

    /// The attempt to wait for: the last one if it may still be right, else a new one.
    fn attempt(&self) -> Result<Attempt> {
        let mut last = self.attempt.lock();
        if let Some(attempt) = last.as_ref().filter(|attempt| attempt.is_good()) {
            return Ok(attempt.clone());
        }
        let new = self.start(last.is_none())?;
        Ok(last.insert(new).clone())
    }

    /// Runs the command beside the callers: the time that one of them has for a request is not the time for a login.
    fn start(&self, is_first: bool) -> Result<Attempt> {
        let is_interactive = self.is_interactive(is_first)?;
        let command = self.invocation(is_interactive)?;
        let (name, version) = (self.name(), self.exec.api_version.clone().unwrap_or_default());
        let leash = Arc::clone(&self.leash);
        let outcome = Arc::<OnceLock<Outcome>>::default();
        let cell = Arc::clone(&outcome);
        log::debug!("running {name}");
        let task = spawn_blocking(move || {
            let outcome = run(command, &leash).map_err(|e| LoginError(format!("{name} can't be run: {e}")));
            let outcome = outcome.and_then(|(output, end)| {
                understand(&output, end, &version).map(Arc::new).map_err(|why| LoginError(format!("{name} {why}")))
            });
            cell.get_or_init(|| outcome).clone()
        });
        let gone = |_| Err(LoginError("the login was given up, since this client has ended".into()));
        Ok(Attempt { outcome, end: task.map(move |outcome| outcome.unwrap_or_else(gone)).boxed().shared() })
    }

    /// Whether it may ask at the terminal. What is piped into this program belongs to the caller, and so does the
    /// terminal once a client works, unless the command can do nothing without it.
    fn is_interactive(&self, is_first: bool) -> Result<bool> {
        let has_terminal = io::stdin().is_terminal();
        match self.exec.interactive_mode {
            Some(ExecInteractiveMode::IfAvailable) => Ok(is_first && has_terminal),
            Some(ExecInteractiveMode::Always) if has_terminal => Ok(true),
            Some(ExecInteractiveMode::Always) => Err(LoginError(format!(
                "{} needs a terminal (interactiveMode: Always), and the standard input is none",
                self.name()
            ))),
            _ => Ok(false),
        }
    }

    fn invocation(&self, is_interactive: bool) -> Result<Command> {
        let exec = &self.exec;
        let name = exec.command.as_deref().unwrap_or_default();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = program(name, path).ok_or_else(|| {
            let hint = exec.install_hint.as_deref().unwrap_or_default().trim();
            // As everything from a file it may have escape sequences for the terminal.
            let hint: String = hint.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let hint = if hint.is_empty() { hint } else { format!("; {hint}") };
            LoginError(format!("{} can't be started: there is no such program{hint}", self.name()))
        })?;
        let mut spec = json!({ "interactive": is_interactive });
        if exec.provide_cluster_info {
            spec["cluster"] = serde_json::to_value(&exec.cluster).unwrap_or_default();
        }
        let information = json!({ "apiVersion": exec.api_version, "kind": "ExecCredential", "spec": spec });
        let variables = exec.env.iter().flatten().filter_map(|one| Some((one.get("name")?, one.get("value")?)));
        let mut command = Command::new(program);
        command
            .args(exec.args.iter().flatten())
            .envs(variables)
            .env("KUBERNETES_EXEC_INFO", information.to_string())
            .stdin(if is_interactive { Stdio::inherit() } else { Stdio::null() })
            .stdout(Stdio::piped());
        Ok(command)
    }

    fn name(&self) -> String {
        format!("the kubeconfig's login command {:?}", self.exec.command.as_deref().unwrap_or_default())
    }
}

impl Drop for LoginCommand {
    fn drop(&mut self) {
        self.leash.pull_for_good();
    }
}

/// The file to execute. Names are looked up here, as `kubectl` does, in the `PATH` of this process and not in one that
/// the kubeconfig sets, and never in the working directory.
fn program(name: &str, path: OsString) -> Option<PathBuf> {
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| is_program(path));
    }
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|candidate| is_program(candidate))
}

/// All that the command prints, and how it ended, if that can be learned.
fn run(mut command: Command, leash: &Leash) -> io::Result<(Vec<u8>, Option<ExitStatus>)> {
    let mut child = command.spawn()?;
    leash.tie(&child);
    let mut output = Vec::new();
    let read = child.stdout.take().map_or(Ok(0), |stdout| stdout.take(LONGEST_OUTPUT).read_to_end(&mut output));
    let end = match child.wait() {
        Ok(status) => Some(status),
        // This program ignores SIGCHLD, or waits for all children: somebody else has its status, or nobody.
        Err(e) if e.raw_os_error() == Some(Errno::CHILD.raw_os_error()) => None,
        Err(e) => return Err(e),
    };
    leash.untie();
    read.map(|_| (output, end))
}

/// The credentials in what the command printed. The error says what is wrong with it.
fn understand(output: &[u8], end: Option<ExitStatus>, version: &str) -> std::result::Result<Credentials, String> {
    if let Some(status) = end.filter(|status| !status.success()) {
        return Err(format!("failed: {status}"));
    }
    let answer: Value = match (serde_json::from_slice(output), end) {
        (Ok(answer), _) => answer,
        (Err(_), Some(_)) => serde_saphyr::from_slice(output)
            .map_err(|_| "printed something that is neither JSON nor YAML".to_owned())?,
        // Half of a YAML document is one, half of JSON is none: only that is as good as an exit code of 0.
        (Err(_), None) => {
            return Err("printed no credentials, and its exit status can't be learned, because this program ignores SIGCHLD or \
                        another part of it waits for all children"
                .into());
        }
    };
    let text = |value: &Value, name: &str| value[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    if text(&answer, "kind").as_deref() != Some("ExecCredential") {
        return Err("printed something that is no ExecCredential".into());
    }
    match text(&answer, "apiVersion") {
        Some(printed) if printed == version => {}
        printed => {
            return Err(format!(
                "answered with the apiVersion {:?} instead of {version:?}",
                printed.unwrap_or_default()
            ));
        }
    }
    let status = &answer["status"];
    let certificate = match (text(status, "clientCertificateData"), text(status, "clientKeyData")) {
        (Some(chain), Some(key)) => Some(Certificate { chain, key }),
        (None, None) => None,
        _ => return Err("printed a certificate without its key, or a key without its certificate".into()),
    };
    let mut credentials = match text(status, "token") {
        Some(token) => with_header("Bearer", &token)
            .map_err(|_| "printed a token with characters that HTTP does not allow".to_owned())?,
        None if certificate.is_some() => Credentials::default(),
        None => return Err("printed neither a token nor a certificate".into()),
    };
    credentials.certificate = certificate;
    credentials.renew_at = match &status["expirationTimestamp"] {
        Value::Null => None,
        time => {
            let time = serde_json::from_value::<Time>(time.clone())
                .map_err(|_| "printed an expirationTimestamp that is no time".to_owned())?;
            let (now, end) = (SystemTime::now(), SystemTime::from(time.0));
            Some(end - MARGIN.min(end.duration_since(now).unwrap_or_default() / 4))
        }
    };
    Ok(credentials)
}

/// By which a login command can be killed from elsewhere, without the chance to hit another process.
struct Leash {
    tied: Mutex<Tied>,
    /// The process that runs it. A fork of this one has the handle too, and must not use it.
    owner: u32,
}

#[derive(Default)]
struct Tied {
    process: Option<OwnedFd>,
    is_over: bool,
}

impl Leash {
    fn new() -> Self {
        Self { tied: Mutex::default(), owner: std::process::id() }
    }

    fn tie(&self, child: &Child) {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let mut tied = self.tied.lock();
        // Where the kernel is too old for it, the command runs for as long as it likes.
        tied.process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        if tied.is_over {
            tied.kill();
        }
    }

    fn untie(&self) {
        self.tied.lock().process = None;
    }

    fn pull(&self) {
        self.tied.lock().kill();
    }

    fn pull_for_good(&self) {
        if std::process::id() != self.owner {
            return;
        }
        let mut tied = self.tied.lock();
        tied.is_over = true;
        tied.kill();
    }
}

impl Tied {
    fn kill(&self) {
        if let Some(process) = &self.process {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use crate::deadline::Deadline;
    use crate::runtime::Runtime;

    /// A login command that is a shell script in a directory of its own, which is its first argument.
    struct Script {
        directory: PathBuf,
        login: Login,
    }

    impl Script {
        fn new(name: &str, script: &str, cluster: Option<Value>) -> Self {
            let directory = std::env::temp_dir().join(format!("sandbox-login-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            let mut exec: ExecConfig = serde_json::from_value(json!({
                "apiVersion": VERSIONS[0], "command": "sh", "args": ["-c", script, "sh", directory],
                "env": [{"name": "PATH", "value": "/bin:/usr/bin:/nowhere"}],
                "interactiveMode": "Never", "provideClusterInfo": cluster.is_some(),
            }))
            .unwrap();
            exec.cluster = cluster.map(|cluster| serde_json::from_value(cluster).unwrap());
            Self { directory, login: Login::command(exec).unwrap() }
        }

        fn text(&self, file: &str) -> String {
            std::fs::read_to_string(self.directory.join(file)).unwrap()
        }

        /// The authorization, or the error.
        fn log_in(&self) -> String {
            block_on(async { shown(&self.login.credentials().await) })
        }
    }

    impl Drop for Script {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = Runtime::shared().unwrap();
        runtime.block_on(Deadline::after(None), "nothing", async { Ok(future.await) }).unwrap()
    }

    fn shown(outcome: &Outcome) -> String {
        match outcome {
            Ok(credentials) => {
                credentials.authorization.as_ref().map_or(String::new(), |value| value.to_str().unwrap().to_owned())
            }
            Err(e) => e.to_string(),
        }
    }

    fn credential(status: &Value) -> String {
        json!({"apiVersion": VERSIONS[0], "kind": "ExecCredential", "status": status}).to_string()
    }

    /// Each run prints the number of runs as its token.
    fn counting(name: &str, expiration: Option<&str>) -> Script {
        let answer = credential(&json!({"token": "NUMBER", "expirationTimestamp": expiration}));
        let script = format!(r#"echo run >> "$1/runs"; echo '{answer}' | sed "s/NUMBER/$(wc -l < "$1/runs")/""#);
        Script::new(name, &script, None)
    }

    #[test]
    fn one_run_serves_all() {
        let script = counting("once", Some("2999-01-01T00:00:00Z"));
        let all = block_on(futures_util::future::join_all((0..8).map(|_| script.login.credentials())));
        assert!(all.iter().all(|one| shown(one) == "Bearer 1"), "{:?}", all.iter().map(shown).collect::<Vec<_>>());
        assert_eq!(script.log_in(), "Bearer 1");
        all[0].as_ref().unwrap().refuse();
        assert_eq!(script.log_in(), "Bearer 2", "what the server refused is not used again");
        assert_eq!(script.log_in(), "Bearer 2");
    }

    #[test]
    fn expired_credentials_are_renewed() {
        let script = counting("expiry", Some("2001-02-03T04:05:06Z"));
        assert_eq!((script.log_in(), script.log_in()), ("Bearer 1".into(), "Bearer 2".into()));
    }

    #[test]
    fn a_failed_run_is_followed_by_another() {
        let answer = credential(&json!({"token": "late"}));
        let script =
            Script::new("retry", &format!("[ -e $1/was ] && echo '{answer}' || {{ touch $1/was; exit 3; }}"), None);
        let error = script.log_in();
        assert!(error.contains("exit status: 3") && error.contains("\"sh\""), "{error}");
        assert_eq!(script.log_in(), "Bearer late");
    }

    #[test]
    fn the_command_is_told_what_it_may_do() {
        let cluster = json!({"server": "https://a.test", "certificate-authority-data": "YWJj", "config": {"a": 1}});
        let answer = credential(&json!({"token": "told"}));
        let script = r#"printf %s "$KUBERNETES_EXEC_INFO" > $1/info; wc -c > $1/input; echo "$PATH" > $1/path"#;
        let script = Script::new("info", &format!("{script}; echo '{answer}'"), Some(cluster.clone()));
        assert_eq!(script.log_in(), "Bearer told");
        let expected = json!({
            "apiVersion": VERSIONS[0], "kind": "ExecCredential", "spec": {"interactive": false, "cluster": cluster},
        });
        assert_eq!(serde_json::from_str::<Value>(&script.text("info")).unwrap(), expected);
        assert_eq!((script.text("input").trim(), script.text("path").trim()), ("0", "/bin:/usr/bin:/nowhere"));
    }

    #[test]
    fn a_client_that_goes_ends_its_login() {
        let script = Script::new("leash", "echo $$ > $1/new; mv $1/new $1/pid; exec sleep 1000", None);
        let Login::Command(command) = &script.login else { panic!("it is one") };
        let attempt = block_on(async { command.attempt().unwrap() });
        let deadline = Instant::now() + Duration::from_secs(60);
        while !script.directory.join("pid").exists() {
            assert!(Instant::now() < deadline, "the command did not start");
            std::thread::yield_now();
        }
        command.leash.pull_for_good();
        let error = shown(&block_on(attempt.end));
        assert!(error.contains("signal: 9"), "{error}");
        assert!(!Path::new("/proc").join(script.text("pid").trim()).exists());
    }

    #[test]
    fn understands_what_commands_print() {
        let token = credential(&json!({"token": "t"}));
        let yaml = format!("kind: ExecCredential\napiVersion: {}\nstatus:\n  token: t\n", VERSIONS[0]);
        let fine = Some(ExitStatus::from_raw(0));
        for (output, end, expected) in [
            (&*token, fine, Ok("Bearer t")),
            (&*token, None, Ok("Bearer t")),
            (&*yaml, fine, Ok("Bearer t")),
            (&*yaml, None, Err("ignores SIGCHLD")),
            (&token[..token.len() - 2], None, Err("ignores SIGCHLD")),
            (&token[..token.len() - 2], fine, Err("neither JSON nor YAML")),
            ("", None, Err("ignores SIGCHLD")),
            (&*token, Some(ExitStatus::from_raw(0x100)), Err("exit status: 1")),
            (&*token, Some(ExitStatus::from_raw(15)), Err("signal: 15")),
            ("hunter2", fine, Err("no ExecCredential")),
            (&token.replace("io/v1", "io/v2"), fine, Err("instead of")),
            (&credential(&json!({})), fine, Err("neither a token nor a certificate")),
            (&credential(&json!(null)), fine, Err("neither a token nor a certificate")),
            (&credential(&json!({"token": "a\nb"})), fine, Err("HTTP does not allow")),
            (&credential(&json!({"token": "t", "clientKeyData": "k"})), fine, Err("without its certificate")),
            (&credential(&json!({"token": "t", "expirationTimestamp": "soon"})), fine, Err("no time")),
            (&credential(&json!({"clientCertificateData": "c", "clientKeyData": "k"})), fine, Ok("")),
        ] {
            let outcome = understand(output.as_bytes(), end, VERSIONS[0]);
            match (outcome, expected) {
                (Ok(credentials), Ok(expected)) => assert_eq!(shown(&Ok(Arc::new(credentials))), expected, "{output}"),
                (Err(error), Err(expected)) => {
                    assert!(error.contains(expected) && !error.contains("hunter2"), "{error}")
                }
                (outcome, _) => panic!("{output} ({end:?}): {:?}", outcome.map(|_| "credentials")),
            }
        }
    }

    #[test]
    fn short_lived_credentials_are_used() {
        let soon = SystemTime::now() + Duration::from_secs(8);
        let soon = jiff_text(soon);
        let output = credential(&json!({"token": "t", "expirationTimestamp": soon}));
        let credentials = understand(output.as_bytes(), None, VERSIONS[0]).unwrap();
        assert!(credentials.is_good(), "8 s are less than the margin, but not nothing");
    }

    fn jiff_text(time: SystemTime) -> Value {
        serde_json::to_value(Time(time.try_into().unwrap())).unwrap()
    }

    #[test]
    fn looks_programs_up_as_kubectl_does() {
        let path = |text: &str| OsString::from(text);
        assert_eq!(program("sh", path("/nowhere:/bin")), Some(PathBuf::from("/bin/sh")));
        assert_eq!(program("sh", path(".:bin:")), None, "never in the working directory");
        assert_eq!(program("/bin/sh", path("")), Some(PathBuf::from("/bin/sh")));
        assert_eq!(program("passwd", path("/etc")), None, "it is not executable");
        assert_eq!(program("/bin", path("")), None);
    }

    #[test]
    fn a_token_file_is_read_again() {
        let file = std::env::temp_dir().join(format!("sandbox-token-{}", std::process::id()));
        let header = |login: &Login| shown(&block_on(login.credentials()));
        assert!(shown(&Login::token_file(file.clone(), None).map(|_| Arc::default())).contains("No such file"));
        let late = Login::token_file(file.clone(), Some("inline")).unwrap();
        std::fs::write(&file, " first\n").unwrap();
        let login = Login::token_file(file.clone(), Some("inline")).unwrap();
        std::fs::write(&file, "second\n").unwrap();
        assert_eq!((header(&late), header(&login)), ("Bearer inline".into(), "Bearer first".into()));
        block_on(login.credentials()).unwrap().refuse();
        assert_eq!(header(&login), "Bearer second", "a refused token is not kept for a minute");
        std::fs::remove_file(&file).unwrap();
        block_on(login.credentials()).unwrap().refuse();
        assert_eq!(header(&login), "Bearer second", "a file that is gone leaves its token");
    }
}
