//! A message for a server that does not take it as it is (RFC 6152 3): its 8-bit or binary parts become quoted-printable or
//! base64. It is read once to decide, part by part, and then written in pieces. Bounded memory: one header block, one line.
//! What cannot be encoded without harm (signed parts, headers, messages inside messages) is refused, and the message with it.

mod encode;
mod entity;
mod parser;

use std::fmt;

use encode::{Base64, QuotedPrintable};
use entity::{Header, Kind, Label};
use parser::{Event, Parser};

/// Most parts of a message.
const MAX_PARTS: usize = 10_000;
/// Longest line that may go as it is, without its CRLF, in octets (RFC 5321 4.5.3.1.6).
const MAX_LINE: usize = 998;
/// Octets that are kept of a line that stands between parts, where nobody reads it.
const MAX_BETWEEN: usize = 900;

/// Why a message cannot be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unconvertible(pub &'static str);

impl fmt::Display for Unconvertible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Unconvertible {}

/// What the server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// ASCII only, in lines.
    SevenBit,
    /// Any octets, in lines.
    EightBit,
}

/// How one part's body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// As it is, with a label that says so.
    AsItIs(Label),
    QuotedPrintable,
    Base64,
}

/// Reads a message to decide what becomes of each part.
#[derive(Debug)]
pub struct Scan {
    takes: Takes,
    parser: Parser,
    found: Found,
}

/// What was decided so far.
#[derive(Debug, Default)]
struct Found {
    parts: Vec<Encoding>,
    present: Option<Present>,
}

/// The part that is being read.
#[derive(Debug)]
struct Present {
    label: Label,
    is_text: bool,
    /// It must stay as it is.
    fixed: Option<&'static str>,
    eight_bit: bool,
    /// A NUL, or a CR or LF alone.
    binary: bool,
    long: bool,
    line: usize,
}

impl Scan {
    /// Before the first octet.
    pub fn new(takes: Takes) -> Self {
        Scan { takes, parser: Parser::default(), found: Found::default() }
    }

    /// Takes more of the message.
    ///
    /// # Errors
    /// It cannot be converted.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Unconvertible> {
        let (takes, found) = (self.takes, &mut self.found);
        self.parser.push(piece, &mut |event| found.take(event, takes))
    }

    /// The message is complete: what is to be done.
    ///
    /// # Errors
    /// It cannot be converted.
    pub fn finish(mut self) -> Result<Converter, Unconvertible> {
        let (takes, found) = (self.takes, &mut self.found);
        self.parser.finish(&mut |event| found.take(event, takes))?;
        self.found.decide(takes)?;
        Ok(Converter { takes, parser: Parser::default(), writer: Writer::new(takes, self.found.parts) })
    }
}

impl Found {
    fn take(&mut self, event: Event<'_>, takes: Takes) -> Result<(), Unconvertible> {
        match event {
            Event::Header(header) => {
                self.decide(takes)?;
                if takes == Takes::SevenBit && !header.block.is_ascii() {
                    return Err(Unconvertible("a header field is not ASCII"));
                }
                if let Kind::Leaf { is_text, fixed } = header.kind {
                    self.present = Some(Present::new(header.label, is_text, fixed));
                }
            }
            Event::Text(text) => {
                if let Some(present) = &mut self.present {
                    present.read(text);
                }
            }
            Event::LineEnd => {
                if let Some(present) = &mut self.present {
                    present.line = 0;
                }
            }
            Event::Boundary(_) => self.decide(takes)?,
            Event::Between(_) => {}
        }
        Ok(())
    }

    /// The present part is complete.
    fn decide(&mut self, takes: Takes) -> Result<(), Unconvertible> {
        let Some(present) = self.present.take() else { return Ok(()) };
        if self.parts.len() >= MAX_PARTS {
            return Err(Unconvertible("too many parts"));
        }
        self.parts.push(present.encoding(takes)?);
        Ok(())
    }
}

impl Present {
    fn new(label: Label, is_text: bool, fixed: Option<&'static str>) -> Self {
        Present { label, is_text, fixed, eight_bit: false, binary: false, long: false, line: 0 }
    }

    fn read(&mut self, text: &[u8]) {
        self.eight_bit |= !text.is_ascii();
        self.binary |= text.iter().any(|octet| matches!(octet, 0 | b'\r' | b'\n'));
        self.line += text.len();
        self.long |= self.line > MAX_LINE;
    }

    fn encoding(&self, takes: Takes) -> Result<Encoding, Unconvertible> {
        let fits = !self.binary && !self.long && (takes == Takes::EightBit || !self.eight_bit);
        if fits {
            let honest = if self.eight_bit { Label::EightBit } else { Label::SevenBit };
            let label =
                if matches!(self.label, Label::EightBit | Label::Binary) { honest } else { self.label };
            return Ok(Encoding::AsItIs(label));
        }
        match (self.fixed, self.label) {
            (Some(why), _) => Err(Unconvertible(why)),
            (None, Label::Other) => Err(Unconvertible("an encoded part is not what its encoding says")),
            (None, _) if self.is_text && !self.binary => Ok(Encoding::QuotedPrintable),
            (None, _) => Ok(Encoding::Base64),
        }
    }
}

