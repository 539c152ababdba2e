//! Where a next hop can be reached: hosts by preference, each with addresses, put in the order in which they are tried
//! (RFC 5321 5.1). Pure: chance comes in as a number.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use vsmtp_config::{Family, SourceAddresses};
use vsmtp_ipc::edge::queue_deliver::PolicyFound;
use vsmtp_smtp::Protocol;

use crate::smtp::security::Security;

/// Most addresses that one attempt tries.
pub const MAX_ADDRESSES: usize = 10;

/// One place to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(Box<str>),
}

/// An endpoint and how the log calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Where.
    pub endpoint: Endpoint,
    /// Name of the host; empty if it has none but its address.
    pub host: Box<str>,
    /// That of its host; lower is better.
    pub preference: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// What it needs.
    pub security: Rc<Security>,
    /// Our own address that the connection comes from; `None` for any.
    pub source: Option<IpAddr>,
    /// Under which policy a session is counted for the report of its domain; `None` if it is not.
    pub counted: Option<Rc<PolicyFound>>,
}

/// As in `mx.example.com[192.0.2.1]:25`.
impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp(address) => write!(f, "{}[{}]:{}", self.host, address.ip(), address.port()),
            Endpoint::Unix(path) => f.write_str(path),
        }
    }
}

/// A host with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailHost {
    /// Lower is better; equal ones share the load.
    pub preference: u16,
    /// Its name; empty if it has none but its address.
    pub name: Box<str>,
    /// In the order of the answer.
    pub addresses: Vec<IpAddr>,
    /// What a connection to it needs.
    pub security: Rc<Security>,
    /// As in [`Site::counted`].
    pub counted: Option<Rc<PolicyFound>>,
}

/// What is known of a next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What is spoken.
    pub protocol: Protocol,
    /// Where.
    pub target: RouteTarget,
    /// Our own addresses that connections come from.
    pub source: SourceAddresses,
    /// The domain has a policy (MTA-STS) that could not be fetched now, and counts as none.
    pub sts_missed: bool,
    /// Hosts that the domain names are not among these, for now: nobody could say where they are, or a policy keeps the mail from
    /// them. What those that are left do is not the last word.
    pub incomplete: bool,
}

/// The two kinds of places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTarget {
    /// Hosts by rising preference, and the TCP port of them all.
    Hosts(Vec<MailHost>, u16),
    /// A Unix socket.
    Unix(Box<str>),
}

impl Route {
    /// A route from any of our addresses.
    pub fn new(protocol: Protocol, target: RouteTarget) -> Self {
        Route { protocol, target, source: SourceAddresses::default(), sts_missed: false, incomplete: false }
    }

    /// True if each of its hosts can be asked by this family.
    pub fn is_whole(&self, family: Family) -> bool {
        let RouteTarget::Hosts(hosts, _) = &self.target else { return true };
        hosts.iter().all(|host| host.addresses.iter().any(|address| is_of(*address, family)))
    }

    /// The same without these places, if anything of this family is left.
    pub fn without(&self, places: &[Endpoint], family: Family) -> Option<Self> {
        let target = match &self.target {
            RouteTarget::Unix(path) if places.contains(&Endpoint::Unix(path.clone())) => return None,
            RouteTarget::Unix(_) => self.target.clone(),
            RouteTarget::Hosts(hosts, port) => {
                let mut hosts = hosts.clone();
                let is_left =
                    |address: &IpAddr| !places.contains(&Endpoint::Tcp(SocketAddr::new(*address, *port)));
                hosts.iter_mut().for_each(|host| host.addresses.retain(is_left));
                RouteTarget::Hosts(hosts, *port)
            }
        };
        let left = Route { target, ..self.clone() };
        (!left.sites(family, 0).is_empty()).then_some(left)
    }

    /// All places, in the order in which they are to be tried: by preference, equal ones as `chance` says, the families of a host in turns.
    pub fn sites(&self, family: Family, mut chance: u64) -> Vec<Site> {
        let (hosts, port) = match &self.target {
            RouteTarget::Unix(path) => {
                let security = Rc::new(Security::Clear);
                return vec![self.site(Endpoint::Unix(path.clone()), ("", 0), security, None)];
            }
            RouteTarget::Hosts(hosts, port) => (hosts, *port),
        };
        let mut sites = Vec::new();
        for group in hosts.chunk_by(|a, b| a.preference == b.preference) {
            let mut group: Vec<&MailHost> = group.iter().collect();
            shuffle(&mut group, &mut chance);
            for host in group {
                let addresses = interleave(&host.addresses, family, chance & 1 == 0);
                sites.extend(addresses.into_iter().map(|address| {
                    let endpoint = Endpoint::Tcp(SocketAddr::new(address, port));
                    let (name, security) = ((&*host.name, host.preference), Rc::clone(&host.security));
                    self.site(endpoint, name, security, host.counted.clone())
                }));
            }
        }
        sites
    }

