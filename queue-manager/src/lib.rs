//! The queue-manager: the spool, the schedule, bounces.
