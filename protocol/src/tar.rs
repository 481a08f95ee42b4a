//! Archives of trees as streams: the format of tar, read from a sender that may lie, and written for one that reads any
//! tar.
//!
//! What is kept in memory does not depend on what the archive says: a name longer than any path, or an extension that
//! nobody needs, is refused.
//!
//! Two things go beyond the oldest format. Files with holes are written as GNU's sparse format 1.0, in an extended
//! header. And the nanoseconds of a time are in the bytes of a GNU header that nobody uses, since an extended header
//! for each file would make small files a quarter longer; extended headers with fractions of seconds are understood.

use std::io::{self, Read, Write};

pub use crate::time::Time;

const BLOCK: usize = 512;
/// The longest path that Linux takes.
pub const LONGEST_PATH: usize = 4095;
/// The longest extended header that is read. One that holds a path and a link target is a fraction of that.
const LONGEST_EXTENSION: u64 = 64 << 10;
/// tar fills up its last record.
const LONGEST_PADDING: u64 = 1 << 20;
/// How many parts a file with holes may have. What writes such a file joins parts to have no more.
pub const MOST_SEGMENTS: usize = 16_384;
/// Where a header of ours has the nanoseconds, with a mark before them: neither GNU nor the standard has a field there.
const NANOSECONDS: std::ops::Range<usize> = 504..508;
const MARK: &[u8; 4] = b"nano";

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of an earlier entry, [`Entry::link`].
    HardLink,
    /// A symbolic link to [`Entry::link`].
    SymbolicLink,
    /// A directory.
    Directory,
    /// A character or block device.
    Device,
    /// A named pipe.
    Pipe,
    /// Something else, by its letter.
    Unknown(u8),
}

/// A part of a file that is not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// An entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As the archive has it, with slashes and dots.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// How long the file is.
    pub size: u64,
    /// When it was changed last.
    pub modified: Time,
    /// What a link leads to.
    pub link: Vec<u8>,
    /// If the file has holes: what is between them, in order. The contents in the archive are only these.
    pub segments: Option<Vec<Segment>>,
}

fn malformed(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the archive is malformed: {}", what.into()))
}

/// Whoever sends the archive may know why.
fn cut_off(place: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the archive ends {place}"))
}

/// Reads an archive entry by entry.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// Of the current entry: contents not read yet, and what fills up its last block.
    left: u64,
    padding: u64,
    /// Of the current entry: the parts that are not read yet, the last first, if it has holes; else where the next byte
    /// belongs.
    segments: Option<Vec<Segment>>,
    offset: u64,
}

/// What extensions say about the entry behind them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<Time>,
    sparse: Sparse,
}

