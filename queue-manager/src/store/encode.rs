//! How a message's state, a change and an outcome look on disk. Reading re-validates everything through the
//! constructors of `vsmtp_mail`: what the disk says is outside data like any other.

use std::net::IpAddr;

use vsmtp_mail::{
    Address, BodyType, Demands, Domain, EnhancedCode, Envelope, LmtpTarget, MAX_ENVID, MAX_RECIPIENTS,
    MailboxFormat, NextHop, Notify, OriginalRecipient, Recipient, RecipientClass, Ret, ReversePath, Service,
    Terms,
};

use super::codec::{Malformed, Put, Take};
use super::delegation::Delegation;
use super::message::{
    Diagnostic, Disposition, MAX_PIECES, Marks, MessageState, Origin, Piece, RecipientState, RemoveReason,
    StateChange, Text,
};

/// Writes a whole state.
pub(super) fn put_state(out: &mut Vec<u8>, state: &MessageState) {
    out.put_u64(state.arrival_ms);
    put_disposition(out, &state.disposition);
    out.put_u8(state.marks.bits());
    put_origin(out, &state.origin);
    put_envelope(out, &state.envelope);
    for progress in &state.progress {
        put_recipient_state(out, progress);
    }
    put_pieces(out, state.pieces.as_deref());
}

/// Reads a whole state.
pub(super) fn take_state(take: &mut Take<'_>) -> Result<MessageState, Malformed> {
    let arrival_ms = take.u64()?;
    let disposition = take_disposition(take)?;
    let marks = take.u8()?;
    if marks > Marks::ALL {
        return Err(Malformed("marks"));
    }
    let marks = Marks::from_bits(marks);
    let origin = take_origin(take)?;
    let envelope = take_envelope(take)?;
    let progress =
        envelope.recipients.iter().map(|_| take_recipient_state(take)).collect::<Result<_, _>>()?;
    let pieces = take_pieces(take)?;
    Ok(MessageState { arrival_ms, disposition, marks, origin, envelope, progress, pieces })
}

pub(super) fn put_disposition(out: &mut Vec<u8>, disposition: &Disposition) {
    let delegation = disposition.delegation().map(Delegation::to_text);
    let (code, text) = match disposition {
        Disposition::Active => (0, ""),
        Disposition::Hold(reason) => (1, reason.as_str()),
        Disposition::Quarantine(name) => (2, name.as_str()),
        Disposition::Dead(reason) => (3, reason.as_str()),
        Disposition::Delegated(_) => (4, delegation.as_deref().unwrap_or_default()),
    };
    out.put_u8(code);
    out.put_str(text);
}

pub(super) fn take_disposition(take: &mut Take<'_>) -> Result<Disposition, Malformed> {
    let (code, text) = (take.u8()?, take.str()?);
    Ok(match code {
        0 => Disposition::Active,
        1 => Disposition::Hold(Text::new(text)),
        2 => Disposition::Quarantine(Text::new(text)),
        3 => Disposition::Dead(Text::new(text)),
        4 => Disposition::Delegated(Box::new(Delegation::from_text(text)?)),
        _ => return Err(Malformed("disposition")),
    })
}

fn put_origin(out: &mut Vec<u8>, origin: &Origin) {
    out.put_str(origin.session.as_str());
    match origin.client {
        None => out.put_u8(0),
        Some(IpAddr::V4(v4)) => {
            out.put_u8(4);
            out.extend_from_slice(&v4.octets());
        }
        Some(IpAddr::V6(v6)) => {
            out.put_u8(6);
            out.extend_from_slice(&v6.octets());
        }
    }
    out.put_str(origin.helo.as_str());
    // A word behind the protocol, so that releases that do not know it can read the rest.
    match origin.service {
        Some(service) => out.put_str(&format!("{} {service}", origin.protocol.as_str())),
        None => out.put_str(origin.protocol.as_str()),
    }
    put_option(out, origin.identity.as_ref(), |out, identity| out.put_str(identity.as_str()));
}

fn take_origin(take: &mut Take<'_>) -> Result<Origin, Malformed> {
    let session = Text::new(take.str()?);
    let client = match take.u8()? {
        0 => None,
        4 => Some(IpAddr::from(take.array::<4>()?)),
        6 => Some(IpAddr::from(take.array::<16>()?)),
        _ => return Err(Malformed("client address")),
    };
    let (helo, protocol) = (Text::new(take.str()?), take.str()?);
    let named = protocol.rsplit_once(' ').and_then(|(before, word)| {
        let service = Service::ALL.into_iter().find(|service| service.name() == word)?;
        Some((before, service))
    });
    let (protocol, service) = named.map_or((protocol, None), |(protocol, service)| (protocol, Some(service)));
    let protocol = Text::new(protocol);
    let identity = take_option(take, |take| take.str().map(Text::new))?;
    Ok(Origin { session, client, helo, protocol, identity, service })
}

