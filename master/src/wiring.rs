//! Who talks to whom. One table, from which a new child and its living peers get the ends of fresh socket pairs.

use vsmtp_ipc::role::Role;

/// The edges, as unordered pairs of roles.
const EDGES: [(Role, Role); 22] = [
    (Role::Receiver, Role::Keys),
    (Role::Receiver, Role::FilterSession),
    (Role::Receiver, Role::Auth),
    (Role::FilterSession, Role::Auth),
    (Role::FilterSession, Role::QueueManager),
    (Role::QueueManager, Role::FilterPost),
    (Role::QueueManager, Role::DeliverSmtp),
    (Role::QueueManager, Role::DeliverMailbox),
    (Role::DeliverSmtp, Role::Resolver),
    (Role::FilterSession, Role::Resolver),
    (Role::FilterPost, Role::Resolver),
    // To have mail signed.
    (Role::FilterSession, Role::Keys),
    (Role::FilterPost, Role::Keys),
    // To have commands run.
    (Role::FilterSession, Role::Runner),
    (Role::FilterPost, Role::Runner),
    // To have databases asked.
    (Role::FilterSession, Role::Database),
    (Role::FilterPost, Role::Database),
    (Role::Receiver, Role::Limits),
    // What rules count.
    (Role::FilterSession, Role::Limits),
    (Role::FilterPost, Role::Limits),
    (Role::Receiver, Role::Resolver),
    (Role::Limits, Role::Resolver),
];

/// True if an edge joins the two roles.
pub fn are_peers(a: Role, b: Role) -> bool {
    EDGES.iter().any(|edge| *edge == (a, b) || *edge == (b, a))
}

/// True if the edge joins only processes of one generation: a receiver asks the filter that was started with it,
/// and filters have their own commands run and their own databases asked.
pub fn same_generation_only(a: Role, b: Role) -> bool {
    let pairs = [
        (Role::Receiver, Role::FilterSession),
        (Role::FilterSession, Role::Runner),
        (Role::FilterPost, Role::Runner),
        (Role::FilterSession, Role::Database),
        (Role::FilterPost, Role::Database),
    ];
    pairs.contains(&(a, b)) || pairs.contains(&(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_edge_joins_what_must_stay_apart() {
        for (a, b) in [
            (Role::Receiver, Role::QueueManager),
            (Role::Receiver, Role::DeliverSmtp),
            (Role::Receiver, Role::Receiver),
            (Role::FilterSession, Role::DeliverSmtp),
            (Role::DeliverMailbox, Role::Resolver),
            (Role::QueueManager, Role::Resolver),
            (Role::Limits, Role::QueueManager),
            (Role::Limits, Role::Keys),
            (Role::Auth, Role::QueueManager),
            (Role::Auth, Role::Resolver),
            (Role::Auth, Role::FilterPost),
            (Role::Auth, Role::DeliverSmtp),
            (Role::QueueManager, Role::Keys),
            (Role::DeliverSmtp, Role::Keys),
            (Role::Resolver, Role::Keys),
            (Role::Receiver, Role::Runner),
            (Role::QueueManager, Role::Runner),
            (Role::Runner, Role::Keys),
            (Role::Runner, Role::Resolver),
            (Role::Receiver, Role::Database),
            (Role::QueueManager, Role::Database),
            (Role::Database, Role::Keys),
            (Role::Database, Role::Runner),
        ] {
            assert!(!are_peers(a, b) && !are_peers(b, a), "{a} {b}");
        }
        assert!(are_peers(Role::QueueManager, Role::FilterSession));
    }
}
