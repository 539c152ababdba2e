//! Slow and deaf clients under TLS: what holds them back in clear holds them back here, record by record.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::version::TLS13;
use vsmtp_config::ReceiverSlice;

use crate::keys::{Keys, Secure, client_config, tls};
use crate::limits::pss;
use crate::stage::{Filter, PATIENCE, Stage, slice};

fn stage(slice: ReceiverSlice) -> (Stage, Filter) {
    let mut stage = Stage::start(&ReceiverSlice { tls: Some(tls()), ..slice });
    let filter = stage.introduce((false, false, false));
    Keys::introduce(&mut stage).serve();
    (stage, filter)
}

fn secure(stage: &Stage) -> Secure {
    let mut client = stage.greeted();
    assert!(client.ask("STARTTLS").starts_with("220"));
    let mut client = Secure::shake(&client_config(&TLS13), client.stream).unwrap();
    assert!(client.ask("EHLO client.test").starts_with("250"));
    client
}

/// What these octets look like under TLS.
pub fn encrypted(client: &mut Secure, bytes: &[u8]) -> Vec<u8> {
    let connection = &mut client.reader.get_mut().conn;
    connection.writer().write_all(bytes).unwrap();
    let mut record = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut record).unwrap();
    }
    record
}

/// True when the server has ended this connection.
fn is_over(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 4096];
    match stream.read(&mut bytes) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn bits_of_records_keep_no_session_alive_and_starve_nobody() {
    let mut strict = slice();
    strict.timeouts.helo = Duration::from_secs(1);
    let (mut stage, mut filter) = stage(strict);
    // Half of them send a record octet by octet, the others a command, of which each octet is a record.
    let mut slow: Vec<(Secure, Vec<Vec<u8>>)> = (0..100)
        .map(|at| {
            let mut client = secure(&stage);
            let pieces = match at % 2 {
                0 => encrypted(&mut client, &[b'N'; 400]).chunks(1).map(<[u8]>::to_vec).collect(),
                _ => (0..400).map(|_| encrypted(&mut client, b"N")).collect(),
            };
            client.reader.get_mut().sock.set_nonblocking(true).unwrap();
            (client, pieces)
        })
        .collect();
    let began = Instant::now();
    let (mut round, mut served_beside) = (0, 0);
    while !slow.is_empty() {
        assert!(began.elapsed() < PATIENCE, "{} are still there", slow.len());
        for (client, pieces) in &mut slow {
            let _ = client.reader.get_mut().sock.write_all(&pieces[round % 400]);
        }
        round += 1;
        let mut swift = stage.greeted();
        swift.begin(&mut filter);
        drop(swift);
        filter.expect_reset();
        filter.expect_forget();
        slow.retain_mut(|(client, _)| !is_over(&mut client.reader.get_mut().sock));
        served_beside += usize::from(!slow.is_empty());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(served_beside > 0, "a good client waits for the end of the others");
    stage.figure("sessions_open", 0);
}

#[test]
fn a_client_that_does_not_read_is_not_read_from_under_tls_either() {
    let (stage, mut filter) = stage(slice());
    let mut deaf: Vec<Secure> = (0..20).map(|_| secure(&stage)).collect();
    let Some(before) = pss(&stage) else { return };
    // VRFY costs little to say and more to answer.
    let line = "VRFY x\r\n".repeat(1000);
    for client in &mut deaf {
        client.reader.get_mut().sock.set_nonblocking(true).unwrap();
        let (mut blocked, mut pending) = (0, Vec::new());
        while blocked < 20 {
            if pending.is_empty() {
                pending = encrypted(client, line.as_bytes());
            }
            match client.reader.get_mut().sock.write(&pending) {
                Ok(count) => {
                    pending.drain(..count);
                    blocked = 0;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    blocked += 1;
                    std::thread::sleep(Duration::from_millis(5));
                }
                // Too many commands that do nothing.
                Err(_) => break,
            }
        }
    }
    let mut other = stage.greeted();
    other.begin(&mut filter);
    let each = pss(&stage).unwrap().saturating_sub(before) / deaf.len();
    assert!(each < 512 * 1024, "each costs {each} octets");
}

#[test]
fn an_end_in_the_middle_of_a_record_is_noticed_at_once() {
    let (mut stage, _filter) = stage(slice());
    let mut clients: Vec<Secure> = (0..5).map(|_| secure(&stage)).collect();
    stage.figure("sessions_open", 5);
    // The half record and the end must be there together when it looks.
    stage.process.child.signal(19).unwrap();
    for client in &mut clients {
        let record = encrypted(client, b"NOOP\r\n");
        client.send_clear(&record[..record.len() / 2]);
    }
    drop(clients);
    stage.process.child.signal(18).unwrap();
    // Their time would be over after much more than this waits.
    stage.figure("sessions_open", 0);
}
