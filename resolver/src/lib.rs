//! The resolver: DNS for all other processes.
