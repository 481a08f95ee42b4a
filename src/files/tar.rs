//! Archives of trees as streams: the format of tar, read from a sandbox that may lie, and written for one.
//!
//! What is kept in memory does not depend on what the archive says: a name longer than any path, or an extension that nobody
//! needs, is refused.

use std::io::{self, Read, Write};

use crate::ssh::sftp::LONGEST_PATH;

const BLOCK: usize = 512;
/// The longest extended header that is read. One that holds a path and a link target is a fraction of that.
const LONGEST_EXTENSION: u64 = 64 << 10;
/// tar fills up its last record.
const LONGEST_PADDING: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// Another name of an earlier entry, [`Entry::link`].
    HardLink,
    SymbolicLink,
    Directory,
    Device,
    Pipe,
    Unknown(u8),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    /// Bytes of contents that follow.
    pub(super) size: u64,
    /// Unix seconds.
    pub(super) modified: i64,
    /// What a link leads to.
    pub(super) link: Vec<u8>,
}

fn malformed(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the archive is malformed: {}", what.into()))
}

/// Whoever sends the archive may know why.
fn cut_off(place: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the archive ends {place}"))
}

/// Reads an archive entry by entry.
pub(super) struct Reader<R> {
    input: R,
    /// Of the current entry: contents not read yet, and what fills up its last block.
    left: u64,
    padding: u64,
}

/// What extensions say about the entry behind them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<i64>,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0 }
    }

    /// The next entry, or `None` behind the last, once its end mark is seen. What is left of the contents before is skipped.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        self.skip_contents()?;
        let mut extended = Extended::default();
        loop {
            let mut header = [0; BLOCK];
            self.input.read_exact(&mut header).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => cut_off("without its end mark"),
                _ => e,
            })?;
            if header == [0; BLOCK] {
                self.input.read_exact(&mut header)?;
                if header != [0; BLOCK] {
                    return Err(malformed("its end mark is half"));
                }
                // The sender is not to find its stream closed while it fills up its last record.
                io::copy(&mut (&mut self.input).take(LONGEST_PADDING), &mut io::sink())?;
                return Ok(None);
            }
            check_sum(&header)?;
            (self.left, self.padding) = (number(&header[124..136])?, 0);
            let kind = header[156];
            self.padding = padding_of(self.left);
            match kind {
                b'L' => extended.path = Some(self.text()?),
                b'K' => extended.link = Some(self.text()?),
                b'x' => self.extension()?.into_iter().try_for_each(|(key, value)| extended.take(&key, value))?,
                // What holds for all entries is of no interest.
                b'g' => self.skip_contents()?,
                _ => return self.entry(&header, kind, extended).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &[u8; BLOCK], kind: u8, extended: Extended) -> io::Result<Entry> {
        let mut path = text(&header[..100]).to_vec();
        // Only the standard's headers have a prefix; GNU's have something else there.
        if &header[257..263] == b"ustar\0" && header[345] != 0 {
            path = [text(&header[345..500]), b"/", &path].concat();
        }
        let path = extended.path.unwrap_or(path);
        let kind = match kind {
            b'0' | 0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | b'7' | 0 => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::SymbolicLink,
            b'3' | b'4' => Kind::Device,
            b'5' => Kind::Directory,
            b'6' => Kind::Pipe,
            other => Kind::Unknown(other),
        };
        if let Some(size) = extended.size {
            (self.left, self.padding) = (size, padding_of(size));
        }
        if kind != Kind::File && !matches!(kind, Kind::Unknown(_)) {
            // Some archivers write a size where there are no contents.
            (self.left, self.padding) = (0, 0);
        }
        Ok(Entry {
            path,
            kind,
            mode: u32::try_from(number(&header[100..108])? & 0o7777).unwrap_or(0),
            size: self.left,
            modified: match extended.modified {
                Some(modified) => modified,
                None => signed(&header[136..148])?,
            },
            link: extended.link.unwrap_or_else(|| text(&header[157..257]).to_vec()),
        })
    }

    /// Contents of the current entry; 0 at their end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if room == 0 {
            return Ok(0);
        }
        let length = loop {
            match self.input.read(&mut buffer[..room]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if length == 0 {
            return Err(cut_off("in the middle of a file"));
        }
        self.left -= length as u64;
        Ok(length)
    }

    fn skip_contents(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        while self.read(&mut buffer)? > 0 {}
        let padding = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or(0);
        self.input.read_exact(&mut buffer[..padding])
    }

    /// A name that is the contents of an entry.
    fn text(&mut self) -> io::Result<Vec<u8>> {
        // With a NUL behind it.
        if self.left > LONGEST_PATH as u64 + 1 {
            return Err(malformed(format!("a name of {} bytes", self.left)));
        }
        let bytes = self.small_contents()?;
        Ok(text(&bytes).to_vec())
    }

    fn small_contents(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.left).unwrap_or(0)];
        self.input.read_exact(&mut bytes)?;
        self.left = 0;
        self.skip_contents()?;
        Ok(bytes)
    }

    /// The records of an extended header: `LENGTH KEY=VALUE\n`.
    fn extension(&mut self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if self.left > LONGEST_EXTENSION {
            return Err(malformed(format!("an extended header of {} bytes", self.left)));
        }
        let bytes = self.small_contents()?;
        let (mut rest, mut records) = (&bytes[..], Vec::new());
        let wrong = || malformed("a record of an extended header");
        while !rest.is_empty() {
            let space = rest.iter().position(|byte| *byte == b' ').ok_or_else(wrong)?;
            let length: usize =
                std::str::from_utf8(&rest[..space]).ok().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
            let record = rest.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(wrong)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
            records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
            rest = &rest[length..];
        }
        Ok(records)
    }
}

