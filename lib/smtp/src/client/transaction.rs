//! One transaction as the client sees it: the commands to send, and what the replies mean for each recipient.

use std::io::Write;

use vsmtp_mail::{BodyType, EnhancedCode, Notify, Priority, Reply, Ret};

use super::replies::ParsedReply;
use super::{Capabilities, DotStuffer, Outcome, RemoteRecipient, RequireTls, Transaction, Why};
use crate::extension::Extension;
use crate::xtext;

/// Longest ORCPT=, in octets (RFC 3461 4.2). A longer one is not passed on.
const MAX_ORIGINAL: usize = 500;

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Active {
    pub transaction: Transaction,
    pub slots: Vec<Slot>,
    pub next: Next,
    pub stage: Stage,
}

/// One recipient on its way.
#[derive(Debug)]
pub(super) enum Slot {
    Waiting,
    Accepted,
    Settled(Outcome),
}

/// The command to send next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Mail,
    Rcpt(usize),
    Data,
    Nothing,
}

/// Where the message itself is.
#[derive(Debug)]
pub(super) enum Stage {
    Commands,
    Body(DotStuffer),
    /// One chunk (RFC 3030) of which so many octets are to come.
    Chunk(u64),
    Sent,
}

impl Active {
    pub fn new(transaction: Transaction) -> Self {
        let slots = transaction.recipients.iter().map(|_| Slot::Waiting).collect();
        Active { transaction, slots, next: Next::Mail, stage: Stage::Commands }
    }

    /// Writes the next command and moves on.
    pub fn write_next(&mut self, offered: &Capabilities, out: &mut Vec<u8>) {
        match self.next {
            Next::Mail => {
                write_mail(&self.transaction, offered, out);
                self.next = self.rcpt_from(0);
            }
            Next::Rcpt(at) => {
                if let Some(recipient) = self.transaction.recipients.get(at) {
                    write_rcpt(recipient, offered, out);
                }
                self.next = self.rcpt_from(at + 1);
            }
            Next::Data if self.is_chunk() => {
                let size = self.transaction.size;
                let _ = write!(out, "BDAT {size} LAST\r\n");
                self.stage = Stage::Chunk(size);
                self.next = Next::Nothing;
            }
            Next::Data => {
                out.extend_from_slice(b"DATA\r\n");
                self.next = Next::Nothing;
            }
            Next::Nothing => {}
        }
    }

    /// The next recipient that is to be named, from this one on.
    fn rcpt_from(&self, first: usize) -> Next {
        let mut rest = self.slots.iter().enumerate().skip(first);
        rest.find(|(_, slot)| matches!(slot, Slot::Waiting)).map_or(Next::Data, |(at, _)| Next::Rcpt(at))
    }

    /// Settles recipients whose addresses cannot be said to such a server. The others go on.
    pub fn settle_unspeakable(&mut self, offered: &Capabilities) {
        if offered.has(Extension::SmtpUtf8) {
            return;
        }
        for (recipient, slot) in self.transaction.recipients.iter().zip(&mut self.slots) {
            if recipient.address.needs_smtputf8() {
                *slot = Slot::Settled(Outcome::Fail(no_smtputf8()));
            }
        }
    }

    /// True while the message itself is on its way.
    pub fn is_sending(&self) -> bool {
        matches!(self.stage, Stage::Body(_) | Stage::Chunk(_))
    }

    /// True if BDAT carries it.
    pub fn is_chunk(&self) -> bool {
        self.transaction.body == BodyType::BinaryMime || self.transaction.chunked
    }

    /// The recipients that the server accepted and has not settled.
    pub fn accepted(&self) -> impl Iterator<Item = usize> {
        self.slots.iter().enumerate().filter(|(_, slot)| matches!(slot, Slot::Accepted)).map(|(at, _)| at)
    }

    pub fn all_settled(&self) -> bool {
        self.slots.iter().all(|slot| matches!(slot, Slot::Settled(_)))
    }

    pub fn rcpt_answered(&mut self, at: usize, reply: &ParsedReply) {
        let Some(slot) = self.slots.get_mut(at).filter(|slot| matches!(slot, Slot::Waiting)) else { return };
        if reply.code / 100 == 2 {
            *slot = Slot::Accepted;
            return;
        }
        let reply = reply.to_reply();
        let fails = reply.is_permanent() && !is_too_many(&reply);
        let why = Why::Remote(reply);
        *slot = Slot::Settled(if fails { Outcome::Fail(why) } else { Outcome::Defer(why) });
    }

    /// One recipient's fate after the message.
    pub fn settle(&mut self, at: usize, outcome: Outcome) {
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Slot::Settled(outcome);
        }
    }

    /// The fate of all that have none.
    pub fn settle_rest(&mut self, outcome: &Outcome) {
        for slot in &mut self.slots {
            if !matches!(slot, Slot::Settled(_)) {
                *slot = Slot::Settled(outcome.clone());
            }
        }
    }

    /// The outcomes, in the order of the recipients.
    pub fn into_outcomes(self) -> Vec<Outcome> {
        let unclear = || Outcome::Defer(local(451, EnhancedCode(4, 5, 0), "the server gave no answer"));
        let outcome = |slot| if let Slot::Settled(outcome) = slot { outcome } else { unclear() };
        self.slots.into_iter().map(outcome).collect()
    }
}

