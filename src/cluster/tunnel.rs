//! A byte stream to the guest of a Pod through the API server, pumped by a task of ours: to its port by
//! `pods/portforward`, or by `pods/exec` to a process of its program that carries the stream to it.
//!
//! kube's own streams move little at a time, and one direction of its port-forward waits for the other.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use http::Request as HttpRequest;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::AttachParams;
use kube::core::{Request, Status};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream as Local;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::api::{ANSWER_TIMEOUT, Api, Failure, built, flat, one_line};
use super::names::CONTAINER;
use crate::error::{Error, ErrorKind, Result};

/// The most bytes of the local stream in one frame. It takes as many as are there: containerd has work for each frame,
/// and reads it into a buffer that grows from 512 bytes. With 4 KiB an upload has half the speed, with 64 KiB it is 7 %
/// slower.
const FRAME: usize = 256 * 1024;
/// Every frame begins with its channel. What goes to the Pod has the same one in both kinds.
const DATA: u8 = 0;
/// The channels of a port-forward from the Pod are that and this.
const FAULT: u8 = 1;
/// The first frame on each of them is the port, two bytes.
const PORT_LENGTH: usize = 2;
/// The channels of an exec from the Pod.
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
/// Names the channel that is to be closed.
const CLOSE: u8 = 255;
/// What is kept of the standard error.
const LONGEST_COMPLAINT: usize = 4096;
const PING_EVERY: Duration = Duration::from_secs(15);
/// A server from which nothing came for this time, pings unanswered, is gone.
const TUNNEL_IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// How long the reason may take to come after the API server has stopped to take anything.
const REASON_TIMEOUT: Duration = Duration::from_secs(1);

/// One end of a socket pair whose other end is the guest.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) socket: UnixStream,
    pub(crate) end: TunnelEnd,
}

/// Why a tunnel has ended, if it was not this side that ended it. Known before its socket is closed.
#[derive(Clone, Debug, Default)]
pub(crate) struct TunnelEnd(Arc<OnceLock<String>>);

impl TunnelEnd {
    /// The error of whoever used the tunnel, with the reason for its end.
    pub(crate) fn explain(&self, e: Error) -> Error {
        match self.0.get() {
            Some(why) if e.kind() == ErrorKind::Connect => e.context(why.clone()),
            _ => e,
        }
    }
}

/// To `port` of the Pod, by port-forward.
pub(super) async fn forward(api: &Api, name: &str, port: u16) -> Result<Tunnel> {
    let request = Request::new(pods(api)).portforward(name, &[port]);
    open(api, built(request)?, format!("tunnel to {name}:{port}"), Frames::PortForward { port: [PORT_LENGTH; 2] }).await
}

/// To the guest in the Pod, whose file is `guest` and whose port is `port`, by exec.
pub(super) async fn exec(api: &Api, name: &str, guest: &str, port: u16) -> Result<Tunnel> {
    let params = AttachParams::default().container(CONTAINER).stdin(true).stdout(true).stderr(true);
    let request = Request::new(pods(api)).exec(name, [guest, "connect", "--port", &port.to_string()], &params);
    let frames = Frames::Exec { takes_close: false, complaint: Vec::new() };
    open(api, built(request)?, format!("tunnel to {name}:{port} by exec"), frames).await
}

fn pods(api: &Api) -> String {
    Pod::url_path(&(), Some(&api.namespace))
}

async fn open(api: &Api, request: HttpRequest<Vec<u8>>, tunnel: String, mut frames: Frames) -> Result<Tunnel> {
    log::debug!("GET {}", request.uri().path());
    let connected = timeout(ANSWER_TIMEOUT, api.client.connect(request)).await;
    let remote = connected.map_err(|_| Failure::Silent).and_then(|result| result.map_err(Failure::from));
    let remote = remote.map_err(|failure| api.error(failure))?;
    if let Frames::Exec { takes_close, .. } = &mut frames {
        *takes_close = remote.supports_stream_close();
    }
    let (socket, far) = UnixStream::pair()
        .and_then(|(near, far)| {
            far.set_nonblocking(true)?;
            Ok((near, Local::from_std(far)?))
        })
        .map_err(|e| Error::new(ErrorKind::Unavailable, format!("no socket pair for the tunnel: {e}")))?;
    let end = TunnelEnd::default();
    let told = end.clone();
    tokio::spawn(async move { pump(&tunnel, far, remote.into_stream(), frames, &told).await });
    Ok(Tunnel { socket, end })
}

