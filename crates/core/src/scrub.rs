//! Taking a secret out of a stream: every form it can come back in is replaced, wherever the stream is cut.

use std::ops::Range;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use bytes::{Bytes, BytesMut};

use crate::encodings::{self, Form};
use crate::placeholder::{self, TokenKind};
use crate::rule::Rule;
use crate::secret::Secret;
use crate::session::SessionId;

/// Every form of one secret, ready to be found. Made once per secret and placeholder; streams share it.
pub struct Echoes {
    /// By first byte, and among those the longest first.
    forms: Vec<Form>,
    /// The different beginnings of the forms, each at most [`ANCHOR`] bytes: few short patterns are found faster than many
    /// long ones, and the searcher then holds no more of the secret than these.
    anchors: AhoCorasick,
    shortest: usize,
    keeps_length: bool,
}

/// Takes a secret out of one stream. Its output depends on the whole input only, not on where that was cut.
pub struct Scrubber {
    echoes: Arc<Echoes>,
    /// Input that could be the beginning of a form; always shorter than the longest one.
    held: BytesMut,
    redactions: u64,
}

impl Echoes {
    /// The forms of a secret that goes out by `rule`; what `session` holds for it will stand in their place.
    pub fn of(secret: &Secret, rule: &Rule, session: &SessionId) -> Self {
        Self::of_all([secret], rule, session)
    }

    /// As [`Echoes::of`], where several secrets went out one after another.
    pub fn of_all<'s>(secrets: impl IntoIterator<Item = &'s Secret>, rule: &Rule, session: &SessionId) -> Self {
        let forms = |secret: &Secret| {
            let placeholder = placeholder::mint(session, &rule.credential, &TokenKind::of(Some(secret)));
            let whole = secret.expose();
            match (&rule.shape, whole.split_once(':')) {
                // The user that such a secret brings along is no secret, and may come back without it.
                (shape, Some((_user, token))) if shape.splits_user() => encodings::forms(token, &placeholder),
                _ => encodings::forms(whole, &placeholder),
            }
        };
        Self::ready(secrets.into_iter().flat_map(forms).collect())
    }

    /// All that any of these know.
    pub fn joined<'e>(all: impl IntoIterator<Item = &'e Self>) -> Self {
        Self::ready(all.into_iter().flat_map(|echoes| echoes.forms.iter().cloned()).collect())
    }

    /// The forms of `secret`; `placeholder` in the same encoding will stand in their place.
    pub fn new(secret: &str, placeholder: &str) -> Self {
        Self::with(secret, placeholder, None)
    }

    /// As [`Echoes::new`], and the forms that `base` knows.
    pub fn with(secret: &str, placeholder: &str, base: Option<&Self>) -> Self {
        let known = base.map(|base| base.forms.as_slice()).unwrap_or_default();
        Self::ready(encodings::forms(secret, placeholder).into_iter().chain(known.iter().cloned()).collect())
    }

    fn ready(mut forms: Vec<Form>) -> Self {
        forms.sort_by_key(|form| (form.text.first().copied(), std::cmp::Reverse(form.text.len())));
        let mut beginnings: Vec<&[u8]> = forms.iter().map(beginning).collect();
        beginnings.sort_unstable();
        beginnings.dedup();
        let anchors = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(beginnings);
        let anchors = anchors.expect("some dozens of patterns of a few bytes are within every limit");
        let shortest = forms.iter().map(|form| form.text.len()).min().unwrap_or(usize::MAX);
        let keeps_length = forms.iter().all(|form| form.text.len() == form.stand_in.len());
        Self { forms, anchors, shortest, keeps_length }
    }

    /// Whether whatever is replaced keeps its length.
    pub fn keeps_length(&self) -> bool {
        self.keeps_length
    }

    /// A whole text without the secret, and how often it was there; `None` if it was not.
    pub fn scrub(&self, text: &[u8]) -> Option<(Bytes, u64)> {
        if text.len() < self.shortest {
            return None;
        }
        let found = self.scan(text, true).found;
        (!found.is_empty()).then(|| (self.replace(text, &found), found.len() as u64))
    }

    /// Finds, from the left, the longest form at each place. Unless `text` is the `last`, a place is decided only when no
    /// longer text could change it.
    fn scan(&self, text: &[u8], last: bool) -> Scan {
        let (mut found, mut from) = (Vec::new(), 0);
        while let Some(at) = self.anchors.find(Input::new(text).range(from..)).map(|anchor| anchor.start()) {
            let rest = text.get(at..).unwrap_or_default();
            // A longer form may begin before this place and be too short yet to be found.
            let open = if last { text.len() } else { self.loose_end(text, from).min(at) };
            if !last && (open < at || self.begins(rest)) {
                return Scan { found, settled: open };
            }
            match self.forms_like(rest).find(|(_, form)| rest.starts_with(&form.text)) {
                Some((nth, form)) => {
                    from = at + form.text.len();
                    found.push(Found { range: at..from, nth });
                }
                None => from = at + 1,
            }
        }
        let settled = if last { text.len() } else { self.loose_end(text, from) };
        Scan { found, settled }
    }

    /// Where the text ends in the beginning of a form that is too short to be found as an anchor.
    fn loose_end(&self, text: &[u8], from: usize) -> usize {
        let first = from.max(text.len().saturating_sub(ANCHOR - 1));
        let loose = (first..text.len()).find(|at| text.get(*at..).is_some_and(|rest| self.begins(rest)));
        loose.unwrap_or(text.len())
    }

    /// Whether more text could make `rest` a form.
    fn begins(&self, rest: &[u8]) -> bool {
        self.forms_like(rest).any(|(_, form)| form.text.len() > rest.len() && form.text.starts_with(rest))
    }

    /// The forms that have the first byte of `text`.
    fn forms_like(&self, text: &[u8]) -> impl Iterator<Item = (usize, &Form)> {
        let byte = text.first().copied();
        let first = self.forms.partition_point(|form| form.text.first().copied() < byte);
        let alike = self.forms.iter().enumerate().skip(first);
        alike.take_while(move |(_, form)| form.text.first().copied() == byte)
    }

    fn replace(&self, text: &[u8], found: &[Found]) -> Bytes {
        let (mut out, mut from) = (BytesMut::with_capacity(text.len()), 0);
        for Found { range, nth } in found {
            out.extend_from_slice(text.get(from..range.start).unwrap_or_default());
            out.extend_from_slice(self.forms.get(*nth).map(|form| form.stand_in.as_slice()).unwrap_or_default());
            from = range.end;
        }
        out.extend_from_slice(text.get(from..).unwrap_or_default());
        out.freeze()
    }
}

