//! A message on its way in, by DATA or by BDAT: limits are kept, and what headers tell is counted while the bytes pass by.
//! After DATA dots are un-stuffed, and only CRLF.CRLF ends the message, however the bytes are cut; by BDAT the caller knows
//! the end. A message that breaks a rule is read to its end and not kept.

mod watch;

use memchr::{memchr2, memrchr};

use crate::line::BareNewline;
use crate::reply::Own;
use crate::scan;
use watch::HeaderWatch;

/// Bounds of one message; 0 means no bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyLimits {
    /// Octets of the whole message, after un-stuffing, line ends included (RFC 1870).
    pub size: u64,
    /// Octets of the header, the empty line included.
    pub header: u64,
    /// Octets of one line, without its end.
    pub line: u64,
    /// Received fields (RFC 5321 6.3).
    pub hops: u32,
    /// Octets that are read after a fault in search of the end.
    pub drain: u64,
}

impl Default for BodyLimits {
    fn default() -> Self {
        BodyLimits { size: 10_240_000, header: 1 << 20, line: 1 << 20, hops: 50, drain: 1 << 30 }
    }
}

/// How the octets of a message come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Framing {
    /// DATA: dots are stuffed, and a line with a dot ends it.
    #[default]
    Dots,
    /// BDAT: lines of text, as DATA has them; the caller says where the end is.
    Chunks,
    /// BDAT with BODY=BINARYMIME: a header of lines, and behind it whatever there is.
    Binary,
}

/// Why a message was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// A CR or LF stood alone.
    BareNewline,
    /// Larger than the limit.
    TooBig,
    /// Header larger than the limit.
    HeaderTooBig,
    /// A line longer than the limit.
    LineTooLong,
    /// More Received fields than the limit.
    TooManyHops,
}

impl BodyFault {
    /// The reply at the end of such a message.
    pub fn reply(self) -> Own {
        match self {
            BodyFault::BareNewline => Own::BareNewlineInMessage,
            BodyFault::TooBig => Own::MessageTooBig,
            BodyFault::HeaderTooBig => Own::HeaderTooBig,
            BodyFault::LineTooLong => Own::TextLineTooLong,
            BodyFault::TooManyHops => Own::TooManyHops,
        }
    }
}

/// What was learnt of a message while it passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageFacts {
    /// Octets, line ends included.
    pub size: u64,
    /// Octets of the header with the empty line; the whole size if there is no empty line.
    pub header_size: u64,
    /// Received fields.
    pub hops: u32,
    /// Some octet is above 127.
    pub eight_bit: bool,
}

/// How far one piece of input has brought the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All input was taken and the end has not come.
    More,
    /// The message ended; this many octets of the input belonged to it.
    End(usize),
    /// All input was taken; after a fault the end has not come within the drain limit.
    Overrun,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Behind a CRLF, or at the very start.
    LineStart,
    /// Behind a dot that began a line.
    Dot,
    /// Behind dot and CR.
    DotCr,
    /// Within a line.
    Text,
    /// Behind a CR that is held back.
    Cr,
}

/// Decodes one message.
#[derive(Debug)]
pub struct DataDecoder {
    framing: Framing,
    state: State,
    bare: BareNewline,
    fault: Option<BodyFault>,
    eight_bit: bool,
    column: u64,
    size: u64,
    drained: u64,
    watch: HeaderWatch,
    limits: BodyLimits,
}

impl DataDecoder {
    /// A decoder at the start of a message that comes by DATA.
    pub fn new(limits: BodyLimits, bare: BareNewline) -> Self {
        Self::framed(limits, bare, Framing::Dots)
    }

    /// A decoder at the start of a message.
    pub(crate) fn framed(limits: BodyLimits, bare: BareNewline, framing: Framing) -> Self {
        DataDecoder {
            framing,
            state: State::LineStart,
            bare,
            fault: None,
            eight_bit: false,
            column: 0,
            size: 0,
            drained: 0,
            watch: HeaderWatch::new(),
            limits,
        }
    }

