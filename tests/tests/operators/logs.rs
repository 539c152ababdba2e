//! The log: one line per event, whatever anybody says, wherever it goes.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vsmtp_tests::{Client, Mta, Settings, Sink, needs_programs, needs_root, said, uninterrupted, wait_until};

use crate::{Term, ctl, ended, relaying_to};

fn is_line(line: &str) -> bool {
    let mut words = line.split(' ');
    let time = words.next().is_some_and(|word| word.len() == 24 && word.ends_with('Z'));
    let name = words.next().is_some_and(|word| word.starts_with("vsmtp") && word.ends_with(']'));
    let level = words.next().is_some_and(|word| ["error", "warn", "info", "debug", "trace"].contains(&word));
    time && name && level && words.next().is_some_and(|word| word.starts_with("event="))
}

/// A line without what stands in its quoted values, where `\\"` is a quote of the value.
fn outside_quotes(line: &str) -> String {
    let (mut out, mut inside, mut characters) = (String::new(), false, line.chars());
    while let Some(character) = characters.next() {
        match character {
            '"' => inside = !inside,
            '\\' if inside => drop(characters.next()),
            _ if inside => {}
            _ => out.push(character),
        }
    }
    assert!(!inside, "a quote is not closed: {line}");
    out
}

#[test]
fn each_role_says_as_much_as_it_is_told_to() {
    let levels = |levels: &str| Settings {
        config: format!("config.server.receivers = 1; config.server.logs.level = {levels};"),
        ..Settings::default()
    };
    let mta = Mta::start(&levels("[\"info\", \"receiver=debug\"]"));
    let queue_manager = mta.pid_of("queue-manager");
    let speaks =
        |process: &str| mta.log().lines().any(|line| line.contains(process) && line.contains("] debug "));
    assert_eq!(Client::hello(mta.port()).say("QUIT").code(), 221);
    wait_until("the receiver speaks of a client that is gone", || speaks("vsmtp-receiver["));
    assert!(!speaks("vsmtp-queue["), "nobody asked it to");

    mta.write_configuration(&levels("[\"info\", \"queue-manager=debug\"]"));
    mta.hang_up();
    wait_until("it is read again", || mta.log().contains("event=reloaded"));
    wait_until("the queue-manager speaks of the new filter", || speaks("vsmtp-queue["));
    assert_eq!(mta.pid_of("queue-manager"), queue_manager, "it is the same");
}

#[test]
fn nobody_can_forge_a_line_or_write_to_a_terminal() {
    let sink = Sink::scripted(|line| {
        line.starts_with("RCPT").then(|| "550 5.1.1 \u{1b}[2J\u{9b}x\u{7} event=forged to=\"x\"".to_owned())
    });
    let rules = r##"#{ preq: [ rule "log" || { log("info", msg::get_header("Subject")); state::next() } ],
        mail: [ rule "no" || if ctx::mail_from().local_part is "bad" { throw msg::get_header("X") + ctx::helo() } else { state::next() } ] }"##;
    let config = format!(
        "config.delivery.relayhost = \"[127.0.0.1]:{}\"; config.server.logs.level = \"debug\"; \
         config.server.smtp.error.hard_count = -1; config.server.smtp.error.soft_count = -1;",
        sink.port()
    );
    let mta = Mta::start(&Settings { config, filter: rules.to_owned() });
    let mut client = Client::connect(mta.port());
    client.reply();
    for hostile in [
        &b"EHLO a\x1b[31mb\r\n"[..],
        b"EHLO a event=forged\r\n",
        b"MAIL FROM:<a\x07@src.test>\r\n",
        b"MAIL FROM:<\"a\x7fb event=forged\"@src.test>\r\n",
        b"MAIL FROM:<\xc2\x9b31m@src.test>\r\n",
        b"\x00\x01\x02\xff\xfe\r\n",
        b"EHLO client.test\r\n",
        b"MAIL FROM:<bad@src.test>\r\n",
        b"MAIL FROM:<\"a event=forged\"@src.test>\r\n",
        b"RCPT TO:<\"b c\"@dst.test>\r\n",
        b"DATA\r\n",
    ] {
        client.send(hostile);
        client.reply();
    }
    client.send(b"Subject: \x1b]0;x\x07 =?utf-8?q?=0A?= \xc2\x85\xe2\x80\xa8 event=forged\r\n\r\nx\r\n.\r\n");
    assert_eq!(client.reply().code(), 250);
    assert_eq!(client.say("QUIT").code(), 221);
    wait_until("it has failed", || mta.log().contains("event=failed"));
    wait_until("the queue is settled", || mta.ctl_rows(&["queue", "list", "--state", "active"]).is_empty());
    let octets = std::fs::read(mta.root().join("var/log/vsmtp.log")).expect("read the log");
    let text = String::from_utf8(octets).expect("the log is UTF-8");
    for line in text.lines() {
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(is_line(line), "{line:?}");
        assert!(!outside_quotes(line).contains("forged"), "{line:?}");
    }
    assert!(text.contains("event=failed") && text.contains("event=script-failed"), "{text}");
}

