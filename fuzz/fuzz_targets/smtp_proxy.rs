//! A load balancer's header. However much of it has come, the same is made of it: nothing, until all is there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vsmtp_smtp::{MAX_PROXY_HEADER, ProxyHeader};

fuzz_target!(|input: &[u8]| {
    let whole = ProxyHeader::parse(input);
    match whole {
        ProxyHeader::Complete { used, addresses } => {
            assert!(used <= input.len().min(MAX_PROXY_HEADER));
            for at in 0..used {
                assert_eq!(ProxyHeader::parse(&input[..at]), ProxyHeader::Partial, "{at}");
            }
            assert_eq!(ProxyHeader::parse(&input[..used]), whole);
            let mapped = |ip: std::net::IpAddr| ip.to_canonical() != ip;
            assert!(!addresses.is_some_and(|(a, b)| mapped(a.ip()) || mapped(b.ip())));
        }
        ProxyHeader::Partial => assert!(input.len() < MAX_PROXY_HEADER),
        // What is wrong stays wrong.
        ProxyHeader::Malformed => {
            let longer = [input, b"x\r\n"].concat();
            assert_eq!(ProxyHeader::parse(&longer), ProxyHeader::Malformed);
        }
    }
});
