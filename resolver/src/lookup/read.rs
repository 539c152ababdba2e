//! What a server's message says of one name. Pure; everything in the message comes from strangers.

use std::net::IpAddr;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record};
use vsmtp_ipc::edge::client_resolver::{DnsError, MAX_RECORDS, Records};

use crate::finding::Kind;
use crate::name;

/// Extended DNS error codes that say: validation failed (RFC 8914 4.7 to 4.11, 4.13).
const BOGUS: [u8; 6] = [6, 7, 8, 9, 10, 12];
const EXTENDED_ERROR: u16 = 15;
/// A time to live with this bit counts as zero (RFC 2181 8).
const TTL_SIGN: u32 = 1 << 31;

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading {
    /// At least one record.
    Records(Records),
    /// `NoSuchName` or `NoRecords`.
    Nothing(DnsError),
    /// The name is another name for this one, of which the message says no more.
    Alias {
        /// To be asked next.
        target: Name,
        /// Aliases on the way.
        followed: usize,
    },
}

/// Why a message is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Useless {
    /// The server says that validation failed.
    Bogus,
    /// The server failed or refused.
    Code(ResponseCode),
    /// Too many aliases, or a circle of them.
    Aliases,
    /// A referral: the server does not look up for us.
    Referral,
    /// There are records, but none that can be used.
    Unusable,
    /// The message contradicts itself.
    Contradiction,
}

/// Reads a message that answers a question for `name`. The number is the seconds for which it holds.
pub fn read(
    message: &Message,
    name: &Name,
    kind: Kind,
    aliases_left: usize,
) -> Result<(Reading, u32), Useless> {
    let exists = match message.metadata.response_code {
        ResponseCode::NoError => true,
        ResponseCode::NXDomain => false,
        _ if is_bogus(message) => return Err(Useless::Bogus),
        code => return Err(Useless::Code(code)),
    };
    let (end, followed, alias_ttl) = walk(message, name, aliases_left)?;
    let wanted: Vec<&Record> =
        owned_by(message, end).filter(|record| record.record_type() == kind.record_type()).collect();
    if !wanted.is_empty() {
        let ttl = wanted.iter().map(|record| seconds(record.ttl)).fold(alias_ttl, u32::min);
        let records = collect(&wanted, kind, end);
        return match (exists, records) {
            (false, _) => Err(Useless::Contradiction),
            (true, Some(records)) => Ok((Reading::Records(records), ttl)),
            // No client can do anything with such a name, now or later; a mail exchanger may be put right.
            (true, None) if kind == Kind::Ptr => Ok((Reading::Nothing(DnsError::NoRecords), ttl)),
            (true, None) => Err(Useless::Unusable),
        };
    }
    let negative_ttl = negative_ttl(message);
    let ttl = alias_ttl.min(negative_ttl.unwrap_or(0));
    match (exists, followed, negative_ttl) {
        (false, _, _) => Ok((Reading::Nothing(DnsError::NoSuchName), ttl)),
        (true, 0, None) if is_referral(message) => Err(Useless::Referral),
        // A host may have no address of the family that was asked for, and its name leads there all the same.
        (true, 0, _) | (true, _, Some(_)) if kind == Kind::Canonical => {
            canonical(end).map(|name| (Reading::Records(name), ttl)).ok_or(Useless::Unusable)
        }
        (true, 0, _) | (true, _, Some(_)) => Ok((Reading::Nothing(DnsError::NoRecords), ttl)),
        (true, _, None) => Ok((Reading::Alias { target: end.clone(), followed }, alias_ttl)),
    }
}

/// Follows the aliases of a name inside a message: the last name, how many there were, and how long they hold.
fn walk<'a>(
    message: &'a Message,
    name: &'a Name,
    aliases_left: usize,
) -> Result<(&'a Name, usize, u32), Useless> {
    let (mut end, mut ttl) = (name, u32::MAX);
    for followed in 0..=aliases_left {
        let alias = owned_by(message, end).find_map(|record| match &record.data {
            RData::CNAME(target) => Some((&target.0, record.ttl)),
            _ => None,
        });
        let Some((target, alias_ttl)) = alias else { return Ok((end, followed, ttl)) };
        end = target;
        ttl = ttl.min(seconds(alias_ttl));
    }
    Err(Useless::Aliases)
}

fn owned_by<'a>(message: &'a Message, name: &'a Name) -> impl Iterator<Item = &'a Record> {
    message.answers.iter().filter(move |record| record.dns_class == DNSClass::IN && record.name == *name)
}

fn seconds(ttl: u32) -> u32 {
    if ttl & TTL_SIGN == 0 { ttl } else { 0 }
}

/// How long the absence of something holds (RFC 2308 5); `None` if the message does not say.
fn negative_ttl(message: &Message) -> Option<u32> {
    message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(seconds(record.ttl).min(seconds(soa.minimum))),
        _ => None,
    })
}

/// An empty answer of a server that neither recurses nor has authority, or that names others to ask (RFC 2308 2.2).
fn is_referral(message: &Message) -> bool {
    let names_others = message.authorities.iter().any(|record| matches!(record.data, RData::NS(_)));
    names_others || !(message.metadata.recursion_available || message.metadata.authoritative)
}

