//! A client on a stage: what the server says is given to it, and what it says is looked at.

use vsmtp_mail::{Address, BodyType, ReversePath};
use vsmtp_smtp::{
    Awaiting, ClientSettings, ClientStep, Dialogue, HostError, Outcome, Protocol, RemoteRecipient,
    RequireTls, Transaction, UseTls, Why,
};

pub struct Client {
    pub dialogue: Dialogue,
    pub body: Vec<u8>,
}

impl Client {
    pub fn new(protocol: Protocol) -> Self {
        Self::with(protocol, UseTls::Never)
    }

    pub fn with(protocol: Protocol, tls: UseTls) -> Self {
        let settings = ClientSettings {
            protocol,
            helo: "us.test".into(),
            not_ourselves: false,
            pipelining: true,
            tls,
            authenticate: false,
        };
        Client { dialogue: Dialogue::new(settings), body: b"Subject: x\r\n\r\n.body".to_vec() }
    }

    /// An idle connection to a server with these EHLO keywords.
    pub fn ready(keywords: &str) -> Self {
        let mut client = Client::new(Protocol::Smtp);
        client.hear("220 them\r\n");
        assert_eq!(client.sent(), "EHLO us.test\r\n");
        let lines: Vec<_> = keywords.split_whitespace().map(|word| format!("250-{word}\r\n")).collect();
        client.hear(&format!("250-them\r\n{}250 HELP\r\n", lines.concat().replace('=', " ")));
        assert_eq!(client.step(), ClientStep::Idle);
        client
    }

    pub fn lmtp() -> Self {
        let mut client = Client::new(Protocol::Lmtp);
        client.hear("220 them\r\n");
        assert_eq!(client.sent(), "LHLO us.test\r\n");
        client.hear("250-them\r\n250 PIPELINING\r\n");
        assert_eq!(client.step(), ClientStep::Idle);
        client
    }

    pub fn start(&mut self, recipients: &[&str]) {
        let transaction = transaction(recipients);
        self.dialogue.start(transaction).unwrap();
    }

    pub fn hear(&mut self, text: &str) {
        self.dialogue.on_bytes(text.as_bytes());
    }

    /// What was sent since the last call; the body goes out when it is wanted.
    pub fn sent(&mut self) -> String {
        if self.dialogue.awaiting() == Awaiting::Block {
            self.dialogue.body(&self.body);
            self.dialogue.body_end();
        }
        let text = String::from_utf8(self.dialogue.output().to_vec()).unwrap();
        self.dialogue.sent(text.len());
        text
    }

    pub fn step(&mut self) -> ClientStep {
        self.dialogue.step()
    }

    pub fn outcomes(&mut self) -> Vec<String> {
        match self.step() {
            ClientStep::Done(outcomes) => outcomes.iter().map(show).collect(),
            other => panic!("not done: {other:?}"),
        }
    }

    pub fn error(&mut self) -> HostError {
        match self.step() {
            ClientStep::Closed(Some(error)) => error,
            other => panic!("not closed: {other:?}"),
        }
    }
}

pub fn show(outcome: &Outcome) -> String {
    let who = |why: &Why| if matches!(why, Why::Local(_)) { "local" } else { "remote" };
    match outcome {
        Outcome::Delivered(reply) => format!("delivered {reply}"),
        Outcome::Defer(why) => format!("defer {} {}", who(why), why.reply()),
        Outcome::Fail(why) => format!("fail {} {}", who(why), why.reply()),
    }
}

pub fn transaction(recipients: &[&str]) -> Transaction {
    let recipient = |text: &&str| RemoteRecipient {
        address: Address::parse(text).unwrap(),
        notify: None,
        original: None,
    };
    Transaction {
        reverse_path: ReversePath::parse("me@us.test").unwrap(),
        body: BodyType::SevenBit,
        needs_smtputf8: false,
        ret: None,
        envid: None,
        require_tls: RequireTls::No,
        priority: vsmtp_mail::Priority::default(),
        by: None,
        chunked: false,
        size: 100,
        recipients: recipients.iter().map(recipient).collect(),
    }
}
