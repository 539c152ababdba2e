//! Next hops that say nothing, one octet a second, a flood without a newline, or garbage, in clear and under TLS.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use vsmtp_tests::{
    Mta, Settings, Sink, free_port, make_certificate, needs_programs, program, say, signal, uninterrupted,
    wait_until,
};

use crate::{IMPATIENT, SLOWEST, message, most_memory, send};

/// Octets of a flood, if nobody stops it.
const FLOOD: usize = 1 << 30;

/// One that delivers may grow by so many octets under all of this.
const MOST_MEMORY: u64 = 48 << 20;

type Script = fn(TcpStream) -> std::io::Result<()>;

/// Goes through the dialogue to the final dot, and then does something else than answer.
fn up_to_the_dot(mut stream: TcpStream, then: impl FnOnce(&mut TcpStream)) -> std::io::Result<()> {
    stream.write_all(b"220 bad.test\r\n")?;
    let mut text = String::new();
    let mut chunk = [0; 4096];
    let (mut hello, mut data) = (false, false);
    loop {
        let got = uninterrupted(|| stream.read(&mut chunk))?;
        if got == 0 {
            return Ok(());
        }
        text.push_str(&String::from_utf8_lossy(chunk.get(..got).unwrap_or_default()));
        if !hello && text.contains("EHLO") && text.ends_with("\r\n") {
            hello = true;
            stream.write_all(b"250 bad.test\r\n")?;
        } else if data && text.ends_with("\r\n.\r\n") {
            then(&mut stream);
            return Ok(());
        } else if text.ends_with("DATA\r\n") {
            data = true;
            stream.write_all(b"354 go on\r\n")?;
        } else if !data && text.ends_with("\r\n") {
            stream.write_all(b"250 ok\r\n")?;
        }
    }
}

fn pour(stream: &mut TcpStream, octets: &[u8]) {
    let mut sent = 0;
    while sent < FLOOD && stream.write_all(octets).is_ok() {
        sent += octets.len();
    }
}

const VILLAINS: [(&str, Script); 8] = [
    ("silent", |mut stream| {
        let mut end = Vec::new();
        stream.read_to_end(&mut end).map(drop)
    }),
    ("slow", |mut stream| {
        for octet in b"220 slow.test ESMTP ".iter().cycle() {
            stream.write_all(&[*octet])?;
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }),
    ("endless", |mut stream| {
        pour(&mut stream, &[b'2'; 65_536]);
        Ok(())
    }),
    ("lines", |mut stream| {
        pour(&mut stream, "220-more\r\n".repeat(5000).as_bytes());
        Ok(())
    }),
    ("garbage", |mut stream| {
        stream.write_all(&[0, 255, 13, 10, 200, 0, 10, 10, 10, 13, 13])?;
        pour(&mut stream, &[0xff, 0x00, 0x0d, 0x0a]);
        Ok(())
    }),
    ("closes", |_| Ok(())),
    ("nodot", |stream| {
        up_to_the_dot(stream, |stream| {
            let mut end = Vec::new();
            let _ = stream.read_to_end(&mut end);
        })
    }),
    ("dotflood", |stream| up_to_the_dot(stream, |stream| pour(stream, &[b'2'; 65_536]))),
];

fn serve(script: Script) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind a next hop");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
            std::thread::spawn(move || script(stream));
        }
    });
    port
}

/// What goes wrong under TLS, or on the way there.
const UNDER_TLS: [&str; 4] = ["tls-silent", "tls-endless", "tls-lines", "tls-garbage"];
/// Offers STARTTLS on one port for each.
const TLS_SERVER: &str = "
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
garbage = bytes(range(255, -1, -1)) * 256
def serve(stream, kind):
    try:
        lines = stream.makefile('rb')
        stream.sendall(b'220 bad.test\\r\\n')
        lines.readline()
        stream.sendall(b'250-bad.test\\r\\n250 STARTTLS\\r\\n')
        if lines.readline().upper().startswith(b'STARTTLS'):
            # With the garbage behind it in the same segment: nobody begins a handshake in between.
            stream.sendall(b'220 go\\r\\n' + (garbage if kind == 'tls-garbage' else b''))
            if kind != 'tls-garbage':
                stream = context.wrap_socket(stream, server_side=True)
                stream.recv(4096)
        flood = {'tls-endless': b'2' * 65536, 'tls-lines': b'250-more\\r\\n' * 5000, 'tls-garbage': garbage}
        while kind in flood:
            stream.sendall(flood[kind])
        while stream.recv(4096):
            pass
    except OSError:
        pass
def listen(kind, port):
    listener = socket.create_server(('127.0.0.1', port))
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0], kind), daemon=True).start()
threads = [threading.Thread(target=listen, args=pair.split(':')[:1] + [int(pair.split(':')[1])]) for pair in sys.argv[3:]]
[thread.start() for thread in threads]
";

/// The servers under TLS. They end when this is dropped.
struct UnderTls(Child);

