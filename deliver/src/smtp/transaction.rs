//! Between a lease and a dialogue: what is said of the message, and what the server's words mean for each recipient.

use std::io;

use vsmtp_daemon::Record;
use vsmtp_ipc::edge::queue_deliver::Settled;
use vsmtp_mail::{BodyType, EnhancedCode, Reply, header_end};
use vsmtp_smtp::{Capabilities, Extension, Outcome, RemoteRecipient, RequireTls, Transaction, Why};

use crate::content::Content;
use crate::lease::{Lease, LeaseRecipient, Verdict};
use crate::mime::{Converter, Scan, Takes, Unconvertible};

/// So much of a message is looked at for its header.
const MAX_HEADER: usize = 256 * 1024;
/// Octets looked at together when a message is searched for 8-bit octets.
const CHUNK: usize = 64 * 1024;
/// Largest message of lines that goes by BDAT, in octets: all of it is looked at first, and to a larger one a round trip is
/// nothing.
const MAX_CHUNKED: u64 = 1 << 20;
/// Largest message that is searched for 8-bit octets only to be called by its right name, in octets. A larger one is called
/// 8-bit, which one without any may be, too.
const MAX_CALLED: u64 = 8 << 20;
/// Longest line that DATA carries, without its CRLF, in octets (RFC 5321 4.5.3.1.6).
const MAX_LINE: usize = 998;

/// The lease as a transaction with a server that offers these extensions, and that has proved who it is or has not.
///
/// # Errors
/// The message cannot be read.
pub fn of_lease(
    lease: &Lease,
    offered: &Capabilities,
    proven: bool,
    how: How,
) -> io::Result<(Transaction, Option<Converter>)> {
    if lease.service.is_some() {
        return for_service(lease, offered, how);
    }
    let require_tls = match (lease.demands.requiretls, proven) {
        (false, _) => RequireTls::No,
        (true, true) => RequireTls::Proven,
        (true, false) => RequireTls::Unproven,
    };
    let BodyAs { body, size, converter } = body_as(lease, offered, how)?;
    let chunked = how.chunking
        && converter.is_none()
        && offered.has(Extension::Chunking)
        && (body == BodyType::BinaryMime || lease.content.len() <= MAX_CHUNKED && is_text(&lease.content)?);
    let transaction = Transaction {
        require_tls,
        priority: lease.priority,
        by: lease.by(how.now_ms),
        reverse_path: lease.reverse_path.clone(),
        body,
        chunked,
        needs_smtputf8: needs_smtputf8(lease)?,
        ret: lease.ret,
        envid: lease.envid.clone(),
        size,
        recipients: recipients(lease),
    };
    Ok((transaction, converter))
}

/// A service gives the message back: it goes as it is, whatever the service says it takes, for what is converted once stays so.
///
/// Only what is not made of lines must be encoded where BINARYMIME is not offered: DATA cannot carry it.
fn for_service(
    lease: &Lease,
    offered: &Capabilities,
    how: How,
) -> io::Result<(Transaction, Option<Converter>)> {
    let BodyAs { body, size, converter } = match lease.body_type {
        BodyType::BinaryMime if !is_text(&lease.content)? => body_as(lease, offered, how)?,
        _ => {
            let announced =
                called(lease, offered)? != BodyType::SevenBit && offered.has(Extension::EightBitMime);
            let body = if announced { BodyType::EightBitMime } else { BodyType::SevenBit };
            BodyAs { body, size: lease.content.len(), converter: None }
        }
    };
    let transaction = Transaction {
        require_tls: RequireTls::No,
        priority: lease.priority,
        // The message comes back, and goes on from here.
        by: None,
        reverse_path: lease.reverse_path.clone(),
        body,
        chunked: false,
        needs_smtputf8: needs_smtputf8(lease)?,
        ret: None,
        envid: None,
        size,
        recipients: recipients(lease),
    };
    Ok((transaction, converter))
}