#[derive(Default)]
struct Sparse {
    major: Option<u64>,
    minor: Option<u64>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<R: Read> Reader<R> {
    /// Begins to read.
    pub fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0, segments: None, offset: 0 }
    }

    /// The next entry, or `None` behind the last, once its end mark is seen. What is left of the contents before is
    /// skipped.
    ///
    /// # Errors
    /// Those of the input, `InvalidData` for what is no archive, `UnexpectedEof` for one that is cut off.
    #[expect(clippy::should_implement_trait, reason = "contents are read between two entries")]
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
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
            self.begin_contents(number(&header[124..136])?);
            match header[156] {
                b'L' => extended.path = Some(self.text()?),
                b'K' => extended.link = Some(self.text()?),
                b'x' => self.extension()?.into_iter().try_for_each(|(key, value)| extended.take(&key, value))?,
                // What holds for all entries is of no interest.
                b'g' => self.skip_contents()?,
                kind => return self.entry(&header, kind, extended).map(Some),
            }
        }
    }

    fn begin_contents(&mut self, size: u64) {
        (self.left, self.padding, self.segments, self.offset) = (size, padding_of(size), None, 0);
    }

    fn entry(&mut self, header: &[u8; BLOCK], kind: u8, extended: Extended) -> io::Result<Entry> {
        let mut path = text(&header[..100]).to_vec();
        // Only the standard's headers have a prefix; GNU's have something else there.
        if &header[257..263] == b"ustar\0" && header[345] != 0 {
            path = [text(&header[345..500]), b"/", &path].concat();
        }
        let path = extended.sparse.name.or(extended.path).unwrap_or(path);
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
            self.begin_contents(size);
        }
        if kind != Kind::File && !matches!(kind, Kind::Unknown(_)) {
            // Some archivers write a size where there are no contents.
            self.begin_contents(0);
        }
        let (mut size, mut segments) = (self.left, None);
        match (extended.sparse.major, extended.sparse.minor, extended.sparse.size) {
            (None, None, None) => {}
            (Some(1), Some(0), Some(real)) if kind == Kind::File => {
                let map = self.sparse_map(real)?;
                self.segments = Some(map.iter().rev().copied().collect());
                (size, segments) = (real, Some(map));
            }
            _ => return Err(malformed("a file with holes in an unknown format")),
        }
        Ok(Entry {
            path,
            kind,
            mode: u32::try_from(number(&header[100..108])? & 0o7777).unwrap_or(0),
            size,
            modified: match extended.modified {
                Some(modified) => modified,
                None => Time { seconds: signed(&header[136..148])?, nanoseconds: nanoseconds(header) },
            },
            link: extended.link.unwrap_or_else(|| text(&header[157..257]).to_vec()),
            segments,
        })
    }

    /// What the beginning of the contents says of a file with holes.
    fn sparse_map(&mut self, size: u64) -> io::Result<Vec<Segment>> {
        let (mut block, mut at) = ([0; BLOCK], BLOCK);
        let mut decimal = || {
            let mut value = None;
            loop {
                if at == BLOCK {
                    if self.left < BLOCK as u64 {
                        return Err(malformed("a file with holes that is too short"));
                    }
                    self.input.read_exact(&mut block).map_err(|_| cut_off("in the middle of a file"))?;
                    self.left -= BLOCK as u64;
                    at = 0;
                }
                at += 1;
                match block[at - 1] {
                    b'\n' => return value.ok_or_else(|| malformed("a number that is none")),
                    digit @ b'0'..=b'9' => {
                        let next = value.unwrap_or(0u64).checked_mul(10);
                        let next = next.and_then(|value| value.checked_add(u64::from(digit - b'0')));
                        value = Some(next.ok_or_else(|| malformed("a number that is too large"))?);
                    }
                    _ => return Err(malformed("a number that is none")),
                }
            }
        };
        let count = decimal()?;
        if count > MOST_SEGMENTS as u64 + 1 {
            return Err(malformed(format!("a file with {count} parts between holes")));
        }
        let (mut map, mut end, mut stored) = (Vec::new(), 0u64, 0u64);
        for _ in 0..count {
            let segment = Segment { offset: decimal()?, length: decimal()? };
            let next = segment.offset.checked_add(segment.length).filter(|next| *next <= size && segment.offset >= end);
            end = next.ok_or_else(|| malformed("parts of a file that overlap"))?;
            stored += segment.length;
            map.push(segment);
        }
        if stored != self.left {
            return Err(malformed("a file with holes of another size"));
        }
        map.retain(|segment| segment.length > 0);
        Ok(map)
    }

    /// Contents of the current entry, and where in the file they belong; `None` at their end. What is between is a
    /// hole.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<(u64, usize)>> {
        let mut room = self.left;
        if let Some(segments) = &self.segments {
            let Some(segment) = segments.last() else { return Ok(None) };
            (room, self.offset) = (segment.length, segment.offset);
        }
        let room = buffer.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if room == 0 {
            return Ok(None);
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
        let offset = self.offset;
        self.offset += length as u64;
        if let Some(segments) = &mut self.segments
            && let Some(segment) = segments.last_mut()
        {
            segment.offset += length as u64;
            segment.length -= length as u64;
            if segment.length == 0 {
                segments.pop();
            }
        }
        Ok(Some((offset, length)))
    }

    fn skip_contents(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        while self.read(&mut buffer)?.is_some() {}
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
        let whole = |value: &[u8]| {
            let value = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
            value.ok_or_else(|| malformed("a number of an extended header"))
        };
        match key {
            b"path" | b"linkpath" | b"GNU.sparse.name" if value.len() > LONGEST_PATH => {
                return Err(malformed(format!("a name of {} bytes", value.len())));
            }
            b"path" => self.path = Some(value),
            b"linkpath" => self.link = Some(value),
            b"size" => self.size = Some(whole(&value)?),
            b"mtime" => self.modified = Some(time(&value)?),
            b"GNU.sparse.name" => self.sparse.name = Some(value),
            b"GNU.sparse.major" => self.sparse.major = Some(whole(&value)?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(whole(&value)?),
            b"GNU.sparse.realsize" => self.sparse.size = Some(whole(&value)?),
            // An older format.
            b"GNU.sparse.size" | b"GNU.sparse.map" | b"GNU.sparse.numblocks" => self.sparse.major = Some(0),
            _ => {}
        }
        Ok(())
    }
}

