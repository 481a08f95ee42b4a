//! Connections that have not logged in yet: how many there may be, and for how long.

use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Connections that may wait for a login. With one more, the oldest is dropped: who floods drops mostly its own.
const MOST_WAITING: usize = 64;
/// How long a login may take.
const GRACE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(crate) struct Logins {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    connections: VecDeque<(u64, Arc<TcpStream>)>,
}

impl Logins {
    /// Lets a connection wait for its login.
    pub(crate) fn begin(self: &Arc<Self>, socket: &Arc<TcpStream>) -> Login {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.connections.len() >= MOST_WAITING
            && let Some((_, oldest)) = waiting.connections.pop_front()
        {
            // Its thread reads the end of the stream.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.connections.push_back((number, Arc::clone(socket)));
        Login { logins: Arc::clone(self), number, deadline: Instant::now() + GRACE }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.waiting.lock().unwrap().connections.len()
    }
}

/// One connection that waits for its login. Dropped when it has logged in or ended.
#[derive(Debug)]
pub(crate) struct Login {
    logins: Arc<Logins>,
    number: u64,
    deadline: Instant,
}

impl Login {
    /// When it must have logged in.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        let mut waiting = self.logins.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.connections.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn the_oldest_makes_room() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let logins = Arc::new(Logins::default());
        let mut kept = Vec::new();
        for _ in 0..=MOST_WAITING {
            let client = TcpStream::connect(address).unwrap();
            let socket = Arc::new(listener.accept().unwrap().0);
            let login = logins.begin(&socket);
            kept.push((client, socket, login));
        }
        assert_eq!(logins.count(), MOST_WAITING);
        let (client, ..) = &mut kept[0];
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        let (client, ..) = &mut kept[1];
        client.set_nonblocking(true).unwrap();
        assert!(client.read(&mut [0]).is_err());
        kept.clear();
        assert_eq!(logins.count(), 0);
    }
}