#[test]
fn a_message_can_be_followed_by_its_id() {
    let sink = Sink::start();
    let mta = relaying_to(&sink, "");
    let reply = Client::hello(mta.port()).mail("a@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx");
    let id = reply.0.rsplit(' ').next().expect("an id").to_owned();
    let log = mta.logged(&format!("event=removed id={id}"));
    let of_it: Vec<&str> = log.lines().filter(|line| line.contains(&id)).collect();
    for (event, needles) in [
        ("accepted", &["client=127.0.0.1:", "helo=client.test", "recipients=1"][..]),
        ("delivered", &["to=<b@dst.test>", "status=2.0.0", "delay=", "delays=", "remote="]),
        ("removed", &["why=settled"]),
    ] {
        let with = |line: &&&str| {
            line.contains(&format!(" event={event} ")) && needles.iter().all(|n| line.contains(n))
        };
        assert!(of_it.iter().any(|line| with(&line)), "{event}: {of_it:#?}");
    }
}

#[test]
fn a_log_file_that_was_moved_away_is_made_anew_at_a_reload() {
    let mta = Mta::start(&Settings::default());
    let log = mta.root().join("var/log/vsmtp.log");
    let moved = log.with_extension("1");
    std::fs::rename(&log, &moved).expect("move the log");
    ctl(&mta, &["reload"]);
    let before = std::fs::read_to_string(&moved).expect("read the old log");
    let reply = Client::hello(mta.port()).mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx");
    assert_eq!(reply.code(), 250, "{reply:?}");
    // The queue-manager was kept over the reload, the receivers were not.
    wait_until("it is logged", || {
        let log = mta.log();
        ["vsmtp-queue[", "vsmtp-receiver["]
            .iter()
            .all(|name| log.lines().any(|l| l.contains(name) && l.contains("event=accepted")))
    });
    assert_eq!(
        std::fs::read_to_string(&moved).expect("read the old log").matches("event=accepted").count(),
        before.matches("event=accepted").count()
    );
}

/// A syslog daemon of our own, which can be restarted.
struct Syslog {
    path: PathBuf,
    lines: Arc<Mutex<Vec<String>>>,
    socket: Option<Arc<UnixDatagram>>,
}

impl Syslog {
    fn start(path: &Path) -> Syslog {
        let mut syslog = Syslog { path: path.to_owned(), lines: Arc::default(), socket: None };
        syslog.restart();
        syslog
    }

    /// A new socket at the same place; those who are connected to the old one find it gone.
    fn restart(&mut self) {
        self.stop();
        let socket = Arc::new(UnixDatagram::bind(&self.path).expect("bind the syslog socket"));
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o666)).expect("open it to all");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("set a time-out");
        let (weak, lines) = (Arc::downgrade(&socket), Arc::clone(&self.lines));
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Some(socket) = weak.upgrade() {
                if let Ok(length) = socket.recv(&mut buffer) {
                    let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    lines.lock().expect("the lines").push(line);
                }
            }
        });
        self.socket = Some(socket);
    }

    fn stop(&mut self) {
        if let Some(socket) = self.socket.take() {
            while Arc::strong_count(&socket) > 1 {
                std::thread::yield_now();
            }
        }
        let _ = std::fs::remove_file(&self.path);
    }

    fn has(&self, needles: &[&str]) -> bool {
        let lines = self.lines.lock().expect("the lines");
        lines.iter().any(|line| needles.iter().all(|needle| line.contains(needle)))
    }
}

