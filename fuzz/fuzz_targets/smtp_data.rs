//! The body between DATA and the dot, against a model that is too simple to be wrong; and dot-stuffing against both. The
//! first octet chooses normalisation and a limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vsmtp_fuzz::cut::splittings;
use vsmtp_mail::header_end;
use vsmtp_smtp::{BareNewline, BodyFault, BodyLimits, DataDecoder, DotStuffer, MessageFacts, Progress};

const FREE: BodyLimits = BodyLimits { size: 0, header: 0, line: 0, hops: 0, drain: 0 };
fuzz_target!(|input: &[u8]| {
    let Some((options, stream)) = input.split_first() else { return };
    let bare = if options & 1 != 0 { BareNewline::Normalise } else { BareNewline::Refuse };
    let limits = limits(options >> 1);
    let [whole, rest @ ..] = splittings(stream).map(|pieces| decode(&limits, bare, &pieces));
    for other in rest {
        assert_eq!(other, whole);
    }
    against_model(stream, bare, &limits, &whole);
    stuffed(stream);
});

/// At most one of them is tight: of several, which is passed first may depend on how the input is cut.
fn limits(options: u8) -> BodyLimits {
    match options & 7 {
        4 => BodyLimits { size: 300, ..FREE },
        5 => BodyLimits { header: 120, ..FREE },
        6 => BodyLimits { line: 40, ..FREE },
        7 => BodyLimits { hops: 2, ..FREE },
        _ => FREE,
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    /// Octets of input that belong to the message, if it ended.
    end: Option<usize>,
    fault: Option<BodyFault>,
    /// Nothing if there was a fault.
    kept: Option<(Vec<u8>, MessageFacts)>,
}

fn decode(limits: &BodyLimits, bare: BareNewline, pieces: &[&[u8]]) -> Decoded {
    let mut decoder = DataDecoder::new(limits.clone(), bare);
    let (mut out, mut end, mut before) = (Vec::new(), None, 0);
    for piece in pieces {
        match decoder.push(piece, &mut out) {
            Progress::More => before += piece.len(),
            Progress::End(used) => {
                end = Some(before + used);
                break;
            }
            Progress::Overrun => panic!("there is no drain limit"),
        }
    }
    assert!(limits.size == 0 || out.len() as u64 <= limits.size);
    let fault = decoder.fault();
    let kept = (end.is_some() && fault.is_none()).then(|| (out, decoder.facts()));
    Decoded { end, fault, kept }
}

fn against_model(stream: &[u8], bare: BareNewline, limits: &BodyLimits, found: &Decoded) {
    let end = if stream.starts_with(b".\r\n") {
        Some(3)
    } else {
        memchr::memmem::find(stream, b"\r\n.\r\n").map(|at| at + 5)
    };
    assert_eq!(found.end, end, "only CRLF.CRLF ends a message");
    let Some(end) = end else { return };
    let (plain, is_bare) = unstuff(&stream[..end - 3]);
    let refused = is_bare && bare == BareNewline::Refuse;
    assert!(!refused || found.fault.is_some());
    if let Some((kept, facts)) = &found.kept {
        assert_eq!(*kept, plain);
        assert_eq!((facts.size, facts.eight_bit), (kept.len() as u64, !kept.is_ascii()));
        assert_eq!(facts.header_size, header_end(kept) as u64);
    } else if *limits == FREE {
        assert!(refused, "{:?}", found.fault);
    }
}

/// Drops a dot at the start of each line that a CRLF began, and makes CRLF of a lone CR or LF, which begins none.
fn unstuff(content: &[u8]) -> (Vec<u8>, bool) {
    let (mut out, mut is_bare, mut line_start, mut at) = (Vec::new(), false, true, 0);
    while let Some(&octet) = content.get(at) {
        at += 1;
        match octet {
            b'.' if line_start => line_start = false,
            b'\r' if content.get(at) == Some(&b'\n') => {
                out.extend_from_slice(b"\r\n");
                at += 1;
                line_start = true;
            }
            b'\r' | b'\n' => {
                out.extend_from_slice(b"\r\n");
                (is_bare, line_start) = (true, false);
            }
            other => {
                out.push(other);
                line_start = false;
            }
        }
    }
    (out, is_bare)
}

/// What we send arrives as it was, but for lone CRs and LFs, and ends where it ends.
fn stuffed(message: &[u8]) {
    let [whole, rest @ ..] = splittings(message).map(|pieces| {
        let (mut stuffer, mut out) = (DotStuffer::default(), Vec::new());
        pieces.iter().for_each(|piece| stuffer.push(piece, &mut out));
        stuffer.finish(&mut out);
        out
    });
    for other in rest {
        assert_eq!(other, whole);
    }
    let decoded = decode(&FREE, BareNewline::Refuse, &[&whole]);
    assert_eq!((decoded.end, decoded.fault), (Some(whole.len()), None));
    let mut expected = with_crlf(message);
    if !expected.is_empty() && !expected.ends_with(b"\r\n") {
        expected.extend_from_slice(b"\r\n");
    }
    assert_eq!(decoded.kept.map(|(kept, _)| kept), Some(expected));
}

fn with_crlf(message: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(&octet) = message.get(at) {
        at += 1;
        match octet {
            b'\r' => {
                at += usize::from(message.get(at) == Some(&b'\n'));
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            other => out.push(other),
        }
    }
    out
}
