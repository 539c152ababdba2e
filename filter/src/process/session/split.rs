//! A message that rules made several of: each is stored under an id of its own, the last one under the id that the client
//! hears. Only when all are stored is the client told so; if one is refused, it hears that, and what is stored already is a
//! duplicate at worst when it comes again.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;

use vsmtp_daemon::Record;
use vsmtp_ipc::edge::filter_queue::{NewMessage, Submit};
use vsmtp_ipc::wire::{Body, CHUNK, Id};
use vsmtp_mail::Reply;
use vsmtp_sys::memfd::Sealed;

use super::Session;
use super::queue::{Asked, CopyOf, What};
use super::seats::{Incoming, Key};
use crate::judge::{Decision, Stored, local_error};
use crate::transaction::Content;

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
            Some(Err(error)) => self.copy_failed(key, &error),
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
        let Some(incoming) = self.incoming(key) else {
            self.queue.discard(of.copy);
            return self.queue.discard(of.original);
        };
        let len = incoming.body.len();
        if of.end < len {
            return self.copy_on(key, of, now_ms);
        }
        self.store_part(key, of.copy, Body::File(len), None, now_ms);
    }

    fn copy_on(&mut self, key: Key, of: CopyOf, now_ms: u64) {
        let Some(incoming) = self.incoming(key) else { return };
        let (descriptor, len) = match incoming.chunk_of_file(of.end) {
            Ok(chunk) => chunk,
            Err(error) => {
                self.queue.discard(of.copy);
                return self.copy_failed(key, &error);
            }
        };
        let make = |ticket| Submit::Chunk { ticket, id: of.copy, offset: of.end, len };
        let what = What::Copy(CopyOf { end: of.end + len, ..of });
        if let Err(asked) = self.queue.submit(now_ms, Asked { key, what }, make, Some(descriptor)) {
            self.lose(vec![asked]);
        }
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

    fn copy_failed(&mut self, key: Key, error: &io::Error) {
        log::error!("event=copy-failed error=\"{error}\"");
        self.end_message(key, &Decision::Refuse(local_error()), false);
    }
}

impl Incoming {
    /// What the queue-manager is asked to store.
    pub(super) fn submission(&self, id: Id, stored: Stored, body: Body) -> NewMessage {
        let Stored { envelope, expanded, pieces, disposition, judged } = stored;
        NewMessage {
            ticket: 0,
            id,
            arrived_ms: self.arrived_ms,
            envelope: (&envelope).into(),
            origin: self.origin.clone(),
            disposition,
            judged,
            expanded: expanded.iter().map(Into::into).collect(),
            pieces,
            body,
        }
    }

    /// A sealed piece of a large body's file, and its length.
    fn chunk_of_file(&self, offset: u64) -> io::Result<(OwnedFd, u64)> {
        let staged = self.staged.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let bytes = staged.read(offset, CHUNK)?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let sealed = Sealed::create(c"chunk", &[IoSlice::new(&bytes)])?;
        Ok((sealed.into_fd(), bytes.len() as u64))
    }
}
