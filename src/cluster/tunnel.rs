//! A byte stream to a port of a Pod through the API server (`pods/portforward`), pumped by a task of ours.
//!
//! kube's own port-forward moves 4 KiB at a time and lets one direction wait for the other.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::core::Request;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream as Local;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::api::{ANSWER_TIMEOUT, Api, Failure, flat};
use crate::error::{Error, ErrorKind, Result};

/// The most bytes of the local stream in one frame. It takes as many as are there: containerd has work for each frame,
/// and reads it into a buffer that grows from 512 bytes. With 4 KiB an upload has half the speed, with 64 KiB it is 7 %
/// slower.
const FRAME: usize = 256 * 1024;
/// Every frame begins with its channel.
const DATA: u8 = 0;
const FAULT: u8 = 1;
/// The first frame on each channel is the port, two bytes.
const PORT_LENGTH: usize = 2;
const PING_EVERY: Duration = Duration::from_secs(15);
/// A server from which nothing came for this time, pings unanswered, is gone.
const TUNNEL_IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// One end of a socket pair whose other end is `port` of the Pod.
pub(super) async fn open(api: &Api, name: &str, port: u16) -> Result<UnixStream> {
    let url = Pod::url_path(&(), Some(&api.namespace));
    let request =
        Request::new(url).portforward(name, &[port]).map_err(|e| Error::new(ErrorKind::InvalidArgument, flat(&e)))?;
    log::debug!("GET {}", request.uri().path());
    let connected = timeout(ANSWER_TIMEOUT, api.client.connect(request)).await;
    let remote = connected.map_err(|_| Failure::Silent).and_then(|result| result.map_err(Failure::from));
    let remote = remote.map_err(|failure| api.error(failure))?.into_stream();
    let (near, far) = UnixStream::pair()
        .and_then(|(near, far)| {
            far.set_nonblocking(true)?;
            Ok((near, Local::from_std(far)?))
        })
        .map_err(|e| Error::new(ErrorKind::Unavailable, format!("no socket pair for the tunnel: {e}")))?;
    let tunnel = format!("tunnel to {name}:{port}");
    tokio::spawn(async move { pump(&tunnel, far, remote).await });
    Ok(near)
}

/// What the two directions know of each other.
#[derive(Default)]
struct TunnelLiveness {
    /// Bytes sent since the server was last given up to speak.
    sent: AtomicU64,
    /// Pings since the server last spoke.
    pings: AtomicU32,
}

/// Moves bytes until either side ends; then both are closed by being dropped.
async fn pump<W>(tunnel: &str, local: Local, remote: W)
where
    W: Stream<Item = std::result::Result<Message, WsError>> + Sink<Message, Error = WsError>,
{
    let (from_local, to_local) = local.into_split();
    let (mut to_remote, from_remote) = remote.split();
    let liveness = TunnelLiveness::default();
    let end = {
        let up = std::pin::pin!(upload(from_local, &mut to_remote, &liveness));
        let down = std::pin::pin!(download(from_remote, to_local, &liveness));
        match select(up, down).await {
            Either::Left((end, _)) | Either::Right((end, _)) => end,
        }
    };
    log::debug!("{tunnel}: {end}");
    // A goodbye for a server that listens; one that does not is not waited for.
    let _ = timeout(Duration::from_secs(1), to_remote.close()).await;
}

/// From the local end to the Pod; returns why it ended.
async fn upload<S>(local: OwnedReadHalf, remote: &mut S, liveness: &TunnelLiveness) -> String
where
    S: Sink<Message, Error = WsError> + Unpin,
{
    let mut next_ping = Instant::now() + PING_EVERY;
    loop {
        if Instant::now() >= next_ping {
            next_ping = Instant::now() + PING_EVERY;
            liveness.pings.fetch_add(1, Ordering::Relaxed);
            if let Err(e) = remote.send(Message::Ping(Default::default())).await {
                return format!("the API server's side failed: {}", flat(&e));
            }
        }
        let mut frame = Vec::with_capacity(1 + FRAME);
        frame.push(DATA);
        match local.try_read_buf(&mut frame) {
            Ok(0) => return "closed on this side".into(),
            Ok(read) => {
                if let Err(e) = remote.feed(Message::binary(frame)).await {
                    return format!("the API server's side failed: {}", flat(&e));
                }
                liveness.sent.fetch_add(read as u64, Ordering::Relaxed);
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                drop(frame);
                // Nothing more to put beside it: now it must go.
                if let Err(e) = remote.flush().await {
                    return format!("the API server's side failed: {}", flat(&e));
                }
                if let Ok(Err(e)) = timeout_at(next_ping, local.readable()).await {
                    return format!("this side failed: {e}");
                }
            }
            Err(e) => return format!("this side failed: {e}"),
        }
    }
}