    /// True if a connection to that place may carry mail by this route.
    pub fn allows(&self, site: &Site) -> bool {
        let place = match (&self.target, &site.endpoint) {
            (RouteTarget::Unix(path), Endpoint::Unix(other)) => path == other,
            (RouteTarget::Hosts(hosts, port), Endpoint::Tcp(address)) => {
                let is_there =
                    |host: &MailHost| *port == address.port() && host.addresses.contains(&address.ip());
                hosts.iter().any(|host| is_there(host) && host.security.is_met_by(&site.security))
            }
            _ => false,
        };
        place && self.protocol == site.protocol
    }

    fn site(
        &self,
        endpoint: Endpoint,
        (host, preference): (&str, u16),
        security: Rc<Security>,
        counted: Option<Rc<PolicyFound>>,
    ) -> Site {
        let source = self.source_towards(&endpoint);
        let protocol = self.protocol;
        Site { endpoint, host: host.into(), preference, protocol, security, source, counted }
    }

    fn source_towards(&self, endpoint: &Endpoint) -> Option<IpAddr> {
        match endpoint {
            Endpoint::Tcp(address) => self.source.towards(address.ip()),
            Endpoint::Unix(_) => None,
        }
    }

    /// Every place of the route, for finding a connection that is open already; the best hosts first.
    pub fn places(&self) -> Vec<Place> {
        match &self.target {
            RouteTarget::Unix(path) => {
                let endpoint = Endpoint::Unix(path.clone());
                let security = Rc::new(Security::Clear);
                vec![Place { endpoint, protocol: self.protocol, security, source: None }]
            }
            RouteTarget::Hosts(hosts, port) => {
                let places = |host: &MailHost| {
                    let security = Rc::clone(&host.security);
                    let endpoints = host.addresses.iter().map(|a| Endpoint::Tcp(SocketAddr::new(*a, *port)));
                    let protocol = self.protocol;
                    endpoints
                        .map(|endpoint| {
                            let source = self.source_towards(&endpoint);
                            Place { endpoint, protocol, security: Rc::clone(&security), source }
                        })
                        .collect::<Vec<_>>()
                };
                hosts.iter().flat_map(places).collect()
            }
        }
    }
}

/// What makes two connections stand for each other: the same server, spoken to in the same way, from the same address,
/// under the same needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Where.
    pub endpoint: Endpoint,
    /// What is spoken there.
    pub protocol: Protocol,
    /// What it needs.
    pub security: Rc<Security>,
    /// Where it comes from.
    pub source: Option<IpAddr>,
}

impl Place {
    /// Where a connection without TLS stands, if one may serve here: a server whose handshake failed was asked again in
    /// clear, by the same policy.
    pub fn in_clear(&self) -> Option<Place> {
        let security = self.security.after_failure()?;
        Some(Place { security: Rc::new(security), ..self.clone() })
    }
}

impl Site {
    /// What its connections are known by.
    pub fn place(&self) -> Place {
        Place {
            endpoint: self.endpoint.clone(),
            protocol: self.protocol,
            security: Rc::clone(&self.security),
            source: self.source,
        }
    }

    /// The same place without TLS, if its policy lets it do without. The session that failed has been counted.
    pub fn in_clear(&self) -> Option<Site> {
        let Place { security, .. } = self.place().in_clear()?;
        Some(Site { security, counted: None, ..self.clone() })
    }
}

/// At most [`MAX_ADDRESSES`] of these places, in their order, and whether that leaves any out. Each host keeps one before any keeps
/// two: one with many addresses must not hide the others. Both families stay if there are both, for one of them may not work
/// here at all.
pub fn limit(sites: Vec<Site>) -> (Vec<Site>, bool) {
    let mut by_rank: Vec<(usize, usize)> = Vec::with_capacity(sites.len());
    for (at, site) in sites.iter().enumerate() {
        let before = sites.iter().take(at);
        let same_host =
            before.filter(|before| before.host == site.host && before.preference == site.preference);
        by_rank.push((same_host.count(), at));
    }
    by_rank.sort_unstable();
    let left_out = by_rank.split_off(by_rank.len().min(MAX_ADDRESSES));
    let is_v6 = |(_, at): &(usize, usize)| {
        matches!(sites.get(*at).map(|site| &site.endpoint), Some(Endpoint::Tcp(SocketAddr::V6(_))))
    };
    let one_family = |v6: bool| by_rank.iter().all(|rank| is_v6(rank) == v6);
    if let Some(only) = [true, false].into_iter().find(|v6| one_family(*v6))
        && let Some(other) = left_out.iter().find(|rank| is_v6(rank) != only)
    {
        by_rank.pop();
        by_rank.push(*other);
    }
    let kept: Vec<usize> = by_rank.into_iter().map(|(_, at)| at).collect();
    let sites = sites.into_iter().enumerate().filter(|(at, _)| kept.contains(at)).map(|(_, site)| site);
    (sites.collect(), !left_out.is_empty())
}

