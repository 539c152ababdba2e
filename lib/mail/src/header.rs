//! A byte-exact view of a message's header block: it finds fields, keeps their order, folding and spelling, and never
//! re-serialises what it was not asked to change. Parsing cannot fail: what is not a field is carried along as it is.

use std::borrow::Cow;

/// Most fields that are looked at; the rest is carried along unseen, see [`HeaderBlock::is_complete`]. No program writes so
/// many, and what is done with each of them stays cheap.
pub const MAX_HEADER_FIELDS: usize = 2_000;

/// Length of the header block with its closing empty line: the whole input if there is no body.
pub fn header_end(message: &[u8]) -> usize {
    if message.starts_with(b"\r\n") {
        return 2;
    }
    memchr::memmem::find(message, b"\r\n\r\n").map_or(message.len(), |at| at + 4)
}

/// One field as it stands in the message: name, colon, value, folding and the closing CRLF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    raw: Cow<'a, [u8]>,
    colon: usize,
}

impl<'a> Field<'a> {
    /// Makes a field. `None` if the name is not made of printable ASCII without colon, or the value holds a NUL, or a
    /// line break that does not fold (RFC 5322 2.2.3).
    pub fn new(name: &str, value: &str) -> Option<Field<'static>> {
        let name_ok = !name.is_empty() && name.bytes().all(|b| (33..=126).contains(&b) && b != b':');
        if !name_ok || !value_is_safe(value) {
            return None;
        }
        let raw = format!("{name}: {value}\r\n").into_bytes();
        Some(Field { raw: raw.into(), colon: name.len() })
    }

    /// The name as written, without the white space that obsolete syntax allows before the colon.
    pub fn name(&self) -> &[u8] {
        self.raw[..self.colon].trim_ascii_end()
    }

    /// The value as written, folding included, without the closing CRLF. A leading space is kept.
    pub fn value(&self) -> &[u8] {
        let value = self.raw.get(self.colon + 1..).unwrap_or(b"");
        value.strip_suffix(b"\r\n").unwrap_or(value)
    }

    /// The value on one line: folding undone (RFC 5322 2.2.3), outer white space removed.
    pub fn unfolded(&self) -> Vec<u8> {
        let mut flat = Vec::with_capacity(self.value().len());
        flat.extend(self.value().iter().copied().filter(|b| *b != b'\r' && *b != b'\n'));
        flat.trim_ascii().to_vec()
    }

    /// All bytes of the field.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The same field with another value, which begins behind the colon. `None` if the value would end the field early.
    pub fn with_value(&self, value: &[u8]) -> Option<Field<'static>> {
        let head = self.raw.get(..=self.colon)?;
        let raw = [head, value, b"\r\n"].concat();
        (!value.contains(&0) && field_len(&raw) == raw.len())
            .then_some(Field { raw: raw.into(), colon: self.colon })
    }

    /// True if the name is `name`, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name.as_bytes())
    }
}

fn value_is_safe(value: &str) -> bool {
    let bytes = value.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            0 | b'\n' => return false,
            b'\r' => {
                let folds =
                    bytes.get(at + 1) == Some(&b'\n') && matches!(bytes.get(at + 2), Some(b' ' | b'\t'));
                if !folds {
                    return false;
                }
                at += 2;
            }
            _ => {}
        }
        at += 1;
    }
    true
}

/// An editable header block. Lines that are no fields stay where they are.
#[derive(Debug, Clone, Default)]
pub struct HeaderBlock<'a> {
    lines: Vec<Line<'a>>,
    /// The empty line that ends the block, if the message has one.
    end: Cow<'a, [u8]>,
    /// There were more lines than are looked at: the last one stands for all the rest.
    is_cut: bool,
}

#[derive(Debug, Clone)]
enum Line<'a> {
    Field(Field<'a>),
    Other(Cow<'a, [u8]>),
}

impl Line<'_> {
    fn into_owned(self) -> Line<'static> {
        match self {
            Line::Field(Field { raw, colon }) => Line::Field(Field { raw: raw.into_owned().into(), colon }),
            Line::Other(bytes) => Line::Other(bytes.into_owned().into()),
        }
    }
}

