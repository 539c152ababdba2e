//! Bodies of more than a mebibyte: they come chunk by chunk into a staging file, are judged there, and become part of the
//! queue with their message or vanish with their edge.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::filter_queue::Refusal;
use vsmtp_ipc::wire::{CHUNK, WireError};
use vsmtp_mail::QueueId;
use vsmtp_sys::memfd::Sealed;

use crate::content::for_each_block;
use crate::ledger::Ledger;
use crate::store::{BodyPart, Piece, Staging};
use crate::trace;

/// Most staging files of one filter; each holds a descriptor.
const MAX_STAGES: usize = 1024;

/// The staging files of one filter.
#[derive(Debug, Default)]
pub struct Stages {
    open: HashMap<QueueId, Staging>,
}

impl Stages {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Appends a chunk. The outer error closes the edge, the inner one refuses the message.
    pub fn append(
        &mut self,
        id: QueueId,
        (offset, len): (u64, u64),
        fd: OwnedFd,
        ledger: &Ledger,
    ) -> Result<Result<(), Refusal>, ChannelError> {
        if len == 0 || len > CHUNK as u64 {
            return Err(WireError("length of a chunk").into());
        }
        let sealed = Sealed::verify(fd, len).map_err(|error| ChannelError::Misbehaved(error.to_string()))?;
        let end = offset.checked_add(len).ok_or(WireError("offset of a chunk"))?;
        if end > ledger.settings.largest() {
            self.discard(id);
            return Ok(Err(Refusal::Full));
        }
        let appended = self.staging(id, offset, ledger)?.and_then(|staging| {
            let bytes = sealed.read_all(CHUNK as u64).map_err(|error| refusal(&error))?;
            staging.append(&bytes).map_err(|error| refusal(&error))
        });
        if appended.is_err() {
            self.discard(id);
        }
        Ok(appended)
    }

    fn staging(
        &mut self,
        id: QueueId,
        offset: u64,
        ledger: &Ledger,
    ) -> Result<Result<&mut Staging, Refusal>, ChannelError> {
        if offset == 0 && !self.open.contains_key(&id) {
            if self.open.len() >= MAX_STAGES {
                return Ok(Err(Refusal::Busy));
            }
            if ledger.store.contains(id) {
                return Ok(Err(Refusal::Repeated));
            }
            match ledger.store.stage(id) {
                Ok(staging) => drop(self.open.insert(id, staging)),
                Err(error) => return Ok(Err(refusal(&error))),
            }
        }
        match self.open.get_mut(&id) {
            Some(staging) if staging.len() == offset => Ok(Ok(staging)),
            Some(_) => Err(WireError("offset of a chunk").into()),
            // An earlier chunk was refused; its sender may not know yet.
            None => Ok(Err(Refusal::Disk)),
        }
    }

    /// A descriptor for reading only.
    pub fn open(&self, id: QueueId) -> Result<Result<OwnedFd, Refusal>, ChannelError> {
        let Some(staging) = self.open.get(&id) else { return Ok(Err(Refusal::Disk)) };
        let file =
            staging.reader().and_then(|reader| reader.file().map(std::fs::File::try_clone).transpose());
        Ok(match file {
            Ok(Some(file)) => Ok(file.into()),
            Ok(None) => Err(Refusal::Disk),
            Err(error) => Err(refusal(&error)),
        })
    }

    /// Takes a finished body out.
    pub fn take(&mut self, id: QueueId) -> Option<Staging> {
        self.open.remove(&id)
    }

    /// Forgets a body; its file goes.
    pub fn discard(&mut self, id: QueueId) {
        self.open.remove(&id);
    }
}

/// The body as it goes out. Other processes get a large body as one file, so its pieces are laid out once, here.
pub fn compose(staging: Staging, id: QueueId, pieces: &[Piece], ledger: &Ledger) -> io::Result<Staging> {
    if pieces.is_empty() {
        return Ok(staging);
    }
    let reader = staging.reader()?;
    // The name becomes free; the octets stay until the reader is gone.
    drop(staging);
    let mut composed = ledger.store.stage(id)?;
    for piece in pieces {
        match piece {
            Piece::Inline(bytes) => composed.append(bytes)?,
            Piece::Stored { offset, len } => {
                let part = BodyPart::File { file: reader.clone(), offset: *offset, len: *len };
                for_each_block(&[part], |block| composed.append(block))?;
            }
        }
    }
    Ok(composed)
}

/// What a filter is told of a failing disk.
pub fn refusal(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Refusal::Full,
        _ => {
            trace::trouble("staging-failed", error);
            Refusal::Disk
        }
    }
}
