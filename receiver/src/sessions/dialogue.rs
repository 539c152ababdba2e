//! The turning wheel of one session: read, hand to the dialogue, do what it says, write. Reads only when nothing else is
//! to be done first, so whatever is slow (filter, memory, the client's own reading) slows the client and nothing else.

use std::os::fd::AsFd;

use mio::Interest;
use vsmtp_daemon::Record;
use vsmtp_smtp::{Dropped, Own, Step, Waiting};

use super::asking::{Asking, Topic};
use super::client::{Client, Fate, Why};
use crate::services::Context;
use crate::socket::Moved;

/// Buffers that one session may read before others have their turn.
const READS_PER_TURN: usize = 4;
/// Scratch memory that is kept from one use to the next, in octets.
const KEPT_SCRATCH: usize = 256 * 1024;

impl Client {
    /// The connection was accepted: greets, if that can be decided at once.
    pub fn begin(&mut self, context: &mut Context<'_>) -> Fate {
        self.ask_name(context);
        if self.service.begins_with_tls() {
            self.topic = Some(Topic::Door);
            self.proceed(context);
            return self.go_on(context);
        }
        self.restart_wait(context);
        self.go_on(context)
    }

    /// The connection can be read or written again.
    pub fn on_ready(
        &mut self,
        context: &mut Context<'_>,
        readable: bool,
        writable: bool,
        closed: bool,
    ) -> Fate {
        self.line.readable |= readable;
        self.line.ending |= closed;
        if self.is_leaving() {
            return self.hear_out(context);
        }
        if self.socket.is_in_handshake() {
            return self.shake(context);
        }
        match self.listen_early(context) {
            Fate::Stay => {}
            gone => return gone,
        }
        if writable && self.line.blocked {
            self.line.blocked = false;
            // Failing, it stays with the wider interest, which costs a few needless events.
            let _ = context.reactor.reregister(self.socket.as_fd(), self.token(), Interest::READABLE);
            // It reads its replies. Under TLS the dialogue does not know of those that are left.
            self.restart_wait(context);
            return self.go_on(context);
        }
        self.pump(context)
    }

    /// Goes on after anything has happened but input.
    pub fn go_on(&mut self, context: &mut Context<'_>) -> Fate {
        if let Some(why) = self.doomed {
            return Fate::Gone(why);
        }
        if self.is_leaving() {
            return Fate::Stay;
        }
        if self.socket.is_in_handshake() {
            return self.shake(context);
        }
        match self.run(context, &[]) {
            Fate::Stay => self.pump(context),
            gone => gone,
        }
    }

    /// Reads and handles what the client has sent, as far as it is this session's turn.
    fn pump(&mut self, context: &mut Context<'_>) -> Fate {
        let mut buffer = std::mem::take(&mut context.services.buffer);
        let fate = self.read_some(context, &mut buffer);
        context.services.buffer = buffer;
        fate
    }

