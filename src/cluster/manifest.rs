//! From what the caller wants to the Pod in JSON.
//!
//! It stays JSON, so that a Pod template reaches fields which our types don't know yet.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use openssl::sha::sha256;
use serde_json::{Map, Value, json};

use super::names::{
    CONTAINER, EXPIRES_AT, MANAGED_BY, MANAGER, NONCE, OWNER, POOL, POOL_SINCE, POOL_SPEC, POOL_STATE, POOL_UNTIL,
    SSH_PORT, SSH_USER,
};
use super::pod::{Membership, time_text};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::guest::{self, Guest};
use crate::spec::SandboxSpec;
use crate::text::hex;

/// Prefix of the labels and annotations that are ours.
const OURS: &str = "sandbox/";
/// The container that brings the guest along, and the volume in which it is.
const GUEST: &str = "sandbox-guest";
const USER_ID: u32 = 1000;

/// What the client adds to a spec.
#[derive(Debug)]
pub(crate) struct PodIdentity<'a> {
    pub(crate) name: String,
    /// Whose it is.
    pub(crate) owner: &'a str,
    /// Tells a create that is repeated from one of somebody else.
    pub(crate) nonce: String,
    /// One line in OpenSSH's form.
    pub(crate) public_key: &'a str,
    /// How long it lives; `None` for ever.
    pub(crate) lifetime: Option<Duration>,
    /// The end of that by the API server's clock, for those who look at the Pod.
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) hard_limit: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    /// How the guest gets in, resolved.
    pub(crate) guest: Guest,
    /// The pool that it is made for.
    pub(crate) membership: Option<Membership>,
}

/// A Pod that can be created.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(super) name: String,
    pub(super) nonce: String,
    pub(super) pod: Value,
}

/// The Pod for `spec`.
pub(crate) fn pod(spec: &SandboxSpec, config: &Config, identity: &PodIdentity<'_>) -> Result<Manifest> {
    check(spec, identity)?;
    let mut pod = made(spec, config, identity);
    if let Some(template) = &spec.pod_template {
        merge_pod(&mut pod, template)?;
    }
    insist(&mut pod, spec, config, identity)?;
    add_guest(&mut pod, config, identity)?;
    Ok(Manifest { name: identity.name.clone(), nonce: identity.nonce.clone(), pod })
}

/// Stands for what the Pods of `spec` are made of: those of two specs with the same one can't be told apart.
pub(crate) fn fingerprint(spec: &SandboxSpec, config: &Config, guest: Guest) -> Result<String> {
    const DIGITS: usize = 10;
    let identity = PodIdentity {
        name: "a".to_owned(),
        owner: "",
        nonce: String::new(),
        public_key: "",
        lifetime: None,
        expires_at: None,
        hard_limit: None,
        idle_timeout: None,
        guest,
        membership: None,
    };
    let pod = pod(spec, config, &identity)?.pod;
    let mut digits = hex(&sha256(pod.to_string().as_bytes()));
    digits.truncate(DIGITS);
    Ok(digits)
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

fn check(spec: &SandboxSpec, identity: &PodIdentity<'_>) -> Result<()> {
    let name = identity.name.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends_well = name.first().is_some_and(plain) && name.last().is_some_and(plain);
    if name.len() > 63 || !ends_well || !name.iter().all(|byte| plain(byte) || *byte == b'-') {
        return Err(invalid(format!(
            "the name {:?} is invalid: it must have 1 to 63 lower-case letters, digits and '-', and not begin or end with '-'",
            identity.name
        )));
    }
    check_env(&spec.env)?;
    if spec.idle_timeout == Some(Duration::ZERO) {
        return Err(invalid("a sandbox with an idle timeout of 0 would end before it could be used"));
    }
    if let Some(user) = &spec.commands_as {
        if user.is_empty() || user.contains('\0') {
            return Err(invalid(format!("{user:?} can't be the user of commands")));
        }
        if spec.user_from_cluster {
            return Err(invalid(
                "commands have a user of their own only where the sandbox's user is root, not the cluster's",
            ));
        }
    }
    check_keys(spec.labels.keys().chain(spec.annotations.keys()))
}

/// Labels and annotations of the caller's must not be ours.
pub(crate) fn check_keys<'a>(mut keys: impl Iterator<Item = &'a String>) -> Result<()> {
    match keys.find(|key| is_reserved(key)) {
        Some(key) => Err(invalid(format!("the label or annotation {key:?} is set by this library"))),
        None => Ok(()),
    }
}