impl UnderTls {
    fn start(folder: &Path, ports: &[(&str, u16)]) -> UnderTls {
        make_certificate(folder, "bad", &["bad.test"]);
        let [certificate, key] = ["bad.pem", "bad.key"].map(|name| folder.join(name));
        let pairs = ports.iter().map(|(name, port)| format!("{name}:{port}"));
        let child = program("python3").args(["-c", TLS_SERVER]).args([certificate, key]).args(pairs).spawn();
        let servers = UnderTls(child.expect("start python"));
        for (_, port) in ports {
            wait_until("it listens", || TcpStream::connect(("127.0.0.1", *port)).is_ok());
        }
        servers
    }
}

impl Drop for UnderTls {
    fn drop(&mut self) {
        // `timeout` passes the signal on.
        signal(&[self.0.id()], "TERM");
        let _ = self.0.wait();
    }
}

#[test]
fn hostile_next_hops_harm_only_their_own_mail() {
    if !needs_programs("hostile_next_hops_harm_only_their_own_mail", &["python3", "openssl"]) {
        return;
    }
    let good = Sink::start();
    let folder = tempfile::tempdir().expect("make a folder");
    let under_tls = UNDER_TLS.map(|name| (name, free_port()));
    let _servers = UnderTls::start(folder.path(), &under_tls);
    let villains: Vec<(&str, u16)> =
        VILLAINS.into_iter().map(|(name, script)| (name, serve(script))).chain(under_tls).collect();
    let mut rules = String::new();
    for (name, port) in &villains {
        rules += &format!(
            "if ctx::rcpt().domain is \"{name}.test\" {{ transport::forward(ctx::rcpt(), \"[127.0.0.1]:{port}\"); }}\n"
        );
    }
    let filter = format!("#{{ rcpt: [ action \"where to\" || {{ {rules} }} ] }}");
    let steps = ["greeting", "mail", "rcpt", "data", "block", "dot"];
    let timeouts: String =
        steps.iter().map(|step| format!("config.delivery.timeouts.{step} = \"2s\"; ")).collect();
    let policies = under_tls.map(|(_, port)| format!("\"[127.0.0.1]:{port}\": \"encrypt\"")).join(", ");
    let config = format!(
        "config.delivery.relayhost = \"[127.0.0.1]:{}\"; {timeouts} {IMPATIENT}\n\
         config.delivery.tls.policy = #{{ {policies} }};",
        good.port()
    );
    let mta = Mta::start(&Settings { config, filter });
    let before = mta.processes();
    let delivers: Vec<u32> =
        before.iter().filter(|process| process.name.starts_with("deliver-smtp")).map(|p| p.pid).collect();
    let at_rest: Vec<u64> = delivers.iter().map(|pid| most_memory(*pid)).collect();
    for (name, _) in &villains {
        for number in 0..5 {
            assert_eq!(send(&mta, &format!("b@{name}.test"), &message(number, 1000)).code(), 250);
        }
    }
    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        let began = Instant::now();
        assert_eq!(send(&mta, "b@good.test", &message(number, 1000)).code(), 250);
        wait_until("good mail is delivered", || good.count() as u64 == number + 1);
        slowest = slowest.max(began.elapsed());
    }
    say(&format!("beside hostile next hops the slowest good delivery took {} ms", slowest.as_millis()));
    assert!(slowest < SLOWEST, "{slowest:?}");
    // Nothing is lost: all of it waits, and each has been tried.
    wait_until("all hostile mail is deferred", || {
        let rows = mta.ctl_rows(&["queue", "list", "--state", "deferred"]);
        villains.iter().all(|(name, _)| {
            rows.iter().any(|row| {
                let recipient = &row["recipients"][0];
                recipient["address"] == format!("b@{name}.test") && recipient["delay_reason"].is_string()
            })
        })
    });
    assert_eq!(mta.queued(), 5 * villains.len() as u64);
    let grown = delivers.iter().zip(at_rest).map(|(pid, rest)| most_memory(*pid).saturating_sub(rest)).max();
    let grown = grown.unwrap_or(u64::MAX);
    say(&format!("one that delivers grew by {} KiB", grown / 1024));
    assert!(grown < MOST_MEMORY, "{grown}");
    // Nothing goes to these in clear, so it was under TLS that they were met.
    for (name, why) in [
        ("tls-silent", "timeout while waiting for the reply to EHLO"),
        ("tls-endless", "server sent an endless reply"),
        ("tls-lines", "server sent an endless reply"),
        ("tls-garbage", "server sent clear text behind its answer to STARTTLS"),
    ] {
        // A server that is slow by itself may have been given up before that, and is tried again.
        let is_it = |line: &str| line.contains(&format!("to=<b@{name}.test>")) && line.contains(why);
        wait_until(why, || mta.log().lines().any(is_it));
    }
    assert_eq!(mta.processes(), before, "nobody died");
}
