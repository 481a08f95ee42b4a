//! What stands in the way of a sandbox, found out before one is made.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::{join, join4, join5};
use rustix::process::{Resource, getrlimit};
use serde_json::Value;
use tokio::time::timeout_at;

use crate::client::Client;
use crate::cluster::{self, PodIdentity, Version};
use crate::config::{Config, DEFAULT_IMAGE, Transport};
use crate::context::Context;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result, stable_names};
use crate::guest::Guest;
use crate::spec::SandboxSpec;
use crate::ssh::identity::Identity;
use crate::text;

/// How long the API server may take to answer all questions.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// What a client with some busy sandboxes needs.
const FEW_DESCRIPTORS: u64 = 256;
const NO_DESCRIPTORS: u64 = 32;
const FEW_THREADS: u64 = 64;
/// Clocks that differ by this make credentials expire early or late.
const SKEW: Duration = Duration::from_secs(30);

/// All checks, in the order of a report. The last one is made only by name.
const CHECKS: &[&str] = &[
    "config",
    "process",
    "api-server",
    "clock",
    "identity",
    "rights-pods",
    "rights-portforward",
    "rights-exec",
    "rights-events",
    "namespace",
    "quota",
    "network-policy",
    "guest",
    "pod",
    "sandbox",
];
const BY_NAME_ONLY: &str = "sandbox";

/// What a check needs.
fn needs(check: &str) -> &'static [&'static str] {
    match check {
        "process" | "config" => &[],
        "api-server" => &["config"],
        _ => &["config", "api-server"],
    }
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CheckState {
    /// All is well.
    Ok,
    /// It could not be checked, because of the failure of another check or because this client may not look.
    Skipped,
    /// Sandboxes work, but something is missing or unusual.
    Warning,
    /// Sandboxes can't be made or used.
    Failure,
}

stable_names!(CheckState, "state of a check", {
    Ok => "ok",
    Skipped => "skipped",
    Warning => "warning",
    Failure => "failure",
});

/// One check of a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Check {
    /// Its stable name, one of those that [`diagnose`] lists.
    pub name: &'static str,
    /// How it is.
    pub state: CheckState,
    /// What was found, on one line.
    pub found: String,
    /// What may be done about it, to be pasted into a shell as far as it is a command; empty if nothing is to be done.
    pub fix: String,
}

/// What [`diagnose`] found. Its `Display` has a line for each check, its fix below it, and one line that says whether
/// all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// The checks, in their order.
    pub checks: Vec<Check>,
}

impl Report {
    /// The worst state of all checks.
    pub fn state(&self) -> CheckState {
        self.checks.iter().map(|check| check.state).max().unwrap_or(CheckState::Ok)
    }

    /// One line that says whether all is well.
    pub fn summary(&self) -> String {
        let count = |state| self.checks.iter().filter(|check| check.state == state).count();
        match (count(CheckState::Failure), count(CheckState::Warning)) {
            (0, 0) => "nothing stands in the way of a sandbox".into(),
            (0, warnings) => format!("sandboxes work here, with {warnings} warning{}", plural(warnings)),
            (failures, _) => format!("sandboxes don't work here: {failures} failure{}", plural(failures)),
        }
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            writeln!(f, "{:<8} {:<19} {}", check.state, check.name, check.found)?;
            if !check.fix.is_empty() {
                writeln!(f, "{:28} fix: {}", "", check.fix)?;
            }
        }
        f.write_str(&self.summary())
    }
}

