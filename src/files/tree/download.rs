//! Downloads of trees: unpacking what the sandbox sends below one local directory.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use sandbox_protocol::tar::{Entry, Kind, Reader};
use sandbox_protocol::tree::Request;

use super::{BUFFER, TreeProgress, TreeReport};
use crate::error::{Error, ErrorKind, Result};
use crate::files::Transfer;
use crate::files::confined::{self, Attributes, Root};
use crate::files::download::too_much;
use crate::files::local::{at_local, umask};
use crate::files::path::{bytes_of, temp_path_beside};
use crate::files::tool::{Streamed, Work, shortened, stream};
use crate::ssh::sftp::{DIRECTORY, Quoted};

impl Transfer<'_> {
    pub(super) fn fetch_tree(&mut self, remote: &Path, local: &Path) -> Result<TreeReport> {
        self.check_options()?;
        let (files, deadline, source) = (self.files, self.files.deadline(), bytes_of(remote)?);
        if !files.ask(source, deadline, |client| client.stat(source))?.is(DIRECTORY) {
            return Err(Error::new(ErrorKind::NotADirectory, format!("{} is not a directory", Quoted(source))));
        }
        let is_merged = match fs::metadata(local) {
            Ok(found) if found.is_dir() => true,
            Ok(_) => return Err(at_local(local, "written", io::Error::from_raw_os_error(libc::ENOTDIR))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(local) {
                // A link that leads nowhere.
                Ok(_) => return Err(at_local(local, "written", io::Error::from_raw_os_error(libc::ENOTDIR))),
                Err(_) => false,
            },
            Err(e) => return Err(at_local(local, "read", e)),
        };
        let part = LocalTree::create(local, is_merged)?;
        let mut root = Root::open(&part.0, umask()).map_err(|e| at_local(&part.0, "opened", e))?;
        let limits = (self.max_bytes.unwrap_or(u64::MAX), self.max_entries.unwrap_or(u64::MAX));
        let (sync, mut attributes) = (self.sync, None);
        let mut progress = TreeProgress::new(self.progress.as_deref_mut(), None);
        let command = files.tool(&Request::Pack { directory: OsStr::from_bytes(source).into() }, deadline);
        let ended = stream(command.spawn().map_err(Error::within_operation)?, |child| {
            child.stdin = None;
            let Some(stdout) = child.stdout.take() else { return Ok(()) };
            let mut reader = Reader::new(BufReader::with_capacity(BUFFER, stdout));
            attributes = progress.unpack(&mut reader, &mut root, local, limits, sync)?;
            Ok(())
        });
        let work = Work { name: source, path: source, done: "read" };
        let report = ended.into_report(work, || progress.so_far()).map_err(|e| match e.kind() {
            // Nothing is changed by reading.
            ErrorKind::OutcomeUnknown => e.with_kind(ErrorKind::Disconnected),
            _ => e,
        })?;
        progress.report.take_notes(&report);
        if self.checksum {
            files.compare_trees(source, &root, &mut progress, deadline)?;
        }
        let mut below = Vec::new();
        let mut finish = || {
            root.finish()?;
            match is_merged {
                true => root.merge_into(local, &mut below),
                false => {
                    fs::rename(&part.0, local)?;
                    attributes.map_or(Ok(()), |attributes| root.finish_root(attributes))
                }
            }
        };
        let finished = finish();
        finished.map_err(|e| match &below[..] {
            b"" => at_local(local, "moved into place", e),
            path => at_local(&local.join(OsStr::from_bytes(path)), "moved into place", e),
        })?;
        for path in root.without_mode() {
            progress.report.note(path, "its mode can't be set");
        }
        if sync {
            // Names and directories; the files' contents are there since each was written.
            let synced = fs::File::open(local).and_then(|directory| Ok(rustix::fs::syncfs(directory)?));
            synced.map_err(|e| at_local(local, "synced to disk", e))?;
        }
        Ok(progress.report)
    }
}

