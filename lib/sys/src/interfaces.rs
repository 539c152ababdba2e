//! The addresses of this host's network interfaces, as they are when they are asked for. It watches nothing: what comes later is
//! found by whoever asks again.

use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

/// Most addresses that are told; a host with more is not known to exist.
const MAX_ADDRESSES: usize = 4096;

/// Every IPv4 and IPv6 address that an interface has, those of loopback among them.
///
/// # Errors
/// The kernel does not say.
pub fn addresses() -> io::Result<Vec<IpAddr>> {
    let of = |address: nix::sys::socket::SockaddrStorage| match (
        address.as_sockaddr_in(),
        address.as_sockaddr_in6(),
    ) {
        (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
        (None, Some(v6)) => Some(IpAddr::V6(v6.ip())),
        (None, None) => None,
    };
    let found = getifaddrs()?.filter_map(|interface| interface.address.and_then(of));
    Ok(found.take(MAX_ADDRESSES).collect())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_interface_has_the_loopback_address() {
        assert!(addresses().unwrap().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