fn shuffle<T>(items: &mut [T], chance: &mut u64) {
    for last in (1..items.len()).rev() {
        let choices = last as u64 + 1;
        let other = usize::try_from(*chance % choices).unwrap_or(0);
        *chance /= choices;
        items.swap(last, other);
    }
}

fn interleave(addresses: &[IpAddr], family: Family, v6_first: bool) -> Vec<IpAddr> {
    let usable = |address: &&IpAddr| is_of(**address, family);
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().filter(usable).partition(|address| address.is_ipv4());
    let (mut first, mut second) =
        if v6_first { (v6.into_iter(), v4.into_iter()) } else { (v4.into_iter(), v6.into_iter()) };
    let mut mixed = Vec::with_capacity(addresses.len());
    loop {
        let (one, two) = (first.next(), second.next());
        if one.is_none() && two.is_none() {
            return mixed;
        }
        mixed.extend(one);
        mixed.extend(two);
    }
}

fn is_of(address: IpAddr, family: Family) -> bool {
    match family {
        Family::Any => true,
        Family::Ipv4 => address.is_ipv4(),
        Family::Ipv6 => address.is_ipv6(),
    }
}

/// True for addresses at which no mail server can be.
pub fn is_unusable(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(preference: u16, name: &str, addresses: &[&str]) -> MailHost {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let security = Rc::new(Security::Clear);
        MailHost { preference, name: name.into(), addresses, security, counted: None }
    }

    fn route(hosts: Vec<MailHost>) -> Route {
        Route::new(Protocol::Smtp, RouteTarget::Hosts(hosts, 25))
    }

    fn shown(route: &Route, family: Family, chance: u64) -> Vec<String> {
        route.sites(family, chance).iter().map(Site::to_string).collect()
    }

    #[test]
    fn better_hosts_come_first_and_equal_ones_in_any_order() {
        let route = route(vec![
            host(10, "a", &["192.0.2.1"]),
            host(10, "b", &["192.0.2.2"]),
            host(20, "c", &["192.0.2.3"]),
        ]);
        let orders: Vec<_> = (0..2).map(|chance| shown(&route, Family::Any, chance)).collect();
        assert_ne!(orders[0], orders[1]);
        for order in orders {
            assert_eq!((order.len(), order[2].as_str()), (3, "c[192.0.2.3]:25"));
        }
    }

    #[test]
    fn families_take_turns_and_may_be_left_out() {
        let route = route(vec![host(0, "", &["192.0.2.1", "192.0.2.2", "2001:db8::1"])]);
        assert_eq!(shown(&route, Family::Any, 0), ["[2001:db8::1]:25", "[192.0.2.1]:25", "[192.0.2.2]:25"]);
        assert_eq!(shown(&route, Family::Ipv6, 0), ["[2001:db8::1]:25"]);
        assert_eq!(shown(&route, Family::Ipv4, 1).len(), 2);
    }

    #[test]
    fn the_number_of_addresses_is_bounded_and_both_families_stay() {
        let many: Vec<String> = (0..30).map(|n| format!("2001:db8::{n:x}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let route = route(vec![host(0, "a", &many), host(1, "b", &["192.0.2.1"])]);
        let (sites, more) = limit(route.sites(Family::Any, 7));
        assert!(more);
        assert_eq!(sites.len(), MAX_ADDRESSES);
        assert_eq!(sites.last().unwrap().to_string(), "b[192.0.2.1]:25");
        // One host whose last address alone is of the other family: that one is tried too.
        let many: Vec<String> = (0..12).map(|n| format!("192.0.2.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let hosts: Vec<MailHost> = many.iter().map(|address| host(0, address, &[address])).collect();
        let with_v6 = [hosts, vec![host(1, "v6", &["2001:db8::1"])]].concat();
        let (sites, _) = limit(self::route(with_v6).sites(Family::Any, 1));
        assert_eq!((sites.len(), sites.last().unwrap().to_string().as_str()), (10, "v6[2001:db8::1]:25"));
    }

    #[test]
    fn a_host_with_many_addresses_hides_no_other() {
        let many: Vec<String> = (0..16).map(|n| format!("192.0.2.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let route = route(vec![host(10, "many", &many), host(20, "few", &["192.0.2.77", "192.0.2.78"])]);
        let (sites, more) = limit(route.sites(Family::Any, 0));
        let few = sites.iter().filter(|site| &*site.host == "few").count();
        assert_eq!((sites.len(), few, more), (MAX_ADDRESSES, 2, true));
        assert!(sites.iter().take(8).all(|site| &*site.host == "many"), "the better one is tried first");
        let (sites, more) = limit(route.sites(Family::Ipv6, 0));
        assert!(sites.is_empty() && !more);
    }
}
