//! The runner: starts programs for rules, those that the configuration declares and no others.
//!
//! Filters ask it; it gives each program its arguments and its standard input as they are, without a shell, keeps the
//! beginning of what it prints, and ends it, with all that it has started, when its time is over. It never runs what is
//! not declared, never has more than a bounded number of programs at once, and sees no mail but what a rule hands to a
//! program.
//!
//! On failure: a program that cannot be started is an error of the rule that wanted it. When the runner dies, its programs
//! die with it, with what these have started, and the rules that wait for them fail.
#![forbid(unsafe_code)]

mod event;

mod folders;
mod job;
mod output;
mod programs;
mod strays;

pub mod sandbox;

pub use event::Runner;
