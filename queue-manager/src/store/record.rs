//! Records between the domain and the log: a draft is a record whose octets are ready but for its place; an entry is a
//! record that was read back. The structured part of each kind is written and read here, side by side.

use vsmtp_mail::{QueueId, Terms};

use super::body::{Chunk, LargeRef};
use super::brief;
use super::codec::{Malformed, Put, Take};
use super::encode;
use super::header::RecordHeader;
use super::layout::{Kind, RECORD_VERSION, RECORD_VERSION_WITH_TERMS};
use super::message::{MessageState, RecipientState, RemoveReason, StateChange};
use super::terms;

/// Where a record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(super) struct Location {
    /// Epoch of the segment; 0 is nowhere.
    pub epoch: u32,
    /// Offset in units of [`super::layout::ALIGN`].
    pub unit: u32,
}

impl Location {
    pub(super) const NOWHERE: Location = Location { epoch: 0, unit: 0 };

    pub(super) fn at(epoch: u32, offset: u64) -> Self {
        Location { epoch, unit: u32::try_from(offset / super::layout::ALIGN).unwrap_or(u32::MAX) }
    }

    pub(super) fn offset(self) -> u64 {
        u64::from(self.unit) * super::layout::ALIGN
    }
}

/// A record whose octets are ready but for its place.
#[derive(Debug)]
pub(super) struct Draft {
    /// Of the structured part.
    pub version: u8,
    pub kind: Kind,
    pub id: QueueId,
    /// The structured part, then the brief.
    octets: Vec<u8>,
    meta_len: usize,
    /// The record before this one, as its author knew.
    previous: Location,
    pub body: Vec<Chunk>,
}

impl Draft {
    fn new(kind: Kind, id: QueueId, octets: Vec<u8>, meta_len: usize) -> Self {
        Draft {
            version: RECORD_VERSION,
            kind,
            id,
            octets,
            meta_len,
            previous: Location::NOWHERE,
            body: Vec::new(),
        }
    }

    /// A message that begins, or one that moves forward.
    pub(super) fn message(kind: Kind, id: QueueId, state: &MessageState, body: DraftBody) -> Self {
        let mut octets = Vec::with_capacity(384);
        let (chunks, stored_len, large) = match body {
            DraftBody::Inline(chunks) => {
                octets.put_u8(0);
                let len = chunks.iter().map(|chunk| chunk.len() as u64).sum();
                (chunks, len, false)
            }
            DraftBody::Large(large) => {
                octets.put_u8(1);
                octets.put_u64(large.len);
                octets.put_u32(large.checksum);
                octets.put_str(&large.name);
                (Vec::new(), large.len, true)
            }
        };
        let version = put_state(&mut octets, state);
        let meta_len = octets.len();
        brief::put_message(&mut octets, state, stored_len, large);
        Draft { version, body: chunks, ..Draft::new(kind, id, octets, meta_len) }
    }

    /// The whole state of a message once more.
    pub(super) fn revision(id: QueueId, state: &MessageState) -> Self {
        let mut octets = Vec::with_capacity(384);
        let version = put_state(&mut octets, state);
        let meta_len = octets.len();
        brief::put_message(&mut octets, state, 0, false);
        Draft { version, ..Draft::new(Kind::Revision, id, octets, meta_len) }
    }

    /// What became of some recipients.
    pub(super) fn outcome(id: QueueId, previous: Location, results: &[(u32, RecipientState)]) -> Self {
        let mut octets = Vec::with_capacity(192);
        put_location(&mut octets, previous);
        encode::put_results(&mut octets, results);
        let meta_len = octets.len();
        brief::put_results(&mut octets, results);
        Draft { previous, ..Draft::new(Kind::Outcome, id, octets, meta_len) }
    }

    /// A change of the whole message.
    pub(super) fn state(id: QueueId, previous: Location, change: &StateChange) -> Self {
        let mut octets = Vec::with_capacity(64);
        put_location(&mut octets, previous);
        encode::put_change(&mut octets, change);
        let meta_len = octets.len();
        encode::put_change(&mut octets, change);
        Draft { previous, ..Draft::new(Kind::State, id, octets, meta_len) }
    }

