//! The names that make a Pod one of this library's: labels, annotations, the container.
//!
//! The prefix is the library's name, since it has no domain of its own, and one that is made up could be somebody
//! else's. `sandbox/owner` beside `managed-by` is what tells its Pods from those of another tool called `sandbox`.

pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub(crate) const MANAGER: &str = "sandbox";
pub(crate) const OWNER: &str = "sandbox/owner";
pub(crate) const NONCE: &str = "sandbox/nonce";
pub(crate) const EXPIRES_AT: &str = "sandbox/expires-at";
pub(crate) const HOST_KEY: &str = "sandbox/host-key";
pub(crate) const SSH_USER: &str = "sandbox/ssh-user";
pub(crate) const SSH_PORT: &str = "sandbox/ssh-port";
/// The pool that a Pod was made for; also after it was claimed.
pub(crate) const POOL: &str = "sandbox/pool";
pub(crate) const POOL_STATE: &str = "sandbox/pool-state";
/// Stands for the spec that a member was made from.
pub(crate) const POOL_SPEC: &str = "sandbox/pool-spec";
/// When the one who made a member began to fill the pool.
pub(crate) const POOL_SINCE: &str = "sandbox/pool-since";
/// When a member that is still not ready has been given up, unless its maker moves that.
pub(crate) const POOL_UNTIL: &str = "sandbox/pool-until";
/// Tells a claim that is repeated from one of somebody else.
pub(crate) const CLAIM: &str = "sandbox/claim";
/// Name of the container that is the sandbox.
pub(crate) const CONTAINER: &str = "sandbox";
