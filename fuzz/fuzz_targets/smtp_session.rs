//! A whole server session: the first octet chooses the listener's options, the second the answers that policy gives, the
//! rest is what the client sends. However it is cut, the dialogue is the same, ends, and is made of whole replies.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use vsmtp_fuzz::cut::{Dice, splittings};
use vsmtp_mail::{Address, BodyType, Domain, EnhancedCode, Reply, header_end};
use vsmtp_smtp::{
    AuthSettings, AuthVerdict, BareNewline, BodyLimits, Dropped, EarlyTalk, Extension, Extensions, Hello,
    Limits, MailRequest, Mechanism, MessageFacts, Own, Privileges, Protocol, Question, Session, Settings,
    Step, TlsFacts, Verdict, Waiting,
};

fuzz_target!(|input: &[u8]| {
    let Some((&[options, temper], stream)) = input.split_first_chunk() else { return };
    let settings = settings(options, temper);
    let [whole, rest @ ..] = splittings(stream).map(|pieces| Play::run(&settings, options, temper, &pieces));
    check_output(&whole.output);
    if !is_up_to_the_network(stream) {
        for other in rest {
            assert_eq!(String::from_utf8_lossy(&other.output), String::from_utf8_lossy(&whole.output));
            assert_eq!(other.log, whole.log);
        }
    }
});

/// A TLS hello is answered as soon as its first two octets stand alone, and what comes behind STARTTLS counts or not by
/// when it comes.
fn is_up_to_the_network(stream: &[u8]) -> bool {
    memchr::memmem::find(stream, &[0x16, 0x03]).is_some()
        || memchr::memmem::find(&stream.to_ascii_uppercase(), b"STARTTLS").is_some()
}

/// Limits are small, so that short inputs reach them. Of those of a message one is: of several, which is passed first may
/// depend on how the input is cut.
fn settings(options: u8, temper: u8) -> Arc<Settings> {
    let mut settings = Settings::new(Domain::parse("mx.test").expect("a domain"));
    if options & 1 != 0 {
        settings.protocol = Protocol::Lmtp;
    }
    if options & 2 != 0 {
        settings.bare_newline = BareNewline::Normalise;
    }
    if options & 4 != 0 {
        settings.early_talk = EarlyTalk::Refuse;
    }
    if options & 8 != 0 {
        settings.extensions = Extensions::of(&Extension::ALL);
    }
    if options & 16 != 0 {
        let free = BodyLimits { size: 0, header: 0, line: 0, hops: 0, drain: 0 };
        let body = match temper & 3 {
            0 => BodyLimits { size: 200, ..free },
            1 => BodyLimits { header: 100, ..free },
            2 => BodyLimits { line: 50, ..free },
            _ => BodyLimits { hops: 2, ..free },
        };
        settings.limits = Limits { recipients: 3, soft_errors: 2, hard_errors: 6, junk: 3, body };
    }
    if options & 128 != 0 {
        let mut plain = Mechanism::new("PLAIN");
        plain.in_clear = true;
        let mut login = Mechanism::new("LOGIN");
        login.server_first = true;
        settings.auth = AuthSettings { mechanisms: vec![plain, login], required: true, failures: 3 };
    }
    Arc::new(settings)
}

/// What the caller learns, in order.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Hello(Hello),
    Mail(MailRequest),
    Message { from: Option<MailRequest>, to: Vec<Address>, body: Vec<u8>, facts: MessageFacts },
    Dropped(Dropped),
}

struct Play {
    session: Session,
    temper: u8,
    /// It may use XCLIENT and XFORWARD.
    trusted: bool,
    asked: [u64; 8],
    /// An AUTH exchange goes on.
    login: bool,
    /// A proxy has stated a login, of which nobody has said yet whether it counts.
    stated: bool,
    body: Vec<u8>,
    mail: Option<MailRequest>,
    to: Vec<Address>,
    output: Vec<u8>,
    log: Vec<Told>,
}

