//! The filter's binary, jailed as ever, between a scripted master, receiver and queue-manager.
#![forbid(unsafe_code)]

mod hostile;
mod identity;
mod limits;
mod loss;
mod names;
mod oneshot;
mod post;
mod session;
mod slow;
mod split;
mod stage;
