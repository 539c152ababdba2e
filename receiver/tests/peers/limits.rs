//! Too many, too slow, too long.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use crate::stage::{Client, Filter, PATIENCE, Stage, slice};
use vsmtp_ipc::edge::receiver_filter::{Ask, CREDITS, Decision, Verdict};
use vsmtp_stage::uninterrupted;

fn accept(filter: &mut Filter, session: u64) {
    filter.say(&Verdict::Recipients { session, decisions: vec![Decision::Accept(None)] });
}

#[test]
fn without_credit_sessions_wait_in_line() {
    let (mut stage, mut filter) = Stage::with_filter();
    let credits = CREDITS as usize;
    let mut clients: Vec<Client> = (0..credits + 3).map(|_| stage.greeted()).collect();
    let mut sessions = Vec::new();
    for (at, client) in clients.iter_mut().enumerate() {
        client.send("MAIL FROM:<>\r\nRCPT TO:<b@mx.test>\r\n");
        if at < credits {
            let Ask::Recipients { facts, .. } = filter.hear().0 else { panic!() };
            sessions.push(facts.session);
        }
    }
    stage.figure("asks_waiting", 3);
    for _ in 0..3 {
        accept(&mut filter, sessions.pop().unwrap());
        match filter.hear().0 {
            Ask::Recipients { facts, .. } => sessions.push(facts.session),
            other => panic!("{other:?}"),
        }
    }
    sessions.into_iter().for_each(|session| accept(&mut filter, session));
    for client in &mut clients {
        assert!(client.reply().starts_with("250") && client.reply().starts_with("250"));
    }
}

#[test]
fn the_process_has_so_many_sessions() {
    let mut strict = slice();
    strict.client_count_max = Some(2);
    let mut stage = Stage::start(&strict);
    let _filter = stage.introduce((false, false, false));
    let _clients = (stage.greeted(), stage.greeted());
    assert!(stage.connect().reply().starts_with("421 4.3.2"));
    stage.figure("turned_away", 1);
}

#[test]
fn silence_ends_a_session_at_every_stage() {
    let short = Duration::from_millis(30);
    for stop_at in 0..5 {
        let mut strict = slice();
        match stop_at {
            0 => strict.timeouts.connect = short,
            1 => strict.timeouts.helo = short,
            2 => strict.timeouts.mail_from = short,
            3 => strict.timeouts.rcpt_to = short,
            _ => strict.timeouts.data = short,
        }
        let mut stage = Stage::start(&strict);
        let mut filter = stage.introduce((false, false, false));
        let mut client = stage.connect();
        client.reply();
        let commands = ["EHLO client.test", "MAIL FROM:<>", "RCPT TO:<b@mx.test>", "DATA"];
        for (at, command) in commands.iter().enumerate().take(stop_at) {
            client.say(command);
            if at == 2 {
                filter.accept_recipients();
            }
            client.reply();
        }
        assert_eq!(client.reply(), "421 4.4.2 Timeout, closing connection", "stage {stop_at}");
        assert!(client.is_closed());
    }
}

