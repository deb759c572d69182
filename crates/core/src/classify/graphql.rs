//! GraphQL: whether a request holds nothing but queries.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use apollo_parser::Parser;
use apollo_parser::cst::{Definition, OperationDefinition};

use super::Classified;
use super::members::{Member, Members};
use crate::access::ReadException;
use crate::facts::Facts;
use crate::path::unescaped;

/// A write if a document in the query of a GET may hold anything but queries; `None` where there is no such document.
pub(super) fn by_get(facts: &Facts<'_>) -> Option<Classified> {
    let query = facts.query?;
    let path = unescaped(facts.raw_path);
    let endpoint = path.trim_end_matches('/').rsplit(['/', '.', '-']).next()?;
    let document = endpoint.eq_ignore_ascii_case("graphql").then(|| unescaped(query))?;
    // In a batch of JSON the words may be spelled with `\u` escapes.
    let changes = CHANGES.iter().any(|word| document.contains(word)) || document.contains("\\u");
    changes.then_some(Classified::write("graphql-by-get"))
}

/// The class of a GraphQL request sent as JSON. A batch is a write.
pub(super) fn by_body(body: &[u8]) -> Classified {
    match only_queries(body) {
        Ok(()) => Classified::excepted(ReadException::GraphqlQuery),
        Err(rule) => Classified::write(rule),
    }
}

fn only_queries(body: &[u8]) -> Result<(), &'static str> {
    let members = Members::read(body).filter(|members| members.are_among(&MEMBERS)).ok_or(UNREADABLE)?;
    let chosen = match members.get("operationName") {
        None | Some(Member::Null) => None,
        Some(Member::Text(name)) => Some(name.as_str()),
        Some(Member::Other) => return Err(UNREADABLE),
    };
    // Extensions may name a document that the origin keeps.
    if !matches!(members.get("extensions"), None | Some(Member::Null)) {
        return Err(UNREADABLE);
    }
    document(members.text("query").ok_or(UNREADABLE)?, chosen)
}

/// Every operation must be a query, whichever is chosen, and the choice must be one that the origin can make.
fn document(text: &str, chosen: Option<&str>) -> Result<(), &'static str> {
    if may_be_lexed_otherwise(text) || depth(text) > MAX_DEPTH {
        return Err(UNREADABLE);
    }
    let tree = Parser::new(text).recursion_limit(MAX_DEPTH).token_limit(MAX_TOKENS).parse();
    if tree.errors().next().is_some() {
        return Err(UNREADABLE);
    }
    let mut names = Vec::new();
    for definition in tree.document().definitions() {
        if let Definition::OperationDefinition(operation) = definition {
            names.push(query_name(&operation)?);
        } else if !matches!(definition, Definition::FragmentDefinition(_)) {
            return Err(UNREADABLE);
        }
    }
    let candidates = names.iter().filter(|name| chosen.is_none() || name.as_deref() == chosen).count();
    if candidates == 1 { Ok(()) } else { Err(UNREADABLE) }
}

/// The name of an operation, if it is a query.
fn query_name(operation: &OperationDefinition) -> Result<Option<String>, &'static str> {
    let query = operation.operation_type().is_none_or(|word| word.query_token().is_some());
    query.then(|| operation.name().map(|name| name.text().to_string())).ok_or("graphql.mutation")
}

/// Lexers disagree about odd spellings of strings and line ends. Where none is near, one of the words that change anything is in
/// a plain string, a comment or a name for all of them; where one is, its place cannot be told.
fn may_be_lexed_otherwise(text: &str) -> bool {
    let odd_byte =
        |b: u8| b == b'\\' || b == b'\r' || (b.is_ascii_control() && !matches!(b, b'\n' | b'\t')) || !b.is_ascii();
    let odd = text.bytes().any(odd_byte) || text.contains("\"\"\"");
    odd && CHANGES.iter().any(|word| text.contains(word))
}

/// How deep brackets nest, wherever they stand: what the parser's own limit does not count must not cost stack either.
fn depth(text: &str) -> usize {
    let step = |(depth, most): (usize, usize), byte| match byte {
        b'(' | b'[' | b'{' => (depth + 1, most.max(depth + 1)),
        b')' | b']' | b'}' => (depth.saturating_sub(1), most),
        _ => (depth, most),
    };
    text.bytes().fold((0, 0), step).1
}

const UNREADABLE: &str = "graphql.unreadable";
const CHANGES: [&str; 2] = ["mutation", "subscription"];
const MEMBERS: [&str; 4] = ["query", "operationName", "variables", "extensions"];