fn put_envelope(out: &mut Vec<u8>, envelope: &Envelope) {
    put_option(out, envelope.reverse_path.address(), put_address);
    out.put_u8(match envelope.body {
        BodyType::SevenBit => 0,
        BodyType::EightBitMime => 1,
        BodyType::BinaryMime => 2,
    });
    out.put_u8(u8::from(envelope.smtputf8) | u8::from(envelope.demands.requiretls) << 1);
    out.put_u8(match envelope.ret {
        None => 0,
        Some(Ret::Full) => 1,
        Some(Ret::Headers) => 2,
    });
    put_option(out, envelope.envid.as_deref(), |out, envid| out.put_str(envid));
    out.put_u32(u32::try_from(envelope.recipients.len()).unwrap_or(u32::MAX));
    for recipient in &envelope.recipients {
        put_recipient(out, recipient);
    }
}

fn take_envelope(take: &mut Take<'_>) -> Result<Envelope, Malformed> {
    let reverse_path = take_option(take, take_address)?.map_or(ReversePath::Null, ReversePath::Address);
    let body = match take.u8()? {
        0 => BodyType::SevenBit,
        1 => BodyType::EightBitMime,
        2 => BodyType::BinaryMime,
        _ => return Err(Malformed("body type")),
    };
    let wishes = take.u8()?;
    if wishes > 3 {
        return Err(Malformed("wishes"));
    }
    let smtputf8 = wishes & 1 != 0;
    let demands = Demands { requiretls: wishes & 2 != 0 };
    let ret = match take.u8()? {
        0 => None,
        1 => Some(Ret::Full),
        2 => Some(Ret::Headers),
        _ => return Err(Malformed("ret")),
    };
    let envid = take_option(take, |take| {
        let envid = take.str()?;
        let good = envid.len() <= MAX_ENVID && !envid.chars().any(char::is_control);
        good.then(|| envid.into()).ok_or(Malformed("envid"))
    })?;
    let count = take.u32()? as usize;
    if count > MAX_RECIPIENTS {
        return Err(Malformed("recipient count"));
    }
    let recipients = (0..count).map(|_| take_recipient(take)).collect::<Result<_, _>>()?;
    Ok(Envelope { reverse_path, body, smtputf8, ret, envid, demands, terms: Terms::default(), recipients })
}

/// In the octet of a recipient's class: a rule chose its next hop.
const CHOSEN: u8 = 4;

fn put_recipient(out: &mut Vec<u8>, recipient: &Recipient) {
    put_address(out, &recipient.address);
    put_option(out, recipient.original.as_ref(), |out, original| {
        out.put_str(&original.kind);
        out.put_str(&original.address);
    });
    put_notify(out, recipient.notify);
    let class = match recipient.class {
        RecipientClass::Local => 0,
        RecipientClass::Virtual => 1,
        RecipientClass::Relay => 2,
        RecipientClass::Other => 3,
    };
    out.put_u8(class | if recipient.chosen { CHOSEN } else { 0 });
    put_hop(out, &recipient.next_hop);
}

fn take_recipient(take: &mut Take<'_>) -> Result<Recipient, Malformed> {
    let address = take_address(take)?;
    let original = take_option(take, |take| {
        let (kind, address) = (take.str()?, take.str()?);
        if kind.chars().chain(address.chars()).any(char::is_control) {
            return Err(Malformed("original recipient"));
        }
        Ok(OriginalRecipient { kind: kind.into(), address: address.into() })
    })?;
    let notify = take_notify(take)?;
    let bits = take.u8()?;
    let chosen = bits & CHOSEN != 0;
    let class = match bits & !CHOSEN {
        0 => RecipientClass::Local,
        1 => RecipientClass::Virtual,
        2 => RecipientClass::Relay,
        3 => RecipientClass::Other,
        _ => return Err(Malformed("recipient class")),
    };
    Ok(Recipient { address, original, notify, class, next_hop: take_hop(take)?, chosen })
}

