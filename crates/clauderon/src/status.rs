//! `--status`: which answers are meant.

/// Statuses of answers, as `audit query` filters them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statuses {
    /// From the first to the last, both included.
    Range(u16, u16),
    /// No answer at all.
    None,
}

impl Statuses {
    /// Parses `404`, `4xx`, `>=400`, `<300` or `none`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Self::read(text).ok_or_else(|| "expected a status such as `404`, `4xx`, `>=400`, `<300` or `none`".into())
    }

    /// Whether an answer with this status is meant.
    pub(crate) fn contains(self, status: Option<u16>) -> bool {
        match (self, status) {
            (Self::Range(first, last), Some(status)) => (first..=last).contains(&status),
            (Self::None, status) => status.is_none(),
            (Self::Range(..), None) => false,
        }
    }

    fn read(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::None);
        }
        if let Some(class) = text.strip_suffix("xx") {
            let class = number(class).filter(|class| (1..=5).contains(class))?;
            return Some(Self::Range(class * 100, class * 100 + 99));
        }
        let digits = text.trim_start_matches(['<', '>', '=']);
        let status = number(digits).filter(|status| (100..=599).contains(status))?;
        match text.strip_suffix(digits)? {
            "" | "=" => Some(Self::Range(status, status)),
            ">=" => Some(Self::Range(status, u16::MAX)),
            ">" => Some(Self::Range(status + 1, u16::MAX)),
            "<=" => Some(Self::Range(0, status)),
            "<" => Some(Self::Range(0, status - 1)),
            _ => None,
        }
    }
}

/// Digits only: the standard parser would take a sign.
fn number(digits: &str) -> Option<u16> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_ranges() {
        for (text, first, last) in [("404", 404, 404), ("4xx", 400, 499), (">=400", 400, u16::MAX), ("<300", 0, 299)] {
            assert_eq!(Statuses::parse(text), Ok(Statuses::Range(first, last)), "{text}");
        }
        assert!(Statuses::None.contains(None) && !Statuses::None.contains(Some(200)));
        assert!(!Statuses::Range(0, u16::MAX).contains(None));
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["", "xx", "9xx", "99", "600", "=>400", ">", "40x", "+404"] {
            assert!(Statuses::parse(bad).is_err(), "{bad}");
        }
    }
}
