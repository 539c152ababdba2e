//! A whole client connection against a server that says anything: the first octet chooses how we connect, the second what
//! there is to send, the rest is what the server says. Each recipient gets one outcome, nothing is delivered or failed
//! that the server did not say so of, our commands are well formed, and nothing is said behind half a message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vsmtp_fuzz::cut::Dice;
use vsmtp_mail::{Address, BodyType, Domain, Notify, OriginalRecipient, Ret, ReversePath};
use vsmtp_smtp::{
    ClientSettings, ClientStep, Dialogue, Extension, Extensions, HostFault, MailRequest, Outcome, Protocol,
    RcptRequest, RemoteRecipient, RequireTls, Transaction, UseTls, Verb, Why,
};

const BODY: &[u8] = b"Subject: x\r\n\r\n.dot\r\nlast line";
/// Only what is made of whole lines may go by BDAT if it is not binary.
const LINES: &[u8] = b"Subject: x\r\n\r\n.dot\r\nlast line\r\n";
const STUFFED: &[u8] = b"Subject: x\r\n\r\n..dot\r\nlast line\r\n.\r\n";
/// Challenges that are answered, as many as LOGIN has.
const CHALLENGES: usize = 2;

/// Bits of the first octet. Two of them are 1 where nothing is wrong, so that seeds can be typed.
mod connection {
    pub const LMTP: u8 = 1;
    pub const PIPELINING: u8 = 2;
    /// Two bits.
    pub const TLS: u8 = 4 | 8;
    pub const ONE_RECIPIENT: u8 = 16;
    pub const HANDSHAKE_FAILS: u8 = 32;
    /// The message can be read to its end.
    pub const READABLE: u8 = 64;
    pub const TIMEOUT: u8 = 128;
}

/// Bits of the second.
mod mail {
    pub const AUTHENTICATE: u8 = 1;
    pub const DSN: u8 = 2;
    pub const CHUNKED: u8 = 4;
    pub const REQUIRE_TLS: u8 = 8;
    pub const BINARY: u8 = 16;
    pub const SMTPUTF8: u8 = 32;
    /// The message goes out at once, and not a piece for each line of the server.
    pub const QUICKLY: u8 = 64;
    /// From the null sender.
    pub const EIGHT_BIT: u8 = 128;
}

fuzz_target!(|input: &[u8]| {
    let Some((&[connection, mail], stream)) = input.split_first_chunk() else { return };
    let lines: Vec<&[u8]> = stream.split_inclusive(|b| *b == b'\n').collect();
    let by_line = Play::run(connection, mail, &lines);
    // Nothing is done before a line is whole, so its cuts cannot matter.
    let by_octet = Play::run(connection, mail, &stream.chunks(1).collect::<Vec<_>>());
    assert_eq!((&by_octet.commands, &by_octet.outcomes), (&by_line.commands, &by_line.outcomes));
    assert_eq!((&by_octet.bodies, by_octet.closed), (&by_line.bodies, by_line.closed));
    by_line.check(stream);
});

/// What went out of a message.
#[derive(Debug, PartialEq, Eq)]
struct Body {
    octets: Vec<u8>,
    /// By BDAT.
    chunk: bool,
    /// We said that it is whole.
    ended: bool,
    /// How many octets of commands were said before it.
    behind: usize,
}

struct Play {
    dialogue: Dialogue,
    connection: u8,
    mail: u8,
    secure: bool,
    challenges: usize,
    commands: Vec<u8>,
    bodies: Vec<Body>,
    /// What of the message of this transaction is still to be given, once it is wanted.
    rest: Option<&'static [u8]>,
    dice: Dice,
    started: usize,
    outcomes: Vec<Vec<Outcome>>,
    closed: Option<Option<HostFault>>,
}

impl Play {
    fn run(connection: u8, mail: u8, pieces: &[&[u8]]) -> Play {
        let lmtp = connection & connection::LMTP != 0;
        let tls = [UseTls::Never, UseTls::IfOffered, UseTls::Always, UseTls::FromStart]
            [usize::from((connection & connection::TLS) >> 2)];
        let settings = ClientSettings {
            protocol: if lmtp { Protocol::Lmtp } else { Protocol::Smtp },
            helo: "c.test".into(),
            not_ourselves: true,
            pipelining: connection & connection::PIPELINING != 0,
            tls,
            authenticate: mail & mail::AUTHENTICATE != 0,
        };
        let mut play = Play {
            dialogue: Dialogue::new(settings),
            connection,
            mail,
            secure: false,
            challenges: 0,
            commands: Vec::new(),
            bodies: Vec::new(),
            rest: None,
            dice: Dice(u64::from(mail)),
            started: 0,
            outcomes: Vec::new(),
            closed: None,
        };
        // A handshake may come before the server's first word.
        play.turn();
        for piece in pieces {
            play.dialogue.on_bytes(piece);
            if piece.ends_with(b"\n") {
                play.turn();
            }
        }
        if connection & connection::TIMEOUT != 0 {
            play.dialogue.on_timeout();
        }
        play.dialogue.on_lost();
        play.turn();
        assert!(play.closed.is_some(), "a lost connection is closed");
        assert_eq!(play.outcomes.len(), play.started, "each transaction ends once");
        play
    }