/// Three times as deep as the deepest introspection query in use.
const MAX_DEPTH: usize = 64;

/// Some fifty times the longest document of `gh`.
const MAX_TOKENS: usize = 20_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reads(body: &str) -> bool {
        by_body(body.as_bytes()) == Classified::excepted(ReadException::GraphqlQuery)
    }

    fn doc(query: &str) -> String {
        serde_json::json!({ "query": query }).to_string()
    }

    #[test]
    fn queries_as_clients_send_them() {
        let list = "query IssueList($owner: String!, $repo: String!, $limit: Int, $endCursor: String, $states: [IssueState!] = OPEN) {\n\t\
            repository(owner: $owner, name: $repo) {\n\t\t\thasIssuesEnabled\n\t\t\tissues(first: $limit, after: $endCursor, \
            orderBy: {field: CREATED_AT, direction: DESC}, states: $states) {\n\t\t\t\ttotalCount\n\t\t\t\tnodes {\n\t\t\t\t\t...issue\n\t\t\t\t}\n\t\t\t\
            pageInfo {\n\t\t\t\t\thasNextPage\n\t\t\t\t\tendCursor\n\t\t\t\t}\n\t\t\t}\n\t\t}\n\t}\n\tfragment issue on Issue {number,title,url}\n\t";
        let sent = serde_json::json!({"query": list, "variables": {"owner": "o", "repo": "r", "limit": 30, "states": ["OPEN"]}});
        assert!(reads(&sent.to_string()));
        for query in [
            "query UserCurrent{viewer{login}}",
            "{viewer{login}}",
            "query{a:viewer{login} ...on User @include(if:true){id}}",
            "# a mutation it is not\nquery q{search(query:\"mutation { x }\",type:ISSUE){issueCount}}",
            "{ __schema { mutationType { name } subscriptionType { name } } }",
            "query q { mutation subscription { mutation(subscription: {mutation: $mutation}) } }",
            "query mutation { a }",
            "query q($s: String = \"\"\"block \\\"\"\" string\"\"\") { a(s: $s) }",
            "query q {\r\n  a\r\n}\r\n",
            "query q { a(é: 1) }",
        ] {
            assert_eq!(reads(&doc(query)), !query.contains('é'), "{query}");
        }
        assert!(reads(r#"{"query":"query a{x} query b{y}","operationName":"b","variables":null,"extensions":null}"#));
        assert!(reads(r#"{"operationName":null,"query":"query a{x}"}"#));
    }

    #[test]
    fn everything_else_is_a_write() {
        for query in [
            "",
            " ",
            "# only a comment",
            "mutation{x}",
            "subscription s{x}",
            "query a{x} mutation b{y}",
            "mutation b{y} query a{x}",
            "{x} mutation{y}",
            "fragment f on T{x}",
            "query a{x} query b{y}",
            "{x} {y}",
            "query a{x} query a{y}",
            "type T { x: Int }",
            "extend type T { x: Int } query{x}",
            "schema { query: Q } query{x}",
            "query{x",
            "query{x}}",
            "query",
            "query{}",
            "Query{x}",
            "query{x} \u{feff}mutation{y}",
            "query{x} #\rmutation{y}",
            "query{x} #\u{2028}mutation{y}",
            "query{x(s:\"\"\"a\\\\\"\"\")} mutation{y} #\"\"\")}",
            "query{x(s:\"\\\")} mutation{y} #\")}",
            "query{x}\u{0}mutation{y}",
            "query a { x } \\u006dutation b { y }",
        ] {
            assert!(!reads(&doc(query)), "{query:?}");
        }
        for body in [
            r#"[{"query":"{x}"}]"#,
            r#"[{"query":"{x}"},{"query":"mutation{x}"}]"#,
            r#"{"query":"{x}","query":"mutation{x}"}"#,
            r#"{"query":"{x}","Query":"mutation{x}"}"#,
            r#"{"query":"{x}","id":"stored"}"#,
            r#"{"query":"{x}","extensions":{"persistedQuery":{"sha256Hash":"0"}}}"#,
            r#"{"query":["{x}"]}"#,
            r#"{"query":null}"#,
            r#"{"variables":{"query":"{x}"}}"#,
            r#"{"query":"query a{x}","operationName":"b"}"#,
            r#"{"query":"query a{x}","operationName":""}"#,
            r#"{"query":"query a{x}","operationName":["a"]}"#,
            "query{x}",
            "query=%7Bx%7D",
        ] {
            assert!(!reads(body), "{body}");
        }
        assert!(!reads(&format!("\u{feff}{}", doc("{x}"))));
        let utf16: Vec<u8> = doc("{x}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(by_body(&utf16), Classified::write(UNREADABLE));
    }

    #[test]
    fn a_mutation_is_called_so() {
        assert_eq!(by_body(doc("mutation m{x}").as_bytes()).rule, "graphql.mutation");
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let nested = |open: &str, close: &str, n| format!("{}x{}", open.repeat(n), close.repeat(n));
        assert!(reads(&doc(&nested("{x", "}", 30))));
        for document in [
            nested("{x", "}", 100_000),
            nested("{x(a:", ")}", 50_000),
            format!("{{x(a:{})}}", nested("[", "]", 100_000)),
            format!("{{x(a:{})}}", nested("{a:", "}", 100_000)),
            format!("query q($a:{}){{x}}", nested("[", "]", 100_000)),
            "{...on T".repeat(100_000),
            "{x ".to_owned() + &"y ".repeat(MAX_TOKENS) + "}",
            "{".repeat(500_000),
            "@".repeat(500_000),
            "\"".repeat(500_000),
            "mutation{".repeat(50_000),
        ] {
            assert!(!reads(&doc(&document)), "{document:.30}");
        }
    }

    /// What a document's definitions begin with, by a scanner that knows strings, comments and braces and nothing else.
    fn slow_keywords(text: &str) -> Vec<String> {
        let (mut found, mut rest, mut open, mut fresh) = (Vec::new(), text, 0_i32, true);
        while let Some(c) = rest.chars().next() {
            let word: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let length = if c == '#' {
                rest.find(['\n', '\r']).unwrap_or(rest.len())
            } else if rest.starts_with("\"\"\"") {
                rest.get(3..).and_then(|body| body.find("\"\"\"")).map_or(rest.len(), |end| end + 6)
            } else if c == '"' {
                rest.get(1..).and_then(|body| body.find('"')).map_or(rest.len(), |end| end + 2)
            } else {
                word.len().max(c.len_utf8())
            };
            if open == 0 && fresh && !word.is_empty() {
                found.push(word);
                fresh = false;
            }
            open += i32::from(matches!(c, '{' | '(' | '[')) - i32::from(matches!(c, '}' | ')' | ']'));
            fresh |= c == '}' && open == 0;
            rest = rest.get(length..).unwrap_or_default();
        }
        found
    }

    fn piece() -> impl Strategy<Value = String> {
        let fixed = [
            "{",
            "}",
            "(",
            ")",
            "[",
            "]",
            " ",
            "\n",
            "\r",
            "#",
            "\"",
            "\"\"\"",
            "\\",
            ":",
            "$",
            "!",
            "...",
            "@",
            ",",
            "=",
            "query",
            "mutation",
            "subscription",
            "fragment",
            " on ",
            "x",
            "f",
            "1",
            "{x}",
            "query{x}",
            "mutation{x}",
            "query a{x} ",
            "fragment f on T{x} ",
            "(a:\"s\")",
            "\u{feff}",
            "é",
        ];
        proptest::sample::select(fixed.to_vec()).prop_map(str::to_owned)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn nothing_that_changes_anything_is_a_read(pieces in proptest::collection::vec(piece(), 0..14)) {
            let text = pieces.concat();
            if reads(&doc(&text)) {
                let keywords = slow_keywords(&text);
                prop_assert!(!keywords.iter().any(|word| CHANGES.contains(&word.as_str())), "{text:?}");
            }
        }

        #[test]
        fn a_batch_or_a_document_with_one_change_is_a_write(
            queries in proptest::collection::vec("query [a-c]\\{x\\}|\\{x\\}|fragment f on T\\{x\\}", 0..4),
            change in "(mutation|subscription) ?[a-c]?\\{x\\}", at in any::<prop::sample::Index>()
        ) {
            let mut all = queries;
            all.insert(at.index(all.len() + 1), change);
            prop_assert!(!reads(&doc(&all.join("\n"))));
            let batch: Vec<String> = all.iter().map(|query| doc(query)).collect();
            let batch = format!("[{}]", batch.join(","));
            prop_assert!(!reads(&batch));
        }

        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,60}") {
            let _ = by_body(&body);
            let _ = by_body(doc(&text).as_bytes());
        }
    }
}
