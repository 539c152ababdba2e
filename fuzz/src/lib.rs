//! What several fuzz targets share: ways to cut input, a disk in memory, a spool. Targets hold the properties; nothing
//! here judges.
#![forbid(unsafe_code)]

pub mod cut;
pub mod disk;
pub mod spool;
