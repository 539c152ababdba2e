//! Octets of a login. They never show in debug output, and are overwritten when they are dropped; copies that the
//! allocator or the network made before are beyond this.

use std::fmt;
use std::hint::black_box;

/// What a client sent to prove who it is.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the octets.
    pub fn new(octets: Vec<u8>) -> Self {
        Secret(octets)
    }

    /// The octets. Who asks for them keeps them out of logs.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The octets, to be wiped by their new owner.
    pub fn into_exposed(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Without a reader the compiler may leave the overwriting out.
        black_box(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_secret_is_shown() {
        let secret = Secret::new(b"\0user\0password".to_vec());
        let shown = format!("{secret:?} {secret:#?}");
        assert!(!shown.contains("user") && !shown.contains("pass") && !shown.contains("14"), "{shown}");
        assert_eq!(secret.into_exposed(), b"\0user\0password");
    }
}
