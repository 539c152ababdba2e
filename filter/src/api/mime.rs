//! `mime::`: the parts of the message, as `crate::mime` reads them.

use std::sync::Arc;

use rhai::{Array, Dynamic, ImmutableString};

use super::registry::{Name, Outcome, Registry, name};
use crate::mime::{Part, Shown, Tree};
use crate::object::Fault;
use crate::stage::Stage;
use crate::transaction::Transaction;

/// A part, for scripts.
type Held = Arc<Part>;

const ERRORS: &str = "if the message is larger than 16 MiB or has more parts than are looked at";

const fn of_message(function: &'static str) -> Name {
    name("mime", function, &[]).errors(ERRORS)
}

pub(super) fn register(registry: &mut Registry) {
    registry.engine.register_type_with_name::<Held>("part");
    structure(registry);
    contents(registry);
    appenders(registry);
    properties(registry);
}

/// What the message consists of.
fn structure(registry: &mut Registry) {
    let kind = of_message("type")
        .doc(
            "() -> string",
            "The media type of the whole message in lower case; `text/plain` if it says none.",
        )
        .example("mime::type() == \"text/plain\"");
    registry.on0(kind, Stage::Preq, |t| Ok(ImmutableString::from(&*tree(t)?.kind)));
    let parts = of_message("parts")
        .doc(
            "() -> array",
            "All parts that are not containers, in order, those of messages inside the message too.",
        )
        .example("mime::parts().len() == 1 && mime::parts()[0].type == \"text/plain\"");
    registry.on0(parts, Stage::Preq, |t| Ok(list(&*tree(t)?, |_| true)));
    let attachments = of_message("attachments")
        .doc("() -> array", "The parts that are not shown as text: they have a name, say that they are attachments, or are no text.")
        .example("for part in mime::attachments() { log(\"info\", `${part.name} ${part.size}`); }");
    registry.on0(attachments, Stage::Preq, |t| Ok(list(&*tree(t)?, |part| part.is_attachment)));
    let names = of_message("names")
        .doc("() -> array", "The file names of all parts that have one, decoded.")
        .example("mime::names() == []");
    registry.on0(names, Stage::Preq, |t| {
        let tree = tree(t)?;
        let named = tree.parts.iter().filter(|part| !part.name.is_empty());
        Ok(named.map(|part| Dynamic::from(ImmutableString::from(&*part.name))).collect::<Array>())
    });
    let types = of_message("types")
        .doc("() -> array", "The media types of all parts, each once, in order.")
        .example("\"text/plain\" in mime::types()");
    registry.on0(types, Stage::Preq, |t| {
        let tree = tree(t)?;
        let mut kinds: Vec<&str> = Vec::new();
        for part in &tree.parts {
            if !kinds.contains(&&*part.kind) {
                kinds.push(&part.kind);
            }
        }
        Ok(kinds.into_iter().map(|kind| Dynamic::from(ImmutableString::from(kind))).collect::<Array>())
    });
}

/// What readers see, and what a part is like.
fn contents(registry: &mut Registry) {
    let text = of_message("text")
        .doc(
            "() -> string",
            "The plain text that a reader sees: all `text/plain` parts that are no attachments, decoded.",
        )
        .example("mime::text().contains(\"body\")");
    registry.on0(text, Stage::Preq, |t| Ok(texts(&*tree(t)?, "text/plain")));
    let html = of_message("html")
        .doc(
            "() -> string",
            "The HTML that a reader sees: all `text/html` parts that are no attachments, decoded.",
        )
        .example("mime::html() == \"\"");
    registry.on0(html, Stage::Preq, |t| Ok(texts(&*tree(t)?, "text/html")));
    let has_type = of_message("has_type")
        .doc("(pattern: string) -> bool", "A part has this media type; `image/*` stands for all images.")
        .example("mime::has_type(\"text/*\") && !mime::has_type(\"application/zip\")");
    registry.text1(has_type, Stage::Preq, |t, pattern| {
        let pattern = pattern.to_ascii_lowercase();
        let fits = |kind: &str| match pattern.strip_suffix('*') {
            Some(start) => kind.starts_with(start),
            None => kind == pattern,
        };
        Ok(tree(t)?.parts.iter().any(|part| fits(&part.kind)))
    });
    let has_extension = of_message("has_extension")
        .doc("(extension: string) -> bool", "A part's file name ends in this extension, in any case of letters; dots and spaces behind it count for nothing.")
        .example("!mime::has_extension(\"exe\")");
    registry.text1(has_extension, Stage::Preq, |t, extension| {
        let wanted = extension.trim_start_matches('.').to_lowercase();
        Ok(tree(t)?.parts.iter().any(|part| !part.name.is_empty() && part.extension() == wanted))
    });
}