/// Writes the message as the server takes it. To be given the same octets as the scan.
#[derive(Debug)]
pub struct Converter {
    takes: Takes,
    parser: Parser,
    writer: Writer,
}

impl Converter {
    /// The same, before the first octet.
    #[must_use]
    pub fn again(&self) -> Converter {
        let writer = Writer::new(self.takes, self.writer.parts.clone());
        Converter { takes: self.takes, parser: Parser::default(), writer }
    }

    /// Takes more of the message, and appends what comes of it.
    ///
    /// # Errors
    /// It is not the message that was scanned.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unconvertible> {
        let writer = &mut self.writer;
        self.parser.push(piece, &mut |event| writer.take(event, out))
    }

    /// The message is complete: appends the rest.
    ///
    /// # Errors
    /// It is not the message that was scanned.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), Unconvertible> {
        let writer = &mut self.writer;
        self.parser.finish(&mut |event| writer.take(event, out))?;
        writer.end_part(true, out);
        Ok(())
    }
}

#[derive(Debug)]
struct Writer {
    takes: Takes,
    parts: Vec<Encoding>,
    next: usize,
    body: Body,
    between: usize,
}

/// How the present part goes out.
#[derive(Debug)]
enum Body {
    AsItIs,
    QuotedPrintable(QuotedPrintable),
    /// And whether a line end waits: the last one before a boundary belongs to the boundary.
    Base64(Base64, bool),
}

impl Writer {
    fn new(takes: Takes, parts: Vec<Encoding>) -> Self {
        Writer { takes, parts, next: 0, body: Body::AsItIs, between: 0 }
    }

    fn take(&mut self, event: Event<'_>, out: &mut Vec<u8>) -> Result<(), Unconvertible> {
        match event {
            Event::Header(header) => return self.header(&header, out),
            Event::Text(text) => match &mut self.body {
                Body::AsItIs => out.extend_from_slice(text),
                Body::QuotedPrintable(encoder) => encoder.push(text, out),
                Body::Base64(encoder, line_end) => {
                    if std::mem::take(line_end) {
                        encoder.push(b"\r\n", out);
                    }
                    encoder.push(text, out);
                }
            },
            Event::LineEnd => match &mut self.body {
                Body::AsItIs => out.extend_from_slice(b"\r\n"),
                Body::QuotedPrintable(encoder) => encoder.line_end(out),
                Body::Base64(encoder, line_end) => {
                    if std::mem::replace(line_end, true) {
                        encoder.push(b"\r\n", out);
                    }
                }
            },
            Event::Boundary(line) => {
                self.end_part(false, out);
                self.between = 0;
                out.extend_from_slice(line);
            }
            Event::Between(text) => self.between(text, out),
        }
        Ok(())
    }

    fn header(&mut self, header: &Header<'_>, out: &mut Vec<u8>) -> Result<(), Unconvertible> {
        let label = match header.kind {
            Kind::Leaf { .. } => {
                let encoding = self.parts.get(self.next).ok_or(Unconvertible("message has changed"))?;
                self.next += 1;
                match encoding {
                    Encoding::AsItIs(label) => {
                        self.body = Body::AsItIs;
                        *label
                    }
                    Encoding::QuotedPrintable => {
                        self.body = Body::QuotedPrintable(QuotedPrintable::default());
                        Label::QuotedPrintable
                    }
                    Encoding::Base64 => {
                        self.body = Body::Base64(Base64::default(), false);
                        Label::Base64
                    }
                }
            }
            Kind::Composite => match (header.label, self.takes) {
                (Label::Binary | Label::EightBit, Takes::SevenBit) => Label::SevenBit,
                (Label::Binary, Takes::EightBit) => Label::EightBit,
                (label, _) => label,
            },
        };
        header.write(label, out);
        Ok(())
    }

    /// What is before the first and behind the last part: it is not shown, and may be spoilt.
    fn between(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if text == b"\r\n" {
            self.between = 0;
            return out.extend_from_slice(text);
        }
        let room = MAX_BETWEEN.saturating_sub(self.between);
        self.between += text.len();
        let is_fine = |octet: u8| {
            (octet.is_ascii() || self.takes == Takes::EightBit) && !matches!(octet, 0 | b'\r' | b'\n')
        };
        out.extend(text.iter().take(room).map(|octet| if is_fine(*octet) { *octet } else { b'?' }));
    }

    /// The present part is complete, before a boundary or at the end of the message.
    fn end_part(&mut self, is_end: bool, out: &mut Vec<u8>) {
        match std::mem::replace(&mut self.body, Body::AsItIs) {
            Body::AsItIs => {}
            Body::QuotedPrintable(encoder) => encoder.finish(out),
            Body::Base64(mut encoder, line_end) => {
                if line_end && is_end {
                    encoder.push(b"\r\n", out);
                }
                encoder.finish(out);
                if line_end || is_end {
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
