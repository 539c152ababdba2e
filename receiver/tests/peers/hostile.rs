//! Clients that say anything at all, before a filter that decides anything at all and checks that the edge's rules hold:
//! one question per session, none after the last word, chunks in order, and nothing left behind.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::stage::{Filter, PATIENCE, Stage, only, reply, slice};
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::edge::receiver_filter::{Ask, Decision, Kept, Verdict};
use vsmtp_ipc::wire::Body;
use vsmtp_sys::memfd::Sealed;

/// A small generator, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<'a>(&mut self, from: &[&'a [u8]]) -> &'a [u8] {
        from[self.roll(from.len() as u64) as usize]
    }
}

/// What the filter knows of a session.
#[derive(Default)]
struct Known {
    transaction: bool,
    chunks: u64,
}

/// A filter with what it must remember to check the rules.
struct Judge {
    filter: Filter,
    dice: Dice,
    sessions: HashMap<u64, Known>,
    forgotten: Vec<u64>,
}

impl Judge {
    fn new(stage: &mut Stage, mut dice: Dice) -> Judge {
        let filter = stage.introduce((dice.roll(2) == 0, dice.roll(2) == 0, dice.roll(2) == 0));
        Judge { filter, dice, sessions: HashMap::new(), forgotten: Vec::new() }
    }

    /// Answers one question, if one comes soon.
    fn decide(&mut self) {
        let Some((ask, fds)) = self.filter.hear_soon(Duration::from_millis(20)) else { return };
        let verdict = judge(&ask, fds, &mut self.sessions, &mut self.forgotten, &mut self.dice);
        verdict.into_iter().for_each(|verdict| self.filter.say(&verdict));
    }
}

fn judge(
    ask: &Ask,
    fds: Vec<OwnedFd>,
    sessions: &mut HashMap<u64, Known>,
    forgotten: &mut Vec<u64>,
    dice: &mut Dice,
) -> Option<Verdict> {
    let session = match ask {
        Ask::Connect(facts) | Ask::Helo(facts) | Ask::Authenticate(facts) | Ask::Mail(facts, _) => {
            facts.session
        }
        Ask::Recipients { facts, .. } | Ask::Message { facts, .. } => facts.session,
        Ask::Chunk { session, .. } | Ask::Reset { session, .. } | Ask::Forget { session } => *session,
    };
    assert!(!forgotten.contains(&session), "{ask:?} after the last word");
    let new = !sessions.contains_key(&session);
    let known = sessions.entry(session).or_default();
    let decision = match dice.roll(8) {
        0 => Decision::Refuse(reply("550 5.7.1 no")),
        1 => Decision::Refuse(reply("451 4.7.1 not now")),
        2 if dice.roll(3) == 0 => Decision::Close(reply("421 4.7.0 enough")),
        _ => Decision::Accept(None),
    };
    match ask {
        Ask::Connect(_) | Ask::Helo(_) | Ask::Authenticate(_) => {}
        Ask::Mail(..) => {
            assert!(!std::mem::replace(&mut known.transaction, true), "a second MAIL without a reset");
        }
        Ask::Recipients { recipients, .. } => {
            known.transaction = true;
            assert!((1..=64).contains(&recipients.len()));
            let decisions = vec![decision; recipients.len()];
            return Some(Verdict::Recipients { session, decisions });
        }
        Ask::Chunk { offset, len, .. } => {
            assert!(known.transaction && *offset == known.chunks, "{ask:?}");
            known.chunks += len;
            Sealed::verify(only(fds), *len).unwrap();
            return Some(Verdict::ChunkStored {
                session,
                kept: [Kept::NoRoom, Kept::Stored, Kept::Stored, Kept::Unavailable][dice.roll(4) as usize],
            });
        }
        Ask::Message { body, trace_len, .. } => {
            assert!(std::mem::take(&mut known.transaction) && u64::from(*trace_len) <= body.len());
            let chunks = std::mem::take(&mut known.chunks);
            assert!(matches!(body, Body::File(len) if *len == chunks) || chunks == 0);
        }
        Ask::Reset { .. } => {
            assert!(!new && std::mem::take(&mut known.transaction), "nothing to reset");
            known.chunks = 0;
            return None;
        }
        Ask::Forget { .. } => {
            assert!(!new, "never heard of it");
            assert!(!sessions[&session].transaction, "a transaction is open");
            sessions.remove(&session);
            forgotten.push(session);
            return None;
        }
    }
    Some(Verdict::Decided { session, decision })
}

