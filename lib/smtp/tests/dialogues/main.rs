//! Plays `tests/dialogues/*.smtp` of the repository against the session, cut in every way: as written, all at once, and
//! byte by byte. The answers must be the same each time. The format is told in `tests/dialogues/README.md`.
#![allow(missing_docs, reason = "a test has no public items")]

mod matrix;
mod script;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use vsmtp_smtp::{AuthVerdict, Privileges, Question, Secret, Session, Step, TlsFacts, Verdict};

use matrix::{State, Tried};
use script::{Dialogue, Rule, Turn};

/// What a caller reads at a time at most.
const READ_SIZE: usize = 64 * 1024;

#[test]
fn dialogues_hold_however_the_bytes_are_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/dialogues");
    for (name, dialogue) in script::all(&folder) {
        play(&dialogue, &name);
    }
}

#[test]
fn what_holds_for_data_holds_for_bdat() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/dialogues");
    let mut played = 0;
    for (name, dialogue) in script::all(&folder) {
        if let Some(dialogue) = script::by_bdat(&dialogue) {
            play(&dialogue, &format!("{name} by BDAT"));
            played += 1;
        }
    }
    assert_eq!(played, 13, "files: exactly, so that none is dropped unseen");
}

#[test]
fn every_command_is_tried_in_every_state() {
    const COMMANDS: [&str; 19] = [
        "HELO", "EHLO", "LHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "VRFY", "EXPN", "HELP",
        "ETRN", "STARTTLS", "AUTH", "XCLIENT", "XFORWARD", "FOO", "QUIT",
    ];
    let tried = tried_in_files();
    let is_tried = |lmtp, state, command| {
        tried.iter().any(|tried| (tried.lmtp, tried.state, &*tried.command) == (lmtp, state, command))
    };
    let mut missing = Vec::new();
    for (lmtp, states) in [(false, &matrix::SMTP[..]), (true, &matrix::LMTP[..])] {
        let all = states.iter().flat_map(|state| COMMANDS.map(|command| (lmtp, *state, command)));
        missing.extend(all.filter(|(lmtp, state, command)| !is_tried(*lmtp, *state, *command)));
    }
    assert!(missing.is_empty(), "LMTP, state, command: {missing:?}");
}

/// What exists for some listeners and clients only is tried where it does and where it does not.
#[test]
fn what_may_be_offered_is_tried_in_every_state_where_it_is_and_where_it_is_not() {
    let tried = tried_in_files();
    for command in ["STARTTLS", "AUTH", "XCLIENT", "XFORWARD", "BDAT"] {
        for state in matrix::SMTP {
            for offered in [true, false] {
                let cannot_be = match state {
                    State::BetweenChunks => command == "BDAT" && !offered,
                    State::WithinAuth | State::AfterLogin => command == "AUTH" && !offered,
                    _ => false,
                };
                let tried_one = Tried { lmtp: false, state, command: command.to_owned(), offered };
                assert!(cannot_be || tried.contains(&tried_one), "{tried_one:?}");
            }
        }
    }
}

fn tried_in_files() -> BTreeSet<Tried> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/dialogues");
    script::all(&folder).iter().flat_map(|(_, dialogue)| matrix::tried(dialogue)).collect()
}

fn play(dialogue: &Dialogue, name: &str) {
    in_turns(dialogue, name);
    if !dialogue.turns_only {
        for size in [usize::MAX, 1, 7] {
            cut(dialogue, name, size);
        }
    }
}

fn in_turns(dialogue: &Dialogue, name: &str) {
    let mut player = Player::new(dialogue);
    if !matches!(dialogue.turns.first(), Some(Turn::Client(_))) {
        player.send(b"");
    }
    for (at, turn) in dialogue.turns.iter().enumerate() {
        match turn {
            Turn::Client(bytes) => player.send(bytes),
            Turn::Server(wanted) => {
                let found = player.take_output(wanted.len());
                assert_eq!(show(&found), show(wanted), "{name}, turn {at}");
            }
            Turn::Body(wanted) => {
                assert_eq!(show(&player.bodies.remove(0)), show(wanted), "{name}, turn {at}")
            }
            Turn::Closed => assert!(player.closed, "{name}: not closed at turn {at}"),
        }
        if !matches!(turn, Turn::Client(_))
            && matches!(dialogue.turns.get(at + 1), Some(Turn::Client(_)) | None)
        {
            assert_eq!(
                show(&player.take_output(usize::MAX)),
                "",
                "{name}: unexpected output after turn {at}"
            );
        }
    }
    assert!(player.bodies.is_empty(), "{name}: a message was accepted that is not in the dialogue");
    assert_eq!(player.closed, matches!(dialogue.turns.last(), Some(Turn::Closed)), "{name}: closed");
}

