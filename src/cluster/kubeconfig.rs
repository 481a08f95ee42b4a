//! Which API server to use and who to be there, found as `kubectl` finds it. Nothing is asked of a server here.

use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use http::Uri;
use http::uri::PathAndQuery;
use kube::config::{AuthInfo, Cluster, Config as Access, ExecAuthCluster, Kubeconfig, KubeconfigError};
use openssl::x509::X509;
use secrecy::{ExposeSecret, SecretString};

use super::login::{Login, LoginError};
use super::proxy;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};

/// Where Kubernetes puts the credentials of a Pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const DEFAULT_NAMESPACE: &str = "default";

/// An API server, and who this client is to it.
pub(super) struct Found {
    /// The client certificate of a kubeconfig is in here, all other credentials are in `login`.
    pub(super) access: Access,
    pub(super) login: Login,
}

/// Finds both by the settings, this process's environment and the files that these name.
pub(super) fn find(config: &Config) -> Result<Found> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    Surroundings { variable: &variable, home, service_account: SERVICE_ACCOUNT.into() }.find(config)
}

/// What the settings don't say.
struct Surroundings<'a> {
    /// A variable of the environment that is not empty.
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
    service_account: PathBuf,
}

/// Files to look into, and how to call them.
struct Source {
    name: String,
    files: Vec<PathBuf>,
}

