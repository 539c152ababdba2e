//! What filters have counted.

use vsmtp_ipc::edge::filter_limits::{Ask, MAX_NAME, Taken, Taking};
use vsmtp_ipc::role::Role;

use crate::stage::*;

fn taking(key: &str, limit: u32) -> Taking {
    Taking { name: "mail".into(), key: key.into(), limit, period_s: 3_600, count: 1 }
}

#[test]
fn filters_count_together_and_one_that_dies_takes_nothing_along() {
    let mut stage = Stage::start(&slice());
    let mut session = stage.filter(Role::FilterSession, 0);
    let mut post = stage.filter(Role::FilterPost, 0);
    assert_eq!(session.take(&taking("a", 3)), Taken { granted: true, left: 2 });
    assert_eq!(post.take(&taking("a", 3)), Taken { granted: true, left: 1 });
    drop(session);
    let mut session = stage.filter(Role::FilterSession, 1);
    assert_eq!(session.take(&taking("a", 3)), Taken { granted: true, left: 0 });
    assert_eq!(post.take(&taking("a", 3)), Taken { granted: false, left: 0 });
    assert_eq!(post.take(&taking("b", 3)), Taken { granted: true, left: 2 });
}

#[test]
fn a_filter_that_asks_nonsense_loses_its_edge_and_nobody_else_does() {
    let mut stage = Stage::start(&slice());
    let mut post = stage.filter(Role::FilterPost, 0);
    for wrong in [
        Taking { limit: 0, ..taking("a", 1) },
        Taking { period_s: 0, ..taking("a", 1) },
        Taking { period_s: u32::MAX, ..taking("a", 1) },
        Taking { name: String::new(), ..taking("a", 1) },
        Taking { name: "a\0b".into(), ..taking("a", 1) },
        Taking { name: "n".repeat(MAX_NAME + 1), ..taking("a", 1) },
        Taking { key: "k".repeat(1_000), ..taking("a", 1) },
    ] {
        let mut session = stage.filter(Role::FilterSession, 0);
        session.say(&Ask::Take { ticket: 1, taking: wrong });
        assert!(session.is_dropped());
        assert_eq!(stage.misbehaved().role, Role::FilterSession);
    }
    assert_eq!(post.take(&taking("a", 1)), Taken { granted: true, left: 0 });
}
