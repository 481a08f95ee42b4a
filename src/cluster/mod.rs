//! The Kubernetes side: the only code that names kube and k8s-openapi. All of it is async and runs on our runtime.
//!
//! What goes in is a [`SandboxSpec`](crate::SandboxSpec) and names, what comes out is [`PodSnapshot`], bytes, and
//! errors that say why a Pod can't start or has stopped.

mod api;
mod changes;
mod connect;
mod ends;
mod filter;
mod fleet;
mod kubeconfig;
mod login;
mod manifest;
mod members;
mod names;
mod pod;
mod proxy;
mod survey;
mod tls;
mod tunnel;
mod verdict;
mod watch;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join;
use http::Request as HttpRequest;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::Resource;
use kube::api::{Api as KubeApi, AttachParams, ObjectList};
use kube::core::Request;
use kube::core::params::{DeleteParams, GetParams, ListParams, Patch, PatchParams, Preconditions};
use serde_json::{Map, json};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::runtime::Handle;

use self::api::{Api, Failure, built};
use self::verdict::{EventClass, create_error};
use crate::config::Config;
use crate::error::{Cause, Error, ErrorKind, Result, Verdict};

pub(crate) use self::ends::{Ends, Standing, Users};
pub use self::filter::Filter;
pub use self::fleet::ChangeKind;
pub(crate) use self::fleet::Fleet;
pub(crate) use self::manifest::{Manifest, PodIdentity, pod};
pub(crate) use self::manifest::{check_env, check_keys, fingerprint};
pub(crate) use self::members::{Claiming, Followed, MemberState};
pub(crate) use self::names::{EXPIRES_AT, HOST_KEY};
pub use self::pod::Phase;
pub(crate) use self::pod::{Membership, PodSnapshot, after, time_text, whole_second};
pub(crate) use self::tunnel::Tunnel;
pub(crate) use self::watch::Watch;

/// Retry budget of a request while the API server can't answer: enough for asking a second time after silence, and for
/// that answer within the 30 s of a call.
const REQUEST_RETRY_BUDGET: Duration = Duration::from_secs(15);
/// Retry budget of create and delete, where giving up costs more.
const CREATE_RETRY_BUDGET: Duration = Duration::from_secs(45);
/// Time for the processes to end after they are asked to.
const GRACE_S: u32 = 1;
const PAGE: u32 = 500;

/// The version of an API server.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    /// Such as `v1.37.2`.
    pub(crate) text: String,
    /// The first version whose image volumes are on by default, and which asks for the right to create port-forwards.
    pub(crate) is_from_1_35: bool,
}

/// What the pages of a list tell together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// What there was at one moment, so that a watch can go on from there. If a page comes too late for that, the list
    /// begins again, in one piece.
    One,
    /// Each page what there was when it came. No Pod comes twice, since the pages are in the order of the names.
    Any,
}

/// A connection to one namespace of a Kubernetes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster {
    api: Api,
    runtime: Handle,
}

impl Cluster {
    /// Finds the way that the settings name. Nothing is asked of the API server; a login command of the kubeconfig is
    /// run.
    pub(crate) async fn connect(config: &Config) -> Result<Self> {
        let requests = Arc::default();
        let (client, access) = connect::connect(config, &requests).await?;
        let namespace = config.namespace.clone().unwrap_or(access.default_namespace.clone());
        let server = connect::server(&access);
        log::debug!("using the API server {server}, namespace {namespace}");
        Ok(Self { api: Api { client, namespace, server, requests, clock: Arc::default() }, runtime: Handle::current() })
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.api.namespace
    }

    /// HTTP requests sent since [`connect`](Self::connect), watches and tunnels included.
    pub(crate) fn api_requests(&self) -> u64 {
        self.api.requests_sent()
    }

