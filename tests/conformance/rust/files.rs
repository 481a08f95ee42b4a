//! The scenarios of files.

use super::*;

pub(crate) fn files(world: &World) {
    let files = world.sandbox().files();
    files.write("whole", b"f\0\xff\n").unwrap();
    files.append("whole", "more").unwrap();
    assert_eq!(files.read("whole").unwrap(), b"f\0\xff\nmore");
    files.write("whole", "").unwrap();
    assert_eq!(files.read("whole").unwrap(), b"");

    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let mut file = files.open_with("opened", &options).unwrap();
    file.write_all(b"0123456789").unwrap();
    assert_eq!(file.seek(SeekFrom::End(-4)).unwrap(), 6);
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "6789");
    file.set_len(5).unwrap();
    file.set_permissions(0o644).unwrap();
    file.sync_all().unwrap();
    let found = file.metadata().unwrap();
    assert_eq!((found.len(), found.mode(), file.path()), (5, 0o644, Path::new("opened")));
    file.close().unwrap();
    fails(ErrorKind::FileExists, "opened", files.open_with("opened", &options));
    files.open_with("opened", OpenOptions::new().append(true)).unwrap().write_all(b"end").unwrap();
    files.open_with("opened", OpenOptions::new().write(true)).unwrap().write_all(b"begin").unwrap();
    assert_eq!(io::read_to_string(files.open("opened").unwrap()).unwrap(), "beginend");
    files.open_with("opened", OpenOptions::new().write(true).truncate(true)).unwrap().close().unwrap();
    files.open_with("new", OpenOptions::new().write(true).create(true)).unwrap().close().unwrap();
    assert!(files.read("opened").unwrap().is_empty() && files.exists("new").unwrap());

    let odd = Path::new(std::ffi::OsStr::from_bytes(b"dir/odd \xff"));
    files.create_dir("dir").unwrap();
    files.create_dir_all("dir/a/b").unwrap();
    files.write(odd, "onetwo").unwrap();
    files.set_permissions(odd, 0o640).unwrap();
    files.symlink("no where", "dir/link").unwrap();
    assert_eq!(files.read_link("dir/link").unwrap(), Path::new("no where"));
    assert_eq!(files.canonicalize("dir/../dir").unwrap(), Path::new("/home/sandbox/dir"));
    let found = files.metadata(odd).unwrap();
    assert_eq!((found.is_file(), found.len(), found.mode()), (true, 6, 0o640));
    assert!(found.modified().unwrap() > SystemTime::UNIX_EPOCH && found.accessed().is_some());
    assert!(files.symlink_metadata("dir/link").unwrap().is_symlink() && files.metadata("dir").unwrap().is_dir());
    assert!(!files.exists("dir/link").unwrap() && files.exists("dir/a").unwrap());
    let mut entries = files.read_dir("dir").unwrap();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let kinds = entries.iter().map(|entry| (entry.name.as_bytes(), entry.metadata.is_dir())).collect::<Vec<_>>();
    assert_eq!(kinds, [(&b"a"[..], true), (b"link", false), (b"odd \xff", false)]);
    files.write("dir/plain", "old").unwrap();
    files.rename(odd, "dir/plain").unwrap();
    assert_eq!(files.read("dir/plain").unwrap(), b"onetwo");
    files.remove_file("dir/link").unwrap();
    fails(ErrorKind::FileNotFound, "dir/link", files.remove_file("dir/link"));
    files.remove_dir("dir/a/b").unwrap();
    fails(ErrorKind::DirectoryNotEmpty, "not empty", files.remove_dir("dir"));
    files.remove_dir_all("dir").unwrap();
    assert!(!files.exists("dir").unwrap());
}

pub(crate) fn transfers(world: &World) {
    let (files, many) = (world.sandbox().files(), numbers(LARGE));
    let (there, back) = (world.path("large"), world.path("large-back"));
    fs::write(&there, &many).unwrap();
    let mut seen = Vec::new();
    let record = |progress: &Progress<'_>| {
        seen.push((progress.path.to_owned(), progress.done, progress.total));
        Ok(())
    };
    let moved = files.transfer().checksum(true).sync(true).progress(record).upload(&there, "large").unwrap();
    assert_eq!((moved.bytes, moved.resumed, moved.sha256.unwrap()[31]), (LARGE as u64, 0, 0x7f));
    assert!(seen.is_sorted_by_key(|(_, done, _)| *done));
    assert_eq!(seen.pop().unwrap(), (there.clone(), LARGE as u64, Some(LARGE as u64)));
    files.transfer().checksum(true).sync(true).download("large", &back).unwrap();
    assert!(fs::read(&back).unwrap() == many);
    let mut received = Vec::new();
    files.transfer().upload_from(&many[..], "numbers").unwrap();
    files.transfer().download_to("numbers", &mut received).unwrap();
    assert!(received == many);
    assert_eq!(files.upload(&back, "large").unwrap(), LARGE as u64);
    assert_eq!(world.sandbox().download_file("large", &back).unwrap(), LARGE as u64);
    fails(ErrorKind::FileNotFound, "nor-here", world.sandbox().upload_file("nor-here", "x"));

    let interrupt = |progress: &Progress<'_>| match progress.done {
        0 => Ok(()),
        _ => Err(Error::cancelled("enough")),
    };
    fs::remove_file(&back).unwrap();
    let upload = files.transfer().resume(true).progress(interrupt).upload(&there, "resumed");
    fails(ErrorKind::Cancelled, "enough", upload);
    assert!(files.transfer().resume(true).upload(&there, "resumed").unwrap().resumed > 0);
    let download = files.transfer().resume(true).progress(interrupt).download("resumed", &back);
    fails(ErrorKind::Cancelled, "enough", download);
    assert!(files.transfer().resume(true).download("resumed", &back).unwrap().resumed > 0);
    assert!(fs::read(&back).unwrap() == many);
    let refused = files.transfer().max_bytes(LARGE as u64 - 1).download("large", world.path("refused"));
    fails(ErrorKind::Transfer, "16777215 bytes", refused);
    assert!(!world.path("refused").exists());
}