    fn read_some(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Fate {
        for _ in 0..READS_PER_TURN {
            if !self.may_read() {
                return Fate::Stay;
            }
            match self.socket.read(&mut context.services.raw, buffer) {
                Moved::Some(count) => {
                    // A short read has emptied the socket, and new data makes a new event; only an end that was
                    // announced already makes none.
                    self.line.readable = count == buffer.len() || self.line.ending || self.socket.has_more();
                    let fate = self.run(context, buffer.get(..count).unwrap_or_default());
                    if fate != Fate::Stay {
                        return fate;
                    }
                }
                Moved::Blocked => {
                    // What says nothing under TLS is read a little in each turn.
                    self.line.readable = self.socket.has_more();
                    // Reading under TLS may have something to say.
                    let fate = self.write(context);
                    if fate != Fate::Stay {
                        return fate;
                    }
                    break;
                }
                Moved::Ended(end) => return Fate::Gone(end.into()),
            }
        }
        if self.may_read() {
            context.services.again.push(self.number);
        }
        Fate::Stay
    }

    /// True if input can be taken now and handled at once.
    fn may_read(&self) -> bool {
        self.line.readable
            && !self.line.blocked
            && !self.is_leaving()
            && !self.socket.is_in_handshake()
            && !self.clock.holds()
            && self.topic.is_none()
            && self.asking == Asking::Nothing
    }

    fn run(&mut self, context: &mut Context<'_>, input: &[u8]) -> Fate {
        if self.topic.is_some() {
            return Fate::Stay;
        }
        let input = if self.keeps_to_protocol(context, input) { input } else { &[] };
        let mut scratch = std::mem::take(&mut context.services.scratch);
        let fate = self.steps(context, input, &mut scratch);
        scratch.clear();
        scratch.shrink_to(KEPT_SCRATCH);
        context.services.scratch = scratch;
        fate
    }

    /// Hands input to the dialogue and does what it says, until it needs more input or something must come first.
    fn steps(&mut self, context: &mut Context<'_>, input: &[u8], scratch: &mut Vec<u8>) -> Fate {
        let mut input = input;
        // A message's bytes count as progress; bits of a command do not, or a slow client would never time out.
        let mut progress = self.dialogue.waiting() == Waiting::Body && !input.is_empty();
        loop {
            scratch.clear();
            let step = self.dialogue.advance(input, scratch);
            input = &[];
            let chunk = self.keep_body(scratch);
            progress |= step != Step::NeedInput;
            match step {
                Step::NeedInput if self.must_leave(context) => self.dialogue.close(Own::Shutdown),
                Step::NeedInput => {
                    progress |= !self.dialogue.output().is_empty();
                    if chunk && self.asking == Asking::Nothing {
                        self.proceed(context);
                    }
                    let fate = self.reply(context);
                    if progress && self.asking == Asking::Nothing && !self.line.blocked {
                        self.restart_wait(context);
                    }
                    return fate;
                }
                Step::Flush => {
                    let fate = self.reply(context);
                    if fate != Fate::Stay || self.line.blocked || self.clock.holds() {
                        return fate;
                    }
                }
                Step::Ask(question) => {
                    self.take_question(context, question);
                    if self.topic.is_some() {
                        return Fate::Stay;
                    }
                }
                Step::AwaitAnswer => return Fate::Stay,
                Step::Dropped(why) => self.dropped(context, why),
                Step::AuthCancelled => self.cancel_login(context.services),
                Step::XClient(xclient) => self.become_client(context, *xclient),
                Step::XForward(more) => self.forwarded.update(more),
                Step::StartTls => {
                    let fate = self.reply(context);
                    if fate != Fate::Stay || self.line.blocked || self.clock.holds() {
                        return fate;
                    }
                    self.begin_handshake(context);
                    // Not here: a quick client makes the whole handshake with us, and then there is more to read, while the
                    // memory for it is in use.
                    context.services.again.push(self.number);
                    return Fate::Stay;
                }
                Step::Close => return self.say_goodbye(context),
            }
        }
    }

    /// True if the process ends and this session's command is done.
    fn must_leave(&self, context: &Context<'_>) -> bool {
        context.services.draining && self.dialogue.waiting() == Waiting::Command
    }

    fn dropped(&mut self, context: &mut Context<'_>, why: Dropped) {
        if let (Dropped::Body(fault), Some(transaction)) = (why, &self.transaction) {
            self.tally.refused += 1;
            context.services.figures.refused += 1;
            Record::new("refused")
                .field("stage", "message")
                .field("session", self.number)
                .field("client", self.who)
                .maybe("client_name", self.name())
                .field("from", format_args!("<{}>", transaction.mail.reverse_path))
                .field("reply", fault.reply().wire().trim_end())
                .emit();
        }
        self.drop_transaction(context.services);
    }

    /// Sends the output, later if the client has made too many errors.
    fn reply(&mut self, context: &mut Context<'_>) -> Fate {
        let more = self.note_errors(context) > 0;
        if more && self.dialogue.deserves_delay() && context.services.settings.timeouts.error_delay > 0 {
            context.services.figures.error_delays += 1;
            self.hold_back(context);
        }
        if self.clock.holds() { Fate::Stay } else { self.write(context) }
    }

    pub(super) fn write(&mut self, context: &mut Context<'_>) -> Fate {
        while (!self.dialogue.output().is_empty() || self.socket.has_unsent()) && !self.line.blocked {
            match self.socket.write(self.dialogue.output()) {
                Moved::Some(count) => self.dialogue.sent(count),
                Moved::Ended(end) => return Fate::Gone(end.into()),
                Moved::Blocked => {
                    let both = Interest::READABLE | Interest::WRITABLE;
                    if context.reactor.reregister(self.socket.as_fd(), self.token(), both).is_err() {
                        return Fate::Gone(Why::Stalled);
                    }
                    self.line.blocked = true;
                    self.restart_wait(context);
                }
            }
        }
        Fate::Stay
    }
}
