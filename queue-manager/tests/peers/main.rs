//! The queue-manager's binary, jailed as ever, between a scripted master, filters, deliver processes and operators.
#![forbid(unsafe_code)]

mod deaths;
mod delegation;
mod delivery;
mod intake;
mod large;
mod life;
mod operators;
mod post;
mod reports;
mod scale;
mod stage;
