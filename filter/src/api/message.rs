//! `msg::`: the header, byte-exact, and the text of the message.

use rhai::{Array, Dynamic, ImmutableString};
use vsmtp_mail::Field;

use super::address::mailbox;
use super::registry::{Registry, name};
use crate::object::Fault;
use crate::runner::Input;
use crate::stage::Stage;
use crate::transaction::Transaction;

/// Largest message that `mail()` copies into a script's string, in octets.
const MAX_MAIL_TEXT: usize = 16 << 20;

pub(super) fn register(registry: &mut Registry) {
    readers(registry);
    editors(registry);
    addresses(registry);
    let mail = name("msg", "mail", &["mail"])
        .doc("() -> string", "The whole message with the header as it is now. Octets that are not UTF-8 are shown as replacement characters; the message keeps them.")
        .errors("if the message is larger than 16 MiB")
        .example("msg::mail().contains(\"Subject: hello\")");
    registry.on0(mail, Stage::Preq, self::mail);
    let size = name("msg", "size", &[])
        .doc("() -> int", "Octets of the message as it came.")
        .example("msg::size() > 50");
    registry.on0(size, Stage::Preq, |t| {
        Ok(t.content.as_ref().map_or(0, |content| i64::try_from(content.len()).unwrap_or(i64::MAX)))
    });
}

const FIELD_ERRORS: &str = "if it cannot be a field: names are printable ASCII without colon, values have no NUL and no \
                            line break but folding; or if rules added too much";

fn editors(registry: &mut Registry) {
    let append = name("msg", "append_header", &["append_header"])
        .doc("(name: string, value: string)", "Puts a field after all others. Before `preq` it will stand in front of the message's own fields.")
        .errors(FIELD_ERRORS)
        .example("msg::append_header(\"X-Checked\", \"yes\"); msg::get_header(\"X-Checked\") == \"yes\"");
    registry.text2(append, Stage::Connect, Transaction::append_header);
    let prepend = name("msg", "prepend_header", &["prepend_header"])
        .doc("(name: string, value: string)", "Puts a field before all others.")
        .errors(FIELD_ERRORS)
        .example("msg::prepend_header(\"X-Client\", ctx::client_ip()); msg::get_all_headers()[0].starts_with(\"X-Client\")");
    registry.text2(prepend, Stage::Connect, Transaction::prepend_header);
    let set = name("msg", "set_header", &["set_header"])
        .doc("(name: string, value: string)", "Replaces the first field of that name where it stands, or appends one.")
        .errors(FIELD_ERRORS)
        .example("msg::set_header(\"Subject\", \"[list] hello\"); msg::get_header(\"Subject\") == \"[list] hello\"");
    registry.text2(set, Stage::Connect, Transaction::set_header);
    let rename = name("msg", "rename_header", &["rename_header"])
        .doc(
            "(old: string, new: string) -> bool",
            "Renames the first field called `old`; its value keeps its bytes. False if there is none.",
        )
        .errors("if the new name cannot be one")
        .example("msg::rename_header(\"X-Tag\", \"X-Old-Tag\") == msg::has_header(\"X-Old-Tag\")");
    registry.text2(rename, Stage::Connect, Transaction::rename_header);
    let remove = name("msg", "rm_header", &["rm_header", "remove_header"])
        .doc(
            "(name: string) -> bool",
            "Removes the first field of that name; false if there is none. A loop removes all.",
        )
        .example("while msg::rm_header(\"X-Tag\") {} msg::count_header(\"X-Tag\") == 0");
    registry.text1(remove, Stage::Connect, |t, field| Ok(t.remove_header(field)));
}