fn cut(dialogue: &Dialogue, name: &str, size: usize) {
    let (mut input, mut wanted) = (Vec::new(), Vec::new());
    for turn in &dialogue.turns {
        match turn {
            Turn::Client(bytes) => input.extend_from_slice(bytes),
            Turn::Server(bytes) => wanted.extend_from_slice(bytes),
            _ => {}
        }
    }
    let mut player = Player::new(dialogue);
    player.send(b"");
    for piece in input.chunks(size.min(input.len().max(1))) {
        player.send(piece);
    }
    assert_eq!(show(&player.take_output(usize::MAX)), show(&wanted), "{name}, cut in pieces of {size}");
}

struct Player<'a> {
    session: Session,
    rules: &'a [Rule],
    tls: Option<TlsFacts>,
    body: Vec<u8>,
    bodies: Vec<Vec<u8>>,
    output: Vec<u8>,
    closed: bool,
    /// As whom a proxy says that the client has authenticated.
    login: Option<String>,
}

impl<'a> Player<'a> {
    fn new(dialogue: &'a Dialogue) -> Self {
        let mut session = Session::new(Arc::new(dialogue.settings.clone()));
        if let Some(facts) = dialogue.tls {
            session.tls_started(facts);
        }
        let trusted = dialogue.trusted;
        session.grant(Privileges { xclient: trusted, login: trusted, xforward: trusted });
        Player {
            session,
            rules: &dialogue.rules,
            tls: dialogue.tls,
            body: Vec::new(),
            bodies: Vec::new(),
            output: Vec::new(),
            closed: false,
            login: None,
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let (now, later) = bytes.split_at(bytes.len().min(READ_SIZE));
        self.send_piece(now);
        if !later.is_empty() {
            self.send(later);
        }
    }

    fn send_piece(&mut self, mut bytes: &[u8]) {
        for _ in 0..1_000_000 {
            let step = self.session.advance(std::mem::take(&mut bytes), &mut self.body);
            self.output.extend_from_slice(self.session.output());
            self.session.sent(usize::MAX);
            match step {
                Step::NeedInput => return,
                Step::Close => {
                    self.closed = true;
                    return;
                }
                Step::Flush => {}
                Step::AwaitAnswer => panic!("a question was left open"),
                Step::Dropped(_) => self.body.clear(),
                Step::XClient(xclient) => self.login = xclient.login,
                Step::AuthCancelled | Step::XForward(_) => {}
                Step::StartTls => self.session.tls_started(self.tls.unwrap_or_default()),
                Step::Ask(question) => self.answer(question),
            }
        }
        panic!("the session does not come to rest");
    }

    fn answer(&mut self, question: Question) {
        if question == Question::Connect && self.login.take().is_some() {
            self.session.vouch();
        }
        let verdict = |stage, text: &str| self.verdict(stage, text);
        let verdicts = match &question {
            Question::Connect => vec![verdict("connect", "")],
            Question::Hello(hello) => vec![verdict("helo", hello.name.as_str())],
            Question::StartTls => vec![verdict("starttls", "")],
            Question::Auth(request) => {
                let initial = request.initial.as_ref().map_or("none".to_owned(), words);
                let said = self.auth_verdict(&format!("{} {initial}", request.mechanism));
                return self.session.answer_auth(said).unwrap();
            }
            Question::AuthContinue(response) => {
                let said = self.auth_verdict(&words(response));
                return self.session.answer_auth(said).unwrap();
            }
            Question::Mail(mail) => vec![verdict("mail", &mail.reverse_path.to_string())],
            Question::Recipients(list) => {
                list.iter().map(|rcpt| verdict("rcpt", &rcpt.address.to_string())).collect()
            }
            Question::Data => vec![verdict("data", "")],
            Question::Message(facts) => {
                assert_eq!(facts.size, self.body.len() as u64);
                let body = std::mem::take(&mut self.body);
                let verdict = self.verdict("message", &String::from_utf8_lossy(&body));
                if matches!(verdict, Verdict::Accept | Verdict::AcceptWith(_)) {
                    self.bodies.push(body);
                }
                vec![verdict; 100]
            }
        };
        self.session.answer_each(verdicts).unwrap();
    }

    fn verdict(&self, stage: &str, text: &str) -> Verdict {
        self.rule(stage, text).map_or(Verdict::Accept, |rule| rule.verdict.clone())
    }

    fn auth_verdict(&self, text: &str) -> AuthVerdict {
        match self.rule("auth", text) {
            None => AuthVerdict::Success,
            Some(Rule { auth: Some(verdict), .. }) => verdict.clone(),
            Some(rule) => rule.verdict.clone().into(),
        }
    }

    fn rule(&self, stage: &str, text: &str) -> Option<&Rule> {
        let hits = |rule: &&Rule| rule.pattern == "*" || text.contains(&rule.pattern);
        self.rules.iter().filter(|rule| rule.stage == stage).find(hits)
    }

    fn take_output(&mut self, count: usize) -> Vec<u8> {
        let count = count.min(self.output.len());
        self.output.drain(..count).collect()
    }
}

/// What a client sent, with `|` for NUL.
fn words(secret: &Secret) -> String {
    String::from_utf8_lossy(secret.expose()).replace('\0', "|")
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace("\\n", "\\n\n")
}
