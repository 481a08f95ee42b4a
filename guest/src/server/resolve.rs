//! Names of hosts. A static program can't use the image's C library for it, so this reads `/etc/hosts` and asks the
//! name servers of `/etc/resolv.conf`, with search list and `ndots`, which names of Kubernetes services need.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::poll::Waker;

/// Lookups at a time, of all connections.
const MOST: usize = 32;
/// How long a name server has.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often all name servers are asked.
const ROUNDS: u32 = 2;
const STACK: usize = 128 << 10;
const LARGEST_FILE: u64 = 1 << 20;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// A lookup on a thread of its own.
#[derive(Debug)]
pub(crate) struct Lookup {
    found: Mutex<Option<Vec<IpAddr>>>,
    waker: Weak<Waker>,
}

impl Lookup {
    /// The addresses, or `None` if it is not known yet.
    pub(crate) fn take(&self) -> Option<Vec<IpAddr>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Ends a lookup, however it ended.
struct Finish(Arc<Lookup>);

impl Drop for Finish {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
        self.0.found.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
        if let Some(waker) = self.0.waker.upgrade() {
            waker.wake();
        }
    }
}

/// Looks a name up; `None` if there are too many lookups, or if it is no name.
pub(crate) fn resolve(host: &str, waker: &Arc<Waker>) -> Option<Arc<Lookup>> {
    let name = Name::new(host)?;
    if RUNNING.fetch_add(1, Ordering::Relaxed) >= MOST {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
        return None;
    }
    let lookup = Arc::new(Lookup { found: Mutex::new(None), waker: Arc::downgrade(waker) });
    let finish = Finish(Arc::clone(&lookup));
    let thread = std::thread::Builder::new().name("resolve".to_owned()).stack_size(STACK);
    let work = move || {
        let found = look_up(&name);
        *finish.0.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
    };
    thread.spawn(work).ok()?;
    Some(lookup)
}

fn read(path: &str) -> String {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= LARGEST_FILE => {
            String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
        }
        _ => String::new(),
    }
}

fn look_up(name: &Name) -> Vec<IpAddr> {
    let found = in_hosts(&read("/etc/hosts"), &name.text);
    if !found.is_empty() {
        return found;
    }
    if name.text.eq_ignore_ascii_case("localhost") {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    let settings = Settings::parse(&read("/etc/resolv.conf"));
    for candidate in settings.candidates(name) {
        let found: Vec<IpAddr> =
            [Kind::V4, Kind::V6].into_iter().flat_map(|kind| ask(&settings.servers, &candidate, kind)).collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

fn in_hosts(file: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in file.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) {
            found.push(address);
        }
    }
    found
}

/// A valid name of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    text: String,
    is_absolute: bool,
}

impl Name {
    fn new(text: &str) -> Option<Self> {
        let (text, is_absolute) = text.strip_suffix('.').map_or((text, false), |text| (text, true));
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let is_valid = text.len() <= 253 && text.split('.').all(is_label);
        is_valid.then(|| Self { text: text.to_owned(), is_absolute })
    }
}

#[derive(Debug)]
struct Settings {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    ndots: usize,
}

impl Settings {
    fn parse(file: &str) -> Self {
        let mut settings = Self { servers: Vec::new(), search: Vec::new(), ndots: 1 };
        for line in file.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") if settings.servers.len() < 3 => {
                    settings.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
                }
                Some("search" | "domain") => {
                    settings.search = words.filter_map(Name::new).map(|name| name.text).take(32).collect();
                }
                Some("options") => {
                    let ndots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok()).next_back();
                    settings.ndots = ndots.unwrap_or(settings.ndots).min(15);
                }
                _ => {}
            }
        }
        if settings.servers.is_empty() {
            settings.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        settings
    }

    /// What to ask for, in this order.
    fn candidates(&self, name: &Name) -> Vec<Name> {
        let longer = self.search.iter().filter_map(|domain| Name::new(&format!("{}.{domain}", name.text)));
        if name.is_absolute {
            vec![name.clone()]
        } else if name.text.matches('.').count() >= self.ndots {
            std::iter::once(name.clone()).chain(longer).collect()
        } else {
            longer.chain(std::iter::once(name.clone())).collect()
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    V4 = 1,
    V6 = 28,
}

const CLASS_INTERNET: u16 = 1;

fn ask(servers: &[IpAddr], name: &Name, kind: Kind) -> Vec<IpAddr> {
    for _ in 0..ROUNDS {
        for server in servers {
            if let Some(found) = ask_server(*server, name, kind) {
                return found;
            }
        }
    }
    Vec::new()
}

/// What a server answers; `None` if it does not.
fn ask_server(server: IpAddr, name: &Name, kind: Kind) -> Option<Vec<IpAddr>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((server, 53)).ok()?;
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty()).ok()?;
    socket.send(&question(id, name, kind)).ok()?;
    let until = Instant::now() + ANSWER_TIMEOUT;
    let mut buffer = [0; 4096];
    loop {
        let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        socket.set_read_timeout(Some(left)).ok()?;
        let length = socket.recv(&mut buffer).ok()?;
        if let Some(answer) = addresses(&buffer[..length], id, kind) {
            return answer;
        }
    }
}

