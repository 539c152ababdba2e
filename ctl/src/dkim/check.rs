//! Whether the DNS publishes the keys of a configuration, and no others, under the selectors that mail is signed with.

use std::path::Path;

use serde_json::json;
use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::client_resolver::DnsError;
use vsmtp_ipc::edge::ctl_filter::{Answer, MailKeys, Task};
use vsmtp_ipc::edge::ctl_keys::Published;
use vsmtp_ipc::edge::ctl_resolver::{self, MAX_NAMES, Texts};
use vsmtp_mail::Domain;
use vsmtp_mail::dkim::{Tags, decode_base64};

use super::{name, public};
use crate::failure::Failure;
use crate::output::Output;
use crate::tool::{self, TOOL, Tool};
use crate::vsl;

/// The program that asks the DNS.
const RESOLVER: &str = "vsmtp-resolver";

/// A key of the configuration.
struct Key {
    domain: String,
    path: String,
    published: Published,
}

/// What was found: a name in the DNS or a file, and how it is with it.
struct Found {
    domain: String,
    name: String,
    key: String,
    finding: Finding,
}

/// How it is with a name, or with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    /// The key of this number is published there.
    Is(usize),
    /// The same, with a flag that says that signatures do not count yet.
    Testing(usize),
    /// Nothing that signatures could be checked with.
    Wrong(&'static str),
    /// It cannot be told now.
    Unknown,
}

/// The whole command.
pub fn run(
    selectors: &[Domain],
    domains: &[Domain],
    config: Option<&Path>,
    root: Option<&Path>,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let MailKeys { keys, servers } = match tool::ask(tool::configuration(config, root)?, Task::MailKeys)? {
        Answer::MailKeys(found) => found,
        Answer::Problems(problems) => return vsl::problems_of_rules(&problems, out),
        _ => return Err(super::unexpected()),
    };
    let keys = wanted(keys, domains)?;
    let mut of_domains: Vec<&str> = keys.iter().map(|key| key.domain.as_str()).collect();
    of_domains.dedup();
    let mut asked = Vec::new();
    for domain in of_domains {
        let parsed =
            Domain::parse(domain).map_err(|error| Failure::NotChecked(format!("{domain}: {error}")))?;
        for selector in selectors {
            asked.push((domain.to_owned(), name(selector, &parsed)?));
        }
    }
    if asked.len() > MAX_NAMES {
        return Err(Failure::Usage(format!("at most {MAX_NAMES} names are asked at once")));
    }
    let names: Vec<String> = asked.iter().map(|(_, name)| name.clone()).collect();
    let request = ctl_resolver::Request { servers, names };
    let ctl_resolver::Answer(texts) =
        Tool { program: RESOLVER, role: TOOL, edge: EdgeId::CtlResolver }.ask(&request)?;
    let found = compare(&keys, asked, &texts);
    print(&found, out)?;
    outcome(&found)
}

/// The keys of these domains, or all; in the order of domains.
fn wanted(configured: Vec<(String, String)>, domains: &[Domain]) -> Result<Vec<Key>, Failure> {
    let domains: Vec<String> = domains.iter().map(|domain| domain.to_string().to_ascii_lowercase()).collect();
    if let Some(domain) = domains.iter().find(|domain| !configured.iter().any(|(of, _)| of == *domain)) {
        return Err(Failure::Refused(format!("no key is configured for {domain}")));
    }
    if configured.is_empty() {
        return Err(Failure::Refused("no keys are configured".to_owned()));
    }
    let mut configured: Vec<(String, String)> =
        configured.into_iter().filter(|(domain, _)| domains.is_empty() || domains.contains(domain)).collect();
    configured.sort();
    configured.dedup();
    let key =
        |(domain, path): (String, String)| Ok(Key { published: public(Path::new(&path))?, domain, path });
    configured.into_iter().map(key).collect()
}

