//! Kills processes of a loaded MTA at random moments and takes stock when all is quiet.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::{
    Audit, Dice, Disk, Kill, Letter, Mta, NameServer, Process, Settings, Sink, Strace, Traffic, is_alive,
    wait_until,
};

/// Every so many commands the next hop asks to come back later.
const MOOD: u64 = 41;
/// Fields that the rules of these runs add. Each message must have them exactly once: an edit is made once, whoever dies.
const EDITS: [&str; 2] = ["X-Preq:", "X-Postq:"];
const RULES: &str = "#{ preq: [ action \"mark before\" || msg::append_header(\"X-Preq\", \"yes\") ], \
                        postq: [ action \"mark after\" || msg::append_header(\"X-Postq\", \"yes\") ] }";
/// Clients at once, and the pause of each after every letter.
const CLIENTS: u64 = 8;
const PAUSE: Duration = Duration::from_millis(10);
/// At most so many letters are accepted between one kill's recovery and the next kill.
const MOST_BETWEEN: u64 = 25;
/// A death at a system call comes at one of the next so many of its kind.
const LATEST_CALL: u64 = 12;
/// The master finds out within a minute that a process hangs.
const HANG: Duration = Duration::from_secs(90);
/// The queue drains within this.
const DRAIN: Duration = Duration::from_secs(120);
/// Children are back within this, also one whose role is throttled because it dies before it has had anything to do.
const READY: Duration = Duration::from_secs(60);
/// How long a master may be refused to start while the children of a killed one end.
const RESTART: Duration = Duration::from_secs(10);

/// What can be killed.
pub const CHILDREN: [&str; 8] = [
    "receiver",
    "filter-session",
    "filter-post",
    "queue-manager",
    "deliver-smtp",
    "deliver-mailbox",
    "resolver",
    "limits",
];
/// The master alone; its children end by themselves.
pub const MASTER: &str = "master";
/// All processes at once.
pub const SYSTEM: &str = "system";

/// Not a death: the configuration is read again.
pub const RELOAD: &str = "reload";
/// Not a death: an orderly stop, and a new start.
pub const STOP: &str = "stop";

/// A loaded MTA with its next hop.
pub struct Campaign {
    /// The MTA.
    pub mta: Mta,
    /// Its next hop.
    pub sink: Sink,
    /// Its clients.
    pub traffic: Traffic,
    _names: NameServer,
    dice: Dice,
    kills: Vec<Kill>,
    /// Pids of killed children. The master may still think that they live.
    dead: Vec<u32>,
    recoveries: BTreeMap<String, Vec<Duration>>,
}

impl Campaign {
    /// Starts everything and waits for the first accepted letter.
    pub fn start(seed: u64) -> Campaign {
        Campaign::start_on(seed, |_| ()).0
    }

    /// As `start`, and lets the test do something with the folder before anything runs.
    pub fn start_on<T>(seed: u64, prepare: impl FnOnce(&Mta) -> T) -> (Campaign, T) {
        let (sink, names) = (moody_sink(), NameServer::start());
        let config = format!(
            "{} config.delivery.relayhost = \"[sink.test]:{}\"; config.queue.segment_size = \"4MiB\";\n\
             config.queue.backoff.min = \"1s\"; config.queue.backoff.max = \"2s\";",
            names.config(),
            sink.port()
        );
        let mut mta = Mta::prepare(&Settings { config, filter: RULES.to_owned() });
        let prepared = prepare(&mta);
        mta.launch();
        let traffic = Traffic::start(mta.port(), CLIENTS, PAUSE);
        let campaign = Campaign {
            mta,
            sink,
            traffic,
            _names: names,
            dice: Dice::new(seed),
            kills: Vec::new(),
            dead: Vec::new(),
            recoveries: BTreeMap::new(),
        };
        wait_until("traffic flows", || campaign.traffic.accepted() > 0);
        (campaign, prepared)
    }

    /// Kills each victim so many times, in random order, each time waiting until the service is back.
    pub fn kill_each(&mut self, victims: &[&str], times: usize) {
        let mut order: Vec<&str> = victims.iter().flat_map(|victim| vec![*victim; times]).collect();
        self.dice.shuffle(&mut order);
        for victim in order {
            self.wait_for_a_moment();
            self.kill(victim);
        }
    }

