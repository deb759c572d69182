//! A name server that knows no address: it gives every name one of its own on the loopback interface, from which the
//! relay finds the name again. Nothing is ever asked of anybody.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

/// The names that were asked for, each with its address.
#[derive(Default)]
pub(crate) struct Names(Mutex<Known>);

#[derive(Default)]
struct Known {
    numbers: HashMap<String, u16>,
    names: Vec<String>,
}

impl Names {
    /// The name that `address` stands for.
    pub(crate) fn name_of(&self, address: Ipv4Addr) -> Option<String> {
        let [a, b, high, low] = address.octets();
        let number = usize::from(u16::from_be_bytes([high, low])).checked_sub(1)?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ([a, b] == NETWORK).then(|| known.names.get(number).cloned()).flatten()
    }

    /// The address that stands for `name`; none once there are too many.
    fn address_of(&self, name: String) -> Option<Ipv4Addr> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match known.numbers.get(&name) {
            Some(number) => *number,
            None if known.names.len() >= MAX_NAMES => return None,
            None => {
                known.names.push(name.clone());
                let number = u16::try_from(known.names.len()).ok()?;
                known.numbers.insert(name, number);
                number
            }
        };
        let ([a, b], [high, low]) = (NETWORK, number.to_be_bytes());
        Some(Ipv4Addr::new(a, b, high, low))
    }
}

/// The answer to a question (RFC 1035 § 4.1); `None` for what is no question.
pub(crate) fn answer(message: &[u8], names: &Names) -> Option<Vec<u8>> {
    let header = message.first_chunk::<HEADER_BYTES>()?;
    let [id_high, id_low, flags, _, count_high, count_low, ..] = *header;
    let is_query = flags & (RESPONSE | OPCODE) == 0;
    if !is_query || u16::from_be_bytes([count_high, count_low]) != 1 {
        return None;
    }
    let (name, after) = read_name(message.get(HEADER_BYTES..)?)?;
    let question = message.get(HEADER_BYTES..HEADER_BYTES + after + 4)?;
    let wants_ipv4 = question.ends_with(&[0, TYPE_A, 0, CLASS_IN]);
    let name = host_name(&name);
    let address = name.clone().filter(|_| wants_ipv4).map(|name| names.address_of(name));
    let (code, answers) = match (&name, &address) {
        (None, _) => (NO_SUCH_NAME, 0),
        (_, Some(None)) => (REFUSED, 0),
        // Every name exists; one has no address of another kind.
        (_, None) => (NO_ERROR, 0),
        (_, Some(Some(_))) => (NO_ERROR, 1),
    };
    let recursion = flags & RECURSION_DESIRED;
    let mut text =
        vec![id_high, id_low, RESPONSE | recursion, RECURSION_AVAILABLE | code, 0, 1, 0, answers, 0, 0, 0, 0];
    text.extend(question);
    if let Some(Some(address)) = address {
        text.extend(POINTER_TO_QUESTION);
        text.extend([0, TYPE_A, 0, CLASS_IN, 0, 0, 0, LIFETIME_S, 0, 4]);
        text.extend(address.octets());
    }
    Some(text)
}

/// The labels of an uncompressed name, and how many bytes they take.
fn read_name(mut rest: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
    let (mut labels, mut taken) = (Vec::new(), 0);
    loop {
        let (length, after) = rest.split_first()?;
        let length = usize::from(*length);
        taken += 1 + length;
        if length == 0 {
            return Some((labels, taken));
        }
        if length > MAX_LABEL || taken > MAX_NAME {
            return None;
        }
        labels.push(after.get(..length)?);
        rest = after.get(length..)?;
    }
}

/// The name in lower case, if it is one that a host could have; it will stand in a request.
fn host_name(labels: &[&[u8]]) -> Option<String> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if labels.is_empty() || !labels.iter().all(|label| label.iter().all(is_plain)) {
        return None;
    }
    let text: Vec<String> = labels.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    // Who asks for the name of an address gets none.
    (text.last().map(String::as_str) != Some("arpa")).then(|| text.join("."))
}

/// The largest question that is read; without extensions a question has at most 512 bytes.
pub(crate) const MAX_MESSAGE: usize = 1232;