/// Whether these can be environment variables.
pub(crate) fn check_env(env: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(invalid(format!("{name:?} can't be the name of an environment variable")));
        }
        if value.contains('\0') {
            return Err(invalid(format!("the environment variable {name} has a NUL in its value")));
        }
    }
    Ok(())
}

fn is_reserved(key: &str) -> bool {
    key.starts_with(OURS) || key == MANAGED_BY
}

/// The Pod without the caller's template.
fn made(spec: &SandboxSpec, config: &Config, identity: &PodIdentity<'_>) -> Value {
    let env: Vec<_> = spec.env.iter().map(|(name, value)| json!({"name": name, "value": literal(value)})).collect();
    let mut limits = BTreeMap::from([("cpu", &spec.cpu), ("memory", &spec.memory)]);
    let mut requests = BTreeMap::from([("cpu", spec.cpu_request.clone()), ("memory", spec.memory_request.clone())]);
    if let Some(disk) = &spec.disk {
        limits.insert("ephemeral-storage", disk);
        // Without it the limit would be what the scheduler sets aside.
        requests.insert("ephemeral-storage", "0".into());
    }
    let mut pod_security = json!({
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let mut capabilities = json!({"drop": ["ALL"]});
    if spec.commands_as.is_some() {
        pod_security["runAsNonRoot"] = json!(false);
        // To take on the user, and to end what belongs to it.
        capabilities["add"] = json!(["KILL", "SETGID", "SETUID"]);
    }
    if !spec.user_from_cluster {
        let id = if spec.commands_as.is_some() { 0 } else { USER_ID };
        pod_security["runAsUser"] = json!(id);
        pod_security["runAsGroup"] = json!(id);
    }
    if config.ssh_port < 1024 {
        pod_security["sysctls"] = json!([{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]);
    }
    let mut pod_spec = json!({
        "containers": [{
            "name": CONTAINER,
            "image": spec.image.as_ref().unwrap_or(&config.image),
            "env": env,
            "resources": {"limits": limits, "requests": requests},
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": capabilities,
            },
        }],
        "securityContext": pod_security,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        // A container that is started again would have another host key, and a lifetime that begins anew.
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
    });
    if let Some(limit) = identity.hard_limit {
        let seconds = whole_seconds(limit);
        // The API server's largest.
        pod_spec["activeDeadlineSeconds"] = json!(seconds.clamp(1, i32::MAX as u64));
    }
    if let Some(class) = &spec.runtime_class {
        pod_spec["runtimeClassName"] = json!(class);
    }
    if !spec.node_selector.is_empty() {
        pod_spec["nodeSelector"] = json!(spec.node_selector);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": spec.labels, "annotations": spec.annotations},
        "spec": pod_spec,
    })
}

/// Text as Kubernetes must be given it to hand it on unchanged: it replaces `$(NAME)` and `$$` in values and arguments.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// Puts `template` over `pod`. The containers are merged by name as far as the sandbox's own is concerned.
fn merge_pod(pod: &mut Value, template: &Value) -> Result<()> {
    let mut template = template.clone();
    let own = pod["spec"]["containers"][0].clone();
    let given = template.get_mut("spec").and_then(Value::as_object_mut).and_then(|spec| spec.remove("containers"));
    merge(pod, template);
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return Err(invalid("the Pod template's spec is not an object"));
    };
    let mut containers = vec![own];
    match given {
        None => {}
        Some(Value::Array(given)) => {
            for container in given {
                if container["name"] == CONTAINER {
                    merge(&mut containers[0], container)
                } else {
                    containers.push(container)
                }
            }
        }
        Some(_) => return Err(invalid("the Pod template's spec.containers is not a list")),
    }
    spec.insert("containers".into(), Value::Array(containers));
    Ok(())
}

