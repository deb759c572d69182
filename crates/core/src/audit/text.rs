//! The members of a line, written straight into its buffer: a line is made twice per request, so nothing is allocated.

pub(super) fn member(out: &mut Vec<u8>, key: &[u8], value: &str, limit: usize) {
    out.extend_from_slice(key);
    text(out, value, limit);
}

pub(super) fn optional(out: &mut Vec<u8>, key: &[u8], value: Option<&str>, limit: usize) {
    out.extend_from_slice(key);
    match value {
        Some(value) => text(out, value, limit),
        None => out.extend_from_slice(b"null"),
    }
}

/// A word of the program's own, or one of letters and digits: nothing in it can need an escape.
pub(super) fn word(out: &mut Vec<u8>, key: &[u8], value: Option<&str>) {
    out.extend_from_slice(key);
    let Some(value) = value else { return out.extend_from_slice(b"null") };
    debug_assert!(is_plain(value), "no text of somebody else's");
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

pub(super) fn flag(out: &mut Vec<u8>, key: &[u8], value: bool) {
    out.extend_from_slice(key);
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

pub(super) fn count(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    number(out, value);
}

pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    // Most are small, and of those most are 0.
    if let Ok(digit @ 0..=9) = u8::try_from(value) {
        return out.push(b'0' + digit);
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            return out.extend_from_slice(digits.get(at..).unwrap_or_default());
        }
    }
}

/// A JSON string (RFC 8259 § 7) without any byte a terminal or a line reader would act on.
pub(super) fn text(out: &mut Vec<u8>, value: &str, limit: usize) {
    out.push(b'"');
    if value.len() <= limit && is_plain(value) {
        out.extend_from_slice(value.as_bytes());
    } else {
        escaped(out, value, limit);
    }
    out.push(b'"');
}

fn is_plain(value: &str) -> bool {
    let (words, rest) = value.as_bytes().as_chunks();
    words.iter().all(|word| is_plain_word(u64::from_ne_bytes(*word))) && rest.iter().all(|b| PLAIN[usize::from(*b)])
}

/// [`PLAIN`] for eight bytes at once: no byte has its top bit set, lies below the space, or is one of the three exceptions.
const fn is_plain_word(word: u64) -> bool {
    // Where no byte has its top bit set, a byte is less than `n` exactly if that bit shows after `n` is taken away; a borrow
    // comes from a lower byte that is less itself.
    const fn below(word: u64, n: u64) -> u64 {
        word.wrapping_sub(EACH * n) & !word
    }
    let quote = below(word ^ (EACH * b'"' as u64), 1);
    let backslash = below(word ^ (EACH * b'\\' as u64), 1);
    let delete = below(word ^ (EACH * 0x7f), 1);
    (word | below(word, 0x20) | quote | backslash | delete) & (EACH << 7) == 0
}

/// The number one in each of eight bytes.
const EACH: u64 = u64::MAX / 0xff;

fn escaped(out: &mut Vec<u8>, value: &str, limit: usize) {
    let begin = out.len();
    let mut cut = begin;
    for char in value.chars() {
        escape(out, char);
        if out.len() - begin <= limit - ELLIPSIS.len() {
            cut = out.len();
        }
        if out.len() - begin > limit {
            out.truncate(cut);
            return out.extend_from_slice(ELLIPSIS.as_bytes());
        }
    }
}

fn escape(out: &mut Vec<u8>, char: char) {
    match char {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        char if char.is_control() || is_steering(char) => {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                let [high, low] = unit.to_be_bytes();
                let digit = |nibble: u8| HEX[usize::from(nibble & 15)];
                out.extend_from_slice(&[b'\\', b'u', digit(high >> 4), digit(high), digit(low >> 4), digit(low)]);
            }
        }
        char => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Line ends in all but name, and marks that turn the reading direction: a viewer would show something else than is there.
pub(super) const fn is_steering(char: char) -> bool {
    matches!(char, '\u{2028}' | '\u{2029}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

/// RFC 3339 in UTC with milliseconds; a moment outside the years 0 to 9999 becomes the epoch.
pub(super) fn timestamp(out: &mut Vec<u8>, ms: i64) {
    let moment = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    let moment = moment.ok().filter(|m| (0..=9999).contains(&m.year())).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = moment.to_calendar_date();
    let (hour, minute, second, ms) = moment.to_hms_milli();
    digits(out, year.unsigned_abs(), 4, b'-');
    digits(out, u8::from(month).into(), 2, b'-');
    digits(out, day.into(), 2, b'T');
    digits(out, hour.into(), 2, b':');
    digits(out, minute.into(), 2, b':');
    digits(out, second.into(), 2, b'.');
    digits(out, ms.into(), 3, b'Z');
}

fn digits(out: &mut Vec<u8>, value: u32, width: u32, mark: u8) {
    for place in (0..width).rev() {
        out.push(b'0' + u8::try_from(value / 10_u32.pow(place) % 10).unwrap_or_default());
    }
    out.push(mark);
}

pub(super) const HEX: &[u8; 16] = b"0123456789abcdef";
const ELLIPSIS: &str = "…";

/// ASCII that stands for itself in a JSON string.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        table[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn eight_bytes_at_once_are_judged_as_one_by_one(
            bytes in proptest::array::uniform8(prop_oneof![0x1e_u8..0x24, 0x5b_u8..0x5e, 0x7d_u8..0x82, any::<u8>(), Just(b'a')])
        ) {
            let one_by_one = bytes.iter().all(|b| PLAIN[usize::from(*b)]);
            prop_assert_eq!(is_plain_word(u64::from_ne_bytes(bytes)), one_by_one);
        }

        #[test]
        fn bytes_beside_the_bounds_are_judged_as_one_by_one(at in 0_usize..8, byte in any::<u8>()) {
            let mut bytes = *b"abcdefgh";
            bytes[at] = byte;
            prop_assert_eq!(is_plain_word(u64::from_ne_bytes(bytes)), PLAIN[usize::from(byte)]);
        }
    }
}
