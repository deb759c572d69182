//! The forms a secret can come back in, and what stands in for each.
//!
//! Origins echo what they were sent: as it is, in JSON, in a URL, in Base64 (also as a part of something longer, such as Basic
//! credentials). Each form of the secret is paired with the placeholder in the same encoding, so that whoever decodes an
//! answer finds the placeholder.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

/// One form of a secret.
#[derive(Clone)]
pub struct Form {
    /// The secret so encoded.
    pub text: Zeroizing<Vec<u8>>,
    /// What is put in its place.
    pub stand_in: Vec<u8>,
}

/// Every form of `secret`, each once; none of a secret shorter than [`MIN_SECRET`].
pub fn forms(secret: &str, placeholder: &str) -> Vec<Form> {
    let mut forms = Forms(Vec::new());
    if secret.len() < MIN_SECRET {
        return forms.0;
    }
    forms.add(secret, placeholder);
    for encode in in_urls().chain(in_json()) {
        forms.add(&encode(secret), &encode(placeholder));
    }
    for alignment in 0..3 {
        for end in [End::Open, End::Bare, End::Padded] {
            forms.add_base64(secret, placeholder, alignment, end);
        }
    }
    forms.0
}

/// Fewer bytes than this protect nothing, and replacing them would spoil every answer.
pub const MIN_SECRET: usize = 4;

struct Forms(Vec<Form>);

impl Forms {
    fn add(&mut self, text: &str, stand_in: &str) {
        let known = self.0.iter().any(|form| *form.text == text.as_bytes());
        if !known && text != stand_in {
            self.0.push(Form { text: Zeroizing::new(text.into()), stand_in: stand_in.into() });
        }
    }

    /// Base64 in both alphabets, and as encoders of URLs and JSON write the first one's `+`, `/` and `=`.
    fn add_base64(&mut self, secret: &str, placeholder: &str, alignment: usize, end: End) {
        let text = base64(secret.as_bytes(), alignment, end);
        let stand_in = base64(&same_phase(placeholder, secret, end), alignment, end);
        self.add(&text, &stand_in);
        let url_safe = |text: &str| Zeroizing::new(text.replace('+', "-").replace('/', "_"));
        self.add(&url_safe(&text), &url_safe(&stand_in));
        let in_urls = [percent(RFC3986, UPPER), percent(RFC3986, LOWER)];
        let in_json = [json(SLASH, LOWER), json(GSON, LOWER), json(DOTNET, UPPER)];
        for encode in in_urls.iter().chain(&in_json) {
            self.add(&encode(&text), &encode(&stand_in));
        }
    }
}

/// What follows the secret in the text that was encoded to Base64.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Anything: only characters made of nothing but the secret count.
    Open,
    /// Nothing, and no padding is written.
    Bare,
    /// Nothing; padded.
    Padded,
}

/// The characters that `text` becomes when it begins `alignment` bytes into a group of three. The character it shares with
/// what stands before it is not among them.
fn base64(text: &[u8], alignment: usize, end: End) -> Zeroizing<String> {
    let aligned = Zeroizing::new([&[0; 3][..alignment], text].concat());
    let mut encoded = Zeroizing::new(STANDARD_NO_PAD.encode(&*aligned));
    if end == End::Open {
        encoded.truncate(aligned.len() * 8 / 6);
    }
    if end == End::Padded {
        (encoded.len()..encoded.len().next_multiple_of(4)).for_each(|_| encoded.push('='));
    }
    Zeroizing::new(encoded.chars().skip((alignment * 8).div_ceil(6)).collect())
}

/// The placeholder, lengthened where something may follow so that this is decoded as before.
fn same_phase(placeholder: &str, secret: &str, end: End) -> Vec<u8> {
    let missing = if end == End::Open { (secret.len() + 2 * placeholder.len()) % 3 } else { 0 };
    [placeholder.as_bytes(), &b"00"[..missing]].concat()
}

type Encode = Box<dyn Fn(&str) -> Zeroizing<String>>;

fn in_urls() -> impl Iterator<Item = Encode> {
    let sets = [RFC3986, SEGMENT, COMPONENT, FORM, URI, PATH, QUERY, GO, WORD, NOTHING];
    sets.into_iter().flat_map(|kept| [percent(kept, UPPER), percent(kept, LOWER)])
}

fn in_json() -> impl Iterator<Item = Encode> {
    let styles = [PLAIN, SLASH, HTML, GSON, ASCII, ASCII_SLASH, TAGS, HTML_QUOTES, DOTNET, NON_WORD, EVERYTHING];
    styles.into_iter().flat_map(|style| [json(style, LOWER), json(style, UPPER)])
}

