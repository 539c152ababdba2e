//! Addresses, domains, and the patterns and networks that configuration makes of them: one canonical text each.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vsmtp_config::{AddressPattern, Network};
use vsmtp_mail::{Address, Domain, MAX_DOMAIN, MAX_LOCAL_PART, ReversePath};
use vsmtp_smtp::{Extension, Extensions, RcptRequest};

fuzz_target!(|text: &str| {
    if let Ok(domain) = Domain::parse(text) {
        check_domain(&domain);
    }
    if let Ok(address) = Address::parse(text) {
        check_address(&address);
    }
    if let Ok(path) = ReversePath::parse(text) {
        assert_eq!(ReversePath::parse(&path.to_string()).as_ref(), Ok(&path));
        assert_eq!(path.address().is_none(), text.is_empty());
    }
    if let Some(pattern) = AddressPattern::parse(text) {
        assert_eq!(AddressPattern::parse(&pattern.to_string()).as_ref(), Some(&pattern));
        if let AddressPattern::Exact(address) = &pattern {
            assert!(pattern.matches(address));
        }
    }
    if let Some(network) = Network::parse(text) {
        let shown = network.to_string();
        assert_eq!(Network::parse(&shown), Some(network));
        let (address, _) = shown.split_once('/').expect("a prefix");
        let address: std::net::IpAddr = address.parse().expect("an address");
        assert!(network.contains(address) || address.to_canonical() != address, "{shown}");
    }
});

fn check_domain(domain: &Domain) {
    let text = domain.as_str();
    assert!(!text.is_empty() && text.len() <= MAX_DOMAIN);
    assert!(text.is_ascii() && !text.bytes().any(|b| b <= b' ' || b == 0x7f || b"<>@\"\\,;".contains(&b)));
    assert_eq!(Domain::parse(text).as_ref(), Ok(domain));
    assert!(domain.is_within(domain));
    match domain.as_literal() {
        Some(address) => assert_eq!(&Domain::literal(address), domain),
        None => assert_eq!(Domain::parse(&text.to_ascii_uppercase()).as_ref(), Ok(domain)),
    }
}

fn check_address(address: &Address) {
    check_domain(address.domain());
    let (local, shown) = (address.local_part(), address.to_string());
    assert!(!local.is_empty() && local.len() <= MAX_LOCAL_PART && !local.chars().any(char::is_control));
    assert_eq!(Address::parse(&shown).as_ref(), Ok(address));
    assert_eq!(Address::new(local, address.domain().clone()).as_ref(), Ok(address));
    // What we send as a recipient is read as the same recipient.
    let offered = Extensions::of(&Extension::ALL);
    assert!(offered.has(Extension::SmtpUtf8));
    let line = format!("TO:<{shown}>");
    let read = RcptRequest::parse(&line, offered, true, address.domain()).expect("our own command");
    assert_eq!(&read.address, address);
}
