//! One request by HTTPS to one address: TLS with a certificate of a known authority for the host, one request, one
//! response. It follows nothing and keeps nothing.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;
use vsmtp_ipc::edge::client_resolver::Records;
use vsmtp_tls::client::{CertificateName, Client, ClientSession, Proof};

use super::http::{HttpFault, MAX_RESPONSE, body, status};
use crate::finding::{Key, Kind};
use crate::lookup::look_up;
use crate::name;
use crate::upstream::Upstream;

/// Octets read at once.
const READ: usize = 8 * 1024;
/// Most addresses of a host that are tried.
pub const MAX_ADDRESSES: usize = 4;
/// Most reads of one response.
const MAX_READS: usize = 8 * MAX_RESPONSE / READ;

/// Fetches the policy of a host. The caller limits the time.
pub async fn fetch(client: &Client, address: SocketAddr, host: &str) -> Result<Vec<u8>, String> {
    let request = format!(
        "GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: {host}\r\nUser-Agent: vsmtp\r\nAccept: text/plain\r\n\
         Connection: close\r\n\r\n"
    );
    exchange(client, address, host, request.as_bytes(), body).await
}

/// Sends a whole request, and answers the status that comes back. The caller limits the time.
pub async fn post(client: &Client, address: SocketAddr, host: &str, request: &[u8]) -> Result<u16, String> {
    exchange(client, address, host, request, |response, _| status(response)).await
}

/// Addresses of a host, as many as are tried.
pub async fn addresses(upstream: &Arc<Upstream>, host: &str, epoch: Instant) -> Vec<IpAddr> {
    let Some(name) = name::parse(host) else { return Vec::new() };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for kind in [Kind::A, Kind::Aaaa] {
        let key = Key { name: name.clone(), kind };
        if let Ok(Records::Addresses(found)) = look_up(Arc::clone(upstream), key, epoch).await.result {
            addresses.extend(found);
        }
    }
    addresses.truncate(MAX_ADDRESSES);
    addresses
}

/// `read` takes what has come so far and whether more comes, until it finds what it looks for.
async fn exchange<T>(
    client: &Client,
    address: SocketAddr,
    host: &str,
    request: &[u8],
    read: impl Fn(&[u8], bool) -> Result<Option<T>, HttpFault>,
) -> Result<T, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))?;
    let proof = Proof::Authority(vec![CertificateName::Exact(host.into())]);
    let mut session = client.session(&proof, host).map_err(|failure| failure.to_string())?;
    let mut shore = Shore(&stream);
    while !session.handshake(&mut shore).map_err(|failure| failure.to_string())? {
        ready(&stream, &session).await?;
    }
    send(&stream, &mut session, request).await?;
    receive(&stream, &mut session, read).await
}

async fn send(stream: &TcpStream, session: &mut ClientSession, mut request: &[u8]) -> Result<(), String> {
    let mut shore = Shore(stream);
    while !request.is_empty() {
        match session.write(&mut shore, request).map_err(|error| format!("write: {error}"))? {
            Some(count) => request = request.get(count..).unwrap_or_default(),
            None => ready(stream, session).await?,
        }
    }
    while !session.flush(&mut shore).map_err(|error| format!("write: {error}"))? {
        ready(stream, session).await?;
    }
    Ok(())
}

async fn receive<T>(
    stream: &TcpStream,
    session: &mut ClientSession,
    read: impl Fn(&[u8], bool) -> Result<Option<T>, HttpFault>,
) -> Result<T, String> {
    let (mut response, mut buffer) = (Vec::new(), vec![0; READ]);
    for _ in 0..MAX_READS {
        // An end without a farewell is an error here, so that nobody can cut a document off.
        match session.read(&mut Shore(stream), &mut buffer).map_err(|error| format!("read: {error}"))? {
            None => {
                ready(stream, session).await?;
                continue;
            }
            Some(0) => {
                return match read(&response, true) {
                    Ok(Some(found)) => Ok(found),
                    Ok(None) => Err("no document".to_owned()),
                    Err(fault) => Err(fault.to_string()),
                };
            }
            Some(got) => response.extend_from_slice(buffer.get(..got).unwrap_or_default()),
        }
        if let Some(found) = read(&response, false).map_err(|fault| fault.to_string())? {
            session.close(&mut Shore(stream));
            return Ok(found);
        }
    }
    Err("the document came in too many pieces".to_owned())
}

/// Waits for what the session waits for.
async fn ready(stream: &TcpStream, session: &ClientSession) -> Result<(), String> {
    let interest = if session.wants_write() { Interest::WRITABLE } else { Interest::READABLE };
    stream.ready(interest).await.map(|_| ()).map_err(|error| format!("wait: {error}"))
}

/// The socket as something that never waits.
struct Shore<'a>(&'a TcpStream);

impl Read for Shore<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Shore<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