/// Those of the lease, as a dialogue has them.
fn recipients(lease: &Lease) -> Vec<RemoteRecipient> {
    let recipient = |recipient: &LeaseRecipient| RemoteRecipient {
        address: recipient.address.clone(),
        notify: Some(recipient.notify).filter(|notify| notify.stated),
        original: recipient.original.clone(),
    };
    lease.recipients.iter().map(recipient).collect()
}

/// What an operator has said about bodies, and the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How {
    /// Use BDAT where it is offered.
    pub chunking: bool,
    /// Encode what a server does not take as it is.
    pub mime_conversion: bool,
    /// Now, in monotonic milliseconds.
    pub now_ms: u64,
}

/// How the message itself goes.
struct BodyAs {
    body: BodyType,
    size: u64,
    converter: Option<Converter>,
}

/// As it is, if the server takes it; encoded, if that can be done. What can be neither is for the dialogue to refuse.
fn body_as(lease: &Lease, offered: &Capabilities, how: How) -> io::Result<BodyAs> {
    let body = body_type(lease, offered)?;
    let as_it_is = BodyAs { body, size: lease.content.len(), converter: None };
    let takes_lines = offered.has(Extension::EightBitMime);
    let takes_binary = offered.has(Extension::Chunking) && offered.has(Extension::BinaryMime);
    let takes = match body {
        BodyType::EightBitMime if !takes_lines => Takes::SevenBit,
        BodyType::BinaryMime if !takes_binary && takes_lines => Takes::EightBit,
        BodyType::BinaryMime if !takes_binary => Takes::SevenBit,
        _ => return Ok(as_it_is),
    };
    // What nobody has called 8-bit fails nowhere for being that.
    let as_it_is = match lease.body_type {
        BodyType::SevenBit => BodyAs { body: BodyType::SevenBit, ..as_it_is },
        _ => as_it_is,
    };
    if !how.mime_conversion {
        return Ok(as_it_is);
    }
    match convert(&lease.content, takes)? {
        Ok((converter, size)) => {
            let body = if takes == Takes::EightBit { BodyType::EightBitMime } else { BodyType::SevenBit };
            Ok(BodyAs { body, size, converter: Some(converter) })
        }
        Err(why) => {
            Record::new("not-converted").field("id", lease.id).field("reason", why).emit();
            Ok(as_it_is)
        }
    }
}

/// The converter of a message, and how long the message will be.
fn convert(content: &Content, takes: Takes) -> io::Result<Result<(Converter, u64), Unconvertible>> {
    let mut scan = Scan::new(takes);
    if let Err(why) = each_piece(content, |piece| scan.push(piece))? {
        return Ok(Err(why));
    }
    let converter = match scan.finish() {
        Ok(converter) => converter,
        Err(why) => return Ok(Err(why)),
    };
    let (mut trial, mut out, mut size) = (converter.again(), Vec::new(), 0);
    let read = each_piece(content, |piece| {
        out.clear();
        let pushed = trial.push(piece, &mut out);
        size += out.len() as u64;
        pushed
    })?;
    out.clear();
    if let Err(why) = read.and_then(|()| trial.finish(&mut out)) {
        return Ok(Err(why));
    }
    Ok(Ok((converter, size + out.len() as u64)))
}

