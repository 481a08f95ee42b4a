//! The `.env` file: found, judged and read so that nothing in it matters but the lines that set a setting of ours.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use log::Level;

const NAME: &str = ".env";
const BOM: &[u8] = b"\xef\xbb\xbf";
const WRITABLE_BY_ALL: u32 = 0o002;

/// What a `.env` file says about some variables.
#[derive(Debug, Default)]
pub(crate) struct Dotenv {
    path: PathBuf,
    entries: HashMap<String, Entry>,
    /// What there is to log about the file, once there is a logger.
    pub(crate) notes: Vec<(Level, String)>,
}

/// One line of the file.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Where it stands: the path of the file, and the line.
    pub(crate) place: String,
    /// Its value, or why it has none.
    pub(crate) value: Result<String, &'static str>,
}

impl Dotenv {
    /// Reads the nearest `.env` file in `directory` or above it, for the variables that `is_ours` knows. Without one,
    /// or without the right to reach it, nothing is set.
    pub(crate) fn nearest(directory: &Path, is_ours: impl Fn(&str) -> bool) -> Self {
        let mut notes = Vec::new();
        for path in directory.ancestors().map(|ancestor| ancestor.join(NAME)) {
            let file = match open(&path) {
                Ok(Some(file)) => file,
                Ok(None) => continue,
                Err(e) => {
                    // A directory that can't be searched has no file for us; one that is there and can't be read is
                    // worth a word.
                    if path.symlink_metadata().is_ok() && e.kind() != io::ErrorKind::NotFound {
                        notes.push((Level::Warn, format!("{} is ignored: {e}", path.display())));
                    }
                    continue;
                }
            };
            match read(file) {
                Ok((bytes, doubt)) => {
                    let mut found = Self { entries: parse(&bytes, &path, is_ours), path, notes };
                    found.reject_doubtful(doubt);
                    return found;
                }
                Err(e) => notes.push((Level::Warn, format!("{} is ignored: {e}", path.display()))),
            }
        }
        Self { notes, ..Self::default() }
    }

    /// What the file says about this variable.
    pub(crate) fn take(&mut self, variable: &str) -> Option<Entry> {
        self.entries.remove(variable)
    }

    /// Forgets what somebody else may have written.
    fn reject_doubtful(&mut self, doubt: Option<&'static str>) {
        let path = self.path.display();
        match doubt {
            _ if self.entries.is_empty() => {}
            None => self.notes.push((Level::Info, format!("settings are read from {path}"))),
            Some(doubt) => {
                self.notes.push((Level::Warn, format!("the settings in {path} are ignored: {doubt}")));
                self.entries.clear();
            }
        }
    }
}

/// The file, if it is a regular one. Whatever else has this name is not waited for.
fn open(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}

/// The content, and what speaks against believing it.
fn read(mut file: File) -> io::Result<(Vec<u8>, Option<&'static str>)> {
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((bytes, doubt(metadata.uid(), metadata.mode(), rustix::process::geteuid().as_raw())))
}

fn doubt(owner: u32, mode: u32, user: u32) -> Option<&'static str> {
    if owner != user && owner != 0 {
        Some("the file belongs to another user")
    } else if mode & WRITABLE_BY_ALL != 0 {
        Some("every user may write to the file")
    } else {
        None
    }
}

/// Each line by itself, so that a quote that a foreign line leaves open swallows nothing. The first line of a name
/// counts, as in a shell that sees it exported already.
fn parse(bytes: &[u8], path: &Path, is_ours: impl Fn(&str) -> bool) -> HashMap<String, Entry> {
    let mut entries = HashMap::new();
    // What was understood so far: a value may name it, as in `$HOST`.
    let mut before = String::new();
    for (index, line) in bytes.strip_prefix(BOM).unwrap_or(bytes).split(|byte| *byte == b'\n').enumerate() {
        let name = name(line).filter(|name| is_ours(name));
        let value = value(&before, line);
        if let (Ok(_), Ok(line)) = (&value, str::from_utf8(line)) {
            before.push_str(line);
            before.push('\n');
        }
        if let Some(name) = name {
            let place = format!("{}, line {}", path.display(), index + 1);
            entries.entry(name.to_owned()).or_insert(Entry { place, value });
        }
    }
    entries
}

/// The variable that a line seems to set, however broken the rest of the line is.
fn name(line: &[u8]) -> Option<&str> {
    let line = line.trim_ascii_start();
    let line = match line.strip_prefix(b"export") {
        Some(rest) if rest.starts_with(b" ") || rest.starts_with(b"\t") => rest.trim_ascii_start(),
        _ => line,
    };
    let end = line.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').unwrap_or(line.len());
    str::from_utf8(&line[..end]).ok()
}

