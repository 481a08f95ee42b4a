//! `sandbox cp`: files and directories, one way or the other.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sandbox::{Client, Error, ErrorKind, Progress, Result, Transferred, TreeReport};
use serde_json::{Value, json};

use crate::arguments::Copy;
use crate::output::{self, Failure, plain};
use crate::signals::Interruption;

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Here(&'a Path),
    Sandbox { name: &'a str, path: &'a Path },
}

enum Report {
    File(Transferred),
    Tree(TreeReport),
}

pub(crate) fn copy(client: &Client, copy: &Copy, is_json: bool) -> std::result::Result<(), Failure> {
    let (name, local, remote, is_upload) = match (Place::of(&copy.source), Place::of(&copy.target)) {
        (Place::Here(local), Place::Sandbox { name, path }) => (name, local, path, true),
        (Place::Sandbox { name, path }, Place::Here(local)) => (name, local, path, false),
        _ => return Err(Failure::here("one of SRC and DST is here, and the other one is NAME:PATH").with_code(2)),
    };
    check_no_home(remote.as_os_str())?;
    let sandbox = client.attach(name)?;
    let files = sandbox.files();
    let is_directory_there = |path: &Path| match files.metadata(path) {
        Ok(found) => Ok(found.is_dir()),
        Err(e) if e.kind() == ErrorKind::FileNotFound => Ok(false),
        Err(e) => Err(e),
    };
    let (is_tree, target) = match is_upload {
        true => (local.is_dir(), landing(local, remote, is_directory_there)?),
        false => (files.metadata(remote)?.is_dir(), landing(remote, local, |path| Ok(path.is_dir()))?),
    };

    // From here on there may be something to tidy up.
    let interruption = Interruption::listen().map_err(|e| Failure::here(e.to_string()))?;
    let bar = Bar { is_quiet: copy.quiet, begun: OnceCell::new() };
    let mut transfer = files.transfer().checksum(copy.checksum).resume(copy.resume).progress(|progress| {
        bar.show(progress);
        if interruption.has_come() { Err(Error::cancelled("interrupted")) } else { Ok(()) }
    });
    let report = match (is_upload, is_tree) {
        (true, false) => transfer.upload(local, target).map(Report::File),
        (true, true) => transfer.upload_dir(local, target).map(Report::Tree),
        (false, false) => transfer.download(remote, target).map(Report::File),
        (false, true) => transfer.download_dir(remote, target).map(Report::Tree),
    };
    bar.end();
    let report = report.map_err(|e| match interruption.has_come() {
        true => Failure::from(e).with_code(interruption.code()),
        false => Failure::from(e),
    })?;
    if let Report::Tree(report) = &report {
        for note in &report.notes {
            output::complain(format_args!("sandbox: {}: {}", plain(&note.path.to_string_lossy()), plain(&note.text)));
        }
        if report.skipped > report.notes.len() as u64 {
            output::complain(format_args!("sandbox: {} entries are left out in all", report.skipped));
        }
    }
    if is_json { output::line(as_json(&report)) } else { Ok(()) }
}

impl<'a> Place<'a> {
    /// As scp reads it: a colon counts if no slash comes before.
    fn of(text: &'a OsStr) -> Self {
        let bytes = text.as_bytes();
        let end = bytes.iter().position(|byte| b":/".contains(byte)).filter(|end| *end > 0 && bytes[*end] == b':');
        match end.and_then(|end| Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))) {
            None => Self::Here(Path::new(text)),
            Some((name, b"")) => Self::Sandbox { name, path: Path::new(".") },
            Some((name, path)) => Self::Sandbox { name, path: Path::new(OsStr::from_bytes(path)) },
        }
    }
}

/// Only shells of the sandbox know whose home is where. A file of such a name by accident is no use to anybody.
pub(crate) fn check_no_home(path: &OsStr) -> std::result::Result<(), Failure> {
    if !path.as_bytes().starts_with(b"~") {
        return Ok(());
    }
    let path = path.to_string_lossy();
    let message = format!(
        "'{}' is no home directory here: relative paths begin at the image's working directory, and a file of that name is './{}'",
        plain(&path),
        plain(&path)
    );
    Err(Failure::here(message).with_code(2))
}