impl<'a> HeaderBlock<'a> {
    /// Reads a block that [`header_end`] measured.
    pub fn parse(block: &'a [u8]) -> Self {
        let mut lines = Vec::new();
        let mut rest = block;
        while !rest.is_empty() && !rest.starts_with(b"\r\n") {
            if lines.len() >= MAX_HEADER_FIELDS {
                let has_end = rest.ends_with(b"\r\n\r\n");
                let (unseen, end) = rest.split_at(rest.len() - if has_end { 2 } else { 0 });
                lines.push(Line::Other(unseen.into()));
                return HeaderBlock { lines, end: end.into(), is_cut: true };
            }
            let (this, after) = rest.split_at(field_len(rest));
            lines.push(parse_line(this));
            rest = after;
        }
        HeaderBlock { lines, end: rest.into(), is_cut: false }
    }

    /// The same block without a borrow.
    pub fn into_owned(self) -> HeaderBlock<'static> {
        let lines = self.lines.into_iter().map(Line::into_owned).collect();
        HeaderBlock { lines, end: self.end.into_owned().into(), is_cut: self.is_cut }
    }

    /// False if there were more than [`MAX_HEADER_FIELDS`] lines: any field may stand among those that were not looked at,
    /// so that nothing can be said about who wrote the message.
    pub fn is_complete(&self) -> bool {
        !self.is_cut
    }

    /// The fields in order.
    pub fn fields(&self) -> impl DoubleEndedIterator<Item = &Field<'a>> {
        self.lines.iter().filter_map(|line| match line {
            Line::Field(field) => Some(field),
            Line::Other(_) => None,
        })
    }

    /// The fields of one name, in order.
    pub fn named<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b Field<'a>> {
        self.fields().filter(move |field| field.is(name))
    }

    /// Puts a field before all others.
    pub fn prepend(&mut self, field: Field<'a>) {
        self.lines.insert(0, Line::Field(field));
    }

    /// Puts a field after all others.
    pub fn append(&mut self, field: Field<'a>) {
        self.lines.push(Line::Field(field));
    }

    /// Replaces the first field of that name, or appends.
    pub fn set(&mut self, field: Field<'a>) {
        match self.position(|old| old.name().eq_ignore_ascii_case(field.name())) {
            Some(at) => self.lines[at] = Line::Field(field),
            None => self.append(field),
        }
    }

    /// Lets `change` say what becomes of each field of that name: `None` leaves it, `Some(None)` removes it.
    pub fn change(&mut self, name: &str, mut change: impl FnMut(&Field<'_>) -> Option<Option<Field<'a>>>) {
        self.lines.retain_mut(|line| {
            let Line::Field(field) = line else { return true };
            if !field.is(name) {
                return true;
            }
            match change(field) {
                None => true,
                Some(Some(new)) => {
                    *field = new;
                    true
                }
                Some(None) => false,
            }
        });
    }

    /// Removes the first field of that name; false if there is none.
    pub fn remove(&mut self, name: &str) -> bool {
        self.position(|field| field.is(name)).map(|at| self.lines.remove(at)).is_some()
    }

    /// Removes all fields for which this is true; how many there were.
    pub fn remove_where(&mut self, is_unwanted: impl Fn(&Field<'a>) -> bool) -> usize {
        let before = self.lines.len();
        self.lines.retain(|line| !matches!(line, Line::Field(field) if is_unwanted(field)));
        before - self.lines.len()
    }

    /// Gives the first field called `old` the name `new`, value untouched. False if there is none or `new` is no name.
    pub fn rename(&mut self, old: &str, new: &str) -> bool {
        let Some(at) = self.position(|field| field.is(old)) else { return false };
        let Line::Field(field) = &self.lines[at] else { return false };
        if Field::new(new, "").is_none() {
            return false;
        }
        let raw = [new.as_bytes(), &field.raw[field.colon..]].concat();
        self.lines[at] = Line::Field(Field { raw: raw.into(), colon: new.len() });
        true
    }

    /// All bytes of the block, with the empty line that ended it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for line in &self.lines {
            match line {
                Line::Field(field) => out.extend_from_slice(field.raw()),
                Line::Other(bytes) => out.extend_from_slice(bytes),
            }
        }
        out.extend_from_slice(&self.end);
        out
    }

    fn position(&self, wanted: impl Fn(&Field<'_>) -> bool) -> Option<usize> {
        self.lines.iter().position(|line| matches!(line, Line::Field(field) if wanted(field)))
    }
}

/// Length of the field at the start of `rest`: up to the first CRLF that white space does not follow.
fn field_len(rest: &[u8]) -> usize {
    let mut from = 0;
    while let Some(at) = memchr::memmem::find(&rest[from..], b"\r\n") {
        let end = from + at + 2;
        if !matches!(rest.get(end), Some(b' ' | b'\t')) {
            return end;
        }
        from = end;
    }
    rest.len()
}

