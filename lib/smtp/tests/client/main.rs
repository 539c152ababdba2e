//! The client's side against a scripted server, and against our own server's side.
#![allow(missing_docs, reason = "a test has no public items")]

mod both_sides;
mod course;
mod offers;
mod security;
mod stage;
mod trouble;
