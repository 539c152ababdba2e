//! The name of a client: one that its address has and that leads back to its address. Whoever owns an address can give it
//! any name; only the owner of the name can confirm it. Pure.

use std::net::IpAddr;

use vsmtp_ipc::edge::client_resolver::ClientName;

use crate::zone::{Judged, Zone, is_absent};

/// Names of one address that are tried.
const MAX_NAMES: usize = 3;

/// The name of the client at this address.
///
/// # Errors
/// Something must be looked up first.
pub fn find(address: IpAddr, zone: &mut dyn Zone) -> Judged<ClientName> {
    let address = address.to_canonical();
    let names = match zone.names(address)? {
        Ok(names) => names,
        Err(error) if is_absent(error) => return Ok(ClientName::None),
        Err(_) => return Ok(ClientName::Unknown),
    };
    let mut otherwise = ClientName::None;
    for name in names.into_iter().take(MAX_NAMES) {
        match zone.addresses(&name, address)? {
            Ok(found) if found.iter().any(|one| one.to_canonical() == address) => {
                return Ok(ClientName::Is(name));
            }
            Ok(_) => {}
            Err(error) if is_absent(error) => {}
            // It might be the one.
            Err(_) => otherwise = ClientName::Unknown,
        }
    }
    Ok(otherwise)
}