fn is_bogus(message: &Message) -> bool {
    let option = message.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Unknown(EXTENDED_ERROR)));
    match option {
        Some(EdnsOption::Unknown(_, data)) => match data.first_chunk() {
            Some([0, code]) => BOGUS.contains(code),
            _ => false,
        },
        _ => false,
    }
}

/// The records that can be used, at most [`MAX_RECORDS`]; `None` if there is none.
fn collect(wanted: &[&Record], kind: Kind, end: &Name) -> Option<Records> {
    let data = || wanted.iter().map(|record| &record.data);
    let records = match kind {
        Kind::Mx => Records::Mx(mail_exchangers(data())),
        Kind::A | Kind::Aaaa => Records::Addresses(some(data().filter_map(|data| match data {
            RData::A(v4) => Some(IpAddr::V4(v4.0)),
            RData::AAAA(v6) => Some(IpAddr::V6(v6.0)),
            _ => None,
        }))),
        Kind::Ptr => Records::Names(some(data().filter_map(|data| match data {
            RData::PTR(host) => name::host_text(&host.0),
            _ => None,
        }))),
        Kind::Txt | Kind::StsPolicy => Records::Text(some(data().filter_map(|data| match data {
            RData::TXT(text) => Some(text.txt_data.concat()),
            _ => None,
        }))),
        Kind::Canonical => canonical(end)?,
        Kind::Tlsa => Records::Tlsa(some(data().filter_map(|data| match data {
            RData::TLSA(tlsa) => Some((
                tlsa.cert_usage.into(),
                tlsa.selector.into(),
                tlsa.matching.into(),
                tlsa.cert_data.clone(),
            )),
            _ => None,
        }))),
    };
    (len(&records) > 0).then_some(records)
}

/// The name where aliases end.
fn canonical(end: &Name) -> Option<Records> {
    name::host_text(end).map(|host| Records::Names(vec![host]))
}

fn some<T>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.take(MAX_RECORDS).collect()
}

/// By preference. "No mail here" (RFC 7505) counts only if it stands alone.
fn mail_exchangers<'a>(data: impl Iterator<Item = &'a RData> + Clone) -> Vec<(u16, String)> {
    let exchangers = data.clone().filter_map(|data| match data {
        RData::MX(mx) => Some(mx),
        _ => None,
    });
    let mut hosts: Vec<(u16, String)> = exchangers
        .clone()
        .filter_map(|mx| name::host_text(&mx.exchange).map(|host| (mx.preference, host)))
        .collect();
    hosts.sort();
    hosts.dedup();
    hosts.truncate(MAX_RECORDS);
    if hosts.is_empty()
        && exchangers.clone().count() > 0
        && exchangers.clone().all(|mx| mx.exchange.is_root())
    {
        hosts.push((0, String::new()));
    }
    hosts
}

