//! Gives a report about TLS to a place of the web (RFC 8460 5.4): one POST to a host with a certificate of a known
//! authority. It follows nothing, and reads no more of the answer than its first line.
//!
//! On failure: what may be better later is temporary; a place that cannot be, or that says that it does not want the
//! report, gets none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use vsmtp_daemon::Record;
use vsmtp_ipc::edge::client_resolver::{DnsError, MAX_POST, Records};
use vsmtp_mail::Domain;
use vsmtp_tls::client::Client;

use crate::finding::Finding;
use crate::sts::fetch;
use crate::upstream::Upstream;

/// Longest time for all of it: deliver waits no longer than 20 s.
const MAX_TIME: Duration = Duration::from_secs(18);
/// Longest path with its query, in octets.
const MAX_PATH: usize = 1024;
/// The port of HTTPS.
const HTTPS: u16 = 443;

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The host.
    pub host: Domain,
    /// 443, unless it says otherwise.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl Place {
    /// Reads a URL; `None` if it is none that a report can go to.
    pub fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("https://")?;
        if !rest.bytes().all(|octet| octet.is_ascii_graphic()) || rest.contains(['#', '@']) {
            return None;
        }
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
            None => (authority, HTTPS),
        };
        let host = Domain::parse(host).ok().filter(|host| host.as_literal().is_none())?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        (path.len() <= MAX_PATH).then_some(Place { host, port, path })
    }
}

/// Posts a report.
pub async fn post(
    client: Arc<Client>,
    upstream: Arc<Upstream>,
    url: String,
    body: Vec<u8>,
    epoch: Instant,
) -> Finding {
    let never = || Finding { keep: Duration::ZERO, ..Finding::failed(DnsError::BadName) };
    let later = || Finding { keep: Duration::ZERO, ..Finding::failed(DnsError::Temporary) };
    let Some(place) = Place::parse(&url).filter(|_| body.len() <= MAX_POST) else { return never() };
    let posted = tokio::time::timeout(MAX_TIME, try_post(&client, &upstream, &place, &body, epoch)).await;
    let why = match posted.unwrap_or_else(|_| Err("timeout".to_owned())) {
        Ok(200..=299) => {
            return Finding { result: Ok(Records::Posted), secure: false, keep: Duration::ZERO };
        }
        // RFC 8460 5.4 names no others that are worth a second try.
        Ok(status @ (408 | 429 | 500..=599)) => format!("HTTP status {status}"),
        Ok(status) => {
            let why = format!("HTTP status {status}");
            Record::new("report-refused").field("url", &url).field("why", why).emit();
            return never();
        }
        Err(why) => why,
    };
    Record::new("report-not-posted").field("url", &url).field("why", why).emit();
    later()
}

async fn try_post(
    client: &Client,
    upstream: &Arc<Upstream>,
    place: &Place,
    body: &[u8],
    epoch: Instant,
) -> Result<u16, String> {
    let Place { host, port, path } = place;
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: vsmtp\r\nContent-Type: application/tlsrpt+gzip\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    let mut why = format!("{host} has no address");
    for address in fetch::addresses(upstream, host.as_str(), epoch).await {
        match fetch::post(client, SocketAddr::new(address, *port), host.as_str(), &request).await {
            Ok(status) => return Ok(status),
            Err(error) => why = format!("{host}[{address}]: {error}"),
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_with_a_name_get_reports_and_only_by_https() {
        let of = |url: &str| Place::parse(url).map(|place| (place.host.to_string(), place.port, place.path));
        let place = |host: &str, port, path: &str| Some((host.to_owned(), port, path.to_owned()));
        assert_eq!(of("https://r.dst.test/v1/tls?x=1"), place("r.dst.test", 443, "/v1/tls?x=1"));
        assert_eq!(of("https://r.dst.test:8443"), place("r.dst.test", 8443, "/"));
        assert_eq!(of("https://r.dst.test?a"), place("r.dst.test", 443, "/?a"));
        for bad in [
            "http://r.dst.test/",
            "https://",
            "https:///x",
            "https://[192.0.2.1]/",
            "https://r.dst.test:0/",
            "https://r.dst.test:x/",
            "https://u@r.dst.test/",
            "https://r.dst.test/a b",
            "https://r.dst.test/\r\nX: y",
            "https://r.dst.test/#a",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert_eq!(of(&format!("https://r.dst.test/{}", "x".repeat(MAX_PATH))), None);
    }
}
