//! "As `kubectl` finds it": the same files, environment and input for `kubectl` and for `sandbox`, case by case, and
//! what both then asked of which API server, as whom and through which proxy. All servers are this program's own, in a
//! network of their own.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;
#[path = "kubectl/servers.rs"]
mod servers;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Scratch, repository};
use serde_json::{Value, json};
use servers::{Journal, Pki};

const NAME: &str = "finds_the_api_server_as_kubectl_does";
/// Set in the process that has a network and mounts of its own.
const APART: &str = "SANDBOX_TEST_APART";
/// An address that is not loopback's; it leads to this machine all the same.
const ADDRESS: &str = "10.9.8.7";
const SERVICE_ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";
const EXEC: &str = "client.authentication.k8s.io/v1";

/// What the programs get as their standard input.
#[derive(Clone, Copy)]
enum Input {
    Nothing,
    Pipe(&'static str),
    Terminal(&'static str),
}

/// What the programs do with children that have ended.
#[derive(Clone, Copy, PartialEq)]
enum Children {
    Awaited,
    /// The system forgets them.
    Ignored,
    /// Another part of the program waits for all of them.
    Reaped,
}

/// One line of the table. `{dir}` stands for the case's own directory, which is the working directory and has the home
/// in it.
struct Case {
    name: &'static str,
    files: Vec<(&'static str, String)>,
    variables: Vec<(&'static str, String)>,
    arguments: Vec<&'static str>,
    input: Input,
    in_pod: bool,
    children: Children,
    /// A part of what `sandbox` says if it fails.
    says: &'static str,
    /// A part of what both must have done, so that a row can't be right because nothing happened.
    expected: String,
    /// What `kubectl` does instead, where the difference is wanted.
    unlike_kubectl: Option<&'static str>,
}

impl Case {
    fn new(name: &'static str, expected: impl Into<String>) -> Self {
        Self {
            name,
            files: Vec::new(),
            variables: Vec::new(),
            arguments: Vec::new(),
            input: Input::Nothing,
            in_pod: false,
            children: Children::Awaited,
            says: "",
            expected: expected.into(),
            unlike_kubectl: None,
        }
    }

    /// Both must fail without asking a server anything, and `sandbox` must say this.
    fn failing(name: &'static str, says: &'static str) -> Self {
        Self { says, ..Self::new(name, "fails") }
    }

    fn unlike_kubectl(mut self, it: &'static str) -> Self {
        self.unlike_kubectl = Some(it);
        self
    }

    fn file(mut self, path: &'static str, text: impl ToString) -> Self {
        self.files.push((path, text.to_string()));
        self
    }

    fn with(mut self, variable: &'static str, value: impl ToString) -> Self {
        self.variables.push((variable, value.to_string()));
        self
    }

    fn arguments(mut self, arguments: &[&'static str]) -> Self {
        self.arguments = arguments.to_vec();
        self
    }

    fn in_pod(mut self) -> Self {
        self.in_pod = true;
        self
    }

    fn input(mut self, input: Input) -> Self {
        self.input = input;
        self
    }
}

/// The servers that the cases lead to.
struct World {
    pki: Pki,
    /// `reaper.c`, compiled.
    reaper: PathBuf,
    tls: u16,
    plain: u16,
    http_proxy: u16,
    https_proxy: u16,
    socks_proxy: u16,
    journal: Journal,
}

impl World {
    fn new(scratch: &Scratch) -> Self {
        let journal = Journal::default();
        let reaper = scratch.path("reaper.so");
        let mut compiler = Command::new("cc");
        compiler.args("-std=gnu11 -Wall -Wextra -Wpedantic -Werror -O1 -shared -fPIC -o".split(' ')).arg(&reaper);
        assert!(compiler.arg(repository().join("tests/kubectl/reaper.c")).status().unwrap().success());
        let pki = Pki::new(&["127.0.0.1", "::1", ADDRESS], &["localhost", "cluster.test", "api.cluster.test"]);
        Self {
            tls: servers::api_server(&journal, Some(&pki)),
            plain: servers::api_server(&journal, None),
            http_proxy: servers::http_proxy(&journal, "http", None),
            https_proxy: servers::http_proxy(&journal, "https", Some(&pki)),
            socks_proxy: servers::socks_proxy(&journal),
            reaper,
            pki,
            journal,
        }
    }

    fn cluster(&self, host: &str) -> Value {
        json!({"server": format!("https://{host}:{}", self.tls), "certificate-authority-data": self.pki.authority_data()})
    }

    /// A kubeconfig whose only user shows a token that tells which file it was.
    fn kubeconfig(&self, token: &str) -> Value {
        kubeconfig("c", self.cluster(ADDRESS), json!({ "token": token }))
    }

    fn with_user(&self, user: Value) -> Value {
        kubeconfig("c", self.cluster(ADDRESS), user)
    }
}

/// A kubeconfig with one context, whose parts all have one name.
fn kubeconfig(name: &str, cluster: Value, user: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": name,
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    })
}

fn changed(mut value: Value, pointer: &str, new: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap()[field] = new;
    value
}

/// What `kubectl` does where nothing says who the user is: it asks for a name, and here nobody answers. A library asks
/// nobody.
const ASKS: &str = "fails";

/// The place of the one context, cluster and user in a kubeconfig.
const CONTEXT: &str = "/contexts/0/context";
const CLUSTER: &str = "/clusters/0/cluster";
const USER: &str = "/users/0/user";

fn order(world: &World) -> Vec<Case> {
    let file = |token: &str| world.kubeconfig(token);
    let other = || changed(changed(file("other"), "/contexts/0/name", json!("o")), "/current-context", json!("o"));
    let case = |name, expected| {
        Case::new(name, expected)
            .file("explicit", file("explicit"))
            .file("listed", file("listed"))
            .file("other", other())
            .file("home/.kube/config", file("home"))
            .file("empty", "")
            .file("broken", "users: [{name: ")
    };
    let failing = |name, says| Case { says, ..case(name, "fails") };
    vec![
        case("--kubeconfig before all others", "Bearer explicit")
            .arguments(&["--kubeconfig", "{dir}/explicit"])
            .with("KUBECONFIG", "{dir}/listed")
            .in_pod(),
        case("KUBECONFIG before home and Pod", "Bearer listed").with("KUBECONFIG", "{dir}/listed").in_pod(),
        case("home before Pod", "Bearer home").in_pod(),
        Case::new("the Pod's service account", "Bearer pod").in_pod(),
        Case::new("the Pod's, with a home that has an empty file", "Bearer pod").file("home/.kube/config", "").in_pod(),
        case("KUBECONFIG that is not there, in a Pod", "Bearer pod").with("KUBECONFIG", "{dir}/missing").in_pod(),
        failing("KUBECONFIG that is not there", "missing is not there").with("KUBECONFIG", "{dir}/missing"),
        case("KUBECONFIG=missing:listed", "Bearer listed").with("KUBECONFIG", "{dir}/missing:{dir}/listed"),
        case("KUBECONFIG=listed:missing", "Bearer listed").with("KUBECONFIG", "{dir}/listed:{dir}/missing"),
        case("KUBECONFIG=:listed", "Bearer listed").with("KUBECONFIG", ":{dir}/listed"),
        case("KUBECONFIG=listed::other", "Bearer listed").with("KUBECONFIG", "{dir}/listed::{dir}/other"),
        case("KUBECONFIG=empty:listed", "Bearer listed").with("KUBECONFIG", "{dir}/empty:{dir}/listed"),
        failing("KUBECONFIG=listed:broken", "not the YAML").with("KUBECONFIG", "{dir}/listed:{dir}/broken"),
        failing("KUBECONFIG=listed:directory", "directory").with("KUBECONFIG", "{dir}/listed:{dir}/home"),
        failing("KUBECONFIG=:", "no Kubernetes cluster is configured").with("KUBECONFIG", ":"),
        case("an empty KUBECONFIG", "Bearer home").with("KUBECONFIG", ""),
        failing("--kubeconfig that is not there, in a Pod", "missing")
            .arguments(&["--kubeconfig", "{dir}/missing"])
            .in_pod(),
        case("a relative KUBECONFIG", "Bearer listed").with("KUBECONFIG", "listed"),
        case("--context from the second file", "Bearer listed")
            .arguments(&["--context", "o"])
            .with("KUBECONFIG", "{dir}/listed:{dir}/other"),
        failing("--context that is not there", "no context").arguments(&["--context", "absent"]),
        failing("--context that is not there, in a Pod", "no context").arguments(&["--context", "absent"]).in_pod(),
        case("a first file without a current context", "Bearer listed")
            .file("first", json!({"current-context": "", "users": [], "clusters": null}))
            .with("KUBECONFIG", "{dir}/first:{dir}/listed"),
        case("a user from the second file", "Bearer listed")
            .file("first", changed(file("unused"), "/users", json!([])))
            .with("KUBECONFIG", "{dir}/first:{dir}/listed"),
        case("a user from the first file", "Bearer first")
            .file("first", changed(changed(file("first"), "/contexts", json!([])), "/current-context", json!("")))
            .with("KUBECONFIG", "{dir}/first:{dir}/listed"),
        Case::new("the context's namespace", "namespace=mine")
            .file("home/.kube/config", changed(file("home"), &format!("{CONTEXT}/namespace"), json!("mine"))),
        Case::new("the context's namespace, in a Pod", "namespace=mine")
            .file("home/.kube/config", changed(file("home"), &format!("{CONTEXT}/namespace"), json!("mine")))
            .in_pod(),
        case("no namespace", "namespace=default"),
        case("no namespace, in a Pod", "namespace=pod-space").in_pod(),
        case("POD_NAMESPACE, in a Pod", "namespace=told").with("POD_NAMESPACE", "told").in_pod(),
        case("POD_NAMESPACE, elsewhere", "namespace=default").with("POD_NAMESPACE", "told"),
        case("a user that is not there", "authorization=-")
            .file("first", changed(file("unused"), "/users", json!([])))
            .with("KUBECONFIG", "{dir}/first")
            .unlike_kubectl(ASKS),
        Case::new("an empty --kubeconfig, in a Pod", "fails")
            .file("empty", "")
            .arguments(&["--kubeconfig", "{dir}/empty"])
            .in_pod()
            .unlike_kubectl(
                "https://10.9.8.7 namespace=pod-space authorization=Bearer pod certificate=- impersonate=- proxy=-",
            ),
    ]
}

fn credentials(world: &World) -> Vec<Case> {
    let home = |name, expected: &str, value: Value| Case::new(name, expected).file("home/.kube/config", value);
    let failing = |name, says, value: Value| Case::failing(name, says).file("home/.kube/config", value);
    let user = |user: Value| world.with_user(user);
    let cluster = |cluster: Value| kubeconfig("c", cluster, json!({"token": "t"}));
    let at =
        |address: &str| changed(world.cluster(address), "/server", json!(format!("https://{address}:{}", world.tls)));
    let (chain, key) = world.pki.client("somebody");
    let base64 = |pem: &str| openssl::base64::encode_block(pem.as_bytes());
    let (chain_data, key_data) = (base64(&chain), base64(&key));
    let other = Pki::new(&[], &["else.test"]).authority().to_owned();
    let signed_by = |pem: &str| {
        cluster(json!({
            "server": format!("https://{ADDRESS}:{}", world.tls), "certificate-authority-data": base64(pem),
        }))
    };
    let plain = json!({"server": format!("http://{ADDRESS}:{}", world.plain)});
    let bare = changed(at(ADDRESS), "/server", json!(format!("{ADDRESS}:{}", world.plain)));
    vec![
        home("a token file with a line's end", "Bearer filed", user(json!({"tokenFile": "tokens/one"})))
            .file("home/.kube/tokens/one", "filed\n"),
        home("a token and a token file", "Bearer filed", user(json!({"token": "inline", "tokenFile": "one"})))
            .file("home/.kube/one", "filed"),
        home(
            "a token and a file that is not there",
            "Bearer inline",
            user(json!({"token": "inline", "tokenFile": "no"})),
        ),
        failing("a token file that is not there", "no", user(json!({"tokenFile": "no"}))),
        home("user and password", "Basic bWU6YTpi", user(json!({"username": "me", "password": "a:b"}))),
        failing("a token and a password", "only one", user(json!({"token": "t", "username": "me", "password": "p"}))),
        home(
            "a client certificate",
            "certificate=somebody",
            user(json!({
                "client-certificate-data": chain_data, "client-key-data": key_data,
            })),
        ),
        home(
            "a client certificate in files",
            "certificate=somebody",
            user(json!({
                "client-certificate": "pki/chain.pem", "client-key": "./pki/key.pem",
            })),
        )
        .file("home/.kube/pki/chain.pem", &chain)
        .file("home/.kube/pki/key.pem", &key),
        failing(
            "a client certificate without its key",
            "client-key",
            user(json!({"client-certificate-data": chain_data})),
        ),
        failing(
            "a client certificate that is not there",
            "absent.pem",
            user(json!({
                "client-certificate": "absent.pem", "client-key-data": key_data,
            })),
        ),
        home(
            "a certificate and a token",
            "certificate=somebody",
            user(json!({
                "client-certificate-data": chain_data, "client-key-data": key_data, "token": "t",
            })),
        ),
        home("no credentials", "authorization=-", user(json!({}))).unlike_kubectl(ASKS),
        home("somebody else's name", "impersonate=other", user(json!({"token": "t", "as": "other"}))),
        home("a server without TLS gets no token", "authorization=-", cluster(plain.clone())),
        home("a server without a scheme", "http://10.9.8.7", cluster(bare)),
        home(
            "empty fields",
            "Bearer t",
            changed(
                cluster(changed(at(ADDRESS), "/certificate-authority", json!(""))),
                &format!("{USER}/tokenFile"),
                json!(""),
            ),
        ),
        home(
            "an authority in a file",
            "Bearer t",
            cluster(json!({
                "server": format!("https://{ADDRESS}:{}", world.tls), "certificate-authority": "../ca.pem",
            })),
        )
        .file("home/ca.pem", world.pki.authority()),
        home(
            "an authority that this machine trusts",
            "Bearer t",
            cluster(json!({"server": format!("https://{ADDRESS}:{}", world.tls)})),
        )
        .file("home/ca.pem", world.pki.authority())
        .with("SSL_CERT_FILE", "{dir}/home/ca.pem"),
        failing("an authority that did not sign", "certificate", signed_by(&other)),
        failing(
            "an authority that did not sign, beside one that this machine trusts",
            "certificate",
            signed_by(&other),
        )
        .file("home/ca.pem", world.pki.authority())
        .with("SSL_CERT_FILE", "{dir}/home/ca.pem"),
        home("an authority that signed, beside another one", "Bearer t", signed_by(&(other + world.pki.authority()))),
        home("the server's own certificate as the authority", "Bearer t", signed_by(&world.pki.server())),
        failing(
            "an authority for an unverified server",
            "insecure-skip-tls-verify",
            changed(signed_by(world.pki.authority()), &format!("{CLUSTER}/insecure-skip-tls-verify"), json!(true)),
        ),
        home(
            "an unverified server",
            "Bearer t",
            cluster(json!({
                "server": format!("https://{ADDRESS}:{}", world.tls), "insecure-skip-tls-verify": true,
            })),
        ),
        home(
            "another name for the server",
            "Bearer t",
            cluster(json!({
                "server": format!("https://127.0.0.2:{}", world.tls), "tls-server-name": "cluster.test",
                "certificate-authority-data": world.pki.authority_data(),
            })),
        ),
        failing("a server that is not who it should be", "mismatch", cluster(at("127.0.0.2"))),
    ]
}

fn proxies(world: &World) -> Vec<Case> {
    let (http, tls, socks) = (world.http_proxy, world.https_proxy, world.socks_proxy);
    let to = |host: &str| kubeconfig("c", world.cluster(host), json!({"token": "t"}));
    let named = |host: &str, url: String| changed(to(host), &format!("{CLUSTER}/proxy-url"), json!(url));
    let plain = kubeconfig("c", json!({"server": format!("http://{ADDRESS}:{}", world.plain)}), json!({}));
    let home = |name, expected: &str, value: Value| Case::new(name, expected).file("home/.kube/config", value);
    let failing = |name, says, value: Value| Case::failing(name, says).file("home/.kube/config", value);
    let (direct, through) = ("proxy=-", "proxy=http");
    let mut cases = vec![
        home("HTTPS_PROXY", through, to(ADDRESS)).with("HTTPS_PROXY", format!("http://127.0.0.1:{http}")),
        home("https_proxy", through, to(ADDRESS)).with("https_proxy", format!("http://127.0.0.1:{http}")),
        home("HTTPS_PROXY without a scheme", through, to(ADDRESS)).with("HTTPS_PROXY", format!("127.0.0.1:{http}")),
        home("HTTPS_PROXY with a password", "Basic dTpwQHNz", to(ADDRESS))
            .with("HTTPS_PROXY", format!("http://u:p%40ss@127.0.0.1:{http}")),
        home("HTTPS_PROXY=https://", "proxy=https", to(ADDRESS))
            .with("HTTPS_PROXY", format!("https://127.0.0.1:{tls}")),
        home("HTTPS_PROXY=socks5://", "proxy=socks", to(ADDRESS))
            .with("HTTPS_PROXY", format!("socks5://127.0.0.1:{socks}")),
        home("HTTPS_PROXY=socks5:// with a name", "proxy=socks", to("cluster.test"))
            .with("HTTPS_PROXY", format!("socks5://127.0.0.1:{socks}")),
        home("HTTP_PROXY for a server with TLS", direct, to(ADDRESS)).with("HTTP_PROXY", "http://127.0.0.1:9"),
        home("HTTPS_PROXY for a server without TLS", direct, plain.clone()).with("HTTPS_PROXY", "http://127.0.0.1:9"),
        home("HTTP_PROXY for a server without TLS", through, plain)
            .with("HTTP_PROXY", format!("http://127.0.0.1:{http}")),
        home("HTTPS_PROXY for 127.0.0.1", direct, to("127.0.0.1")).with("HTTPS_PROXY", "http://127.0.0.1:9"),
        home("HTTPS_PROXY for ::1", direct, to("[::1]")).with("HTTPS_PROXY", "http://127.0.0.1:9"),
        home("HTTPS_PROXY for localhost", direct, to("localhost")).with("HTTPS_PROXY", "http://127.0.0.1:9"),
        home("an empty HTTPS_PROXY", direct, to(ADDRESS)).with("HTTPS_PROXY", ""),
        failing("HTTPS_PROXY where nobody listens", "through the proxy http://127.0.0.1:9)", to(ADDRESS))
            .with("HTTPS_PROXY", "http://127.0.0.1:9"),
        home("proxy-url", through, named(ADDRESS, format!("http://127.0.0.1:{http}"))),
        home("proxy-url before HTTPS_PROXY", through, named(ADDRESS, format!("http://127.0.0.1:{http}")))
            .with("HTTPS_PROXY", "http://127.0.0.1:9"),
        home("proxy-url with NO_PROXY=*", through, named(ADDRESS, format!("http://127.0.0.1:{http}")))
            .with("NO_PROXY", "*"),
        home("proxy-url for 127.0.0.1", through, named("127.0.0.1", format!("http://127.0.0.1:{http}"))),
        home("proxy-url for localhost", through, named("localhost", format!("http://127.0.0.1:{http}"))),
        home("proxy-url=https://", "proxy=https", named(ADDRESS, format!("https://127.0.0.1:{tls}"))),
        home("proxy-url=socks5://", "proxy=socks", named(ADDRESS, format!("socks5://127.0.0.1:{socks}"))),
        failing(
            "proxy-url where nobody listens, NO_PROXY=*",
            "127.0.0.1:9",
            named(ADDRESS, "http://127.0.0.1:9".into()),
        )
        .with("NO_PROXY", "*"),
        failing("the same for 127.0.0.1", "127.0.0.1:9", named("127.0.0.1", "http://127.0.0.1:9".into())),
        failing("proxy-url without a scheme", "proxy-url", named(ADDRESS, format!("127.0.0.1:{http}"))),
        failing("proxy-url=ftp://", "proxy-url", named(ADDRESS, format!("ftp://127.0.0.1:{http}"))),
    ];
    let port = world.tls;
    for (host, no_proxy, is_exempt) in [
        (ADDRESS, "*".to_owned(), true),
        (ADDRESS, ADDRESS.to_owned(), true),
        (ADDRESS, "10.9.8.8".to_owned(), false),
        (ADDRESS, format!("{ADDRESS}:{port}"), true),
        (ADDRESS, format!("{ADDRESS}:1"), false),
        (ADDRESS, "10.0.0.0/8".to_owned(), true),
        (ADDRESS, "10.0.0.0/16".to_owned(), false),
        (ADDRESS, "0.0.0.0/0".to_owned(), true),
        (ADDRESS, format!("a.test, {ADDRESS} ,,"), true),
        (ADDRESS, format!("a.test,*,{ADDRESS}:1"), true),
        (ADDRESS, "10.9.8".to_owned(), false),
        ("cluster.test", "cluster.test".to_owned(), true),
        ("cluster.test", "CLUSTER.TEST".to_owned(), true),
        ("cluster.test", "test".to_owned(), true),
        ("cluster.test", ".test".to_owned(), true),
        ("cluster.test", "*.test".to_owned(), true),
        ("cluster.test", "ster.test".to_owned(), false),
        ("cluster.test", ".cluster.test".to_owned(), false),
        ("cluster.test", "*.cluster.test".to_owned(), false),
        ("api.cluster.test", ".cluster.test".to_owned(), true),
        ("api.cluster.test", "*.cluster.test".to_owned(), true),
        ("api.cluster.test", "cluster.test".to_owned(), true),
        ("api.cluster.test", format!("cluster.test:{port}"), true),
        ("api.cluster.test", "cluster.test:1".to_owned(), false),
        ("cluster.test", "10.0.0.0/8".to_owned(), false),
    ] {
        for variable in if no_proxy == ADDRESS { &["NO_PROXY", "no_proxy"][..] } else { &["NO_PROXY"] } {
            let name = format!("{host} with {variable}={}", no_proxy.replace(&port.to_string(), "PORT"));
            cases.push(
                home(name.leak(), if is_exempt { direct } else { through }, to(host))
                    .with("HTTPS_PROXY", format!("http://127.0.0.1:{http}"))
                    .with(variable, &no_proxy),
            );
        }
    }
    cases
}

fn logins(world: &World) -> Vec<Case> {
    let (chain, key) = world.pki.client("logged-in");
    let answer = |status: Value| json!({"apiVersion": EXEC, "kind": "ExecCredential", "status": status}).to_string();
    let script = |end: &str| {
        let log = r#"#!/bin/sh
here=$(dirname "$0"); [ -t 0 ] && read -r typed || typed=$(wc -c)
echo "$typed" >> "$here/runs"; printf %s "$KUBERNETES_EXEC_INFO" > "$here/info""#;
        format!("{log}\n{end}\n")
    };
    let printing = |status: Value| script(&format!("printf %s '{}'", answer(status)));
    let exec = |mode: &str| json!({"command": "./login.sh", "apiVersion": EXEC, "interactiveMode": mode});
    let user = |exec: Value| world.with_user(json!({ "exec": exec }));
    let token = || printing(json!({"token": "printed"}));
    let home = |name, expected: &str, exec: Value| Case::new(name, expected).file("home/.kube/config", user(exec));
    let case = |name, expected: &str, exec: Value| home(name, expected, exec).file("home/.kube/login.sh", token());
    let failing = |name, says, exec: Value, script: String| {
        Case { says, ..home(name, "fails", exec) }.file("home/.kube/login.sh", script)
    };
    let with = |field: &str, value: Value| changed(exec("Never"), &format!("/{field}"), value);
    let (pipe, terminal) = (Input::Pipe("the caller's\n"), Input::Terminal("typed\n"));
    let modes = [
        ("login: Never, pipe", "Never", pipe, "stdin=0"),
        ("login: IfAvailable, pipe", "IfAvailable", pipe, "stdin=0"),
        ("login: Never, terminal", "Never", terminal, "stdin=0"),
        ("login: IfAvailable, terminal", "IfAvailable", terminal, "stdin=typed"),
        ("login: Always, terminal", "Always", terminal, "stdin=typed"),
    ];
    let mut cases: Vec<_> =
        modes.map(|(name, mode, input, expected)| case(name, expected, exec(mode)).input(input)).into();
    cases.extend([
        failing("login: Always, pipe", "needs a terminal", exec("Always"), token()).input(pipe),
        failing("login: Always, nothing", "needs a terminal", exec("Always"), token()),
        failing("login: v1 without interactiveMode", "interactiveMode", with("interactiveMode", json!(null)), token()),
        failing("login: an unknown interactiveMode", "", with("interactiveMode", json!("Sometimes")), token()),
        failing("login: without apiVersion", "apiVersion", with("apiVersion", json!(null)), token()),
        failing("login: v1alpha1", "apiVersion", with("apiVersion", json!("client.authentication.k8s.io/v1alpha1")), token()),
        home("login: v1beta1 without interactiveMode, pipe", "stdin=0", json!({
            "command": "./login.sh", "apiVersion": format!("{EXEC}beta1"),
        }))
        .file("home/.kube/login.sh", token().replace(EXEC, &format!("{EXEC}beta1")))
        .input(pipe),
        case("login: in a directory below", "Bearer printed", with("command", json!("sub/../login.sh"))).file("home/.kube/sub/x", ""),
        home("login: by a name from PATH, with arguments and variables", "Bearer from-an-argument-and-a-variable", json!({
            "command": "sh", "apiVersion": EXEC, "interactiveMode": "Never", "env": [{"name": "SAID", "value": "a-variable"}],
            "args": ["-c", format!("echo '{}' | sed \"s/X/$0-and-$SAID/\"", answer(json!({"token": "X"}))), "from-an-argument"],
        })),
        failing("login: by a name that only the kubeconfig's PATH has", "no such program", json!({
            "command": "only-here", "apiVersion": EXEC, "interactiveMode": "Never",
            "env": [{"name": "PATH", "value": "{dir}/home/.kube"}],
        }), String::new())
        .file("home/.kube/only-here", token()),
        failing("login: a name in the working directory", "no such program", with("command", json!("here")), String::new())
            .file("here", token()),
        failing("login: no such program", "get it  [1melsewhere", changed(
            with("command", json!("no-such-login")), "/installHint", json!("get it \u{1b}[1melsewhere"),
        ), String::new()),
        failing("login: exit status", "exit status: 3", exec("Never"), script("exit 3")),
        failing("login: a token and an exit status", "exit status: 3", exec("Never"), format!("{}exit 3\n", token())),
        failing("login: a signal", "signal: 9", exec("Never"), script("kill -9 $$")),
        failing("login: no output", "login.sh", exec("Never"), script("")),
        failing("login: other output", "login.sh", exec("Never"), script("echo hunter2")),
        failing("login: nothing in it", "neither a token", exec("Never"), printing(json!({}))),
        failing("login: no status", "neither a token", exec("Never"), printing(json!(null))),
        failing("login: another version", "instead of", exec("Never"), token().replace(EXEC, &format!("{EXEC}beta1"))),
        failing("login: a certificate without its key", "without its key", exec("Never"), printing(json!({
            "clientCertificateData": chain,
        }))),
        failing("login: no time", "expirationTimestamp", exec("Never"), printing(json!({
            "token": "t", "expirationTimestamp": "tomorrow",
        }))),
        home("login: YAML", "Bearer yaml", exec("Never")).file("home/.kube/login.sh", script(&format!(
            "printf 'apiVersion: {EXEC}\\nkind: ExecCredential\\nstatus:\\n  token: yaml\\n'",
        ))),
        home("login: a certificate", "certificate=logged-in", exec("Never")).file("home/.kube/login.sh", printing(json!({
            "clientCertificateData": chain, "clientKeyData": key, "expirationTimestamp": "2999-01-01T00:00:00Z",
        }))),
        Case::new("login: with the cluster's data", "\"config\":{\"a\":1}")
            .file("home/.kube/config", changed(user(with("provideClusterInfo", json!(true))), CLUSTER, json!({
                "server": format!("https://{ADDRESS}:{}", world.tls), "tls-server-name": "cluster.test",
                "certificate-authority-data": world.pki.authority_data(),
                "proxy-url": format!("http://127.0.0.1:{}", world.http_proxy),
                "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"a": 1}}],
            })))
            .file("home/.kube/login.sh", token()),
        Case::new("login: beside a token", "Bearer inline")
            .file("home/.kube/config", world.with_user(json!({"token": "inline", "exec": exec("Never")})))
            .file("home/.kube/login.sh", token()),
        Case::new("login: not without TLS", "authorization=-")
            .file("home/.kube/config", changed(
                user(exec("Never")), &format!("{CLUSTER}/server"), json!(format!("http://{ADDRESS}:{}", world.plain)),
            ))
            .file("home/.kube/login.sh", token()),
        Case { children: Children::Ignored, ..case("login: with SIGCHLD ignored", "Bearer printed", exec("Never")) },
        Case { children: Children::Reaped, ..case("login: with a handler that waits for all", "Bearer printed", exec("Never")) },
    ]);
    cases
}

/// What one of the programs did.
#[derive(PartialEq)]
struct Outcome {
    did: String,
    error: String,
}

/// Runs `kubectl`, or `sandbox`, as the case says.
fn outcome(case: &Case, world: &World, directory: &Path, mut program: Command) -> Outcome {
    let here = |text: &str| text.replace("{dir}", directory.to_str().unwrap());
    let kube = directory.join("home/.kube");
    for name in ["runs", "info"] {
        let _ = std::fs::remove_file(kube.join(name));
    }
    if case.children == Children::Ignored {
        let ignoring = program;
        program = Command::new("env");
        program.arg("--ignore-signal=CHLD").arg(ignoring.get_program()).args(ignoring.get_args());
    }
    let variables = case.variables.iter().map(|(name, value)| (*name, here(value)));
    program.args(case.arguments.iter().map(|argument| here(argument)));
    program.current_dir(directory).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", directory.join("home"));
    program.envs(variables);
    if case.children == Children::Reaped {
        program.env("LD_PRELOAD", &world.reaper);
    }
    if case.in_pod {
        let port = world.tls.to_string();
        program.env("KUBERNETES_SERVICE_HOST", ADDRESS).env("KUBERNETES_SERVICE_PORT", port);
    }
    program.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut left = None;
    // The other end of a terminal, kept for as long as the program runs.
    let mut _keyboard = None;
    match case.input {
        Input::Nothing => drop(program.stdin(Stdio::null())),
        Input::Pipe(text) => {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(text.as_bytes()).unwrap();
            program.stdin(reader.try_clone().unwrap());
            left = Some(reader);
        }
        Input::Terminal(text) => {
            let (mut keyboard, terminal) = terminal();
            keyboard.write_all(text.as_bytes()).unwrap();
            program.stdin(terminal);
            _keyboard = Some(keyboard);
        }
    }
    world.journal.clear();
    let output = program.output().unwrap();
    drop(program);
    let mut parts = BTreeSet::new();
    parts.extend(world.journal.entries());
    if !output.status.success() {
        parts = BTreeSet::from(["fails".to_owned()]);
    }
    let runs = std::fs::read_to_string(kube.join("runs")).unwrap_or_default();
    if output.status.success() && !runs.is_empty() {
        let info: Value = serde_json::from_str(&std::fs::read_to_string(kube.join("info")).unwrap()).unwrap();
        parts.insert(format!(
            "login: runs={} stdin={} info={info}",
            runs.lines().count(),
            runs.lines().next().unwrap_or("")
        ));
    }
    if let Some(mut left) = left {
        let mut text = String::new();
        left.read_to_string(&mut text).unwrap();
        parts.insert(format!("left in the pipe: {text:?}"));
    }
    let did = parts.into_iter().collect::<Vec<_>>().join("; ");
    let did = did.replace(&world.pki.authority_data(), "…").replace(&world.tls.to_string(), "PORT");
    Outcome { did, error: String::from_utf8(output.stderr).unwrap() }
}

/// A terminal: the side of the keyboard, and that of programs.
fn terminal() -> (File, OwnedFd) {
    use rustix::fs::{Mode, OFlags};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&keyboard).unwrap();
    unlockpt(&keyboard).unwrap();
    let name = ptsname(&keyboard, Vec::new()).unwrap();
    let terminal = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    (keyboard.into(), terminal)
}

fn prepare(case: &Case, directory: &Path) {
    std::fs::create_dir_all(directory.join("home/.kube")).unwrap();
    for (name, text) in &case.files {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text.replace("{dir}", directory.to_str().unwrap())).unwrap();
        let mode = if text.starts_with("#!") { 0o700 } else { 0o600 };
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    let _ = std::fs::remove_dir_all("/run/secrets");
    if case.in_pod {
        std::fs::create_dir_all(SERVICE_ACCOUNT).unwrap();
        std::fs::write(format!("{SERVICE_ACCOUNT}/token"), "pod\n").unwrap();
        std::fs::write(format!("{SERVICE_ACCOUNT}/namespace"), "pod-space").unwrap();
    }
}

/// The test Kubernetes has `kubectl` in it.
fn kubectl() -> PathBuf {
    let program = repository().join("target/cluster/programs/kubernetes");
    assert!(program.exists(), "this test needs the test cluster's kubectl: tests/cluster/cluster.py up");
    program
}

#[test]
fn finds_the_api_server_as_kubectl_does() {
    if std::env::var_os(APART).is_none() {
        return run_apart();
    }
    let shell = |line: &str| assert!(Command::new("sh").args(["-ec", line]).status().unwrap().success(), "{line}");
    let scratch = Scratch::new();
    let hosts = scratch.path("hosts");
    std::fs::write(&hosts, format!("127.0.0.1 localhost\n{ADDRESS} cluster.test api.cluster.test\n")).unwrap();
    shell("ip link set lo up && mount -t tmpfs none /run");
    shell(&format!("ip address add {ADDRESS}/32 dev lo && mount --bind {} /etc/hosts", hosts.display()));
    let world = World::new(&scratch);
    let all = [order(&world), credentials(&world), proxies(&world), logins(&world)];
    let all: Vec<_> = all.into_iter().flatten().collect();
    let mut wrong = Vec::new();
    for (number, case) in all.iter().enumerate() {
        let directory = scratch.path(&number.to_string());
        prepare(case, &directory);
        if case.in_pod {
            std::fs::write(format!("{SERVICE_ACCOUNT}/ca.crt"), world.pki.authority()).unwrap();
        }
        let mut theirs = Command::new(kubectl());
        theirs.args(["kubectl", "get", "pods", "-o", "name"]);
        let theirs = outcome(case, &world, &directory, theirs);
        let mut ours = Command::new(env!("CARGO_BIN_EXE_sandbox"));
        ours.arg("ls");
        let ours = outcome(case, &world, &directory, ours);
        let is_alike = case.unlike_kubectl.map_or(ours.did == theirs.did, |it| it == theirs.did);
        let is_right = is_alike && ours.did.contains(&case.expected) && ours.error.contains(case.says);
        let label = match case.unlike_kubectl {
            _ if !is_right => "WRONG",
            Some(_) => "wanted difference:",
            None => "same ",
        };
        println!("{} {}\n      {}", label, case.name, ours.did);
        if !is_right {
            println!("      kubectl: {}\n      expected: {} {:?}", theirs.did, case.expected, case.says);
            println!("      sandbox says: {}      kubectl says: {}", ours.error, theirs.error);
            wrong.push(case.name);
        }
    }
    println!("{} cases", all.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Runs this test once more where nothing reaches the outside, and where the place of a service account is free.
fn run_apart() {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "--net", "--"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", NAME, "--nocapture"]).env(APART, "1");
    let output = command.output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
