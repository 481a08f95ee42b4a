//! Warm pools: filled and claimed by many, also by processes that are killed.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::collections::HashSet;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{Namespace, Scratch, await_that, client, config, kubectl, pods, unique};
use sandbox::{Cause, Claim, Client, ErrorKind, OnMiss, Origin, Pool, PoolOptions, Sandbox, SandboxSpec};

/// A pool whose Pods go when the test does, the claimed ones too.
struct Guarded(String);

impl Guarded {
    fn new() -> Self {
        Self(format!("pool-{}", unique()))
    }

    fn open(&self, client: &Client, options: &PoolOptions) -> Pool {
        client.pool(&self.0, &SandboxSpec::new(), options).unwrap()
    }

    fn of_size(&self, client: &Client, size: usize) -> Pool {
        self.open(client, &PoolOptions::new().size(size).creates_at_once(8))
    }

    /// The Pods of one state that are not being deleted.
    fn pods(&self, state: &str) -> Vec<String> {
        let selector = format!("sandbox/pool={},sandbox/pool-state={state}", self.0);
        let template = "{{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}";
        let names = kubectl(&["get", "pods", "-l", &selector, "-o", "go-template", "--template", template]);
        names.split_whitespace().map(str::to_owned).collect()
    }

    fn all_pods(&self) -> Vec<String> {
        pods(&format!("sandbox/pool={}", self.0))
    }

    /// What a label or an annotation of a Pod says.
    fn metadata(name: &str, path: &str) -> String {
        kubectl(&["get", "pod", name, "-o", &format!("jsonpath={{.{path}}}")])
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let selector = format!("sandbox/pool={}", self.0);
        kubectl(&["delete", "pods", "-l", &selector, "--wait=false", "--grace-period=1", "--ignore-not-found"]);
    }
}

fn origin(sandbox: &Sandbox) -> Origin {
    sandbox.timings().unwrap().origin
}

fn fail() -> Claim {
    Claim::new().on_miss(OnMiss::Fail)
}

/// A client with the key that another has as well.
fn client_with(key: &std::path::Path) -> Client {
    Client::new(config().ssh_key(key)).unwrap()
}

/// A login key for several clients.
fn shared_key(scratch: &Scratch) -> std::path::PathBuf {
    let path = scratch.path("key");
    let made = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&path).status().unwrap();
    assert!(made.success());
    path
}