/// Why the message cannot go to such a server at all.
pub(super) fn unsendable(transaction: &Transaction, offered: &Capabilities) -> Option<Why> {
    if offered.size.is_some_and(|limit| transaction.size > limit) {
        return Some(local(552, EnhancedCode(5, 3, 4), "message is larger than the server takes"));
    }
    match transaction.require_tls {
        RequireTls::Unproven => {
            let text = "sender requires TLS, and the server did not prove itself by it";
            return Some(local(550, EnhancedCode(5, 7, 30), text));
        }
        RequireTls::Proven if !offered.has(Extension::RequireTls) => {
            return Some(local(
                550,
                EnhancedCode(5, 7, 30),
                "server does not take messages that require TLS",
            ));
        }
        _ => {}
    }
    if transaction.needs_smtputf8 && !offered.has(Extension::SmtpUtf8) {
        return Some(no_smtputf8());
    }
    if let Some(by) = transaction.by.filter(|by| by.returns) {
        // RFC 2852: it goes only to who takes over that it is not delivered later.
        let text = if !offered.has(Extension::DeliverBy) {
            "sender wants no delivery behind a time, and the server does not heed that"
        } else if by.seconds < offered.min_by_s.max(1) {
            "the time that is left is less than the server takes"
        } else {
            return not_taken(transaction, offered);
        };
        return Some(local(550, EnhancedCode(5, 4, 7), text));
    }
    not_taken(transaction, offered)
}

/// Why such a server does not take the octets of a message.
fn not_taken(transaction: &Transaction, offered: &Capabilities) -> Option<Why> {
    // Without BDAT every lone CR or LF would be made a line end.
    let takes_binary = offered.has(Extension::Chunking) && offered.has(Extension::BinaryMime);
    if transaction.body == BodyType::BinaryMime && !takes_binary {
        return Some(local(554, EnhancedCode(5, 6, 3), "server does not take binary messages"));
    }
    if transaction.body == BodyType::EightBitMime && !offered.has(Extension::EightBitMime) {
        return Some(local(554, EnhancedCode(5, 6, 3), "server does not take 8-bit messages"));
    }
    None
}

fn no_smtputf8() -> Why {
    local(553, EnhancedCode(5, 6, 7), "server does not take SMTPUTF8 messages")
}

pub(super) fn local(code: u16, enhanced: EnhancedCode, text: &str) -> Why {
    Why::Local(Reply::fixed(code, enhanced, text))
}

/// Old servers say 552 where 452 is meant (RFC 5321 4.5.3.1.10); a full mailbox is another matter.
fn is_too_many(reply: &Reply) -> bool {
    reply.code() == 552 && reply.enhanced().is_none_or(|enhanced| (enhanced.1, enhanced.2) == (5, 3))
}

/// Writing to a Vec does not fail.
fn write_mail(transaction: &Transaction, offered: &Capabilities, out: &mut Vec<u8>) {
    let _ = write!(out, "MAIL FROM:<{}>", transaction.reverse_path);
    if offered.has(Extension::Size) && transaction.size > 0 {
        let _ = write!(out, " SIZE={}", transaction.size);
    }
    match transaction.body {
        BodyType::BinaryMime => out.extend_from_slice(b" BODY=BINARYMIME"),
        BodyType::EightBitMime if offered.has(Extension::EightBitMime) => {
            out.extend_from_slice(b" BODY=8BITMIME");
        }
        BodyType::EightBitMime | BodyType::SevenBit => {}
    }
    let speaks = |recipient: &RemoteRecipient| recipient.address.needs_smtputf8();
    if offered.has(Extension::SmtpUtf8)
        && (transaction.needs_smtputf8 || transaction.recipients.iter().any(speaks))
    {
        out.extend_from_slice(b" SMTPUTF8");
    }
    if transaction.require_tls == RequireTls::Proven {
        out.extend_from_slice(b" REQUIRETLS");
    }
    if offered.has(Extension::MtPriority) && transaction.priority != Priority::default() {
        let _ = write!(out, " MT-PRIORITY={}", transaction.priority.number());
    }
    if let Some(by) = transaction.by.filter(|_| offered.has(Extension::DeliverBy)) {
        let (mode, trace) = (if by.returns { "R" } else { "N" }, if by.traced { "T" } else { "" });
        let _ = write!(out, " BY={};{mode}{trace}", by.seconds);
    }
    if offered.has(Extension::Dsn) {
        match transaction.ret {
            Some(Ret::Full) => out.extend_from_slice(b" RET=FULL"),
            Some(Ret::Headers) => out.extend_from_slice(b" RET=HDRS"),
            None => {}
        }
        if let Some(envid) = &transaction.envid {
            let _ = write!(out, " ENVID={}", xtext::encode(envid));
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn write_rcpt(recipient: &RemoteRecipient, offered: &Capabilities, out: &mut Vec<u8>) {
    let _ = write!(out, "RCPT TO:<{}>", recipient.address);
    if offered.has(Extension::Dsn) {
        if let Some(notify) = recipient.notify {
            let _ = write!(out, " NOTIFY={}", notify_words(notify));
        }
        let original = recipient.original.as_ref().map(|original| {
            format!("{};{}", original.kind, xtext::encode_address(&original.kind, &original.address))
        });
        if let Some(original) = original.filter(|original| original.len() <= MAX_ORIGINAL) {
            let _ = write!(out, " ORCPT={original}");
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn notify_words(notify: Notify) -> String {
    let words = [("SUCCESS", notify.success), ("FAILURE", notify.failure), ("DELAY", notify.delay)];
    let words: Vec<_> = words.iter().filter(|(_, wanted)| *wanted).map(|(word, _)| *word).collect();
    if words.is_empty() { "NEVER".to_owned() } else { words.join(",") }
}
