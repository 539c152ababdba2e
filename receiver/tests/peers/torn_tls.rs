//! S5: TLS that ends in the middle of a message, in every way, on each kind of listener. Nothing of such a message may
//! reach the filter. And that nothing is taken before a handshake is done.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::version::TLS13;
use vsmtp_ipc::edge::receiver_auth::{Answer, Ask, AuthEnd};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::Grant;
use vsmtp_stage::say;

use crate::keys::{Keys, Secure, client_config, tls};
use crate::slow_tls::encrypted;
use crate::stage::{Filter, Stage, introduce_helper, next};
use crate::tls::{begin, ready, secured, submissions};

/// How the octets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    StartTls,
    Implicit,
}

/// Where in the message it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Data,
    Chunk,
    BetweenChunks,
}

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    CloseNotify,
    /// What comes behind it is no longer protected, and would make the message whole.
    CloseNotifyAndClear,
    /// Without a word.
    Fin,
    /// In the middle of the record that would make the message whole.
    FinWithinRecord,
}

const TRANSPORTS: [Transport; 2] = [Transport::StartTls, Transport::Implicit];
const PLACES: [Place; 3] = [Place::Data, Place::Chunk, Place::BetweenChunks];
const ENDS: [End; 4] = [End::CloseNotify, End::CloseNotifyAndClear, End::Fin, End::FinWithinRecord];

/// A receiver with both kinds of listeners, whose users are all believed.
struct House {
    stage: Stage,
    filter: Filter,
    implicit: SocketAddr,
}

impl House {
    fn open() -> House {
        let mut stage = Stage::start(&secured(tls()));
        let implicit = submissions(&mut stage);
        let mut helper: AuthEnd = introduce_helper(&mut stage, ProcessName { role: Role::Auth, instance: 0 });
        say(&mut helper, &Answer::Offer(vec!["PLAIN".to_owned()]), Vec::new());
        std::thread::spawn(move || {
            while let Ok(received) = next(&mut helper) {
                if let Ask::Begin(begin) = received.message {
                    let identity = "tim".to_owned();
                    let granted =
                        Answer::Granted { exchange: begin.exchange, grant: Grant([3; 16]), identity };
                    say(&mut helper, &granted, Vec::new());
                }
            }
        });
        Keys::introduce(&mut stage).serve();
        let filter = stage.introduce((false, false, false));
        House { stage, filter, implicit }
    }

    fn shake(&self, transport: Transport, config: &Arc<rustls::ClientConfig>) -> Secure {
        match transport {
            Transport::StartTls => Secure::shake(config, ready(&self.stage)).unwrap(),
            Transport::Implicit => {
                let mut client = Secure::shake(config, TcpStream::connect(self.implicit).unwrap()).unwrap();
                assert_eq!(client.reply(), "220 mx.test ESMTP");
                client
            }
        }
    }

    /// A client in the middle of a message.
    fn halfway(&mut self, transport: Transport, place: Place) -> Secure {
        let mut client = self.shake(transport, &client_config(&TLS13));
        assert!(client.ask("EHLO client.test").starts_with("250"));
        if transport == Transport::Implicit {
            assert!(client.ask("AUTH PLAIN AHRpbQBwZW5jaWw=").starts_with("235"));
        }
        begin(&mut client, &mut self.filter);
        let text = "Subject: x\r\n\r\nhalf a message\r\n";
        match place {
            Place::Data => {
                assert!(client.ask("DATA").starts_with("354"));
                client.send(text);
            }
            Place::Chunk => client.send(format!("BDAT {} LAST\r\n{text}", text.len() + REST.len())),
            Place::BetweenChunks => {
                client.send(format!("BDAT {}\r\n{text}", text.len()));
                assert!(client.reply().starts_with("250"));
            }
        }
        client
    }
}

const REST: &str = "the rest\r\n";

/// What would make the message whole.
fn rest(place: Place) -> String {
    match place {
        Place::Data => format!("{REST}.\r\n"),
        Place::Chunk => REST.to_owned(),
        Place::BetweenChunks => format!("BDAT {} LAST\r\n{REST}", REST.len()),
    }
}

#[test]
fn s5_the_end_of_tls_in_the_middle_of_a_message_accepts_nothing() {
    let mut house = House::open();
    for transport in TRANSPORTS {
        for place in PLACES {
            for end in ENDS {
                let mut client = house.halfway(transport, place);
                let rest = rest(place);
                match end {
                    End::CloseNotify => client.close_notify(),
                    End::CloseNotifyAndClear => {
                        client.close_notify();
                        client.send_clear(format!("{rest}MAIL FROM:<evil@client.test>\r\n").as_bytes());
                    }
                    End::Fin => {
                        client.send(&rest[..rest.len() - 1]);
                        client.reader.get_ref().sock.shutdown(Shutdown::Write).unwrap();
                    }
                    End::FinWithinRecord => {
                        let record = encrypted(&mut client, rest.as_bytes());
                        let stream = client.reader.get_mut();
                        stream.sock.write_all(&record[..record.len() - 1]).unwrap();
                        stream.sock.shutdown(Shutdown::Write).unwrap();
                    }
                }
                let how = format!("{transport:?}, {place:?}, {end:?}");
                // Whatever it hears next, it is not the message.
                let heard = house.filter.hear().0;
                assert!(
                    matches!(heard, vsmtp_ipc::edge::receiver_filter::Ask::Reset { .. }),
                    "{how}: {heard:?}"
                );
                house.filter.expect_forget();
                let answer = client.reply();
                assert!(!answer.starts_with("250"), "{how}: {answer}");
                assert!(client.is_gone(), "{how}");
            }
        }
    }
    // The same message is taken where TLS goes on.
    for transport in TRANSPORTS {
        for place in PLACES {
            let mut client = house.halfway(transport, place);
            client.send(rest(place));
            let bytes = house.filter.accept_message();
            assert!(bytes.ends_with(b"half a message\r\nthe rest\r\n"), "{transport:?}, {place:?}");
            assert!(client.reply().starts_with("250"));
            drop(client);
            house.filter.expect_forget();
        }
    }
}

#[test]
fn no_ticket_lets_a_client_speak_before_the_handshake_is_done() {
    let house = House::open();
    let mut config = (*client_config(&TLS13)).clone();
    config.enable_early_data = true;
    let config = Arc::new(config);
    for transport in TRANSPORTS {
        let mut first = house.shake(transport, &config);
        // The ticket comes with these words at the latest.
        assert!(first.ask("EHLO client.test").starts_with("250"));
        let stream = match transport {
            Transport::StartTls => ready(&house.stage),
            Transport::Implicit => TcpStream::connect(house.implicit).unwrap(),
        };
        let name = rustls::pki_types::ServerName::try_from("mx.test").unwrap();
        let mut connection = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
        assert!(connection.early_data().is_none(), "{transport:?}: the ticket allows early data");
        let second = Secure::go_on(stream, connection).unwrap();
        assert!(second.is_resumed(), "{transport:?}: it was a ticket");
        assert!(!second.reader.get_ref().conn.is_early_data_accepted(), "{transport:?}");
    }
}
