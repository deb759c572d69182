//! The forms in which a secret still is the secret. Written apart from the product's own list, which it has to check.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

/// Raw, base64 wherever the secret may begin in what was encoded (so any rendered Basic pair too), percent, JSON.
pub(super) fn forms(secret: &str) -> Vec<Vec<u8>> {
    let mut forms = BTreeSet::from([secret.as_bytes().to_vec()]);
    // An encoding of a few bytes is found in any long text.
    if secret.len() >= SHORTEST {
        forms.extend(base64(secret.as_bytes()));
        forms.extend(percent(secret).map(String::into_bytes));
        forms.extend(json(secret).map(String::into_bytes));
    }
    forms.into_iter().collect()
}

fn base64(secret: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let aligned = |alphabet: &'static Alphabet| (0..3).map(move |before| (alphabet, before));
    [&STANDARD, &URL_SAFE].into_iter().flat_map(aligned).map(|(alphabet, before)| inside(secret, alphabet, before))
}

/// The digits that no neighbour of the secret has a part in, with `before` bytes standing in front of it.
fn inside(secret: &[u8], alphabet: &Alphabet, before: usize) -> Vec<u8> {
    let text = [vec![0; before], secret.to_vec()].concat();
    let digits = GeneralPurpose::new(alphabet, GeneralPurposeConfig::new()).encode(&text);
    let (from, to) = ((before * 8).div_ceil(6), text.len() * 8 / 6);
    digits.as_bytes().get(from..to).expect("a secret has more digits than its edges").to_vec()
}

fn percent(secret: &str) -> impl Iterator<Item = String> {
    let escaped = |keep: &dyn Fn(char) -> bool, upper: bool| -> String {
        let one = |byte: u8| match (keep(char::from(byte)), upper) {
            (true, _) => char::from(byte).to_string(),
            (false, true) => format!("%{byte:02X}"),
            (false, false) => format!("%{byte:02x}"),
        };
        secret.bytes().map(one).collect()
    };
    let mut forms = vec![escaped(&|_| false, true), escaped(&|_| false, false)];
    // RFC 3986, JavaScript's encodeURIComponent and encodeURI, HTML forms.
    for also in ["-._~", "-_.!~*'()", "-_.!~*'();/?:@&=+$,#", "*-._"] {
        let keep = |char: char| char.is_ascii_alphanumeric() || also.contains(char);
        forms.extend([escaped(&keep, true), escaped(&keep, false)]);
    }
    let for_forms: Vec<_> = forms.iter().map(|text| text.replace("%20", "+")).collect();
    forms.into_iter().chain(for_forms)
}

fn json(secret: &str) -> impl Iterator<Item = String> {
    let quoted = serde_json::Value::from(secret).to_string();
    let plain = quoted.get(1..quoted.len() - 1).expect("a JSON string has quotes").to_owned();
    let slashed = plain.replace('/', "\\/");
    let [careful, careful_slashed] = [&plain, &slashed].map(|text| for_html(text));
    let numbered = secret.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    [plain, slashed, careful, careful_slashed, numbered].into_iter()
}

/// As encoders write that expect to stand inside a script element.
fn for_html(text: &str) -> String {
    let escape = |text: String, (from, to): (&str, &str)| text.replace(from, to);
    [("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("'", "\\u0027")].into_iter().fold(text.into(), escape)
}

/// Below this, only the secret itself is looked for.
const SHORTEST: usize = 6;
