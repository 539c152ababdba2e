//! One message while it comes in: first in memory, then in a memory file, and if it is larger than that, on its way to
//! the filter chunk by chunk. Holds no more than one memory file's worth, however large the message is.
//!
//! On failure (no memory, no descriptors, no room at the queue) the rest of the message is thrown away, and `finish` says
//! why it cannot be accepted.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;

use vsmtp_ipc::wire::{self, CHUNK, MAX_INLINE_BODY, MAX_MEMFD_BODY};
use vsmtp_sys::memfd::{Growing, Sealed};

use crate::limits::Share;

/// Why a message that came in whole cannot be accepted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No room for it: the disk of the queue is full.
    NoRoom,
    /// Too much is going on for it to be taken, or memory for it cannot be had.
    Busy,
    /// The filter that had the beginning of it is gone.
    FilterGone,
}

/// A piece of a large message, to be sent now.
#[derive(Debug)]
pub struct Chunk {
    /// Its octets.
    pub bytes: Sealed,
    /// Octets of the message before it.
    pub offset: u64,
}

/// One message.
#[derive(Debug)]
pub struct Store {
    stage: Stage,
    share: Share,
    length: u64,
    has_sent_chunks: bool,
}

#[derive(Debug)]
enum Stage {
    Inline(Vec<u8>),
    Memfd(Growing),
    Chunks(Chunks),
    Failed(Failure),
}

#[derive(Debug, Default)]
struct Chunks {
    /// A memory file that was begun for the whole message, and how much of it has been cut into chunks.
    backlog: Option<(Growing, u64)>,
    /// What came later. All but the last are as large as a chunk may be.
    parts: VecDeque<Growing>,
    /// Octets that were handed out.
    sent: u64,
    /// Octets of the chunk that was handed out and not confirmed yet.
    in_flight: u64,
}

impl Store {
    /// Begins a message with our own trace field. `large`: the client said that it will not fit one memory file.
    pub fn new(trace: Vec<u8>, share: Share, large: bool) -> Self {
        let mut store =
            Store { length: trace.len() as u64, share, stage: Stage::Inline(trace), has_sent_chunks: false };
        store.share.grow(store.length);
        if large {
            store.spill(&[], true);
        }
        store
    }

