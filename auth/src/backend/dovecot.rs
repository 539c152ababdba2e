//! Dovecot's auth service, by version 1 of its client protocol: lines of words with tabs between them. One connection per
//! exchange: the service is made for that, and an exchange that hangs holds nobody else.
//!
//! Dovecot leads mechanisms that we cannot (XOAUTH2, OAUTHBEARER, and SCRAM where the secrets are with Dovecot); then
//! messages go through here as they are.

mod line;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::{Finding, Place, socket};
use crate::mechanism::Mechanism;
use crate::secret::Credentials;

pub use line::{Greeting, Reply};

/// Longest line that is read, in octets: Dovecot's own bound.
const MAX_LINE: u64 = 16 * 1024;
/// Most lines of a greeting.
const MAX_GREETING: usize = 128;
/// The number of the one request of a connection.
const REQUEST: u32 = 1;

/// An exchange with Dovecot.
#[derive(Debug)]
pub struct Exchange {
    stream: BufReader<UnixStream>,
    /// Taken as long as the connection is open.
    _seat: Option<Seat>,
}

#[cfg(test)]
impl Exchange {
    /// One that Dovecot leads over this connection.
    pub fn over(stream: UnixStream) -> Exchange {
        Exchange { stream: BufReader::new(stream), _seat: None }
    }
}

/// Exchanges that Dovecot leads at once: each holds a connection to it for as long as the client thinks.
pub const MAX_RELAYED: usize = 512;

/// Room for exchanges that Dovecot leads.
#[derive(Debug, Default)]
pub struct Seats(Arc<()>);

/// Room for one of them, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    _taken: Arc<()>,
}

impl Seats {
    /// Takes one; `None` if all are taken.
    pub fn take(&self) -> Option<Seat> {
        // One count is that of the seats themselves.
        let is_free = Arc::strong_count(&self.0) <= MAX_RELAYED;
        is_free.then(|| Seat { _taken: Arc::clone(&self.0) })
    }
}

/// What Dovecot makes of a message.
#[derive(Debug)]
pub enum Said {
    /// The client is this user.
    User(String),
    /// It is not; whom it named, as far as Dovecot understood.
    Wrong(Option<String>),
    /// Dovecot cannot tell now.
    Unknown,
    /// Send this to the client.
    Challenge(Exchange, Vec<u8>),
}

/// What Dovecot can do. Blocks.
///
/// # Errors
/// It cannot be asked.
pub fn mechanisms(path: &str) -> io::Result<Vec<Mechanism>> {
    Exchange::open(path, None).map(|(_, mechanisms)| mechanisms)
}

/// Begins an exchange, which keeps the seat. Blocks.
///
/// # Errors
/// Dovecot cannot be asked, or says what nobody understands.
pub fn begin(
    path: &str,
    mechanism: Mechanism,
    initial: Option<&[u8]>,
    place: Place,
    seat: Option<Seat>,
) -> io::Result<Said> {
    let (exchange, _) = Exchange::open(path, seat)?;
    let mut line = Zeroizing::new(format!("AUTH\t{REQUEST}\t{}\tservice=smtp", mechanism.name()));
    if place.secured {
        line.push_str("\tsecured");
    }
    let address = |name: &str, ip: Option<IpAddr>| {
        ip.map(|ip| format!("\t{name}={}", ip.to_canonical())).unwrap_or_default()
    };
    line.push_str(&address("lip", place.server));
    line.push_str(&address("rip", place.client));
    if let Some(initial) = initial {
        let encoded = Zeroizing::new(BASE64.encode(initial));
        line.push_str("\tresp=");
        line.push_str(&encoded);
    }
    line.push('\n');
    exchange.say(&line)
}

/// Whether the password is that of the user. Blocks.
///
/// # Errors
/// Dovecot cannot be asked, or says what nobody understands.
pub fn check(path: &str, credentials: &Credentials, place: Place) -> io::Result<Finding> {
    let message = Zeroizing::new(format!("\0{}\0{}", credentials.user, credentials.password.expose()));
    Ok(match begin(path, Mechanism::Plain, Some(message.as_bytes()), place, None)? {
        Said::User(user) => Finding::Yes(user),
        Said::Wrong(_) => Finding::No,
        Said::Unknown | Said::Challenge(..) => Finding::Unknown,
    })
}

impl Exchange {
    /// Goes on with the client's answer. Blocks.
    ///
    /// # Errors
    /// Dovecot is gone, or says what nobody understands.
    pub fn go_on(self, response: &[u8]) -> io::Result<Said> {
        let encoded = Zeroizing::new(BASE64.encode(response));
        let line = Zeroizing::new(format!("CONT\t{REQUEST}\t{}\n", &*encoded));
        self.say(&line)
    }

    fn open(path: &str, seat: Option<Seat>) -> io::Result<(Self, Vec<Mechanism>)> {
        let mut exchange = Exchange { stream: BufReader::new(socket::connect(path)?), _seat: seat };
        let hello = format!("VERSION\t1\t1\nCPID\t{}\n", std::process::id());
        exchange.stream.get_mut().write_all(hello.as_bytes())?;
        let mut greeting = Greeting::default();
        for _ in 0..MAX_GREETING {
            let line = read_line(&mut exchange.stream)?;
            if greeting.take(&line).map_err(invalid)? {
                return Ok((exchange, greeting.mechanisms));
            }
        }
        Err(invalid("greeting does not end"))
    }

    fn say(mut self, line: &str) -> io::Result<Said> {
        self.stream.get_mut().write_all(line.as_bytes())?;
        loop {
            let line = read_line(&mut self.stream)?;
            match Reply::parse(&line, REQUEST).map_err(invalid)? {
                Reply::Ok(user) => return Ok(Said::User(user)),
                Reply::Fail { temporary: true, .. } => return Ok(Said::Unknown),
                Reply::Fail { user, .. } => return Ok(Said::Wrong(user)),
                Reply::Challenge(message) => return Ok(Said::Challenge(self, message)),
                Reply::Other => {}
            }
        }
    }
}

fn read_line(stream: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.by_ref().take(MAX_LINE).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(whole) => Ok(whole.to_owned()),
        None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Err(invalid("line does not end")),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
