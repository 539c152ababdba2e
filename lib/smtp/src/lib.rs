//! SMTP and LMTP as pure state machines, for both sides of the wire.
