//! `--role oneshot`: evaluates the configuration once, inside the jail, says the result, and ends.

use std::path::Path;
use std::sync::Arc;

use vsmtp_daemon::{Boot, BootError, Daemon, Event, Flow, Reactor};
use vsmtp_ipc::edge::master_child::{Evaluate, ToMaster};
use vsmtp_sys::sandbox::Profile;

use super::sandbox;
use crate::api::Surroundings;
use crate::database::NoAsker;
use crate::limiter::NoLimiter;
use crate::names::Nobody;
use crate::oneshot;
use crate::plugins::Files;
use crate::runner::NoRunner;
use crate::signer::NoSigner;

/// The process.
pub struct Oneshot {
    request: Evaluate,
    host: Surroundings,
    /// Until they are loaded.
    plugins: Files,
}

impl Daemon for Oneshot {
    const NAME: &'static str = "vsmtp-filter";
    type Slice = Evaluate;

    fn before_jail(boot: Boot<Evaluate>) -> Result<Self, BootError> {
        let host = Surroundings {
            hostname: boot.slice.hostname.clone(),
            ..super::surroundings(
                Arc::new(Nobody),
                Arc::new(NoSigner),
                Arc::new(NoLimiter),
                Arc::new(NoRunner),
                Arc::new(NoAsker),
            )
        };
        let plugins = Path::new(&boot.slice.config_path).parent().map(Files::look).unwrap_or_default();
        Ok(Oneshot { request: boot.slice, host, plugins })
    }

    fn profile(&self) -> Profile {
        let folder = Path::new(&self.request.config_path).parent().map(Path::to_owned);
        sandbox::with_plugins(sandbox::oneshot(folder), &self.plugins.paths())
    }

    fn after_jail(&mut self, reactor: &mut Reactor) -> Result<(), BootError> {
        self.host.plugins = std::mem::take(&mut self.plugins).load();
        let answer = oneshot::answer(&self.request, &self.host);
        reactor.tell_master(&ToMaster::Evaluated(answer));
        Ok(())
    }

    fn on_event(&mut self, _: &mut Reactor, event: Event) -> Flow {
        // The end of the first turn: the answer is about to be flushed.
        if matches!(event, Event::TurnEnd) { Flow::Exit } else { Flow::Continue }
    }
}
