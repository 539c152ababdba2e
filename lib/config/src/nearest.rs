//! The key that someone probably meant.

use crate::keys::keys;

/// Longest name that is compared, in characters.
const MAX_COMPARED: usize = 96;

/// The key nearest to an unknown name: one with few letters wrong, or one whose last part stands in another section.
pub fn nearest_key(name: &str) -> Option<&'static str> {
    if name.chars().nth(MAX_COMPARED).is_some() {
        return None;
    }
    let close = keys()
        .map(|key| (distance(name, key.name), key.name))
        .min()
        .filter(|(distance, key)| *distance <= allowed(key))
        .map(|(_, key)| key);
    close.or_else(|| in_another_section(name))
}

/// A third of the letters may be wrong, and never more than five.
fn allowed(name: &str) -> usize {
    (name.len() / 6).clamp(1, 5)
}

fn in_another_section(name: &str) -> Option<&'static str> {
    let last = |name: &'_ str| name.rsplit('.').next().map(str::to_owned);
    let wanted = last(name)?;
    let mut found = keys().filter(|key| {
        last(key.name)
            .is_some_and(|part| part == wanted || distance(&part, &wanted) <= usize::from(wanted.len() > 5))
    });
    let first = found.next()?;
    found.next().is_none().then_some(first.name)
}

/// Edit distance that counts a swap of neighbours as one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
    let (mut before, mut above): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    let mut last = None;
    for (i, from) in a.chars().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let changed = at(&above, j) + usize::from(from != *to);
            let best = changed.min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = j > 0 && b.get(j - 1) == Some(&from) && last == Some(*to);
            row.push(if swapped { best.min(at(&before, j - 1) + 1) } else { best });
        }
        before = std::mem::replace(&mut above, row);
        last = Some(from);
    }
    at(&above, b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("naem", "name"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn suggestions() {
        assert_eq!(nearest_key("server.naem"), Some("server.name"));
        assert_eq!(nearest_key("server.smtp.rcpt_cuont_max"), Some("server.smtp.rcpt_count_max"));
        assert_eq!(nearest_key("server.rcpt_count_max"), Some("server.smtp.rcpt_count_max"));
        assert_eq!(nearest_key("relayhost"), Some("delivery.relayhost"));
        assert_eq!(nearest_key("queue.life_time"), Some("queue.lifetime"));
        assert_eq!(nearest_key("server.colour"), None);
        assert_eq!(nearest_key(&"x".repeat(1 << 20)), None);
    }
}