    /// Takes the next octets.
    pub fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || matches!(self.stage, Stage::Failed(_)) {
            return;
        }
        self.length += bytes.len() as u64;
        self.share.grow(bytes.len() as u64);
        match &mut self.stage {
            Stage::Inline(kept) if kept.len() + bytes.len() <= MAX_INLINE_BODY => {
                kept.extend_from_slice(bytes)
            }
            Stage::Inline(_) => self.spill(bytes, false),
            Stage::Memfd(file) if self.length <= MAX_MEMFD_BODY => {
                let result = file.append(bytes);
                self.check(result);
            }
            Stage::Memfd(_) => {
                self.divide();
                self.append_part(bytes);
            }
            Stage::Chunks(_) => self.append_part(bytes),
            Stage::Failed(_) => {}
        }
        if self.share.is_exceeded() {
            self.divide();
        }
    }

    /// True if a chunk is to be sent before more is read, or, at the end, before the message is.
    pub fn has_chunk(&self, at_end: bool) -> bool {
        match &self.stage {
            Stage::Chunks(chunks) => {
                let now = at_end || self.share.is_exceeded();
                chunks.backlog.is_some()
                    || chunks.parts.len() > 1
                    || chunks.parts.front().is_some_and(|part| now || part.len() >= CHUNK as u64)
            }
            _ => false,
        }
    }

    /// Takes the next chunk out, whole or not. `None` if there is none, or if it failed.
    pub fn take_chunk(&mut self) -> Option<Chunk> {
        let Stage::Chunks(chunks) = &mut self.stage else { return None };
        let offset = chunks.sent;
        match chunks.take() {
            Ok(bytes) => {
                let bytes = bytes?;
                chunks.sent += bytes.len();
                chunks.in_flight = bytes.len();
                self.has_sent_chunks = true;
                Some(Chunk { bytes, offset })
            }
            Err(_) => {
                self.fail(Failure::Busy);
                None
            }
        }
    }

    /// The chunk that was taken is where it should be.
    pub fn chunk_is_stored(&mut self) {
        if let Stage::Chunks(chunks) = &mut self.stage {
            self.share.shrink(std::mem::take(&mut chunks.in_flight));
        }
    }

    /// Memory is short: go by chunks from now on, unless the message is so small that it costs little.
    pub fn relieve(&mut self) {
        self.divide();
    }

    /// Throws the message away; what follows of it too.
    pub fn fail(&mut self, why: Failure) {
        if !matches!(self.stage, Stage::Failed(_)) {
            self.stage = Stage::Failed(why);
            self.share.shrink(u64::MAX);
        }
    }

    /// Why the message cannot be accepted, if so.
    pub fn failure(&self) -> Option<Failure> {
        match self.stage {
            Stage::Failed(why) => Some(why),
            _ => None,
        }
    }

    /// True if some of the message may be with the filter already.
    pub fn has_sent_chunks(&self) -> bool {
        self.has_sent_chunks
    }

    /// Octets, the trace field among them.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// The whole message as it goes to the filter; its chunks must be gone.
    pub fn finish(&mut self) -> Result<(wire::Body, Option<OwnedFd>), Failure> {
        // The octets stay counted until this value is dropped, when the answer has come.
        match std::mem::replace(&mut self.stage, Stage::Inline(Vec::new())) {
            Stage::Inline(bytes) => Ok((wire::Body::Inline(bytes), None)),
            Stage::Memfd(file) => match file.seal() {
                Ok(sealed) => Ok((wire::Body::Memfd(sealed.len()), Some(sealed.into_fd()))),
                Err(_) => Err(Failure::Busy),
            },
            Stage::Chunks(chunks) => Ok((wire::Body::File(chunks.sent), None)),
            Stage::Failed(why) => Err(why),
        }
    }

    /// From memory to a memory file, or to chunks at once.
    fn spill(&mut self, more: &[u8], large: bool) {
        let Stage::Inline(kept) = &self.stage else { return };
        let begun = if large || self.length > MAX_MEMFD_BODY {
            let mut chunks = Chunks::default();
            chunks.append(kept).and_then(|()| chunks.append(more)).map(|()| Stage::Chunks(chunks))
        } else {
            Growing::create(c"vsmtp-body", MAX_MEMFD_BODY).and_then(|mut file| {
                file.append_parts(&[IoSlice::new(kept), IoSlice::new(more)])?;
                Ok(Stage::Memfd(file))
            })
        };
        match begun {
            Ok(stage) => self.stage = stage,
            Err(_) => self.fail(Failure::Busy),
        }
    }

    /// From one memory file to chunks.
    fn divide(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Failed(Failure::Busy)) {
            Stage::Memfd(file) if file.len() <= CHUNK as u64 => {
                self.stage = Stage::Chunks(Chunks { parts: VecDeque::from([file]), ..Chunks::default() });
            }
            Stage::Memfd(file) => {
                self.stage = Stage::Chunks(Chunks { backlog: Some((file, 0)), ..Chunks::default() });
            }
            other => self.stage = other,
        }
    }

    fn append_part(&mut self, bytes: &[u8]) {
        let Stage::Chunks(chunks) = &mut self.stage else { return };
        let result = chunks.append(bytes);
        self.check(result);
    }

    fn check(&mut self, result: io::Result<()>) {
        if result.is_err() {
            self.fail(Failure::Busy);
        }
    }
}

