//! What a TLS handshake signs, and nothing else: so a captured receiver cannot have a certificate, a mail signature or any
//! other document signed. Pure.

/// Version 1.3 (RFC 8446 4.4.3): 64 spaces, this text, and the hash of the handshake.
const CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify\0";
const SPACES: [u8; 64] = [0x20; 64];
/// SHA-256 and SHA-384: the hashes of the suites that exist.
const HASHES: [usize; 2] = [32, 48];

/// Version 1.2 (RFC 8422 5.4): two random values of 32 octets, and the parameters of a named curve.
const RANDOMS: usize = 64;
const NAMED_CURVE: u8 = 3;

/// True if this is what a server signs in a handshake of TLS 1.2 or 1.3.
pub fn is_of_a_handshake(message: &[u8]) -> bool {
    is_certificate_verify(message) || is_server_key_exchange(message)
}

fn is_certificate_verify(message: &[u8]) -> bool {
    let hash = message.strip_prefix(&SPACES).and_then(|rest| rest.strip_prefix(CONTEXT));
    hash.is_some_and(|hash| HASHES.contains(&hash.len()))
}

fn is_server_key_exchange(message: &[u8]) -> bool {
    match message.get(RANDOMS..) {
        // The curve, the length of the point, the point.
        Some([NAMED_CURVE, _, _, length, point @ ..]) => {
            !point.is_empty() && point.len() == usize::from(*length)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(context: &[u8], hash: usize) -> Vec<u8> {
        [&SPACES[..], context, &vec![7; hash]].concat()
    }

    fn exchange(kind: u8, length: u8, point: usize) -> Vec<u8> {
        [&[9; RANDOMS][..], &[kind, 0, 29, length], &vec![5; point]].concat()
    }

    #[test]
    fn what_a_server_signs_in_a_handshake_has_the_shape() {
        for good in [verify(CONTEXT, 32), verify(CONTEXT, 48), exchange(3, 32, 32), exchange(3, 97, 97)] {
            assert!(is_of_a_handshake(&good), "{good:?}");
            assert!(good.len() <= vsmtp_ipc::edge::receiver_keys::MAX_SIGNED);
        }
    }

    #[test]
    fn nothing_else_has_it() {
        let bad = [
            Vec::new(),
            vec![0x20; 64],
            verify(b"TLS 1.3, client CertificateVerify\0", 32),
            verify(CONTEXT, 31),
            verify(CONTEXT, 64),
            verify(b"", 48),
            exchange(1, 32, 32),
            exchange(3, 32, 31),
            exchange(3, 32, 33),
            exchange(3, 0, 0),
            b"from:a@b; to:c@d; dkim-signature:v=1; a=rsa-sha256; d=example.com; s=mail; h=from:to; b="
                .to_vec(),
            vec![0x30; 250],
        ];
        for message in bad {
            assert!(!is_of_a_handshake(&message), "{message:?}");
        }
    }
}
