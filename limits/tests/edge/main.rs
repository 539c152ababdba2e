//! The limiter's binary, jailed as ever, between a scripted master, scripted receivers and a scripted resolver.
#![forbid(unsafe_code)]

mod counts;
mod greylist;
mod hostile;
mod rates;
mod screening;
mod stage;
