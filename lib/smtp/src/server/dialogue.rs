//! From bytes to lines and to parts of a message, and from lines to what they ask for.

use super::state::{Body, Open, Part, Phase};
use super::{Dropped, MAX_OUTPUT, MAX_PENDING, Question, Session, Step};
use crate::data::Progress;
use crate::line::{self, Line, SKIP_LIMIT, Skip};
use crate::reply::Own;

/// How a TLS ClientHello begins: such a client waits for ever, for its bytes hold no line.
const TLS_HELLO: &[u8] = &[0x16, 0x03];

/// What became of one command line.
pub(super) enum Handled {
    /// It is answered.
    Done,
    /// The caller must know of it.
    Tell(Step),
    /// It needs the caller's answer; `used` more octets of input were taken with it.
    Ask { question: Question, used: usize },
    /// Something else comes first; the same line is to be read again.
    Again,
}

impl Session {
    /// Handles as much as possible and keeps the rest.
    pub(super) fn consume(&mut self, input: &[u8], body: &mut Vec<u8>) -> Step {
        if self.input.pending.is_empty() {
            let (used, step) = self.run(input, body);
            self.keep(input.get(used..).unwrap_or_default());
            // Keeping may be what ends the session, and then nobody waits for an answer any more.
            let flooded = matches!((&self.phase, &step), (Phase::Closing(_), Step::Ask(_)));
            return if flooded { self.advance(&[], body) } else { step };
        }
        let mut pending = std::mem::take(&mut self.input.pending);
        pending.extend_from_slice(input);
        let (used, step) = self.run(&pending, body);
        if used < pending.len() && !matches!(self.phase, Phase::Closing(_)) {
            pending.drain(..used);
            // What a burst needed must not stay with an idle session.
            pending.shrink_to(2 * pending.len());
            self.input.pending = pending;
        }
        step
    }

    /// Keeps input for later.
    pub(super) fn keep(&mut self, input: &[u8]) {
        if input.is_empty() || matches!(self.phase, Phase::Closing(_)) {
            return;
        }
        if self.input.pending.len() + input.len() > MAX_PENDING {
            self.close(Own::Flooded);
            return;
        }
        self.input.pending.extend_from_slice(input);
    }

    fn run(&mut self, input: &[u8], body: &mut Vec<u8>) -> (usize, Step) {
        let mut at = 0;
        loop {
            if let Some(why) = self.phase.take_dropped() {
                return (at, Step::Dropped(why));
            }
            if self.output.len() >= MAX_OUTPUT {
                return (at, Step::Flush);
            }
            let rest = input.get(at..).unwrap_or_default();
            let (used, step) = match &mut self.phase {
                Phase::Closing(_) => (rest.len(), Some(Step::Close)),
                _ if self.input.refused.is_some() => self.refused_chunk(rest),
                Phase::Body(incoming) => match incoming.part {
                    Part::UpToTheDot => self.body(rest, body),
                    Part::Chunk { left, last } => self.chunk(rest, left, last, body),
                    Part::Command if self.input.skipping.is_some() => self.skip(rest),
                    Part::Command => self.line(rest),
                },
                _ if self.input.skipping.is_some() => self.skip(rest),
                Phase::Auth => self.sasl_line(rest),
                _ => self.line(rest),
            };
            at += used;
            if let Some(step) = step {
                return (at, step);
            }
        }
    }

    fn line(&mut self, rest: &[u8]) -> (usize, Option<Step>) {
        match line::split(rest, self.line_limit(rest), self.settings.bare_newline) {
            Line::Partial if rest.starts_with(TLS_HELLO) => {
                self.close(Own::NotSmtp);
                (rest.len(), None)
            }
            Line::Partial => (0, Some(Step::NeedInput)),
            Line::Bare { used } => self.broken(Own::BareNewline, used),
            Line::TooLong { used } => self.broken(Own::LineTooLong, used),
            Line::Complete { text, used } => {
                let behind = rest.get(used..).unwrap_or_default();
                match self.command(text, behind) {
                    Handled::Done => (used, None),
                    Handled::Tell(step) => (used, Some(step)),
                    Handled::Ask { question, used: more } => (used + more, Some(Step::Ask(question))),
                    Handled::Again => (0, None),
                }
            }
        }
    }

    /// Answers a broken line at once, for its end may never come, and skips what is left of it.
    fn broken(&mut self, fault: Own, used: usize) -> (usize, Option<Step>) {
        self.input.skipping = Some(0);
        self.fail(fault);
        (used, None)
    }

    fn skip(&mut self, rest: &[u8]) -> (usize, Option<Step>) {
        let before = self.input.skipping.unwrap_or_default();
        match line::skip(rest) {
            Skip::Done(used) => {
                self.input.skipping = None;
                (used, None)
            }
            Skip::More(used) if before + used > SKIP_LIMIT => {
                self.close(Own::Flooded);
                (used, None)
            }
            Skip::More(used) => {
                self.input.skipping = Some(before + used);
                (used, Some(Step::NeedInput))
            }
        }
    }

    fn body(&mut self, rest: &[u8], out: &mut Vec<u8>) -> (usize, Option<Step>) {
        let Phase::Body(body) = &mut self.phase else { return (0, None) };
        match body.decoder.push(rest, out) {
            Progress::More => (rest.len(), Some(body.report().map_or(Step::NeedInput, Step::Dropped))),
            Progress::Overrun => {
                self.close(Own::Flooded);
                (rest.len(), None)
            }
            Progress::End(used) => (used, self.end_of_body()),
        }
    }

    /// The message is complete: it is refused here, or the caller is asked. Either way the transaction is over.
    pub(super) fn end_of_body(&mut self) -> Option<Step> {
        let Phase::Body(body) = std::mem::replace(&mut self.phase, Phase::Ready) else { return None };
        let Body { transaction, decoder, reported, .. } = *body;
        if let Some(fault) = decoder.fault() {
            if !reported {
                self.phase = Phase::Reported(Dropped::Body(fault));
            }
            for _ in 0..self.replies_to_message(transaction.accepted) {
                self.say(fault.reply());
            }
            self.count_error();
            return None;
        }
        self.open = Some(Open::Message { recipients: transaction.accepted });
        Some(Step::Ask(Question::Message(decoder.facts())))
    }
}
