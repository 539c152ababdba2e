//! The limiter's binary, jailed as ever, between a scripted master, scripted receivers and a scripted resolver.
#![forbid(unsafe_code)]

mod counts;
mod hostile;
mod screening;
mod stage;
