//! Python's SSH clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter of an environment with the packages.
pub(crate) fn environment() -> PathBuf {
    static ENVIRONMENT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let environment = ENVIRONMENT.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ssh-clients");
        let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ssh/python/requirements.txt");
        let installed = directory.join("installed.txt");
        let wanted = fs::read(&requirements).expect("the requirements");
        if fs::read(&installed).ok() != Some(wanted) {
            let done = |command: &mut Command| {
                let output = command.output().expect("python runs");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            };
            done(Command::new("python3").args(["-m", "venv"]).arg(&directory));
            done(Command::new(directory.join("bin/pip")).args(["install", "--quiet", "-r"]).arg(&requirements));
            fs::copy(requirements, installed).expect("a copy");
        }
        directory
    });
    environment.join("bin/python")
}
