//! Connections that are open and free, by place.

use std::collections::HashMap;

use crate::smtp::route::{Place, Site};

/// Tokens of idle connections. The one used last is used first: the others may end.
#[derive(Debug, Default)]
pub struct IdlePool {
    by_place: HashMap<Place, Vec<usize>>,
    count: usize,
}

impl IdlePool {
    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// A connection became free.
    pub fn put(&mut self, site: &Site, token: usize) {
        self.by_place.entry(site.place()).or_default().push(token);
        self.count += 1;
    }

    /// A free connection to one of these places, the first that has one.
    pub fn take(&mut self, places: &[Place]) -> Option<usize> {
        if self.count == 0 {
            return None;
        }
        places.iter().find_map(|place| {
            self.take_at(place).or_else(|| place.in_clear().and_then(|clear| self.take_at(&clear)))
        })
    }

    fn take_at(&mut self, place: &Place) -> Option<usize> {
        let tokens = self.by_place.get_mut(place)?;
        let token = tokens.pop();
        if tokens.is_empty() {
            self.by_place.remove(place);
        }
        self.count -= usize::from(token.is_some());
        token
    }

    /// A connection is not idle any more. False if it was not.
    pub fn remove(&mut self, site: &Site, token: usize) -> bool {
        let place = site.place();
        let Some(tokens) = self.by_place.get_mut(&place) else { return false };
        let Some(at) = tokens.iter().position(|other| *other == token) else { return false };
        tokens.remove(at);
        if tokens.is_empty() {
            self.by_place.remove(&place);
        }
        self.count -= 1;
        true
    }

    /// All connections to a place that has proved to be unreliable.
    pub fn take_place(&mut self, site: &Site) -> Vec<usize> {
        let tokens = self.by_place.remove(&site.place()).unwrap_or_default();
        self.count -= tokens.len();
        tokens
    }

    /// Any connection, to make room for another.
    pub fn take_any(&mut self) -> Option<usize> {
        let place = self.by_place.keys().next()?.clone();
        self.take_at(&place)
    }

    /// All connections.
    pub fn take_all(&mut self) -> Vec<usize> {
        self.count = 0;
        std::mem::take(&mut self.by_place).into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use vsmtp_smtp::Protocol;

    use super::*;
    use crate::smtp::route::Endpoint;
    use crate::smtp::security::Security;

    fn site(port: u16, protocol: Protocol) -> Site {
        let endpoint = Endpoint::Tcp(([192, 0, 2, 1], port).into());
        let security = Rc::new(Security::Clear);
        Site { endpoint, host: "".into(), preference: 0, protocol, security, source: None, counted: None }
    }

    fn under(site: &Site, security: Security) -> Site {
        Site { security: Rc::new(security), ..site.clone() }
    }

    #[test]
    fn connections_are_found_by_place_and_protocol() {
        let mut pool = IdlePool::default();
        let (a, b) = (site(25, Protocol::Smtp), site(26, Protocol::Smtp));
        pool.put(&a, 1);
        pool.put(&a, 2);
        pool.put(&b, 3);
        let both = [b.place(), a.place()];
        let lmtp = [site(25, Protocol::Lmtp).place(), site(26, Protocol::Lmtp).place()];
        assert_eq!(pool.take(&lmtp), None);
        assert_eq!(pool.take(&both), Some(3));
        assert_eq!(pool.take(&both), Some(2));
        assert!(pool.remove(&a, 1) && !pool.remove(&a, 1));
        assert_eq!((pool.len(), pool.take_any()), (0, None));
    }

    #[test]
    fn a_connection_serves_only_those_with_the_same_needs() {
        let mut pool = IdlePool::default();
        let clear = site(25, Protocol::Smtp);
        let name: Box<str> = "mx.test".into();
        let may = under(&clear, Security::IfOffered { name: name.clone(), test: None });
        let proof = vsmtp_tls::client::Proof::Nothing;
        let always = under(&clear, Security::Always { name, proof, wrapper: false, account: None });
        pool.put(&clear, 1);
        // One that never tried TLS serves nobody who would have.
        assert_eq!((pool.take(&[always.place()]), pool.take(&[may.place()])), (None, None));
        // One that was made in clear after a handshake had failed serves its policy, and no other.
        let fallen = may.in_clear().unwrap();
        pool.put(&fallen, 3);
        assert_eq!(pool.take(&[clear.place()]), Some(1));
        assert_eq!((pool.take(&[clear.place()]), pool.take(&[may.place()])), (None, Some(3)));
        pool.put(&may, 2);
        assert_eq!((pool.take(&[clear.place()]), pool.take(&[always.place()])), (None, None));
        assert_eq!(pool.take(&[may.place()]), Some(2));
    }

    #[test]
    fn a_place_is_emptied_at_once() {
        let mut pool = IdlePool::default();
        for token in 0..3 {
            pool.put(&site(25, Protocol::Lmtp), token);
        }
        pool.put(&site(25, Protocol::Smtp), 9);
        assert_eq!(pool.take_place(&site(25, Protocol::Lmtp)), [0, 1, 2]);
        assert_eq!((pool.len(), pool.take_all()), (1, vec![9]));
    }
}