fn parse_line(raw: &[u8]) -> Line<'_> {
    let Some(colon) = memchr::memchr(b':', raw) else { return Line::Other(raw.into()) };
    let name = raw[..colon].trim_ascii_end();
    if name.is_empty() || !name.iter().all(|b| (33..=126).contains(b)) {
        return Line::Other(raw.into());
    }
    Line::Field(Field { raw: raw.into(), colon })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"Received: a\r\n\tb\r\nSubject : hi\r\nno field\r\nX: 1\r\nx: 2\r\n\r\nbody\r\n";

    fn block() -> HeaderBlock<'static> {
        HeaderBlock::parse(&MESSAGE[..header_end(MESSAGE)])
    }

    #[test]
    fn nothing_changes_unasked() {
        assert_eq!(block().to_bytes(), &MESSAGE[..header_end(MESSAGE)]);
        assert_eq!(block().into_owned().to_bytes(), block().to_bytes());
        assert_eq!(block().fields().count(), 4);
        assert_eq!(block().named("received").next().unwrap().unfolded(), b"a\tb");
        assert_eq!(block().named("SUBJECT").next().unwrap().name(), b"Subject");
    }

    #[test]
    fn a_block_of_too_many_lines_says_that_it_was_not_read_to_its_end() {
        let of = |lines: usize| ["x:\r\n".repeat(lines).as_bytes(), b"From: a\r\n\r\n"].concat();
        let (whole, cut) = (of(MAX_HEADER_FIELDS - 1), of(MAX_HEADER_FIELDS));
        let block = HeaderBlock::parse(&whole);
        assert!(block.is_complete() && block.named("From").count() == 1);
        let mut block = HeaderBlock::parse(&cut).into_owned();
        assert!(!block.is_complete() && block.fields().count() == MAX_HEADER_FIELDS);
        assert_eq!(block.to_bytes(), cut);
        block.append(Field::new("Last", "1").unwrap());
        assert!(block.to_bytes().ends_with(b"From: a\r\nLast: 1\r\n\r\n"));
    }

    #[test]
    fn edits_touch_one_field() {
        let mut header = block();
        header.set(Field::new("X", "new").unwrap());
        assert!(header.remove("x"));
        assert!(header.rename("x", "Y"));
        assert!(!header.remove("X"));
        header.prepend(Field::new("P", "0").unwrap());
        header.append(Field::new("Q", "9").unwrap());
        assert_eq!(
            header.to_bytes(),
            b"P: 0\r\nReceived: a\r\n\tb\r\nSubject : hi\r\nno field\r\nY: 2\r\nQ: 9\r\n\r\n"
        );
    }

    #[test]
    fn a_field_gets_another_value_and_keeps_its_name_and_place() {
        let mut header = block();
        header.change("SUBJECT", |field| Some(field.with_value(b" new\r\n\tone")));
        header.change("x", |field| Some(if field.name() == b"X" { None } else { field.with_value(b"3") }));
        let bytes = b"Received: a\r\n\tb\r\nSubject : new\r\n\tone\r\nno field\r\nx:3\r\n\r\n";
        assert_eq!(header.to_bytes(), bytes);
        let field = Field::new("X", "1").unwrap();
        for bad in [&b"a\r\nBcc: x"[..], b"a\r\n", b"a\0"] {
            assert!(field.with_value(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn values_cannot_inject_a_field() {
        for bad in ["a\r\nBcc: x", "a\nb", "a\rb", "a\0", "a\r\n"] {
            assert!(Field::new("X", bad).is_none(), "{bad:?}");
        }
        assert!(Field::new("X", "a\r\n b").is_some());
        for bad in ["", "a b", "a:", "a\r\n", "é"] {
            assert!(Field::new(bad, "x").is_none(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_block_is_kept_byte_for_byte(bytes in proptest::collection::vec(0u8..=255, 0..200)) {
            let block = &bytes[..header_end(&bytes)];
            proptest::prop_assert_eq!(HeaderBlock::parse(block).to_bytes(), block);
        }
        #[test]
        fn lines_too(text in "([A-Z]:| |x|\r|\n|\r\n|:){0,40}") {
            let block = &text.as_bytes()[..header_end(text.as_bytes())];
            proptest::prop_assert_eq!(HeaderBlock::parse(block).to_bytes(), block);
        }
    }
}
