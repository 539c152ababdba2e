//! The one skeleton of all daemons: boot, sandbox, event loop, log.
