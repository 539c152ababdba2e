//! Plays `tests/dialogues/*.smtp` of the repository against the receiver, in clear, behind STARTTLS and under TLS from the
//! first octet; as written, all at once, and cut into small pieces, of which each is a packet or a TLS record of its own. One
//! set of files, one player: what holds in clear holds under TLS.
//!
//! The format of the files is told in `tests/dialogues/README.md`. What a file asks for that the receiver has no setting for
//! is played by `lib/smtp/tests/dialogues` only, see [`unplayable`].

mod ends;
mod line;
#[path = "../../../lib/smtp/tests/dialogues/script.rs"]
mod script;
mod smuggling;

use std::panic::catch_unwind;
use std::path::Path;

use vsmtp_config::{BareNewline, ReceiverSlice, SecurityLevel, ServerTls};
use vsmtp_ipc::edge::master_child::{Listener, ToChild};
use vsmtp_ipc::wire::Service;
use vsmtp_smtp::{BodyLimits, EarlyTalk, Extension, Limits, Protocol, Verdict};

use crate::keys::{Keys, tls};
use crate::stage::{Stage, slice};
use ends::Ends;
use line::Line;
use script::{Dialogue, Turn};

/// How the octets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Clear,
    StartTls,
    Implicit,
}

/// Files that make no sense on a transport, and why.
const NOT_THERE: [(&str, &[Transport], &str); 9] = [
    ("auth-required.smtp", &[Transport::Clear, Transport::StartTls], "the SMTP service requires no login"),
    ("auth-policy.smtp", &ALL, "the helper has fewer words"),
    ("auth.smtp", &ALL, "no mechanism of the helper lets the server speak first"),
    ("policy.smtp", &ALL, "a filter that says yes in the words of a no loses its edge"),
    ("size.smtp", &[Transport::Implicit], "AUTH= is a parameter where users log in"),
    ("starttls-absent.smtp", &[Transport::StartTls, Transport::Implicit], "TLS is there"),
    ("every-bdat-unoffered.smtp", &[Transport::Implicit], "mail comes before the login"),
    ("no-service.smtp", &[Transport::StartTls], "there is no STARTTLS after such a greeting"),
    ("refused-client.smtp", &[Transport::StartTls], "there is no STARTTLS after such a greeting"),
];
const ALL: [Transport; 3] = [Transport::Clear, Transport::StartTls, Transport::Implicit];

#[test]
fn dialogues_hold_in_clear() {
    play_all(Transport::Clear);
}

#[test]
fn dialogues_hold_behind_starttls() {
    play_all(Transport::StartTls);
}

#[test]
fn dialogues_hold_under_tls_from_the_first_octet() {
    play_all(Transport::Implicit);
}

