//! EXTERNAL (RFC 4422 appendix A): the client has proved in its TLS handshake to hold the key of a certificate, which is
//! somebody's. It may repeat that name, and may not be anybody else.

use super::Step;
use crate::secret::user;

/// Reads the one message: empty, or the name.
pub(super) fn read(message: &[u8], certificate: Option<&str>) -> Step {
    let Some(name) = certificate.and_then(|name| user(name.as_bytes())) else { return Step::Wrong(None) };
    if message.is_empty() || message == name.as_bytes() {
        Step::Granted(name)
    } else {
        Step::Wrong(user(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_decides() {
        assert!(matches!(read(b"", Some("tim")), Step::Granted(name) if name == "tim"));
        assert!(matches!(read(b"tim", Some("tim")), Step::Granted(_)));
        assert!(matches!(read(b"root", Some("tim")), Step::Wrong(_)));
        assert!(matches!(read(b"tim", None), Step::Wrong(None)));
    }
}
