//! What a header tells while it passes by, without keeping it: where it ends, and how many Received fields it has.

const RECEIVED: &[u8] = b"received:";

/// Follows the lines of a message up to the first empty one.
#[derive(Debug)]
pub(super) struct HeaderWatch {
    stage: Stage,
    /// The current line agrees with "received:" so far.
    matching: bool,
    hops: u32,
    bytes: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Header,
    Body,
}

impl HeaderWatch {
    pub(super) fn new() -> Self {
        HeaderWatch { stage: Stage::Header, matching: true, hops: 0, bytes: 0 }
    }

    pub(super) fn in_header(&self) -> bool {
        self.stage == Stage::Header
    }

    pub(super) fn hops(&self) -> u32 {
        self.hops
    }

    pub(super) fn header_size(&self) -> u64 {
        self.bytes
    }

    /// A piece of a line that begins at `column`.
    pub(super) fn text(&mut self, column: u64, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        let known = usize::try_from(column).unwrap_or(usize::MAX);
        let Some(wanted) = RECEIVED.get(known..).filter(|_| self.matching) else { return };
        self.matching = wanted.iter().zip(piece).all(|(a, b)| a.eq_ignore_ascii_case(b));
        if self.matching && piece.len() >= wanted.len() {
            self.hops += 1;
            self.matching = false;
        }
    }

    /// The end of a line of `length` octets.
    pub(super) fn line_end(&mut self, length: u64) {
        self.bytes += 2;
        self.matching = true;
        if length == 0 {
            self.stage = Stage::Body;
        }
    }
}