const PIECES: &[&[u8]] = &[
    b"EHLO client.test\r\n",
    b"HELO x\r\n",
    b"MAIL FROM:<a@client.test>\r\n",
    b"MAIL FROM:<> SIZE=2000000\r\n",
    b"RCPT TO:<b@mx.test>\r\n",
    b"RCPT TO:<b@mx.test>\r\nRCPT TO:<c@mx.test>\r\nRCPT TO:<bad\r\n",
    b"DATA\r\n",
    b"DATA\r\nSubject: x\r\n\r\nx\r\n.\r\n",
    b"Subject: x\r\n\r\ntext\r\n",
    b"\r\n.\r\n",
    b".\r\n",
    b"RSET\r\n",
    b"NOOP\r\nVRFY x\r\nHELP\r\n",
    b"\xff\xfe\0\r\n",
    b"bare\nnewline\r\n",
    b"\r",
    b"\n",
    b"QUIT\r\n",
];

/// One client that says some pieces, mostly in a sensible order, and leaves in some way.
fn rave(address: SocketAddr, dice: &mut Dice) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let sensible = [0, 2, 4, 6, 8, 9];
    let large = [&[b'y'; 998][..], b"\r\n"].concat().repeat(300);
    for step in 0..dice.roll(20) as usize {
        let piece = match dice.roll(4) {
            0 => dice.pick(PIECES),
            _ => PIECES[sensible[step % sensible.len()]],
        };
        let bytes = if dice.roll(12) == 0 { &large[..] } else { piece };
        if stream.write_all(bytes).is_err() {
            return;
        }
    }
    match dice.roll(3) {
        0 => return,
        1 => {
            let _ = stream.shutdown(Shutdown::Write);
        }
        _ => {
            let _ = stream.write_all(b"\r\n.\r\nQUIT\r\n");
        }
    }
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn whatever_clients_say_the_edge_keeps_its_rules_and_nothing_is_left() {
    let mut tough = slice();
    tough.message_size_limit = 1_000_000;
    let mut stage = Stage::start(&tough);
    let mut dice = Dice(20_261_122);
    let address = stage.address;
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let mut dice = Dice(dice.roll(1 << 31));
            std::thread::spawn(move || (0..20).for_each(|_| rave(address, &mut dice)))
        })
        .collect();
    let mut judge = Judge::new(&mut stage, Dice(dice.roll(1 << 31)));
    while clients.iter().any(|client| !client.is_finished()) {
        // It lives for some questions, and then the next one takes over, while clients are there.
        for _ in 0..50 + dice.roll(400) {
            judge.decide();
        }
        drop(judge);
        judge = Judge::new(&mut stage, Dice(dice.roll(1 << 31)));
    }
    clients.into_iter().for_each(|client| client.join().unwrap());
    let mut filter = stage.introduce((false, false, false));
    let mut client = stage.greeted();
    client.begin(&mut filter);
    client.ask("DATA");
    client.send("x\r\n.\r\n");
    filter.accept_message();
    assert!(client.reply().starts_with("250"));
    drop(client);
    stage.hear_master(|said| {
        let ToMaster::Beat(figures) = said else { return false };
        let zero = |name: &str| figures.iter().any(|figure| figure.name == name && figure.value == 0);
        ["sessions_open", "asks_in_flight", "asks_waiting", "body_octets_held"].into_iter().all(zero)
    });
    assert!(!stage.log().contains("misbehaved"), "{}", stage.log());
}
