//! Start, reload and end.

use vsmtp_config::encode;
use vsmtp_ipc::edge::ctl_queue::State;
use vsmtp_ipc::edge::filter_queue::{Disposition, Receipt, Submit};
use vsmtp_ipc::edge::master_child::{ToChild, ToMaster};
use vsmtp_ipc::edge::queue_deliver::Result3;

use crate::stage::{Stage, slice, text};

const HOP: &[(&str, &str)] = &[("b@dst.test", "smtp:dst.test")];

#[test]
fn it_ends_when_it_is_told_and_keeps_what_it_has() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let message = stage.message(HOP);
    let id = filter.store(message);
    let (attempt, _) = deliver.hear();
    // What comes before the end is answered before the end.
    let mut message = stage.message(HOP);
    message.disposition = Disposition::Hold("why".into());
    let held = message.id;
    filter.say(&Submit::Message(message), Vec::new());
    assert!(matches!(filter.hear().0, Receipt::Stored { .. }));
    stage.tell(&ToChild::Drain { deadline_ms: 5000 }, Vec::new());
    deliver.settle(&attempt, Result3::Delivered);
    assert!(stage.wait_end());
    let folder = std::mem::replace(&mut stage.folder, tempfile::tempdir().unwrap());
    let mut stage = Stage::start_in(folder, &[]);
    stage.figure("messages", 1);
    stage.logged("event=recovered messages=1");
    let entries = stage.operator().list(None);
    assert_eq!((entries[0].id, entries[0].state), (held, State::Held));
    assert_ne!(id, held);
}

#[test]
fn it_ends_without_its_master() {
    let (mut stage, ..) = Stage::with_peers();
    let (ours, _theirs) = vsmtp_sys::seqpacket::pair().unwrap();
    stage.process.master = vsmtp_ipc::Channel::new(ours, vsmtp_ipc::EdgeId::MasterChild);
    assert!(stage.wait_end());
}

#[test]
fn a_second_one_on_the_same_spool_is_refused() {
    let (stage, ..) = Stage::with_peers();
    let spool = stage.folder.path().join("queue");
    let lock = vsmtp_queue_manager::store::Unrecovered::open(&spool, Default::default());
    assert!(matches!(lock, Err(vsmtp_queue_manager::store::OpenError::Locked { .. })));
}

#[test]
fn a_new_configuration_is_taken_while_it_runs() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let mut slice = slice(&stage.folder, &[("queue.postmaster", text("boss@src.test"))]);
    slice.spool = "/elsewhere".to_owned();
    stage.tell(&ToChild::Reconfigure(encode(&slice).unwrap()), Vec::new());
    stage.tell(&ToChild::Reconfigure(b"no slice".to_vec()), Vec::new());
    stage.logged("event=bad-configuration");
    let mut message = stage.message(HOP);
    message.envelope.reverse_path = String::new();
    filter.store(message);
    deliver.serve(Result3::Failed);
    stage.logged("to=<boss@src.test>");
}

#[test]
fn the_master_hears_that_it_serves() {
    let (mut stage, mut filter, _deliver) = Stage::with_peers();
    let message = stage.message(HOP);
    filter.store(message);
    stage.hear_master(|said| matches!(said, ToMaster::Serving));
}