/// Seconds with a fraction.
fn time(text: &[u8]) -> io::Result<Time> {
    let wrong = || malformed("a time of an extended header");
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| wrong())?;
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong());
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    match (whole.starts_with('-'), nanoseconds) {
        (true, 1..) => Ok(Time { seconds: seconds.saturating_sub(1), nanoseconds: 1_000_000_000 - nanoseconds }),
        _ => Ok(Time { seconds, nanoseconds }),
    }
}

/// What a header of ours has in its unused bytes.
fn nanoseconds(header: &[u8; BLOCK]) -> u32 {
    let is_ours = &header[NANOSECONDS.start - MARK.len()..NANOSECONDS.start] == MARK;
    let nanoseconds = header[NANOSECONDS].try_into().map_or(0, u32::from_be_bytes);
    if is_ours && nanoseconds < 1_000_000_000 { nanoseconds } else { 0 }
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
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    /// Of the current entry, what fills up its last block.
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Begins to write.
    pub fn new(output: W) -> Self {
        Self { output, padding: 0 }
    }

    /// Begins an entry. If it is a file, as many bytes as it has, or as its segments have, must be written next.
    ///
    /// # Errors
    /// Those of the output.
    pub fn begin(&mut self, entry: &Entry) -> io::Result<()> {
        self.pad()?;
        if let Some(segments) = &entry.segments {
            return self.begin_sparse(entry, segments);
        }
        for (long, kind) in [(&entry.link, b'K'), (&entry.path, b'L')] {
            if long.len() > 100 {
                let size = long.len() as u64 + 1;
                self.output.write_all(&header(b"././@LongLink", b"", kind, 0, size, Time::default()))?;
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
        let size = if entry.kind == Kind::File { entry.size } else { 0 };
        self.padding = usize::try_from(padding_of(size)).unwrap_or(0);
        self.output.write_all(&header(&entry.path, &entry.link, kind, entry.mode, size, entry.modified))
    }

    fn begin_sparse(&mut self, entry: &Entry, segments: &[Segment]) -> io::Result<()> {
        let mut records = Vec::new();
        for (key, value) in [
            ("GNU.sparse.major", &b"1"[..]),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", &entry.path),
            ("GNU.sparse.realsize", entry.size.to_string().as_bytes()),
        ] {
            record(&mut records, key, value);
        }
        let size = records.len() as u64;
        records.resize(records.len() + usize::try_from(padding_of(size)).unwrap_or(0), 0);
        // An empty part at the end, which GNU's tar takes the size from.
        let end = Segment { offset: entry.size, length: 0 };
        let mut map = format!("{}\n", segments.len() + 1).into_bytes();
        for segment in segments.iter().chain([&end]) {
            write!(map, "{}\n{}\n", segment.offset, segment.length)?;
        }
        map.resize(map.len() + usize::try_from(padding_of(map.len() as u64)).unwrap_or(0), 0);
        let stored = map.len() as u64 + segments.iter().map(|segment| segment.length).sum::<u64>();
        let name = b"GNUSparseFile.0/file";
        for (header, contents) in [
            (header(b"PaxHeaders.0/file", b"", b'x', 0o644, size, Time::default()), &records),
            (header(name, b"", b'0', entry.mode, stored, entry.modified), &map),
        ] {
            // GNU's tar takes the mark of its own headers for that of its older format of files with holes.
            self.output.write_all(&signed_as(header, b"ustar\x0000"))?;
            self.output.write_all(contents)?;
        }
        self.padding = usize::try_from(padding_of(stored)).unwrap_or(0);
        Ok(())
    }

    /// Writes contents of the current entry.
    ///
    /// # Errors
    /// Those of the output.
    pub fn write(&mut self, contents: &[u8]) -> io::Result<()> {
        self.output.write_all(contents)
    }

    /// Fills up the last block of contents.
    fn pad(&mut self) -> io::Result<()> {
        self.output.write_all(&[0; BLOCK][..std::mem::take(&mut self.padding)])
    }

    /// Writes the end mark and gives the output back.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<W> {
        self.pad()?;
        self.output.write_all(&[0; 2 * BLOCK])?;
        self.output.flush()?;
        Ok(self.output)
    }
}

/// Appends a record of an extended header, whose length counts itself.
fn record(to: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    to.extend_from_slice(format!("{length} {key}=").as_bytes());
    to.extend_from_slice(value);
    to.push(b'\n');
}

fn header(path: &[u8], link: &[u8], kind: u8, mode: u32, size: u64, modified: Time) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &path[..path.len().min(100)]);
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, &field(i128::from(size)));
    put(136, &field(i128::from(modified.seconds)));
    put(156, &[kind]);
    put(157, &link[..link.len().min(100)]);
    if modified.nanoseconds != 0 {
        put(NANOSECONDS.start - MARK.len(), MARK);
        put(NANOSECONDS.start, &modified.nanoseconds.to_be_bytes());
    }
    signed_as(header, b"ustar  \0")
}