/// A local directory for what arrives; removed with what is in it, unless it gets its name.
struct LocalTree(PathBuf);

impl LocalTree {
    fn create(target: &Path, is_merged: bool) -> Result<Self> {
        // A path's slashes and dots at its end are not part of its name.
        let part = if is_merged {
            temp_path_beside(&target.join("x"))
        } else {
            temp_path_beside(&target.components().collect::<PathBuf>())
        };
        fs::DirBuilder::new().mode(0o700).create(&part).map_err(|e| at_local(target, "created", e))?;
        Ok(Self(part))
    }
}

impl Drop for LocalTree {
    fn drop(&mut self) {
        match confined::remove_all(&self.0) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                log::warn!("the partial directory '{}' is left: {e}", self.0.display());
            }
            _ => {}
        }
    }
}

impl TreeProgress<'_, '_> {
    /// Writes an archive as a local tree; returns what the root itself is to have.
    fn unpack(
        &mut self,
        reader: &mut Reader<impl Read>,
        root: &mut Root,
        local: &Path,
        (max_bytes, max_entries): (u64, u64),
        sync: bool,
    ) -> Streamed<Option<Attributes>> {
        let (mut own, mut entries, mut buffer) = (None, 0, vec![0; BUFFER]);
        while let Some(entry) = reader.next()? {
            let refused = |why: &str| {
                let message = format!("the sandbox sent '{}', which is refused: {why}", shortened(&entry.path));
                Error::new(ErrorKind::Transfer, message)
            };
            entries += 1;
            if entries > max_entries {
                return Err(refused(&format!("more than the {max_entries} entries that are allowed")).into());
            }
            let name = confined::name_below(&entry.path).map_err(refused)?;
            self.path = PathBuf::from(OsStr::from_bytes(&name));
            self.report_progress(false)?;
            let attributes = Attributes { mode: entry.mode, modified: entry.modified };
            let path = local.join(&self.path);
            let unwritable = |e: io::Error| at_local(&path, "written", e);
            match entry.kind {
                Kind::Directory => {
                    self.report.directories += 1;
                    match name.is_empty() {
                        true => own = Some(attributes),
                        false => root.directory(&name, attributes).map_err(unwritable)?,
                    }
                }
                _ if name.is_empty() => return Err(refused("the root of a tree is a directory").into()),
                Kind::File => {
                    if entry.size > max_bytes.saturating_sub(self.report.bytes) {
                        return Err(too_much(&entry.path, max_bytes).into());
                    }
                    let file = root.file(&name).map_err(unwritable)?;
                    self.unpack_contents(reader, &file, &entry, &path, &mut buffer)?;
                    let finished = if sync { file.sync_all() } else { Ok(()) };
                    finished.and_then(|()| root.finish_file(&file, &name, attributes)).map_err(unwritable)?;
                    self.report.files += 1;
                }
                Kind::HardLink => {
                    let original = confined::name_below(&entry.link)
                        .map_err(|why| refused(&format!("a link to '{}', {why}", shortened(&entry.link))))?;
                    match root.hard_link(&name, &original) {
                        Ok(None) => self.report.files += 1,
                        Ok(Some(target)) => self.unpack_link(root, &name, &target, attributes).map_err(unwritable)?,
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {
                            self.report.skip(&name, "another name of what is left out");
                        }
                        Err(e) => return Err(unwritable(e).into()),
                    }
                }
                Kind::SymbolicLink if entry.link.is_empty() || entry.link.contains(&0) => {
                    return Err(refused("a link to nothing").into());
                }
                Kind::SymbolicLink => {
                    self.unpack_link(root, &name, &entry.link, attributes).map_err(unwritable)?;
                }
                Kind::Device => self.report.skip(&name, "a device"),
                Kind::Pipe => self.report.skip(&name, "a named pipe"),
                Kind::Unknown(kind) => self.report.skip(&name, format!("of the unknown type {kind}")),
            }
        }
        self.report_progress(true)?;
        Ok(own)
    }

