//! How long one connection waits for what. It sets no timer and closes nothing: the caller does.

use std::time::Duration;

use vsmtp_config::NextHopTimeouts;
use vsmtp_smtp::Awaiting;

use super::{Connection, MAX_TRANSACTION_MS, Stage};

/// Longest wait for a TCP connection while other places are left to try: most hosts answer within a second, and one that is away
/// is tried again later.
const CONNECT_BEFORE_OTHERS: Duration = Duration::from_secs(10);

impl Connection {
    /// Renews the deadline if the connection waits for something new. Answers when a timer must be set, if one must.
    pub fn watch(&mut self, timeouts: &NextHopTimeouts, idle: Duration, now_ms: u64) -> Option<u64> {
        let awaiting = if self.connected { self.dialogue.awaiting() } else { Awaiting::Connect };
        // Each command has its own patience, also where many were sent at once (RFC 5321 4.5.3.2).
        let waiting_for = (awaiting, self.progress + self.dialogue.answers());
        if waiting_for != self.waiting_for {
            self.waiting_for = waiting_for;
            let others = matches!(&self.stage, Stage::Dialing(dial) if !dial.left.is_empty());
            let usual = patience(awaiting, timeouts, idle, others);
            // What the operator has said of a service is about its answers, not about a connection that is kept.
            let own = self.serves.service.filter(|_| awaiting != Awaiting::Nothing);
            self.deadline_ms = now_ms.saturating_add(millis(own.unwrap_or(usual)));
            if let Stage::Busy(work) = &self.stage {
                self.deadline_ms = self.deadline_ms.min(work.started_ms.saturating_add(MAX_TRANSACTION_MS));
            }
        }
        if self.deadline_ms < self.timer_ms {
            self.timer_ms = self.deadline_ms;
            return Some(self.deadline_ms);
        }
        None
    }

    /// The timer fired. True if the wait is over, and the dialogue was told so; an idle connection is the caller's.
    pub fn on_timer(&mut self, now_ms: u64) -> bool {
        self.timer_ms = u64::MAX;
        if now_ms < self.deadline_ms {
            return false;
        }
        if !matches!(self.stage, Stage::Idle) {
            self.dialogue.on_timeout();
        }
        true
    }
}