fn question(id: [u8; 2], name: &Name, kind: Kind) -> Vec<u8> {
    // Recursion is desired; one question.
    let mut message = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.text.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&(kind as u16).to_be_bytes());
    message.extend_from_slice(&CLASS_INTERNET.to_be_bytes());
    message
}

/// The addresses in an answer to the question with this id; the inner `None` if the server failed. The outer `None`: it
/// is another message.
fn addresses(message: &[u8], id: [u8; 2], kind: Kind) -> Option<Option<Vec<IpAddr>>> {
    let word = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let (flags, questions, answers) = (word(2)?, word(4)?, word(6)?);
    if message[..2] != id || flags & 0x8000 == 0 {
        return None;
    }
    match flags & 15 {
        0 | 3 => {}
        _ => return Some(None),
    }
    let mut at = 12;
    for _ in 0..questions {
        at = after_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        // A cut answer has whole records at its beginning.
        let Some((address, next)) = record(message, at, kind) else { break };
        found.extend(address);
        at = next;
    }
    Some(Some(found))
}

fn record(message: &[u8], at: usize, kind: Kind) -> Option<(Option<IpAddr>, usize)> {
    let at = after_name(message, at)?;
    let head = message.get(at..at + 10)?;
    let (of, class) = (u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]]));
    let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
    let data = message.get(at + 10..at + 10 + length)?;
    let address = if of != kind as u16 || class != CLASS_INTERNET {
        None
    } else if kind == Kind::V4 {
        <[u8; 4]>::try_from(data).ok().map(IpAddr::from)
    } else {
        <[u8; 16]>::try_from(data).ok().map(IpAddr::from)
    };
    Some((address, at + 10 + length))
}

fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            // A pointer to an earlier name ends this one.
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length if length & 0xc0 == 0 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn names_are_checked() {
        for bad in ["", ".", "a..b", "a b", "a\0", "ü", &"a".repeat(64), &"a.".repeat(130)] {
            assert_eq!(Name::new(bad), None, "{bad}");
        }
        assert!(name("a.b.").is_absolute && !name("_x.a-b").is_absolute);
    }

    #[test]
    fn hosts_file() {
        let file = "127.0.0.1 localhost # here\n::1\tlocalhost ip6\n10.0.0.1 other Pod\nbad localhost\n";
        assert_eq!(in_hosts(file, "LOCALHOST"), ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert_eq!(in_hosts(file, "pod").len(), 1);
        assert!(in_hosts(file, "here").is_empty());
    }

    #[test]
    fn search_list() {
        let file = "nameserver 10.96.0.10\nsearch ns.svc.cluster.local cluster.local\noptions ndots:5 edns0\n";
        let settings = Settings::parse(file);
        assert_eq!(settings.servers, ["10.96.0.10".parse::<IpAddr>().unwrap()]);
        let texts = |text: &str| settings.candidates(&name(text)).into_iter().map(|name| name.text).collect::<Vec<_>>();
        assert_eq!(texts("db"), ["db.ns.svc.cluster.local", "db.cluster.local", "db"]);
        assert_eq!(texts("a.b.c.d.e.f")[0], "a.b.c.d.e.f");
        assert_eq!(texts("db."), ["db"]);
    }

    fn answer(records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = question([1, 2], &name("db.example"), Kind::V4);
        message[2] |= 0x80;
        message[7] = records.len() as u8;
        for (of, data) in records {
            message.extend_from_slice(&[0xc0, 12]);
            message.extend_from_slice(&of.to_be_bytes());
            message.extend_from_slice(&[0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
            message.extend_from_slice(data);
        }
        message
    }

    #[test]
    fn answers() {
        let message = answer(&[(5, &[0xc0, 12]), (1, &[10, 0, 0, 1]), (28, &[0; 16]), (1, &[10, 0, 0, 2])]);
        let expected = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().unwrap()).to_vec();
        assert_eq!(addresses(&message, [1, 2], Kind::V4), Some(Some(expected)));
        assert_eq!(addresses(&message, [1, 2], Kind::V6), Some(Some(vec![Ipv6Addr::UNSPECIFIED.into()])));
        assert_eq!(addresses(&message, [1, 3], Kind::V4), None);
        let mut refused = message.clone();
        refused[3] = 5;
        assert_eq!(addresses(&refused, [1, 2], Kind::V4), Some(None));
        for length in 0..message.len() {
            let _ = addresses(&message[..length], [1, 2], Kind::V4);
        }
    }

    #[test]
    fn changed_answers_break_nothing() {
        let message = answer(&[(5, &[0xc0, 12]), (1, &[10, 0, 0, 1]), (28, &[0; 16]), (1, &[10, 0, 0, 2])]);
        let mut mutator = crate::mutation::Mutator::new(0x2545_f491_4f6c_dd1d);
        for _ in 0..20_000 {
            let changed = mutator.change(std::slice::from_ref(&message));
            if let Some(Some(found)) = addresses(&changed, [1, 2], Kind::V4) {
                assert!(found.len() <= changed.len() / 4);
            }
        }
    }
}