    /// The end of a message.
    pub(super) fn remove(id: QueueId, reason: RemoveReason) -> Self {
        let mut octets = Vec::with_capacity(1);
        encode::put_reason(&mut octets, reason);
        Draft::new(Kind::Remove, id, octets, 1)
    }

    /// The end of everything before an epoch.
    pub(super) fn tail(epoch: u32) -> Self {
        let mut octets = Vec::with_capacity(8);
        octets.put_u32(epoch);
        octets.put_u32(epoch);
        Draft::new(Kind::Tail, QueueId::from_bytes([0; 16]), octets, 4)
    }

    pub(super) fn meta(&self) -> &[u8] {
        self.octets.get(..self.meta_len).unwrap_or_default()
    }

    pub(super) fn brief(&self) -> &[u8] {
        self.octets.get(self.meta_len..).unwrap_or_default()
    }

    pub(super) fn body_len(&self) -> usize {
        self.body.iter().map(Chunk::len).sum()
    }

    /// Octets that the record takes in a segment.
    pub(super) fn span(&self) -> u64 {
        super::header::record_span(self.meta_len as u64, self.body_len() as u64)
    }

    /// Octets of memory that wait with it.
    pub(super) fn weight(&self) -> usize {
        self.octets.len() + self.body_len()
    }

    /// The latest record of its message that the caller knows of, if any, is the one before this one.
    pub(super) fn follow(&mut self, latest: Option<Location>) {
        self.previous = latest.unwrap_or(self.previous);
    }

    /// Names the record before this one: the latest that the log knows of, or else the one that it follows.
    pub(super) fn resolve_previous(&mut self, latest: Option<Location>) {
        if !matches!(self.kind, Kind::Outcome | Kind::State) {
            return;
        }
        let previous = latest.unwrap_or(self.previous);
        if let Some(slot) = self.octets.get_mut(..8) {
            slot[..4].copy_from_slice(&previous.epoch.to_le_bytes());
            slot[4..].copy_from_slice(&previous.unit.to_le_bytes());
        }
    }
}

/// The body of a record that begins a message.
#[derive(Debug)]
pub(super) enum DraftBody {
    Inline(Vec<Chunk>),
    Large(LargeRef),
}

/// Writes a state; answers the version of what was written. Messages without terms are written as they always were.
fn put_state(out: &mut Vec<u8>, state: &MessageState) -> u8 {
    encode::put_state(out, state);
    if state.envelope.terms == Terms::default() {
        return RECORD_VERSION;
    }
    terms::put(out, &state.envelope.terms);
    RECORD_VERSION_WITH_TERMS
}

/// Reads a state of that version.
fn take_state(take: &mut Take<'_>, version: u8) -> Result<Box<MessageState>, Malformed> {
    let mut state = encode::take_state(take)?;
    if version == RECORD_VERSION_WITH_TERMS {
        state.envelope.terms = terms::take(take)?;
    }
    Ok(Box::new(state))
}

fn put_location(out: &mut Vec<u8>, location: Location) {
    out.put_u32(location.epoch);
    out.put_u32(location.unit);
}

/// A record that was read back.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    /// Accept or copy; the large body if it is a file.
    Message(Box<MessageState>, Option<LargeRef>),
    Revision(Box<MessageState>),
    Outcome(Location, Vec<(u32, RecipientState)>),
    State(Location, StateChange),
    Remove(RemoveReason),
    Tail(u32),
}

impl Entry {
    /// Reads the structured part of a record.
    pub(super) fn decode(header: &RecordHeader, meta: &[u8]) -> Result<Self, Malformed> {
        Self::decode_as(header.kind, header.version, meta)
    }