/// Finds out what stands in the way of a sandbox. An error in place of the configuration is what the check `config`
/// then says; with it, or with an API server that does not answer, the checks that need them are skipped.
///
/// Without names, all checks but `sandbox` are made, within 5 seconds unless somebody has to log in by hand. With
/// names, those are made, and what they need is in the report if it failed. Nothing is changed in the cluster but by
/// `sandbox`.
///
/// | check | what it says |
/// |---|---|
/// | `config` | the settings that differ from the defaults and where they came from; whether the key can be used |
/// | `process` | the descriptors and threads that this process may have |
/// | `api-server` | the way to the API server, its version, and how long it took to answer |
/// | `clock` | the API server's clock beside this machine's |
/// | `identity` | whom the API server takes this client for |
/// | `rights-pods`, `rights-portforward`, `rights-exec`, `rights-events` | whether that user has the rights of `examples/role.yaml` |
/// | `namespace` | whether it is there, and its Pod Security level |
/// | `quota` | how much of its quotas is used |
/// | `network-policy` | whether policies keep this client from Pod addresses that it wants to use |
/// | `guest` | how the guest gets into the Pods |
/// | `pod` | whether the cluster would take the Pod of a sandbox, by a dry run of all admission |
/// | `sandbox` | the life of a real sandbox, with the time of each phase |
///
/// ```no_run
/// use sandbox::{CheckState, Config, diagnose};
///
/// let report = diagnose(Config::from_env(), &[])?;
/// println!("{report}");
/// if report.state() == CheckState::Failure {
///     std::process::exit(1);
/// }
/// # Ok::<(), sandbox::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for a name that is no check's; [`ErrorKind::AsyncContext`], [`ErrorKind::Forked`].
pub fn diagnose(config: Result<Config>, checks: &[&str]) -> Result<Report> {
    let unknown = checks.iter().find(|name| !CHECKS.contains(name));
    if let Some(unknown) = unknown {
        let message = format!("there is no check {unknown:?}; there are {}", CHECKS.join(", "));
        return Err(Error::new(ErrorKind::InvalidArgument, message).during("diagnose"));
    }
    let is_wanted = |name: &str| match checks {
        [] => name != BY_NAME_ONLY,
        names => names.contains(&name),
    };
    let mut report = examine(config, &is_wanted).map_err(|e| e.during("diagnose"))?;
    let is_needed = |check: &Check| {
        let mut wanted = CHECKS.iter().filter(|name| is_wanted(name));
        check.state == CheckState::Failure && wanted.any(|name| needs(name).contains(&check.name))
    };
    report.retain(|check| is_wanted(check.name) || is_needed(check));
    report.sort_by_key(|check| CHECKS.iter().position(|name| *name == check.name));
    Ok(Report { checks: report })
}

fn check(name: &'static str, state: CheckState, found: impl Into<String>, fix: impl Into<String>) -> Check {
    // What came from elsewhere may have lines of its own.
    let found = found.into().split_whitespace().collect::<Vec<_>>().join(" ");
    Check { name, state, found, fix: fix.into() }
}

fn ok(name: &'static str, found: impl Into<String>) -> Check {
    check(name, CheckState::Ok, found, "")
}

fn failure(name: &'static str, found: impl fmt::Display, fix: impl Into<String>) -> Check {
    check(name, CheckState::Failure, found.to_string(), fix)
}

fn examine(config: Result<Config>, is_wanted: &impl Fn(&str) -> bool) -> Result<Vec<Check>> {
    let mut report = vec![process()];
    let skip = |report: &mut Vec<Check>, needed: &str| {
        let all = CHECKS.iter().filter(|name| is_wanted(name));
        let missing: Vec<_> = all.filter(|name| report.iter().all(|check| check.name != **name)).collect();
        report.extend(missing.into_iter().map(|name| check(name, CheckState::Skipped, format!("needs {needed}"), "")));
    };
    let (found, config) = settings(config);
    report.push(found);
    let Some(config) = config else {
        skip(&mut report, "config");
        return Ok(report);
    };
    if !CHECKS.iter().any(|name| is_wanted(name) && !needs(name).is_empty()) {
        return Ok(report);
    }
    let ctx = match Context::new(config.clone()) {
        Ok(ctx) => ctx,
        Err(e) if matches!(e.kind(), ErrorKind::AsyncContext | ErrorKind::Forked | ErrorKind::Cancelled) => {
            return Err(e);
        }
        Err(e) => {
            let fix = "set KUBECONFIG or SANDBOX_KUBECONFIG to a file with which `kubectl get pods` works";
            report.push(failure("api-server", e, fix));
            skip(&mut report, "api-server");
            return Ok(report);
        }
    };
    let began = Instant::now();
    let asking = Asking { ctx: &ctx, until: began + ANSWER_TIMEOUT };
    let asked = async { Ok(asking.ask(ctx.cluster.version(Duration::ZERO)).await) };
    let version = match ctx.runtime.block_on(Deadline::after(None), "the API server", asked)? {
        Ok(version) => version,
        Err(e) => {
            report.push(failure("api-server", e, "compare with what `kubectl version` says"));
            skip(&mut report, "api-server");
            return Ok(report);
        }
    };
    let way = format!("{}, Kubernetes {}, answered in {:.0?}", ctx.cluster.server(), version.text, began.elapsed());
    report.push(ok("api-server", way));
    let (guest, how) = guest(&config, version.is_from_1_35);
    report.push(how);
    let cluster = async { Ok(questions(&asking, &version, guest).await) };
    report.extend(ctx.runtime.block_on(Deadline::after(None), "the API server", cluster)?);
    if is_wanted(BY_NAME_ONLY) {
        report.push(life(config)?);
    }
    Ok(report)
}

