//! `vsmtpctl dkim`: keys that mail is signed with, and what the DNS says of them. Keys are made and read in the key holder's
//! program and jail, the DNS is asked in the resolver's; here a file is written, and texts are compared. The exit status of
//! `check` is 0 if all is well, 1 if something is wrong, 2 if that could not be found out.

mod check;
mod file;
mod record;

use std::path::Path;

use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::ctl_keys::{Answer, KeyKind, Published, Request};
use vsmtp_mail::Domain;

use crate::arguments::{DkimCommand, KeyType};
use crate::failure::Failure;
use crate::output::Output;
use crate::tool::{TOOL, Tool};
use record::Record;

/// The program that makes and reads keys.
const KEYS: &str = "vsmtp-keys";
/// Longest name in the DNS, in octets of its text (RFC 1035 2.3.4).
const MAX_NAME: usize = 253;

/// Runs one command.
pub fn run(command: &DkimCommand, root: Option<&Path>, out: &mut Output<'_>) -> Result<(), Failure> {
    match command {
        DkimCommand::Keygen { selector, domain, key_type, bits, force, file } => {
            let name = name(selector, domain)?;
            file::may_be_written(file, *force)?;
            let (der, published) = match ask(&Request::Make(kind(*key_type, *bits)?))? {
                Answer::Made(der, published) => (der, published),
                _ => return Err(unexpected()),
            };
            file::write(file, file::pem(&der).as_bytes(), *force)?;
            Record::of(name, &published).print(&file::advice(file, selector, domain), out)
        }
        DkimCommand::Record { selector, domain, file } => {
            Record::of(name(selector, domain)?, &public(file)?).print(&[], out)
        }
        DkimCommand::Check { selectors, config, domains } => {
            check::run(selectors, domains, config.as_deref(), root, out)
        }
    }
}

fn kind(key_type: KeyType, bits: Option<u16>) -> Result<KeyKind, Failure> {
    match (key_type, bits) {
        (KeyType::Rsa, None | Some(2048)) => Ok(KeyKind::Rsa2048),
        (KeyType::Rsa, Some(3072)) => Ok(KeyKind::Rsa3072),
        (KeyType::Rsa, Some(4096)) => Ok(KeyKind::Rsa4096),
        (KeyType::Ed25519, None) => Ok(KeyKind::Ed25519),
        (KeyType::Rsa, Some(_)) => Err(Failure::Usage("--bits is 2048, 3072 or 4096".to_owned())),
        (KeyType::Ed25519, Some(_)) => Err(Failure::Usage("--bits is for RSA keys".to_owned())),
    }
}

/// Where a key is published (RFC 6376 3.6.2.1).
fn name(selector: &Domain, domain: &Domain) -> Result<String, Failure> {
    let name = format!("{selector}._domainkey.{domain}").to_ascii_lowercase();
    if name.len() > MAX_NAME {
        return Err(Failure::Usage(format!("{name} is too long for a name in the DNS")));
    }
    Ok(name)
}

/// The public half of a key in a file.
fn public(file: &Path) -> Result<Published, Failure> {
    let wrong = |text: &dyn std::fmt::Display| Failure::NotChecked(format!("{}: {text}", file.display()));
    match ask(&Request::Publish(file::read(file)?)) {
        Ok(Answer::Published(published)) => Ok(published),
        Ok(Answer::Failed(why)) => Err(wrong(&why)),
        Ok(_) => Err(unexpected()),
        Err(failure) => Err(failure),
    }
}

fn ask(request: &Request) -> Result<Answer, Failure> {
    Tool { program: KEYS, role: TOOL, edge: EdgeId::CtlKeys }.ask(request)
}

fn unexpected() -> Failure {
    Failure::NotChecked("the key holder gave an answer to another question".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_for_rsa_and_of_three_sizes() {
        assert_eq!(kind(KeyType::Rsa, None).unwrap(), KeyKind::Rsa2048);
        assert_eq!(kind(KeyType::Rsa, Some(4096)).unwrap(), KeyKind::Rsa4096);
        assert_eq!(kind(KeyType::Ed25519, None).unwrap(), KeyKind::Ed25519);
        for (key_type, bits) in [(KeyType::Rsa, 1024), (KeyType::Ed25519, 2048)] {
            assert_eq!(kind(key_type, Some(bits)).unwrap_err().status(), 64);
        }
    }

    #[test]
    fn a_name_is_one_of_the_dns() {
        let domain = |text: &str| Domain::parse(text).unwrap();
        assert_eq!(name(&domain("S1"), &domain("Example.com")).unwrap(), "s1._domainkey.example.com");
        let long = domain(&format!("{}example.com", "a.".repeat(118)));
        assert_eq!(name(&domain("selector"), &long).unwrap_err().status(), 64);
    }
}
