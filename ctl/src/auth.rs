//! Lines for a file of passwords. The password comes on standard input, never on the command line, where everybody who
//! may list processes could read it.

use std::io::{BufRead, Read};

use vsmtp_auth::backend::hash::{Scheme, make};
use vsmtp_auth::secret::{MAX_PASSWORD, Password};

use crate::failure::Failure;
use crate::output::Output;

/// Makes a line of the first line of `input`.
pub fn hash(
    scheme: Scheme,
    user: Option<&str>,
    input: &mut impl BufRead,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let wrong = |text: &str| Failure::Refused(text.to_owned());
    let mut line = Vec::new();
    input.take(MAX_PASSWORD as u64 + 2).read_until(b'\n', &mut line)?;
    let text = line.strip_suffix(b"\n").unwrap_or(&line);
    let password = Password::new(text).ok_or_else(|| wrong("the password is empty, too long, or no text"))?;
    if user.is_some_and(|user| vsmtp_auth::secret::user(user.as_bytes()).is_none() || user.contains(':')) {
        return Err(wrong("that cannot be the name of a user"));
    }
    let mut salt = [0; 16];
    vsmtp_sys::random::fill(&mut salt)?;
    let hash = make(scheme, &password, &salt).ok_or_else(|| wrong("the hash cannot be computed"))?;
    out.line(&user.map_or_else(|| hash.clone(), |user| format!("{user}:{hash}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(scheme: Scheme, user: Option<&str>, input: &str) -> Result<String, Failure> {
        let mut text = Vec::new();
        hash(scheme, user, &mut input.as_bytes(), &mut Output::new(&mut text, false))?;
        Ok(String::from_utf8(text).unwrap())
    }

    #[test]
    fn lines_are_what_the_helper_reads() {
        for scheme in [Scheme::Argon2id, Scheme::Scram] {
            let line = made(scheme, Some("tim"), "pencil\n").unwrap();
            let hash = line.trim_end().strip_prefix("tim:").unwrap();
            let hash = vsmtp_auth::backend::hash::Hash::parse(hash).unwrap();
            assert!(hash.verifies("pencil") && !hash.verifies("pencil\n"));
            assert_ne!(made(scheme, None, "pencil").unwrap(), made(scheme, None, "pencil").unwrap());
        }
        assert!(made(Scheme::Scram, None, "\n").is_err());
        assert!(made(Scheme::Scram, Some("a:b"), "x").is_err());
    }
}