#[test]
fn bits_of_a_command_do_not_keep_a_session_alive() {
    let mut strict = slice();
    strict.timeouts.connect = Duration::from_millis(100);
    let mut stage = Stage::start(&strict);
    let _filter = stage.introduce((false, false, false));
    let mut client = stage.connect();
    client.reply();
    client.stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let mut reply = Vec::new();
    let mut stream = client.stream.try_clone().unwrap();
    for _ in 0..500 {
        let mut bytes = [0; 100];
        match uninterrupted(|| stream.read(&mut bytes)) {
            Ok(0) => break,
            Ok(count) => reply.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
        if stream.write_all(b"N").is_err() {
            break;
        }
    }
    assert_eq!(String::from_utf8(reply).unwrap(), "421 4.4.2 Timeout, closing connection\r\n");
}

#[test]
fn a_session_ends_between_messages_however_busy_it_is() {
    let mut strict = slice();
    strict.session_timeout = Duration::from_millis(200);
    let mut stage = Stage::start(&strict);
    let _filter = stage.introduce((false, false, false));
    let mut client = stage.greeted();
    let ended =
        (0..1_000_000).map(|_| client.ask("EHLO client.test")).find(|reply| !reply.starts_with("250"));
    let ended = ended.unwrap();
    // Whichever comes first: too long, or too many repeated commands.
    assert!(ended.starts_with("421"), "{ended}");
}

#[test]
fn a_client_that_does_not_read_is_not_read_from_and_others_are_served() {
    let (stage, mut filter) = Stage::with_filter();
    let mut deaf = stage.greeted();
    deaf.stream.set_nonblocking(true).unwrap();
    // VRFY costs little to say and more to answer.
    let line = "VRFY x\r\n".repeat(1000);
    let mut blocked = 0;
    while blocked < 50 {
        match deaf.stream.write(line.as_bytes()) {
            Ok(_) => blocked = 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => blocked += 1,
            Err(_) => break,
        }
        let mut other = stage.greeted();
        other.begin(&mut filter);
        drop(other);
        filter.expect_reset();
        filter.expect_forget();
    }
}

#[test]
fn after_many_errors_replies_come_late_and_only_to_that_client() {
    let mut strict = slice();
    strict.error_soft_count = Some(2);
    strict.error_delay = Duration::from_secs(3600);
    let mut stage = Stage::start(&strict);
    let mut filter = stage.introduce((false, false, false));
    let mut client = stage.greeted();
    assert!(client.ask("BOGUS").starts_with("500"));
    client.say("BOGUS");
    let mut other = stage.greeted();
    other.begin(&mut filter);
    client.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut bytes = [0; 100];
    let silence = uninterrupted(|| client.stream.read(&mut bytes)).unwrap_err();
    assert_eq!(silence.kind(), ErrorKind::WouldBlock);
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();

    strict.error_delay = Duration::from_millis(20);
    let mut stage = Stage::start(&strict);
    let _filter = stage.introduce((false, false, false));
    let mut client = stage.greeted();
    for _ in 0..19 {
        assert!(client.ask("BOGUS").starts_with("500"));
    }
    client.say("BOGUS");
    assert!(client.reply().starts_with("500"));
    assert_eq!(client.reply(), "421 4.7.0 Too many errors, closing connection");
    assert!(client.is_closed());
}

/// Octets of this process's memory that are its own share; `None` where the kernel does not tell, which it must in CI.
pub fn pss(stage: &Stage) -> Option<usize> {
    let read = || {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", stage.process.child.pid)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().strip_suffix(" kB")?.parse::<usize>().ok().map(|kib| kib * 1024)
    };
    let found = read();
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "the receiver's memory cannot be read");
    found
}

#[test]
fn idle_sessions_are_small() {
    let sessions = if vsmtp_sys::fds::raise_nofile(20_000).unwrap() >= 20_000 { 10_000 } else { 200 };
    let mut open = slice();
    open.client_count_max = None;
    let mut stage = Stage::start(&open);
    let _filter = stage.introduce((false, false, false));
    stage.greeted();
    let Some(before) = pss(&stage) else { return };
    let mut clients = Vec::with_capacity(sessions);
    for _ in 0..sessions {
        let mut stream = std::net::TcpStream::connect(stage.address).unwrap();
        let mut greeting = [0; 19];
        stream.read_exact(&mut greeting).unwrap();
        stream.write_all(b"EHLO client.test\r\n").unwrap();
        clients.push(stream);
    }
    stage.figure("sessions_open", sessions as u64);
    let each = (pss(&stage).unwrap() - before) / sessions;
    assert!(each < 1536, "{each} octets");
}

/// Takes the room for more descriptors away from the receiver; false if that cannot be done here.
fn allow_descriptors(stage: &Stage, count: usize) -> bool {
    let mut prlimit = std::process::Command::new("prlimit");
    prlimit.args([format!("--pid={}", stage.process.child.pid), format!("--nofile={count}:100")]);
    prlimit.status().is_ok_and(|status| status.success())
}

#[test]
fn without_descriptors_clients_wait_at_the_door_and_large_messages_are_deferred() {
    let (mut stage, mut filter) = Stage::with_filter();
    let mut clients: Vec<Client> = (0..3).map(|_| stage.greeted()).collect();
    let open = std::fs::read_dir(format!("/proc/{}/fd", stage.process.child.pid)).map_or(0, Iterator::count);
    if open == 0 || !allow_descriptors(&stage, open) {
        return;
    }
    let mut late = stage.connect();
    stage.logged("event=accept-failed");
    clients[0].begin(&mut filter);
    clients[0].ask("DATA");
    clients[0].send(format!("{}\r\n.\r\n", "x".repeat(30_000)));
    assert_eq!(clients[0].reply(), "451 4.3.2 System is too busy, try again later");
    filter.expect_reset();
    drop(clients.pop());
    assert!(late.reply().starts_with("220"), "the door opens again by itself");
    assert!(allow_descriptors(&stage, open + 5));
    clients[0].begin(&mut filter);
    clients[0].ask("DATA");
    clients[0].send(format!("{}\r\n.\r\n", "x".repeat(30_000)));
    filter.accept_message();
    assert!(clients[0].reply().starts_with("250"));
}