/// A merge patch after RFC 7386: objects are merged, `null` removes, everything else replaces.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().and_then(|target| target.remove(&key));
        } else {
            merge(&mut target[key], value);
        }
    }
}

/// Sets what makes the Pod one of ours, whatever the template says.
fn insist(pod: &mut Value, spec: &SandboxSpec, config: &Config, identity: &PodIdentity<'_>) -> Result<()> {
    let expiry = identity.expires_at.map(time_text);
    let membership = identity.membership.as_ref();
    let annotations = [
        (POOL_SINCE, membership.and_then(|membership| membership.since).map(time_text)),
        (POOL_UNTIL, membership.and_then(|membership| membership.until).map(time_text)),
        (NONCE, Some(identity.nonce.clone())),
        (EXPIRES_AT, expiry),
        (SSH_USER, Some(config.ssh_user.clone())),
        (SSH_PORT, Some(config.ssh_port.to_string())),
    ];
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    if pod["spec"]["restartPolicy"] != "Never" {
        return Err(invalid(
            "the Pod template's restartPolicy is not Never: a sandbox that has ended does not come back",
        ));
    }
    let is_readable = needs_readable_guest(pod);
    let container = &mut pod["spec"]["containers"][0];
    if !container["restartPolicy"].is_null() || !container["restartPolicyRules"].is_null() {
        return Err(invalid(
            "the Pod template gives the sandbox's container a restart policy: a sandbox that has ended does not come back",
        ));
    }
    container["command"] = json!(guest_command(spec, config, identity, is_readable));
    object(container, "the sandbox's container")?.remove("args");
    if pod["metadata"].is_null() {
        pod["metadata"] = json!({});
    }
    let metadata = object(&mut pod["metadata"], "metadata")?;
    metadata.insert("name".into(), json!(identity.name));
    metadata.remove("namespace");
    metadata.remove("generateName");
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    let labels = object(labels, "metadata.labels")?;
    labels.insert(MANAGED_BY.into(), json!(MANAGER));
    labels.insert(OWNER.into(), json!(identity.owner));
    labels.retain(|key, _| !key.starts_with(POOL));
    if let Some(Membership { pool, state, spec, .. }) = membership {
        labels.extend([
            (POOL.to_owned(), json!(pool)),
            (POOL_STATE.to_owned(), json!(state.as_str())),
            (POOL_SPEC.to_owned(), json!(spec)),
        ]);
    }
    let given = metadata.entry("annotations").or_insert_with(|| json!({}));
    let given = object(given, "metadata.annotations")?;
    given.retain(|key, _| !is_reserved(key));
    given.extend(annotations.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value?)))));
    Ok(())
}

/// Rounded up: nothing ends before its time.
fn whole_seconds(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0))
}

/// How the guest is started.
fn guest_command(spec: &SandboxSpec, config: &Config, identity: &PodIdentity<'_>, is_readable: bool) -> Vec<String> {
    let mut words = vec![identity.guest.program(is_readable), "serve".to_owned()];
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), literal(&value)]);
    option("--port", config.ssh_port.to_string());
    option("--user", config.ssh_user.clone());
    option("--key", identity.public_key.to_owned());
    if let Some(user) = &spec.commands_as {
        option("--commands-as", user.clone());
    }
    if let Some(lifetime) = identity.lifetime {
        option("--lifetime", whole_seconds(lifetime).to_string());
    }
    if let Some(limit) = identity.hard_limit {
        option("--hard-limit", whole_seconds(limit).to_string());
    }
    if let Some(timeout) = identity.idle_timeout {
        option("--idle-timeout", whole_seconds(timeout).to_string());
    }
    words
}

