//! How a judgement that needs many names gets them: it is a pure function of what is known, and stops where something is
//! missing. Then that is looked up, and the judgement begins again with all that was found. So it blocks nothing, shares
//! the desk's memory and its limits, and can be held against any zone in a test.

use std::net::IpAddr;

use hickory_resolver::proto::rr::Name;
use vsmtp_ipc::edge::client_resolver::{DnsError, Records};

use crate::finding::{Key, Kind};
use crate::name;

/// Something must be looked up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing;

/// What a judgement gets, unless something is missing.
pub type Judged<T> = Result<T, Missing>;

/// What there is under a name.
pub type Found = Result<Records, DnsError>;

/// All that is known.
pub trait Zone {
    /// What is known of this; `Missing` if nothing is: then it is noted, to be looked up.
    fn find(&mut self, key: Key) -> Judged<Found>;
}

impl dyn Zone + '_ {
    /// The same by text. A text that cannot be asked is a name that cannot be asked.
    pub fn at(&mut self, text: &str, kind: Kind) -> Judged<Found> {
        match name::parse_made(text) {
            Some(name) => self.find(Key { name, kind }),
            None => Ok(Err(DnsError::BadName)),
        }
    }

    /// Texts of a name.
    pub fn texts(&mut self, text: &str) -> Judged<Result<Vec<Vec<u8>>, DnsError>> {
        Ok(self.at(text, Kind::Txt)?.map(|records| match records {
            Records::Text(texts) => texts,
            _ => Vec::new(),
        }))
    }

    /// Addresses of a host, of the family that `like` is of.
    pub fn addresses(&mut self, text: &str, like: IpAddr) -> Judged<Result<Vec<IpAddr>, DnsError>> {
        let kind = if like.is_ipv4() { Kind::A } else { Kind::Aaaa };
        Ok(self.at(text, kind)?.map(|records| match records {
            Records::Addresses(addresses) => addresses,
            _ => Vec::new(),
        }))
    }

    /// Names of an address.
    pub fn names(&mut self, address: IpAddr) -> Judged<Result<Vec<String>, DnsError>> {
        let name: Name = name::of_address(address);
        Ok(self.find(Key { name, kind: Kind::Ptr })?.map(|records| match records {
            Records::Names(names) => names,
            _ => Vec::new(),
        }))
    }
}

/// True if there is nothing, as opposed to: nobody can tell.
pub fn is_absent(error: DnsError) -> bool {
    matches!(error, DnsError::NoSuchName | DnsError::NoRecords | DnsError::BadName)
}
