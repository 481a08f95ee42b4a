//! The connections that there are, so that they can be counted and closed.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    entries: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    socket: Arc<TcpStream>,
    /// The fingerprint of the key that its client has proved to have.
    client: Option<Arc<str>>,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().entries.len()
    }

    /// A new connection.
    pub(crate) fn add(self: &Arc<Self>, socket: &Arc<TcpStream>) -> Connected {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.entries.insert(number, Entry { socket: Arc::clone(socket), client: None });
        Connected { connections: Arc::clone(self), number }
    }

    /// Closes the connections of a client, or all. Their threads read the end of the stream.
    pub(crate) fn disconnect(&self, client: Option<&str>) {
        for entry in self.lock().entries.values() {
            if client.is_none() || entry.client.as_deref() == client {
                let _ = entry.socket.shutdown(Shutdown::Both);
            }
        }
    }
}

/// One connection. It is forgotten when this is dropped, however its thread ends.
#[derive(Debug)]
pub(crate) struct Connected {
    connections: Arc<Connections>,
    number: u64,
}

impl Connected {
    /// Its client has proved to have the key with this fingerprint. Whether the key may log in is to be asked after this, or a key that
    /// is revoked just then would keep this connection.
    pub(crate) fn set_client(&self, fingerprint: &Arc<str>) {
        if let Some(entry) = self.connections.lock().entries.get_mut(&self.number) {
            entry.client = Some(Arc::clone(fingerprint));
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.connections.lock().entries.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn a_client_is_disconnected_and_others_stay() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Connections::default());
        let connect = |client: Option<&str>| {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_nonblocking(true).unwrap();
            let connected = connections.add(&Arc::new(listener.accept().unwrap().0));
            if let Some(client) = client {
                connected.set_client(&Arc::from(client));
            }
            (stream, connected)
        };
        let (mut one, mut other, mut nobody) = (connect(Some("one")), connect(Some("other")), connect(None));
        let is_open = |stream: &mut TcpStream| stream.read(&mut [0]).is_err();
        connections.disconnect(Some("one"));
        assert!(!is_open(&mut one.0) && is_open(&mut other.0) && is_open(&mut nobody.0));
        connections.disconnect(None);
        assert!(!is_open(&mut other.0) && !is_open(&mut nobody.0));
        assert_eq!(connections.count(), 3);
        drop((one, other, nobody));
        assert_eq!(connections.count(), 0);
    }
}
