//! Bodies on their way in and out: octets that are shared and never copied on the way to the disk, files for what is
//! too large for that, and the cache that keeps what was just accepted warm.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use vsmtp_mail::QueueId;

use super::disk::DiskFile;

/// Shared octets: a part of a body.
#[derive(Clone)]
pub struct Chunk {
    owner: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Chunk {
    /// All octets of a buffer.
    pub fn new(owner: Arc<Vec<u8>>) -> Self {
        let range = 0..owner.len();
        Chunk { owner, range }
    }

    /// A part of this chunk; `None` if it is not inside.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        let (start, end) =
            (self.range.start.checked_add(range.start)?, self.range.start.checked_add(range.end)?);
        (start <= end && end <= self.range.end)
            .then(|| Chunk { owner: self.owner.clone(), range: start..end })
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        self.owner.get(self.range.clone()).unwrap_or_default()
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }
}

impl From<Vec<u8>> for Chunk {
    fn from(bytes: Vec<u8>) -> Self {
        Chunk::new(Arc::new(bytes))
    }
}

impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunk({} octets)", self.len())
    }
}

/// A body that is a file of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LargeRef {
    /// Its name in [`super::disk::Area::Large`].
    pub name: String,
    /// Octets.
    pub len: u64,
    /// crc32c of all of them.
    pub checksum: u32,
}

/// One part of a message as it goes out.
#[derive(Debug, Clone)]
pub enum BodyPart {
    /// These octets.
    Bytes(Chunk),
    /// A range of a file that nobody changes any more.
    File {
        /// The file, open for reading.
        file: Arc<dyn DiskFile>,
        /// First octet.
        offset: u64,
        /// Octets.
        len: u64,
    },
}

impl BodyPart {
    /// Octets of this part.
    pub fn len(&self) -> u64 {
        match self {
            BodyPart::Bytes(chunk) => chunk.len() as u64,
            BodyPart::File { len, .. } => *len,
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is charged for an entry besides its octets.
const ENTRY_COST: usize = 128;

/// Bodies that were just accepted, oldest out first, so that the first attempt reads nothing.
#[derive(Debug)]
pub(super) struct WarmCache {
    limit: usize,
    used: usize,
    bodies: HashMap<QueueId, Vec<Chunk>>,
    order: VecDeque<QueueId>,
}

impl WarmCache {
    pub(super) fn new(limit: usize) -> Self {
        WarmCache { limit, used: 0, bodies: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn insert(&mut self, id: QueueId, body: Vec<Chunk>) {
        let cost = cost(&body);
        if cost > self.limit {
            return;
        }
        self.used += cost;
        if let Some(old) = self.bodies.insert(id, body) {
            self.used -= self::cost(&old);
        } else {
            self.order.push_back(id);
        }
        while self.used > self.limit {
            let Some(oldest) = self.order.pop_front() else { break };
            self.forget(oldest);
        }
        // Removed messages leave their ids behind in the order; they may not outnumber the bodies.
        if self.order.len() > 2 * self.bodies.len() + 1024 {
            self.order.retain(|id| self.bodies.contains_key(id));
        }
    }

    pub(super) fn lookup(&self, id: QueueId) -> Option<&[Chunk]> {
        self.bodies.get(&id).map(Vec::as_slice)
    }

    pub(super) fn forget(&mut self, id: QueueId) {
        if let Some(body) = self.bodies.remove(&id) {
            self.used -= cost(&body);
        }
    }
}

fn cost(body: &[Chunk]) -> usize {
    ENTRY_COST + body.iter().map(Chunk::len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> QueueId {
        QueueId::from_bytes([n; 16])
    }

    #[test]
    fn a_slice_stays_inside() {
        let chunk = Chunk::from(b"hello".to_vec());
        let part = chunk.slice(1..4).unwrap();
        assert_eq!(part.as_bytes(), b"ell");
        assert_eq!(part.slice(1..2).unwrap().as_bytes(), b"l");
        assert!(part.slice(1..4).is_none());
        assert!(part.slice(Range { start: 2, end: 1 }).is_none());
        assert!(part.slice(usize::MAX..usize::MAX).is_none());
    }

    #[test]
    fn the_cache_keeps_the_newest_within_its_limit() {
        let mut cache = WarmCache::new(3 * (ENTRY_COST + 10));
        for n in 0..5 {
            cache.insert(id(n), vec![Chunk::from(vec![n; 10])]);
        }
        assert!(cache.lookup(id(1)).is_none());
        assert_eq!(cache.lookup(id(2)).unwrap()[0].as_bytes(), &[2; 10]);
        cache.forget(id(2));
        cache.forget(id(2));
        assert_eq!(cache.used, 2 * (ENTRY_COST + 10));
        cache.insert(id(9), vec![Chunk::from(vec![0; 1000])]);
        assert!(cache.lookup(id(9)).is_none());
    }

    #[test]
    fn removed_messages_do_not_pile_up() {
        let mut cache = WarmCache::new(1 << 20);
        for n in 0..10_000u32 {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&n.to_le_bytes());
            cache.insert(QueueId::from_bytes(bytes), vec![]);
            cache.forget(QueueId::from_bytes(bytes));
        }
        assert!(cache.order.len() < 2000 && cache.used == 0);
    }
}