/// The command, as a process of its own.
fn start(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn kill(mut child: Child) {
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_pool_is_filled_and_claimed_by_different_clients() {
    let guarded = Guarded::new();
    let filler = guarded.of_size(&client(), 2);
    assert_eq!(filler.claim(&fail()).unwrap_err().kind(), ErrorKind::PoolEmpty);
    let filled = filler.fill().unwrap();
    assert_eq!((filled.created, filled.retired), (2, 0));
    assert_eq!(filler.fill().unwrap().created, 0);
    let status = filler.status().unwrap();
    assert_eq!((status.ready, status.filling, status.claimed, status.foreign), (2, 0, 0, 0));
    assert!(status.oldest.is_some() && status.held.is_none());

    // Nobody uses what nobody has claimed.
    let other = client();
    let name = &guarded.pods("ready")[0];
    assert_eq!(other.attach(name).unwrap_err().kind(), ErrorKind::Conflict);

    // Another client with another key, which knows nothing yet.
    let pool = guarded.open(&other, &PoolOptions::new());
    let claim = fail()
        .env("TASK", "17")
        .env("PATH", "/only/here")
        .label("run", "nightly")
        .annotation("note", "a test")
        .owner("somebody")
        .lifetime(Duration::from_secs(7200))
        .file("/tmp/task.json", "{}")
        .file("/tmp/large", vec![7; 64 * 1024]);
    let sandbox = pool.claim(&claim).unwrap();
    assert_eq!(origin(&sandbox), Origin::Pool);
    let timings = sandbox.timings().unwrap();
    assert!(timings.accepted <= timings.started && timings.started <= timings.logged_in, "{timings:?}");
    let output = sandbox.execute("echo $TASK $PATH; /bin/cat /tmp/task.json; /usr/bin/wc -c < /tmp/large").unwrap();
    assert_eq!(output.stdout_text(), "17 /only/here\n{}65536\n");
    let info = sandbox.info().unwrap();
    assert_eq!((info.owner.as_str(), info.labels["run"].as_str()), ("somebody", "nightly"));
    assert_eq!(Guarded::metadata(sandbox.name(), "metadata.annotations.note"), "a test");
    let left = info.expires_at.unwrap().duration_since(std::time::SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(6900) && left <= Duration::from_secs(7205), "{left:?}");
    // A hard limit counts from the claim, and could not be set before.
    assert!(Guarded::metadata(sandbox.name(), "spec.activeDeadlineSeconds").parse::<u64>().unwrap() >= 24 * 3600);
    assert_eq!(Guarded::metadata(&guarded.pods("ready")[0], "spec.activeDeadlineSeconds"), "");

    // From now on it is a sandbox as any other.
    assert_eq!(client().attach(sandbox.name()).unwrap().execute("echo $TASK").unwrap().stdout, b"17\n");
    let counters = pool.counters();
    assert_eq!((counters.hits, counters.misses, counters.bad), (1, 0, 0));
    assert_eq!(filler.counters().created, 2);
    // The gap is filled under another name.
    assert_eq!(filler.fill().unwrap().created, 1);
    assert_eq!(filler.status().unwrap().claimed, 1);
    sandbox.delete().unwrap();

    // A claim that can't be takes nothing.
    for wrong in [
        fail().label("not valid", "x"),
        fail().label("run", "not valid!"),
        fail().label("sandbox/owner", "me"),
        fail().env("A=B", "x"),
        fail().lifetime(Duration::from_millis(5)),
    ] {
        assert_eq!(pool.claim(&wrong).unwrap_err().kind(), ErrorKind::InvalidArgument, "{wrong:?}");
    }
    assert_eq!(guarded.pods("ready").len(), 2);
    // One whose file can't be written leaves nothing.
    let error = pool.claim(&fail().file("/no/such/directory/file", "x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileNotFound, "{error}");
    await_that("what it had taken to go", || guarded.pods("claimed").is_empty());

    assert_eq!(filler.remove().unwrap(), 1);
    let left = pods(&format!("sandbox/pool={},sandbox/pool-state!=claimed", guarded.0));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn with_the_same_key_a_claim_is_one_call() {
    let guarded = Guarded::new();
    let scratch = Scratch::new();
    let key = shared_key(&scratch);
    guarded.of_size(&client_with(&key), 3).fill().unwrap();
    // Until Kubernetes knows the addresses of the Pods, they are reached through it.
    let selector = format!("sandbox/pool={}", guarded.0);
    let addresses = || kubectl(&["get", "pods", "-l", &selector, "-o", "jsonpath={.items[*].status.podIP}"]);
    await_that("the Pods to have addresses", || addresses().split_whitespace().count() == 3);
    let client = client_with(&key);
    let pool = guarded.open(&client, &PoolOptions::new());
    let first = pool.claim(&fail()).unwrap();
    assert!(first.execute("true").unwrap().status.success());
    // The first one has looked for what there is, and begun the watch that tells how sandboxes end.
    let tunnels = if common::position() == common::Position::Inside { 0 } else { 1 };
    await_that("the watch to begin", || client.stats().api_requests >= 3 + tunnels);
    let before = client.stats().api_requests;
    let second = pool.claim(&fail().env("A", "1").label("b", "2").file("/tmp/c", "3")).unwrap();
    assert_eq!(second.execute("echo $A; cat /tmp/c").unwrap().stdout, b"1\n3");
    let calls = client.stats().api_requests - before;
    assert_eq!(calls, 1 + tunnels);
}

#[test]
fn exactly_one_of_many_gets_each() {
    const MEMBERS: usize = 6;
    let guarded = Guarded::new();
    let scratch = Scratch::new();
    let key = shared_key(&scratch);
    assert_eq!(guarded.of_size(&client_with(&key), MEMBERS).fill().unwrap().created, MEMBERS);
    // Two clients that know nothing of each other, and 25 threads on each.
    let pools = [0, 1].map(|_| guarded.open(&client_with(&key), &PoolOptions::new()));
    let results: Vec<_> = thread::scope(|scope| {
        let claims: Vec<_> = (0..50)
            .map(|n| {
                scope.spawn({
                    let pool = &pools[n % 2];
                    move || pool.claim(&fail())
                })
            })
            .collect();
        claims.into_iter().map(|claim| claim.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    for error in lost.into_iter().map(Result::unwrap_err) {
        assert_eq!(error.kind(), ErrorKind::PoolEmpty, "{error}");
    }
    let uids: HashSet<_> = won.iter().map(|sandbox| sandbox.as_ref().unwrap().uid().to_owned()).collect();
    assert_eq!((won.len(), uids.len()), (MEMBERS, MEMBERS));
    let counters = pools.map(|pool| pool.counters());
    let sum = |of: fn(&sandbox::PoolCounters) -> u64| counters.iter().map(of).sum::<u64>();
    assert_eq!((sum(|c| c.hits), sum(|c| c.misses), sum(|c| c.bad)), (MEMBERS as u64, 50 - MEMBERS as u64, 0));
    assert!(won.iter().all(|sandbox| sandbox.as_ref().unwrap().execute("true").unwrap().status.success()));
}

#[test]
fn many_fillers_make_no_more_than_wanted() {
    const SIZE: usize = 3;
    let guarded = Guarded::new();
    let clients = [client(), client()];
    let created: usize = thread::scope(|scope| {
        let fills: Vec<_> = (0..20)
            .map(|n| {
                let pool = guarded.of_size(&clients[n % 2], SIZE);
                scope.spawn(move || pool.fill().unwrap().created)
            })
            .collect();
        fills.into_iter().map(|fill| fill.join().unwrap()).sum()
    });
    assert_eq!((created, guarded.all_pods().len()), (SIZE, SIZE));
}

#[test]
fn the_ways_out_of_an_empty_pool() {
    let guarded = Guarded::new();
    let client = client();
    let pool = guarded.of_size(&client, 1);
    let claim = Claim::new().env("TASK", "1").label("of", &guarded.0).owner("me").file("/tmp/task", "x");
    let created = common::Guarded(pool.claim(&claim).unwrap());
    assert_eq!(origin(&created), Origin::PoolMiss);
    assert_eq!(created.execute("echo $TASK; cat /tmp/task").unwrap().stdout, b"1\nx");
    let info = created.info().unwrap();
    assert_eq!((info.owner.as_str(), info.labels["of"].as_str()), ("me", &*guarded.0));
    assert!(!info.labels.contains_key("sandbox/pool"));

    assert_eq!(pool.claim(&fail()).unwrap_err().kind(), ErrorKind::PoolEmpty);

    // Two wait, and are told as soon as there is something.
    let other = common::client();
    let waiter = guarded.open(&other, &PoolOptions::new());
    thread::scope(|scope| {
        let claims = [0, 1].map(|_| scope.spawn(|| waiter.claim(&Claim::new().on_miss(OnMiss::Wait)).unwrap()));
        await_that("both to wait", || waiter.counters().waiting == 2);
        assert_eq!(pool.fill().unwrap().created, 1);
        await_that("one to have it", || waiter.counters().waiting == 1);
        assert_eq!(pool.fill().unwrap().created, 1);
        let claimed = claims.map(|claim| claim.join().unwrap());
        assert!(claimed.iter().all(|sandbox| origin(sandbox) == Origin::PoolWait));
        assert_ne!(claimed[0].uid(), claimed[1].uid());
    });
    let impatient = Client::new(config().create_timeout(Duration::from_secs(1))).unwrap();
    let error = guarded.open(&impatient, &PoolOptions::new()).claim(&Claim::new().on_miss(OnMiss::Wait)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains(&guarded.0), "{error}");
    let counters = waiter.counters();
    assert_eq!((counters.hits, counters.misses, counters.waiting), (0, 2, 0));
}

#[test]
fn a_thread_keeps_it_filled_until_the_handle_goes() {
    let guarded = Guarded::new();
    let client = client();
    let options = PoolOptions::new().size(2).keep_filled(true);
    let pool = guarded.open(&client, &options);
    await_that("the pool to be full", || pool.status().unwrap().ready == 2);
    let first = pool.claim(&fail()).unwrap();
    await_that("the gap to be filled", || pool.status().unwrap().ready == 2);
    // One that somebody deletes.
    kubectl(&["delete", "pod", &guarded.pods("ready")[0], "--grace-period=1", "--wait=false"]);
    await_that("the deleted one to be replaced", || pool.counters().created == 4 && pool.status().unwrap().ready == 2);
    assert!(first.execute("true").unwrap().status.success());
    drop(pool);
    let ready = guarded.pods("ready");
    assert_eq!(ready.len(), 2);
    let again = guarded.open(&client, &PoolOptions::new());
    drop(again.claim(&fail()).unwrap());
    thread::sleep(Duration::from_secs(1));
    assert_eq!(again.status().unwrap().ready, 1, "nobody fills it any more");
    // Somebody who comes later goes on, and drops it all.
    let later = guarded.open(&common::client(), &options);
    await_that("the pool to be full again", || later.status().unwrap().ready == 2);
    assert!(later.drain().unwrap() >= 2);
    await_that("the sandboxes to go", || guarded.pods("ready").is_empty() && guarded.pods("filling").is_empty());
    assert_eq!(guarded.pods("claimed").len(), 2);
}

#[test]
fn old_ones_are_replaced_and_not_handed_out() {
    let guarded = Guarded::new();
    let client = client();
    let pool = guarded.open(&client, &PoolOptions::new().size(1).idle_lifetime(Duration::from_secs(12)));
    pool.fill().unwrap();
    let first = guarded.pods("ready");
    await_that("it to be too old for a claim", || pool.claim(&fail()).is_err_and(|e| e.kind() == ErrorKind::PoolEmpty));
    // The claim before that has taken it: another one.
    let filled = pool.fill().unwrap();
    assert_eq!(filled.created, 1);
    let second = guarded.pods("ready");
    assert_ne!(first, second);
    await_that("it to be so old that it is replaced", || pool.fill().unwrap().retired == 1);
    assert_ne!(guarded.pods("ready"), second);
    assert_eq!(pool.counters().retired, 1);
    // What nobody looks after ends by itself.
    let last = guarded.pods("ready").remove(0);
    await_that("the last one to end", || Guarded::metadata(&last, "status.phase") == "Failed");
    assert!(client.reap().unwrap().contains(&last));
}

#[test]
fn two_specs_are_told_apart_and_the_later_one_holds() {
    let guarded = Guarded::new();
    let client = client();
    let options = PoolOptions::new().size(2);
    let old = guarded.open(&client, &options);
    old.fill().unwrap();
    let spec = SandboxSpec::new().env("VERSION", "2");
    let new = client.pool(&guarded.0, &spec, &options).unwrap();
    assert_eq!(new.claim(&fail()).unwrap_err().kind(), ErrorKind::PoolEmpty);
    assert_eq!(new.status().unwrap().foreign, 2);
    // The later one in the API server's whole seconds.
    thread::sleep(Duration::from_millis(1100));
    let filled = new.fill().unwrap();
    assert_eq!((filled.created, filled.retired), (2, 2));
    let sandbox = new.claim(&fail()).unwrap();
    assert_eq!(sandbox.execute("echo $VERSION").unwrap().stdout, b"2\n");
    assert_eq!(old.claim(&fail()).unwrap_err().kind(), ErrorKind::PoolEmpty);
    // The old one does not fight.
    let error = old.fill().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(guarded.pods("ready").len(), 1);
}

#[test]
fn a_killed_filler_leaves_nothing_that_the_others_do_not_find() {
    let guarded = Guarded::new();
    // It is killed as soon as its Pods are there, long before they are ready.
    let fill = start(&["pool", "fill", &guarded.0, "--size", "3", "--creates-at-once", "3"]);
    await_that("a Pod of it", || !guarded.all_pods().is_empty());
    kill(fill);
    let left = guarded.all_pods();
    let unproved = guarded.pods("filling");
    println!("{} left behind, {} of them half made", left.len(), unproved.len());
    let client = client();
    let pool = guarded.of_size(&client, 3);
    // Nobody is given what nobody has logged in to.
    for name in &unproved {
        let ready = guarded.pods("ready");
        assert!(!ready.contains(name));
    }
    await_that("the others to replace it", || {
        pool.fill().unwrap();
        guarded.pods("ready").len() == 3 && guarded.pods("filling").is_empty()
    });
    assert!(guarded.pods("ready").iter().all(|name| !unproved.contains(name)));
}

#[test]
fn a_killed_claimer_leaves_a_sandbox_that_expires() {
    let guarded = Guarded::new();
    let client = client();
    let pool = guarded.of_size(&client, 1);
    pool.fill().unwrap();
    let scratch = Scratch::new();
    let local = scratch.path("large");
    std::fs::write(&local, vec![0; 64 << 20]).unwrap();
    let file = format!("{}=/tmp/large", local.display());
    let lifetime = ["--lifetime", "8s"];
    let arguments = ["pool", "claim", &guarded.0, "--on-miss", "fail", "--claim-file", &file];
    let claim = start(&[&arguments[..], &lifetime].concat());
    await_that("the claim to have its sandbox", || !guarded.pods("claimed").is_empty());
    kill(claim);
    let taken = guarded.pods("claimed").remove(0);
    // It is nobody else's.
    assert_eq!(pool.claim(&fail()).unwrap_err().kind(), ErrorKind::PoolEmpty);
    // The others go on.
    assert_eq!(pool.fill().unwrap().created, 1);
    let own = pool.claim(&fail()).unwrap();
    assert_ne!(own.name(), taken);
    await_that("the sandbox to be reaped", || client.reap().unwrap().contains(&taken));
    assert!(own.execute("true").unwrap().status.success());
}

#[test]
fn whoever_is_killed_whenever_nothing_is_given_twice_or_left() {
    const SIZE: usize = 3;
    let guarded = Guarded::new();
    let client = client();
    let size = SIZE.to_string();
    let words = ["pool", "fill", &guarded.0, "--size", &size, "--watch"];
    let (mut fillers, mut claimed) = (vec![start(&words), start(&words)], Vec::new());
    // Those who claim wait for what the fillers make, which are killed in the middle of it again and again.
    let pool = guarded.open(&client, &PoolOptions::new());
    thread::scope(|scope| {
        let claims: Vec<_> = (0..3)
            .map(|_| {
                let claim = Claim::new().on_miss(OnMiss::Wait);
                let pool = &pool;
                scope.spawn(move || (0..4).map(|_| pool.claim(&claim).unwrap()).collect::<Vec<_>>())
            })
            .collect();
        for pause in [900, 150, 1300, 400, 700, 1100, 250, 600] {
            thread::sleep(Duration::from_millis(pause));
            kill(fillers.remove(0));
            fillers.push(start(&words));
        }
        claimed.extend(claims.into_iter().flat_map(|claim| claim.join().unwrap()));
    });
    let uids: HashSet<_> = claimed.iter().map(Sandbox::uid).collect();
    assert_eq!((claimed.len(), uids.len()), (12, 12));
    for sandbox in &claimed {
        assert!(sandbox.execute("true").unwrap().status.success());
    }
    // Nothing half made stays, and no more than there should be.
    await_that("the pool to be as it should", || {
        guarded.pods("ready").len() == SIZE && guarded.pods("filling").is_empty()
    });
    fillers.into_iter().for_each(kill);
    assert_eq!(guarded.pods("claimed").len(), 12);
    // Each of them ends without anybody.
    let expiring = "go-template={{range .items}}{{index .metadata.annotations \"sandbox/expires-at\"}} {{end}}";
    let selector = format!("sandbox/pool={}", guarded.0);
    let expiries = kubectl(&["get", "pods", "-l", &selector, "-o", expiring]);
    assert!(expiries.split_whitespace().all(|expiry| expiry.parse::<u64>().is_ok()), "{expiries}");
}

#[test]
fn a_full_cluster_is_waited_for_and_told() {
    let namespace = Namespace::new("pool");
    let client = Client::new(config().namespace(namespace.name())).unwrap();
    // A quota.
    namespace.kubectl(&["create", "quota", "small", "--hard=pods=1"]);
    await_that("the quota to count", || {
        namespace.kubectl(&["get", "quota", "small", "-o", "jsonpath={.status.used.pods}"]) == "0"
    });
    let pool = client.pool("full", &SandboxSpec::new(), &PoolOptions::new().size(3)).unwrap();
    let error = pool.fill().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Quota, "{error}");
    await_that("the one that there is room for", || pool.status().unwrap().ready == 1);
    assert!(pool.status().unwrap().held.unwrap().contains("exceeded quota"));
    let keeper = client.pool("full", &SandboxSpec::new(), &PoolOptions::new().size(3).keep_filled(true)).unwrap();
    await_that("it to say so", || keeper.status().unwrap().held.is_some_and(|why| why.contains("exceeded quota")));
    namespace.kubectl(&["delete", "quota", "small"]);
    await_that("the pool to be full", || keeper.status().unwrap().ready == 3);
    assert!(keeper.status().unwrap().held.is_none());
    drop(keeper);

    // No node has room.
    let huge = SandboxSpec::new().node_selector("no", "where").unschedulable_grace(Duration::from_millis(500));
    let pool = client.pool("huge", &huge, &PoolOptions::new().size(3)).unwrap();
    let error = pool.fill().unwrap_err();
    assert_eq!(error.verdict().map(|verdict| verdict.cause), Some(Cause::Unschedulable), "{error}");
    let keeper = client.pool("huge", &huge, &PoolOptions::new().size(3).creates_at_once(1).keep_filled(true)).unwrap();
    await_that("it to say so", || keeper.status().unwrap().held.is_some_and(|why| why.contains("node")));
    let before = client.stats().api_requests;
    thread::sleep(Duration::from_secs(5));
    let asked = client.stats().api_requests - before;
    assert!(asked <= 5, "{asked} requests in 5 s");
    assert_eq!(keeper.status().unwrap().filling, 1);
    // The others leave it alone for as long as somebody says that he is at it.
    let path = "jsonpath={.items[*].metadata.annotations.sandbox/pool-until}";
    let until = || namespace.kubectl(&["get", "pods", "-l", "sandbox/pool=huge", "-o", path]);
    let first = until();
    assert!(first.parse::<u64>().is_ok(), "{first}");
    await_that("that to be said again", || until().parse::<u64>().is_ok_and(|later| later > first.parse().unwrap()));
    // What is half made goes with the handle.
    drop(keeper);
    await_that("it to go", || pool.status().unwrap().filling == 0);
}
