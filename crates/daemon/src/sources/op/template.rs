//! The input of `op inject`, and its output taken apart again.

use std::fmt::Write as _;

use clauderon_core::config::OpReference;
use clauderon_core::digest;

/// One line per reference, between marks that no value holds.
pub(super) struct Template {
    text: String,
    marks: Vec<String>,
}

impl Template {
    /// Of these references; `None` if the system gives no randomness.
    pub(super) fn of(references: &[&OpReference]) -> Option<Self> {
        let mut nonce = [0; 16];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let nonce = digest::hex(&nonce);
        let marks: Vec<String> = (0..=references.len()).map(|nth| format!("{nonce}-{nth}=")).collect();
        let mut text = String::new();
        for (mark, reference) in marks.iter().zip(references) {
            writeln!(text, "{mark}{{{{ {} }}}}", reference.as_str()).ok()?;
        }
        text.extend(marks.last().map(String::as_str));
        Some(Self { text, marks })
    }

    /// What `op inject` reads.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The values in the order of the references; `None` if this is no output of the template.
    pub(super) fn values<'o>(&self, output: &'o [u8]) -> Option<Vec<&'o [u8]>> {
        let (first, later) = self.marks.split_first()?;
        let mut rest = output.strip_prefix(first.as_bytes())?;
        let mut values = Vec::with_capacity(later.len());
        for mark in later {
            let at = rest.windows(mark.len()).position(|window| window == mark.as_bytes())?;
            let (value, mark_and_rest) = rest.split_at_checked(at)?;
            values.push(value.strip_suffix(b"\n")?);
            rest = mark_and_rest.get(mark.len()..)?;
        }
        let left_as_it_was = values.iter().any(|value| value.starts_with(b"{{"));
        (rest.trim_ascii().is_empty() && !left_as_it_was).then_some(values)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    fn template(references: &[&str]) -> Template {
        let references: Vec<_> = references.iter().map(|text| OpReference::parse(text).unwrap()).collect();
        Template::of(&references.iter().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn values_come_apart_whatever_they_hold() {
        let template = template(&["op://My Vault/a/b", "op://v/c/d", "op://v/e/f"]);
        let filled = template.text().replace("{{ op://My Vault/a/b }}", "one").replace("{{ op://v/c/d }}", "");
        let filled = filled.replace("{{ op://v/e/f }}", "-1=two\nlines\n");
        let values: [&[u8]; 3] = [b"one", b"", b"-1=two\nlines\n"];
        assert_eq!(template.values(filled.as_bytes()).unwrap(), values);
        assert_eq!(template.values(format!("{filled}\n").as_bytes()).unwrap(), values);
    }

    #[test]
    fn other_output_is_not_taken_for_values() {
        let template = template(&["op://v/a/b", "op://v/c/d"]);
        let filled = template.text().replace("{{ op://v/a/b }}", "one").replace("{{ op://v/c/d }}", "two");
        assert!(template.values(template.text().as_bytes()).is_none());
        assert!(template.values(format!("note: {filled}").as_bytes()).is_none());
        assert!(template.values(format!("{filled}more").as_bytes()).is_none());
        for cut in 0..filled.len() {
            assert!(template.values(&filled.as_bytes()[..cut]).is_none(), "{cut}");
        }
    }
}