fn each_piece<E>(
    content: &Content,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> io::Result<Result<(), E>> {
    let (mut buffer, mut offset) = (vec![0; CHUNK], 0);
    while offset < content.len() {
        let got = content.read_at(&mut buffer, offset)?;
        if let Err(error) = take(buffer.get(..got).unwrap_or_default()) {
            return Ok(Err(error));
        }
        offset += got as u64;
    }
    Ok(Ok(()))
}

/// What a message is by its sender's word; but many that send 8-bit octets do not say so.
fn called(lease: &Lease, offered: &Capabilities) -> io::Result<BodyType> {
    if lease.body_type != BodyType::SevenBit {
        return Ok(lease.body_type);
    }
    let is_large = lease.content.len() > MAX_CALLED && offered.has(Extension::EightBitMime);
    Ok(if is_large || !is_seven_bit(&lease.content)? { BodyType::EightBitMime } else { BodyType::SevenBit })
}

/// A message that was announced as 8-bit and is not may go to a server of the old kind; one that was announced as binary
/// and is made of lines may go as 8-bit, where the server does not take binary ones.
fn body_type(lease: &Lease, offered: &Capabilities) -> io::Result<BodyType> {
    let takes_binary = offered.has(Extension::Chunking) && offered.has(Extension::BinaryMime);
    let stated = match called(lease, offered)? {
        BodyType::BinaryMime if !takes_binary && is_text(&lease.content)? => BodyType::EightBitMime,
        stated => stated,
    };
    let plain = stated != BodyType::EightBitMime || offered.has(Extension::EightBitMime);
    Ok(if !plain && is_seven_bit(&lease.content)? { BodyType::SevenBit } else { stated })
}

/// True if the message is what DATA can carry: lines of at most 998 octets with CRLF, and no NUL (RFC 6152 2).
fn is_text(content: &Content) -> io::Result<bool> {
    let room = usize::try_from(content.len()).unwrap_or(CHUNK).min(CHUNK);
    let (mut buffer, mut offset, mut column, mut before) = (vec![0; room], 0, 0usize, b'\n');
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
    if let Content::Memory(bytes) = content {
        return Ok(bytes.is_ascii());
    }
    let mut buffer = vec![0; usize::try_from(content.len()).unwrap_or(CHUNK).min(CHUNK)];
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

    const NEITHER: How = How { chunking: false, mime_conversion: false, now_ms: 0 };

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
    fn what_the_server_does_not_take_is_encoded_if_that_can_be_done() {
        let both = How { chunking: true, mime_conversion: true, now_ms: 0 };
        let of = |message: &[u8], body, offered: &[Extension]| {
            let lease = lease(message, |lease: &mut Lease| lease.body_type = body);
            let (transaction, converter) = of_lease(&lease, &offers(offered), false, both).unwrap();
            let mut out = Vec::new();
            if let Some(mut converter) = converter {
                converter.push(message, &mut out).unwrap();
                converter.finish(&mut out).unwrap();
                assert_eq!(transaction.size, out.len() as u64);
            }
            (transaction.body, transaction.chunked, String::from_utf8(out).unwrap())
        };
        let message = "A: b\r\n\r\né\r\n".as_bytes();
        let (body, chunked, out) = of(message, BodyType::EightBitMime, &[Extension::Chunking]);
        assert_eq!((body, chunked), (BodyType::SevenBit, false));
        assert!(out.ends_with("quoted-printable\r\n\r\n=C3=A9\r\n"), "{out}");
        let offered = [Extension::EightBitMime, Extension::Chunking];
        assert_eq!(
            of(message, BodyType::EightBitMime, &offered),
            (BodyType::EightBitMime, true, String::new())
        );
        assert!(!of(b"A: b\r\n\r\nno end", BodyType::SevenBit, &offered).1, "it is not made of lines");
        let large = lease(b"", |lease| lease.content = Content::Memory(b"A: b\r\n".repeat(1 << 18)));
        let (transaction, _) = of_lease(&large, &offers(&offered), false, both).unwrap();
        assert!(!transaction.chunked, "it is too large to be looked at first");
        let (body, _, out) = of(b"A: b\r\n\r\na\nb\r\n", BodyType::BinaryMime, &offered);
        assert_eq!(body, BodyType::EightBitMime);
        assert!(out.ends_with("base64\r\n\r\nYQpiDQo=\r\n"), "{out}");
        // For the dialogue to refuse.
        let signed = "Content-Type: message/partial\r\n\r\né\r\n".as_bytes();
        assert_eq!(of(signed, BodyType::EightBitMime, &[]), (BodyType::EightBitMime, false, String::new()));
    }

    #[test]
    fn eight_bits_are_announced_only_if_they_are_there_or_nobody_minds() {
        let eight = |lease: &mut Lease| lease.body_type = BodyType::EightBitMime;
        let body = |message: &[u8], offered: &[Extension]| {
            of_lease(&lease(message, eight), &offers(offered), false, NEITHER).unwrap().0.body
        };
        assert_eq!(body(b"A: b\r\n\r\nascii\r\n", &[]), BodyType::SevenBit);
        assert_eq!(body("A: b\r\n\r\né\r\n".as_bytes(), &[]), BodyType::EightBitMime);
        assert_eq!(body(b"A: b\r\n\r\n", &[Extension::EightBitMime]), BodyType::EightBitMime);
    }

    #[test]
    fn eight_bits_are_called_so_and_encoded_though_their_sender_did_not_say_so() {
        let converting = How { mime_conversion: true, ..NEITHER };
        let of = |message: &[u8], offered: &[Extension], how| {
            let (transaction, converter) =
                of_lease(&lease(message, |_| {}), &offers(offered), false, how).unwrap();
            (transaction.body, converter.is_some())
        };
        let eight = "A: b\r\n\r\né\r\n".as_bytes();
        let takes = [Extension::EightBitMime];
        assert_eq!(of(eight, &takes, NEITHER), (BodyType::EightBitMime, false));
        assert_eq!(of(eight, &[], converting), (BodyType::SevenBit, true));
        for offered in [&takes[..], &[]] {
            assert_eq!(of(b"A: b\r\n\r\ne\r\n", offered, converting), (BodyType::SevenBit, false));
        }
        // What cannot be encoded, or must not be, goes as it came: it was never called 8-bit.
        assert_eq!(of(eight, &[], NEITHER), (BodyType::SevenBit, false));
        let signed = "Content-Type: message/partial\r\n\r\né\r\n".as_bytes();
        assert_eq!(of(signed, &[], converting), (BodyType::SevenBit, false));
        // A large one is not searched to be called by its name, and always to be encoded.
        let large = lease(b"", |lease| lease.content = Content::Memory(b"A: b\r\n".repeat(2 << 20)));
        let body =
            |offered: &[Extension]| of_lease(&large, &offers(offered), false, converting).unwrap().0.body;
        assert_eq!((body(&takes), body(&[])), (BodyType::EightBitMime, BodyType::SevenBit));
        // A service gets it as it is, and hears what it is.
        let service = |lease: &mut Lease| lease.service = Some(std::time::Duration::from_secs(1));
        let body = |offered: &[Extension]| {
            of_lease(&lease(eight, service), &offers(offered), false, converting).unwrap().0.body
        };
        assert_eq!((body(&takes), body(&[])), (BodyType::EightBitMime, BodyType::SevenBit));
    }

    #[test]
    fn a_message_announced_as_binary_that_is_made_of_lines_may_go_by_data() {
        let binary = |lease: &mut Lease| lease.body_type = BodyType::BinaryMime;
        let body =
            |message: &[u8]| of_lease(&lease(message, binary), &offers(&[]), false, NEITHER).unwrap().0.body;
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
            of_lease(&lease(message.as_bytes(), change), &offers(&[]), false, NEITHER)
                .unwrap()
                .0
                .needs_smtputf8
        };
        assert!(!needs("Subject: a\r\n\r\né\r\n", "a@src.test"));
        assert!(needs("Subject: é\r\n\r\n", "a@src.test"));
        assert!(needs("Subject: a\r\n\r\n", "é@src.test"));
        assert!(
            !of_lease(&lease("S: é\r\n\r\n".as_bytes(), |_| {}), &offers(&[]), false, NEITHER)
                .unwrap()
                .0
                .needs_smtputf8
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
