//! Continuous load: clients that send letters, remember every answer, and send again what was not accepted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crate::{Client, Dice, Letter};

/// Most letters over one connection.
const PER_CONNECTION: u64 = 12;
/// A client that finds nobody home tries again after this.
const NOBODY_HOME: Duration = Duration::from_millis(10);

/// What became of one attempt, as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// 250 after the final dot.
    Accepted,
    /// Another code after the final dot.
    Refused(u16),
    /// Another code before the final dot was sent.
    Declined(u16),
    /// The final dot was sent and nothing came back.
    Unanswered,
    /// The connection ended before the final dot was sent.
    Broken,
}

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// What was sent.
    pub letter: Letter,
    /// When its MAIL was sent.
    pub began: SystemTime,
    /// When its fate was known.
    pub ended: SystemTime,
    /// That fate.
    pub fate: Fate,
}

/// Running clients. They end when this is dropped.
pub struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    port: u16,
    pause: Duration,
    stopped: AtomicBool,
    next: AtomicU64,
    turned_away: AtomicU64,
    attempts: Mutex<Vec<Attempt>>,
}

impl Traffic {
    /// So many clients, each with a pause between two letters.
    pub fn start(port: u16, clients: u64, pause: Duration) -> Traffic {
        let shared = Arc::new(Shared {
            port,
            pause,
            stopped: AtomicBool::new(false),
            next: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            attempts: Mutex::new(Vec::new()),
        });
        let client = |n| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.send_letters(Dice::new(n)))
        };
        let threads = (0..clients).map(client).collect();
        Traffic { shared, threads }
    }

    /// How many letters have been accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.attempts().iter().filter(|attempt| attempt.fate == Fate::Accepted).count() as u64
    }

    /// True if a letter has been accepted whose attempt began after that moment.
    pub fn accepted_since(&self, moment: SystemTime) -> bool {
        let newest_first = |attempt: &&Attempt| attempt.ended > moment;
        self.shared
            .attempts()
            .iter()
            .rev()
            .take_while(newest_first)
            .any(|attempt| attempt.fate == Fate::Accepted && attempt.began > moment)
    }

    /// What became of all attempts so far.
    pub fn fates(&self) -> Vec<Fate> {
        self.shared.attempts().iter().map(|attempt| attempt.fate).collect()
    }

    /// Connections that were not greeted with 220 and answered with 250 to EHLO, other than by nobody listening.
    pub fn turned_away(&self) -> u64 {
        self.shared.turned_away.load(Ordering::SeqCst)
    }

    /// Has every client finish the attempt it is at, and tells of all of them.
    pub fn finish(mut self) -> Vec<Attempt> {
        self.end();
        std::mem::take(&mut *self.shared.attempts())
    }

    fn end(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a client panicked");
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn attempts(&self) -> MutexGuard<'_, Vec<Attempt>> {
        self.attempts.lock().expect("the list of attempts")
    }

    fn send_letters(&self, mut dice: Dice) {
        let mut again: Option<Letter> = None;
        while !self.stopped.load(Ordering::SeqCst) {
            let mut client = match Client::try_hello(self.port) {
                Ok(client) => client,
                Err(said) => {
                    self.turned_away.fetch_add(u64::from(said.is_some()), Ordering::SeqCst);
                    std::thread::sleep(NOBODY_HOME);
                    continue;
                }
            };
            for _ in 0..=dice.below(PER_CONNECTION) {
                let letter = again.take().unwrap_or_else(|| self.next_letter());
                let began = SystemTime::now();
                let fate = send_letter(&mut client, letter, dice.below(2) == 0);
                self.attempts().push(Attempt { letter, began, ended: SystemTime::now(), fate });
                if fate != Fate::Accepted {
                    again = Some(Letter { attempt: letter.attempt + 1, ..letter });
                }
                std::thread::sleep(self.pause);
                let goes_on = match fate {
                    Fate::Accepted => true,
                    Fate::Refused(code) | Fate::Declined(code) => {
                        code != 421 && client.try_say("RSET").code() == 250
                    }
                    Fate::Unanswered | Fate::Broken => false,
                };
                if !goes_on || self.stopped.load(Ordering::SeqCst) {
                    break;
                }
            }
            client.try_say("QUIT");
        }
    }

    fn next_letter(&self) -> Letter {
        Letter { number: self.next.fetch_add(1, Ordering::SeqCst), attempt: 1 }
    }
}

/// One transaction, command by command or all at once up to DATA.
pub fn send_letter(client: &mut Client, letter: Letter, pipelined: bool) -> Fate {
    let mut commands = vec!["MAIL FROM:<load@src.test>".to_owned()];
    commands.extend(letter.recipients().iter().map(|to| format!("RCPT TO:<{to}>")));
    commands.push("DATA".to_owned());
    if pipelined && !client.try_send(format!("{}\r\n", commands.join("\r\n")).as_bytes()) {
        return Fate::Broken;
    }
    let mut refused = None;
    for command in &commands {
        let code = if pipelined { client.try_reply().code() } else { client.try_say(command).code() };
        match code {
            0 => return refused.map_or(Fate::Broken, Fate::Declined),
            250 | 354 if refused.is_none() => {}
            // All or nothing: what a partly refused letter was is not worth telling apart.
            354 => return Fate::Declined(421),
            code if pipelined => refused = refused.or(Some(code)),
            code => return Fate::Declined(code),
        }
    }
    if let Some(code) = refused {
        return Fate::Declined(code);
    }
    let stuffed = letter.text().replace("\r\n.", "\r\n..");
    if !client.try_send(format!("{stuffed}.\r\n").as_bytes()) {
        return Fate::Broken;
    }
    match client.try_reply().code() {
        250 => Fate::Accepted,
        0 => Fate::Unanswered,
        code => Fate::Refused(code),
    }
}
