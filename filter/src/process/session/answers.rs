//! What came of a question: the verdict for the receiver, or the submission to the queue-manager first.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vsmtp_daemon::{Reactor, Record};
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::filter_queue::{NewMessage, Receipt, Refusal, Submit};
use vsmtp_ipc::edge::receiver_filter::{self as edge, Kept, Verdict};
use vsmtp_ipc::wire::{Body, Id, check_pieces};
use vsmtp_mail::{EnhancedCode, Reply};

use super::Session;
use super::queue::{Asked, What};
use super::seats::{Incoming, Key};
use super::work::{Done, Outcome};
use crate::judge::{Decision, Judged, local_error, not_expected};
use crate::process::content::Staged;
use crate::process::level_of_end;

impl Session {
    /// Takes a result of a job.
    pub(super) fn finish(&mut self, done: Done, now_ms: u64) {
        let key = done.key;
        let session = key.session;
        match done.outcome {
            Outcome::Decided(decision) => {
                self.answer(key, &Verdict::Decided { session, decision: on_the_wire(&decision) });
            }
            Outcome::Authenticated(decision) => self.authenticated(key, &decision),
            Outcome::Recipients(decisions) => {
                let decisions = decisions.iter().map(on_the_wire).collect();
                self.answer(key, &Verdict::Recipients { session, decisions });
            }
            Outcome::Copied(of, chunk) => self.chunk_read(key, of, chunk, now_ms),
            Outcome::Judged(Judged::Answer(decision)) => self.end_message(key, &decision, false),
            Outcome::Judged(stored) => self.store(key, stored, now_ms),
        }
    }

    fn store(&mut self, key: Key, judged: Judged, now_ms: u64) {
        let Judged::Store { messages, reply } = judged else { return };
        let Some(incoming) = self.incoming(key) else { return };
        if messages.iter().any(|message| check_pieces(&message.pieces, incoming.body.len()).is_err()) {
            let reply =
                Reply::fixed(552, EnhancedCode(5, 3, 4), "Message header is too large after local edits");
            return self.end_message(key, &Decision::Refuse(reply), false);
        }
        incoming.messages = messages.into();
        self.store_next(key, reply, now_ms);
    }

    /// The message that a session has here.
    pub(super) fn incoming(&mut self, key: Key) -> Option<&mut Incoming> {
        let seat = self.receivers.get_mut(&key.token)?.seats.get_mut(&key.session)?;
        seat.incoming.as_mut()
    }

    /// Stores the last of the messages, which keeps id and body.
    pub(super) fn store_last(&mut self, key: Key, reply: Option<Reply>, now_ms: u64) {
        let Some(incoming) = self.incoming(key) else { return };
        let Some(stored) = incoming.messages.pop_front() else { return };
        let descriptor = match incoming.take_descriptor() {
            Ok(descriptor) => descriptor,
            Err(error) => {
                log::error!("event=descriptor-failed error=\"{error}\"");
                return self.end_message(key, &Decision::Refuse(local_error()), false);
            }
        };
        let body = std::mem::replace(&mut incoming.body, Body::Inline(Vec::new()));
        let message = incoming.submission(incoming.id, stored, body);
        let make = |ticket| Submit::Message(NewMessage { ticket, ..message });
        if let Err(asked) =
            self.queue.submit(now_ms, Asked { key, what: What::Store(reply) }, make, descriptor)
        {
            self.lose(vec![asked]);
        }
    }

    pub(super) fn hear_queue(&mut self, reactor: &mut Reactor) {
        loop {
            let heard = match self.queue.hear() {
                Ok(None) => return,
                Ok(Some((asked, receipt, descriptor))) => {
                    self.receipt(asked, receipt, descriptor, reactor.now_ms())
                }
                Err(error) => Err(error),
            };
            if let Err(error) = heard {
                self.close_queue(reactor, &error);
                return;
            }
        }
    }

    fn receipt(
        &mut self,
        asked: Asked,
        receipt: Receipt,
        descriptor: Option<OwnedFd>,
        now_ms: u64,
    ) -> Result<(), ChannelError> {
        let key = asked.key;
        match (asked.what, receipt) {
            (What::Store(reply), Receipt::Stored { .. }) => {
                self.remember_who_waited(key);
                self.end_message(key, &Decision::Accept(reply), true);
            }
            (What::Part(original), Receipt::Stored { .. }) => self.part_stored(key, original, now_ms),
            (What::Copy(of), Receipt::ChunkStored { .. }) => self.copied(key, of, now_ms),
            (What::Chunk(id), Receipt::ChunkStored { .. }) => self.chunk_stored(key, id, Kept::Stored),
            (What::Open(id), Receipt::Staged { .. }) => {
                let seat = self.receivers.get_mut(&key.token).and_then(|r| r.seats.get_mut(&key.session));
                let incoming = seat.and_then(|seat| seat.incoming.as_mut());
                match (incoming, descriptor) {
                    (Some(incoming), Some(file)) => {
                        incoming.staged = Some(Arc::new(Staged { file, len: incoming.body.len() }));
                        self.message(key, now_ms)?;
                    }
                    // Who sent it is gone.
                    _ => self.queue.discard(id),
                }
            }
            (what, Receipt::Refused { why, .. }) => self.refused(Asked { key, what }, why),
            (what, _) => {
                self.refused(Asked { key, what }, Refusal::Disk);
                return Err(ChannelError::Misbehaved("answered another question than was asked".to_owned()));
            }
        }
        Ok(())
    }

