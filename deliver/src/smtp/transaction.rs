//! Between a lease and a dialogue: what is said of the message, and what the server's words mean for each recipient.

use std::io;

use vsmtp_ipc::edge::queue_deliver::Settled;
use vsmtp_mail::{BodyType, EnhancedCode, Reply, header_end};
use vsmtp_smtp::{Capabilities, Extension, Outcome, RemoteRecipient, RequireTls, Transaction, Why};

use crate::content::Content;
use crate::lease::{Lease, Verdict};

/// So much of a message is looked at for its header.
const MAX_HEADER: usize = 256 * 1024;
/// Octets looked at together when a message is searched for 8-bit octets.
const CHUNK: usize = 64 * 1024;
/// Longest line that DATA carries, without its CRLF, in octets (RFC 5321 4.5.3.1.6).
const MAX_LINE: usize = 998;

/// The lease as a transaction with a server that offers these extensions, and that has proved who it is or has not.
///
/// # Errors
/// The message cannot be read.
pub fn of_lease(lease: &Lease, offered: &Capabilities, proven: bool) -> io::Result<Transaction> {
    let require_tls = match (lease.demands.requiretls, proven) {
        (false, _) => RequireTls::No,
        (true, true) => RequireTls::Proven,
        (true, false) => RequireTls::Unproven,
    };
    Ok(Transaction {
        require_tls,
        reverse_path: lease.reverse_path.clone(),
        body: body_type(lease, offered)?,
        needs_smtputf8: needs_smtputf8(lease)?,
        ret: lease.ret,
        envid: lease.envid.clone(),
        size: lease.content.len(),
        recipients: lease
            .recipients
            .iter()
            .map(|recipient| RemoteRecipient {
                address: recipient.address.clone(),
                notify: Some(recipient.notify).filter(|notify| notify.stated),
                original: recipient.original.clone(),
            })
            .collect(),
    })
}

/// A message that was announced as 8-bit and is not may go to a server of the old kind; one that was announced as binary
/// and is made of lines may go as 8-bit, where the server does not take binary ones.
fn body_type(lease: &Lease, offered: &Capabilities) -> io::Result<BodyType> {
    let takes_binary = offered.has(Extension::Chunking) && offered.has(Extension::BinaryMime);
    let stated = match lease.body_type {
        BodyType::BinaryMime if !takes_binary && is_text(&lease.content)? => BodyType::EightBitMime,
        stated => stated,
    };
    let plain = stated != BodyType::EightBitMime || offered.has(Extension::EightBitMime);
    Ok(if !plain && is_seven_bit(&lease.content)? { BodyType::SevenBit } else { stated })
}

/// True if the message is what DATA can carry: lines of at most 998 octets with CRLF, and no NUL (RFC 6152 2).
fn is_text(content: &Content) -> io::Result<bool> {
    let (mut buffer, mut offset, mut column, mut before) = (vec![0; CHUNK], 0, 0usize, b'\n');
    while offset < content.len() {
        let got = content.read_at(&mut buffer, offset)?;
        for octet in buffer.get(..got).unwrap_or_default() {
            let is_lone = (before == b'\r') != (*octet == b'\n');
            column = if *octet == b'\n' { 0 } else { column + 1 };
            // The CR of a full line is its 999th octet.
            if is_lone || *octet == 0 || column > MAX_LINE + usize::from(*octet == b'\r') {
                return Ok(false);
            }
            before = *octet;
        }
        offset += got as u64;
    }
    Ok(before == b'\n')
}

fn is_seven_bit(content: &Content) -> io::Result<bool> {
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    while offset < content.len() {
        let got = content.read_at(&mut buffer, offset)?;
        if !buffer.get(..got).unwrap_or_default().is_ascii() {
            return Ok(false);
        }
        offset += got as u64;
    }
    Ok(true)
}

/// A message that asked for SMTPUTF8 and is all ASCII in sender and header may go anywhere (RFC 6531 3.6). Recipients are
/// the dialogue's business, for each of them alone may need it.
fn needs_smtputf8(lease: &Lease) -> io::Result<bool> {
    if lease.reverse_path.address().is_some_and(vsmtp_mail::Address::needs_smtputf8) {
        return Ok(true);
    }
    if !lease.smtputf8 {
        return Ok(false);
    }
    let head = lease.content.head(MAX_HEADER)?;
    Ok(!head.get(..header_end(&head)).unwrap_or_default().is_ascii())
}

/// The outcomes of a transaction, in the order of the recipients. A missing one is unclear.
pub fn settle(lease: &Lease, outcomes: &[Outcome]) -> Vec<Settled> {
    let unclear = Verdict::deferred(EnhancedCode(4, 5, 0), "no outcome");
    let verdict = |at: usize| outcomes.get(at).map_or_else(|| unclear.clone(), verdict);
    lease.recipients.iter().enumerate().map(|(at, recipient)| verdict(at).settle(recipient.index)).collect()
}