/// Somebody who asks, and until when answers are waited for.
struct Asking<'a> {
    ctx: &'a Context,
    until: Instant,
}

impl Asking<'_> {
    /// The answer to a question, or that there was none in time.
    async fn ask<T>(&self, question: impl Future<Output = Result<T>>) -> Result<T> {
        let late =
            || Error::new(ErrorKind::Unavailable, format!("no answer came within {} s", ANSWER_TIMEOUT.as_secs()));
        timeout_at(self.until.into(), question).await.unwrap_or_else(|_| Err(late()))
    }
}

fn settings(config: Result<Config>) -> (Check, Option<Config>) {
    let read_key = |config: &Config| config.ssh_key.as_deref().map(Identity::read).transpose().map(drop);
    let usable = config.and_then(|config| config.validate().and_then(|()| read_key(&config)).map(|()| config));
    match usable {
        Ok(config) => {
            let set: Vec<_> = config
                .settings()
                .into_iter()
                .map(|told| format!("{}={} (from {})", told.name, told.value, told.place))
                .collect();
            let found = if set.is_empty() { "all settings are the defaults".to_owned() } else { set.join(", ") };
            let ignored = config.notes.iter().find(|(level, _)| *level <= log::Level::Warn);
            let found = match ignored {
                Some((_, note)) => check("config", CheckState::Warning, format!("{found}; {note}"), ""),
                None => ok("config", found),
            };
            (found, Some(config))
        }
        Err(e) => {
            // It names the variable that it is about.
            let words = e.message().split(' ').find(|word| word.starts_with("SANDBOX_"));
            // Where a file sets it, the message names that.
            let is_here = !e.message().contains(".env");
            let fix = words.filter(|_| is_here).map_or_else(String::new, |variable| format!("unset {variable}"));
            (failure("config", e, fix), None)
        }
    }
}

fn process() -> Check {
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u64;
    let limit = |resource| getrlimit(resource).current;
    of_process(open, limit(Resource::Nofile), limit(Resource::Nproc))
}

fn of_process(open: u64, descriptors: Option<u64>, threads: Option<u64>) -> Check {
    let told = |limit: Option<u64>| limit.map_or_else(|| "any number of".into(), |limit| limit.to_string());
    let found = format!("{} descriptors, of which {open} are open; {} threads", told(descriptors), told(threads));
    let left = descriptors.map_or(u64::MAX, |limit| limit.saturating_sub(open));
    match (left, threads.unwrap_or(u64::MAX)) {
        (..NO_DESCRIPTORS, _) => failure("process", found, "ulimit -n 4096"),
        (..FEW_DESCRIPTORS, _) => check("process", CheckState::Warning, found, "ulimit -n 4096"),
        (_, ..FEW_THREADS) => check("process", CheckState::Warning, found, "ulimit -u 4096"),
        _ => ok("process", found),
    }
}

