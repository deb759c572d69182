//! Names for sessions that were given none.

use clauderon_core::session::SessionName;

/// A name made of the first words of `text`; `None` when there is nothing a name could be made of.
pub(crate) fn slug(text: &str) -> Option<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut slug = String::new();
    for word in words.take(MAX_WORDS) {
        if slug.len() + word.len() > MAX_SLUG {
            break;
        }
        slug.push_str(if slug.is_empty() { "" } else { "-" });
        slug.push_str(&word.to_ascii_lowercase());
    }
    (!slug.is_empty()).then_some(slug)
}

/// `base`, or `base-2`, `base-3`, … if that is taken.
pub(crate) fn free_name(base: &str, is_taken: impl Fn(&SessionName) -> bool) -> SessionName {
    let numbered = (2_u32..).map(|number| format!("{base}-{number}"));
    let mut candidates =
        std::iter::once(base.to_owned()).chain(numbered).filter_map(|name| SessionName::parse(&name).ok());
    candidates.find(|name| !is_taken(name)).expect("there are more numbers than sessions")
}

/// Enough to tell tasks apart at a glance.
const MAX_WORDS: usize = 6;

/// Leaves room for a number below the 63 bytes of a name.
const MAX_SLUG: usize = 40;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_becomes_a_name() {
        assert_eq!(slug("Review the code!").as_deref(), Some("review-the-code"));
        assert_eq!(slug("  ../../etc/passwd ").as_deref(), Some("etc-passwd"));
        assert_eq!(slug("日本語"), None);
        assert_eq!(slug(&"x".repeat(100)), None);
        let long = slug(&"ab ".repeat(50)).unwrap();
        assert!(SessionName::parse(&long).is_ok());
    }

    #[test]
    fn a_taken_name_gets_a_number() {
        let taken = ["fix", "fix-2"];
        let name = free_name("fix", |name| taken.contains(&name.as_str()));
        assert_eq!(name.as_str(), "fix-3");
    }
}