/// What is published of each name that was asked, and then each key that is published nowhere.
fn compare(keys: &[Key], asked: Vec<(String, String)>, texts: &[Texts]) -> Vec<Found> {
    let mut seen = vec![false; keys.len()];
    let mut found = Vec::new();
    let nothing = Err(DnsError::Temporary);
    for (at, (domain, name)) in asked.into_iter().enumerate() {
        let finding = finding(keys, &domain, texts.get(at).unwrap_or(&nothing));
        let key = match finding {
            Finding::Is(number) | Finding::Testing(number) => {
                seen.get_mut(number).into_iter().for_each(|seen| *seen = true);
                keys.get(number).map(|key| key.path.clone()).unwrap_or_default()
            }
            Finding::Wrong(_) | Finding::Unknown => String::new(),
        };
        found.push(Found { domain, name, key, finding });
    }
    for (key, _) in keys.iter().zip(seen).filter(|(_, seen)| !seen) {
        let mut of_domain = found.iter().filter(|one| one.domain == key.domain);
        let finding = match of_domain.any(|one| one.finding == Finding::Unknown) {
            true => Finding::Unknown,
            false => Finding::Wrong("not published under any of these selectors"),
        };
        found.push(Found { domain: key.domain.clone(), name: String::new(), key: key.path.clone(), finding });
    }
    found
}

fn finding(keys: &[Key], domain: &str, texts: &Texts) -> Finding {
    match texts.as_deref() {
        Ok([]) | Err(DnsError::NoSuchName | DnsError::NoRecords | DnsError::BadName) => {
            Finding::Wrong("no record")
        }
        Err(DnsError::Temporary | DnsError::Bogus) => Finding::Unknown,
        Ok([text]) => of_record(keys, domain, text),
        // Whoever checks may take either (RFC 6376 3.6.2.2).
        Ok(_) => Finding::Wrong("several records"),
    }
}

fn of_record(keys: &[Key], domain: &str, text: &[u8]) -> Finding {
    let Some(tags) = std::str::from_utf8(text).ok().and_then(Tags::parse) else {
        return Finding::Wrong("a record that cannot be read");
    };
    let has = |tag: &str, word: &str| {
        tags.get(tag).is_some_and(|list| list.split(':').any(|one| one.trim_ascii() == word))
    };
    if tags.get("v").is_some_and(|version| version != "DKIM1" || tags.first() != Some("v")) {
        return Finding::Wrong("a record that cannot be read");
    }
    let Some(octets) = tags.get("p").and_then(decode_base64) else {
        return Finding::Wrong("a record without a key");
    };
    if octets.is_empty() {
        return Finding::Wrong("revoked");
    }
    if tags.get("h").is_some() && !has("h", "sha256") {
        return Finding::Wrong("a record that does not take sha256");
    }
    if tags.get("s").is_some() && !has("s", "*") && !has("s", "email") {
        return Finding::Wrong("a record that is not for mail");
    }
    let number = keys.iter().position(|key| key.domain == domain && key.published.key == octets);
    let Some((number, key)) = number.and_then(|number| Some((number, keys.get(number)?))) else {
        return Finding::Wrong("another key");
    };
    if tags.get("k").unwrap_or("rsa") != key.published.algorithm {
        return Finding::Wrong("the key under another kind");
    }
    if has("t", "y") { Finding::Testing(number) } else { Finding::Is(number) }
}

impl Finding {
    fn words(&self) -> &'static str {
        match self {
            Finding::Is(_) => "ok",
            Finding::Testing(_) => "ok, for tests only (t=y)",
            Finding::Wrong(what) => what,
            Finding::Unknown => "cannot be looked up now",
        }
    }
}

fn print(found: &[Found], out: &mut Output<'_>) -> Result<(), Failure> {
    if out.is_json() {
        return found.iter().try_for_each(|one| {
            let ok = match one.finding {
                Finding::Is(_) | Finding::Testing(_) => Some(true),
                Finding::Wrong(_) => Some(false),
                Finding::Unknown => None,
            };
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            out.object(&json!({
                "domain": one.domain, "name": text(&one.name), "key": text(&one.key), "ok": ok,
                "result": one.finding.words(),
            }))
        });
    }
    let shown = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let cells = |one: &Found| vec![shown(&one.name), one.finding.words().to_owned(), shown(&one.key)];
    out.table(&["NAME", "RESULT", "KEY"], &found.iter().map(cells).collect::<Vec<_>>())
}

