//! Who we are, to notice mail that would come back to us (RFC 5321 5.1). Pure: what addresses the interfaces have is said by the
//! caller.

use std::net::{IpAddr, SocketAddr};

use vsmtp_config::Network;
use vsmtp_mail::Domain;

use crate::smtp::route::MailHost;

/// The port of mail between servers. One there that has our name is us, though we listen elsewhere: a NAT may stand before us.
const SMTP_PORT: u16 = 25;

/// Who we are.
#[derive(Debug, Clone)]
pub struct Ourselves {
    /// Our name in EHLO and in MX records.
    pub name: Domain,
    /// Where we listen, one by one.
    listen: Vec<SocketAddr>,
    /// Where others reach us besides, at whatever port.
    public: Vec<Network>,
}

impl Ourselves {
    /// A server of that name. A wildcard among the listeners stands for the addresses of its family that the interfaces have, and for
    /// those of loopback.
    pub fn new(name: Domain, listeners: &[SocketAddr], interfaces: &[IpAddr], public: Vec<Network>) -> Self {
        let mut listen = listeners.to_vec();
        for any in listeners.iter().filter(|listener| listener.ip().is_unspecified()) {
            let same_family = interfaces.iter().filter(|address| address.is_ipv4() == any.is_ipv4());
            listen.extend(same_family.map(|address| SocketAddr::new(*address, any.port())));
        }
        Ourselves { name, listen, public }
    }

    /// Our best preference among these hosts, if we are one of them: mail may go only to those that are better.
    pub fn best_of<'a>(&self, hosts: impl Iterator<Item = &'a MailHost>, port: u16) -> Option<u16> {
        hosts.filter(|host| self.is(host, port)).map(|host| host.preference).min()
    }

    /// True if a mail exchanger that answers at this port and has our name can only be us. Hosts that nobody has given a name
    /// call themselves `localhost`, or have one without a domain: that is no mark of one host.
    pub fn may_answer_at(&self, port: u16) -> bool {
        let name = self.name.as_str().to_ascii_lowercase();
        let is_mark = name.contains('.') && !name.starts_with("localhost.");
        is_mark && (port == SMTP_PORT || self.listen.iter().any(|listen| listen.port() == port))
    }

    fn is(&self, host: &MailHost, port: u16) -> bool {
        host.name.eq_ignore_ascii_case(self.name.as_str())
            || host.addresses.iter().any(|address| self.listens_on(*address, port))
    }

    fn listens_on(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        if self.public.iter().any(|public| public.contains(address)) {
            return true;
        }
        self.listen.iter().filter(|listen| listen.port() == port).any(|listen| {
            let own = listen.ip().to_canonical();
            let anywhere = own.is_unspecified() && (address.is_loopback() || address.is_unspecified());
            own == address || anywhere
        })
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::smtp::security::Security;

    fn host(preference: u16, name: &str, address: &str) -> MailHost {
        let (addresses, security) = (vec![address.parse().unwrap()], Rc::new(Security::Clear));
        MailHost { preference, name: name.into(), addresses, security, counted: None }
    }

    fn us(listeners: &[&str], interfaces: &[&str], public: &[&str]) -> Ourselves {
        let listeners: Vec<SocketAddr> = listeners.iter().map(|text| text.parse().unwrap()).collect();
        let interfaces: Vec<IpAddr> = interfaces.iter().map(|text| text.parse().unwrap()).collect();
        let public = public.iter().map(|text| Network::parse(text).unwrap()).collect();
        Ourselves::new(Domain::parse("mail.dst.test").unwrap(), &listeners, &interfaces, public)
    }

    #[test]
    fn we_and_all_that_is_no_better_are_left_out() {
        let us = us(&["192.0.2.9:25", "0.0.0.0:2525"], &[], &[]);
        let hosts = [host(5, "a", "192.0.2.1"), host(10, "x", "192.0.2.9"), host(10, "y", "192.0.2.2")];
        let best = |hosts: &[MailHost], port| us.best_of(hosts.iter(), port);
        assert_eq!(best(&hosts, 25), Some(10));
        let by_name = [host(5, "MAIL.dst.test", "192.0.2.7"), host(9, "b", "192.0.2.1")];
        assert_eq!(best(&by_name, 25), Some(5));
        assert_eq!(best(&hosts, 26), None);
        let loopback = [host(0, "l", "127.0.0.1")];
        assert_eq!((best(&loopback, 25), best(&loopback, 2525)), (None, Some(0)));
    }

    #[test]
    fn a_wildcard_is_every_address_of_its_family_and_nothing_else() {
        let interfaces = ["127.0.0.1", "192.0.2.9", "2001:db8::9"];
        let is = |listener: &str, address: &str| {
            us(&[listener], &interfaces, &[]).best_of([host(1, "x", address)].iter(), 25).is_some()
        };
        for address in ["192.0.2.9", "127.0.0.7", "::ffff:192.0.2.9"] {
            assert!(is("0.0.0.0:25", address), "{address}");
        }
        assert!(is("[::]:25", "2001:db8::9") && is("[::]:25", "::1"));
        for (listener, address) in [
            ("0.0.0.0:25", "2001:db8::9"),
            ("[::]:25", "192.0.2.9"),
            ("0.0.0.0:25", "192.0.2.10"),
            ("0.0.0.0:26", "192.0.2.9"),
            ("127.0.0.1:25", "192.0.2.9"),
        ] {
            assert!(!is(listener, address), "{listener} {address}");
        }
    }

    #[test]
    fn an_address_in_front_of_us_counts_at_every_port() {
        let us = us(&["10.0.0.2:2525"], &["10.0.0.2"], &["192.0.2.9"]);
        let best = |address: &str, port| us.best_of([host(1, "x", address)].iter(), port);
        assert_eq!(
            (best("192.0.2.9", 25), best("192.0.2.9", 26), best("192.0.2.8", 25)),
            (Some(1), Some(1), None)
        );
        assert!(us.may_answer_at(25) && us.may_answer_at(2525) && !us.may_answer_at(10_025));
    }

    #[test]
    fn a_name_that_many_hosts_have_tells_nothing() {
        let tells =
            |name: &str| Ourselves::new(Domain::parse(name).unwrap(), &[], &[], Vec::new()).may_answer_at(25);
        assert!(tells("mail.dst.test") && tells("localhost2.dst.test"));
        for name in ["localhost", "LocalHost.localdomain", "mail"] {
            assert!(!tells(name), "{name}");
        }
    }
}
