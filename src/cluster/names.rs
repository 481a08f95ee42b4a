//! The names that make a Pod one of this library's: labels, annotations, the container.

pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub(crate) const MANAGER: &str = "sandbox";
pub(crate) const OWNER: &str = "sandbox/owner";
pub(crate) const NONCE: &str = "sandbox/nonce";
pub(crate) const EXPIRES_AT: &str = "sandbox/expires-at";
pub(crate) const HOST_KEY: &str = "sandbox/host-key";
pub(crate) const SSH_USER: &str = "sandbox/ssh-user";
pub(crate) const SSH_PORT: &str = "sandbox/ssh-port";
/// Name of the container that is the sandbox.
pub(crate) const CONTAINER: &str = "sandbox";