/// With `others`, more places can be tried.
fn patience(awaiting: Awaiting, timeouts: &NextHopTimeouts, idle: Duration, others: bool) -> Duration {
    match awaiting {
        Awaiting::Connect if others => timeouts.connect.min(CONNECT_BEFORE_OTHERS),
        Awaiting::Connect => timeouts.connect,
        Awaiting::Greeting | Awaiting::Hello => timeouts.greeting,
        // Somebody is awake there, and whoever hangs now must not take the time of the other places.
        Awaiting::StartTls | Awaiting::Handshake | Awaiting::Auth => {
            timeouts.greeting.min(awaiting.patience())
        }
        Awaiting::Mail => timeouts.mail,
        Awaiting::Rcpt => timeouts.rcpt,
        Awaiting::Data => timeouts.data,
        Awaiting::Block => timeouts.block,
        Awaiting::Dot => timeouts.dot,
        Awaiting::Nothing => idle,
        Awaiting::Reset | Awaiting::Quit => awaiting.patience(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::rc::Rc;

    use vsmtp_mail::NextHop;
    use vsmtp_smtp::{ClientSettings, ClientStep, Dialogue, Outcome, Protocol, UseTls};

    use super::*;
    use crate::lease::Lease;
    use crate::lease::tests::attempt;
    use crate::smtp::destination::Waiting;
    use crate::smtp::dial::Dial;
    use crate::smtp::route::{Endpoint, Site};
    use crate::smtp::security::Security;
    use crate::smtp::socket::Socket;
    use crate::smtp::transaction::How;
    use crate::smtp::way::Way;

    const TIMEOUTS: NextHopTimeouts = NextHopTimeouts {
        connect: Duration::from_secs(30),
        greeting: Duration::from_secs(300),
        mail: Duration::from_secs(300),
        rcpt: Duration::from_secs(300),
        data: Duration::from_secs(120),
        block: Duration::from_secs(180),
        dot: Duration::from_secs(600),
    };

    /// A connection with a message for four recipients on its way, all commands sent at once at 0 ms. The server never reads
    /// and is played by the test.
    fn busy(protocol: Protocol) -> Connection {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::Tcp(server.local_addr().unwrap());
        let socket = Socket::connect(&endpoint, None).unwrap();
        let recipients = ["a@dst.test", "b@dst.test", "c@dst.test", "d@dst.test"];
        let lease = Lease::parse(attempt("smtp:dst.test", &recipients, b"a\r\n"), None, 1, 0).unwrap();
        let serves = Way::to(NextHop::parse("smtp:dst.test").unwrap());
        let site = Site {
            endpoint,
            host: "dst.test".into(),
            preference: 0,
            protocol,
            security: Rc::new(Security::Clear),
            source: None,
            counted: None,
        };
        let settings = ClientSettings {
            protocol,
            helo: "src.test".into(),
            not_ourselves: false,
            pipelining: true,
            tls: UseTls::Never,
            authenticate: false,
        };
        let tls = Rc::new(vsmtp_tls::client::Client::new(vsmtp_tls::client::Roots::of_certificates(
            std::iter::empty(),
        )));
        let dial = Dial::new(Vec::new(), false, 0);
        let mut connection =
            Connection::new(socket, (tls, None), site, Dialogue::new(settings), Rc::new(serves), dial);
        connection.connected = true;
        say(&mut connection, "220 mx.dst.test\r\n250-mx.dst.test\r\n250 PIPELINING\r\n");
        assert_eq!(connection.dialogue.step(), ClientStep::Idle);
        let how = How { chunking: false, mime_conversion: false, now_ms: 0 };
        assert!(
            connection.begin(Waiting { lease: Box::new(lease), retries: 0, lack: None }, how, 0, 0).is_ok()
        );
        say(&mut connection, "250 sender\r\n");
        connection
    }

    /// The server answers, and what was to be sent is.
    fn say(connection: &mut Connection, words: &str) {
        connection.dialogue.on_bytes(words.as_bytes());
        connection.dialogue.sent(connection.dialogue.output().len());
    }

    fn deadline(connection: &mut Connection, now_ms: u64) -> u64 {
        connection.watch(&TIMEOUTS, Duration::ZERO, now_ms);
        connection.deadline_ms
    }

    #[test]
    fn a_host_that_hangs_leaves_time_for_the_others() {
        let seconds = |awaiting, timeouts: &NextHopTimeouts, others| {
            patience(awaiting, timeouts, Duration::ZERO, others).as_secs()
        };
        for awaiting in [Awaiting::StartTls, Awaiting::Handshake, Awaiting::Auth] {
            assert_eq!(seconds(awaiting, &TIMEOUTS, false), 120, "{awaiting}");
            let shorter = NextHopTimeouts { greeting: Duration::from_secs(7), ..TIMEOUTS };
            assert_eq!(seconds(awaiting, &shorter, false), 7, "{awaiting}");
        }
        assert_eq!(seconds(Awaiting::Greeting, &TIMEOUTS, true), 300);
        let connect = |others| seconds(Awaiting::Connect, &TIMEOUTS, others);
        assert_eq!((connect(true), connect(false)), (10, 30));
        let shorter = NextHopTimeouts { connect: Duration::from_secs(2), ..TIMEOUTS };
        assert_eq!(seconds(Awaiting::Connect, &shorter, true), 2);
    }

    #[test]
    fn a_connection_is_waited_for_the_longer_way_only_at_the_last_place() {
        let mut connection = busy(Protocol::Smtp);
        let place = connection.site.clone();
        for (left, expected) in [(vec![place.clone()], 10_000), (Vec::new(), 30_000)] {
            connection.connected = false;
            connection.progress += 1;
            connection.stage = Stage::Dialing(Dial::new(left, false, 0));
            assert_eq!(deadline(&mut connection, 0), expected);
        }
    }

    #[test]
    fn each_recipient_has_the_patience_of_its_own_command() {
        let mut connection = busy(Protocol::Smtp);
        assert_eq!(deadline(&mut connection, 0), 300_000);
        // Together they take longer than one may.
        for nth in 1..4 {
            say(&mut connection, "250 recipient\r\n");
            assert_eq!(deadline(&mut connection, nth * 200_000), nth * 200_000 + 300_000);
        }
        // Octets of a reply that does not end are no answer.
        for nth in 0..30 {
            say(&mut connection, "250-");
            say(&mut connection, "wait\r\n");
            assert_eq!(deadline(&mut connection, 600_000 + nth * 10_000), 900_000);
        }
        assert!(!connection.on_timer(899_999));
        assert!(connection.on_timer(900_000));
        let ClientStep::Done(outcomes) = connection.dialogue.step() else { panic!() };
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Defer(_))));
    }

    #[test]
    fn each_recipient_of_lmtp_has_the_patience_of_its_own_answer_to_the_message() {
        let mut connection = busy(Protocol::Lmtp);
        say(&mut connection, &"250 recipient\r\n".repeat(4));
        say(&mut connection, "354 go on\r\n");
        connection.dialogue.body(b"a\r\n");
        connection.dialogue.body_end();
        say(&mut connection, "");
        assert_eq!(deadline(&mut connection, 1_000), 601_000);
        for nth in 1..4 {
            say(&mut connection, "250 stored\r\n");
            assert_eq!(deadline(&mut connection, nth * 500_000), nth * 500_000 + 600_000);
        }
        say(&mut connection, "250 stored\r\n");
        let ClientStep::Done(outcomes) = connection.dialogue.step() else { panic!() };
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Delivered(_))));
    }

    #[test]
    fn a_transaction_ends_whatever_its_server_answers() {
        let mut connection = busy(Protocol::Smtp);
        say(&mut connection, "250 recipient\r\n");
        assert_eq!(deadline(&mut connection, MAX_TRANSACTION_MS - 1_000), MAX_TRANSACTION_MS);
    }
}
