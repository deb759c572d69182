//! The members of a JSON object, read so that no origin can read them otherwise.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The members of an object, without what lies deeper.
#[derive(Debug)]
pub(crate) struct Members(Vec<(String, Member)>);

/// A member's value, as far as it matters.
#[derive(Debug)]
pub(super) enum Member {
    Null,
    Text(String),
    Other,
}

impl Members {
    /// Reads one object and nothing after it (RFC 8259). `None` also for names that some readers take for the same: equal but for
    /// their case, or not in ASCII.
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The value of the member of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Member> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// The member of this name, if it is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Member::Text(text) => Some(text),
            Member::Null | Member::Other => None,
        }
    }

    /// Whether every name is among `names`.
    pub(super) fn are_among(&self, names: &[&str]) -> bool {
        self.0.iter().all(|(own, _)| names.contains(&own.as_str()))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of few members with different names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members: Vec<(String, Member)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Member>()? {
            let twice = members.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name));
            if twice || !name.is_ascii() || members.len() == MAX_MEMBERS {
                return Err(A::Error::custom("ambiguous names"));
            }
            members.push((name, value));
        }
        Ok(Members(members))
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MemberVisitor)
    }
}

struct MemberVisitor;

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Member, E> {
        Ok(Member::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<Member, E> {
        Ok(Member::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Member, E> {
        Ok(Member::Text(text))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Member, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Member, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }
}

/// More than any of the protocols has.
const MAX_MEMBERS: usize = 32;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart() {
        let json = br#" {"a": "x\u0079", "b": null, "c": {"a": ["z", {}]}, "d": [1], "e": -1, "f": 1.5, "g": true} "#;
        let members = Members::read(json).unwrap();
        assert_eq!(members.text("a"), Some("xy"));
        assert!(matches!(members.get("b"), Some(Member::Null)));
        for name in ["c", "d", "e", "f", "g"] {
            assert!(matches!(members.get(name), Some(Member::Other)), "{name}");
        }
        assert!(members.get("z").is_none());
        assert!(!members.are_among(&["a", "b"]) && members.are_among(&["a", "b", "c", "d", "e", "f", "g"]));
    }

    #[test]
    fn what_may_be_read_otherwise_is_not_read() {
        let bad: [&[u8]; 16] = [
            b"",
            b"[]",
            b"[{\"a\":1}]",
            b"\"a\"",
            b"{\"a\":1}{\"a\":2}",
            b"{\"a\":1} x",
            b"{\"a\":1,\"a\":2}",
            b"{\"a\":1,\"\\u0061\":2}",
            b"{\"a\":1,\"A\":2}",
            "{\"\u{17f}\":1}".as_bytes(),
            b"\xef\xbb\xbf{\"a\":1}",
            b"\xff\xfe{\0}\0",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":1,}",
            b"{'a':1}",
        ];
        for json in bad {
            assert!(Members::read(json).is_none(), "{}", String::from_utf8_lossy(json));
        }
        let many: Vec<String> = (0..=MAX_MEMBERS).map(|n| format!("\"m{n}\":0")).collect();
        assert!(Members::read(format!("{{{}}}", many.join(",")).as_bytes()).is_none());
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{{\"a\":{}{},\"b\":\"x\"}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(Members::read(deep.as_bytes()).map(|m| m.text("b").is_some()), Some(true));
    }
}