fn guest(config: &Config, has_image_volumes: bool) -> (Guest, Check) {
    let way = config.guest.resolve(config.image != DEFAULT_IMAGE, || Ok(has_image_volumes)).unwrap_or(config.guest);
    let found = match way {
        Guest::Volume if !has_image_volumes => {
            let found = format!("{} is to be mounted as a volume, which takes Kubernetes 1.35", config.guest_image);
            return (way, failure("guest", found, "export SANDBOX_GUEST=copy"));
        }
        Guest::Auto | Guest::Image => format!("{} has it", config.image),
        Guest::Volume => format!("{} is mounted as a volume beside {}", config.guest_image, config.image),
        Guest::Copy => format!("copied from {} into {}", config.guest_image, config.image),
    };
    (way, ok("guest", found))
}

/// What is asked of an API server that answers, all at once.
async fn questions(asking: &Asking<'_>, version: &Version, guest: Guest) -> Vec<Check> {
    let ctx = asking.ctx;
    // Kubernetes asks for "create" of these from 1.35 on.
    let to_connect: &[_] = if version.is_from_1_35 { &["get", "create"] } else { &["get"] };
    let rights = join4(
        may(asking, "pods", &["create", "get", "list", "watch", "patch", "delete"]),
        may(asking, "pods/portforward", to_connect),
        may(asking, "pods/exec", to_connect),
        may(asking, "events", &["list", "watch"]),
    );
    let others = join5(
        asking.ask(ctx.cluster.user()),
        namespace(asking),
        quota(asking),
        network_policy(asking),
        pod(asking, guest),
    );
    let ((pods, may_forward, may_exec, events), (user, namespace, quota, policies, pod)) = join(rights, others).await;
    let whoami = identity(&user);
    let user = user.unwrap_or_default();
    let transport = ctx.config.transport;
    let is_needed = |own: Transport, other: &Missing| transport == own || other.is_lacking();
    let forward_needed = is_needed(Transport::Tunnel, &may_exec);
    let exec_needed = is_needed(Transport::Exec, &may_forward);
    vec![
        clock(asking.ask(ctx.cluster.now()).await),
        whoami,
        pods.check("rights-pods", true, "", &user, ctx),
        may_forward.check("rights-portforward", forward_needed, "the transport auto takes exec instead", &user, ctx),
        may_exec.check(
            "rights-exec",
            exec_needed,
            "sandboxes of other clients, and those under gVisor, can't be reached",
            &user,
            ctx,
        ),
        events.check(
            "rights-events",
            false,
            "errors name fewer causes, and a start is known a second later",
            &user,
            ctx,
        ),
        namespace,
        quota,
        policies,
        pod,
    ]
}

/// Which verbs of a resource this client lacks, or why that is not known.
struct Missing {
    resource: &'static str,
    verbs: Result<Vec<&'static str>>,
}