/// What is too much by bounds that have no key. The files that are about them set smaller ones and are played by the protocol
/// code alone; here they are those of a receiver. Each is what the client sends behind RCPT, and what it hears.
fn too_much(transport: Transport) -> [(&'static str, String); 4] {
    // 16 MiB beyond the largest message are read in search of its end.
    let beyond = (16 << 20) + 1000;
    // The EHLO of the login is one of the idle words that are let pass.
    let idle = if transport == Transport::Implicit { 99 } else { 100 };
    let flooded = "S: 421 4.7.0 Too much input, closing connection\nX:\n";
    [
        (
            "s11, a body without end",
            format!("C: DATA\nS: 354 End data with <CR><LF>.<CR><LF>\nR: \\{{{beyond}:x}}\n{flooded}"),
        ),
        (
            "s4, a chunk without end",
            format!("C: BDAT 99999999999999999999 LAST\nR: \\{{{beyond}:x}}\n{flooded}"),
        ),
        (
            "s4, a chunk without end for no message",
            format!("C: RSET\nS: 250 2.0.0 Ok\nC: BDAT {beyond}\nS: 503 5.5.1 Send MAIL first\n{flooded}"),
        ),
        (
            // The first brings a message, a hundred are let pass, and two errors end the session.
            "s4, chunks of nothing",
            format!(
                "{}{}S: 421 4.7.0 Too many errors, closing connection\nX:\n",
                "C: BDAT 0\n".repeat(1 + idle + 2),
                "S: 250 2.0.0 Ok: chunk received\n".repeat(1 + idle + 1)
            ),
        ),
    ]
}

#[test]
fn s4_and_s11_what_is_too_much_ends_the_session_on_each_transport() {
    let begin = "! size 20\n! hard-errors 2\n! extensions CHUNKING\nS: 220 mx.test ESMTP\nC: EHLO client.test\n\
                 S: 250-mx.test\nS: 250 CHUNKING\nC: MAIL FROM:<a@a.test>\nS: 250 2.1.0 Ok\nC: RCPT TO:<b@b.test>\n\
                 S: 250 2.1.5 Ok\n";
    for transport in ALL {
        for (name, rest) in too_much(transport) {
            let dialogue = script::parse(&format!("{begin}{rest}"), name);
            let theatre = Theatre::open(&dialogue, transport);
            theatre.in_turns(&turns(&dialogue, transport, theatre.logs_in), name);
        }
    }
}

#[test]
fn every_exception_is_a_file() {
    let all = script::all(&folder());
    for (name, ..) in NOT_THERE {
        assert!(all.iter().any(|(file, _)| file == name), "{name}");
    }
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/dialogues")
}

fn play_all(transport: Transport) {
    let (mut played, mut failed) = ((0, 0), Vec::new());
    for (name, dialogue) in script::all(&folder()) {
        let is_left_out = NOT_THERE.iter().any(|(file, on, _)| *file == name && on.contains(&transport));
        if is_left_out || unplayable(&dialogue).is_some() || !fits(&dialogue, transport) {
            continue;
        }
        let mut hold = |dialogue: &Dialogue, name: String| {
            if catch_unwind(|| play(dialogue, &name, transport)).is_err() {
                failed.push(name);
            }
        };
        hold(&dialogue, name.clone());
        played.0 += 1;
        if let Some(dialogue) = script::by_bdat(&dialogue) {
            hold(&dialogue, format!("{name} by BDAT"));
            played.1 += 1;
        }
    }
    assert!(failed.is_empty(), "on {transport:?}: {failed:?}");
    // Exactly, so that no file is dropped unseen. Whoever adds one changes what is true of it.
    let all = match transport {
        Transport::Clear => (90, 12),
        Transport::StartTls => (71, 10),
        Transport::Implicit => (52, 8),
    };
    assert_eq!(played, all, "files, and files by BDAT, on {transport:?}");
}

fn play(dialogue: &Dialogue, name: &str, transport: Transport) {
    let theatre = Theatre::open(dialogue, transport);
    let turns = turns(dialogue, transport, theatre.logs_in);
    theatre.in_turns(&turns, name);
    if !dialogue.turns_only {
        for size in [usize::MAX, 1, 7] {
            theatre.cut(&turns, name, size);
        }
    }
}

/// Why the receiver cannot play this file.
fn unplayable(dialogue: &Dialogue) -> Option<&'static str> {
    let settings = &dialogue.settings;
    let bodies = BodyLimits::default();
    let is_rule = |stage: &str, other: bool| dialogue.rules.iter().any(|rule| rule.stage == stage && other);
    let unavailable = |rule: &script::Rule| rule.verdict == Verdict::Unavailable && rule.stage == "connect";
    let refuses_data = |rule: &script::Rule| rule.stage == "data" && rule.verdict != Verdict::Accept;
    if settings.limits.body.drain != bodies.drain {
        Some("how much is read after a fault has no key")
    } else if settings.limits.junk != Limits::default().junk {
        Some("counts of NOOP have no key")
    } else if settings.early_talk != EarlyTalk::Allow {
        Some("the limiter watches for early talk")
    } else if is_rule("starttls", true) || dialogue.rules.iter().any(refuses_data) {
        Some("no rule is asked there")
    } else if dialogue.rules.iter().any(unavailable) {
        Some("a filter that is away is not asked")
    } else if dialogue.tls.is_some_and(|facts| facts.client_certificate) {
        Some("no certificate is mapped to a user")
    } else {
        None
    }
}

