//! What Kubernetes says about sandboxes.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;

use super::boundary::{self, Text, c_text};
use super::error::{KeptVerdict, sbx_cause};
use crate::{Phase, SandboxInfo};

/// What Kubernetes says about a sandbox at one moment. Freed with sbx_info_free(), unless it belongs to an
/// sbx_info_list. May be read from several threads.
#[derive(Debug)]
pub struct sbx_info {
    name: CString,
    namespace: CString,
    uid: CString,
    phase: sbx_phase,
    owner: CString,
    image: CString,
    node: Option<CString>,
    pod_ip: Option<CString>,
    ssh_port: u16,
    ssh_user: CString,
    host_key: Option<CString>,
    created_at: Option<i64>,
    expires_at: Option<i64>,
    labels: Vec<(CString, CString)>,
    verdict: Option<KeptVerdict>,
}

impl sbx_info {
    pub(super) fn new(info: SandboxInfo) -> Self {
        Self {
            name: c_text(&info.name),
            namespace: c_text(&info.namespace),
            uid: c_text(&info.uid),
            phase: info.phase.into(),
            owner: c_text(&info.owner),
            image: c_text(&info.image),
            node: info.node.as_deref().map(c_text),
            pod_ip: info.pod_ip.map(|ip| c_text(&ip.to_string())),
            ssh_port: info.ssh_port,
            ssh_user: c_text(&info.ssh_user),
            host_key: info.host_key.as_deref().map(c_text),
            created_at: info.created_at.map(boundary::unix_time),
            expires_at: info.expires_at.map(boundary::unix_time),
            labels: info.labels.iter().map(|(name, value)| (c_text(name), c_text(value))).collect(),
            verdict: info.verdict.as_ref().map(KeptVerdict::from),
        }
    }
}

/// The phase of a Pod. A later version may have more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum sbx_phase {
    /// Kubernetes does not know the phase, or reports one that this library does not know.
    SBX_PHASE_UNKNOWN = 0,
    /// Accepted by Kubernetes; its container does not run yet.
    SBX_PHASE_PENDING = 1,
    /// Its container runs.
    SBX_PHASE_RUNNING = 2,
    /// It stopped with exit code 0.
    SBX_PHASE_SUCCEEDED = 3,
    /// It stopped in another way.
    SBX_PHASE_FAILED = 4,
    /// It is being deleted.
    SBX_PHASE_TERMINATING = 5,
}

impl From<Phase> for sbx_phase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Unknown => Self::SBX_PHASE_UNKNOWN,
            Phase::Pending => Self::SBX_PHASE_PENDING,
            Phase::Running => Self::SBX_PHASE_RUNNING,
            Phase::Succeeded => Self::SBX_PHASE_SUCCEEDED,
            Phase::Failed => Self::SBX_PHASE_FAILED,
            Phase::Terminating => Self::SBX_PHASE_TERMINATING,
        }
    }
}

pub(super) const PHASES: &[(i32, Phase)] = &[
    (sbx_phase::SBX_PHASE_UNKNOWN as i32, Phase::Unknown),
    (sbx_phase::SBX_PHASE_PENDING as i32, Phase::Pending),
    (sbx_phase::SBX_PHASE_RUNNING as i32, Phase::Running),
    (sbx_phase::SBX_PHASE_SUCCEEDED as i32, Phase::Succeeded),
    (sbx_phase::SBX_PHASE_FAILED as i32, Phase::Failed),
    (sbx_phase::SBX_PHASE_TERMINATING as i32, Phase::Terminating),
];

/// Name of the sandbox and of its Pod.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_name(info: Option<&sbx_info>) -> *const c_char {
    boundary::get_text(info, |info| Some(&info.name))
}

/// Namespace of the Pod.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_namespace(info: Option<&sbx_info>) -> *const c_char {
    boundary::get_text(info, |info| Some(&info.namespace))
}

/// Kubernetes' unique id of the Pod; another Pod of the same name has another one.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_uid(info: Option<&sbx_info>) -> *const c_char {
    boundary::get_text(info, |info| Some(&info.uid))
}

/// The phase of the Pod; SBX_PHASE_UNKNOWN for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_phase(info: Option<&sbx_info>) -> sbx_phase {
    boundary::get(info, sbx_phase::SBX_PHASE_UNKNOWN, |info| info.phase)
}

/// The owner that its creator was configured with.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_owner(info: Option<&sbx_info>) -> *const c_char {
    boundary::get_text(info, |info| Some(&info.owner))
}

/// The image it runs.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_image(info: Option<&sbx_info>) -> *const c_char {
    boundary::get_text(info, |info| Some(&info.image))
}

/// The node it runs on; NULL until one is chosen.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_node(info: Option<&sbx_info>) -> *const c_char {
    boundary::get_text(info, |info| info.node.as_deref())
}

/// The Pod's address as text; NULL until it has one.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_pod_ip(info: Option<&sbx_info>) -> *const c_char {
    boundary::get_text(info, |info| info.pod_ip.as_deref())
}

