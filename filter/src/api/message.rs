//! `msg::`: the header, byte-exact, and the text of the message.

use rhai::{Array, Dynamic, ImmutableString};
use vsmtp_mail::Field;

use super::registry::{Registry, name};
use crate::object::Fault;
use crate::stage::Stage;
use crate::transaction::Transaction;

/// Largest message that `mail()` copies into a script's string, in octets.
const MAX_MAIL_TEXT: usize = 16 << 20;

pub(super) fn register(registry: &mut Registry) {
    readers(registry);
    registry.text2(
        name("msg", "append_header", &["append_header"]),
        Stage::Connect,
        Transaction::append_header,
    );
    registry.text2(
        name("msg", "prepend_header", &["prepend_header"]),
        Stage::Connect,
        Transaction::prepend_header,
    );
    registry.text2(name("msg", "set_header", &["set_header"]), Stage::Connect, Transaction::set_header);
    registry.text2(
        name("msg", "rename_header", &["rename_header"]),
        Stage::Connect,
        Transaction::rename_header,
    );
    registry.text1(name("msg", "rm_header", &["rm_header", "remove_header"]), Stage::Connect, |t, field| {
        Ok(t.remove_header(field))
    });
    registry.on0(name("msg", "mail", &["mail"]), Stage::Preq, mail);
    registry.on0(name("msg", "size", &[]), Stage::Preq, |t| {
        Ok(t.content.as_ref().map_or(0, |content| i64::try_from(content.len()).unwrap_or(i64::MAX)))
    });
}

fn readers(registry: &mut Registry) {
    registry.text1(name("msg", "has_header", &["has_header"]), Stage::Connect, |t, field| {
        Ok(t.header.named(field).next().is_some())
    });
    registry.text1(name("msg", "count_header", &["count_header"]), Stage::Connect, |t, field| {
        Ok(i64::try_from(t.header.named(field).count()).unwrap_or(i64::MAX))
    });
    registry.text1(name("msg", "get_header", &["get_header"]), Stage::Connect, |t, field| {
        Ok(t.header.named(field).next().map(|field| text(&field.unfolded())).unwrap_or_default())
    });
    let all = name("msg", "get_all_headers", &["get_all_headers"]);
    registry.on0(all, Stage::Connect, |t| Ok(list(t.header.fields(), Field::raw)));
    registry.text1(all, Stage::Connect, |t, field| Ok(list(t.header.named(field), Field::value)));
    let untouched = name("msg", "get_header_untouched", &["get_header_untouched"]);
    registry.text1(untouched, Stage::Connect, |t, field| Ok(list(t.header.named(field), Field::raw)));
}

fn list<'a>(
    fields: impl Iterator<Item = &'a Field<'static>>,
    part: for<'f> fn(&'f Field<'static>) -> &'f [u8],
) -> Array {
    let show = |field: &Field<'static>| {
        let bytes = part(field);
        Dynamic::from(text(bytes.strip_suffix(b"\r\n").unwrap_or(bytes)))
    };
    fields.map(show).collect()
}

/// Bytes that are not UTF-8 are shown as replacement characters; the message itself keeps them.
fn text(bytes: &[u8]) -> ImmutableString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// The whole message with the header as it is now.
fn mail(t: &mut Transaction) -> Result<ImmutableString, Fault> {
    let Some(content) = t.content.clone() else { return Ok(text(&t.header.to_bytes())) };
    let length = content.len().saturating_sub(t.body_offset);
    if length > MAX_MAIL_TEXT as u64 {
        return Err(Fault(format!(
            "the message is larger than {MAX_MAIL_TEXT} bytes: scripts cannot hold it"
        )));
    }
    let mut bytes = t.header.to_bytes();
    let body = content.read(t.body_offset, MAX_MAIL_TEXT);
    bytes.extend(body.map_err(|error| Fault(format!("the message cannot be read: {error}")))?);
    Ok(text(&bytes))
}
