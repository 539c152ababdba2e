//! Messages in chunks (RFC 3030) against a model. The first octet chooses the session, the rest is chunks: an octet with
//! size and flags, then as many octets as it says. A message is the concatenation of its chunks and nothing else is; each
//! BDAT is answered once; octets of chunks, taken or refused, are never commands; and all that however it is cut.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use vsmtp_fuzz::cut::splittings;
use vsmtp_mail::{Domain, EnhancedCode, Reply};
use vsmtp_smtp::{
    BareNewline, BodyLimits, Extension, Extensions, Limits, Own, Protocol, Question, Session, Settings, Step,
    Verdict,
};

/// Octets of a message where there is a limit: a few chunks.
const SIZE: u64 = 100;

/// Bits of the first octet.
mod session {
    pub const LMTP: u8 = 1;
    pub const BINARY: u8 = 2;
    /// Policy refuses the message before it comes.
    pub const REFUSES_DATA: u8 = 4;
    /// Policy refuses the recipients, so the message is for nobody.
    pub const REFUSES_RCPT: u8 = 8;
    /// Policy refuses the message behind its end.
    pub const REFUSES_MESSAGE: u8 = 16;
    pub const LIMITED: u8 = 32;
    /// CHUNKING is not offered.
    pub const UNOFFERED: u8 = 64;
    pub const NORMALISES: u8 = 128;
}

/// Bits of what stands before a chunk. The others are its size.
const LAST: u8 = 64;
/// RSET comes first, and a new transaction.
const ANEW: u8 = 128;

struct Chunk<'a> {
    octets: &'a [u8],
    last: bool,
    anew: bool,
}

fuzz_target!(|input: &[u8]| {
    let Some((options, rest)) = input.split_first() else { return };
    let chunks = chunks(rest);
    let wire = wire(*options, &chunks);
    let model = Model::of(*options, &chunks);
    for pieces in splittings(&wire) {
        let (output, messages) = play(*options, &pieces);
        assert_eq!(codes(&output), model.codes, "{}", String::from_utf8_lossy(&output));
        assert_eq!(messages, model.messages);
    }
});

fn chunks(mut input: &[u8]) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    while let Some((head, rest)) = input.split_first() {
        let (octets, rest) = rest.split_at(rest.len().min(usize::from(head & 63)));
        chunks.push(Chunk { octets, last: head & LAST != 0, anew: head & ANEW != 0 });
        input = rest;
    }
    chunks
}

