//! The body as it is signed (RFC 6376 3.4.3, 3.4.4), in parts of any size. Keeps a few numbers, never the body.

use super::Canon;

/// How much of a body came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All of it.
    All,
    /// As much as is signed; there was more.
    Cut,
    /// Less than is said to be signed: so many octets are missing.
    Short(u64),
}

/// Makes a body the same, part by part.
#[derive(Debug, Clone)]
pub struct BodyCanon {
    canon: Canon,
    /// Octets that may still come out; `None` for all.
    left: Option<u64>,
    /// Line ends that have not come out: they do only if something follows.
    ends: u64,
    /// White space that has not come out.
    gap: bool,
    /// The last octet was a CR.
    cr: bool,
    /// Something has come out.
    any: bool,
    /// Something more would have.
    cut: bool,
}

impl BodyCanon {
    /// For a body of which at most `length` octets are signed (`l=`).
    pub fn new(canon: Canon, length: Option<u64>) -> Self {
        BodyCanon { canon, left: length, ends: 0, gap: false, cr: false, any: false, cut: false }
    }

    /// The next part; what comes out of it is handed to `out`.
    pub fn update(&mut self, part: &[u8], out: &mut impl FnMut(&[u8])) {
        let mut made = Vec::with_capacity(part.len() + 2);
        for octet in part.iter().copied() {
            if std::mem::take(&mut self.cr) {
                if octet == b'\n' {
                    self.gap = false;
                    self.ends += 1;
                    continue;
                }
                self.put(b'\r', &mut made);
            }
            match octet {
                b'\r' => self.cr = true,
                b' ' | b'\t' if self.canon == Canon::Relaxed => self.gap = true,
                _ => self.put(octet, &mut made),
            }
        }
        self.give(&made, out);
    }

    /// The end of the body.
    pub fn finish(mut self, out: &mut impl FnMut(&[u8])) -> End {
        let mut made = Vec::new();
        if std::mem::take(&mut self.cr) {
            self.put(b'\r', &mut made);
        }
        if self.any || self.canon == Canon::Simple {
            made.extend(b"\r\n");
        }
        self.give(&made, out);
        match self.left {
            _ if self.cut => End::Cut,
            None | Some(0) => End::All,
            Some(left) => End::Short(left),
        }
    }

    fn put(&mut self, octet: u8, made: &mut Vec<u8>) {
        for _ in 0..std::mem::take(&mut self.ends) {
            made.extend(b"\r\n");
        }
        if std::mem::take(&mut self.gap) {
            made.push(b' ');
        }
        made.push(octet);
        self.any = true;
    }

    fn give(&mut self, made: &[u8], out: &mut impl FnMut(&[u8])) {
        let fits =
            self.left.map_or(made.len(), |left| usize::try_from(left).unwrap_or(usize::MAX).min(made.len()));
        if let Some(left) = &mut self.left {
            *left -= fits as u64;
        }
        self.cut |= fits < made.len();
        if let Some(made) = made.get(..fits).filter(|made| !made.is_empty()) {
            out(made);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(canon: Canon, parts: &[&[u8]], length: Option<u64>) -> (Vec<u8>, End) {
        let mut out = Vec::new();
        let mut body = BodyCanon::new(canon, length);
        for part in parts {
            body.update(part, &mut |octets| out.extend(octets));
        }
        let end = body.finish(&mut |octets| out.extend(octets));
        (out, end)
    }

    fn all(canon: Canon, body: &[u8]) -> Vec<u8> {
        made(canon, &[body], None).0
    }

    #[test]
    fn bodies_as_the_rfc_shows_them() {
        // RFC 6376 3.4.5.
        let body = b" C \r\nD \t E\r\n\r\n\r\n";
        assert_eq!(all(Canon::Relaxed, body), b" C\r\nD E\r\n");
        assert_eq!(all(Canon::Simple, body), b" C \r\nD \t E\r\n");
    }

    #[test]
    fn the_end_of_a_body_is_one_line_end_or_none() {
        for (body, simple, relaxed) in [
            (&b""[..], &b"\r\n"[..], &b""[..]),
            (b"\r\n", b"\r\n", b""),
            (b"\r\n\r\n", b"\r\n", b""),
            (b"a", b"a\r\n", b"a\r\n"),
            (b"a\r\n", b"a\r\n", b"a\r\n"),
            (b"a\r\n\r\n\r\n", b"a\r\n", b"a\r\n"),
            // Lines of white space only are empty lines to `relaxed`, and none to `simple`.
            (b"a\r\n \r\n", b"a\r\n \r\n", b"a\r\n"),
            (b"a\r\n\t \r\n\r\n", b"a\r\n\t \r\n", b"a\r\n"),
            (b"a\r\n ", b"a\r\n \r\n", b"a\r\n"),
            (b" \r\n", b" \r\n", b""),
            (b" ", b" \r\n", b""),
            (b"a\r\n \r\nb\r\n", b"a\r\n \r\nb\r\n", b"a\r\n\r\nb\r\n"),
            (b"a\r", b"a\r\r\n", b"a\r\r\n"),
            (b"a\rb\n", b"a\rb\n\r\n", b"a\rb\n\r\n"),
        ] {
            assert_eq!(all(Canon::Simple, body), simple, "{body:?}");
            assert_eq!(all(Canon::Relaxed, body), relaxed, "{body:?}");
        }
    }

    #[test]
    fn no_more_comes_out_than_is_signed() {
        assert_eq!(made(Canon::Simple, &[b"abc\r\nd"], Some(4)), (b"abc\r".to_vec(), End::Cut));
        assert_eq!(made(Canon::Simple, &[b"ab\r\n"], Some(4)), (b"ab\r\n".to_vec(), End::All));
        assert_eq!(made(Canon::Relaxed, &[b"ab"], Some(9)), (b"ab\r\n".to_vec(), End::Short(5)));
        assert_eq!(made(Canon::Relaxed, &[b"ab"], Some(0)), (Vec::new(), End::Cut));
    }

    proptest! {
        /// Where a body is cut into parts makes no difference.
        #[test]
        fn parts_make_no_difference(
            body in proptest::collection::vec(prop::sample::select(b"ab \t\r\n".to_vec()), 0..60),
            cut in any::<prop::sample::Index>(),
            relaxed in any::<bool>(),
        ) {
            let canon = if relaxed { Canon::Relaxed } else { Canon::Simple };
            let (a, b) = body.split_at(cut.index(body.len() + 1));
            prop_assert_eq!(made(canon, &[a, b], None).0, all(canon, &body));
        }
    }
}
