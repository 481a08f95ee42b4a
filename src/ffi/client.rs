//! The client.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;

use super::boundary::{self, Text, require};
use super::command::sbx_output;
use super::config::sbx_config;
use super::error::{sbx_error, sbx_status};
use super::filter::sbx_filter;
use super::info::{sbx_info, sbx_info_list, sbx_name_list};
use super::sandbox::sbx_sandbox;
use super::spec::sbx_spec;
use crate::{Client, Config, SandboxSpec};

/// A connection to Kubernetes and everything that its sandboxes share. May be used from several threads at once. Freed
/// with sbx_client_free().
#[derive(Debug)]
pub struct sbx_client {
    client: Client,
    namespace: CString,
    max_sessions: usize,
}

impl sbx_client {
    pub(super) fn get(&self) -> &Client {
        &self.client
    }
}

/// Makes a client; `config` may be NULL for sbx_config_from_env(). Reads the service account or the kubeconfig. The
/// caller frees it with sbx_client_free().
///
/// SBX_ERR_CONFIG if a setting is not allowed, or no way to authenticate was found.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_new(
    config: Option<&sbx_config>,
    client: Option<&mut MaybeUninit<*mut sbx_client>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let place = require(client, "client")?;
        let config = match config {
            Some(config) => config.get().clone(),
            None => Config::from_env()?,
        };
        let max_sessions = config.max_sessions;
        let client = Client::new(config)?;
        boundary::write_handle(
            place,
            sbx_client { namespace: boundary::c_text(client.namespace()), max_sessions, client },
        );
        Ok(())
    })
}

/// The namespace of this client's sandboxes.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_namespace(client: Option<&sbx_client>) -> *const c_char {
    boundary::get_text(client, |client| Some(&client.namespace))
}

/// How many SSH sessions this client has to one sandbox at most: further callers wait for one, each in its thread. 0
/// for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_max_sessions(client: Option<&sbx_client>) -> usize {
    boundary::get(client, 0, |client| client.max_sessions)
}

/// How many HTTP requests this client has sent to the Kubernetes API server; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_api_requests(client: Option<&sbx_client>) -> u64 {
    boundary::get(client, 0, |client| client.client.stats().api_requests)
}

/// Creates a sandbox and waits until it is ready for commands; `spec` may be NULL for the defaults. A sandbox that
/// fails to start is deleted again. The caller frees the handle with sbx_sandbox_free(), and deletes the sandbox with
/// sbx_sandbox_delete().
///
/// SBX_ERR_CREATE with the cluster's verdict; SBX_ERR_QUOTA; SBX_ERR_CONFLICT if the name is taken; SBX_ERR_TIMED_OUT
/// with the last known state; SBX_ERR_PERMISSION_DENIED and SBX_ERR_UNAVAILABLE from the API server.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_create(
    client: Option<&sbx_client>,
    spec: Option<&sbx_spec>,
    sandbox: Option<&mut MaybeUninit<*mut sbx_sandbox>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (client, place) = (require(client, "client")?, require(sandbox, "sandbox")?);
        let sandbox = match spec {
            Some(spec) => client.client.create(spec.get())?,
            None => client.client.create(&SandboxSpec::new())?,
        };
        boundary::write_handle(place, sbx_sandbox::new(sandbox));
        Ok(())
    })
}

/// Makes a handle for the existing sandbox of this name. It takes one API call, or none if the client's cache has the
/// sandbox. The caller frees it with sbx_sandbox_free().
///
/// SBX_ERR_NOT_FOUND if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_attach(
    client: Option<&sbx_client>,
    name: Text,
    sandbox: Option<&mut MaybeUninit<*mut sbx_sandbox>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (client, name) = (require(client, "client")?, name.utf8("name")?);
        let place = require(sandbox, "sandbox")?;
        client.client.attach(name).map(|sandbox| boundary::write_handle(place, sbx_sandbox::new(sandbox)))
    })
}

/// Lists the sandboxes in the namespace that fit, the oldest first, and those of the same second by name; `filter` may
/// be NULL for all of them, whoever owns them. It takes one API call for every 500 that have the filter's owner and
/// labels. The caller frees the list with sbx_info_list_free().
///
/// SBX_ERR_INVALID_ARGUMENT if no Pod can have the owner or a label; SBX_ERR_PERMISSION_DENIED and SBX_ERR_UNAVAILABLE
/// from the API server.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_list(
    client: Option<&sbx_client>,
    filter: Option<&sbx_filter>,
    list: Option<&mut MaybeUninit<*mut sbx_info_list>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (client, place) = (require(client, "client")?, require(list, "list")?);
        let found = match filter {
            Some(filter) => client.client.find(filter.get())?,
            None => client.client.list()?,
        };
        boundary::write_handle(place, sbx_info_list::new(found));
        Ok(())
    })
}

