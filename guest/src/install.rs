//! How the guest gets into an image that does not have it: its own image's init container copies it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

const NAME: &str = "sandbox-guest";
/// Only to be executed: a process of a program that can't be read is not dumpable, so nothing of the same user can take
/// it over.
const MODE: u32 = 0o111;
/// For runtimes that execute only what they can read, such as gVisor.
const READABLE_MODE: u32 = 0o555;

/// Copies this program into a directory, so that it can be executed and, if that is wanted, read.
///
/// # Errors
/// What is in the way, as text.
pub fn install(directory: &Path, is_readable: bool) -> Result<(), String> {
    let mode = if is_readable { READABLE_MODE } else { MODE };
    let target = directory.join(NAME);
    // Beside it first: what is executed there is never half a program.
    let part = directory.join(format!(".{NAME}.{}", std::process::id()));
    let result = copy(&part, mode).and_then(|()| fs::rename(&part, &target));
    if result.is_err() {
        let _ = fs::remove_file(&part);
    }
    result.map_err(|e| format!("{} can't be written: {e}", target.display()))
}

fn copy(part: &Path, mode: u32) -> io::Result<()> {
    let mut source = File::open("/proc/self/exe")?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part)?;
    io::copy(&mut source, &mut target)?;
    target.set_permissions(PermissionsExt::from_mode(mode))
}
