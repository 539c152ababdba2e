//! Whole processes: what a launch gives a child, and what a sandbox takes from it.

mod command;
mod launch;
mod must_fail;
mod support;