/// Addresses 127.2.0.1 and up.
const NETWORK: [u8; 2] = [127, 2];
/// An agent that asks for more is not looking for hosts.
const MAX_NAMES: usize = 16_384;
const HEADER_BYTES: usize = 12;
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 255;
const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const TYPE_A: u8 = 1;
const CLASS_IN: u8 = 1;
const POINTER_TO_QUESTION: [u8; 2] = [0xc0, 12];
/// The pair of name and address holds as long as the sandbox; this only bounds how long a client remembers it.
const LIFETIME_S: u8 = 60;
const NO_ERROR: u8 = 0;
const NO_SUCH_NAME: u8 = 3;
const REFUSED: u8 = 5;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    fn question(labels: &[&[u8]], kind: u8) -> Vec<u8> {
        let mut text = vec![7, 9, RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in labels {
            text.push(u8::try_from(label.len()).unwrap());
            text.extend(*label);
        }
        text.extend([0, 0, kind, 0, CLASS_IN]);
        text
    }

    fn code(answer: &[u8]) -> (u8, u8) {
        (answer[3] & 0xf, answer[7])
    }

    #[test]
    fn a_name_has_one_address_and_the_address_that_name() {
        let names = Names::default();
        let first = answer(&question(&[b"API", b"github", b"com"], TYPE_A), &names).unwrap();
        assert_eq!(first.get(..2), Some([7, 9].as_slice()));
        assert_eq!(code(&first), (NO_ERROR, 1));
        assert!(first.ends_with(&[127, 2, 0, 1]));
        assert!(answer(&question(&[b"api", b"GITHUB", b"com"], TYPE_A), &names).unwrap().ends_with(&[127, 2, 0, 1]));
        assert!(answer(&question(&[b"example", b"org"], TYPE_A), &names).unwrap().ends_with(&[127, 2, 0, 2]));
        assert_eq!(names.name_of(Ipv4Addr::new(127, 2, 0, 1)).as_deref(), Some("api.github.com"));
        for nobody in [[127, 0, 0, 1], [127, 2, 0, 0], [127, 2, 0, 3], [127, 1, 0, 1], [10, 2, 0, 1]] {
            assert_eq!(names.name_of(Ipv4Addr::from(nobody)), None);
        }
    }

    #[test]
    fn other_kinds_are_empty_and_odd_names_do_not_exist() {
        let names = Names::default();
        assert_eq!(code(&answer(&question(&[b"example", b"org"], 28), &names).unwrap()), (NO_ERROR, 0));
        let odd: [&[&[u8]]; 5] = [&[b"a b"], &[b"a\r\nX"], &[b"evil:443/@x"], &[b"1", b"in-addr", b"arpa"], &[]];
        for labels in odd {
            assert_eq!(code(&answer(&question(labels, TYPE_A), &names).unwrap()), (NO_SUCH_NAME, 0));
        }
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let names = Names::default();
        let good = question(&[b"example", b"org"], TYPE_A);
        for cut in 0..good.len() {
            assert_eq!(answer(good.get(..cut).unwrap(), &names), None, "{cut} bytes");
        }
        for (at, value) in [(2, RESPONSE), (2, OPCODE), (5, 0), (5, 2), (12, 0xc0), (12, 64)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(answer(&bad, &names), None, "byte {at} = {value}");
        }
        let long: Vec<&[u8]> = vec![&[b'a'; 63]; 5];
        assert_eq!(answer(&question(&long, TYPE_A), &names), None);
    }

    proptest::proptest! {
        #[test]
        fn whatever_an_agent_asks_gets_an_answer_to_that_or_none(
            head in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..HEADER_BYTES + 1),
            labels in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..70), 0..6),
            tail in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..24),
        ) {
            // Close to a question, so that more than the header is looked at.
            let mut asked = head.clone();
            for label in &labels {
                asked.push(u8::try_from(label.len()).unwrap());
                asked.extend(label);
            }
            asked.extend(&tail);
            let names = Names::default();
            if let Some(answer) = answer(&asked, &names) {
                proptest::prop_assert_eq!(answer.get(..2), asked.get(..2));
                proptest::prop_assert_eq!(answer[2] & RESPONSE, RESPONSE);
                proptest::prop_assert!(answer.len() <= asked.len() + 16);
                for name in &names.0.lock().unwrap().names {
                    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
                    proptest::prop_assert!(name.chars().all(plain), "{:?}", name);
                }
            }
        }
    }

    #[test]
    fn an_agent_cannot_make_it_remember_without_end() {
        let names = Names::default();
        for number in 0..MAX_NAMES {
            assert!(names.address_of(format!("n{number}")).is_some());
        }
        assert_eq!(names.address_of("one-more".into()), None);
        assert_eq!(code(&answer(&question(&[b"one-more"], TYPE_A), &names).unwrap()), (REFUSED, 0));
        assert!(names.address_of("n0".into()).is_some());
    }
}
