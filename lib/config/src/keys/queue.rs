//! The queue: how long and how often delivery is tried, bounces, and what the store may use.

use crate::kind::{Bytes, DAY, MINUTE, MaybeAddress, Period, SECOND};
use crate::table::Preset::{Text, Unset};

keys! {
    /// Keys of the queue.
    QueueKeys;

    /// How long delivery is tried before the message bounces.
    lifetime: Period { min: MINUTE, max: 100 * DAY } = "queue.lifetime", default Text("5d"), example Text("2d"), for Queue;

    /// How long delivery of a bounce is tried before it is dropped.
    bounce_lifetime: Period { min: MINUTE, max: 100 * DAY } = "queue.bounce_lifetime", default Text("5d"),
        example Text("1d"), for Queue;

    /// When the sender is told that delivery takes longer; 0s for never.
    delay_warning: Period { min: 0, max: 100 * DAY } = "queue.delay_warning", default Text("4h"), example Text("0s"),
        for Queue;

    /// Wait after the first failed attempt; each further wait is longer.
    backoff_min: Period { min: SECOND, max: DAY } = "queue.backoff.min", default Text("5m"), example Text("1m"),
        for Queue;

    /// Longest wait between two attempts.
    backoff_max: Period { min: SECOND, max: 7 * DAY } = "queue.backoff.max", default Text("4000s"),
        example Text("2h"), for Queue;

    /// Size of one file of the queue's log.
    segment_size: Bytes { min: 4 << 20, max: 1 << 30 } = "queue.segment_size", default Text("64MiB"),
        example Text("8MiB"), for Queue;

    /// Free space of the spool's disk below which no more mail is accepted (452). Twice as much
    /// stays free of what rules write, see `app.dirpath`.
    min_free: Bytes { min: 0, max: 1 << 50 } = "queue.min_free", default Text("256MiB"), example Text("1GiB"),
        for Queue Filter;

    /// Memory for messages that are kept warm between acceptance and delivery.
    cache_size: Bytes { min: 0, max: 1 << 40 } = "queue.cache_size", default Text("64MiB"), example Text("16MiB"),
        for Queue;

    /// How much of a message a bounce returns; of a larger one it returns the header only.
    bounce_size_limit: Bytes { min: 1024, max: 10 << 20 } = "queue.bounce_size_limit", default Text("50KiB"),
        example Text("10KiB"), for Queue;

    /// Who gets a bounce that cannot be delivered to its sender. By default postmaster at the server's name.
    postmaster: MaybeAddress = "queue.postmaster", default Unset, example Text("hostmaster@example.com"), for Queue;
}
