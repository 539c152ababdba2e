//! Queue ids: minted by the receiver, unique across nodes, sortable by time, safe in file names and log lines.

use std::fmt;

/// 48 bits of milliseconds since 1970, 24 bits of node, 32 bits of process, 24 bits of counter.
///
/// The text form is 26 characters of Crockford's base 32, upper case; it sorts as the number does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(u128);

/// The text is not a queue id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueIdError;

impl fmt::Display for QueueIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a queue id has 26 characters from 0-9 and A-Z without I, L, O and U")
    }
}

impl std::error::Error for QueueIdError {}

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const TEXT_LEN: usize = 26;

impl QueueId {
    /// Length of the binary form in octets.
    pub const LEN: usize = 16;

    /// The binary form: little-endian.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        self.0.to_le_bytes()
    }

    /// Reads the binary form; every value is an id.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        QueueId(u128::from_le_bytes(bytes))
    }

    /// Parses the text form, in either case.
    pub fn parse(text: &str) -> Result<Self, QueueIdError> {
        if text.len() != TEXT_LEN {
            return Err(QueueIdError);
        }
        let mut value: u128 = 0;
        for byte in text.bytes() {
            let upper = byte.to_ascii_uppercase();
            let digit = ALPHABET.iter().position(|known| *known == upper).ok_or(QueueIdError)?;
            if value >> 123 != 0 {
                return Err(QueueIdError);
            }
            value = (value << 5) | digit as u128;
        }
        Ok(QueueId(value))
    }

    /// When the id was minted, in milliseconds since 1970, as the minting process saw it.
    pub fn minted_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; TEXT_LEN];
        let mut rest = self.0;
        for slot in text.iter_mut().rev() {
            *slot = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes ids that never repeat within a process: time may stand still or go back, the id goes on.
#[derive(Debug)]
pub struct QueueIdMint {
    origin: u128,
    last_ms: u64,
    counter: u32,
}

impl QueueIdMint {
    /// `node` tells machines apart (24 bits used), `process` tells processes of a node apart, over restarts too.
    pub fn new(node: u32, process: u32) -> Self {
        let origin = (u128::from(node & 0xff_ffff) << 56) | (u128::from(process) << 24);
        QueueIdMint { origin, last_ms: 0, counter: 0 }
    }

    /// The next id; `now_ms` is the wall clock in milliseconds since 1970.
    pub fn next(&mut self, now_ms: u64) -> QueueId {
        let now_ms = now_ms & 0xffff_ffff_ffff;
        if now_ms > self.last_ms {
            self.last_ms = now_ms;
            self.counter = 0;
        } else if self.counter == 0xff_ffff {
            self.last_ms += 1;
            self.counter = 0;
        } else {
            self.counter += 1;
        }
        QueueId((u128::from(self.last_ms) << 80) | self.origin | u128::from(self.counter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_never_repeat_though_the_clock_stands_or_jumps_back() {
        let mut mint = QueueIdMint::new(7, 9);
        let mut last = mint.next(1000);
        for now in [1000, 1000, 999, 1, 1001, 1001] {
            let next = mint.next(now);
            assert!(next > last);
            last = next;
        }
    }

    #[test]
    fn text_and_bytes_round_trip() {
        let id = QueueIdMint::new(0xabcdef, u32::MAX).next(1_700_000_000_123);
        assert_eq!(QueueId::parse(&id.to_string()), Ok(id));
        assert_eq!(QueueId::parse(&id.to_string().to_lowercase()), Ok(id));
        assert_eq!(QueueId::from_bytes(id.to_bytes()), id);
        assert_eq!(id.minted_ms(), 1_700_000_000_123);
    }

    #[test]
    fn bad_texts_are_refused() {
        for bad in [
            "",
            "0",
            "ZZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "0000000000000000000000000U",
            "../../../../../etc/passwd0",
        ] {
            assert_eq!(QueueId::parse(bad), Err(QueueIdError), "{bad}");
        }
    }
}
