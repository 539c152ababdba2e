//! An HTTP response (RFC 9112), as far as a policy needs one: status 200, a text, a length that is known. Pure. Redirects
//! are not followed (RFC 8461 3.3), and neither is anything else.

use std::fmt;

use super::policy::MAX_POLICY;

/// Most octets of the head.
const MAX_HEAD: usize = 16 * 1024;
/// Most octets of a response in all, with the frames of its chunks.
pub const MAX_RESPONSE: usize = MAX_HEAD + 2 * MAX_POLICY;

/// Why a response is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpFault {
    /// It is not HTTP/1.
    Garbage,
    /// Another status than 200.
    Status(u16),
    /// Not `text/plain`.
    Kind,
    /// More than a policy can have.
    TooLarge,
    /// It ended before its end.
    Short,
}

impl fmt::Display for HttpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpFault::Garbage => f.write_str("not an HTTP response"),
            HttpFault::Status(status) => write!(f, "HTTP status {status}"),
            HttpFault::Kind => f.write_str("not a text/plain document"),
            HttpFault::TooLarge => f.write_str("the document is too large"),
            HttpFault::Short => f.write_str("the document is cut off"),
        }
    }
}

/// How the body ends.
enum Framing {
    Length(usize),
    Chunks,
    /// With the connection.
    End,
}

/// The body of a response; `None` while it is not complete. `ended` says that no more comes.
pub fn body(response: &[u8], ended: bool) -> Result<Option<Vec<u8>>, HttpFault> {
    if response.len() > MAX_RESPONSE {
        return Err(HttpFault::TooLarge);
    }
    let Some(end) = find(response, b"\r\n\r\n") else {
        return if response.len() > MAX_HEAD { Err(HttpFault::TooLarge) } else { short(ended) };
    };
    let (head, rest) = (response.get(..end).unwrap_or_default(), response.get(end + 4..).unwrap_or_default());
    match framing(std::str::from_utf8(head).map_err(|_| HttpFault::Garbage)?)? {
        Framing::Length(length) if length > MAX_POLICY => Err(HttpFault::TooLarge),
        Framing::Length(length) => match rest.get(..length) {
            Some(body) => Ok(Some(body.to_vec())),
            None => short(ended),
        },
        Framing::Chunks => match unchunk(rest)? {
            Some(body) => Ok(Some(body)),
            None => short(ended),
        },
        Framing::End if rest.len() > MAX_POLICY => Err(HttpFault::TooLarge),
        Framing::End => Ok(ended.then(|| rest.to_vec())),
    }
}

/// The status of a response; `None` while its first line is not complete.
pub fn status(response: &[u8]) -> Result<Option<u16>, HttpFault> {
    let Some(end) = find(response, b"\r\n") else {
        return if response.len() > MAX_HEAD { Err(HttpFault::TooLarge) } else { Ok(None) };
    };
    let line = std::str::from_utf8(response.get(..end).unwrap_or_default());
    line.map_err(|_| HttpFault::Garbage).and_then(status_of).map(Some)
}

fn status_of(line: &str) -> Result<u16, HttpFault> {
    let rest = line.strip_prefix("HTTP/1.").ok_or(HttpFault::Garbage)?;
    rest.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(HttpFault::Garbage)
}

fn short(ended: bool) -> Result<Option<Vec<u8>>, HttpFault> {
    if ended { Err(HttpFault::Short) } else { Ok(None) }
}

fn framing(head: &str) -> Result<Framing, HttpFault> {
    let mut lines = head.split("\r\n");
    let status = status_of(lines.next().unwrap_or_default())?;
    if status != 200 {
        return Err(HttpFault::Status(status));
    }
    let (mut length, mut chunked, mut is_text) = (None, false, false);
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(HttpFault::Garbage)?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.parse().map_err(|_| HttpFault::Garbage)?),
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => chunked = true,
            "transfer-encoding" => return Err(HttpFault::Garbage),
            "content-type" => {
                let kind = value.split(';').next().unwrap_or_default();
                is_text = kind.trim().eq_ignore_ascii_case("text/plain");
            }
            _ => {}
        }
    }
    match (is_text, chunked, length) {
        (false, ..) => Err(HttpFault::Kind),
        (_, true, None) => Ok(Framing::Chunks),
        // Two lengths: somebody wants us to read another document than others do.
        (_, true, Some(_)) => Err(HttpFault::Garbage),
        (_, false, Some(length)) => Ok(Framing::Length(length)),
        (_, false, None) => Ok(Framing::End),
    }
}

