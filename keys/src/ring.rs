//! The keys by number: those in force, and those before them for handshakes that began with them. Pure.

use std::collections::BTreeMap;

use rustls::SignatureScheme;
use vsmtp_config::{KeyPair, KeysSlice};
use vsmtp_ipc::edge::receiver_keys::Certificate;

use crate::files::Content;
use crate::mail::MailKeys;
use crate::pair::{Pair, authorities};
use crate::shape;

/// All that one configuration names.
#[derive(Debug)]
pub struct Set {
    pairs: Vec<(Pair, KeyPair)>,
    authorities: Vec<Vec<u8>>,
    mail: MailKeys,
}

impl Set {
    /// Makes it of the files, which stand in the order of [`KeysSlice::files`].
    ///
    /// # Errors
    /// The first file that is bad: text for the operator.
    pub fn read(slice: &KeysSlice, files: &[Content]) -> Result<Set, String> {
        let wanted = files.split_at_checked(slice.pairs.len() * 2);
        let (both, rest) = wanted.ok_or_else(|| "files are missing".to_owned())?;
        let pairs = slice
            .pairs
            .iter()
            .zip(both.chunks_exact(2))
            .map(|(named, files)| match files {
                [certificate, key] => Ok((Pair::read(certificate, key)?, named.clone())),
                _ => Err("files are missing".to_owned()),
            })
            .collect::<Result<Vec<_>, String>>()?;
        let (trusted, rest) =
            rest.split_at_checked(usize::from(slice.client_ca.is_some())).unwrap_or((rest, &[]));
        let authorities = trusted.first().map(authorities).transpose()?.unwrap_or_default();
        let mail = MailKeys::read(&slice.mail_keys, rest)?;
        Ok(Set { pairs, authorities, mail })
    }

    /// Certificates for a domain whose name is not in them: clients will not like them.
    pub fn misnamed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().filter_map(|(pair, named)| {
            let domain = named.domain.as_deref().filter(|domain| !pair.is_for(domain))?;
            Some((domain, pair.path.as_str()))
        })
    }
}

/// The keys by number.
#[derive(Debug, Default)]
pub struct Ring {
    current: BTreeMap<u32, (Pair, KeyPair)>,
    previous: BTreeMap<u32, (Pair, KeyPair)>,
    authorities: Vec<Vec<u8>>,
    mail: MailKeys,
    last: u32,
}

impl Ring {
    /// Puts a set in force. What was in force stays usable until the next one.
    pub fn replace(&mut self, set: Set) {
        let mut next = BTreeMap::new();
        for pair in set.pairs {
            self.last = self.last.wrapping_add(1);
            next.insert(self.last, pair);
        }
        self.previous = std::mem::replace(&mut self.current, next);
        self.authorities = set.authorities;
        self.mail = set.mail;
    }

    /// What receivers are told.
    pub fn certificates(&self) -> Vec<Certificate> {
        let told = |(number, (pair, named)): (&u32, &(Pair, KeyPair))| {
            let mut names = pair.names.clone();
            names.extend(named.domain.clone().filter(|domain| !names.contains(domain)));
            Certificate {
                key: *number,
                chain: pair.chain.clone(),
                names,
                schemes: pair.schemes.iter().map(|scheme| u16::from(*scheme)).collect(),
                is_default: named.domain.is_none(),
            }
        };
        self.current.iter().map(told).collect()
    }

    /// The authorities for certificates of clients, in DER.
    pub fn authorities(&self) -> &[Vec<u8>] {
        &self.authorities
    }

    /// The keys that mail is signed with.
    pub fn mail(&self) -> &MailKeys {
        &self.mail
    }

    /// Keys in force.
    pub fn len(&self) -> usize {
        self.current.len()
    }

    /// The signature of what a handshake signs. `None` if there is no such key any more.
    ///
    /// # Errors
    /// The message is not of a handshake, or the key cannot do this: whoever asks is up to something.
    pub fn sign(&self, number: u32, scheme: u16, message: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
        if !shape::is_of_a_handshake(message) {
            return Err("asked for a signature of what is no handshake");
        }
        let Some((pair, _)) = self.current.get(&number).or_else(|| self.previous.get(&number)) else {
            return Ok(None);
        };
        let scheme = SignatureScheme::from(scheme);
        if !pair.schemes.contains(&scheme) {
            return Err("asked for a scheme that the key does not have");
        }
        Ok(pair.sign(scheme, message))
    }
}