    fn decode_as(kind: Kind, version: u8, meta: &[u8]) -> Result<Self, Malformed> {
        let has_state = matches!(kind, Kind::Accept | Kind::Copy | Kind::Revision);
        if version != RECORD_VERSION && !has_state {
            return Err(Malformed("version"));
        }
        let mut take = Take::new(meta, "record");
        let entry = match kind {
            Kind::Accept | Kind::Copy => {
                let large = take_large(&mut take)?;
                Entry::Message(take_state(&mut take, version)?, large)
            }
            Kind::Revision => Entry::Revision(take_state(&mut take, version)?),
            Kind::Outcome => Entry::Outcome(take_location(&mut take)?, encode::take_results(&mut take)?),
            Kind::State => Entry::State(take_location(&mut take)?, encode::take_change(&mut take)?),
            Kind::Remove => Entry::Remove(encode::take_reason(&mut take)?),
            Kind::Tail => Entry::Tail(take.u32()?),
        };
        take.end()?;
        Ok(entry)
    }

    /// The brief that a sidecar would hold.
    pub(super) fn put_brief(&self, out: &mut Vec<u8>, body_len: u64) {
        match self {
            Entry::Message(state, large) => {
                let stored_len = large.as_ref().map_or(body_len, |large| large.len);
                brief::put_message(out, state, stored_len, large.is_some());
            }
            Entry::Revision(state) => brief::put_message(out, state, 0, false),
            Entry::Outcome(_, results) => brief::put_results(out, results),
            Entry::State(_, change) => encode::put_change(out, change),
            Entry::Remove(_) => {}
            Entry::Tail(epoch) => out.put_u32(*epoch),
        }
    }
}

fn take_location(take: &mut Take<'_>) -> Result<Location, Malformed> {
    Ok(Location { epoch: take.u32()?, unit: take.u32()? })
}

fn take_large(take: &mut Take<'_>) -> Result<Option<LargeRef>, Malformed> {
    match take.u8()? {
        0 => Ok(None),
        1 => {
            let (len, checksum, name) = (take.u64()?, take.u32()?, take.str()?);
            let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !plain {
                return Err(Malformed("large body name"));
            }
            Ok(Some(LargeRef { name: name.to_owned(), len, checksum }))
        }
        _ => Err(Malformed("body kind")),
    }
}

#[cfg(test)]
pub(super) use tests::state as test_state;

#[cfg(test)]
mod tests {
    use super::super::brief::Brief;
    use super::super::message::{Diagnostic, Disposition, Origin, Piece, Text};
    use super::*;
    use vsmtp_mail::{
        Address, BodyType, EnhancedCode, Envelope, NextHop, Notify, OriginalRecipient, Recipient,
        RecipientClass, Ret, ReversePath,
    };

    pub(in crate::store) fn state(recipients: usize) -> MessageState {
        let hops = [
            "smtp:b.test",
            "smtp:[mx.b.test]:2525",
            "smtp:[192.0.2.1]:25",
            "lmtp:[h.test]:24",
            "lmtp:unix:/run/l",
            "maildir",
            "mbox",
        ];
        let recipient = |n: usize| Recipient {
            chosen: false,
            address: Address::parse(&format!("\"r {n}\"@b.test")).unwrap(),
            original: (n.is_multiple_of(2))
                .then(|| OriginalRecipient { kind: "rfc822".into(), address: "o@b.test".into() }),
            notify: Notify::NEVER,
            class: RecipientClass::Relay,
            next_hop: NextHop::parse(hops[n % hops.len()]).unwrap(),
        };
        let envelope = Envelope {
            reverse_path: ReversePath::parse("s@a.test").unwrap(),
            body: BodyType::EightBitMime,
            smtputf8: true,
            ret: Some(Ret::Headers),
            envid: Some("env".into()),
            demands: vsmtp_mail::Demands::default(),
            terms: vsmtp_mail::Terms::default(),
            recipients: (0..recipients).map(recipient).collect(),
        };
        let origin = Origin {
            service: None,
            session: Text::new("S1"),
            client: Some("2001:db8::1".parse().unwrap()),
            helo: Text::new("c.test"),
            protocol: Text::new("ESMTP"),
            identity: Some(Text::new("me")),
        };
        MessageState::fresh(1_700_000_000_000, origin, envelope)
    }

    fn diagnostic() -> Diagnostic {
        Diagnostic { status: EnhancedCode(4, 4, 1), remote: Some("mx.b.test".into()), text: "421 no".into() }
    }