impl Surroundings<'_> {
    fn find(&self, config: &Config) -> Result<Found> {
        if let Some(path) = &config.kubeconfig {
            let source = Source { name: format!("the kubeconfig {}", path.display()), files: vec![path.clone()] };
            let Some(kubeconfig) = read_all(&source)? else {
                return Err(source.unusable(io::Error::from(io::ErrorKind::NotFound)));
            };
            return self.chosen(&kubeconfig, config, &source)?.ok_or_else(|| source.unusable(NO_CONTEXT));
        }
        let source = self.source();
        let kubeconfig = source.as_ref().map(read_all).transpose()?.flatten();
        if let (Some(kubeconfig), Some(source)) = (&kubeconfig, &source)
            && let Some(found) = self.chosen(kubeconfig, config, source)?
        {
            return Ok(found);
        }
        if config.context.is_none() && self.is_in_pod() {
            return self.in_pod();
        }
        let files = match (source, kubeconfig) {
            (Some(source), Some(_)) => format!("{} has no current context", source.name),
            (Some(source), None) => format!("{} is not there", source.name),
            (None, _) => "KUBECONFIG is not set, there is no home directory".to_owned(),
        };
        let pod = match &config.context {
            Some(_) => "a context is set, so the service account is not used".to_owned(),
            None => format!("there is no service account of a Pod ({})", self.service_account.display()),
        };
        Err(Error::new(ErrorKind::Config, format!("no Kubernetes cluster is configured: {files}, and {pod}")))
    }

    /// What `kubectl` reads unless it is told otherwise.
    fn source(&self) -> Option<Source> {
        if let Some(list) = (self.variable)("KUBECONFIG") {
            let files = std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect();
            return Some(Source { name: format!("KUBECONFIG={}", list.display()), files });
        }
        let path = self.home.as_ref()?.join(".kube/config");
        Some(Source { name: format!("the kubeconfig {}", path.display()), files: vec![path] })
    }

    /// What the kubeconfig says about the context that is set, or its current one; nothing if there is neither.
    fn chosen(&self, kubeconfig: &Kubeconfig, config: &Config, source: &Source) -> Result<Option<Found>> {
        let Some(name) = config.context.as_ref().or(kubeconfig.current_context.as_ref()) else { return Ok(None) };
        let context = kubeconfig.contexts.iter().find(|context| context.name == *name);
        let Some(context) = context.and_then(|context| context.context.as_ref()) else {
            return Err(source.unusable(format!("it has no context {name:?}")));
        };
        let cluster = kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster);
        let Some(cluster) = cluster.and_then(|cluster| cluster.cluster.as_ref()) else {
            return Err(source.unusable(format!("it has no cluster {:?}", context.cluster)));
        };
        // As for kubectl, somebody who is not there is nobody.
        let user = kubeconfig.auth_infos.iter().find(|user| Some(&user.name) == context.user.as_ref());
        let user = user.and_then(|user| user.auth_info.clone()).unwrap_or_default();
        let namespace = context.namespace.clone().filter(|namespace| !namespace.is_empty());
        let mut found = self.server(cluster, user).map_err(|why| source.unusable(why))?;
        found.access.default_namespace = namespace.unwrap_or_else(|| self.namespace());
        Ok(Some(found))
    }

    fn server(&self, cluster: &Cluster, mut user: AuthInfo) -> std::result::Result<Found, String> {
        let has_certificate = identity(&mut user)?;
        let authority =
            material("certificate-authority", &cluster.certificate_authority_data, &cluster.certificate_authority)?;
        let is_unverified = cluster.insecure_skip_tls_verify.unwrap_or(false);
        if is_unverified && authority.is_some() {
            return Err(
                "its cluster has both insecure-skip-tls-verify and a certificate-authority; only one is allowed".into(),
            );
        }
        let mut access = Access::new(server_url(cluster.server.as_deref().unwrap_or_default())?);
        access.root_cert = match authority {
            Some(pem) => Some(certificates(&pem)?),
            None => system_authorities(),
        };
        access.accept_invalid_certs = is_unverified;
        access.tls_server_name = cluster.tls_server_name.clone().filter(|name| !name.is_empty());
        access.proxy_url = match cluster.proxy_url.as_deref().filter(|url| !url.is_empty()) {
            Some(url) => Some(proxy::named(url)?),
            None => self.proxy(&access.cluster_url)?,
        };
        let is_tls = access.cluster_url.scheme_str() == Some("https");
        let login = if is_tls { login(&mut user, cluster, has_certificate)? } else { Login::none() };
        if !is_tls {
            // As for kubectl: whoever listens on the way would have them too.
            user = AuthInfo { auth_provider: None, ..user };
        }
        access.auth_info =
            AuthInfo { username: None, password: None, token: None, token_file: None, exec: None, ..user };
        Ok(Found { access, login })
    }

    fn proxy(&self, server: &Uri) -> std::result::Result<Option<Uri>, String> {
        let variable = |name: &str| (self.variable)(name)?.into_string().ok();
        proxy::from_environment(server, variable).map_err(|why| format!("{why}, as the environment has it"))
    }

    fn is_in_pod(&self) -> bool {
        self.pod_server().is_some() && self.service_account.join("token").is_file()
    }

    fn pod_server(&self) -> Option<(String, String)> {
        let text = |name: &str| (self.variable)(name)?.into_string().ok();
        Some((text("KUBERNETES_SERVICE_HOST")?, text("KUBERNETES_SERVICE_PORT")?))
    }

    /// The way that is open to every Pod.
    fn in_pod(&self) -> Result<Found> {
        let unusable =
            |why: String| Error::new(ErrorKind::Config, format!("the Pod's service account can't be used: {why}"));
        let (host, port) = self.pod_server().unwrap_or_default();
        let host = match host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => host,
        };
        let url = server_url(&format!("https://{host}:{port}")).map_err(unusable)?;
        let mut access = Access::new(url);
        let authority = std::fs::read(self.service_account.join("ca.crt"));
        // Without it the authorities of the system count, as for kubectl.
        access.root_cert = authority.ok().map(|pem| certificates(&pem)).transpose().map_err(unusable)?;
        access.proxy_url = self.proxy(&access.cluster_url).map_err(unusable)?;
        access.default_namespace = self.namespace();
        let login = Login::token_file(self.service_account.join("token"), None).map_err(|e| unusable(e.to_string()))?;
        Ok(Found { access, login })
    }

    /// The namespace where nothing names one: in a Pod the Pod's own, also with a kubeconfig.
    fn namespace(&self) -> String {
        let in_pod = || {
            if let Some(namespace) = (self.variable)("POD_NAMESPACE").and_then(|name| name.into_string().ok()) {
                return Some(namespace);
            }
            let text = std::fs::read_to_string(self.service_account.join("namespace")).ok()?;
            Some(text.trim().to_owned()).filter(|namespace| !namespace.is_empty())
        };
        self.is_in_pod().then(in_pod).flatten().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
    }
}