pub(crate) fn trees(world: &World) {
    let (files, there, back) = (world.sandbox().files(), world.path("tree"), world.path("tree-back"));
    fs::create_dir_all(there.join("empty")).unwrap();
    fs::write(there.join("plain"), b"plain \xff").unwrap();
    fs::write(there.join("program"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(there.join("program"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("plain", there.join("link")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(there.join("pipe")).status().unwrap().success());
    let report = files.upload_dir(&there, "tree").unwrap();
    assert_eq!((report.files, report.directories, report.symlinks, report.bytes), (2, 2, 1, 17));
    let note = &report.notes[0];
    assert_eq!((report.skipped, &*note.path, &*note.text), (1, Path::new("pipe"), "a named pipe"));
    let report = files.download_dir("tree", &back).unwrap();
    assert_eq!((report.files, report.directories, report.symlinks, report.skipped), (2, 2, 1, 0));
    assert_eq!(fs::read(back.join("plain")).unwrap(), b"plain \xff");
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(back.join("program")), mode(there.join("program")));
    assert!(back.join("empty").is_dir() && fs::read_link(back.join("link")).unwrap() == Path::new("plain"));
    let refused = files.transfer().max_entries(2).download_dir("tree", world.path("tree-refused"));
    fails(ErrorKind::Transfer, "2", refused);
    assert!(!world.path("tree-refused").exists());
}

pub(crate) fn file_errors(world: &World) {
    let (sandbox, files) = (world.sandbox(), world.sandbox().files());
    files.create_dir_all("errors/dir").unwrap();
    files.write("errors/file", "x").unwrap();
    sandbox.execute("cp \"$(command -v sleep)\" errors/program").unwrap().check().unwrap();
    let running = sandbox.command("./errors/program").arg("6790").spawn().unwrap();
    await_that("the program runs", || world.runs("errors/progra[m] 6790"));
    fs::write(world.path("plain"), "x").unwrap();
    let (here, below) = (&world.directory, world.path("plain/below"));
    let (not_found, directory) = (io::ErrorKind::NotFound, io::ErrorKind::IsADirectory);
    let (no_directory, exists) = (io::ErrorKind::NotADirectory, io::ErrorKind::AlreadyExists);
    for (kind, number, io_kind, text, result) in [
        (
            ErrorKind::FileNotFound,
            libc::ENOENT,
            not_found,
            "'no-such-file' in the",
            files.read("no-such-file").map(drop),
        ),
        (ErrorKind::FileExists, libc::EEXIST, exists, "'/tmp' in the sandbox", files.create_dir("/tmp")),
        (ErrorKind::IsADirectory, libc::EISDIR, directory, "'/tmp' in the sandbox", files.read("/tmp").map(drop)),
        (ErrorKind::IsADirectory, libc::EISDIR, directory, "errors/dir", files.remove_file("errors/dir")),
        (ErrorKind::IsADirectory, libc::EISDIR, directory, "errors/dir", files.write("errors/dir", "x")),
        (ErrorKind::NotADirectory, libc::ENOTDIR, no_directory, "file", files.read_dir("errors/file").map(drop)),
        (ErrorKind::NotADirectory, libc::ENOTDIR, no_directory, "x", files.metadata("errors/file/x").map(drop)),
        (ErrorKind::NotADirectory, libc::ENOTDIR, no_directory, "x", files.create_dir_all("errors/file/x")),
        (
            ErrorKind::DirectoryNotEmpty,
            libc::ENOTEMPTY,
            io::ErrorKind::DirectoryNotEmpty,
            "'errors' in the sandbox",
            files.remove_dir("errors"),
        ),
        (ErrorKind::ReadOnly, libc::EROFS, io::ErrorKind::ReadOnlyFilesystem, "/sys/x", files.create_dir("/sys/x")),
        (ErrorKind::Busy, libc::ETXTBSY, io::ErrorKind::ExecutableFileBusy, "m", files.append("errors/program", "x")),
        (
            ErrorKind::NameTooLong,
            libc::ENAMETOOLONG,
            io::ErrorKind::InvalidFilename,
            "nnn",
            files.create_dir("n".repeat(256)),
        ),
        (
            ErrorKind::Transfer,
            libc::EXDEV,
            io::ErrorKind::CrossesDevices,
            "errors/file",
            files.rename("errors/file", "/dev/shm/file"),
        ),
        (ErrorKind::FileNotFound, libc::ENOENT, not_found, "on this machine", files.upload("nor-here", "x").map(drop)),
        (ErrorKind::IsADirectory, libc::EISDIR, directory, "on this machine", files.upload(here, "x").map(drop)),
        (
            ErrorKind::NotADirectory,
            libc::ENOTDIR,
            no_directory,
            "on this machine",
            files.download("errors/file", below).map(drop),
        ),
    ] {
        let error = fails(kind, text, result);
        assert_eq!((error.raw_os_error(), error.sandbox()), (Some(number), Some(sandbox.name())), "{error}");
        assert_eq!(io::Error::from(error).kind(), io_kind);
    }
    assert!(!files.exists("errors/file/x").unwrap() && files.exists("errors/file").unwrap());
    let error = fails(ErrorKind::Command, "no-such-program", sandbox.command("no-such-program").output());
    assert_eq!((error.raw_os_error(), io::Error::from(error).kind()), (Some(libc::ENOENT), not_found));
    running.kill().unwrap();
    files.remove_dir_all("errors").unwrap();
}