/// Functions that change what the message shows.
fn appenders(registry: &mut Registry) {
    let errors = "if the message is larger than 16 MiB, if the text is larger than 64 KiB or has lines of more than 998 bytes, or if \
                  more than 1 MiB of the body would be written anew";
    let text = name("mime", "append_text", &[])
        .doc("(text: string) -> bool", "Appends lines to the text that a reader sees: to the first `text/plain` part that is no attachment, in its character set and its encoding; all other octets of the body stay. Where the text cannot be said so, the part becomes UTF-8 if it was ASCII, and quoted-printable if it had no encoding. False, and nothing is changed: there is no such part; the message is signed or encrypted (`multipart/signed`, S/MIME, PGP) or is a report; the text cannot be said in the part's character set; or readers may disagree about what the parts are. Signatures by DKIM break: sign afterwards.")
        .errors(errors)
        .example("mime::append_text(\"-- \\nexample.com, the company\") && mime::text().contains(\"the company\")");
    registry.text1(text, Stage::Preq, |t, text| t.append_shown(Shown::Text, text));
    let html = name("mime", "append_html", &[])
        .doc("(html: string) -> bool", "The same for the first `text/html` part that is no attachment: before its last `</body>`, if it has one, else at its end. What its character set lacks becomes a character reference. The HTML is not looked at: escape what a stranger wrote.")
        .errors(errors)
        .example("!mime::append_html(\"<p>the company</p>\") // a message of plain text");
    registry.text1(html, Stage::Preq, |t, html| t.append_shown(Shown::Html, html));
}

fn properties(registry: &mut Registry) {
    fn word(text: &str) -> Outcome<ImmutableString> {
        Ok(text.into())
    }
    let of = |property: &'static str, signature: &'static str, text: &'static str, example: &'static str| {
        name("mime", property, &[]).doc(signature, text).example(example)
    };
    let (text, flag) = (" -> string", " -> bool");
    let kind = of(
        "type",
        text,
        "The part's media type in lower case.",
        "mime::parts()[0].type == \"text/plain\" // from preq",
    );
    registry.property(kind, |part: &Held| word(&part.kind));
    let named = of(
        "name",
        text,
        "The part's file name, decoded; empty if it has none.",
        "mime::parts()[0].name == \"\" // from preq",
    );
    registry.property(named, |part: &Held| word(&part.name));
    let extension = of(
        "extension",
        text,
        "What stands behind the last dot of the name, in lower case.",
        "mime::parts()[0].extension == \"\" // from preq",
    );
    registry.property(extension, |part: &Held| word(&part.extension()));
    let disposition = of(
        "disposition",
        text,
        "`inline`, `attachment`, or empty.",
        "mime::parts()[0].disposition == \"\" // from preq",
    );
    registry.property(disposition, |part: &Held| word(&part.disposition));
    let charset = of(
        "charset",
        text,
        "The character set that the part states, in lower case.",
        "mime::parts()[0].charset == \"\" // from preq",
    );
    registry.property(charset, |part: &Held| word(&part.charset));
    let id = of("id", text, "The Content-ID without brackets.", "mime::parts()[0].id == \"\" // from preq");
    registry.property(id, |part: &Held| word(&part.id));
    let size =
        of("size", " -> int", "Octets of the part, decoded.", "mime::parts()[0].size > 0 // from preq");
    registry.property(size, |part: &Held| Ok(i64::try_from(part.size).unwrap_or(i64::MAX)));
    let attachment = of(
        "is_attachment",
        flag,
        "The part is not shown as text.",
        "!mime::parts()[0].is_attachment // from preq",
    );
    registry.property(attachment, |part: &Held| Ok(part.is_attachment));
    let body = of(
        "text",
        text,
        "The text of a text part, decoded to UTF-8; empty for other parts.",
        "mime::parts()[0].text.contains(\"body\") // from preq",
    );
    registry.property(body, |part: &Held| word(part.text.as_deref().unwrap_or_default()));
    registry.engine.register_fn("to_string", |part: &mut Held| format!("{} {}", part.kind, part.name));
    registry.engine.register_fn("to_debug", |part: &mut Held| format!("{} {}", part.kind, part.name));
}

fn tree(t: &mut Transaction) -> Result<Arc<Tree>, Fault> {
    t.mime()
}

fn list(tree: &Tree, wanted: impl Fn(&Part) -> bool) -> Array {
    tree.parts.iter().filter(|part| wanted(part)).map(|part| Dynamic::from(Arc::new(part.clone()))).collect()
}

fn texts(tree: &Tree, kind: &str) -> ImmutableString {
    let shown = tree.parts.iter().filter(|part| !part.is_attachment && &*part.kind == kind);
    shown.filter_map(|part| part.text.as_deref()).collect::<Vec<_>>().join("\n").into()
}
