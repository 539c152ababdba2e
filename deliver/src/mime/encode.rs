//! Quoted-printable and base64 (RFC 2045 6.7, 6.8), in pieces.

use data_encoding::BASE64;

/// Longest line of either encoding, without its CRLF.
const MAX_LINE: usize = 76;
/// Octets that fill a line of base64.
const BASE64_LINE: usize = MAX_LINE / 4 * 3;

/// One body on its way into quoted-printable.
#[derive(Debug, Default)]
pub(super) struct QuotedPrintable {
    column: usize,
    /// A blank that may be the last of its line, where it must be encoded.
    blank: Option<u8>,
}

impl QuotedPrintable {
    /// Octets of a line.
    pub fn push(&mut self, text: &[u8], out: &mut Vec<u8>) {
        for octet in text {
            if let Some(blank) = self.blank.take() {
                self.put(&[blank], out);
            }
            match octet {
                b' ' | b'\t' => self.blank = Some(*octet),
                b'!'..=b'~' if *octet != b'=' => self.put(&[*octet], out),
                _ => self.put(&coded(*octet), out),
            }
        }
    }

    /// The end of a line.
    pub fn line_end(&mut self, out: &mut Vec<u8>) {
        self.end_blank(out);
        out.extend_from_slice(b"\r\n");
        self.column = 0;
    }

    /// The end of the body.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.end_blank(out);
    }

    fn end_blank(&mut self, out: &mut Vec<u8>) {
        if let Some(blank) = self.blank.take() {
            self.put(&coded(blank), out);
        }
    }

    fn put(&mut self, token: &[u8], out: &mut Vec<u8>) {
        // The last place of a line is for the sign that it goes on.
        if self.column + token.len() >= MAX_LINE {
            out.extend_from_slice(b"=\r\n");
            self.column = 0;
        }
        out.extend_from_slice(token);
        self.column += token.len();
    }
}

fn coded(octet: u8) -> [u8; 3] {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + value - 10 };
    [b'=', digit(octet >> 4), digit(octet & 0xf)]
}

/// One body on its way into base64.
#[derive(Debug, Default)]
pub(super) struct Base64 {
    held: Vec<u8>,
    is_first_done: bool,
}

impl Base64 {
    /// More octets.
    pub fn push(&mut self, mut octets: &[u8], out: &mut Vec<u8>) {
        while !octets.is_empty() {
            let (some, rest) = octets.split_at(octets.len().min(BASE64_LINE - self.held.len()));
            self.held.extend_from_slice(some);
            octets = rest;
            if self.held.len() == BASE64_LINE {
                self.line(out);
            }
        }
    }

    /// The end of the body. The last line has no CRLF.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        if !self.held.is_empty() {
            self.line(out);
        }
    }

    fn line(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.is_first_done, true) {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(BASE64.encode(&self.held).as_bytes());
        self.held.clear();
    }
}
