//! The client against our own server's side.

use std::sync::Arc;

use proptest::prelude::*;
use vsmtp_mail::{Domain, Reply};
use vsmtp_smtp::{ClientStep, Extension, Protocol, Question, Session, Settings, Step, Verdict};

use crate::stage::{Client, show};

/// Our server's side with a policy that refuses `no@`, and defers `later@`.
struct Server {
    session: Session,
    body: Vec<u8>,
    stored: Vec<Vec<u8>>,
}

impl Server {
    fn new(protocol: Protocol, extensions: &[Extension]) -> Self {
        let mut settings = Settings::new(Domain::parse("mx.test").unwrap());
        settings.protocol = protocol;
        settings.extensions = vsmtp_smtp::Extensions::of(extensions);
        Server { session: Session::new(Arc::new(settings)), body: Vec::new(), stored: Vec::new() }
    }

    fn exchange(&mut self, input: &[u8]) -> Vec<u8> {
        let mut input = input;
        loop {
            match self.session.advance(std::mem::take(&mut input), &mut self.body) {
                Step::NeedInput | Step::Close => break,
                Step::Dropped(_) => self.body.clear(),
                Step::Ask(Question::Recipients(list)) => {
                    let verdict = |rcpt: &vsmtp_smtp::RcptRequest| match rcpt.address.local_part() {
                        "no" => Verdict::Refuse(Reply::parse("550 5.1.1 no").unwrap()),
                        "later" => Verdict::Unavailable,
                        _ => Verdict::Accept,
                    };
                    self.session.answer_each(list.iter().map(verdict).collect()).unwrap();
                }
                Step::Ask(Question::Message(_)) => {
                    self.stored.push(std::mem::take(&mut self.body));
                    self.session.answer(Verdict::Accept).unwrap();
                }
                Step::Ask(_) => self.session.answer(Verdict::Accept).unwrap(),
                Step::Flush | Step::AwaitAnswer | Step::AuthCancelled | Step::StartTls => {}
                Step::XClient(_) | Step::XForward(_) => {}
            }
        }
        let output = self.session.output().to_vec();
        self.session.sent(output.len());
        output
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Client and server agree on every message, however the bytes are cut, with and without pipelining, SMTP and LMTP.
    #[test]
    fn our_two_sides_agree(
        bodies in proptest::collection::vec("[.a\r\n]{0,60}", 1..4),
        locals in proptest::collection::vec("yes|no|later", 1..6),
        cut in 1usize..80,
        pipelining: bool,
        lmtp: bool,
    ) {
        let protocol = if lmtp { Protocol::Lmtp } else { Protocol::Smtp };
        let mut extensions = vec![Extension::Size];
        extensions.extend(pipelining.then_some(Extension::Pipelining));
        let mut server = Server::new(protocol, &extensions);
        let mut client = Client::new(protocol);
        let recipients: Vec<_> = locals.iter().map(|local| format!("{local}@b")).collect();
        let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
        let (mut waiting, mut settled) = (bodies.iter(), 0);
        client.hear(&String::from_utf8(server.exchange(b"")).unwrap());
        for _ in 0..10_000 {
            match client.dialogue.step() {
                ClientStep::Idle => match waiting.next() {
                    Some(body) => {
                        client.body = body.clone().into_bytes();
                        client.start(&recipients);
                    }
                    None => client.dialogue.quit(),
                },
                ClientStep::StartTls
                | ClientStep::Authenticate
                | ClientStep::Challenge(_)
                | ClientStep::Authenticated => prop_assert!(false, "not asked for"),
                ClientStep::WantBody => {
                    for piece in client.body.chunks(cut) {
                        client.dialogue.body(piece);
                    }
                    client.dialogue.body_end();
                }
                ClientStep::Done(outcomes) => {
                    settled += 1;
                    for (outcome, local) in outcomes.iter().zip(&locals) {
                        let wanted = match &**local { "yes" => "delivered", "no" => "fail", _ => "defer" };
                        prop_assert!(show(outcome).starts_with(wanted), "{} {}", local, show(outcome));
                    }
                }
                ClientStep::Closed(error) => {
                    prop_assert_eq!(error, None);
                    break;
                }
                ClientStep::NeedInput => {
                    let output = client.dialogue.output().to_vec();
                    client.dialogue.sent(output.len());
                    for piece in output.chunks(cut) {
                        let replies = server.exchange(piece);
                        for piece in replies.chunks(cut) {
                            client.dialogue.on_bytes(piece);
                        }
                    }
                }
            }
        }
        prop_assert_eq!(settled, bodies.len());
        let accepted = locals.iter().any(|local| local == "yes");
        let canonical = |body: &String| {
            let mut text = body.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n");
            if !text.is_empty() && !text.ends_with("\r\n") { text.push_str("\r\n"); }
            text.into_bytes()
        };
        let wanted: Vec<_> = if accepted { bodies.iter().map(canonical).collect() } else { Vec::new() };
        prop_assert_eq!(&server.stored, &wanted);
    }
}