/// A header with the mark of a format, and its sum.
fn signed_as(mut header: [u8; BLOCK], mark: &[u8; 8]) -> [u8; BLOCK] {
    header[257..265].copy_from_slice(mark);
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
        let (modified, link) = (Time { seconds: 1_234_567_890, nanoseconds: 0 }, Vec::new());
        Entry { path: path.to_vec(), kind, mode: 0o640, size, modified, link, segments: None }
    }

    fn archive(entries: &[(Entry, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (entry, contents) in entries {
            writer.begin(entry).unwrap();
            writer.write(contents).unwrap();
        }
        writer.finish().unwrap()
    }

    /// All entries with their contents, holes filled.
    fn all(bytes: &[u8]) -> io::Result<Vec<(Entry, Vec<u8>)>> {
        let (mut reader, mut entries) = (Reader::new(bytes), Vec::new());
        while let Some(entry) = reader.next()? {
            let (mut contents, mut buffer) = (Vec::new(), [0; 100]);
            while let Some((offset, length)) = reader.read(&mut buffer)? {
                contents.resize(usize::try_from(offset).unwrap(), 0);
                contents.extend_from_slice(&buffer[..length]);
            }
            if entry.kind == Kind::File {
                contents.resize(usize::try_from(entry.size).unwrap(), 0);
            }
            entries.push((entry, contents));
        }
        Ok(entries)
    }

    fn segment(offset: u64, length: u64) -> Segment {
        Segment { offset, length }
    }

    #[test]
    fn what_is_written_is_read() {
        let long = [&b"d/"[..], &[b'x'; 300], b"/\xff\n"].concat();
        let link = Entry { link: long.clone(), ..entry(b"link", Kind::SymbolicLink, 0) };
        let old = Time { seconds: -5, nanoseconds: 999_999_999 };
        let entries = [
            (entry(b"./", Kind::Directory, 0), &b""[..]),
            (entry(b"./a", Kind::File, 3), b"abc"),
            (entry(&long, Kind::File, 512), &[7; 512]),
            (link, b""),
            (Entry { modified: old, ..entry(b"old", Kind::File, 0) }, b""),
            (entry(&[b'y'; 100], Kind::File, 513), &[8; 513]),
        ];
        let read = all(&archive(&entries)).unwrap();
        for ((entry, contents), expected) in read.iter().zip(&entries) {
            assert_eq!((entry, &contents[..]), (&expected.0, expected.1));
        }
        assert_eq!(read.len(), entries.len());
    }

    #[test]
    fn holes_are_not_in_the_archive() {
        let long = [b'n'; 300];
        let modified = Time { seconds: 1, nanoseconds: 2 };
        let sparse = |name: &[u8], size, segments: &[Segment]| {
            (Entry { modified, segments: Some(segments.to_vec()), ..entry(name, Kind::File, size) }, vec![7u8; 700])
        };
        for (sent, stored) in [
            (sparse(b"a", 1 << 20, &[segment(0, 100), segment(1000, 500), segment((1 << 20) - 100, 100)]), 700),
            (sparse(&long, 5000, &[segment(4000, 1)]), 1),
            (sparse(b"only a hole", 5000, &[]), 0),
        ] {
            let bytes = archive(&[(sent.0.clone(), &sent.1[..stored]), (entry(b"behind", Kind::File, 1), b"x")]);
            assert!(bytes.len() < 8 << 10);
            let read = all(&bytes).unwrap();
            assert_eq!((&read[0].0, read[0].1.len() as u64), (&sent.0, sent.0.size));
            let is_data = |at: u64| {
                let segments = sent.0.segments.as_ref().unwrap();
                segments.iter().any(|segment| (segment.offset..segment.offset + segment.length).contains(&at))
            };
            for (at, byte) in read[0].1.iter().enumerate() {
                assert_eq!(*byte, if is_data(at as u64) { 7 } else { 0 }, "{at}");
            }
            assert_eq!((&read[1].0.path[..], &read[1].1[..]), (&b"behind"[..], &b"x"[..]));
        }
        // Skipped, not read.
        let (sent, contents) = sparse(b"a", 1 << 20, &[segment(0, 100), segment(1000, 600)]);
        let bytes = archive(&[(sent, &contents), (entry(b"b", Kind::File, 0), b"")]);
        let mut reader = Reader::new(&bytes[..]);
        assert_eq!(
            (reader.next().unwrap().unwrap().path, reader.next().unwrap().unwrap().path),
            (b"a".to_vec(), b"b".to_vec())
        );
    }

    #[test]
    fn numbers_of_every_size() {
        for value in [0, 1, 8_589_934_591, 8_589_934_592, 1 << 62, i64::MAX, -1, -1 << 40] {
            assert_eq!(signed(&field(value.into())).unwrap(), value);
        }
        assert_eq!(number(b"  644 \0").unwrap(), 0o644);
        assert!(number(b"9").is_err() && number(b"\xff\xff\xff\xff").is_err());
        assert!(signed(&[0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
        let time = |seconds, nanoseconds| Time { seconds, nanoseconds };
        for (text, expected) in [
            ("5", time(5, 0)),
            ("5.25", time(5, 250_000_000)),
            ("0.0000000019", time(0, 1)),
            ("-1.5", time(-2, 500_000_000)),
            ("-0.25", time(-1, 750_000_000)),
            ("-7", time(-7, 0)),
        ] {
            assert_eq!(super::time(text.as_bytes()).unwrap(), expected, "{text}");
        }
        for text in ["", ".5", "x", "1.x", "1.-5", "99999999999999999999"] {
            assert!(super::time(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn tar_itself_reads_and_writes_the_same() {
        let place = std::env::temp_dir().join(format!("sandbox-protocol-tar-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let long = [&[b'd'; 120][..], b"/", &[b'x'; 200]].concat();
        let directory = entry(&[&[b'd'; 120][..], b"/"].concat(), Kind::Directory, 0);
        let link = Entry { link: long.clone(), ..entry(b"link", Kind::SymbolicLink, 0) };
        let segments = Some(vec![segment(0, 4096), segment(1 << 20, 4096)]);
        let modified = Time { seconds: 1_234_567_890, nanoseconds: 123_456_789 };
        let sparse = Entry { segments, modified, ..entry(&[b's'; 150], Kind::File, 3 << 20) };
        let bytes = archive(&[
            (Entry { mode: 0o750, ..directory }, b""),
            (entry(&long, Kind::File, 1000), &[9; 1000]),
            (link, b""),
            (sparse, &[5; 8192]),
        ]);
        // In files, unlike in streams, GNU's tar wants whole records.
        let records = bytes.len().next_multiple_of(10_240);
        std::fs::write(place.join("archive"), [&bytes[..], &vec![0; records - bytes.len()]].concat()).unwrap();
        for format in ["gnu", "posix"] {
            let script = "cd \"$1\" && mkdir tree && tar -xpf archive -C tree && test -L tree/link \
                && tar --format=\"$2\" -c $3 -f again -C tree . && rm -r tree";
            let sparse = if format == "posix" { "-S" } else { "" };
            let run = std::process::Command::new("sh")
                .args(["-c", script, "sh"])
                .arg(&place)
                .args([format, sparse])
                .output()
                .unwrap();
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
            let (entry, contents) = found(&[b's'; 150]);
            assert_eq!(
                (entry.size, entry.segments.is_some(), entry.modified.seconds),
                (3 << 20, format == "posix", 1_234_567_890)
            );
            assert!(contents.iter().enumerate().all(|(at, byte)| match at {
                0..4096 | 1_048_576..1_052_672 => *byte == 5,
                _ => *byte == 0,
            }));
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
        let none = Time::default();
        let endless = header(b"././@LongLink", b"", b'L', 0, 64 << 10, none);
        assert!(said(&endless).contains("a name of 65536 bytes"));
        let endless = header(b"x", b"", b'x', 0, 1 << 40, none);
        assert!(said(&endless).contains("an extended header of"));
        let extended = |records: &str, rest: &[u8]| {
            let mut bytes = header(b"x", b"", b'x', 0, records.len() as u64, none).to_vec();
            bytes.extend(records.bytes());
            bytes.resize(1024, 0);
            [&bytes, rest].concat()
        };
        for record in ["no number", "99 path=x\n", "6 path=", "3 x\n", "9 size=-1\n", "0 path=x\n"] {
            assert!(all(&extended(record, &good)).is_err(), "{record}");
        }
        let sparse = "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n31 GNU.sparse.realsize=1000000\n";
        for map in ["99999999\n", "1\n0\n601\n", "1\n0\n", "x", "1\n999999\n600\n", "2\n300\n300\n0\n300\n", "1\n\n5\n"]
        {
            let mut contents = map.as_bytes().to_vec();
            contents.resize(512 + 600, 0);
            let file = archive(&[(entry(b"a", Kind::File, 1112), &contents)]);
            assert!(all(&extended(sparse, &file)).is_err(), "{map}");
        }
        let mut contents = b"1\n400\n600\n".to_vec();
        contents.resize(512 + 600, 1);
        let file = archive(&[(entry(b"a", Kind::File, 1112), &contents)]);
        assert_eq!(all(&extended(sparse, &file)).unwrap()[0].0.size, 1_000_000);
        let old = "27 GNU.sparse.size=1000000\n";
        assert!(all(&extended(old, &file)).unwrap_err().to_string().contains("holes in an unknown format"));
    }

    #[test]
    fn mutations_never_panic() {
        let sparse = Entry { segments: Some(vec![segment(3, 5)]), ..entry(&[b'z'; 120], Kind::File, 100) };
        let link = Entry { link: vec![b'l'; 150], ..entry(b"l", Kind::HardLink, 0) };
        let good = archive(&[(entry(b"a", Kind::File, 600), &[1; 600]), (sparse, b"12345"), (link, b"")]);
        let mut state = 0x5eed_u64;
        let mut random = |most: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 32).unwrap() % most
        };
        let mut read = 0;
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                bytes[at] = u8::try_from(random(256)).unwrap();
            }
            // The sum is made right again, so that what is behind it is reached.
            for at in (0..bytes.len()).step_by(BLOCK) {
                let mut block: [u8; BLOCK] = bytes[at..at + BLOCK].try_into().unwrap();
                if &block[257..262] == b"ustar" {
                    let sum = format!("{:06o}\0 ", sum_of(&block));
                    block[148..156].copy_from_slice(sum.as_bytes());
                    bytes[at..at + BLOCK].copy_from_slice(&block);
                }
            }
            let (mut reader, mut buffer) = (Reader::new(&bytes[..]), [0; 4096]);
            while let Ok(Some(_)) = reader.next() {
                while let Ok(Some(_)) = reader.read(&mut buffer) {}
                read += 1;
            }
        }
        assert!(read > 20_000);
    }
}