/// What is not the default was stated; only where the two are alike, a bit says so.
fn put_notify(out: &mut Vec<u8>, notify: Notify) {
    let stated = notify.stated && Notify { stated: false, ..notify } == Notify::default();
    out.put_u8(
        u8::from(notify.success)
            | u8::from(notify.failure) << 1
            | u8::from(notify.delay) << 2
            | u8::from(stated) << 3,
    );
}

fn take_notify(take: &mut Take<'_>) -> Result<Notify, Malformed> {
    let bits = take.u8()?;
    if bits > 15 {
        return Err(Malformed("notify"));
    }
    let notify =
        Notify { success: bits & 1 != 0, failure: bits & 2 != 0, delay: bits & 4 != 0, stated: false };
    Ok(Notify { stated: bits & 8 != 0 || notify != Notify::default(), ..notify })
}

/// Local part and domain apart: both are checked again when they are read, and neither needs quotes.
pub(super) fn put_address(out: &mut Vec<u8>, address: &Address) {
    out.put_str(address.local_part());
    out.put_str(address.domain().as_str());
}

pub(super) fn take_address(take: &mut Take<'_>) -> Result<Address, Malformed> {
    let local = take.str()?;
    let domain = take_domain(take)?;
    Address::new(local, domain).map_err(|_| Malformed("address"))
}

pub(super) fn take_domain(take: &mut Take<'_>) -> Result<Domain, Malformed> {
    Domain::parse(take.str()?).map_err(|_| Malformed("domain"))
}

/// Writes a next hop; equal hops give equal octets, so that these can stand for the hop in a table.
pub(super) fn put_hop(out: &mut Vec<u8>, hop: &NextHop) {
    match hop {
        NextHop::Smtp { host, port, mx } => {
            out.put_u8(if *mx { 1 } else { 2 });
            out.put_u16(*port);
            out.put_str(host.as_str());
        }
        NextHop::Lmtp(LmtpTarget::Tcp(host, port)) => {
            out.put_u8(3);
            out.put_u16(*port);
            out.put_str(host.as_str());
        }
        NextHop::Lmtp(LmtpTarget::Unix(path)) => {
            out.put_u8(4);
            out.put_str(path);
        }
        NextHop::Mailbox(MailboxFormat::Maildir) => out.put_u8(5),
        NextHop::Mailbox(MailboxFormat::Mbox) => out.put_u8(6),
    }
}

/// Reads a next hop.
pub(super) fn take_hop(take: &mut Take<'_>) -> Result<NextHop, Malformed> {
    let code = take.u8()?;
    Ok(match code {
        1..=3 => {
            let port = take.u16()?;
            let host = take_domain(take)?;
            if port == 0 {
                return Err(Malformed("port"));
            }
            if code == 3 {
                NextHop::Lmtp(LmtpTarget::Tcp(host, port))
            } else {
                NextHop::Smtp { host, port, mx: code == 1 }
            }
        }
        4 => NextHop::parse(&format!("lmtp:unix:{}", take.str()?)).map_err(|_| Malformed("socket path"))?,
        5 => NextHop::Mailbox(MailboxFormat::Maildir),
        6 => NextHop::Mailbox(MailboxFormat::Mbox),
        _ => return Err(Malformed("next hop")),
    })
}

pub(super) fn put_recipient_state(out: &mut Vec<u8>, state: &RecipientState) {
    match state {
        RecipientState::Waiting { attempts, until, last } => {
            out.put_u8(0);
            out.put_u16(*attempts);
            out.put_u64(*until);
            put_option(out, last.as_ref(), put_diagnostic);
        }
        RecipientState::Delivered(diagnostic) => {
            out.put_u8(1);
            put_option(out, diagnostic.as_ref(), put_diagnostic);
        }
        RecipientState::Failed(diagnostic) => {
            out.put_u8(2);
            put_diagnostic(out, diagnostic);
        }
    }
}

pub(super) fn take_recipient_state(take: &mut Take<'_>) -> Result<RecipientState, Malformed> {
    Ok(match take.u8()? {
        0 => RecipientState::Waiting {
            attempts: take.u16()?,
            until: take.u64()?,
            last: take_option(take, take_diagnostic)?,
        },
        1 => RecipientState::Delivered(take_option(take, take_diagnostic)?),
        2 => RecipientState::Failed(take_diagnostic(take)?),
        _ => return Err(Malformed("recipient state")),
    })
}

