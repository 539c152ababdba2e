//! What recovery tells an operator. Nothing that was found odd is passed over, and no list grows without bound.

use std::fmt;

use vsmtp_mail::QueueId;

/// Most notes that are kept; more are only counted.
const MAX_NOTES: usize = 1000;

/// Something recovery wants an operator to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A file that is no segment of this spool was left alone.
    Foreign(String),
    /// A segment of another version was left alone.
    OtherVersion(String, u16),
    /// A segment whose headers are destroyed was moved to `corrupt/`.
    Unreadable(String),
    /// A second copy of a segment was moved to `corrupt/`.
    Duplicate(String),
    /// A segment ends before it should.
    Truncated(String),
    /// A segment that should be there is not.
    Missing(u32),
    /// Octets that had been acknowledged are no whole record. Copied to `corrupt/`.
    Damaged {
        /// The segment's file.
        file: String,
        /// First octet.
        start: u64,
        /// The octet after the last.
        end: u64,
        /// The message, if the record's header is whole.
        id: Option<QueueId>,
    },
    /// A whole record whose content is not understood.
    Malformed {
        /// The segment's file.
        file: String,
        /// First octet.
        start: u64,
        /// The message.
        id: QueueId,
    },
    /// A large body is missing.
    BodyMissing(QueueId),
    /// A large body that no message refers to was moved to `corrupt/`, because there is damage.
    BodyOrphaned(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Foreign(name) => write!(f, "{name}: not a segment of this spool, left alone"),
            Note::OtherVersion(name, version) => write!(f, "{name}: format version {version}, left alone"),
            Note::Unreadable(name) => write!(f, "{name}: segment header destroyed, moved to corrupt/"),
            Note::Duplicate(name) => write!(f, "{name}: second copy of a segment, moved to corrupt/"),
            Note::Truncated(name) => write!(f, "{name}: segment is cut short"),
            Note::Missing(epoch) => write!(f, "segment of epoch {epoch} is missing"),
            Note::Damaged { file, start, end, id } => {
                write!(f, "{file}: octets {start} to {end} are damaged, copied to corrupt/")?;
                id.map_or(Ok(()), |id| write!(f, " (message {id})"))
            }
            Note::Malformed { file, start, id } => {
                write!(f, "{file}: record at {start} of message {id} is not understood, copied to corrupt/")
            }
            Note::BodyMissing(id) => write!(f, "message {id}: its body file is missing"),
            Note::BodyOrphaned(name) => write!(f, "{name}: body of no known message, moved to corrupt/"),
        }
    }
}

/// What recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Messages in the queue.
    pub messages: usize,
    /// Segments of the log.
    pub segments: usize,
    /// Segments that were read whole, because they had no usable sidecar.
    pub scanned: usize,
    /// Transactions that a crash interrupted and nobody was told of.
    pub interrupted: usize,
    /// Notes, at most a thousand.
    pub notes: Vec<Note>,
    /// Notes that did not fit.
    pub more_notes: usize,
}

impl RecoveryReport {
    pub(in crate::store) fn note(&mut self, note: Note) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(note);
        } else {
            self.more_notes += 1;
        }
    }
}