async fn may(asking: &Asking<'_>, resource: &'static str, verbs: &[&'static str]) -> Missing {
    let mut lacking = Vec::new();
    for verb in verbs {
        match asking.ask(asking.ctx.cluster.may(verb, resource)).await {
            Ok(true) => {}
            Ok(false) => lacking.push(*verb),
            Err(e) => return Missing { resource, verbs: Err(e) },
        }
    }
    Missing { resource, verbs: Ok(lacking) }
}

impl Missing {
    fn is_lacking(&self) -> bool {
        self.verbs.as_ref().is_ok_and(|verbs| !verbs.is_empty())
    }

    fn check(self, name: &'static str, is_needed: bool, without: &str, user: &str, ctx: &Context) -> Check {
        let Self { resource, verbs } = self;
        let verbs = match verbs {
            Ok(verbs) if verbs.is_empty() => return ok(name, format!("all that is needed of {resource} is allowed")),
            Ok(verbs) => verbs.join(","),
            Err(e) => return check(name, CheckState::Skipped, e.to_string(), ""),
        };
        let namespace = ctx.cluster.namespace();
        let role = format!("sandbox-{}", resource.replace('/', "-"));
        let whom = match user.strip_prefix("system:serviceaccount:") {
            Some(account) => format!("--serviceaccount={}", quoted(account)),
            None if user.is_empty() => "--user=USER".to_owned(),
            None => format!("--user={}", quoted(user)),
        };
        let fix = format!(
            "kubectl -n {namespace} create role {role} --verb={verbs} --resource={resource} && \
             kubectl -n {namespace} create rolebinding {role} --role={role} {whom}"
        );
        let found = format!("not allowed: {verbs} of {resource} in the namespace {namespace}");
        match is_needed {
            true => failure(name, found, fix),
            false => check(name, CheckState::Warning, format!("{found}; {without}"), fix),
        }
    }
}

/// As one word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn clock(server: Result<SystemTime>) -> Check {
    let here = SystemTime::now();
    let Ok(server) = server else {
        return check("clock", CheckState::Skipped, "the API server does not tell the time", "");
    };
    let skew = server.duration_since(here).unwrap_or_else(|e| e.duration());
    let side = if server > here { "behind" } else { "ahead of" };
    match skew {
        // The API server tells whole seconds.
        skew if skew < SKEW => ok("clock", "agrees with the API server's"),
        skew => {
            let found = format!(
                "this machine's clock is {} s {side} the API server's; credentials may expire early or late",
                skew.as_secs()
            );
            check("clock", CheckState::Warning, found, "timedatectl set-ntp true")
        }
    }
}

fn identity(user: &Result<String>) -> Check {
    let fix = "kubectl config view --minify";
    match user.as_deref() {
        Ok("system:anonymous") => failure("identity", "the API server knows nobody: no credentials were sent", fix),
        Ok("") => check("identity", CheckState::Skipped, "the API server does not tell", ""),
        Ok(user) => ok("identity", user),
        Err(e) if e.http_status() == Some(401) => failure("identity", e, fix),
        Err(e) => unseen("identity", e),
    }
}

/// What this client may not look at is no failure.
fn unseen(name: &'static str, e: &Error) -> Check {
    check(name, CheckState::Skipped, e.to_string(), "")
}

async fn namespace(asking: &Asking<'_>) -> Check {
    let ctx = asking.ctx;
    let name = ctx.cluster.namespace();
    match asking.ask(ctx.cluster.namespace_state()).await {
        Ok((phase, _)) if phase == "Terminating" => {
            failure("namespace", format!("{name} is being deleted"), "export SANDBOX_NAMESPACE=ANOTHER")
        }
        Ok((_, labels)) => {
            let level = labels.get("pod-security.kubernetes.io/enforce").map_or("not set", String::as_str);
            ok("namespace", format!("{name}; its Pod Security level is {level}"))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            failure("namespace", e, format!("kubectl create namespace {}", quoted(name)))
        }
        Err(e) => unseen("namespace", &e),
    }
}

async fn quota(asking: &Asking<'_>) -> Check {
    let ctx = asking.ctx;
    match asking.ask(ctx.cluster.quotas()).await {
        Ok(quotas) => of_quotas(&quotas),
        Err(e) => unseen("quota", &e),
    }
}

fn of_quotas(quotas: &[Value]) -> Check {
    let mut told = Vec::new();
    let mut is_full = false;
    for quota in quotas {
        let (hard, used) = (&quota["status"]["hard"], &quota["status"]["used"]);
        for (what, limit) in hard.as_object().into_iter().flatten() {
            let (limit, used) = (limit.as_str().unwrap_or_default(), used[what].as_str().unwrap_or("0"));
            told.push(format!("{used} of {limit} {what}"));
            let count = |text: &str| text.parse::<u64>().ok();
            let is_of_pods = matches!(what.as_str(), "pods" | "count/pods");
            is_full |= is_of_pods && count(used).zip(count(limit)).is_some_and(|(used, limit)| used >= limit);
        }
    }
    match (told.is_empty(), is_full) {
        (true, _) => ok("quota", "none"),
        (_, false) => ok("quota", told.join(", ")),
        (_, true) => failure("quota", format!("no Pod more is allowed: {}", told.join(", ")), "sandbox reap"),
    }
}