/// Port of the SSH server; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_ssh_port(info: Option<&sbx_info>) -> u16 {
    boundary::get(info, 0, |info| info.ssh_port)
}

/// User name for SSH.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_ssh_user(info: Option<&sbx_info>) -> *const c_char {
    boundary::get_text(info, |info| Some(&info.ssh_user))
}

/// The SSH server's host key, as OpenSSH writes it; NULL until it is pinned.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_host_key(info: Option<&sbx_info>) -> *const c_char {
    boundary::get_text(info, |info| info.host_key.as_deref())
}

/// True, and when it was created in `*unix_seconds`, if that is known. `unix_seconds` may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_created_at(info: Option<&sbx_info>, unix_seconds: Option<&mut MaybeUninit<i64>>) -> bool {
    boundary::get(info, false, |info| boundary::write_some(unix_seconds, info.created_at))
}

/// True, and when it expires in `*unix_seconds`, unless it never does. `unix_seconds` may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_expires_at(info: Option<&sbx_info>, unix_seconds: Option<&mut MaybeUninit<i64>>) -> bool {
    boundary::get(info, false, |info| boundary::write_some(unix_seconds, info.expires_at))
}

/// The value of the Pod's label `name`; NULL if it has no such label.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_label(info: Option<&sbx_info>, name: Text) -> *const c_char {
    boundary::get_text(info, |info| {
        let name = name.utf8("name").ok()?;
        info.labels.iter().find(|(known, _)| known.as_bytes() == name.as_bytes()).map(|(_, value)| &**value)
    })
}

/// How many labels the Pod has.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_label_count(info: Option<&sbx_info>) -> usize {
    boundary::get(info, 0, |info| info.labels.len())
}

/// The name of a label; `index` counts from 0. NULL beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_label_name_at(info: Option<&sbx_info>, index: usize) -> *const c_char {
    boundary::get_text(info, |info| info.labels.get(index).map(|(name, _)| &**name))
}

/// The value of a label; `index` counts from 0. NULL beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_label_value_at(info: Option<&sbx_info>, index: usize) -> *const c_char {
    boundary::get_text(info, |info| info.labels.get(index).map(|(_, value)| &**value))
}

/// Why the Pod has stopped or can't start; SBX_CAUSE_NONE if neither is the case.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_verdict_cause(info: Option<&sbx_info>) -> sbx_cause {
    boundary::get(info, sbx_cause::SBX_CAUSE_NONE, |info| {
        info.verdict.as_ref().map_or(sbx_cause::SBX_CAUSE_NONE, |verdict| verdict.cause)
    })
}

/// Kubernetes' own reason, such as "OOMKilled"; may be empty. NULL without a verdict.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_verdict_reason(info: Option<&sbx_info>) -> *const c_char {
    boundary::get_text(info, |info| info.verdict.as_ref().map(|verdict| verdict.reason.as_c_str()))
}

/// Kubernetes' explanation on one line; may be empty. NULL without a verdict.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_verdict_message(info: Option<&sbx_info>) -> *const c_char {
    boundary::get_text(info, |info| info.verdict.as_ref().map(|verdict| verdict.message.as_c_str()))
}

/// Frees an info that was not borrowed from a list.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_free(info: Option<Box<sbx_info>>) {
    boundary::free(info);
}

/// A list of infos. Freed with sbx_info_list_free(). May be read from several threads.
#[derive(Debug)]
pub struct sbx_info_list(Vec<sbx_info>);

impl sbx_info_list {
    pub(super) fn new(infos: Vec<SandboxInfo>) -> Self {
        Self(infos.into_iter().map(sbx_info::new).collect())
    }
}

/// How many infos the list has; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_list_count(list: Option<&sbx_info_list>) -> usize {
    boundary::get(list, 0, |list| list.0.len())
}

/// One of the list's infos, borrowed from the list; `index` counts from 0. NULL beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_list_at(list: Option<&sbx_info_list>, index: usize) -> *const sbx_info {
    boundary::get(list, ptr::null(), |list| list.0.get(index).map_or(ptr::null(), ptr::from_ref))
}

/// Frees a list and the infos in it.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_info_list_free(list: Option<Box<sbx_info_list>>) {
    boundary::free(list);
}

/// A list of names. Freed with sbx_name_list_free(). May be read from several threads.
#[derive(Debug)]
pub struct sbx_name_list(Vec<CString>);

impl sbx_name_list {
    pub(super) fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| c_text(name)).collect())
    }
}

/// How many names the list has; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_name_list_count(names: Option<&sbx_name_list>) -> usize {
    boundary::get(names, 0, |names| names.0.len())
}

/// One of the names, borrowed from the list; `index` counts from 0. NULL beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_name_list_at(names: Option<&sbx_name_list>, index: usize) -> *const c_char {
    boundary::get_text(names, |names| names.0.get(index).map(CString::as_c_str))
}

/// Frees a list of names.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_name_list_free(names: Option<Box<sbx_name_list>>) {
    boundary::free(names);
}
