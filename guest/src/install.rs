//! How the guest gets into an image that does not have it: its own image's init container copies it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

const NAME: &str = "sandbox-guest";
/// Only to be executed: a process of a program that can't be read is not dumpable, so nothing of the same user can take it over.
const MODE: u32 = 0o111;

/// Copies this program into a directory.
///
/// # Errors
/// What is in the way, as text.
pub fn install(directory: &Path) -> Result<(), String> {
    let target = directory.join(NAME);
    // Beside it first: what is executed there is never half a program.
    let part = directory.join(format!(".{NAME}.{}", std::process::id()));
    let result = copy(&part).and_then(|()| fs::rename(&part, &target));
    if result.is_err() {
        let _ = fs::remove_file(&part);
    }
    result.map_err(|e| format!("{} can't be written: {e}", target.display()))
}

fn copy(part: &Path) -> io::Result<()> {
    let mut source = File::open("/proc/self/exe")?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part)?;
    io::copy(&mut source, &mut target)?;
    target.set_permissions(PermissionsExt::from_mode(MODE))
}