async fn network_policy(asking: &Asking<'_>) -> Check {
    let ctx = asking.ctx;
    match asking.ask(ctx.cluster.network_policies()).await {
        Ok(policies) => of_policies(&policies, ctx.config.transport),
        Err(e) => unseen("network-policy", &e),
    }
}

fn of_policies(policies: &[Value], transport: Transport) -> Check {
    let is_for_all = |policy: &&Value| policy["spec"]["podSelector"].as_object().is_some_and(serde_json::Map::is_empty);
    let isolates = |policy: &&Value| {
        policy["spec"]["policyTypes"].as_array().is_some_and(|types| types.iter().any(|kind| kind == "Ingress"))
    };
    let name = |policy: &Value| policy["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let isolating: Vec<_> = policies.iter().filter(is_for_all).filter(isolates).map(name).collect();
    match (policies.len(), isolating.is_empty()) {
        (0, _) => ok("network-policy", "none: sandboxes may connect to whatever their node can"),
        (count, false) if transport == Transport::Direct => {
            let found = format!(
                "{count}, of which {} let in to all Pods only what they name; the transport direct connects to Pods",
                isolating.join(", ")
            );
            check("network-policy", CheckState::Warning, found, "export SANDBOX_TRANSPORT=auto")
        }
        (count, _) => ok("network-policy", count.to_string()),
    }
}

async fn pod(asking: &Asking<'_>, guest: Guest) -> Check {
    let ctx = asking.ctx;
    let identity = PodIdentity {
        name: format!("doctor-{}", text::nonce()),
        owner: &ctx.config.owner,
        nonce: text::nonce(),
        public_key: ctx.identity.public().as_str(),
        lifetime: ctx.config.lifetime,
        expires_at: None,
        hard_limit: None,
        idle_timeout: None,
        guest,
        membership: None,
    };
    let manifest = match cluster::pod(&SandboxSpec::new(), &ctx.config, &identity) {
        Ok(manifest) => manifest,
        Err(e) => return failure("pod", e, ""),
    };
    match asking.ask(ctx.cluster.would_take(&manifest)).await {
        Ok(()) => ok("pod", format!("the cluster would take one of {}", ctx.config.image)),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => unseen("pod", &e),
        Err(e) => {
            let namespace = quoted(ctx.cluster.namespace());
            failure("pod", e, format!("kubectl -n {namespace} describe resourcequotas,limitranges"))
        }
    }
}

fn life(config: Config) -> Result<Check> {
    let live = || {
        let client = Client::new(config)?;
        let sandbox = client.create(&SandboxSpec::new())?.delete_on_drop();
        let Some(times) = sandbox.timings() else {
            return Err(Error::new(ErrorKind::Create, "a created sandbox has no timings"));
        };
        let began = Instant::now();
        sandbox.execute("true")?;
        let ran = began.elapsed();
        let began = Instant::now();
        sandbox.delete()?;
        Ok(format!(
            "accepted after {:.0?}, started after {:.0?}, logged in after {:.0?}; a command took {ran:.1?}, the deletion {:.0?}",
            times.accepted,
            times.started,
            times.logged_in,
            began.elapsed(),
        ))
    };
    match live() {
        Ok(found) => Ok(ok("sandbox", found)),
        Err(e) if e.kind() == ErrorKind::Cancelled => Err(e),
        Err(e) => Ok(failure("sandbox", e, "sandbox doctor")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn too_few_descriptors_and_threads_are_told() {
        let state = |open, descriptors, threads| of_process(open, descriptors, threads).state;
        assert_eq!(state(10, Some(1024), Some(1000)), CheckState::Ok);
        assert_eq!(state(10, None, None), CheckState::Ok);
        assert_eq!(state(900, Some(1024), None), CheckState::Warning);
        assert_eq!(state(1000, Some(1024), None), CheckState::Failure);
        assert_eq!(state(10, Some(1024), Some(63)), CheckState::Warning);
    }

    #[test]
    fn a_clock_that_is_wrong_is_told_with_its_side() {
        assert_eq!(clock(Ok(SystemTime::now())).state, CheckState::Ok);
        for (server, side) in [
            (SystemTime::now() + Duration::from_secs(3600), "behind"),
            (SystemTime::now() - Duration::from_secs(3600), "ahead of"),
        ] {
            let check = clock(Ok(server));
            assert_eq!(check.state, CheckState::Warning);
            assert!(check.found.contains(side) && !check.fix.is_empty(), "{}", check.found);
        }
    }

    #[test]
    fn nobody_is_a_failure() {
        let of = |user: &str| identity(&Ok(user.to_owned()));
        assert_eq!(of("system:anonymous").state, CheckState::Failure);
        assert_eq!(of("").state, CheckState::Skipped);
        assert_eq!(of("me").found, "me");
        let refused = |status| identity(&Err(Error::new(ErrorKind::PermissionDenied, "no").with_http_status(status)));
        assert_eq!((refused(401).state, refused(403).state), (CheckState::Failure, CheckState::Skipped));
    }

    #[test]
    fn a_volume_takes_a_cluster_that_has_them() {
        let config = Config::new().image("tools").guest(Guest::Volume);
        let (_, check) = guest(&config, false);
        assert!(check.state == CheckState::Failure && check.fix.contains("SANDBOX_GUEST=copy"), "{check:?}");
        assert_eq!(guest(&config, true).1.state, CheckState::Ok);
        let config = config.guest(Guest::Auto);
        assert_eq!((guest(&config, false).0, guest(&config, true).0), (Guest::Copy, Guest::Volume));
    }

    #[test]
    fn a_quota_of_pods_that_is_used_up_is_a_failure() {
        let quota =
            |used: &str| json!({"status": {"hard": {"pods": "5", "cpu": "2"}, "used": {"pods": used, "cpu": "2"}}});
        assert_eq!(of_quotas(&[]).found, "none");
        let check = of_quotas(&[quota("4")]);
        assert!(check.state == CheckState::Ok && check.found.contains("4 of 5 pods"), "{check:?}");
        assert_eq!(of_quotas(&[quota("5")]).state, CheckState::Failure);
    }

    #[test]
    fn a_policy_that_isolates_matters_to_who_connects_to_pods() {
        let policy =
            |types: &[&str]| json!({"metadata": {"name": "closed"}, "spec": {"podSelector": {}, "policyTypes": types}});
        let state = |types, transport| of_policies(&[policy(types)], transport).state;
        assert_eq!(state(&["Ingress"], Transport::Direct), CheckState::Warning);
        assert_eq!(state(&["Ingress"], Transport::Auto), CheckState::Ok);
        assert_eq!(state(&["Egress"], Transport::Direct), CheckState::Ok);
    }

    #[test]
    fn one_line_says_whether_all_is_well() {
        let report = |states: &[CheckState]| Report {
            checks: states.iter().map(|state| check("pod", *state, "a\nb", "do this")).collect(),
        };
        assert_eq!(report(&[CheckState::Ok, CheckState::Skipped]).summary(), "nothing stands in the way of a sandbox");
        let warned = report(&[CheckState::Ok, CheckState::Warning]);
        assert_eq!((warned.state(), warned.summary().contains("1 warning")), (CheckState::Warning, true));
        let failed = report(&[CheckState::Failure, CheckState::Warning, CheckState::Failure]);
        assert_eq!((failed.state(), failed.summary().contains("2 failures")), (CheckState::Failure, true));
        assert!(failed.to_string().starts_with("failure  pod                 a b\n"), "{failed}");
    }

    #[test]
    fn every_check_is_in_the_table() {
        let source = include_str!("doctor.rs");
        for name in CHECKS {
            assert!(
                source.lines().any(|line| line.starts_with("/// | `") && line.contains(&format!("`{name}`"))),
                "{name}"
            );
        }
        let error = diagnose(Ok(Config::new()), &["pods"]).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidArgument && error.to_string().contains("rights-pods"), "{error}");
    }
}