impl Scrubber {
    /// A scrubber at the beginning of a stream.
    pub fn new(echoes: Arc<Echoes>) -> Self {
        Self { echoes, held: BytesMut::new(), redactions: 0 }
    }

    /// Takes the next bytes and returns what is settled; bytes without anything to replace are returned uncopied. Nothing is
    /// held back that could not be the beginning of a form.
    pub fn push(&mut self, data: &Bytes) -> Bytes {
        self.step(data, false)
    }

    /// As [`Scrubber::push`] with the last bytes of the stream, and leaves the scrubber at the beginning of another one.
    pub fn finish(&mut self, data: &Bytes) -> Bytes {
        self.step(data, true)
    }

    /// Whether bytes are held back.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes the number of replacements since the last call.
    pub fn take_redactions(&mut self) -> u64 {
        std::mem::take(&mut self.redactions)
    }

    fn step(&mut self, data: &Bytes, last: bool) -> Bytes {
        if !self.held.is_empty() {
            self.held.extend_from_slice(data);
            let scan = self.echoes.scan(&self.held, last);
            let settled = self.held.split_to(scan.settled).freeze();
            return self.written(settled, &scan.found);
        }
        let scan = self.echoes.scan(data, last);
        self.held.extend_from_slice(data.get(scan.settled..).unwrap_or_default());
        self.written(data.slice(..scan.settled), &scan.found)
    }