/// The name that the copy gets: in a directory, the source's own.
fn landing(source: &Path, target: &Path, is_directory: impl Fn(&Path) -> Result<bool>) -> Result<PathBuf> {
    // The file name of `a/.` is `a` for std, but here it means what is in `a`.
    let name = source.file_name().filter(|_| !source.as_os_str().as_bytes().ends_with(b"/."));
    match name {
        Some(name) if is_directory(target)? => Ok(target.join(name)),
        _ => Ok(target.to_owned()),
    }
}

fn as_json(report: &Report) -> Value {
    match report {
        Report::File(moved) => {
            let hex = |digest: [u8; 32]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            json!({ "bytes": moved.bytes, "resumed": moved.resumed, "sha256": moved.sha256.map(hex) })
        }
        Report::Tree(report) => {
            let notes =
                report.notes.iter().map(|note| json!({ "path": note.path.to_string_lossy(), "text": note.text }));
            json!({
                "bytes": report.bytes,
                "files": report.files,
                "directories": report.directories,
                "symlinks": report.symlinks,
                "skipped": report.skipped,
                "notes": Value::from_iter(notes),
            })
        }
    }
}

/// A progress bar on standard error, if that is a terminal. Its clock starts with the first byte, not with the
/// connection.
struct Bar {
    is_quiet: bool,
    begun: OnceCell<ProgressBar>,
}

impl Bar {
    fn show(&self, progress: &Progress<'_>) {
        let bar = self.begun.get_or_init(|| self.begin(progress.total));
        bar.set_message(plain(&progress.path.to_string_lossy()));
        bar.set_position(progress.done);
    }

    fn begin(&self, total: Option<u64>) -> ProgressBar {
        let target = if self.is_quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = match total {
            Some(_) => "{wide_msg} {bar:24} {percent:>3}% {binary_bytes:>11} {binary_bytes_per_sec:>13} {eta:>4}",
            None => "{wide_msg} {binary_bytes:>11} {binary_bytes_per_sec:>13} {elapsed:>4}",
        };
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }

    /// Leaves the last state on the terminal.
    fn end(&self) {
        if let Some(bar) = self.begun.get() {
            bar.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart_as_scp_does() {
        let there = |name, path| Place::Sandbox { name, path: Path::new(path) };
        for (text, place) in [
            ("box:/tmp/x", there("box", "/tmp/x")),
            ("box:a:b", there("box", "a:b")),
            ("box:", there("box", ".")),
            ("./a:b", Place::Here(Path::new("./a:b"))),
            ("/a:b", Place::Here(Path::new("/a:b"))),
            ("a", Place::Here(Path::new("a"))),
            (":a", Place::Here(Path::new(":a"))),
        ] {
            assert_eq!(Place::of(OsStr::new(text)), place, "{text}");
        }
    }

    #[test]
    fn what_a_shell_would_expand_is_refused() {
        for path in ["~", "~/x", "~me", "~me/x"] {
            assert!(check_no_home(OsStr::new(path)).is_err(), "{path}");
        }
        for path in ["./~", "a~", "/~", "."] {
            assert!(check_no_home(OsStr::new(path)).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_copy_goes_into_a_directory_that_is_there() {
        let lands = |source: &str, target: &str| {
            let path = landing(Path::new(source), Path::new(target), |path| Ok(path.starts_with("dir"))).unwrap();
            path.into_os_string().into_string().unwrap()
        };
        assert_eq!(lands("a/b", "dir"), "dir/b");
        assert_eq!(lands("a/b/", "dir"), "dir/b");
        assert_eq!(lands("a/b", "new"), "new");
        for whole in ["a/.", ".", "..", "/"] {
            assert_eq!(lands(whole, "dir"), "dir");
        }
    }
}
