//! Where a message's octets are, and of which pieces a message is made.

use bincode::{Decode, Encode};

use super::WireError;

/// Bodies up to this many octets travel inside a message; larger ones in a sealed memfd.
pub const MAX_INLINE_BODY: usize = 16 * 1024;
/// Bodies up to this many octets travel in one memfd; larger ones go to a staging file, chunk by chunk.
pub const MAX_MEMFD_BODY: u64 = 1024 * 1024;
/// Octets in one chunk of a larger body.
pub const CHUNK: usize = 256 * 1024;
/// Most pieces of one message.
pub const MAX_PIECES: usize = 64;
/// Most octets of all text pieces of one message together.
pub const MAX_PIECE_TEXT: usize = 4 * 1024 * 1024;

/// Where a message's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Body {
    /// Here; at most [`MAX_INLINE_BODY`] octets.
    Inline(Vec<u8>),
    /// In the message's first descriptor, a sealed memfd of this many octets.
    Memfd(u64),
    /// In the staging or large-message file of that id, of this many octets. With a descriptor where the edge says so.
    File(u64),
}

impl Body {
    /// Octets of the message.
    pub fn len(&self) -> u64 {
        match self {
            Body::Inline(bytes) => bytes.len() as u64,
            Body::Memfd(len) | Body::File(len) => *len,
        }
    }

    /// True if there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A message is an ordered list of pieces: rewritten text and untouched ranges of the original.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Piece {
    /// These octets.
    Text(Vec<u8>),
    /// A range of the body.
    Original {
        /// From this octet of the body.
        offset: u64,
        /// That many octets.
        len: u64,
    },
}

/// Checks a list of pieces against the body they refer to and answers the length of the message they make.
/// An empty list stands for the whole body.
pub fn check_pieces(pieces: &[Piece], body_len: u64) -> Result<u64, WireError> {
    if pieces.len() > MAX_PIECES {
        return Err(WireError("number of pieces"));
    }
    if pieces.is_empty() {
        return Ok(body_len);
    }
    let (mut total, mut text_total) = (0u64, 0usize);
    for piece in pieces {
        let len = match piece {
            Piece::Text(text) => {
                text_total = text_total.saturating_add(text.len());
                text.len() as u64
            }
            Piece::Original { offset, len } => {
                let end = offset.checked_add(*len).ok_or(WireError("piece"))?;
                if end > body_len {
                    return Err(WireError("piece"));
                }
                *len
            }
        };
        total = total.checked_add(len).ok_or(WireError("piece"))?;
    }
    if text_total > MAX_PIECE_TEXT { Err(WireError("size of pieces")) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_stay_inside_the_body() {
        let text = Piece::Text(b"X: 1\r\n".to_vec());
        assert_eq!(check_pieces(&[], 10), Ok(10));
        assert_eq!(check_pieces(&[text.clone(), Piece::Original { offset: 2, len: 8 }], 10), Ok(14));
        assert!(check_pieces(&[Piece::Original { offset: 3, len: 8 }], 10).is_err());
        assert!(check_pieces(&[Piece::Original { offset: u64::MAX, len: 2 }], 10).is_err());
        assert!(check_pieces(&vec![text; MAX_PIECES + 1], 10).is_err());
    }
}
