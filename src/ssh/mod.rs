//! The SSH side: the only code that names ssh2 and libssh2. It runs on the caller's thread and is driven by deadlines.

pub(crate) mod commands;
mod frames;
pub(crate) mod identity;
pub(crate) mod pool;
pub(crate) mod ports;
mod raw;
pub(crate) mod session;
pub(crate) mod sftp;
pub(crate) mod stream;

pub(crate) use raw::init_openssl;
