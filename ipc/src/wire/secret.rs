//! What no log may show: passwords on their way, and what stands for them afterwards.

use std::fmt;

use bincode::{Decode, Encode};
use zeroize::Zeroize;

/// A SASL message. It may hold a password: it is never shown, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Blob(
    /// The octets.
    pub Vec<u8>,
);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blob(..)")
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What the auth helper gave a session: whoever shows it is authenticated, so it is never shown in a log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Grant(
    /// Random octets.
    pub [u8; 16],
);

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grant(..)")
    }
}
