//! Address blocks: `network.allow_private`, and the tables of the address guard.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address block in CIDR notation (RFC 4632 § 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// The network address.
    pub address: IpAddr,
    /// Leading bits that count.
    pub prefix: u8,
}

impl Cidr {
    /// Whether `ip` lies in the block. Families never mix: an IPv4-mapped IPv6 address is in no IPv4 block.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                (net.to_bits() ^ ip.to_bits()).leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                (net.to_bits() ^ ip.to_bits()).leading_zeros() >= u32::from(self.prefix)
            }
            _ => false,
        }
    }

    fn network(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4((ip.to_bits() & mask).into())
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6((ip.to_bits() & mask).into())
            }
        }
    }
}

impl FromStr for Cidr {
    type Err = BadCidr;

    /// Parses `address/prefix`, or a bare address as the block of just that address.
    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| BadCidr::Syntax)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let block = Self { address, prefix: prefix.map_or(Ok(bits), |prefix| parse_prefix(prefix, bits))? };
        let network = Self { address: block.network(), ..block };
        if network == block { Ok(block) } else { Err(BadCidr::HostBits(network)) }
    }
}

fn parse_prefix(text: &str, bits: u8) -> Result<u8, BadCidr> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&prefix| digits && prefix <= bits).ok_or(BadCidr::Prefix(bits))
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Why a text is no address block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCidr {
    /// No address before the slash.
    #[error("not an address block; write it as `10.1.2.0/24` or `fd00::/8`")]
    Syntax,
    /// The prefix is not a number within the address.
    #[error("the prefix length must be a number from 0 to {0}")]
    Prefix(u8),
    /// Bits are set beyond the prefix: a typing mistake in a rule that opens the network must not be guessed at.
    #[error("the address has bits beyond its prefix; did you mean `{0}`?")]
    HostBits(Cidr),
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_its_first_and_last_address_and_no_neighbour() {
        let cases = [
            ("10.1.2.0/24", "10.1.2.0", "10.1.2.255", "10.1.3.0"),
            ("172.16.0.0/12", "172.16.0.0", "172.31.255.255", "172.32.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("fd00::/8", "fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe00::"),
        ];
        for (block, first, last, beyond) in cases {
            let cidr: Cidr = block.parse().unwrap();
            assert!(cidr.contains(first.parse().unwrap()) && cidr.contains(last.parse().unwrap()), "{block}");
            assert!(!cidr.contains(beyond.parse().unwrap()), "{block}");
        }
    }

    #[test]
    fn the_whole_space_is_one_family() {
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("255.255.255.255".parse().unwrap()));
        assert!(!all.contains("::1".parse().unwrap()) && !all.contains("::ffff:10.0.0.1".parse().unwrap()));
        assert!("::/0".parse::<Cidr>().unwrap().contains("ffff::".parse().unwrap()));
    }

    #[test]
    fn mistakes_are_named() {
        let fault = |text: &str| text.parse::<Cidr>().unwrap_err();
        for text in ["", "/8", "10.0.0/8", "localhost/8", "10.0.0.0 /8", "[::1]/128"] {
            assert_eq!(fault(text), BadCidr::Syntax, "{text}");
        }
        for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8"] {
            assert_eq!(fault(text), BadCidr::Prefix(32), "{text}");
        }
        assert_eq!(
            fault("10.1.2.3/24").to_string(),
            "the address has bits beyond its prefix; did you mean `10.1.2.0/24`?"
        );
    }
}