/// All that the client says, at once.
fn wire(options: u8, chunks: &[Chunk<'_>]) -> Vec<u8> {
    let body = if options & session::BINARY != 0 { " BODY=BINARYMIME" } else { "" };
    let begin = format!("MAIL FROM:<a@a.test>{body}\r\nRCPT TO:<b@b.test>\r\nRCPT TO:<c@b.test>\r\n");
    let hello = if options & session::LMTP != 0 { "LHLO" } else { "EHLO" };
    let mut wire = format!("{hello} c.test\r\n{begin}").into_bytes();
    for chunk in chunks {
        if chunk.anew {
            wire.extend_from_slice(format!("RSET\r\n{begin}").as_bytes());
        }
        let last = if chunk.last { " LAST" } else { "" };
        wire.extend_from_slice(format!("BDAT {}{last}\r\n", chunk.octets.len()).as_bytes());
        wire.extend_from_slice(chunk.octets);
    }
    wire.extend_from_slice(b"VRFY x\r\nQUIT\r\n");
    wire
}

fn settings(options: u8) -> Arc<Settings> {
    let mut settings = Settings::new(Domain::parse("mx.test").expect("a domain"));
    if options & session::LMTP != 0 {
        settings.protocol = Protocol::Lmtp;
    }
    if normalises(options) {
        settings.bare_newline = BareNewline::Normalise;
    }
    settings.extensions = Extensions::of(match options & session::UNOFFERED {
        0 => &[Extension::Pipelining, Extension::EightBitMime, Extension::Chunking, Extension::BinaryMime],
        _ => &[Extension::Pipelining, Extension::EightBitMime, Extension::BinaryMime],
    });
    let body = BodyLimits { size: size_limit(options), header: 0, line: 0, hops: 0, drain: 0 };
    let many = u32::MAX;
    settings.limits = Limits { recipients: 3, soft_errors: many, hard_errors: many, junk: many, body };
    Arc::new(settings)
}

/// What is put in the place of lone line ends counts too, which is more than this model knows.
fn size_limit(options: u8) -> u64 {
    if options & session::LIMITED != 0 && !normalises(options) { SIZE } else { 0 }
}

/// Where the header of a binary message ends may depend on what lone line ends become: more than this model knows.
fn normalises(options: u8) -> bool {
    options & session::NORMALISES != 0 && options & session::BINARY == 0
}

fn play(options: u8, pieces: &[&[u8]]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut session = Session::new(settings(options));
    let (mut output, mut body, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    let refuses = |bit: u8| options & bit != 0;
    let verdict = |refused: bool| match refused {
        true => Verdict::Refuse(Reply::fixed(550, EnhancedCode(5, 7, 1), "no")),
        false => Verdict::Accept,
    };
    let (mut pieces, mut input): (_, &[u8]) = (pieces.iter(), &[]);
    loop {
        let step = session.advance(std::mem::take(&mut input), &mut body);
        output.extend_from_slice(session.output());
        session.sent(session.output().len());
        match step {
            Step::NeedInput => match pieces.next() {
                Some(piece) => input = piece,
                None => session.close(Own::Timeout),
            },
            Step::Flush => {}
            Step::Close => return (output, messages),
            Step::Dropped(_) => body.clear(),
            Step::Ask(question) => {
                let answers = match question {
                    Question::Recipients(list) => vec![verdict(refuses(session::REFUSES_RCPT)); list.len()],
                    Question::Data => vec![verdict(refuses(session::REFUSES_DATA))],
                    Question::Message(facts) => {
                        assert_eq!(facts.size, body.len() as u64);
                        messages.push(std::mem::take(&mut body));
                        vec![verdict(refuses(session::REFUSES_MESSAGE)); 2]
                    }
                    _ => vec![Verdict::Accept],
                };
                session.answer_each(answers).expect("a question is open");
            }
            other => panic!("{other:?} is not of chunks"),
        }
    }
}

/// The code of each whole reply.
fn codes(output: &[u8]) -> Vec<u16> {
    let text = std::str::from_utf8(output).expect("replies are text");
    let last = text.lines().filter(|line| line.as_bytes().get(3) == Some(&b' '));
    last.map(|line| line[..3].parse().expect("a code")).collect()
}

/// What is to come of it.
#[derive(Default)]
struct Model {
    codes: Vec<u16>,
    messages: Vec<Vec<u8>>,
}

/// What the next chunk is.
enum Place {
    /// The first of a message that may come.
    First,
    /// One more of it.
    Next(Vec<u8>),
    /// One for nobody.
    Nobody,
    /// One of no message.
    Nowhere,
}

impl Model {
    fn of(options: u8, chunks: &[Chunk<'_>]) -> Model {
        let has = |bit: u8| options & bit != 0;
        let mut model = Model { codes: vec![220, 250], ..Model::default() };
        let mut place = model.begin(options);
        for chunk in chunks {
            if chunk.anew {
                model.codes.push(250);
                place = model.begin(options);
            }
            if has(session::UNOFFERED) {
                model.codes.push(502);
                continue;
            }
            let mut text = match place {
                Place::First if has(session::REFUSES_DATA) => {
                    model.codes.push(550);
                    place = Place::Nowhere;
                    continue;
                }
                Place::First => Vec::new(),
                Place::Next(text) => text,
                Place::Nobody => {
                    model.codes.push(if has(session::LMTP) { 503 } else { 554 });
                    continue;
                }
                Place::Nowhere => {
                    model.codes.push(503);
                    continue;
                }
            };
            let announced = kept(&text) + chunk.octets.len();
            text.extend_from_slice(chunk.octets);
            let fault = fault(options, announced, &mut text, chunk.last);
            // LMTP says it for each recipient.
            let times = if chunk.last && has(session::LMTP) { 2 } else { 1 };
            let is_whole = chunk.last && fault.is_none();
            let end = if is_whole && has(session::REFUSES_MESSAGE) { 550 } else { fault.unwrap_or(250) };
            model.codes.extend(vec![end; times]);
            place = match (fault, chunk.last) {
                (None, false) => Place::Next(text),
                (None, true) => {
                    model.messages.push(text);
                    Place::Nowhere
                }
                (Some(_), _) => Place::Nowhere,
            };
        }
        model.codes.extend([252, 221]);
        model
    }

    fn begin(&mut self, options: u8) -> Place {
        let (rcpt, place) = match options & session::REFUSES_RCPT {
            0 => (250, Place::First),
            _ => (550, Place::Nobody),
        };
        self.codes.extend([250, rcpt, rcpt]);
        place
    }
}

/// Octets of a message that are kept already: what becomes of a CR at the end is known with the next octet.
fn kept(text: &[u8]) -> usize {
    text.len() - usize::from(text.ends_with(b"\r"))
}

/// What is wrong with a message so far. At its end it is given the form in which it is kept.
fn fault(options: u8, announced: usize, text: &mut Vec<u8>, last: bool) -> Option<u16> {
    let limit = size_limit(options);
    let is_too_big = |octets: usize| limit != 0 && octets as u64 > limit;
    if is_too_big(announced) {
        return Some(552);
    }
    // Lines are asked for in all of a text, and in the header of what is binary, its empty line included.
    let lines = if options & session::BINARY != 0 { header(text) } else { text.len() };
    if normalises(options) {
        if last {
            normalise(text);
        }
    } else if has_lone_end(&text[..lines], last || lines < text.len()) {
        return Some(550);
    }
    let is_all_lines = options & session::BINARY == 0 || lines == text.len();
    if last && is_all_lines && !text.is_empty() && !text.ends_with(b"\r\n") {
        text.extend_from_slice(b"\r\n");
    }
    is_too_big(kept(text)).then_some(552)
}

/// Octets up to the empty line behind the header, that line included; all if there is none.
fn header(text: &[u8]) -> usize {
    if text.starts_with(b"\r\n") {
        return 2;
    }
    memchr::memmem::find(text, b"\r\n\r\n").map_or(text.len(), |at| at + 4)
}

/// True if a CR or LF stands alone; a CR at the end does if nothing more comes.
fn has_lone_end(text: &[u8], is_all: bool) -> bool {
    (0..text.len()).any(|at| match text[at] {
        b'\r' => text.get(at + 1).map_or(is_all, |next| *next != b'\n'),
        b'\n' => at == 0 || text[at - 1] != b'\r',
        _ => false,
    })
}

/// Makes whole line ends of lone ones.
fn normalise(text: &mut Vec<u8>) {
    let mut out = Vec::new();
    for (at, octet) in text.iter().enumerate() {
        match octet {
            b'\r' if text.get(at + 1) == Some(&b'\n') => {}
            b'\r' | b'\n' => out.extend_from_slice(b"\r\n"),
            _ => out.push(*octet),
        }
    }
    *text = out;
}