    /// Kills two victims one right after the other, in random pairs, and waits until the service is back.
    pub fn kill_pairs(&mut self, victims: &[&str], times: usize) {
        for _ in 0..times {
            let mut pair = victims.to_vec();
            self.dice.shuffle(&mut pair);
            self.wait_for_a_moment();
            for victim in pair.iter().take(2) {
                self.strike(victim);
            }
            let began = SystemTime::now();
            self.wait_for_service(began);
        }
    }

    /// Stops the clients, waits until the queue is empty, and takes stock.
    pub fn finish(self) -> (Audit, String) {
        let Campaign { mta, sink, traffic, kills, recoveries, .. } = self;
        let attempts = traffic.finish();
        let began = Instant::now();
        while mta.queued() > 0 {
            let left = mta.ctl(&["queue", "list", "--limit", "20"]);
            let list = || String::from_utf8_lossy(&left.stdout).into_owned();
            assert!(began.elapsed() < DRAIN, "{} messages do not leave the queue\n{}", mta.queued(), list());
            std::thread::sleep(Duration::from_millis(50));
        }
        let audit = Audit::of(&attempts, &kills, &mta, &sink, &EDITS);
        let mut text = format!("{audit}; {} kills, drained {:?}", kills.len(), began.elapsed());
        for (victim, mut times) in recoveries {
            let _ = write!(text, "\n  {victim}: {}", spread(&mut times));
        }
        (audit, text)
    }

    /// Lets a random number of letters be accepted, so that the next kill hits at a random moment of a working system.
    pub fn wait_for_a_moment(&mut self) {
        let target = self.traffic.accepted() + self.dice.below(MOST_BETWEEN);
        wait_until("traffic flows", || self.traffic.accepted() >= target);
        std::thread::sleep(Duration::from_micros(self.dice.below(20_000)));
    }

    /// Kills and waits until a letter that was begun after it is accepted and everybody is ready again.
    pub fn kill(&mut self, victim: &str) {
        let killed = Instant::now();
        let at = self.strike(victim);
        self.wait_for_service(at);
        self.recoveries.entry(victim.to_owned()).or_default().push(killed.elapsed());
    }

    /// A child stands still for a while, and goes on as if nothing had been.
    pub fn pause(&mut self, role: &str, while_: Duration) {
        let (_, pid) = self.pick(role).expect("a living process");
        crate::signal(&[pid], "STOP");
        std::thread::sleep(while_);
        crate::signal(&[pid], "CONT");
        self.wait_for_service(SystemTime::now());
    }

    /// One child of each role stands still for ever. It is for the master to find out.
    pub fn hang(&mut self, roles: &[&str]) {
        let from = SystemTime::now();
        let victims: Vec<(String, u32)> = roles.iter().filter_map(|role| self.pick(role)).collect();
        let pids: Vec<u32> = victims.iter().map(|(_, pid)| *pid).collect();
        crate::signal(&pids, "STOP");
        while pids.iter().any(|pid| is_alive(*pid)) {
            assert!(from.elapsed().unwrap_or_default() < HANG, "{victims:?} hang and nobody minds");
            std::thread::sleep(Duration::from_millis(100));
        }
        let until = SystemTime::now();
        self.dead.extend(pids);
        self.kills.extend(victims.into_iter().map(|(victim, _)| Kill { victim, from, until }));
        self.wait_for_service(until);
        self.recoveries.entry("hanging".to_owned()).or_default().push(from.elapsed().unwrap_or_default());
    }

    /// The power fails: every process stops at once, what the disk has not been told to keep is gone, and all starts anew.
    pub fn cut_power(&mut self, disk: &mut Disk) {
        let from = SystemTime::now();
        self.mta.freeze();
        disk.forget();
        self.mta.crash();
        disk.mount_again();
        self.mta.launch();
        let until = SystemTime::now();
        self.kills.push(Kill { victim: SYSTEM.to_owned(), from, until });
        self.wait_for_service(until);
        self.recoveries
            .entry("power".to_owned())
            .or_default()
            .push(until.duration_since(from).unwrap_or_default());
    }

