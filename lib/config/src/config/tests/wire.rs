//! The tree of defaults, and slices on their way to processes.

use super::*;

#[test]
fn the_default_tree_is_the_default_configuration() {
    let tree = default_tree(&context());
    let config = Config::build(&context(), &tree).unwrap();
    assert_eq!(config.warnings(), []);
    let empty = with(&[]).unwrap();
    for role in Role::ALL {
        assert_eq!(slice(&config, role), slice(&empty, role));
    }
    assert!(config.show().iter().all(|row| row.is_default));
    assert_eq!(config.show().len(), keys().count());
    for section in ["server.tls", "server.queues.working", "server.virtual", "app.vsl", "server.esmtp"] {
        assert!(matches!(tree.at(section), Some(Value::Map(_))), "{section}");
    }
}

#[test]
fn the_default_tree_survives_the_wire() {
    let tree = default_tree(&context());
    assert_eq!(Value::from_bytes(&tree.to_bytes().unwrap()).unwrap(), tree);
}

#[test]
fn slices_survive_the_wire_and_nothing_else_does() {
    let mut settings: Vec<_> = keys()
        .filter(|key| !key.name.starts_with("server.logs"))
        .map(|key| (key.name, key.example.value(&context())))
        .collect();
    // Terms for tokens count beside keys for them.
    settings.push(("server.auth.backends", Value::List(["shadow", "oauth:keys.json"].map(text).to_vec())));
    // Where AUTH is off nobody must log in.
    settings.push(("server.esmtp.auth.must_be_authenticated", Value::Bool(false)));
    let config = with(&settings).unwrap();
    assert_eq!(decode::<MasterSlice>(&slice(&config, Role::Master)), Ok(config.master()));
    assert_eq!(decode::<ReceiverSlice>(&slice(&config, Role::Receiver)), Ok(config.receiver()));
    assert_eq!(decode::<FilterSlice>(&slice(&config, Role::Filter)), Ok(config.filter()));
    assert_eq!(decode::<QueueSlice>(&slice(&config, Role::Queue)), Ok(config.queue()));
    assert_eq!(decode::<DeliverSlice>(&slice(&config, Role::Deliver)), Ok(config.deliver()));
    assert_eq!(decode::<MailboxSlice>(&slice(&config, Role::Mailbox)), Ok(config.mailbox()));
    assert_eq!(decode::<AuthSlice>(&slice(&config, Role::Auth)), Ok(config.auth()));
    assert_eq!(decode::<ResolverSlice>(&slice(&config, Role::Resolver)), Ok(config.resolver()));
    assert_eq!(decode::<LimitsSlice>(&slice(&config, Role::Limits)), Ok(config.limits()));
    assert_eq!(decode::<KeysSlice>(&slice(&config, Role::Keys)), Ok(config.keys()));
    assert_eq!(decode::<RunnerSlice>(&slice(&config, Role::Runner)), Ok(config.runner()));
    assert_eq!(decode::<DatabaseSlice>(&slice(&config, Role::Database)), Ok(config.database()));

    let bytes = slice(&config, Role::Filter);
    for cut in 0..bytes.len() {
        assert!(decode::<FilterSlice>(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0xff;
        let _ = decode::<FilterSlice>(&flipped);
    }
}