/// True if the file says nothing against this transport.
fn fits(dialogue: &Dialogue, transport: Transport) -> bool {
    let settings = &dialogue.settings;
    let begins_in_clear = settings.extensions.has(Extension::StartTls) || settings.tls_required;
    // What is offered where clients must log in only; here that is the port with TLS from the start.
    let for_logins = [Extension::MtPriority, Extension::FutureRelease, Extension::DeliverBy];
    let is_for_logins = for_logins.iter().any(|extension| settings.extensions.has(*extension));
    match transport {
        Transport::Clear => dialogue.tls.is_none() && !is_for_logins,
        // TLS is offered to those that say EHLO.
        Transport::StartTls => !begins_in_clear && !is_for_logins && settings.ehlo,
        // LMTP has no such port. What comes before EHLO cannot come behind the login that this service requires for mail.
        Transport::Implicit => {
            !begins_in_clear
                && settings.ehlo
                && settings.protocol == Protocol::Smtp
                && !dialogue.trusted
                && (!settings.auth.mechanisms.is_empty()
                    || begins_with_hello(dialogue)
                    || stays_outside(dialogue))
        }
    }
}

fn begins_with_hello(dialogue: &Dialogue) -> bool {
    let said = dialogue.turns.iter().find_map(|turn| match turn {
        Turn::Client(bytes) => Some(bytes.as_slice()),
        _ => None,
    });
    said.is_none_or(|said| said.starts_with(b"EHLO ") || said.starts_with(b"HELO "))
}

/// True if the client never says EHLO and never begins a message.
fn stays_outside(dialogue: &Dialogue) -> bool {
    let has = |said: &[u8], words: &[u8]| said.windows(words.len()).any(|some| some == words);
    let is_inside =
        |turn: &Turn| matches!(turn, Turn::Server(said) if has(said, b"250 2.1.0 ") || has(said, b"250-"));
    !dialogue.turns.iter().any(is_inside)
}

/// The turns as they are on this transport: the greeting may be heard before, and what is over is over.
fn turns(dialogue: &Dialogue, transport: Transport, logged_in: bool) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    let must_log_in =
        transport == Transport::Implicit && !logged_in && dialogue.settings.auth.mechanisms.is_empty();
    for turn in &dialogue.turns {
        let said = match turns.last() {
            Some(Turn::Client(bytes)) => bytes.as_slice(),
            _ => b"",
        };
        let turn = match turn {
            Turn::Server(wanted) if turns.is_empty() && (transport == Transport::StartTls || logged_in) => {
                let greeting_ends = wanted.iter().position(|octet| *octet == b'\n').unwrap_or(0) + 1;
                Turn::Server(wanted[greeting_ends..].to_vec())
            }
            Turn::Server(wanted) if wanted.starts_with(b"502 ") && said.ends_with(b"STARTTLS\r\n") => {
                match transport {
                    Transport::Clear => Turn::Server(wanted.clone()),
                    _ => Turn::Server(b"503 5.5.1 TLS is active already\r\n".to_vec()),
                }
            }
            Turn::Server(wanted)
                if logged_in && wanted.starts_with(b"502 ") && said.starts_with(b"AUTH PLAIN") =>
            {
                let why = if in_transaction(&turns) {
                    "Not while a message is on its way"
                } else {
                    "Already authenticated"
                };
                Turn::Server(format!("503 5.5.1 {why}\r\n").into_bytes())
            }
            Turn::Server(wanted) if must_log_in => Turn::Server(before_login(wanted, said)),
            Turn::Client(bytes) => Turn::Client(bytes.clone()),
            Turn::Server(bytes) => Turn::Server(bytes.clone()),
            Turn::Body(bytes) => Turn::Body(bytes.clone()),
            Turn::Closed => Turn::Closed,
        };
        turns.push(turn);
    }
    turns
}

