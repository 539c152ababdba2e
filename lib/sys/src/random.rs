//! Random numbers from the kernel. Never a generator of our own.

use std::io;

use crate::retry::{count, uninterrupted};

/// Fills `bytes` with random bytes fit for secrets.
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        // SAFETY: pointer and length are those of a live exclusive slice; the kernel writes at most that many bytes.
        let got = uninterrupted(|| unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) })?;
        rest = rest.split_at_mut(count(got)).1;
    }
    Ok(())
}

/// A random number fit for secrets, ids and jitter.
pub fn random_u64() -> io::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_every_length_and_does_not_repeat() {
        let mut long = vec![0u8; 1000];
        fill(&mut long).unwrap();
        assert!(long.chunks(100).all(|chunk| chunk.iter().any(|&byte| byte != 0)));
        fill(&mut []).unwrap();
        assert_ne!(random_u64().unwrap(), random_u64().unwrap());
    }
}
