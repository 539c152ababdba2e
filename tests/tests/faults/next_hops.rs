//! Next hops that say nothing, one octet a second, a flood without a newline, or garbage.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use vsmtp_tests::{Mta, Settings, Sink, say, uninterrupted, wait_until};

use crate::{IMPATIENT, SLOWEST, message, send};

/// Octets of a flood, if nobody stops it.
const FLOOD: usize = 1 << 30;

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

#[test]
fn hostile_next_hops_harm_only_their_own_mail() {
    let good = Sink::start();
    let mut rules = String::new();
    for (name, script) in VILLAINS {
        let port = serve(script);
        rules += &format!(
            "if ctx::rcpt().domain is \"{name}.test\" {{ transport::forward(ctx::rcpt(), \"[127.0.0.1]:{port}\"); }}\n"
        );
    }
    let filter = format!("#{{ rcpt: [ action \"where to\" || {{ {rules} }} ] }}");
    let steps = ["greeting", "mail", "rcpt", "data", "block", "dot"];
    let timeouts: String =
        steps.iter().map(|step| format!("config.delivery.timeouts.{step} = \"2s\"; ")).collect();
    let config =
        format!("config.delivery.relayhost = \"[127.0.0.1]:{}\"; {timeouts} {IMPATIENT}", good.port());
    let mta = Mta::start(&Settings { config, filter });
    let before = mta.processes();
    for (name, _) in VILLAINS {
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
        VILLAINS.iter().all(|(name, _)| {
            rows.iter().any(|row| {
                let recipient = &row["recipients"][0];
                recipient["address"] == format!("b@{name}.test") && recipient["delay_reason"].is_string()
            })
        })
    });
    assert_eq!(mta.queued(), 5 * VILLAINS.len() as u64);
    assert_eq!(mta.processes(), before, "nobody died");
}