impl Extended {
    fn take(&mut self, key: &[u8], value: Vec<u8>) -> io::Result<()> {
        let decimal = |value: &[u8]| {
            // Times have a fraction.
            let whole = value.split(|byte| *byte == b'.').next().unwrap_or_default();
            let whole = std::str::from_utf8(whole).ok().and_then(|text| text.parse::<i64>().ok());
            whole.ok_or_else(|| malformed("a number of an extended header"))
        };
        match key {
            b"path" | b"linkpath" if value.len() > LONGEST_PATH => {
                return Err(malformed(format!("a name of {} bytes", value.len())));
            }
            b"path" => self.path = Some(value),
            b"linkpath" => self.link = Some(value),
            b"size" => {
                let size = u64::try_from(decimal(&value)?).map_err(|_| malformed("a negative size"))?;
                self.size = Some(size);
            }
            b"mtime" => self.modified = Some(decimal(&value)?),
            _ => {}
        }
        Ok(())
    }
}

fn padding_of(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

/// Bytes up to a NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn signed(field: &[u8]) -> io::Result<i64> {
    let wrong = || malformed("a number that is none");
    if field[0] & 0x80 != 0 {
        // GNU's way for large and for negative numbers: two's complement in all bits but the first.
        let is_negative = field[0] & 0x40 != 0;
        let start = if is_negative { -1 } else { i128::from(field[0] & 0x3f) };
        let value = field[1..].iter().fold(start, |value: i128, byte| value.wrapping_shl(8) | i128::from(*byte));
        return i64::try_from(value).map_err(|_| wrong());
    }
    let digits = field.iter().skip_while(|byte| **byte == b' ').take_while(|byte| !matches!(byte, 0 | b' '));
    digits.copied().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8).map(|value| value | i64::from(digit - b'0')).ok_or_else(wrong),
        _ => Err(wrong()),
    })
}

fn number(field: &[u8]) -> io::Result<u64> {
    u64::try_from(signed(field)?).map_err(|_| malformed("a negative number"))
}

fn sum_of(header: &[u8; BLOCK]) -> u64 {
    let with_spaces = header.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    with_spaces.map(u64::from).sum()
}

