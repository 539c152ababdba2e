//! Session tickets whose secrets all receivers share. What is derived from a secret depends on the place where a ticket
//! is given out, so that it opens nothing elsewhere: a session of one service never goes on in another.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use rustls::server::ProducesTickets;

/// How long a client may keep a ticket, in seconds. Not longer than a secret is current, because the one before it is
/// honoured for as long again.
const LIFETIME_S: u32 = 6 * 3600;
/// Octets of a ticket's name, which tells what it was sealed with.
const NAME: usize = 16;
/// Octets of a key.
const KEY: usize = 32;

/// A secret that all receivers share.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; KEY]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Seals and opens the tickets of one place.
pub struct Tickets {
    /// The first one seals, all open.
    keys: Vec<TicketKey>,
}

struct TicketKey {
    name: [u8; NAME],
    key: LessSafeKey,
}

impl Tickets {
    /// For the place that `info` names. The first secret seals; the others open what was sealed before. `None` without a
    /// secret.
    pub fn new(info: &str, secrets: &[Secret]) -> Option<Self> {
        let keys: Vec<TicketKey> =
            secrets.iter().filter_map(|secret| TicketKey::derive(info, secret)).collect();
        (!keys.is_empty()).then_some(Tickets { keys })
    }
}

impl TicketKey {
    fn derive(info: &str, secret: &Secret) -> Option<Self> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"vsmtp session tickets").extract(&secret.0);
        let info = [info.as_bytes()];
        let mut both = [0; NAME + KEY];
        prk.expand(&info, Length(both.len())).ok()?.fill(&mut both).ok()?;
        let (name, key) = both.split_first_chunk::<NAME>()?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key).ok()?);
        Some(TicketKey { name: *name, key })
    }

    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        // Many processes make nonces by chance for one key; this mode stays safe even if two should be equal.
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(self.name), &mut sealed)
            .ok()?;
        Some([&self.name[..], &nonce, &sealed].concat())
    }

    fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let sealed = ticket.strip_prefix(&self.name)?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.key.open_in_place(nonce, Aad::from(self.name), &mut sealed).ok()?;
        Some(plain.to_vec())
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.first()?.seal(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.keys.iter().find_map(|key| key.open(cipher))
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Secret = Secret([1; KEY]);
    const NEW: Secret = Secret([2; KEY]);

    #[test]
    fn a_ticket_opens_in_every_receiver_and_after_a_rotation() {
        let before = Tickets::new("smtp 192.0.2.1:25", &[OLD]).unwrap();
        let after = Tickets::new("smtp 192.0.2.1:25", &[NEW, OLD]).unwrap();
        let ticket = before.encrypt(b"session").unwrap();
        assert_eq!(after.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        let later = Tickets::new("smtp 192.0.2.1:25", &[NEW]).unwrap();
        assert_eq!(later.decrypt(&ticket), None, "two rotations later it is over");
        assert_eq!(before.decrypt(&after.encrypt(b"x").unwrap()), None);
    }

    #[test]
    fn s7_a_ticket_of_one_place_opens_nothing_elsewhere() {
        let submission = Tickets::new("submission 192.0.2.1:587", &[OLD]).unwrap();
        let ticket = submission.encrypt(b"session").unwrap();
        for other in ["smtp 192.0.2.1:25", "submission 192.0.2.2:587", "submissions 192.0.2.1:587", ""] {
            assert_eq!(Tickets::new(other, &[OLD]).unwrap().decrypt(&ticket), None, "{other}");
        }
        assert!(submission.decrypt(&ticket).is_some());
    }

    #[test]
    fn a_changed_or_short_ticket_opens_nothing() {
        let tickets = Tickets::new("smtp", &[OLD]).unwrap();
        let ticket = tickets.encrypt(b"session").unwrap();
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(tickets.decrypt(&changed), None, "octet {at}");
            assert_eq!(tickets.decrypt(&ticket[..at]), None, "cut at {at}");
        }
        assert_ne!(
            tickets.encrypt(b"session").unwrap(),
            ticket,
            "nobody can tell that it is the same session"
        );
    }

    #[test]
    fn without_a_secret_there_are_no_tickets() {
        assert!(Tickets::new("smtp", &[]).is_none());
        assert_eq!(format!("{OLD:?}"), "Secret(..)");
    }
}