    /// Creates the Pod, once: if an answer is lost, the nonce tells whether the one that is there is ours.
    /// [`ErrorKind::Conflict`] says that it is not.
    pub(crate) async fn create(&self, manifest: &Manifest) -> Result<PodSnapshot> {
        let body = serde_json::to_vec(&manifest.pod).unwrap_or_default();
        // Strict: a misspelt field of a template is an error and not ignored.
        let request = HttpRequest::post(format!("{}?fieldValidation=Strict", self.pods_url()))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|e| Error::new(ErrorKind::InvalidArgument, e.to_string()))?;
        match self.api.send::<Pod>(&request, CREATE_RETRY_BUDGET).await {
            Ok(pod) => {
                log::info!("created the Pod {}", manifest.name);
                Ok(PodSnapshot::of(&pod))
            }
            Err(failure) if failure.code() == Some(409) => {
                let conflict = self.api.error(failure);
                match self.get(&manifest.name).await {
                    Ok(snapshot) if snapshot.nonce == manifest.nonce => Ok(snapshot),
                    Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
                    _ => Err(conflict),
                }
            }
            Err(failure) => Err(self.create_error(failure)),
        }
    }

    /// What a refused create means.
    fn create_error(&self, failure: Failure) -> Error {
        let Some(status) = failure.status() else { return self.api.error(failure) };
        let cause = match (status.code, status.message.as_str()) {
            (403, text) if text.contains("exceeded quota") => Cause::Quota,
            (403, text) if text.contains("cannot create resource") => return self.api.error(failure),
            (400 | 403 | 404 | 413 | 422, _) => Cause::Rejected,
            _ => return self.api.error(failure),
        };
        let (code, verdict) = (status.code, Verdict::new(cause, &status.reason, &status.message));
        create_error(verdict).with_http_status(code)
    }

    /// The Pod, if there is one of this name and it is ours.
    pub(crate) async fn get(&self, name: &str) -> Result<PodSnapshot> {
        match self.find(name).await? {
            Some(pod) if pod::is_ours(&pod) => Ok(PodSnapshot::of(&pod)),
            Some(_) => Err(absent("there is a Pod of this name, but it is no sandbox")),
            None => Err(absent("there is no such sandbox").with_http_status(404)),
        }
    }

    async fn find(&self, name: &str) -> Result<Option<Pod>> {
        let request = built(self.pods().get(name, &GetParams::default()))?;
        match self.api.send(&request, REQUEST_RETRY_BUDGET).await {
            Ok(pod) => Ok(Some(pod)),
            Err(failure) if failure.code() == Some(404) => Ok(None),
            Err(failure) => Err(self.api.error(failure)),
        }
    }

    /// The sandboxes of the namespace that fit, the oldest first.
    pub(crate) async fn matching(&self, filter: &Filter) -> Result<Vec<PodSnapshot>> {
        let fits = |pod: &Pod| Some(PodSnapshot::of(pod)).filter(|one| filter.takes_phase(one.phase));
        let (mut found, _) = self.select(&filter.selector()?, Moment::Any, fits).await?;
        if filter.asks_for_age() {
            let now = self.now().await?;
            found.retain(|one| filter.takes_age(one, now));
        }
        found.sort_by(PodSnapshot::by_age);
        Ok(found)
    }

    /// What `read` makes of the Pods with these labels, and the version of the list. A page at a time is in memory, and
    /// what was made of it.
    async fn select<T>(
        &self,
        selector: &str,
        moment: Moment,
        read: impl Fn(&Pod) -> Option<T>,
    ) -> Result<(Vec<T>, String)> {
        let all = ListParams::default().labels(selector).limit(PAGE);
        let mut found = Vec::new();
        let mut page = all.clone();
        loop {
            let request = built(self.pods().list(&page))?;
            let list: ObjectList<Pod> = match self.api.send(&request, REQUEST_RETRY_BUDGET).await {
                Ok(list) => list,
                // The list that the page belongs to is too old by now.
                Err(failure) if failure.code() == Some(410) && page.continue_token.is_some() => {
                    match failure.next_page().filter(|_| moment == Moment::Any) {
                        Some(token) => page = all.clone().continue_token(&token),
                        None => {
                            found.clear();
                            page = ListParams { limit: None, ..all.clone() };
                        }
                    }
                    continue;
                }
                Err(failure) => return Err(self.api.error(failure)),
            };
            found.extend(list.items.iter().filter_map(&read));
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = all.clone().continue_token(&token),
                None => return Ok((found, list.metadata.resource_version.unwrap_or_default())),
            }
        }
    }

    /// Sets annotations of the Pod with this uid; `None` removes one.
    pub(crate) async fn annotate(
        &self,
        name: &str,
        uid: &str,
        annotations: &[(&str, Option<String>)],
    ) -> Result<PodSnapshot> {
        let values: Map<_, _> = annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let patch = Patch::Merge(json!({"metadata": {"uid": uid, "annotations": values}}));
        let request = built(self.pods().patch(name, &PatchParams::default(), &patch))?;
        match self.api.send::<Pod>(&request, REQUEST_RETRY_BUDGET).await {
            Ok(pod) => Ok(PodSnapshot::of(&pod)),
            Err(failure) if failure.code() == Some(404) => {
                Err(absent("there is no such sandbox").with_http_status(404))
            }
            Err(failure) if matches!(failure.code(), Some(409 | 422)) && !self.is_there(name, uid).await? => {
                Err(absent("the sandbox is gone; another one has its name"))
            }
            Err(failure) => Err(self.api.error(failure)),
        }
    }

    /// Gives the annotation another value, unless it no longer has the one that is known.
    pub(crate) async fn reannotate(&self, name: &str, uid: &str, key: &str, known: &str, value: &str) -> Result<()> {
        let path = members::annotation_path(key);
        let patch = [
            json!({"op": "test", "path": "/metadata/uid", "value": uid}),
            json!({"op": "test", "path": path, "value": known}),
            json!({"op": "replace", "path": path, "value": value}),
        ];
        match self.json_patch(name, &patch, REQUEST_RETRY_BUDGET).await {
            Ok(_) => Ok(()),
            // A test failed, or there is nothing any more.
            Err(failure) if matches!(failure.code(), Some(422 | 404)) => Ok(()),
            Err(failure) => Err(self.api.error(failure)),
        }
    }

    async fn is_there(&self, name: &str, uid: &str) -> Result<bool> {
        Ok(self.find(name).await?.is_some_and(|pod| pod.metadata.uid.as_deref() == Some(uid)))
    }

    /// Deletes the Pod with this uid and waits until it is gone; `NotFound` if it was before.
    pub(crate) async fn delete(&self, name: &str, uid: &str) -> Result<()> {
        if !self.request_delete(name, uid, None).await? {
            return Err(absent("there is no such sandbox"));
        }
        let gone = watch::until_gone(self, name, uid).await;
        gone.map_err(|e| {
            e.context("its deletion was requested, but its end can't be seen without the right to get Pods")
        })?;
        log::info!("deleted the Pod {name}");
        Ok(())
    }

    /// What keeps the Pod from going although it was deleted.
    pub(crate) async fn finalizers(&self, name: &str, uid: &str) -> Result<Vec<String>> {
        let pod = self.find(name).await?.filter(|pod| pod.metadata.uid.as_deref() == Some(uid));
        Ok(pod.and_then(|pod| pod.metadata.finalizers).unwrap_or_default())
    }

    /// Asks for the same and does not wait. If the Pod is gone, all is well.
    pub(crate) async fn delete_soon(&self, name: &str, uid: &str) -> Result<()> {
        self.request_delete(name, uid, None).await.map(drop)
    }

    /// Asks for the end of the Pod unless it has changed since this version; false if it has, or is gone.
    pub(crate) async fn delete_unchanged(&self, name: &str, uid: &str, resource_version: &str) -> Result<bool> {
        self.request_delete(name, uid, Some(resource_version)).await
    }

    /// False if the Pod was gone before, or is not of this version.
    async fn request_delete(&self, name: &str, uid: &str, resource_version: Option<&str>) -> Result<bool> {
        let params = DeleteParams {
            grace_period_seconds: Some(GRACE_S),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: resource_version.map(str::to_owned),
            }),
            ..DeleteParams::default()
        };
        let request = built(self.pods().delete(name, &params))?;
        match self.api.send::<Pod>(&request, CREATE_RETRY_BUDGET).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.code() == Some(404) => Ok(false),
            Err(failure) if failure.code() == Some(409) => match resource_version {
                Some(_) => Ok(false),
                None if !self.is_there(name, uid).await? => Ok(false),
                None => Err(self.api.error(failure)),
            },
            Err(failure) => Err(self.api.error(failure)),
        }
    }

    /// Follows one Pod and its events in background tasks that end when the [`Watch`] is dropped.
    pub(crate) fn watch(&self, snapshot: &PodSnapshot, unschedulable_grace: Duration) -> Watch {
        Watch::start(self, snapshot, unschedulable_grace)
    }

    /// A byte stream to `port` of the Pod by the API server's port-forward, in blocking mode.
    pub(crate) async fn tunnel(&self, name: &str, port: u16) -> Result<Tunnel> {
        tunnel::forward(&self.api, name, port).await
    }

    /// A byte stream to the guest of the Pod, whose file is `guest` and whose port is `port`, by the API server's exec,
    /// in blocking mode. The API server vouches for who is at its end as it does for a port-forward's.
    pub(crate) async fn exec_tunnel(&self, name: &str, guest: &str, port: u16) -> Result<Tunnel> {
        tunnel::exec(&self.api, name, guest, port).await
    }

    /// Now, by the API server's clock.
    pub(crate) async fn now(&self) -> Result<SystemTime> {
        if self.api.clock.now().is_none() {
            self.version(REQUEST_RETRY_BUDGET).await?;
        }
        self.api.clock.now().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("the API server {} does not tell the time", self.api.server))
        })
    }

    /// Whether Pods may have images as volumes. The container runtime's part can't be asked for.
    pub(crate) async fn has_image_volumes(&self) -> Result<bool> {
        self.version(REQUEST_RETRY_BUDGET).await.map(|version| version.is_from_1_35)
    }

    /// The version of the API server.
    pub(crate) async fn version(&self, retry_budget: Duration) -> Result<Version> {
        let request = http::Request::get("/version")
            .body(Vec::new())
            .map_err(|e| Error::new(ErrorKind::Unavailable, format!("no request can be made: {e}")))?;
        let found: Info = self.api.send(&request, retry_budget).await.map_err(|failure| self.api.error(failure))?;
        let digits: String = found.minor.chars().take_while(char::is_ascii_digit).collect();
        let is_from_1_35 = found.major == "1" && digits.parse::<u32>().is_ok_and(|minor| minor >= 35);
        Ok(Version { text: found.git_version, is_from_1_35 })
    }

    /// Lets the holder of `public_key` (one line in OpenSSH's form) log in, by the sandbox's guest, whose file is
    /// `guest`. Doing it twice does no harm.
    pub(crate) async fn authorize(&self, name: &str, guest: &str, port: u16, public_key: &str) -> Result<()> {
        log::debug!("authorizing a key in the Pod {name}");
        let refused =
            |why| Error::new(ErrorKind::Connect, format!("the key can't be authorized in the sandbox: {why}"));
        self.control(name, guest, port, &["authorize", public_key.trim()]).await?.map(drop).map_err(refused)
    }

    /// Runs `sandbox-guest control` in the Pod: what it prints, or why it failed.
    async fn control(
        &self,
        name: &str,
        guest: &str,
        port: u16,
        request: &[&str],
    ) -> Result<std::result::Result<String, String>> {
        let pods: KubeApi<Pod> = KubeApi::namespaced(self.api.client.clone(), self.namespace());
        let port = port.to_string();
        let command = [&[guest, "control", "--port", &port], request].concat();
        let params = AttachParams::default().container(names::CONTAINER).stdout(true).stderr(true);
        let work = async {
            let mut process = pods.exec(name, command, &params).await?;
            let status = process.take_status();
            let (mut answer, mut complaint) = (String::new(), String::new());
            let (stdout, stderr) = (process.stdout(), process.stderr());
            // Best effort: the status decides.
            join(read_some(stdout, &mut answer), read_some(stderr, &mut complaint)).await;
            let status = match status {
                Some(status) => status.await,
                None => None,
            };
            Ok::<_, kube::Error>((status, answer, complaint))
        };
        let done = tokio::time::timeout(api::ANSWER_TIMEOUT, work).await.map_err(|_| Failure::Silent);
        match done.and_then(|done| done.map_err(Failure::from)) {
            Ok((Some(status), answer, _)) if status.status.as_deref() == Some("Success") => Ok(Ok(answer)),
            Ok((status, _, complaint)) => {
                let message = status.and_then(|status| status.message).unwrap_or_default();
                Ok(Err(api::one_line(&format!("{message} {complaint}"))))
            }
            Err(failure) => Err(self.api.error(failure)),
        }
    }

    /// What Kubernetes knows about why the Pod stopped or can't start; `None` if it runs well.
    pub(crate) async fn verdict(&self, name: &str, uid: &str) -> Result<Option<Verdict>> {
        let pod = match self.find(name).await? {
            Some(pod) if pod.metadata.uid.as_deref() == Some(uid) => pod,
            _ => return Ok(Some(Verdict::new(Cause::Deleted, "", "the Pod was deleted"))),
        };
        let snapshot = PodSnapshot::of(&pod);
        match snapshot.verdict {
            Some(verdict) => self.explained(verdict, uid).await.map(Some),
            None if verdict::is_sound(&pod) => Ok(None),
            None => {
                // Without the right to read events, what the Pod says is all there is.
                let events = self.events(uid).await.unwrap_or_default();
                Ok(Some(worst_event(&events).unwrap_or_else(|| verdict::progress(&pod))))
            }
        }
    }

    /// The verdict on a sandbox that is gone, if it is.
    async fn deletion(&self, name: &str, uid: &str) -> Result<Option<Verdict>> {
        let deleted = || Verdict::new(Cause::Deleted, "", "the Pod was deleted");
        Ok((!self.is_there(name, uid).await?).then(deleted))
    }

    /// The cause behind an end that the Pod's status tells as an ordinary one. When the kubelet evicts a Pod whose main
    /// process ends with 0 at SIGTERM, only an event says so.
    pub(crate) async fn explained(&self, verdict: Verdict, uid: &str) -> Result<Verdict> {
        if verdict.cause != Cause::Exited {
            return Ok(verdict);
        }
        let events = self.events(uid).await.unwrap_or_default();
        let mut causes = events.iter().filter_map(|event| match verdict::of_event(event) {
            EventClass::Warning(cause) if matches!(cause.cause, Cause::Evicted | Cause::NodeLost) => Some(cause),
            _ => None,
        });
        Ok(causes.next().unwrap_or(verdict))
    }

    async fn events(&self, uid: &str) -> Result<Vec<Event>> {
        let params = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        let url = Event::url_path(&(), Some(self.namespace()));
        let list: ObjectList<Event> = self
            .api
            .send(&built(Request::new(url).list(&params))?, Duration::ZERO)
            .await
            .map_err(|failure| self.api.error(failure))?;
        Ok(list.items)
    }

    fn pods_url(&self) -> String {
        Pod::url_path(&(), Some(self.namespace()))
    }

    fn pods(&self) -> Request {
        Request::new(self.pods_url())
    }
}

