//! Load under TLS, beside which the figures of an MTA mean something:
//!
//! ```sh
//! tls source --sessions 16 --messages 3000 127.0.0.1:2525   # a client: makes connections, sends messages, counts
//! tls bare --certificate mx.pem --key mx.key 127.0.0.1:2525  # a server that says yes to everything and stores nothing
//! ```
//!
//! `compare.py --tls` runs both. The client trusts whatever certificate it is shown: it measures, and proves nothing.

#[path = "tls/bare.rs"]
mod bare;
#[path = "tls/source.rs"]
mod source;

use std::process::ExitCode;

use vsmtp_tests::say;

const USAGE: &str =
    "tls source [--sessions N] [--messages N] [--size OCTETS] [--keep] [--resume] [--implicit] [--tls12]
                 [--from ADDRESS] [--to ADDRESS] HOST:PORT
       tls bare --certificate FILE --key FILE [--threads N] [--implicit] [--aes128] HOST:PORT";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let done = match words.next().as_deref() {
        Some("source") => source::Wish::parse(words).map(|wish| source::run(&wish)),
        Some("bare") => bare::Wish::parse(words).map(|wish| bare::run(&wish)),
        _ => None,
    };
    match done {
        Some(Ok(said)) => {
            say(&said);
            ExitCode::SUCCESS
        }
        Some(Err(error)) => {
            say(&error);
            ExitCode::FAILURE
        }
        None => {
            say(USAGE);
            ExitCode::from(2)
        }
    }
}