    #[test]
    fn every_kind_comes_back_as_it_was_written() {
        let mut full = state(9);
        full.disposition = Disposition::Quarantine("spam".into());
        (full.marks.judged, full.marks.reroute) = (true, true);
        full.envelope.demands.requiretls = true;
        full.envelope.recipients[1].chosen = true;
        full.origin.service = Some(vsmtp_mail::Service::Submission);
        full.envelope.recipients[0].notify = Notify::default();
        full.envelope.recipients[1].notify = Notify { stated: true, ..Notify::default() };
        full.progress[1] = RecipientState::Waiting { attempts: 3, until: 99, last: Some(diagnostic()) };
        full.progress[2] = RecipientState::Delivered(None);
        full.progress[3] = RecipientState::Failed(diagnostic());
        full.pieces =
            Some(vec![Piece::Inline(b"X: y\r\n".as_slice().into()), Piece::Stored { offset: 3, len: 4 }]);
        let id = QueueId::from_bytes([1; 16]);
        let previous = Location { epoch: 3, unit: 70 };
        let results = vec![(4, RecipientState::Delivered(Some(diagnostic())))];
        let large = LargeRef { name: id.to_string(), len: 5_000_000, checksum: 77 };
        let change = StateChange::Disposition(Disposition::Hold("why".into()));
        let mut urgent = full.clone();
        urgent.envelope.terms = terms();
        let away = super::super::delegation::tests::delegation(super::super::delegation::Phase::Away(99));
        let delegated = StateChange::Disposition(Disposition::Delegated(Box::new(away)));
        for (draft, entry) in [
            (Draft::state(id, previous, &delegated), Entry::State(previous, delegated)),
            (
                Draft::message(Kind::Accept, id, &urgent, DraftBody::Inline(vec![])),
                Entry::Message(Box::new(urgent.clone()), None),
            ),
            (Draft::revision(id, &urgent), Entry::Revision(Box::new(urgent))),
            (
                Draft::message(Kind::Accept, id, &full, DraftBody::Inline(vec![])),
                Entry::Message(Box::new(full.clone()), None),
            ),
            (
                Draft::message(Kind::Copy, id, &full, DraftBody::Large(large.clone())),
                Entry::Message(Box::new(full.clone()), Some(large)),
            ),
            (Draft::revision(id, &full), Entry::Revision(Box::new(full.clone()))),
            (Draft::outcome(id, previous, &results), Entry::Outcome(previous, results)),
            (Draft::state(id, previous, &change), Entry::State(previous, change)),
            (Draft::remove(id, RemoveReason::Deleted), Entry::Remove(RemoveReason::Deleted)),
            (Draft::tail(7), Entry::Tail(7)),
        ] {
            assert_eq!(Entry::decode_as(draft.kind, draft.version, draft.meta()).as_ref(), Ok(&entry));
            let mut brief = Vec::new();
            entry.put_brief(&mut brief, 0);
            assert_eq!(brief, draft.brief(), "{:?}", draft.kind);
            Brief::take(draft.kind, &brief).unwrap();
            for len in 0..draft.meta().len() {
                assert!(Entry::decode_as(draft.kind, draft.version, &draft.meta()[..len]).is_err());
            }
        }
    }

    fn terms() -> Terms {
        Terms {
            priority: vsmtp_mail::Priority::MOST,
            lifetime_s: Some(3600),
            rules: Some(vsmtp_mail::RulesOf::Incoming(vsmtp_mail::Domain::parse("b.test").unwrap())),
            ..Terms::default()
        }
    }

