//! The image of the guest as an OCI archive, made without a builder: from the same program the same bytes.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use openssl::sha::sha256;
use serde_json::{Value, json};

use crate::arguments::GuestImage;
use crate::output::Failure;

/// The program with its permissions. It can be executed but not read, so that no process of it can be taken over; the
/// second one is for runtimes that execute only what they can read, such as gVisor.
const FILES: [(&str, u32); 2] = [("sandbox-guest", 0o111), ("sandbox-guest-readable", 0o555)];
const PROGRAM: &str = "sandbox-guest";
const BLOCK: usize = 512;
/// Larger than any guest, and small enough for memory.
const LARGEST: u64 = 256 << 20;

/// The guest that was there when this command was built.
#[cfg(embeds_guest)]
static EMBEDDED: Option<&[u8]> = Some(include_bytes!(env!("SANDBOX_GUEST_PROGRAM")));
#[cfg(not(embeds_guest))]
static EMBEDDED: Option<&[u8]> = None;

pub(crate) fn guest_image(arguments: &GuestImage) -> Result<(), Failure> {
    let program = program(arguments.program.as_deref())?;
    let archive = archive(&program, &arguments.name).map_err(Failure::here)?;
    if arguments.file.as_os_str() == "-" {
        let mut stdout = io::stdout().lock();
        if stdout.is_terminal() {
            return Err(Failure::here("an image is nothing for a terminal: redirect the output, or name a file"));
        }
        return Ok(stdout.write_all(&archive).and_then(|()| stdout.flush())?);
    }
    write_whole(&arguments.file, &archive)
        .map_err(|e| Failure::here(format!("{} can't be written: {e}", arguments.file.display())))
}

/// The file is there whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let write = || {
        let mut file = File::create_new(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&part);
    })
}

fn program(named: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let read = |path: &Path| {
        let wrong = |e: io::Error| Failure::here(format!("the guest {} can't be read: {e}", path.display()));
        let size = fs::metadata(path).map_err(wrong)?.len();
        if size > LARGEST {
            return Err(Failure::here(format!("{} is no guest: it has {size} bytes", path.display())));
        }
        fs::read(path).map_err(wrong)
    };
    if let Some(path) = named {
        return read(path);
    }
    if let Some(program) = EMBEDDED {
        return Ok(program.to_vec());
    }
    let beside = std::env::current_exe().map(|own| own.with_file_name(PROGRAM)).unwrap_or_else(|_| PROGRAM.into());
    match beside.exists() {
        true => read(&beside),
        false => Err(Failure::here(format!(
            "there is no guest: this command was built without it, and there is no {}; name it with --program, \
             `make guest` in the source tree builds it",
            beside.display()
        ))),
    }
}

/// The archive with one image: one layer with [`FILES`].
fn archive(program: &[u8], name: &str) -> Result<Vec<u8>, String> {
    let architecture = architecture(program)?;
    let mut layer = Vec::with_capacity(FILES.len() * (program.len() + 2 * BLOCK) + 2 * BLOCK);
    for (name, mode) in FILES {
        add(&mut layer, name, mode, program);
    }
    finish(&mut layer);
    // Sorted keys: a map has them in this order whatever serde_json is built with.
    let config = json!({
        "architecture": architecture,
        "config": {"Entrypoint": [format!("/{PROGRAM}")]},
        "created": "1970-01-01T00:00:00Z",
        "os": "linux",
        "rootfs": {"diff_ids": [digest(&layer)], "type": "layers"},
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "schemaVersion": 2,
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    // By the first containerd finds its name, by the second others do.
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    entry["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
    let index = json!({
        "manifests": [entry],
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "schemaVersion": 2,
    });
    let mut archive = Vec::with_capacity(layer.len() + 32 * BLOCK);
    add(&mut archive, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
    add(&mut archive, "index.json", 0o644, index.to_string().as_bytes());
    for blob in [&config, &manifest, &layer] {
        add(&mut archive, &format!("blobs/sha256/{}", hex(blob)), 0o644, blob);
    }
    finish(&mut archive);
    Ok(archive)
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"digest": digest(blob), "mediaType": media_type, "size": blob.len()})
}

fn digest(blob: &[u8]) -> String {
    format!("sha256:{}", hex(blob))
}

fn hex(blob: &[u8]) -> String {
    sha256(blob).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file of root's from 1970, as POSIX's ustar has it.
fn add(tar: &mut Vec<u8>, name: &str, mode: u32, contents: &[u8]) {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{:011o}", contents.len()).as_bytes());
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&header);
    tar.extend_from_slice(contents);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
}

fn finish(tar: &mut Vec<u8>) {
    tar.resize(tar.len() + 2 * BLOCK, 0);
}

/// As OCI names it, from the header of a program that needs nothing else.
fn architecture(program: &[u8]) -> Result<&'static str, String> {
    let number = |at: usize, length: usize| -> Option<u64> {
        let bytes = program.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    const INTERPRETER: u64 = 3;
    // 64 bits, little-endian, as all architectures of `architecture` are.
    if !program.starts_with(b"\x7fELF\x02\x01") {
        return Err("the guest is no program for Linux".into());
    }
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    for entry in 0..count.unwrap_or(0) {
        let at = table.zip(size).and_then(|(table, size)| table.checked_add(entry * size)).map(usize::try_from);
        match at.and_then(Result::ok).and_then(|at| number(at, 4)) {
            None => return Err("the guest is half a program".into()),
            Some(INTERPRETER) => {
                return Err(
                    "the guest is linked with libraries, which an image may lack: build it with `make guest`".into()
                );
            }
            Some(_) => {}
        }
    }
    match number(18, 2) {
        Some(62) => Ok("amd64"),
        Some(183) => Ok("arm64"),
        Some(243) => Ok("riscv64"),
        other => Err(format!("the guest is for a machine of an unknown kind, {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a program with these entries in its table.
    fn program(machine: u8, entries: &[u8]) -> Vec<u8> {
        let mut program = vec![0; 64];
        program[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (program[18], program[32], program[54], program[56]) = (machine, 64, 56, entries.len() as u8);
        for kind in entries {
            program.push(*kind);
            program.resize(program.len() + 55, 0);
        }
        program
    }

    #[test]
    fn only_static_programs_are_taken() {
        assert_eq!(architecture(&program(62, &[1, 2])), Ok("amd64"));
        assert_eq!(architecture(&program(183, &[])), Ok("arm64"));
        for (bytes, why) in [
            (program(62, &[1, 3]), "linked with libraries"),
            (program(62, &[1, 1])[..100].to_vec(), "half a program"),
            (program(40, &[]), "unknown kind"),
            (b"#!/bin/sh\n".to_vec(), "no program"),
            (Vec::new(), "no program"),
        ] {
            let error = architecture(&bytes).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let mut far = program(62, &[1]);
        far[32..40].fill(0xff);
        assert!(architecture(&far).unwrap_err().contains("half a program"));
    }

    #[test]
    fn the_same_program_gives_the_same_bytes() {
        let first = archive(&program(62, &[1]), "localhost/guest:1").unwrap();
        assert!(first == archive(&program(62, &[1]), "localhost/guest:1").unwrap());
        assert!(first != archive(&program(62, &[2]), "localhost/guest:1").unwrap());
        assert_eq!(first.len() % BLOCK, 0);
    }
}