fn unchunk(mut rest: &[u8]) -> Result<Option<Vec<u8>>, HttpFault> {
    let mut body = Vec::new();
    loop {
        let Some(end) = find(rest, b"\r\n") else { return Ok(None) };
        let size =
            std::str::from_utf8(rest.get(..end).unwrap_or_default()).map_err(|_| HttpFault::Garbage)?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| HttpFault::Garbage)?;
        if size == 0 {
            return Ok(Some(body));
        }
        if body.len().saturating_add(size) > MAX_POLICY {
            return Err(HttpFault::TooLarge);
        }
        let chunk = rest.get(end + 2..).unwrap_or_default();
        let (Some(data), Some(after)) = (chunk.get(..size), chunk.get(size..size + 2)) else {
            return Ok(None);
        };
        if after != b"\r\n" {
            return Err(HttpFault::Garbage);
        }
        body.extend_from_slice(data);
        rest = chunk.get(size + 2..).unwrap_or_default();
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: Text/Plain; charset=utf-8\r\n";

    fn of(text: &str, ended: bool) -> Result<Option<String>, HttpFault> {
        Ok(body(text.as_bytes(), ended)?.map(|body| String::from_utf8(body).unwrap()))
    }

    #[test]
    fn the_status_is_known_with_the_first_line() {
        assert_eq!(status(b"HTTP/1.1 201 Created\r"), Ok(None));
        assert_eq!(status(b"HTTP/1.1 201 Created\r\nX"), Ok(Some(201)));
        assert_eq!(status(b"220 mx.test ESMTP\r\n"), Err(HttpFault::Garbage));
        assert_eq!(status(&[b'x'; MAX_HEAD + 1]), Err(HttpFault::TooLarge));
    }

    #[test]
    fn a_body_by_length_by_chunks_and_to_the_end() {
        let all = |text: String| {
            for cut in 0..text.len() {
                assert_eq!(of(&text[..cut], false), Ok(None), "{cut}");
            }
            of(&text, false)
        };
        assert_eq!(all(format!("{HEAD}Content-Length: 3\r\n\r\nabc")), Ok(Some("abc".to_owned())));
        let chunks = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\n");
        assert_eq!(all(chunks), Ok(Some("abc".to_owned())));
        assert_eq!(of(&format!("{HEAD}\r\nabc"), true), Ok(Some("abc".to_owned())));
        assert_eq!(of(&format!("{HEAD}\r\nabc"), false), Ok(None));
    }

    #[test]
    fn nothing_else_is_a_policy() {
        for (text, fault) in [
            ("SSH-2.0-x\r\n\r\n".to_owned(), HttpFault::Garbage),
            ("HTTP/1.1 301 Moved\r\nLocation: https://x/\r\n\r\n".to_owned(), HttpFault::Status(301)),
            (HEAD.replace("Text/Plain", "text/html") + "\r\nx", HttpFault::Kind),
            ("HTTP/1.0 200 OK\r\n\r\nx".to_owned(), HttpFault::Kind),
            (format!("{HEAD}Content-Length: 4\r\n\r\nabc"), HttpFault::Short),
            (format!("{HEAD}Content-Length: 65537\r\n\r\nabc"), HttpFault::TooLarge),
            (format!("{HEAD}Content-Length: -1\r\n\r\nabc"), HttpFault::Garbage),
            (format!("{HEAD}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc"), HttpFault::Garbage),
            (format!("{HEAD}Transfer-Encoding: gzip\r\n\r\nabc"), HttpFault::Garbage),
            (format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nx\r\n"), HttpFault::Garbage),
            (format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n1\r\nabc"), HttpFault::Garbage),
            (format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"), HttpFault::TooLarge),
            (format!("{HEAD}\r\n{}", "x".repeat(MAX_POLICY + 1)), HttpFault::TooLarge),
            ("x".repeat(MAX_HEAD + 1), HttpFault::TooLarge),
        ] {
            assert_eq!(of(&text, true), Err(fault), "{:.80}", text);
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(rest in proptest::collection::vec(proptest::num::u8::ANY, 0..300), chunked: bool, ended: bool) {
            let framing = if chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
            let _ = body(&[format!("{HEAD}{framing}\r\n").as_bytes(), &rest].concat(), ended);
            let _ = body(&rest, ended);
        }
    }
}
