//! Plays `tests/dialogues/*.smtp` of the repository against the session, cut in every way: as written, all at once, and
//! byte by byte. The answers must be the same each time. The format is told in `tests/dialogues/README.md`.
#![allow(missing_docs, reason = "a test has no public items")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vsmtp_mail::{Domain, Reply};
use vsmtp_smtp::{
    AuthVerdict, BareNewline, EarlyTalk, Extension, Extensions, Mechanism, Needs, Privileges, Protocol,
    Question, Secret, Session, Settings, Step, TlsFacts, Verdict,
};

/// What a caller reads at a time at most.
const READ_SIZE: usize = 64 * 1024;

struct Rule {
    stage: String,
    pattern: String,
    verdict: Verdict,
    /// At `auth`, what else may be said.
    auth: Option<AuthVerdict>,
}

enum Turn {
    Client(Vec<u8>),
    Server(Vec<u8>),
    Body(Vec<u8>),
    Closed,
}

struct Dialogue {
    settings: Settings,
    rules: Vec<Rule>,
    turns: Vec<Turn>,
    turns_only: bool,
    tls: Option<TlsFacts>,
    trusted: bool,
}

#[test]
fn dialogues_hold_however_the_bytes_are_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/dialogues");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "smtp"));
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let dialogue = parse(&fs::read_to_string(&path).unwrap(), &name);
        in_turns(&dialogue, &name);
        if !dialogue.turns_only {
            cut(&dialogue, &name, usize::MAX);
            cut(&dialogue, &name, 1);
            cut(&dialogue, &name, 7);
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
}

