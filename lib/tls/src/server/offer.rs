//! What a client's hello offers to go on with: the ticket in it. A look ahead, and nothing more: whether the session does go
//! on is for the library to say, which reads the same octets again. Pure; what is not understood offers nothing.

/// Octets of a hello that are looked at. One that is longer (RFC 8446 has no bound) is treated as if it offered nothing.
pub(super) const MAX_HELLO: usize = 4096;

/// A record with (a part of) a handshake (RFC 8446 5.1), and in it the first message of a client (RFC 8446 4).
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// RFC 8446 4.2: the ticket of a session under version 1.2, and those under version 1.3.
const SESSION_TICKET: u16 = 35;
const PRE_SHARED_KEY: u16 = 41;

/// The ticket in the first record of these octets, the first of several.
pub(super) fn ticket(octets: &[u8]) -> Option<&[u8]> {
    let mut record = Cursor(octets);
    let (kind, _version) = (record.u8()?, record.u16()?);
    let mut hello = record.vector16().filter(|_| kind == HANDSHAKE)?;
    let (kind, _length) = (hello.u8()?, hello.take(3)?);
    if kind != CLIENT_HELLO {
        return None;
    }
    // Version and random value, session, suites, compression.
    hello.take(2 + 32)?;
    hello.vector8()?;
    hello.vector16()?;
    hello.vector8()?;
    let (mut extensions, mut old) = (hello.vector16()?, None);
    while let Some(kind) = extensions.u16() {
        let mut content = extensions.vector16()?;
        match kind {
            // It is the last one, and counts before the other.
            PRE_SHARED_KEY => return content.vector16()?.vector16().map(|identity| identity.0),
            SESSION_TICKET if !content.0.is_empty() => old = Some(content.0),
            _ => {}
        }
    }
    old
}

/// What is left to be read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        let (high, low) = (self.u8()?, self.u8()?);
        Some(u16::from(high) << 8 | u16::from(low))
    }

    fn vector8(&mut self) -> Option<Cursor<'a>> {
        let length = self.u8()?;
        self.take(length.into()).map(Cursor)
    }

    fn vector16(&mut self) -> Option<Cursor<'a>> {
        let length = self.u16()?;
        self.take(length.into()).map(Cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(bytes: usize, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap();
        let length: Vec<u8> = (0..bytes).rev().map(|at| (length >> (8 * at)) as u8).collect();
        [&length[..], content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&[(kind >> 8) as u8, kind as u8][..], &sized(2, content)].concat()
    }

    fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        let body = [&[3; 2 + 32][..], &sized(1, &[7; 32]), &sized(2, &[0x13, 1]), &sized(1, &[0])].concat();
        let body = [body, sized(2, &extensions.concat())].concat();
        let message = [&[CLIENT_HELLO][..], &sized(3, &body)].concat();
        [&[HANDSHAKE, 3, 1][..], &sized(2, &message)].concat()
    }

    fn shared(ticket: &[u8]) -> Vec<u8> {
        let identity = [&sized(2, ticket)[..], &[0; 4]].concat();
        extension(PRE_SHARED_KEY, &[sized(2, &identity), sized(2, &sized(1, &[9; 32]))].concat())
    }

    #[test]
    fn the_ticket_of_either_version_is_found() {
        let name = extension(0, b"mx.test");
        let old = extension(SESSION_TICKET, b"old");
        for (extensions, found) in [
            (vec![name.clone(), old.clone()], Some(&b"old"[..])),
            (vec![name.clone(), old, shared(b"new")], Some(&b"new"[..])),
            (vec![extension(SESSION_TICKET, b""), name.clone()], None),
            (vec![name], None),
            (Vec::new(), None),
        ] {
            assert_eq!(ticket(&hello(&extensions)), found);
        }
    }

    #[test]
    fn what_is_cut_off_or_something_else_offers_nothing() {
        let whole = hello(&[shared(b"ticket")]);
        assert!(ticket(&whole).is_some());
        for at in 0..whole.len() {
            assert_eq!(ticket(&whole[..at]), None, "cut at {at}");
        }
        for at in [0, 5] {
            let mut other = whole.clone();
            other[at] ^= 0x40;
            assert_eq!(ticket(&other), None, "octet {at}");
        }
        assert_eq!(ticket(b"EHLO client.test\r\n"), None);
    }
}
