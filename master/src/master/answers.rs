//! What vsmtpctl asks of the loop. No answer keeps the loop waiting: what takes time is answered later.

use vsmtp_ipc::edge::ctl_master::{Answer, ProcessStatus, Request};
use vsmtp_ipc::edge::master_child::{LimitsRequest, ToChild};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::BrakesRequest;
use vsmtp_sys::clock;

use super::Master;
use crate::family::Life;

impl Master {
    /// `None`: the answer comes later.
    pub(super) fn answer(&mut self, at: usize, request: &Request) -> Option<Answer> {
        Some(match request {
            Request::Status => Answer::Processes(self.processes(false)),
            Request::Processes => Answer::Processes(self.processes(true)),
            Request::Config => match vsmtp_config::encode(&self.config.show()) {
                Ok(bytes) => Answer::Config(bytes),
                Err(error) => Answer::Failed(error.to_string()),
            },
            Request::Reload => match self.reload() {
                Ok(()) => {
                    self.reloader = self.connections.asker(at);
                    return None;
                }
                Err(error) => Answer::Failed(error.to_string()),
            },
            Request::Limits(request) => return self.ask_limiter(at, *request),
            Request::Brakes(request) => return self.ask_helper(at, request.clone()),
            Request::Stop => {
                self.stop();
                Answer::Done("stopping".to_owned())
            }
        })
    }

    /// Passes a question on to the limiter, whose answer comes later.
    fn ask_limiter(&mut self, at: usize, request: LimitsRequest) -> Option<Answer> {
        let Some(limiter) = self.family.children().find(|child| child.name.role == Role::Limits) else {
            return Some(Answer::Failed("the limiter does not run just now".to_owned()));
        };
        let ticket = self.connections.ticket(at, limiter.name)?;
        limiter.say(&ToChild::Limits { ticket, request }, None);
        None
    }

    /// The same for the auth helper, of the present generation: those of earlier ones count for sessions that are nearly over.
    fn ask_helper(&mut self, at: usize, request: BrakesRequest) -> Option<Answer> {
        let Some(helper) = self.family.staying(Role::Auth) else {
            let is_due = self.family.slots().any(|(name, slot)| name.role == Role::Auth && !slot.retiring);
            let failed = || Answer::Failed("the auth helper does not run just now".to_owned());
            return Some(if is_due { failed() } else { Answer::Brakes(None) });
        };
        let ticket = self.connections.ticket(at, helper.name)?;
        helper.say(&ToChild::Brakes { ticket, request }, None);
        None
    }

    /// Figures for people who watch, jails for people who compare: never both, so that an answer stays small.
    fn processes(&mut self, with_jail: bool) -> Vec<ProcessStatus> {
        let now = clock::monotonic_ms();
        let status = |(name, slot): (ProcessName, &crate::family::Slot)| {
            let child = match &slot.life {
                Life::Running(child) => Some(child),
                Life::Waiting { .. } => None,
            };
            ProcessStatus {
                name,
                pid: child.map_or(0, |child| child.process.pid.unsigned_abs()),
                generation: slot.generation,
                state: child.map_or("waiting", |child| child.state.name()).to_owned(),
                restarts: slot.restarts,
                age_s: child.map_or(0, |child| now.saturating_sub(child.started_ms) / 1000),
                figures: child.filter(|_| !with_jail).map_or_else(Vec::new, |child| child.figures.clone()),
                declared: child
                    .filter(|_| with_jail)
                    .map_or_else(String::new, |child| child.declared.clone()),
            }
        };
        self.family.slots().map(status).collect()
    }
}
