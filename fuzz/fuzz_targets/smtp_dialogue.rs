//! A whole client connection against a server that says anything: the first octet chooses the transaction, the rest is
//! what the server says. Each recipient gets one outcome, nothing is delivered or failed that the server did not say so
//! of, and our commands are well formed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vsmtp_fuzz::cut::Dice;
use vsmtp_mail::{Address, BodyType, Domain, Notify, OriginalRecipient, Ret, ReversePath};
use vsmtp_smtp::{
    ClientSettings, ClientStep, Dialogue, Extension, Extensions, HostFault, MailRequest, Outcome, Protocol,
    RcptRequest, RemoteRecipient, RequireTls, Transaction, UseTls, Verb, Why,
};

const BODY: &[u8] = b"Subject: x\r\n\r\n.dot\r\nlast line";
const SENT_BODY: &[u8] = b"Subject: x\r\n\r\n..dot\r\nlast line\r\n.\r\n";

fuzz_target!(|input: &[u8]| {
    let Some((options, stream)) = input.split_first() else { return };
    let lines: Vec<&[u8]> = stream.split_inclusive(|b| *b == b'\n').collect();
    let by_line = Play::run(*options, &lines);
    // Nothing is done before a line is whole, so its cuts cannot matter.
    let by_octet = Play::run(*options, &stream.chunks(1).collect::<Vec<_>>());
    assert_eq!((&by_octet.commands, &by_octet.outcomes), (&by_line.commands, &by_line.outcomes));
    assert_eq!(by_octet.closed, by_line.closed);
    by_line.check(stream);
});

struct Play {
    dialogue: Dialogue,
    options: u8,
    commands: Vec<u8>,
    /// What went out as a message, and whether we ended it.
    bodies: Vec<(Vec<u8>, bool)>,
    started: usize,
    outcomes: Vec<Vec<Outcome>>,
    closed: Option<Option<HostFault>>,
}

impl Play {
    fn run(options: u8, pieces: &[&[u8]]) -> Play {
        let protocol = if options & 1 != 0 { Protocol::Lmtp } else { Protocol::Smtp };
        let tls = [UseTls::Never, UseTls::IfOffered, UseTls::Always, UseTls::FromStart]
            [usize::from(options >> 2 & 3)];
        let settings = ClientSettings {
            protocol,
            helo: "c.test".into(),
            pipelining: options & 2 != 0,
            tls,
            authenticate: options & 16 != 0,
        };
        let mut play = Play {
            dialogue: Dialogue::new(settings),
            options,
            commands: Vec::new(),
            bodies: Vec::new(),
            started: 0,
            outcomes: Vec::new(),
            closed: None,
        };
        for piece in pieces {
            play.dialogue.on_bytes(piece);
            play.turn();
        }
        if options & 128 != 0 {
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
                ClientStep::StartTls if self.options & 32 != 0 => self.dialogue.tls_failed("no"),
                ClientStep::StartTls => self.dialogue.tls_started(),
                ClientStep::Authenticate => self.dialogue.auth_begin("PLAIN", Some(b"\0u\0p")),
                ClientStep::Challenge(_) => self.dialogue.auth_respond(b"u"),
                ClientStep::Authenticated => self.dialogue.auth_accepted(),
                ClientStep::WantBody => self.send_body(),
                ClientStep::Done(outcomes) => self.outcomes.push(outcomes),
                ClientStep::Idle if self.started < 2 => {
                    self.started += 1;
                    self.dialogue.start(transaction(self.options)).expect("the connection is idle");
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
        self.commands.extend_from_slice(self.dialogue.output());
        self.dialogue.sent(self.dialogue.output().len());
    }

    fn send_body(&mut self) {
        let mut dice = Dice(u64::from(self.options));
        let mut rest = BODY;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(1 + dice.below(9)));
            self.dialogue.body(piece);
            rest = after;
        }
        let ends = self.options & 64 == 0;
        if ends {
            self.dialogue.body_end();
        } else {
            self.dialogue.body_failed("the disk failed");
        }
        self.bodies.push((self.dialogue.output().to_vec(), ends));
        self.dialogue.sent(self.dialogue.output().len());
    }

    fn check(&self, stream: &[u8]) {
        let count = transaction(self.options).recipients.len();
        let said = |class: u8| stream.split(|b| *b == b'\n').any(|line| line.first() == Some(&class));
        for outcome in self.outcomes.iter().inspect(|outcomes| assert_eq!(outcomes.len(), count)).flatten() {
            match outcome {
                Outcome::Delivered(reply) => {
                    assert!(reply.is_positive() && said(b'2'));
                    assert!(self.bodies.iter().any(|(_, ended)| *ended), "delivered without a message");
                }
                Outcome::Fail(Why::Remote(reply)) => assert!(reply.is_permanent() && said(b'5')),
                Outcome::Fail(Why::Local(reply)) => assert!(reply.is_permanent()),
                Outcome::Defer(why) => assert!(!matches!(why, Why::Local(reply) if !reply.is_transient())),
            }
        }
        for (body, ended) in &self.bodies {
            assert_eq!(body.as_slice(), if *ended { SENT_BODY } else { &[] });
        }
        check_commands(&self.commands);
    }
}

fn transaction(options: u8) -> Transaction {
    let recipient = |text: &str| RemoteRecipient {
        address: Address::parse(text).expect("an address"),
        notify: (options & 16 != 0).then_some(Notify::NEVER),
        original: (options & 16 != 0)
            .then(|| OriginalRecipient { kind: "rfc822".into(), address: "o+r@b.test".into() }),
    };
    let three = ["one@b.test", "\"two > \\\" two\"@b.test", "three@[192.0.2.1]"];
    let count = if options & 32 != 0 { 1 } else { 3 };
    Transaction {
        reverse_path: ReversePath::parse(if options & 8 != 0 { "" } else { "s@a.test" }).expect("an address"),
        body: if options & 8 != 0 { BodyType::EightBitMime } else { BodyType::SevenBit },
        needs_smtputf8: options & 4 != 0,
        ret: (options & 16 != 0).then_some(Ret::Headers),
        envid: (options & 16 != 0).then(|| "a=b c".into()),
        require_tls: RequireTls::No,
        priority: vsmtp_mail::Priority::default(),
        by: vsmtp_mail::DeliverBy::new(60, options & 4 != 0, options & 8 != 0).filter(|_| options & 32 != 0),
        chunked: false,
        size: BODY.len() as u64,
        recipients: three[..count].iter().map(|text| recipient(text)).collect(),
    }
}

/// A server of our own kind understands all that we say outside of messages.
fn check_commands(commands: &[u8]) {
    let here = Domain::parse("b.test").expect("a domain");
    let all = Extensions::of(&Extension::ALL);
    for line in commands.split_inclusive(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r\n").expect("a command ends with CRLF");
        if line == b"." {
            continue;
        }
        match Verb::split(line).expect("a command that we know") {
            (Verb::Mail, arguments) => drop(MailRequest::parse(arguments, all).expect("our own MAIL")),
            (Verb::Rcpt, arguments) => {
                drop(RcptRequest::parse(arguments, all, true, &here).expect("our own RCPT"))
            }
            (Verb::Helo | Verb::Ehlo | Verb::Lhlo, name) => assert_eq!(name, "c.test"),
            (Verb::Data | Verb::Rset | Verb::Quit, arguments) => assert_eq!(arguments, ""),
            (verb, _) => panic!("we do not say {verb:?}"),
        }
    }
}