impl Chunks {
    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let full = self.parts.back().is_none_or(|last| last.len() >= CHUNK as u64);
            if full {
                self.parts.push_back(Growing::create(c"vsmtp-chunk", MAX_MEMFD_BODY)?);
            }
            let Some(last) = self.parts.back_mut() else { return Ok(()) };
            let room = CHUNK - usize::try_from(last.len()).unwrap_or(CHUNK).min(CHUNK);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            last.append(now)?;
            bytes = later;
        }
        Ok(())
    }

    fn take(&mut self) -> io::Result<Option<Sealed>> {
        if let Some((file, cut)) = &mut self.backlog {
            let length = (file.len() - *cut).min(CHUNK as u64);
            let mut piece = vec![0; usize::try_from(length).unwrap_or(CHUNK)];
            let read = file.read_at(&mut piece, *cut)?;
            piece.truncate(read);
            *cut += read as u64;
            if *cut >= file.len() || read == 0 {
                self.backlog = None;
            }
            return Sealed::create(c"vsmtp-chunk", &[IoSlice::new(&piece)]).map(Some);
        }
        self.parts.pop_front().map(Growing::seal).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Budget;

    /// What the other end would put together, and how many chunks it took.
    fn collect(store: &mut Store, mut whole: Vec<u8>) -> (Vec<u8>, usize) {
        let mut count = 0;
        while store.has_chunk(true) {
            take(store, &mut whole);
            count += 1;
        }
        (whole, count)
    }

    fn take(store: &mut Store, whole: &mut Vec<u8>) {
        let chunk = store.take_chunk().unwrap();
        assert_eq!(chunk.offset, whole.len() as u64);
        assert!(chunk.bytes.len() <= CHUNK as u64 && !chunk.bytes.is_empty());
        whole.extend(chunk.bytes.read_all(CHUNK as u64).unwrap());
        store.chunk_is_stored();
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at / 7 + at / 300) as u8).collect()
    }

    #[test]
    fn small_messages_stay_inline_up_to_the_last_octet() {
        let budget = Budget::new(1 << 30);
        let mut store = Store::new(b"trace".to_vec(), budget.share(), false);
        let text = pattern(MAX_INLINE_BODY - 5);
        text.chunks(1000).for_each(|piece| store.append(piece));
        assert_eq!((store.len(), budget.used(), store.has_chunk(true)), (16384, 16384, false));
        let Ok((wire::Body::Inline(bytes), None)) = store.finish() else { panic!() };
        assert!(bytes.starts_with(b"trace") && bytes[5..] == text);
        drop(store);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn middling_messages_are_one_sealed_file() {
        for length in [MAX_INLINE_BODY, MAX_MEMFD_BODY as usize - 5] {
            let mut store = Store::new(b"trace".to_vec(), Budget::new(1 << 30).share(), false);
            let text = pattern(length);
            text.chunks(50_000).for_each(|piece| store.append(piece));
            assert!(!store.has_chunk(true));
            let Ok((wire::Body::Memfd(stated), Some(fd))) = store.finish() else { panic!() };
            let sealed = Sealed::verify(fd, stated).unwrap();
            assert_eq!(sealed.read_all(1 << 20).unwrap()[5..], text);
        }
    }

    #[test]
    fn large_messages_go_by_chunks_and_hold_little() {
        for large in [false, true] {
            let budget = Budget::new(1 << 30);
            let mut store = Store::new(b"trace".to_vec(), budget.share(), large);
            let (text, mut whole, mut most) = (pattern(3_000_000), Vec::new(), 0);
            for piece in text.chunks(65_536) {
                store.append(piece);
                most = most.max(budget.used());
                while store.has_chunk(false) {
                    take(&mut store, &mut whole);
                }
            }
            let (whole, _) = collect(&mut store, whole);
            assert!(whole.starts_with(b"trace") && whole[5..] == text);
            assert!(most <= if large { 400_000 } else { 1_200_000 }, "{most}");
            assert_eq!(budget.used(), 0);
            assert!(matches!(store.finish(), Ok((wire::Body::File(3_000_005), None))));
            assert!(store.has_sent_chunks());
        }
    }

    #[test]
    fn a_long_piece_makes_several_chunks() {
        let mut store = Store::new(Vec::new(), Budget::new(1 << 30).share(), false);
        let text = pattern(3 * CHUNK + 5);
        store.append(&text[..20_000]);
        store.append(&text[20_000..]);
        store.relieve();
        assert_eq!(collect(&mut store, Vec::new()), (text, 4));
    }

    #[test]
    fn when_memory_is_short_even_small_chunks_go() {
        let budget = Budget::new(50_000);
        let mut store = Store::new(Vec::new(), budget.share(), false);
        store.append(&pattern(40_000));
        assert!(!store.has_chunk(false));
        store.append(&pattern(20_000));
        assert!(store.has_chunk(false), "over the budget");
        let chunk = store.take_chunk().unwrap();
        assert_eq!((chunk.bytes.len(), budget.used(), store.has_chunk(false)), (60_000, 60_000, false));
        store.chunk_is_stored();
        assert_eq!(budget.used(), 0);
        store.append(&pattern(30_000));
        assert!(!store.has_chunk(false) && store.has_chunk(true));
    }

    #[test]
    fn a_failed_message_costs_nothing_and_says_why() {
        let budget = Budget::new(1 << 30);
        let mut store = Store::new(Vec::new(), budget.share(), true);
        store.append(&pattern(300_000));
        let _ = store.take_chunk().unwrap();
        store.fail(Failure::FilterGone);
        store.fail(Failure::NoRoom);
        store.append(&pattern(300_000));
        assert_eq!((budget.used(), store.has_chunk(true), store.has_sent_chunks()), (0, false, true));
        assert_eq!(store.failure(), Some(Failure::FilterGone));
        assert!(matches!(store.finish(), Err(Failure::FilterGone)));
    }
}
