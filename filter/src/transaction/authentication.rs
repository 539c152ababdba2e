//! What is known of who sends a message, and how it is shown: one Authentication-Results field (RFC 8601), and a
//! Received-SPF field (RFC 7208 9.1) where a rule wants it. Words of strangers are cut to what a field may hold.

use std::cell::Cell;

use vsmtp_ipc::edge::client_resolver::{DmarcResult, DmarcVerdict, SpfResult, SpfVerdict};
use vsmtp_mail::{Field, ReversePath};

use super::Transaction;
use crate::author::NoAuthor;
use crate::dkim::Checked;
use crate::object::Fault;
use crate::stage::Stage;

const RESULTS: &str = "Authentication-Results";
const RECEIVED: &str = "Received";
const RECEIVED_SPF: &str = "Received-SPF";
/// Longest text of a stranger in a field, in octets.
const MAX_SHOWN: usize = 200;

/// What was found so far.
#[derive(Debug, Clone, Default)]
pub struct Authentication {
    /// Whether the host may send for the sender's domain.
    pub spf: Option<SpfCheck>,
    /// What became of the signatures; none if it has none.
    pub dkim: Option<Vec<Checked>>,
    /// What servers on the way have sealed.
    pub arc: Option<ArcCheck>,
    /// Whether it is of its author's domain.
    pub dmarc: Option<DmarcCheck>,
    /// A rule wants what was found to be shown.
    pub show: bool,
    /// Whether there is to be a Received-SPF field.
    pub received_spf: ReceivedSpf,
}

/// A field that the message gets once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReceivedSpf {
    /// No rule wants it.
    #[default]
    Unwanted,
    /// A rule wants it, and the message is not there yet.
    Wanted,
    /// It stands in the header.
    Shown,
}

/// An SPF check.
#[derive(Debug, Clone)]
pub struct SpfCheck {
    /// What the domain says.
    pub verdict: SpfVerdict,
    /// The domain that was asked; empty if there was none.
    pub domain: String,
    /// It is that of the sender, rather than the name of HELO.
    pub is_sender: bool,
}

/// A check of what servers on the way have sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArcCheck {
    /// none, pass, fail or temperror.
    pub word: &'static str,
    /// How many sets there are.
    pub sets: usize,
    /// Domain of the youngest seal.
    pub domain: String,
    /// Why it is not right.
    pub reason: String,
}

/// A DMARC check.
#[derive(Debug, Clone)]
pub struct DmarcCheck {
    /// The author's domain.
    pub author: Result<String, NoAuthor>,
    /// What it wants; of no meaning without an author.
    pub verdict: DmarcVerdict,
}

impl Authentication {
    /// True if the header is needed, to put in it what was found.
    pub fn is_to_be_shown(&self) -> bool {
        self.show || self.received_spf == ReceivedSpf::Wanted
    }
}

impl Transaction {
    /// Removes what claims to be our own word about this message (RFC 8601 5): it has not been spoken yet.
    pub fn remove_forged_results(&mut self) {
        let own = self.peer.server_name.to_string();
        let removed = self.header.remove_where(|field| field.is(RESULTS) && is_of(field, &own));
        self.header_changed |= removed > 0;
    }

    /// Puts what was found so far in front of the header, instead of what stood there of it before. Nothing happens before
    /// the message is there: then it is done when it comes.
    pub fn show_results(&mut self) {
        if self.stage < Stage::Preq || self.content.is_none() {
            return;
        }
        if self.authentication.received_spf == ReceivedSpf::Wanted {
            self.authentication.received_spf = ReceivedSpf::Shown;
            self.show_received_spf();
        }
        if !self.authentication.show {
            return;
        }
        let own = self.peer.server_name.to_string();
        let found = self.results();
        let said_before = self.said_before(&own, &found);
        let value = [vec![own.clone()], found, said_before].concat().join(";\r\n\t");
        if let Some(field) = Field::new(RESULTS, &value) {
            self.header.remove_where(|field| field.is(RESULTS) && is_of(field, &own));
            self.header.prepend(field);
            self.header_changed = true;
        }
    }

    /// What we have said of the message at an earlier stage, about what is not known anew. We write in front of the trace
    /// that our own receiver put first; what stands behind it came with the message, whoever it names.
    fn said_before(&self, own: &str, found: &[String]) -> Vec<String> {
        self.header.named(RECEIVED).next().map_or_else(Vec::new, |_| self.said_above_trace(own, found))
    }

