//! From one configuration to the next: the evaluation in a process of its own, and what is taken of it. A configuration
//! that is refused has changed nothing.

use mio::Interest;
use mio::unix::SourceFd;
use vsmtp_config::Config;
use vsmtp_daemon::Record;
use vsmtp_ipc::edge::ctl_master::Answer;
use vsmtp_sys::signals::sd_notify;

use super::Master;
use crate::boot;
use crate::error::Error;
use crate::evaluate::{self, Evaluation};
use crate::event::Event;
use crate::files::Files;
use crate::key_files;
use crate::log_sink::LogSink;
use crate::reload;

impl Master {
    /// Begins to evaluate the configuration again; the result comes as an event.
    pub(super) fn reload(&mut self) -> Result<(), Error> {
        if self.evaluation.is_some() || self.shutdown.is_some() {
            return Err(Error::System("a reload or a stop is under way already".to_owned()));
        }
        let context = evaluate::context(&self.layout, self.arguments.root.as_deref());
        let evaluation = Evaluation::start(&mut self.launcher, &self.layout, context)?;
        self.poll
            .registry()
            .register(&mut SourceFd(&evaluation.fd()), Event::Evaluation.token(), Interest::READABLE)
            .map_err(Error::io("watch the oneshot process"))?;
        self.evaluation = Some(evaluation);
        let _ = sd_notify("RELOADING=1");
        Ok(())
    }

    pub(super) fn look_at_evaluation(&mut self) {
        let Some(result) = self.evaluation.as_mut().and_then(Evaluation::look) else { return };
        self.evaluation = None;
        let taken = result.and_then(|config| self.take(config));
        match taken {
            Ok(()) => {
                Record::new("reloaded").field("generation", self.generation).emit();
                self.answer_reloader(&Answer::Done(format!("reloaded: generation {}", self.generation)));
            }
            Err(error) => {
                // The old configuration stays in force.
                for line in error.to_string().lines() {
                    Record::at(log::Level::Error, "reload-refused").field("error", line).emit();
                }
                self.answer_reloader(&Answer::Failed(error.to_string()));
            }
        }
        let _ = sd_notify("READY=1");
        if std::mem::take(&mut self.reload_again) {
            self.reload_by_signal();
        }
    }

    pub(super) fn answer_reloader(&mut self, answer: &Answer) {
        if let Some(asker) = self.reloader.take() {
            self.connections.answer_late(asker, answer);
        }
    }

    fn take(&mut self, config: Config) -> Result<(), Error> {
        let slice = config.master();
        if self.config.master().spool != slice.spool || self.config.master().mail_root != slice.mail_root {
            return Err(Error::Config(
                "the spool and the mail root cannot change without a restart".to_owned(),
            ));
        }
        // What can fail comes first: a configuration that is refused has changed nothing.
        Files::check(&slice.password_files, &slice.token_keys)?;
        let log = LogSink::new(slice.log);
        let opened = boot::open_log(&log)?;
        let key_files = key_files::open(&config.keys())?;
        self.listeners.rebind(&slice.listeners, slice.receivers)?;
        boot::point(&log, opened);
        self.launcher.log = log;
        boot::report_warnings(&config);
        self.generation += 1;
        let moved = self.readings.moved(&config);
        reload::turn_over(&mut self.family, &self.config, &config, self.generation, &moved, key_files);
        reload::hurry_oldest(&mut self.family, self.generation);
        reload::hand_out_log(&mut self.family, &self.launcher.log);
        self.config = config;
        Ok(())
    }
}
