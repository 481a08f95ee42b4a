//! The two servers, each a process of its own on a port of its own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sandbox_guest::server::{self, Config};

use crate::Result;

const START: Duration = Duration::from_secs(10);
/// A second in the kernel's ticks, as /proc counts them on every machine.
const TICKS: f64 = 100.0;
/// How the zygote and the keepers are called.
const KEEPER: &str = "exe";

/// A directory for keys and files, removed when it is dropped.
pub(crate) struct Place {
    directory: PathBuf,
    pub(crate) user: String,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        let name = format!("beside-sshd-{}", std::process::id());
        // In memory if possible, so that the disk is not what is measured.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let place = Self { directory: parent.join(name), user: output("id", &["-un"])? };
        fs::create_dir(&place.directory)?;
        for (file, kind) in [("key", "ecdsa"), ("host_key", "ed25519")] {
            let path = place.file(file);
            output("ssh-keygen", &["-q", "-N", "", "-t", kind, "-f", &path.to_string_lossy()])?;
        }
        Ok(place)
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.file("key")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let done = Command::new(program).args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
    if !done.status.success() {
        return Err(format!("{program}: {}", String::from_utf8_lossy(&done.stderr)).into());
    }
    Ok(String::from_utf8(done.stdout)?.trim().to_owned())
}

/// A server that runs until it is dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
}

/// What a server has used.
#[derive(Default)]
pub(crate) struct Usage {
    /// Processor time of its processes that live, without the commands.
    pub(crate) seconds: f64,
    /// The memory that is theirs alone: what is of files may be another's too.
    pub(crate) mib: f64,
    /// That of the main process.
    pub(crate) kib_of_main: f64,
}

impl Server {
    pub(crate) fn guest(place: &Place) -> Result<Self> {
        let key = fs::read_to_string(place.file("key.pub"))?;
        let port = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", &port.to_string(), &place.user, key.trim()]);
        Self::start(command, port, &place.file("guest.log"))
    }

    pub(crate) fn sshd(place: &Place) -> Result<Self> {
        let program = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].into_iter().find(|path| Path::new(path).exists());
        let program = program.ok_or("there is no sshd: install openssh-server")?;
        // Only for root, whose sshd insists on it.
        let _ = fs::create_dir("/run/sshd");
        let port = free_port()?;
        let config = place.file(&format!("sshd_config-{port}"));
        // SHLVL keeps a bash that thinks it is a login over the network from reading .bashrc.
        let text = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nAuthenticationMethods publickey\n\
             StrictModes no\nUseDNS no\nPidFile none\nPrintMotd no\nPrintLastLog no\nX11Forwarding no\n\
             MaxStartups 1000:30:1000\nMaxSessions 1000\nSetEnv SHLVL=1\nSubsystem sftp internal-sftp\n",
            place.file("host_key").display(),
            place.file("key.pub").display(),
        );
        fs::write(&config, text)?;
        let mut command = Command::new(program);
        command.args(["-D", "-e", "-f"]).arg(&config);
        Self::start(command, port, &place.file("sshd.log"))
    }

    fn start(mut command: Command, port: u16, log: &Path) -> Result<Self> {
        let file = fs::File::create(log)?;
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn()?;
        let mut server = Self { process, port };
        let until = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if server.process.try_wait()?.is_some() || Instant::now() > until {
                return Err(format!("{:?} does not listen: {}", command, fs::read_to_string(log)?).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn usage(&self) -> Usage {
        let mut usage = Usage { kib_of_main: own_memory(self.pid()), ..Usage::default() };
        let mut pids = vec![self.pid()];
        let processes = processes();
        let name = |pid: u32| processes.iter().find(|process| process.pid == pid).map_or("", |process| &process.name);
        // What is called otherwise is a command.
        let own = [name(self.pid()), KEEPER];
        while let Some(pid) = pids.pop() {
            pids.extend(processes.iter().filter(|process| process.parent == pid).map(|process| process.pid));
            let process = processes.iter().find(|process| process.pid == pid && own.contains(&process.name.as_str()));
            if let Some(process) = process {
                usage.seconds += process.seconds;
                usage.mib += own_memory(pid) / 1024.0;
            }
        }
        usage
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The part of this program that is the guest.
pub(crate) fn serve(port: &str, user: &str, key: &str) -> Result<()> {
    let code = server::run(&Config {
        address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        port: port.parse()?,
        user: user.to_owned(),
        keys: vec![key.to_owned()],
        termination_log: None,
        ..Config::default()
    });
    Err(format!("the guest ended with {}", code.code()).into())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

struct Process {
    pid: u32,
    parent: u32,
    name: String,
    seconds: f64,
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(process).collect()
}

fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
    Some(Process { pid, parent: fields.get(1)?.parse().ok()?, name, seconds: (ticks(11)? + ticks(12)?) / TICKS })
}

/// KiB of a process's anonymous memory; 0 if it has gone.
fn own_memory(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("RssAnon:")?.split_whitespace().next()?.parse().ok());
    value.unwrap_or_default()
}