    fn said_above_trace(&self, own: &str, found: &[String]) -> Vec<String> {
        let mut above = self.header.fields().take_while(|field| !field.is(RECEIVED));
        let ours = above.find(|field| field.is(RESULTS) && is_of(field, own));
        let text = ours.map(|field| String::from_utf8_lossy(&field.unfolded()).into_owned());
        let method = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
        let known: Vec<String> = found.iter().map(|text| method(text)).collect();
        let parts = text.iter().flat_map(|text| text.split(';').skip(1));
        let parts =
            parts.map(|part| part.trim().to_owned()).filter(|part| !part.is_empty() && part != "none");
        parts.filter(|part| !known.contains(&method(part))).collect()
    }

    /// What was found so far, each as in an Authentication-Results field.
    pub fn results(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(spf) = &self.authentication.spf {
            found.push(self.spf_result(spf));
        }
        match self.authentication.dkim.as_deref() {
            None => {}
            Some([]) => found.push("dkim=none".to_owned()),
            Some(signatures) => found.extend(signatures.iter().map(dkim_result)),
        }
        if let Some(arc) = &self.authentication.arc {
            let reason = match arc.reason.as_str() {
                "" => String::new(),
                reason => format!(" reason={}", quoted(reason)),
            };
            found.push(format!("arc={}{reason}", arc.word));
        }
        if let Some(dmarc) = &self.authentication.dmarc {
            found.push(dmarc_result(dmarc));
        }
        found
    }

    fn spf_result(&self, check: &SpfCheck) -> String {
        let mut text = format!("spf={}", check.verdict.result.word());
        if matches!(check.verdict.result, SpfResult::TempError | SpfResult::PermError) {
            text.push_str(&format!(" reason={}", quoted(&check.verdict.by)));
        }
        let helo = self.helo.as_deref().unwrap_or_default();
        match (&self.mail_from_text(), check.is_sender) {
            (Some(sender), true) => text.push_str(&format!(" smtp.mailfrom={}", value(sender))),
            _ => text.push_str(&format!(" smtp.helo={}", value(helo))),
        }
        text
    }

    fn show_received_spf(&mut self) {
        let Some(check) = &self.authentication.spf else { return };
        let helo = self.helo.as_deref().unwrap_or_default();
        let sender = self.mail_from_text().unwrap_or_default();
        let identity = if check.is_sender { "mailfrom" } else { "helo" };
        let text = [
            format!("{} receiver={}", check.verdict.result.word(), value(self.peer.server_name.as_str())),
            format!("client-ip={}", value(&self.client_ip)),
            format!("envelope-from={}", quoted(&sender)),
            format!("helo={}", value(helo)),
            format!("identity={identity}"),
            match check.verdict.result {
                SpfResult::TempError | SpfResult::PermError => {
                    format!("problem={}", quoted(&check.verdict.by))
                }
                _ => format!("mechanism={}", quoted(&check.verdict.by)),
            },
        ];
        if let Some(field) = Field::new(RECEIVED_SPF, &text.join(";\r\n\t")) {
            // One of an earlier stage stands above our trace, as in `said_before`.
            let is_above = Cell::new(self.header.named(RECEIVED).next().is_some());
            self.header.remove_where(|field| {
                is_above.set(is_above.get() && !field.is(RECEIVED));
                is_above.get() && field.is(RECEIVED_SPF)
            });
            self.header.prepend(field);
            self.header_changed = true;
        }
    }

    /// The sender that MAIL said as text; `None` for the null sender.
    fn mail_from_text(&self) -> Option<String> {
        match &self.said_sender {
            Some(ReversePath::Address(address)) => Some(address.to_string()),
            _ => None,
        }
    }

    /// The sender's local part and domain; `None` for the null sender.
    pub fn sender_parts(&self) -> Option<(String, String)> {
        parts_of(self.mail.as_ref().map(|mail| &mail.reverse_path)?)
    }

    /// The same of the sender that MAIL said, whatever rules have made of it.
    pub fn said_sender_parts(&self) -> Option<(String, String)> {
        parts_of(self.said_sender.as_ref()?)
    }

    /// What was found, as a field of results has it.
    pub fn results_text(&self) -> String {
        let mut found = self.results();
        if found.is_empty() {
            found.push("none".to_owned());
        }
        [vec![self.peer.server_name.to_string()], found].concat().join(";\r\n\t")
    }