/// Percent-encoding (RFC 3986 § 2.1) of all bytes but those in `kept` and letters and digits; [`NOTHING`] keeps not even these.
fn percent(kept: &'static str, digits: &'static [u8; 16]) -> Encode {
    Box::new(move |text| {
        let mut out = Zeroizing::new(String::with_capacity(text.len() * 3));
        for byte in text.bytes() {
            match char::from(byte) {
                ' ' if kept == FORM => out.push('+'),
                c if kept != NOTHING && (c.is_ascii_alphanumeric() || kept.contains(c)) => out.push(c),
                _ => {
                    out.push('%');
                    push_hex(&mut out, byte.into(), 2, digits);
                }
            }
        }
        out
    })
}

/// How an encoder writes JSON strings (RFC 8259 § 7), beyond what all must escape.
#[derive(Clone, Copy)]
struct Style {
    /// `/` becomes `\/`.
    slash: bool,
    /// What becomes `\uXXXX`.
    unicode: fn(char) -> bool,
}

fn json(style: Style, digits: &'static [u8; 16]) -> Encode {
    Box::new(move |text| {
        let mut out = Zeroizing::new(String::with_capacity(text.len() * 6));
        for c in text.chars() {
            match c {
                _ if (style.unicode)(c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str("\\u");
                        push_hex(&mut out, *unit, 4, digits);
                    }
                }
                '"' | '\\' => out.extend(['\\', c]),
                '/' if style.slash => out.push_str("\\/"),
                '\t' => out.push_str("\\t"),
                _ => out.push(c),
            }
        }
        out
    })
}

fn push_hex(out: &mut String, value: u16, len: u32, digits: &[u8; 16]) {
    for nibble in (0..len).rev() {
        out.push(char::from(digits[usize::from(value >> (4 * nibble)) & 0xf]));
    }
}

const UPPER: &[u8; 16] = b"0123456789ABCDEF";
const LOWER: &[u8; 16] = b"0123456789abcdef";

// What encoders of URLs leave as it is besides letters and digits.
const RFC3986: &str = "-._~";
/// A segment of a path (RFC 3986 § 3.3), as which secrets go out.
const SEGMENT: &str = "-._~!$&'()*+,;=:@";
/// `url.PathEscape` of Go.
const GO: &str = "-._~$&+=:@";
/// `encodeURIComponent`.
const COMPONENT: &str = "-._~!*'()";
/// `application/x-www-form-urlencoded`, where a space becomes `+`.
const FORM: &str = "*-._";
/// `encodeURI`.
const URI: &str = "-._~!*'();/?:@&=+$,#";
/// The WHATWG URL Standard's path set.
const PATH: &str = "-._~!*'();/:@&=+$,%[]\\|";
/// And its query set.
const QUERY: &str = "-._~!*();/?:@&=+$,%[]\\|^`{}";
const WORD: &str = "";
const NOTHING: &str = "none";

const PLAIN: Style = Style { slash: false, unicode: |c| control(c) };
const SLASH: Style = Style { slash: true, unicode: |c| control(c) };
/// Go.
const HTML: Style = Style { slash: false, unicode: |c| control(c) || "<>&\u{2028}\u{2029}".contains(c) };
/// Gson.
const GSON: Style = Style { slash: false, unicode: |c| control(c) || "<>&='\u{2028}\u{2029}".contains(c) };
/// Python, Ruby.
const ASCII: Style = Style { slash: false, unicode: |c| control(c) || !c.is_ascii() };
/// PHP.
const ASCII_SLASH: Style = Style { slash: true, unicode: |c| control(c) || !c.is_ascii() };
/// .NET.
const DOTNET: Style = Style { slash: false, unicode: |c| control(c) || !c.is_ascii() || "\"&'+<>`\u{7f}".contains(c) };
/// PHP with `JSON_HEX_TAG`.
const TAGS: Style = Style { slash: true, unicode: |c| control(c) || !c.is_ascii() || "<>".contains(c) };
/// PHP with all its `JSON_HEX_*` flags.
const HTML_QUOTES: Style = Style { slash: true, unicode: |c| control(c) || !c.is_ascii() || "\"&'<>".contains(c) };
const NON_WORD: Style = Style { slash: false, unicode: |c| !c.is_ascii_alphanumeric() };
const EVERYTHING: Style = Style { slash: false, unicode: |_| true };

