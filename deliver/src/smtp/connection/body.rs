//! The message on its way to one server: read in pieces, converted if the server needs that, given to the dialogue. A
//! message that cannot be read to its end is never ended.

use vsmtp_smtp::Awaiting;

use super::{Connection, Stage};

/// Octets of a message read and written at once.
const CHUNK: usize = 64 * 1024;

impl Connection {
    pub(super) fn wants_body(&self) -> bool {
        self.dialogue.awaiting() == Awaiting::Block
    }

    pub(super) fn body_left(&self) -> u64 {
        match &self.stage {
            Stage::Busy(work) => work.lease.content.len().saturating_sub(work.offset),
            _ => 0,
        }
    }

    /// Gives the dialogue the next piece of the message, or its end.
    pub(super) fn feed(&mut self) {
        let Stage::Busy(work) = &mut self.stage else {
            return self.dialogue.body_failed("there is no message");
        };
        if work.offset >= work.lease.content.len() {
            if let Some(converter) = work.converter.take() {
                let mut rest = Vec::new();
                match converter.finish(&mut rest) {
                    Ok(()) => self.dialogue.body(&rest),
                    Err(why) => return self.dialogue.body_failed(why.0),
                }
            }
            return self.dialogue.body_end();
        }
        if let (crate::content::Content::Memory(bytes), None) = (&work.lease.content, &work.converter) {
            work.offset = bytes.len() as u64;
            self.dialogue.body(bytes);
            return;
        }
        let left = work.lease.content.len().saturating_sub(work.offset);
        let mut chunk = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
        match work.lease.content.read_at(&mut chunk, work.offset) {
            Ok(got) => {
                work.offset += got as u64;
                let read = chunk.get(..got).unwrap_or_default();
                let Some(converter) = &mut work.converter else { return self.dialogue.body(read) };
                let mut converted = Vec::with_capacity(got);
                match converter.push(read, &mut converted) {
                    Ok(()) => self.dialogue.body(&converted),
                    Err(why) => self.dialogue.body_failed(why.0),
                }
            }
            Err(error) => self.dialogue.body_failed(&format!("message cannot be read: {error}")),
        }
    }
}
