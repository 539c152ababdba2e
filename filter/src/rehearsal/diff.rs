//! The lines in which two messages differ.

/// Most lines that are compared one by one; a larger part counts as replaced as a whole.
const MAX_COMPARED: usize = 2_000;
/// Most lines of a difference.
const MAX_LINES: usize = 1_000;

/// Lines that are gone behind `-`, lines that are new behind `+`, in the order of the messages.
pub fn lines(before: &[u8], after: &[u8]) -> Vec<String> {
    if before == after {
        return Vec::new();
    }
    let (before, after) = (split(before), split(after));
    let same_front = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
    let (before, after) =
        (before.get(same_front..).unwrap_or_default(), after.get(same_front..).unwrap_or_default());
    let same_back = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
    let (before, after) = (
        before.get(..before.len() - same_back).unwrap_or_default(),
        after.get(..after.len() - same_back).unwrap_or_default(),
    );
    let mut out = if before.len() > MAX_COMPARED || after.len() > MAX_COMPARED {
        let gone = before.iter().map(|line| format!("-{line}"));
        gone.chain(after.iter().map(|line| format!("+{line}"))).collect()
    } else {
        compared(before, after)
    };
    out.truncate(MAX_LINES);
    out
}

fn split(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.split_inclusive(|octet| *octet == b'\n');
    lines.map(|line| String::from_utf8_lossy(line).trim_end_matches(['\r', '\n']).to_owned()).collect()
}

/// By their longest common subsequence.
fn compared(before: &[String], after: &[String]) -> Vec<String> {
    let width = after.len() + 1;
    let mut longest = vec![0_u32; (before.len() + 1) * width];
    for (i, old) in before.iter().enumerate().rev() {
        for (j, new) in after.iter().enumerate().rev() {
            longest[i * width + j] = if old == new {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < before.len() || j < after.len() {
        if i < before.len() && j < after.len() && before[i] == after[j] {
            i += 1;
            j += 1;
        } else if j == after.len()
            || i < before.len() && longest[(i + 1) * width + j] >= longest[i * width + j + 1]
        {
            out.push(format!("-{}", before[i]));
            i += 1;
        } else {
            out.push(format!("+{}", after[j]));
            j += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn only_what_differs_is_told() {
        for (before, after, expected) in [
            ("a\r\nb\r\n", "a\r\nb\r\n", ""),
            ("a\r\nb\r\nc\r\n", "a\r\nx\r\nc\r\n", "-b +x"),
            ("a\r\nb\r\nc\r\n", "n\r\na\r\nc\r\n", "+n -b"),
            ("a\r\n", "a\r\nb\r\nc\r\n", "+b +c"),
            ("a\r\nb\r\n", "", "-a -b"),
        ] {
            assert_eq!(lines(before.as_bytes(), after.as_bytes()).join(" "), expected);
        }
    }

    #[test]
    fn large_messages_are_compared_in_bounded_time_and_space() {
        let text = |word: &str| (0..100_000).map(|n| format!("{word}{n}\r\n")).collect::<String>();
        assert_eq!(lines(text("a").as_bytes(), text("b").as_bytes()).len(), super::MAX_LINES);
    }
}
