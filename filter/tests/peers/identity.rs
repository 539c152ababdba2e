//! Who a client is, is what the auth helper says, whatever its receiver says.

use vsmtp_ipc::edge::filter_auth::{Answer, Ask as About, Identity};
use vsmtp_ipc::edge::receiver_filter::{Ask, Decision, Facts, Verdict};
use vsmtp_ipc::wire::{Grant, RcptTo};

use crate::stage::*;

const GRANT: Grant = Grant([7; 16]);

fn shown(session: u64) -> Facts {
    Facts { grant: Some(GRANT), client: Some(([198, 51, 100, 9].into(), 4000)), ..facts(session) }
}

fn ask_to_relay(session: u64) -> Ask {
    Ask::Recipients {
        facts: shown(session),
        mail: mail("a@src.test"),
        recipients: vec![RcptTo { address: "b@far.test".into(), original: None, notify: None }],
    }
}

fn identity(vouched: bool, settled: bool) -> Option<Identity> {
    Some(Identity { name: "tim".to_owned(), mechanism: "PLAIN".to_owned(), vouched, settled })
}

/// What becomes of one recipient far away, if the helper says this of the grant.
fn relay(rules: &str, said: Option<Identity>) -> Decision {
    let (mut stage, mut receiver, _queue) = Stage::session(rules);
    let mut helper = stage.auth();
    receiver.say(&ask_to_relay(1), Vec::new());
    let About::Confirm { ticket, receiver: shown_by, grant } = helper.hear() else { panic!("no question") };
    assert_eq!((shown_by.instance, grant), (0, GRANT));
    helper.say(&Answer::Confirmed { ticket, identity: said });
    match receiver.hear() {
        Verdict::Recipients { session: 1, mut decisions } if decisions.len() == 1 => decisions.remove(0),
        other => panic!("{other:?}"),
    }
}

fn is_lost(decision: &Decision) -> bool {
    matches!(decision, Decision::Close(reply) if reply.code == 421)
}

#[test]
fn a_receiver_cannot_invent_an_identity() {
    assert!(is_lost(&relay("#{}", None)));
    assert_eq!(relay("#{}", identity(true, false)), Decision::Accept(None));
    // Nobody has checked the password, and there are no rules that could have.
    assert!(is_lost(&relay("#{}", identity(false, false))));
}

#[test]
fn where_rules_judge_identities_only_what_they_have_accepted_counts() {
    let rules = "#{ authenticate: [ rule \"all\" || state::accept() ] }";
    assert!(is_lost(&relay(rules, identity(true, false))));
    assert_eq!(relay(rules, identity(false, true)), Decision::Accept(None));
}

#[test]
fn the_helper_hears_what_the_rules_have_judged() {
    let rules = r#"#{ authenticate: [
        rule "tim" || if auth::credentials().authid == "tim" { state::accept() } else { state::next() },
    ] }"#;
    let (mut stage, mut receiver, _queue) = Stage::session(rules);
    let mut helper = stage.auth();
    for (session, name, accepted) in [(1, "tim", true), (2, "joe", false)] {
        receiver.say(&Ask::Authenticate(shown(session)), Vec::new());
        let About::Confirm { ticket, .. } = helper.hear() else { panic!("no question") };
        let identity = identity(true, false).map(|one| Identity { name: name.to_owned(), ..one });
        helper.say(&Answer::Confirmed { ticket, identity });
        match receiver.hear() {
            Verdict::Decided { decision: Decision::Accept(None), .. } if accepted => {}
            Verdict::Decided { decision: Decision::Refuse(reply), .. } if !accepted => {
                assert_eq!(reply.code, 535);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(helper.hear(), About::Settle { grant: GRANT, accepted });
    }
    // Tim is known from now on, and nobody is asked again.
    receiver.say(&ask_to_relay(1), Vec::new());
    assert!(
        matches!(receiver.hear(), Verdict::Recipients { decisions, .. } if decisions == [Decision::Accept(None)])
    );
}

#[test]
fn a_question_waits_for_a_helper_that_is_away() {
    let (mut stage, mut receiver, _queue) = Stage::session("#{}");
    receiver.say(&ask_to_relay(1), Vec::new());
    let mut helper = stage.auth();
    let About::Confirm { .. } = helper.hear() else { panic!("no question") };
    // This one dies with the question, and the next is asked.
    drop(helper);
    let mut helper = stage.auth();
    let About::Confirm { ticket, .. } = helper.hear() else { panic!("no question") };
    helper.say(&Answer::Confirmed { ticket, identity: identity(true, false) });
    assert!(
        matches!(receiver.hear(), Verdict::Recipients { decisions, .. } if decisions == [Decision::Accept(None)])
    );
}