impl Play {
    fn run(settings: &Arc<Settings>, options: u8, temper: u8, pieces: &[&[u8]]) -> Play {
        let mut session = Session::new(Arc::clone(settings));
        let trusted = options & 128 != 0;
        session.grant(Privileges { xclient: trusted, login: trusted, xforward: trusted });
        let mut play = Play {
            session,
            temper,
            trusted,
            asked: [0; 8],
            login: false,
            stated: false,
            body: Vec::new(),
            mail: None,
            to: Vec::new(),
            output: Vec::new(),
            log: Vec::new(),
        };
        play.talk(options & 32 != 0, options & 64 != 0, pieces);
        play.session.close(Own::Timeout);
        play.talk(false, false, &[]);
        assert_eq!(play.session.waiting(), Waiting::Nothing);
        assert!(
            !play.session.in_transaction() && play.mail.is_none(),
            "an open transaction was not reported"
        );
        play
    }

    /// Feeds the pieces until they are used up or the session ends. `early`: the first comes before the greeting;
    /// `eager`: the next comes while a question is open.
    fn talk(&mut self, early: bool, eager: bool, pieces: &[&[u8]]) {
        let mut pieces = pieces.iter().copied();
        let mut bound = 64 + 8 * pieces.clone().map(|piece| piece.len() + 1).sum::<usize>();
        let mut input = if early { pieces.next().unwrap_or_default() } else { &[] };
        loop {
            bound = bound.checked_sub(1).expect("the session goes round in circles");
            let step = self.session.advance(std::mem::take(&mut input), &mut self.body);
            match step {
                Step::NeedInput => {
                    self.send();
                    let Some(piece) = pieces.next() else { return };
                    input = piece;
                }
                Step::Flush => self.send(),
                Step::Ask(question) => {
                    if eager && question != Question::Connect {
                        let piece = pieces.next().unwrap_or_default();
                        let step = self.session.advance(piece, &mut self.body);
                        assert_eq!(step, Step::AwaitAnswer, "input while a question is open");
                    }
                    self.answer(question);
                    assert!(self.session.answer(Verdict::Accept).is_err(), "one answer per question");
                }
                Step::AwaitAnswer => panic!("no question is open"),
                Step::Dropped(why) => {
                    // What XFORWARD said of a transaction that never began is forgotten so.
                    let was_announced = self.trusted && why == Dropped::Reset;
                    assert!(
                        self.mail.take().is_some() || was_announced,
                        "a transaction that was never opened is dropped"
                    );
                    self.to.clear();
                    self.body.clear();
                    self.log.push(Told::Dropped(why));
                }
                Step::AuthCancelled => assert!(std::mem::take(&mut self.login), "no exchange goes on"),
                Step::XClient(xclient) => {
                    assert!(self.mail.is_none(), "a proxy speaks between transactions only");
                    assert!(!self.session.is_authenticated(), "the client before was somebody else");
                    self.stated = xclient.login.is_some();
                }
                Step::XForward(_) => {
                    assert!(self.mail.is_none(), "a proxy speaks between transactions only");
                }
                Step::StartTls => {
                    self.send();
                    self.session.tls_started(TlsFacts::default());
                    assert!(self.session.is_secured() && !self.session.is_authenticated());
                }
                Step::Close => return self.send(),
            }
        }
    }

    fn send(&mut self) {
        self.output.extend_from_slice(self.session.output());
        self.session.sent(self.session.output().len());
    }

