//! One message from a file, through all stages.

use vsmtp_ipc::edge::ctl_filter::{Trial, Tried};

use super::{Rehearsal, Scene};
use crate::object::Fault;
use crate::stage::Stage;

/// Has the rules judge it. A refusal ends the trial, but for recipients: the others follow.
///
/// # Errors
/// What was given is no message, no address, no stage, no record: text for the operator.
pub fn run(scene: &Scene, trial: &Trial) -> Result<Tried, Fault> {
    let until = match trial.until.as_deref() {
        None => Stage::Delivery,
        Some(name) => Stage::parse(name).ok_or_else(|| Fault(format!("there is no stage '{name}'")))?,
    };
    scene.begin();
    scene.zone.read(&trial.dns).map_err(|fault| Fault(format!("DNS: {}", fault.0)))?;
    let mut client = Rehearsal::new(scene, trial.client);
    converse(&mut client, trial, until)?;
    Ok(Tried { steps: scene.recorder.steps(), heard: client.heard, kept: client.kept })
}

fn converse(client: &mut Rehearsal, trial: &Trial, until: Stage) -> Result<(), Fault> {
    if trial.user.is_some() {
        client.submit();
    }
    client.greet()?;
    if !is_on(client) || until < Stage::Helo {
        return Ok(());
    }
    client.helo(&trial.helo)?;
    if !is_on(client) {
        return Ok(());
    }
    if let Some(user) = trial.user.as_deref().filter(|_| until >= Stage::Authenticate) {
        client.authenticate(user)?;
        if !is_on(client) {
            return Ok(());
        }
    }
    if until < Stage::Mail {
        return Ok(());
    }
    client.mail(&trial.from)?;
    if !is_on(client) || until < Stage::Rcpt {
        return Ok(());
    }
    for to in &trial.recipients {
        client.rcpt(to)?;
        if client.is_closed() {
            return Ok(());
        }
    }
    if until >= Stage::Preq {
        client.message(&trial.message, until)?;
    }
    Ok(())
}

/// The last command was taken.
fn is_on(client: &Rehearsal) -> bool {
    client.heard.last().is_some_and(|heard| heard.is_accepted)
}