fn len(records: &Records) -> usize {
    match records {
        Records::Mx(hosts) => hosts.len(),
        Records::Addresses(addresses) => addresses.len(),
        Records::Names(names) => names.len(),
        Records::Text(texts) => texts.len(),
        Records::Tlsa(associations) => associations.len(),
        Records::StsPolicy { mx, .. } => mx.len(),
        // Nothing that a server says.
        Records::Spf(_) | Records::ClientName(_) | Records::Signature(_) | Records::Dmarc(_) => 0,
        Records::StsFault { .. } | Records::Posted => 1,
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::{MessageType, OpCode};
    use hickory_resolver::proto::rr::rdata::{A, CNAME, SOA};
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Name {
        name::parse(text).unwrap()
    }

    fn message(answers: Vec<Record>, authorities: Vec<Record>) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.metadata.recursion_available = true;
        message.add_answers(answers);
        message.add_authorities(authorities);
        message
    }

    fn alias(owner: &str, target: &str, ttl: u32) -> Record {
        Record::from_rdata(parse(owner), ttl, RData::CNAME(CNAME(parse(target))))
    }

    fn address(owner: &str, ttl: u32) -> Record {
        Record::from_rdata(parse(owner), ttl, RData::A(A::new(192, 0, 2, 1)))
    }

    fn soa(ttl: u32, minimum: u32) -> Record {
        let soa = SOA::new(parse("ns.example"), parse("root.example"), 1, 2, 3, 4, minimum);
        Record::from_rdata(parse("example"), ttl, RData::SOA(soa))
    }

    fn ttl(message: &Message) -> u32 {
        read(message, &parse("a.example"), Kind::A, 8).unwrap().1
    }

    #[test]
    fn an_answer_holds_as_long_as_its_shortest_part() {
        assert_eq!(ttl(&message(vec![address("a.example", 70), address("a.example", 60)], vec![])), 60);
        assert_eq!(
            ttl(&message(vec![alias("a.example", "b.example", 50), address("b.example", 60)], vec![])),
            50
        );
        assert_eq!(ttl(&message(vec![], vec![soa(100, 30)])), 30);
        assert_eq!(ttl(&message(vec![], vec![soa(20, 30)])), 20);
        assert_eq!(ttl(&message(vec![alias("a.example", "b.example", 10)], vec![soa(20, 30)])), 10);
        assert_eq!(ttl(&message(vec![], vec![])), 0);
        assert_eq!(ttl(&message(vec![address("a.example", TTL_SIGN)], vec![])), 0);
        assert_eq!(ttl(&message(vec![address("a.example", TTL_SIGN - 1)], vec![])), TTL_SIGN - 1);
    }

    #[test]
    fn only_the_class_and_the_name_in_question_count() {
        let mut chaos = address("a.example", 60);
        chaos.dns_class = DNSClass::CH;
        let message = message(vec![chaos, address("other.example", 60), address("A.EXAMPLE", 60)], vec![]);
        let one = Records::Addresses(vec!["192.0.2.1".parse().unwrap()]);
        assert_eq!(read(&message, &parse("a.example"), Kind::A, 8), Ok((Reading::Records(one), 60)));
    }

    #[test]
    fn no_more_aliases_are_followed_than_are_left() {
        let chain = |n: usize| {
            (0..n).map(|n| alias(&format!("n{n}.example"), &format!("n{}.example", n + 1), 60)).collect()
        };
        let read = |n, left| read(&message(chain(n), vec![]), &parse("n0.example"), Kind::A, left);
        assert_eq!(read(3, 3), Ok((Reading::Alias { target: parse("n3.example"), followed: 3 }, 60)));
        assert_eq!(read(3, 2), Err(Useless::Aliases));
        assert_eq!(read(1, 0), Err(Useless::Aliases));
        assert_eq!(read(0, 0), Ok((Reading::Nothing(DnsError::NoRecords), 0)));
    }

    #[test]
    fn aliases_lead_to_a_name_whatever_records_it_has() {
        let canonical = |message: &Message| match read(message, &parse("a.example"), Kind::Canonical, 8) {
            Ok((Reading::Records(Records::Names(names)), _)) => Some(names.concat()),
            Ok((Reading::Alias { target, .. }, _)) => Some(format!("ask {target}")),
            _ => None,
        };
        let to_b = || alias("a.example", "b.example", 60);
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(canonical(&message(vec![address("a.example", 60)], vec![])), is("a.example"));
        assert_eq!(canonical(&message(vec![to_b(), address("b.example", 60)], vec![])), is("b.example"));
        assert_eq!(canonical(&message(vec![to_b()], vec![soa(60, 60)])), is("b.example"));
        assert_eq!(canonical(&message(vec![], vec![soa(60, 60)])), is("a.example"));
        assert_eq!(canonical(&message(vec![to_b()], vec![])), is("ask b.example."));
        let mut absent = message(vec![to_b()], vec![soa(60, 60)]);
        absent.metadata.response_code = ResponseCode::NXDomain;
        assert_eq!(canonical(&absent), None);
    }

    proptest! {
        /// Whatever octets a stranger sends: an error or a reading, and never more than is allowed.
        #[test]
        fn any_octets_are_read_or_refused(
            body in proptest::collection::vec(any::<u8>(), 0..400),
            counts in proptest::collection::vec(0u8..4, 4),
            flags in any::<[u8; 2]>(),
            kind in prop::sample::select(vec![Kind::Mx, Kind::A, Kind::Aaaa, Kind::Ptr, Kind::Txt, Kind::Tlsa, Kind::Canonical]),
        ) {
            let counts = counts.iter().flat_map(|count| [0, *count]);
            let octets: Vec<u8> = [0, 1].into_iter().chain(flags).chain(counts).chain(body).collect();
            if let Ok(message) = Message::from_vec(&octets)
                && let Ok((Reading::Records(records), _)) = read(&message, &parse("a.example"), kind, 8)
            {
                prop_assert!((1..=MAX_RECORDS).contains(&len(&records)));
            }
        }

        /// A well-formed record of the right name with any data: read, unusable or refused.
        #[test]
        fn any_data_of_a_record_is_read_or_refused(
            data in proptest::collection::vec(any::<u8>(), 0..80),
            kind in prop::sample::select(vec![Kind::Mx, Kind::A, Kind::Aaaa, Kind::Ptr, Kind::Txt, Kind::Tlsa]),
        ) {
            let name = b"\x01a\x07example\x00";
            let type_number = u16::from(kind.record_type()).to_string().parse::<u8>().unwrap();
            let fixed = [0, type_number, 0, 1, 0, 0, 0, 60, 0, data.len() as u8];
            let header = [0, 1, 0x81, 0x80, 0, 0, 0, 1, 0, 0, 0, 0];
            let octets = [header.as_slice(), name, &fixed, &data].concat();
            if let Ok(message) = Message::from_vec(&octets) {
                let read = read(&message, &parse("a.example"), kind, 8);
                let nothing = Ok((Reading::Nothing(DnsError::NoRecords), 60));
                let usable = matches!(read, Ok((Reading::Records(_), 60)));
                prop_assert!(usable || read == Err(Useless::Unusable) || (kind == Kind::Ptr && read == nothing), "{read:?}");
            }
        }
    }
}