const NO_CONTEXT: &str = "it has no current context, and none is set";

impl Source {
    fn unusable(&self, why: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Config, format!("{} can't be used: {why}", self.name))
    }
}

/// The files merged into one, in which the first that says something counts; nothing if none is there.
fn read_all(source: &Source) -> Result<Option<Kubeconfig>> {
    let mut merged: Option<Kubeconfig> = None;
    for path in &source.files {
        let Some(next) = read(path).map_err(|why| source.unusable(why))? else { continue };
        merged = Some(match merged {
            None => next,
            Some(before) => before.merge(next).map_err(|e| source.unusable(describe(&e)))?,
        });
    }
    Ok(merged)
}

/// One file, if it is there, with absolute paths: the working directory may change later.
fn read(path: &Path) -> std::result::Result<Option<Kubeconfig>, String> {
    let path = std::path::absolute(path).map_err(|e| e.to_string())?;
    let mut kubeconfig = match Kubeconfig::read_from(&path) {
        Ok(kubeconfig) => kubeconfig,
        Err(KubeconfigError::ReadConfig(e, _)) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(describe(&e)),
    };
    // These need not be the same everywhere to be merged.
    (kubeconfig.kind, kubeconfig.api_version) = (None, None);
    drop_if(&mut kubeconfig.current_context, str::is_empty);
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        drop_if(&mut cluster.certificate_authority, is_directory);
    }
    for user in kubeconfig.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        for file in [&mut user.token_file, &mut user.client_certificate, &mut user.client_key] {
            drop_if(file, is_directory);
        }
    }
    Ok(Some(kubeconfig))
}

fn drop_if(field: &mut Option<String>, condition: fn(&str) -> bool) {
    *field = field.take().filter(|value| !condition(value));
}

/// What kube makes of an empty path: that of the kubeconfig's directory with a slash behind.
fn is_directory(path: &str) -> bool {
    path.is_empty() || path.ends_with('/')
}

/// kube's own words, except where they would quote the file, which holds secrets.
fn describe(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(_) => "it is not the YAML of a kubeconfig".into(),
        KubeconfigError::ReadConfig(e, path) => format!("{}: {e}", path.display()),
        other => other.to_string(),
    }
}

/// The server's address. Without a scheme it has no TLS, as for kubectl, whatever else the cluster says.
fn server_url(text: &str) -> std::result::Result<Uri, String> {
    let text = match text.contains("://") {
        _ if text.is_empty() => return Err("its cluster has no server".into()),
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let wrong = |_| "its server is not an http:// or https:// address".to_owned();
    let mut parts = text.parse::<Uri>().map_err(|_| wrong(()))?.into_parts();
    if !matches!(parts.scheme.as_ref().map(http::uri::Scheme::as_str), Some("http" | "https")) {
        return Err(wrong(()));
    }
    // A query there would end up in the middle of each request's.
    let path = parts.path_and_query.as_ref().map_or("/", PathAndQuery::path).to_owned();
    parts.path_and_query = Some(path.parse().map_err(|_| wrong(()))?);
    Uri::from_parts(parts).map_err(|_| wrong(()))
}

/// What stands in the kubeconfig itself, else what stands in the file that it names.
fn material(what: &str, data: &Option<String>, file: &Option<String>) -> std::result::Result<Option<Vec<u8>>, String> {
    if let Some(data) = data.as_deref().filter(|data| !data.is_empty()) {
        let data: String = data.split_whitespace().collect();
        return openssl::base64::decode_block(&data).map(Some).map_err(|_| format!("its {what}-data is not Base64"));
    }
    file.as_ref().map(|file| std::fs::read(file).map_err(|e| format!("its {what} {file}: {e}"))).transpose()
}

fn certificates(pem: &[u8]) -> std::result::Result<Vec<Vec<u8>>, String> {
    let wrong = "its certificate-authority has no certificate in PEM form";
    let found = X509::stack_from_pem(pem)
        .and_then(|all| all.iter().map(|one| one.to_der()).collect::<std::result::Result<Vec<_>, _>>());
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| wrong.into())
}

