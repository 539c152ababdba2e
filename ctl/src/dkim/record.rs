//! The record that publishes a key (RFC 6376 3.6.1), as a zone file has it and as programs want it.

use serde_json::json;
use vsmtp_ipc::edge::ctl_keys::Published;
use vsmtp_mail::dkim::encode_base64;

use crate::failure::Failure;
use crate::output::Output;

/// Longest string of a text in the DNS, in octets (RFC 1035 3.3.14).
const STRING: usize = 255;

/// A record.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// The name, without the root's dot.
    name: String,
    /// All strings together.
    text: String,
}

impl Record {
    /// What publishes a key at `name`.
    pub fn of(name: String, key: &Published) -> Self {
        Record { name, text: format!("v=DKIM1; k={}; p={}", key.algorithm, encode_base64(&key.key)) }
    }

    /// The strings that it is made of: a record of RSA does not fit into one.
    fn strings(&self) -> Vec<&str> {
        let mut strings = Vec::new();
        let mut rest = self.text.as_str();
        while !rest.is_empty() {
            // The text is ASCII.
            let (string, behind) = rest.split_at(rest.len().min(STRING));
            strings.push(string);
            rest = behind;
        }
        strings
    }

    /// Lines of a zone file (RFC 1035 5.1). Nothing in them needs a backslash: base64, and words of ours.
    fn lines(&self) -> Vec<String> {
        let quoted: Vec<String> = self.strings().iter().map(|string| format!("\"{string}\"")).collect();
        match quoted.as_slice() {
            [only] => vec![format!("{}. IN TXT {only}", self.name)],
            all => {
                let head = format!("{}. IN TXT (", self.name);
                let strings = all.iter().map(|string| format!("    {string}"));
                std::iter::once(head).chain(strings).chain(["    )".to_owned()]).collect()
            }
        }
    }

    /// Prints it, behind comments for people.
    pub fn print(&self, comments: &[String], out: &mut Output<'_>) -> Result<(), Failure> {
        if out.is_json() {
            return out.object(&json!({
                "name": self.name, "type": "TXT", "value": self.text, "strings": self.strings(),
            }));
        }
        comments.iter().try_for_each(|comment| out.line(&format!("; {comment}")))?;
        self.lines().iter().try_for_each(|line| out.line(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(octets: usize) -> Record {
        Record::of(
            "s._domainkey.example.com".to_owned(),
            &Published { algorithm: "rsa".to_owned(), key: vec![0; octets] },
        )
    }

    #[test]
    fn a_short_record_is_one_line() {
        assert_eq!(record(3).lines(), ["s._domainkey.example.com. IN TXT \"v=DKIM1; k=rsa; p=AAAA\""]);
    }

    #[test]
    fn a_long_one_is_split_into_strings_that_fit() {
        let record = record(294);
        assert_eq!(record.strings().iter().map(|string| string.len()).collect::<Vec<_>>(), [255, 155]);
        assert_eq!(record.strings().concat(), record.text);
        let lines = record.lines();
        assert_eq!(
            (lines[0].as_str(), lines[3].as_str(), lines.len()),
            ("s._domainkey.example.com. IN TXT (", "    )", 4)
        );
    }
}