    /// Has what was found be shown.
    pub fn want_results(&mut self, results: bool, received_spf: bool) -> Result<(), Fault> {
        self.authentication.show |= results;
        if received_spf && self.authentication.received_spf == ReceivedSpf::Unwanted {
            self.authentication.received_spf = ReceivedSpf::Wanted;
        }
        self.show_results();
        Ok(())
    }
}

fn dkim_result(checked: &Checked) -> String {
    let mut text = format!("dkim={}", checked.word);
    if !checked.reason.is_empty() {
        text.push_str(&format!(" reason={}", quoted(&checked.reason)));
    }
    for (name, said) in [
        ("header.d", checked.domain.as_str()),
        ("header.i", &checked.identity),
        ("header.s", &checked.selector),
        ("header.a", checked.algorithm),
        ("header.b", &checked.start),
    ] {
        if !said.is_empty() {
            text.push_str(&format!(" {name}={}", value(said)));
        }
    }
    text
}

fn dmarc_result(check: &DmarcCheck) -> String {
    let verdict = &check.verdict;
    match &check.author {
        Err(NoAuthor::None) => "dmarc=permerror reason=\"no author's domain\"".to_owned(),
        Err(NoAuthor::Several) => "dmarc=permerror reason=\"several authors' domains\"".to_owned(),
        Ok(author) => {
            let policy = match verdict.result {
                DmarcResult::Pass | DmarcResult::Fail => {
                    format!(" policy.dmarc={}", verdict.published.word())
                }
                DmarcResult::None | DmarcResult::TempError => String::new(),
            };
            format!("dmarc={} header.from={}{policy}", verdict.result.word(), value(author))
        }
    }
}

fn parts_of(path: &ReversePath) -> Option<(String, String)> {
    match path {
        ReversePath::Address(address) => {
            Some((address.local_part().to_owned(), address.domain().to_string()))
        }
        ReversePath::Null => None,
    }
}

/// True if a field speaks in the name of that server: what stands before the first `;`, without a version.
fn is_of(field: &Field<'_>, server: &str) -> bool {
    let value = without_comments(&field.unfolded());
    let id = value.split(|octet| *octet == b';').next().unwrap_or_default();
    let id = id.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()).unwrap_or_default();
    let id = id.strip_prefix(b"\"").and_then(|id| id.strip_suffix(b"\"")).unwrap_or(id);
    let id = id.strip_suffix(b".").unwrap_or(id);
    id.eq_ignore_ascii_case(server.as_bytes())
}

/// The text without what stands in parentheses (RFC 5322 3.2.2).
fn without_comments(text: &[u8]) -> Vec<u8> {
    let (mut kept, mut depth, mut escaped) = (Vec::new(), 0u32, false);
    for octet in text {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if depth > 0 => escaped = true,
            b'(' => {
                depth += 1;
                kept.push(b' ');
            }
            b')' if depth > 0 => depth -= 1,
            _ if depth == 0 => kept.push(*octet),
            _ => {}
        }
    }
    kept
}

/// A value as it may stand in a field: plain if it is made of what needs no quotes.
fn value(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`{|}~@/".contains(c);
    if !text.is_empty() && text.len() <= MAX_SHOWN && text.chars().all(plain) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// In quotes. What could end them, or a part of the field, becomes a question mark.
fn quoted(text: &str) -> String {
    let shown = |c: char| if c.is_control() || matches!(c, '"' | '\\' | ';') { '?' } else { c };
    let text: String = text.chars().map(shown).take(MAX_SHOWN).collect();
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_word_is_known_however_it_is_written() {
        let is_ours = |value: &str| is_of(&Field::new(RESULTS, value).unwrap(), "mx.example.com");
        for value in [
            "mx.example.com; spf=pass",
            "MX.Example.com.; none",
            "mx.example.com 1; none",
            "\"mx.example.com\" 1; none",
            "(a (nested\\)) comment) mx.example.com; none",
            "\r\n\tmx.example.com;\r\n\tspf=pass",
        ] {
            assert!(is_ours(value), "{value}");
        }
        for value in
            ["mx.example.org; spf=pass", "a.mx.example.com; none", "(mx.example.com) other; none", ""]
        {
            assert!(!is_ours(value), "{value}");
        }
    }

    #[test]
    fn words_of_strangers_stay_within_their_place() {
        assert_eq!(value("a@b.c"), "a@b.c");
        assert_eq!(value("a b;c\"d\r\ne"), "\"a b?c?d??e\"");
        assert_eq!(quoted(&"x".repeat(500)).len(), MAX_SHOWN + 2);
    }
}