impl<'a> Player<'a> {
    fn new(dialogue: &'a Dialogue) -> Self {
        let mut session = Session::new(Arc::new(dialogue.settings.clone()));
        if let Some(facts) = dialogue.tls {
            session.tls_started(facts);
        }
        session.grant(Privileges { xclient: dialogue.trusted, xforward: dialogue.trusted });
        Player {
            session,
            rules: &dialogue.rules,
            tls: dialogue.tls,
            body: Vec::new(),
            bodies: Vec::new(),
            output: Vec::new(),
            closed: false,
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
                Step::AuthCancelled | Step::XClient(_) | Step::XForward(_) => {}
                Step::StartTls => self.session.tls_started(self.tls.unwrap_or_default()),
                Step::Ask(question) => self.answer(question),
            }
        }
        panic!("the session does not come to rest");
    }

    fn answer(&mut self, question: Question) {
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

fn parse(text: &str, name: &str) -> Dialogue {
    let mut settings = Settings::new(Domain::parse("mx.test").unwrap());
    let (mut rules, mut turns, mut turns_only, mut tls, mut trusted) =
        (Vec::new(), Vec::new(), false, None, false);
    for (number, line) in text.lines().enumerate() {
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        match mark {
            "" | "#" => {}
            "!" if rest == "turns-only" => turns_only = true,
            "!" if rest == "trusted" => trusted = true,
            "!" if rest == "tls" => tls = Some(TlsFacts::default()),
            "!" if rest == "tls full" => {
                tls = Some(TlsFacts { channel_binding: true, client_certificate: true });
            }
            "!" => option(rest, &mut settings, &mut rules)
                .unwrap_or_else(|| panic!("{name}:{}: unknown option {rest}", number + 1)),
            "C:" => turns.push(Turn::Client([unescape(rest), b"\r\n".to_vec()].concat())),
            "R:" => turns.push(Turn::Client(unescape(rest))),
            "S:" => turns.push(Turn::Server([unescape(rest), b"\r\n".to_vec()].concat())),
            "B:" => turns.push(Turn::Body(unescape(rest))),
            "X:" => turns.push(Turn::Closed),
            _ => panic!("{name}:{}: unknown mark {mark}", number + 1),
        }
    }
    Dialogue { settings, rules, turns: merge(turns), turns_only, tls, trusted }
}

/// Consecutive turns of one kind are one turn.
fn merge(turns: Vec<Turn>) -> Vec<Turn> {
    let mut merged: Vec<Turn> = Vec::new();
    for turn in turns {
        match (merged.last_mut(), turn) {
            (Some(Turn::Client(before)), Turn::Client(bytes)) => before.extend(bytes),
            (Some(Turn::Server(before)), Turn::Server(bytes)) => before.extend(bytes),
            (_, turn) => merged.push(turn),
        }
    }
    merged
}

fn option(text: &str, settings: &mut Settings, rules: &mut Vec<Rule>) -> Option<()> {
    let mut words = text.splitn(4, ' ');
    let (key, value) = (words.next()?, words.next().unwrap_or(""));
    match key {
        "lmtp" => settings.protocol = Protocol::Lmtp,
        "extensions" => {
            let list: Vec<_> = value.split(',').filter_map(Extension::from_keyword).collect();
            settings.extensions = Extensions::of(&list);
        }
        "starttls" if value.is_empty() => settings.extensions = settings.extensions.with(Extension::StartTls),
        "no-vrfy" => settings.vrfy = false,
        "tls-required" => settings.tls_required = true,
        "auth-required" => settings.auth.required = true,
        "auth-failures" => settings.auth.failures = value.parse().ok()?,
        "mechanisms" => settings.auth.mechanisms = value.split(',').map(mechanism).collect(),
        "normalise" => settings.bare_newline = BareNewline::Normalise,
        "refuse-early" => settings.early_talk = EarlyTalk::Refuse,
        "recipients" => settings.limits.recipients = value.parse().ok()?,
        "hard-errors" => settings.limits.hard_errors = value.parse().ok()?,
        "junk" => settings.limits.junk = value.parse().ok()?,
        "size" => settings.limits.body.size = value.parse().ok()?,
        "line" => settings.limits.body.line = value.parse().ok()?,
        "header" => settings.limits.body.header = value.parse().ok()?,
        "hops" => settings.limits.body.hops = value.parse().ok()?,
        "drain" => settings.limits.body.drain = value.parse().ok()?,
        "connect" | "helo" | "starttls" | "auth" | "mail" | "rcpt" | "data" | "message" => {
            let action = words.next().unwrap_or("accept");
            let rest = words.next();
            let auth = match action {
                "challenge" => Some(AuthVerdict::Challenge(unescape(rest.unwrap_or("")))),
                "fail" => Some(AuthVerdict::Failure),
                "malformed" => Some(AuthVerdict::Malformed),
                _ => None,
            };
            let reply = rest.and_then(|text| Reply::parse(text).ok());
            let verdict = match (action, reply) {
                _ if auth.is_some() => Verdict::Accept,
                ("accept", Some(reply)) => Verdict::AcceptWith(reply),
                ("accept", None) => Verdict::Accept,
                ("refuse", Some(reply)) => Verdict::Refuse(reply),
                ("close", Some(reply)) => Verdict::Close(reply),
                ("unavailable", None) => Verdict::Unavailable,
                _ => return None,
            };
            rules.push(Rule { stage: key.to_owned(), pattern: value.to_owned(), verdict, auth });
        }
        _ => return None,
    }
    Some(())
}

/// A mechanism's name, with `*` behind it where it may be used in clear text, `+` where the server speaks first.
fn mechanism(text: &str) -> Mechanism {
    let name = text.trim_end_matches(['*', '+']);
    let needs = match name {
        "EXTERNAL" => Needs::ClientCertificate,
        plus if plus.ends_with("-PLUS") => Needs::ChannelBinding,
        _ => Needs::Nothing,
    };
    let (in_clear, server_first) = (text.contains('*'), text.contains('+'));
    Mechanism { name: name.into(), in_clear, needs, server_first }
}

/// What a client sent, with `|` for NUL.
fn words(secret: &Secret) -> String {
    String::from_utf8_lossy(secret.expose()).replace('\0', "|")
}

/// `\r \n \0 \t \\ \xHH` and `\{N:c}` for N times the character c.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.extend_from_slice(before.as_bytes());
        let kind = after.chars().next().unwrap();
        rest = &after[1..];
        match kind {
            'r' => out.push(b'\r'),
            'n' => out.push(b'\n'),
            '0' => out.push(0),
            't' => out.push(b'\t'),
            '\\' => out.push(b'\\'),
            'x' => {
                out.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                rest = &rest[2..];
            }
            '{' => {
                let (inner, tail) = rest.split_once('}').unwrap();
                let (count, what) = inner.split_once(':').unwrap();
                out.extend(what.as_bytes().repeat(count.parse().unwrap()));
                rest = tail;
            }
            other => panic!("unknown escape \\{other}"),
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace("\\n", "\\n\n")
}
