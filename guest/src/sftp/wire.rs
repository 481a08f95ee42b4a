//! The encoding of requests and answers.

/// Types of packets.
pub(super) mod kind {
    pub(in crate::sftp) const INIT: u8 = 1;
    pub(in crate::sftp) const VERSION: u8 = 2;
    pub(in crate::sftp) const OPEN: u8 = 3;
    pub(in crate::sftp) const CLOSE: u8 = 4;
    pub(in crate::sftp) const READ: u8 = 5;
    pub(in crate::sftp) const WRITE: u8 = 6;
    pub(in crate::sftp) const LSTAT: u8 = 7;
    pub(in crate::sftp) const FSTAT: u8 = 8;
    pub(in crate::sftp) const SETSTAT: u8 = 9;
    pub(in crate::sftp) const FSETSTAT: u8 = 10;
    pub(in crate::sftp) const OPENDIR: u8 = 11;
    pub(in crate::sftp) const READDIR: u8 = 12;
    pub(in crate::sftp) const REMOVE: u8 = 13;
    pub(in crate::sftp) const MKDIR: u8 = 14;
    pub(in crate::sftp) const RMDIR: u8 = 15;
    pub(in crate::sftp) const REALPATH: u8 = 16;
    pub(in crate::sftp) const STAT: u8 = 17;
    pub(in crate::sftp) const RENAME: u8 = 18;
    pub(in crate::sftp) const READLINK: u8 = 19;
    pub(in crate::sftp) const SYMLINK: u8 = 20;
    pub(in crate::sftp) const STATUS: u8 = 101;
    pub(in crate::sftp) const HANDLE: u8 = 102;
    pub(in crate::sftp) const DATA: u8 = 103;
    pub(in crate::sftp) const NAME: u8 = 104;
    pub(in crate::sftp) const ATTRS: u8 = 105;
    pub(in crate::sftp) const EXTENDED: u8 = 200;
    pub(in crate::sftp) const EXTENDED_REPLY: u8 = 201;
}

/// The request ends too early.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short;

/// Reads the fields of a request one after the other.
#[derive(Debug)]
pub(super) struct Reader<'r>(pub(super) &'r [u8]);

impl<'r> Reader<'r> {
    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], Short> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Short)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn string(&mut self) -> Result<&'r [u8], Short> {
        let length = usize::try_from(self.u32()?).map_err(|_| Short)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Short)?;
        self.0 = rest;
        Ok(bytes)
    }
}

pub(super) fn put_u32(to: &mut Vec<u8>, number: u32) {
    to.extend_from_slice(&number.to_be_bytes());
}

pub(super) fn put_u64(to: &mut Vec<u8>, number: u64) {
    to.extend_from_slice(&number.to_be_bytes());
}

pub(super) fn put_string(to: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(to, length_of(bytes.len()));
    to.extend_from_slice(bytes);
}

/// What is sent is far shorter than 4 GiB.
fn length_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Appends a packet whose contents are written by `fill`; it may also take them back and fail, and then nothing is
/// appended.
pub(super) fn packet<E>(
    output: &mut Vec<u8>,
    kind: u8,
    id: u32,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = output.len();
    output.extend_from_slice(&[0, 0, 0, 0, kind]);
    put_u32(output, id);
    if let Err(e) = fill(output) {
        output.truncate(start);
        return Err(e);
    }
    patch(output, start);
    Ok(())
}

/// Writes how many bytes follow at `start`.
pub(super) fn patch(output: &mut [u8], start: usize) {
    let length = length_of(output.len() - start - 4);
    output[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_nothing_beyond_the_end() {
        let mut reader = Reader(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 7, 8, 9]);
        assert_eq!((reader.u32().unwrap(), reader.u64().unwrap(), reader.string().unwrap()), (1, 2, &[7, 8, 9][..]));
        assert!(reader.u32().is_err() && Reader(&[0; 7]).u64().is_err());
        assert!(Reader(&[0, 0, 0, 2, 1]).string().is_err() && Reader(&[255, 255, 255, 255, 1]).string().is_err());
        assert!(Reader(&[0, 0, 0]).string().is_err());
    }

    #[test]
    fn packets_are_framed_or_absent() {
        let mut output = vec![1, 2];
        packet(&mut output, 9, 0x0102_0304, |to| {
            put_string(to, b"ab");
            Ok::<_, ()>(())
        })
        .unwrap();
        assert_eq!(output, [1, 2, 0, 0, 0, 11, 9, 1, 2, 3, 4, 0, 0, 0, 2, b'a', b'b']);
        let failed = packet(&mut output, 9, 1, |to| {
            to.push(1);
            Err(())
        });
        assert_eq!(failed, Err(()));
        assert_eq!(output.len(), 17);
    }
}
