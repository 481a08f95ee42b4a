//! Commands with a user of their own below a guest that is root.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use ssh2::{FileStat, OpenFlags, OpenType, RenameFlags};

use crate::client::{Client, connect, shell};
use crate::guest::{Guest, Setting, USER};
use crate::people::bytes;

fn below_root() -> Guest {
    let arguments = vec!["--commands-as".to_owned(), format!("{USER}:{USER}")];
    let guest = Guest::with(Setting { as_root: true, arguments, ..Setting::default() });
    std::os::unix::fs::chown(guest.work(), Some(USER), Some(USER)).unwrap();
    guest
}

#[test]
fn people_and_the_library_are_that_user() {
    let guest = below_root();
    assert_eq!(guest.line("id -u; id -g; id -G").stdout, format!("{USER}\n{USER}\n{USER}\n").into_bytes());
    let output = guest.ssh().args(["-tt", "id -u; test -O $(tty) && echo mine"]).output().unwrap();
    assert_eq!(output.stdout, format!("{USER}\r\nmine\r\n").into_bytes());
    let mut client = Client::new(&guest);
    assert_eq!(client.shell("id -u; id -G").text(), format!("{USER}\n{USER}\n"));
    let root = sandbox_protocol::User::Ids { uid: 0, gid: 0, groups: vec![0] };
    let mut run = shell("id -u; id -G");
    run.user = Some(root);
    assert_eq!(client.run(run).text(), "0\n0\n");
    // What keeps a command is root's.
    let refused = client.shell("kill -9 $PPID 2>&1; kill -9 1 2>&1; exit 7");
    assert_eq!((refused.text().matches("not permitted").count(), refused.code()), (2, 7), "{}", refused.text());
}

/// Each request of SFTP that names a file.
#[test]
fn sftp_has_the_rights_of_that_user_and_no_others() {
    let guest = below_root();
    let private = guest.directory.join("private");
    fs::create_dir(&private).unwrap();
    fs::write(private.join("file"), "of root").unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    // One that can be seen, and not written.
    let seen = guest.directory.join("seen");
    fs::write(&seen, "of root").unwrap();
    let link = guest.work().join("link");
    std::os::unix::fs::symlink(private.join("file"), &link).unwrap();
    let sftp = connect(&guest).sftp().unwrap();
    let file = private.join("file");
    let stat = |uid, perm| FileStat { size: None, uid, gid: uid, perm, atime: Some(1), mtime: Some(1) };
    let refused = |what: &str, result: Result<(), ssh2::Error>| {
        // SFTP's PERMISSION_DENIED, or the library's words for EACCES and EPERM.
        let error = result.expect_err(what);
        assert!(matches!(error.code(), ssh2::ErrorCode::SFTP(_)), "{what}: {error}");
    };
    refused("open", sftp.open(&file).map(drop));
    refused("open a link", sftp.open(&link).map(drop));
    refused("open to write", sftp.open_mode(&seen, OpenFlags::WRITE, 0o600, OpenType::File).map(drop));
    refused("create", sftp.create(&guest.directory.join("new")).map(drop));
    refused("opendir", sftp.readdir(&private).map(drop));
    refused("stat", sftp.stat(&file).map(drop));
    refused("lstat", sftp.lstat(&file).map(drop));
    refused("setstat", sftp.setstat(&seen, stat(None, Some(0o666))));
    refused("chown", sftp.setstat(&guest.work(), stat(Some(0), None)));
    refused("readlink", sftp.readlink(&private.join("link")).map(drop));
    refused("symlink", sftp.symlink(Path::new("x"), &guest.directory.join("new")));
    refused("realpath", sftp.realpath(&private.join("x/y")).map(drop));
    refused("rename", sftp.rename(&seen, &guest.directory.join("new"), Some(RenameFlags::all())));
    refused("unlink", sftp.unlink(&seen));
    refused("mkdir", sftp.mkdir(&guest.directory.join("new"), 0o755));
    refused("rmdir", sftp.rmdir(&private));
    assert_eq!(fs::read(&seen).unwrap(), b"of root");
    assert!(!guest.directory.join("new").exists());
    // OpenSSH's own requests: hard links, and copies in the sandbox.
    let batch = guest.directory.join("batch");
    for line in [format!("ln {} hard", file.display()), format!("cp {} copy", file.display())] {
        fs::write(&batch, line).unwrap();
        let output = guest.client("sftp", "-P").arg("-b").arg(&batch).arg("sandbox@127.0.0.1").output().unwrap();
        assert!(!output.status.success(), "{output:?}");
    }
    // What is new is the user's.
    sftp.create(Path::new("file")).unwrap().write_all(&bytes(100_000)).unwrap();
    sftp.mkdir(Path::new("directory"), 0o755).unwrap();
    sftp.symlink(Path::new("file"), Path::new("symbolic")).unwrap();
    for name in ["file", "directory", "symbolic"] {
        let metadata = fs::symlink_metadata(guest.work().join(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (USER, USER), "{name}");
    }
    sftp.setstat(Path::new("file"), stat(Some(USER), Some(0o640))).unwrap();
    assert_eq!(fs::metadata(guest.work().join("file")).unwrap().mode() & 0o7777, 0o640);
}

#[test]
fn sockets_are_reached_with_the_rights_of_that_user() {
    let guest = below_root();
    let path = guest.directory.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let reach = || {
        let mut channel = connect(&guest).channel_direct_streamlocal(path.to_str().unwrap(), None)?;
        let mut text = String::new();
        channel.read_to_string(&mut text).map(|_| text).map_err(|_| ssh2::Error::eof())
    };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(reach().is_err());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"hello").unwrap();
            stream.shutdown(Shutdown::Both).unwrap();
        });
        assert_eq!(reach().unwrap(), "hello");
    });
}
