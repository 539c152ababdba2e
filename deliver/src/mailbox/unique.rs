//! File names of Maildir deliveries: unique among all processes of all hosts that share the folder, over restarts too.

/// Makes names such as `1795324249.M051049P77T2Q9.mail.example.com`.
#[derive(Debug)]
pub struct UniqueNames {
    process: u32,
    thread: usize,
    host: String,
    counter: u64,
    now_us: fn() -> u64,
}

impl UniqueNames {
    /// `process` differs for every process ever started here; `now_us` is the wall clock in microseconds.
    pub fn new(process: u32, thread: usize, host: &str, now_us: fn() -> u64) -> Self {
        // As Maildir has it: `/` and `:` cannot stand in the host part.
        let host = host.chars().map(|c| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' });
        UniqueNames { process, thread, host: host.collect(), counter: 0, now_us }
    }

    /// A name that no call returned before.
    pub fn next(&mut self) -> String {
        self.counter += 1;
        let now = (self.now_us)();
        format!(
            "{}.M{:06}P{}T{}Q{}.{}",
            now / 1_000_000,
            now % 1_000_000,
            self.process,
            self.thread,
            self.counter,
            self.host
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_though_the_clock_stands_still() {
        let mut names = UniqueNames::new(77, 2, "mail.example.com/:x", || 1_795_324_249_051_049);
        assert_eq!(names.next(), "1795324249.M051049P77T2Q1.mail.example.com__x");
        assert_ne!(names.next(), names.next());
    }
}