/// How what comes from the Pod is cut into frames, and what of them has come.
enum Frames {
    /// Bytes of the port number still to come, by channel.
    PortForward { port: [usize; 2] },
    Exec {
        /// Whether the server takes the end of a single channel.
        takes_close: bool,
        /// The beginning of the standard error.
        complaint: Vec<u8>,
    },
}

/// What a frame means.
#[derive(Debug, PartialEq)]
enum Meaning<'a> {
    Data(&'a [u8]),
    End(String),
    Nothing,
}

impl Frames {
    fn take<'a>(&mut self, frame: &'a [u8]) -> Meaning<'a> {
        let Some((&channel, payload)) = frame.split_first() else { return Meaning::Nothing };
        match self {
            Self::PortForward { port } => {
                let Some(left) = port.get_mut(usize::from(channel)) else { return Meaning::Nothing };
                let skipped = payload.len().min(*left);
                *left -= skipped;
                match (channel, &payload[skipped..]) {
                    (_, []) => Meaning::Nothing,
                    (FAULT, fault) => {
                        Meaning::End(format!("the Pod's side failed: {}", String::from_utf8_lossy(fault).trim()))
                    }
                    (_, data) => Meaning::Data(data),
                }
            }
            Self::Exec { complaint, .. } => match channel {
                STDOUT => Meaning::Data(payload),
                STDERR => {
                    let room = LONGEST_COMPLAINT - complaint.len();
                    complaint.extend(payload.iter().take(room));
                    Meaning::Nothing
                }
                STATUS if !payload.is_empty() => Meaning::End(program_end(payload, complaint)),
                _ => Meaning::Nothing,
            },
        }
    }
}

/// Why the process of the guest's program has ended.
fn program_end(status: &[u8], complaint: &[u8]) -> String {
    let status = serde_json::from_slice::<Status>(status).unwrap_or_default();
    let complaint = String::from_utf8_lossy(complaint);
    match one_line(&format!("{} {complaint}", status.message)) {
        why if why.is_empty() => "the Pod's side ended".into(),
        why => format!("the Pod's side failed: {why}"),
    }
}

/// What the two directions know of each other.
#[derive(Default)]
struct TunnelLiveness {
    /// Bytes sent since the server was last given up to speak.
    sent: AtomicU64,
    /// Pings since the server last spoke.
    pings: AtomicU32,
}

/// Why a direction has ended.
enum Ended {
    Here(String),
    There(String),
}

/// Moves bytes until either side ends; then both are closed by being dropped.
async fn pump<W>(tunnel: &str, local: Local, remote: W, mut frames: Frames, end: &TunnelEnd)
where
    W: Stream<Item = std::result::Result<Message, WsError>> + Sink<Message, Error = WsError>,
{
    let (from_local, mut to_local) = local.into_split();
    let (mut to_remote, from_remote) = remote.split();
    let liveness = TunnelLiveness::default();
    let takes_close = matches!(frames, Frames::Exec { takes_close: true, .. });
    {
        let up = std::pin::pin!(upload(&from_local, &mut to_remote, &liveness));
        let down = std::pin::pin!(download(from_remote, &mut to_local, &mut frames, &liveness));
        let ended = match select(up, down).await {
            // Why nothing is taken any more is told in the other direction.
            Either::Left((ended @ Ended::There(_), down)) => timeout(REASON_TIMEOUT, down).await.unwrap_or(ended),
            Either::Left((ended, _)) | Either::Right((ended, _)) => ended,
        };
        match ended {
            Ended::Here(why) => log::debug!("{tunnel}: {why}"),
            Ended::There(why) => {
                log::debug!("{tunnel}: {why}");
                let _ = end.0.set(why);
            }
        }
    }
    // Not before: whoever sees the end may ask for its reason.
    drop((from_local, to_local));
    let goodbye = async {
        if takes_close {
            // The program sees the end of its input, whatever becomes of the connection.
            to_remote.feed(Message::binary(vec![CLOSE, DATA])).await?;
        }
        to_remote.close().await
    };
    // A goodbye for a server that listens; one that does not is not waited for.
    let _ = timeout(Duration::from_secs(1), goodbye).await;
}

