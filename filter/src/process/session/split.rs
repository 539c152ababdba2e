//! A message that rules made several of: each is stored under an id of its own, the last one under the id that the client
//! hears. Only when all are stored is the client told so; if one is refused, it hears that, and what is stored already is a
//! duplicate at worst when it comes again.

use std::io;
use std::os::fd::OwnedFd;

use vsmtp_daemon::Record;
use vsmtp_ipc::edge::filter_queue::{NewMessage, Submit};
use vsmtp_ipc::wire::{Body, Id};
use vsmtp_mail::Reply;

use super::Session;
use super::queue::{Asked, CopyOf, What};
use super::seats::{Incoming, Key};
use super::work::Work;
use crate::judge::{Decision, Stored, local_error};

impl Session {
    /// Stores the next of the messages that the session's message became.
    pub(super) fn store_next(&mut self, key: Key, reply: Option<Reply>, now_ms: u64) {
        let Some(incoming) = self.incoming(key) else { return };
        if incoming.messages.len() <= 1 {
            return self.store_last(key, reply, now_ms);
        }
        incoming.reply = reply;
        let (original, arrived_ms) = (incoming.id, incoming.arrived_ms);
        let is_file = matches!(incoming.body, Body::File(_));
        let copy = self.mint.next(arrived_ms).into();
        Record::new("message-split")
            .field("id", vsmtp_mail::QueueId::from(original))
            .field("into", vsmtp_mail::QueueId::from(copy))
            .emit();
        if is_file {
            return self.copy_on(key, CopyOf { copy, original, end: 0 }, now_ms);
        }
        match self.incoming(key).map(|incoming| incoming.copy_body()) {
            Some(Ok((body, descriptor))) => self.store_part(key, copy, body, descriptor, now_ms),
            Some(Err(error)) => self.part_failed(key, &error),
            None => {}
        }
    }

    /// One message of several is stored: on with the next.
    pub(super) fn part_stored(&mut self, key: Key, original: Option<Id>, now_ms: u64) {
        match self.incoming(key).map(|incoming| incoming.reply.take()) {
            Some(reply) => self.store_next(key, reply, now_ms),
            // Who sent it is gone.
            None => original.into_iter().for_each(|id| self.queue.discard(id)),
        }
    }

    /// One message of several is refused: so are those that are left.
    pub(super) fn part_refused(&mut self, key: Key, original: Option<Id>, reply: Reply) {
        if self.incoming(key).is_none() {
            original.into_iter().for_each(|id| self.queue.discard(id));
        }
        self.end_message(key, &Decision::Refuse(reply), false);
    }

    /// A part of the copy is in its file: on with the next, or with the message.
    pub(super) fn copied(&mut self, key: Key, of: CopyOf, now_ms: u64) {
        let Some(incoming) = self.incoming(key) else { return self.give_up_copy(of) };
        let len = incoming.body.len();
        if of.end < len {
            return self.copy_on(key, of, now_ms);
        }
        self.store_part(key, of.copy, Body::File(len), None, now_ms);
    }

    fn copy_on(&mut self, key: Key, of: CopyOf, now_ms: u64) {
        let seat = self.receivers.get(&key.token).and_then(|receiver| receiver.seats.get(&key.session));
        let Some(seat) = seat else { return self.give_up_copy(of) };
        let shared = seat.shared.clone();
        match seat.incoming.as_ref().and_then(|incoming| incoming.staged.clone()) {
            Some(staged) => self.start(key, shared, Work::Copy(staged, of), now_ms),
            None => self.copy_failed(key, of, &io::ErrorKind::NotFound.into()),
        }
    }

    /// A piece of the body has been read for its copy.
    pub(super) fn chunk_read(
        &mut self,
        key: Key,
        of: CopyOf,
        chunk: io::Result<(OwnedFd, u64)>,
        now_ms: u64,
    ) {
        if self.incoming(key).is_none() {
            return self.give_up_copy(of);
        }
        let (descriptor, len) = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return self.copy_failed(key, of, &error),
        };
        let make = |ticket| Submit::Chunk { ticket, id: of.copy, offset: of.end, len };
        let what = What::Copy(CopyOf { end: of.end + len, ..of });
        if let Err(asked) = self.queue.submit(now_ms, Asked { key, what }, make, Some(descriptor)) {
            self.lose(vec![asked]);
        }
    }

    /// Who sent it is gone: neither the copy nor its original is anybody's.
    pub(super) fn give_up_copy(&mut self, of: CopyOf) {
        self.queue.discard(of.copy);
        self.queue.discard(of.original);
    }

    fn store_part(&mut self, key: Key, id: Id, body: Body, descriptor: Option<OwnedFd>, now_ms: u64) {
        let Some(incoming) = self.incoming(key) else { return };
        let Some(stored) = incoming.messages.pop_front() else { return };
        let original = matches!(incoming.body, Body::File(_)).then_some(incoming.id);
        let message = incoming.submission(id, stored, body);
        let make = |ticket| Submit::Message(NewMessage { ticket, ..message });
        let what = What::Part(original);
        if let Err(asked) = self.queue.submit(now_ms, Asked { key, what }, make, descriptor) {
            self.lose(vec![asked]);
        }
    }

    fn copy_failed(&mut self, key: Key, of: CopyOf, error: &io::Error) {
        self.queue.discard(of.copy);
        self.part_failed(key, error);
    }

    fn part_failed(&mut self, key: Key, error: &io::Error) {
        log::error!("event=copy-failed error=\"{error}\"");
        self.end_message(key, &Decision::Refuse(local_error()), false);
    }
}

impl Incoming {
    /// What the queue-manager is asked to store.
    pub(super) fn submission(&self, id: Id, stored: Stored, body: Body) -> NewMessage {
        let Stored { envelope, expanded, pieces, disposition, judged, notices, returned } = stored;
        NewMessage {
            ticket: 0,
            id,
            arrived_ms: self.arrived_ms,
            envelope: (&envelope).into(),
            origin: self.origin.clone(),
            disposition,
            judged,
            expanded: expanded.iter().map(Into::into).collect(),
            notices,
            pieces,
            returned,
            body,
        }
    }
}
