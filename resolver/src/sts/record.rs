//! The TXT record that says that there is a policy, and whether it changed (RFC 8461 3.1).

/// Longest id, in characters.
const MAX_ID: usize = 32;
const VERSION: &[u8] = b"v=STSv1";

/// The id of the one record among the texts; `None` if there is not exactly one that is well-formed.
pub fn id(texts: &[Vec<u8>]) -> Option<String> {
    let mut records = texts.iter().filter_map(|text| behind_version(text));
    let (fields, None) = (records.next()?, records.next()) else { return None };
    let fields = std::str::from_utf8(fields).ok()?;
    let id = fields.split(';').find_map(|field| field.trim().strip_prefix("id="))?;
    is_id(id).then(|| id.to_owned())
}

/// True if a record may state that.
pub fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_alphanumeric())
}

/// What follows the version, if this is such a record at all.
fn behind_version(text: &[u8]) -> Option<&[u8]> {
    let rest = text.strip_prefix(VERSION)?.trim_ascii_start();
    rest.strip_prefix(b";")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Option<String> {
        id(&texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    #[test]
    fn exactly_one_record_with_an_id() {
        for good in [
            "v=STSv1; id=20160831085700Z;",
            "v=STSv1;id=20160831085700Z",
            "v=STSv1 ; x=y; id=20160831085700Z ;",
        ] {
            assert_eq!(of(&["unrelated", good]).as_deref(), Some("20160831085700Z"), "{good}");
        }
        let long = format!("v=STSv1; id={};", "a".repeat(33));
        for bad in [
            "",
            "v=STSv1",
            "v=STSv1;",
            "v=STSv1; id=;",
            "v=STSv12; id=1;",
            "v=STSv1; id=a-b;",
            &long,
            "V=STSv1; id=1;",
        ] {
            assert_eq!(of(&[bad]), None, "{bad}");
        }
        assert_eq!(of(&["v=STSv1; id=1;", "v=STSv1; id=2;"]), None);
        assert_eq!(id(&[b"v=STSv1; id=\xff;".to_vec()]), None);
    }
}
