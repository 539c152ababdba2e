//! The secrets of session tickets: made here, by chance, and changed in time. They live in memory only; a restart of the
//! key holder costs every client one full handshake.

use std::io;

use vsmtp_ipc::edge::receiver_keys::Secret;
use vsmtp_sys::random;

/// How long a secret is current, in milliseconds; it is honoured for as long again.
pub const ROTATE_MS: u64 = 6 * 3_600_000;

/// The current secret and the one before it.
pub struct Rotation {
    current: Secret,
    previous: Option<Secret>,
    /// Monotonic milliseconds.
    next_ms: u64,
}

impl Rotation {
    /// Begins with a fresh secret.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub fn begin(now_ms: u64) -> io::Result<Self> {
        Ok(Rotation { current: fresh()?, previous: None, next_ms: now_ms.saturating_add(ROTATE_MS) })
    }

    /// Changes the secret if it is time. True if it did.
    ///
    /// # Errors
    /// The kernel gives no random bytes: the old secret stays.
    pub fn turn(&mut self, now_ms: u64) -> io::Result<bool> {
        if now_ms < self.next_ms {
            return Ok(false);
        }
        let fresh = fresh()?;
        self.previous = Some(std::mem::replace(&mut self.current, fresh));
        self.next_ms = now_ms.saturating_add(ROTATE_MS);
        Ok(true)
    }

    /// When it is time, in monotonic milliseconds.
    pub fn next_ms(&self) -> u64 {
        self.next_ms
    }

    /// The current one first.
    pub fn secrets(&self) -> Vec<Secret> {
        std::iter::once(&self.current).chain(&self.previous).cloned().collect()
    }
}

fn fresh() -> io::Result<Secret> {
    let mut bytes = [0; 32];
    random::fill(&mut bytes)?;
    Ok(Secret(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_before_is_kept_and_no_more() {
        let mut rotation = Rotation::begin(0).unwrap();
        let first = rotation.secrets();
        assert_eq!(first.len(), 1);
        assert!(!rotation.turn(ROTATE_MS - 1).unwrap());
        assert!(rotation.turn(ROTATE_MS).unwrap());
        let second = rotation.secrets();
        assert_eq!(second.len(), 2);
        assert_eq!(second[1], first[0]);
        assert_ne!(second[0], first[0]);
        assert!(!rotation.turn(2 * ROTATE_MS - 1).unwrap());
        assert!(rotation.turn(2 * ROTATE_MS).unwrap());
        assert_eq!(rotation.secrets()[1], second[0]);
    }
}
