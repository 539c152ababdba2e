//! How messages share a frame: a frame is one SOCK_SEQPACKET packet of at most 64 KiB and 4 descriptors, and carries as
//! many messages as fit, so that a busy edge costs few system calls and wake-ups.
//!
//! Each message: length (u32), number of its descriptors (u8), flags (u8), two zero octets, payload. All little-endian.

/// Largest frame in octets.
pub const MAX_FRAME: usize = 64 * 1024;
/// Most descriptors in one frame.
pub const MAX_DESCRIPTORS: usize = 4;
/// Octets before each payload.
pub(crate) const PREFIX: usize = 8;
/// Payloads above this travel in a sealed memfd, so that small messages can still share frames.
pub(crate) const MAX_INLINE: usize = 48 * 1024;
/// The payload is the length of the message (u64); its bytes are in the first descriptor.
pub(crate) const SPILLED: u8 = 1;

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub len: usize,
    pub descriptors: usize,
    pub spilled: bool,
}

impl Prefix {
    pub fn to_bytes(self) -> [u8; PREFIX] {
        let mut bytes = [0; PREFIX];
        bytes[..4].copy_from_slice(&(self.len as u32).to_le_bytes());
        bytes[4] = self.descriptors as u8;
        bytes[5] = if self.spilled { SPILLED } else { 0 };
        bytes
    }

    /// Splits one message off a frame. `None` if the frame is not well formed.
    pub fn split(frame: &[u8]) -> Option<(Self, &[u8], &[u8])> {
        let (prefix, rest) = frame.split_at_checked(PREFIX)?;
        let &[l0, l1, l2, l3, descriptors, flags, 0, 0] = prefix else { return None };
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let descriptors = usize::from(descriptors);
        if flags & !SPILLED != 0 || descriptors > MAX_DESCRIPTORS {
            return None;
        }
        let (payload, rest) = rest.split_at_checked(len)?;
        Some((Prefix { len, descriptors, spilled: flags == SPILLED }, payload, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_round_trip_and_odd_ones_are_refused() {
        let prefix = Prefix { len: 3, descriptors: 2, spilled: true };
        let frame = [&prefix.to_bytes()[..], b"abcd"].concat();
        assert_eq!(Prefix::split(&frame), Some((prefix, &b"abc"[..], &b"d"[..])));
        for (at, value) in [(0, 5), (4, 5), (5, 2), (6, 1), (7, 1), (3, 1)] {
            let mut odd = frame.clone();
            odd[at] = value;
            assert_eq!(Prefix::split(&odd), None, "octet {at}");
        }
        assert_eq!(Prefix::split(&frame[..7]), None);
    }
}
