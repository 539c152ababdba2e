//! saslauthd, which checks users of this system by PAM, the shadow file or what it was set up for. Four counted strings
//! there, one back.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

use super::{Finding, socket};
use crate::secret::Credentials;

/// Where Debian's saslauthd listens.
pub const USUAL_PATH: &str = "/run/saslauthd/mux";
/// What we are to PAM: `/etc/pam.d/smtp`.
const SERVICE: &str = "smtp";
/// Longest answer that is read, in octets.
const MAX_ANSWER: u16 = 4096;

/// Whether the password is that of the user. Blocks.
///
/// # Errors
/// It cannot be asked.
pub fn check(path: &str, credentials: &Credentials) -> io::Result<Finding> {
    let mut stream = socket::connect(path)?;
    stream.write_all(&question(credentials)?)?;
    read_answer(&mut stream, &credentials.user)
}

/// Name, password, service, realm, each behind its length in two octets. The domain of a name is its realm.
fn question(credentials: &Credentials) -> io::Result<Zeroizing<Vec<u8>>> {
    let (name, realm) = credentials.user.rsplit_once('@').unwrap_or((&credentials.user, ""));
    let mut out = Zeroizing::new(Vec::with_capacity(2048));
    for text in [name, credentials.password.expose(), SERVICE, realm] {
        let len = u16::try_from(text.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        out.extend([(len >> 8) as u8, len as u8]);
        out.extend_from_slice(text.as_bytes());
    }
    Ok(out)
}

/// Reads the answer: `OK` or `NO`, and a text that may follow.
///
/// # Errors
/// It is neither, or does not come whole.
pub fn read_answer(from: &mut impl Read, user: &str) -> io::Result<Finding> {
    let mut len = [0; 2];
    from.read_exact(&mut len)?;
    let len = u16::from(len[0]) << 8 | u16::from(len[1]);
    if len > MAX_ANSWER {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "answer is too long"));
    }
    let mut answer = vec![0; usize::from(len)];
    from.read_exact(&mut answer)?;
    match answer.get(..2) {
        Some(b"OK") => Ok(Finding::Yes(user.to_owned())),
        Some(b"NO") => Ok(Finding::No),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "answer is neither OK nor NO")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Password;

    #[test]
    fn questions_are_counted_strings() {
        let password = Password::new(b"pw").unwrap();
        let credentials = Credentials { user: "tim@example.com".to_owned(), password };
        assert_eq!(&question(&credentials).unwrap()[..], b"\0\x03tim\0\x02pw\0\x04smtp\0\x0bexample.com");
    }

    #[test]
    fn answers() {
        let read = |mut answer: &[u8]| read_answer(&mut answer, "tim").ok();
        assert_eq!(read(b"\0\x02OK"), Some(Finding::Yes("tim".to_owned())));
        assert_eq!(read(b"\0\x0dNO bad passwd"), Some(Finding::No));
        for bad in [&b""[..], b"\0", b"\0\0", b"\0\x02O", b"\0\x02ok", b"\xff\xffOK"] {
            assert_eq!(read(bad), None);
        }
    }
}