/// A reply to a client that has not said its name, where there is AUTH and it must come before mail.
fn before_login(wanted: &[u8], said: &[u8]) -> Vec<u8> {
    match wanted.get(..4) {
        Some(b"252 ") => b"530 5.7.0 Authentication required\r\n".to_vec(),
        Some(b"214 ") => String::from_utf8_lossy(wanted).replace(" HELP ", " AUTH HELP ").into_bytes(),
        Some(b"502 ") if said.starts_with(b"AUTH ") => b"503 5.5.1 Send EHLO or HELO first\r\n".to_vec(),
        _ => wanted.to_vec(),
    }
}

/// True if MAIL was the last of the commands that begin and end transactions, and no message came behind it.
fn in_transaction(turns: &[Turn]) -> bool {
    let message = turns.iter().rposition(|turn| matches!(turn, Turn::Body(_)));
    let said = turns.get(message.map_or(0, |at| at + 1)..).unwrap_or_default();
    let said = said.iter().rev().filter_map(|turn| match turn {
        Turn::Client(bytes) => bytes.get(..4),
        _ => None,
    });
    said.into_iter().find(|verb| [&b"MAIL"[..], b"RSET", b"EHLO", b"HELO"].contains(verb)) == Some(b"MAIL")
}

/// A receiver that is set up for one file.
struct Theatre {
    stage: Stage,
    address: std::net::SocketAddr,
    transport: Transport,
    ends: Ends,
    /// A user must say who he is before anything else.
    logs_in: bool,
}

