//! Questions to the sandbox's name server: the answer is to that question, and an address stands for the one name that an
//! independent reader finds in it. Input: one message; it is asked twice, the second time in the other letter case.
#![no_main]

use std::net::Ipv4Addr;

use clauderon_fuzz::Names;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    let names = Names::default();
    let Some(answer) = names.answer(message) else { return };
    let (labels, end) = question(message).expect("an answered message holds a question");
    assert_eq!((&answer[..2], answer[2] & 0x80), (&message[..2], 0x80), "another question is answered");
    assert_eq!(answer[12..end], message[12..end], "the question is not repeated as it was");
    assert_eq!((&answer[4..6], &answer[8..12]), (&[0, 1][..], &[0; 4][..]));
    let record = &answer[end..];
    assert_eq!(record.is_empty(), answer[7] == 0);
    let Some(address) = record.last_chunk::<4>().copied().map(Ipv4Addr::from) else { return };
    assert_eq!((record.len(), record[..2] == [0xc0, 12]), (16, true));
    assert!(message[end - 4..end] == [0, 1, 0, 1] && address.is_loopback(), "{address}");
    let name = labels.join(".").to_ascii_lowercase();
    assert_eq!(names.name_of(address), Some(name.clone()));
    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && name.len() < 256, "{name:?}");
    let mut again = message.to_vec();
    again[12..end - 4].iter_mut().filter(|b| b.is_ascii_alphabetic()).for_each(|b| *b ^= 0x20);
    // A length may look like a letter; then it is another question.
    if question(&again).is_some_and(|(labels, _)| labels.join(".").eq_ignore_ascii_case(&name)) {
        assert_eq!(names.answer(&again).expect("the same question").last_chunk(), Some(&address.octets()));
    }
});

/// The labels of the one question (RFC 1035 § 4.1.2), and where it ends.
fn question(message: &[u8]) -> Option<(Vec<String>, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*message.get(at)?);
        let label = message.get(at + 1..at + 1 + length).filter(|_| length < 64)?;
        at += 1 + length;
        if length == 0 {
            return (at + 4 <= message.len()).then_some((labels, at + 4));
        }
        labels.push(String::from_utf8_lossy(label).into_owned());
    }
}
