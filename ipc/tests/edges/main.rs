//! One property per message type of every edge: whatever bytes come, decoding ends with a message or an error; what
//! decodes encodes to the same bytes again, so that there is one way to say each thing; and every flipped, cut or
//! lengthened valid message is a message or an error too.

mod control;
mod mail;
mod property;
mod samples;
mod services;