    #[test]
    fn only_messages_with_terms_are_written_in_version_2() {
        let plain = state(1);
        let mut urgent = state(1);
        urgent.envelope.terms = terms();
        let id = QueueId::from_bytes([1; 16]);
        let (before, now) = (Draft::revision(id, &plain), Draft::revision(id, &urgent));
        assert_eq!((before.version, now.version), (RECORD_VERSION, RECORD_VERSION_WITH_TERMS));
        let octets = b"\x03\x01\x09\x04\x10\x0e\0\0\x05\x03\x06\0b.test";
        assert_eq!(now.meta(), [before.meta(), octets].concat());
        // Neither passes for the other.
        assert!(Entry::decode_as(Kind::Revision, RECORD_VERSION, now.meta()).is_err());
        assert!(Entry::decode_as(Kind::Revision, RECORD_VERSION_WITH_TERMS, before.meta()).is_err());
        let end = Draft::remove(id, RemoveReason::Settled);
        assert!(Entry::decode_as(Kind::Remove, RECORD_VERSION_WITH_TERMS, end.meta()).is_err());
    }

    #[test]
    fn the_octets_of_version_1_never_change() {
        let mut full = state(9);
        full.disposition = Disposition::Quarantine("spam".into());
        full.marks.delay_reported = true;
        full.progress[1] = RecipientState::Waiting { attempts: 3, until: 99, last: Some(diagnostic()) };
        full.progress[3] = RecipientState::Failed(diagnostic());
        full.pieces =
            Some(vec![Piece::Inline(b"X: y\r\n".as_slice().into()), Piece::Stored { offset: 3, len: 4 }]);
        let id = QueueId::from_bytes([1; 16]);
        let previous = Location { epoch: 3, unit: 70 };
        let large = LargeRef { name: id.to_string(), len: 5_000_000, checksum: 77 };
        let drafts = [
            Draft::message(Kind::Accept, id, &full, DraftBody::Large(large)),
            Draft::revision(id, &full),
            Draft::outcome(id, previous, &[(4, RecipientState::Delivered(Some(diagnostic())))]),
            Draft::state(id, previous, &StateChange::Disposition(Disposition::Dead("x".into()))),
            Draft::state(id, previous, &StateChange::Judged),
            Draft::remove(id, RemoveReason::Discarded),
            Draft::tail(7),
        ];
        // Another number here means that spools of earlier releases do not open: raise the version instead.
        let sums: Vec<u32> = drafts.iter().map(|draft| crc32c::crc32c(draft.meta())).collect();
        assert_eq!(sums, [494924319, 1304654277, 2326817480, 865327889, 3269916883, 3007718310, 1365766925]);
    }

    #[test]
    fn a_brief_gives_each_recipient_its_hop_and_state() {
        let mut full = state(8);
        full.progress[1] = RecipientState::Waiting { attempts: 3, until: 99, last: None };
        let draft = Draft::revision(QueueId::from_bytes([1; 16]), &full);
        let Ok(Brief::Message(mut brief)) = Brief::take(Kind::Revision, draft.brief()) else { panic!() };
        let mut hops = Vec::new();
        while let Some((hop, state)) = brief.recipients.next().unwrap() {
            let mut take = Take::new(hop, "hop");
            assert_eq!(encode::take_hop(&mut take).unwrap(), full.envelope.recipients[hops.len()].next_hop);
            assert_eq!(state, full.progress[hops.len()].brief());
            hops.push(hop);
        }
        assert_eq!((hops.len(), hops[0]), (8, hops[7]));
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_refused_and_never_panics(kind in 1u8..=7, bytes in proptest::collection::vec(0u8..=255, 0..300)) {
            let kind = Kind::from_u8(kind).unwrap();
            for version in [RECORD_VERSION, RECORD_VERSION_WITH_TERMS] {
                let _ = Entry::decode_as(kind, version, &bytes);
            }
            if let Ok(Brief::Message(mut brief)) = Brief::take(kind, &bytes) {
                while let Ok(Some(_)) = brief.recipients.next() {}
            }
        }

        #[test]
        fn a_flipped_octet_never_panics(at in 0usize..1500, value in 0u8..=255) {
            let draft = Draft::revision(QueueId::from_bytes([1; 16]), &state(5));
            let mut meta = draft.meta().to_vec();
            let at = at % meta.len();
            meta[at] = value;
            for version in [RECORD_VERSION, RECORD_VERSION_WITH_TERMS] {
                let _ = Entry::decode_as(Kind::Revision, version, &meta);
            }
        }
    }
}