/// From the local end to the Pod; returns why it ended.
async fn upload<S>(local: &OwnedReadHalf, remote: &mut S, liveness: &TunnelLiveness) -> Ended
where
    S: Sink<Message, Error = WsError> + Unpin,
{
    let mut next_ping = Instant::now() + PING_EVERY;
    loop {
        if Instant::now() >= next_ping {
            next_ping = Instant::now() + PING_EVERY;
            liveness.pings.fetch_add(1, Ordering::Relaxed);
            if let Err(e) = remote.send(Message::Ping(Default::default())).await {
                return Ended::There(format!("the API server's side failed: {}", flat(&e)));
            }
        }
        let mut frame = Vec::with_capacity(1 + FRAME);
        frame.push(DATA);
        match local.try_read_buf(&mut frame) {
            Ok(0) => return Ended::Here("closed on this side".into()),
            Ok(read) => {
                if let Err(e) = remote.feed(Message::binary(frame)).await {
                    return Ended::There(format!("the API server's side failed: {}", flat(&e)));
                }
                liveness.sent.fetch_add(read as u64, Ordering::Relaxed);
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                drop(frame);
                // Nothing more to put beside it: now it must go.
                if let Err(e) = remote.flush().await {
                    return Ended::There(format!("the API server's side failed: {}", flat(&e)));
                }
                if let Ok(Err(e)) = timeout_at(next_ping, local.readable()).await {
                    return Ended::Here(format!("this side failed: {e}"));
                }
            }
            Err(e) => return Ended::Here(format!("this side failed: {e}")),
        }
    }
}