    /// The message is accepted: only now does it count that its senders have waited.
    fn remember_who_waited(&self, key: Key) {
        let seat = self.receivers.get(&key.token).and_then(|receiver| receiver.seats.get(&key.session));
        let waited = seat.map(|seat| seat.shared.lock().take_waited()).unwrap_or_default();
        self.helpers.limits().accepted(&waited);
    }

    fn chunk_stored(&mut self, key: Key, id: Id, kept: Kept) {
        let session = key.session;
        if self.receivers.get(&key.token).is_none_or(|receiver| !receiver.seats.contains_key(&session)) {
            // Who sent it is gone, and nobody else knows of the file.
            self.queue.discard(id);
        }
        self.answer(key, &Verdict::ChunkStored { session, kept });
    }

    /// Requests that will not be answered: the edge died, or nobody came in time.
    pub(super) fn lose(&mut self, lost: Vec<Asked>) {
        for asked in lost {
            self.refused(asked, Refusal::Busy);
        }
    }

    fn refused(&mut self, asked: Asked, why: Refusal) {
        let (key, reply) = (asked.key, refusal(why));
        match asked.what {
            What::Chunk(id) => {
                let kept = if why == Refusal::Full { Kept::NoRoom } else { Kept::Unavailable };
                self.chunk_stored(key, id, kept);
            }
            What::Store(_) | What::Open(_) => self.end_message(key, &Decision::Refuse(reply), false),
            What::Part(original) => self.part_refused(key, original, reply),
            What::Copy(of) => {
                self.queue.discard(of.copy);
                self.part_refused(key, Some(of.original), reply);
            }
        }
    }

    pub(super) fn close_queue(&mut self, reactor: &mut Reactor, error: &ChannelError) {
        let (name, lost) = self.queue.disconnect();
        let is_idle = lost.is_empty();
        self.lose(lost);
        let Some(name) = name else { return };
        let level = level_of_end(error, is_idle);
        Record::at(level, "edge-closed").field("peer", name).field("error", error).emit();
        reactor.accuse(name, error);
    }

    /// The message is done with, and the client is told.
    pub(super) fn end_message(&mut self, key: Key, decision: &Decision, stored: bool) {
        let seat =
            self.receivers.get_mut(&key.token).and_then(|receiver| receiver.seats.get_mut(&key.session));
        let unused = seat.and_then(|seat| seat.end_message(stored));
        unused.into_iter().for_each(|id| self.queue.discard(id));
        let decision = on_the_wire(decision);
        self.answer(key, &Verdict::Decided { session: key.session, decision });
    }

    /// Answers a question, if who asked is still there. An edge that cannot take the answer fails when it is flushed.
    pub(super) fn answer(&mut self, key: Key, verdict: &Verdict) {
        let Some(receiver) = self.receivers.get_mut(&key.token) else { return };
        if let Some(id) = receiver.settle(key.session) {
            self.queue.discard(id);
        }
        self.tell(key, verdict);
    }

    /// Says the answer to a question that is closed already.
    pub(super) fn tell(&mut self, key: Key, verdict: &Verdict) {
        let Some(receiver) = self.receivers.get_mut(&key.token) else { return };
        if let Err(error) = receiver.say(verdict) {
            log::error!("event=answer-failed session={} error=\"{error}\"", key.session);
            self.drop_receiver(key.token);
        }
    }
}

pub(super) fn on_the_wire(decision: &Decision) -> edge::Decision {
    match decision {
        Decision::Accept(reply) => edge::Decision::Accept(reply.as_ref().map(Into::into)),
        Decision::Refuse(reply) => edge::Decision::Refuse(reply.into()),
        Decision::Close(reply) => edge::Decision::Close(reply.into()),
    }
}

fn refusal(why: Refusal) -> Reply {
    match why {
        Refusal::Full => Reply::fixed(452, EnhancedCode(4, 3, 1), "Insufficient system storage"),
        Refusal::Disk | Refusal::Repeated => local_error(),
        Refusal::NotDelegated => not_expected(),
        Refusal::Busy => Reply::fixed(451, EnhancedCode(4, 3, 2), "System is busy, try again later"),
    }
}
