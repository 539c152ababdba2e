//! The body on its way out: dots are stuffed, and whatever the store holds, only CRLF goes over the wire: a lone CR or LF
//! that we sent could end the message on the next server.

use memchr::memchr2;

use crate::scan;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LineStart,
    Text,
    /// Behind a CR that is held back.
    Cr,
}

/// Encodes one message.
#[derive(Debug)]
pub struct DotStuffer {
    state: State,
}

impl Default for DotStuffer {
    fn default() -> Self {
        DotStuffer { state: State::LineStart }
    }
}

impl DotStuffer {
    /// Encodes a piece of the message, of any length.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut at = 0;
        // input[kept..at] was looked at and not yet copied.
        let mut kept = 0;
        // Up to here a block was looked at in vain.
        let mut careful = 0;
        while let Some(&byte) = input.get(at) {
            match (self.state, byte) {
                (State::LineStart, b'.') => {
                    out.extend_from_slice(&input[kept..at]);
                    out.push(b'.');
                    kept = at;
                    at += 1;
                    self.state = State::Text;
                }
                (State::Cr, _) => {
                    out.extend_from_slice(b"\r\n");
                    at += usize::from(byte == b'\n');
                    kept = at;
                    self.state = State::LineStart;
                }
                _ if at >= careful && self.skip_block(input, &mut at) => {}
                _ => {
                    if at >= careful {
                        careful = at + scan::BLOCK;
                    }
                    let rest = &input[at..];
                    at += memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                    self.state = State::Text;
                    match (input.get(at), input.get(at + 1)) {
                        (Some(b'\r'), Some(b'\n')) => {
                            at += 2;
                            self.state = State::LineStart;
                        }
                        (Some(end), next) => {
                            out.extend_from_slice(&input[kept..at]);
                            at += 1;
                            kept = at;
                            if *end == b'\r' && next.is_none() {
                                self.state = State::Cr;
                            } else {
                                out.extend_from_slice(b"\r\n");
                                self.state = State::LineStart;
                            }
                        }
                        (None, _) => {}
                    }
                }
            }
        }
        out.extend_from_slice(&input[kept..at]);
    }

    /// Moves `at` behind a block that needs no care, if there is one.
    fn skip_block(&mut self, input: &[u8], at: &mut usize) -> bool {
        let block = &input[*at..];
        let block = &block[..scan::plain_block(block)];
        if block.is_empty() {
            return false;
        }
        *at += block.len();
        self.state = if block.ends_with(b"\n") { State::LineStart } else { State::Text };
        true
    }

    /// Ends the message: a last line without end gets one, then comes the dot.
    pub fn finish(self, out: &mut Vec<u8>) {
        if self.state != State::LineStart {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{BodyLimits, DataDecoder, Progress};
    use crate::line::BareNewline;
    use proptest::prelude::*;

    fn stuff(input: &[u8], size: usize) -> Vec<u8> {
        let (mut stuffer, mut out) = (DotStuffer::default(), Vec::new());
        for piece in input.chunks(size) {
            stuffer.push(piece, &mut out);
        }
        stuffer.finish(&mut out);
        out
    }

    #[test]
    fn dots_and_ends() {
        for (input, wanted) in [
            (&b""[..], &b".\r\n"[..]),
            (b"a", b"a\r\n.\r\n"),
            (b".", b"..\r\n.\r\n"),
            (b".\r\n.\r\n", b"..\r\n..\r\n.\r\n"),
            (b"a\r\n.b\r\n", b"a\r\n..b\r\n.\r\n"),
            (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
            (b"a\r.\r\r\n", b"a\r\n..\r\n\r\n.\r\n"),
            (b"a\r", b"a\r\n.\r\n"),
        ] {
            for size in [1, 2, 3, 100] {
                assert_eq!(stuff(input, size).escape_ascii().to_string(), wanted.escape_ascii().to_string());
            }
        }
    }

    proptest! {
        #[test]
        fn no_body_can_end_the_message_early(input in "([.\r\na]|(a{70}\r\n){4,9}){0,40}", size in 1usize..9) {
            let wire = stuff(input.as_bytes(), size);
            prop_assert_eq!(&wire, &stuff(input.as_bytes(), 1000));
            let limits = BodyLimits::default();
            let (mut decoder, mut out) = (DataDecoder::new(limits, BareNewline::Refuse), Vec::new());
            prop_assert_eq!(decoder.push(&wire, &mut out), Progress::End(wire.len()));
            prop_assert_eq!(decoder.fault(), None);
            let mut canonical = input.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n");
            if !canonical.is_empty() && !canonical.ends_with("\r\n") {
                canonical.push_str("\r\n");
            }
            prop_assert_eq!(String::from_utf8(out).unwrap(), canonical);
        }
    }
}
