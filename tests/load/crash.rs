//! Kills the processes of a loaded MTA for as long as one likes, and takes stock:
//!
//! ```sh
//! make release && cargo run --release -p vsmtp-tests --example crash -- --seed 1 --kills 300
//! ```
//!
//! `--victims` names those that are killed, separated by commas: children, `master`, `system`; `reload` and `stop` do what
//! they say and kill nobody. `--pairs` takes two at once. Ends with an error if anything was lost, torn, or doubled without a reason.

use std::process::ExitCode;

use vsmtp_tests::{CHILDREN, Campaign, MASTER, SYSTEM, say};

const USAGE: &str = "crash [--seed N] [--kills N] [--victims NAME,NAME...] [--pairs]";

struct Wish {
    seed: u64,
    kills: usize,
    victims: Vec<String>,
    pairs: bool,
}

fn wish(mut words: impl Iterator<Item = String>) -> Option<Wish> {
    let everybody = CHILDREN.iter().chain([&MASTER, &SYSTEM]).map(|name| (*name).to_owned()).collect();
    let mut wish = Wish { seed: 1, kills: 90, victims: everybody, pairs: false };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seed" => wish.seed = words.next()?.parse().ok()?,
            "--kills" => wish.kills = words.next()?.parse().ok()?,
            "--victims" => wish.victims = words.next()?.split(',').map(str::to_owned).collect(),
            "--pairs" => wish.pairs = true,
            _ => return None,
        }
    }
    (!wish.victims.is_empty()).then_some(wish)
}

fn main() -> ExitCode {
    let Some(wish) = wish(std::env::args().skip(1)) else {
        say(USAGE);
        return ExitCode::from(2);
    };
    let victims: Vec<&str> = wish.victims.iter().map(String::as_str).collect();
    let mut campaign = Campaign::start(wish.seed);
    if wish.pairs {
        campaign.kill_pairs(&victims, wish.kills.div_ceil(2));
    } else {
        campaign.kill_each(&victims, wish.kills.div_ceil(victims.len()));
    }
    let (audit, text) = campaign.finish();
    say(&text);
    if audit.is_clean() {
        return ExitCode::SUCCESS;
    }
    say(&format!("{audit:#?}"));
    ExitCode::FAILURE
}
