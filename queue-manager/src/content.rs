//! The octets of a message on their way out: how they are handed to another process, and how some of them are read.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;

use vsmtp_ipc::wire::{Body, MAX_INLINE_BODY, MAX_MEMFD_BODY};
use vsmtp_mail::QueueId;
use vsmtp_sys::memfd::{Growing, Sealed};

use crate::store::{BodyPart, Store};

/// Octets that are copied at once.
const COPY: usize = 256 * 1024;

/// Octets of all parts.
pub fn len(parts: &[BodyPart]) -> u64 {
    parts.iter().map(BodyPart::len).sum()
}

/// The first `limit` octets.
pub fn start(parts: &[BodyPart], limit: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(usize::try_from(len(parts)).unwrap_or(limit).min(limit));
    for part in parts {
        let wanted = usize::try_from(part.len()).unwrap_or(usize::MAX).min(limit - out.len());
        match part {
            BodyPart::Bytes(chunk) => {
                out.extend_from_slice(chunk.as_bytes().get(..wanted).unwrap_or_default())
            }
            BodyPart::File { file, offset, .. } => {
                let from = out.len();
                out.resize(from + wanted, 0);
                let buffer = out.get_mut(from..).unwrap_or_default();
                if file.read_at(buffer, *offset)? < wanted {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        if out.len() == limit {
            break;
        }
    }
    Ok(out)
}

/// The form in which a body crosses an edge: inline if it is small, one sealed memfd if it is not large, else a file.
/// `spare` is an id that no message has, for a file that is laid out for this once.
pub fn to_wire(parts: &[BodyPart], store: &Store, spare: QueueId) -> io::Result<(Body, Vec<OwnedFd>)> {
    let total = len(parts);
    if total <= MAX_INLINE_BODY as u64 {
        return Ok((Body::Inline(start(parts, MAX_INLINE_BODY)?), Vec::new()));
    }
    if total <= MAX_MEMFD_BODY {
        return Ok((Body::Memfd(total), vec![seal(parts)?.into_fd()]));
    }
    let fd = match whole_file(parts)? {
        Some(fd) => fd,
        None => laid_out(parts, store, spare)?,
    };
    Ok((Body::File(total), vec![fd]))
}

/// The descriptor of the one file that the parts are, if they are one.
fn whole_file(parts: &[BodyPart]) -> io::Result<Option<OwnedFd>> {
    if let [BodyPart::File { file, offset: 0, len }] = parts
        && file.len()? == *len
        && let Some(file) = file.file()
    {
        return Ok(Some(file.try_clone()?.into()));
    }
    Ok(None)
}

/// A large message that rules changed after it was accepted: a copy whose name goes at once.
fn laid_out(parts: &[BodyPart], store: &Store, spare: QueueId) -> io::Result<OwnedFd> {
    let mut staging = store.stage(spare)?;
    for_each_block(parts, |block| staging.append(block))?;
    let reader = staging.reader()?;
    let file = reader.file().ok_or(io::ErrorKind::Unsupported)?;
    Ok(file.try_clone()?.into())
}

/// One descriptor with all octets, read-only, whatever their number.
pub fn to_descriptor(parts: &[BodyPart]) -> io::Result<OwnedFd> {
    match whole_file(parts)? {
        Some(fd) => Ok(fd),
        None => Ok(seal(parts)?.into_fd()),
    }
}

fn seal(parts: &[BodyPart]) -> io::Result<Sealed> {
    let mut growing = Growing::create(c"vsmtp-body", len(parts))?;
    if parts.iter().all(|part| matches!(part, BodyPart::Bytes(_))) {
        let slices: Vec<IoSlice<'_>> = parts
            .iter()
            .filter_map(|part| match part {
                BodyPart::Bytes(chunk) => Some(IoSlice::new(chunk.as_bytes())),
                BodyPart::File { .. } => None,
            })
            .collect();
        growing.append_parts(&slices)?;
        return growing.seal();
    }
    for_each_block(parts, |block| growing.append(block))?;
    growing.seal()
}

/// All octets, block by block.
pub fn for_each_block(parts: &[BodyPart], mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = Vec::new();
    for part in parts {
        match part {
            BodyPart::Bytes(chunk) => take(chunk.as_bytes())?,
            BodyPart::File { file, offset, len } => {
                let (mut at, end) = (*offset, offset.saturating_add(*len));
                buffer.resize(COPY, 0);
                while at < end {
                    let wanted = usize::try_from(end - at).unwrap_or(COPY).min(COPY);
                    let block = buffer.get_mut(..wanted).unwrap_or_default();
                    if file.read_at(block, at)? < wanted {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    take(block)?;
                    at += wanted as u64;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Chunk, Options, Unrecovered};

    fn parts(sizes: &[usize]) -> Vec<BodyPart> {
        sizes.iter().map(|size| BodyPart::Bytes(Chunk::from(vec![b'x'; *size]))).collect()
    }

    #[test]
    fn the_size_decides_how_a_body_travels() {
        let folder = tempfile::tempdir().unwrap();
        let (store, ..) =
            Unrecovered::open(folder.path(), Options::default()).unwrap().recover_inline().unwrap();
        let spare = QueueId::from_bytes([7; 16]);
        let to_wire = |parts: &[BodyPart]| super::to_wire(parts, &store, spare);
        let (body, fds) = to_wire(&parts(&[10, 20])).unwrap();
        assert_eq!((body, fds.len()), (Body::Inline(vec![b'x'; 30]), 0));
        let (body, mut fds) = to_wire(&parts(&[10, MAX_INLINE_BODY])).unwrap();
        let total = MAX_INLINE_BODY as u64 + 10;
        assert_eq!((&body, fds.len()), (&Body::Memfd(total), 1));
        assert_eq!(Sealed::verify(fds.remove(0), total).unwrap().len(), total);
        let (body, fds) = to_wire(&parts(&[10, 2 * MAX_MEMFD_BODY as usize])).unwrap();
        let total = 2 * MAX_MEMFD_BODY + 10;
        assert_eq!((body, fds.len()), (Body::File(total), 1));
        let file = std::fs::File::from(fds.into_iter().next().unwrap());
        assert_eq!(file.metadata().unwrap().len(), total);
        assert!(std::io::Write::write(&mut &file, b"x").is_err(), "read-only");
    }

    #[test]
    fn the_start_is_cut_exactly() {
        assert_eq!(start(&parts(&[3, 0, 4]), 5).unwrap().len(), 5);
        assert_eq!(start(&parts(&[3, 4]), 100).unwrap().len(), 7);
        assert_eq!(start(&[], 5).unwrap().len(), 0);
    }
}