impl Theatre {
    fn open(dialogue: &Dialogue, transport: Transport) -> Theatre {
        let settings = &dialogue.settings;
        let mut stage = Stage::start(&receiver(dialogue, transport));
        let with_tls = transport != Transport::Clear || settings.extensions.has(Extension::StartTls);
        let service = match (transport, settings.protocol) {
            (Transport::Implicit, _) => Service::Submissions,
            (_, Protocol::Lmtp) => Service::Lmtp,
            _ => Service::Smtp,
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let what = Listener::Smtp { address: address.to_string(), service };
        stage.tell(&ToChild::Listener(what), vec![listener.into()]);
        // Clients are greeted when both have come.
        let has_words = dialogue.turns.iter().any(|turn| matches!(turn, Turn::Client(_)));
        let logs_in = transport == Transport::Implicit
            && settings.auth.mechanisms.is_empty()
            && has_words
            && begins_with_hello(dialogue);
        let mut names: Vec<String> =
            settings.auth.mechanisms.iter().map(|mechanism| mechanism.name.to_string()).collect();
        if logs_in {
            names.push("PLAIN".to_owned());
        }
        if with_tls {
            Keys::introduce(&mut stage).serve();
        }
        let ends = Ends::start(&mut stage, dialogue, names);
        Theatre { stage, address, transport, ends, logs_in }
    }

    /// A connection at the point where the file begins.
    fn enter(&self) -> Line {
        self.ends.forget();
        let mut line = Line::connect(self.address);
        match self.transport {
            Transport::Clear => {}
            Transport::StartTls => {
                line.expect(b"220 mx.test ");
                let hello = if self.ends.is_lmtp() { "LHLO" } else { "EHLO" };
                line.send(format!("{hello} transport.test\r\n").as_bytes());
                line.expect(b"250");
                line.send(b"STARTTLS\r\n");
                line.expect(b"220 2.0.0 Ready to start TLS");
                line.shake();
            }
            Transport::Implicit => {
                line.shake();
                if self.logs_in {
                    line.expect(b"220 mx.test ESMTP");
                    line.send(b"EHLO transport.test\r\n");
                    line.expect(b"250");
                    line.send(b"AUTH PLAIN AHRyYW5zcG9ydABwZW5jaWw=\r\n");
                    line.expect(b"235");
                }
            }
        }
        line
    }

    fn in_turns(&self, turns: &[Turn], name: &str) {
        let mut line = self.enter();
        for (at, turn) in turns.iter().enumerate() {
            let place = || format!("{name} on {:?}, turn {at}\n{}", self.transport, self.stage.log());
            match turn {
                Turn::Client(bytes) => line.send(bytes),
                Turn::Server(wanted) => {
                    assert_eq!(show(&line.take(wanted.len())), show(wanted), "{}", place());
                    if wanted.ends_with(b"220 2.0.0 Ready to start TLS\r\n") {
                        line.shake();
                    }
                }
                Turn::Body(wanted) => {
                    assert_eq!(self.ends.body().map(|body| show(&body)), Some(show(wanted)), "{}", place());
                }
                Turn::Closed => assert_eq!(show(&line.take(usize::MAX)), "", "{}", place()),
            }
        }
        assert_eq!(self.ends.body(), None, "{name}: a message was accepted that is not in the dialogue");
    }

    fn cut(&self, turns: &[Turn], name: &str, size: usize) {
        let (mut input, mut wanted, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
        for turn in turns {
            match turn {
                Turn::Client(bytes) => input.extend_from_slice(bytes),
                Turn::Server(bytes) => wanted.extend_from_slice(bytes),
                Turn::Body(bytes) => bodies.push(show(bytes)),
                Turn::Closed => {}
            }
        }
        // Small pieces of long texts prove nothing more, and take long.
        let size = if input.len() > 20_000 { size.max(1000) } else { size };
        let mut line = self.enter();
        for piece in input.chunks(size.min(input.len().max(1))) {
            line.send(piece);
        }
        let place =
            || format!("{name} on {:?}, cut in pieces of {size}\n{}", self.transport, self.stage.log());
        assert_eq!(show(&line.take(wanted.len())), show(&wanted), "{}", place());
        if matches!(turns.last(), Some(Turn::Closed)) {
            assert_eq!(show(&line.take(usize::MAX)), "", "{}", place());
        }
        let accepted: Vec<String> = std::iter::from_fn(|| self.ends.body()).map(|body| show(&body)).collect();
        assert_eq!(accepted, bodies, "{}", place());
    }
}

/// The slice that has the receiver do what the file says.
fn receiver(dialogue: &Dialogue, transport: Transport) -> ReceiverSlice {
    let settings = &dialogue.settings;
    let wants = |extension| settings.extensions.has(extension);
    let hidden = |extension: &Extension| !wants(*extension);
    // A client that may say who others are is told so, and AUTH is told by its mechanisms.
    let never_hidden = [Extension::StartTls, Extension::Auth, Extension::XClient, Extension::XForward];
    let discard =
        Extension::ALL.iter().filter(|it| hidden(it) && !never_hidden.contains(it)).map(|it| it.keyword());
    let loopback = vsmtp_config::ByText::from(vsmtp_config::Network::parse("127.0.0.0/8").unwrap());
    let trusted = if dialogue.trusted { vec![loopback] } else { Vec::new() };
    let security_level = if settings.tls_required { SecurityLevel::Encrypt } else { SecurityLevel::May };
    let with_tls = transport != Transport::Clear || wants(Extension::StartTls) || settings.tls_required;
    let body = &settings.limits.body;
    ReceiverSlice {
        message_size_limit: body.size,
        header_size_limit: body.header,
        line_length_max: body.line + 2,
        hop_count_max: body.hops,
        rcpt_count_max: settings.limits.recipients,
        error_hard_count: Some(settings.limits.hard_errors),
        bare_newline: match settings.bare_newline {
            vsmtp_smtp::BareNewline::Refuse => BareNewline::Refuse,
            vsmtp_smtp::BareNewline::Normalise => BareNewline::Normalise,
        },
        ehlo: settings.ehlo,
        vrfy: settings.vrfy,
        priority_raise: settings.raise_priority,
        discard: discard.map(str::to_owned).collect(),
        auth_mechanisms: if settings.auth.mechanisms.is_empty() && transport != Transport::Implicit {
            Vec::new()
        } else {
            vec!["PLAIN".to_owned()]
        },
        auth_in_clear: settings.auth.mechanisms.iter().any(|mechanism| mechanism.in_clear),
        auth_attempts: Some(settings.auth.failures),
        tls: with_tls.then(|| ServerTls { security_level, ..tls() }),
        xclient_from: trusted.clone(),
        login_from: trusted.clone(),
        xforward_from: trusted,
        ..slice()
    }
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace("\\n", "\\n\n")
}
