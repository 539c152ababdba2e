//! Names of types as scripts know them: Rhai, and the compiler, call some `vsmtp_filter::status::Status`. Only what names
//! types comes here, never what a script or a client says. One pass, however long a text is.

use rhai::Dynamic;

/// What the names of our own types begin with.
const OWN: &str = concat!(env!("CARGO_CRATE_NAME"), "::");

/// What the type of a value is called.
pub fn of(value: &Dynamic) -> String {
    plain(value.type_name())
}

/// A message that names types, with names that scripts know.
pub fn plain(message: &str) -> String {
    let mut plain = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, path, behind)) = first(rest) {
        plain.push_str(before);
        let name = path.rsplit("::").next().unwrap_or_default();
        plain.extend(name.chars().map(|c| c.to_ascii_lowercase()));
        rest = behind;
    }
    plain.push_str(rest);
    plain
}

/// The first type of ours: what is before it, its path, and what is behind it, which was not looked at.
fn first(text: &str) -> Option<(&str, &str, &str)> {
    let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let (before, rest) = text.split_at_checked(text.find(OWN)?)?;
    let (path, behind) = rest.split_at_checked(rest.find(|c| !is_of_path(c)).unwrap_or(rest.len()))?;
    Some((before, path, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_ours_lose_their_paths() {
        for (said, expected) in [
            ("found vsmtp_filter::status::Status", "found status"),
            ("f (vsmtp_filter::a::Bc, i64, vsmtp_filter::D)", "f (bc, i64, d)"),
            ("Arc<vsmtp_filter::service::SmtpService>", "Arc<smtpservice>"),
            ("vsmtp_filter::", ""),
            ("alloc::sync::Arc<X>", "alloc::sync::Arc<X>"),
            ("", ""),
        ] {
            assert_eq!(plain(said), expected);
        }
    }

    #[test]
    fn each_octet_of_a_long_message_is_looked_at_once() {
        for hostile in ["vsmtp_filter::a ".repeat(1 << 18), "vsmtp_filter::".repeat(1 << 18)] {
            let (mut rest, mut seen) = (hostile.as_str(), 0);
            while let Some((before, path, behind)) = first(rest) {
                seen += before.len() + path.len();
                rest = behind;
            }
            assert_eq!(seen + rest.len(), hostile.len());
            assert!(plain(&hostile).len() <= hostile.len());
        }
    }
}
