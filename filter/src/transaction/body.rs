//! The body as rules have changed it: ranges of what came and texts between them. What came is never copied.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use vsmtp_ipc::wire::Piece;

use super::{Content, Transaction};
use crate::mime::{self, MAX_MIME_BYTES, Shown};
use crate::object::Fault;

/// Most octets of texts in a changed body. With the largest header it stays below what may be stored so.
const MAX_TEXT: usize = 1 << 20;
/// Most pieces of a changed body: a message is changed before and after the queue, and all its pieces are stored.
const MAX_PIECES: usize = 17;

/// A changed body.
#[derive(Debug, Clone)]
pub struct Body {
    content: Arc<dyn Content>,
    pieces: Vec<Piece>,
}

impl Body {
    /// The body as it came, from there to the end.
    fn new(content: Arc<dyn Content>, offset: u64) -> Self {
        let len = content.len().saturating_sub(offset);
        Body { content, pieces: vec![Piece::Original { offset, len }] }
    }

    /// What it is made of; ranges are of the whole message as it came.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.pieces.iter().filter(|piece| len(piece) > 0).cloned()
    }

    /// The same with this text in the place of those octets; `None` if that is more than may be.
    fn spliced(&self, from: Range<u64>, text: Vec<u8>) -> Option<Self> {
        let mut pieces = self.cut(0..from.start);
        pieces.push(Piece::Text(text));
        pieces.extend(self.cut(from.end..Content::len(self)));
        let texts = pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.len(),
            Piece::Original { .. } => 0,
        });
        let fits = pieces.len() <= MAX_PIECES && texts.sum::<usize>() <= MAX_TEXT;
        fits.then(|| Body { content: Arc::clone(&self.content), pieces })
    }

    /// The pieces of a range, those at its ends in part.
    fn cut(&self, range: Range<u64>) -> Vec<Piece> {
        let (mut cut, mut at) = (Vec::new(), 0);
        for piece in &self.pieces {
            let end = at + len(piece);
            let (from, to) = (range.start.clamp(at, end) - at, range.end.clamp(at, end) - at);
            at = end;
            if from >= to {
                continue;
            }
            cut.push(match piece {
                Piece::Original { offset, .. } => Piece::Original { offset: offset + from, len: to - from },
                Piece::Text(text) => {
                    let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(text.len());
                    Piece::Text(text[index(from)..index(to)].to_vec())
                }
            });
        }
        cut
    }
}

fn len(piece: &Piece) -> u64 {
    match piece {
        Piece::Text(text) => text.len() as u64,
        Piece::Original { len, .. } => *len,
    }
}

impl Content for Body {
    fn len(&self) -> u64 {
        self.pieces.iter().map(len).sum()
    }

    fn read(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for piece in self.cut(offset..offset.saturating_add(max as u64)) {
            match piece {
                Piece::Text(text) => bytes.extend(text),
                Piece::Original { offset, len } => {
                    let wanted = usize::try_from(len).unwrap_or(usize::MAX);
                    let read = self.content.read(offset, wanted)?;
                    let is_all = read.len() == wanted;
                    bytes.extend(read);
                    // What follows must not move up.
                    if !is_all {
                        break;
                    }
                }
            }
        }
        Ok(bytes)
    }
}

impl Transaction {
    /// The body as it is now: what holds it, and where it begins there.
    pub fn body_now(&self) -> Option<(Arc<dyn Content>, u64)> {
        match &self.body {
            Some(body) => Some((Arc::new(body.clone()), 0)),
            None => self.content.clone().map(|content| (content, self.body_offset)),
        }
    }

    /// Appends a text to what the message shows; false if it has no such part, or none that may be changed.
    ///
    /// # Errors
    /// The message is larger than [`MAX_MIME_BYTES`], the text cannot be appended to anything, or more would be changed than may
    /// be.
    pub fn append_shown(&mut self, shown: Shown, text: &str) -> Result<bool, Fault> {
        let Some((content, offset)) = self.body_now() else {
            return Err(Fault::new("the message is not here"));
        };
        if content.len() > MAX_MIME_BYTES as u64 {
            return Err(Fault(format!(
                "the message is larger than {MAX_MIME_BYTES} bytes: it is not changed"
            )));
        }
        let octets = content.read(offset, MAX_MIME_BYTES);
        let octets = octets.map_err(|error| Fault(format!("the message cannot be read: {error}")))?;
        if octets.len() as u64 != content.len() - offset {
            return Err(Fault::new("the message cannot be read to its end"));
        }
        let is_8bit = self.mail.as_ref().is_some_and(|mail| mail.body != vsmtp_mail::BodyType::SevenBit);
        let Some(change) = mime::append(&self.header, &octets, shown, text, is_8bit)? else {
            return Ok(false);
        };
        let mut body = match &self.body {
            Some(body) => body.clone(),
            None => Body::new(content, offset),
        };
        // From the end on, so that what is before stays where it is.
        for splice in change.body.into_iter().rev() {
            let from = splice.from.start as u64..splice.from.end as u64;
            body = body.spliced(from, splice.text).ok_or_else(|| {
                Fault(format!("rules changed too much of the body: {MAX_TEXT} bytes or {MAX_PIECES} pieces"))
            })?;
        }
        for (name, value) in change.fields {
            self.set_header(name, &value)?;
        }
        self.body = Some(body);
        self.mime = None;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::content::Inline;

    fn body(text: &str) -> Body {
        Body::new(Arc::new(Inline(Arc::new(text.as_bytes().to_vec()))), 2)
    }

    fn read(body: &Body) -> String {
        String::from_utf8(body.read(0, usize::MAX).unwrap()).unwrap()
    }

    #[test]
    fn texts_stand_among_what_came_and_can_be_changed_again() {
        let body = body("__abcdef");
        assert_eq!(read(&body), "abcdef");
        let body = body.spliced(2..4, b"XYZ".to_vec()).unwrap();
        assert_eq!((read(&body).as_str(), body.len()), ("abXYZef", 7));
        let body = body.spliced(3..6, b"-".to_vec()).unwrap().spliced(0..0, b"<".to_vec()).unwrap();
        assert_eq!(read(&body), "<abX-f");
        let pieces: Vec<Piece> = body.pieces().collect();
        assert_eq!(pieces[1], Piece::Original { offset: 2, len: 2 });
        assert_eq!(pieces.last(), Some(&Piece::Original { offset: 7, len: 1 }));
        for from in 0..6 {
            assert_eq!(body.read(from, 2).unwrap(), &b"<abX-f"[from as usize..][..2.min(6 - from as usize)]);
        }
        assert!(body.read(6, 1).unwrap().is_empty());
    }

    #[test]
    fn a_body_is_changed_so_much_and_no_more() {
        let mut changed = body("__abcdef");
        assert!(changed.spliced(0..0, vec![b'x'; MAX_TEXT + 1]).is_none());
        let mut count = 0;
        while let Some(more) = changed.spliced(1..1, b"x".to_vec()) {
            changed = more;
            count += 1;
        }
        assert!(count >= 8 && changed.pieces.len() <= MAX_PIECES);
    }
}
