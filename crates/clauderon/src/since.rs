//! `--since`: a moment, given as an age or as a time.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Parses `90s`, `10m`, `2h`, `7d` (ago) or an RFC 3339 time.
pub(crate) fn parse(text: &str) -> Result<OffsetDateTime, String> {
    parse_at(text, OffsetDateTime::now_utc())
}

fn parse_at(text: &str, now: OffsetDateTime) -> Result<OffsetDateTime, String> {
    let ago = age(text).and_then(|age| now.checked_sub(age.try_into().ok()?));
    ago.or_else(|| OffsetDateTime::parse(text, &Rfc3339).ok())
        .ok_or_else(|| "expected an age such as `10m`, `2h` or `7d`, or a time such as `2026-01-31T12:00:00Z`".into())
}

fn age(text: &str) -> Option<Duration> {
    let seconds = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86400,
        _ => return None,
    };
    let count = text.get(..text.len() - 1)?;
    let count: u64 = count.bytes().all(|b| b.is_ascii_digit()).then(|| count.parse().ok()).flatten()?;
    count.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn ages_and_times_are_moments() {
        let now = OffsetDateTime::parse("2026-03-02T12:00:00Z", &Rfc3339).unwrap();
        for (text, moment) in [
            ("90s", "2026-03-02T11:58:30Z"),
            ("2h", "2026-03-02T10:00:00Z"),
            ("1d", "2026-03-01T12:00:00Z"),
            ("2025-01-01T00:00:00+01:00", "2024-12-31T23:00:00Z"),
        ] {
            assert_eq!(parse_at(text, now).unwrap(), OffsetDateTime::parse(moment, &Rfc3339).unwrap(), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in
            ["", "h", "-1h", "+1h", "10", "1y", "é", "99999999999999999999d", "18446744073709551615s", "yesterday"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
