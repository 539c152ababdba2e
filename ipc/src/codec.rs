//! bincode, behind one door: little-endian, fixed-width integers, a byte limit, every byte consumed.
//!
//! bincode 2.0.1 is complete but no longer maintained (RUSTSEC-2025-0141); `deny.toml` says why it stays. To replace it,
//! change this file.

use std::fmt;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{Decode, Encode};

/// Most octets that one message may have once decoded. The limit also counts the elements of containers, so it is
/// larger than what travels: 10,000 recipients fit.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<MAX_MESSAGE>> =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<MAX_MESSAGE>();

/// Bytes from a peer that are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodecError {
    /// The bytes do not decode, or pass the limit.
    Malformed,
    /// Bytes are left over.
    Trailing,
    /// Our own message is too large to send.
    TooLarge,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CodecError::Malformed => "bytes do not decode as a message of this edge",
            CodecError::Trailing => "bytes are left over behind a message",
            CodecError::TooLarge => "message is too large to send",
        })
    }
}

impl std::error::Error for CodecError {}

/// Appends the encoded message to `out`.
pub fn encode_into<T: Encode>(message: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    bincode::encode_into_std_write(message, out, CONFIG).map(|_| ()).map_err(|_| CodecError::TooLarge)
}

/// Encodes one value.
pub fn encode<T: Encode>(message: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    encode_into(message, &mut out)?;
    Ok(out)
}

/// Decodes one value from exactly these bytes.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    match bincode::decode_from_slice(bytes, CONFIG) {
        Ok((message, used)) if used == bytes.len() => Ok(message),
        Ok(_) => Err(CodecError::Trailing),
        Err(_) => Err(CodecError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        let bytes = encode(&(7u32, "text".to_owned())).unwrap();
        assert_eq!(decode::<(u32, String)>(&bytes), Ok((7, "text".to_owned())));
        assert_eq!(decode::<(u32, String)>(&bytes[..bytes.len() - 1]), Err(CodecError::Malformed));
        assert_eq!(decode::<(u32, String)>(&[&bytes[..], b"x"].concat()), Err(CodecError::Trailing));
    }

    #[test]
    fn a_length_that_lies_is_refused_before_memory_is_taken() {
        let lie = u64::MAX.to_le_bytes();
        assert_eq!(decode::<Vec<u64>>(&lie), Err(CodecError::Malformed));
        assert_eq!(decode::<String>(&(1u64 << 40).to_le_bytes()), Err(CodecError::Malformed));
    }
}