    fn turn(&mut self) {
        for _ in 0..64 {
            self.send_commands();
            match self.dialogue.step() {
                ClientStep::NeedInput => return,
                ClientStep::StartTls if self.connection & connection::HANDSHAKE_FAILS != 0 => {
                    self.dialogue.tls_failed("no");
                }
                ClientStep::StartTls => {
                    assert!(!self.secure, "a handshake within TLS");
                    self.secure = true;
                    self.dialogue.tls_started();
                }
                ClientStep::Authenticate => self.authenticate(),
                ClientStep::Challenge(_) => self.respond(),
                ClientStep::Authenticated => self.dialogue.auth_accepted(),
                ClientStep::WantBody => {
                    if !self.send_body() {
                        return;
                    }
                }
                ClientStep::Done(outcomes) => {
                    let ended = self.rest.take().is_some_and(<[u8]>::is_empty);
                    let delivered = |outcome: &Outcome| matches!(outcome, Outcome::Delivered(_));
                    assert!(ended || !outcomes.iter().any(delivered), "delivered without a message");
                    self.outcomes.push(outcomes);
                }
                ClientStep::Idle if self.started < 2 => {
                    self.started += 1;
                    let transaction = self.transaction();
                    self.dialogue.start(transaction).expect("the connection is idle");
                }
                ClientStep::Idle => self.dialogue.quit(),
                ClientStep::Closed(error) => {
                    self.closed = Some(error.map(|error| error.fault));
                    return;
                }
            }
        }
        panic!("the dialogue goes round in circles");
    }

    fn send_commands(&mut self) {
        let output = self.take();
        self.commands.extend(output);
    }

    fn take(&mut self) -> Vec<u8> {
        let output = self.dialogue.output().to_vec();
        self.dialogue.sent(output.len());
        output
    }

    fn authenticate(&mut self) {
        assert!(self.secure, "nothing is said of who we are in clear");
        let offered = |name: &str| self.dialogue.capabilities().auth.iter().any(|offer| &**offer == name);
        match (offered("LOGIN"), offered("PLAIN")) {
            (true, _) => self.dialogue.auth_begin("LOGIN", None),
            (_, true) => self.dialogue.auth_begin("PLAIN", Some(b"\0u\0p")),
            _ => self.dialogue.auth_failed("nothing that we know"),
        }
    }

    fn respond(&mut self) {
        if self.challenges == CHALLENGES {
            return self.dialogue.auth_failed("no end");
        }
        self.challenges += 1;
        self.dialogue.auth_respond(b"u");
        assert_eq!(self.take(), b"dQ==\r\n");
    }

    /// Gives more of the message; false if that is all for now.
    fn send_body(&mut self) -> bool {
        let rest = self.rest.unwrap_or_else(|| {
            let chunk = self.commands.ends_with(self.bdat().as_bytes());
            assert!(chunk || self.commands.ends_with(b"DATA\r\n"), "a message behind another command");
            self.bodies.push(Body { octets: Vec::new(), chunk, ended: false, behind: self.commands.len() });
            self.message()
        });
        let (piece, rest) = rest.split_at(rest.len().min(1 + self.dice.below(9)));
        self.rest = Some(rest);
        self.dialogue.body(piece);
        if rest.is_empty() {
            if self.connection & connection::READABLE != 0 {
                self.dialogue.body_end();
            } else {
                self.dialogue.body_failed("the disk failed");
            }
        }
        let output = self.take();
        let body = self.bodies.last_mut().expect("one was begun");
        body.octets.extend(output);
        body.ended = rest.is_empty() && self.connection & connection::READABLE != 0;
        body.ended || self.mail & mail::QUICKLY != 0
    }

