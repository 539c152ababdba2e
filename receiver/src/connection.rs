//! A client's connection in whichever state it is: in clear, in a handshake, under TLS. It goes forward only: what has
//! begun with TLS never reads or writes clear text again.

use std::os::fd::{AsFd, BorrowedFd};

use vsmtp_tls::Stream;
use vsmtp_tls::server::{Failure, Finished, Handshake, Progress, Terms, Work};

use crate::socket::{End, Ending, Moved, Socket};

/// A connection.
pub struct Connection {
    socket: Socket,
    layer: Layer,
    /// It is closed behind what is written from now on.
    ending: bool,
}

enum Layer {
    Clear,
    Handshake(Box<Handshake>, Terms),
    Secured(Box<Stream>),
    /// A handshake has failed: nothing goes in or out any more.
    Over,
}

/// What a handshake needs next.
pub enum Next {
    /// Events of the socket.
    Wait,
    /// A thread that may wait for a signature.
    Work(Work),
    /// Nothing: this was agreed.
    Done(Box<vsmtp_tls::Facts>),
    /// Nothing: it has failed.
    Failed(Failure),
}

impl Connection {
    /// A connection in clear.
    pub fn new(socket: Socket) -> Self {
        Connection { socket, layer: Layer::Clear, ending: false }
    }

    /// From here on the client must speak TLS.
    pub fn begin_handshake(&mut self, terms: Terms) {
        if let Layer::Clear = self.layer {
            self.layer = Layer::Handshake(Box::default(), terms);
        }
    }

    /// True from the begin of a handshake to its end.
    pub fn is_in_handshake(&self) -> bool {
        matches!(self.layer, Layer::Handshake(..))
    }

    /// Goes on with a handshake as far as the socket allows.
    pub fn shake(&mut self) -> Next {
        let Layer::Handshake(handshake, terms) = &mut self.layer else { return Next::Failed(Failure::Gone) };
        let progress = handshake.advance(&mut self.socket, terms);
        self.progress(progress)
    }

    /// The step that was done elsewhere has come back.
    pub fn resume(&mut self, finished: Finished) -> Next {
        let Layer::Handshake(handshake, _) = &mut self.layer else { return Next::Failed(Failure::Gone) };
        let progress = handshake.resume(finished, &mut self.socket);
        self.progress(progress)
    }

    fn progress(&mut self, progress: Progress) -> Next {
        match progress {
            Progress::Wait => Next::Wait,
            Progress::Work(work) => Next::Work(work),
            Progress::Done(stream) => {
                let Layer::Handshake(_, terms) = std::mem::replace(&mut self.layer, Layer::Over) else {
                    return Next::Failed(Failure::Gone);
                };
                let facts = terms.facts(&stream);
                self.layer = Layer::Secured(stream);
                Next::Done(Box::new(facts))
            }
            Progress::Failed(why) => {
                self.layer = Layer::Over;
                Next::Failed(why)
            }
        }
    }

    /// Reads what is there, as much as the buffer takes; `raw` is scratch memory.
    pub fn read(&mut self, raw: &mut [u8], buffer: &mut [u8]) -> Moved {
        match &mut self.layer {
            Layer::Clear => self.socket.read(buffer),
            Layer::Secured(stream) => stream.read(&mut self.socket, raw, buffer).into(),
            Layer::Handshake(..) => Moved::Blocked,
            Layer::Over => Moved::Ended(End::BrokenTls),
        }
    }

    /// Writes as much as the kernel takes. Under TLS, some more may wait here: see [`Connection::has_unsent`].
    pub fn write(&mut self, bytes: &[u8]) -> Moved {
        match &mut self.layer {
            Layer::Clear if self.ending => Ending(&mut self.socket).write(bytes),
            Layer::Clear => self.socket.write(bytes),
            Layer::Secured(stream) if self.ending => {
                stream.write_last(&mut Ending(&mut self.socket), bytes).into()
            }
            Layer::Secured(stream) => stream.write(&mut self.socket, bytes).into(),
            Layer::Handshake(..) => Moved::Blocked,
            Layer::Over => Moved::Ended(End::BrokenTls),
        }
    }

    /// True if a read would find something that no event announces.
    pub fn has_more(&self) -> bool {
        matches!(&self.layer, Layer::Secured(stream) if stream.has_more())
    }

    /// True if output waits for the socket.
    pub fn has_unsent(&self) -> bool {
        match &self.layer {
            Layer::Secured(stream) => stream.has_unsent(),
            Layer::Handshake(handshake, _) => handshake.has_unsent(),
            Layer::Clear | Layer::Over => false,
        }
    }

    /// True if a login can be bound to this connection.
    pub fn has_channel_binding(&self) -> bool {
        matches!(&self.layer, Layer::Secured(stream) if stream.has_channel_binding())
    }

    /// What a login under TLS can be bound to.
    pub fn channel_binding(&self) -> Option<[u8; 32]> {
        match &self.layer {
            Layer::Secured(stream) => stream.channel_binding(),
            _ => None,
        }
    }

    /// Whether what is written from now on, and the end of the connection, travel together. For who has nothing more to say
    /// and nothing to read.
    pub fn end_behind(&mut self, ending: bool) {
        self.ending = ending;
    }

    /// Says the last word and sends the end behind it. What the client still says can be thrown away.
    pub fn shut(&mut self) {
        self.say_goodbye();
        self.socket.shut();
    }

    /// Throws away what is there, as much as `raw` takes.
    pub fn discard(&mut self, raw: &mut [u8]) -> Moved {
        self.socket.read(raw)
    }

    /// The last word: the client then knows that nothing was cut off.
    pub fn say_goodbye(&mut self) {
        match &mut self.layer {
            Layer::Secured(stream) if self.ending => stream.say_goodbye(&mut Ending(&mut self.socket)),
            Layer::Secured(stream) => stream.say_goodbye(&mut self.socket),
            _ => {}
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<vsmtp_tls::Moved> for Moved {
    fn from(moved: vsmtp_tls::Moved) -> Self {
        match moved {
            vsmtp_tls::Moved::Some(count) => Moved::Some(count),
            vsmtp_tls::Moved::Blocked => Moved::Blocked,
            // However it ended: a message that was coming in is not accepted.
            vsmtp_tls::Moved::Ended(end) => Moved::Ended(match end {
                // Many clients leave without the last word.
                vsmtp_tls::End::Notified | vsmtp_tls::End::Cut => End::Closed,
                vsmtp_tls::End::Failed => End::Failed,
                vsmtp_tls::End::Broken => End::BrokenTls,
            }),
        }
    }
}