    fn written(&mut self, settled: Bytes, found: &[Found]) -> Bytes {
        self.redactions += found.len() as u64;
        match found {
            [] => settled,
            found => self.echoes.replace(&settled, found),
        }
    }
}

struct Scan {
    found: Vec<Found>,
    /// How much of the text is decided.
    settled: usize,
}

struct Found {
    range: Range<usize>,
    nth: usize,
}

fn beginning(form: &Form) -> &[u8] {
    form.text.get(..ANCHOR).unwrap_or(&form.text)
}

/// Long enough to be rare in any text, short enough that many forms share one.
const ANCHOR: usize = 8;

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    const PLACEHOLDER: &str = "clauderon-placeholder-x-7f3a9c21-000000";

    fn echoes(secret: &str) -> Arc<Echoes> {
        Arc::new(Echoes::new(secret, PLACEHOLDER))
    }

    fn scrub_in_pieces(echoes: &Arc<Echoes>, pieces: &[&[u8]]) -> (Vec<u8>, u64) {
        let mut scrubber = Scrubber::new(echoes.clone());
        let mut out = Vec::new();
        for piece in pieces {
            out.extend_from_slice(&scrubber.push(&Bytes::copy_from_slice(piece)));
        }
        out.extend_from_slice(&scrubber.finish(&Bytes::new()));
        (out, scrubber.take_redactions())
    }

    /// The definition: at each place, from the left, the longest form.
    fn slow(echoes: &Echoes, text: &[u8]) -> Vec<u8> {
        let (mut out, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let here = echoes.forms.iter().filter(|form| text[at..].starts_with(&form.text));
            match here.max_by_key(|form| form.text.len()) {
                Some(form) => {
                    out.extend_from_slice(&form.stand_in);
                    at += form.text.len();
                }
                None => {
                    out.push(text[at]);
                    at += 1;
                }
            }
        }
        out
    }

    #[test]
    fn a_form_inside_the_beginning_of_another_waits_for_that() {
        // Percent-encoded, this secret holds itself.
        let echoes = echoes("%33%");
        let text = b"a%25%33%33%25b";
        let whole = scrub_in_pieces(&echoes, &[text]);
        assert_eq!(whole.1, 1);
        for cut in 0..text.len() {
            let (first, second) = text.split_at(cut);
            assert_eq!(scrub_in_pieces(&echoes, &[first, second]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn every_cut_gives_the_same() {
        let secret = "s3cr/t+\"\\%token";
        let echoes = echoes(secret);
        let encoded = STANDARD.encode(format!("user:{secret}"));
        let text = format!("{{\"a\":\"{secret}\",\"b\":\"s3cr\\/t+\\\"\\\\%token\",\"c\":\"{encoded}\"}} s3cr s3cr/t+");
        let (whole, redactions) = scrub_in_pieces(&echoes, &[text.as_bytes()]);
        assert_eq!(redactions, 3);
        for first in 0..text.len() {
            for second in first..text.len() {
                let bytes = text.as_bytes();
                let cut = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(scrub_in_pieces(&echoes, &cut), (whole.clone(), 3), "{first} {second}");
            }
        }
        let whole = String::from_utf8_lossy(&whole);
        assert!(whole.ends_with("s3cr s3cr/t+") && whole.matches(PLACEHOLDER).count() == 2, "{whole}");
    }

    #[test]
    fn clean_bytes_are_not_copied_nor_delayed() {
        let mut scrubber = Scrubber::new(echoes("ghp_16C7e42F292c6912E7710c838347Ae178B4a"));
        let event = Bytes::from_static(b"data: {\"type\":\"ping\"}\n\n");
        let out = scrubber.push(&event);
        assert_eq!((out.as_ptr(), out.len()), (event.as_ptr(), event.len()));
        assert!(!scrubber.is_holding());
        assert_eq!(scrubber.push(&Bytes::from_static(b"login gh")), "login ");
        assert!(scrubber.is_holding());
        assert_eq!(scrubber.push(&Bytes::from_static(b"ost")), "ghost");
    }

    #[test]
    fn less_is_held_than_eight_times_the_secret() {
        let plus = format!("{}>>>", "?>?>".repeat(80));
        for secret in ["ghp_16C7e42F292c6912E7710c838347Ae178B4a", "s3cr/t+\"\\%token=&<é", &plus] {
            let echoes = echoes(secret);
            let longest = echoes.forms.iter().map(|form| form.text.len()).max().unwrap_or_default();
            assert!(longest <= 8 * secret.len(), "{longest} for {}", secret.len());
            let mut scrubber = Scrubber::new(echoes.clone());
            // As near to each form as can be, over and over: the most that an origin can have held.
            for (form, step) in echoes.forms.iter().flat_map(|form| [(form, 1), (form, 7), (form, 64)]) {
                for piece in form.text[..form.text.len() - 1].chunks(step).chain(form.text.chunks(step)) {
                    scrubber.push(&Bytes::copy_from_slice(piece));
                    assert!(scrubber.held.len() < longest, "{} of {longest}", scrubber.held.len());
                    assert!(scrubber.held.capacity() <= 4 * (longest + 64), "{}", scrubber.held.capacity());
                }
            }
        }
    }

    #[test]
    fn a_longer_form_is_waited_for() {
        let secret = "abcdefg";
        let text = format!("{} ", STANDARD.encode(secret));
        let (whole, redactions) = scrub_in_pieces(&echoes(secret), &text.as_bytes().chunks(1).collect::<Vec<_>>());
        assert_eq!((whole, redactions), (format!("{} ", STANDARD.encode(PLACEHOLDER)).into_bytes(), 1));
    }

    #[test]
    fn a_whole_text_is_only_rewritten_where_needed() {
        let echoes = echoes("0123456789abcdef");
        assert!(echoes.scrub(b"Bearer 0123456789abcde").is_none());
        let (text, redactions) = echoes.scrub(b"Bearer 0123456789abcdef, 0123456789abcdef").unwrap_or_default();
        assert_eq!((text, redactions), (format!("Bearer {PLACEHOLDER}, {PLACEHOLDER}").into(), 2));
    }

    #[test]
    fn lengths_are_known_to_stay_only_when_all_do() {
        assert!(!echoes("0123456789abcdef").keeps_length());
        assert!(Echoes::new("glsa_xxxx", "glsa_yyyy").keeps_length());
    }

    fn cut<'t>(text: &'t [u8], cuts: &[usize]) -> Vec<&'t [u8]> {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).chain([0, text.len()]).collect();
        at.sort_unstable();
        at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
    }

    proptest! {
        #[test]
        fn the_output_is_what_the_slow_reference_says(
            secret in "[ab/]{4,9}",
            text in proptest::collection::vec(prop_oneof![
                Just("a"), Just("b"), Just("/"), Just("\\/"), Just("%2F"), Just("%61"), Just("YW"), Just("ab/a"), Just("\\u0061"),
            ], 0..60),
            cuts in proptest::collection::vec(any::<usize>(), 0..12)
        ) {
            let (echoes, text) = (echoes(&secret), text.concat());
            let (out, _) = scrub_in_pieces(&echoes, &cut(text.as_bytes(), &cuts));
            prop_assert_eq!(out, slow(&echoes, text.as_bytes()));
        }

        #[test]
        fn no_form_survives_and_the_rest_stays(
            secret in "[!-~][ -~]{6,40}[!-~]", parts in proptest::collection::vec("[ -~]{0,20}", 1..6), which: usize,
            cuts in proptest::collection::vec(any::<usize>(), 0..12)
        ) {
            let echoes = echoes(&secret);
            let form = &echoes.forms[which % echoes.forms.len()].text;
            let text = parts.iter().map(String::as_bytes).collect::<Vec<_>>().join(&form[..]);
            let (out, redactions) = scrub_in_pieces(&echoes, &cut(&text, &cuts));
            prop_assert_eq!(&out, &slow(&echoes, &text));
            prop_assert!(redactions > 0 || parts.len() == 1);
            let raw = memchr::memmem::find(&out, secret.as_bytes());
            prop_assert!(raw.is_none());
        }
    }
}
