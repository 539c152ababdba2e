//! The structure of a message, line by line: headers, bodies, boundaries. The same octets give the same events, however
//! they are cut.

use super::Unconvertible;
use super::entity::{Header, Inside, Place, name_of};

/// Octets of one header block.
const MAX_HEADER: usize = 256 * 1024;
/// Octets of a line that are seen together. Longer lines come in pieces, and are no boundaries.
const MAX_PIECE: usize = 2048;
/// Most entities inside each other.
const MAX_DEPTH: usize = 100;

/// What the parser finds.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// The header of the next entity.
    Header(Header<'a>),
    /// Octets of the present body, without the end of their line.
    Text(&'a [u8]),
    /// CRLF in the present body.
    LineEnd,
    /// A line that begins or ends a part, as it is.
    Boundary(&'a [u8]),
    /// What is neither a part nor a boundary, line ends by themselves.
    Between(&'a [u8]),
}

type Sink<'s> = &'s mut dyn FnMut(Event<'_>) -> Result<(), Unconvertible>;

/// Where the parser is.
#[derive(Debug)]
pub(super) struct Parser {
    state: State,
    /// The line, as far as it has come.
    line: Vec<u8>,
    /// The line has more before what is in `line`.
    is_rest: bool,
    header: Vec<u8>,
    levels: Vec<Level>,
    /// Of the next header.
    place: Place,
    depth: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Body,
    Between,
}

/// A multipart that has not ended.
#[derive(Debug)]
struct Level {
    boundary: Vec<u8>,
    is_signed: bool,
    is_digest: bool,
    /// How deep its parts are.
    depth: usize,
}

impl Default for Parser {
    fn default() -> Self {
        Parser {
            state: State::Header,
            line: Vec::new(),
            is_rest: false,
            header: Vec::new(),
            levels: Vec::new(),
            place: Place { is_top: true, ..Place::default() },
            depth: 0,
        }
    }
}

impl Parser {
    /// Takes more octets.
    pub fn push(&mut self, mut piece: &[u8], sink: Sink<'_>) -> Result<(), Unconvertible> {
        while !piece.is_empty() {
            let room = MAX_PIECE - self.line.len();
            let window = piece.get(..room.min(piece.len())).unwrap_or_default();
            let end = window.iter().position(|octet| *octet == b'\n').map_or(window.len(), |at| at + 1);
            let (some, rest) = piece.split_at(end);
            self.line.extend_from_slice(some);
            piece = rest;
            if self.line.ends_with(b"\r\n") {
                self.on_line(sink)?;
            } else if self.line.len() >= MAX_PIECE {
                self.on_piece(sink)?;
            }
        }
        Ok(())
    }

    /// There is no more.
    pub fn finish(&mut self, sink: Sink<'_>) -> Result<(), Unconvertible> {
        if !self.line.is_empty() {
            self.on_line(sink)?;
        }
        if self.state == State::Header {
            self.on_header(sink)?;
        }
        Ok(())
    }

    /// A line of which there is more. A CR at its end may belong to what comes.
    fn on_piece(&mut self, sink: Sink<'_>) -> Result<(), Unconvertible> {
        let keeps = usize::from(self.line.last() == Some(&b'\r'));
        let rest = self.line.split_off(self.line.len() - keeps);
        let line = std::mem::replace(&mut self.line, rest);
        self.is_rest = true;
        match self.state {
            State::Header => self.keep(&line),
            State::Body => sink(Event::Text(&line)),
            State::Between => sink(Event::Between(&line)),
        }
    }

    /// A whole line, or the rest of one; the last one of the message may lack its CRLF.
    fn on_line(&mut self, sink: Sink<'_>) -> Result<(), Unconvertible> {
        let line = std::mem::take(&mut self.line);
        let is_rest = std::mem::take(&mut self.is_rest);
        if !is_rest && let Some((level, is_close)) = self.boundary(&line) {
            if self.state == State::Header {
                // A part without a body, and without the empty line before it.
                self.on_header(sink)?;
            }
            sink(Event::Boundary(&line))?;
            return self.on_boundary(level, is_close);
        }
        match self.state {
            State::Header => self.on_header_line(&line, is_rest, sink),
            State::Body => {
                let text = line.strip_suffix(b"\r\n");
                let (text, has_end) = text.map_or((line.as_slice(), false), |text| (text, true));
                if !text.is_empty() {
                    sink(Event::Text(text))?;
                }
                if has_end { sink(Event::LineEnd) } else { Ok(()) }
            }
            State::Between => {
                let text = line.strip_suffix(b"\r\n");
                sink(Event::Between(text.unwrap_or(&line)))?;
                if text.is_some() { sink(Event::Between(b"\r\n")) } else { Ok(()) }
            }
        }
    }

    fn keep(&mut self, line: &[u8]) -> Result<(), Unconvertible> {
        if self.header.len() + line.len() > MAX_HEADER {
            return Err(Unconvertible("a header is too large"));
        }
        self.header.extend_from_slice(line);
        Ok(())
    }

    fn on_header_line(&mut self, line: &[u8], is_rest: bool, sink: Sink<'_>) -> Result<(), Unconvertible> {
        let continues = is_rest || (matches!(line.first(), Some(b' ' | b'\t')) && !self.header.is_empty());
        if !continues && line != b"\r\n" && name_of(line).is_none() {
            return Err(Unconvertible("a header has a line that is no field"));
        }
        self.keep(line)?;
        if line == b"\r\n" && !is_rest { self.on_header(sink) } else { Ok(()) }
    }

    /// The header is complete.
    fn on_header(&mut self, sink: Sink<'_>) -> Result<(), Unconvertible> {
        let block = std::mem::take(&mut self.header);
        let header = Header::read(&block, self.place)?;
        let inside = header.inside.clone();
        sink(Event::Header(header))?;
        self.state = match inside {
            Inside::Body => State::Body,
            Inside::Message => {
                self.deeper()?;
                self.place = Place { is_top: true, in_digest: false, ..self.place };
                State::Header
            }
            Inside::Parts { boundary, is_signed, is_digest } => {
                self.deeper()?;
                self.levels.push(Level { boundary, is_signed, is_digest, depth: self.depth });
                State::Between
            }
        };
        Ok(())
    }

    fn deeper(&mut self) -> Result<(), Unconvertible> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Unconvertible("parts are nested too deep")) } else { Ok(()) }
    }

    /// Whose boundary the line is, the innermost first, and whether it is the last one.
    fn boundary(&self, line: &[u8]) -> Option<(usize, bool)> {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        let text = text.strip_prefix(b"--")?.trim_ascii_end();
        self.levels.iter().enumerate().rev().find_map(|(at, level)| {
            let boundary = level.boundary.trim_ascii_end();
            match text.strip_prefix(boundary)? {
                b"" => Some((at, false)),
                b"--" => Some((at, true)),
                _ => None,
            }
        })
    }

    fn on_boundary(&mut self, at: usize, is_close: bool) -> Result<(), Unconvertible> {
        // What was inside ends with it.
        self.levels.truncate(at + 1);
        if is_close {
            self.levels.truncate(at);
            self.state = State::Between;
            return Ok(());
        }
        if let Some(level) = self.levels.last() {
            self.depth = level.depth;
            self.place = Place { is_top: false, is_signed: level.is_signed, in_digest: level.is_digest };
        }
        self.state = State::Header;
        Ok(())
    }
}