/// Deletes every expired sandbox in the namespace, whoever owns it. It does not wait until the Pods are gone. `*names`
/// gets the names of the deleted sandboxes; the caller frees it with sbx_name_list_free(). `names` may be NULL.
///
/// Fails as sbx_client_list(), with the first error. The other sandboxes are deleted all the same.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_reap(
    client: Option<&sbx_client>,
    names: Option<&mut MaybeUninit<*mut sbx_name_list>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let reaped = require(client, "client")?.client.reap()?;
        if let Some(place) = names {
            boundary::write_handle(place, sbx_name_list::new(&reaped));
        }
        Ok(())
    })
}

/// Deletes a sandbox by name: sbx_client_attach() and sbx_sandbox_delete() in one.
///
/// SBX_ERR_NOT_FOUND if there is none of this name.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_delete_sandbox(
    client: Option<&sbx_client>,
    name: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(client, "client")?.client.delete_sandbox(name.utf8("name")?))
}

/// An alias of sbx_client_delete_sandbox().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_shutdown_sandbox(
    client: Option<&sbx_client>,
    name: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || require(client, "client")?.client.shutdown_sandbox(name.utf8("name")?))
}

/// Runs a command line in a sandbox by name: sbx_client_attach() and sbx_sandbox_execute() in one. `line` is UTF-8
/// here. The caller frees the output with sbx_output_free().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_execute_command(
    client: Option<&sbx_client>,
    name: Text,
    line: Text,
    output: Option<&mut MaybeUninit<*mut sbx_output>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (client, name, line) = (require(client, "client")?, name.utf8("name")?, line.utf8("line")?);
        let place = require(output, "output")?;
        client.client.execute_command(name, line).map(|output| boundary::write_handle(place, sbx_output::new(output)))
    })
}

/// Copies a local file into a sandbox by name: sbx_client_attach() and sbx_sandbox_upload_file() in one.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_upload_file(
    client: Option<&sbx_client>,
    name: Text,
    local: Text,
    remote: Text,
    size: Option<&mut MaybeUninit<u64>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (client, name) = (require(client, "client")?, name.utf8("name")?);
        let (local, remote) = (local.bytes("local")?, remote.bytes("remote")?);
        client.client.upload_file(name, local, remote).map(|bytes| boundary::write_out(size, bytes))
    })
}

/// Copies a file out of a sandbox by name: sbx_client_attach() and sbx_sandbox_download_file() in one.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_download_file(
    client: Option<&sbx_client>,
    name: Text,
    remote: Text,
    local: Text,
    size: Option<&mut MaybeUninit<u64>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (client, name) = (require(client, "client")?, name.utf8("name")?);
        let (remote, local) = (remote.bytes("remote")?, local.bytes("local")?);
        client.client.download_file(name, remote, local).map(|bytes| boundary::write_out(size, bytes))
    })
}

/// Asks Kubernetes about a sandbox by name: one API call. The caller frees the answer with sbx_info_free().
///
/// SBX_ERR_NOT_FOUND if there is none of this name.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_get_sandbox_info(
    client: Option<&sbx_client>,
    name: Text,
    info: Option<&mut MaybeUninit<*mut sbx_info>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (client, name, place) = (require(client, "client")?, name.utf8("name")?, require(info, "info")?);
        client.client.get_sandbox_info(name).map(|info| boundary::write_handle(place, sbx_info::new(info)))
    })
}

/// The SSH port of a sandbox by name, from the cache; the configured port for one that the cache does not know. 0 if an
/// argument is NULL or the name is not UTF-8.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_ssh_port(client: Option<&sbx_client>, name: Text) -> u16 {
    boundary::get(client, 0, |client| name.utf8("name").map_or(0, |name| client.client.ssh_port(name)))
}

/// Frees a client. Its sandboxes stay, and handles of them stay usable; its SSH sessions are closed when the last of
/// all these is freed. Freeing the last handle of all clients also stops the library's threads, and waits up to 3
/// seconds for them.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_free(client: Option<Box<sbx_client>>) {
    boundary::free(client);
}
