//! Uses libssh2 in three ways at once: through this library, through `ssh2`, and through `git2`.
//!
//! Arguments: a private key, what `git-upload-pack` says first about a repository, and the commit that `main` is there.
//! The key is the library's too, by SANDBOX_SSH_KEY.

use std::env;
use std::error::Error;
use std::io::Read;
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::thread;

use git2::{CertificateCheckStatus, Cred, Direction, RemoteCallbacks, Repository};
use sandbox::{Client, SandboxSpec};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const ROUNDS: usize = 20;
/// More than a window, and not a multiple of any packet.
const LENGTH: usize = 5_000_011;

/// The sandbox as any SSH client sees it.
struct Server {
    address: IpAddr,
    port: u16,
    user: String,
    key: String,
}

impl Server {
    fn use_ssh2(&self) -> Result<()> {
        let mut session = ssh2::Session::new()?;
        session.set_tcp_stream(TcpStream::connect((self.address, self.port))?);
        session.handshake()?;
        session.userauth_pubkey_file(&self.user, None, Path::new(&self.key), None)?;
        for round in 0..ROUNDS {
            let mut channel = session.channel_session()?;
            channel.exec(&format!("head -c {LENGTH} /dev/zero; exit {round}"))?;
            let mut output = Vec::new();
            channel.read_to_end(&mut output)?;
            channel.wait_close()?;
            assert!(output.len() == LENGTH && output.iter().all(|byte| *byte == 0), "{} bytes", output.len());
            assert_eq!(channel.exit_status()?, round as i32);
        }
        Ok(())
    }

    fn use_git2(&self, directory: &Path, commit: &str) -> Result<()> {
        let repository = Repository::init(directory)?;
        let url = format!("ssh://{}@{}:{}/project", self.user, self.address, self.port);
        for _ in 0..ROUNDS {
            let mut callbacks = RemoteCallbacks::new();
            callbacks.credentials(|_, user, _| Cred::ssh_key(user.unwrap_or(""), None, Path::new(&self.key), None));
            callbacks.certificate_check(|_, _| Ok(CertificateCheckStatus::CertificateOk));
            let mut remote = repository.remote_anonymous(&url)?;
            let connection = remote.connect_auth(Direction::Fetch, Some(callbacks), None)?;
            let heads = connection.list()?;
            let main = heads.iter().find(|head| head.name() == "refs/heads/main").ok_or("there is no main")?;
            assert_eq!(main.oid().to_string(), commit);
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [key, advertisement, commit] = &arguments[..] else { return Err("three arguments".into()) };
    let directory = env::temp_dir().join(format!("beside-{}", std::process::id()));
    let client = Client::from_env()?;
    let spec = SandboxSpec::new().env("PATH", "/tmp/bin:/usr/local/bin:/usr/bin:/bin");
    let machine = client.create(&spec)?.delete_on_drop();
    machine.upload_file(advertisement, "/tmp/advertisement")?;
    machine.files().create_dir("/tmp/bin")?;
    let script = "#!/bin/sh\ncat /tmp/advertisement\nexec cat >/dev/null\n";
    machine.files().transfer().mode(0o755).upload_from(script.as_bytes(), "/tmp/bin/git-upload-pack")?;
    let info = machine.info()?;
    let address = info.pod_ip.ok_or("the Pod has no address")?;
    let server = Server { address, port: info.ssh_port, user: info.ssh_user, key: key.clone() };
    thread::scope(|scope| {
        let ssh2 = scope.spawn(|| server.use_ssh2());
        let git2 = scope.spawn(|| server.use_git2(&directory, commit));
        for _ in 0..ROUNDS {
            let output = machine.execute(format!("head -c {LENGTH} /dev/zero"))?.check()?;
            assert_eq!(output.stdout.len(), LENGTH);
        }
        ssh2.join().expect("the thread of ssh2 panicked")?;
        git2.join().expect("the thread of git2 panicked")
    })?;
    drop(machine);
    std::fs::remove_dir_all(&directory)?;
    println!("done");
    Ok(())
}