    fn unpack_contents(
        &mut self,
        reader: &mut Reader<impl Read>,
        file: &fs::File,
        entry: &Entry,
        path: &Path,
        buffer: &mut [u8],
    ) -> Streamed<()> {
        let (before, mut end) = (self.report.bytes, 0);
        while let Some((offset, length)) = reader.read(buffer)? {
            file.write_all_at(&buffer[..length], offset).map_err(|e| at_local(path, "written", e))?;
            end = offset + length as u64;
            self.report.bytes = before + end;
            self.report_progress(false)?;
        }
        if end < entry.size {
            file.set_len(entry.size).map_err(|e| at_local(path, "written", e))?;
        }
        self.report.bytes = before + entry.size;
        Ok(())
    }

    fn unpack_link(&mut self, root: &mut Root, name: &[u8], target: &[u8], attributes: Attributes) -> io::Result<()> {
        if confined::leads_inside(name, target) {
            match root.symbolic_link(name, target, attributes)? {
                true => self.report.symlinks += 1,
                false => self.report.skip(name, "a symbolic link, which the file system can't hold"),
            }
        } else {
            self.report.skip(name, format!("a link that leads out of the tree, to '{}'", shortened(target)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use sandbox_protocol::tar::{Time, Writer};
    use sandbox_protocol::tree::MOST_NOTES;

    use super::*;
    use crate::files::tool::StreamError;

    struct Place(PathBuf);

    impl Place {
        fn new(test: &str) -> Self {
            let place = std::env::temp_dir().join(format!("sandbox-tree-{test}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&place);
            fs::create_dir_all(place.join("root")).unwrap();
            Self(place)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = confined::remove_all(&self.0);
        }
    }

    fn entry(path: &str, kind: Kind, link: &str) -> Entry {
        let (path, link) = (path.as_bytes().to_vec(), link.as_bytes().to_vec());
        let modified = Time { seconds: 1_000_000_000, nanoseconds: 123_456_789 };
        Entry { path, kind, mode: 0o4755, size: 0, modified, link, segments: None }
    }

    /// Unpacks these entries, of which the files have their own names as contents.
    fn unpacked(place: &Place, entries: &[Entry]) -> (Result<()>, TreeReport) {
        unpacked_with(place, entries, (u64::MAX, u64::MAX))
    }

    fn unpacked_with(place: &Place, entries: &[Entry], limits: (u64, u64)) -> (Result<()>, TreeReport) {
        let mut writer = Writer::new(Vec::new());
        for entry in entries {
            let size = if entry.kind == Kind::File { entry.path.len() as u64 } else { 0 };
            writer.begin(&Entry { size, ..entry.clone() }).unwrap();
            if entry.kind == Kind::File {
                writer.write(&entry.path).unwrap();
            }
        }
        let archive = writer.finish().unwrap();
        let mut root = Root::open(&place.0.join("root"), 0o022).unwrap();
        let mut progress = TreeProgress::new(None, None);
        let local = Path::new("local");
        let result = progress.unpack(&mut Reader::new(&archive[..]), &mut root, local, limits, false);
        let result = result.map_err(|trouble| match trouble {
            StreamError::Local(e) => e,
            StreamError::Remote(e) => panic!("{e}"),
        });
        (result.and_then(|_| root.finish().map_err(|e| at_local(local, "finished", e))), progress.report)
    }

    #[test]
    fn an_honest_archive_is_written_with_modes_times_and_links() {
        let place = Place::new("honest");
        let entries = [
            entry("./", Kind::Directory, ""),
            Entry { mode: 0o500, ..entry("./d/", Kind::Directory, "") },
            entry("./d/file", Kind::File, ""),
            entry("./d/link", Kind::SymbolicLink, "../top"),
            entry("./d/hard", Kind::HardLink, "./d/file"),
            entry("./d/same", Kind::HardLink, "d/link"),
            Entry { mode: 0o640, ..entry("./top", Kind::File, "") },
            Entry { mode: 0o600, ..entry("./top", Kind::File, "") },
            entry("./device", Kind::Device, ""),
            entry("./pipe", Kind::Pipe, ""),
            entry("./sparse", Kind::Unknown(b'S'), ""),
            entry("./out", Kind::SymbolicLink, "/etc/passwd"),
            entry("./up", Kind::SymbolicLink, "d/../../x"),
            entry("./again", Kind::HardLink, "out"),
            // Another name of a link leads to something else.
            entry("./up-and-away", Kind::HardLink, "d/link"),
        ];
        let (result, report) = unpacked(&place, &entries);
        result.unwrap();
        assert_eq!((report.files, report.directories, report.symlinks, report.skipped), (4, 2, 2, 7));
        let texts: Vec<_> = report.notes.iter().map(|note| (note.path.to_str().unwrap(), &note.text[..])).collect();
        assert_eq!(texts[0], ("device", "a device"));
        assert_eq!(texts[3], ("out", "a link that leads out of the tree, to '/etc/passwd'"));
        let found = |name: &str| fs::symlink_metadata(place.0.join("root").join(name)).unwrap();
        assert_eq!(found("d").mode() & 0o7777, 0o500);
        assert_eq!((found("d/file").mode() & 0o7777, found("d/file").mtime()), (0o755, 1_000_000_000));
        assert_eq!((found("d").mtime(), found("d/link").mtime()), (1_000_000_000, 1_000_000_000));
        assert_eq!((found("d/file").ino(), found("top").mode() & 0o7777), (found("d/hard").ino(), 0o600));
        assert_eq!(fs::read_link(place.0.join("root/d/link")).unwrap(), Path::new("../top"));
        assert_eq!(fs::read_link(place.0.join("root/d/same")).unwrap(), Path::new("../top"));
        for name in ["out", "up-and-away"] {
            assert!(fs::symlink_metadata(place.0.join("root").join(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn a_hostile_archive_is_refused_and_writes_nothing_outside() {
        let link = |name: &str, target: &str| entry(name, Kind::SymbolicLink, target);
        let file = |name: &str| entry(name, Kind::File, "");
        for (test, entries, said) in [
            ("above", vec![file("../x")], "'..'"),
            ("above2", vec![file("a/../../x")], "'..'"),
            ("absolute", vec![file("/tmp/sandbox-hostile")], "absolute"),
            ("through", vec![link("l", "d"), entry("d/", Kind::Directory, ""), file("l/x")], "in the way"),
            ("through-dir", vec![link("l", "."), entry("l/", Kind::Directory, "")], "in the way"),
            ("through-hard", vec![link("l", "."), file("f"), entry("x", Kind::HardLink, "l/f")], "in the way"),
            ("hard-above", vec![entry("x", Kind::HardLink, "../outside")], "'..'"),
            ("hard-absolute", vec![entry("x", Kind::HardLink, "/etc/passwd")], "absolute"),
            ("hard-dir", vec![entry("d/", Kind::Directory, ""), entry("x", Kind::HardLink, "d")], "no file"),
            ("below-file", vec![file("f"), file("f/x")], "in the way"),
            ("over-dir", vec![entry("d/", Kind::Directory, ""), file("d")], "local/d"),
            ("root", vec![link(".", "/etc")], "the root"),
            ("empty-link", vec![link("l", "")], "a link to nothing"),
            ("long", vec![file(&"x".repeat(300))], "too long"),
        ] {
            let place = Place::new(test);
            fs::write(place.0.join("outside"), "old").unwrap();
            let (result, _) = unpacked(&place, &entries);
            let error = result.unwrap_err();
            assert!(error.to_string().contains(said), "{test}: {error}");
            assert_eq!(fs::read(place.0.join("outside")).unwrap(), b"old", "{test}");
            assert_eq!(fs::read_dir(&place.0).unwrap().count(), 2, "{test}");
        }
        assert!(!Path::new("/tmp/sandbox-hostile").exists());
    }

    #[test]
    fn links_that_are_in_the_way_are_replaced_and_not_followed() {
        let place = Place::new("replaced");
        fs::write(place.0.join("outside"), "old").unwrap();
        std::os::unix::fs::symlink("../outside", place.0.join("root/f")).unwrap();
        unpacked(&place, &[entry("f", Kind::File, "")]).0.unwrap();
        assert_eq!(fs::read(place.0.join("outside")).unwrap(), b"old");
        assert_eq!(fs::read(place.0.join("root/f")).unwrap(), b"f");
    }

    #[test]
    fn there_are_limits_and_notes_are_counted() {
        let place = Place::new("limits");
        let entries: Vec<_> = (0..5000).map(|number| entry(&format!("pipe{number}"), Kind::Pipe, "")).collect();
        let (result, report) = unpacked(&place, &entries);
        result.unwrap();
        assert_eq!((report.skipped, report.notes.len()), (5000, MOST_NOTES));
        let error = unpacked_with(&place, &entries, (u64::MAX, 100)).0.unwrap_err();
        assert!(error.to_string().contains("more than the 100 entries"), "{error}");
        let files = [entry("abc", Kind::File, ""), entry("def", Kind::File, "")];
        let error = unpacked_with(&place, &files, (5, 10)).0.unwrap_err();
        assert!(error.to_string().contains("more than the 5 bytes"), "{error}");
    }

    #[test]
    fn a_merge_replaces_files_and_follows_no_links() {
        let place = Place::new("merge");
        let (target, outside) = (place.0.join("target"), place.0.join("outside"));
        fs::create_dir_all(target.join("d/kept")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(target.join("d/f"), "old").unwrap();
        let entries = [
            Entry { mode: 0o500, ..entry("d/", Kind::Directory, "") },
            entry("d/f", Kind::File, ""),
            Entry { mode: 0o500, ..entry("d/new/", Kind::Directory, "") },
            entry("d/new/x", Kind::File, ""),
            entry("g", Kind::File, ""),
        ];
        unpacked(&place, &entries).0.unwrap();
        let root = Root::open(&place.0.join("root"), 0o022).unwrap();
        root.merge_into(&target, &mut Vec::new()).unwrap();
        assert_eq!(fs::read(target.join("d/f")).unwrap(), b"d/f");
        assert!(target.join("d/kept").is_dir() && target.join("d/new/x").is_file() && target.join("g").is_file());
        assert_eq!(fs::metadata(target.join("d/new")).unwrap().mode() & 0o777, 0o500);
        confined::remove_all(&place.0.join("root")).unwrap();

        // More names than are in memory at once.
        fs::create_dir(place.0.join("root")).unwrap();
        for number in 0..3000 {
            fs::write(place.0.join(format!("root/{number}")), "").unwrap();
        }
        fs::set_permissions(target.join("d"), fs::Permissions::from_mode(0o710)).unwrap();
        unpacked(&place, &[Entry { mode: 0o777, ..entry("d/", Kind::Directory, "") }]).0.unwrap();
        Root::open(&place.0.join("root"), 0o022).unwrap().merge_into(&target, &mut Vec::new()).unwrap();
        assert_eq!(fs::read_dir(&target).unwrap().count(), 3002);
        assert_eq!(fs::read_dir(place.0.join("root")).unwrap().count(), 0);
        assert_eq!(fs::metadata(target.join("d")).unwrap().mode() & 0o777, 0o710, "what was there keeps its mode");
        confined::remove_all(&place.0.join("root")).unwrap();

        // What an earlier download may have left.
        fs::create_dir(place.0.join("root")).unwrap();
        std::os::unix::fs::symlink(&outside, target.join("link")).unwrap();
        unpacked(&place, &[entry("link/x", Kind::File, "")]).0.unwrap();
        let error = Root::open(&place.0.join("root"), 0o022).unwrap().merge_into(&target, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory, "{error}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}