/// From the Pod to the local end; returns why it ended.
async fn download<S>(mut remote: S, mut local: OwnedWriteHalf, liveness: &TunnelLiveness) -> String
where
    S: Stream<Item = std::result::Result<Message, WsError>> + Unpin,
{
    // Bytes of the port number still to come, by channel.
    let mut port = [PORT_LENGTH; 2];
    loop {
        let message = match timeout(TUNNEL_IDLE_TIMEOUT, remote.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(e))) => return format!("the API server's side failed: {}", flat(&e)),
            Ok(None) => return "closed by the API server".into(),
            // A server that takes our bytes is there, though they may stand before our ping in a slow line.
            Err(_) if liveness.sent.swap(0, Ordering::Relaxed) > 0 || liveness.pings.load(Ordering::Relaxed) < 2 => {
                continue;
            }
            Err(_) => return format!("nothing came from the API server for {} s", TUNNEL_IDLE_TIMEOUT.as_secs()),
        };
        liveness.pings.store(0, Ordering::Relaxed);
        liveness.sent.store(0, Ordering::Relaxed);
        if message.is_close() {
            return "closed by the API server".into();
        }
        if !message.is_binary() {
            continue;
        }
        let frame = message.into_data();
        let Some((&channel, payload)) = frame.split_first() else { continue };
        let Some(left) = port.get_mut(usize::from(channel)) else { continue };
        let skipped = payload.len().min(*left);
        *left -= skipped;
        let payload = &payload[skipped..];
        match channel {
            FAULT if !payload.is_empty() => {
                return format!("the Pod's side failed: {}", String::from_utf8_lossy(payload).trim());
            }
            DATA => {
                if let Err(e) = local.write_all(payload).await {
                    return format!("closed on this side: {e}");
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use tokio::io::{DuplexStream, duplex};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::deadline::Deadline;
    use crate::runtime::Runtime;

    /// A tunnel between the returned socket and the API server's end of the WebSocket.
    async fn tunnel() -> (UnixStream, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = duplex(1 << 20);
        let remote = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        let server = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        let (near, far) = UnixStream::pair().unwrap();
        near.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        far.set_nonblocking(true).unwrap();
        let far = Local::from_std(far).unwrap();
        tokio::spawn(async move { pump("test", far, remote).await });
        (near, server)
    }

    fn run<T>(runtime: &Runtime, future: impl Future<Output = Result<T>>) -> T {
        runtime.block_on(Deadline::after(Some(Duration::from_secs(10))), "the test", future).unwrap()
    }

    fn frame(bytes: &[u8]) -> Message {
        Message::binary(bytes.to_vec())
    }

    #[test]
    fn strips_channel_and_port_from_what_comes() {
        let runtime = Runtime::shared().unwrap();
        let mut near = run(&runtime, async {
            let (near, mut server) = tunnel().await;
            // The port may come in pieces, and its second piece with the first data.
            for bytes in [&[0, 22][..], &[1, 22, 0], &[0, 0, b'a', b'b'], &[7, 1, 2], &[0], &[0, b'c']] {
                server.send(frame(bytes)).await.unwrap();
            }
            server.send(frame(b"\x01connection refused")).await.unwrap();
            while server.next().await.is_some_and(|message| message.is_ok()) {}
            Ok(near)
        });
        let mut text = String::new();
        near.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc", "and the end, because of the fault");
    }

    #[test]
    fn sends_all_and_says_goodbye() {
        let runtime = Runtime::shared().unwrap();
        let (mut near, server) = run(&runtime, async { Ok(tunnel().await) });
        let sent: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
        let expected = sent.clone();
        let writer = std::thread::spawn(move || near.write_all(&sent).unwrap());
        let got = run(&runtime, async move {
            let mut server = server;
            let mut got = Vec::new();
            while let Some(Ok(message)) = server.next().await {
                if message.is_binary() {
                    let frame = message.into_data();
                    assert_eq!(frame[0], DATA);
                    got.extend_from_slice(&frame[1..]);
                }
            }
            Ok(got)
        });
        writer.join().unwrap();
        assert!(got == expected, "{} bytes", got.len());
    }

    #[test]
    fn reads_on_while_nobody_takes_what_is_sent() {
        let runtime = Runtime::shared().unwrap();
        let (mut near, server) = run(&runtime, async { Ok(tunnel().await) });
        let mut writing = near.try_clone().unwrap();
        // More than the sockets between hold, and the server never reads.
        let writer = std::thread::spawn(move || writing.write_all(&vec![0; 16 << 20]));
        let _server = run(&runtime, async move {
            let mut server = server;
            server.send(frame(&[0, 22, 0])).await.unwrap();
            server.send(frame(b"\0still here")).await.unwrap();
            Ok(server)
        });
        let mut text = [0; 10];
        near.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"still here");
        near.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(writer.join().unwrap().is_err());
    }
}
