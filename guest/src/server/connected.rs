//! The connections that there are, so that they can be counted and closed.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::poll::Waker;

/// How long a connection that is to be closed may take to say so to its client.
const GOODBYE: Duration = Duration::from_secs(1);

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    state: Mutex<State>,
    /// One has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    entries: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    socket: Arc<TcpStream>,
    waker: Arc<Waker>,
    is_closing: Arc<AtomicBool>,
    /// The fingerprint of the key that its client has proved to have.
    client: Option<Arc<str>>,
}

impl Entry {
    fn is_of(&self, client: Option<&str>) -> bool {
        client.is_none() || self.client.as_deref() == client
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().entries.len()
    }

    /// A new connection, whose thread waits with this waker.
    pub(crate) fn add(self: &Arc<Self>, socket: &Arc<TcpStream>, waker: &Arc<Waker>) -> Connected {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let is_closing = Arc::default();
        let (socket, waker) = (Arc::clone(socket), Arc::clone(waker));
        state.entries.insert(number, Entry { socket, waker, is_closing: Arc::clone(&is_closing), client: None });
        Connected { connections: Arc::clone(self), number, is_closing }
    }

    /// Closes the connections of a client, or all. When this returns, each has said goodbye or was cut.
    pub(crate) fn disconnect(&self, client: Option<&str>) {
        let state = self.lock();
        for entry in state.entries.values().filter(|entry| entry.is_of(client)) {
            entry.is_closing.store(true, Ordering::Release);
            entry.waker.wake();
        }
        let is_any_left = |state: &mut State| {
            state.entries.values().any(|entry| entry.is_of(client) && entry.is_closing.load(Ordering::Acquire))
        };
        let (state, _) =
            self.ended.wait_timeout_while(state, GOODBYE, is_any_left).unwrap_or_else(PoisonError::into_inner);
        for entry in state.entries.values().filter(|entry| entry.is_of(client)) {
            if entry.is_closing.load(Ordering::Acquire) {
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
    is_closing: Arc<AtomicBool>,
}

impl Connected {
    /// Whether the connection is to be closed; its waker wakes the thread then.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Its client has proved to have the key with this fingerprint. Whether the key may log in is to be asked after
    /// this, or a key that is revoked just then would keep this connection.
    pub(crate) fn set_client(&self, fingerprint: &Arc<str>) {
        if let Some(entry) = self.connections.lock().entries.get_mut(&self.number) {
            entry.client = Some(Arc::clone(fingerprint));
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.connections.lock().entries.remove(&self.number);
        self.connections.ended.notify_all();
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
            let waker = Arc::new(Waker::new().unwrap());
            let connected = connections.add(&Arc::new(listener.accept().unwrap().0), &waker);
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
        // One that closes itself is not waited for any longer.
        let last = connect(None);
        std::thread::scope(|scope| {
            scope.spawn(|| connections.disconnect(None));
            while !last.1.is_closing() {
                std::thread::yield_now();
            }
            drop(last);
        });
        assert_eq!(connections.count(), 0);
    }
}