/// Whether the runtime may be one that executes only what it can read. Only the caller knows; any other than the
/// cluster's own may.
fn needs_readable_guest(pod: &Value) -> bool {
    !pod["spec"]["runtimeClassName"].is_null()
}

/// Adds the volume with the guest, and the container that fills it.
fn add_guest(pod: &mut Value, config: &Config, identity: &PodIdentity<'_>) -> Result<()> {
    let image = &config.guest_image;
    let is_readable = needs_readable_guest(pod);
    let volume = match identity.guest {
        Guest::Auto | Guest::Image => return Ok(()),
        Guest::Volume => json!({"name": GUEST, "image": {"reference": image}}),
        Guest::Copy => json!({"name": GUEST, "emptyDir": {"sizeLimit": "64Mi"}}),
    };
    push(&mut pod["spec"]["volumes"], "spec.volumes", volume)?;
    let container = &mut pod["spec"]["containers"][0];
    let resources = container["resources"].clone();
    let security = container["securityContext"].clone();
    // Read-only: what is in there is the sandbox's main process.
    let mount = json!({"name": GUEST, "mountPath": guest::MOUNT, "readOnly": true});
    push(&mut container["volumeMounts"], "the sandbox's volumeMounts", mount)?;
    if identity.guest == Guest::Copy {
        // It copies itself, so it has to be able to read itself.
        let mut command = vec![guest::in_image(true), "install"];
        command.extend(is_readable.then_some("--readable"));
        command.push(guest::MOUNT);
        let copier = json!({
            "name": GUEST,
            "image": image,
            "command": command,
            // Kubernetes says then why it failed.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "resources": resources,
            "securityContext": security,
            "volumeMounts": [{"name": GUEST, "mountPath": guest::MOUNT}],
        });
        push(&mut pod["spec"]["initContainers"], "spec.initContainers", copier)?;
    }
    Ok(())
}

fn push(list: &mut Value, name: &str, value: Value) -> Result<()> {
    if list.is_null() {
        *list = json!([]);
    }
    let list = list.as_array_mut().ok_or_else(|| invalid(format!("the Pod template's {name} is not a list")))?;
    list.push(value);
    Ok(())
}

