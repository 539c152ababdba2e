//! Connections that are open and free, by endpoint.

use std::collections::HashMap;

use vsmtp_smtp::Protocol;

use crate::smtp::route::{Endpoint, Site};

/// Tokens of idle connections. The one used last is used first: the others may end.
#[derive(Debug, Default)]
pub struct IdlePool {
    by_endpoint: HashMap<(Endpoint, bool), Vec<usize>>,
    count: usize,
}

fn key(endpoint: &Endpoint, protocol: Protocol) -> (Endpoint, bool) {
    (endpoint.clone(), protocol == Protocol::Lmtp)
}

impl IdlePool {
    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// A connection became free.
    pub fn put(&mut self, site: &Site, token: usize) {
        self.by_endpoint.entry(key(&site.endpoint, site.protocol)).or_default().push(token);
        self.count += 1;
    }

    /// A free connection to one of these endpoints, the first that has one.
    pub fn take(&mut self, endpoints: &[Endpoint], protocol: Protocol) -> Option<usize> {
        if self.count == 0 {
            return None;
        }
        endpoints.iter().find_map(|endpoint| {
            let key = key(endpoint, protocol);
            let tokens = self.by_endpoint.get_mut(&key)?;
            let token = tokens.pop();
            if tokens.is_empty() {
                self.by_endpoint.remove(&key);
            }
            self.count -= usize::from(token.is_some());
            token
        })
    }

    /// A connection is not idle any more. False if it was not.
    pub fn remove(&mut self, site: &Site, token: usize) -> bool {
        let key = key(&site.endpoint, site.protocol);
        let Some(tokens) = self.by_endpoint.get_mut(&key) else { return false };
        let Some(at) = tokens.iter().position(|other| *other == token) else { return false };
        tokens.remove(at);
        if tokens.is_empty() {
            self.by_endpoint.remove(&key);
        }
        self.count -= 1;
        true
    }

    /// All connections to an endpoint that has proved to be unreliable.
    pub fn take_endpoint(&mut self, site: &Site) -> Vec<usize> {
        let tokens = self.by_endpoint.remove(&key(&site.endpoint, site.protocol)).unwrap_or_default();
        self.count -= tokens.len();
        tokens
    }

    /// Any connection, to make room for another.
    pub fn take_any(&mut self) -> Option<usize> {
        let endpoint = self.by_endpoint.keys().next()?.clone();
        let protocol = if endpoint.1 { Protocol::Lmtp } else { Protocol::Smtp };
        self.take(&[endpoint.0], protocol)
    }

    /// All connections.
    pub fn take_all(&mut self) -> Vec<usize> {
        self.count = 0;
        std::mem::take(&mut self.by_endpoint).into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(port: u16, protocol: Protocol) -> Site {
        let endpoint = Endpoint::Tcp(([192, 0, 2, 1], port).into());
        Site { endpoint, host: "".into(), protocol }
    }

    #[test]
    fn connections_are_found_by_place_and_protocol() {
        let mut pool = IdlePool::default();
        let (a, b) = (site(25, Protocol::Smtp), site(26, Protocol::Smtp));
        pool.put(&a, 1);
        pool.put(&a, 2);
        pool.put(&b, 3);
        let both = [b.endpoint.clone(), a.endpoint.clone()];
        assert_eq!(pool.take(&both, Protocol::Lmtp), None);
        assert_eq!(pool.take(&both, Protocol::Smtp), Some(3));
        assert_eq!(pool.take(&both, Protocol::Smtp), Some(2));
        assert!(pool.remove(&a, 1) && !pool.remove(&a, 1));
        assert_eq!((pool.len(), pool.take_any()), (0, None));
    }

    #[test]
    fn an_endpoint_is_emptied_at_once() {
        let mut pool = IdlePool::default();
        for token in 0..3 {
            pool.put(&site(25, Protocol::Lmtp), token);
        }
        pool.put(&site(25, Protocol::Smtp), 9);
        assert_eq!(pool.take_endpoint(&site(25, Protocol::Lmtp)), [0, 1, 2]);
        assert_eq!((pool.len(), pool.take_all()), (1, vec![9]));
    }
}
