//! The contract between processes: framing, descriptor passing, one file per edge.