fn object<'a>(value: &'a mut Value, name: &str) -> Result<&'a mut Map<String, Value>> {
    value.as_object_mut().ok_or_else(|| invalid(format!("the Pod template's {name} is not an object")))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn identity() -> PodIdentity<'static> {
        PodIdentity {
            name: "box".into(),
            owner: "default",
            nonce: "n1".into(),
            public_key: "ssh-ed25519 AAAA",
            lifetime: Some(Duration::from_secs(60)),
            expires_at: Some(UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
            hard_limit: Some(Duration::from_millis(1500)),
            idle_timeout: Some(Duration::from_secs(5)),
            guest: Guest::Image,
            membership: None,
        }
    }

    fn made_of(spec: &SandboxSpec) -> Value {
        pod(spec, &Config::new(), &identity()).unwrap().pod
    }

    fn templated(template: &Value) -> Result<Value> {
        let spec = SandboxSpec::new().pod_template(&template.to_string()).unwrap();
        pod(&spec, &Config::new(), &identity()).map(|manifest| manifest.pod)
    }

    /// What Kubernetes makes of a value or an argument if no variable in it is defined.
    fn expanded(text: &str) -> String {
        text.replace("$$", "$")
    }

    #[test]
    fn hands_texts_on_unchanged() {
        let pod = made_of(&SandboxSpec::new().env("ODD", "$(HOME) $$ $"));
        let container = &pod["spec"]["containers"][0];
        assert_eq!(expanded(container["env"][0]["value"].as_str().unwrap()), "$(HOME) $$ $");
        let command: Vec<_> =
            container["command"].as_array().unwrap().iter().map(|v| expanded(v.as_str().unwrap())).collect();
        let identity = ["--port", "2222", "--user", "sandbox", "--key", "ssh-ed25519 AAAA"];
        let limits = ["--lifetime", "60", "--hard-limit", "2", "--idle-timeout", "5"];
        assert_eq!(command, [&["/sandbox-guest", "serve"][..], &identity, &limits].concat());
    }

    #[test]
    fn is_restricted() {
        let pod = made_of(&SandboxSpec::new());
        let (spec, container) = (&pod["spec"], &pod["spec"]["containers"][0]);
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
        assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(spec["automountServiceAccountToken"], false);
        assert_eq!(spec["activeDeadlineSeconds"], 2);
        assert!(spec["securityContext"]["sysctls"].is_null());
        let low_port = super::pod(&SandboxSpec::new(), &Config::new().ssh_port(22), &identity()).unwrap().pod;
        assert!(low_port["spec"]["securityContext"]["sysctls"].is_array());
    }

    #[test]
    fn brings_the_guest_along() {
        let with = |guest, template: &Value| {
            let spec = SandboxSpec::new().pod_template(&template.to_string()).unwrap();
            pod(&spec, &Config::new(), &PodIdentity { guest, ..identity() }).map(|manifest| manifest.pod)
        };
        let volumes = json!({"spec": {"volumes": [{"name": "mine"}]}});
        let pod = with(Guest::Volume, &volumes).unwrap();
        assert_eq!(pod["spec"]["volumes"][0]["name"], "mine");
        assert_eq!(pod["spec"]["volumes"][1]["image"]["reference"], "localhost/sandbox-guest:dev");
        assert!(pod["spec"]["initContainers"].is_null());
        let own = &pod["spec"]["containers"][0];
        let mounted = json!("/.sandbox/sandbox-guest");
        assert_eq!((&own["command"][0], &own["volumeMounts"][0]["readOnly"]), (&mounted, &json!(true)));

        let pod = with(Guest::Copy, &volumes).unwrap();
        let copier = &pod["spec"]["initContainers"][0];
        assert_eq!(copier["command"], json!(["/sandbox-guest-readable", "install", guest::MOUNT]));
        assert_eq!(copier["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(copier["resources"], pod["spec"]["containers"][0]["resources"]);

        let error = with(Guest::Copy, &json!({"spec": {"volumes": {}}})).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);

        // Where it may have to be readable.
        let other_runtime = json!({"spec": {"runtimeClassName": "gvisor"}});
        for (way, expected) in [
            (Guest::Image, "/sandbox-guest-readable"),
            (Guest::Volume, "/.sandbox/sandbox-guest-readable"),
            (Guest::Copy, "/.sandbox/sandbox-guest"),
        ] {
            assert_eq!(with(way, &other_runtime).unwrap()["spec"]["containers"][0]["command"][0], expected);
        }
        let copier = &with(Guest::Copy, &other_runtime).unwrap()["spec"]["initContainers"][0];
        assert_eq!(copier["command"], json!(["/sandbox-guest-readable", "install", "--readable", guest::MOUNT]));
    }

    #[test]
    fn leaves_the_user_to_the_cluster() {
        let security = |spec: &SandboxSpec| made_of(spec)["spec"]["securityContext"].clone();
        assert_eq!(security(&SandboxSpec::new())["runAsUser"], USER_ID);
        let security = security(&SandboxSpec::new().user_from_cluster());
        assert!(security["runAsUser"].is_null() && security["runAsGroup"].is_null());
        assert_eq!(security["runAsNonRoot"], true);
    }

    #[test]
    fn gives_commands_a_user_of_their_own() {
        let pod = made_of(&SandboxSpec::new().commands_as("$dev"));
        let container = &pod["spec"]["containers"][0];
        assert_eq!(pod["spec"]["securityContext"]["runAsUser"], 0);
        assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], false);
        let capabilities = json!({"drop": ["ALL"], "add": ["KILL", "SETGID", "SETUID"]});
        assert_eq!(container["securityContext"]["capabilities"], capabilities);
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        let command = container["command"].as_array().unwrap();
        assert!(command.windows(2).any(|pair| pair == [json!("--commands-as"), json!("$$dev")]), "{command:?}");
        for wrong in [SandboxSpec::new().commands_as(""), SandboxSpec::new().commands_as("a").user_from_cluster()] {
            let error = super::pod(&wrong, &Config::new(), &identity()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn merges_a_template() {
        let pod = templated(&json!({
            "metadata": {"name": "other", "labels": {"team": "a", OWNER: "thief"}, "annotations": {NONCE: "stolen", "note": "b"}},
            "spec": {
                "securityContext": {"sysctls": null, "fsGroup": 5},
                "tolerations": [{"operator": "Exists"}],
                "containers": [
                    {"name": "helper", "image": "h"},
                    {"name": "sandbox", "command": ["true"], "args": ["x"], "resources": {"limits": {"memory": null}}},
                ],
            },
        }))
        .unwrap();
        assert_eq!(pod["metadata"]["name"], "box");
        assert_eq!(pod["metadata"]["labels"], json!({"team": "a", OWNER: "default", MANAGED_BY: MANAGER}));
        assert_eq!(pod["metadata"]["annotations"][NONCE], "n1");
        assert_eq!(pod["metadata"]["annotations"]["note"], "b");
        assert_eq!(pod["spec"]["securityContext"]["fsGroup"], 5);
        assert!(pod["spec"]["securityContext"]["sysctls"].is_null());
        assert_eq!(pod["spec"]["securityContext"]["runAsUser"], USER_ID);
        let [own, helper] = pod["spec"]["containers"].as_array().unwrap().as_slice() else { panic!("{pod}") };
        assert_eq!((own["name"].as_str(), helper["name"].as_str()), (Some(CONTAINER), Some("helper")));
        assert_eq!(own["command"][0], "/sandbox-guest");
        assert!(own["args"].is_null() && own["resources"]["limits"]["memory"].is_null());
        assert_eq!(own["resources"]["limits"]["cpu"], "1");
    }

    #[test]
    fn refuses_what_can_not_be_meant() {
        for template in [
            json!({"spec": 1}),
            json!({"spec": {"containers": {}}}),
            json!({"spec": {"containers": [{"name": "sandbox", "env": 1}, 7]}, "metadata": []}),
            json!({"metadata": {"labels": 5}}),
            json!({"spec": {"restartPolicy": "Always"}}),
            json!({"spec": {"restartPolicy": "OnFailure"}}),
            json!({"spec": {"restartPolicy": null}}),
            json!({"spec": {"containers": [{"name": "sandbox", "restartPolicy": "Always"}]}}),
            json!({"spec": {"containers": [{"name": "sandbox", "restartPolicyRules": []}]}}),
        ] {
            assert_eq!(templated(&template).unwrap_err().kind(), ErrorKind::InvalidArgument, "{template}");
        }
        // Removing everything around them leaves our own labels and annotations.
        assert_eq!(templated(&json!({"metadata": null})).unwrap()["metadata"]["name"], "box");

        for spec in [
            SandboxSpec::new().env("", "x"),
            SandboxSpec::new().env("A=B", "x"),
            SandboxSpec::new().env("A", "x\0y"),
            SandboxSpec::new().label("sandbox/owner", "me"),
            SandboxSpec::new().annotation(MANAGED_BY, "me"),
        ] {
            assert_eq!(pod(&spec, &Config::new(), &identity()).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        for name in ["", "-a", "a-", "A", "a.b", "a/b", &"a".repeat(64)] {
            let identity = PodIdentity { name: name.into(), ..identity() };
            let error = pod(&SandboxSpec::new(), &Config::new(), &identity).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name}");
        }
    }
}
