//! The key holder: private keys, which it only signs with.
//!
//! It reads certificates and keys from descriptors that it was handed, tells receivers the certificates and the secrets of
//! session tickets, and signs what a TLS handshake signs, and for filters fields that are signatures of mail. It never lets
//! a private key out, never signs anything else, opens no file and no connection.
//!
//! On failure: at the start, a bad file ends the service with its name and its fault; later, what was loaded before stays.
#![forbid(unsafe_code)]

mod event;

mod files;
mod mail;
mod pair;
mod ring;
mod shape;

mod rotation;

pub mod tool;

pub mod sandbox;

pub use event::Keys;