    fn answer(&mut self, question: Question) {
        let verdict = match question {
            Question::Connect => {
                if std::mem::take(&mut self.stated) {
                    self.session.vouch();
                    assert!(self.session.is_authenticated());
                }
                self.verdict(0)
            }
            Question::Hello(hello) => {
                self.log.push(Told::Hello(hello));
                self.verdict(1)
            }
            Question::StartTls => self.verdict(6),
            Question::Auth(_) | Question::AuthContinue(_) => {
                let verdict = self.auth_verdict();
                self.login = matches!(verdict, AuthVerdict::Challenge(_));
                return self.session.answer_auth(verdict).expect("a question is open");
            }
            Question::Mail(request) => {
                let verdict = self.verdict(2);
                assert!(self.mail.is_none(), "nested transactions");
                if is_yes(&verdict) {
                    self.mail = Some(request.clone());
                }
                self.log.push(Told::Mail(request));
                verdict
            }
            Question::Recipients(batch) => {
                assert!(self.mail.is_some() && (1..=64).contains(&batch.len()));
                let verdicts: Vec<Verdict> = batch.iter().map(|_| self.verdict(3)).collect();
                let yes = batch.into_iter().zip(&verdicts).filter(|(_, verdict)| is_yes(verdict));
                self.to.extend(yes.map(|(request, _)| request.address));
                return self.session.answer_each(verdicts).expect("a question is open");
            }
            Question::Data => {
                assert!(!self.to.is_empty(), "a message for nobody");
                let verdict = self.verdict(4);
                if !is_yes(&verdict) {
                    self.mail = None;
                    self.to.clear();
                }
                verdict
            }
            Question::Message(facts) => {
                let (from, to) = (self.mail.take(), std::mem::take(&mut self.to));
                let body = std::mem::take(&mut self.body);
                let binary = from.as_ref().is_some_and(|mail| mail.body == BodyType::BinaryMime);
                check_message(&body, facts, binary);
                self.log.push(Told::Message { from, to, body, facts });
                self.verdict(5)
            }
        };
        self.session.answer(verdict).expect("a question is open");
    }

    /// As `verdict`, for AUTH.
    fn auth_verdict(&mut self) -> AuthVerdict {
        match self.verdict(7) {
            Verdict::Accept => AuthVerdict::Success,
            Verdict::AcceptWith(_) => AuthVerdict::Challenge(b"more".to_vec()),
            Verdict::Unavailable => AuthVerdict::Failure,
            other => other.into(),
        }
    }

    /// The n-th question of its kind is always answered the same way, however the questions were put together.
    fn verdict(&mut self, kind: usize) -> Verdict {
        self.asked[kind] += 1;
        if self.temper == 0 || self.temper == b'a' {
            return Verdict::Accept;
        }
        let mut dice = Dice(u64::from(self.temper) << 32 | (kind as u64) << 24 | self.asked[kind]);
        match dice.below(10) {
            0 => Verdict::AcceptWith(Reply::fixed(250, EnhancedCode(2, 1, 0), "one\ntwo")),
            1 => Verdict::Refuse(Reply::fixed(550, EnhancedCode(5, 7, 1), "no")),
            2 => Verdict::Refuse(Reply::fixed(421, EnhancedCode(4, 3, 0), "later")),
            3 => Verdict::Close(Reply::fixed(554, EnhancedCode(5, 7, 1), "go away")),
            4 => Verdict::Unavailable,
            5 => Verdict::AcceptWith(Reply::fixed(451, EnhancedCode(4, 3, 0), "a contradiction")),
            _ => Verdict::Accept,
        }
    }
}

fn is_yes(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Accept => true,
        Verdict::AcceptWith(reply) => reply.is_positive(),
        _ => false,
    }
}

fn check_message(body: &[u8], facts: MessageFacts, binary: bool) {
    assert_eq!(facts.size, body.len() as u64);
    assert_eq!(facts.eight_bit, !body.is_ascii());
    assert_eq!(facts.header_size, header_end(body) as u64);
    if binary {
        return;
    }
    assert!(body.is_empty() || body.ends_with(b"\r\n"));
    let bare = |at: usize| match body[at] {
        b'\r' => body.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || body[at - 1] != b'\r',
        _ => false,
    };
    assert!(!(0..body.len()).any(bare), "a lone CR or LF came through");
}

/// Whole replies: each line `NNN-text` or `NNN text` and CRLF, at most 512 octets, and the last of each has the space.
fn check_output(output: &[u8]) {
    let mut open = None;
    for line in output.split_inclusive(|b| *b == b'\n') {
        let text = line.strip_suffix(b"\r\n").expect("a line ends with CRLF");
        let text = std::str::from_utf8(text).expect("a reply is text");
        assert!(line.len() <= 512 && !text.chars().any(char::is_control), "{text:?}");
        let code: u16 = text.get(..3).and_then(|code| code.parse().ok()).expect("a code");
        assert!((200..=599).contains(&code) && open.is_none_or(|before| before == code), "{text:?}");
        open = match text.as_bytes().get(3) {
            Some(b'-') => Some(code),
            Some(b' ') => None,
            _ => panic!("{text:?}"),
        };
    }
    assert_eq!(open, None, "a reply without end");
}