    fn message(&self) -> &'static [u8] {
        if self.mail & mail::CHUNKED != 0 { LINES } else { BODY }
    }

    fn bdat(&self) -> String {
        format!("BDAT {} LAST\r\n", self.message().len())
    }

    fn transaction(&self) -> Transaction {
        let has = |bit: u8| self.mail & bit != 0;
        let dsn = has(mail::DSN);
        let recipient = |text: &&str| RemoteRecipient {
            address: Address::parse(text).expect("an address"),
            notify: dsn.then_some(Notify::NEVER),
            original: dsn.then(|| OriginalRecipient { kind: "rfc822".into(), address: "o+r@b.test".into() }),
        };
        let three = ["one@b.test", "\"two > \\\" two\"@b.test", "three@[192.0.2.1]"];
        let one = self.connection & connection::ONE_RECIPIENT != 0;
        let by = vsmtp_mail::DeliverBy::new(60, has(mail::SMTPUTF8), has(mail::EIGHT_BIT));
        Transaction {
            reverse_path: ReversePath::parse(if has(mail::EIGHT_BIT) { "" } else { "s@a.test" })
                .expect("an address"),
            body: match (has(mail::BINARY), has(mail::EIGHT_BIT)) {
                (true, _) => BodyType::BinaryMime,
                (_, true) => BodyType::EightBitMime,
                _ => BodyType::SevenBit,
            },
            needs_smtputf8: has(mail::SMTPUTF8),
            ret: dsn.then_some(Ret::Headers),
            envid: dsn.then(|| "a=b c".into()),
            require_tls: match (has(mail::REQUIRE_TLS), self.secure) {
                (false, _) => RequireTls::No,
                (true, true) => RequireTls::Proven,
                (true, false) => RequireTls::Unproven,
            },
            priority: vsmtp_mail::Priority::default(),
            by: by.filter(|_| one),
            chunked: has(mail::CHUNKED),
            size: self.message().len() as u64,
            recipients: three[..if one { 1 } else { 3 }].iter().map(recipient).collect(),
        }
    }

    fn check(&self, stream: &[u8]) {
        let count = self.transaction().recipients.len();
        let said = |class: u8| stream.split(|b| *b == b'\n').any(|line| line.first() == Some(&class));
        for outcome in self.outcomes.iter().inspect(|outcomes| assert_eq!(outcomes.len(), count)).flatten() {
            match outcome {
                Outcome::Delivered(reply) => {
                    assert!(reply.is_positive() && said(b'2'));
                    assert!(self.secure || self.mail & mail::REQUIRE_TLS == 0, "TLS was required");
                }
                Outcome::Fail(Why::Remote(reply)) => assert!(reply.is_permanent() && said(b'5')),
                Outcome::Fail(Why::Local(reply)) => assert!(reply.is_permanent()),
                Outcome::Defer(why) => assert!(!matches!(why, Why::Local(reply) if !reply.is_transient())),
            }
        }
        for Body { octets, chunk, ended, behind } in &self.bodies {
            let whole = if *chunk { self.message() } else { STUFFED };
            if *ended {
                assert_eq!(octets.as_slice(), whole);
            } else {
                assert!(
                    octets.len() < whole.len() && whole.starts_with(octets),
                    "half a message is a part of it"
                );
                assert_eq!(*behind, self.commands.len(), "a command behind half a message");
            }
            assert!(*chunk || self.mail & mail::BINARY == 0, "a binary message as lines");
        }
        if self.closed == Some(Some(HostFault::Ourselves)) {
            assert!(self.started == 0 && self.challenges == 0, "something is said to ourselves");
        }
        self.check_commands();
    }

    /// A server of our own kind understands all that we say outside of messages.
    fn check_commands(&self) {
        let here = Domain::parse("b.test").expect("a domain");
        let all = Extensions::of(&Extension::ALL);
        for line in self.commands.split_inclusive(|b| *b == b'\n') {
            let text = line.strip_suffix(b"\r\n").expect("a command ends with CRLF");
            if text == b"." {
                continue;
            }
            match Verb::split(text).expect("a command that we know") {
                (Verb::Mail, arguments) => {
                    let mail = MailRequest::parse(arguments, all).expect("our own MAIL");
                    assert_eq!(mail.requiretls, self.mail & mail::REQUIRE_TLS != 0);
                    assert!(mail.envid.is_none_or(|envid| &*envid == "a=b c"));
                }
                (Verb::Rcpt, arguments) => {
                    drop(RcptRequest::parse(arguments, all, true, &here).expect("our own RCPT"))
                }
                (Verb::Helo | Verb::Ehlo | Verb::Lhlo, name) => assert_eq!(name, "c.test"),
                (Verb::Bdat, _) => assert_eq!(line, self.bdat().as_bytes()),
                (Verb::Auth, arguments) => assert!(["LOGIN", "PLAIN AHUAcA=="].contains(&arguments)),
                (Verb::Data | Verb::Rset | Verb::Quit | Verb::StartTls, arguments) => {
                    assert_eq!(arguments, "")
                }
                (verb, _) => panic!("we do not say {verb:?}"),
            }
        }
    }
}
