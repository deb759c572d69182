//! "Did you mean": the nearest of the names that would have been right.

/// The candidate that a typing mistake most likely turned into `name`.
pub(super) fn suggestion<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.chars().count() > LONGEST {
        return None;
    }
    let tolerated = (name.chars().count() / 3).clamp(1, 3);
    let near = candidates.into_iter().map(|candidate| (distance(name, candidate), candidate));
    near.filter(|(distance, _)| *distance <= tolerated)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, in characters and without regard to case or the kind of dash.
fn distance(a: &str, b: &str) -> usize {
    let fold =
        |text: &str| text.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect::<Vec<_>>();
    let (a, b) = (fold(a), fold(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// No name is longer; a longer one is no typing mistake and must not cost quadratic time.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_far_ones_are_not_guessed() {
        let names = ["http_port", "bind", "audit_enabled"];
        assert_eq!(suggestion("htpp_port", names), Some("http_port"));
        assert_eq!(suggestion("HTTP-Port", names), Some("http_port"));
        assert_eq!(suggestion("bund", names), Some("bind"));
        assert_eq!(suggestion("colour", names), None);
        assert_eq!(suggestion(&"x".repeat(1 << 20), names), None);
        assert_eq!(distance("", "abc"), 3);
    }
}