#[test]
fn syslog_gets_every_line_and_may_be_restarted() {
    let mut mta = Mta::start(&Settings::default());
    let path = mta.root().join("log.socket");
    let mut syslog = Syslog::start(&path);
    let config = format!(
        "config.server.logs.target = \"syslog\"; config.server.logs.syslog.facility = \"local3\"; \
         config.server.logs.syslog.path = \"{}\";",
        path.display()
    );
    mta.write_configuration(&Settings { config, ..Settings::default() });
    ctl(&mta, &["reload"]);
    wait_until("the reload is logged", || syslog.has(&["vsmtp[", "event=reloaded"]));
    let send = |subject: &str| {
        let mail = format!("Subject: {subject}\r\n\r\nx");
        let reply = Client::hello(mta.port()).mail(&format!("{subject}@src.test"), &["b@local.test"], &mail);
        assert_eq!(reply.code(), 250, "{reply:?}");
    };
    send("one");
    // local3 is 19: 19 * 8 + 6 (info).
    for name in ["<158>vsmtp-receiver[", "<158>vsmtp-queue["] {
        wait_until("the message is logged", || syslog.has(&[name, "event=accepted", "one@src.test"]));
    }
    // Nobody hears, and nobody minds.
    syslog.stop();
    send("two");
    mta.wait_for_mail("local.test", "b", 2);
    syslog.restart();
    wait_until("all processes have found the new socket", || {
        send("three");
        ["vsmtp-receiver[", "vsmtp-queue["].iter().all(|name| syslog.has(&[name, "three@src.test"]))
    });
    // Also the master, and processes that are started while nobody hears.
    syslog.stop();
    let old = mta.pid_of("resolver");
    vsmtp_tests::signal(&[old], "KILL");
    wait_until("it is back", || {
        mta.processes().iter().any(|p| p.name.starts_with("resolver") && p.pid != old && p.is_ready)
    });
    syslog.restart();
    wait_until("the master has found the new socket", || {
        ctl(&mta, &["reload"]);
        syslog.has(&["vsmtp[", "event=reloaded"]) && syslog.has(&["vsmtp[", "event=ready"])
    });
    mta.stop();
    assert!(!mta.log().contains("one@src.test"), "nothing of it is in the file");
}

#[test]
fn journald_gets_each_line_as_fields_and_may_be_restarted() {
    let test = "journald_gets_each_line_as_fields_and_may_be_restarted";
    if !needs_root(test) || !needs_programs(test, &["unshare", "mount"]) {
        return;
    }
    let config = "config.server.logs.target = \"journald\";".to_owned();
    let mut mta = Mta::prepare(&Settings { config, ..Settings::default() });
    // Its socket has one place, so the MTA gets a /run of its own.
    let run = mta.root().join("run-of-the-machine");
    let folder = run.join("systemd/journal");
    std::fs::create_dir_all(&folder).expect("make a folder");
    let mut journald = Syslog::start(&folder.join("socket"));
    mta.overlay(&run, "/run");
    let mut master = mta.master_command().stderr(std::process::Stdio::null()).spawn().expect("start vsmtp");
    let guard = Term(master.id());
    wait_until("it is up", || journald.has(&["SYSLOG_IDENTIFIER=vsmtp\n", "PRIORITY=6\n", "event=up"]));
    let send = |subject: &str| {
        let mail = format!("Subject: {subject}\r\n\r\nx");
        let reply = Client::hello(mta.port()).mail(&format!("{subject}@src.test"), &["b@local.test"], &mail);
        assert_eq!(reply.code(), 250, "{reply:?}");
    };
    send("one");
    for name in ["SYSLOG_IDENTIFIER=vsmtp-receiver\n", "SYSLOG_IDENTIFIER=vsmtp-queue\n"] {
        wait_until("the message is logged", || {
            journald.has(&[name, "\nMESSAGE=event=accepted", "one@src.test"])
        });
    }
    journald.stop();
    send("two");
    mta.wait_for_mail("local.test", "b", 2);
    journald.restart();
    wait_until("the receiver has found the new socket", || {
        send("three");
        journald.has(&["SYSLOG_IDENTIFIER=vsmtp-receiver\n", "three@src.test"])
    });
    drop(guard);
    assert!(ended(&mut master).success());
}

