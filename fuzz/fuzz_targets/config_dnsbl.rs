//! Lists in the DNS as operators write them: what is read prints as something that reads the same, and only answers of the
//! loopback network ever count.
#![no_main]

use std::net::Ipv4Addr;

use libfuzzer_sys::fuzz_target;
use vsmtp_config::DnsblSite;

fuzz_target!(|text: &str| {
    let Some(site) = DnsblSite::parse(text) else { return };
    let shown = site.to_string();
    assert!(!shown.chars().any(char::is_control));
    assert_eq!(DnsblSite::parse(&shown).as_ref(), Some(&site), "{shown}");
    assert!(site.weight() != 0 && site.zone().as_str().len() <= 189);
    for octets in [[0, 0, 0, 0], [126, 0, 0, 2], [128, 0, 0, 2], [192, 0, 2, 1], [255, 255, 255, 255]] {
        assert!(!site.matches(Ipv4Addr::from(octets)), "{shown}");
    }
});
