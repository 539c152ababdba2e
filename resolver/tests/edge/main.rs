//! The daemon in its jail, with scripted clients on its edges and a scripted name server behind it.

mod dns;
mod harness;
mod process;
mod records;
mod secure;
mod sharing;
mod sts;
mod trouble;
mod validating;