fn verdict(outcome: &Outcome) -> Verdict {
    let code = |reply: &Reply| reply.enhanced().unwrap_or(EnhancedCode(0, 0, 0));
    match outcome {
        Outcome::Delivered(reply) => Verdict::delivered(code(reply), reply.to_string()),
        Outcome::Defer(why) => Verdict::deferred(code(why.reply()), text(why)),
        Outcome::Fail(why) => Verdict::failed(code(why.reply()), text(why)),
    }
}

/// The server's words as it said them; ours without the codes that only made a reply of them.
pub fn text(why: &Why) -> String {
    match why {
        Why::Remote(reply) => reply.to_string(),
        Why::Local(reply) => reply.lines().collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use vsmtp_ipc::edge::queue_deliver::Result3;
    use vsmtp_smtp::Extensions;

    use super::*;
    use crate::lease::tests::attempt;

    fn lease(message: &[u8], change: impl FnOnce(&mut Lease)) -> Lease {
        let attempt = attempt("smtp:dst.test", &["a@dst.test", "b@dst.test"], message);
        let mut lease = Lease::parse(attempt, None, 1, 0).unwrap();
        change(&mut lease);
        lease
    }

    fn offers(list: &[Extension]) -> Capabilities {
        Capabilities { extensions: Extensions::of(list), ..Capabilities::default() }
    }

    #[test]
    fn eight_bits_are_announced_only_if_they_are_there_or_nobody_minds() {
        let eight = |lease: &mut Lease| lease.body_type = BodyType::EightBitMime;
        let body = |message: &[u8], offered: &[Extension]| {
            of_lease(&lease(message, eight), &offers(offered), false).unwrap().body
        };
        assert_eq!(body(b"A: b\r\n\r\nascii\r\n", &[]), BodyType::SevenBit);
        assert_eq!(body("A: b\r\n\r\né\r\n".as_bytes(), &[]), BodyType::EightBitMime);
        assert_eq!(body(b"A: b\r\n\r\n", &[Extension::EightBitMime]), BodyType::EightBitMime);
    }

    #[test]
    fn a_message_announced_as_binary_that_is_made_of_lines_may_go_by_data() {
        let binary = |lease: &mut Lease| lease.body_type = BodyType::BinaryMime;
        let body = |message: &[u8]| of_lease(&lease(message, binary), &offers(&[]), false).unwrap().body;
        assert_eq!(body(b"A: b\r\n\r\nascii\r\n"), BodyType::SevenBit);
        assert_eq!(body(b"A: b\r\n\r\n\xff\r\n"), BodyType::EightBitMime);
        assert_eq!(body(&[&b"A: b\r\n\r\n"[..], &[b'x'; 998], b"\r\n"].concat()), BodyType::SevenBit);
        for not_lines in
            [&b"\0\r\n"[..], b"a\rb\r\n", b"a\nb\r\n", b"\n", b"a", b"a\r", b"\r\r\n", &[b'x'; 999]]
        {
            for end in [&b""[..], b"\r\n"] {
                let message = [b"A: b\r\n\r\n", not_lines, end].concat();
                let is_fine = message.ends_with(b"\n\r\na\r\n");
                assert_eq!(body(&message) != BodyType::BinaryMime, is_fine, "{not_lines:?} {end:?}");
            }
        }
    }

    #[test]
    fn smtputf8_is_needed_only_by_what_is_not_ascii() {
        let needs = |message: &str, reverse_path: &str| {
            let change = |lease: &mut Lease| {
                lease.smtputf8 = true;
                lease.reverse_path = vsmtp_mail::ReversePath::parse(reverse_path).unwrap();
            };
            of_lease(&lease(message.as_bytes(), change), &offers(&[]), false).unwrap().needs_smtputf8
        };
        assert!(!needs("Subject: a\r\n\r\né\r\n", "a@src.test"));
        assert!(needs("Subject: é\r\n\r\n", "a@src.test"));
        assert!(needs("Subject: a\r\n\r\n", "é@src.test"));
        assert!(
            !of_lease(&lease("S: é\r\n\r\n".as_bytes(), |_| {}), &offers(&[]), false).unwrap().needs_smtputf8
        );
    }

    #[test]
    fn every_recipient_is_settled_whatever_is_missing() {
        let reply = Reply::parse("250 ok").unwrap();
        let settled = settle(&lease(b"", |_| {}), &[Outcome::Delivered(reply)]);
        let short: Vec<_> = settled.iter().map(|s| (s.index, s.result, s.enhanced)).collect();
        assert_eq!(short, [(0, Result3::Delivered, (2, 0, 0)), (1, Result3::Deferred, (4, 5, 0))]);
    }
}
