//! The way to the key holder, as rules use it.

use std::fmt;

use vsmtp_ipc::edge::client_resolver::SignatureAlgorithm;

/// Has mail signed. Blocks the rule that asks, and hands the loop on before.
pub trait Signer: fmt::Debug + Send + Sync {
    /// What the keys of a domain sign with, in their order; `None` if nobody can tell now.
    fn keys(&self, domain: &str) -> Option<Vec<SignatureAlgorithm>>;
    /// The signature by one of them; `None` if there is none now.
    fn sign(&self, domain: &str, number: u32, data: Vec<u8>) -> Option<Vec<u8>>;
}

/// No key holder.
#[derive(Debug)]
pub struct NoSigner;

impl Signer for NoSigner {
    fn keys(&self, _: &str) -> Option<Vec<SignatureAlgorithm>> {
        None
    }

    fn sign(&self, _: &str, _: u32, _: Vec<u8>) -> Option<Vec<u8>> {
        None
    }
}
