//! Which commands the dialogues try in which states, and whether they are offered there. It follows what both sides say,
//! and trusts no name of a file.

use std::collections::BTreeSet;

use vsmtp_smtp::{Extension, Protocol};

use crate::script::{Dialogue, Turn};

/// Where a session stands, as far as the order of commands goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    BeforeHello,
    AfterHelo,
    /// Behind EHLO or LHLO.
    AfterEhlo,
    AfterMail,
    AfterRcpt,
    BetweenChunks,
    WithinAuth,
    AfterLogin,
    AfterMessage,
    /// In the text behind DATA.
    Text,
    /// Several things were said at once; known again with the next greeting.
    Unknown,
}

/// Those of a session by SMTP.
pub const SMTP: [State; 9] = [
    State::BeforeHello,
    State::AfterHelo,
    State::AfterEhlo,
    State::AfterMail,
    State::AfterRcpt,
    State::BetweenChunks,
    State::WithinAuth,
    State::AfterLogin,
    State::AfterMessage,
];

/// Those of a session by LMTP, where nobody logs in.
pub const LMTP: [State; 6] = [
    State::BeforeHello,
    State::AfterEhlo,
    State::AfterMail,
    State::AfterRcpt,
    State::BetweenChunks,
    State::AfterMessage,
];

/// One command that was tried.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tried {
    pub lmtp: bool,
    pub state: State,
    pub command: String,
    /// It exists at this server, for this client.
    pub offered: bool,
}

/// What is tried in a dialogue, one command at a time.
pub fn tried(dialogue: &Dialogue) -> BTreeSet<Tried> {
    let mut walk = Walk { dialogue, state: State::BeforeHello, base: State::BeforeHello, logged_in: false };
    let mut found = BTreeSet::new();
    for pair in dialogue.turns.windows(2) {
        let [Turn::Client(said), answer] = pair else { continue };
        let answer = match answer {
            Turn::Server(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        if let Some(command) = walk.alone(said) {
            if walk.state != State::Unknown {
                let offered = walk.offers(&command);
                let lmtp = dialogue.settings.protocol == Protocol::Lmtp;
                found.insert(Tried { lmtp, state: walk.state, command: command.clone(), offered });
            }
            let last = said.split(|octet| *octet == b'\r').next().is_some_and(|line| line.ends_with(b"LAST"));
            walk.go_on(&command, &answer, last);
        } else {
            let is_text = walk.state == State::Text && said.ends_with(b"\r\n.\r\n");
            walk.state = if is_text { State::AfterMessage } else { State::Unknown };
        }
    }
    found
}

struct Walk<'a> {
    dialogue: &'a Dialogue,
    state: State,
    /// The state outside of transactions.
    base: State,
    logged_in: bool,
}

impl Walk<'_> {
    /// The command, if it was said alone; a chunk belongs to its own.
    fn alone(&self, said: &[u8]) -> Option<String> {
        if self.state == State::Text {
            return None;
        }
        let end = said.windows(2).position(|two| two == b"\r\n")?;
        let (line, behind) = said.split_at(end + 2);
        let line = String::from_utf8_lossy(line).into_owned();
        let mut words = line.split_ascii_whitespace();
        let command = words.next()?.to_ascii_uppercase();
        let size = match command.as_str() {
            "BDAT" if self.state != State::WithinAuth => words.next()?.parse().ok()?,
            _ => 0,
        };
        (behind.len() == size).then_some(command)
    }

    fn offers(&self, command: &str) -> bool {
        let settings = &self.dialogue.settings;
        match command {
            "STARTTLS" => settings.extensions.has(Extension::StartTls),
            "AUTH" => !settings.auth.mechanisms.is_empty(),
            "BDAT" => settings.extensions.has(Extension::Chunking),
            "XCLIENT" | "XFORWARD" => self.dialogue.trusted,
            "LHLO" => settings.protocol == Protocol::Lmtp,
            "EHLO" => settings.protocol == Protocol::Smtp && settings.ehlo,
            "HELO" => settings.protocol == Protocol::Smtp,
            "VRFY" => settings.vrfy,
            "MAIL" | "RCPT" | "DATA" | "RSET" | "NOOP" | "HELP" | "QUIT" => true,
            _ => false,
        }
    }

    fn go_on(&mut self, command: &str, answer: &str, last: bool) {
        let code = answer.get(..3).unwrap_or("");
        let yes = code.starts_with('2');
        if self.state == State::WithinAuth {
            self.logged_in |= code == "235";
            self.state = match code {
                "334" => State::WithinAuth,
                _ => self.idle(),
            };
            return;
        }
        self.state = match command {
            "HELO" | "EHLO" | "LHLO" if yes => {
                self.base = if command == "HELO" { State::AfterHelo } else { State::AfterEhlo };
                self.idle()
            }
            "STARTTLS" | "XCLIENT" if code == "220" => {
                self.base = State::BeforeHello;
                self.logged_in = false;
                State::BeforeHello
            }
            "AUTH" if code == "334" => State::WithinAuth,
            "AUTH" if code == "235" => {
                self.logged_in = true;
                State::AfterLogin
            }
            "MAIL" if yes => State::AfterMail,
            "RCPT" if yes => State::AfterRcpt,
            "DATA" if code == "354" => State::Text,
            "BDAT" if [State::AfterRcpt, State::BetweenChunks].contains(&self.state) => {
                if yes && !last {
                    State::BetweenChunks
                } else {
                    State::AfterMessage
                }
            }
            "RSET" if yes && self.state != State::Unknown => self.idle(),
            _ => self.state,
        };
    }

    fn idle(&self) -> State {
        if self.logged_in && self.base != State::BeforeHello { State::AfterLogin } else { self.base }
    }
}