fn outcome(found: &[Found]) -> Result<(), Failure> {
    let wrong = found.iter().filter(|one| matches!(one.finding, Finding::Wrong(_))).count();
    match wrong {
        0 if found.iter().any(|one| one.finding == Finding::Unknown) => {
            Err(Failure::NotChecked("the DNS does not answer".to_owned()))
        }
        0 => Ok(()),
        1 => Err(Failure::Refused("1 problem".to_owned())),
        number => Err(Failure::Refused(format!("{number} problems"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<Key> {
        let key = |domain: &str, path: &str, algorithm: &str, octet| Key {
            domain: domain.to_owned(),
            path: path.to_owned(),
            published: Published { algorithm: algorithm.to_owned(), key: vec![octet; 3] },
        };
        vec![
            key("a.test", "a-rsa", "rsa", 0),
            key("a.test", "a-ed", "ed25519", 1),
            key("b.test", "b", "rsa", 0xff),
        ]
    }

    fn one(text: &str) -> Finding {
        finding(&keys(), "a.test", &Ok(vec![text.as_bytes().to_vec()]))
    }

    #[test]
    fn what_is_published_is_told() {
        for (text, expected) in [
            ("v=DKIM1; k=rsa; p=AAAA", Finding::Is(0)),
            ("p=AA AA", Finding::Is(0)),
            ("v=DKIM1; k=ed25519; p=AQEB", Finding::Is(1)),
            ("v=DKIM1; k=ed25519; t=s:y; p=AQEB", Finding::Testing(1)),
            ("v=DKIM1; p=AQEB", Finding::Wrong("the key under another kind")),
            ("v=DKIM1; p=", Finding::Wrong("revoked")),
            ("v=DKIM1; k=rsa", Finding::Wrong("a record without a key")),
            ("v=DKIM2; p=AAAA", Finding::Wrong("a record that cannot be read")),
            ("p=AAAA; v=DKIM1", Finding::Wrong("a record that cannot be read")),
            ("v=spf1 -all", Finding::Wrong("a record that cannot be read")),
            ("v=DKIM1; h=sha1; p=AAAA", Finding::Wrong("a record that does not take sha256")),
            ("v=DKIM1; s=tlsrpt; p=AAAA", Finding::Wrong("a record that is not for mail")),
            // The key of another domain.
            ("v=DKIM1; p=////", Finding::Wrong("another key")),
        ] {
            assert_eq!(one(text), expected, "{text}");
        }
        let texts = |result: Texts| finding(&keys(), "a.test", &result);
        assert_eq!(
            texts(Ok(vec![b"p=AAAA".to_vec(), b"p=AAAA".to_vec()])),
            Finding::Wrong("several records")
        );
        assert_eq!(texts(Err(DnsError::NoSuchName)), Finding::Wrong("no record"));
        assert_eq!(texts(Err(DnsError::Temporary)), Finding::Unknown);
    }

    #[test]
    fn every_name_and_every_key_is_answered_for() {
        let name = |name: &str| ("a.test".to_owned(), name.to_owned());
        let good = Ok(vec![b"p=AAAA".to_vec()]);
        let said = |texts: &[Texts]| {
            let found = compare(&keys()[..2], vec![name("one"), name("two")], texts);
            let words = found.iter().map(|one| one.finding.words()).collect::<Vec<_>>();
            (words, outcome(&found).map_err(|failure| failure.status()))
        };
        let lost = "not published under any of these selectors";
        assert_eq!(said(&[good.clone(), Err(DnsError::NoSuchName)]), (vec!["ok", "no record", lost], Err(1)));
        let later = "cannot be looked up now";
        assert_eq!(said(&[good.clone(), Err(DnsError::Temporary)]), (vec!["ok", later, later], Err(2)));
        let both = [good, Ok(vec![b"k=ed25519; p=AQEB".to_vec()])];
        assert_eq!(said(&both), (vec!["ok", "ok"], Ok(())));
    }

    #[test]
    fn a_domain_without_keys_is_named() {
        let domain = Domain::parse("c.test").unwrap();
        let failure = wanted(vec![("a.test".to_owned(), "x".to_owned())], &[domain]).err().unwrap();
        assert_eq!(failure.to_string(), "no key is configured for c.test");
        assert_eq!(wanted(Vec::new(), &[]).err().unwrap().status(), 1);
    }
}