fn readers(registry: &mut Registry) {
    let has = name("msg", "has_header", &["has_header"])
        .doc("(name: string) -> bool", "There is a field of that name, in any case of letters.")
        .example("msg::has_header(\"SUBJECT\") // from preq");
    registry.text1(has, Stage::Connect, |t, field| Ok(t.header.named(field).next().is_some()));
    let count = name("msg", "count_header", &["count_header"])
        .doc("(name: string) -> int", "How many fields have that name.")
        .example("msg::count_header(\"X-Tag\") == 2 // from preq");
    registry.text1(count, Stage::Connect, |t, field| {
        Ok(i64::try_from(t.header.named(field).count()).unwrap_or(i64::MAX))
    });
    let get = name("msg", "get_header", &["get_header"])
        .doc("(name: string) -> string", "The value of the first field of that name on one line, without outer white space; empty if there is none.")
        .example("msg::get_header(\"subject\") == \"hello\" && msg::get_header(\"None\") == \"\" // from preq");
    registry.text1(get, Stage::Connect, |t, field| {
        Ok(t.header.named(field).next().map(|field| text(&field.unfolded())).unwrap_or_default())
    });
    let all = name("msg", "get_all_headers", &["get_all_headers"])
        .doc("() -> array", "All fields as they stand, name and value, in order.")
        .example("msg::get_all_headers()[1] == \"Subject: hello\" // from preq");
    registry.on0(all, Stage::Connect, |t| Ok(list(t.header.fields(), Field::raw)));
    let named = name("msg", "get_all_headers", &["get_all_headers"])
        .doc(
            "(name: string) -> array",
            "The values of all fields of that name as they stand, with the space after the colon.",
        )
        .example("msg::get_all_headers(\"X-Tag\") == [\" 1\", \" 2\"] // from preq");
    registry.text1(named, Stage::Connect, |t, field| Ok(list(t.header.named(field), Field::value)));
    let untouched = name("msg", "get_header_untouched", &["get_header_untouched"])
        .doc("(name: string) -> array", "All fields of that name as they stand, name and value.")
        .example("msg::get_header_untouched(\"to\") == [\"To: a@b.c\"] // from preq");
    registry.text1(untouched, Stage::Connect, |t, field| Ok(list(t.header.named(field), Field::raw)));
}

/// Functions that change addresses in From, To and Cc.
fn addresses(registry: &mut Registry) {
    let errors = "if an argument is not an address, or the field cannot be made";
    let from = name("msg", "rw_mail_from", &["rewrite_mail_from_message"])
        .doc("(new: address)", "Puts this address into From, in place of what is there, name included; makes the field if there is none.")
        .errors(errors)
        .example("msg::rw_mail_from(\"anonymous@example.com\"); msg::get_header(\"From\") == \"anonymous@example.com\"");
    registry.text1(from, Stage::Preq, |t, new| t.rewrite_from(&mailbox(new)?));
    let rewrite = name("msg", "rw_rcpt", &["rewrite_rcpt_message", "rewrite_to", "rewrite_to_message"])
        .doc("(old: address, new: address)", "Puts one address in the place of another in To and Cc. Names, folding and the other addresses keep their bytes.")
        .errors(errors)
        .example("msg::rw_rcpt(\"a@b.c\", \"john@example.com\"); msg::get_header(\"To\") == \"john@example.com\"");
    registry.text2(rewrite, Stage::Preq, |t, old, new| t.rewrite_addressee(&mailbox(old)?, &mailbox(new)?));
    let add = name("msg", "add_rcpt", &["add_rcpt_message", "add_to", "add_to_message"])
        .doc("(new: address)", "Adds an address at the end of To; makes the field if there is none.")
        .errors(errors)
        .example("msg::add_rcpt(\"d@e.f\"); msg::get_header(\"To\") == \"a@b.c, d@e.f\"");
    registry.text1(add, Stage::Preq, |t, new| t.add_addressee(&mailbox(new)?));
    let remove = name("msg", "rm_rcpt", &["remove_rcpt_message", "remove_to", "remove_to_message"])
        .doc(
            "(old: address)",
            "Removes an address from To and Cc, with its name; a field that has no address left is removed.",
        )
        .errors(errors)
        .example("msg::rm_rcpt(\"a@b.c\"); !msg::has_header(\"To\")");
    registry.text1(remove, Stage::Preq, |t, old| t.remove_addressee(&mailbox(old)?));
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
pub(super) fn mail(t: &mut Transaction) -> Result<ImmutableString, Fault> {
    let Some((content, offset)) = t.body_now() else { return Ok(text(&t.header.to_bytes())) };
    let length = content.len().saturating_sub(offset);
    if length > MAX_MAIL_TEXT as u64 {
        return Err(Fault(format!(
            "the message is larger than {MAX_MAIL_TEXT} bytes: scripts cannot hold it"
        )));
    }
    let mut bytes = t.header.to_bytes();
    let body = content.read(offset, MAX_MAIL_TEXT);
    bytes.extend(body.map_err(|error| Fault(format!("the message cannot be read: {error}")))?);
    Ok(text(&bytes))
}

/// The same for a command, byte for byte and of any size: no script holds it.
pub(super) fn input(t: &Transaction) -> Input {
    let header = t.header.to_bytes();
    match t.body_now() {
        Some((content, body)) => Input::Message { header, content, body },
        None => Input::Bytes(header),
    }
}
