//! The scenario of ports.

use super::*;

/// Answers with what it got, backwards.
const REVERSER: &str = "import socketserver as s, threading as t
class H(s.StreamRequestHandler):
    def handle(self): self.wfile.write(self.rfile.read()[::-1])
u = s.ThreadingUnixStreamServer('/tmp/reverser', H)
t.Thread(target=u.serve_forever, daemon=True).start()
s.ThreadingTCPServer(('127.0.0.1', 7300), H).serve_forever()
";

fn is_reversed(mut stream: TcpStream) {
    stream.write_all(b"desserts").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"stressed");
}

pub(crate) fn ports(world: &World) {
    let (sandbox, minute) = (world.sandbox(), Duration::from_secs(60));
    fails(ErrorKind::TimedOut, "port 7300", sandbox.wait_for_port(7300, millis(50)));
    fails(ErrorKind::Refused, "port 7300", sandbox.connect(7300));
    let server = sandbox.command("python3").args(["-c", REVERSER]).detach("reverser").unwrap();
    sandbox.wait_for_port(7300, minute).unwrap();
    sandbox.wait_for_port(Path::new("/tmp/reverser"), minute).unwrap();
    is_reversed(sandbox.connect(7300).unwrap());
    is_reversed(sandbox.connect(Path::new("/tmp/reverser")).unwrap());

    let forward = sandbox.forward(0, 7300).unwrap();
    let address = ("127.0.0.1", forward.port());
    assert_eq!(forward.local().to_string(), format!("127.0.0.1:{}", forward.port()));
    let open = TcpStream::connect(address).unwrap();
    is_reversed(TcpStream::connect(address).unwrap());
    assert!(forward.is_open() && forward.connections() >= 1 && forward.last_failure().is_none());
    let to_nobody = sandbox.forward("127.0.0.1:0".parse::<Local>().unwrap(), Target::Port(7301)).unwrap();
    let mut refused = TcpStream::connect(("127.0.0.1", to_nobody.port())).unwrap();
    assert_eq!(refused.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(to_nobody.last_failure().unwrap().kind(), ErrorKind::Refused);
    fails(ErrorKind::Busy, "127.0.0.1", sandbox.forward(forward.port(), 7300));
    forward.close();
    forward.wait().unwrap();
    assert!(!forward.is_open() && TcpStream::connect(address).is_err());
    drop(open);
    server.kill().unwrap();
    server.remove().unwrap();
}
