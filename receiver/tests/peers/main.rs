//! The receiver's binary, jailed as ever, between a scripted master, a scripted filter and scripted clients.
#![forbid(unsafe_code)]

mod bodies;
mod chunks;
mod dialogues;
mod endings;
mod first_message;
mod handshakes;
mod hostile;
mod implicit;
mod keys;
mod life;
mod limiter;
mod limits;
mod login;
mod loss;
mod names;
mod proxies;
mod slow_tls;
mod stage;
mod tls;
mod torn_tls;
mod verdicts;
