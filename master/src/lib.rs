//! The root master: binds ports, starts and supervises the daemons.
