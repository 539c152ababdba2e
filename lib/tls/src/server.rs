//! The server's side: what a listener's handshakes go by, and one handshake step by step.
//!
//! Private keys are elsewhere: each signature is asked of an [`Oracle`], which may take a while. So the one step of a
//! handshake that signs comes out as [`Work`], to be run where waiting is allowed; all other steps wait for the network
//! only, and are driven by the caller's loop. A session that goes on with a ticket has no such step.

mod certificates;
mod client_certificates;
mod handshake;
mod offer;
mod remote_key;
mod terms;
mod tickets;

pub use certificates::{Certificate, Certificates};
pub use client_certificates::ClientCertificates;
pub use handshake::{Failure, Finished, Handshake, Progress, Work};
pub use remote_key::Oracle;
pub use terms::{Policy, Terms, TermsError};
pub use tickets::{Secret, Tickets};