fn check_sum(header: &[u8; BLOCK]) -> io::Result<()> {
    if number(&header[148..156])? == sum_of(header) { Ok(()) } else { Err(malformed("a header without its checksum")) }
}

/// Writes an archive entry by entry, in GNU's dialect, which every tar reads.
pub(super) struct Writer<W> {
    output: W,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(output: W) -> Self {
        Self { output }
    }

    /// Begins an entry. Its contents, if it has any, must be written next, then [`Writer::pad`].
    pub(super) fn begin(&mut self, entry: &Entry) -> io::Result<()> {
        for (long, kind) in [(&entry.link, b'K'), (&entry.path, b'L')] {
            if long.len() > 100 {
                let size = long.len() as u64 + 1;
                self.output.write_all(&header(b"././@LongLink", b"", kind, 0, size, 0))?;
                self.output.write_all(long)?;
                self.output.write_all(&vec![0; 1 + usize::try_from(padding_of(size)).unwrap_or(0)])?;
            }
        }
        let kind = match entry.kind {
            Kind::File => b'0',
            Kind::HardLink => b'1',
            Kind::SymbolicLink => b'2',
            Kind::Directory => b'5',
            Kind::Device => b'3',
            Kind::Pipe => b'6',
            Kind::Unknown(kind) => kind,
        };
        self.output.write_all(&header(&entry.path, &entry.link, kind, entry.mode, entry.size, entry.modified))
    }

    pub(super) fn write(&mut self, contents: &[u8]) -> io::Result<()> {
        self.output.write_all(contents)
    }

    /// Fills up the last block of contents.
    pub(super) fn pad(&mut self, size: u64) -> io::Result<()> {
        self.output.write_all(&[0; BLOCK][..usize::try_from(padding_of(size)).unwrap_or(0)])
    }

    /// Writes the end mark and gives the output back.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        self.output.flush()?;
        Ok(self.output)
    }
}

fn header(path: &[u8], link: &[u8], kind: u8, mode: u32, size: u64, modified: i64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &path[..path.len().min(100)]);
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, &field(i128::from(size)));
    put(136, &field(i128::from(modified)));
    put(156, &[kind]);
    put(157, &link[..link.len().min(100)]);
    put(257, b"ustar  ");
    let sum = format!("{:06o}\0 ", sum_of(&header));
    header[148..156].copy_from_slice(sum.as_bytes());
    header
}