#[test]
fn syslog_is_reached_over_the_network_too() {
    let mta = Mta::start(&Settings::default());
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    udp.set_read_timeout(Some(Duration::from_secs(30))).expect("set a time-out");
    let point = |kind: &str, at: std::net::SocketAddr| {
        let config = format!(
            "config.server.logs.target = \"syslog\"; config.server.logs.syslog.type = \"{kind}\"; \
             config.server.logs.syslog.server = \"{at}\";"
        );
        mta.write_configuration(&Settings { config, ..Settings::default() });
        ctl(&mta, &["reload"]);
    };
    point("udp", udp.local_addr().expect("its address"));
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = uninterrupted(|| udp.recv(&mut buffer)).expect("a datagram in time");
        // mail is 2: 2 * 8 + 6 (info).
        if buffer[..length].starts_with(b"<22>vsmtp[") {
            break;
        }
    }
    point("tcp", tcp.local_addr().expect("its address"));
    let (stream, _) = tcp.accept().expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set a time-out");
    // Each line with its length in front (RFC 6587 3.4.1).
    let mut stream = BufReader::new(stream);
    let mut count = Vec::new();
    stream.read_until(b' ', &mut count).expect("a length in time");
    let count = String::from_utf8(count).expect("a length");
    let mut line = vec![0; count.trim_end().parse().expect("a number")];
    stream.read_exact(&mut line).expect("a line in time");
    assert!(line.starts_with(b"<"), "{}", String::from_utf8_lossy(&line));
}

/// What is held back by a pipe (16 pages of 4 KiB) and by each process is less than what so many messages have logged.
#[test]
fn a_log_that_nobody_reads_keeps_nobody_waiting() {
    const MESSAGES: usize = 150;
    let config = "config.server.logs.target = \"stderr\"; config.server.logs.level = \"trace\";".to_owned();
    let mta = Mta::prepare(&Settings { config, ..Settings::default() });
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut master = mta.master_command().stderr(writer).spawn().expect("start vsmtp");
    let guard = Term(master.id());
    wait_until("it serves", || Client::try_hello(mta.port()).is_ok());
    let mut client = Client::hello(mta.port());
    // Each line that names the sender is long.
    let sender = format!("{}@{}.src.test", "a".repeat(60), ["b".repeat(60), "c".repeat(60)].join("."));
    for _ in 0..MESSAGES {
        let reply = client.mail(&sender, &["b@local.test"], "Subject: x\r\n\r\nx");
        assert_eq!(reply.code(), 250, "{reply:?}");
    }
    mta.wait_for_mail("local.test", "b", MESSAGES);
    // Whoever reads again finds whole lines, and those of now.
    let reads = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).map(|_| text)
    });
    drop(guard);
    assert!(ended(&mut master).success());
    let text = reads.join().expect("it has read").expect("the log is UTF-8");
    assert!(text.len() > 64 * 1024, "the pipe was never full: {}", text.len());
    let torn: Vec<&str> = text.lines().filter(|line| !is_line(line)).collect();
    assert!(torn.is_empty(), "{torn:#?}");
}

#[test]
fn local_programs_are_known_by_their_user() {
    if !(needs_programs("local_programs_are_known_by_their_user", &["python3", "setpriv"])
        && needs_root("local_programs_are_known_by_their_user"))
    {
        return;
    }
    let mta = Mta::start(&Settings::default());
    let script = "import smtplib, socket, sys\n\
        class Local(smtplib.SMTP):\n\
        \x20   def _get_socket(self, host, port, timeout):\n\
        \x20       s = socket.socket(socket.AF_UNIX); s.settimeout(30); s.connect(host); return s\n\
        s = Local(sys.argv[1], 25, local_hostname='localhost')\n\
        s.sendmail('a@local.test', ['b@local.test', 'c@dst.test'], 'Subject: local\\r\\n\\r\\nx\\r\\n')\n";
    let socket = mta.root().join("run/vsmtp/submit");
    let words = ["--reuid=61234", "--regid=61234", "--clear-groups", "python3", "-c", script];
    said(&vsmtp_tests::run("setpriv", &[&words[..], &[socket.to_str().expect("a plain path")]].concat()));
    mta.wait_for_mail("local.test", "b", 1);
    let log = mta.logged("identity=uid:61234");
    let line = log.lines().find(|line| line.contains("vsmtp-queue[") && line.contains("event=accepted"));
    assert!(line.is_some_and(|line| line.contains("identity=uid:61234")), "{line:?}");
}
