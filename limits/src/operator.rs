//! What operators see of the limiter, a page at a time. Pure.

use vsmtp_ipc::edge::master_child::{Figure, LIMITS_PAGE, LimitsAnswer, LimitsRow};

use crate::counters::{Counters, Row};
use crate::metrics::{Figures, Gauges};

/// The clients behind that one, with what is limited.
pub fn page(
    counters: &mut Counters,
    now_ms: u64,
    behind: Option<std::net::IpAddr>,
    figures: &Figures,
    gauges: Gauges,
) -> LimitsAnswer {
    let rows = counters.page(now_ms, behind, LIMITS_PAGE);
    let rules = counters.rules();
    let figure = |(name, value): (&str, u64)| Figure { name: name.to_owned(), value };
    LimitsAnswer::Page {
        window_ms: rules.window_ms,
        open_limit: rules.open,
        rates: rules.rates.to_vec(),
        figures: figures.named(gauges).map(figure).to_vec(),
        rows: rows.into_iter().map(row).collect(),
    }
}

fn row(row: Row) -> LimitsRow {
    let Row { network, prefix, open, counts, refused } = row;
    LimitsRow { network, prefix, open, counts: counts.to_vec(), refused }
}
