//! The SFTP server against OpenSSH's client, which starts it with `-D` on its own streams: no SSH is between them.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory of a test's own, removed at its end, with what is local and what is remote apart.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Self {
        let place = std::env::temp_dir().join(format!("sandbox-sftp-client-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(place.join("here")).unwrap();
        fs::create_dir_all(place.join("there")).unwrap();
        Self(place)
    }

    fn here(&self, name: &str) -> PathBuf {
        self.0.join("here").join(name)
    }

    fn there(&self, name: &str) -> PathBuf {
        self.0.join("there").join(name)
    }

    /// Gives the client these commands, of which none may fail.
    fn sftp(&self, options: &[&str], commands: &str) -> String {
        let output = self.attempt(options, commands);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{commands}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    fn attempt(&self, options: &[&str], commands: &str) -> Output {
        let batch = self.0.join("batch");
        fs::write(&batch, format!("cd {}\n{commands}", self.0.join("there").display())).unwrap();
        Command::new("sftp")
            .args(options)
            .arg("-b")
            .arg(&batch)
            .args(["-D", concat!(env!("CARGO_BIN_EXE_sandbox-guest"), " sftp")])
            .current_dir(self.0.join("here"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// False, and says so, on a machine without the client.
fn has_client() -> bool {
    let found = Command::new("sftp").arg("-h").stdin(Stdio::null()).output().is_ok();
    if !found {
        eprintln!("skipped: there is no sftp");
    }
    found
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x5eed_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn same(a: &Path, b: &Path) {
    assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{} and {}", a.display(), b.display());
}

#[test]
fn files_go_there_and_come_back_the_same() {
    if !has_client() {
        return;
    }
    let place = Place::new("files");
    for length in [0, 1, 32_767, 258_048, 258_049, 20_000_003] {
        fs::write(place.here("a"), noise(length)).unwrap();
        // Small and large requests, one at a time and many.
        for options in [&[][..], &["-B", "1000", "-R", "1"], &["-B", "200000"], &["-B", "4096", "-R", "512"]] {
            if length > 300_000 && options.contains(&"1000") {
                continue;
            }
            place.sftp(options, "put a b\nget b c\nrm b");
            same(&place.here("a"), &place.here("c"));
            fs::remove_file(place.here("c")).unwrap();
        }
    }
    // What was cut off goes on.
    let whole = fs::read(place.here("a")).unwrap();
    fs::write(place.there("b"), &whole[..7_000_001]).unwrap();
    fs::write(place.here("c"), &whole[..3_000_001]).unwrap();
    place.sftp(&[], "reput a b\nreget b c");
    same(&place.here("a"), &place.there("b"));
    same(&place.here("a"), &place.here("c"));
    // With -f, fsync comes before the end.
    place.sftp(&[], "put -f a d\nget -f d e");
    same(&place.here("a"), &place.here("e"));
}

#[test]
fn attributes_and_names_are_as_the_client_wants_them() {
    if !has_client() {
        return;
    }
    let place = Place::new("names");
    fs::write(place.here("a"), noise(100_000)).unwrap();
    fs::set_permissions(place.here("a"), fs::Permissions::from_mode(0o751)).unwrap();
    let file = fs::File::open(place.here("a")).unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_890);
    file.set_times(fs::FileTimes::new().set_modified(old).set_accessed(old)).unwrap();
    let said = place.sftp(
        &[],
        "put -p a b\nmkdir d\nrename b d/b\nsymlink d/b l\nln d/b h\ncp h copy\nchmod 600 copy\nls -l\nls -ln d\ndf -h .\n\
         get -p d/b back\npwd\n",
    );
    let found = fs::metadata(place.there("d/b")).unwrap();
    assert_eq!((found.mode() & 0o7777, found.mtime(), found.nlink()), (0o751, 1_234_567_890, 2));
    assert_eq!(fs::metadata(place.here("back")).unwrap().mtime(), 1_234_567_890);
    assert_eq!(fs::read_link(place.there("l")).unwrap(), Path::new("d/b"));
    assert_eq!(fs::metadata(place.there("copy")).unwrap().mode() & 0o7777, 0o600);
    same(&place.here("a"), &place.there("copy"));
    same(&place.here("a"), &place.here("back"));
    let line = said.lines().find(|line| line.starts_with("-") && line.ends_with(" h")).unwrap();
    let (user, group) = (found.uid(), found.gid());
    assert_eq!(line, format!("-rwxr-x--x    2 {user:<8} {group:<8}   100000 Feb 13  2009 h"));
    assert!(said.lines().any(|line| line.starts_with("drwxr-xr-x    2 ") && line.ends_with(" d")), "{said}");
    assert!(said.contains("%Capacity") && said.contains(place.there("").to_str().unwrap().trim_end_matches('/')));

    // Refused, each by itself: what is there is not replaced by plain renames, which the client does with -l.
    for (command, word) in [
        ("rename -l h copy", "Failure"),
        ("mkdir d", "Failure"),
        ("rmdir d", "Failure"),
        ("rm nowhere", "No such file"),
        ("get nowhere", "not found"),
        ("ls nowhere", "not found"),
        ("ln nowhere x", "No such file"),
        ("chmod 600 nowhere", "No such file"),
        ("cd h", "not a directory"),
    ] {
        let output = place.attempt(&[], command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(word), "{command}: {said}");
    }
    place.sftp(&[], "rename h copy\nchmod -h 640 copy\nrm l\nrm copy\nrm d/b\nrmdir d\nls");
    assert_eq!(fs::read_dir(place.there("")).unwrap().count(), 0);
}

#[test]
fn trees_and_large_directories_are_moved() {
    if !has_client() {
        return;
    }
    let place = Place::new("trees");
    for number in 0..1200 {
        let directory = place.here(&format!("tree/{}", number % 7));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("file {number} ü")), noise(number * 13)).unwrap();
    }
    let said = place.sftp(&["-q"], "put -R tree\nls -1 tree/3\nget -R tree back");
    assert_eq!(said.lines().filter(|line| line.contains("tree/3/file ")).count(), 171, "{said}");
    for number in 0..1200 {
        let name = format!("{}/file {number} ü", number % 7);
        same(&place.here(&format!("tree/{name}")), &place.here(&format!("back/{name}")));
    }
}

#[test]
fn a_copy_there_keeps_holes() {
    if !has_client() {
        return;
    }
    let place = Place::new("holes");
    let file = fs::File::create(place.there("s")).unwrap();
    file.write_all_at(b"data", 512 << 20).unwrap();
    file.set_len(1 << 30).unwrap();
    place.sftp(&[], "cp s t");
    let copied = fs::File::open(place.there("t")).unwrap();
    let (found, mut data) = (copied.metadata().unwrap(), [0; 6]);
    copied.read_exact_at(&mut data, (512 << 20) - 1).unwrap();
    assert_eq!((found.len(), &data), (1 << 30, b"\0data\0"));
    assert!(found.blocks() < 2048, "{}", found.blocks());
}