/// A number of 12 bytes: octal digits if they are enough.
fn field(value: i128) -> [u8; 12] {
    let mut field = [0; 12];
    if (0..1 << 33).contains(&value) {
        field[..11].copy_from_slice(format!("{value:011o}").as_bytes());
    } else {
        field.copy_from_slice(&value.to_be_bytes()[4..]);
        field[0] |= 0x80;
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &[u8], kind: Kind, size: u64) -> Entry {
        Entry { path: path.to_vec(), kind, mode: 0o640, size, modified: 1_234_567_890, link: Vec::new() }
    }

    fn archive(entries: &[(Entry, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (entry, contents) in entries {
            writer.begin(entry).unwrap();
            writer.write(contents).unwrap();
            writer.pad(contents.len() as u64).unwrap();
        }
        writer.finish().unwrap()
    }

    fn all(bytes: &[u8]) -> io::Result<Vec<(Entry, Vec<u8>)>> {
        let (mut reader, mut entries) = (Reader::new(bytes), Vec::new());
        while let Some(entry) = reader.next()? {
            let (mut contents, mut buffer) = (Vec::new(), [0; 100]);
            loop {
                match reader.read(&mut buffer)? {
                    0 => break,
                    length => contents.extend_from_slice(&buffer[..length]),
                }
            }
            entries.push((entry, contents));
        }
        Ok(entries)
    }

    #[test]
    fn what_is_written_is_read() {
        let long = [&b"d/"[..], &[b'x'; 300], b"/\xff\n"].concat();
        let link = Entry { link: long.clone(), ..entry(b"link", Kind::SymbolicLink, 0) };
        let entries = [
            (entry(b"./", Kind::Directory, 0), &b""[..]),
            (entry(b"./a", Kind::File, 3), b"abc"),
            (entry(&long, Kind::File, 512), &[7; 512]),
            (link, b""),
            (Entry { modified: -5, ..entry(b"old", Kind::File, 0) }, b""),
            (entry(&[b'y'; 100], Kind::File, 513), &[8; 513]),
        ];
        let read = all(&archive(&entries)).unwrap();
        for ((entry, contents), expected) in read.iter().zip(&entries) {
            assert_eq!((entry, &contents[..]), (&expected.0, expected.1));
        }
        assert_eq!(read.len(), entries.len());
    }

    #[test]
    fn numbers_of_every_size() {
        for value in [0, 1, 8_589_934_591, 8_589_934_592, 1 << 62, i64::MAX, -1, -1 << 40] {
            assert_eq!(signed(&field(value.into())).unwrap(), value);
        }
        assert_eq!(number(b"  644 \0").unwrap(), 0o644);
        assert!(number(b"9").is_err() && number(b"\xff\xff\xff\xff").is_err());
        assert!(signed(&[0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    #[test]
    fn tar_itself_reads_and_writes_the_same() {
        let place = std::env::temp_dir().join(format!("sandbox-tar-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let long = [&[b'd'; 120][..], b"/", &[b'x'; 200]].concat();
        let directory = entry(&[&[b'd'; 120][..], b"/"].concat(), Kind::Directory, 0);
        let link = Entry { link: long.clone(), ..entry(b"link", Kind::SymbolicLink, 0) };
        let bytes = archive(&[
            (Entry { mode: 0o750, ..directory }, b""),
            (entry(&long, Kind::File, 1000), &[9; 1000]),
            (link, b""),
        ]);
        std::fs::write(place.join("archive"), bytes).unwrap();
        for format in ["gnu", "posix"] {
            let script = "cd \"$1\" && mkdir tree && tar -xpf archive -C tree && test -L tree/link \
                && tar --format=\"$2\" -cf again -C tree . && rm -r tree";
            let run =
                std::process::Command::new("sh").args(["-c", script, "sh"]).arg(&place).arg(format).output().unwrap();
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
            let read = all(&std::fs::read(place.join("again")).unwrap()).unwrap();
            let found = |path: &[u8]| {
                let path = [b"./", path].concat();
                read.iter().find(|(entry, _)| entry.path == path).unwrap()
            };
            assert_eq!(
                found(&long),
                &(Entry { path: [b"./", &long[..]].concat(), ..entry(b"", Kind::File, 1000) }, vec![9; 1000])
            );
            assert_eq!(found(b"link").0.link, long);
            assert_eq!(found(&[&[b'd'; 120][..], b"/"].concat()).0.mode, 0o750);
        }
        std::fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn what_is_malformed_is_refused_and_what_is_endless_too() {
        let good = archive(&[(entry(b"a", Kind::File, 600), &[1; 600])]);
        let said = |bytes: &[u8]| all(bytes).unwrap_err().to_string();
        for length in [0, 100, 512, 700, 1112, 1536, 2048] {
            assert!(all(&good[..length]).is_err(), "cut to {length} bytes");
        }
        let mut spoiled = good.clone();
        spoiled[0] ^= 1;
        assert!(said(&spoiled).contains("checksum"));
        let endless = header(b"././@LongLink", b"", b'L', 0, 64 << 10, 0);
        assert!(said(&endless).contains("a name of 65536 bytes"));
        let endless = header(b"x", b"", b'x', 0, 1 << 40, 0);
        assert!(said(&endless).contains("an extended header of"));
        for record in ["no number", "99 path=x\n", "6 path=", "3 x\n", "9 size=-1\n", "0 path=x\n"] {
            let mut bytes = header(b"x", b"", b'x', 0, record.len() as u64, 0).to_vec();
            bytes.extend(record.bytes());
            bytes.resize(1024, 0);
            assert!(all(&[bytes, good.clone()].concat()).is_err(), "{record}");
        }
    }
}
