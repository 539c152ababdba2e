//! SPF (RFC 7208): whether a host may use a domain in its HELO or as the domain of senders. Pure: names come from a
//! [`Zone`](crate::zone::Zone), the rest from the question. It says what the domain says, and never what follows from it.

mod check;
mod expand;
mod macros;
mod record;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;

pub use check::{Subject, check, check_unexplained};
