//! The octets of a batch on their way to one write: small ones side by side in one buffer, large bodies where they are.

use std::io::{self, IoSlice};

use super::super::body::Chunk;
use super::super::disk::DiskFile;
use super::super::layout::ALIGN;

/// Bodies up to this size are copied next to their header; larger ones are written from where they are.
const COALESCE: usize = 8 * 1024;
const PADDING: [u8; ALIGN as usize] = [0; ALIGN as usize];

/// Octets of a batch in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct Gather {
    arena: Vec<u8>,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    /// Up to this offset of the arena.
    Arena(usize),
    Chunk(Chunk),
}

impl Gather {
    /// Adds a record that takes `span` octets.
    pub(super) fn record(&mut self, header: &[u8], meta: &[u8], body: &[Chunk], span: u64) {
        let body_len: usize = body.iter().map(Chunk::len).sum();
        self.arena.extend_from_slice(header);
        self.arena.extend_from_slice(meta);
        if body_len <= COALESCE {
            body.iter().for_each(|chunk| self.arena.extend_from_slice(chunk.as_bytes()));
        } else {
            self.parts.push(Part::Arena(self.arena.len()));
            self.parts.extend(body.iter().cloned().map(Part::Chunk));
        }
        let padding = usize::try_from(span).unwrap_or(0).saturating_sub(header.len() + meta.len() + body_len);
        self.arena.extend_from_slice(PADDING.get(..padding).unwrap_or_default());
    }

    pub(super) fn write(&mut self, file: &dyn DiskFile, at: u64) -> io::Result<()> {
        let mut slices = Vec::with_capacity(self.parts.len() + 1);
        let mut from = 0;
        for part in &self.parts {
            match part {
                Part::Arena(to) => {
                    slices.push(IoSlice::new(self.arena.get(from..*to).unwrap_or_default()));
                    from = *to;
                }
                Part::Chunk(chunk) => slices.push(IoSlice::new(chunk.as_bytes())),
            }
        }
        slices.push(IoSlice::new(self.arena.get(from..).unwrap_or_default()));
        let result = file.write_all_at(&slices, at);
        self.arena.clear();
        self.arena.shrink_to(MAX_IDLE_ARENA);
        self.parts.clear();
        result
    }
}

/// What the gathering buffer keeps between batches.
const MAX_IDLE_ARENA: usize = 1024 * 1024;