/// The authorities that this machine trusts. The system's OpenSSL finds them itself; one that is built in does not know
/// where they are.
fn system_authorities() -> Option<Vec<Vec<u8>>> {
    #[cfg(feature = "vendored")]
    return certificates(&std::fs::read(openssl_probe::probe().cert_file?).ok()?).ok();
    #[cfg(not(feature = "vendored"))]
    None
}

/// Puts the client certificate with its key into the form that kube takes; false if there is none.
fn identity(user: &mut AuthInfo) -> std::result::Result<bool, String> {
    let key = user.client_key_data.as_ref().map(|key| key.expose_secret().to_owned());
    let chain = material("client-certificate", &user.client_certificate_data, &user.client_certificate)?;
    let (mut chain_data, mut key_data) = (None, None);
    if let Some(chain) = &chain {
        let key = material("client-key", &key, &user.client_key)?;
        let key = key.ok_or("its client-certificate has no client-key")?;
        chain_data = Some(openssl::base64::encode_block(chain));
        key_data = Some(openssl::base64::encode_block(&key).into());
    }
    (user.client_certificate, user.client_certificate_data) = (None, chain_data);
    (user.client_key, user.client_key_data) = (None, key_data);
    Ok(chain.is_some())
}

/// Who the user is, by other means than a client certificate.
fn login(user: &mut AuthInfo, cluster: &Cluster, has_certificate: bool) -> std::result::Result<Login, String> {
    let words = |e: LoginError| e.to_string();
    let secret = |secret: &Option<SecretString>| {
        secret.as_ref().map(|secret| secret.expose_secret().to_owned()).filter(|secret| !secret.is_empty())
    };
    let (token, password) = (secret(&user.token), secret(&user.password));
    let name = user.username.take().filter(|name| !name.is_empty());
    let is_basic = name.is_some() || password.is_some();
    if token.is_some() && is_basic {
        return Err("its user has both a token and a password; only one is allowed".into());
    }
    if user.exec.is_some() && user.auth_provider.is_some() {
        return Err("its user has both an exec and an auth-provider; only one is allowed".into());
    }
    let login = match (user.token_file.take(), token, user.exec.take()) {
        (Some(file), token, _) => Login::token_file(file.into(), token.as_deref()),
        (None, Some(token), _) => Login::token(&token),
        _ if is_basic => Login::basic(&name.unwrap_or_default(), &password.unwrap_or_default()),
        (None, None, Some(mut exec)) if !has_certificate => {
            if exec.provide_cluster_info {
                exec.cluster = Some(ExecAuthCluster::try_from(cluster).map_err(|e| describe(&e))?);
            }
            Login::command(exec)
        }
        _ => return Ok(Login::none()),
    };
    // What it would add is said already.
    user.auth_provider = None;
    login.map_err(words)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::{Value, json};

    use super::*;

    /// A directory with a home and a service account in it, and an environment.
    struct World {
        root: PathBuf,
        variables: HashMap<&'static str, String>,
    }

    impl World {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("sandbox-{name}-{}", std::process::id()));
            std::fs::create_dir_all(root.join("home/.kube")).unwrap();
            std::fs::create_dir_all(root.join("pod")).unwrap();
            Self { root, variables: HashMap::new() }
        }

        fn path(&self, name: &str) -> String {
            self.root.join(name).to_str().unwrap().to_owned()
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
            std::fs::write(self.root.join(name), text).unwrap();
            self
        }

        /// A kubeconfig whose only context has the name of its file.
        fn kubeconfig(&self, name: &str, cluster: Value, user: Value) -> String {
            let text = json!({
                "clusters": [{"name": name, "cluster": cluster}],
                "users": [{"name": name, "user": user}],
                "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
                "current-context": name,
            });
            let file = name.replace('-', "/");
            self.write(&file, text.to_string());
            self.path(&file)
        }

        fn in_pod(&mut self) {
            self.write("pod/token", "pod-token\n").write("pod/namespace", "pod-space\n");
            self.variables.insert("KUBERNETES_SERVICE_HOST", "fd00::1".into());
            self.variables.insert("KUBERNETES_SERVICE_PORT", "6443".into());
        }

        fn find(&self, config: &Config) -> Result<Found> {
            let variable = |name: &str| self.variables.get(name).filter(|value| !value.is_empty()).map(OsString::from);
            let (home, service_account) = (Some(self.root.join("home")), self.root.join("pod"));
            Surroundings { variable: &variable, home, service_account }.find(config)
        }

        fn server(&self, config: &Config) -> String {
            self.find(config).map_or_else(|e| e.to_string(), |found| found.access.cluster_url.to_string())
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.root);
        }
    }

    fn at(server: &str) -> Value {
        json!({"server": format!("https://{server}.test")})
    }

    #[test]
    fn takes_the_first_that_is_there() {
        let mut world = World::new("order");
        let explicit = world.kubeconfig("explicit", at("explicit"), json!({}));
        let config = Config::new();
        let nothing = world.find(&config).err().unwrap();
        assert_eq!(nothing.kind(), ErrorKind::Config);
        assert!(nothing.to_string().contains(".kube/config is not there"), "{nothing}");
        assert!(nothing.to_string().contains("service account"), "{nothing}");

        world.in_pod();
        assert_eq!(world.server(&config), "https://[fd00::1]:6443/");
        world.write("home/.kube/config", "");
        assert_eq!(world.server(&config), "https://[fd00::1]:6443/", "an empty kubeconfig chooses nothing");
        world.kubeconfig("home-.kube-config", at("home"), json!({}));
        assert_eq!(world.server(&config), "https://home.test/");

        let listed = world.kubeconfig("listed", at("listed"), json!({}));
        let other = world.kubeconfig("other", at("other"), json!({}));
        let missing = world.path("missing");
        for (list, expected) in [
            (format!("{missing}:{listed}::{other}"), "https://listed.test/"),
            (format!("{listed}:{missing}"), "https://listed.test/"),
            (format!("{other}:{listed}"), "https://other.test/"),
            (":".into(), "https://[fd00::1]:6443/"),
            (missing.clone(), "https://[fd00::1]:6443/"),
            (String::new(), "https://home.test/"),
        ] {
            world.variables.insert("KUBECONFIG", list.clone());
            assert_eq!(world.server(&config), expected, "KUBECONFIG={list}");
        }
        assert_eq!(world.server(&config.clone().kubeconfig(&explicit)), "https://explicit.test/");
        world.variables.insert("KUBECONFIG", format!("{listed}:{other}"));
        assert_eq!(world.server(&config.clone().context("other")), "https://other.test/");

        let error = world.server(&config.clone().kubeconfig(&missing));
        assert!(error.contains(&missing), "{error}");
        world.variables.insert("KUBECONFIG", missing.clone());
        world.variables.remove("KUBERNETES_SERVICE_HOST");
        let error = world.server(&config);
        assert!(error.contains(&format!("KUBECONFIG={missing} is not there")), "{error}");
        world.write("broken", "users: [{name: me, user: {token: hunter2");
        world.variables.insert("KUBECONFIG", format!("{listed}:{}", world.path("broken")));
        let error = world.server(&config);
        assert!(error.contains("not the YAML") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_pod_has_its_namespace() {
        let mut world = World::new("namespace");
        let kubeconfig = world.kubeconfig("plain", at("plain"), json!({}));
        let config = Config::new().kubeconfig(&kubeconfig);
        let namespace = |world: &World, config: &Config| world.find(config).unwrap().access.default_namespace;
        assert_eq!(namespace(&world, &config), "default");
        world.in_pod();
        assert_eq!(namespace(&world, &config), "pod-space");
        assert_eq!(namespace(&world, &Config::new()), "pod-space");
        world.variables.insert("POD_NAMESPACE", "told".into());
        assert_eq!(namespace(&world, &config), "told");
        let text = std::fs::read_to_string(&kubeconfig).unwrap();
        let with_namespace = text.replace(r#""context":{"#, r#""context":{"namespace":"mine","#);
        assert_ne!(text, with_namespace);
        world.write("plain", with_namespace);
        assert_eq!(namespace(&world, &config), "mine");
    }

    #[test]
    fn says_what_is_wrong_with_a_kubeconfig_but_quotes_none() {
        let world = World::new("wrong");
        let secret = json!({"token": "hunter2", "username": "me", "password": "hunter3"});
        for (cluster, user, expected) in [
            (at("a"), secret, "both a token and a password"),
            (json!({"server": ""}), json!({}), "no server"),
            (json!({"server": "gopher://a.test"}), json!({}), "http://"),
            (json!({"server": "https://a.test", "proxy-url": "p:1"}), json!({}), "proxy-url"),
            (json!({"server": "https://a.test", "certificate-authority": "none.pem"}), json!({}), "none.pem"),
            (json!({"server": "https://a.test", "certificate-authority-data": "?"}), json!({}), "Base64"),
            (json!({"server": "https://a.test", "certificate-authority-data": "YQ=="}), json!({}), "no certificate"),
            (at("a"), json!({"client-certificate-data": "YQ=="}), "no client-key"),
            (at("a"), json!({"tokenFile": "absent"}), "absent"),
            (at("a"), json!({"exec": {"command": "x", "apiVersion": "v1"}}), "apiVersion"),
            (
                at("a"),
                json!({"exec": {"command": "x", "apiVersion": "client.authentication.k8s.io/v1"}}),
                "interactiveMode",
            ),
        ] {
            let file = world.kubeconfig("wrong", cluster, user);
            let error = world.find(&Config::new().kubeconfig(&file)).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Config);
            let text = error.to_string();
            assert!(text.contains(expected) && text.contains(&file) && !text.contains("hunter"), "{text}");
        }
        world.write("lacking", "contexts: [{name: a, context: {cluster: gone}}]");
        let config = Config::new().kubeconfig(world.path("lacking"));
        for (config, expected) in [
            (config.clone(), "no current context"),
            (config.clone().context("there"), "no context \"there\""),
            (config.context("a"), "no cluster \"gone\""),
        ] {
            assert!(world.server(&config).contains(expected), "{}", world.server(&config));
        }
    }

    #[test]
    fn empty_fields_are_no_fields() {
        let world = World::new("empty");
        let cluster = json!({
            "server": "https://a.test", "certificate-authority": "", "certificate-authority-data": "",
            "tls-server-name": "", "proxy-url": "",
        });
        let user = json!({"token": "", "tokenFile": "", "client-certificate": "", "client-key": "", "username": ""});
        let found = world.find(&Config::new().kubeconfig(world.kubeconfig("empty", cluster, user))).unwrap();
        assert!(matches!(found.login, Login::Fixed(credentials) if credentials.authorization.is_none()));
        assert_eq!((found.access.tls_server_name, found.access.proxy_url, found.access.root_cert), (None, None, None));
    }

    #[test]
    fn completes_addresses() {
        for (text, expected) in [
            ("a.test", "http://a.test/"),
            ("a.test:8080", "http://a.test:8080/"),
            ("10.0.0.1:6443", "http://10.0.0.1:6443/"),
            ("https://a.test/path/?query", "https://a.test/path/"),
        ] {
            assert_eq!(server_url(text).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn the_kubeconfigs_proxy_has_no_exceptions() {
        let mut world = World::new("proxy");
        world.variables.insert("NO_PROXY", "*".into());
        world.variables.insert("HTTPS_PROXY", "http://general.test:1".into());
        let proxy = |world: &World, cluster: Value| {
            let file = world.kubeconfig("proxy", cluster, json!({}));
            world.find(&Config::new().kubeconfig(file)).unwrap().access.proxy_url.map(|url| url.to_string())
        };
        let own = json!({"server": "https://127.0.0.1:1", "proxy-url": "http://own.test:2"});
        assert_eq!(proxy(&world, own).as_deref(), Some("http://own.test:2/"));
        assert_eq!(proxy(&world, at("a")), None);
        world.variables.insert("NO_PROXY", "b.test".into());
        assert_eq!(proxy(&world, at("a")).as_deref(), Some("http://general.test:1/"));
    }

    #[test]
    fn without_tls_no_credentials_are_sent() {
        let world = World::new("plain");
        let cluster = json!({"server": "http://a.test"});
        let file = world.kubeconfig("plain", cluster, json!({"token": "hunter2"}));
        let found = world.find(&Config::new().kubeconfig(&file)).unwrap();
        assert!(matches!(found.login, Login::Fixed(credentials) if credentials.authorization.is_none()));
        assert!(found.access.auth_info.token.is_none());
    }
}
