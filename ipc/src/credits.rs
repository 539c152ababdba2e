//! How many requests may wait for their answers on one edge. A sender without credit stops reading its own upstream, so
//! pressure travels back to the client's socket instead of piling up in memory.

/// Counts the requests in flight on one edge.
#[derive(Debug, Clone, Copy)]
pub struct Credits {
    limit: u32,
    in_flight: u32,
}

impl Credits {
    /// `limit` requests may be in flight.
    pub const fn new(limit: u32) -> Self {
        Credits { limit, in_flight: 0 }
    }

    /// Takes one credit; false if there is none.
    #[must_use]
    pub fn take(&mut self) -> bool {
        let free = self.in_flight < self.limit;
        self.in_flight += u32::from(free);
        free
    }

    /// Gives one back when its answer came. False if none was out: the peer answered what nobody asked.
    #[must_use]
    pub fn give_back(&mut self) -> bool {
        let asked = self.in_flight > 0;
        self.in_flight -= u32::from(asked);
        asked
    }

    /// How many are free.
    pub fn free(&self) -> u32 {
        self.limit - self.in_flight
    }

    /// Forgets all that is in flight: the peer is gone.
    pub fn reset(&mut self) {
        self.in_flight = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_end_and_come_back_and_unasked_answers_are_noticed() {
        let mut credits = Credits::new(2);
        assert!(credits.take() && credits.take() && !credits.take());
        assert!(credits.give_back() && credits.take());
        credits.reset();
        assert_eq!(credits.free(), 2);
        assert!(!credits.give_back());
    }
}
