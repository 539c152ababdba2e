//! The contract between processes: how frames and descriptors travel, and what may be said on each edge.
//!
//! This crate decides nothing. It reads bytes from processes that may have been captured, so every decode is bounded,
//! consumes every byte, and answers with an `Err` that closes one edge; it never panics.
#![forbid(unsafe_code)]

mod channel;
mod codec;
mod credits;
mod frame;
mod hello;
mod proof;

pub mod edge;
pub mod role;
pub mod wire;

pub use channel::{Channel, ChannelError, Flushed, Message, Received};
pub use codec::{CodecError, MAX_MESSAGE, decode, encode};
pub use credits::Credits;
pub use frame::{MAX_DESCRIPTORS, MAX_FRAME};
pub use hello::{EdgeId, VERSION};
