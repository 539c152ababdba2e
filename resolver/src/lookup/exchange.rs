//! One question to one server: by UDP, and again by TCP if the answer did not fit or made no sense. Decides whether a
//! message is an answer to the question, never what it says.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::net::tcp::TcpClientStream;
use hickory_resolver::net::udp::UdpClientStream;
use hickory_resolver::net::xfer::{DnsRequestSender, FirstAnswer};
use hickory_resolver::net::{DnsHandle, NetError};
use hickory_resolver::proto::op::{DnsRequest, Edns, Message, MessageType, OpCode, Query, ResponseCode};
use tokio::time::timeout;

use super::network::Network;

/// Octets of the largest answer that we take by UDP: passes every path without fragments (RFC 9715).
const UDP_OCTETS: u16 = 1232;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nothing came in time.
    Silent,
    /// The server cannot be reached, or talks nonsense.
    Broken,
}

impl From<NetError> for Failure {
    fn from(error: NetError) -> Self {
        if matches!(error, NetError::Timeout) { Failure::Silent } else { Failure::Broken }
    }
}

/// Asks, and waits at most `limit` for each of: the answer by UDP, the answer without EDNS, the answer by TCP.
pub async fn exchange(server: SocketAddr, query: &Query, limit: Duration) -> Result<Message, Failure> {
    let mut answer = within(limit, by_udp(server, query, Size::Large, limit)).await;
    if let Ok(message) = &answer
        && message.metadata.response_code == ResponseCode::FormErr
        && message.edns.is_none()
    {
        // A server from before EDNS (RFC 6891 7).
        answer = within(limit, by_udp(server, query, Size::Small, limit)).await;
    }
    match answer {
        Ok(message) if !message.metadata.truncation => Ok(message),
        Err(Failure::Silent) => Err(Failure::Silent),
        _ => within(limit, by_tcp(server, query, limit)).await,
    }
}

async fn within(
    limit: Duration,
    answer: impl Future<Output = Result<Message, NetError>>,
) -> Result<Message, Failure> {
    timeout(limit, answer).await.unwrap_or(Err(NetError::Timeout)).map_err(Failure::from)
}

async fn by_udp(server: SocketAddr, query: &Query, size: Size, limit: Duration) -> Result<Message, NetError> {
    let mut stream = UdpClientStream::builder(server, Network::default())
        .with_timeout(Some(limit))
        .with_os_port_selection(true)
        .with_max_retries(1)
        .build();
    let response = stream.send_message(request(query, size)).first_answer().await?;
    check(response.into_message(), query)
}

async fn by_tcp(server: SocketAddr, query: &Query, limit: Duration) -> Result<Message, NetError> {
    // The network owns the task that drives the connection; it ends with this function.
    let network = Network::default();
    let connection = TcpClientStream::exchange(server, None, limit, Some(1), network.clone()).await?;
    let response = connection.send(request(query, Size::Large)).first_answer().await?;
    check(response.into_message(), query)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    /// With EDNS.
    Large,
    /// Without: at most 512 octets.
    Small,
}

/// A question with a random id. The AD bit asks for the AD bit of the answer (RFC 6840 5.7).
fn request(query: &Query, size: Size) -> DnsRequest {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.metadata.authentic_data = true;
    message.add_query(query.clone());
    if size == Size::Large {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_OCTETS);
        message.set_edns(edns);
    }
    DnsRequest::from(message)
}

/// The library has compared ids, and questions where it came by UDP.
fn check(message: Message, query: &Query) -> Result<Message, NetError> {
    let is_answer = message.metadata.message_type == MessageType::Response
        && message.metadata.op_code == OpCode::Query
        && message.queries.as_slice() == std::slice::from_ref(query);
    if is_answer { Ok(message) } else { Err(NetError::from("not an answer to the question")) }
}
