//! Ways to the API server that are not the plain one: below a path, cut at any point, slower than somebody else, and
//! with a right that is missing.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;
#[path = "common/proxy.rs"]
mod proxy;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Guarded, Namespace, await_that, config, kubectl, kubectl_with_input, noise, pods, repository, unique};
use proxy::{Proxy, Then};
use sandbox::{Client, ErrorKind, Result, Sandbox, SandboxSpec, Transport};
use serde_json::json;

/// As gateways of many clusters have it.
#[test]
fn a_server_below_a_path_serves_every_call() {
    let proxy = Proxy::start(&["--api-prefix=/k8s/clusters/c-1/"]);
    for path in ["/k8s/clusters/c-1", "/k8s/clusters/c-1/"] {
        let config = || proxy.config(path).transport(Transport::Tunnel);
        let client = Client::new(config()).unwrap();
        let sandbox = Guarded(client.create(&SandboxSpec::new()).unwrap());
        let name = sandbox.name();
        let bytes = noise(20 << 20);
        assert!(sandbox.command("cat").stdin(bytes.clone()).output().unwrap().stdout == bytes);
        sandbox.files().write("file", &bytes).unwrap();
        assert!(sandbox.files().read("file").unwrap() == bytes);
        // With another key, which is added by `exec`.
        let other = Client::new(config()).unwrap();
        assert_eq!(other.execute_command(name, "echo let in").unwrap().stdout, b"let in\n");
        let expiry = other.attach(name).unwrap().renew(Duration::from_secs(900)).unwrap();
        assert_eq!(sandbox.info().unwrap().expires_at, Some(expiry));
        assert!(client.list().unwrap().iter().any(|one| one.name == name));
        sandbox.delete().unwrap();
        assert_eq!(other.get_sandbox_info(name).unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert!(Client::new(proxy.config("")).unwrap().list().is_err(), "there is nothing beside the path");
}

#[test]
fn what_is_renewed_while_it_is_being_reaped_stays() {
    let (namespace, proxy) = (Namespace::new("renewing"), Proxy::start(&[]));
    let client = Client::new(config().namespace(namespace.name())).unwrap();
    let (late, over) = (client.create(&SandboxSpec::new()).unwrap(), client.create(&SandboxSpec::new()).unwrap());
    // As the annotations of both stand before a renewal comes.
    for sandbox in [&late, &over] {
        namespace.kubectl(&["annotate", "--overwrite", "pod", sandbox.name(), "sandbox/expires-at=1"]);
    }
    let (renewed, deletes) = (late.clone(), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&deletes);
    let relay = proxy.relay(move |sent| {
        if sent.begins && sent.request.starts_with("DELETE ") {
            seen.fetch_add(1, Ordering::Relaxed);
            if sent.request.contains(renewed.name()) {
                renewed.renew(Duration::from_secs(900)).unwrap();
            }
        }
        Then::Pass
    });
    let reaper = Client::new(proxy.config_through(&relay).namespace(namespace.name())).unwrap();
    assert_eq!(reaper.reap().unwrap(), [over.name()]);
    assert_eq!(deletes.load(Ordering::Relaxed), 2, "both were to be deleted");
    assert!(late.execute("true").unwrap().status.success());
    assert_eq!(reaper.reap().unwrap(), [""; 0]);
}

/// Connections that are cut as soon as they are asked for.
#[test]
fn a_login_that_fails_is_tried_again_with_growing_pauses() {
    let (proxy, tries) = (Proxy::start(&[]), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&tries);
    let relay = proxy.relay(move |sent| match sent.request.contains("/portforward") {
        true => {
            seen.fetch_add(1, Ordering::Relaxed);
            Then::Cut
        }
        false => Then::Pass,
    });
    let client = Client::new(proxy.config_through(&relay).create_timeout(Duration::from_secs(15))).unwrap();
    let (label, began) = (unique(), Instant::now());
    let error = client.create(&SandboxSpec::new().label("unanswered", &label)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
    // Fifteen a second are what a pause of the first one's length would make.
    let tries = tries.load(Ordering::Relaxed);
    assert!((2..=40).contains(&tries), "{tries} tries");
    await_that("the Pod to go", || pods(&format!("unanswered={label}")).is_empty());
}

/// At each packet of its first connection, after which no other one is allowed.
#[test]
fn a_creation_that_is_cut_anywhere_leaves_nothing() {
    let proxy = Proxy::start(&[]);
    for cut_at in 1.. {
        let (packets, is_cut) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
        let was_cut = Arc::clone(&is_cut);
        let relay = proxy.relay(move |sent| {
            if !sent.request.contains("/portforward") && !sent.request.contains("/exec") {
                return Then::Pass;
            }
            if is_cut.load(Ordering::Relaxed) {
                return Then::Refuse;
            }
            if sent.begins || packets.fetch_add(1, Ordering::Relaxed) + 1 < cut_at {
                return Then::Pass;
            }
            is_cut.store(true, Ordering::Relaxed);
            Then::Cut
        });
        let client = Client::new(proxy.config_through(&relay).transport(Transport::Tunnel)).unwrap();
        let name = format!("cut-{}", unique());
        let created = client.create(&SandboxSpec::new().name(&name)).map(Guarded);
        let Err(error) = created else {
            assert!(cut_at > 5, "created with {cut_at} packets");
            match was_cut.load(Ordering::Relaxed) {
                // It was that of its end.
                true => continue,
                false => return,
            }
        };
        println!("packet {cut_at}: {error}");
        assert!(was_cut.load(Ordering::Relaxed), "{error}");
        // Nothing is unknown: there is no sandbox.
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        await_that("the Pod to go", || {
            kubectl(&["get", "pods", "-o", "name", "--field-selector", &format!("metadata.name={name}")]).is_empty()
        });
        // Not from the cache either.
        assert_eq!(client.attach(&name).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(client.execute_command(&name, "true").unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn a_missing_right_is_named_at_once() {
    let namespace = Namespace::new("rights");
    let role = repository().join("examples/role.yaml");
    let grant = || namespace.kubectl(&["apply", "-f", role.to_str().unwrap()]);
    grant();
    let user = format!("system:serviceaccount:{}:sandbox-client", namespace.name());
    let proxy = Proxy::start(&["--as", &user]);
    // What the API server has not yet heard of, it allows or refuses as before.
    let await_right = |verb: &str, answer: &str| {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": {
                "namespace": namespace.name(), "verb": verb, "resource": "pods", "version": "v1"}},
        });
        let review = review.to_string();
        let ask = || kubectl_with_input(&["create", "-o", "jsonpath={.status.allowed}", "-f", "-"], &review);
        await_that("the Role to hold", || ask() == answer);
    };
    type Call = fn(&Client, &Sandbox) -> Result<()>;
    let calls: [(&str, Call); 5] = [
        ("list", |client, _| client.list().map(drop)),
        ("patch", |_, sandbox| sandbox.renew(Duration::from_secs(900)).map(drop)),
        ("delete", |_, sandbox| sandbox.delete()),
        ("get", |_, sandbox| sandbox.info().map(drop)),
        // It is asked for, and nobody can see it come.
        ("get", |_, sandbox| sandbox.delete()),
    ];
    await_right("create", "true");
    let client = Client::new(proxy.config("").namespace(namespace.name())).unwrap();
    let sandbox = client.create(&SandboxSpec::new()).unwrap();
    for (verb, call) in calls {
        let verbs: Vec<_> =
            ["create", "get", "list", "watch", "patch", "delete"].into_iter().filter(|one| *one != verb).collect();
        let patch = json!([{"op": "replace", "path": "/rules/0/verbs", "value": verbs}]).to_string();
        namespace.kubectl(&["patch", "role", "sandbox-client", "--type=json", "-p", &patch]);
        await_right(verb, "false");
        let (began, error) = (Instant::now(), call(&client, &sandbox).unwrap_err());
        println!("without {verb}: {error}");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains(&format!("cannot {verb} resource \"pods\"")), "{error}");
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        grant();
        await_right(verb, "true");
    }
    await_that("the Pod to go", || client.get_sandbox_info(sandbox.name()).is_err());
}