/// The value on this line, which comes after the lines `before`. The reasons quote nothing: a line may hold a secret.
fn value(before: &str, line: &[u8]) -> Result<String, &'static str> {
    let line = str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
    let understood = |text: &str| dotenvy::from_read_iter(text.as_bytes()).last();
    // Alone first, since together with those before it a line without an entry would give the last of theirs.
    match understood(&format!("{line}\n")) {
        Some(Ok(_)) => {}
        Some(Err(_)) => return Err("a quote is not closed, or text follows the value"),
        None => return Err("it sets nothing"),
    }
    match understood(&format!("{before}{line}\n")) {
        Some(Ok((_, value))) => Ok(value),
        _ => Err("it can't be understood together with the lines before it"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn parsed(text: &[u8]) -> HashMap<String, Entry> {
        parse(text, Path::new("/w/.env"), |name| name.starts_with("OUR_"))
    }

    fn value_of(text: &[u8], name: &str) -> Result<String, &'static str> {
        parsed(text).remove(name).unwrap().value
    }

    #[test]
    fn foreign_lines_never_matter() {
        for foreign in [
            "GREETING=hello world",
            "A=a$b\"c",
            "export X",
            "{\"a\": 1}",
            "OPEN=\"and never closed",
            "OPEN='and never closed",
            "TRAILING=\\",
            "OURSELVES='",
            "\0\u{1}",
        ] {
            let text = format!("{foreign}\nOUR_A=1\n{foreign}\r\n OUR_B = 'two words' # and why\n{foreign}");
            assert_eq!(value_of(text.as_bytes(), "OUR_A").as_deref(), Ok("1"), "{foreign}");
            assert_eq!(value_of(text.as_bytes(), "OUR_B").as_deref(), Ok("two words"), "{foreign}");
            assert_eq!(parsed(text.as_bytes()).len(), 2, "{foreign}");
        }
        assert_eq!(value_of(b"A=Jos\xe9\nOUR_A=1\n", "OUR_A").as_deref(), Ok("1"));
        assert_eq!(value_of(b"\xef\xbb\xbfOUR_A=1\n", "OUR_A").as_deref(), Ok("1"));
    }

    #[test]
    fn reads_values_as_shells_do() {
        for (line, value) in [
            ("OUR_A=plain", "plain"),
            ("export OUR_A=exported", "exported"),
            ("\texport\tOUR_A=tabs", "tabs"),
            ("OUR_A=", ""),
            ("OUR_A=crlf\r", "crlf"),
            ("OUR_A=\"a \\\"quote\\\"\"", "a \"quote\""),
            ("OUR_A='$HOST'", "$HOST"),
            ("OUR_A=$HOST/image:1", "registry.test/image:1"),
            ("OUR_A=one\nOUR_A=two", "one"),
        ] {
            let text = format!("HOST=registry.test\n{line}");
            assert_eq!(value_of(text.as_bytes(), "OUR_A").as_deref(), Ok(value), "{line}");
        }
    }

    #[test]
    fn a_line_of_ours_that_is_wrong_has_a_place() {
        for line in [&b"OUR_A=\"t"[..], b"OUR_A='t", b"OUR_A=two words", b"OUR_A", b"OUR_A: yaml", b"OUR_A=Jos\xe9"] {
            let mut entries = parsed(&[b"# a comment\n\n", line, b"\nB=1\n"].concat());
            let entry = entries.remove("OUR_A").unwrap();
            assert_eq!(entry.place, "/w/.env, line 3");
            assert!(entry.value.is_err(), "{entry:?}");
        }
    }

    #[test]
    fn only_this_user_and_root_are_believed() {
        assert_eq!(doubt(1000, 0o100_664, 1000), None);
        assert_eq!(doubt(0, 0o100_644, 1000), None);
        assert!(doubt(1001, 0o100_644, 1000).unwrap().contains("another user"));
        assert!(doubt(1000, 0o100_644, 0).unwrap().contains("another user"));
        assert!(doubt(1000, 0o100_666, 1000).unwrap().contains("every user"));
    }

    #[test]
    fn takes_the_nearest_regular_file() {
        let top = std::env::temp_dir().join(format!("sandbox-dotenv-{}", std::process::id()));
        let (middle, bottom) = (top.join("a"), top.join("a/b"));
        std::fs::create_dir_all(bottom.join(NAME)).unwrap();
        let nearest = || Dotenv::nearest(&bottom, |name| name == "OUR_A");
        std::fs::write(top.join(NAME), "OUR_A=top\n").unwrap();
        let mut found = nearest();
        assert_eq!(found.take("OUR_A").unwrap().value.as_deref(), Ok("top"));
        assert_eq!(found.notes, [(Level::Info, format!("settings are read from {}", top.join(NAME).display()))]);

        rustix::fs::mknodat(rustix::fs::CWD, middle.join(NAME), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(nearest().take("OUR_A").unwrap().value.as_deref(), Ok("top"), "a FIFO is passed by");

        std::fs::remove_file(middle.join(NAME)).unwrap();
        std::fs::write(middle.join(NAME), "OUR_A=middle\n").unwrap();
        std::fs::set_permissions(middle.join(NAME), PermissionsExt::from_mode(0o666)).unwrap();
        let mut found = nearest();
        assert!(found.take("OUR_A").is_none());
        assert!(matches!(&found.notes[..], [(Level::Warn, text)] if text.contains("every user")), "{found:?}");

        std::fs::write(middle.join(NAME), "OTHER=1\n").unwrap();
        let mut found = nearest();
        assert!(found.take("OUR_A").is_none() && found.notes.is_empty(), "{found:?}");
        std::fs::remove_dir_all(&top).unwrap();
    }
}