/// The worst that the events tell, else the last warning.
fn worst_event(events: &[Event]) -> Option<Verdict> {
    let mut warning = None;
    for event in events {
        match verdict::of_event(event) {
            EventClass::Terminal(verdict) => return Some(verdict),
            EventClass::PullFailed(verdict, _) | EventClass::Warning(verdict) => warning = Some(verdict),
            EventClass::Started | EventClass::Nothing => {}
        }
    }
    warning
}

/// The beginning of what comes; a guest says no more than this.
async fn read_some(stream: Option<impl AsyncRead + Unpin>, text: &mut String) {
    if let Some(stream) = stream {
        let _ = stream.take(4096).read_to_string(text).await;
    }
}

fn absent(message: &'static str) -> Error {
    Error::new(ErrorKind::NotFound, message)
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (server, namespace) = (&self.api.server, &self.api.namespace);
        f.debug_struct("Cluster").field("server", server).field("namespace", namespace).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::thread::{JoinHandle, spawn};

    use serde_json::Value;

    use super::*;
    use crate::deadline::Deadline;
    use crate::guest::Guest;
    use crate::runtime::Runtime;
    use crate::spec::SandboxSpec;

    /// What the API server does with one request: it answers with a status, or hangs up.
    type Answer = Option<(u16, Value)>;

    /// In place of a status: the connection stays, and nothing is said.
    const SILENCE: u16 = 0;

    /// An API server that follows a script, and the requests that it got: method, path and query.
    fn api_server(script: Vec<Answer>) -> (Config, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(move || script.into_iter().map(|answer| serve(&listener, answer)).collect());
        let file = std::env::temp_dir().join(format!("sandbox-test-{}-{}", std::process::id(), address.port()));
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "namespace": "ns"}}],
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
        });
        std::fs::write(&file, kubeconfig.to_string()).unwrap();
        (Config::new().kubeconfig(file), server)
    }

    fn serve(listener: &TcpListener, answer: Answer) -> String {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut request = String::new();
        reader.read_line(&mut request).unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            match line.to_lowercase().trim().split_once(": ") {
                Some(("content-length", text)) => length = text.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        reader.read_exact(&mut vec![0; length]).unwrap();
        if let Some((code, body)) = answer {
            if code == SILENCE {
                // For as long as the tests run.
                std::mem::forget(stream);
                return request.trim_end_matches(" HTTP/1.1\r\n").to_owned();
            }
            let body = body.to_string();
            let date = "date: Fri, 02 Jan 2026 04:04:05 GMT\r\n";
            let head = format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\nconnection: close\r\n{date}", body.len());
            write!(stream, "{head}retry-after: 0\r\n\r\n{body}").unwrap();
        }
        request.trim_end_matches(" HTTP/1.1\r\n").to_owned()
    }

    fn run<T>(config: &Config, work: impl AsyncFnOnce(Cluster) -> Result<T>) -> Result<T> {
        let deadline = Deadline::after(Some(Duration::from_secs(20)));
        let result =
            Runtime::shared()?.block_on(deadline, "the test", async { work(Cluster::connect(config).await?).await });
        std::fs::remove_file(config.kubeconfig.as_ref().unwrap()).unwrap();
        result
    }

    fn pod_of(uid: &str, nonce: &str) -> Value {
        let labels = json!({names::MANAGED_BY: names::MANAGER, names::OWNER: "default"});
        json!({"metadata": {"name": "box", "uid": uid, "labels": labels, "annotations": {names::NONCE: nonce}}})
    }

    fn manifest(config: &Config) -> Manifest {
        let identity = PodIdentity {
            name: "box".into(),
            owner: "default",
            nonce: "mine".into(),
            public_key: "k",
            lifetime: None,
            expires_at: None,
            hard_limit: None,
            idle_timeout: None,
            guest: Guest::Image,
            membership: None,
        };
        super::pod(&SandboxSpec::new(), config, &identity).unwrap()
    }

    #[test]
    fn creates_once_though_answers_are_lost() {
        let exists = || Some((409, json!({"reason": "AlreadyExists", "message": "there is one"})));
        for (nonce, ours) in [("mine", true), ("another's", false)] {
            let script = vec![Some((503, json!("later"))), None, exists(), Some((200, pod_of("u", nonce)))];
            let (config, server) = api_server(script);
            let created = run(&config, async |cluster| {
                let created = cluster.create(&manifest(&config)).await;
                assert_eq!(cluster.api_requests(), 4);
                Ok(created)
            });
            match created.unwrap() {
                Ok(snapshot) => assert!(ours && snapshot.uid == "u"),
                Err(error) => assert!(!ours && error.kind() == ErrorKind::Conflict, "{error}"),
            }
            let post = "POST /api/v1/namespaces/ns/pods?fieldValidation=Strict";
            assert_eq!(server.join().unwrap(), [post, post, post, "GET /api/v1/namespaces/ns/pods/box"]);
        }
    }

    fn member_of(state: &str, claim: &str) -> Value {
        let mut pod = pod_of("u", "n");
        for (name, value) in [(names::POOL, "p"), (names::POOL_STATE, state), (names::POOL_SPEC, "0123")] {
            pod["metadata"]["labels"][name] = json!(value);
        }
        pod["metadata"]["annotations"][names::CLAIM] = json!(claim);
        pod["status"] = json!({"phase": "Running", "startTime": "2026-01-02T03:04:05Z"});
        pod
    }

    #[test]
    fn a_claim_whose_answer_is_lost_is_settled_by_a_look() {
        let version = || Some((200, json!({"major": "1", "minor": "34", "gitVersion": ""})));
        let failed_test = || Some((422, json!({"reason": "Invalid", "details": {}, "message": "the server rejected"})));
        let invalid =
            Some((422, json!({"reason": "Invalid", "details": {"kind": "Pod"}, "message": "labels: Invalid"})));
        let won = || Some((200, member_of("claimed", "mine")));
        // (what the API server does after it has told the time, how often it is asked, what comes of it)
        let cases: [(Vec<Answer>, std::result::Result<bool, ErrorKind>); 8] = [
            (vec![won()], Ok(true)),
            (vec![failed_test()], Ok(false)),
            (vec![Some((404, json!({"message": "gone"})))], Ok(false)),
            // The first attempt was it.
            (vec![None, failed_test(), won()], Ok(true)),
            (vec![None, failed_test(), Some((200, member_of("claimed", "another's")))], Ok(false)),
            // It never arrived.
            (vec![None, won()], Ok(true)),
            // Refused before anything was done, so somebody else was first.
            (vec![Some((429, json!({"message": "slowly"}))), failed_test()], Ok(false)),
            (vec![invalid], Err(ErrorKind::InvalidArgument)),
        ];
        for (number, (script, expected)) in cases.into_iter().enumerate() {
            let asked = script.len();
            let (config, server) = api_server([vec![version()], script].concat());
            let member = PodSnapshot::of(&serde_json::from_value(member_of("ready", "")).unwrap());
            let claimed = run(&config, async |cluster| {
                let claiming = Claiming {
                    id: "mine",
                    owner: "me",
                    labels: vec![],
                    annotations: vec![],
                    expires_at: None,
                    hard_limit: Some(Duration::from_secs(60)),
                };
                cluster.claim(&member, &claiming).await
            });
            assert_eq!(claimed.map(|found| found.is_some()).map_err(|e| e.kind()), expected, "case {number}");
            assert_eq!(server.join().unwrap().len(), 1 + asked, "case {number}");
        }
    }

    #[test]
    fn a_claimed_pod_that_has_ended_is_deleted_and_not_handed_out() {
        let mut ended = member_of("claimed", "mine");
        ended["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        let version = Some((200, json!({"major": "1", "minor": "34", "gitVersion": ""})));
        let (config, server) = api_server(vec![version, Some((200, ended.clone())), Some((200, ended))]);
        let member = PodSnapshot::of(&serde_json::from_value(member_of("ready", "")).unwrap());
        let claiming = Claiming {
            id: "mine",
            owner: "me",
            labels: vec![],
            annotations: vec![],
            expires_at: None,
            hard_limit: None,
        };
        assert!(run(&config, async |cluster| cluster.claim(&member, &claiming).await).unwrap().is_none());
        assert!(server.join().unwrap()[2].starts_with("DELETE "));
    }

    fn page(pods: &[(&str, u64)], next: &str) -> Answer {
        let items = pods.iter().map(|(name, second)| {
            let mut pod = pod_of("u", "n");
            pod["metadata"]["name"] = json!(name);
            pod["metadata"]["uid"] = json!(name);
            pod["metadata"]["creationTimestamp"] = json!(format!("2026-01-02T03:04:{second:02}Z"));
            pod
        });
        let items: Vec<_> = items.collect();
        Some((200, json!({"metadata": {"continue": next, "resourceVersion": "7"}, "items": items})))
    }

    #[test]
    fn lists_all_pages_the_oldest_first() {
        let (config, server) = api_server(vec![page(&[("b", 3), ("c", 1)], "two"), page(&[("a", 3)], "")]);
        let found = run(&config, async |cluster| cluster.matching(&Filter::new().label("a", "b")).await).unwrap();
        assert_eq!(found.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["c", "a", "b"]);
        let requests = server.join().unwrap();
        assert!(requests.iter().all(|request| request.contains("limit=500")), "{requests:?}");
        assert!(requests.iter().all(|request| request.contains("owner%2Ca%3Db")), "{requests:?}");
        assert!(requests[1].contains("continue=two"), "{requests:?}");
    }

    #[test]
    fn pages_that_are_too_old_are_had_anew() {
        let expired = |next: Value| Some((410, json!({"reason": "Expired", "metadata": next})));
        let names = |found: &[String]| found.join(" ");
        let select = |moment, script| {
            let (config, server) = api_server(script);
            let read = |pod: &Pod| pod.metadata.name.clone();
            let found = run(&config, async |cluster| cluster.select("a=b", moment, read).await).unwrap();
            assert_eq!(found.1, "7");
            (names(&found.0), server.join().unwrap())
        };
        // The API server says how it may go on with what there is now.
        let going_on = || vec![page(&[("a", 0)], "two"), expired(json!({"continue": "late"})), page(&[("c", 0)], "")];
        let (found, requests) = select(Moment::Any, going_on());
        assert!(
            found == "a c" && requests[2].contains("continue=late") && requests[2].contains("limit"),
            "{requests:?}"
        );
        // That is of no use for what has to be of one moment.
        let (found, requests) = select(Moment::One, going_on());
        assert!(found == "c" && !requests[2].contains("limit") && !requests[2].contains("continue"), "{requests:?}");
        let begins_again = vec![page(&[("a", 0)], "two"), expired(json!({})), page(&[("b", 0)], "")];
        let (found, requests) = select(Moment::Any, begins_again);
        assert!(found == "b" && !requests[2].contains("limit"), "{requests:?}");
    }

    fn event(kind: &str, object: Value) -> Answer {
        Some((200, json!({"type": kind, "object": object})))
    }

    fn version_of(request: &str) -> &str {
        request.split("resourceVersion=").nth(1).map_or("", |rest| rest.split('&').next().unwrap())
    }

    #[test]
    fn changes_go_on_behind_every_gap() {
        let pod = |version: &str| {
            let mut pod = pod_of("u", "n");
            pod["metadata"]["resourceVersion"] = json!(version);
            pod
        };
        let script = vec![
            // What is too old takes a look, what is only cut does not.
            event("ERROR", json!({"code": 410, "reason": "Expired", "message": "too old", "status": "Failure"})),
            page(&[("a", 0), ("b", 0)], ""),
            event("MODIFIED", pod("8")),
            None,
            event("BOOKMARK", json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "11"}})),
            event("DELETED", pod("12")),
            Some((403, json!({"code": 403, "message": "not allowed"}))),
        ];
        let (config, server) = api_server(script);
        let seen = run(&config, async |cluster| {
            let read = |pod: &Pod| pod.metadata.name.clone().unwrap_or_default();
            let which = changes::Which::Selected("a=b".to_owned());
            let mut changes = changes::Changes::new(&cluster, which, Some("5".to_owned()), read);
            let mut seen = Vec::new();
            while !matches!(&seen.last(), Some(Err(changes::Gap::Watch(e))) if e.http_status() == Some(403)) {
                seen.push(changes.next().await);
            }
            Ok(seen.into_iter().map(|seen| seen.map_err(|gap| gap.to_string())).collect::<Vec<_>>())
        });
        let (seen, requests) = (format!("{:?}", seen.unwrap()), server.join().unwrap());
        let expected = ["too old", r#"All(["a", "b"])"#, r#"Seen("box")"#, "reached", r#"Gone("box")"#, "not allowed"];
        let mut rest = &*seen;
        for text in expected {
            rest = rest.split_once(text).unwrap_or_else(|| panic!("no {text}: {seen}")).1;
        }
        let versions: Vec<_> = requests.iter().map(|request| version_of(request)).collect();
        assert_eq!(versions, ["5", "", "7", "8", "8", "11", "12"], "{requests:?}");
    }

    #[test]
    fn a_fleet_tells_each_change_once_also_behind_a_gap() {
        let pod = |name: &str, phase: &str| {
            let mut pod = pod_of(name, "n");
            pod["metadata"]["name"] = json!(name);
            pod["metadata"]["resourceVersion"] = json!("8");
            pod["status"] = json!({"phase": phase});
            pod
        };
        let gap = || Some((410, json!({"code": 410})));
        let script = vec![
            page(&[("b", 1), ("a", 0)], ""),
            // Nothing that anybody sees.
            event("MODIFIED", pod("a", "Pending")),
            event("MODIFIED", pod("a", "Running")),
            gap(),
            page(&[("b", 1), ("c", 2)], ""),
            event("DELETED", pod("b", "Pending")),
            // It does not fit any more, and then it does again.
            event("MODIFIED", pod("c", "Failed")),
            event("MODIFIED", pod("c", "Running")),
            // Who was allowed before may be again.
            Some((403, json!({"code": 403, "message": "not allowed"}))),
            Some((400, json!({"code": 400, "message": "no selector"}))),
        ];
        let (config, server) = api_server(script);
        let told = run(&config, async |cluster| {
            let fleet = cluster.fleet(&Filter::new().phase(Phase::Pending).phase(Phase::Running))?;
            let mut told = Vec::new();
            loop {
                match fleet.next().await {
                    Ok((kind, pod)) => told.push(format!("{kind} {}", pod.name)),
                    Err(e) => break Ok((told, e)),
                }
            }
        });
        let (told, error) = told.unwrap();
        assert_eq!(told.join(", "), "added a, added b, changed a, added c, removed a, removed b, removed c, added c");
        assert!(error.http_status() == Some(400), "{error}");
        server.join().unwrap();
        let (config, server) = api_server(vec![Some((403, json!({"code": 403, "message": "not allowed"})))]);
        let refused = run(&config, async |cluster| cluster.fleet(&Filter::new())?.next().await);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
        server.join().unwrap();
    }

    /// Uses one sandbox, and what it was told.
    struct User(parking_lot::Mutex<Vec<Verdict>>);

    impl Users for User {
        fn release(self: Arc<Self>) {}

        fn concerns(&self, standing: &Standing) -> bool {
            standing.uid == "u"
        }

        fn used(&self) -> Vec<Standing> {
            vec![Standing { name: "box".to_owned(), uid: "u".to_owned(), end: None }]
        }

        fn end(&self, name: &str, uid: &str, verdict: &Verdict) {
            assert_eq!((name, uid), ("box", "u"));
            self.0.lock().push(verdict.clone());
        }
    }

    /// What the user is told if the API server follows the script, once it has got all those requests.
    fn told(script: Vec<Answer>, is_widened: bool) -> (Vec<Verdict>, Vec<String>) {
        let (config, server) = api_server(script);
        let user = Arc::new(User(parking_lot::Mutex::default()));
        let requests = run(&config, async |cluster| {
            let users: std::sync::Weak<User> = Arc::downgrade(&user);
            let ends = cluster.follow_ends(users, "me", "5")?;
            if is_widened {
                ends.widen();
            }
            let requests = tokio::task::spawn_blocking(move || server.join().unwrap()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(600)).await;
            Ok(requests)
        });
        (user.0.lock().clone(), requests.unwrap())
    }

    #[test]
    fn a_watch_tells_of_ends_and_of_nothing_else() {
        let with = |name: &str, value: Value| {
            let mut pod = pod_of("u", "n");
            pod["metadata"]["resourceVersion"] = json!("6");
            pod[name] = value;
            pod
        };
        let running = json!([{"name": "sandbox", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {}}}]);
        let mut deleting = with("status", json!({"phase": "Running", "containerStatuses": running}));
        deleting["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        let failed = with("status", json!({"phase": "Failed", "reason": "Evicted", "message": "disk"}));
        let not_found = || Some((404, json!({"message": "gone"})));
        let forbidden = || Some((403, json!({"code": 403, "message": "not allowed"})));
        let over = || Some((400, json!({"code": 400, "message": "no selector"})));

        // It is used until its container has ended.
        let (seen, requests) = told(vec![event("MODIFIED", deleting.clone()), over()], false);
        assert!(seen.is_empty(), "{seen:?}");
        assert!(requests[0].contains("owner%3Dme"), "{requests:?}");
        let (seen, requests) = told(vec![event("MODIFIED", failed), over()], true);
        assert_eq!(seen.iter().map(|verdict| verdict.cause).collect::<Vec<_>>(), [Cause::Evicted]);
        assert!(!requests[1].contains("owner%3D"), "{requests:?}");
        // Gone from the watch, it may only have got another owner.
        let there = Some((200, pod_of("u", "n")));
        let (seen, _) = told(vec![event("DELETED", deleting.clone()), over(), there], false);
        assert!(seen.is_empty(), "{seen:?}");
        let (seen, _) = told(vec![event("DELETED", deleting), over(), not_found()], false);
        assert_eq!(seen.iter().map(|verdict| verdict.cause).collect::<Vec<_>>(), [Cause::Deleted]);
        // Nor is it in the list after a gap.
        let (seen, _) = told(vec![Some((410, json!({"code": 410}))), page(&[], ""), over(), not_found()], false);
        assert_eq!(seen.iter().map(|verdict| verdict.cause).collect::<Vec<_>>(), [Cause::Deleted]);
        // Without the right to watch, nothing more is asked.
        assert!(told(vec![forbidden()], false).0.is_empty());
    }

    #[test]
    fn age_is_by_the_clock_of_the_api_server() {
        // It says 04:04:05 on that day, and a little more.
        for (filter, expected) in [
            (Filter::new().older_than(Duration::from_millis(3_604_500)), "old"),
            (Filter::new().younger_than(Duration::from_millis(3_604_500)), "new"),
        ] {
            let (config, server) = api_server(vec![page(&[("new", 1), ("old", 0)], "")]);
            let found = run(&config, async |cluster| cluster.matching(&filter).await).unwrap();
            assert_eq!(found.iter().map(|one| &*one.name).collect::<Vec<_>>(), [expected]);
            server.join().unwrap();
        }
    }

    #[test]
    fn asks_again_when_there_is_no_answer() {
        let (config, server) = api_server(vec![Some((SILENCE, json!(null))), Some((200, pod_of("u", "n")))]);
        let found = run(&config, async |cluster| cluster.get("box").await).unwrap();
        assert_eq!((found.uid.as_str(), server.join().unwrap().len()), ("u", 2));
    }

    #[test]
    fn spares_another_pod_of_the_same_name() {
        let conflict = || Some((409, json!({"reason": "Conflict", "message": "the UID in the precondition"})));
        let (config, server) = api_server(vec![conflict(), Some((200, pod_of("other", "n")))]);
        let error = run(&config, async |cluster| cluster.delete("box", "u").await).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        server.join().unwrap();

        let (config, server) = api_server(vec![conflict(), Some((200, pod_of("other", "n")))]);
        run(&config, async |cluster| cluster.delete_soon("box", "u").await).unwrap();
        server.join().unwrap();
    }

    #[test]
    fn tells_quota_rejection_and_missing_rights_apart() {
        for (code, message, kind, cause) in [
            (403, "pods \"box\" is forbidden: exceeded quota: small", ErrorKind::Quota, Some(Cause::Quota)),
            (403, "violates PodSecurity \"restricted:latest\"", ErrorKind::Create, Some(Cause::Rejected)),
            (422, "spec.containers: Invalid value", ErrorKind::Create, Some(Cause::Rejected)),
            (404, "namespaces \"ns\" not found", ErrorKind::Create, Some(Cause::Rejected)),
            (403, "User \"me\" cannot create resource \"pods\"", ErrorKind::PermissionDenied, None),
            (401, "Unauthorized", ErrorKind::PermissionDenied, None),
        ] {
            let (config, server) = api_server(vec![Some((code, json!({"message": message})))]);
            let error = run(&config, async |cluster| cluster.create(&manifest(&config)).await).unwrap_err();
            assert_eq!((error.kind(), error.verdict().map(|verdict| verdict.cause)), (kind, cause), "{error}");
            assert_eq!(error.http_status(), Some(code));
            server.join().unwrap();
        }
    }
}
