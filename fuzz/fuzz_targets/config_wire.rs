//! Configuration on the wire: the first octet chooses the tree or a process's slice. Hostile bytes are an error or a
//! value that survives the wire; a tree is then checked against the table of keys.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use vsmtp_config::{
    Config, Context, DeliverSlice, FilterSlice, MailboxSlice, MasterSlice, QueueSlice, ReceiverSlice,
    Recipients, ResolverSlice, Row, Value, decode, encode,
};
use vsmtp_mail::{Address, Domain};

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % 9 {
        0 => tree(bytes),
        1 => drop(slice::<ReceiverSlice>(bytes)),
        2 => slice::<FilterSlice>(bytes).iter().for_each(filter),
        3 => slice::<QueueSlice>(bytes).iter().for_each(|queue| drop(Recipients::for_reports(queue))),
        4 => drop(slice::<DeliverSlice>(bytes)),
        5 => drop(slice::<MailboxSlice>(bytes)),
        6 => drop(slice::<MasterSlice>(bytes)),
        7 => drop(slice::<ResolverSlice>(bytes)),
        _ => drop(slice::<Vec<Row>>(bytes)),
    }
});

fn tree(bytes: &[u8]) {
    let Ok(tree) = Value::from_bytes(bytes) else { return };
    let again = tree.to_bytes().expect("a tree from the wire is within its limits");
    assert_eq!(Value::from_bytes(&again).as_ref(), Ok(&tree));
    let context = Context {
        hostname: Domain::parse("mx.test").expect("a domain"),
        cores: 2,
        config_dir: "/etc/vsmtp".to_owned(),
        root: "/srv".to_owned(),
    };
    if let Ok(config) = Config::build(&context, &tree) {
        let filter = config.filter();
        assert_eq!(decode::<FilterSlice>(&encode(&filter).expect("it fits")), Ok(filter));
    }
}

/// Names and addresses in a slice are parsed on arrival, so equal values may have had other bytes.
fn slice<T: bincode::Encode + bincode::Decode<()> + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let slice: T = decode(bytes).ok()?;
    let again = encode(&slice).expect("what decodes encodes");
    assert_eq!(decode::<T>(&again).as_ref(), Ok(&slice));
    Some(slice)
}

fn filter(slice: &FilterSlice) {
    let recipients = Recipients::new(slice);
    for domain in &slice.domains {
        let Ok(address) = Address::new("Postmaster", Domain::clone(domain)) else { continue };
        assert!(recipients.is_own(domain) && recipients.has_mailbox(&address), "postmaster is always there");
        assert!((1..=2).contains(&recipients.forms(&address).len()));
    }
}
