//! The version question: the first frame of both sides on every edge, encoded the same way for ever.

/// Version of the messages on all edges. All processes of one installation are of one release; a mismatch means that
/// a binary was replaced under a running master, and the answer is to restart that process.
pub const VERSION: u16 = 3;

const MAGIC: &[u8; 4] = b"vSMT";

/// Octets of a hello frame.
pub(crate) const HELLO_LEN: usize = 8;

/// Which edge a channel belongs to, so that two ends wired wrongly notice at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum EdgeId {
    /// master and child.
    MasterChild = 1,
    /// receiver and filter.
    ReceiverFilter = 2,
    /// filter and queue-manager.
    FilterQueue = 3,
    /// queue-manager and post-queue filter.
    QueueFilter = 4,
    /// queue-manager and deliver.
    QueueDeliver = 5,
    /// anyone and the resolver.
    ClientResolver = 6,
    /// vsmtpctl and master.
    CtlMaster = 7,
    /// vsmtpctl and queue-manager.
    CtlQueue = 8,
    /// vsmtpctl and the filter that it starts.
    CtlFilter = 40,
    /// vsmtpctl and the key holder that it starts.
    CtlKeys = 41,
    /// vsmtpctl and the resolver that it starts.
    CtlResolver = 42,
    /// vsmtpctl and the filter that it talks with.
    CtlRepl = 43,
    /// receiver and limits.
    ReceiverLimits = 20,
    /// receiver and auth helper.
    ReceiverAuth = 9,
    /// filter and auth helper.
    FilterAuth = 10,
    /// receiver and key holder.
    ReceiverKeys = 11,
    /// filter and key holder.
    FilterKeys = 21,
    /// filter and limits.
    FilterLimits = 30,
    /// filter and runner of commands.
    FilterRunner = 31,
    /// filter and the process that asks databases.
    FilterDatabase = 32,
}

pub(crate) fn hello(edge: EdgeId) -> [u8; HELLO_LEN] {
    let mut frame = [0; HELLO_LEN];
    frame[..4].copy_from_slice(MAGIC);
    frame[4..6].copy_from_slice(&(edge as u16).to_le_bytes());
    frame[6..].copy_from_slice(&VERSION.to_le_bytes());
    frame
}

/// `Ok` if the peer speaks this edge in this version; otherwise what it said.
pub(crate) fn check(edge: EdgeId, frame: &[u8]) -> Result<(), String> {
    if frame == hello(edge) {
        return Ok(());
    }
    match (frame.get(..4), frame.get(4..6), frame.get(6..8)) {
        (Some(magic), Some(&[e0, e1]), Some(&[v0, v1])) if magic == MAGIC => Err(format!(
            "peer speaks version {} of edge {}, this side version {VERSION} of edge {}",
            u16::from_le_bytes([v0, v1]),
            u16::from_le_bytes([e0, e1]),
            edge as u16
        )),
        _ => Err("peer did not begin with a hello".to_owned()),
    }
}
