//! An SFTP server, without input and output of its own but the file system.
