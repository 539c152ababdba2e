//! Chunks (BDAT) by the whole process: a million of one octet, and a disk that is full at the end of a message, by whichever
//! way it comes.

use std::io::Read;

use rustls::version::TLS13;
use vsmtp_config::ReceiverSlice;
use vsmtp_ipc::edge::receiver_filter::{Ask, Decision, Kept, Verdict};
use vsmtp_ipc::wire::Body;
use vsmtp_sys::memfd::Sealed;

use crate::keys::{Keys, Secure, client_config, tls};
use crate::stage::{Client, Filter, PATIENCE, Stage, only, slice};

/// A client in clear or under TLS.
enum Line {
    Clear(Client),
    Secure(Box<Secure>),
}

impl Line {
    fn open(stage: &Stage, under_tls: bool) -> Line {
        if under_tls {
            let stream = crate::tls::ready(stage);
            let mut client = Secure::shake(&client_config(&TLS13), stream).unwrap();
            assert!(client.ask("EHLO client.test").starts_with("250"));
            Line::Secure(Box::new(client))
        } else {
            Line::Clear(stage.greeted())
        }
    }

    fn send(&mut self, bytes: &str) {
        match self {
            Line::Clear(client) => client.send(bytes),
            Line::Secure(client) => client.send(bytes),
        }
    }

    fn reply(&mut self) -> String {
        match self {
            Line::Clear(client) => client.reply(),
            Line::Secure(client) => client.reply(),
        }
    }

    /// A transaction with one recipient.
    fn begin(&mut self, filter: &mut Filter) {
        self.send("MAIL FROM:<a@client.test>\r\n");
        assert!(self.reply().starts_with("250"));
        self.send("RCPT TO:<b@mx.test>\r\n");
        filter.accept_recipients();
        assert!(self.reply().starts_with("250"));
    }
}

/// A message as it goes out, by BDAT or by DATA.
fn message(octets: usize, by_chunk: bool) -> String {
    let text = format!(
        "Subject: x\r\n\r\n{}",
        "All work and no play makes Jack a dull boy.\r\n".repeat(octets / 45)
    );
    if by_chunk { format!("BDAT {} LAST\r\n{text}", text.len()) } else { format!("{text}.\r\n") }
}

#[test]
fn a_disk_that_is_full_at_the_end_is_told_by_each_way_and_costs_that_message_only() {
    for (under_tls, by_chunk) in [(false, true), (true, false), (true, true)] {
        // It is no error of the client: one would end its session.
        let mut stage =
            Stage::start(&ReceiverSlice { error_hard_count: Some(1), tls: Some(tls()), ..slice() });
        let mut filter = stage.introduce((false, false, false));
        Keys::introduce(&mut stage).serve();
        let mut line = Line::open(&stage, under_tls);
        line.begin(&mut filter);
        if !by_chunk {
            line.send("DATA\r\n");
            assert!(line.reply().starts_with("354"));
        }
        let sender = std::thread::spawn(move || {
            line.send(&message(3_000_000, by_chunk));
            let reply = line.reply();
            (line, reply)
        });
        let (Ask::Chunk { session, id, offset: 0, .. }, _) = filter.hear() else { panic!("no chunk") };
        filter.say(&Verdict::ChunkStored { session, kept: Kept::NoRoom });
        let (mut line, reply) = sender.join().unwrap();
        let how = format!("TLS: {under_tls}, BDAT: {by_chunk}");
        assert_eq!(reply, "452 4.3.1 Insufficient system storage, try again later", "{how}");
        assert!(matches!(filter.hear().0, Ask::Reset { id: Some(given_up), .. } if given_up == id), "{how}");
        line.begin(&mut filter);
        line.send("BDAT 3 LAST\r\nx\r\n");
        assert!(filter.accept_message().ends_with(b"x\r\n"), "{how}");
        assert!(line.reply().starts_with("250"), "{how}");
    }
}

#[test]
fn s4_a_million_chunks_of_one_octet_are_one_message_and_little_memory() {
    const CHUNKS: usize = 1_000_000;
    const OK: &[u8] = b"250 2.0.0 Ok: chunk received\r\n";
    let (stage, mut filter) = Stage::with_filter();
    let mut client = stage.greeted();
    client.begin(&mut filter);
    let before = peak(&stage);
    let mut stream = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        // Lines of 98 octets.
        let all: String = (0..CHUNKS)
            .map(|at| match at % 100 {
                98 => "BDAT 1\r\n\r",
                99 => "BDAT 1\r\n\n",
                _ => "BDAT 1\r\nx",
            })
            .collect();
        std::io::Write::write_all(&mut stream, format!("{all}BDAT 0 LAST\r\n").as_bytes()).unwrap();
    });
    // What is said while a question is open comes with its answer.
    let judge = std::thread::spawn(move || {
        loop {
            match filter.hear() {
                (Ask::Forget { .. }, _) => {}
                (Ask::Message { facts, body: Body::Memfd(len), .. }, fds) => {
                    let bytes = Sealed::verify(only(fds), len).unwrap().read_all(1 << 21).unwrap();
                    filter.decide(facts.session, Decision::Accept(None));
                    return bytes;
                }
                other => panic!("{other:?}"),
            }
        }
    });
    let mut replies = client.stream.try_clone().unwrap();
    replies.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = vec![0; OK.len() * 1000];
    for thousand in 0..CHUNKS / 1000 {
        replies.read_exact(&mut said).unwrap();
        assert!(said.chunks(OK.len()).all(|reply| reply == OK), "in thousand {thousand}");
        if thousand == CHUNKS / 2000 {
            // Others are served beside it.
            assert!(stage.greeted().ask("NOOP").starts_with("250"));
        }
    }
    sender.join().unwrap();
    let bytes = judge.join().unwrap();
    assert!(client.reply().starts_with("250 2.0.0 queued as"));
    let line = format!("{}\r\n", "x".repeat(98));
    assert!(bytes.ends_with(line.repeat(CHUNKS / 100).as_bytes()), "{} octets", bytes.len());
    if let (Some(before), Some(after)) = (before, peak(&stage)) {
        let more = after - before;
        assert!(more < 16 << 20, "{more} octets for a message of {CHUNKS}");
    }
}

/// The most octets that the receiver has had in memory; `None` where the kernel does not tell.
fn peak(stage: &Stage) -> Option<usize> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", stage.process.child.pid)).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok().map(|kib| kib * 1024)
}