/// From the Pod to the local end; returns why it ended.
async fn download<S>(mut remote: S, local: &mut OwnedWriteHalf, frames: &mut Frames, liveness: &TunnelLiveness) -> Ended
where
    S: Stream<Item = std::result::Result<Message, WsError>> + Unpin,
{
    loop {
        let message = match timeout(TUNNEL_IDLE_TIMEOUT, remote.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(e))) => return Ended::There(format!("the API server's side failed: {}", flat(&e))),
            Ok(None) => return Ended::There("closed by the API server".into()),
            // A server that takes our bytes is there, though they may stand before our ping in a slow line.
            Err(_) if liveness.sent.swap(0, Ordering::Relaxed) > 0 || liveness.pings.load(Ordering::Relaxed) < 2 => {
                continue;
            }
            Err(_) => {
                let seconds = TUNNEL_IDLE_TIMEOUT.as_secs();
                return Ended::There(format!("nothing came from the API server for {seconds} s"));
            }
        };
        liveness.pings.store(0, Ordering::Relaxed);
        liveness.sent.store(0, Ordering::Relaxed);
        if message.is_close() {
            return Ended::There("closed by the API server".into());
        }
        if !message.is_binary() {
            continue;
        }
        let frame = message.into_data();
        match frames.take(&frame) {
            Meaning::Data(data) => {
                if let Err(e) = local.write_all(data).await {
                    return Ended::Here(format!("closed on this side: {e}"));
                }
            }
            Meaning::End(why) => return Ended::There(why),
            Meaning::Nothing => {}
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

    /// A tunnel between the returned socket and the API server's end of the WebSocket, and why it has ended.
    async fn tunnel(frames: Frames) -> (UnixStream, WebSocketStream<DuplexStream>, TunnelEnd) {
        let (ours, theirs) = duplex(1 << 20);
        let remote = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        let server = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        let (near, far) = UnixStream::pair().unwrap();
        near.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        far.set_nonblocking(true).unwrap();
        let far = Local::from_std(far).unwrap();
        let end = TunnelEnd::default();
        let told = end.clone();
        tokio::spawn(async move { pump("test", far, remote, frames, &told).await });
        (near, server, end)
    }

    fn run<T>(runtime: &Runtime, future: impl Future<Output = Result<T>>) -> T {
        runtime.block_on(Deadline::after(Some(Duration::from_secs(10))), "the test", future).unwrap()
    }

    fn port_forward() -> Frames {
        Frames::PortForward { port: [PORT_LENGTH; 2] }
    }

    fn exec() -> Frames {
        Frames::Exec { takes_close: true, complaint: Vec::new() }
    }

    fn frame(bytes: &[u8]) -> Message {
        Message::binary(bytes.to_vec())
    }

    #[test]
    fn strips_channel_and_port_from_what_comes() {
        let runtime = Runtime::shared().unwrap();
        let (mut near, end) = run(&runtime, async {
            let (near, mut server, end) = tunnel(port_forward()).await;
            // The port may come in pieces, and its second piece with the first data.
            for bytes in [&[0, 22][..], &[1, 22, 0], &[0, 0, b'a', b'b'], &[7, 1, 2], &[0], &[0, b'c']] {
                server.send(frame(bytes)).await.unwrap();
            }
            server.send(frame(b"\x01connection refused")).await.unwrap();
            while server.next().await.is_some_and(|message| message.is_ok()) {}
            Ok((near, end))
        });
        let mut text = String::new();
        near.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc", "and the end, because of the fault");
        assert_eq!(end.0.get().unwrap(), "the Pod's side failed: connection refused");
    }

    #[test]
    fn sends_all_and_says_goodbye() {
        let runtime = Runtime::shared().unwrap();
        let (mut near, server, _) = run(&runtime, async { Ok(tunnel(port_forward()).await) });
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
        let (mut near, server, end) = run(&runtime, async { Ok(tunnel(port_forward()).await) });
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
        assert!(end.0.get().is_none(), "it was this side");
    }

    #[test]
    fn an_exec_ends_with_what_its_program_said() {
        let runtime = Runtime::shared().unwrap();
        let (mut near, end) = run(&runtime, async {
            let (near, mut server, end) = tunnel(exec()).await;
            // Each channel begins with a frame without bytes.
            for bytes in [&b"\0"[..], b"\x01", b"\x02", b"\x03", b"\x01ab", b"\x02out of\n", b"\x01c", b"\x02luck\n"] {
                server.send(frame(bytes)).await.unwrap();
            }
            server.send(frame(&[&[STDERR], &[b'!'; 2 * LONGEST_COMPLAINT][..]].concat())).await.unwrap();
            server.send(frame(b"\x03{\"status\":\"Failure\",\"message\":\"exit code 1\"}")).await.unwrap();
            while server.next().await.is_some_and(|message| message.is_ok()) {}
            Ok((near, end))
        });
        let mut text = String::new();
        near.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        let why = end.0.get().unwrap();
        assert!(why.starts_with("the Pod's side failed: exit code 1 out of luck !!!"), "{why}");
        assert!(why.len() < LONGEST_COMPLAINT + 100, "{} bytes", why.len());
        let explained = end.explain(Error::new(ErrorKind::Connect, "no handshake")).to_string();
        assert!(explained.contains("out of luck") && explained.ends_with("no handshake"), "{explained}");
    }

    #[test]
    fn the_program_of_an_exec_sees_the_end_of_its_input() {
        let runtime = Runtime::shared().unwrap();
        let (mut near, server, _) = run(&runtime, async { Ok(tunnel(exec()).await) });
        near.write_all(b"last").unwrap();
        drop(near);
        let got = run(&runtime, async move {
            let mut server = server;
            let mut got = Vec::new();
            while let Some(Ok(message)) = server.next().await {
                got.extend(message.is_binary().then(|| message.into_data().to_vec()));
            }
            Ok(got)
        });
        assert_eq!(got, [b"\0last".to_vec(), vec![CLOSE, DATA]]);
    }

    #[test]
    fn the_reason_is_told_though_nothing_is_taken_any_more() {
        let runtime = Runtime::shared().unwrap();
        let end = run(&runtime, async {
            let (mut near, mut server, end) = tunnel(exec()).await;
            near.write_all(b"a request that nobody reads").unwrap();
            server.send(frame(b"\x02who are you?")).await.unwrap();
            server.send(frame(b"\x03{\"message\":\"exit code 2\"}")).await.unwrap();
            // It may have been closed by then.
            let _ = server.close(None).await;
            while server.next().await.is_some_and(|message| message.is_ok()) {}
            drop(near);
            Ok(end)
        });
        assert_eq!(end.0.get().unwrap(), "the Pod's side failed: exit code 2 who are you?");
    }
}
