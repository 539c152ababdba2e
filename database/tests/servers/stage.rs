//! The process, a filter that asks it, and a server that says what a test wants.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use vsmtp_config::{Database, DatabaseSlice, Value, encode};
use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::filter_database::{Answer, Ask, FilterEnd, Parameter, Refused, Rows, Which};
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_stage::{PATIENCE, Process, configure, next};

const SESSION: ProcessName = ProcessName { role: Role::FilterSession, instance: 0 };

/// The process, with one database, and a filter.
pub struct Stage {
    _process: Process,
    filter: FilterEnd,
    tickets: u64,
}

impl Stage {
    /// One connection at most goes to that database; a question has this time.
    pub fn start(url: &str, timeout: &str) -> Stage {
        Stage::start_with(url, timeout, &[], false)
    }

    /// The same with who we are there, and with StartTLS.
    pub fn start_with(url: &str, timeout: &str, bind: &[(&str, &str)], is_tls: bool) -> Stage {
        let map = |parts: Vec<(&str, Value)>| {
            Value::Map(parts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
        };
        let mut parts = vec![
            ("url", Value::Text(url.to_owned())),
            ("timeout", Value::Text(timeout.to_owned())),
            ("connections", Value::Int(1)),
        ];
        if !bind.is_empty() {
            let bind = bind.iter().map(|(name, text)| (*name, Value::Text((*text).to_owned())));
            parts.push(("bind", map(bind.collect())));
        }
        if is_tls {
            parts.push(("tls", map(vec![("starttls", Value::Bool(true))])));
        }
        let database = Database::read(&map(parts)).unwrap();
        let slice = DatabaseSlice { databases: vec![("it".to_owned(), database)] };
        let configure = configure(Role::Database, encode(&slice).unwrap());
        let mut process = Process::start(env!("CARGO_BIN_EXE_vsmtp-database"), &[], configure);
        process.hear_master(|said| matches!(said, ToMaster::Ready));
        let filter = FilterEnd::new(process.introduce(SESSION), EdgeId::FilterDatabase);
        Stage { _process: process, filter, tickets: 0 }
    }

    /// Asks, and hears what comes of it.
    pub fn ask(&mut self, what: &str, parameters: &[Parameter]) -> Result<Rows, Refused> {
        self.tickets += 1;
        let ask = Ask {
            ticket: self.tickets,
            database: Which::Named("it".to_owned()),
            statement: what.to_owned(),
            parameters: parameters.to_vec(),
            left_ms: 60_000,
        };
        vsmtp_stage::say(&mut self.filter, &ask, Vec::new());
        let answer: Answer = next(&mut self.filter).unwrap().message;
        assert_eq!(answer.ticket, ask.ticket);
        answer.result
    }

    /// The only value of the answer.
    pub fn value(&mut self, what: &str, parameters: &[Parameter]) -> Option<String> {
        let rows = self.ask(what, parameters).unwrap();
        assert_eq!((rows.rows.len(), rows.columns.len()), (1, 1), "{rows:?}");
        rows.rows[0][0].clone()
    }

    /// The refusal of a question that cannot be answered, which is never for want of time.
    pub fn failure(&mut self, what: &str, parameters: &[Parameter]) -> String {
        match self.ask(what, parameters) {
            Err(Refused::Failed(why)) => why,
            other => panic!("{other:?}"),
        }
    }
}

/// A text for a question.
pub fn text(text: &str) -> Parameter {
    Parameter::Text(text.to_owned())
}

/// What happens at a played server.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody has connected.
    Connected,
    /// It was told this.
    Heard(Vec<u8>),
    /// A connection is over.
    Closed,
}

/// What a played server says to what it hears.
pub enum Says {
    /// This.
    This(Vec<u8>),
    /// This, and then no more: it closes the connection.
    Last(Vec<u8>),
    /// This, and then an octet at a time, for ever.
    Drips(Vec<u8>, u8),
}

/// A server.
pub struct Played {
    /// Where it is.
    pub port: u16,
    events: Receiver<Event>,
}

impl Played {
    /// It is asked what to say for each thing it hears on a connection, counted from 0.
    pub fn start(says: impl Fn(usize, &[u8]) -> Says + Send + Sync + 'static) -> Played {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, events) = channel();
        let says = Arc::new(says);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (tell, says) = (tell.clone(), Arc::clone(&says));
                let _ = tell.send(Event::Connected);
                std::thread::spawn(move || {
                    let _ = serve(stream.unwrap(), &*says, &tell);
                    let _ = tell.send(Event::Closed);
                });
            }
        });
        Played { port, events }
    }

    /// What happens next.
    pub fn event(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("something happens at the server")
    }

    /// All that it is told next, as a text.
    pub fn heard(&self) -> String {
        match self.event() {
            Event::Heard(octets) => String::from_utf8(octets).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

fn serve(
    mut stream: TcpStream,
    says: &dyn Fn(usize, &[u8]) -> Says,
    tell: &Sender<Event>,
) -> std::io::Result<()> {
    let mut octets = vec![0; 1 << 20];
    for number in 0.. {
        let count = stream.read(&mut octets)?;
        if count == 0 {
            return Ok(());
        }
        let _ = tell.send(Event::Heard(octets[..count].to_vec()));
        match says(number, &octets[..count]) {
            Says::This(answer) => stream.write_all(&answer)?,
            Says::Last(answer) => return stream.write_all(&answer),
            Says::Drips(answer, octet) => {
                stream.write_all(&answer)?;
                loop {
                    stream.write_all(&[octet])?;
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }
    Ok(())
}
