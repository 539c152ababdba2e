//! Mail exchanged with programs of other people: as clients, as next hops, as mailboxes. No octet of a message may
//! change on its way.

mod clients;
mod dovecot;
mod exim;
mod integrity;
mod postfix;
mod postfix_client;
mod smuggling;

/// Where a message of ours begins in what arrived: everything before it was added on the way.
fn ends_with_message(arrived: &[u8], sent: &[u8]) -> bool {
    arrived.ends_with(sent)
}

/// A text as it stands in files of Unix.
fn with_lf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for (at, octet) in text.iter().enumerate() {
        if *octet != b'\r' || text.get(at + 1) != Some(&b'\n') {
            out.push(*octet);
        }
    }
    out
}