/// The control characters that have no short escape among those a secret can hold.
fn control(c: char) -> bool {
    c.is_ascii_control() && c != '\t' && c != '\u{7f}'
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    fn texts(secret: &str) -> Vec<String> {
        forms(secret, "clauderon-placeholder-x-000000")
            .iter()
            .map(|f| String::from_utf8(f.text.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn a_plain_token_has_few_forms() {
        let texts = texts("ghp_16C7e42F292c6912E7710c838347Ae178B4a");
        assert!(texts.contains(&"ghp_16C7e42F292c6912E7710c838347Ae178B4a".into()));
        assert!(texts.contains(&"ghp%5f16C7e42F292c6912E7710c838347Ae178B4a".into()));
        assert!(texts.contains(&"ghp\\u005F16C7e42F292c6912E7710c838347Ae178B4a".into()));
        assert!(texts.iter().any(|t| t.starts_with("%67%68%70%5F%31")));
        assert!(texts.len() < 40, "{}", texts.len());
    }

    #[test]
    fn encoders_in_the_wild_are_known() {
        let texts = texts("a/b+c\"d\\e<f é%g=&h");
        for form in [
            "a%2Fb%2Bc%22d%5Ce%3Cf%20%C3%A9%25g%3D%26h",
            "a%2fb%2bc%22d%5ce%3cf+%c3%a9%25g%3d%26h",
            "a/b+c%22d%5Ce%3Cf%20%C3%A9%25g=&h",
            r#"a/b+c\"d\\e<f é%g=&h"#,
            r#"a\/b+c\"d\\e<f \u00e9%g=&h"#,
            r#"a/b+c\"d\\e\u003cf é%g=\u0026h"#,
            r#"a/b+c\"d\\e<f \u00e9%g=&h"#,
            r"a/b\u002Bc\u0022d\\e\u003Cf \u00E9%g=\u0026h",
        ] {
            assert!(texts.iter().any(|text| text == form), "{form}");
        }
    }

    #[test]
    fn short_secrets_have_no_form() {
        assert!(texts("abc").is_empty() && texts("abcd").iter().all(|text| text.len() >= MIN_SECRET));
        assert!(forms("the same", "the same").is_empty());
    }

    #[test]
    fn what_stands_in_decodes_to_the_placeholder() {
        let placeholder = "ghp_placeholder_0000";
        for user in ["", "a", "ab", "abc"] {
            let sent = STANDARD.encode(format!("{user}:ghp_realreal"));
            let form = forms("ghp_realreal", placeholder);
            let found = form.iter().filter(|f| sent.ends_with(std::str::from_utf8(&f.text).unwrap()));
            let longest = found.max_by_key(|f| f.text.len()).unwrap();
            let before = &sent.as_bytes()[..sent.len() - longest.text.len()];
            let scrubbed = [before, &longest.stand_in].concat();
            // Where no padding tells the end from a middle, zeros keep the phase of what may follow.
            let decoded = String::from_utf8(STANDARD.decode(scrubbed).unwrap()).unwrap();
            assert_eq!(decoded.trim_end_matches('0'), format!("{user}:ghp_placeholder_"));
        }
    }

    proptest! {
        #[test]
        fn base64_of_anything_around_it_holds_a_form(
            secret in "[ -~]{6,60}", before in proptest::collection::vec(any::<u8>(), 0..9), after in proptest::collection::vec(any::<u8>(), 0..9)
        ) {
            let whole = [&before, secret.as_bytes(), &after].concat();
            let texts = texts(&secret);
            for encoded in [STANDARD.encode(&whole), URL_SAFE_NO_PAD.encode(&whole), STANDARD.encode(&whole).replace('/', "\\/")] {
                prop_assert!(texts.iter().any(|text| encoded.contains(text.as_str())));
            }
        }

        #[test]
        fn what_follows_decodes_as_before(secret in "[!-~]{6,30}", before in "[ -~]{0,5}", after in "[ -~]{3,9}") {
            let sent = STANDARD.encode([before.as_bytes(), secret.as_bytes(), after.as_bytes()].concat());
            let all = forms(&secret, "clauderon-placeholder-x-000000");
            let form = all.iter().find(|f| sent.contains(std::str::from_utf8(&f.text).unwrap())).unwrap();
            let text = std::str::from_utf8(&form.text).unwrap();
            let scrubbed = sent.replacen(text, std::str::from_utf8(&form.stand_in).unwrap(), 1);
            let decoded = STANDARD.decode(scrubbed).unwrap();
            prop_assert!(decoded.ends_with(&after.as_bytes()[1..]));
        }
    }
}
