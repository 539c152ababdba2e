//! The files `tests/dialogues/*.smtp` of the repository, as players read them. Their format is told in
//! `tests/dialogues/README.md`. Used by the tests of other crates too.

use std::fs;
use std::path::{Path, PathBuf};

use vsmtp_mail::{Domain, Reply};
use vsmtp_smtp::{
    AuthVerdict, BareNewline, EarlyTalk, Extension, Extensions, Mechanism, Needs, Protocol, Settings,
    TlsFacts, Verdict,
};

#[derive(Clone)]
pub struct Rule {
    pub stage: String,
    pub pattern: String,
    pub verdict: Verdict,
    /// At `auth`, what else may be said.
    pub auth: Option<AuthVerdict>,
}

#[derive(Clone)]
pub enum Turn {
    Client(Vec<u8>),
    Server(Vec<u8>),
    Body(Vec<u8>),
    Closed,
}

#[derive(Clone)]
pub struct Dialogue {
    pub settings: Settings,
    pub rules: Vec<Rule>,
    pub turns: Vec<Turn>,
    pub turns_only: bool,
    pub tls: Option<TlsFacts>,
    pub trusted: bool,
}

/// All of a folder, by name.
pub fn all(folder: &Path) -> Vec<(String, Dialogue)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "smtp"));
    paths.sort();
    assert!(!paths.is_empty());
    let read = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let dialogue = parse(&fs::read_to_string(path).unwrap(), &name);
        (name, dialogue)
    };
    paths.iter().map(read).collect()
}

/// One file.
pub fn parse(text: &str, name: &str) -> Dialogue {
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
        "no-ehlo" => settings.ehlo = false,
        "no-vrfy" => settings.vrfy = false,
        "raise-priority" => settings.raise_priority = true,
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
                "accept" if key == "auth" => Some(AuthVerdict::Success),
                "challenge" => Some(AuthVerdict::Challenge(unescape(rest.unwrap_or("")))),
                "refused" => Some(AuthVerdict::Refused(unescape(rest.unwrap_or("")))),
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

const GO_ON: &str = "354 End data with <CR><LF>.<CR><LF>\r\n";

/// The same dialogue with each message in one chunk (BDAT) where it was DATA; `None` if there is no message in it. What is
/// said before and after stays as it is, so whatever holds for the one must hold for the other.
pub fn by_bdat(dialogue: &Dialogue) -> Option<Dialogue> {
    let says_bdat = |turn: &Turn| matches!(turn, Turn::Client(said) if said.windows(5).any(|five| five.eq_ignore_ascii_case(b"BDAT ")));
    if dialogue.settings.extensions.has(Extension::Chunking) || dialogue.turns.iter().any(says_bdat) {
        // Such a file is about chunks already.
        return None;
    }
    let mut settings = dialogue.settings.clone();
    settings.extensions = settings.extensions.with(Extension::Chunking);
    let mut turns: Vec<Turn> = dialogue.turns.clone();
    let mut count = 0;
    for at in 0..turns.len() {
        let replies = match turns.get(at + 1) {
            Some(Turn::Server(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        if let (Turn::Client(said), true) = (&turns[at], replies.contains(GO_ON)) {
            if let Some(command) = said.strip_suffix(b"DATA\r\n") {
                // The text comes when the server has said that it may.
                let Some(Turn::Client(text)) = turns.get(at + 2) else { return None };
                let (chunk, rest) = chunk(text)?;
                let (command, text) = (command.to_vec(), [&chunk, rest].concat());
                turns[at] = Turn::Client(command);
                turns[at + 2] = Turn::Client(text);
            } else {
                // Where one DATA of several was refused, its text was no text.
                let lines =
                    String::from_utf8_lossy(said).split("\r\n").filter(|line| *line == "DATA").count();
                let (said, messages) = chunks(said)?;
                if lines != messages || messages != replies.matches(GO_ON).count() {
                    return None;
                }
                turns[at] = Turn::Client(said);
            }
            turns[at + 1] = Turn::Server(replies.replace(GO_ON, "").into_bytes());
            count += replies.matches(GO_ON).count();
        }
    }
    for turn in &mut turns {
        if let Turn::Server(said) = turn {
            *said = offered(&String::from_utf8_lossy(said), settings.name.as_str()).into_bytes();
        }
    }
    let turns = merge(turns);
    let Dialogue { rules, turns_only, tls, trusted, .. } = dialogue.clone();
    (count > 0).then_some(Dialogue { settings, rules, turns, turns_only, tls, trusted })
}

/// Everything that was said at once, its messages in chunks, and how many there are; `None` if one of them has no end.
fn chunks(said: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut out, mut count) = (Vec::new(), 0);
    let mut rest = said;
    while let Some(length) = rest.windows(2).position(|two| two == b"\r\n") {
        let (line, behind) = rest.split_at(length + 2);
        if line == b"DATA\r\n" && !behind.is_empty() {
            let (chunk, after) = chunk(behind)?;
            out.extend(chunk);
            count += 1;
            rest = after;
        } else {
            out.extend_from_slice(line);
            rest = behind;
        }
    }
    out.extend_from_slice(rest);
    Some((out, count))
}

/// A text as the last chunk of a message, and what follows its end.
fn chunk(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let framed = [b"\r\n", text].concat();
    let end = framed.windows(5).position(|window| window == b"\r\n.\r\n")?;
    let (stuffed, rest) = (text.get(..end)?, text.get(end + 3..)?);
    let begins_line = |at: usize| at == 0 || stuffed[..at].ends_with(b"\r\n");
    let octets = stuffed.iter().enumerate().filter(|(at, octet)| **octet != b'.' || !begins_line(*at));
    let body: Vec<u8> = octets.map(|(_, octet)| *octet).collect();
    Some(([format!("BDAT {} LAST\r\n", body.len()).as_bytes(), &body].concat(), rest))
}

/// The replies with CHUNKING in what EHLO lists.
fn offered(replies: &str, name: &str) -> String {
    let behind = [
        "BINARYMIME",
        "REQUIRETLS",
        "MT-PRIORITY",
        "FUTURERELEASE",
        "DELIVERBY",
        "LIMITS",
        "XCLIENT",
        "XFORWARD",
    ];
    let (mut out, mut lines) = (String::new(), replies.split_inclusive("\r\n"));
    while let Some(line) = lines.next() {
        out.push_str(line);
        if line != format!("250-{name}\r\n") {
            continue;
        }
        let mut keywords: Vec<&str> = Vec::new();
        for line in lines.by_ref() {
            keywords.push(line[4..].trim_end());
            if line.starts_with("250 ") {
                break;
            }
        }
        let is_behind = |keyword: &&str| behind.iter().any(|it| keyword.starts_with(it));
        let place = keywords.iter().position(is_behind).unwrap_or(keywords.len());
        keywords.insert(place, "CHUNKING");
        for (at, keyword) in keywords.iter().enumerate() {
            let mark = if at + 1 == keywords.len() { ' ' } else { '-' };
            out.push_str(&format!("250{mark}{keyword}\r\n"));
        }
    }
    out
}