    /// Has a child die at a system call, one of the next few that it makes, and waits until the service is back. All
    /// processes of the role are set up for it, because some may have nothing to do.
    pub fn kill_at(&mut self, role: &str, call: &str) {
        let processes = self.mta.processes();
        let pids: Vec<u32> = processes.iter().filter(|p| p.name.starts_with(role)).map(|p| p.pid).collect();
        let from = SystemTime::now();
        let rule = format!("{call}:signal=KILL:when={}", 1 + self.dice.below(LATEST_CALL));
        let straces: Vec<Strace> = pids.iter().map(|pid| Strace::inject(*pid, &[&rule])).collect();
        wait_until(&format!("a {role} has died at {call}"), || pids.iter().any(|pid| !is_alive(*pid)));
        drop(straces);
        let until = SystemTime::now();
        self.dead.extend(pids.iter().filter(|pid| !is_alive(**pid)));
        self.kills.push(Kill { victim: role.to_owned(), from, until });
        self.wait_for_service(until);
        self.recoveries
            .entry(format!("{role} at {call}"))
            .or_default()
            .push(until.elapsed().unwrap_or_default());
    }

    fn strike(&mut self, victim: &str) -> SystemTime {
        // Noted before, so that nothing that the kill causes comes earlier.
        let from = SystemTime::now();
        let name = match victim {
            SYSTEM => {
                self.mta.crash();
                self.mta.launch();
                SYSTEM.to_owned()
            }
            MASTER => {
                self.mta.kill_master();
                self.restart();
                MASTER.to_owned()
            }
            RELOAD => {
                self.mta.hang_up();
                RELOAD.to_owned()
            }
            STOP => {
                self.mta.stop();
                self.mta.launch();
                STOP.to_owned()
            }
            role => match self.pick(role) {
                Some((name, pid)) => {
                    crate::signal(&[pid], "KILL");
                    self.dead.push(pid);
                    name
                }
                None => return from,
            },
        };
        let until = SystemTime::now();
        self.kills.push(Kill { victim: name, from, until });
        until
    }

    fn pick(&mut self, role: &str) -> Option<(String, u32)> {
        let found = self.mta.processes();
        let living: Vec<_> =
            found.into_iter().filter(|process| process.name.starts_with(role) && process.pid != 0).collect();
        let one = living.get(self.dice.below(living.len() as u64) as usize)?;
        Some((one.name.clone(), one.pid))
    }

    /// As a service manager would: again and again until it stays up.
    fn restart(&mut self) {
        let began = Instant::now();
        while let Err(said) = self.mta.try_launch() {
            assert!(began.elapsed() < RESTART, "the master does not start again: {said}");
        }
    }

    fn wait_for_service(&self, since: SystemTime) {
        let began = Instant::now();
        loop {
            let processes = self.mta.processes();
            let is_at_work = |p: &Process| (p.is_ready || p.is_draining) && !self.dead.contains(&p.pid);
            if !processes.is_empty() && processes.iter().all(is_at_work) {
                break;
            }
            assert!(began.elapsed() < READY, "not all are ready again: {processes:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        wait_until("letters are accepted again", || self.traffic.accepted_since(since));
        let (sent, filed) = (self.sink.count(), self.filed());
        wait_until("letters are delivered again", || self.sink.count() > sent && self.filed() > filed);
    }

    fn filed(&self) -> usize {
        Letter::mailboxes().iter().map(|user| self.mta.mail_count("local.test", user)).sum()
    }
}

/// Takes most; refuses one recipient for good, and a command now and then for the moment.
fn moody_sink() -> Sink {
    let commands = AtomicU64::new(0);
    Sink::scripted(move |line| {
        if line.contains(Letter::UNKNOWN) {
            return Some("550 5.1.1 nobody of that name".to_owned());
        }
        let moody = ["MAIL", "RCPT", "."].iter().any(|word| line.starts_with(word))
            && commands.fetch_add(1, Ordering::SeqCst) % MOOD == MOOD - 1;
        moody.then(|| "451 4.3.0 not now".to_owned())
    })
}

/// Median and worst.
fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let worst = times.last().copied().unwrap_or_default();
    format!(
        "killed {} times, back after {} ms (worst {} ms)",
        times.len(),
        median.as_millis(),
        worst.as_millis()
    )
}
