//! One transaction after the other on an open connection: commands, the message, and what each reply means for the
//! recipients. No dot is ever sent behind a message that is not whole.

use super::{Dialogue, Expect, NotIdle, Phase};
use crate::client::replies::ParsedReply;
use crate::client::transaction::{self, Active, Next, Stage};
use crate::client::{Awaiting, DotStuffer, HostFault, Outcome, Transaction, Why};
use crate::extension::Extension;
use crate::settings::Protocol;
use vsmtp_mail::EnhancedCode;

impl Dialogue {
    /// Begins a transaction on an idle connection. What cannot go to this server is settled at once.
    pub fn start(&mut self, transaction: Transaction) -> Result<(), NotIdle> {
        if !matches!(self.phase, Phase::Idle) || !self.expected.is_empty() {
            return Err(NotIdle);
        }
        let refused = transaction::unsendable(&transaction, &self.capabilities);
        let mut active = Active::new(transaction);
        active.transaction.chunked &= self.capabilities.has(Extension::Chunking);
        active.settle_unspeakable(&self.capabilities);
        if let Some(why) = refused {
            active.settle_rest(&Outcome::Fail(why));
        }
        if active.all_settled() {
            self.done.push_back(active.into_outcomes());
            return Ok(());
        }
        if self.reset_first {
            self.output.extend_from_slice(b"RSET\r\n");
            self.expected.push_back(Expect::Reset);
        }
        self.reset_first = true;
        self.refused_mail = false;
        self.phase = Phase::Busy(Box::new(active));
        if !self.reset_pending() || self.pipelines() {
            self.send_commands();
        }
        Ok(())
    }

    /// True if the last transaction was refused at MAIL: what the server said is about all that comes from us, and not
    /// about one recipient.
    pub fn refused_mail(&self) -> bool {
        self.refused_mail
    }

    /// More of the message, when the step was `WantBody`; ignored at any other time.
    pub fn body(&mut self, piece: &[u8]) {
        let Phase::Busy(active) = &mut self.phase else { return };
        match &mut active.stage {
            Stage::Body(stuffer) => stuffer.push(piece, &mut self.output),
            Stage::Chunk(left) => match left.checked_sub(piece.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    self.output.extend_from_slice(piece);
                }
                None => self.body_failed("message is longer than it was"),
            },
            Stage::Commands | Stage::Sent => {}
        }
    }

    /// The message is complete; ignored unless the step was `WantBody`.
    pub fn body_end(&mut self) {
        let Phase::Busy(active) = &mut self.phase else { return };
        match std::mem::replace(&mut active.stage, Stage::Sent) {
            Stage::Body(stuffer) => stuffer.finish(&mut self.output),
            Stage::Chunk(0) => {}
            // The server waits for what does not come, and must not take the next command for it.
            Stage::Chunk(_) => return self.body_failed("message is shorter than it was"),
            before @ (Stage::Commands | Stage::Sent) => {
                active.stage = before;
                return;
            }
        }
        match self.settings.protocol {
            Protocol::Smtp => self.expected.push_back(Expect::Dot),
            Protocol::Lmtp => self.expected.extend(active.accepted().map(Expect::DotFor)),
        }
    }

    /// The message cannot be read: the connection is dropped before the dot, so that no half of it is delivered.
    pub fn body_failed(&mut self, why: &str) {
        self.output = Vec::new();
        self.settle_all(&Outcome::Defer(transaction::local(451, EnhancedCode(4, 3, 0), why)));
        self.close(None);
    }

    pub(super) fn on_transaction_reply(&mut self, expect: Expect, reply: &ParsedReply) {
        let Phase::Busy(active) = &mut self.phase else { return };
        match expect {
            Expect::Mail if reply.code / 100 != 2 => {
                self.refused_mail = true;
                active.settle_rest(&verdict(reply));
            }
            Expect::Rcpt(at) => active.rcpt_answered(at, reply),
            Expect::Data => return self.on_data(reply),
            Expect::Dot => {
                // Whether a transaction is over whose chunk was refused, not all servers agree (RFC 3030 2, RFC 1830 2).
                self.reset_first = active.is_chunk() && reply.code / 100 != 2;
                active.settle_rest(&verdict(reply));
            }
            Expect::DotFor(at) => {
                self.reset_first = false;
                active.settle(at, verdict(reply));
            }
            Expect::EmptyDot => self.reset_first = false,
            // RSET and an accepted MAIL change nothing for the recipients.
            _ => {}
        }
        self.proceed();
    }

    /// Commands were sent ahead, so the server may want a message although it refused every recipient.
    fn on_data(&mut self, reply: &ParsedReply) {
        let Phase::Busy(active) = &mut self.phase else { return };
        let nobody = active.accepted().next().is_none();
        match reply.code / 100 {
            3 if !nobody => active.stage = Stage::Body(DotStuffer::default()),
            3 if self.settings.protocol == Protocol::Smtp => {
                self.output.extend_from_slice(b".\r\n");
                self.expected.push_back(Expect::EmptyDot);
            }
            // An LMTP server would answer an empty list of recipients with no reply at all.
            3 => self.break_off(HostFault::Protocol, Awaiting::Data, "server wants a message for nobody"),
            // Nothing was sent yet that a server could accept.
            2 => self.break_off(
                HostFault::Protocol,
                Awaiting::Data,
                "server accepted a message before it was sent",
            ),
            _ => active.settle_rest(&verdict(reply)),
        }
        self.proceed();
    }

    /// Sends what may be sent now, or ends the transaction.
    fn proceed(&mut self) {
        let Phase::Busy(active) = &self.phase else { return };
        if !self.expected.is_empty() || active.is_sending() {
            return;
        }
        if !active.all_settled() && active.next != Next::Nothing {
            return self.send_commands();
        }
        if let Phase::Busy(active) = std::mem::replace(&mut self.phase, Phase::Idle) {
            self.done.push_back(active.into_outcomes());
        }
    }

    /// One command, or with pipelining all of them.
    fn send_commands(&mut self) {
        let pipelines = self.pipelines();
        let Phase::Busy(active) = &mut self.phase else { return };
        loop {
            self.expected.extend(match active.next {
                Next::Mail => Some(Expect::Mail),
                Next::Rcpt(at) => Some(Expect::Rcpt(at)),
                // A chunk follows without a word of the server, so it must be known that somebody gets it.
                Next::Data if active.is_chunk() && !self.expected.is_empty() => return,
                Next::Data if active.is_chunk() => None,
                Next::Data => Some(Expect::Data),
                Next::Nothing => return,
            });
            active.write_next(&self.capabilities, &mut self.output);
            if !pipelines {
                return;
            }
        }
    }

    fn pipelines(&self) -> bool {
        self.settings.pipelining && self.capabilities.has(Extension::Pipelining)
    }

    fn reset_pending(&self) -> bool {
        self.expected.front() == Some(&Expect::Reset)
    }
}

/// What a reply to MAIL, DATA or the message means for those that it is about. A reply of a wrong kind is unclear.
pub(super) fn verdict(reply: &ParsedReply) -> Outcome {
    let reply = reply.to_reply();
    match reply.code() / 100 {
        2 => Outcome::Delivered(reply),
        5 => Outcome::Fail(Why::Remote(reply)),
        _ => Outcome::Defer(Why::Remote(reply)),
    }
}
