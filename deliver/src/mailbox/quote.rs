//! mbox quoting, the reversible kind (mboxrd): a line of any number of `>` and then `From ` gets one more `>`.

/// The beginning of a message in an mbox.
const MARK: &[u8] = b"From ";
/// A line with more `>` than this before `From ` is passed on as it is; no reader takes it for a border.
const MAX_QUOTES: usize = 1000;

/// Quotes a text that comes in pieces; lines end with LF.
pub struct FromQuoter {
    state: State,
    ends_with_newline: bool,
}

enum State {
    /// At the start of a line: so many `>` and so much of the mark were held back.
    Start { quotes: usize, matched: usize },
    /// Nothing can be a border until the next LF.
    Inside,
}

impl Default for FromQuoter {
    fn default() -> Self {
        FromQuoter { state: State::Start { quotes: 0, matched: 0 }, ends_with_newline: true }
    }
}

impl FromQuoter {
    /// Takes a piece and appends what is certain.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some((&first, rest)) = bytes.split_first() {
            match self.state {
                State::Inside => {
                    let end = memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
                    let (line, after) = bytes.split_at(end);
                    out.extend_from_slice(line);
                    self.ends_with_newline = line.ends_with(b"\n");
                    if self.ends_with_newline {
                        self.state = State::Start { quotes: 0, matched: 0 };
                    }
                    bytes = after;
                }
                State::Start { quotes, matched } => {
                    self.ends_with_newline = false;
                    if matched == 0 && first == b'>' && quotes < MAX_QUOTES {
                        self.state = State::Start { quotes: quotes + 1, matched };
                        bytes = rest;
                    } else if MARK.get(matched) == Some(&first) {
                        let matched = matched + 1;
                        self.state = State::Start { quotes, matched };
                        bytes = rest;
                        if matched == MARK.len() {
                            out.push(b'>');
                            self.release(out);
                        }
                    } else {
                        self.release(out);
                    }
                }
            }
        }
    }

    /// The end of the text: what was held back, and the LF that the last line lacks.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.release(out);
        if !self.ends_with_newline {
            out.push(b'\n');
        }
        *self = Self::default();
    }

    fn release(&mut self, out: &mut Vec<u8>) {
        if let State::Start { quotes, matched } = self.state {
            out.extend(std::iter::repeat_n(b'>', quotes));
            out.extend_from_slice(MARK.get(..matched).unwrap_or(MARK));
            self.state = State::Inside;
        }
    }
}

fn memchr(byte: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quote(pieces: &[&[u8]]) -> String {
        let (mut quoter, mut out) = (FromQuoter::default(), Vec::new());
        for piece in pieces {
            quoter.push(piece, &mut out);
        }
        quoter.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn borders_are_quoted_and_nothing_else() {
        for (text, expected) in [
            ("", ""),
            ("From x\n", ">From x\n"),
            (">From x\n>>From y\n", ">>From x\n>>>From y\n"),
            ("a From x\nFrom: y\nFrom\nfrom z\n", "a From x\nFrom: y\nFrom\nfrom z\n"),
            ("\nFrom ", "\n>From \n"),
            ("no end", "no end\n"),
            (">>", ">>\n"),
            ("> From x\n", "> From x\n"),
            ("FrFrom x\nFFrom x\n", "FrFrom x\nFFrom x\n"),
        ] {
            assert_eq!(quote(&[text.as_bytes()]), expected, "{text:?}");
        }
    }

    #[test]
    fn a_line_of_quotes_without_end_is_not_held_back() {
        let (mut quoter, mut out) = (FromQuoter::default(), Vec::new());
        quoter.push(&[b'>'; 5000], &mut out);
        assert_eq!(out.len(), 5000);
    }

    proptest::proptest! {
        #[test]
        fn pieces_do_not_matter_and_quoting_can_be_undone(text in "(>|From |F|r|x|\n){0,40}", cut in 0usize..80) {
            let cut = cut.min(text.len());
            let (one, two) = text.as_bytes().split_at(cut);
            let whole = quote(&[text.as_bytes()]);
            proptest::prop_assert_eq!(&quote(&[one, two]), &whole);
            let undone: Vec<&str> = whole.lines().map(|line| {
                let quoted = line.starts_with('>') && line.trim_start_matches('>').starts_with("From ");
                if quoted { &line[1..] } else { line }
            }).collect();
            let original: Vec<&str> = text.lines().collect();
            proptest::prop_assert_eq!(undone, original);
            proptest::prop_assert!(!whole.lines().any(|line| line.starts_with("From ")));
        }
    }
}
