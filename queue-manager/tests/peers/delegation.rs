//! Messages that a service is to see: what it gets, what comes back, and what a death in between leaves.

mod course;
mod returns;
mod rules;

use vsmtp_ipc::edge::filter_queue::{Delegate, Disposition, Receipt, Refusal, Returned};
use vsmtp_ipc::edge::queue_deliver::{Attempt, Result3};
use vsmtp_ipc::edge::queue_filter::{PostAsk, PostStage, PostVerdict, Resume};
use vsmtp_ipc::wire::{Body, Body7, Id};
use vsmtp_mail::{DELEGATION_FIELD, DelegationTicket, HeaderBlock};

use crate::stage::{BODY, Deliver, Filter, Post, Stage, octets};

const HOPS: &[(&str, &str)] = &[("b@dst.test", "smtp:dst.test"), ("c@dst.test", "maildir")];
const SERVICE: &str = "smtp:[127.0.0.1]:10026";
/// What the service makes of the message.
const SCANNED: &[u8] = b"X-Scanned: clean\r\nSubject: x\r\n\r\nscanned\r\n";

fn delegate(change: impl FnOnce(&mut Delegate)) -> Disposition {
    let mut delegate = Delegate {
        stage: PostStage::Postq,
        directive: "scan".to_owned(),
        address: ([127, 0, 0, 1], 10026).into(),
        timeout_ms: 7_000,
        return_within_s: 3600,
        open: false,
        hold: None,
    };
    change(&mut delegate);
    Disposition::Delegate(Box::new(delegate))
}

fn verdict(ask: &PostAsk, disposition: Disposition) -> PostVerdict {
    let envelope = ask.envelope.clone();
    PostVerdict::Edit {
        ticket: ask.ticket,
        envelope,
        expanded: Vec::new(),
        notices: Vec::new(),
        disposition,
        pieces: Vec::new(),
    }
}

/// A message that rules have given to the service; its id, and what the service gets.
fn given(
    stage: &mut Stage,
    (filter, post, deliver): (&mut Filter, &mut Post, &mut Deliver),
    change: impl FnOnce(&mut Delegate),
) -> (Id, Attempt, DelegationTicket) {
    let message = stage.message(HOPS);
    let id = filter.store(message);
    let (ask, _) = post.hear();
    assert_eq!((ask.id, ask.stage, ask.resume.as_ref()), (id, PostStage::Postq, None));
    post.say(&verdict(&ask, delegate(change)));
    let (mut attempt, descriptors) = deliver.hear();
    let body = std::mem::replace(&mut attempt.body, Body::Inline(Vec::new()));
    let ticket = ticket_of(&octets(body, descriptors));
    assert_eq!(vsmtp_mail::QueueId::from(id), ticket.id);
    (id, attempt, ticket)
}

fn ticket_of(message: &[u8]) -> DelegationTicket {
    let header = HeaderBlock::parse(message);
    let field = header.fields().next().expect("a header").clone();
    assert!(field.is(DELEGATION_FIELD), "{}", String::from_utf8_lossy(message));
    assert!(message.ends_with(BODY));
    DelegationTicket::parse(&field).expect("id and token")
}

/// The service brings it back.
fn bring(stage: &mut Stage, filter: &mut Filter, ticket: DelegationTicket) -> (Id, Receipt) {
    let mut message = stage.message(&[("whoever@else.test", "maildir")]);
    message.envelope.body = Body7::EightBitMime;
    message.body = Body::Inline(SCANNED.to_vec());
    message.returned = Some(Returned { id: ticket.id.into(), token: ticket.token.to_bytes(), or_new: false });
    (message.id, filter.submit(message))
}

fn refused(receipt: &Receipt) -> bool {
    matches!(receipt, Receipt::Refused { why: Refusal::NotDelegated, .. })
}

/// The rules go on, and the message arrives as the service has left it.
fn goes_on(stage: &mut Stage, post: &mut Post, deliver: &mut Deliver, id: Id) {
    let (ask, descriptors) = post.hear();
    assert_eq!((ask.id, ask.stage, ask.origin.client.as_str()), (id, PostStage::Postq, "192.0.2.9"));
    let here = Resume { directive: "scan".to_owned(), skip: false, hold: None };
    assert_eq!(ask.resume, Some(here));
    let to: Vec<&str> = ask.envelope.recipients.iter().map(|one| one.address.as_str()).collect();
    assert_eq!((to, ask.envelope.body), (vec!["b@dst.test", "c@dst.test"], Body7::EightBitMime));
    assert_eq!(octets(ask.body, descriptors), SCANNED);
    post.say(&PostVerdict::Keep { ticket: ask.ticket, is_final: false });
    let (attempt, descriptors) = deliver.hear();
    assert_eq!((attempt.id, attempt.next_hop.as_str()), (id, "smtp:dst.test"));
    assert_eq!((attempt.service_ms, octets(attempt.body.clone(), descriptors).as_slice()), (None, SCANNED));
    deliver.settle(&attempt, Result3::Delivered);
    stage.figure("delegated", 0);
}

fn all(stage: &mut Stage) -> (Filter, Post, Deliver) {
    (stage.filter(), stage.post(true, false), stage.deliver())
}