fn put_diagnostic(out: &mut Vec<u8>, diagnostic: &Diagnostic) {
    out.put_u8(diagnostic.status.0);
    out.put_u16(diagnostic.status.1);
    out.put_u16(diagnostic.status.2);
    put_option(out, diagnostic.remote.as_ref(), |out, remote| out.put_str(remote.as_str()));
    out.put_str(diagnostic.text.as_str());
}

fn take_diagnostic(take: &mut Take<'_>) -> Result<Diagnostic, Malformed> {
    let status = EnhancedCode(take.u8()?, take.u16()?, take.u16()?);
    if !matches!(status.0, 2 | 4 | 5) || status.1 > 999 || status.2 > 999 {
        return Err(Malformed("status"));
    }
    let remote = take_option(take, |take| take.str().map(Text::new))?;
    Ok(Diagnostic { status, remote, text: Text::new(take.str()?) })
}

fn put_pieces(out: &mut Vec<u8>, pieces: Option<&[Piece]>) {
    let Some(pieces) = pieces else { return out.put_u8(0) };
    out.put_u8(1);
    out.put_u16(u16::try_from(pieces.len()).unwrap_or(u16::MAX));
    for piece in pieces {
        match piece {
            Piece::Inline(bytes) => {
                out.put_u8(0);
                out.put_blob(bytes);
            }
            Piece::Stored { offset, len } => {
                out.put_u8(1);
                out.put_u64(*offset);
                out.put_u64(*len);
            }
        }
    }
}

fn take_pieces(take: &mut Take<'_>) -> Result<Option<Vec<Piece>>, Malformed> {
    if !take_bool(take)? {
        return Ok(None);
    }
    let count = usize::from(take.u16()?);
    if count > MAX_PIECES {
        return Err(Malformed("piece count"));
    }
    let one = |take: &mut Take<'_>| {
        Ok(match take.u8()? {
            0 => Piece::Inline(take.blob()?.into()),
            1 => Piece::Stored { offset: take.u64()?, len: take.u64()? },
            _ => return Err(Malformed("piece")),
        })
    };
    (0..count).map(|_| one(take)).collect::<Result<_, _>>().map(Some)
}

pub(super) fn put_change(out: &mut Vec<u8>, change: &StateChange) {
    match change {
        StateChange::Disposition(disposition) => {
            out.put_u8(0);
            put_disposition(out, disposition);
        }
        StateChange::Requeue => out.put_u8(1),
        StateChange::Expire => out.put_u8(2),
        StateChange::DelayReported => out.put_u8(3),
        StateChange::Judged => out.put_u8(4),
    }
}

pub(super) fn take_change(take: &mut Take<'_>) -> Result<StateChange, Malformed> {
    Ok(match take.u8()? {
        0 => StateChange::Disposition(take_disposition(take)?),
        1 => StateChange::Requeue,
        2 => StateChange::Expire,
        3 => StateChange::DelayReported,
        4 => StateChange::Judged,
        _ => return Err(Malformed("state change")),
    })
}

pub(super) fn put_results(out: &mut Vec<u8>, results: &[(u32, RecipientState)]) {
    out.put_u32(u32::try_from(results.len()).unwrap_or(u32::MAX));
    for (at, state) in results {
        out.put_u32(*at);
        put_recipient_state(out, state);
    }
}

pub(super) fn take_results(take: &mut Take<'_>) -> Result<Vec<(u32, RecipientState)>, Malformed> {
    let count = take.u32()? as usize;
    if count > MAX_RECIPIENTS {
        return Err(Malformed("result count"));
    }
    (0..count).map(|_| Ok((take.u32()?, take_recipient_state(take)?))).collect()
}

pub(super) fn put_reason(out: &mut Vec<u8>, reason: RemoveReason) {
    out.put_u8(match reason {
        RemoveReason::Settled => 0,
        RemoveReason::Deleted => 1,
        RemoveReason::Discarded => 2,
    });
}

pub(super) fn take_reason(take: &mut Take<'_>) -> Result<RemoveReason, Malformed> {
    Ok(match take.u8()? {
        0 => RemoveReason::Settled,
        1 => RemoveReason::Deleted,
        2 => RemoveReason::Discarded,
        _ => return Err(Malformed("reason")),
    })
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

fn take_option<'a, T>(
    take: &mut Take<'a>,
    read: impl FnOnce(&mut Take<'a>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    if take_bool(take)? { read(take).map(Some) } else { Ok(None) }
}

fn take_bool(take: &mut Take<'_>) -> Result<bool, Malformed> {
    match take.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("flag")),
    }
}
