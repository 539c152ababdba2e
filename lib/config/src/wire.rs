//! The one way bytes are made of values here and values of bytes: bincode, little-endian, bounded, every byte consumed.
//!
//! On failure: encoding refuses what would not be accepted on the other side; decoding never panics.

use std::fmt;

use bincode::{Decode, Encode};

/// Most octets of an encoded tree or slice. Half of what an edge carries, so that it always fits into a message.
pub const MAX_WIRE: usize = 8 << 20;

/// Why a value did not cross.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// Over one of the limits.
    TooLarge,
    /// Not what the other side would have written, or more bytes than that.
    Malformed,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WireError::TooLarge => "configuration is over the limits of the wire form",
            WireError::Malformed => "configuration bytes are malformed",
        })
    }
}

impl std::error::Error for WireError {}

/// The bytes of a value.
pub fn encode<T: Encode>(value: &T) -> Result<Vec<u8>, WireError> {
    let bytes = bincode::encode_to_vec(value, format()).map_err(|_| WireError::Malformed)?;
    if bytes.len() > MAX_WIRE { Err(WireError::TooLarge) } else { Ok(bytes) }
}

/// The value that `bytes` hold, all of them.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, WireError> {
    if bytes.len() > MAX_WIRE {
        return Err(WireError::TooLarge);
    }
    match bincode::decode_from_slice(bytes, format()) {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Err(bincode::error::DecodeError::LimitExceeded) => Err(WireError::TooLarge),
        _ => Err(WireError::Malformed),
    }
}

fn format() -> impl bincode::config::Config {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<MAX_WIRE>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_consumed() {
        let mut bytes = encode(&7u32).unwrap();
        assert_eq!(bytes, [7, 0, 0, 0]);
        assert_eq!(decode::<u32>(&bytes), Ok(7));
        bytes.push(0);
        assert_eq!(decode::<u32>(&bytes), Err(WireError::Malformed));
    }

    #[test]
    fn a_length_that_lies_allocates_nothing() {
        assert!(decode::<Vec<u64>>(&u64::MAX.to_le_bytes()).is_err());
        assert!(decode::<String>(&(1u64 << 40).to_le_bytes()).is_err());
    }
}
