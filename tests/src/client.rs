//! A blocking SMTP client that sends exactly the bytes it is given.

use std::io::{BufRead, BufReader, Error, ErrorKind, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Nothing in a test waits longer for one reply.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection.
pub struct Client {
    reader: BufReader<TcpStream>,
}

/// A whole reply, lines joined by LF, without CR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyText(
    /// The text.
    pub String,
);

impl ReplyText {
    /// The three digits; 0 if the server hung up.
    pub fn code(&self) -> u16 {
        self.0.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0)
    }
}

impl Client {
    /// Connects and reads nothing.
    pub fn connect(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect to the MTA");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a time-out");
        stream.set_nodelay(true).expect("set nodelay");
        Client { reader: BufReader::new(stream) }
    }

    /// Connects, reads the greeting and says EHLO.
    pub fn hello(port: u16) -> Client {
        let mut client = Client::connect(port);
        assert_eq!(client.reply().code(), 220);
        assert_eq!(client.say("EHLO client.test").code(), 250);
        client
    }

    /// Connects and says EHLO where nobody may be home: without an error if nobody listens or answers, with the reply if it
    /// is another than 220 and 250.
    pub fn try_hello(port: u16) -> std::result::Result<Client, Option<ReplyText>> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|_| None)?;
        let set = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_nodelay(true));
        set.map_err(|_| None)?;
        let mut client = Client { reader: BufReader::new(stream) };
        let or_else = |reply: ReplyText| Err(Some(reply).filter(|reply| reply.code() != 0));
        match client.try_reply() {
            greeting if greeting.code() != 220 => or_else(greeting),
            _ => match client.try_say("EHLO client.test") {
                hello if hello.code() != 250 => or_else(hello),
                _ => Ok(client),
            },
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).expect("send to the MTA");
    }

    /// Sends bytes; false if the connection is gone.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.reader.get_mut().write_all(bytes).is_ok()
    }

    /// Reads one reply; empty if the server hung up.
    ///
    /// # Panics
    /// If the server says nothing.
    pub fn reply(&mut self) -> ReplyText {
        let mut text = String::new();
        match self.hear(&mut text) {
            Err(error) if !is_hang_up(&error) => panic!("no reply: {error} (behind {text:?})"),
            _ => ReplyText(text),
        }
    }

    /// Reads one reply; empty if the connection is gone, or the server says nothing.
    pub fn try_reply(&mut self) -> ReplyText {
        let mut text = String::new();
        let _ = self.hear(&mut text);
        ReplyText(text)
    }

    fn hear(&mut self, text: &mut String) -> Result<()> {
        loop {
            let mut line = Vec::new();
            if self.reader.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            text.push_str(line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(());
            }
            text.push('\n');
        }
    }

    /// Sends a line and reads its reply.
    pub fn say(&mut self, line: &str) -> ReplyText {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Sends a line and reads its reply, which is empty if the connection is gone.
    pub fn try_say(&mut self, line: &str) -> ReplyText {
        if self.try_send(format!("{line}\r\n").as_bytes()) {
            self.try_reply()
        } else {
            ReplyText(String::new())
        }
    }

    /// A whole transaction; the reply to the final dot, or the first refusal.
    pub fn mail(&mut self, from: &str, recipients: &[&str], message: &str) -> ReplyText {
        let mut replies = vec![self.say(&format!("MAIL FROM:<{from}>"))];
        replies.extend(recipients.iter().map(|to| self.say(&format!("RCPT TO:<{to}>"))));
        if let Some(refusal) = replies.into_iter().find(|reply| reply.code() != 250) {
            return refusal;
        }
        let go = self.say("DATA");
        if go.code() != 354 {
            return go;
        }
        self.send(message.as_bytes());
        self.say("\r\n.")
    }
}

/// True for what a reset makes of a read.
fn is_hang_up(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe)
}
