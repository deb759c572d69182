//! JSON read for its strings, so that some can be replaced while everything else stays as its sender wrote it.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// A string in a document, under the name of the member that holds it or holds its array.
pub(crate) struct Text {
    /// Empty where no member holds it.
    pub(crate) name: String,
    pub(crate) value: Zeroizing<String>,
    /// Where it stands in the document, quotes included.
    pub(crate) range: Range<usize>,
    /// Which object holds it.
    pub(crate) object: usize,
    /// How many objects and arrays it lies in.
    pub(crate) depth: usize,
}

/// A whole number in a document.
pub(crate) struct Number {
    pub(crate) name: String,
    pub(crate) value: u64,
    /// Which object holds it.
    pub(crate) object: usize,
}

/// The strings and numbers of a document that were asked for, in the order of the document.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) texts: Vec<Text>,
    pub(crate) numbers: Vec<Number>,
}

impl Found {
    /// Whether there is nothing that was asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.numbers.is_empty()
    }
}

/// Finds what is `wanted`, going by its name and by its value as it is written. `None` of a text that is no single JSON document (RFC 8259), or that is
/// nested so deep that no service means it.
pub(crate) fn find(document: &str, wanted: impl Fn(&str, &str) -> bool) -> Option<Found> {
    let whole: &RawValue = serde_json::from_str(document).ok()?;
    let mut walk = Walk { document, wanted, found: Found::default(), objects: 0 };
    walk.value(whole, "", 0, 0)?;
    Some(walk.found)
}

/// The document with other texts at these places, which are in its order.
pub(crate) fn splice<'r>(
    document: &str,
    replaced: impl IntoIterator<Item = (&'r Range<usize>, &'r str)>,
) -> Zeroizing<Vec<u8>> {
    let (mut out, mut from) = (Zeroizing::new(Vec::with_capacity(2 * document.len())), 0);
    for (range, text) in replaced {
        out.extend_from_slice(document.get(from..range.start).unwrap_or_default().as_bytes());
        out.extend_from_slice(text.as_bytes());
        from = range.end;
    }
    out.extend_from_slice(document.get(from..).unwrap_or_default().as_bytes());
    out
}

/// A text as a JSON string.
pub(crate) fn quoted(text: &str) -> Zeroizing<String> {
    Zeroizing::new(serde_json::to_string(text).expect("a string can be written"))
}

struct Walk<'d, W> {
    document: &'d str,
    wanted: W,
    found: Found,
    objects: usize,
}

impl<'d, W: Fn(&str, &str) -> bool> Walk<'d, W> {
    fn value(&mut self, value: &'d RawValue, name: &str, object: usize, depth: usize) -> Option<()> {
        let text = value.get();
        match text.as_bytes().first()? {
            b'{' | b'[' if depth == MAX_DEPTH => return None,
            b'{' => self.members(text, depth + 1)?,
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                items.into_iter().try_for_each(|item| self.value(item, name, object, depth + 1))?;
            }
            _ if !(self.wanted)(name, text) => {}
            b'"' => {
                let start = text.as_ptr().addr() - self.document.as_ptr().addr();
                let range = start..start + text.len();
                let value = Zeroizing::new(serde_json::from_str(text).ok()?);
                self.found.texts.push(Text { name: name.into(), value, range, object, depth });
            }
            _ => {
                let number = text.parse().ok().map(|value| Number { name: name.into(), value, object });
                self.found.numbers.extend(number);
            }
        }
        Some(())
    }

    fn members(&mut self, text: &'d str, depth: usize) -> Option<()> {
        self.objects += 1;
        let object = self.objects;
        let Members(members) = serde_json::from_str(text).ok()?;
        members.into_iter().try_for_each(|(name, value)| self.value(value, &name, object, depth))
    }
}

/// The members of an object as they stand, those of one name included.
struct Members<'d>(Vec<(String, &'d RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

/// Each level is read again with the one above it.
const MAX_DEPTH: usize = 32;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn strings_are_found_where_they_stand() {
        let document = r#" {"a" : "x\u0079", "b":{"a":["1",{"a":"2"}],"n":7,"n":-1,"n":1.5}, "c":null,"a":""} "#;
        let found = find(document, |name, _| ["a", "n"].contains(&name)).unwrap();
        let texts: Vec<_> = found
            .texts
            .iter()
            .map(|t| (document.get(t.range.clone()).unwrap(), t.value.as_str(), t.object, t.depth))
            .collect();
        let expected = [("\"x\\u0079\"", "xy", 1, 1), ("\"1\"", "1", 2, 3), ("\"2\"", "2", 3, 4), ("\"\"", "", 1, 1)];
        assert_eq!(texts, expected);
        assert_eq!(found.numbers.iter().map(|n| (n.value, n.object)).collect::<Vec<_>>(), [(7, 2)]);
    }

    #[test]
    fn what_is_no_document_has_no_strings() {
        let deep = |n: usize| format!("{}\"x\"{}", "[".repeat(n), "]".repeat(n));
        for bad in
            ["", "{", "{\"a\":1}{}", "\u{feff}{}", "{\"a\":tru}", "{\"a\":\"\\ud800\"}", &deep(40), &deep(100_000)]
        {
            assert!(find(bad, |_, _| true).is_none(), "{bad:.20}");
        }
        assert!(find(&deep(32), |_, _| true).is_some());
    }

    #[test]
    fn a_replaced_string_leaves_the_rest_as_it_was() {
        let document = r#"{ "t":"real" ,"n":1.10, "u":["real"]}"#;
        let found = find(document, |name, _| name == "t").unwrap();
        let text = quoted("a\"b");
        let out = splice(document, found.texts.iter().map(|t| (&t.range, text.as_str())));
        assert_eq!(String::from_utf8_lossy(&out), r#"{ "t":"a\"b" ,"n":1.10, "u":["real"]}"#);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<i32>().prop_map(Value::from), "\\PC{0,6}".prop_map(Value::from)];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map("[ab]", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn masked(value: &Value, name: &str) -> Value {
        match value {
            Value::String(_) if name == "a" => "x".into(),
            Value::Array(items) => items.iter().map(|item| masked(item, name)).collect(),
            Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), masked(value, name))).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        }
    }

    proptest! {
        #[test]
        fn replacing_in_the_text_is_replacing_in_the_value(value in any_json(), pretty: bool) {
            let document = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let found = find(&document, |name, _| name == "a").unwrap();
            let out = splice(&document, found.texts.iter().map(|text| (&text.range, "\"x\"")));
            prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), masked(&value, ""));
        }
    }
}