    /// Takes input up to the end of the message, and appends the message's bytes to `out`. After a fault nothing more is
    /// appended; what was appended before is then to be thrown away.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Progress {
        let mut at = 0;
        // input[kept..at] is text that was looked at and not yet copied: whole runs of lines go out in one copy.
        let mut kept = 0;
        // Up to here a block was looked at in vain.
        let mut careful = 0;
        while let Some(&byte) = input.get(at) {
            match (self.state, byte) {
                _ if self.framing == Framing::Binary && !self.watch.in_header() => {
                    at = input.len();
                }
                (State::LineStart, b'.') if self.framing == Framing::Dots => {
                    self.emit(&input[kept..at], out);
                    at += 1;
                    kept = at;
                    self.state = State::Dot;
                }
                (State::Dot, b'\r') => {
                    at += 1;
                    kept = at;
                    self.state = State::DotCr;
                }
                (State::DotCr, b'\n') => return Progress::End(at + 1),
                (State::Cr, b'\n') => {
                    at += 1;
                    kept = at;
                    self.emit(b"\r\n", out);
                    self.line_end();
                    self.state = State::LineStart;
                }
                (State::DotCr | State::Cr, _) => {
                    self.bare_newline(out);
                    self.state = State::Text;
                }
                (State::LineStart | State::Text, _) if at >= careful && self.skip_block(input, &mut at) => {}
                (State::LineStart | State::Dot | State::Text, _) => {
                    if at >= careful {
                        careful = at + scan::BLOCK;
                    }
                    at = self.text(input, at);
                    match (input.get(at), input.get(at + 1)) {
                        (Some(b'\r'), Some(b'\n')) => {
                            at += 2;
                            self.line_end();
                            self.state = State::LineStart;
                        }
                        (Some(end), next) => {
                            self.emit(&input[kept..at], out);
                            at += 1;
                            kept = at;
                            if *end == b'\r' && next.is_none() {
                                self.state = State::Cr;
                            } else {
                                self.bare_newline(out);
                            }
                        }
                        (None, _) => {}
                    }
                }
            }
        }
        self.emit(&input[kept..at], out);
        if self.fault.is_some() {
            self.drained += input.len() as u64;
            if self.limits.drain != 0 && self.drained > self.limits.drain {
                return Progress::Overrun;
            }
        }
        Progress::More
    }

    /// More octets are announced. If they are too many, there is no use in keeping what comes.
    pub(crate) fn announce(&mut self, octets: u64) {
        self.check(self.limits.size, self.size.saturating_add(octets), BodyFault::TooBig);
    }

    /// The end of a message that came in chunks. A text gets the line end that its last line lacks, so that it can go on
    /// by DATA; a signature does not see it (RFC 6376 3.4).
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.state == State::Cr {
            self.bare_newline(out);
        }
        if self.column > 0 && (self.framing == Framing::Chunks || self.watch.in_header()) {
            self.emit(b"\r\n", out);
            self.line_end();
        }
    }

    /// The first rule that the message broke.
    pub fn fault(&self) -> Option<BodyFault> {
        self.fault
    }

    /// What is known so far.
    pub fn facts(&self) -> MessageFacts {
        MessageFacts {
            size: self.size,
            header_size: self.watch.header_size(),
            hops: self.watch.hops(),
            eight_bit: self.eight_bit,
        }
    }

    /// Moves `at` behind a block that needs no care, if there is one. Headers always get care.
    fn skip_block(&mut self, input: &[u8], at: &mut usize) -> bool {
        if self.watch.in_header() {
            return false;
        }
        let rest = &input[*at..];
        let length = scan::plain_block(rest);
        let block = &rest[..length];
        if block.is_empty() || self.limits.line != 0 && self.column + length as u64 > self.limits.line {
            return false;
        }
        *at += length;
        self.column = match memrchr(b'\n', block) {
            Some(end) => (length - end - 1) as u64,
            None => self.column + length as u64,
        };
        self.state = if self.column == 0 { State::LineStart } else { State::Text };
        true
    }

    /// Looks at the text from `at` up to the next CR or LF, and tells where that is.
    fn text(&mut self, input: &[u8], at: usize) -> usize {
        let rest = &input[at..];
        let length = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        self.state = State::Text;
        if self.watch.in_header() {
            self.watch.text(self.column, &rest[..length]);
            self.check(self.limits.header, self.watch.header_size(), BodyFault::HeaderTooBig);
        }
        self.column += length as u64;
        self.check(self.limits.line, self.column, BodyFault::LineTooLong);
        at + length
    }

    fn line_end(&mut self) {
        if self.watch.in_header() {
            self.watch.line_end(self.column);
            self.check(self.limits.header, self.watch.header_size(), BodyFault::HeaderTooBig);
            self.check(self.limits.hops.into(), self.watch.hops().into(), BodyFault::TooManyHops);
        }
        self.column = 0;
    }

    /// A CR or LF that stands alone: it never counts as the line end that a dot needs before it.
    fn bare_newline(&mut self, out: &mut Vec<u8>) {
        self.state = State::Text;
        match self.bare {
            BareNewline::Refuse => self.fault = self.fault.or(Some(BodyFault::BareNewline)),
            BareNewline::Normalise => {
                self.emit(b"\r\n", out);
                self.line_end();
            }
        }
    }

    fn emit(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.fault.is_some() || bytes.is_empty() {
            return;
        }
        self.size += bytes.len() as u64;
        self.check(self.limits.size, self.size, BodyFault::TooBig);
        if self.fault.is_none() {
            self.eight_bit = self.eight_bit || !bytes.is_ascii();
            out.extend_from_slice(bytes);
        }
    }

    fn check(&mut self, limit: u64, value: u64, fault: BodyFault) {
        if limit != 0 && value > limit && self.fault.is_none() {
            self.fault = Some(fault);
        }
    }
}
